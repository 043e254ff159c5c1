"""Acoustic measures of one recording without a reference: level, pauses, SNR, F0, spectrum.

Signals are float `[samples]` with full scale at +-1. Levels are RMS in dB of full scale, so a
full-scale sine has -3 dB. A measure that cannot be taken is None.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, signal

from gan_denoise.audio import peak, resample
from gan_denoise.core.decibels import db_to_amplitude, db_to_power, power_to_db
from gan_denoise.dsp.levels import FRAME_SECONDS, QUIET, SILENCE_DB

# ITU-T P.56, method B.
SMOOTH_SECONDS = 0.03  # of the envelope, twice
HANGOVER_SECONDS = 0.2  # shorter gaps are no pauses
MARGIN_DB = 15.9  # between the active level and the threshold of activity

SNR_SECONDS = 0.25  # a shorter recording has too few frames for a percentile
LOWEST_SNR_DB = -20.0  # steady noise; below, the estimate has no meaning

# F0: at 8 kHz, which holds all of it that matters and makes YIN five times faster.
F0_RATE = 8000  # Hz
F0_RANGE = (60.0, 450.0)  # Hz
F0_FRAME, F0_HOP = 512, 80  # samples: 64 ms, two periods of the lowest voice; 10 ms
VOICED_LIKENESS = 0.7  # normalised correlation of a frame with itself one period later
VOICED_RANGE_DB = 30.0  # below the loudest frame
VOICED_FRAMES = 10  # a recording with fewer has no F0

SPECTRUM_SECONDS = 0.064  # window of the long-term spectrum: bins of 16 Hz
# Sixth-octave bands from 62.5 Hz up; 4, 8 and 16 kHz are edges, so bands end at usual Nyquists.
BAND_EDGES = 1000.0 * 2.0 ** (np.arange(-24, 28) / 6)  # Hz
BAND_CENTRES = np.sqrt(BAND_EDGES[1:] * BAND_EDGES[:-1])  # Hz
CONTENT_DB = 60.0  # below the highest point of the spectrum there is no content
ROLLOFF = 0.99  # of the energy


@dataclass(frozen=True, eq=False)
class AcousticMeasures:
    """The acoustic measures of one signal; all are None for silence.

    Attributes:
        level_db: Active speech level in dB of full scale.
        pauses: Share of the time without speech, 0 to 1.
        snr_db: Estimate of the SNR in dB over a steady noise floor.
        f0_hz: Median F0 of the voiced frames in Hz; None for fewer than `VOICED_FRAMES` of them.
        f0_range_hz: 10th and 90th percentile of F0 in Hz.
        voiced: Share of voiced frames, 0 to 1.
        bandwidth_hz: Highest frequency with content.
        rolloff_hz: Frequency under which 99 % of the energy lies.
        bands_db: Energy in the bands between `BAND_EDGES` in dB of the energy of all bands,
            `[bands]`; NaN beyond half the sample rate.
    """

    level_db: float | None = None
    pauses: float | None = None
    snr_db: float | None = None
    f0_hz: float | None = None
    f0_range_hz: tuple[float, float] | None = None
    voiced: float | None = None
    bandwidth_hz: float | None = None
    rolloff_hz: float | None = None
    bands_db: np.ndarray | None = None


def measure_acoustics(audio: np.ndarray, sample_rate: int) -> AcousticMeasures:
    """Measure a signal; its mean is removed first.

    Args:
        audio: float `[samples]`.
        sample_rate: Hz.
    """
    audio = np.asarray(audio, np.float32)
    audio = audio - audio.mean(dtype=np.float64).astype(np.float32) if audio.size else audio
    if peak(audio) <= db_to_amplitude(SILENCE_DB):
        return AcousticMeasures()
    level_db, activity = active_level(audio, sample_rate)
    f0 = voiced_f0(audio, sample_rate)
    enough = np.count_nonzero(~np.isnan(f0)) >= VOICED_FRAMES
    low, middle, high = np.nanpercentile(f0, (10, 50, 90)) if enough else (None, None, None)
    hertz, density = long_term_spectrum(audio, sample_rate)
    return AcousticMeasures(
        level_db=level_db,
        pauses=1.0 - activity,
        snr_db=estimate_snr(audio, sample_rate),
        f0_hz=float(middle) if enough else None,
        f0_range_hz=(float(low), float(high)) if enough else None,
        voiced=float(np.mean(~np.isnan(f0))),
        bandwidth_hz=bandwidth(hertz, density),
        rolloff_hz=rolloff(hertz, density),
        bands_db=band_levels(hertz, density),
    )


def active_level(audio: np.ndarray, sample_rate: int) -> tuple[float, float]:
    """Return the active speech level in dB of full scale, and the share of active time.

    ITU-T P.56 (12/2011), method B: the RMS over the time in which the envelope, held for 200 ms,
    is above a threshold that lies 15.9 dB below that RMS. Its thresholds are set here relative to
    the highest envelope, so that the level follows a gain exactly and the share does not change.
    Steady noise and signals shorter than 200 ms are active throughout: their level is their RMS.

    Args:
        audio: float `[samples]`, not silent.
        sample_rate: Hz.
    """
    energy = float(np.vdot(audio, audio))
    hold = max(round(HANGOVER_SECONDS * sample_rate), 1)  # samples
    if len(audio) <= hold:
        return power_to_db(energy / len(audio)), 1.0
    keep = math.exp(-1.0 / (SMOOTH_SECONDS * sample_rate))
    envelope = np.abs(audio, dtype=np.float64)
    for _ in range(2):
        envelope = signal.lfilter([1.0 - keep], [1.0, -keep], envelope)
    # The origin makes it a maximum over the samples before.
    held = ndimage.maximum_filter1d(envelope, hold, origin=(hold - 1) // 2, mode="constant")
    thresholds = envelope.max() * 2.0 ** np.arange(-20, 0)
    levels = 10 * np.log10([energy / np.count_nonzero(held >= each) for each in thresholds])
    margins = levels - 20 * np.log10(thresholds)  # falls as the threshold rises
    level_db = float(np.interp(-MARGIN_DB, -margins, levels))
    return level_db, min(energy / len(audio) / db_to_power(level_db), 1.0)


def estimate_snr(audio: np.ndarray, sample_rate: int) -> float | None:
    """Return an estimate of the SNR in dB without a reference; None for less than 1/4 s.

    The noise is the 10th percentile of the levels of 50 ms frames (a percentile of that
    distribution, as in the quick method of NIST's `stnr`), the speech is the mean energy above it.
    So it estimates the ratio of whole-clip energies, as `mix` sets it, to within a few dB for
    steady noise and speech with pauses. It is too high for noise that comes and goes (music,
    barks), and too low for speech without a pause (a word cut out tightly).

    Args:
        audio: float `[samples]`.
        sample_rate: Hz.
    """
    size = max(round(FRAME_SECONDS * sample_rate), 1)
    frames = audio[: len(audio) - len(audio) % size].reshape(-1, size)
    energy = np.mean(np.square(frames, dtype=np.float64), axis=1)
    energy = energy[energy > db_to_power(SILENCE_DB)]  # digital silence is no floor
    if len(energy) * FRAME_SECONDS < SNR_SECONDS:
        return None
    noise = float(np.quantile(energy, QUIET))
    ratio = (float(energy.mean()) - noise) / noise
    return max(power_to_db(ratio), LOWEST_SNR_DB)


def voiced_f0(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return F0 in Hz of frames every 10 ms, `[frames]`; NaN in frames that are not voiced.

    F0 is by YIN (de Cheveigné & Kawahara 2002, librosa), which gives a value to every frame. A
    frame is voiced where its normalised correlation with the signal one period later is 0.7 or
    more, and its level within 30 dB of the loudest. Of the frames that pYIN calls voiced as well,
    1 % differed by more than a quarter of an octave on real speech; pYIN takes thirty times longer.

    Args:
        audio: float `[samples]`.
        sample_rate: Hz.
    """
    from librosa import yin

    audio = resample(audio, sample_rate, F0_RATE)
    f0 = yin(audio, fmin=F0_RANGE[0], fmax=F0_RANGE[1], sr=F0_RATE, frame_length=F0_FRAME,
             hop_length=F0_HOP)
    period = np.rint(F0_RATE / f0).astype(int)
    longest = math.ceil(F0_RATE / F0_RANGE[0])
    size = F0_FRAME - longest
    padded = np.pad(audio, (F0_FRAME // 2, F0_FRAME))  # as YIN centres its frames
    views = np.lib.stride_tricks.sliding_window_view(padded, size)
    starts = np.arange(len(f0)) * F0_HOP
    frame, later = views[starts], views[starts + np.minimum(period, longest)]
    energy = np.sum(frame**2, axis=1)
    norm = np.sqrt(energy * np.sum(later**2, axis=1))
    likeness = np.sum(frame * later, axis=1) / np.maximum(norm, np.finfo(np.float32).tiny)
    voiced = (likeness >= VOICED_LIKENESS) & (f0 < F0_RANGE[1])  # at the limit: no trough found
    voiced &= energy > energy.max(initial=0.0) * db_to_power(-VOICED_RANGE_DB)
    return np.where(voiced, f0, np.nan)


def long_term_spectrum(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (frequencies in Hz, mean power density), `[bins]` each, by Welch's method."""
    size = min(max(round(SPECTRUM_SECONDS * sample_rate), 2), len(audio))
    return signal.welch(audio, sample_rate, nperseg=size)


def band_levels(hertz: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Return the energy in sixth-octave bands in dB of all bands' energy, `[bands]`.

    Bands that reach beyond the last frequency are NaN, those without any energy -200 dB.
    """
    steps = np.diff(hertz) * (density[1:] + density[:-1]) / 2
    below = np.concatenate([[0.0], np.cumsum(steps)])  # energy below each frequency
    energy = np.diff(np.interp(BAND_EDGES, hertz, below))
    inside = BAND_EDGES[1:] <= hertz[-1]
    total = energy[inside].sum()
    if not total:
        return np.full(len(energy), np.nan)
    levels = 10 * np.log10(np.maximum(energy / total, 1e-20))
    return np.where(inside, levels, np.nan)


def bandwidth(hertz: np.ndarray, density: np.ndarray) -> float:
    """Return the highest frequency in Hz at which a spectrum is within 60 dB of its peak.

    A low-pass in the history of the recording (8 kHz material resampled to 16 kHz, MP3) shows as a
    bandwidth well below half the sample rate. Rumble below the lowest band is left out.
    """
    counted = hertz >= min(BAND_EDGES[0], hertz[-1])
    inside = counted & (density >= density[counted].max() * db_to_power(-CONTENT_DB))
    return float(hertz[inside][-1])


def rolloff(hertz: np.ndarray, density: np.ndarray) -> float:
    """Return the frequency in Hz under which 99 % of the energy lies.

    Most of the energy of speech lies below 4 kHz: this tells dull from bright material. `bandwidth`
    tells upsampled speech.
    """
    below = np.cumsum(density)
    return float(hertz[np.searchsorted(below, ROLLOFF * below[-1])])
