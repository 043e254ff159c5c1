"""The server's process: its socket, its signals, and what is deleted at its end."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Iterator

import uvicorn

from gan_denoise.core.memory import collect_as_usual, limit_arenas
from gan_denoise.pages.app import close_app, create_app
from gan_denoise.pages.settings import ServeError, ServeSettings

CONNECTIONS = 512  # at once
ARENAS = 2  # of memory: an hour-long recording peaks at 354 MB, with one a thread at 410
GRACE_SECONDS = 3  # for requests under way when the server ends


def serve(settings: ServeSettings, ready: Callable[[str], None] = lambda address: None) -> None:
    """Serve the pages until Ctrl-C or SIGTERM; then all files of all sessions are deleted.

    Args:
        settings: Settings of the server.
        ready: Called with the address of the page when the port is open.

    Raises:
        ServeError: When the port cannot be opened, or others reach the host and there is no
            password.
        ModelError: When one of the models is none.
    """
    settings.check()
    limit_arenas(ARENAS)
    with contextlib.closing(_listen(settings)) as listener, _ended_by_sigterm():
        app = create_app(settings)
        collect_as_usual()
        try:
            config = uvicorn.Config(
                app, log_level="warning", access_log=False, server_header=False, ws="none",
                limit_concurrency=CONNECTIONS, timeout_graceful_shutdown=GRACE_SECONDS)
            ready(_address(listener))
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            close_app(app)


def _listen(settings: ServeSettings) -> socket.socket:
    host = settings.host.strip("[]")
    try:
        family, *_, address = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM,
                                                 flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ServeError(f"{settings.host}, port {settings.port}: {reason}",
                         "give another --port, or another --host") from error


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the process as an exception does, so that what is to be deleted is."""

    def end(number: int, frame: object) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
