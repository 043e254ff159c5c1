"""Synthetic voices: a glottal pulse train and breath noise through moving formants.

With fricatives, bursts, nasals, syllables and pauses. Everything is laid out on control tracks of
one value a frame, and the filtering is done for all frames at once in the frequency domain. All of
it is deterministic.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from gan_denoise.core.rng import random_stream

FRAME_SECONDS = 0.005  # of the control tracks
PEAK = 0.5  # largest magnitude of a voice or noise
ROOM = 2e-4  # level of the recording room: pauses of real speech are not digital silence either
# (F1, F2, F3) in Hz of a male vocal tract, after Peterson and Barney (1952).
VOWELS = np.array([
    (270, 2290, 3010), (390, 1990, 2550), (530, 1840, 2480), (660, 1720, 2410), (730, 1090, 2440),
    (570, 840, 2410), (440, 1020, 2240), (300, 870, 2240), (640, 1190, 2390), (490, 1350, 1690),
], dtype=float)  # fmt: skip
HIGH_FORMANTS = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)  # Hz; F4 and up hardly move
BANDWIDTHS = (60.0, 80.0, 120.0, 180.0, 250.0, 350.0, 450.0, 550.0)  # Hz of F1..F8
# Fricatives: centre and width in Hz, level, voiced.
FRICATIVES = ((5500, 1500, 0.11, 0), (3200, 1000, 0.13, 0), (4500, 3000, 0.03, 0),
              (5200, 1500, 0.06, 1), (3500, 3000, 0.03, 1))  # fmt: skip
# Plosives: centre of the burst in Hz, seconds of breath after it (0: voiced).
PLOSIVES = ((900, 0.04), (3800, 0.05), (2000, 0.06), (800, 0.0), (3300, 0.0), (1800, 0.0))
SONORANTS = np.array([(250, 1100, 2200), (250, 1500, 2400), (310, 1050, 2500), (320, 1200, 1600),
                      (280, 2200, 2900), (300, 750, 2200)], dtype=float)  # m n l r j w
NASALS = 2  # the first ones of SONORANTS
# Tags that keep the random streams of different things apart; `synthetic_audio` has the others.
_VOICE, _SPEAKER = 1, 2


def voice(speaker: int, seconds: float, seed: int, sample_rate: int = 16000) -> np.ndarray:
    """Return synthetic speech, float32 [samples], peak 0.5.

    Args:
        speaker: Who speaks: pitch, vocal tract, breath and pace follow from this number.
        seconds: Length; what is said stops with a pause of at least 0.1 s.
        seed: Seed of the utterance; what is said differs between seeds.
        sample_rate: Hz.

    Raises:
        ValueError: When less than a sample is asked for.
    """
    samples = sample_count(seconds, sample_rate)
    who = _Speaker(speaker)
    rng = random_stream(seed, _VOICE, speaker)
    tracks = _speak(who, seconds, rng)
    times = np.arange(samples) / (FRAME_SECONDS * sample_rate)  # in frames
    pulses, breath = _glottis(who, tracks, times, sample_rate, rng)
    # Frames of the filters are twice as long as those of the tracks.
    hop = round(2 * FRAME_SECONDS * sample_rate)
    frames = samples // hop + 2
    at = np.minimum(np.arange(frames) * 2, len(tracks["f0"]) - 1)
    size = fft.next_fast_len(4 * hop, real=True)
    hertz = fft.rfftfreq(size, 1 / sample_rate)
    tract = _resonances(tracks["formants"][at], hertz) * tracks["tilt"][at, None] ** (hertz / 4000)
    hiss = np.exp(-0.5 * ((hertz - tracks["centre"][at, None]) / tracks["width"][at, None]) ** 2)
    spoken = _filtered(pulses + breath, tract, hop, size)
    noise = rng.standard_normal(samples, dtype=np.float32)
    noise *= np.interp(times, np.arange(len(tracks["hiss"])), tracks["hiss"])
    spoken = spoken / max(float(np.sqrt(np.mean(spoken**2))), 1e-9) * 0.1
    room = ROOM * sloped_noise(samples, sample_rate, -1.0, rng)
    return at_peak(spoken + _filtered(noise, hiss, hop, size) + room)


class _Speaker:
    """What makes a voice; speakers next to each other in number are far apart in pitch."""

    def __init__(self, speaker: int) -> None:
        rng = random_stream(0, _SPEAKER, speaker)
        place = (0.2 + speaker * 0.618034) % 1.0  # golden ratio: never close to the last ones
        self.f0 = 85.0 * (250.0 / 85.0) ** place  # Hz
        self.tract = 0.9 + 0.28 * place + rng.uniform(-0.04, 0.04)  # factor of all formants
        self.open = rng.uniform(0.5, 0.75)  # share of a cycle in which the glottis is open
        self.breath = rng.uniform(0.01, 0.05)
        self.pace = rng.uniform(0.85, 1.2)
        self.range = rng.uniform(0.08, 0.2)  # of the pitch, in log
        self.formants = 1.0 + rng.uniform(-0.06, 0.06, len(BANDWIDTHS))  # an accent of its own


def _speak(who: _Speaker, seconds: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return control tracks [frames]: voicing, breath, hiss, formants [frames, 8] and others."""
    frames = math.ceil(seconds / FRAME_SECONDS) + 2
    base = np.concatenate([VOWELS[8], HIGH_FORMANTS])
    tracks = {"voicing": np.zeros(frames), "breath": np.zeros(frames), "hiss": np.zeros(frames),
              "centre": np.full(frames, 4000.0), "width": np.full(frames, 2000.0),
              "accent": np.zeros(frames), "formants": np.tile(base, (frames, 1))}
    now = int(min(rng.uniform(0.05, 0.2), seconds / 4) / FRAME_SECONDS)
    end = frames - int(min(0.1, seconds / 4) / FRAME_SECONDS)

    def span(length: float, **values: float | np.ndarray) -> None:
        nonlocal now
        stop = min(now + max(1, round(length / who.pace / FRAME_SECONDS)), end)
        for name, value in values.items():
            tracks[name][now:stop] = value
        now = stop

    while now < end:  # a phrase: some syllables, falling in pitch, then a pause
        start, syllables = now, int(rng.integers(2, 7))
        for _ in range(syllables):
            stress = rng.uniform(0.5, 1.0)
            vowel = np.concatenate([VOWELS[rng.integers(len(VOWELS))], HIGH_FORMANTS])
            _consonant(span, vowel, stress, rng)
            glide = VOWELS[rng.integers(len(VOWELS))] if rng.random() < 0.2 else vowel[:3]
            span(rng.uniform(0.05, 0.11), voicing=stress, formants=vowel, accent=stress - 0.75)
            span(rng.uniform(0.03, 0.09), voicing=0.8 * stress, accent=stress - 0.75,
                 formants=np.concatenate([glide, HIGH_FORMANTS]))
            if rng.random() < 0.25:
                _consonant(span, vowel, 0.7 * stress, rng)
        tracks["accent"][start:now] += np.linspace(0.6, -0.6, max(now - start, 0))
        now = min(now + int(rng.choice([0.12, 0.3, 0.6]) * rng.uniform(0.7, 1.3) / FRAME_SECONDS),
                  end)
    for name, width in (("voicing", 5), ("breath", 3), ("hiss", 3), ("accent", 25)):
        tracks[name] = _smooth(tracks[name], width)
    tracks["formants"] = np.stack([_smooth(f, 9) for f in tracks["formants"].T], axis=1)
    tracks["formants"] *= who.tract * who.formants
    drift = _smooth(rng.standard_normal(frames), 41)
    tracks["f0"] = who.f0 * np.exp(who.range * (tracks["accent"] + drift))
    tracks["tilt"] = np.clip(0.5 + 0.5 * tracks["voicing"], 0.5, 1.0)  # loud is bright
    return tracks


