"""What PESQ hears of a candidate beside the clean clip, from their mels, as Keras layers.

PESQ (ITU-T P.862; Rix et al. 2001, Beerends et al. 2002) compares loudness over time and Bark. Its
steps are here but for the filter before, the alignment in time and the repair of badly aligned
parts. Powers come from mels in place of spectra, so they are near, not equal, and three constants
are those that explain PESQ best through mels (docs/experiments.md). What is left to learn is how
bands and disturbances weigh.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

LISTENING_LEVEL = 79.0  # dB SPL to which PESQ brings the speech band of either clip
SPEECH_BAND = (350.0, 3250.0)  # Hz
AUDIBLE = 100.0  # times the threshold: bands whose mean powers are compared
EXPONENT = 0.27  # of loudness; Zwicker's and PESQ's is 0.23
MASKED = 0.15  # of the smaller loudness: differences below are not heard; PESQ's is 0.25
SLIGHT = 1e3  # power below which a frame's gain is not made up for; PESQ's is 5e3
LOUDEST = 45.0  # a frame's disturbance counts no further
INTERVAL, STEP = 0.32, 0.16  # seconds of an interval of speech, and from one to the next


def bark(hz: np.ndarray) -> np.ndarray:
    """Return the critical-band rate in Bark (Zwicker & Terhardt 1980)."""
    return 13 * np.arctan(0.00076 * hz) + 3.5 * np.arctan((hz / 7500) ** 2)


def threshold_in_quiet(hz: np.ndarray) -> np.ndarray:
    """Return the threshold of hearing in dB SPL (Terhardt 1979), at most 75."""
    khz = np.maximum(hz, 20.0) / 1000
    level = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    return np.minimum(level, 75.0)


@keras.saving.register_keras_serializable("gan_denoise")
class Disturbance(layers.Layer):
    """Disturbances of a candidate, `[clean01, candidate01]` -> `[symmetric, asymmetric]`.

    All are `[batch, frames, n_mels]`. The symmetric one is the difference in loudness beyond what
    masks itself, in sone a Bark; the asymmetric one counts only what is added where there was
    little.

    Args:
        centres: Of the bands, in Hz.
        range_db: Decibels that mel01's [0, 1] stands for.
    """

    def __init__(self, centres: Sequence[float], range_db: float, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.centres, self.range_db = [float(hz) for hz in centres], range_db
        hz = np.asarray(centres, np.float64)
        rate = bark(hz)
        self.bark = np.gradient(rate).astype(np.float32)  # width of a band
        # librosa's bands have an area of 1, so their values are means over the band.
        self._density = (np.gradient(hz) / self.bark).astype(np.float32)
        self._speech = np.float32((hz > SPEECH_BAND[0]) & (hz < SPEECH_BAND[1])) * self.bark
        self._threshold = (10 ** (threshold_in_quiet(hz) / 10)).astype(np.float32)
        steeper = np.where(rate < 4, np.minimum(6 / (rate + 2), 2) ** 0.15, 1)
        self._exponent = (EXPONENT * steeper).astype(np.float32)

    def call(self, mels):
        clean, candidate = (self._power(mel) for mel in mels)
        threshold = self._threshold
        # What a slow equaliser does to a recording disturbs little: the clean clip gets it too.
        audible = ops.cast(clean > AUDIBLE * threshold, clean.dtype)
        response = (_mean(audible * candidate) + 1e3) / (_mean(audible * clean) + 1e3)
        clean *= ops.clip(response, 0.01, 100.0)
        # Nor does a gain that moves slowly: the candidate is brought to the clean one's.
        audible = ops.sum(clean * self.bark, axis=-1)
        loud, found = (
            ops.sum(ops.where(power > threshold, power, 0.0) * self.bark, axis=-1, keepdims=True)
            for power in (clean, candidate)
        )
        gain = (loud + SLIGHT) / (found + SLIGHT)
        gain = 0.8 * gain + 0.2 * ops.concatenate([gain[:, :1], gain[:, :-1]], axis=1)
        candidate *= ops.clip(gain, 3e-4, 5.0)

        before, after = self._loudness(clean), self._loudness(candidate)
        masked = MASKED * ops.minimum(before, after)
        symmetric = ops.relu(ops.abs(after - before) - masked)
        added = ops.power((candidate + 50.0) / (clean + 50.0), 1.2)
        added = ops.where(added < 3.0, 0.0, ops.minimum(added, 12.0))
        # In loud frames a disturbance counts a little less.
        symmetric /= ops.power((audible + 1e5) / 1e7, 0.04)[..., None]
        return symmetric, symmetric * added

    def _power(self, mel01):
        """Power a Bark, re 0 dB SPL, at the listening level."""
        power = ops.exp(mel01 * (self.range_db * math.log(10) / 10)) * self._density
        level = ops.mean(ops.sum(power * self._speech, axis=-1, keepdims=True), 1, keepdims=True)
        return power * (10 ** (LISTENING_LEVEL / 10) / (level + 1e-9))

    def _loudness(self, power):
        """Specific loudness in sone a Bark (Zwicker & Fastl, Psychoacoustics, ch. 8)."""
        rise = ops.power(0.5 + 0.5 * power / self._threshold, self._exponent) - 1
        return 0.187 * (2 * self._threshold) ** self._exponent * ops.relu(rise)

    def get_config(self):
        return super().get_config() | {"centres": self.centres, "range_db": self.range_db}


@keras.saving.register_keras_serializable("gan_denoise")
class PesqScore(layers.Layer):
    """The score of disturbances, `[symmetric, asymmetric]` -> `[batch, 1]` in (0, 1), 1 the best.

    Sums over bands, then over time as PESQ does: the sixth power within an interval of 0.3 s, so
    that its worst frames rule, the square over the intervals. Bands, slopes and offset are trained,
    and start where PESQ has them. A disturbance can never be worth something: weights are
    exponentials.

    Args:
        bark: Widths of the bands.
        frame_rate: Frames a second.
    """

    def __init__(self, bark: Sequence[float], frame_rate: float, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.bark, self.frame_rate = [float(width) for width in bark], frame_rate

    def build(self, shape):
        bands = len(self.bark)
        self.bands = self.add_weight(shape=(2, bands), initializer="zeros", name="bands")
        self.slopes = self.add_weight(shape=(2,), initializer="zeros", name="slopes")
        self.offset = self.add_weight(shape=(1,), initializer="zeros", name="offset")

    def call(self, disturbances):
        widths = np.float32(self.bark)
        weights = ops.exp(self.bands) * widths
        symmetric, asymmetric = disturbances[0] * weights[0], disturbances[1] * weights[1]
        total = float(widths.sum())
        frames = ops.stack([
            ops.sqrt(total * ops.sum(ops.square(symmetric), axis=-1) + 1e-6),
            ops.sum(asymmetric, axis=-1),
        ], axis=-1)
        frames = ops.power(ops.minimum(frames, LOUDEST) + 1e-3, 6.0)
        interval, step = (round(seconds * self.frame_rate) for seconds in (INTERVAL, STEP))
        intervals = ops.average_pool(frames, interval, step, padding="same")
        disturbed = ops.sqrt(ops.mean(ops.power(intervals, 1 / 3), axis=1))
        slopes = ops.exp(self.slopes) * np.float32([0.1, 0.0309])
        raw = 4.5 + self.offset - ops.sum(disturbed * slopes, axis=-1, keepdims=True)
        return ops.sigmoid(1.3669 * raw - 3.8224) / 0.91  # P.862.2, from 1 .. 4.64 to 0 .. 1

    def get_config(self):
        return super().get_config() | {"bark": self.bark, "frame_rate": self.frame_rate}


def _mean(power):
    return ops.mean(power, axis=1, keepdims=True)
