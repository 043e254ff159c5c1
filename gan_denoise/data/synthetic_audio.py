"""A synthetic corpus of voices and noises, so that the demo and the tests need no download."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from scipy import fft

from gan_denoise.audio.writer import write
from gan_denoise.core.decibels import db_to_amplitude
from gan_denoise.core.rng import random_stream
from gan_denoise.data.synthetic_voice import at_peak, sample_count, sloped_noise, voice

NOISE_KINDS = ("white", "pink", "brown", "hum", "fan", "clicks", "babble", "traffic", "rain")
UNSEEN_KINDS = ("traffic", "rain", "brown")  # in `test` alone
SLOPES = {"white": 0.0, "pink": -1.0, "brown": -2.0}  # power of frequency that the energy goes with
SPEAKERS = {"train": 12, "valid": 3, "test": 4}
# Tags that keep the random streams of different things apart; `synthetic_voice` has the others.
_CORPUS, _NOISE = 0, 3


def noise(kind: str, seconds: float, seed: int, sample_rate: int = 16000) -> np.ndarray:
    """Return synthetic noise, float32 [samples], peak 0.5.

    Args:
        kind: One of NOISE_KINDS.
        seconds: Length.
        seed: Seed of the recording; pitch, pace and changes of level differ between seeds.
        sample_rate: Hz.

    Raises:
        ValueError: For an unknown kind, or when less than a sample is asked for.
    """
    if kind not in NOISE_KINDS:
        raise ValueError(f"unknown noise '{kind}'; there are {', '.join(NOISE_KINDS)}")
    samples = sample_count(seconds, sample_rate)
    rng = random_stream(seed, _NOISE, NOISE_KINDS.index(kind))
    if kind in SLOPES:
        made = sloped_noise(samples, sample_rate, SLOPES[kind], rng)
    elif kind == "babble":
        voices = [voice(int(rng.integers(1000, 2000)), seconds, int(rng.integers(1 << 30)),
                        sample_rate) for _ in range(rng.integers(4, 8))]
        made = np.sum(voices, axis=0)
    else:
        makers = {"hum": _hum, "fan": _fan, "clicks": _clicks, "traffic": _traffic, "rain": _rain}
        made = makers[kind](samples, sample_rate, rng)
    return at_peak(made)


def write_corpus(out: str | Path, seed: int = 0, minutes: float = 4.0, sample_rate: int = 16000
                 ) -> None:
    """Write `speech/{train,valid,test}/SPEAKER/*.wav` and `noise/{train,valid,test}/KIND/*.wav`.

    Speakers and recordings differ between the three; three kinds of noise are in `test` alone.

    Args:
        out: Folder; files of the same names are replaced.
        seed: Seed of all that is said and heard.
        minutes: Speech for training; as much noise, and a fifth of each for valid and for test.
        sample_rate: Hz.
    """
    out = Path(out)
    speakers = iter(range(sum(SPEAKERS.values())))
    for number, (split, count) in enumerate(SPEAKERS.items()):
        rng = random_stream(number, _CORPUS, seed)
        seconds = minutes * 60 * (1.0 if split == "train" else 0.2)
        for speaker in [next(speakers) for _ in range(count)]:
            left, take = seconds / count, 0
            while left > 0.5:
                length = min(float(rng.uniform(2.5, 5.0)), max(left, 1.5))
                audio = voice(speaker, length, int(rng.integers(1 << 30)), sample_rate)
                audio = audio * np.float32(db_to_amplitude(rng.uniform(-12.0, 0.0)))
                name = f"speaker{speaker:02d}"
                write(out / "speech" / split / name / f"{name}_{take:03d}.wav", audio, sample_rate)
                left, take = left - length, take + 1
        kinds = [k for k in NOISE_KINDS if split == "test" or k not in UNSEEN_KINDS]
        takes = max(1, round(seconds / len(kinds) / 8.0))
        for kind in kinds:
            for take in range(takes):
                audio = noise(kind, 8.0, int(rng.integers(1 << 30)), sample_rate)
                write(out / "noise" / split / kind / f"{kind}_{take:03d}.wav", audio, sample_rate)


def _bands(samples: int, sample_rate: int, low: float, high: float, rng: np.random.Generator
           ) -> np.ndarray:
    """Return noise between two frequencies in Hz with soft edges, RMS 1, [samples]."""
    size = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    hertz = fft.rfftfreq(size, 1 / sample_rate)
    spectrum *= 1.0 / (1.0 + (hertz / high) ** 4) / (1.0 + (low / np.maximum(hertz, 1.0)) ** 4)
    made = fft.irfft(spectrum, size)[:samples]
    return made / max(float(np.sqrt(np.mean(made**2))), 1e-9)


def _swell(samples: int, sample_rate: int, hertz: float, rng: np.random.Generator) -> np.ndarray:
    """Return slow random changes between 0 and 1, [samples]."""
    knots = rng.random(math.ceil(samples / sample_rate * hertz) + 3)
    return np.interp(np.arange(samples) * hertz / sample_rate + rng.random(),
                     np.arange(len(knots)), knots)


def _tones(samples: int, sample_rate: int, first: float, levels: np.ndarray,
           rng: np.random.Generator) -> np.ndarray:
    """Return harmonics of a frequency in Hz at given levels, [samples]."""
    time = np.arange(samples) / sample_rate
    numbers = [n for n in range(1, len(levels) + 1) if n * first < 0.45 * sample_rate]
    return np.sum([levels[n - 1] * np.sin(2 * np.pi * (n * first * time + rng.random()))
                   for n in numbers], axis=0)


def _hum(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    mains = float(rng.choice([50.0, 60.0])) * rng.uniform(0.998, 1.002)
    levels = rng.uniform(0.2, 1.0, 24) / np.arange(1, 25) ** rng.uniform(0.5, 1.0)
    tones = _tones(samples, sample_rate, mains, levels, rng)
    return tones + 0.05 * _bands(samples, sample_rate, 50.0, 4000.0, rng)


def _fan(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    blades = rng.uniform(60.0, 180.0)
    rush = _bands(samples, sample_rate, 40.0, rng.uniform(500.0, 1500.0), rng)
    rush *= 1.0 + 0.3 * np.sin(2 * np.pi * blades / 5 * np.arange(samples) / sample_rate)
    levels = rng.uniform(0.1, 0.6, 8) / np.arange(1, 9)
    return rush + 0.6 * _tones(samples, sample_rate, blades, levels, rng) + 0.1 * sloped_noise(
        samples, sample_rate, 0.0, rng)


def _clicks(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Knocks at random moments, each a decaying resonance, over a faint floor."""
    taps = round(0.06 * sample_rate)
    time = np.arange(taps) / sample_rate
    knocks = [np.exp(-time * rng.uniform(80.0, 400.0))
              * np.sin(2 * np.pi * rng.uniform(600.0, 5000.0) * time) for _ in range(6)]
    made = np.zeros(samples + taps)
    for start in rng.integers(samples, size=max(2, round(samples / sample_rate * 6))):
        made[start:start + taps] += knocks[rng.integers(6)] * rng.uniform(0.2, 1.0)
    return made[:samples] + 0.01 * sloped_noise(samples, sample_rate, -1.0, rng)


