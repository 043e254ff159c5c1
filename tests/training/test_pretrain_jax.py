"""scripts/pretrain_jax.py on the CPU: what it trains and saves is what TensorFlow would use."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gan_denoise.audio.writer import write

pytest.importorskip("jax", reason="JAX is not installed: scripts/pretrain_jax.py is not tried")
ROOT = Path(__file__).parents[2]
SMALL = ["generator.channels=[4,8]", "generator.width=16", "generator.blocks=2",
         "training.batch_size=2", "training.crop_seconds=0.5", "training.log_every=1",
         "training.validate_every=4", "data.valid_clips=2", "data.valid_seconds=1.0"]


def _in_backend(backend: str, code: str) -> str:
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _train(folder: Path, out: Path, *options: str) -> str:
    rng = np.random.default_rng(0)
    for kind in ("speech", "noise"):
        for name in ("a", "b"):
            path = folder / kind / name / "x.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, rng.normal(0, 0.1, 48000).astype("f4"), 16000)
    done = subprocess.run(
        [sys.executable, "scripts/pretrain_jax.py", "real-16k-pretrain", str(out), *SMALL,
         f"data.speech=[{folder / 'speech'}]", f"data.noise=[{folder / 'noise'}]",
         *options, "--workers", "2"],
        env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}, cwd=ROOT,
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_variants_train_on_the_batches_that_they_ask_for_and_any_backend_reads_them(tmp_path):
    out = tmp_path / "runs"
    _train(tmp_path, out, "training.steps=8", "--variant", "one", "--variant",
           "two:generator.width=24", "--variant", "again", "--variant", "clean:data.noiseless=1.0")
    logs = {name: [row.split(",")[2:] for row in (out / name / "log.csv").read_text().splitlines()]
            for name in ("one", "again", "clean")}
    assert logs["again"] == logs["one"]
    assert logs["clean"][0] == logs["one"][0]  # the columns
    assert all(theirs != ours for theirs, ours
               in zip(logs["clean"][1:], logs["one"][1:], strict=True))
    for name in ("one", "two"):
        rows = (out / name / "log.csv").read_text().splitlines()
        assert len(rows) == 1 + 8
        estimate = (
            "import numpy as np\n"
            "from gan_denoise.config.loader import load_config\n"
            "from gan_denoise.models.generators import build_generator\n"
            f"network = build_generator(load_config({str(out / name / 'config.yaml')!r}))\n"
            f"network.load_weights({str(out / name / 'generator.weights.h5')!r})\n"
            "noisy = np.random.default_rng(0).random((1, 40, 80)).astype('f4')\n"
            "print(np.asarray(network(noisy, training=False)).ravel()[::97].tolist())")
        ours, theirs = (np.array(eval(_in_backend(backend, estimate).splitlines()[-1]))
                        for backend in ("jax", "tensorflow"))
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_it_goes_on_from_weights_that_are_there(tmp_path):
    import h5py

    def weights(run: str) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        with h5py.File(tmp_path / run / "generator.weights.h5") as file:
            file.visititems(lambda _, item: found.append(item[()])
                            if isinstance(item, h5py.Dataset) else None)
        return found

    _train(tmp_path, tmp_path / "first", "training.steps=8")
    _train(tmp_path, tmp_path / "second", "training.steps=1", "training.learning_rate=1e-9",
           "training.seed=5", "--init", str(tmp_path / "first"))
    _train(tmp_path, tmp_path / "other", "training.steps=1", "training.learning_rate=1e-9",
           "training.seed=5")
    differ = [max(np.abs(a - b).max() for a, b in zip(weights("first"), weights(run), strict=True)
                  if a.size) for run in ("second", "other")]
    assert differ[0] < 0.1 < differ[1]  # batch norm's statistics move


def test_of_a_race_the_lowest_loss_goes_on(tmp_path):
    out = tmp_path / "runs"
    printed = _train(tmp_path, out, "training.steps=8", "--race", "0",
                     "--variant", "narrow", "--variant", "wide:generator.width=48",
                     "--variant", "open:losses.mel_weight=9")
    losses = {name: float(loss) for name, loss
              in re.findall(r"^(\w+): step 1 .* loss ([\d.]+)$", printed, re.MULTILINE)}
    steps = {name: len((out / name / "log.csv").read_text().splitlines()) - 1 for name in losses}
    first = max(steps, key=steps.get)
    assert sorted(steps.values()) == [1, 1, 8]
    assert losses[first] == min(losses.values()) < losses["open"]


def test_against_a_discriminator_the_predicted_score_rises(tmp_path):
    import csv

    import h5py

    weights = tmp_path / "model" / "discriminator.weights.h5"
    weights.parent.mkdir()
    _in_backend("jax", (
        "from gan_denoise.config.loader import load_config\n"
        "from gan_denoise.models.discriminators import build_discriminator\n"
        "config = load_config('real-16k-metric')\n"
        f"build_discriminator(config).save_weights({str(weights)!r})\n"))
    _train(tmp_path, tmp_path / "first", "training.steps=30", "training.learning_rate=0.01",
           "losses.adversarial_weight=50", "--against", str(weights.parent))
    rows = list(csv.DictReader((tmp_path / "first" / "log.csv").open()))
    scores = [-float(row["loss/adversarial"]) for row in rows]
    assert 0 < scores[0] < 1
    assert np.mean(scores[-5:]) > np.mean(scores[:5])
    assert float(rows[0]["total"]) < -50 * scores[0] + 10  # it counts, with its weight
    with h5py.File(tmp_path / "first" / "generator.weights.h5") as file:
        assert "discriminator" not in file
