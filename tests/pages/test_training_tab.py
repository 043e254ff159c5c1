"""The training tab's server: a run is started, watched, stopped, resumed, exported and used."""

from __future__ import annotations

import time

import numpy as np
import pytest

from gan_denoise.audio import read
from gan_denoise.pages.settings import ServeSettings

starlette = pytest.importorskip("starlette.testclient", reason="the extra `web` is missing")

SECONDS = 240  # that a process may take on a busy machine


@pytest.fixture
def settings(folders, tmp_path):
    return ServeSettings(data=[folders], runs=tmp_path / "runs")


@pytest.fixture
def client(settings):
    from gan_denoise.pages.app import create_app

    with starlette.TestClient(create_app(settings), base_url="http://localhost") as client:
        yield client


def wait(client, until):
    """Return the status of training once a condition holds."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        status = client.get("/api/training").json()
        if until(status):
            return status
        time.sleep(0.1)
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


def test_a_run_is_trained_watched_exported_and_its_model_cleans(client, folders):
    assert client.get("/training").status_code == 200
    offered = {row["name"] for row in client.get("/api/training/folders").json()}
    assert f"{folders.name}/speech" in offered
    post(client, "", choice(folders))
    assert "one run at a time" in post(client, "", choice(folders, name="two"), 409)["error"]
    seen = wait(client, lambda status: status["progress"].get("step"))
    assert seen["state"] == "training"
    done = wait(client, idle)
    assert (done["outcome"], done["progress"]["step"]) == ("done", 20), done
    assert "--config debug" in done["command"]
    assert any("validation" in line for line in done["log"])
    (row,) = done["runs"]
    assert (row["step"], row["finished"], row["has_best"]) == (20, True, True)

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
    assert "already" in post(client, "", choice(folders), 400)["error"]
    assert "all of its 20 steps" in post(client, "/runs/one/resume", status=400)["error"]

    post(client, "/runs/one/export")
    assert wait(client, idle)["words"] == "model one"
    noisy = folders / "noisy" / "speaker0" / "0.wav"
    upload = client.post("/api/uploads?name=a.wav", content=noisy.read_bytes()).json()
    job = client.post("/api/jobs", json={"upload": upload["id"], "model": "one"}).json()
    wait_for = time.monotonic() + SECONDS
    while (state := client.get(f"/api/jobs/{job['id']}").json())["state"] in ("waiting", "running"):
        assert time.monotonic() < wait_for
        time.sleep(0.1)
    assert state["state"] == "done", state
    result = folders.parent / f"{folders.name}-cleaned.wav"
    result.write_bytes(client.get(f"/api/jobs/{job['id']}/result").content)
    cleaned, before = read(result)[0], read(noisy)[0]
    result.unlink()
    assert cleaned.shape == before.shape
    assert not np.allclose(cleaned, before, atol=1e-3)


def test_a_run_is_stopped_with_its_state_and_resumed(client, settings, folders):
    from gan_denoise.training.checkpoints import read_progress

    post(client, "", choice(folders, steps=100_000))
    wait(client, lambda status: status["progress"].get("step", 0) > 5)
    post(client, "/stop")
    stopped = wait(client, idle)
    assert stopped["outcome"] == "stopped", stopped
    state = settings.runs / "one" / "latest.npz"
    step = read_progress(state).step
    assert step >= stopped["progress"]["step"] > 5, "what was trained is kept"
    post(client, "/runs/one/resume")
    again = wait(client, lambda status: status["progress"].get("step", 0) > step)
    assert any(f"at step {step}" in line for line in again["log"])
    assert again["run"] == "one"
    client.app.state.training.close()  # as the server's end does
    assert read_progress(state).step >= again["progress"]["step"]
    assert idle(client.get("/api/training").json())


def test_errors_of_a_run_are_told(client, settings, folders):
    (folders / "broken").mkdir(exist_ok=True)
    (folders / "broken" / "a.wav").write_bytes(b"RIFF but no audio")
    post(client, "", choice(folders, speech=[f"{folders.name}/broken"]))
    status = wait(client, idle)
    assert status["outcome"] == "failed"
    assert "a.wav" in status["words"]
    assert not status["runs"]


def test_what_there_is_not_is_refused(client):
    for place in ("/runs/none/resume", "/runs/none/export"):
        post(client, place, status=404)
    assert client.get("/api/training/runs/none/curves").status_code == 404
    assert client.get("/api/training/runs/..%2Fmodels/curves").status_code == 404
    post(client, "/stop", status=409)
    refused = client.post("/api/training", json={}, headers={"origin": "http://elsewhere"})
    assert refused.status_code == 403


def test_without_folders_nothing_is_trained(tmp_path, folders):
    from gan_denoise.pages.app import create_app

    app = create_app(ServeSettings(runs=tmp_path / "runs"))
    with starlette.TestClient(app, base_url="http://localhost") as client:
        assert "--data FOLDER" in client.get("/training").text
        assert "--data" in post(client, "", choice(folders), 403)["error"]
