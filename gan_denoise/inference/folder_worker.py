"""The work on one file of a folder, and a process that does nothing else.

A line of JSON on stdin is a list of orders, a line on stdout the progress or result of one.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from gan_denoise.config.schema import InversionConfig
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.inference.enhancer import Enhancer, ModelError
from gan_denoise.inference.folder_journal import Journal, digest_of, to_json
from gan_denoise.inference.options import Treatment
from gan_denoise.inference.results import FileResult


@dataclass(frozen=True)
class Order:
    """A file that is to be denoised.

    Attributes:
        source: The input.
        target: The output.
        residual: The file for what is removed, None where none is wanted.
        digest: Of the input's content, taken before the work: a later change shows.
        reason: Why it is done.
        header: What is known of the input, by the names of `FileResult`.
    """

    source: Path
    target: Path
    residual: Path | None
    digest: str
    reason: str
    header: Mapping[str, Any] = field(default_factory=dict)

    def result(self, **figures: Any) -> FileResult:
        """Return a result of this file from figures that were JSON; unknown ones are left out."""
        known = {entry.name for entry in fields(FileResult)} - {"source", "target"}
        figures = {"reason": self.reason, **self.header, **figures}
        figures = {name: value for name, value in figures.items() if name in known}
        figures["lost"] = tuple(figures.get("lost", ()))
        return FileResult(self.source, self.target, **figures)


def figures_of(result: FileResult) -> dict[str, Any]:
    """Return a result without its paths, as JSON values; what is not finite is None."""
    figures = asdict(result)
    del figures["source"], figures["target"]
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in figures.items()}


def perform(
    enhancer: Enhancer,
    journal: Journal,
    order: Order,
    progress: Callable[[float], None],
) -> FileResult:
    """Denoise a file between two lines of the journal; a failure is a result."""
    outputs = [path for path in (order.target, order.residual) if path is not None]
    faults = []

    def guarded(seconds: float) -> None:
        try:
            progress(seconds)
        except Exception as fault:  # the caller's own, no failure of this file
            faults.append(fault)
            raise

    try:
        journal.begin(outputs)
        result = enhancer.enhance_file(order.source, order.target, order.residual, guarded)
        figures = figures_of(result)
        journal.done(outputs, order.digest, digest_of(enhancer.settings()), figures)
        return order.result(**figures | {"reason": order.reason})
    except Exception as error:  # a codec's or the network's errors share no base class
        with contextlib.suppress(OSError):
            journal.failed(outputs)
        if faults:
            raise faults[0] from None
        known = (isinstance(error, (GanDenoiseError, OSError, ValueError))
                 and not isinstance(error, UnicodeError))
        text = str(error) if known else f"{order.source}: {type(error).__name__}: {error}"
        return order.result(status="failed", error=text)


# ---- The process -------------------------------------------------------------------------------
def main() -> None:
    """Denoise what comes on stdin until it ends, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which stops this
    code = 0
    try:
        # Whatever a library prints must not land among the answers.
        with os.fdopen(os.dup(1), "wb") as answers:
            os.dup2(2, 1)
            _serve(sys.stdin.buffer, answers)
    except (BrokenPipeError, SystemExit):
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # not after the parts of a stopped file that threads are still on


def _end(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once: a second one would disturb the clearing
    sys.exit(0)


def _serve(tasks: Iterable[bytes], answers: Any) -> None:
    def answer(**values: Any) -> None:
        answers.write(to_json(values) + b"\n")
        answers.flush()

    tasks = iter(tasks)
    setup = json.loads(next(tasks, b"null"))
    if setup is None:
        return
    try:
        enhancer = Enhancer.load(setup["model"], setup["threads"], setup["chunk_seconds"])
        enhancer = enhancer.with_inversion(
            **dict(InversionConfig.model_validate_json(setup["inversion"])))
        enhancer = enhancer.with_treatment(Treatment(**setup["treatment"]))
    except ModelError as error:
        answer(refused=str(error))
        return
    import soxr  # noqa: F401 - now, as `_end` would break the import amid a file

    # Until here SIGTERM ends the process at once: there is nothing to remove, and an exception amid
    # the import of a library's core is printed as that library's own failure.
    signal.signal(signal.SIGTERM, _end)
    answer(ready=digest_of(enhancer.settings()))
    journal = Journal(Path(setup["out"]))
    for line in tasks:
        for task in json.loads(line):
            paths = {name: Path(task[name]) for name in ("source", "target")}
            residual = Path(task["residual"]) if task["residual"] is not None else None
            order = Order(**task | paths | {"residual": residual})
            result = perform(enhancer, journal, order, lambda seconds: answer(seconds=seconds))
            answer(figures=figures_of(result))


if __name__ == "__main__":
    main()
