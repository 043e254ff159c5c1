"""The ONNX writer: every generator, any length, equal to Keras, and free of shape juggling."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import shake, tiny_config
from keras import layers

from gan_denoise.exporting import onnx_parts
from gan_denoise.exporting.onnx_writer import ExportError, write_onnx
from gan_denoise.inference.model import with_limits
from gan_denoise.models.generators import build_generator

CASES = {
    "tcn": {"name": "tcn_autoencoder"},
    "tcn direct": {"name": "tcn_autoencoder", "head": "direct"},
    "tcn batch norm": {"name": "tcn_autoencoder", "batch_norm": True},
    "tcn strides": {"name": "tcn_autoencoder", "channels": [4, 6, 8], "time_strides": [2, 1, 2]},
    "tcn level": {"name": "tcn_autoencoder", "level_frames": 8},
    "tcn no level": {"name": "tcn_autoencoder", "level_frames": 0},
    "unet": {"name": "unet"},
    "pooled": {"name": "conv_autoencoder", "channels": [4, 6, 8]},
    "pooled batch norm": {"name": "conv_autoencoder", "batch_norm": True, "head": "direct"},
    "cnn": {"name": "cnn", "kernel": 5},
    "autoencoder": {"name": "autoencoder", "channels": [4, 6, 8], "dropout": 0.1},
}


def session_of(path):
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def session_with_limits(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # that a constant may be given another value is meant
    return onnxruntime.InferenceSession(with_limits(path.read_bytes()), options,
                                        providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("case", CASES)
def test_any_batch_and_length_equals_keras(tmp_path, case):
    keras.utils.set_random_seed(0)
    generator = build_generator(tiny_config(generator=CASES[case]))
    shake(generator)
    write_onnx(generator, tmp_path / "a.onnx", {"time_stride": 2})
    session = session_of(tmp_path / "a.onnx")
    assert session.get_modelmeta().custom_metadata_map["time_stride"] == "2"
    for batch, frames in ((1, 1), (1, 2), (2, 3), (1, 7), (3, 64), (1, 65), (1, 250)):
        noisy = np.random.default_rng(frames).random((batch, frames, 16), np.float32)
        expected = np.asarray(generator(noisy, training=False))
        found = session.run(["estimate_mel"], {"noisy_mel": noisy})[0]
        assert found.shape == noisy.shape
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("case", [case for case in CASES if "pooled" not in case])
def test_some_frames_alone_are_those_of_the_whole(tmp_path, case, monkeypatch):
    """Cut early and late, at both ends, between them, and around all."""
    monkeypatch.setattr(onnx_parts, "LEAST_CUT", 1)  # so that everything that can be cut is cut
    keras.utils.set_random_seed(0)
    generator = build_generator(tiny_config(generator=CASES[case]))
    shake(generator)
    write_onnx(generator, tmp_path / "a.onnx", {})
    assert [one.name for one in session_of(tmp_path / "a.onnx").get_inputs()] == ["noisy_mel"]
    session = session_with_limits(tmp_path / "a.onnx")
    for batch, frames in ((1, 8), (2, 121), (1, 400)):
        noisy = np.random.default_rng(frames).random((batch, frames, 16), np.float32)
        whole = session.run(["estimate_mel"], {"noisy_mel": noisy})[0]
        for first, stop in ((0, 8), (8, 16), (40, 120), (200, 232), (104, 400), (0, 10**6)):
            if first >= frames:
                continue
            limits = {"first_frame": np.int64([first]), "stop_frame": np.int64([stop])}
            part = session.run(["estimate_mel"], {"noisy_mel": noisy} | limits)[0]
            np.testing.assert_allclose(part, whole[:, first:stop], atol=1e-6)


def test_late_layers_compute_the_part_alone(tmp_path):
    """What the decoder takes from the encoder, and the middle's output, are cut to it."""
    wide = {"name": "tcn_autoencoder", "dilations": [1, 32], "blocks": 2}
    generator = build_generator(tiny_config(generator=wide))
    write_onnx(generator, tmp_path / "a.onnx", {})
    network = onnx.load(tmp_path / "a.onnx")
    cut = [node for node in network.graph.node if node.op_type == "Slice"]
    assert len(cut) >= 4


def test_the_graph_holds_no_shape_juggling(tmp_path):
    write_onnx(build_generator(tiny_config(generator=CASES["tcn"])), tmp_path / "a.onnx", {})
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node)
    assert not set(kinds) & {"Pad", "Gather", "Cast", "ConvTranspose", "SpaceToDepth", "Squeeze"}
    assert sum(kinds.values()) < 120


@pytest.mark.parametrize("case", ["tcn batch norm", "unet"])
def test_batch_norms_are_folded_into_convolutions(tmp_path, case):
    write_onnx(build_generator(tiny_config(generator=CASES[case])), tmp_path / "a.onnx", {})
    kinds = {node.op_type for node in onnx.load(tmp_path / "a.onnx").graph.node}
    assert "BatchNormalization" not in kinds


def test_a_layer_without_a_writer_is_named(tmp_path):
    entry = keras.Input((None, 16))
    network = keras.Model(entry, layers.LSTM(16, return_sequences=True, name="memory")(entry))
    with pytest.raises(ExportError, match="memory: no ONNX writer for LSTM"):
        write_onnx(network, tmp_path / "a.onnx", {})
    entry = keras.Input((None, 16))
    network = keras.Model(entry, layers.Dense(16, activation="gelu", name="odd")(entry))
    with pytest.raises(ExportError, match="odd: no ONNX writer for the activation gelu"):
        write_onnx(network, tmp_path / "a.onnx", {})