def _consonant(span, vowel: np.ndarray, level: float, rng: np.random.Generator) -> None:
    kind = rng.choice(4, p=[0.3, 0.3, 0.28, 0.12])
    if kind == 0:
        centre, width, loud, voiced = FRICATIVES[rng.integers(len(FRICATIVES))]
        span(rng.uniform(0.06, 0.12), hiss=loud * level * rng.uniform(0.7, 1.3), centre=centre,
             width=width, voicing=0.3 * voiced * level, formants=vowel)
    elif kind == 1:
        centre, breath = PLOSIVES[rng.integers(len(PLOSIVES))]
        locus = vowel * np.array([0.5, 0.85 + centre / 12000] + [1.0] * 6)
        span(rng.uniform(0.04, 0.07), formants=locus, voicing=0.0 if breath else 0.08)
        span(0.012, hiss=0.25 * level, centre=centre, width=1200.0, formants=locus)
        if breath:
            span(breath, breath=0.5 * level, hiss=0.015, formants=vowel)
    elif kind == 2:
        number = rng.integers(len(SONORANTS))
        span(rng.uniform(0.05, 0.09), voicing=level * (0.4 if number < NASALS else 0.6),
             formants=np.concatenate([SONORANTS[number], HIGH_FORMANTS]))
    else:  # h
        span(rng.uniform(0.04, 0.08), breath=0.5 * level, formants=vowel)


