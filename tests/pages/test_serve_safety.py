"""Who may ask what of the server, and what is left of a session: nothing."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from page_server import client, finish, noise_and_tone, running, server, upload

from gan_denoise.core.memory import collect_seldom
from gan_denoise.pages import sessions
from gan_denoise.pages.server import serve
from gan_denoise.pages.settings import ServeError, ServeSettings

__all__ = ["client", "server"]  # fixtures


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_others_reach_the_server_only_with_a_password(host):
    with pytest.raises(ServeError, match="--password"):
        ServeSettings(host=host).check()
    ServeSettings(host=host, password="secret").check()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_password(host):
    settings = ServeSettings(host=host)
    settings.check()
    assert not settings.password


def test_a_server_looks_for_old_requests_as_often_as_python_does():
    class Ready(Exception):
        pass

    seen, before = [], gc.get_threshold()

    def ready(address):
        seen.append(gc.get_threshold())
        raise Ready

    collect_seldom()  # as every command does
    seldom = gc.get_threshold()
    try:
        with pytest.raises(Ready):
            serve(ServeSettings(port=0), ready)
        assert 10 * seen[0][0] < seldom[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


@pytest.mark.parametrize(("host", "status"), [
    ("evil.example", 421), ("localhost.evil.example:8000", 421), ("", 421), ("[::1", 421),
    ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200),
])
def test_a_name_that_is_not_the_servers_is_refused(server, host, status):
    assert httpx.get(server, headers={"host": host}).status_code == status


@pytest.mark.parametrize(("headers", "status"), [
    ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403),
    ({"sec-fetch-site": "cross-site"}, 403), ({"sec-fetch-site": "same-site"}, 403),
    ({"origin": "{server}"}, 201), ({"sec-fetch-site": "same-origin"}, 201), ({}, 201),
])
def test_other_sites_change_nothing(client, server, headers, status):
    headers = {name: value.format(server=server) for name, value in headers.items()}
    assert client.post("/api/uploads/example", headers=headers).status_code == status


def test_pages_load_nothing_from_elsewhere(client):
    page = client.get("/")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert "//" not in page.text.replace("</", "").replace("<!", "")


@pytest.mark.parametrize("path", [
    "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/serve.html.j2",
    "/api/jobs/..%2f..%2f/result", "/api/jobs/x/previews/0/before.flac", "/api/jobs/x/result",
])
def test_no_path_leads_elsewhere(client, path):
    assert client.get(path).status_code == 404


def test_a_session_sees_only_its_own(tmp_path, client, server):
    identifier = upload(client, noise_and_tone(tmp_path / "talk.wav"))["id"]
    job = finish(client, identifier)
    with httpx.Client(base_url=server) as stranger:
        stranger.get("/")
        assert stranger.get("/api/jobs").json() == []
        assert stranger.get(f"/api/jobs/{job['id']}/result").status_code == 404
        assert stranger.post("/api/jobs", json={"upload": identifier}).status_code == 404
        assert stranger.cookies != client.cookies
    for value in ("", "made-up"):
        answer = httpx.get(server, headers={"cookie": f"{sessions.COOKIE}={value}"})
        assert value not in answer.cookies.values()  # nobody chooses a session's name


def test_a_password_opens_a_session_and_wrong_ones_are_counted():
    with running(password="right") as (address, _), httpx.Client(base_url=address) as visitor:
        assert visitor.get("/").headers["location"] == "/login"
        assert visitor.get("/api/jobs").status_code == 401
        assert visitor.post("/api/uploads/example").status_code == 401
        assert "Password" in visitor.get("/login").text
        assert visitor.post("/login", data={"password": "wrong"}).status_code == 403
        assert visitor.get("/").status_code == 303
        entered = visitor.post("/login", data={"password": "right"})
        assert entered.status_code == 303
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert visitor.get("/").status_code == 200
        answers = [visitor.post("/login", data={"password": str(number)}).status_code
                   for number in range(6)]
        assert answers[-1] == 429
        late = visitor.post("/login", data={"password": "right"})
        assert late.status_code == 429
        assert 0 < int(late.headers["retry-after"]) <= 60


def test_files_go_with_the_session(tmp_path, monkeypatch):
    source = noise_and_tone(tmp_path / "talk.wav")
    with running() as (address, app), httpx.Client(base_url=address) as visitor:
        visitor.get("/")
        folder = app.state.sessions.folder

        def files() -> list[Path]:
            return [path for path in folder.rglob("*") if path.is_file() and path.name != "lock"]

        first = upload(visitor, source)
        finish(visitor, first["id"])
        assert len(files()) == 3  # what came, what was made of it, what was removed
        visitor.delete(f"/api/uploads/{first['id']}")
        assert files() == []
        finish(visitor, upload(visitor, source)["id"])
        visitor.delete("/api/session")
        assert files() == []
        assert visitor.get("/api/jobs").json() == []
        upload(visitor, source)
        monkeypatch.setattr(sessions, "LEAVE_SECONDS", 0.0)
        visitor.post("/api/session/leave")
        app.state.sessions.end_expired()
        assert files() == []
        upload(visitor, source)
        for number in range(8):  # a session keeps five uploads
            upload(visitor, source, f"{number}.wav")
        assert len(files()) == 5
    assert not folder.exists()


def test_a_page_that_is_loaded_again_keeps_its_session(tmp_path, client):
    finish(client, upload(client, noise_and_tone(tmp_path / "talk.wav"))["id"])
    client.post("/api/session/leave")
    client.get("/")
    assert len(client.get("/api/jobs").json()) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_server_that_was_ended(tmp_path, monkeypatch, number):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    command = [sys.executable, "-m", "gan_denoise.cli", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().split()[0]
        with httpx.Client(base_url=address, timeout=30) as visitor:
            visitor.get("/")
            visitor.post("/api/uploads/example")
            assert len(list(tmp_path.rglob("*.flac"))) == 1
        process.send_signal(number)
        process.wait(30)
    if number == signal.SIGKILL:  # the next server removes what was left
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        sessions.Sessions(60.0, authenticated=True).close()
    until = time.monotonic() + 5
    while list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_nothing_is_left_of_a_server_that_was_killed_as_it_made_its_folder(tmp_path, monkeypatch):
    code = ("import os, signal\nfrom gan_denoise.pages.sessions import Sessions\n"
            "real, os.open = os.open, lambda path, *rest: (os.kill(os.getpid(), signal.SIGKILL)\n"
            "    if 'gan-denoise-serve-' in str(path) else real(path, *rest))\n"
            "os.mkdir(os.environ['TMPDIR'])\nSessions(60.0, True)")
    place = tmp_path / "tmp"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(place)})
    assert len(list(place.iterdir())) == 1
    monkeypatch.setattr("tempfile.tempdir", str(place))
    sessions.Sessions(60.0, authenticated=True).close()
    assert list(place.iterdir()) == []
