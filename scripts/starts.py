"""How training starts: a config from many seeds, until it has left the plateau of a constant gain.

    python scripts/starts.py demo data.speech=DIR data.noise=DIR ... --seeds 10 --csv starts.csv

Prints a row a seed and a summary row, as in docs/experiments.md. A start is dead where the monitor
of training says so; it begins again as a run does. It has left the plateau at the first look, every
20 steps, at which the average generator's MSE of the mel is 10 % below the least that any constant
gain reaches on the validation clips, or its SI-SDR is 1 dB above that of the noisy input.
"""

from __future__ import annotations

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from gan_denoise import metrics
from gan_denoise.config import load_config
from gan_denoise.data.datasets import batches, load_material
from gan_denoise.dsp import keras_bounds
from gan_denoise.models.generators import build_generator
from gan_denoise.training.monitor import GRADIENT, VARIATION, Monitor
from gan_denoise.training.restarts import MAX_RESTARTS, RESTART_SEEDS
from gan_denoise.training.trainer import Trainer, set_up

COLUMNS = ("name", "seed", "dead", "left", "least_gradient", "least_variation", "mse_mel", "si_sdr")
LOOK_EVERY = 20  # steps
MSE_SHARE = 0.9  # of the best constant gain's
SI_SDR_GAIN = 1.0  # dB over the noisy input
CUTS = np.arange(0.0, 60.5, 0.5)  # dB that constant gains are tried at


def main() -> None:
    """Parse, train from each seed, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("settings", nargs="*", help="section.key=value")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="seed to begin with")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--name", help="of the summary row")
    parser.add_argument("--csv", type=Path, help="file that rows are added to")
    parser.add_argument("--true-gradient", action="store_true",
                        help="heads without a slope back out of saturation: see bounds.py")
    given = parser.parse_args()
    if given.true_gradient:
        keras_bounds.LEAST_SLOPE = keras_bounds.LEAST_SLOPE_DB = 0.0
    name = given.name or " ".join([given.config, *(
        setting for setting in given.settings if not setting.startswith(("data.", "training.")))])
    starts = Starts(given.config, given.settings, given.steps)
    rows = []
    for seed in range(given.first, given.first + given.seeds):
        row = {"name": name, "seed": seed} | starts.train(seed)
        rows.append(row)
        print(" ".join(f"{key} {value}" for key, value in row.items()), flush=True)
        if given.csv is not None:
            new = not given.csv.exists()
            with open(given.csv, "a", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS)
                if new:
                    writer.writeheader()
                writer.writerow(row)
    left = [row["left"] for row in rows if row["left"]]
    told = f"{np.median(left):.0f} ({min(left)} to {max(left)})" if left else "none"
    print(f"| {name} | {sum(row['dead'] > 0 for row in rows)} | "
          f"{sum(min(row['dead'], MAX_RESTARTS) for row in rows)} | {told} | "
          f"{len(rows) - len(left)} | {min(row['least_gradient'] for row in rows):.1e} | "
          f"{min(row['least_variation'] for row in rows):.2g} |", flush=True)


class Starts:
    """One config, trained from the beginning again and again; its graphs are traced once.

    Args:
        config: Settings file or name of a shipped config.
        settings: `section.key=value`.
        steps: After which an attempt ends that has not left the plateau.
    """

    def __init__(self, config: str, settings: list[str], steps: int):
        self.steps, self.settings, self.source = steps, settings, config
        self.config = load_config(config, settings)
        set_up(self.config.training)
        self.material = load_material(self.config)
        self.trainer = Trainer(self.config, self.material)
        # Schedules as of the whole run; one that is given in minutes is long.
        self.trainer.progress.total_steps = self.config.training.steps or 20_000
        self.first = [np.asarray(v).copy() for v in self.trainer.variables().values()]
        # PESQ takes its time and decides nothing here.
        self.trainer.validation._waveform_scores = lambda clean, estimate: {
            "si_sdr": np.array([metrics.si_sdr(c, e) for c, e in zip(clean, estimate,
                                                                    strict=True)])}
        _, shown = self.trainer.validate()
        self.bar = self._constant_gain(shown["mels"])

    def train(self, seed: int) -> dict[str, float]:
        """Return a seed's dead starts and the step at which it left the plateau (0: never)."""
        dead, result = 0, {}
        while dead <= MAX_RESTARTS:
            result, lived = self._attempt(seed, seed + RESTART_SEEDS * dead)
            if lived:
                break
            dead += 1
        return {"dead": dead} | result

    def _attempt(self, seed: int, initial_seed: int) -> tuple[dict[str, float], bool]:
        trainer = self.trainer
        for variable, value in zip(trainer.variables().values(), self.first, strict=True):
            variable.assign(value)
        keras.utils.set_random_seed(initial_seed)
        fresh = build_generator(self.config).get_weights()
        for network in (trainer.generator, trainer.ema):
            network.set_weights(fresh)
        config = load_config(self.source, [*self.settings, f"training.seed={seed}"])
        monitor, history = Monitor(config, "pretrain", {}), []
        found = {"left": 0, "least_gradient": np.inf, "least_variation": np.inf}
        for number, noisy, clean in batches(load_material(config).train, config, 0):
            step = int(number) + 1
            values = trainer.train_step(step - 1, noisy, clean)
            found["least_gradient"] = min(found["least_gradient"], values[GRADIENT])
            found["least_variation"] = min(found["least_variation"], values[VARIATION])
            findings = monitor.after_step(values)
            if step % LOOK_EVERY == 0:
                scores, _ = trainer.validate()
                history.append({"step": step} | scores)
                findings += monitor.after_validation(history)
                if self._left(scores):
                    found["left"] = step
            if dead := any(finding.dead for finding in findings):
                return found, not dead
            if found["left"] or step >= self.steps:
                return found | {name: round(scores[name], 4) for name in ("mse_mel", "si_sdr")
                                if name in scores}, True
        raise AssertionError("batches are endless")

    def _left(self, scores: dict[str, float]) -> bool:
        heard = "si_sdr" in scores and scores["si_sdr"] > scores["si_sdr_noisy"] + SI_SDR_GAIN
        return heard or scores["mse_mel"] < MSE_SHARE * self.bar

    def _constant_gain(self, mels: dict[str, np.ndarray]) -> float:
        """Return the MSE of the mel at the constant gain that is best for each clip."""
        noisy, clean = (self.trainer.mel.mel_part(mels[name]) for name in ("noisy", "clean"))
        cuts = CUTS / self.config.mel.range_db
        return float(np.mean([min(np.mean((np.maximum(n - cut, 0) - c) ** 2) for cut in cuts)
                              for n, c in zip(noisy, clean, strict=True)]))


if __name__ == "__main__":
    main()
