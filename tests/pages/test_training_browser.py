"""The training tab in a real browser: 20 steps are trained, seen, heard, exported and used."""

from __future__ import annotations

import contextlib
import shutil
import threading
from urllib.parse import urlsplit

import pytest

from gan_denoise.pages.settings import ServeSettings

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra `web` is missing")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
MILLISECONDS = 240_000  # that a process may take on a busy machine

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@contextlib.contextmanager
def served(settings):
    """Serve on a free port of this machine; give the address."""
    from gan_denoise.pages.app import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@contextlib.contextmanager
def browsed(address):
    """Open a page that notes what goes wrong and what it asks of whom."""
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.faults, page.hosts = [], set()
        page.on("console", lambda line: line.type == "error" and page.faults.append(line.text))
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda request: page.hosts.add(urlsplit(request.url).netloc))
        page.set_default_timeout(MILLISECONDS)
        page.goto(address)
        yield page
        browser.close()


def test_twenty_steps_in_a_browser(folders, tmp_path):
    settings = ServeSettings(data=[folders], runs=tmp_path / "runs")
    with served(settings) as address, browsed(f"{address}/training") as page:
        expect = playwright.expect
        page.get_by_label("Name").fill("from-browser")
        page.get_by_label("Config").first.select_option("debug")
        page.get_by_label("Minutes").fill("")
        page.get_by_label("Steps at most").fill("20")
        root = folders.name
        page.get_by_role("group", name="Folders of clean speech").get_by_label(
            f"{root}/speech (8 files)").check()
        page.get_by_role("group", name="Folders of noise").get_by_label(
            f"{root}/noise (3 files)").check()
        page.get_by_role("button", name="Start").click()
        expect(page.locator("#state")).to_contain_text("Training from-browser")
        page.reload()
        expect(page.locator("#state")).to_contain_text("from-browser")
        expect(page.locator("#state")).to_contain_text("best validation", timeout=MILLISECONDS)
        expect(page.locator(".chart").first).to_be_visible()
        titles = page.locator(".chart figcaption").all_text_contents()
        assert titles[:2] == ["Loss of the generator", "Validation: SI-SDR (dB)"]

        expect(page.locator("#clips")).to_contain_text("at step 20", timeout=MILLISECONDS)
        player = page.locator(".player")
        expect(player.locator(".player-track")).to_have_count(3)
        player.locator(".player-track").nth(1).click()
        player.locator(".player-play").click()
        expect(player.locator(".player-status")).to_contain_text("estimate, playing",
                                                                 timeout=30_000)

        page.get_by_role("button", name="Export from-browser").click()
        expect(page.locator("#state")).to_contain_text("model from-browser", timeout=MILLISECONDS)
        page.get_by_role("link", name="Denoise with it").click()
        expect(page.locator("select[name=model]")).to_have_value("from-browser")
        page.get_by_role("button", name="Try the example").click()
        expect(page.get_by_role("link", name="Download").first).to_be_visible()
        assert page.faults == []
        assert page.hosts == {urlsplit(address).netloc}
