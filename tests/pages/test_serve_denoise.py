"""Files go up and come down as `denoise` would have written them; limits and faults in words."""

from __future__ import annotations

import re
import time
from urllib.parse import unquote

import httpx
import numpy as np
import pytest
import soundfile
from page_server import client, finish, noise_and_tone, running, server, upload

from gan_denoise import audio
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.model import DEFAULT_MODEL
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.pages import denoise_routes, previews

__all__ = ["client", "server"]  # fixtures


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer.load(threads=1)


@pytest.mark.parametrize(("name", "how"), [
    ("talk.wav", {}),
    ("talk.flac", {"rate": 48000, "channels": 2, "subtype": "PCM_24"}),
    ("talk.mp3", {"rate": 44100, "channels": 2}),
])
def test_the_result_is_what_denoise_writes(tmp_path, client, enhancer, name, how):
    source = noise_and_tone(tmp_path / name, **how)
    uploaded = upload(client, source)
    assert uploaded["seconds"] == pytest.approx(2, abs=0.01)
    job = finish(client, uploaded["id"])
    assert (job["state"], job["error"]) == ("done", "")
    enhancer.enhance_file(source, tmp_path / f"direct-{name}", tmp_path / f"removed-{name}")
    for kind, direct in (("result", "direct"), ("removed", "removed")):
        answer = client.get(f"/api/jobs/{job['id']}/{kind}")
        (tmp_path / f"{kind}-down-{name}").write_bytes(answer.content)
        down, rate = audio.read(tmp_path / f"{kind}-down-{name}")
        expected, expected_rate = audio.read(tmp_path / f"{direct}-{name}")
        assert rate == expected_rate
        np.testing.assert_array_equal(down, expected)
    assert 'filename="talk-removed' in answer.headers["content-disposition"]


@pytest.mark.parametrize(("query", "chosen"), [
    ("", []), ("?model=hush", ["hush"]), ("?model=none", []), ('?model="><script>', [])])
def test_a_link_chooses_the_model_before_any_script_runs(client, query, chosen):
    html = client.get(f"/{query}").text
    assert re.findall(r"<option selected>([^<]*)</option>", html) == chosen
    assert f"<option>{DEFAULT_MODEL}</option>" in html


def test_options_reach_the_model(tmp_path, client, enhancer):
    source = noise_and_tone(tmp_path / "talk.wav")
    identifier = upload(client, source)["id"]
    job = finish(client, identifier, model=DEFAULT_MODEL, preset="asr", strength=0.3,
                 inversion="gain", format="flac")
    assert job["names"]["result"] == "talk-denoised.flac"
    (tmp_path / "down.flac").write_bytes(client.get(f"/api/jobs/{job['id']}/result").content)
    options = DenoiseOptions.preset("asr", strength=0.3, format="flac")
    direct = enhancer.with_inversion("gain").with_options(options)
    direct.enhance_file(source, tmp_path / "direct.flac")
    np.testing.assert_array_equal(audio.read(tmp_path / "down.flac")[0],
                                  audio.read(tmp_path / "direct.flac")[0])


