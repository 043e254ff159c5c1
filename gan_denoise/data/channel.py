"""What a recording passes through on its way: band limits, lossy codecs, an overdriven input.

All of it happens to the noisy recording and to its target alike, except for clipping: a denoiser
is not asked to bring back a band or undo a codec, but it has to keep speech that has lost them.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile
from scipy import fft

from gan_denoise.audio import peak, resample
from gan_denoise.data.augment import fast_length

PHONE_HZ = ((200.0, 400.0), (3000.0, 3800.0))  # ranges of both edges of a telephone's band
LOW_CUT_HZ = (60.0, 350.0)
HIGH_CUT_HZ = (1800.0, 7000.0)
ORDERS = (2.0, 16.0)  # of a band edge: from a soft roll-off to a resampler's
CLIP_SHARE = (0.3, 0.9)  # of the noisy peak, at which an overdriven input clips
GSM_RATE = 8000  # Hz, the only rate of GSM 06.10
GAP = 4096  # silent samples that keep two recordings in one coded file apart
MP3_DELAY = 1105  # samples of coder and decoder: frames below 40 kbit/s have no room to note it
# libsndfile's compression levels: constant 40 to 64 kbit/s of MP3 at 16 kHz, 10 to 35 of Opus.
CODECS = (
    {"format": "MP3", "subtype": "MPEG_LAYER_III", "levels": (0.6, 0.8)},
    {"format": "OGG", "subtype": "OPUS", "levels": (0.9, 1.0)},
    {"format": "WAV", "subtype": "GSM610"},
    {"format": "WAV", "subtype": "ULAW"},
)


def band_limit(pair: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return recordings of a telephone's band, or of one edge of it (zero phase).

    Args:
        pair: float32 [recordings, samples]; all are filtered alike.
        sample_rate: Hz.
        rng: Which band, and how steep.
    """
    shape = rng.integers(4)  # telephone (twice as often), low cut, high cut
    low = rng.uniform(*(PHONE_HZ[0] if shape < 2 else LOW_CUT_HZ))
    high = rng.uniform(PHONE_HZ[1][0], PHONE_HZ[1][1]) if shape < 2 else rng.uniform(*HIGH_CUT_HZ)
    low_edge = None if shape == 3 else (low, rng.uniform(*ORDERS))
    high_edge = None if shape == 2 else (high, rng.uniform(*ORDERS))
    return pass_band(pair, sample_rate, low_edge, high_edge)


def pass_band(pair: np.ndarray, sample_rate: int, low: tuple[float, float] | None = None,
              high: tuple[float, float] | None = None) -> np.ndarray:
    """Return recordings of a band: magnitudes of Butterworth filters, without their phase.

    Args:
        pair: float32 [recordings, samples].
        sample_rate: Hz.
        low: Frequency in Hz at which the lower edge is at -3 dB, and its order; None is no edge.
        high: The same of the upper edge.
    """
    samples = pair.shape[-1]
    size = fft.next_fast_len(samples + sample_rate // 10, real=True)
    hertz = np.maximum(fft.rfftfreq(size, 1 / sample_rate), 1.0)
    gain = np.ones(len(hertz), np.float32)
    if low is not None:
        gain /= np.sqrt(1.0 + (low[0] / hertz) ** (2 * low[1]))
    if high is not None:
        gain /= np.sqrt(1.0 + (hertz / high[0]) ** (2 * high[1]))
    return fft.irfft(fft.rfft(pair, size) * gain, size)[..., :samples].astype(np.float32)


def code(pair: np.ndarray, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return recordings after a lossy codec of calls and messages: MP3, Opus, GSM or mu-law.

    Args:
        pair: float32 [recordings, samples]; each is coded by itself, all by the same codec.
        sample_rate: Hz, one that the codecs take: 8000, 12000, 16000, 24000 or 48000.
        rng: Which codec, and its bit rate.
    """
    codec = CODECS[rng.integers(len(CODECS))]
    levels = codec.get("levels")
    return transcode(pair, sample_rate, codec["format"], codec["subtype"],
                     None if levels is None else float(rng.uniform(*levels)))


def transcode(pair: np.ndarray, sample_rate: int, container: str, subtype: str,
              level: float | None = None) -> np.ndarray:
    """Return recordings after a codec of libsndfile's; GSM 06.10 and mu-law have 8 kHz.

    Args:
        pair: float32 [recordings, samples]; each is coded by itself.
        sample_rate: Hz, one that the codec takes.
        container: libsndfile's name of it.
        subtype: Its name of the codec.
        level: Its compression level, 0 to 1: the higher, the fewer bits.
    """
    options = {"format": container, "subtype": subtype, "compression_level": level}
    if container == "MP3":
        options["bitrate_mode"] = "CONSTANT"
    rate = GSM_RATE if subtype in ("GSM610", "ULAW") else sample_rate
    count, samples = pair.shape
    scale = max(peak(pair), 1e-6)  # integer codecs clip at full scale
    joined = np.pad(pair / np.float32(scale), ((0, 0), (GAP, GAP))).ravel()
    file = io.BytesIO()
    sent = joined if rate == sample_rate else resample(joined, sample_rate, rate)
    soundfile.write(file, sent, rate, **options)
    file.seek(0)
    received = soundfile.read(file, dtype="float32")[0]
    if container == "MP3" and len(received) > len(joined):
        received = received[MP3_DELAY:]
    if rate != sample_rate:
        received = resample(received, rate, sample_rate)
    whole = np.zeros(len(joined), np.float32)
    length = min(len(whole), len(received))
    whole[:length] = received[:length]
    return whole.reshape(count, samples + 2 * GAP)[:, GAP:GAP + samples] * np.float32(scale)


def clip(noisy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a recording whose input was overdriven: cut at a share of its peak."""
    top = peak(noisy) * rng.uniform(*CLIP_SHARE)
    return np.clip(noisy, -top, top)


def source_length(samples: int, speed: float) -> int:
    """Return how many samples `change_speed` takes for `samples` of its result.

    Both lengths of its transforms have many factors of two, which is fast; the speed moves by up
    to a twentieth for it.
    """
    return fast_length(round(fast_length(samples) * speed))


def change_speed(audio: np.ndarray, speed: float, samples: int) -> np.ndarray:
    """Return the start of a recording played faster or slower: pitch and formants move with it.

    Band-limited interpolation by the discrete Fourier transform (Smith, Mathematics of the DFT,
    2nd edition 2007, chapter on the DFT's theorems).

    Args:
        audio: float32 [samples of the source]; what is missing at its end is silence.
        speed: Faster above 1.
        samples: Length to return.
    """
    length, block = fast_length(samples), source_length(samples, speed)
    padded = np.zeros(block, np.float32)
    padded[:min(block, len(audio))] = audio[:block]
    spectrum = fft.rfft(padded)
    resized = np.zeros(length // 2 + 1, spectrum.dtype)
    kept = min(len(resized), len(spectrum))
    resized[:kept] = spectrum[:kept]
    return fft.irfft(resized, length)[:samples] * np.float32(length / block)
