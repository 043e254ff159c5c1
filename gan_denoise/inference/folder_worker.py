"""A process that denoises files of a folder: `python -m gan_denoise.inference.folder_worker`.

The first line of JSON on its standard input says which model and options; every further line is a
list of `FileTask`. A line on its standard output is a progress of, or the result of, one of them.
`worker_pool` starts it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import Any, BinaryIO

from gan_denoise.core.memory import collect_seldom
from gan_denoise.inference.file_task import FileTask, run_task
from gan_denoise.inference.folder_journal import Journal, digest_of, to_json
from gan_denoise.inference.model import ModelError
from gan_denoise.inference.worker_setup import load_setup


def main() -> None:
    """Denoise what comes on stdin until it ends, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the parent ends this process
    collect_seldom()
    code = 0
    try:
        # Whatever a library prints must not come among the answers.
        with os.fdopen(os.dup(1), "wb") as answers:
            os.dup2(2, 1)
            _serve(sys.stdin.buffer, answers)
    except (BrokenPipeError, SystemExit):  # the parent is gone, or wants an end
        pass
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    os._exit(code)  # does not wait for the threads that still compute parts of a stopped file


def _end(*_: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would disturb the removal of parts
    sys.exit(0)


def _serve(lines: Iterable[bytes], answers: BinaryIO) -> None:
    def answer(**values: Any) -> None:
        answers.write(to_json(values) + b"\n")
        answers.flush()

    lines = iter(lines)
    setup = json.loads(next(lines, b"null"))
    if setup is None:
        return
    try:
        enhancer = load_setup(setup)
    except ModelError as error:
        answer(refused=str(error))
        return
    import soxr  # noqa: F401 - now, as `_end` would break the import within a file

    # Until here SIGTERM ends the process at once: there is nothing to remove, and an exception
    # during the import of a library's core is printed as that library's own failure.
    signal.signal(signal.SIGTERM, _end)
    answer(ready=digest_of(enhancer.settings()))
    journal = Journal(**setup["journal"])
    for line in lines:
        for values in json.loads(line):
            task = FileTask.from_json(values)
            result = run_task(enhancer, journal, task, lambda seconds: answer(seconds=seconds))
            answer(figures=result.figures())


if __name__ == "__main__":
    main()
