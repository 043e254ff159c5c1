"""Mel -> waveform: what goes in unchanged comes out unchanged, and the true mel helps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import uniform_filter

from gan_denoise import audio, metrics
from gan_denoise.config.kinds import GainInversion, GriffinLimInversion
from gan_denoise.config.registry import KINDS
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.data import synthetic_audio
from gan_denoise.dsp.inversion import band_gain, griffinlim, invert, mel_to_magnitude, refine_phase
from gan_denoise.dsp.mel import Mel

RATE = 16000
MEL = Mel(AudioConfig(), MelConfig())


@pytest.fixture(scope="module")
def clips():
    """A voice, and the same in noise at 5 dB."""
    clean = synthetic_audio.voice(3, 2.0, seed=1)
    noise = synthetic_audio.noise("fan", 2.0, seed=1)
    noise *= np.float32(np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10**0.5))
    return clean, clean + noise


def inconsistency(spectrum, magnitude, length):
    """Relative distance of the magnitude that a spectrum's waveform really has."""
    reached = np.abs(MEL.stft(MEL.istft(spectrum, length)))
    return float(np.linalg.norm(reached - magnitude) / np.linalg.norm(magnitude))


# ---- Gain on the noisy recording ---------------------------------------------------------------
@pytest.mark.parametrize("name", ["gain", "gain+phase"])
@pytest.mark.parametrize("length", [1, 127, 511, 20000])
def test_an_identity_estimate_returns_the_noisy_recording(clips, name, length):
    noisy = clips[1][4000 : 4000 + length]
    spectrum = MEL.stft(noisy)
    estimate01 = MEL.normalise(MEL.linear(spectrum))
    back = invert(MEL, estimate01, spectrum, length, KINDS["inversion"].classes[name]())
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, noisy, atol=1e-4)


@pytest.mark.parametrize("name", ["gain", "gain+phase"])
def test_the_true_mel_improves_si_sdr(clips, name):
    clean, noisy = clips
    estimate = invert(MEL, MEL.mel01(clean), MEL.stft(noisy), len(noisy),
                      KINDS["inversion"].classes[name]())
    assert metrics.si_sdr(clean, estimate) > metrics.si_sdr(clean, noisy) + 4


@pytest.mark.parametrize("max_gain_db", [0.0, 6.0])
def test_no_bin_is_amplified_beyond_the_limit(max_gain_db):
    rng = np.random.default_rng(0)
    noisy01, estimate01 = (rng.random((20, 80), np.float32) for _ in range(2))
    gain = band_gain(MEL, noisy01, estimate01, GainInversion(max_gain_db=max_gain_db))
    limit = 10 ** (max_gain_db / 20)
    assert gain.min() >= 0
    assert gain.max() <= limit * (1 + 1e-6)
    assert gain.max() > 0.9 * limit


def test_an_estimate_above_the_noisy_mel_changes_nothing_by_default(clips):
    noisy = clips[1][:8000]
    spectrum = MEL.stft(noisy)
    louder = np.minimum(MEL.normalise(MEL.linear(spectrum)) + 0.2, 1).astype(np.float32)
    np.testing.assert_allclose(invert(MEL, louder, spectrum, 8000, GainInversion()), noisy,
                               atol=1e-5)
    amplified = invert(MEL, louder, spectrum, 8000, GainInversion(max_gain_db=6.0))
    assert np.linalg.norm(amplified) == pytest.approx(2 * np.linalg.norm(noisy), rel=0.02)


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3, 7]),
       st.sampled_from([1, 3, 7]), st.sampled_from([0.0, 6.0, -3.0]), st.integers(0, 99))
