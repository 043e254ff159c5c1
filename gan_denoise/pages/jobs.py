"""Jobs: recordings that wait, are denoised by a few threads, and are done; with their progress."""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
from pathlib import Path

from gan_denoise.audio.containers import FORMAT_SUFFIXES
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.results import FileResult
from gan_denoise.pages.settings import ServeError, ServeSettings
from gan_denoise.pages.uploads import Upload, check_seconds

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
_log = logging.getLogger(__name__)


class _Cancelled(Exception):
    """The job is not wanted any more."""


class Job:
    """One recording denoised with one choice of options.

    Attributes:
        id: Random identifier.
        upload: The recording.
        enhancer: The model with its options.
        choice: The options as the page gave them, to be shown.
        folder: Folder of what is made.
        state: `waiting`, `running`, `done`, `failed` or `cancelled`.
        result: What came of it; None until it is done.
        error: Why there is no result; empty where there is one or none yet.
    """

    def __init__(self, upload: Upload, enhancer: Enhancer, choice: dict[str, object]):
        self.id = secrets.token_urlsafe(16)
        self.upload, self.enhancer, self.choice = upload, enhancer, choice
        self.folder = upload.folder / secrets.token_hex(16)
        format_name = enhancer.options.format
        suffix = upload.path.suffix if format_name == "keep" else FORMAT_SUFFIXES[format_name]
        self.target = self.folder / f"denoised{suffix}"
        self.removed = self.folder / f"removed{suffix}"
        self.state, self.error = WAITING, ""
        self.result: FileResult | None = None
        self.seconds_done, self._began, self._ended = 0.0, 0.0, 0.0
        self._cancelled = threading.Event()
        self._deleted: Path | None = None  # folder that goes when a cancelled job has stopped

    def cancel(self, folder: Path | None = None) -> None:
        """Do not begin the job; where it has begun, stop it soon.

        Args:
            folder: Folder to delete when it has stopped, beside its own.
        """
        self._deleted = folder or self._deleted
        self._cancelled.set()
        if self.state == WAITING:
            self.state = CANCELLED

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in (WAITING, RUNNING)

    def name_of(self, path: Path) -> str:
        """Return the name under which a visitor saves one of the results."""
        kind = "removed" if path == self.removed else "denoised"
        return f"{Path(self.upload.name).stem}-{kind}{path.suffix}"

    def run(self, settings: ServeSettings) -> None:
        """Denoise the recording; a failure is kept as the job's error."""
        if self._cancelled.is_set():
            return
        self.state, self._began = RUNNING, time.monotonic()
        try:
            self.folder.mkdir(mode=0o700)

            def progress(seconds: float) -> None:
                if self._cancelled.is_set():
                    raise _Cancelled
                self.seconds_done += seconds
                check_seconds(self.upload.name, self.seconds_done, settings)

            self.result = self.enhancer.enhance_file(
                self.upload.path, self.target, self.removed, progress)
            self._ended, self.state = time.monotonic(), DONE
        except _Cancelled:
            self.state = CANCELLED
        except (GanDenoiseError, OSError, ValueError) as error:
            self._fail(self.upload.words(error))
        except Exception as error:  # a codec's or the network's errors share no base class
            _log.exception("a recording could not be denoised")
            self._fail(f"{self.upload.name}: {type(error).__name__}")
        if self._cancelled.is_set():
            self.state = CANCELLED
        if self.state != DONE:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._deleted is not None:
            shutil.rmtree(self._deleted, ignore_errors=True)

    def _fail(self, words: str) -> None:
        self.error, self.state = words, CANCELLED if self._cancelled.is_set() else FAILED

    def to_json(self, position: int | None) -> dict[str, object]:
        """Return what the page shows of the job.

        Args:
            position: Place in the queue, counted from 1; None for a job that does not wait.
        """
        seconds = self.upload.info.seconds
        values: dict[str, object] = {
            "id": self.id, "upload": self.upload.to_json(), "choice": self.choice,
            "state": self.state, "position": position, "error": self.error,
        }
        if self.state == RUNNING and self.seconds_done:
            elapsed = time.monotonic() - self._began
            share = min(self.seconds_done / seconds, 1.0) if seconds > 0 else None
            values |= {
                "share": share, "seconds_done": round(self.seconds_done, 1),
                "speed": round(self.seconds_done / elapsed, 1),
                "remaining": round(elapsed * (1 / share - 1), 1) if share else None,
            }
        if self.result is not None:
            figures = self.result.figures()
            values["figures"] = figures | {"note": self.upload.words(figures["note"])}
            values["names"] = {"result": self.name_of(self.target),
                               "removed": self.name_of(self.removed)}
        return values


class JobQueue:
    """Threads that take jobs in the order in which they came.

    Args:
        settings: Settings of the server: number of threads, limits.
    """

    def __init__(self, settings: ServeSettings):
        self._settings = settings
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, name=f"denoise-{number}", daemon=True)
                         for number in range(settings.workers)]
        self._running: set[Job] = set()
        for thread in self._threads:
            thread.start()

    def add(self, job: Job, jobs: dict[str, Job]) -> None:
        """Put a job into the queue.

        Args:
            job: The job.
            jobs: All jobs of its session by their identifiers; it comes to them.

        Raises:
            ServeError: When the session or the queue has as many as may be.
        """
        settings = self._settings
        with self._changed:
            active = sum(other.active for other in jobs.values())
            if active >= settings.max_per_session:
                raise ServeError(f"{active} of your recordings are under way, the most that one "
                                 "visitor may have", "wait for one or cancel it", 429)
            self._waiting = [other for other in self._waiting if other.state == WAITING]
            if len(self._waiting) >= settings.max_waiting:
                raise ServeError(f"{len(self._waiting)} recordings wait already",
                                 "try again in some minutes", 503)
            jobs[job.id] = job
            self._waiting.append(job)
            self._changed.notify()

    def position(self, job: Job) -> int | None:
        """Return the place of a job among those that wait, counted from 1; None for another."""
        with self._changed:
            waiting = [other for other in self._waiting if other.state == WAITING]
        return waiting.index(job) + 1 if job in waiting else None

    def close(self) -> None:
        """Cancel all jobs and wait for those that run to stop."""
        with self._changed:
            self._closed = True
            for job in (*self._waiting, *self._running):
                job.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._waiting.pop(0)
                self._running.add(job)
            try:
                job.run(self._settings)
            finally:
                with self._changed:
                    self._running.discard(job)