def _glottis(who: _Speaker, tracks: dict[str, np.ndarray], times: np.ndarray, sample_rate: int,
             rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return (pulses, breath), [samples] each: the source of all that goes through the tract."""
    ticks = np.arange(len(tracks["f0"]))
    phase = np.cumsum(np.interp(times, ticks, tracks["f0"])) / sample_rate
    cycles = int(phase[-1]) + 3
    # Jitter moves the cycles' ends, shimmer changes their levels.
    ends = np.arange(cycles) + 0.008 * rng.standard_normal(cycles)
    phase = np.interp(phase, np.arange(cycles), ends)
    level = 1.0 + 0.05 * rng.standard_normal(cycles)
    cycle = np.floor(np.maximum(phase, 0.0)).astype(np.intp)
    place = np.clip(phase - cycle, 0.0, 1.0) / who.open
    # Rosenberg's pulse t^2 (1 - t), differentiated: the mouth's radiation is in it.
    flow = np.where(place < 1.0, 2 * place - 3 * place**2, 0.0)
    voicing = np.interp(times, ticks, tracks["voicing"])
    noise = rng.standard_normal(len(times), dtype=np.float32)
    breath = noise * (np.interp(times, ticks, tracks["breath"]) * 0.15
                      + who.breath * voicing * (place < 1.0))
    return (flow * level[cycle] * voicing).astype(np.float32), breath.astype(np.float32)


def _resonances(formants: np.ndarray, hertz: np.ndarray) -> np.ndarray:
    """Return the vocal tract's response, complex [frames, bins], of formants in Hz [frames, 8]."""
    response = np.ones((len(formants), len(hertz)), dtype=np.complex64)
    square = (hertz**2).astype(np.float32)
    for number, width in enumerate(BANDWIDTHS):
        centre = formants[:, number, None].astype(np.float32)
        damping = (1j * width * hertz).astype(np.complex64)
        response *= centre**2 / (centre**2 - square + damping)
    return response


def _filtered(source: np.ndarray, responses: np.ndarray, hop: int, size: int) -> np.ndarray:
    """Return [samples] of a source through one response [bins] a frame, by overlap-add."""
    frames, samples = len(responses), len(source)
    padded = np.zeros((frames + 1) * hop, dtype=np.float32)
    padded[hop:hop + samples] = source[:frames * hop]
    # Hann windows of two hops, one hop apart, sum to one; the rest of `size` is for the response.
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * hop, dtype=np.float32) / hop)
    blocks = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]  # [frames, 2 hop]
    spectra = fft.rfft(blocks * window, size, axis=-1) * responses[:len(blocks)]
    parts = fft.irfft(spectra, size, axis=-1).astype(np.float32)
    pieces = -(-size // hop)
    parts = np.pad(parts, ((0, 0), (0, pieces * hop - size)))
    out = np.zeros((len(blocks) + pieces, hop), dtype=np.float32)
    for piece in range(pieces):
        out[piece:piece + len(blocks)] += parts[:, piece * hop:(piece + 1) * hop]
    return out.ravel()[hop:hop + samples]


def _smooth(track: np.ndarray, width: int) -> np.ndarray:
    """Return a moving average over `width` frames (odd), twice."""
    kernel = np.convolve(np.ones(width), np.ones(width)) / width**2
    padded = np.pad(track, width - 1, mode="edge")
    return np.convolve(padded, kernel, mode="valid")


def sloped_noise(
    samples: int, sample_rate: int, slope: float, rng: np.random.Generator
) -> np.ndarray:
    """Return noise whose energy goes with frequency to the power `slope`, [samples]."""
    size = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hertz = np.maximum(fft.rfftfreq(size, 1 / sample_rate), 20.0)
    return fft.irfft(spectrum * (hertz / 1000.0) ** (slope / 2), size)[:samples]


def sample_count(seconds: float, sample_rate: int) -> int:
    """Return how many samples a length has.

    Raises:
        ValueError: When it is less than a sample.
    """
    samples = round(seconds * sample_rate)
    if samples < 1:
        raise ValueError(f"{seconds} s at {sample_rate} Hz is less than a sample")
    return samples


def at_peak(audio: np.ndarray) -> np.ndarray:
    """Return audio at the level of every voice and noise, float32 of the same shape."""
    peak = max(float(np.max(np.abs(audio))), 1e-9)
    return (audio * (PEAK / peak)).astype(np.float32)
