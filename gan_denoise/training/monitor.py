"""Is a training run alive? What every run is watched for, step by step and at each validation.

A generator can die: its output saturates, its gradient vanishes, and it turns every recording down
by the same amount for ever, while the loss looks like any other number. A discriminator can win or
lose its game. Either gives one line when it is found; what a dead generator means for the run is
decided in `loop`. The thresholds are measured: docs/experiments.md, "Starts".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gan_denoise.config.schema import Config
from gan_denoise.metrics.baselines import BEST_GAIN

STEPS = 50  # in a row that a generator looks dead before it is called dead
LEAST_GRADIENT = 1e-6  # norm; in dying runs it falls below within 10 steps, healthy ones: > 1e-4
LEAST_VARIATION = 1e-3  # dB over time; dead outputs: rounding, fresh and healthy ones: > 1e-2
PLATEAU_STEPS = 2000  # most measured recipes beat the trivial systems within 300
GAME_STEPS = 100  # in a row that the game looks decided before it is called decided
WON = 0.05  # of the discriminator's loss at chance
LOST = 0.98  # of it
CHANCE = {"lsgan": 0.5, "hinge": 2.0, "bce": 2 * math.log(2)}  # the loss where it cannot tell
WRONG_SCORE = 0.25  # error of a metric discriminator, whose scores lie in [0, 1]

GRADIENT, VARIATION = "gradient_norm/generator", "output/variation_db"
NOISY_SUFFIX, GAIN_SUFFIX = "_noisy", "_best_gain"  # of a validation's values beside a metric's
SET_METRICS = ("si_sdr", "pesq_wb", "estoi")  # that a line shows of each set, noisy in brackets


@dataclass(frozen=True)
class Finding:
    """What is wrong with a run.

    Attributes:
        name: `gradient`, `output`, `unchanged`, `trivial`, `discriminator_won` or
            `discriminator_lost`; TensorBoard's tag is `watch/NAME`.
        text: What is seen and why it matters, one line.
        dead: Whether the generator cannot learn any more.
    """

    name: str
    text: str
    dead: bool = False


class Monitor:
    """Watches one run.

    Args:
        config: Settings of the run.
        kind: `pretrain` or `finetune`.
        counters: What it has counted so far, by name; part of the run's state, so that a resumed
            run finds what an uninterrupted one would.
    """

    def __init__(self, config: Config, kind: str, counters: dict[str, int]):
        self.config, self.kind, self.counters = config, kind, counters

    def after_step(self, values: Mapping[str, float]) -> list[Finding]:
        """Return what a step's named values give away, each finding once until it has passed."""
        findings = []
        if GRADIENT in values:  # not while the discriminator learns alone
            norm, variation = values[GRADIENT], values.get(VARIATION, math.inf)
            if self._lasts("gradient", norm < LEAST_GRADIENT, STEPS):
                findings.append(Finding("gradient", (
                    f"the generator's gradient has been next to nothing ({norm:.1g}) for {STEPS} "
                    "steps: it does not learn any more"), dead=True))
            if self._lasts("output", variation < LEAST_VARIATION, STEPS):
                findings.append(Finding("output", (
                    f"the generator's output has not varied over time for {STEPS} steps: it does "
                    "the same to every sound, speech or noise"), dead=True))
        if "loss/discriminator" in values:
            findings += self._game(values)
        return findings

    def after_validation(
        self, history: Sequence[Mapping[str, float]], last: bool = False
    ) -> list[Finding]:
        """Return what the last of a run's validations gives away.

        Args:
            history: Validation values by name, with their `step`.
            last: Whether the run ends here.
        """
        findings = []
        now = history[-1]
        trained_from = self.config.losses.discriminator_warmup if self.kind == "finetune" else 0
        if len(history) > 1 and history[-2]["step"] > trained_from:
            before = history[-2]
            same = [name for name in now if name in before and not name.endswith(
                (NOISY_SUFFIX, GAIN_SUFFIX)) and not name.startswith(("step", "discriminator/"))]
            if same and all(now[name] == before[name] for name in same):
                findings.append(Finding("unchanged", (
                    f"the validations of steps {before['step']} and {now['step']} are equal to "
                    "the last digit: the generator does not change any more"), dead=True))
        metric = self.config.training.select_by
        if (last or now["step"] >= PLATEAU_STEPS) and metric in now:
            beaten = beats_trivial(now, metric)
            if self._lasts("trivial", beaten is False, 1):
                bar = trivial_score(now, metric)
                findings.append(Finding("trivial", (
                    f"after {now['step']} steps {metric} {now[metric]:.4g} is no better than "
                    f"the noisy input or a constant gain ({bar:.4g}): this model is of "
                    "no use yet. Look at the data with gan-denoise check, train longer, or with "
                    "a lower training.learning_rate")))
        return findings

    def _game(self, values: Mapping[str, float]) -> list[Finding]:
        if "discriminator/score" in values:  # of the metric discriminator
            error = abs(values["discriminator/fake"] - values["discriminator/score"])
            if self._lasts("lost", error > WRONG_SCORE, GAME_STEPS):
                return [Finding("discriminator_lost", (
                    f"the discriminator has been wrong by {error:.2f} of PESQ's range, where 1 is "
                    f"all of it, for {GAME_STEPS} steps: it draws the generator nowhere. Change "
                    "discriminator.learning_rate"))]
            return []
        loss, chance = values["loss/discriminator"], CHANCE[self.config.discriminator.loss]
        if self._lasts("won", loss < WON * chance, GAME_STEPS):
            return [Finding("discriminator_won", (
                f"the discriminator has won: for {GAME_STEPS} steps it has told every estimate "
                f"from clean speech (D(fake) {values['discriminator/fake']:.2f}, gradient "
                f"{values['gradient_norm/discriminator']:.1g}), and the generator learns nothing "
                "from it. Lower discriminator.learning_rate, or raise losses.adversarial_weight"))]
        apart = values["discriminator/real"] - values["discriminator/fake"]
        if self._lasts("lost", loss > LOST * chance and apart < 1 - LOST, GAME_STEPS):
            return [Finding("discriminator_lost", (
                f"the discriminator has lost: for {GAME_STEPS} steps it has not told estimates "
                f"from clean speech (D(real) {values['discriminator/real']:.2f}, D(fake) "
                f"{values['discriminator/fake']:.2f}), and the generator learns nothing from it. "
                "Raise discriminator.learning_rate or discriminator.channels"))]
        return []

    def _lasts(self, name: str, seen: bool, steps: int) -> bool:
        """Count how often in a row something was seen; return True at the last of `steps`."""
        self.counters[name] = self.counters.get(name, 0) + 1 if seen else 0
        return self.counters[name] == steps


