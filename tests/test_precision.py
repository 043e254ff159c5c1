"""float32 against references in float64 that are written from the definitions.

The bounds are those that docs/reliability.md states. What they are relative to is said in each
test: rounding is relative to the largest number of a sum, not to its result.
"""

from __future__ import annotations

import os
import subprocess
import sys
from math import fsum, log10

import numpy as np
import pytest
from keras import ops

from gan_denoise import metrics
from gan_denoise.config.kinds import GainInversion, GainPhaseInversion
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.data import synthetic_audio
from gan_denoise.dsp.inversion import invert
from gan_denoise.dsp.keras_mel import KerasMel
from gan_denoise.dsp.mel import Mel
from gan_denoise.training import losses

MEL = Mel(AudioConfig(), MelConfig())
N_FFT, HOP = MEL.config.n_fft, MEL.config.hop_length
WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)  # periodic Hann
SECONDS = 2.0


def recording(level_db: float = 0.0) -> np.ndarray:
    voice = synthetic_audio.voice(1, SECONDS, seed=3)
    noise = 0.3 * synthetic_audio.noise("pink", SECONDS, seed=4)
    return (10 ** (level_db / 20) * (voice + noise)).astype(np.float32)


# ---- References in float64 ---------------------------------------------------------------------
def stft64(audio: np.ndarray) -> np.ndarray:
    padded = np.pad(audio.astype(np.float64), N_FFT // 2)
    count = 1 + len(audio) // HOP
    return np.stack([np.fft.rfft(WINDOW * padded[HOP * k : HOP * k + N_FFT]) for k in range(count)])


def istft64(spectrum: np.ndarray, length: int) -> np.ndarray:
    total = np.zeros(HOP * (len(spectrum) - 1) + N_FFT)
    weight = np.zeros_like(total)
    for k, row in enumerate(spectrum):
        total[HOP * k : HOP * k + N_FFT] += WINDOW * np.fft.irfft(row, N_FFT)
        weight[HOP * k : HOP * k + N_FFT] += WINDOW**2
    inside = slice(N_FFT // 2, N_FFT // 2 + length)
    return total[inside] / weight[inside]


def mel01_64(spectrum: np.ndarray) -> np.ndarray:
    linear = np.abs(spectrum) @ MEL.filterbank.T.astype(np.float64)
    decibel = 20 * np.log10(np.maximum(linear, MEL.config.floor))
    return np.clip((decibel + MEL.config.offset_db) / MEL.config.range_db, 0, 1)


def invert64(estimate01: np.ndarray, spectrum: np.ndarray, length: int, steps: int) -> np.ndarray:
    change = (estimate01.astype(np.float64) - mel01_64(spectrum)) * MEL.config.range_db / 20
    gain = np.minimum(10**change, 10 ** (GainInversion().max_gain_db / 20))
    spectrum = gain @ MEL.spread.astype(np.float64) * spectrum
    magnitude = np.abs(spectrum)
    for _ in range(steps):
        again = stft64(istft64(spectrum, length))
        spectrum = magnitude * again / np.maximum(np.abs(again), 1e-12)
    return istft64(spectrum, length)


def decibels_below(error: np.ndarray, reference: np.ndarray) -> float:
    """Return how far the largest error is below the largest value, in dB."""
    return float(20 * log10(np.abs(reference).max() / max(np.abs(error).max(), 1e-300)))


# ---- Transforms --------------------------------------------------------------------------------
@pytest.mark.parametrize("level_db", [-80, -40, 0, 40])
def test_stft_is_exact_to_140_db(level_db):
    audio = recording(level_db)
    exact = stft64(audio)
    assert decibels_below(MEL.stft(audio) - exact, exact) > 140
    real, imaginary = KerasMel(MEL).stft(audio[None])
    graph = ops.convert_to_numpy(real)[0] + 1j * ops.convert_to_numpy(imaginary)[0]
    assert decibels_below(graph - exact, exact) > 140


@pytest.mark.parametrize("level_db", [-80, -40, 0, 40])
def test_istft_is_exact_to_130_db(level_db):
    audio = recording(level_db)
    spectrum = stft64(audio)
    exact = istft64(spectrum, len(audio))
    found = MEL.istft(spectrum.astype(np.complex64), len(audio))
    assert decibels_below(found - exact, exact) > 130
    assert decibels_below(exact - audio, audio) > 140  # so the reference is the inverse


@pytest.mark.parametrize("level_db", [-60, -20, 0])
def test_mel_is_exact_to_a_ten_thousandth_of_a_decibel(level_db):
    audio = recording(level_db)
    error = MEL.mel01(audio) - mel01_64(stft64(audio))
    assert np.abs(error).max() * MEL.config.range_db < 1e-4


@pytest.mark.parametrize("inversion", [GainInversion(), GainPhaseInversion()],
                         ids=lambda kind: kind.name)
def test_inversion_is_exact_to_120_db(inversion):
    audio = recording()
    spectrum = MEL.stft(audio)
    rng = np.random.default_rng(0)
    estimate01 = MEL.mel01(audio) * rng.uniform(0.7, 1.0, (len(spectrum), MEL.config.n_mels))
    estimate01 = estimate01.astype(np.float32)
    found = invert(MEL, estimate01, spectrum, len(audio), inversion)
    steps = getattr(inversion, "phase_steps", 0)
    exact = invert64(estimate01, stft64(audio), len(audio), steps)
    assert decibels_below(found - exact, exact) > 120


# ---- Losses ------------------------------------------------------------------------------------
def relative64(clean: np.ndarray, estimate: np.ndarray) -> float:
    error = np.mean((estimate - clean) ** 2, axis=(1, 2))
    return float(np.mean(error / (np.mean(clean**2, axis=(1, 2)) + losses.EPSILON)))


def compress64(magnitude: np.ndarray) -> np.ndarray:
    return (magnitude + losses.EPSILON) ** 0.3


def test_losses_are_exact_to_one_in_a_hundred_thousand():
    clean = np.stack([stft64(recording(level)) for level in (-40, 0)])
    rng = np.random.default_rng(1)
    estimate = clean * rng.uniform(0.5, 1.2, clean.shape)

    def parts(spectrum):
        return spectrum.real.astype(np.float32), spectrum.imag.astype(np.float32)

    def of(spectrum):
        return np.abs(spectrum).astype(np.float32)

    by_clean, by_estimate = (compress64(abs(s)) * s / (abs(s) + losses.EPSILON)
                             for s in (clean, estimate))
    error = np.mean(np.abs(by_estimate - by_clean) ** 2, axis=(1, 2))
    energy = np.mean(compress64(abs(clean)) ** 2, axis=(1, 2))
    ratio = (np.mean(abs(estimate - clean) ** 2, axis=(1, 2))
             / (np.mean(abs(clean) ** 2, axis=(1, 2)) + losses.EPSILON**2))
    found_and_exact = {
        "mse": (losses.mse(of(clean), of(estimate)), np.mean((abs(estimate) - abs(clean)) ** 2)),
        "compressed_magnitude": (
            losses.compressed_magnitude(of(clean), of(estimate), 0.3),
            relative64(compress64(abs(clean)), compress64(abs(estimate)))),
        "compressed_complex": (
            losses.compressed_complex(parts(clean), of(clean), parts(estimate), of(estimate), 0.3),
            np.mean(error / (energy + losses.EPSILON))),
        "missing_snr": (losses.missing_snr(parts(clean), parts(estimate)),
                        np.mean(10 * np.log10(ratio + 1e-3)) + 30),
    }
    for name, (found, exact) in found_and_exact.items():
        assert float(found) == pytest.approx(exact, rel=1e-5), name


# ---- Metrics -----------------------------------------------------------------------------------
@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_snr_and_si_sdr_are_those_of_exact_sums(offset):
    """Sums without rounding (Shewchuk's, `math.fsum`); a common offset would cost digits."""
    clean = recording() + np.float32(offset)
    estimate = clean + 0.01 * synthetic_audio.noise("white", SECONDS, seed=9)
    c, e = clean.astype(np.float64).tolist(), estimate.astype(np.float64).tolist()
    error = fsum((y - x) ** 2 for x, y in zip(c, e, strict=True))
    snr = 10 * log10(fsum(x * x for x in c) / error)
    assert metrics.snr(clean, estimate) == pytest.approx(snr, abs=1e-9)
    mean_c, mean_e = fsum(c) / len(c), fsum(e) / len(e)
    c, e = [x - mean_c for x in c], [y - mean_e for y in e]
    scale = fsum(x * y for x, y in zip(c, e, strict=True)) / fsum(x * x for x in c)
    target = scale**2 * fsum(x * x for x in c)
    rest = fsum((y - scale * x) ** 2 for x, y in zip(c, e, strict=True))
    found = metrics.si_sdr(clean, estimate)
    assert found == pytest.approx(10 * log10(target / rest), abs=1e-9)


# ---- Processors --------------------------------------------------------------------------------
DENOISE = """
import sys
import numpy as np
from gan_denoise import Enhancer
noisy = np.load(sys.argv[1])
np.save(sys.argv[2], Enhancer.load("calm", threads=1).enhance(noisy, 16000))
"""


def test_numpy_as_on_the_oldest_processor_changes_less_than_a_step_of_16_bits(tmp_path):
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    absent = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    if not absent:
        pytest.skip("numpy uses nothing here that other processors of this kind lack")
    noisy = tmp_path / "noisy.npy"
    np.save(noisy, recording(-10)[None])
    found = []
    for name, environment in (("here", {}), ("other", {"NPY_DISABLE_CPU_FEATURES": absent})):
        out = tmp_path / f"{name}.npy"
        subprocess.run([sys.executable, "-c", DENOISE, str(noisy), str(out)], check=True,
                       env=os.environ | environment)
        found.append(np.load(out))
    assert np.abs(found[0] - found[1]).max() < 2**-16