def test_a_smoothed_gain_is_the_mean_of_the_decibels_around(
    rows, bands, over, across, offset_db, seed
):
    narrow = Mel(AudioConfig(), MelConfig(n_mels=bands, range_db=60.0))
    noisy01, estimate01 = np.random.default_rng(seed).random((2, rows, bands), np.float32)
    inversion = GainInversion(gain_smoothing=(over, across), max_gain_db=100.0,
                                gain_offset_db=offset_db)
    found = 20 * np.log10(band_gain(narrow, noisy01, estimate01, inversion))
    change = 60.0 * (estimate01 - noisy01)
    for t in range(rows):
        for m in range(bands):
            around = change[max(t - over // 2, 0) : t + over // 2 + 1,
                            max(m - across // 2, 0) : m + across // 2 + 1]
            assert found[t, m] == pytest.approx(around.mean() + offset_db, abs=1e-3)


def test_a_smoothed_gain_leaves_the_harmonics_that_a_blurred_estimate_lost(clips):
    """The estimate is the blurred mel of the voice alone: of a voice alone, nothing is to go."""
    clean = clips[0]
    spectrum, mel01 = MEL.stft(clean), MEL.mel01(clean)
    blurred = uniform_filter(mel01, (9, 9), mode="nearest")
    si_sdr = {}
    for size in (1, 9):
        inversion = GainInversion(gain_smoothing=(size, size))
        found = invert(MEL, blurred, spectrum, len(clean), inversion)
        si_sdr[size] = metrics.si_sdr(clean, found)
    assert si_sdr[9] > si_sdr[1] + 6


# ---- Phase -------------------------------------------------------------------------------------
def test_refine_phase_keeps_the_magnitude_and_makes_it_more_consistent(clips):
    clean, noisy = clips
    spectrum = MEL.stft(noisy)
    gain = band_gain(MEL, MEL.mel01(noisy), MEL.mel01(clean), GainInversion())
    spectrum = spectrum * MEL.bin_gain(gain)
    np.testing.assert_array_equal(refine_phase(MEL, spectrum, len(noisy), 0), spectrum)
    magnitude = np.abs(spectrum)
    distances = []
    for steps in (0, 1, 4, 16):
        refined = refine_phase(MEL, spectrum, len(noisy), steps)
        np.testing.assert_allclose(np.abs(refined), magnitude, rtol=1e-4, atol=1e-5)
        distances.append(inconsistency(refined, magnitude, len(noisy)))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.9 * distances[0]


def test_griffinlim_finds_a_phase_for_a_magnitude(clips):
    clean = clips[0][:16000]
    magnitude = np.abs(MEL.stft(clean))

    def distance(**settings):
        rebuilt = griffinlim(MEL, magnitude, 16000, **settings)
        assert rebuilt.shape == (16000,)
        assert rebuilt.dtype == np.float32
        return np.linalg.norm(np.abs(MEL.stft(rebuilt)) - magnitude) / np.linalg.norm(magnitude)

    start, slow, fast = distance(steps=0), distance(steps=60, momentum=0.0), distance(steps=60)
    assert slow < 0.5 * start
    assert fast < slow  # what the momentum is for


def test_griffinlim_depends_on_its_seed_alone(clips):
    magnitude = np.abs(MEL.stft(clips[0][:8000]))
    first, again, other = (griffinlim(MEL, magnitude, 8000, 4, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(("n_fft", "n_mels"), [(512, 80), (1024, 80), (512, 40)])
def test_mel_to_magnitude_has_the_given_mel(clips, n_fft, n_mels):
    mel = Mel(AudioConfig(), MelConfig(n_fft=n_fft, win_length=n_fft, hop_length=n_fft // 4,
                                       n_mels=n_mels))
    linear = mel.linear(mel.stft(clips[0]))
    magnitude = mel_to_magnitude(mel, linear)
    assert magnitude.shape == (len(linear), n_fft // 2 + 1)
    assert magnitude.min() >= 0
    reached = magnitude @ mel.filterbank.T
    assert np.linalg.norm(reached - linear) < 0.05 * np.linalg.norm(linear)


def test_a_bare_mel_needs_no_noisy_recording(clips):
    clean = clips[0]
    inversion = GriffinLimInversion(griffinlim_steps=16)
    rebuilt = invert(MEL, MEL.mel01(clean), None, len(clean), inversion)
    assert rebuilt.shape == clean.shape
    assert np.abs(MEL.mel01(rebuilt) - MEL.mel01(clean)).mean() < 0.05  # of 110 dB


def test_griffinlim_of_the_settings_is_that_of_the_function(clips):
    clean = clips[0][:8000]
    mel01 = MEL.mel01(clean)
    inversion = GriffinLimInversion(griffinlim_steps=3, griffinlim_momentum=0.5, seed=7)
    magnitude = mel_to_magnitude(MEL, MEL.denormalise(mel01))
    np.testing.assert_array_equal(
        invert(MEL, mel01, None, 8000, inversion),
        griffinlim(MEL, magnitude, 8000, steps=3, momentum=0.5, seed=7))


def test_the_steps_of_the_settings_are_those_that_repair_the_phase(clips):
    clean, noisy = clips[0][:8000], clips[1][:8000]
    spectrum, mel01 = MEL.stft(noisy), MEL.mel01(clean)
    gained = spectrum * MEL.bin_gain(band_gain(MEL, MEL.mel01(noisy), mel01, GainInversion()))
    for steps in (1, 5):
        inversion = KINDS["inversion"].classes["gain+phase"](phase_steps=steps)
        expected = MEL.istft(refine_phase(MEL, gained, 8000, steps), 8000)
        np.testing.assert_allclose(invert(MEL, mel01, spectrum, 8000, inversion), expected,
                                   atol=1e-6)


def test_the_phase_that_griffinlim_starts_from_is_uniform():
    """Of a flat magnitude without steps: independent phases, all angles alike."""
    magnitude = np.ones((400, 257), np.float32)
    length = 399 * MEL.config.hop_length
    rebuilt = griffinlim(MEL, magnitude, length, steps=0)
    angle = np.random.default_rng(0).uniform(-np.pi, np.pi, magnitude.shape)
    np.testing.assert_allclose(rebuilt, MEL.istft(np.exp(1j * angle), length), atol=1e-6)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_step_of_griffinlim_is_that_of_its_authors(clips, momentum):
    """Perraudin et al. 2013: c <- P1(P2(t)), t <- c + a (c - c_before), in complex spectra.

    librosa's form of it has the phase of `rebuilt - a / (1 + a) * before`, a multiple of the sum.
    """
    clean = clips[0][:6000]
    magnitude = np.abs(MEL.stft(clean)).astype(np.complex128)
    angle = np.random.default_rng(3).uniform(-np.pi, np.pi, magnitude.shape)
    phase, before = np.exp(1j * angle), 0.0
    for _ in range(4):
        rebuilt = MEL.stft(MEL.istft(magnitude * phase, 6000)).astype(np.complex128)
        moved = rebuilt - momentum / (1 + momentum) * before
        phase, before = moved / np.maximum(np.abs(moved), 1e-12), rebuilt
    expected = MEL.istft(magnitude * phase, 6000)
    found = griffinlim(MEL, magnitude.real.astype(np.float32), 6000, 4, momentum, seed=3)
    assert metrics.snr(expected, found) > 40


def test_silence_stays_silent():
    nothing = np.zeros((47, MEL.config.n_mels), np.float32)
    magnitude = mel_to_magnitude(MEL, nothing)
    assert 0 <= magnitude.min() <= magnitude.max() < 1e-6
    np.testing.assert_array_equal(griffinlim(MEL, 0 * magnitude, 6000, 3), np.zeros(6000))
    spectrum = np.zeros(magnitude.shape, np.complex64)
    np.testing.assert_array_equal(refine_phase(MEL, spectrum, 6000, 3), spectrum)


@pytest.mark.parametrize("level", [1e-6, 1.0, 1e4])
def test_the_magnitude_of_a_mel_goes_with_its_level(clips, level):
    linear = MEL.linear(MEL.stft(clips[0][4000:6000]))
    found = mel_to_magnitude(MEL, np.float32(level) * linear)
    expected = np.float32(level) * mel_to_magnitude(MEL, linear)
    assert np.linalg.norm(found - expected) < 0.01 * np.linalg.norm(expected)


def test_more_updates_of_a_magnitude_come_closer_to_the_mel(clips):
    linear = MEL.linear(MEL.stft(clips[0][4000:6000]))
    off = [np.linalg.norm(mel_to_magnitude(MEL, linear, steps) @ MEL.filterbank.T - linear)
           for steps in (0, 1, 5, 30)]
    assert off == sorted(off, reverse=True)
    assert off[-1] < 0.1 * off[0]


def test_the_updates_of_a_magnitude_start_from_its_mean_under_each_band():
    flat = MEL.filterbank.sum(axis=1)[None] * np.float32([[1.0], [0.01]])  # the mel of a constant
    found = mel_to_magnitude(MEL, flat, steps=0)
    np.testing.assert_allclose(found, np.tile([[1.0], [0.01]], (1, 257)), rtol=1e-5)


def test_the_gain_of_several_recordings_is_that_of_each():
    noisy01, estimate01 = np.random.default_rng(0).random((2, 4, 6, 80), np.float32)
    inversion = GainInversion(gain_smoothing=(3, 5))
    together = band_gain(MEL, noisy01, estimate01, inversion)
    for n in range(4):
        alone = band_gain(MEL, noisy01[n], estimate01[n], inversion)
        np.testing.assert_allclose(together[n], alone, rtol=1e-5)


def test_bins_that_no_band_covers_are_left_as_the_mel_spreads():
    narrow = Mel(AudioConfig(), MelConfig(n_mels=20, fmin=1000.0, fmax=3000.0))
    linear = np.random.default_rng(0).random((5, 20), np.float32)
    uncovered = narrow.filterbank.sum(axis=0) == 0
    found = mel_to_magnitude(narrow, linear)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, uncovered],
                                  mel_to_magnitude(narrow, linear, 0)[:, uncovered])


# ---- Real speech -------------------------------------------------------------------------------
REAL = os.environ.get("GAN_DENOISE_REAL_SPEECH")
TUTORIALS = 2.64  # PESQ of librosa's inversion of clean mels at 1024/256/80 without momentum


@pytest.mark.skipif(not REAL, reason="GAN_DENOISE_REAL_SPEECH names no folder of clean speech")
@pytest.mark.skipif(not metrics.available()["pesq"], reason="pesq is not installed")
def test_griffinlim_of_real_speech_is_as_good_as_librosas():
    """True clean mels at 1024/256/80, 25 files: the loop alone, and the whole way from the mel."""
    import librosa

    mel = Mel(AudioConfig(), MelConfig(n_fft=1024, win_length=1024, hop_length=256, n_mels=80))
    rows = []
    for path in audio.find_audio(Path(REAL))[:25]:
        clean = audio.read_mono(path, RATE)
        length, linear = len(clean), mel.linear(mel.stft(clean))
        theirs = librosa.feature.inverse.mel_to_stft(linear.T, sr=RATE, n_fft=1024, power=1.0)
        made = {
            "librosa": librosa.griffinlim(theirs, n_iter=60, hop_length=256, momentum=0.99,
                                          length=length, random_state=0),
            "loop": griffinlim(mel, theirs.T, length),
            "loop without momentum": griffinlim(mel, theirs.T, length, momentum=0.0),
            "whole": griffinlim(mel, mel_to_magnitude(mel, linear), length),
        }
        try:
            rows.append({name: metrics.pesq_wb(clean, wave, RATE) for name, wave in made.items()})
        except metrics.Refused:
            continue
    assert len(rows) >= 20
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    assert mean["loop"] == pytest.approx(mean["librosa"], abs=0.15), mean
    assert mean["loop without momentum"] == pytest.approx(TUTORIALS, abs=0.15), mean
    assert mean["whole"] >= max(mean["librosa"], TUTORIALS) - 0.15, mean
