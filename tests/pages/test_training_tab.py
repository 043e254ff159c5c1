"""The training tab: a run is started, watched, stopped, lengthened, exported and used.

One run is trained and exported by the page in a browser, or by its requests where there is no
Chromium; what it came to is asked of it by all tests, in turn.
"""

from __future__ import annotations

import shutil
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from keyboard import tab_to
from page_server import finish, running, upload

from gan_denoise.audio import read
from gan_denoise.config import load_config
from gan_denoise.config.artifacts import LATEST
from gan_denoise.config.saved import settings_of
from gan_denoise.pages import training_choice
from gan_denoise.training.checkpoints import read_progress

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECONDS = 240  # that a process may take on a busy machine
# Laid over `debug`: validations cost more than steps.
SMALL = ("training.validate_every=10", "training.crop_seconds=0.5", "data.valid_seconds=1",
         "mel.n_mels=16")
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def server(folders, tmp_path_factory):
    """Return the address of a server that trains, and its folder of runs."""
    runs = tmp_path_factory.mktemp("training") / "runs"
    with pytest.MonkeyPatch.context() as patch, \
            running(data=[folders], runs=runs) as (address, app):
        patch.setattr(training_choice, "load_config",
                      lambda name, settings: load_config(name, [*SMALL, *settings]))
        yield SimpleNamespace(address=address, app=app, runs=runs)


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.address, timeout=60) as visitor:
        visitor.get("/training")
        yield visitor


@pytest.fixture(scope="module")
def page(server):
    """Return the tab in a browser, or None without one; no fault, and no request elsewhere."""
    if CHROMIUM is None:
        yield None
        return
    tool = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    faults, hosts = [], set()
    with tool.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme="dark",
                                  reduced_motion="reduce")
        opened.on("console", lambda line: line.type == "error" and faults.append(line.text))
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
        opened.set_default_timeout(1000 * SECONDS)
        opened.goto(f"{server.address}/training")
        yield opened
        browser.close()
    assert faults == []
    assert hosts == {urlsplit(server.address).netloc}


def check_access(page, *schemes):
    """Find no serious fault with axe-core, and nothing beyond the page's edge."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright",
                              reason="axe-playwright-python is not installed")
    for scheme in schemes:
        width = {"light": 390, "dark": 1280}[scheme]
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 1000})
        found = axe.Axe().run(page).response["violations"]
        assert [(fault["id"], [node["html"] for node in fault["nodes"]]) for fault in found
                if fault["impact"] in SERIOUS] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def wait(client, until):
    """Return the status of training once a condition holds."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        status = client.get("/api/training").json()
        if until(status):
            return status
        time.sleep(0.3)
    raise AssertionError(f"still {status}")


def idle(status):
    return status["state"] == "idle"


def post(client, place, values=None, status=202):
    answer = client.post(f"/api/training{place}", json=values)
    assert answer.status_code == status, answer.text
    return answer.json()


def choice(folders, **changed):
    name = folders.name
    return {"name": "one", "kind": "pretrain", "config": "debug", "data": "mix",
            "speech": [f"{name}/speech"], "noise": [f"{name}/noise"], "steps": 20} | changed


def start(client, page, folders):
    """Start the run `one` of 20 steps, by keyboard on the page where there is a browser."""
    if page is None:
        post(client, "", choice(folders))
        return
    check_access(page, "light", "dark")
    page.reload()  # the focus at the beginning
    for label, keys in (("Name", "one"), ("Config", "debug"), ("Minutes", ""),
                        ("Steps at most", "20")):
        field = page.get_by_label(label).first
        tab_to(page, field)
        if label == "Config":
            page.keyboard.type(keys)
        else:
            page.keyboard.press("Control+A")
            page.keyboard.press("Delete")
            page.keyboard.type(keys)
        assert field.input_value() == keys
    for group, entry in (("clean speech", "speech (8 files)"), ("noise", "noise (3 files)")):
        tab_to(page, page.get_by_role("group", name=f"Folders of {group}").get_by_label(
            f"{folders.name}/{entry}"))
        page.keyboard.press("Space")
    tab_to(page, page.get_by_role("button", name="Start"))
    page.keyboard.press("Enter")
    page.locator("#run-title:focus").wait_for()  # where it is said what comes of it


@pytest.fixture(scope="module")
def trained(client, page, folders):
    """Return the status of the run `one` at its end, while it was watched by requests."""
    start(client, page, folders)
    assert "one run at a time" in post(client, "", choice(folders, name="two"), 409)["error"]
    seen = wait(client, lambda status: status["progress"].get("step") or idle(status))
    assert seen["state"] == "training", seen
    if page is not None:
        page.reload()
        page.locator("#state", has_text="Training one").wait_for()
        check_access(page, "dark")
    return wait(client, idle)


@pytest.fixture(scope="module")
def exported(client, page, trained):
    """Return the status once the model of `one` is exported."""
    if page is None:
        post(client, "/runs/one/export")
    else:
        tab_to(page, page.get_by_role("button", name="Export one"))
        page.keyboard.press("Enter")
        page.locator("#state", has_text="model one").wait_for()
    return wait(client, idle)


def test_a_run_is_trained_as_it_was_chosen(client, folders, trained):
    offered = {row["name"] for row in client.get("/api/training/folders").json()}
    assert f"{folders.name}/speech" in offered
    assert (trained["outcome"], trained["progress"]["step"]) == ("done", 20), trained
    assert "--config debug" in trained["command"]
    assert any("validation" in line for line in trained["log"])
    (row,) = trained["runs"]
    assert (row["step"], row["finished"], row["has_best"]) == (20, True, True)
    assert "already" in post(client, "", choice(folders), 400)["error"]
    assert "all of its 20 steps" in post(client, "/runs/one/resume", status=400)["error"]


