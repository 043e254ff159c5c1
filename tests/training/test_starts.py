"""Every generator learns from any seed, as any processor computes: no start is a lottery."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import TinySource, tiny_config, tiny_material

from gan_denoise.config.registry import KINDS
from gan_denoise.models.generators import GENERATORS, build_generator
from gan_denoise.training.trainer import Trainer

SEEDS = (0, 1, 2)
STEPS = 120  # within which it has learned
LOOK = 40  # steps between validations
MARGIN = 0.5  # dB of SI-SDR over the noisy clips, which is also that of any constant gain
# What leads a network into the floor: a shallow one, the complex term, a rate that is too high.
HARD = {
    "generator": {"channels": [8, 12], "width": 24, "blocks": 4, "gain_floor_db": 25.0,
                  "batch_norm": False},
    "losses": {"mel_weight": 0.5, "magnitude_weight": 0.6, "complex_weight": 0.3},
    "training": {"learning_rate": 2e-2, "warmup_steps": 10, "ema_decay": 0.97},
}


class Learner:
    """One network, whose graphs are traced once, trained from several seeds."""

    def __init__(self, name, head):
        generator = {key: value for key, value in HARD["generator"].items()
                     if key in KINDS["generator"].classes[name].model_fields
                     and (head == "gain" or key != "gain_floor_db")}
        self.config = tiny_config(**HARD | {"generator": generator | {"name": name, "head": head}})
        self.trainer = Trainer(self.config, tiny_material())
        self.trainer.progress.total_steps = 10 * STEPS  # the rate stays up
        self.first = [np.asarray(v).copy() for v in self.trainer.variables().values()]

    def train(self, seed, prepare=lambda generator: None, steps=STEPS):
        """Return the improvement of SI-SDR in dB, on other clips, within a few steps from a seed.

        A network that has left the noisy input behind it by the margin need not go on.
        """
        for variable, value in zip(self.trainer.variables().values(), self.first, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(seed)
        fresh = build_generator(self.config)
        prepare(fresh)
        for network in (self.trainer.generator, self.trainer.ema):
            network.set_weights(fresh.get_weights())
        for step in range(steps):
            self.trainer.train_step(step, *TinySource().batch(1000 * seed + step, 2))
            if (step + 1) % LOOK == 0 and (gained := self.improvement()) > MARGIN:
                break
        return gained

    def improvement(self):
        values, _ = self.trainer.validate()
        return values["si_sdr"] - values["si_sdr_noisy"]


@pytest.mark.parametrize("head", ["gain", "direct"])
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_every_generator_and_head_learns_from_three_seeds(name, head):
    learner = Learner(name, head)
    gained = [learner.train(seed) for seed in SEEDS]
    assert min(gained) > MARGIN, gained


def test_it_learns_too_as_another_processor_computes():
    """oneDNN chooses its instructions by the processor; here it may not use those of newer ones."""
    environment = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "addopts=", "-p", "no:cacheprovider", __file__,
         "-k", "learns_from_three_seeds and conv_autoencoder and gain"],
        env=environment, capture_output=True, text=True,
    )
    assert result.returncode == 0, result.stdout
    assert "1 passed" in result.stdout


@pytest.mark.parametrize("head", ["gain", "direct"])
def test_a_network_that_starts_in_saturation_comes_back(head):
    """Its output is at the lowest everywhere: a sigmoid's own gradient is zero there."""

    def saturate(generator):
        last = [layer for layer in generator.layers if hasattr(layer, "kernel")][-1]
        last.bias.assign(np.full(last.bias.shape, -30.0, np.float32))

    assert Learner("unet", head).train(0, saturate, 3 * STEPS) > MARGIN
