"""The trainer: the generator, its average and its training steps.

The discriminator's side of the game is in `adversarial`, validation in `validation`, the loop in
`loop`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from gan_denoise.config.schema import Config, TrainingConfig
from gan_denoise.core.memory import keep_freed_memory
from gan_denoise.core.native_libraries import stderr_kept_back
from gan_denoise.data.datasets import Material
from gan_denoise.dsp.keras_mel import KerasMel
from gan_denoise.dsp.mel import Mel
from gan_denoise.dsp.overlap_add import windowed
from gan_denoise.models.generators import build_generator
from gan_denoise.training.adversarial import Adversary, Holder, Mels, Part, make_adversary
from gan_denoise.training.checkpoints import RunState
from gan_denoise.training.monitor import VARIATION
from gan_denoise.training.objective import Objective
from gan_denoise.training.optimizers import gradients_of, make_optimizer, update
from gan_denoise.training.precision import computing_in, make_scale
from gan_denoise.training.replicas import Replicas, graph
from gan_denoise.training.update_step import Schedule, UpdateStep, Value, Values
from gan_denoise.training.validation import Clips, Validation

if TYPE_CHECKING:
    from gan_denoise.training.objective import Spectra
    from gan_denoise.training.pesq_scorer import Scorer

Batch: TypeAlias = np.ndarray | tf.Tensor

def set_up(training: TrainingConfig) -> None:
    """Set threads, memory, seed and determinism, before any network is built.

    Raises:
        RuntimeError: When the threads are changed after TensorFlow has started.
    """
    keep_freed_memory()  # the arrays of a step are those of the next: a tenth of its time
    threading = tf.config.threading
    if training.threads and threading.get_intra_op_parallelism_threads() != training.threads:
        threading.set_intra_op_parallelism_threads(training.threads)
        threading.set_inter_op_parallelism_threads(training.threads)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()


def rate_factor(scaling: str, replicas: int) -> float:
    """Return what `training.scale_learning_rate` multiplies learning rates by."""
    return {"none": 1.0, "linear": float(replicas), "sqrt": math.sqrt(replicas)}[scaling]


class Trainer:
    """The generator, its EMA and optimizer, the adversary, and all that a checkpoint holds.

    Args:
        config: Settings.
        material: Training batches and validation clips.
        kind: `pretrain`, or `finetune` for training against the discriminator.
        scorer: Scores estimates for a metric discriminator; None: PESQ.
        replicas: Devices that train; None: one.
    """

    def __init__(
        self, config: Config, material: Material, kind: str = "pretrain",
        scorer: Scorer | None = None, replicas: Replicas | None = None,
    ):
        self.config, self.material, self.kind = config, material, kind
        self.mel = Mel(config.audio, config.mel)
        self.objective = Objective(config, KerasMel(self.mel))
        self.replicas = replicas or Replicas()
        with stderr_kept_back():  # TensorFlow says, once, that its oneDNN lacks some types
            tf.zeros(1, tf.float16)
        with self.replicas.building():
            with computing_in(config.training.precision):
                self.generator = build_generator(config)
            self.ema = build_generator(config)  # float32, as it is validated and exported
            self.ema.set_weights(self.generator.get_weights())
            self.replicas.prepare(self.generator)
            self.g_optimizer = make_optimizer(
                self.generator, config.training.optimizer, config.training
            )
            self.g_scale = make_scale(config.training.precision)
        self.adversary: Adversary | None = None
        if kind == "finetune":
            frames = self.mel.frames(config.crop_samples)
            self.adversary = make_adversary(
                config, self.objective, self.mel, frames, scorer, self.replicas
            )
        self.progress = RunState(kind, material.digest)
        self.validation = Validation(config, material.valid, self.mel, self.estimate)
        self.pretrain_step, self.adversarial_step = (
            UpdateStep(self.replicas, self.generator, gradients, self._update_generator)
            for gradients in (self._pretrain_gradients, self._adversarial_gradients)
        )
        self._mels = self.replicas.function(self._frozen_mels)
        self._share = graph(self._gradient_share)
        self._estimate = graph(lambda mel: self.ema(mel, training=False))

    @property
    def discriminator(self) -> keras.Model | None:
        """The adversary's network; None in pretraining."""
        return self.adversary.network if self.adversary else None

    def variables(self) -> dict[str, keras.Variable | tf.Variable]:
        """Return everything that a checkpoint holds, by name.

        `.variables` of a network also holds the state of its dropout seeds, which weight files
        leave out. Keras numbers layers through a process (`conv2d_7_kernel_momentum`), so a name
        here is an index and the last word alone.
        """
        owners: dict[str, Holder] = {
            "generator": self.generator, "ema": self.ema, "g_optimizer": self.g_optimizer
        }
        if self.g_scale is not None:
            owners["g_scale"] = self.g_scale
        if self.adversary is not None:
            owners |= self.adversary.holders()
        return {
            f"{owner}.{index}.{variable.name.removesuffix(':0').rsplit('_', 1)[-1]}": variable
            for owner, holder in owners.items()
            for index, variable in enumerate(holder.variables)
        }

    # ---- Schedules: functions of the step ------------------------------------------------------
    def schedule(self, step: int) -> dict[str, float]:
        """Return learning rates, adversarial weight and EMA decay at a step."""
        training, terms = self.config.training, self.config.losses
        feature_weight = getattr(self.config.discriminator, "feature_weight", 0.0)
        total = self.progress.total_steps
        done = 0.0 if total is None else min(step / max(total, 1), 1.0)
        cosine = (1 + math.cos(math.pi * done)) / 2
        cosine = training.final_rate + (1 - training.final_rate) * cosine
        adversarial_from = terms.discriminator_warmup if self.kind == "finetune" else 0
        since = step - adversarial_from
        warm = min((since + 1) / max(training.warmup_steps, 1), 1.0)
        ramp = min((since + 1) / max(terms.adversarial_ramp, 1), 1.0)
        cosine *= rate_factor(training.scale_learning_rate, self.replicas.count)
        return {
            "g_rate": training.learning_rate * cosine * max(warm, 0.0),
            "d_rate": self.config.discriminator.learning_rate * cosine,
            "adversarial_weight": terms.adversarial_weight * max(ramp, 0.0),
            "feature_weight": feature_weight * max(ramp, 0.0),
            "ema_decay": min(training.ema_decay, (1 + max(since, 0)) / (10 + max(since, 0))),
        }

    # ---- Steps ---------------------------------------------------------------------------------
    def train_step(self, step: int, noisy: Batch, clean: Batch) -> dict[str, float]:
        """Do the step of this number and return its named values as floats.

        Args:
            step: Number of the step.
            noisy: This process's items of the batch, `[items, *config.crop_shape]`, part by part.
            clean: The same of the clean recordings.
        """
        schedule = self._schedule(step)
        parts = self._parts(noisy, clean)
        if self.adversary is None:
            return self.replicas.floats(self.pretrain_step(parts, schedule)[0])
        if step < self.config.losses.discriminator_warmup:
            values, mels = {"finite": 1.0}, [self._mels(*part) for part in parts]
        else:
            values, mels = self.adversarial_step(parts, schedule)
        batch = [Part(*part, made) for part, made in zip(parts, mels, strict=True)]
        values, learned = (self.replicas.floats(found) for found in (
            values, self.adversary.learn(step, batch, schedule)))
        finite = min(values.pop("finite"), learned.pop("finite"))
        return values | learned | {"finite": finite}

    def _schedule(self, step: int) -> Schedule:
        """Return the numbers of a step; of Python's own floats TensorFlow would keep each."""
        return {k: tf.constant(np.float32(v)) for k, v in self.schedule(step).items()}

    def _parts(self, noisy: Batch, clean: Batch) -> list[tuple[Value, Value]]:
        count = self.config.training.accumulate
        if count == 1:
            return [self.replicas.split(noisy, clean)]
        size = len(noisy) // count
        return [self.replicas.split(noisy[at : at + size], clean[at : at + size])
                for at in range(0, len(noisy), size)]

    def _pretrain_gradients(
        self, noisy: tf.Tensor, clean: tf.Tensor, schedule: Schedule, training: bool
    ) -> tuple[list[tf.Tensor], Values, tuple[()]]:
        spectra = self.objective.spectra(noisy, clean)
        with tf.GradientTape() as tape:
            estimate = self.generator(spectra["noisy01"], training=training)
            terms, total = self.objective.reconstruction(spectra, estimate)
            scaled = self._scaled(total)
        terms[VARIATION] = self._variation(spectra["noisy01"], estimate)
        gradients = gradients_of(tape, scaled, self.generator)
        return gradients, terms | {"loss/total": total}, ()

    def _adversarial_gradients(
        self, noisy: tf.Tensor, clean: tf.Tensor, schedule: Schedule, training: bool
    ) -> tuple[list[tf.Tensor], Values, Mels]:
        """Train the generator against the discriminator as it is; return what it has made."""
        spectra = self.objective.spectra(noisy, clean)
        with tf.GradientTape() as tape:
            estimate = self.generator(spectra["noisy01"], training=training)
            mels = self._mels_of(noisy, spectra, estimate)
            terms, total = self.objective.reconstruction(spectra, estimate)
            adversarial, added = self.adversary.generator_loss(mels, schedule)
            terms |= adversarial
            total += added
            scaled = self._scaled(total)
        terms[VARIATION] = self._variation(spectra["noisy01"], estimate)
        gradients = gradients_of(tape, scaled, self.generator)
        return gradients, terms | {"loss/total": total}, mels

    def _scaled(self, loss: tf.Tensor) -> tf.Tensor:
        return loss if self.g_scale is None else self.g_scale.scaled(loss)

    def _frozen_mels(self, noisy: tf.Tensor, clean: tf.Tensor) -> Mels:
        spectra = self.objective.spectra(noisy, clean)
        return self._mels_of(noisy, spectra, self.generator(spectra["noisy01"], training=False))

    def _mels_of(self, noisy: tf.Tensor, spectra: Spectra, estimate: tf.Tensor) -> Mels:
        candidate = self.adversary.candidate(noisy, spectra, estimate)
        return Mels(spectra["noisy01"], spectra["clean01"], estimate, candidate)

    def _variation(self, noisy01: tf.Tensor, estimate: tf.Tensor) -> tf.Tensor:
        """Return how much the network's own part of an estimate varies over time, in dB.

        The gain of a gain head, the mel itself of a direct one; the root mean square, over clips
        and bands, of the deviation over time. What lies on the mel's floor is left out.
        """
        own = estimate - noisy01 if self.config.generator.head == "gain" else estimate
        above_floor = tf.cast(estimate > 0, tf.float32)
        frames = tf.maximum(tf.reduce_sum(above_floor, 1, keepdims=True), 1.0)
        mean = tf.reduce_sum(own * above_floor, 1, keepdims=True) / frames
        variance = tf.reduce_sum(above_floor * tf.square(own - mean), 1, keepdims=True) / frames
        return tf.sqrt(tf.reduce_mean(variance)) * self.config.mel.range_db

    def _update_generator(
        self, gradients: list[tf.Tensor], values: Values, before: list[tf.Tensor],
        schedule: Schedule,
    ) -> Values:
        gradients, values = self.replicas.means(gradients, values)
        done = update(
            self.g_optimizer, self.generator, gradients, values["loss/total"], before,
            schedule["g_rate"], self.config.training.clip_norm, self.g_scale,
        )
        tf.cond(done.applied > 0, lambda: self._average(schedule["ema_decay"]), lambda: None)
        values |= {
            "gradient_norm/generator": done.norm,
            "rate/generator": schedule["g_rate"],
            "finite": done.finite,
        }
        return values if self.g_scale is None else values | {"scale/generator": self.g_scale.scale}

    def _average(self, decay: tf.Tensor) -> None:
        """Move the EMA towards the generator; its moving statistics are taken as they are."""
        for average, variable in zip(
            self.ema.trainable_variables, self.generator.trainable_variables, strict=True
        ):
            average.assign(decay * average + (1 - decay) * variable)
        for average, variable in zip(
            self.ema.non_trainable_variables, self.generator.non_trainable_variables, strict=True
        ):
            average.assign(variable)

    # ---- The adversary's share -----------------------------------------------------------------
    def adversarial_share(self, step: int, noisy: Batch, clean: Batch) -> float:
        """Return the adversary's share of the generator's gradient norm at a step, in [0, 1].

        Arguments are those of `train_step`; what one device takes at once is looked at.
        """
        schedule = self._schedule(step)
        size = max(len(noisy) // self.config.training.accumulate, 1)
        noisy, clean = noisy[:size], clean[:size]
        return float(self._share(noisy, clean, schedule))

    def _gradient_share(self, noisy: tf.Tensor, clean: tf.Tensor, schedule: Schedule) -> tf.Tensor:
        """Return |adversarial| / (|adversarial| + |reconstruction|) of the generator's gradient."""
        spectra = self.objective.spectra(noisy, clean)
        with tf.GradientTape(persistent=True) as tape:
            estimate = self.generator(spectra["noisy01"], training=False)
            _, reconstruction = self.objective.reconstruction(spectra, estimate)
            mels = self._mels_of(noisy, spectra, estimate)
            _, adversarial = self.adversary.generator_loss(mels, schedule)
        norms = []
        for part in (adversarial, reconstruction):
            gradients = tape.gradient(part, self.generator.trainable_variables)
            norms.append(tf.linalg.global_norm([g for g in gradients if g is not None]))
        return norms[0] / (norms[0] + norms[1] + 1e-12)

    # ---- Validation ----------------------------------------------------------------------------
    def estimate(self, noisy01: np.ndarray) -> np.ndarray:
        """Return the EMA generator's estimate of mel01 `[clips, frames, bands]`, of any length."""
        size = self.config.training.batch_size

        def run(mels: np.ndarray) -> np.ndarray:
            parts = (mels[at : at + size] for at in range(0, len(mels), size))
            return np.concatenate([self._estimate(tf.constant(part)).numpy() for part in parts])

        return windowed(run, noisy01, self.config.generator.frames, self.mel.silence)

    def validate(self) -> tuple[dict[str, float], Clips]:
        """Score the EMA generator on the validation clips: see `Validation.scores`."""
        return self.validation.scores()
