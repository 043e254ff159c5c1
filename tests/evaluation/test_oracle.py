import numpy as np
import pytest

from gan_denoise.config.kinds import GainInversion, GainPhaseInversion, GriffinLimInversion
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.data.synthetic_audio import voice
from gan_denoise.dsp.inversion import invert
from gan_denoise.dsp.mel import Mel
from gan_denoise.evaluation import mel_parts, oracle
from gan_denoise.inference.model import Model

RATE = 16000


@pytest.fixture(scope="module")
def mel():
    config = MelConfig(n_mels=64)
    centres = np.linspace(0, config.n_fft // 2, 66)[1:-1]
    distance = np.abs(np.arange(config.n_fft // 2 + 1) - centres[:, None]) / 4
    return Mel(AudioConfig(), config, np.maximum(1 - distance, 0).astype(np.float32))


@pytest.fixture(scope="module")
def pair():
    clean = np.concatenate([voice(v, 1.0, v, RATE) for v in range(3)])[:-77]
    return clean, clean + np.float32(0.02) * np.random.default_rng(0).standard_normal(
        len(clean)).astype(np.float32)


@pytest.mark.parametrize("inversion", [
    GainInversion(), GainPhaseInversion(phase_steps=3),
    GainPhaseInversion(gain_smoothing=(9, 3)),
])
def test_parts_of_the_oracle_equal_the_whole(mel, pair, monkeypatch, inversion):
    monkeypatch.setattr(oracle, "PART_SECONDS", 0.35)
    clean, noisy = pair
    found = list(oracle.oracle_parts(mel, clean, noisy, inversion))
    assert len(found) == 9  # the ninth is longer
    whole = invert(mel, mel.mel01(clean), mel.stft(noisy), len(noisy), inversion)
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-5)


def test_parts_from_random_phase_are_faded_over(mel, pair, monkeypatch):
    clean, noisy = pair
    inversion = GriffinLimInversion(griffinlim_steps=3)
    (whole,) = oracle.oracle_parts(mel, clean, noisy, inversion)
    np.testing.assert_array_equal(
        whole, invert(mel, mel.mel01(clean), mel.stft(noisy), len(noisy), inversion))
    monkeypatch.setattr(oracle, "PART_SECONDS", 1.0)
    faded = np.concatenate(list(oracle.oracle_parts(mel, clean, noisy, inversion)))
    assert faded.shape == noisy.shape
    steps = np.abs(np.diff(faded))
    seams = range(RATE, len(faded) - RATE, RATE)
    largest = max(steps[place - 600 : place + 600].max() for place in seams)
    assert largest < 1.5 * np.max(np.abs(np.diff(whole)))  # no click


@pytest.mark.parametrize("length", [1, 127, 128, 5000])
def test_frames_by_themselves_equal_the_whole(mel, pair, length):
    signal = pair[1][:length]
    whole = mel.mel01(signal)
    for first in range(0, len(whole), 7):
        found = mel_parts.mel_frames(mel, signal, first, min(first + 7, len(whole)))
        np.testing.assert_allclose(found, whole[first : first + 7], atol=1e-6)


def test_the_shipped_network_in_parts_equals_the_whole(pair):
    model = Model.load()
    noisy = np.tile(pair[1], 4)
    whole = model.estimate(model.mel.mel01(noisy))
    size = 40 * model.time_stride
    found = [
        mel_parts.network_frames(model.mel, model.estimate, model.receptive_field,
                                 model.time_stride, noisy, *part)
        for part in mel_parts.part_ranges(len(whole), size)
    ]
    assert len(found) > 3
    np.testing.assert_allclose(np.concatenate(found), whole, atol=1e-4)


@pytest.mark.parametrize(("total", "expected"), [
    (1, [(0, 1)]), (100, [(0, 100)]), (124, [(0, 124)]), (125, [(0, 100), (100, 125)]),
    (320, [(0, 100), (100, 200), (200, 320)]),
])
def test_a_short_rest_goes_with_the_part_before(total, expected):
    assert mel_parts.part_ranges(total, 100) == expected
