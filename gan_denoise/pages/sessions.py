"""Sessions: what one browser has uploaded and had denoised, in a folder that goes with it.

All sessions lie in one temporary folder, which is locked. It goes when the server ends; where the
server was killed, the next one removes it.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from gan_denoise.core.leftovers import temporary_folder
from gan_denoise.pages.jobs import Job
from gan_denoise.pages.settings import ServeError
from gan_denoise.pages.uploads import Upload

COOKIE = "gan_denoise_session"
PREFIX = "gan-denoise-serve-"
LEAVE_SECONDS = 120.0  # after the page was left: long enough to load it again
MAX_SESSIONS = 1000
Held = TypeVar("Held")


def _find(held: Mapping[str, Held], identifier: str, what: str) -> Held:
    try:
        return held[identifier]
    except KeyError:
        raise ServeError(f"there is no such {what} any more", "upload the file again",
                         status=404) from None


class Session:
    """What belongs to one browser.

    Attributes:
        id: Random and secret: the value of its cookie.
        folder: Where its files lie; made with the first of them.
        authenticated: Whether the password was given, or none is needed.
        uploads: Its recordings by their identifiers, oldest first.
        jobs: Its jobs by their identifiers, oldest first.
    """

    def __init__(self, folder: Path, lifetime: float, authenticated: bool):
        self.id = secrets.token_urlsafe(32)
        self.folder = folder / secrets.token_hex(16)  # no folder has the name of a cookie
        self.authenticated = authenticated
        self.uploads: dict[str, Upload] = {}
        self.jobs: dict[str, Job] = {}
        self._lifetime = lifetime
        self.touch()

    def touch(self) -> None:
        """Keep the session for its whole lifetime from now on."""
        self.ends = time.monotonic() + self._lifetime

    def leave(self) -> None:
        """Let the session end soon, unless the page is there again before."""
        self.ends = min(self.ends, time.monotonic() + LEAVE_SECONDS)

    def job(self, identifier: str) -> Job:
        """Return one of the jobs.

        Raises:
            ServeError: When there is none of that name in this session.
        """
        return _find(self.jobs, identifier, "recording")

    def upload(self, identifier: str) -> Upload:
        """Return one of the uploads.

        Raises:
            ServeError: When there is none of that name in this session.
        """
        return _find(self.uploads, identifier, "upload")

    def remove_upload(self, identifier: str) -> None:
        """Cancel the jobs of an upload, and delete its files and theirs."""
        upload = self.uploads.pop(identifier)
        for job in [job for job in self.jobs.values() if job.upload is upload]:
            job.cancel(upload.folder)
            self.jobs.pop(job.id, None)
        shutil.rmtree(upload.folder, ignore_errors=True)

    def clear(self) -> None:
        """Cancel all jobs and delete all files."""
        for job in self.jobs.values():
            job.cancel(self.folder)
        self.jobs.clear()
        self.uploads.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All sessions of a server, and the folder that they lie in.

    Args:
        lifetime: Seconds without a sign of the page after which a session ends.
        authenticated: Whether a session needs no password.
    """

    def __init__(self, lifetime: float, authenticated: bool):
        self._lifetime, self._authenticated = lifetime, authenticated
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._kept = contextlib.ExitStack()
        self.folder = self._kept.enter_context(temporary_folder(PREFIX))

    def __iter__(self) -> Iterator[Session]:
        with self._lock:
            return iter(list(self._sessions.values()))

    def find(self, identifier: str | None) -> Session | None:
        """Return the session of a cookie; None where there is none any more."""
        with self._lock:
            session = self._sessions.get(identifier or "")
        return session if session is not None and session.ends > time.monotonic() else None

    def new(self, authenticated: bool = False) -> Session:
        """Begin a session.

        Args:
            authenticated: Whether its visitor has given the password.
        """
        session = Session(self.folder, self._lifetime, authenticated or self._authenticated)
        with self._lock:
            self._sessions[session.id] = session
            too_many = len(self._sessions) > MAX_SESSIONS
        if too_many:  # of those that never uploaded anything, the one heard of last long ago
            idle = [each for each in self if not each.uploads and each is not session]
            if idle:
                self.end(min(idle, key=lambda each: each.ends))
        return session

    def end(self, session: Session) -> None:
        """End a session and delete its files."""
        with self._lock:
            self._sessions.pop(session.id, None)
        session.clear()

    def end_expired(self) -> None:
        """End the sessions whose time is over."""
        now = time.monotonic()
        for session in self:
            if session.ends <= now:
                self.end(session)

    def close(self) -> None:
        """End all sessions and remove the folder."""
        for session in self:
            self.end(session)
        self._kept.close()
