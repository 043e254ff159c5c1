"""Made-up noises that recordings lack: hum, motors, sirens, alarms, clicks, gusts, chords.

They are parametric, so that no two are alike; fast enough to be made for each mixture.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

TWO_PI = np.float32(2 * math.pi)


def made_up_noise(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return a noise of a random kind, float32 [samples], not silent.

    Args:
        samples: Length.
        sample_rate: Hz.
        rng: Kind and all of its numbers.
    """
    kind = KINDS[rng.integers(len(KINDS))]
    made = kind(samples, sample_rate, rng)
    # A little of a broad noise: no room is silent between two beeps.
    floor = rng.standard_normal(samples, dtype=np.float32) * np.float32(10 ** rng.uniform(-3, -2))
    return (made + floor * max(float(np.max(np.abs(made))), 1e-3)).astype(np.float32)


def _hum(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Mains hum and its harmonics."""
    mains = float(rng.choice((50.0, 60.0, 100.0, 120.0))) * rng.uniform(0.998, 1.002)
    return _harmonics(np.full(samples, mains, np.float32), sample_rate, rng, rng.integers(3, 12))


def _motor(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """An engine or a tool: harmonics whose speed and load change, with a rush of air."""
    pitch = rng.uniform(25.0, 400.0) * (1 + rng.uniform(0, 0.4) * _slow(samples, rng, 4))
    tones = _harmonics(pitch, sample_rate, rng, rng.integers(4, 12))
    rush = _band_noise(samples, sample_rate, rng)
    load = 0.3 + _slow(samples, rng, 6)
    return (tones + rng.uniform(0.1, 1.0) * rush / _rms(rush) * _rms(tones)) * load


def _siren(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A tone that sweeps up and down, or jumps between two pitches."""
    time = np.arange(samples, dtype=np.float32) / sample_rate
    sweep = np.sin(TWO_PI * np.float32(rng.uniform(0.2, 5.0)) * time + rng.uniform(0, 6))
    if rng.random() < 0.4:
        sweep = np.sign(sweep)
    pitch = rng.uniform(400.0, 1500.0) * 2 ** (rng.uniform(0.1, 0.8) * sweep)
    return _harmonics(pitch, sample_rate, rng, rng.integers(1, 6))


def _alarm(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Beeps at a steady pace."""
    pitch = np.full(samples, rng.uniform(400.0, 4000.0), np.float32)
    tone = _harmonics(pitch, sample_rate, rng, rng.integers(1, 4))
    place = np.arange(samples, dtype=np.float32) / sample_rate * rng.uniform(0.5, 8.0)
    on = ((place + rng.random()) % 1.0 < rng.uniform(0.1, 0.8)).astype(np.float32)
    ramp = max(int(0.003 * sample_rate), 1)
    on = np.convolve(on, np.full(ramp, 1 / ramp, np.float32), "same")
    on[samples // 2:samples // 2 + ramp] += 0.01  # not silent, whatever the pace
    return tone * on


def _clicks(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Knocks, keys and dishes: decaying resonances at random moments."""
    taps = round(0.08 * sample_rate)
    time = np.arange(taps, dtype=np.float32) / sample_rate
    made = np.zeros(samples + taps, np.float32)
    modes = rng.uniform(200.0, 6000.0, 3)
    for start in rng.integers(samples, size=rng.integers(2, 24)):
        burst = rng.standard_normal(taps, dtype=np.float32) * np.float32(rng.uniform(0, 1))
        for mode in modes * rng.uniform(0.95, 1.05):
            burst += np.sin(TWO_PI * np.float32(mode) * time)
        made[start:start + taps] += (burst * np.exp(-time * np.float32(rng.uniform(40, 500)))
                                     * np.float32(rng.uniform(0.1, 1.0)))
    return made[:samples]


def _gusts(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A band of noise that swells, pulses or passes by."""
    band = _band_noise(samples, sample_rate, rng)
    return band * _slow(samples, rng, int(rng.integers(3, 40))) ** 2


def _chords(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Plucked or held notes, several at a time: music without a tune."""
    made = np.zeros(samples, np.float32)
    time = np.arange(samples, dtype=np.float32) / sample_rate
    for _ in range(rng.integers(2, 7)):
        note = 55.0 * 2 ** (rng.integers(0, 60) / 12)
        tone = _harmonics(np.full(samples, note, np.float32), sample_rate, rng, rng.integers(2, 6))
        since = time - np.float32(rng.uniform(-0.5, 0.9 * samples / sample_rate))
        decay = np.float32(rng.uniform(0.3, 12.0))
        made += tone * np.where(since >= 0, np.exp(-decay * np.maximum(since, 0)), 0.0)
    return made


KINDS = (_hum, _motor, _siren, _alarm, _clicks, _gusts, _chords)


def _harmonics(pitch: np.ndarray, sample_rate: int, rng: np.random.Generator, count: int
               ) -> np.ndarray:
    """Return harmonics of a pitch in Hz [samples], each at a random level and phase."""
    phase = np.cumsum(pitch, dtype=np.float64) / sample_rate % 1.0
    highest = float(np.max(pitch))
    slope = rng.uniform(0.0, 1.5)
    made = np.zeros(len(pitch), np.float32)
    for number in range(1, int(count) + 1):
        if number > 1 and number * highest > 0.48 * sample_rate:
            break
        turns = (number * phase + rng.random()) % 1.0
        level = rng.uniform(0.1, 1.0) / number**slope
        made += np.float32(level) * np.sin(TWO_PI * turns.astype(np.float32))
    return made


def _band_noise(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise of a random centre and width in octaves, with soft edges."""
    size = fft.next_fast_len(samples, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    octaves = np.log2(np.maximum(fft.rfftfreq(size, 1 / sample_rate), 20.0))
    centre, width = rng.uniform(math.log2(60.0), math.log2(6000.0)), rng.uniform(0.1, 2.5)
    spectrum *= np.exp(-0.5 * ((octaves - centre) / width) ** 2).astype(np.float32)
    return fft.irfft(spectrum, size)[:samples]


def _slow(samples: int, rng: np.random.Generator, knots: int) -> np.ndarray:
    """Return smooth random changes between 0 and 1, float32 [samples]."""
    values = rng.random(knots + 1)
    return np.interp(np.linspace(0, knots, samples), np.arange(knots + 1), values).astype(
        np.float32)


def _rms(audio: np.ndarray) -> float:
    return max(float(np.sqrt(np.mean(np.square(audio)))), 1e-9)