@pytest.mark.parametrize(("values", "word"), [
    ({"strength": 2}, "strength"), ({"atten_lim_db": -1}, "atten lim"),
    ({"inversion": "magic"}, "gain"), ({"preset": "magic"}, "podcast"),
    ({"model": "../../etc"}, DEFAULT_MODEL), ({"model": "/"}, DEFAULT_MODEL),
    ({"unknown": 1}, "unknown"),
    ({"inversion": "griffinlim", "strength": 0.5}, "griffinlim"),
])
def test_an_option_that_cannot_be_is_said(tmp_path, client, values, word):
    identifier = upload(client, noise_and_tone(tmp_path / "talk.wav"))["id"]
    answer = client.post("/api/jobs", json={"upload": identifier, **values})
    assert answer.status_code == 400
    assert word in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_the_preview_is_before_after_and_removed_in_step(tmp_path, client):
    source = noise_and_tone(tmp_path / "talk.wav")
    job = finish(client, upload(client, source)["id"])
    place = f"/api/jobs/{job['id']}/previews/0"
    preview = client.get(place).json()
    assert (preview["windows"], preview["seconds"]) == (1, 2.0)
    assert preview["player"].count("data:image/webp") == 3
    sounds = {}
    for kind in ("before", "after", "removed"):
        content = client.get(f"{place}/{kind}.flac").content
        (tmp_path / f"{kind}.flac").write_bytes(content)
        sounds[kind] = audio.read(tmp_path / f"{kind}.flac")[0]
    np.testing.assert_allclose(sounds["before"], audio.read(source)[0], atol=2**-15)
    # Each of the three is rounded to 16 bits, twice.
    np.testing.assert_allclose(sounds["after"] + sounds["removed"], sounds["before"],
                               atol=4 * 2**-15)
    part = client.get(f"{place}/before.flac", headers={"range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"fLaC")
    assert client.get(f"/api/jobs/{job['id']}/previews/1").status_code == 404


def test_a_long_recording_is_heard_in_parts(tmp_path, client, monkeypatch):
    for module in (previews, denoise_routes):
        monkeypatch.setattr(module, "WINDOW_SECONDS", 2)
    source = noise_and_tone(tmp_path / "long.wav", seconds=4.5)
    job = finish(client, upload(client, source)["id"])
    place = f"/api/jobs/{job['id']}/previews/2"
    preview = client.get(place).json()
    assert (preview["windows"], preview["start"], preview["seconds"]) == (3, 4, 0.5)
    (tmp_path / "part.flac").write_bytes(client.get(f"{place}/before.flac").content)
    np.testing.assert_allclose(audio.read(tmp_path / "part.flac")[0],
                               audio.read(source)[0][:, 4 * 16000:], atol=2**-15)


def test_the_example_is_ready(client):
    example = client.post("/api/uploads/example").json()
    job = finish(client, example["id"])
    assert job["state"] == "done"
    assert job["figures"]["noise_floor_drop_db"] > 3


@pytest.mark.parametrize(("content", "status", "word"), [
    (b"", 400, "empty"), (b"these are words, and no sound\n" * 50, 415, "talk.wav"),
    (bytes(5_000_001), 413, "5 MB"),
], ids=["empty", "text", "large"])
def test_a_file_that_cannot_be_denoised_is_refused_in_one_line(client, content, status, word):
    answer = client.post("/api/uploads", params={"name": "talk.wav"}, content=content)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert word in error
    assert "\n" not in error
    assert "/tmp" not in error


def test_a_body_of_unknown_length_is_cut_at_the_limit(client):
    parts = (bytes(100_000) for _ in range(60))
    answer = client.post("/api/uploads", params={"name": "talk.wav"}, content=parts)
    assert answer.status_code == 413


def test_a_recording_over_the_time_limit_is_refused(tmp_path, client):
    source = noise_and_tone(tmp_path / "long.wav", seconds=31)
    answer = client.post("/api/uploads", params={"name": "long.wav"}, content=source.read_bytes())
    assert answer.status_code == 413
    assert "0.5 minutes" in answer.json()["error"]


def test_a_header_that_hides_the_length_does_not_pass_the_limit(tmp_path, client):
    """A WAV from a pipe states no length: how long it is shows when it is decoded."""
    content = bytearray(noise_and_tone(tmp_path / "long.wav", seconds=40).read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    answer = client.post("/api/uploads", params={"name": "long.wav"}, content=bytes(content))
    error = (answer.json()["error"] if answer.status_code != 201
             else finish(client, answer.json()["id"])["error"])
    assert "0.5 minutes" in error


def test_names_with_paths_are_only_names(tmp_path, client):
    content = noise_and_tone(tmp_path / "talk.wav").read_bytes()
    for name in ("../../../evil.wav", "/etc/evil.wav", "C:\\x\\evil.wav", "a\r\nb/evil.wav"):
        answer = client.post("/api/uploads", params={"name": name}, content=content)
        assert answer.json()["name"] == "evil.wav"
    job = finish(client, answer.json()["id"])
    head = client.get(f"/api/jobs/{job['id']}/result").headers["content-disposition"]
    assert head == 'attachment; filename="evil-denoised.wav"'


def test_any_name_comes_back_with_the_result(tmp_path, client):
    source = noise_and_tone(tmp_path / "talk.wav", rate=8000, subtype="PCM_U8")
    name = "it's \"so\" 🎤 שלום 100%.wav"
    job = finish(client, upload(client, source, name)["id"])
    assert job["names"]["result"] == name.replace(".wav", "-denoised.wav")
    answer = client.get(f"/api/jobs/{job['id']}/result")
    sent = answer.headers["content-disposition"].partition("filename*=utf-8''")[2]
    assert unquote(sent) == job["names"]["result"]
    (tmp_path / "down.wav").write_bytes(answer.content)
    assert soundfile.info(tmp_path / "down.wav").subtype == "PCM_U8"


def test_one_visitor_does_not_fill_the_queue(tmp_path):
    source = noise_and_tone(tmp_path / "long.wav", seconds=60)
    with running(max_per_session=2) as (address, _), \
            httpx.Client(base_url=address, timeout=30) as visitor, \
            httpx.Client(base_url=address, timeout=30) as other:
        visitor.get("/")
        identifier = upload(visitor, source)["id"]
        jobs = [visitor.post("/api/jobs", json={"upload": identifier}) for _ in range(3)]
        assert [job.status_code for job in jobs] == [202, 202, 429]
        other.get("/")
        short = upload(other, noise_and_tone(tmp_path / "short.wav"))
        waiting = other.post("/api/jobs", json={"upload": short["id"]}).json()
        assert waiting["position"] >= 1
        for job in jobs[:2]:
            assert visitor.delete(f"/api/jobs/{job.json()['id']}").status_code == 204
        until = time.monotonic() + 30
        while other.get(f"/api/jobs/{waiting['id']}").json()["state"] != "done":
            assert time.monotonic() < until
            time.sleep(0.05)
        states = {job["state"] for job in visitor.get("/api/jobs").json()}
        assert states == {"cancelled"}
