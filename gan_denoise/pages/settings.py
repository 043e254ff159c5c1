"""The settings of a server: limits, models, host and password."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_denoise.core.errors import GanDenoiseError


class ServeError(GanDenoiseError):
    """The server cannot start, or a request cannot be done as asked; the text is for the user.

    Args:
        reason: What is wrong.
        way_out: What to do about it.
        status: Status of the HTTP response.
    """

    def __init__(self, reason: str, way_out: str = "", status: int = 400):
        super().__init__(reason, way_out)
        self.status = status


@dataclass(frozen=True)
class ServeSettings:
    """What is chosen when the server starts.

    Attributes:
        models: Model folders or shipped models that the page offers beside the shipped ones.
        host: Address to listen on.
        port: Port to listen on; 0: any that is free.
        password: What visitors must give; None: nothing, which only a loopback address allows.
        allowed_hosts: Names under which the server is reached beside `localhost`, `host` and
            addresses.
        data: Folders whose recordings the training tab may use.
        runs: Folder of the training tab's runs, and of the models exported from them.
        max_megabytes: Largest upload in MB (1e6 bytes).
        max_minutes: Longest recording in minutes.
        workers: Number of recordings that are denoised at once.
        threads: Number of threads of all of them; 0: one per core.
        max_waiting: Number of recordings that may wait in the queue.
        max_per_session: Number of recordings of one session that wait or are denoised at once.
        kept_per_session: Number of uploads of a session that are kept; the oldest goes first.
        session_minutes: Minutes without a sign of the page after which a session's files go.
    """

    models: Sequence[str | Path] = ()
    host: str = "127.0.0.1"
    port: int = 8000
    password: str | None = None
    allowed_hosts: Sequence[str] = ()
    data: Sequence[Path] = ()
    runs: Path = Path("runs")
    max_megabytes: float = 1000.0
    max_minutes: float = 120.0
    workers: int = 1
    threads: int = 0
    max_waiting: int = 32
    max_per_session: int = 3
    kept_per_session: int = 5
    session_minutes: float = 30.0

    def check(self) -> None:
        """Refuse an address that others reach without a password.

        Raises:
            ServeError: When the host is no loopback address and there is no password.
        """
        if not self.password and not is_loopback(self.host):
            raise ServeError(f"--host {self.host} lets others use this machine",
                             "give --password, or set GAN_DENOISE_PASSWORD")


def is_loopback(host: str) -> bool:
    """Return whether only programs of the same machine reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
