"""PESQ and STOI, perceptual metrics of quality and intelligibility, for clips of any length.

They are computed by the packages `pesq` and `pystoi`.
"""

from __future__ import annotations

import math
import warnings

import numpy as np

from gan_denoise.metrics.blockwise import as_pair, equal_parts, float64, require_sound
from gan_denoise.metrics.registry import Refused, require
from gan_denoise.metrics.stoi_blocks import stoi_in_blocks

PESQ_RATES = {"wb": (16000,), "nb": (8000, 16000)}  # Hz; what P.862.2 and P.862.1 are defined for
PESQ_SECONDS = 20.0  # see `pesq_wb`
STOI_SECONDS = 0.4  # 30 frames of 25.6 ms, every 12.8 ms: the least that STOI correlates over
STOI_BLOCK = 2**16  # samples at 10 kHz
STOI_WHOLE_SECONDS = 20.0  # what pystoi gets at once; it keeps half a megabyte a second


def pesq_wb(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return wideband PESQ as MOS-LQO (ITU-T P.862.2), 1.04 to 4.64.

    A clip longer than 20 s is scored in equal parts of at most 20 s and the mean of the parts is
    returned, parts without speech left out: the reference code has room for 50 utterances, and
    writes beyond its arrays (a crash, or a wrong score) when it finds more.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz; 16000.

    Raises:
        Refused: PESQ finds no speech, the clip is shorter than 1/4 s, or the estimate is silent.
        ValueError: Another sample rate.
        MissingMetric: `pesq` is not installed.
    """
    return _pesq(clean, estimate, sample_rate, "wb")


def pesq_nb(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return narrowband PESQ as MOS-LQO (ITU-T P.862 mapped by P.862.1), 1.02 to 4.55.

    This is not the raw P.862 score, which is higher for the same files. Long clips, arguments and
    errors are those of `pesq_wb`; the sample rate is 8000 or 16000 Hz.
    """
    return _pesq(clean, estimate, sample_rate, "nb")


def stoi(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return short-time objective intelligibility (Taal et al. 2011), about 0 to 1.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`; a silent one scores 0.
        sample_rate: Hz; pystoi resamples to 10 kHz by itself.

    Raises:
        Refused: The clean clip is silent, or has less than 30 frames (0.4 s) of speech.
        MissingMetric: `pystoi` is not installed.
    """
    return _stoi(clean, estimate, sample_rate, extended=False)


def estoi(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return extended STOI (Jensen & Taal 2016): much lower than STOI on the same files.

    Arguments and errors are those of `stoi`.
    """
    return _stoi(clean, estimate, sample_rate, extended=True)


def _pesq(clean: np.ndarray, estimate: np.ndarray, sample_rate: int, band: str) -> float:
    if sample_rate not in PESQ_RATES[band]:
        raise ValueError(f"pesq_{band} is defined at {PESQ_RATES[band]} Hz, not {sample_rate}")
    clean, estimate = as_pair(clean, estimate)
    require_sound(clean, estimate)
    package = require("pesq")
    scores = []
    for inside in equal_parts(len(clean), math.ceil(len(clean) / (PESQ_SECONDS * sample_rate))):
        part = [float64(signal, inside) for signal in (clean, estimate)]
        if not np.any(part[0]):
            continue
        try:
            score = float(package.pesq(sample_rate, *part, band))
        except package.NoUtterancesError:
            continue
        except package.BufferTooShortError:
            raise Refused("shorter than 1/4 s") from None
        except ValueError:  # pesq's own NaN
            if np.any(part[1]):
                raise
            raise Refused("estimate is silent where clean speaks") from None
        if not 1.0 <= score <= 5.0:
            raise Refused(f"pesq returned {score}, which is no MOS")
        scores.append(score)
    if not scores:
        raise Refused("PESQ found no speech in the clean clip")
    return float(np.mean(scores))


def _stoi(clean: np.ndarray, estimate: np.ndarray, sample_rate: int, extended: bool) -> float:
    clean, estimate = as_pair(clean, estimate)
    loudest = require_sound(clean, estimate)
    package = require("pystoi")
    too_little = Refused(f"less than {STOI_SECONDS} s of speech: STOI needs 30 frames")
    if len(clean) < STOI_SECONDS * sample_rate:  # pystoi fails on the shortest
        raise too_little
    gain = 1 / loudest  # one for both: pystoi adds constants to the faintest signals
    if len(clean) > STOI_WHOLE_SECONDS * sample_rate:
        score = stoi_in_blocks(clean, estimate, sample_rate, extended, gain, STOI_BLOCK)
        if score is None:
            raise too_little
        return score
    whole = [gain * float64(signal, slice(None)) for signal in (clean, estimate)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames")
        try:
            score = float(package.stoi(*whole, sample_rate, extended))
        except RuntimeWarning:
            raise too_little from None
    if score == 1e-5:  # pystoi's stand-in, should it come without the warning
        raise too_little
    return score
