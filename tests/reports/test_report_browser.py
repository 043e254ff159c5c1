"""The report page in a real browser: players, keys, blind test, nothing from outside, no barriers.

Chromium is taken from the system; Playwright and axe-core come with the packages `playwright` and
`axe-playwright-python`. Where one is missing the test is skipped with that reason.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from gan_denoise.audio.writer import write
from gan_denoise.evaluation.report.page import write_report
from gan_denoise.evaluation.results import Evaluation, FileScores, save

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium; set CHROMIUM to its path", allow_module_level=True)

RATE, SECONDS = 16000, 3
SYSTEMS = ("noisy", "one", "other", "oracle")
TRACKS = ("noisy", "one", "other", "clean")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on two models and four recordings, each track a tone of its own."""
    folder = tmp_path_factory.mktemp("evaluation")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(4):
        name = f"file {number}"
        for place, system in enumerate(SYSTEMS):
            scores = {"si_sdr": 3.0 * place + number + rng.normal(), "pesq_wb": 1.0 + place / 2}
            rows.append(FileScores(name, system, 5.0 * (number % 2), SECONDS, RATE, scores,
                                   noise=("rain", "babble")[number // 2]))
        times = np.arange(SECONDS * RATE) / RATE
        for place, system in enumerate(TRACKS):
            tone = 0.1 * (place + 1) * np.sin(2 * np.pi * (300 + 200 * place) * times)
            write(folder / system / f"{name}.wav", np.float32(tone), RATE, subtype="FLOAT")
    models = {"one": {"card": {"steps": 3}, "settings": "audio: {}"}}
    evaluation = Evaluation(SYSTEMS, tuple(rows), ("a notice <here>",), {"python": "3"})
    save(replace(evaluation, models=models), folder)
    return write_report([folder], folder / "report.html")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=[
            "--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
        yield found
        found.close()


@pytest.fixture
def page(browser, report):
    """The page; at the end, nothing may have been said in the console or asked of any host."""
    said, asked = [], []
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(report.as_uri())
    yield tab
    others = [url for url in asked if not url.startswith(("data:", report.as_uri()))]
    tab.close()
    assert (said, others) == ([], [])


def state(page, what: str):
    return page.evaluate(f"Player.current.{what}")


def gains(page) -> list[float]:
    return page.evaluate("Player.current.voices.map((voice) => voice.gain.gain.value)")


def test_a_switch_keeps_the_position(page):
    page.click(".player >> nth=0 >> .player-play")
    page.wait_for_function("Player.current?.playing && Player.current.position > 0.2")
    for number in (1, 3, 0, 2):
        # The clock of the sound before and after, and how long the press took by the page's clock.
        before, after, took = page.evaluate(
            """(number) => {
                const button = document.querySelectorAll(".player .player-track")[number];
                const [start, before] = [performance.now(), Player.current.position];
                button.click();
                return [before, Player.current.position, (performance.now() - start) / 1000];
            }""", number)
        assert abs(after - before - took) < 0.05
        page.wait_for_function(
            f"Player.current.voices.filter((v, n) => v.gain.gain.value > 0.001 || n === {number})"
            ".length === 1", timeout=2000)
        assert state(page, "selected") == number
        assert state(page, "playing")
        assert gains(page)[number] == pytest.approx(state(page, f"tracks[{number}].gain"), rel=.05)


def test_the_sounds_of_a_player_are_aligned_and_equally_loud(page):
    page.click(".player >> nth=0 >> .player-play")
    page.wait_for_function("Player.current?.buffers")
    assert state(page, "tracks.length") == len(TRACKS)
    levels = page.evaluate(
        """Player.current.buffers.map((buffer, number) => {
            const rate = buffer.sampleRate;
            const part = buffer.getChannelData(0).slice(rate / 2, rate);
            const power = part.reduce((sum, x) => sum + x * x, 0) / part.length;
            return Math.sqrt(power) * Player.current.tracks[number].gain;
        })""")
    assert np.ptp(20 * np.log10(levels)) < 3  # the K-weighting of these tones differs by less
    lengths = page.evaluate("Player.current.buffers.map((buffer) => buffer.duration)")
    assert np.ptp(lengths) < 0.05
    assert lengths[0] == pytest.approx(SECONDS, abs=0.15)


def test_keys(page):
    page.focus(".player >> nth=1")
    page.keyboard.press("Space")
    page.wait_for_function("Player.current?.playing")
    assert page.evaluate("Player.current === document.querySelectorAll('.player')[1].player")
    page.keyboard.press("3")
    assert state(page, "selected") == 2
    page.keyboard.press("9")
    assert state(page, "selected") == 2
    page.keyboard.press("Space")
    page.wait_for_function("!Player.current.playing")
    page.keyboard.press("Home")
    page.wait_for_function("Player.current.position === 0")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("Math.abs(Player.current.position - 1) < 0.05")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("Player.current.position < 0.05")
    pressed = page.locator(".player >> nth=1 >> [aria-pressed=true]")
    assert pressed.count() == 1
    assert pressed.inner_text().split() == ["3", "other"]


def test_the_spacebar_on_a_button_plays_once(page):
    page.focus(".player >> nth=0 >> .player-track >> nth=1")
    page.keyboard.press("Space")
    page.wait_for_function("Player.current?.playing")
    page.focus(".player >> nth=0 >> .player-play")
    page.keyboard.press("Space")
    page.wait_for_function("!Player.current.playing")
    page.wait_for_timeout(200)  # a second toggle would have come by now
    assert not page.evaluate("Player.current.playing")


def test_a_click_on_a_spectrogram_goes_there_and_another_player_stops_the_first(page):
    page.click(".player >> nth=0 >> .player-play")
    page.wait_for_function("Player.current?.playing")
    pictures = page.locator(".player >> nth=1 >> .player-pictures")
    pictures.scroll_into_view_if_needed()
    box = pictures.bounding_box()
    pictures.click(position={"x": box["width"] / 2, "y": 30})
    page.wait_for_function("Math.abs(Player.current.position / Player.current.duration - .5) < .02")
    assert not page.evaluate("document.querySelectorAll('.player')[0].player.playing")
    left = page.evaluate("document.querySelectorAll('.player-cursor')[1].style.left")
    assert float(left.rstrip("%")) == pytest.approx(50, abs=2)


def test_playing_ends_at_the_end_and_begins_anew(page):
    page.focus(".player >> nth=0")
    page.evaluate("document.querySelector('.player').player.seek(2.9)")
    page.wait_for_function("Player.current.buffers")
    page.keyboard.press("Space")
    page.wait_for_function("!Player.current.playing && Player.current.position >= 2.9")
    page.keyboard.press("Space")
    page.wait_for_function("Player.current.playing && Player.current.position < 2")
    position, duration = page.evaluate("[Player.current.position, Player.current.duration]")
    assert 0 <= position < 2 < duration


def test_the_blind_test_ends_with_a_result(page):
    page.click(".blind-begin")
    assert page.locator(".blind-progress").inner_text() == "Trial 1 of 4"
    assert "one" not in page.locator("#blind-test").inner_text()  # nothing tells which is which
    page.keyboard.press("Space")
    page.wait_for_function("Player.current?.playing && Player.current.tracks.length === 2")
    for choice in ("a", "b", "none", "none"):
        page.click(f"[data-choice={choice}]")
    words = page.locator(".blind-result").inner_text()
    assert "no difference: 2" in words
    counts = [int(line.split("preferred ")[1].split()[0]) for line in words.split("\n")
              if "preferred" in line]
    assert sum(counts) == 2
    assert "100 %" in words or "50 %" in words  # 1 : 1, or 2 : 0
    assert page.evaluate("[signTest(10, 0), signTest(3, 3), signTest(0, 0)]") == [
        2 / 1024, 1, 1]


def test_the_same_system_twice_is_no_test(page):
    page.select_option(".blind-other", "one")
    page.click(".blind-begin")
    assert "different" in page.locator(".blind-problem").inner_text()
    assert page.locator(".blind-trial").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_barriers(browser, report, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed")
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.goto(report.as_uri())
    # What lies far below is laid out only when it is seen; here all of it is.
    tab.add_style_tag(content=".example { content-visibility: visible !important; }")
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    found = axe.Axe().run(tab).response["violations"]
    tab.close()
    assert [(one["id"], node["html"]) for one in found if one["impact"] in ("serious", "critical")
            for node in one["nodes"]] == []
