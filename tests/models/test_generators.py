"""The generators: any number of frames, a finite field of view, bounded gain."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import shake, tiny_config

from gan_denoise.config import ConfigError
from gan_denoise.models.generators import GENERATORS, build_generator, receptive_field, time_stride
from gan_denoise.models.layers import GainHead

BANDS = 18  # no multiple of the strides
SHAPES = [
    {"name": "unet", "channels": [4, 6]},
    {"name": "unet", "channels": [4, 5, 6], "level_frames": 0},
    {"name": "autoencoder", "channels": [4, 6]},
    {"name": "conv_autoencoder", "channels": [4, 6]},
    {"name": "conv_autoencoder", "channels": [4, 5, 6], "batch_norm": True},
    {"name": "cnn", "channels": [4, 6], "kernel": 3},
    {"name": "tcn_autoencoder", "channels": [4, 6], "blocks": 3},
    {"name": "tcn_autoencoder", "channels": [4, 6], "time_strides": [2, 2], "dilations": [1, 3]},
    {"name": "tcn_autoencoder", "channels": [4, 6], "time_strides": [1, 1], "kernel": 4,
     "level_frames": 40},
]


def config_of(**generator):
    return tiny_config(mel={"n_mels": BANDS}, generator=generator)


def with_head(settings, head):
    """Return settings of a generator with a head, without the keys that it has no use for."""
    kept = {key: value for key, value in settings.items()
            if head == "gain" or key not in ("gain_floor_db", "level_frames")}
    return kept | {"head": head}


def name_of(shape):
    return "-".join(str(value) for value in shape.values()).replace(", ", ",")


class Built:
    """A generator with shaken weights."""

    def __init__(self, settings):
        self.config = config_of(**settings)
        self.network = build_generator(self.config)
        shake(self.network)
        self.field, self.stride = receptive_field(self.config), time_stride(self.config)

    def __call__(self, mel):
        return np.asarray(self.network(mel, training=False))


@pytest.fixture(scope="module", params=SHAPES, ids=name_of)
def built(request):
    return Built(request.param)


@pytest.fixture(scope="module", params=["gain", "direct"])
def headed(request, built):
    return Built(with_head(built.config.generator.model_dump(), request.param))


def random_mel(frames, batch=1, seed=0):
    return np.random.default_rng(seed).random((batch, frames, BANDS), np.float32)


# ---- Shapes and range --------------------------------------------------------------------------
def test_every_generator_is_tried_here():
    assert {shape["name"] for shape in SHAPES} == set(GENERATORS)


def test_any_number_of_frames_comes_back_within_zero_and_one(headed):
    for frames in (1, 2, 3, 4, 5, 7, 8, 13, 64):
        estimate = headed(random_mel(frames, batch=2))
        assert estimate.shape == (2, frames, BANDS)
        assert estimate.dtype == np.float32
        assert estimate.min() >= 0
        assert estimate.max() <= 1


def test_an_estimate_does_not_depend_on_its_batch(built):
    mels = random_mel(21, batch=3)
    for alone, together in zip(mels, built(mels), strict=True):
        np.testing.assert_allclose(built(alone[None])[0], together, atol=1e-5)


# ---- Field of view -----------------------------------------------------------------------------
def test_what_a_frame_changes_lies_within_the_receptive_field(built):
    past = future = 0
    for frames in (4 * built.field + 20, 4 * built.field + 21):
        mel = random_mel(frames)
        before = built(mel)
        for at in range(2 * built.field, 2 * built.field + 2 * built.stride):
            other = mel.copy()
            other[0, at] = 1 - other[0, at]
            changed = np.flatnonzero(np.abs(built(other) - before).max(axis=(0, 2)))
            future = max(future, at - changed[0])  # outputs that saw it before its time
            past = max(past, changed[-1] - at)
    assert 1 <= past <= built.field
    assert 1 <= future <= built.field


def test_chunks_with_context_equal_the_whole(built):
    stride = built.stride
    context = built.field + -built.field % stride
    mel = random_mel(3 * built.field + 37)
    whole = built(mel)
    for size in (8 * stride, 15 * stride):
        for start in range(0, mel.shape[1], size):
            low, stop = max(start - context, 0), min(start + size, mel.shape[1])
            part = built(mel[:, low : stop + context])[:, start - low : stop - low]
            np.testing.assert_allclose(part, whole[:, start:stop], atol=1e-5)


def test_the_default_generator_sees_some_seconds_to_each_side():
    from gan_denoise.config.schema import Config

    seconds = receptive_field(Config()) * 128 / 16000
    assert 1.5 < seconds < 4


# ---- Heads -------------------------------------------------------------------------------------
@pytest.mark.parametrize("floor_db", [10.0, 25.0, 60.0])
def test_the_gain_head_never_amplifies_nor_cuts_deeper_than_its_floor(floor_db):
    noisy = random_mel(30)
    logits = np.random.default_rng(1).normal(0, 50, noisy.shape).astype(np.float32)
    estimate = np.asarray(GainHead(floor_db, 110.0)([noisy, logits]))
    assert (estimate <= noisy + 1e-6).all()
    assert (estimate >= np.maximum(noisy - floor_db / 110, 0) - 1e-6).all()
    np.testing.assert_allclose(estimate[logits > 40], noisy[logits > 40], atol=1e-6)
    lowest = np.maximum(noisy - floor_db / 110, 0)[logits < -40]
    np.testing.assert_allclose(estimate[logits < -40], lowest, atol=1e-5)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_generator_with_the_gain_head_is_bounded_by_its_input(name):
    built = Built({"name": name, "head": "gain", "gain_floor_db": 20.0})
    noisy = random_mel(40)
    estimate = built(noisy)
    assert (estimate <= noisy + 1e-6).all()
    assert (estimate >= np.maximum(noisy - 20 / 110, 0) - 1e-6).all()


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_the_gain_follows_the_level_of_the_recording(name):
    built = Built({"name": name, "head": "gain", "gain_floor_db": 20.0})
    noisy = 0.4 + 0.2 * random_mel(40)
    for shift in (-20 / 110, 6 / 110):
        louder = built((noisy + shift).astype(np.float32))
        np.testing.assert_allclose(louder - shift, built(noisy), atol=1e-4)


# ---- Settings ----------------------------------------------------------------------------------
def test_an_unknown_generator_lists_those_there_are():
    with pytest.raises(ConfigError) as refused:
        config_of(name="gpt")
    assert "'gpt'" in str(refused.value)
    for name in GENERATORS:
        assert name in str(refused.value)


@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_dropout_is_of_training_alone(name):
    network = build_generator(config_of(name=name, dropout=0.5))
    mel = random_mel(16)
    first, second = (np.asarray(network(mel, training=False)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    first, second = (np.asarray(network(mel, training=True)) for _ in range(2))
    assert np.abs(first - second).max() > 0
