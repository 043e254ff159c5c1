"""The demo in miniature: from made-up voices to a table, files and a picture."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gan_denoise import config, demo
from gan_denoise.checkpoint import LATEST, read_progress

NETWORK = ("generator.channels=[4, 8]", "generator.width=16", "generator.blocks=2")
SHORT = ("discriminator.channels=[4, 8]", "data.valid_clips=2", "data.valid_seconds=1.0",
         "losses.discriminator_warmup=2", "losses.adversarial_ramp=2", "training.steps=6",
         "training.batch_size=2", "training.crop_seconds=0.5", "training.warmup_steps=2",
         "training.validate_every=6")


@pytest.fixture
def miniature(monkeypatch):
    monkeypatch.setattr(demo, "SPEECH_MINUTES", 0.5)
    monkeypatch.setattr(demo, "TEST_CLIPS", 2)
    monkeypatch.setattr(demo, "FINETUNE", SHORT)
    monkeypatch.setattr(demo, "load_config", lambda source, overrides: config.load_config(
        source, [*overrides, *NETWORK, *SHORT]))


def test_the_demo_goes_the_whole_way(miniature, tmp_path):
    results, log = (Console(file=io.StringIO(), width=160) for _ in range(2))
    demo.run(tmp_path, results, log)
    shown = results.file.getvalue()
    for system in ("noisy", "pretrained", "fine-tuned", "oracle"):
        assert system in shown
    for column in ("SI-SDR", "PSNR", "MSE"):
        assert column in shown
    for word in ("D(real)", "D(fake)", "of the generator's", "tensorboard --logdir"):
        assert word in shown
    for name, kind in (("pretrained", "pretrain"), ("fine-tuned", "finetune")):
        progress = read_progress(tmp_path / "runs" / name / LATEST)
        assert (progress.kind, progress.step) == (kind, 6)
        assert (tmp_path / "models" / name / "model.onnx").is_file()
    names = {path.name for path in (tmp_path / "data/test/noisy").rglob("*.wav")}
    assert len(names) == 2
    assert {path.name for path in (tmp_path / "denoised").rglob("*.wav")} == names
    assert (tmp_path / "spectrograms.png").stat().st_size > 10_000
    assert any((tmp_path / "evaluation").iterdir())
