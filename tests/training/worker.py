"""A worker of a training run in a process of its own, for `test_distributed`.

    python worker.py OUT KIND=CONFIG ... [--delay SECONDS] [--devices N] [--bad STEP ...]
        [--dead STEPS]

Trains each kind on tones in noise, into OUT/KIND; leaves OUT/KIND-RANK.npz, its state at the end,
and OUT/KIND-RANK.json, the named losses of each step; Ctrl-C ends a kind, as its steps do. With
--bad steps have a NaN in a clip of the first worker; with --dead the generator counts as dead after
so many steps, once.
"""

from __future__ import annotations

import argparse
import contextlib
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
from gan_denoise.training.monitor import Finding, Monitor


class Loudness:
    """Scores without PESQ, in place of its scorer."""

    def __init__(self, sample_rate, workers):
        self.scored = 0

    def scores(self, clean, estimate):
        self.scored += len(clean)
        return np.float32([10 * np.abs(wave).mean() for wave in estimate])

    def close(self):
        """There is nothing to end."""


def run(out: Path, name: str, config: str, delay: float, bad: list[int]) -> None:
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
        with contextlib.suppress(KeyboardInterrupt):
            train(settings, folder, "pretrain" if name == "pretrain" else "finetune",
                  material=tiny_material(bad, delay=delay))
        assert folder == out / name or not folder.exists()
    finally:
        start.Start.trainer, start.Trainer.train_step = make, step
    save_state(out / f"{name}-{rank}.npz", trainers[-1].variables(), trainers[-1].progress)
    (out / f"{name}-{rank}.json").write_text(json.dumps(steps))


def die_once(after: int) -> None:
    """Have the monitor of the chief call the generator dead after so many steps."""
    found = iter([()] * (after - 1) + [[Finding("gradient", "it is gone", dead=True)]])
    Monitor.after_step = lambda self, values: next(found, ())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--bad", type=int, nargs="+", default=[])
    parser.add_argument("--dead", type=int, default=0)
    given = parser.parse_args()
    if given.devices > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * given.devices)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    adversarial.PesqScorer = Loudness
    if given.dead:
        die_once(given.dead)
    for pair in given.runs:
        name, _, config = pair.partition("=")
        run(given.out, name, config, given.delay, given.bad)


if __name__ == "__main__":
    main()
