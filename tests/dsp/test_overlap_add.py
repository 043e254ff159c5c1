"""Networks of a fixed number of frames on mels of any length."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import RATE, tiny_config, tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.dsp.inversion import band_gain
from gan_denoise.dsp.overlap_add import window_hop, windowed
from gan_denoise.exporting.exporter import export
from gan_denoise.inference.chunks import mirrored
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.models.complexity import macs_per_frame


def mel(total, batch=1, bands=3, seed=0):
    return np.random.default_rng(seed).random((batch, total, bands), np.float32)


SILENCE = np.array([0, 0.25, 0.5], np.float32)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 21), st.integers(1, 3))
def test_an_identity_stays_one_at_any_length(total, frames, batch):
    given = mel(total, batch)
    np.testing.assert_allclose(windowed(lambda x: x, given, frames, SILENCE), given, atol=1e-6)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 21))
def test_a_network_sees_windows_of_its_length_on_the_grid(total, frames):
    seen = []
    windowed(lambda x: seen.append(x) or x, mel(total), frames, SILENCE)
    (windows,) = seen
    assert windows.shape[1:] == (frames, 3)
    hop = window_hop(frames)
    padded = np.concatenate([mel(total)[0], np.tile(SILENCE, (len(windows) * hop + frames, 1))])
    for number, window in enumerate(windows):
        np.testing.assert_array_equal(window, padded[number * hop : number * hop + frames])
    assert (len(windows) - 1) * hop + frames >= total  # nothing is left out ...
    assert len(windows) == 1 or (len(windows) - 2) * hop + frames < total  # ... or done for nothing


def test_neighbours_are_faded_over_linearly():
    """Window k answers k: where two overlap the answer goes from one to the next in a line."""
    numbered = lambda x: np.arange(len(x), dtype=np.float32)[:, None, None] + 0 * x  # noqa: E731
    answer = windowed(numbered, mel(16), 8, SILENCE)[0, :, 0]
    np.testing.assert_allclose(answer[:4], 0)
    np.testing.assert_allclose(answer[4:8], [0.125, 0.375, 0.625, 0.875], atol=1e-6)
    np.testing.assert_allclose(answer[12:], 2, atol=1e-6)


def test_no_number_of_frames_means_all_at_once():
    backwards = windowed(lambda x: x[:, ::-1], mel(11), 0, SILENCE)
    assert backwards.tolist() == mel(11)[:, ::-1].tolist()


def test_the_members_of_a_batch_do_not_mix():
    both = mel(30, batch=2)
    double = lambda x: 2 * x + x.mean(axis=1, keepdims=True)  # noqa: E731
    for one, together in zip(both, windowed(double, both, 8, SILENCE), strict=True):
        np.testing.assert_allclose(windowed(double, one[None], 8, SILENCE)[0], together, atol=1e-6)


# ---- In a model --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    """A model with a dense bottleneck: it takes 17 frames and no other number."""
    folder = tmp_path_factory.mktemp("fixed")
    config = tiny_config(
        generator={"name": "conv_autoencoder", "frames": 17, "latent": 6, "head": "direct"},
        mel={"n_mfcc": 5, "mfcc_range": [[-500.0, 100.0], *[[-80.0, 80.0]] * 4]},
        training={"crop_seconds": 16.5 * 64 / RATE},
    )
    trainer = tiny_run(folder / "run", config, "pretrain")
    export(folder / "run", folder / "model", formats=["litert"])
    return trainer, folder / "model"


def test_the_trainer_and_the_model_give_the_same_at_any_length(fixed):
    trainer, folder = fixed
    model = Enhancer.load(folder)
    for total in (5, 17, 18, 100):
        noisy = mel(total, bands=16 + 5)
        found = model.estimate(noisy)
        assert found.shape == noisy.shape
        np.testing.assert_allclose(found, trainer.estimate(noisy), atol=1e-5)


def test_the_card_counts_the_overlap_of_windows(fixed):
    trainer, folder = fixed
    card = json.loads((folder / "model_card.json").read_text())
    once = macs_per_frame(trainer.generator) * RATE / 64 / 1e6
    assert card["mega_macs_per_second"] == pytest.approx(once * 17 / 8, abs=0.051)
    assert once > 0.1


def test_a_recording_goes_on_in_silence_behind_its_end(fixed):
    """MFCC of silence are not 0; what pads a recording is what a silent recording has."""
    _, folder = fixed
    model = Enhancer.load(folder)
    voice = np.random.default_rng(0).uniform(-0.1, 0.1, 30 * 64).astype(np.float32)
    mel01 = model.mel.mel01(np.pad(voice, (0, 10 * 64)))[:40]
    np.testing.assert_allclose(mel01[32:], np.tile(model.mel.silence, (8, 1)), atol=1e-6)
    assert model.mel.silence[17:].min() > 0.1
    np.testing.assert_allclose(model.estimate(mel01[:36]), model.estimate(mel01)[:36], atol=1e-5)


@pytest.mark.parametrize("smoothing", [(1, 1), (61, 5)])
def test_a_recording_in_parts_equals_the_whole(fixed, smoothing):
    _, folder = fixed
    enhancer = Enhancer.load(folder, threads=1).with_inversion(gain_smoothing=smoothing)
    rng = np.random.default_rng(0)
    recording = (0.1 * rng.standard_normal(40 * RATE)).astype(np.float32)
    stream = enhancer.stream(RATE)
    pieces = [stream.push(recording[at : at + 7777]) for at in range(0, len(recording), 7777)]
    cleaned = np.concatenate([*pieces, stream.finish()], axis=1)[0]
    spectrum = enhancer.mel.stft(mirrored(recording, enhancer.mel.config.n_fft))
    noisy01 = enhancer.mel.normalise(enhancer.mel.linear(spectrum))
    gain = band_gain(enhancer.mel, noisy01, enhancer.estimate(noisy01), enhancer.inversion)
    whole = enhancer.mel.istft(enhancer.mel.bin_gain(gain) * spectrum, len(recording))
    assert np.abs(whole - recording).max() > 0.01  # the network does something
    np.testing.assert_allclose(cleaned, whole, atol=1e-5)
