"""The first tab in a real browser: upload, microphone, player, errors; no request elsewhere."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from urllib.parse import urlsplit

import numpy as np
import pytest
from keyboard import tab_to
from page_server import noise_and_tone, running

from gan_denoise import audio
from gan_denoise.audio.writer import write
from gan_denoise.examples import clean_speech, noisy_speech
from gan_denoise.metrics.waveform import si_sdr

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
MILLISECONDS = 120_000  # that a recording may take on a busy machine
PLAYER = "document.querySelector('.player').player"


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    """Return a WAV that the browser hears as its microphone."""
    samples, rate = audio.read(noisy_speech(), sample_rate=48000)
    path = tmp_path_factory.mktemp("microphone") / "voice.wav"
    write(path, samples, rate, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with running(max_megabytes=3, max_minutes=0.5) as (where, _):
        yield where


@pytest.fixture(scope="module")
def browser(microphone):
    flags = ["--no-sandbox", "--use-fake-ui-for-media-stream",
             "--use-fake-device-for-media-stream",
             f"--use-file-for-fake-audio-capture={microphone}",
             "--autoplay-policy=no-user-gesture-required"]
    with playwright.sync_playwright() as tool:
        launched = tool.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def page(address, browser):
    """Return the page of a new visitor; what went wrong on it, or left the machine, is a fault."""
    faults, hosts = [], set()
    with contextlib.closing(browser.new_context(viewport={"width": 1280, "height": 900})) as visit:
        opened = visit.new_page()
        opened.set_default_timeout(MILLISECONDS)
        opened.on("pageerror", lambda error: faults.append(str(error)))
        # Chromium prints each answer of an error, which the page shows.
        opened.on("console", lambda line: faults.append(line.text) if line.type == "error"
                  and "Failed to load resource" not in line.text else None)
        opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        opened.goto(address)
        yield opened
    assert faults == []
    assert hosts - {""} == {urlsplit(address).netloc}


def recording(path, rate: int, channels: int):
    """Write the real noisy recording at a rate, with channels that differ in level."""
    samples, _ = audio.read(noisy_speech(), sample_rate=rate)
    gains = np.linspace(1, 0.5, channels, dtype=np.float32)[:, None]
    write(path, gains * samples, rate)
    return path


@pytest.mark.parametrize(("name", "rate", "channels"), [
    ("talk.wav", 16000, 1), ("talk.flac", 48000, 2), ("talk.mp3", 44100, 1)])
def test_what_is_uploaded_plays_and_comes_down_cleaner(page, tmp_path, name, rate, channels):
    page.set_input_files("#file", recording(tmp_path / name, rate, channels))
    page.wait_for_selector(".player")
    with page.expect_download() as waiting:
        page.get_by_role("link", name=f"Download talk-denoised{name[4:]}").click()
    waiting.value.save_as(tmp_path / f"down-{name}")

    clean = audio.read_mono(clean_speech(), 16000)
    noisy = audio.read_mono(noisy_speech(), 16000)
    down = audio.read_mono(tmp_path / f"down-{name}", 16000)
    size = min(map(len, (clean, noisy, down)))
    gained = si_sdr(clean[:size], down[:size]) - si_sdr(clean[:size], noisy[:size])
    assert gained > 1

    page.get_by_role("button", name="Play").click()
    while page.evaluate(f"{PLAYER}.position") < 0.3:  # the page's policy allows no waiting script
        page.wait_for_timeout(50)
    before = page.evaluate(f"{PLAYER}.position")
    page.keyboard.press("2")
    after = page.evaluate(f"[{PLAYER}.position, {PLAYER}.selected, {PLAYER}.playing]")
    assert after[1:] == [1, True]
    assert 0 <= after[0] - before < 2  # it went on; its clock is that of all three


def test_the_microphone_is_recorded_and_denoised(page):
    page.click("#record")
    page.get_by_text("Recording: 0:02").wait_for()
    page.click("#record")
    page.wait_for_selector(".player")
    assert page.locator(".result h3").inner_text() == "recording.webm"
    assert page.get_by_role("link", name="Download recording-denoised.webm").is_visible()


@pytest.mark.parametrize(("fault", "way_out"), [
    ("NotAllowedError", "Allow it"), ("NotFoundError", "Connect one"),
    ("NotReadableError", "another program")])
def test_a_microphone_that_cannot_be_used_says_what_to_do(page, fault, way_out):
    page.evaluate("name => navigator.mediaDevices.getUserMedia = "
                  "() => Promise.reject(new DOMException('', name))", fault)
    page.click("#record")
    page.locator("#source-error", has_text=way_out).wait_for()
    assert page.locator("#record").is_enabled()  # to try again


def test_a_server_that_is_gone_for_a_while_is_waited_for(page):
    page.route("**/api/jobs/*", lambda route: route.abort())
    page.click("#example")
    page.locator(".result", has_text="The server does not answer").wait_for()
    page.unroute("**/api/jobs/*")
    page.wait_for_selector(".player")
    assert "does not answer" not in page.locator(".result").inner_text()


def test_faults_are_said_on_the_page(page, tmp_path):
    words = tmp_path / "notes.wav"
    words.write_text("no sound, only words\n" * 100)
    large = tmp_path / "large.wav"
    large.write_bytes(bytes(3_000_001))
    for path, text in ((words, "notes.wav"), (large, "3 MB, the limit"),
                       (noise_and_tone(tmp_path / "long.wav", seconds=31), "0.5 minutes")):
        page.set_input_files("#file", path)
        page.locator("#source-error", has_text=text).wait_for()
        assert page.locator(".result").count() == 0


def test_a_page_loaded_again_shows_its_results_until_they_are_deleted(page):
    page.click("#example")
    page.wait_for_selector(".player")
    page.reload()
    page.wait_for_selector(".player")
    page.click("#denoise")  # the recording need not be uploaded again
    page.locator(".result .player").nth(1).wait_for()
    page.click("#forget")
    page.get_by_text("Your files are deleted.").wait_for()
    assert page.locator(".result").count() == 0
    page.reload()
    page.locator("#none").wait_for()


def focused(page) -> str:
    return page.evaluate("document.activeElement.id || document.activeElement.tagName")


def test_everything_is_done_by_keyboard_alone(page, tmp_path):
    page.emulate_media(reduced_motion="reduce")  # what has the focus is in view at once
    # Dialogs are caught from here on: to begin with the key that opens one would come too late.
    page.on("filechooser", lambda _: None)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skips the tabs
    assert tab_to(page, page.locator("#file")) == []
    with page.expect_file_chooser() as waiting:
        page.keyboard.press("Space")
    waiting.value.set_files(recording(tmp_path / "talk.wav", 16000, 1))
    page.wait_for_selector(".player")
    assert focused(page) == "file"  # what came has not taken the focus away

    tab_to(page, page.get_by_label("Preset"))
    page.keyboard.type("podcast")
    assert page.get_by_label("Preset").input_value() == "podcast"
    tab_to(page, page.get_by_label("Strength"))
    page.keyboard.press("Home")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    tab_to(page, page.get_by_label("Attenuation limit"))
    page.keyboard.press("Control+A")
    page.keyboard.type("15")
    tab_to(page, page.get_by_text("More options"))
    page.keyboard.press("Enter")
    tab_to(page, page.get_by_label("Format"))
    page.keyboard.type("flac")
    tab_to(page, page.locator("#denoise"))
    page.keyboard.press("Enter")
    page.locator(".result .player").nth(1).wait_for()
    said = page.locator(".result .note").first.inner_text()
    assert "preset podcast, strength 0.4, at most 15 dB" in said
    assert said.endswith("flac")
    assert focused(page) == "denoise"

    newest = page.locator(".result").first
    tab_to(page, newest.get_by_role("link", name="Download talk-denoised.flac"))
    with page.expect_download() as down:
        page.keyboard.press("Enter")
    assert down.value.suggested_filename == "talk-denoised.flac"
    tab_to(page, newest.get_by_role("button", name="Play"))
    page.keyboard.press("Space")
    newest.locator(".player-status", has_text="before, playing").wait_for(state="attached")
    tab_to(page, newest.get_by_role("button", name="removed"))
    page.keyboard.press("Enter")
    newest.locator(".player-status", has_text="removed, playing").wait_for(state="attached")
    tab_to(page, newest.get_by_label("Position"))
    page.keyboard.press("Space")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    newest.locator(".player-time", has_text="1.0 of").wait_for()

    tab_to(page, page.locator("#forget"))
    page.keyboard.press("Enter")
    page.get_by_text("Your files are deleted.").wait_for()
    tab_to(page, page.get_by_role("link", name="Train"), back=True)
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Train a model").wait_for()


def test_a_part_of_a_long_recording_is_chosen_by_keyboard(page, monkeypatch):
    from gan_denoise.pages import previews

    monkeypatch.setattr(previews, "WINDOW_SECONDS", 1)
    page.click("#example")
    chooser = page.get_by_label("Listen from")
    chooser.wait_for()
    heard = page.locator(".player").get_attribute("id")
    chooser.focus()
    for part in ("1", "2"):  # the arrow goes on from where the last one led
        page.keyboard.press("ArrowDown")
        page.wait_for_selector(f".player:not(#{heard})")
        heard = page.locator(".player").get_attribute("id")
        assert chooser.input_value() == part
        assert focused(page) == "SELECT"


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_has_no_serious_accessibility_fault(page, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed")
    page.set_viewport_size({"width": width, "height": 900})
    page.click("#example")
    page.wait_for_selector(".player")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(page).response["violations"]
    assert [fault["id"] for fault in found if fault["impact"] in ("serious", "critical")] == []
