"""The scores of one estimate: metrics of its waveform, errors of its mel, its delay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise import metrics
from gan_denoise.core.leftovers import temporary_folder
from gan_denoise.evaluation.mel_parts import part_ranges
from gan_denoise.evaluation.results import FileScores
from gan_denoise.inference.chunks import PART_SECONDS
from gan_denoise.metrics import ErrorSums, Refused
from gan_denoise.metrics.signal_files import Signal, resampled, store

if TYPE_CHECKING:
    from gan_denoise.dsp.mel import Mel


@dataclass
class PairEstimates:
    """What a scoring process needs of one pair: paths, names and numbers.

    Attributes:
        name: The pair's name.
        speaker: Name of the speaker; None where it is unknown.
        snr_db: SNR of the mixture in dB; None where it is unknown.
        sample_rate: Rate of all signals in Hz.
        folder: Holds the signals' files; can be removed once they are scored.
        clean: The reference.
        packages: The installed ones of `pesq` and `pystoi`.
        signals: `{system: waveform}`, each as long as the clean one.
        mel_scores: `{system: {metric: score or refusal}}`, of the mels.
    """

    name: str
    speaker: str | None
    snr_db: float | None
    sample_rate: int
    folder: Path
    clean: Signal
    packages: tuple[str, ...]
    signals: dict[str, Signal] = field(default_factory=dict)
    mel_scores: dict[str, dict[str, float | Refused]] = field(default_factory=dict)


def score_system(estimates: PairEstimates, system: str) -> FileScores:
    """Return the scores of one system on one pair."""
    clean, estimate, rate = estimates.clean, estimates.signals[system], estimates.sample_rate
    found = dict(waveform_scores(clean, estimate, rate, estimates.packages))
    found |= estimates.mel_scores.get(system, {})
    lag = score_or_refusal(metrics.lag, clean, estimate, rate)
    return FileScores(
        estimates.name, system, estimates.snr_db, len(clean) / rate, rate,
        *split_refused(found),
        lag=None if isinstance(lag, Refused) else lag,
        speaker=estimates.speaker,
    )


def waveform_scores(
    clean: np.ndarray | Signal,
    estimate: np.ndarray | Signal,
    sample_rate: int,
    packages: Iterable[str],
) -> Iterator[tuple[str, float | Refused]]:
    """Yield (metric, score or refusal) of a waveform.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Rate of both in Hz. PESQ and STOI get the signals at `metric_rate` of it; at
            8 kHz, PESQ is `pesq_nb`.
        packages: The installed ones of `pesq` and `pystoi`.
    """
    rate = metric_rate(sample_rate)
    with temporary_folder("gan-denoise-") as folder:
        pair = [
            at_rate(signal, sample_rate, rate, Path(folder, name))
            for signal, name in ((clean, "clean"), (estimate, "estimate"))
        ]
        if "pesq" in packages:
            name = "pesq_nb" if rate == 8000 else "pesq_wb"
            yield name, score_or_refusal(getattr(metrics, name), *pair, rate)
        if "pystoi" in packages:
            yield "stoi", score_or_refusal(metrics.stoi, *pair, rate)
            yield "estoi", score_or_refusal(metrics.estoi, *pair, rate)
    yield "si_sdr", score_or_refusal(metrics.si_sdr, clean, estimate)
    yield "snr", score_or_refusal(metrics.snr, clean, estimate)
    yield "lsd", score_or_refusal(metrics.lsd, clean, estimate, sample_rate)


def metric_rate(sample_rate: int) -> int:
    """Return the rate in Hz at which PESQ and STOI get signals of some rate: 8 or 16 kHz."""
    return 8000 if sample_rate <= 8000 else 16000


class MelErrors:
    """The errors of a system's two mels, summed part by part.

    One mel is the network's estimate, the other the analysis of the output waveform.
    """

    def __init__(self) -> None:
        self._network, self._wave = ErrorSums(), ErrorSums()

    def add(self, clean01: np.ndarray, estimate01: np.ndarray, wave01: np.ndarray) -> None:
        """Add the next frames.

        Args:
            clean01: Mel of the clean signal in [0, 1], `[frames, n_mels]`.
            estimate01: The network's estimate of it, of the same shape.
            wave01: Mel of the output waveform, of the same shape.
        """
        self._network.add(clean01, estimate01)
        self._wave.add(clean01, wave01)

    def scores(self) -> dict[str, float | Refused]:
        """Return `{metric: score or refusal}` over all frames."""
        return {
            "psnr_mel": self._network.psnr,
            "mse_mel": self._network.mse,
            "snr_mel": score_or_refusal(lambda: self._network.snr),
            "psnr_mel_wave": self._wave.psnr,
            "mse_mel_wave": self._wave.mse,
        }


def mel_part_ranges(mel: Mel, samples: int, time_strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the frames `[first, stop)` of the parts in which a recording's mels are scored.

    Args:
        mel: The transform.
        samples: Length of the recording at its rate.
        time_strides: Each part begins at a common multiple of these frame counts.
    """
    stride = math.lcm(*time_strides)
    size = stride * max(round(PART_SECONDS * mel.sample_rate / mel.config.hop_length / stride), 1)
    return part_ranges(mel.frames(samples), size)


def at_rate(signal: np.ndarray | Signal, rate_in: int, rate_out: int, path: Path
            ) -> np.ndarray | Signal:
    """Return a signal at another rate in Hz, stored at `path` where the rates differ."""
    if rate_in == rate_out:
        return signal
    return store(path, resampled(signal, rate_in, rate_out))


def score_or_refusal(metric: Callable[..., float], *arguments: object) -> float | Refused:
    """Return a metric's score, or its refusal as a value."""
    try:
        return metric(*arguments)
    except Refused as refusal:
        return refusal


def split_refused(
    found: dict[str, float | Refused]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return `{metric: score}` and `{metric: reason}` of scores and refusals."""
    return ({name: value for name, value in found.items() if not isinstance(value, Refused)},
            {name: str(value) for name, value in found.items() if isinstance(value, Refused)})
