"""Made-up noises that recordings lack: hum, motors, sirens, alarms, clicks, gusts, music, rumble.

They are parametric, so that no two are alike; fast enough to be made for each mixture.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from gan_denoise.data.channel import pass_band

TWO_PI = np.float32(2 * math.pi)
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 3, 5, 7, 10))  # semitones
NOTE_BEATS = (0.25, 0.5, 1.0, 2.0, 4.0)
NOTES_AT_ONCE = (0, 1, 1, 1, 3)
RUMBLE_HZ = (5.0, 100.0)  # range of the frequency at which it has fallen by 3 dB
RUMBLE_ORDERS = (2.0, 8.0)


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


def _music(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Instruments that play notes of one scale to one beat, at times with a drum."""
    beat = rng.uniform(0.25, 0.8)  # seconds
    scale = SCALES[rng.integers(len(SCALES))]
    key = 55.0 * 2 ** (rng.integers(12) / 12)
    made = np.zeros(samples, np.float32)
    for _ in range(rng.integers(1, 5)):
        octave = rng.integers(5)
        notes = [key * 2 ** (octave + step / 12) for step in scale]
        made += _instrument(samples, sample_rate, notes, beat * rng.choice(NOTE_BEATS), rng)
    if rng.random() < 0.5:
        made += rng.uniform(0.2, 1.0) * _drum(samples, sample_rate, beat, rng)
    return made


def _instrument(samples: int, sample_rate: int, notes: list[float], step: float,
                rng: np.random.Generator) -> np.ndarray:
    """Return a tune of notes in Hz, one every `step` seconds; a few start together or are left out.

    The notes of an instrument have one timbre, attack, decay and vibrato.
    """
    timbre, harmonics = rng.integers(2**32), rng.integers(2, 9)
    attack, decay = rng.uniform(0.002, 0.08), rng.uniform(0.3, 8.0)
    size = min(round(step * rng.uniform(0.7, 2.0) * sample_rate) + 1, samples)
    time = np.arange(size, dtype=np.float32) / sample_rate
    shape = np.minimum(time / attack, 1.0) * np.exp(-decay * time) * np.minimum(
        (time[-1] - time) / 0.01, 1.0)
    vibrato = 1 + rng.uniform(0.0, 0.01) * np.sin(TWO_PI * np.float32(rng.uniform(4, 7)) * time)
    made = np.zeros(samples + size, np.float32)
    for at in np.arange(-rng.uniform(0.0, step), samples / sample_rate, step):
        start = max(round(at * sample_rate), 0)
        for _ in range(rng.choice(NOTES_AT_ONCE)):
            pitch = np.float32(rng.choice(notes)) * vibrato
            tone = _harmonics(pitch, sample_rate, np.random.default_rng(timbre), harmonics)
            made[start:start + size] += tone * shape * np.float32(rng.uniform(0.3, 1.0))
    made[:size] += _harmonics(notes[0] * vibrato, sample_rate, rng, 1) * shape  # never silent
    return made[:samples]


def _drum(samples: int, sample_rate: int, beat: float, rng: np.random.Generator) -> np.ndarray:
    """Return bursts of a band of noise, or of a falling tone, on every beat or half of one."""
    size = round(0.2 * sample_rate)
    time = np.arange(size, dtype=np.float32) / sample_rate
    if rng.random() < 0.5:
        burst = _band_noise(size, sample_rate, rng)
    else:
        burst = np.sin(TWO_PI * np.float32(rng.uniform(4.0, 12.0)) * np.sqrt(time + 1e-3))
    burst = burst * np.exp(-time * np.float32(rng.uniform(15, 100)))
    made = np.zeros(samples + size, np.float32)
    for at in np.arange(rng.uniform(0.0, beat), samples / sample_rate, beat / rng.integers(1, 3)):
        start = round(at * sample_rate)
        made[start:start + size] += burst * np.float32(rng.uniform(0.3, 1.0))
    return made[:samples]


def rumble(samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise below speech: wind on a microphone, handling, engines, a drift of the input.

    Args:
        samples: Length.
        sample_rate: Hz.
        rng: Where it ends, how steeply, and its gusts.

    Returns:
        float32 [samples], not silent: noise through the magnitude of a Butterworth low-pass.
    """
    white = rng.standard_normal((1, samples), dtype=np.float32)
    edge, order = math.exp(rng.uniform(*np.log(RUMBLE_HZ))), rng.uniform(*RUMBLE_ORDERS)
    made = pass_band(white, sample_rate, high=(edge, order))[0]
    gusts = _slow(samples, rng, int(rng.integers(2, 12))) if rng.random() < 0.5 else 1.0
    return (made * (np.float32(0.1) + gusts)).astype(np.float32)


KINDS = (_hum, _motor, _siren, _alarm, _clicks, _gusts, _music)


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