def test_its_curves_and_clips_are_those_of_its_steps(client, trained):
    shown = client.get("/api/training/runs/one/curves").json()
    curves = {series["label"]: series["points"] for chart in shown["charts"]
              for series in chart["series"]}
    assert [step for step, _ in curves["weighted sum"]] == list(range(1, 21))
    assert {"model", "noisy", "best gain"} <= set(curves)
    assert (shown["clips"], shown["clip_step"]) == (2, 20)
    player = client.get("/api/training/runs/one/clips/0").json()["player"]
    for name in ("noisy", "estimate", "clean"):
        assert f"/api/training/runs/one/clips/0/{name}.wav" in player
        sound = client.get(f"/api/training/runs/one/clips/0/{name}.wav")
        assert sound.content[:4] == b"RIFF"


def test_a_finished_run_is_seen_and_heard_on_the_page(page, trained):
    if page is None:
        pytest.skip("chromium is not installed")
    page.locator("#state", has_text="best validation").wait_for()
    page.locator("#clips", has_text="at step 20").wait_for()
    titles = page.locator(".chart figcaption").all_text_contents()
    assert titles[:2] == ["Loss of the generator", "Validation: SI-SDR (dB)"]
    player = page.locator(".player")
    assert player.locator(".player-track").count() == 3
    player.locator(".player-track").nth(1).click()
    player.locator(".player-play").click()
    player.locator(".player-status", has_text="estimate, playing").wait_for()
    check_access(page, "light", "dark")


def test_the_exported_model_cleans(client, folders, exported, tmp_path):
    assert exported["words"] == "model one"
    noisy = folders / "noisy" / "speaker0" / "0.wav"
    job = finish(client, upload(client, noisy)["id"], model="one")
    assert job["state"] == "done", job
    (tmp_path / "cleaned.wav").write_bytes(client.get(f"/api/jobs/{job['id']}/result").content)
    cleaned, before = read(tmp_path / "cleaned.wav")[0], read(noisy)[0]
    assert cleaned.shape == before.shape
    assert not np.allclose(cleaned, before, atol=1e-3)


def test_the_pages_link_tries_the_exported_model(page, exported):
    if page is None:
        pytest.skip("chromium is not installed")
    page.get_by_role("link", name="Denoise with it").click()
    page.wait_for_selector("select[name=model]")
    assert page.locator("select[name=model]").input_value() == "one"
    page.get_by_role("button", name="Try the example").click()
    page.get_by_role("link", name="Download").first.wait_for()
    page.get_by_role("link", name="Train").click()
    page.locator("#state").wait_for()


def test_a_finished_run_is_lengthened_stopped_with_its_state_and_resumed(
    client, page, server, exported
):
    assert "minutes" in post(client, "/runs/one/extend", {"minutes": 0}, 400)["error"]
    if page is None:
        post(client, "/runs/one/extend", {"minutes": 1000})
    else:
        page.get_by_label("Minutes more for one").fill("1000")
        page.get_by_role("button", name="Train on one").click()
    longer = wait(client, lambda status: status["progress"].get("step", 0) > 25
                  or status["outcome"] == "failed")
    assert longer["state"] == "training", longer
    assert longer["progress"]["total_steps"] > 1000
    total = longer["progress"]["total_steps"]
    post(client, "/stop")
    stopped = wait(client, idle)
    assert stopped["outcome"] == "stopped", stopped
    run = server.runs / "one"
    step = read_progress(run / LATEST).step
    assert step >= stopped["progress"]["step"] > 25, "what was trained is kept"
    assert settings_of(run).training.steps == total
    post(client, "/runs/one/resume")
    again = wait(client, lambda status: status["progress"].get("step", 0) > step)
    assert any(f"at step {step}" in line for line in again["log"])
    assert (again["run"], again["progress"]["total_steps"]) == ("one", total)
    server.app.state.training.close()  # as the server's end does
    assert read_progress(run / LATEST).step >= again["progress"]["step"]
    assert idle(client.get("/api/training").json())


def test_errors_of_a_run_are_told(client, page, folders, trained):
    (folders / "broken").mkdir(exist_ok=True)
    (folders / "broken" / "a.wav").write_bytes(b"RIFF but no audio")
    post(client, "", choice(folders, name="bad", speech=[f"{folders.name}/broken"]))
    status = wait(client, idle)
    assert status["outcome"] == "failed"
    assert "a.wav" in status["words"]
    assert [row["name"] for row in status["runs"]] == ["one"]
    if page is not None:
        page.locator("#run-error", has_text="a.wav").wait_for()
        check_access(page, "light", "dark")


def test_what_there_is_not_is_refused(client):
    for place in ("/runs/none/resume", "/runs/none/export"):
        post(client, place, status=404)
    post(client, "/runs/none/extend", {"minutes": 1}, 404)
    assert client.get("/api/training/runs/none/curves").status_code == 404
    assert client.get("/api/training/runs/..%2Fmodels/curves").status_code == 404
    post(client, "/stop", status=409)
    refused = client.post("/api/training", json={}, headers={"origin": "http://elsewhere"})
    assert refused.status_code == 403


def test_without_folders_nothing_is_trained(tmp_path, folders):
    with running(runs=tmp_path / "runs") as (address, _), \
            httpx.Client(base_url=address, timeout=30) as visitor:
        assert "--data FOLDER" in visitor.get("/training").text
        assert "--data" in post(visitor, "", choice(folders), 403)["error"]