def _traffic(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Cars that pass by over a steady rumble."""
    rumble = _bands(samples, sample_rate, 30.0, 200.0, rng)
    rush = _bands(samples, sample_rate, 200.0, rng.uniform(900.0, 1800.0), rng)
    motor = _tones(samples, sample_rate, rng.uniform(40.0, 90.0), 1.0 / np.arange(1, 13), rng)
    pass_by = _swell(samples, sample_rate, 0.6, rng) ** 2
    motor = motor * _swell(samples, sample_rate, 0.4, rng)
    return 0.6 * rumble + 1.2 * rush * pass_by + 0.3 * motor


def _rain(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A hiss of the many far drops, and single near ones."""
    far = _bands(samples, sample_rate, 1000.0, 0.4 * sample_rate, rng)
    taps = round(0.012 * sample_rate)
    time = np.arange(taps) / sample_rate
    drops = np.zeros(samples + taps)
    for start in rng.integers(samples, size=max(2, round(samples / sample_rate * 60))):
        tone = np.sin(2 * np.pi * rng.uniform(1500.0, 6000.0) * time)
        drops[start:start + taps] += tone * np.exp(-500.0 * time) * rng.exponential(1.5)
    return far * (0.7 + 0.3 * _swell(samples, sample_rate, 0.5, rng)) + drops[:samples]
