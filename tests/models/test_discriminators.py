"""The patch discriminator: a grid of local judgements; its norm moves in training alone."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import shake, tiny_config

from gan_denoise.models.discriminators import build_discriminator


def mels(frames=32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.random((2, frames, 16), np.float32) for _ in range(2)]


def values_of(network):
    return {variable.path: np.asarray(variable).copy() for variable in network.variables}


def changed(before, after):
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


@pytest.fixture(scope="module")
def network():
    return build_discriminator(tiny_config())


@pytest.mark.parametrize("frames", [1, 5, 32, 33])
def test_logits_are_a_grid_and_features_are_the_hidden_layers(network, frames):
    logits, *features = network(mels(frames), training=False)
    assert logits.shape == (2, -(-frames // 4), 4, 1)
    assert [feature.shape[-1] for feature in features] == [4, 6, 6]
    assert np.isfinite(logits).all()


def test_a_logit_judges_its_patch_alone(network):
    noisy, candidate = mels(200)
    before = np.asarray(network([noisy, candidate], training=False)[0])
    candidate = candidate.copy()
    candidate[:, :4] = 1 - candidate[:, :4]
    after = np.asarray(network([noisy, candidate], training=False)[0])
    moved = np.flatnonzero(np.abs(after - before).max(axis=(0, 2, 3)))
    assert 0 in moved
    assert moved.max() < 10  # of 50: the far end hears nothing of it


def test_both_mels_are_judged_together(network):
    noisy, candidate = mels()
    logits = np.asarray(network([noisy, candidate], training=False)[0])
    for changed_pair in ([1 - noisy, candidate], [noisy, 1 - candidate]):
        assert np.abs(np.asarray(network(changed_pair, training=False)[0]) - logits).max() > 1e-4


def test_the_spectral_norm_moves_only_in_training():
    network = build_discriminator(tiny_config())
    before = values_of(network)
    network(mels(), training=False)
    assert not changed(before, values_of(network))
    network(mels(), training=True)
    moved = changed(before, values_of(network))
    vectors = {variable.path for variable in network.non_trainable_variables}
    assert vectors
    assert vectors <= moved


def test_the_spectral_norm_bounds_every_kernel():
    network = build_discriminator(tiny_config())
    shake(network)
    for _ in range(60):
        network(mels(4), training=True)
    kernels = [np.asarray(v) for v in network.trainable_variables if v.name == "kernel"]
    assert len(kernels) == 4
    for kernel in kernels:
        largest = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=0.05)


def test_without_spectral_norm_nothing_moves_in_a_call():
    network = build_discriminator(tiny_config(discriminator={"spectral_norm": False}))
    assert not network.non_trainable_variables
    before = values_of(network)
    in_training = np.asarray(network(mels(), training=True)[0])
    assert not changed(before, values_of(network))
    np.testing.assert_array_equal(in_training, network(mels(), training=False)[0])
