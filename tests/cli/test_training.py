"""`gan-denoise pretrain`, `finetune` and `export`, and the scripts, on made-up recordings."""

from __future__ import annotations

import functools
import json
import runpy
import sys
from pathlib import Path

import pytest
from command_line import refused, run_main, write_recordings

from gan_denoise.data import synthetic_audio
from gan_denoise.inference.model import DEFAULT_MODEL

pytestmark = pytest.mark.usefixtures("eager")
SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Made-up voices and noises, to train and to test on."""
    folder = tmp_path_factory.mktemp("corpus")
    synthetic_audio.write_corpus(folder, minutes=0.4)
    return folder


def training_data(corpus):
    return (f"data.speech={corpus}/speech/train", f"data.noise={corpus}/noise/train",
            f"data.cache={corpus}/cache")


def test_training_refuses_bad_settings_and_material(recordings, tmp_path, monkeypatch, capfd):
    refusal = functools.partial(refused, monkeypatch, capfd)
    run = ("--run", tmp_path / "run")
    steps = "training.steps=1"
    assert "did you mean 'data.speech'" in refusal(
        "pretrain", *run, "data.speach=x", steps)
    assert "training.steps" in refusal("pretrain", *run, "training.steps=many")
    assert "nothing to train on" in refusal("pretrain", *run, steps)
    assert "there is no 'gpt'" in refusal(
        "pretrain", "--run", tmp_path / "run2", "generator.name=gpt", steps,
        f"data.clean={recordings}")
    missing = refusal("finetune", "--run", tmp_path / "run3", "--init", tmp_path / "nothing", steps)
    assert "no such model" in missing


def test_the_main_job_through_the_scripts(corpus, tmp_path, monkeypatch, capfd):
    """Pretrain, fine-tune, export, evaluate: each by its own command, on made-up recordings."""

    def script(name, *arguments):
        path = str(SCRIPTS / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(path, run_name="__main__")
        said, errors = capfd.readouterr()
        assert ended.value.code == 0, errors
        return said

    def command(*arguments):
        code, _, errors = run_main(monkeypatch, capfd, *arguments)
        assert code == 0, errors

    assert "6 steps" in script("pretrain", "--config", "debug", "--run", tmp_path / "pre",
                               *training_data(corpus))
    assert "6 steps" in script("finetune", "--config", "debug", "--run", tmp_path / "fine",
                               "--init", tmp_path / "pre")
    command("export", tmp_path / "fine", "-o", tmp_path / "model")
    assert (tmp_path / "model" / "discriminator.weights.h5").is_file()
    pairs = tmp_path / "pairs"
    command("mix", "--speech", corpus / "speech/test", "--noise", corpus / "noise/test",
            "--out", pairs, "--count", 2, "--seconds", 3)
    table = script("evaluate", "--model", tmp_path / "model", "--noisy", pairs / "noisy", "--clean",
                   pairs / "clean", "--out", tmp_path / "scores", "-j", "1")
    assert "oracle" in table
    rows = json.loads((tmp_path / "scores/scores.json").read_text())["rows"]
    assert len(rows) == 2 * 3  # pairs, and noisy, model, oracle
    assert {row["system"] for row in rows} == {"noisy", "model", "oracle"}
    script("denoise", pairs / "noisy", "-o", tmp_path / "out", "-m", tmp_path / "model")
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 2


def test_finetuning_starts_from_the_shipped_model_or_a_run(corpus, tmp_path, monkeypatch, capfd):
    """With its discriminator where there is one and the settings agree, else with a new one."""
    for name, init, said in (("own", DEFAULT_MODEL, "starts anew"),
                             ("again", tmp_path / "own", "both networks")):
        code, _, errors = run_main(
            monkeypatch, capfd, "finetune", "--config", "debug", "--run", tmp_path / name,
            "--init", init, *training_data(corpus), "training.steps=2", "training.batch_size=2",
            "training.crop_seconds=0.5", "data.valid_clips=1", "data.valid_seconds=0.5")
        assert code == 0, errors
        assert said in " ".join(errors.split())
