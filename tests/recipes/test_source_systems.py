"""The systems that this project grew from, in miniature: every stage, and none of them twice."""

from __future__ import annotations

import dataclasses
import functools
import json

import pytest

from gan_denoise.cli import recipes
from gan_denoise.config import ConfigError
from gan_denoise.evaluation.evaluate_waveforms import evaluate
from gan_denoise.recipes import source_systems
from gan_denoise.recipes.source_systems import RecipeError, Recordings, reproduce

pytestmark = pytest.mark.usefixtures("eager")
SMALL = ("training.steps=2", "training.batch_size=2", "training.validate_every=2",
         "generator.channels=[2, 3]", "discriminator.channels=[3, 4]", "data.valid_clips=2",
         "losses.discriminator_warmup=1")


@pytest.fixture(scope="module")
def few(eager):
    """Few clips, scored in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"TEST_CLIPS": 2, "TRAIN_CLIPS": 8, "TEST_SECONDS": 1.0,
                            "SPEECH_SNRS": (5.0,), "STFT_CLIPS": 6, "ROOMS": 2}.items():
            patch.setattr(source_systems, name, value)
        patch.setattr(source_systems, "evaluate", functools.partial(evaluate, jobs=1))
        yield


@pytest.fixture(scope="module")
def spectrograms(few, tmp_path_factory):
    """(folder, evaluations) of the system that needs no recordings."""
    folder, seen = tmp_path_factory.mktemp("spectrograms"), {}
    evaluations = reproduce("spectrograms", folder, Recordings(), SMALL,
                            on_scores=seen.__setitem__)
    assert evaluations == seen
    return folder, evaluations


@pytest.fixture
def recordings(folders):
    voices = [folders / "speech" / f"speaker{number}" for number in range(4)]
    return Recordings(voices[:3], [folders / "noise"], voices[3:], [folders / "noise"])


def scored(folder):
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_spectrograms_are_trained_and_scored_by_snr(spectrograms):
    folder, evaluations = spectrograms
    assert set(evaluations) == {"scores", "scores-by-snr"}
    assert evaluations["scores"].systems == tuple(scored(folder / "scores")["systems"])
    assert scored(folder / "scores")["systems"] == ["noisy", "model", "silence",
                                                      "best gain"]
    by_snr = scored(folder / "scores-by-snr")["by_snr"]
    assert list(by_snr) == [f"{snr:g} dB" for snr in source_systems.TEST_SNRS]
    for group in by_snr.values():
        assert group["files"] == 2
        assert group["margin"]["model"]["snr_mel"] > 0
    assert (folder / "scores" / "mels.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("system", "systems", "settings"), [
    ("audio-mnist", {"model"}, ("training.crop_seconds=0.5", "generator.channels=[2,3,4]")),
    ("hybrid", {"model"}, ("generator.latent=4",)),
    ("ae-gan", {f"{name}, {how}" for name in ("pretrained", "fine-tuned")
                for how in ("griffinlim", "gain")} | {"default"},
     ("inversion.griffinlim_steps=2",)),
    ("stft", {"cnn", "cnn, merged", "unet", "unet, merged"}, ("training.crop_seconds=1.0",)),
])
def test_systems_on_recordings_go_the_whole_way(few, tmp_path, recordings, system, systems,
                                                settings):
    if system == "stft":
        pytest.importorskip("pyroomacoustics")
    out = tmp_path / system
    reproduce(system, out, recordings, (*SMALL, *settings))
    name = "scores-audio-level" if system == "hybrid" else "scores"
    found = scored(out / name)
    others = {"noisy", "silence", "best gain"}
    assert {s for s in found["systems"] if not s.startswith("oracle")} == systems | others
    assert found["files"] == 2
    assert (out / name / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
    assert found["summary"]["silence"]["snr"]["mean"] == 0
    for model in systems:
        assert found["summary"][model]["si_sdr"]["mean"] is not None
    if system == "stft":
        rooms = {name: {row["rt60"] for row in json.loads((out / name / "rooms.json").read_text())}
                 for name in ("rooms", "test-rooms")}
        assert not rooms["rooms"] & rooms["test-rooms"]
    if system == "hybrid":
        for level in ("audio", "feature"):
            mel = scored(out / f"scores-{level}-level-mel")
            assert mel["summary"]["model"]["psnr_mel"]["mean"] > 0


def test_what_is_done_is_not_done_again(spectrograms, monkeypatch):
    folder, _ = spectrograms
    first = scored(folder / "scores")
    for stage in ("train", "export"):
        monkeypatch.setattr(source_systems, stage, lambda *_, **__: pytest.fail("done before"))
    reproduce("spectrograms", folder, Recordings(), SMALL)
    assert scored(folder / "scores") == first


def test_a_folder_of_another_study_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.setitem(source_systems.SYSTEMS, "spectrograms",
                        lambda stages: (stages.out / "runs").mkdir(exist_ok=True))
    for _ in range(2):
        reproduce("spectrograms", tmp_path, Recordings(), SMALL)
    with pytest.raises(RecipeError, match="made with other settings"):
        reproduce("spectrograms", tmp_path, Recordings(), ())


def test_a_mistake_can_be_mended(tmp_path):
    with pytest.raises(ConfigError, match=r"training\.stepz"):
        reproduce("spectrograms", tmp_path, Recordings(), ["training.stepz=2"])
    with pytest.raises(ConfigError, match=r"training\.stepy"):
        reproduce("spectrograms", tmp_path, Recordings(), ["training.stepy=2"])


def test_a_system_without_its_recordings_says_which(tmp_path, recordings):
    with pytest.raises(RecipeError, match="give --speech DIR, --noise DIR, --test-speech DIR"):
        reproduce("hybrid", tmp_path, Recordings(), ())
    with pytest.raises(RecipeError, match="there are spectrograms, audio-mnist"):
        reproduce("dae", tmp_path, recordings, ())


def test_recordings_that_are_not_there_are_named_before_any_work(tmp_path, recordings):
    lost = dataclasses.replace(recordings, test_noise=[tmp_path / "lost"])
    with pytest.raises(RecipeError, match="lost: is not there"):
        reproduce("hybrid", tmp_path / "out", lost, ())
    assert not (tmp_path / "out").exists()


def test_the_help_names_every_system():
    assert all(name in recipes.seeds.__annotations__["system"] for name in source_systems.SYSTEMS)
