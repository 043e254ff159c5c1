"""Models x features -> a row a clip, beside the noisy features and the trivial systems.

For material without a waveform: of the metrics those of the mel alone. In a mel with MFCC behind
it the mel part is scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gan_denoise import metrics
from gan_denoise.config.schema import Config
from gan_denoise.core.rng import random_stream
from gan_denoise.data.feature_folder import FeatureError, FeatureFolder
from gan_denoise.data.feature_noise import add_noise, draw_snr
from gan_denoise.data.synthetic_spectrograms import spectrogram
from gan_denoise.evaluation.results import Evaluation, Row
from gan_denoise.metrics import Refused
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, SILENCE, trivial_estimates

TEST_SEED = 30_000  # test clips are the same whatever was trained on
METRICS = ("psnr_mel", "mse_mel", "snr_mel")


class Estimator(Protocol):
    """What an `Enhancer` or a `Model` does with features."""

    config: Config

    def estimate(self, noisy01: np.ndarray) -> np.ndarray:
        """Return the estimate of the clean features, `[frames, bands]`."""


@dataclass(frozen=True)
class Example:
    """Features of a clip.

    Attributes:
        name: Unique among those of an evaluation.
        noisy: float32 `[frames, bands]`.
        clean: Of the same shape.
        snr_db: Of the mixture in dB, where it is known.
        speaker: Where it is known.
    """

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    snr_db: float | None = None
    speaker: str | None = None


def stored_examples(folder: FeatureFolder, split: str = "test") -> Iterator[Example]:
    """Give the clips of a split; noise that is added to the features has the recipe's SNRs.

    Raises:
        FeatureError: When the split is empty.
    """
    if not folder.clips[split]:
        raise FeatureError(f"{folder.root}: holds no clip of {split}")
    for number, clip in enumerate(folder.clips[split]):
        noisy, clean = folder.read(clip)
        snr_db = clip.snr_db
        if noisy is None:
            rng = random_stream(TEST_SEED, 0, number)
            snr_db = draw_snr(folder.config.data, rng)
            noisy = add_noise(clean, snr_db, rng)
        yield Example(clip.file, noisy, clean, snr_db, clip.speaker)


def made_up_examples(config: Config, count: int, snrs: tuple[float, ...]) -> Iterator[Example]:
    """Give made-up spectrograms in a training crop's shape, SNRs in dB taken in turn."""
    for number in range(count):
        rng = random_stream(TEST_SEED, 0, number)
        clean = spectrogram(rng, *config.crop_shape)
        snr_db = float(snrs[number % len(snrs)])
        yield Example(f"{number:05d}", add_noise(clean, snr_db, rng), clean, snr_db)


def evaluate_features(
    examples: Iterator[Example],
    models: Mapping[str, Estimator],
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Score models on features, beside the noisy ones and the trivial systems.

    Args:
        examples: Clips.
        models: By the name to show; of one transform.
        progress: Called with the number of clips done.

    Raises:
        FeatureError: When models have different transforms, or one returns another shape or what is
            not finite.
    """
    first, config = next((name, model.config) for name, model in models.items())
    for name, model in models.items():
        if (model.config.audio, model.config.mel) != (config.audio, config.mel):
            raise FeatureError(f"{name}: has another transform than {first}; evaluate each by "
                               "itself")
    rate = config.audio.sample_rate
    rows = []
    for done, example in enumerate(examples, start=1):
        estimates = {NOISY: example.noisy}
        for name, model in models.items():
            estimates[name] = estimate = model.estimate(example.noisy)
            if estimate.shape != example.noisy.shape or not np.isfinite(estimate).all():
                raise FeatureError(f"{example.name}: {name} made {estimate.shape} of "
                                   f"{example.noisy.shape}, or values that are not finite")
        bands = np.s_[:, : config.mel.n_mels]
        estimates |= trivial_estimates(example.clean[bands], example.noisy[bands])
        seconds = len(example.clean) * config.mel.hop_length / rate
        for system, estimate in estimates.items():
            found = {name: _score(name, example.clean[bands], estimate[bands]) for name in METRICS}
            rows.append(Row(
                example.name, system, example.snr_db, seconds, rate,
                scores={k: v for k, v in found.items() if not isinstance(v, Refused)},
                refused={k: str(v) for k, v in found.items() if isinstance(v, Refused)},
                speaker=example.speaker,
            ))
        if progress is not None:
            progress(done)
    if not rows:
        raise FeatureError("no clip to evaluate")
    notices = ("features without a waveform: scores of the mel alone",)
    return Evaluation((NOISY, *models, SILENCE, BEST_GAIN), tuple(rows), notices)


def _score(name: str, clean: np.ndarray, estimate: np.ndarray) -> float | Refused:
    try:
        return getattr(metrics, name)(clean, estimate)
    except Refused as refusal:
        return refusal