def trivial_score(values: Mapping[str, float], metric: str) -> float:
    """Return what a model must beat: the best of noisy input, best constant gain and silence.

    NaN where none is known. Silence has an SNR of 0 dB, and no SI-SDR and PESQ.
    """
    bars = [values[metric + suffix] for suffix in (NOISY_SUFFIX, GAIN_SUFFIX)
            if metric + suffix in values]
    if metric.startswith("snr"):
        bars.append(0.0)
    return max(bars, default=math.nan)


def beats_trivial(values: Mapping[str, float], metric: str) -> bool | None:
    """Return whether a validation beats the trivial systems; None where that is not known."""
    bar, score = trivial_score(values, metric), values.get(metric, math.nan)
    return None if math.isnan(bar) or math.isnan(score) else score > bar


def summary(values: Mapping[str, float]) -> str:
    """Return a validation in one line: each metric, and beside it what a model must beat.

    What stands beside the metrics is named at the first one. Of each set of clips apart, and of the
    easy ones, three metrics that are heard.
    """
    parts, sets, labelled = [], {}, False
    for name, value in values.items():
        if name.endswith((NOISY_SUFFIX, GAIN_SUFFIX)):
            continue
        group, _, metric = name.rpartition("/")
        if group and metric in SET_METRICS:
            noisy = values.get(name + NOISY_SUFFIX)
            beside = "" if noisy is None else f" ({noisy:.4g})"
            sets.setdefault(group, []).append(f"{metric} {value:.4g}{beside}")
        if group and group != "discriminator":
            continue
        beside = [("" if labelled else f"{label} ") + f"{values[name + suffix]:.4g}"
                  for label, suffix in (("noisy", NOISY_SUFFIX), (BEST_GAIN, GAIN_SUFFIX))
                  if name + suffix in values]
        labelled = labelled or len(beside) == 2
        parts.append(f"{name} {value:.4g}" + (f" ({', '.join(beside)})" if beside else ""))
    return " · ".join((*parts, *(f"{group}: {', '.join(own)}" for group, own in sets.items())))
