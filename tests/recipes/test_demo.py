"""The demo in miniature: from made-up voices to a table, files and a picture."""

from __future__ import annotations

import contextlib
import functools
import io
import sys

import pytest
from conftest import logged
from PIL import Image
from rich.console import Console

from gan_denoise import Enhancer, audio, config, examples
from gan_denoise.cli import main
from gan_denoise.cli.training_output import render_demo
from gan_denoise.config.artifacts import LATEST
from gan_denoise.config.saved import settings_of
from gan_denoise.evaluation.evaluate_waveforms import evaluate
from gan_denoise.evaluation.results import Evaluation, FileScores
from gan_denoise.inference.model import DEFAULT_MODEL
from gan_denoise.metrics import METRICS
from gan_denoise.metrics.baselines import NOISY
from gan_denoise.recipes import demo
from gan_denoise.training.checkpoints import read_progress

pytestmark = pytest.mark.usefixtures("eager")
NETWORK = ("generator.channels=[4, 8]", "generator.width=16", "generator.blocks=2")
SHORT = ("discriminator.channels=[4, 8]", "data.valid_clips=2", "data.valid_seconds=1.0",
         "losses.discriminator_warmup=2", "losses.adversarial_ramp=2", "training.steps=6",
         "training.batch_size=2", "training.crop_seconds=0.5", "training.warmup_steps=2",
         "training.validate_every=6")
SETTINGS = ("training.seed=3",)


@pytest.fixture
def miniature(monkeypatch):
    monkeypatch.setattr(demo, "SPEECH_MINUTES", 0.5)
    monkeypatch.setattr(demo, "TEST_CLIPS", 2)
    monkeypatch.setattr(demo, "evaluate", functools.partial(evaluate, jobs=1))
    monkeypatch.setattr(demo, "FINETUNE", SHORT)
    monkeypatch.setattr(demo, "load_config", lambda source, overrides: config.load_config(
        source, [*overrides, *NETWORK, *SHORT]))


def test_the_demo_goes_the_whole_way(miniature, tmp_path):
    with logged() as lines:
        result = demo.run(tmp_path, SETTINGS)
    assert "pretraining the autoencoder" in lines
    with pytest.raises(demo.DemoError, match="does not beat"):  # six steps make no denoiser
        result.require_improvement()
    console = Console(file=io.StringIO(), width=160)
    render_demo(result, console)
    shown = console.file.getvalue()
    assert "no better than them" in shown
    for system in ("noisy", "pretrained", "fine-tuned", "oracle"):
        assert system in shown
    assert "real recording" in shown
    assert DEFAULT_MODEL in shown
    for column in ("SI-SDR", "PSNR", "MSE"):
        assert column in shown
    for word in ("D(real)", "D(fake)", "of the generator's", "tensorboard --logdir"):
        assert word in shown
    for name, kind in (("pretrained", "pretrain"), ("fine-tuned", "finetune")):
        progress = read_progress(tmp_path / "runs" / name / LATEST)
        assert (progress.kind, progress.step) == (kind, 6)
        assert settings_of(tmp_path / "runs" / name).training.seed == 3
        assert (tmp_path / "models" / name / "model.onnx").is_file()
    names = {path.name for path in (tmp_path / "data/test/noisy").rglob("*.wav")}
    assert len(names) == 2
    assert {path.name for path in (tmp_path / "denoised").rglob("*.wav")} == names
    assert (tmp_path / "spectrograms.png").stat().st_size > 10_000
    assert any((tmp_path / "evaluation").iterdir())


def test_the_demo_ends_with_a_real_recording_which_the_shipped_model_cleans(tmp_path):
    shipped = Enhancer.load()
    evaluation, picture = demo.clean_recording(shipped, tmp_path)  # stands for the demo's model
    before, after = (evaluation.mean(system, "si_sdr") for system in (NOISY, shipped.name))
    assert after > before + 4
    assert evaluation.mean(demo.TUNED, "si_sdr") == after
    for system in (NOISY, "clean", demo.TUNED, shipped.name):
        written = audio.read_mono(tmp_path / "recording" / system / "speech.wav", 16000)
        assert len(written) == len(audio.read_mono(examples.clean_speech(), 16000))
    width, height = Image.open(picture).size
    assert width > 900
    assert height > 4 * 150  # four spectrograms


# ---- The verdict -------------------------------------------------------------------------------
def evaluation(**changes):
    """Scores of two files; the fine-tuned model's lie above the noisy ones' by `changes`."""
    noisy = {"si_sdr": 5.0, "pesq_wb": 1.2, "stoi": 0.85}
    tuned = {metric: score + changes.get(metric, 0.1) for metric, score in noisy.items()}
    rows = tuple(FileScores(name, system, 5.0, 4.0, 16000, scores=scores, refused={}, lag=None)
                 for name in "ab" for system, scores in ((NOISY, noisy), (demo.TUNED, tuned)))
    return Evaluation((NOISY, demo.TUNED), rows)


def test_a_model_that_beats_noisy_on_each_metric_has_won_and_the_line_says_what():
    won, line = demo.verdict(evaluation(si_sdr=4.0, stoi=0.031))
    assert won
    assert "SI-SDR 5.00 -> 9.00" in line
    assert "STOI 0.850 -> 0.881" in line
    assert "no better" not in line


@pytest.mark.parametrize("metric", demo.JUDGED_BY)
@pytest.mark.parametrize("change", [0.0, -0.01])
def test_a_model_that_does_not_beat_noisy_on_one_metric_has_not_won(metric, change):
    won, line = demo.verdict(evaluation(**{metric: change}))
    assert not won
    beaten, _, not_beaten = line.partition("no better than them: ")
    label = METRICS[metric].label
    assert label in not_beaten
    assert label not in beaten


def test_a_demo_that_has_not_won_ends_with_exit_1_and_one_line(monkeypatch):
    def fail(*arguments, **options):
        raise demo.DemoError("no better")

    monkeypatch.setattr(demo, "run", fail)
    monkeypatch.setattr(sys, "argv", ["gan-denoise", "demo"])
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert errors.getvalue().splitlines() == ["error: no better"]
