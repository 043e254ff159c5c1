"""A discriminator in training: what it learns from, and the loss that it gives the generator.

`PatchAdversary` tells clean mels from estimates, patch by patch. `MetricAdversary` predicts the
PESQ of an estimate from what the estimate is given by PESQ itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

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
from gan_denoise.training.optimizers import gradients_of, make_optimizer, snapshot, update
from gan_denoise.training.pesq_scorer import PesqScorer, Scorer
from gan_denoise.training.precision import computing_in, make_scale
from gan_denoise.training.replay_buffer import Replay
from gan_denoise.training.replicas import Replicas
from gan_denoise.training.update_step import Schedule, UpdateStep, Value, Values

if TYPE_CHECKING:
    import keras

    from gan_denoise.training.objective import Spectra


class Holder(Protocol):
    """A part of the training that has variables: a network, an optimizer, a scale, past clips."""

    variables: list[keras.Variable | tf.Variable]


class Mels(NamedTuple):
    """mel01 of a batch, `[batch, frames, n_mels]` each.

    Attributes:
        noisy: mel01 of the mixtures.
        clean: mel01 of the clean recordings.
        estimate: The generator's output.
        candidate: What the discriminator is given in place of the clean one.
    """

    noisy: Value | np.ndarray
    clean: Value | np.ndarray
    estimate: Value | np.ndarray
    candidate: Value | np.ndarray


class Part(NamedTuple):
    """A part of a batch, as the discriminator takes it.

    Attributes:
        noisy: Waveforms `[batch, samples]`, or features `[batch, frames, bands]`.
        clean: The same of the clean recordings.
        mels: mel01 of both, and of the estimates.
    """

    noisy: Value | np.ndarray
    clean: Value | np.ndarray
    mels: Mels


def make_adversary(
    config: Config, objective: Objective, mel: Mel, frames: int, scorer: Scorer | None,
    replicas: Replicas,
) -> Adversary:
    """Build the adversary that `discriminator.kind` names.

    Args:
        config: Settings.
        objective: The reconstruction loss of the generator, whose gain is scored.
        mel: The transform of the mels.
        frames: Length of a training crop in frames.
        scorer: Scores estimates for a metric discriminator; None: PESQ.
        replicas: Devices that train.
    """
    if isinstance(config.discriminator, MetricDiscriminator):
        return MetricAdversary(config, objective, mel, frames, scorer, replicas)
    return PatchAdversary(config, replicas)


class Adversary(ABC):
    """A discriminator with its optimizer.

    Args:
        config: Settings; `discriminator`, `losses`, `training` and `mel` are used.
        replicas: Devices that train.
    """

    kind: str  # of the loss that the generator is given: see `losses.generator_loss`

    def __init__(self, config: Config, replicas: Replicas):
        self.config, self.replicas = config, replicas
        with replicas.building():
            with computing_in(config.training.precision):
                self.network = build_discriminator(config)
            replicas.prepare(self.network)
            self.optimizer = make_optimizer(self.network, "adam", config.training)
            self.scale = make_scale(config.training.precision)

    def holders(self) -> dict[str, Holder]:
        """Return what holds the variables of a checkpoint, by name."""
        scale = {} if self.scale is None else {"d_scale": self.scale}
        return {"discriminator": self.network, "d_optimizer": self.optimizer} | scale

    def close(self) -> None:  # noqa: B027 (most have nothing to end)
        """End the processes that it has started, if any."""

    @abstractmethod
    def reference(self, mels: Mels) -> tf.Tensor:
        """Return the mel that the discriminator is given beside a candidate."""

    @abstractmethod
    def candidate(self, noisy: tf.Tensor, spectra: Spectra, estimate: tf.Tensor) -> tf.Tensor:
        """Return the mel that the discriminator is given of an estimate.

        Arguments are those of `Objective.inverted_mel01`.
        """

    @abstractmethod
    def learn(
        self, step: int, parts: Sequence[Part], schedule: Schedule
    ) -> dict[str, Value | float]:
        """Train the discriminator; it sees no generator, so it can change none.

        Args:
            step: Number of the step.
            parts: Of the batch, in order.
            schedule: `d_rate` of this step.

        Returns:
            Named values; `finite` is 0 where the step was undone.
        """

    def generator_loss(self, mels: Mels, schedule: Schedule) -> tuple[Values, tf.Tensor]:
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
            value = losses.feature_matching(
                *([ops.cast(layer, "float32") for layer in layers]
                  for layers in (map(ops.stop_gradient, real), fake)), self.replicas.mean)
            terms["loss/features"] = value
            total += schedule["feature_weight"] * value
        return terms, total

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return loss if self.scale is None else self.scale.scaled(loss)

    def _update(
        self, gradients: list[tf.Tensor], values: Values, before: list[tf.Tensor],
        schedule: Schedule,
    ) -> Values:
        gradients, values = self.replicas.means(gradients, values)
        done = update(
            self.optimizer, self.network, gradients, values["loss/discriminator"], before,
            schedule["d_rate"], self.config.training.clip_norm, self.scale,
        )
        values |= {
            "gradient_norm/discriminator": done.norm,
            "rate/discriminator": schedule["d_rate"],
            "finite": done.finite,
        }
        return values if self.scale is None else values | {"scale/discriminator": self.scale.scale}


class PatchAdversary(Adversary):
    """Judges (noisy, candidate): clean or estimated, patch by patch."""

    def __init__(self, config: Config, replicas: Replicas):
        super().__init__(config, replicas)
        self.kind = config.discriminator.loss
        self._step = UpdateStep(replicas, self.network, self._gradients, self._update)

    def reference(self, mels: Mels) -> tf.Tensor:
        """Return the noisy mel."""
        return mels.noisy

    def candidate(self, noisy: tf.Tensor, spectra: Spectra, estimate: tf.Tensor) -> tf.Tensor:
        """Return the estimate."""
        return estimate

    def learn(
        self, step: int, parts: Sequence[Part], schedule: Schedule
    ) -> dict[str, Value | float]:
        """Train on the mels of this batch: clean ones are real, estimates fake."""
        return self._step([(part.mels,) for part in parts], schedule)[0]

    def _gradients(
        self, mels: Mels, schedule: Schedule, training: bool
    ) -> tuple[list[tf.Tensor], Values, tuple[()]]:
        count = tf.shape(mels.noisy)[0]
        with tf.GradientTape() as tape:
            # One call for both halves: spectral norm makes one power iteration a step.
            pairs = [
                tf.concat([mels.noisy, mels.noisy], 0), tf.concat([mels.clean, mels.candidate], 0)
            ]
            logits = self.network(pairs, training=training)[0]
            real, fake = logits[:count], logits[count:]
            loss = losses.discriminator_loss(real, fake, self.kind)
            scaled = self._scaled(loss)
        return gradients_of(tape, scaled, self.network), {
            "loss/discriminator": loss,
            "discriminator/real": tf.reduce_mean(real),
            "discriminator/fake": tf.reduce_mean(fake),
        }, ()


class MetricAdversary(Adversary):
    """Predicts the score of (clean, candidate), and draws the generator to higher scores.

    Args:
        config: Settings.
        objective: The reconstruction loss of the generator, whose gain is scored.
        mel: The transform of the mels.
        frames: Length of a training crop in frames.
        scorer: Scores estimates; None: PESQ.
        replicas: Devices that train.
    """

    kind = "hinge"  # the mean score, negative: every clip's rise is worth the same

    def __init__(
        self, config: Config, objective: Objective, mel: Mel, frames: int, scorer: Scorer | None,
        replicas: Replicas,
    ):
        super().__init__(config, replicas)
        settings = config.discriminator
        self.objective, self.mel = objective, mel
        self.scorer = scorer or PesqScorer(config.audio.sample_rate, settings.pesq_workers)
        self.replay = Replay(settings.replay_size, frames, config.mel.bands)
        self._step = replicas.function(self._learn)

    def holders(self) -> dict[str, Holder]:
        """Return what holds the variables of a checkpoint, by name: past estimates too."""
        return super().holders() | {"replay": self.replay}

    def close(self) -> None:
        """End the scorer's processes."""
        self.scorer.close()

    def reference(self, mels: Mels) -> tf.Tensor:
        """Return the clean mel."""
        return mels.clean

    def candidate(self, noisy: tf.Tensor, spectra: Spectra, estimate: tf.Tensor) -> tf.Tensor:
        """Return the mel of the waveform that is scored."""
        return self.objective.inverted_mel01(noisy, spectra, estimate)

    def learn(
        self, step: int, parts: Sequence[Part], schedule: Schedule
    ) -> dict[str, Value | float]:
        """Have estimates scored; train on them and on past ones.

        The first estimates of the whole batch, whatever replica made them. Each worker scores a
        share of them and is sent the other scores; all keep the same past, and draw the same.
        """
        settings = self.config.discriminator
        noisy, clean, new = self._first_clips(parts, settings.scored_clips)
        scores = self._scores(noisy, clean, new)
        rng = np.random.default_rng([self.config.training.seed, step])
        past = self.replay.draw(settings.replay_clips, rng)
        values = self.replicas.floats(self._step(
            tf.concat([new.clean, past[0]], 0),
            tf.concat([new.candidate, past[1]], 0),
            tf.concat([scores, past[2]], 0),
            tf.constant(len(scores)), schedule,
        ))
        self.replay.add(new.clean, new.candidate, scores)
        known = scores[np.isfinite(scores)]
        return values | {
            "discriminator/score": float(known.mean()) if len(known) else 0.0,
            "discriminator/fake": values["discriminator/fake"],
        }

    def _first_clips(self, parts: Sequence[Part], count: int
                     ) -> tuple[np.ndarray, np.ndarray, Mels]:
        """Return noisy and clean waveforms of the first clips of a batch, and their mels."""
        found: list[list[np.ndarray]] = []
        for part in parts:
            found.append([self.replicas.gathered(side)
                          for side in (part.noisy, part.clean, *part.mels)])
            if sum(len(sides[0]) for sides in found) >= count:
                break
        noisy, clean, *mels = (np.concatenate(sides)[:count] if len(found) > 1 else sides[0][:count]
                               for sides in zip(*found, strict=True))
        return noisy, clean, Mels(*mels)

    def _scores(self, noisy: np.ndarray, clean: np.ndarray, mels: Mels) -> np.ndarray:
        own = slice(self.replicas.rank, None, self.replicas.workers)  # clips that are scored here
        scores = np.zeros(len(noisy), np.float32)
        if len(scores[own]):
            gain = band_gain(self.mel, mels.noisy[own], mels.estimate[own], self.config.inversion)
            spectrum = self.mel.bin_gain(gain) * self.mel.stft(noisy[own])
            waveform = self.mel.istft(spectrum, noisy.shape[1])
            scores[own] = self.scorer.scores(clean[own], waveform)
        return self.replicas.sums(scores)

    def _learn(
        self, clean: tf.Tensor, candidate: tf.Tensor, score: tf.Tensor, new: tf.Tensor,
        schedule: Schedule,
    ) -> Values:
        """Train on mels and their scores, the same on every replica; those that are NaN count not.

        The first `new` clips are of this batch.
        """
        before = snapshot(self.network)
        with tf.GradientTape() as tape:
            predicted = self.network([clean, candidate], training=True)[0][:, 0]
            loss = losses.score_loss(score, predicted)
            scaled = self._scaled(loss)
        gradients = gradients_of(tape, scaled, self.network)
        return self._update(gradients, {
            "loss/discriminator": loss, "discriminator/fake": tf.reduce_mean(predicted[:new])
        }, before, schedule)
