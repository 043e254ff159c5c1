"""Uploads over a slow connection: nobody else waits for them, and what stalls leaves nothing."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from page_server import finish, noise_and_tone, running, upload

from gan_denoise.pages import uploads

PART = 1000  # bytes
SECONDS = 0.1  # between two parts: 10 kB/s


@pytest.fixture
def server():
    """Return the address of a server, and the folder of its sessions."""
    with running() as (address, app):
        yield address, app.state.sessions.folder


@contextlib.contextmanager
def visitor(address: str) -> Iterator[httpx.Client]:
    """Give a client that has a session."""
    with httpx.Client(base_url=address, timeout=60) as client:
        client.get("/")
        yield client


def slowly(content: bytes):
    """Give a body at 10 kB/s."""
    for start in range(0, len(content), PART):
        time.sleep(SECONDS)
        yield content[start:start + PART]


def begin(client: httpx.Client, content: bytes, length: int) -> socket.socket:
    """Send the head of an upload of so many bytes, and the first of them."""
    place = urlsplit(str(client.base_url))
    connection = socket.create_connection((place.hostname, place.port), timeout=30)
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    connection.sendall(f"POST /api/uploads?name=talk.wav HTTP/1.1\r\nHost: {place.netloc}\r\n"
                       f"Cookie: {cookies}\r\nContent-Length: {length}\r\n\r\n".encode() + content)
    return connection


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]


def wait_until(holds) -> None:
    until = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def answer_on(connection: socket.socket) -> str:
    """Return all that comes until the server closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


def test_others_are_served_while_slow_uploads_arrive_whole(server, tmp_path):
    address, _ = server
    source = noise_and_tone(tmp_path / "talk.wav", seconds=1.0)
    content, answers = source.read_bytes(), []

    def send() -> None:
        with visitor(address) as slow:
            answers.append(slow.post("/api/uploads?name=slow.wav", content=slowly(content)))

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    with visitor(address) as other:
        assert finish(other, upload(other, source)["id"])["state"] == "done"
        assert answers == []  # all of them are still under way
    for sender in senders:
        sender.join()
    assert [answer.status_code for answer in answers] == [201] * 4
    assert {answer.json()["seconds"] for answer in answers} == {1.0}


def test_an_upload_that_stalls_is_given_up_and_leaves_nothing(server, monkeypatch):
    address, folder = server
    monkeypatch.setattr(uploads, "SILENT_SECONDS", 0.3)
    with visitor(address) as client, begin(client, bytes(5000), 100_000) as stalled:
        began = time.monotonic()
        answer = answer_on(stalled)
        assert time.monotonic() - began < 4  # not when the server tires of an idle connection
        assert answer.startswith("HTTP/1.1 408")
        assert "nothing came for 0.3 s" in answer
        assert "upload it again" in answer
        assert client.get("/api/jobs").json() == []
    assert files(folder) == []


def test_an_upload_that_is_cut_off_leaves_nothing(server):
    address, folder = server
    with visitor(address) as client:
        with begin(client, bytes(500_000), 1_000_000):
            wait_until(lambda: files(folder))
        wait_until(lambda: not files(folder))
        assert client.get("/api/jobs").json() == []


def test_an_upload_whose_files_are_deleted_meanwhile_says_so(server):
    address, folder = server
    with visitor(address) as client, begin(client, bytes(500_000), 1_000_000) as connection:
        wait_until(lambda: files(folder))
        client.delete("/api/session")
        connection.sendall(bytes(1000))
        answer = HTTPResponse(connection)  # its end is known: the rest may still be sent
        answer.begin()
        assert answer.status == 410
        assert "deleted while it came" in answer.read().decode()
    assert files(folder) == []


def test_a_session_outlasts_an_upload_that_takes_longer_than_it(tmp_path):
    content = noise_and_tone(tmp_path / "talk.wav", seconds=0.5).read_bytes()
    with running(session_minutes=0.5 / 60) as (address, app), visitor(address) as client:
        expiry = threading.Event()

        def expire() -> None:
            while not expiry.wait(0.05):
                app.state.sessions.end_expired()

        thread = threading.Thread(target=expire)
        thread.start()
        try:
            answer = client.post("/api/uploads?name=talk.wav", content=slowly(content))
        finally:
            expiry.set()
            thread.join()
        assert answer.status_code == 201
        assert finish(client, answer.json()["id"])["state"] == "done"
