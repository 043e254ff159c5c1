"""What is heard in signals whose level, noise, pitch and band are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import resample
from gan_denoise.data import synthetic_audio
from gan_denoise.inspection import acoustics

pytest.importorskip("librosa")
RATE = 16000  # Hz


def harmonic(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """Twelve harmonics, each weaker than the one before, at an RMS of about -20 dB."""
    phase = 2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate
    numbers = [n for n in range(1, 13) if n * hertz < 0.45 * rate]
    return 0.11 * np.sum([np.cos(n * phase + n * n) / n for n in numbers], axis=0)


def white(decibel: float = -20.0, seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """White noise of an RMS in dB of full scale."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return 10 ** (decibel / 20) * noise / np.sqrt(np.mean(noise**2))


# ---- Level and pauses ----


def test_steady_noise_at_minus_20_db_has_that_level_and_no_pause():
    level_db, active = acoustics.active_level(white(-20.0), RATE)
    assert level_db == pytest.approx(-20, abs=0.1)
    assert active > 0.98


def test_a_full_scale_sine_has_minus_3_db():
    sine = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert acoustics.active_level(sine, RATE)[0] == pytest.approx(-3.0, abs=0.1)


def test_added_silence_is_a_pause_and_leaves_the_level_of_the_speech():
    speech = synthetic_audio.voice(0, 4.0, seed=1)
    padded = np.concatenate([speech, np.zeros(6 * RATE, np.float32)])
    level_db, active = acoustics.active_level(speech, RATE)
    padded_db, padded_active = acoustics.active_level(padded, RATE)
    assert padded_db == pytest.approx(level_db, abs=0.3)
    assert padded_active == pytest.approx(0.4 * active, abs=0.03)


def test_the_envelope_is_held_for_200_ms_after_a_sound_and_not_before():
    # 1 s of noise in 4 s: active for that second, the held 0.2 s and the envelope's own decay.
    noise = np.zeros(4 * RATE)
    noise[RATE : 2 * RATE] = white(-20.0, 1.0)
    _, active = acoustics.active_level(noise, RATE)
    assert 1.2 / 4 < active < 1.45 / 4


