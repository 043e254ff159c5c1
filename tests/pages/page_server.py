"""A server of the tests' own, on a free port of loopback, in a thread; and made-up recordings."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gan_denoise.audio.writer import write

for _name in ("starlette", "jinja2"):
    pytest.importorskip(_name, reason="serve needs the extra `web`")
uvicorn = pytest.importorskip("uvicorn", reason="serve needs the extra `web`")


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[tuple[str, object]]:
    """Give the address of a server with these settings, and its application."""
    from gan_denoise.pages.app import close_app, create_app
    from gan_denoise.pages.settings import ServeSettings

    app = create_app(ServeSettings(threads=1, **settings))
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", app
        finally:
            server.should_exit = True
            thread.join()
            close_app(app)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Return the address of a server with the usual settings."""
    with running(max_minutes=0.5, max_megabytes=5, max_per_session=2) as (address, _):
        yield address


@pytest.fixture
def client(server: str) -> Iterator[httpx.Client]:
    """Return a visitor with a session of their own."""
    with httpx.Client(base_url=server, timeout=30) as visitor:
        visitor.get("/")
        yield visitor


def noise_and_tone(path: Path, rate: int = 16000, channels: int = 1, seconds: float = 2.0,
                   subtype: str | None = None) -> Path:
    """Write a tone in noise that differs between the channels."""
    samples = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.03, (channels, len(samples)))
    tone = 0.2 * np.sin(2 * np.pi * 440 * samples) * (samples % 1 < 0.5)
    write(path, (tone + noise).astype(np.float32), rate, subtype=subtype)
    return path


def upload(client: httpx.Client, path: Path, name: str | None = None) -> dict:
    """Upload a file and return what the server says of it."""
    answer = client.post("/api/uploads", params={"name": name or path.name},
                         content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    return answer.json()


def finish(client: httpx.Client, upload_id: str, **options) -> dict:
    """Denoise an upload and return the job when it has ended."""
    answer = client.post("/api/jobs", json={"upload": upload_id, **options})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    until = time.monotonic() + 60
    while job["state"] in ("waiting", "running"):
        assert time.monotonic() < until
        time.sleep(0.05)
        job = client.get(f"/api/jobs/{job['id']}").json()
    return job
