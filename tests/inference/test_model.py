"""Model folders: what is missing, too new or spoilt is named with the way out."""

from __future__ import annotations

import re
import shutil

import numpy as np
import onnx
import pytest

from gan_denoise.config.artifacts import INFERENCE_PARTS
from gan_denoise.core.checksums import SUMS
from gan_denoise.inference.model import Model, ModelError


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A copy of the model to spoil, without checksums."""
    shutil.copytree(tiny_model, tmp_path / "copy", ignore=shutil.ignore_patterns(SUMS))
    return tmp_path / "copy"


def test_the_fingerprint_tells_models_apart_and_nothing_else(tiny_model, copy):
    assert Model.load(copy).fingerprint == Model.load(tiny_model).fingerprint
    (copy / "model_card.md").write_text("words change nothing")
    assert Model.load(copy).fingerprint == Model.load(tiny_model).fingerprint
    network = onnx.load(copy / "model.onnx")
    network.doc_string = "retrained"
    onnx.save(network, copy / "model.onnx")
    assert Model.load(copy).fingerprint != Model.load(tiny_model).fingerprint


def test_a_batch_is_each_by_itself(tiny_model):
    model = Model.load(tiny_model)
    noisy = np.random.default_rng(0).random((3, 40, 16), np.float32)
    together = model.estimate(noisy)
    assert together.shape == noisy.shape
    for one, estimate in zip(noisy, together, strict=True):
        np.testing.assert_allclose(model.estimate(one), estimate, atol=1e-6)


def test_some_frames_are_those_of_the_whole(tiny_model, copy):
    """Beginning anywhere; also with a network that was exported before it could be asked so."""
    network = onnx.load(copy / "model.onnx")
    for constant in network.graph.initializer:
        constant.name = constant.name.replace("_frame", "_place")
    for node in network.graph.node:
        node.input[:] = [name.replace("_frame", "_place") for name in node.input]
    onnx.save(network, copy / "model.onnx")
    models = [Model.load(tiny_model), Model.load(copy)]
    assert [model.keeps_frames for model in models] == [True, False]
    noisy = np.random.default_rng(0).random((2, 301, 16), np.float32)
    whole = models[1].estimate(noisy)
    for kept in (slice(None), slice(0, 1), slice(13, 77), slice(299, None), slice(-1, None)):
        for model in models:
            np.testing.assert_allclose(model.estimate(noisy, kept), whole[:, kept], atol=1e-6)
            np.testing.assert_allclose(model.estimate(noisy[0], kept), whole[0, kept], atol=1e-6)


@pytest.mark.parametrize("name", INFERENCE_PARTS)
def test_a_missing_part_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"{name} missing"):
        Model.load(copy)


def test_a_model_without_its_geometry_is_refused(copy):
    network = onnx.load(copy / "model.onnx")
    del network.metadata_props[:]
    onnx.save(network, copy / "model.onnx")
    with pytest.raises(ModelError, match=r"receptive_field, time_stride; export"):
        Model.load(copy)


def test_a_model_of_a_newer_version_is_refused(copy):
    settings = re.sub("^#.*\n", "", (copy / "config.yaml").read_text())
    newer, count = re.subn(r"format_version: \d+", "format_version: 999", settings)
    assert count == 1
    (copy / "config.yaml").write_text(newer)
    with pytest.raises(ModelError, match="newer gan_denoise"):
        Model.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "mel_filterbank.npy"])
def test_a_cut_off_part_is_refused(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="not a usable model"):
        Model.load(copy)


def test_a_filterbank_of_other_settings_is_refused(copy):
    np.save(copy / "mel_filterbank.npy", np.zeros((16, 100), np.float32))
    with pytest.raises(ModelError, match="filterbank"):
        Model.load(copy)


def test_a_run_or_nothing_in_place_of_a_model_says_the_way_out(tiny_model):
    with pytest.raises(ModelError, match="is a training run; first gan-denoise export"):
        Model.load(tiny_model.parent / "run")
    with pytest.raises(ModelError, match="no such model folder; shipped models: "):
        Model.load("nonsense")
