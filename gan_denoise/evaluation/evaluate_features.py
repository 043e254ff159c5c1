"""The evaluation of models on clips of features, for material that has no waveform.

Only the metrics of the mel apply. Where the features are a mel with MFCC appended, the mel is
scored. Models are compared with the noisy features and the trivial systems.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gan_denoise import metrics
from gan_denoise.config.schema import Config
from gan_denoise.core.rng import random_stream
from gan_denoise.data.feature_folder import FeatureError, FeatureFolder
from gan_denoise.data.feature_noise import add_noise, draw_snr
from gan_denoise.data.synthetic_spectrograms import spectrogram
from gan_denoise.evaluation.results import Evaluation, FileScores
from gan_denoise.evaluation.scoring import score_or_refusal, split_refused
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, SILENCE, trivial_estimates

TEST_SEED = 30_000  # test clips are the same whatever was trained on
MEL_METRICS = ("psnr_mel", "mse_mel", "snr_mel")


class Estimator(Protocol):
    """A model of features, as `Enhancer` and `Model` are."""

    config: Config

    def estimate(self, noisy01: np.ndarray) -> np.ndarray:
        """Return the estimate of the clean features, `[frames, bands]`."""


@dataclass(frozen=True)
class Example:
    """The features of a clip.

    Attributes:
        name: A name that no other clip of the evaluation has.
        noisy: float32 `[frames, bands]`.
        clean: float32 `[frames, bands]`.
        snr_db: SNR of the mixture in dB; None where it is unknown.
        speaker: Name of the speaker; None where it is unknown.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    snr_db: float | None = None
    speaker: str | None = None


def stored_examples(folder: FeatureFolder, split: str = "test") -> Sequence[Example]:
    """Return the clips of a split; each is read from disk when it is taken.

    Where the folder holds clean features only, noise is added at SNRs drawn as in training; it is
    the same noise each time.

    Raises:
        FeatureError: When the split is empty.
    """
    if not folder.clips[split]:
        raise FeatureError(f"{folder.root}: holds no clip of {split}")
    return _StoredExamples(folder, split)


class _StoredExamples(Sequence[Example]):
    def __init__(self, folder: FeatureFolder, split: str):
        self._folder, self._clips = folder, folder.clips[split]

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> Example:
        clip = self._clips[number]
        noisy, clean = self._folder.read(clip)
        snr_db = clip.snr_db
        if noisy is None:
            rng = random_stream(TEST_SEED, 0, range(len(self))[number])
            snr_db = draw_snr(self._folder.config.data, rng)
            noisy = add_noise(clean, snr_db, rng)
        return Example(clip.file, noisy, clean, snr_db, clip.speaker)


def synthetic_examples(config: Config, count: int, snrs: tuple[float, ...]) -> list[Example]:
    """Return synthetic spectrograms in the shape of a training crop.

    Args:
        config: Settings of the crop.
        count: Number of clips.
        snrs: SNRs in dB, taken in turn.
    """
    examples = []
    for number in range(count):
        rng = random_stream(TEST_SEED, 0, number)
        clean = spectrogram(rng, *config.crop_shape)
        snr_db = float(snrs[number % len(snrs)])
        examples.append(Example(f"{number:05d}", add_noise(clean, snr_db, rng), clean, snr_db))
    return examples


def evaluate_features(
    examples: Sequence[Example],
    models: Mapping[str, Estimator],
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score models on features, beside the noisy ones and the trivial systems.

    Args:
        examples: The clips.
        models: `{name to show: model}`, all with the same transform.
        progress: Called with (clips done, clips in all) after each clip.

    Raises:
        FeatureError: When there is no clip, when models have different transforms, or when one
            returns another shape or values that are not finite.
    """
    config = _shared_config(models)
    rate = config.audio.sample_rate
    rows = []
    for done, example in enumerate(examples, start=1):
        seconds = len(example.clean) * config.mel.hop_length / rate
        for system, estimate01 in _estimates(example, models, config.mel.n_mels).items():
            clean01 = example.clean[:, : config.mel.n_mels]
            found = {name: score_or_refusal(getattr(metrics, name), clean01, estimate01)
                     for name in MEL_METRICS}
            rows.append(FileScores(example.name, system, example.snr_db, seconds, rate,
                                   *split_refused(found), speaker=example.speaker))
        if progress is not None:
            progress(done, len(examples))
    if not rows:
        raise FeatureError("no clip to evaluate")
    notices = ("features without a waveform: scores of the mel alone",)
    return Evaluation((NOISY, *models, SILENCE, BEST_GAIN), tuple(rows), notices)


def _shared_config(models: Mapping[str, Estimator]) -> Config:
    """Return the settings of the first model, whose transform the others must have."""
    first, config = next((name, model.config) for name, model in models.items())
    for name, model in models.items():
        if (model.config.audio, model.config.mel) != (config.audio, config.mel):
            raise FeatureError(f"{name}: has another transform than {first}",
                               "evaluate each by itself")
    return config


def _estimates(
    example: Example, models: Mapping[str, Estimator], n_mels: int
) -> dict[str, np.ndarray]:
    """Return `{system: mel}`, each `[frames, n_mels]`, of all systems."""
    bands = np.s_[:, :n_mels]
    noisy, clean = example.noisy[bands], example.clean[bands]
    estimates = {NOISY: noisy}
    for name, model in models.items():
        estimate = model.estimate(example.noisy)
        if estimate.shape != example.noisy.shape or not np.isfinite(estimate).all():
            raise FeatureError(f"{example.name}: {name} made {estimate.shape} of "
                               f"{example.noisy.shape}, or values that are not finite")
        estimates[name] = estimate[bands]
    return estimates | trivial_estimates(clean, noisy)
