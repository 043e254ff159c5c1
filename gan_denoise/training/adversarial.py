"""A discriminator in training: what it learns from, and the loss that it gives the generator.

`PatchAdversary` tells clean mels from estimates, patch by patch. `MetricAdversary` predicts the
PESQ of an estimate from what the estimate is given by PESQ itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from gan_denoise.config.kinds import MetricDiscriminator
from gan_denoise.config.schema import Config
from gan_denoise.dsp.inversion import band_gain
from gan_denoise.dsp.mel import Mel
from gan_denoise.models.discriminators import build_discriminator
from gan_denoise.training import losses
from gan_denoise.training.objective import Objective
from gan_denoise.training.optimizers import make_optimizer, snapshot, update
from gan_denoise.training.pesq_scorer import PesqScorer
from gan_denoise.training.replay_buffer import Replay


class Mels(NamedTuple):
    """mel01 of a batch, `[batch, frames, n_mels]` each.

    Attributes:
        noisy: mel01 of the mixtures.
        clean: mel01 of the clean recordings.
        estimate: The generator's output.
        candidate: What is judged in place of the clean one.
    """

    noisy: Any
    clean: Any
    estimate: Any
    candidate: Any


def make_adversary(
    config: Config, objective: Objective, mel: Mel, frames: int, scorer: Any = None
) -> Adversary:
    """Build the adversary that `discriminator.kind` names.

    Args:
        config: Settings.
        objective: The reconstruction loss of the generator, whose gain is scored.
        mel: The transform of the mels.
        frames: Length of a training crop in frames.
        scorer: Scores estimates for a metric discriminator; None: PESQ.
    """
    if isinstance(config.discriminator, MetricDiscriminator):
        return MetricAdversary(config, objective, mel, frames, scorer)
    return PatchAdversary(config)


class Adversary(ABC):
    """A discriminator with its optimizer.

    Args:
        config: Settings; `discriminator`, `losses`, `training` and `mel` are used.
    """

    kind: str  # of the loss that the generator is given: see `losses.generator_loss`

    def __init__(self, config: Config):
        self.config = config
        self.network = build_discriminator(config)
        self.optimizer = make_optimizer(self.network, "adam", config.training)

    def holders(self) -> dict[str, Any]:
        """Return what holds the variables of a checkpoint, by name."""
        return {"discriminator": self.network, "d_optimizer": self.optimizer}

    def close(self) -> None:  # noqa: B027 (most have nothing to end)
        """End the processes that it has started, if any."""

    @abstractmethod
    def reference(self, mels: Mels) -> Any:
        """Return the mel that a candidate is judged beside."""

    @abstractmethod
    def candidate(self, noisy: Any, spectra: Mapping[str, Any], estimate: Any) -> Any:
        """Return the mel that is judged of an estimate; arguments as of `Objective.heard`."""

    @abstractmethod
    def learn(
        self, step: int, noisy: Any, clean: Any, mels: Mels, schedule: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Train the discriminator; it sees no generator, so it can change none.

        Args:
            step: Number of the step.
            noisy: Waveforms of the batch, `[batch, samples]`.
            clean: The same of the clean recordings.
            mels: mel01 of the batch.
            schedule: `d_rate` of this step.

        Returns:
            Named values; `finite` is 0 where the step was undone.
        """

    def generator_loss(self, mels: Mels, schedule: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Return the generator's adversarial terms by name, unweighted, and their weighted sum.

        Args:
            mels: mel01 of the batch.
            schedule: `adversarial_weight` and `feature_weight` of this step.
        """
        reference = self.reference(mels)
        # training=False: the generator's step must not move the discriminator's vectors.
        logits, *fake = self.network([reference, mels.candidate], training=False)
        terms = {"loss/adversarial": losses.generator_loss(logits, self.kind)}
        total = schedule["adversarial_weight"] * terms["loss/adversarial"]
        if getattr(self.config.discriminator, "feature_weight", 0.0):
            _, *real = self.network([reference, mels.clean], training=False)
            value = losses.feature_matching([ops.stop_gradient(r) for r in real], fake)
            terms["loss/features"] = value
            total += schedule["feature_weight"] * value
        return terms, total

    def _update(self, tape: tf.GradientTape, loss: Any, before: list[Any], rate: Any
                ) -> dict[str, Any]:
        gradients = tape.gradient(loss, self.network.trainable_variables)
        norm, finite = update(self.optimizer, self.network, gradients, loss, before, rate,
                              self.config.training.clip_norm)
        return {
            "loss/discriminator": loss,
            "gradient_norm/discriminator": norm,
            "rate/discriminator": rate,
            "finite": finite,
        }


class PatchAdversary(Adversary):
    """Judges (noisy, candidate): clean or estimated, patch by patch."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.kind = config.discriminator.loss
        self._step = tf.function(self._learn)

    def reference(self, mels: Mels) -> Any:
        """Return the noisy mel."""
        return mels.noisy

    def candidate(self, noisy: Any, spectra: Mapping[str, Any], estimate: Any) -> Any:
        """Return the estimate."""
        return estimate

    def learn(
        self, step: int, noisy: Any, clean: Any, mels: Mels, schedule: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Train on the mels of this batch: clean ones are real, estimates fake."""
        return self._step(mels, schedule["d_rate"])

    def _learn(self, mels: Mels, rate: Any) -> dict[str, Any]:
        before = snapshot(self.network)
        count = tf.shape(mels.noisy)[0]
        with tf.GradientTape() as tape:
            # One call for both halves: spectral norm makes one power iteration a step.
            pairs = [
                tf.concat([mels.noisy, mels.noisy], 0), tf.concat([mels.clean, mels.candidate], 0)
            ]
            logits = self.network(pairs, training=True)[0]
            real, fake = logits[:count], logits[count:]
            loss = losses.discriminator_loss(real, fake, self.kind)
        return self._update(tape, loss, before, rate) | {
            "discriminator/real": tf.reduce_mean(real),
            "discriminator/fake": tf.reduce_mean(fake),
        }


class MetricAdversary(Adversary):
    """Predicts the score of (clean, candidate), and draws the generator to higher scores.

    Args:
        config: Settings.
        objective: The reconstruction loss of the generator, whose gain is scored.
        mel: The transform of the mels.
        frames: Length of a training crop in frames.
        scorer: Scores estimates; None: PESQ.
    """

    kind = "hinge"  # the mean score, negative: every clip's rise is worth the same

    def __init__(
        self, config: Config, objective: Objective, mel: Mel, frames: int, scorer: Any = None
    ):
        super().__init__(config)
        settings = config.discriminator
        self.objective, self.mel = objective, mel
        self.scorer = scorer or PesqScorer(config.audio.sample_rate, settings.pesq_workers)
        self.replay = Replay(settings.replay_size, frames, config.mel.bands)
        self._step = tf.function(self._learn)

    def holders(self) -> dict[str, Any]:
        """Return what holds the variables of a checkpoint, by name: past estimates too."""
        return super().holders() | {"replay": self.replay}

    def close(self) -> None:
        """End the scorer's processes."""
        self.scorer.close()

    def reference(self, mels: Mels) -> Any:
        """Return the clean mel."""
        return mels.clean

    def candidate(self, noisy: Any, spectra: Mapping[str, Any], estimate: Any) -> Any:
        """Return the mel of the waveform that is scored."""
        return self.objective.heard(noisy, spectra, estimate)

    def learn(
        self, step: int, noisy: Any, clean: Any, mels: Mels, schedule: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Have estimates scored; train on them and on past ones."""
        settings = self.config.discriminator
        scored = min(settings.scored_clips, len(noisy))
        noisy, clean = np.asarray(noisy[:scored]), np.asarray(clean[:scored])
        new = Mels(*(np.asarray(part[:scored]) for part in mels))
        gain = band_gain(self.mel, new.noisy, new.estimate, self.config.inversion)
        spectrum = self.mel.bin_gain(gain) * self.mel.stft(noisy)
        waveform = self.mel.istft(spectrum, noisy.shape[1])
        scores = self.scorer.scores(clean, waveform)
        rng = np.random.default_rng([self.config.training.seed, step])
        past = self.replay.draw(settings.replay_clips, rng)
        values = self._step(
            tf.concat([new.clean, past[0]], 0),
            tf.concat([new.candidate, past[1]], 0),
            tf.concat([scores, past[2]], 0),
            schedule["d_rate"],
        )
        self.replay.add(new.clean, new.candidate, scores)
        predicted = values.pop("predicted")
        known = scores[np.isfinite(scores)]
        return values | {
            "discriminator/score": float(known.mean()) if len(known) else 0.0,
            "discriminator/fake": tf.reduce_mean(predicted[:scored]),
        }

    def _learn(self, clean: Any, candidate: Any, score: Any, rate: Any) -> dict[str, Any]:
        """Train on mels and their scores; those that are NaN count not."""
        before = snapshot(self.network)
        with tf.GradientTape() as tape:
            predicted = self.network([clean, candidate], training=True)[0][:, 0]
            loss = losses.score_loss(score, predicted)
        return self._update(tape, loss, before, rate) | {"predicted": predicted}
