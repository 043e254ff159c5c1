"""The work on one file of a folder run, in whichever process does it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise.audio import AudioError
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.locations import LocationError, is_remote, location, stamp
from gan_denoise.inference.folder_journal import Journal, digest_of, digest_of_file
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.staging import Stage

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer


@dataclass(frozen=True)
class FileTask:
    """A file that is to be denoised.

    Attributes:
        source: The input.
        target: The output.
        residual: The file for what is removed; None where none is wanted.
        digest: Digest of the input before the work, so that a later change is noticed; empty:
            `run_task` reads it.
        reason: Why the file is done.
        header: What is known of the input, by the names of `FileResult`.
    """

    source: Path
    target: Path
    residual: Path | None
    digest: str
    reason: str
    header: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FileTask:
        """Return the task that `to_json` gave the values of."""
        paths = {name: location(values[name]) for name in ("source", "target", "residual")
                 if values[name] is not None}
        return cls(**values | paths)

    def to_json(self) -> dict[str, Any]:
        """Return the task as values for `folder_journal.to_json`."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    def result(self, **figures: Any) -> FileResult:
        """Return a result of this file.

        Args:
            **figures: Fields of `FileResult` as they come out of JSON; others are left out.
        """
        known = {entry.name for entry in fields(FileResult)} - {"source", "target"}
        figures = {"reason": self.reason, **self.header, **figures}
        figures = {name: value for name, value in figures.items() if name in known}
        figures["lost"] = tuple(figures.get("lost", ()))
        return FileResult(self.source, self.target, **figures)


class _CallbackFailed(Exception):
    """The caller's `progress` raised; that error is the cause."""


def run_task(
    enhancer: Enhancer, journal: Journal, task: FileTask, progress: Callable[[float], None]
) -> FileResult:
    """Denoise a file, with a line in the journal before and after; a failure is a result.

    Args:
        enhancer: The model with its options.
        journal: Journal of the output folder.
        task: The file.
        progress: Called with the seconds of the recording done since its last call; what it
            raises is no failure of the file and goes to the caller.
    """
    outputs = [path for path in (task.target, task.residual) if path is not None]
    stage = Stage(task.source, outputs, enhancer.options.preserve_times)
    begun = False

    def report(seconds: float) -> None:
        try:
            progress(seconds)
        except Exception as error:
            raise _CallbackFailed from error

    try:
        digest = task.digest or read_digest(task.source)
        with stage as (source, places):
            journal.begin(outputs)
            begun = True
            target, residual, *_ = *places, None
            figures = enhancer.enhance_file(source, target, residual, report).figures()
        settings = digest_of(enhancer.settings())
        journal.done(outputs, digest, settings, figures, stage.size)
        return task.result(**figures | {"reason": task.reason})
    except Exception as error:  # a codec's or the network's errors share no base class
        if begun:
            with contextlib.suppress(OSError, LocationError):
                journal.failed(outputs)
        if isinstance(error, _CallbackFailed):
            raise error.__cause__ from None
        text = stage.with_addresses(_reason(error, task.source))
        return task.result(status="failed", error=text)


def read_digest(source: Path) -> str:
    """Return the digest of an input: of its content, or of its size and version in a store.

    Raises:
        AudioError: When it cannot be read.
        LocationError: When an address is missing or cannot be reached.
    """
    if is_remote(source):
        return digest_of_stamp(*stamp(source, fresh=True))
    try:
        return digest_of_file(source)
    except OSError as error:
        raise AudioError(f"{source}: not readable ({error.strerror or error})") from error


def digest_of_stamp(size: int, version: int | str) -> str:
    """Return the digest of an input at an address: another when its content is another.

    The version is asked for before the content is fetched: what is written in between is noticed
    by the next run.
    """
    return digest_of({"size": size, "version": version})


def _reason(error: Exception, source: Path) -> str:
    known = (isinstance(error, (GanDenoiseError, OSError, ValueError))
             and not isinstance(error, UnicodeError))
    return str(error) if known else f"{source}: {type(error).__name__}: {error}"