@pytest.mark.parametrize("place", [0, RATE // 2, RATE - 1])
def test_a_click_is_a_sound_too(place):
    click = np.zeros(RATE)
    click[place] = 1.0
    level_db, active = acoustics.active_level(click, RATE)
    assert -45 < level_db <= 0
    assert 0 < active < 0.3


@settings(max_examples=20, deadline=None)
@given(gain_db=st.floats(-60, 12))
def test_a_gain_moves_the_level_by_as_much_and_nothing_else(gain_db):
    speech = synthetic_audio.voice(2, 1.5, seed=0) + white(-50.0, 1.5)
    loud = 10 ** (gain_db / 20) * speech
    level_db, active = acoustics.active_level(speech, RATE)
    assert acoustics.active_level(loud, RATE) == pytest.approx((level_db + gain_db, active))
    if gain_db > -20:  # below, its pauses become digital silence
        assert acoustics.estimate_snr(loud, RATE) == pytest.approx(
            acoustics.estimate_snr(speech, RATE)
        )


# ---- SNR ----


@pytest.mark.parametrize("speaker", range(3))
def test_the_estimate_follows_the_true_snr(speaker):
    speech = synthetic_audio.voice(speaker, 4.0, seed=speaker)
    noise = white(0.0, 4.0, seed=speaker)
    estimates = []
    for snr_db in (-5, 0, 5, 10, 15, 20, 25):
        gain = math.sqrt(np.mean(speech**2) / 10 ** (snr_db / 10))
        estimate = acoustics.estimate_snr(speech + gain * noise, RATE)
        assert estimate == pytest.approx(snr_db, abs=3.0 if snr_db < 0 else 1.5)
        estimates.append(estimate)
    assert np.all(np.diff(estimates) > 0)


def test_steady_noise_has_a_low_snr_and_a_tone_the_lowest():
    assert acoustics.estimate_snr(white(), RATE) < -8
    sine = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    assert acoustics.estimate_snr(sine, RATE) == acoustics.LOWEST_SNR_DB


def test_digital_silence_is_no_noise_floor():
    speech = synthetic_audio.voice(1, 3.0, seed=0) + white(-45.0, 3.0)
    padded = np.concatenate([speech, np.zeros(2 * RATE)])
    assert acoustics.estimate_snr(padded, RATE) == pytest.approx(
        acoustics.estimate_snr(speech, RATE)
    )


def test_a_recording_of_less_than_a_quarter_second_has_no_snr():
    assert acoustics.estimate_snr(white(seconds=0.2), RATE) is None


# ---- Pitch ----


def test_a_harmonic_voice_at_200_hz_has_an_f0_of_200_hz():
    measures = acoustics.measure_acoustics(harmonic(200.0), RATE)
    assert measures.f0_hz == pytest.approx(200, rel=0.01)
    assert measures.f0_range_hz == pytest.approx((200, 200), rel=0.02)
    assert measures.voiced > 0.9


@settings(max_examples=20, deadline=None)
@given(hertz=st.floats(70, 400), rate=st.sampled_from([8000, 16000, 44100]))
def test_any_pitch_comes_back_at_any_rate(hertz, rate):
    f0 = acoustics.voiced_f0(harmonic(hertz, 0.5, rate).astype(np.float32), rate)
    assert np.nanmedian(f0) == pytest.approx(hertz, rel=0.02)


def test_frames_of_noise_and_of_pauses_are_not_voiced():
    audio = np.concatenate([harmonic(120.0), white(), np.zeros(RATE), harmonic(120.0)])
    voiced = ~np.isnan(acoustics.voiced_f0(audio.astype(np.float32), RATE))
    assert voiced[5:90].all()
    assert not voiced[110:390].any()
    assert voiced[410:490].all()


def test_noise_has_no_f0():
    measures = acoustics.measure_acoustics(white(), RATE)
    assert (measures.f0_hz, measures.f0_range_hz) == (None, None)
    assert measures.voiced < 0.02


# ---- Spectrum ----


def test_what_was_low_passed_shows_its_cut():
    whole = white(seconds=4.0)
    cut = resample(resample(whole, RATE, 8000), 8000, RATE)
    for audio, hertz in ((whole, 8000), (cut, 4000)):
        measures = acoustics.measure_acoustics(audio, RATE)
        assert measures.bandwidth_hz == pytest.approx(hertz, rel=0.05)
        assert measures.rolloff_hz == pytest.approx(hertz, rel=0.08)


def test_upsampled_speech_shows_its_cut_where_its_energy_does_not():
    speech = synthetic_audio.voice(0, 3.0, seed=0) + white(-55.0, 3.0)
    upsampled = resample(resample(speech, RATE, 8000), 8000, RATE)
    genuine, other = (acoustics.measure_acoustics(audio, RATE) for audio in (speech, upsampled))
    assert genuine.bandwidth_hz > 7500
    assert other.bandwidth_hz == pytest.approx(4000, rel=0.05)
    assert genuine.rolloff_hz < 7500


def test_white_noise_has_twice_the_energy_an_octave_higher():
    levels = acoustics.measure_acoustics(white(seconds=10.0), RATE).bands_db
    inside = acoustics.BAND_EDGES[1:] <= RATE / 2
    assert np.all(np.isnan(levels) == ~inside)
    assert 10 * np.log10(np.sum(10 ** (levels[inside] / 10))) == pytest.approx(0, abs=0.01)
    assert np.diff(levels[inside][12:]).mean() == pytest.approx(10 * np.log10(2) / 6, abs=0.05)


def test_a_tone_is_in_its_own_band():
    tone = np.sin(2 * np.pi * 1060 * np.arange(2 * RATE) / RATE)  # the middle of one
    levels = acoustics.measure_acoustics(tone, RATE).bands_db
    best = int(np.nanargmax(levels))
    assert acoustics.BAND_EDGES[best] < 1060 < acoustics.BAND_EDGES[best + 1]
    assert levels[best] == pytest.approx(0, abs=0.1)
    assert np.nanmax(np.delete(levels, best)) < -20


# ---- Nothing to hear ----


@pytest.mark.parametrize("audio", [
    np.zeros(RATE), np.full(RATE, 0.5), np.zeros(0), np.array([0.5]), np.full(RATE, 1e-7),
])  # fmt: skip
def test_silence_and_a_mere_offset_have_no_measures(audio):
    assert vars(acoustics.measure_acoustics(audio, RATE)) == vars(acoustics.AcousticMeasures())


def test_an_offset_does_not_count():
    speech = synthetic_audio.voice(0, 1.0, seed=0)
    plain, shifted = (acoustics.measure_acoustics(audio, RATE) for audio in (speech, speech + 0.3))
    assert shifted.level_db == pytest.approx(plain.level_db, abs=0.01)
    assert shifted.snr_db == pytest.approx(plain.snr_db, abs=0.1)


@settings(max_examples=30, deadline=None)
@given(samples=st.integers(2, 3000), rate=st.sampled_from([8000, 16000, 96000]))
def test_the_shortest_recordings_are_measured_as_far_as_they_go(samples, rate):
    audio = np.random.default_rng(samples).uniform(-0.5, 0.5, samples)
    measures = acoustics.measure_acoustics(audio, rate)
    assert math.isfinite(measures.level_db)
    assert 0 <= measures.pauses < 1
    assert 0 < measures.bandwidth_hz <= 1.001 * rate / 2
    assert measures.level_db == pytest.approx(20 * math.log10(np.std(audio)), abs=1.5)
