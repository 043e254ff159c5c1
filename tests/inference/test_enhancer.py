"""The tool: shape, rate and level of any recording stay; chunks equal the whole."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
import soundfile
from conftest import RATE
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise import audio, metrics
from gan_denoise.audio import AudioError
from gan_denoise.config import checkpoint_folder
from gan_denoise.data import synthetic_audio
from gan_denoise.inference.enhancer import Enhancer, ModelError
from gan_denoise.inference.model import DEFAULT_MODEL
from gan_denoise.inference.options import DenoiseOptions

N_FFT, HOP = 256, 64


@pytest.fixture(scope="module")
def enhancer(tiny_model):
    return Enhancer.load(tiny_model, threads=1)


def recording(shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


# ---- Arrays ------------------------------------------------------------------------------------
def test_every_short_length_and_every_remainder_comes_back(enhancer):
    for length in [*range(1, N_FFT + 1), *range(10 * N_FFT, 10 * N_FFT + HOP)]:
        noisy = recording(length)
        cleaned = enhancer.enhance(noisy, RATE)
        assert cleaned.shape == (length,)
        assert cleaned.dtype == np.float32
        assert np.isfinite(cleaned).all()
        assert np.abs(cleaned - noisy).max() > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
       st.sampled_from([(), (1,), (2,), (5,)]))
def test_any_length_rate_and_count_of_channels_comes_back(enhancer, length, rate, channels):
    noisy = recording((*channels, length))
    cleaned = enhancer.enhance(noisy, rate)
    assert cleaned.shape == noisy.shape
    assert cleaned.dtype == np.float32
    assert np.isfinite(cleaned).all()


def test_channels_are_cleaned_by_themselves(enhancer):
    for rate in (RATE, 44100):
        noisy = recording((2, 5000))
        together = enhancer.enhance(noisy, rate)
        for channel in range(2):
            np.testing.assert_array_equal(together[channel], enhancer.enhance(noisy[channel], rate))


def test_the_input_is_left_as_it_is(enhancer):
    noisy = recording(3000)
    kept = noisy.copy()
    enhancer.enhance(noisy, RATE)
    np.testing.assert_array_equal(noisy, kept)
    np.testing.assert_allclose(enhancer.enhance(noisy.astype(np.float64), RATE),
                               enhancer.enhance(noisy, RATE))


def test_silence_stays_silence(enhancer):
    for rate in (RATE, 48000):
        assert not enhancer.enhance(np.zeros(4000, np.float32), rate).any()


def test_what_lies_in_the_models_band_is_cleaned_as_at_its_own_rate(enhancer):
    noisy = synthetic_audio.voice(0, 1.0, seed=0) + 0.2 * synthetic_audio.noise("fan", 1.0, seed=0)
    cleaned = enhancer.enhance(audio.resample(noisy, RATE, 48000), 48000)
    assert metrics.snr(enhancer.enhance(noisy, RATE), audio.resample(cleaned, 48000, RATE)) > 20


def test_griffinlim_needs_no_phase_and_keeps_the_length(enhancer):
    bare = enhancer.with_inversion("griffinlim", griffinlim_steps=4)
    noisy = recording(3001)
    cleaned = bare.enhance(noisy, RATE)
    assert cleaned.shape == (3001,)
    assert np.abs(cleaned - enhancer.enhance(noisy, RATE)).max() > 0.01
    assert enhancer.config.inversion.name == "gain"  # the model itself is as it was


@pytest.mark.parametrize("options", [
    {"strength": 0.5}, {"strength": 0.0}, {"atten_lim_db": 12.0}, {"channels": "link"},
])
def test_griffinlim_refuses_what_takes_a_gain(enhancer, options):
    with pytest.raises(ModelError, match=r"griffinlim .* has no gain"):
        enhancer.with_inversion("griffinlim").with_options(DenoiseOptions(**options))
    with pytest.raises(ModelError, match="griffinlim"):
        enhancer.with_options(DenoiseOptions(**options)).with_inversion("griffinlim")


@pytest.mark.parametrize(("array", "word"), [
    (np.zeros((1000, 2), np.float32), r"\[channels, samples\]; pass array\.T"),
    (np.zeros(100, np.int16), "divide by 32768"),
    (np.float32([0, np.nan, 0]), "NaN"),
    (np.float32([0, np.inf, 0]), "infinite"),
    (np.zeros(0, np.float32), "not"),
    (np.zeros((2, 0), np.float32), "not"),
    (np.zeros((2, 2, 50), np.float32), "not"),
    (np.float32(0.5), "not"),
])
def test_an_array_that_is_no_recording_is_refused(enhancer, array, word):
    with pytest.raises(ModelError, match=word):
        enhancer.enhance(array, RATE)


# ---- Files -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), [
    ("a.wav", "PCM_16", RATE, 1), ("b.wav", "PCM_24", 44100, 2), ("c.flac", "PCM_24", 48000, 2),
    ("d.wav", "FLOAT", 8000, 1), ("e.ogg", "VORBIS", 22050, 1),
])
def test_a_file_keeps_container_encoding_rate_length_and_channels(
    enhancer, tmp_path, name, subtype, rate, channels
):
    source, target = tmp_path / name, tmp_path / "out" / name
    soundfile.write(source, recording((4001, channels)), rate, subtype=subtype)
    result = enhancer.enhance_file(source, target)
    before, after = soundfile.info(source), soundfile.info(target)
    for key in ("format", "subtype", "samplerate", "frames", "channels"):
        assert getattr(before, key) == getattr(after, key)
    assert result.error is None
    assert result.seconds == pytest.approx(4001 / rate)
    assert result.clipped == 0
    cleaned = enhancer.enhance(audio.read(source)[0], rate)
    assert metrics.snr(cleaned, audio.read(target)[0]) > (5 if subtype == "VORBIS" else 60)


def test_a_file_over_itself_is_refused(enhancer, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, recording(1000), RATE)
    before = path.read_bytes()
    (tmp_path / "link.wav").symlink_to(path)
    for target in (path, tmp_path / "." / "a.wav", tmp_path / "link.wav"):
        with pytest.raises(AudioError, match="output is the input"):
            enhancer.enhance_file(path, target)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_nothing_half_written(enhancer, tmp_path, monkeypatch):
    source, target = tmp_path / "a.wav", tmp_path / "out" / "a.wav"
    soundfile.write(source, recording(4000), RATE)
    write = soundfile.SoundFile.write

    def fails(self, data):
        write(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(soundfile.SoundFile, "write", fails)
    with pytest.raises(AudioError, match="No space left on device") as refused:
        enhancer.enhance_file(source, target)
    assert str(target) in str(refused.value)
    assert not list(target.parent.iterdir())
    target.write_bytes(b"what was there")
    with pytest.raises(AudioError, match="No space left on device"):
        enhancer.enhance_file(source, target)
    assert target.read_bytes() == b"what was there"
    assert [path.name for path in target.parent.iterdir()] == ["a.wav"]


# ---- The shipped model -------------------------------------------------------------------------
SHIPPED = checkpoint_folder() / DEFAULT_MODEL
needs_model = pytest.mark.skipif(not SHIPPED.is_dir(), reason=f"there is no {SHIPPED.name} model")


@pytest.fixture(scope="module")
def noisy_voice():
    """A voice, and the same in noise at 5 dB."""
    clean = synthetic_audio.voice(2, 5.0, seed=4)
    noise = synthetic_audio.noise("fan", 5.0, seed=4)
    noise *= np.float32(np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10**0.5))
    return clean, clean + noise


@needs_model
@pytest.mark.parametrize("decibel", [-20, -10, -3, 6])
def test_the_shipped_model_does_not_depend_on_the_level(noisy_voice, decibel):
    shipped = Enhancer.load()
    clean, noisy = noisy_voice
    reference = metrics.si_sdr(clean, shipped.enhance(noisy, RATE))
    scaled = shipped.enhance(noisy * np.float32(10 ** (decibel / 20)), RATE)
    assert abs(metrics.si_sdr(clean, scaled) - reference) <= 1


@needs_model
def test_the_shipped_model_removes_noise(noisy_voice):
    clean, noisy = noisy_voice
    cleaned = Enhancer.load().enhance(noisy, RATE)
    assert metrics.si_sdr(clean, cleaned) > metrics.si_sdr(clean, noisy)
