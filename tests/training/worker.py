"""A worker of a training run in a process of its own, for `test_distributed`.

    python worker.py OUT KIND=CONFIG ... [--delay SECONDS] [--devices N]

Trains each kind on tones in noise, into OUT/KIND; leaves OUT/KIND-RANK.npz, its state at the end,
and OUT/KIND-RANK.json, the named losses of each step.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from conftest import tiny_material

from gan_denoise.config import load_config
from gan_denoise.training import adversarial, start
from gan_denoise.training.checkpoints import save_state
from gan_denoise.training.loop import train


class Loudness:
    """Scores without PESQ, in place of its scorer."""

    def __init__(self, sample_rate, workers):
        self.scored = 0

    def scores(self, clean, estimate):
        self.scored += len(clean)
        return np.float32([10 * np.abs(wave).mean() for wave in estimate])

    def close(self):
        """There is nothing to end."""


def run(out: Path, name: str, config: str, delay: float) -> None:
    rank = json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", 0)
    trainers, steps = [], []
    make, step = start.Start.trainer, start.Trainer.train_step

    def kept(self, *arguments, **options):
        trainers.append(make(self, *arguments, **options))
        return trainers[-1]

    def noted(self, *arguments):
        steps.append(step(self, *arguments))
        return dict(steps[-1])

    start.Start.trainer, start.Trainer.train_step = kept, noted
    try:
        settings = load_config(config)
        folder = out / (f"none-{rank}" if rank else name)  # only the chief's is used
        train(settings, folder, "pretrain" if name == "pretrain" else "finetune",
              material=tiny_material(delay=delay))
        assert folder == out / name or not folder.exists()
    finally:
        start.Start.trainer, start.Trainer.train_step = make, step
    save_state(out / f"{name}-{rank}.npz", trainers[-1].variables(), trainers[-1].progress)
    (out / f"{name}-{rank}.json").write_text(json.dumps(steps))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--devices", type=int, default=1)
    given = parser.parse_args()
    if given.devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * given.devices)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    adversarial.PesqScorer = Loudness
    for pair in given.runs:
        name, _, config = pair.partition("=")
        run(given.out, name, config, given.delay)


if __name__ == "__main__":
    main()
