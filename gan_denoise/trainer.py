"""The trainer: both networks, both training steps, and validation. The loop is in `run`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from gan_denoise import losses, metrics
from gan_denoise.checkpoint import Progress
from gan_denoise.config import Config, TrainingConfig
from gan_denoise.dataset import Material, crop_samples
from gan_denoise.discriminator import build_discriminator
from gan_denoise.generator import build_generator
from gan_denoise.inversion import bin_gain
from gan_denoise.judge import Judge, Replay
from gan_denoise.mel import GraphMel, Mel
from gan_denoise.objective import Objective

PESQ_RATE = 16000  # Hz; wide-band PESQ is defined at no other


def set_up(training: TrainingConfig) -> None:
    """Set threads, seed and determinism, before any network is built.

    Raises:
        RuntimeError: When the threads are changed after TensorFlow has started.
    """
    threading = tf.config.threading
    if training.threads and threading.get_intra_op_parallelism_threads() != training.threads:
        threading.set_intra_op_parallelism_threads(training.threads)
        threading.set_inter_op_parallelism_threads(training.threads)
    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    keras.utils.set_random_seed(training.seed)
    if training.deterministic:
        tf.config.experimental.enable_op_determinism()


class Trainer:
    """Both networks, both optimizers, the EMA, and everything that a checkpoint holds.

    Args:
        config: Settings.
        material: Training batches and validation clips.
        kind: `pretrain`, or `finetune` for training against the discriminator.
        judge: Scores estimates for a metric discriminator; None: PESQ.
    """

    def __init__(
        self, config: Config, material: Material, kind: str = "pretrain", judge: Any = None
    ):
        self.config, self.material, self.kind = config, material, kind
        self.mel = Mel(config.audio, config.mel)
        self.objective = Objective(config, GraphMel(self.mel))
        self.generator = build_generator(config)
        self.ema = build_generator(config)
        self.ema.set_weights(self.generator.get_weights())
        self.g_optimizer = self._optimizer(self.generator, config.training.optimizer)
        self.discriminator = self.d_optimizer = None
        if kind == "finetune":
            self.discriminator = build_discriminator(config)
            self.d_optimizer = self._optimizer(self.discriminator, "adam")
        self.replay = None
        if kind == "finetune" and self.objective.scored:
            settings = config.discriminator
            self.judge = judge or Judge(config.audio.sample_rate, settings.judges)
            frames = self.mel.frames(crop_samples(config))
            self.replay = Replay(settings.replay_size, frames, config.mel.n_mels)
        self.progress = Progress(kind, material.digest)
        self._noisy_scores: dict[str, float] | None = None  # the same at every validation
        self.pretrain_step = tf.function(self._pretrain_step)
        self.discriminator_step = tf.function(self._discriminator_step)
        self.adversarial_step = tf.function(self._adversarial_step)
        self.score_step = tf.function(self._score_step)
        self._share = tf.function(self._gradient_share)
        self._estimate = tf.function(lambda mel: self.ema(mel, training=False))

    def variables(self) -> dict[str, Any]:
        """Return everything that a checkpoint holds, by name.

        `.variables` of a network also holds the state of its dropout seeds, which weight files
        leave out. Keras numbers layers through a process (`conv2d_7_kernel_momentum`), so a name
        here is an index and the last word alone.
        """
        owners = {"generator": self.generator, "ema": self.ema, "g_optimizer": self.g_optimizer}
        if self.discriminator is not None:
            owners |= {"discriminator": self.discriminator, "d_optimizer": self.d_optimizer}
        if self.replay is not None:
            owners["replay"] = self.replay
        return {
            f"{owner}.{index}.{variable.name.removesuffix(':0').rsplit('_', 1)[-1]}": variable
            for owner, holder in owners.items()
            for index, variable in enumerate(holder.variables)
        }

    def _optimizer(self, network: keras.Model, kind: str) -> keras.optimizers.Optimizer:
        beta_1, beta_2 = self.config.training.adam_betas
        if kind == "muon":  # of matrices; all other variables take Adam's step
            optimizer = keras.optimizers.Muon(0.0, adam_beta_1=beta_1, adam_beta_2=beta_2)
        else:
            optimizer = keras.optimizers.Adam(0.0, beta_1=beta_1, beta_2=beta_2)
        # Built now: loading a state into an unbuilt optimizer would drop its moments.
        optimizer.build(network.trainable_variables)
        return optimizer

    # ---- Schedules: functions of the step ------------------------------------------------------
    def schedule(self, step: int) -> dict[str, float]:
        """Return learning rates, adversarial weight and EMA decay at a step."""
        training, terms = self.config.training, self.config.losses
        total = self.progress.total_steps
        done = 0.0 if total is None else min(step / max(total, 1), 1.0)
        cosine = (1 + math.cos(math.pi * done)) / 2
        cosine = training.final_rate + (1 - training.final_rate) * cosine
        adversarial_from = terms.discriminator_warmup if self.kind == "finetune" else 0
        since = step - adversarial_from
        warm = min((since + 1) / max(training.warmup_steps, 1), 1.0)
        ramp = min((since + 1) / max(terms.adversarial_ramp, 1), 1.0)
        return {
            "g_rate": training.learning_rate * cosine * max(warm, 0.0),
            "d_rate": self.config.discriminator.learning_rate * cosine,
            "adversarial_weight": terms.adversarial_weight * max(ramp, 0.0),
            "feature_weight": terms.feature_weight * max(ramp, 0.0),
            "ema_decay": min(training.ema_decay, (1 + max(since, 0)) / (10 + max(since, 0))),
        }

    # ---- Steps ---------------------------------------------------------------------------------
    def train_step(self, step: int, noisy: Any, clean: Any) -> dict[str, float]:
        """Do the step of this number and return its named values as floats."""
        schedule = {k: tf.constant(v, tf.float32) for k, v in self.schedule(step).items()}
        if self.kind == "pretrain":
            values = self.pretrain_step(noisy, clean, schedule)
        elif step < self.config.losses.discriminator_warmup:
            values = self._warmup_step(step, noisy, clean, schedule)
        else:
            values, mels = self.adversarial_step(noisy, clean, schedule)
            if self.replay is not None:
                learned = self._learn_scores(step, noisy, clean, *mels, schedule)
                values["finite"] = tf.minimum(values["finite"], learned.pop("finite"))
                values |= learned
        return {name: float(value) for name, value in values.items()}

    def _pretrain_step(self, noisy: Any, clean: Any, schedule: Mapping[str, Any]) -> dict[str, Any]:
        spectra = self.objective.spectra(noisy, clean)
        before = _snapshot(self.generator)
        with tf.GradientTape() as tape:
            estimate = self.generator(spectra["noisy01"], training=True)
            terms, total = self.objective.reconstruction(spectra, estimate)
        return self._update_generator(tape, total, terms, before, schedule)

    def _warmup_step(
        self, step: int, noisy: Any, clean: Any, schedule: Mapping[str, Any]
    ) -> dict[str, Any]:
        noisy01, clean01 = self._mels(noisy), self._mels(clean)
        estimate = self._frozen_estimate(noisy01)
        if self.replay is not None:
            return self._learn_scores(step, noisy, clean, noisy01, clean01, estimate, schedule)
        return self.discriminator_step(noisy01, clean01, estimate, schedule)

    @tf.function
    def _mels(self, waveform: Any) -> Any:
        return self.objective.mel01(waveform)

    @tf.function
    def _frozen_estimate(self, noisy01: Any) -> Any:
        return self.generator(noisy01, training=False)

    def _discriminator_step(
        self, noisy01: Any, clean01: Any, estimate: Any, schedule: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Train the discriminator on mels; it sees no generator, so it can change none."""
        estimate = tf.stop_gradient(estimate)
        before = _snapshot(self.discriminator)
        count = tf.shape(noisy01)[0]
        with tf.GradientTape() as tape:
            # One call for both halves: spectral norm makes one power iteration a step.
            logits = self.discriminator(
                [tf.concat([noisy01, noisy01], 0), tf.concat([clean01, estimate], 0)], training=True
            )[0]
            real, fake = logits[:count], logits[count:]
            loss = losses.discriminator_loss(real, fake, self.config.losses.adversarial)
        gradients = tape.gradient(loss, self.discriminator.trainable_variables)
        norm, finite = self._apply(
            self.d_optimizer, self.discriminator, gradients, loss, before, schedule["d_rate"]
        )
        return {
            "loss/discriminator": loss,
            "discriminator/real": tf.reduce_mean(real),
            "discriminator/fake": tf.reduce_mean(fake),
            "gradient_norm/discriminator": norm,
            "rate/discriminator": schedule["d_rate"],
            "finite": finite,
        }

    def _adversarial_step(
        self, noisy: Any, clean: Any, schedule: Mapping[str, Any]
    ) -> tuple[dict[str, Any], tuple[Any, Any, Any]]:
        spectra = self.objective.spectra(noisy, clean)
        noisy01, clean01 = spectra["noisy01"], spectra["clean01"]
        before = _snapshot(self.generator)
        with tf.GradientTape() as tape:
            estimate = self.generator(noisy01, training=True)
            d_values = {"finite": tf.constant(1.0)}
            if self.replay is None:  # a metric discriminator learns when the scores are there
                with tape.stop_recording():
                    d_values = self._discriminator_step(noisy01, clean01, estimate, schedule)
            terms, total = self.objective.reconstruction(spectra, estimate)
            adversarial, added = self.objective.adversarial(
                self.discriminator, noisy01, clean01, estimate, schedule
            )
            terms |= adversarial
            total += added
        g_values = self._update_generator(tape, total, terms, before, schedule)
        finite = tf.minimum(d_values.pop("finite"), g_values.pop("finite"))
        return d_values | g_values | {"finite": finite}, (noisy01, clean01, estimate)

    def _learn_scores(
        self, step: int, noisy: Any, clean: Any, noisy01: Any, clean01: Any, estimate: Any,
        schedule: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Have estimates scored, and train the metric discriminator on them, on the noisy mels,
        on the clean ones, and on past estimates."""
        settings = self.config.discriminator
        scored = min(settings.scored_clips, len(noisy))
        half = -(-scored // 2)
        noisy, clean = np.asarray(noisy[:scored]), np.asarray(clean[:scored])
        gain = bin_gain(self.mel, np.asarray(noisy01[:scored]), np.asarray(estimate[:scored]),
                        self.config.inversion.max_gain_db)
        waveform = self.mel.istft(gain * self.mel.stft(noisy), noisy.shape[1])
        scores = self.judge.scores([*clean, *clean[:half]], [*waveform, *noisy[:half]])
        rng = np.random.default_rng([self.config.training.seed, step])
        past = self.replay.draw(settings.replay_clips, rng)
        values = self.score_step(
            tf.concat([clean01[:scored], clean01[:half], clean01[:half], past[0]], 0),
            tf.concat([estimate[:scored], noisy01[:half], clean01[:half], past[1]], 0),
            tf.concat([scores, tf.ones(half), past[2]], 0), schedule,
        )
        self.replay.add(clean01[:scored], estimate[:scored], scores[:scored])
        predicted = values.pop("predicted")
        known = scores[:scored][np.isfinite(scores[:scored])]
        return values | {
            "discriminator/score": float(known.mean()) if len(known) else 0.0,
            "discriminator/fake": tf.reduce_mean(predicted[:scored]),
            "discriminator/real": tf.reduce_mean(predicted[scored + half : scored + 2 * half]),
        }

    def _score_step(
        self, clean01: Any, candidate: Any, score: Any, schedule: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Train the metric discriminator on mels and their scores; those that are NaN count not."""
        before = _snapshot(self.discriminator)
        with tf.GradientTape() as tape:
            predicted = self.discriminator([clean01, candidate], training=True)[0][:, 0]
            loss = losses.score_loss(score, predicted)
        gradients = tape.gradient(loss, self.discriminator.trainable_variables)
        norm, finite = self._apply(
            self.d_optimizer, self.discriminator, gradients, loss, before, schedule["d_rate"]
        )
        return {
            "loss/discriminator": loss,
            "predicted": predicted,
            "gradient_norm/discriminator": norm,
            "rate/discriminator": schedule["d_rate"],
            "finite": finite,
        }

    def _update_generator(
        self, tape: tf.GradientTape, total: Any, terms: dict[str, Any], before: list[Any],
        schedule: Mapping[str, Any],
    ) -> dict[str, Any]:
        gradients = tape.gradient(total, self.generator.trainable_variables)
        norm, finite = self._apply(
            self.g_optimizer, self.generator, gradients, total, before, schedule["g_rate"]
        )
        tf.cond(finite > 0, lambda: self._average(schedule["ema_decay"]), lambda: None)
        return terms | {
            "loss/total": total,
            "gradient_norm/generator": norm,
            "rate/generator": schedule["g_rate"],
            "finite": finite,
        }

    def _average(self, decay: Any) -> None:
        """Move the EMA towards the generator; its moving statistics are taken as they are."""
        for average, variable in zip(
            self.ema.trainable_variables, self.generator.trainable_variables, strict=True
        ):
            average.assign(decay * average + (1 - decay) * variable)
        for average, variable in zip(
            self.ema.non_trainable_variables, self.generator.non_trainable_variables, strict=True
        ):
            average.assign(variable)

    def _apply(
        self, optimizer: Any, network: keras.Model, gradients: list[Any], loss: Any,
        before: list[Any], rate: Any,
    ) -> tuple[Any, Any]:
        """Clip and apply gradients, or leave the network as it was where they are not finite.

        Returns:
            The norm before clipping, and 1 where the gradients were applied, else 0.
        """
        # A frozen or unused variable has no gradient; zero keeps the optimizer's slots aligned.
        gradients = [
            tf.zeros_like(v) if g is None else g
            for g, v in zip(gradients, network.trainable_variables, strict=True)
        ]
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm) & tf.math.is_finite(loss)
        if self.config.training.clip_norm:
            gradients, _ = tf.clip_by_global_norm(gradients, self.config.training.clip_norm, norm)

        def apply() -> Any:
            optimizer.learning_rate.assign(rate)
            optimizer.apply(gradients, network.trainable_variables)
            return tf.constant(1.0)

        def undo() -> Any:  # the forward pass has moved statistics, and kernels by spectral norm
            for variable, value in zip(network.variables, before, strict=True):
                variable.assign(value)
            return tf.constant(0.0)

        return norm, tf.cond(finite, apply, undo)

    # ---- The adversary's share -----------------------------------------------------------------
    def adversarial_share(self, step: int, noisy: Any, clean: Any) -> float:
        """Return the adversary's share of the generator's gradient norm at a step, in [0, 1]."""
        schedule = {k: tf.constant(v, tf.float32) for k, v in self.schedule(step).items()}
        return float(self._share(noisy, clean, schedule))

    def _gradient_share(self, noisy: Any, clean: Any, schedule: Mapping[str, Any]) -> Any:
        """Return |adversarial| / (|adversarial| + |reconstruction|) of the generator's gradient."""
        spectra = self.objective.spectra(noisy, clean)
        with tf.GradientTape(persistent=True) as tape:
            estimate = self.generator(spectra["noisy01"], training=False)
            _, reconstruction = self.objective.reconstruction(spectra, estimate)
            _, adversarial = self.objective.adversarial(
                self.discriminator, spectra["noisy01"], spectra["clean01"], estimate, schedule
            )
        norms = []
        for part in (adversarial, reconstruction):
            gradients = tape.gradient(part, self.generator.trainable_variables)
            norms.append(tf.linalg.global_norm([g for g in gradients if g is not None]))
        return norms[0] / (norms[0] + norms[1] + 1e-12)

    # ---- Validation ----------------------------------------------------------------------------
    def validate(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Score the EMA generator on the validation clips through `gain` inversion.

        Returns:
            Mean metrics by name, and the mels and waveforms behind them, batch first.
        """
        noisy, clean = self.material.valid_noisy, self.material.valid_clean
        spectrum = self.mel.stft(noisy)
        noisy01 = self.mel.normalise(self.mel.linear(spectrum))
        clean01 = self.mel.mel01(clean)
        size = self.config.training.batch_size
        estimate01 = np.concatenate([
            self._estimate(tf.constant(noisy01[at : at + size])).numpy()
            for at in range(0, len(noisy01), size)
        ])
        gain = bin_gain(self.mel, noisy01, estimate01, self.config.inversion.max_gain_db)
        estimate = self.mel.istft(gain * spectrum, noisy.shape[1])
        values = {
            "mse_mel": metrics.mse_mel(clean01, estimate01),
            "psnr_mel": float(np.mean([
                metrics.psnr_mel(c, e) for c, e in zip(clean01, estimate01, strict=True)
            ])),
        }
        values |= self._waveform_scores(clean, estimate)
        if self._noisy_scores is None:
            noisy_scores = self._waveform_scores(clean, noisy)
            self._noisy_scores = {f"{k}_noisy": v for k, v in noisy_scores.items()}
        values |= self._noisy_scores
        shown = {
            "mels": {"noisy": noisy01, "estimate": estimate01, "clean": clean01},
            "audio": {"noisy": noisy, "estimate": estimate, "clean": clean},
        }
        return values, shown

    def _waveform_scores(self, clean: np.ndarray, estimate: np.ndarray) -> dict[str, float]:
        """Return mean scores of `[clips, samples]`; PESQ where it is defined and installed."""
        values = {"si_sdr": _mean_score(metrics.si_sdr, clean, estimate)}
        if self.mel.sample_rate == PESQ_RATE and metrics.available()["pesq"]:
            values["pesq_wb"] = _mean_score(
                lambda c, e: metrics.pesq_wb(c, e, PESQ_RATE), clean, estimate
            )
        return values


def _snapshot(network: keras.Model) -> list[Any]:
    return [tf.identity(variable) for variable in network.variables]


def _mean_score(
    score: Callable[[np.ndarray, np.ndarray], float], clean: np.ndarray, estimate: np.ndarray
) -> float:
    """Mean over the clips that the metric does not refuse; NaN where it refuses all."""
    values = []
    for c, e in zip(clean, estimate, strict=True):
        try:
            values.append(score(c, e))
        except metrics.Refused:
            values.append(math.nan)
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan
