"""From a run to a model folder: the same network, strictly described, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil

import keras
import numpy as np
import onnxruntime
import pytest
from conftest import shake, tiny_config, tiny_material, tiny_run

from gan_denoise.cli.models import _shares
from gan_denoise.cli.options import UsageError
from gan_denoise.config import ConfigError, dump_config
from gan_denoise.config.artifacts import BEST
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import DataConfig, TuneConfig
from gan_denoise.exporting import exporter as exporting
from gan_denoise.exporting.exporter import export
from gan_denoise.models.generators import (
    GENERATORS,
    build_generator,
    receptive_field,
    time_stride,
)
from gan_denoise.training.checkpoints import (
    CheckpointError,
    read_progress,
    read_variables,
    save_state,
)
from gan_denoise.training.initialization import load_generator, load_weights
from gan_denoise.training.trainer import Trainer

FILES = ["SHA256SUMS", "config.yaml", "discriminator.weights.h5", "dsp.json",
         "generator.weights.h5", "mel_filterbank.npy", "model.onnx", "model_card.json",
         "model_card.md"]


def config_of(name, **generator):
    return tiny_config(
        generator={"name": name, "dropout": 0.2, **generator},
        data={"speech": ["/home/me/voices"], "noise": ["/home/me/noises"], "cache": "/home/me/c",
              "snr_mean": 3.0},
        tune={"space": {"data.noise": [["/home/me/noises"], []]}},
    )


@pytest.fixture(scope="module", params=sorted(GENERATORS))
def exported(request, tmp_path_factory):
    """(trainer, model folder, card) of each generator."""
    folder = tmp_path_factory.mktemp(request.param)
    kind = "pretrain" if request.param == "autoencoder" else "finetune"
    trainer = tiny_run(folder / "run", config_of(request.param), kind)
    card = export(folder / "run", folder / "model", {"licences": {"voices": "CC0"}})
    return trainer, folder / "model", card


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "run"
    tiny_run(folder, config_of("unet"))
    return folder


@pytest.fixture
def quickly(monkeypatch):
    """Leave ONNX out, where the test is about the folder."""
    monkeypatch.setattr("gan_denoise.exporting.onnx_writer.write_onnx",
                        lambda network, path, geometry: path.touch())
    monkeypatch.setattr(exporting, "_parity", lambda *_: 0.0)


# ---- What is exported --------------------------------------------------------------------------
def test_onnx_computes_what_the_average_computes(exported):
    trainer, model, card = exported
    session = onnxruntime.InferenceSession(model / "model.onnx",
                                           providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["noisy_mel"]
    assert [item.name for item in session.get_outputs()] == ["estimate_mel"]
    assert session.get_inputs()[0].shape == ["batch", "frames", 16]
    for batch, frames in ((1, 1), (1, 2), (3, 3), (2, 33), (1, 400)):
        noisy = np.random.default_rng(frames).random((batch, frames, 16), np.float32)
        found = session.run(["estimate_mel"], {"noisy_mel": noisy})[0]
        expected = np.asarray(trainer.ema(noisy, training=False))
        assert np.abs(expected - noisy).max() > 0.01  # the network does something
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert 0 <= card["onnx_parity_mel01"] <= 1e-4


def test_the_card_is_strict_json_and_says_what_the_model_is(exported):
    trainer, model, card = exported

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    text = (model / "model_card.json").read_text(encoding="utf-8")
    assert json.loads(text, parse_constant=refuse) == card
    assert card["name"] == "model"
    assert card["kind"] == trainer.kind
    assert card["parameters"] == trainer.generator.count_params()
    assert card["validation"] == {"step": 7, "si_sdr": 3.0}
    assert card["steps"] == 7
    assert card["sample_rate"] == 16000
    assert card["look_ahead_ms"] > 0
    assert card["licences"] == {"voices": "CC0"}
    assert {"gan_denoise", "keras", "python"} <= set(card["versions"])
    page = (model / "model_card.md").read_text(encoding="utf-8")
    assert page.startswith("# model\n")
    assert "## licences\n\n- voices: CC0" in page


def test_the_folder_is_whole_and_names_no_path_of_the_machine(exported):
    trainer, model, _ = exported
    expected = [name for name in FILES
                if trainer.discriminator is not None or not name.startswith("discriminator")]
    assert sorted(path.name for path in model.iterdir()) == expected
    settings = settings_of(model)
    assert settings.data == DataConfig(snr_mean=3.0)
    assert settings.tune == TuneConfig()
    assert (settings.audio, settings.mel, settings.generator) == (
        trainer.config.audio, trainer.config.mel, trainer.config.generator)
    for path in model.iterdir():
        assert b"/home/me" not in path.read_bytes(), path.name


def test_the_model_says_its_geometry(exported):
    trainer, model, card = exported
    session = onnxruntime.InferenceSession(model / "model.onnx",
                                           providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    field, stride = receptive_field(trainer.config), time_stride(trainer.config)
    assert int(said["receptive_field"]) == card["receptive_field"] == field
    assert int(said["time_stride"]) == card["time_stride"] == stride


def test_a_model_folder_starts_another_fine_tuning(exported):
    trainer, model, _ = exported
    other = Trainer(trainer.config, tiny_material(), "finetune")
    shake(other.discriminator, seed=9)
    before = other.discriminator.get_weights()
    load_weights(other, model)
    for network in (other.generator, other.ema):
        for ours, theirs in zip(network.get_weights(), trainer.ema.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    expected = before if trainer.discriminator is None else trainer.discriminator.get_weights()
    for ours, theirs in zip(other.discriminator.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_a_network_of_another_version_are_refused_by_name(exported, tmp_path):
    trainer, model, _ = exported
    (tmp_path / "config.yaml").write_bytes((model / "config.yaml").read_bytes())
    path = tmp_path / "generator.weights.h5"
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(CheckpointError, match=r"generator\.weights\.h5: .* another network"):
        load_weights(Trainer(trainer.config, tiny_material(), "finetune"), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "zero"])
def test_damaged_weights_are_told_by_name_and_way_out(exported, tmp_path, damage):
    trainer, model, _ = exported
    (tmp_path / "config.yaml").write_bytes((model / "config.yaml").read_bytes())
    whole = (model / "generator.weights.h5").read_bytes()
    at = 1500  # in the list of the first group's names
    (tmp_path / "generator.weights.h5").write_bytes(
        whole[:len(whole) // 2] if damage == "cut" else
        whole[:at] + bytes(1000) + whole[at + 1000:])
    with pytest.raises(CheckpointError, match=r"weights\.h5: cannot be read \(.*copy the folder"):
        load_weights(Trainer(trainer.config, tiny_material(), "finetune"), tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="the limit is one of POSIX")
@pytest.mark.parametrize("most", [100, 20_000])
def test_weights_that_the_disk_has_no_room_for_are_an_error_of_the_system(
        exported, tmp_path, most):
    import resource

    from gan_denoise.exporting.exporter import _save_weights

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        with pytest.raises(OSError, match=r"File too large: .*a\.weights\.h5"):
            _save_weights(exported[0].generator, tmp_path / "a.weights.h5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- Means of weights --------------------------------------------------------------------------
def test_the_mean_of_a_run_and_others_is_exported(run_dir, tmp_path):
    """Of a run, of the folder of a model, and of weights alone as a run on JAX leaves them."""
    config = settings_of(run_dir)
    folders, weights = [run_dir, tmp_path / "model", tmp_path / "weights"], []
    for seed, folder in enumerate(folders):
        network = build_generator(config)
        shake(network, seed)
        weights.append(network.get_weights())
        if seed == 0:
            state = read_variables(run_dir / BEST)
            shaken = zip([name for name in state if name.startswith("ema.")],
                         map(np.asarray, network.variables), strict=True)
            shutil.copytree(run_dir, tmp_path / "run")
            save_state(tmp_path / "run" / BEST, state | dict(shaken), read_progress(run_dir / BEST))
            continue
        folder.mkdir()
        shutil.copy(run_dir / "config.yaml", folder)
        network.save_weights(folder / "generator.weights.h5")
    shares = dict(zip(folders[1:], (0.5, 0.2), strict=True))
    card = export(tmp_path / "run", tmp_path / "mean", average=shares)
    mean = build_generator(config)
    load_generator(mean, config, tmp_path / "mean")
    for found, *each in zip(mean.get_weights(), *weights, strict=True):
        np.testing.assert_allclose(found, np.average(each, 0, (0.3, 0.5, 0.2)), atol=1e-6)
        assert np.abs(found - each[0]).max() > 1e-3
    assert card["averaged_with"] == "model (0.5), weights (0.2)"
    noisy = np.random.default_rng(0).random((1, 9, 16), np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "mean" / "model.onnx",
                                           providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"noisy_mel": noisy})[0],
                               mean(noisy, training=False), atol=1e-4)


def test_another_network_has_no_mean_with_a_run(run_dir, tmp_path, quickly):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.yaml").write_text(dump_config(config_of("autoencoder")))
    with pytest.raises(CheckpointError, match="other: its 'generator' settings differ"):
        export(run_dir, tmp_path / "model", average={tmp_path / "other": 0.5})
    for shares in ({run_dir: 1.0}, {run_dir: 0.0}, {run_dir: 0.7, tmp_path: 0.7},
                   {run_dir: float("nan")}):
        with pytest.raises(ConfigError, match="sum below 1"):
            export(run_dir, tmp_path / "model", average=shares)
    assert not (tmp_path / "model").exists()


def test_shares_are_equal_where_none_is_said(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert _shares([str(one)]) == {one: 0.5}
    assert _shares([f"{one}=0.2", str(other)]) == {one: 0.2, other: pytest.approx(1 / 3)}
    with pytest.raises(UsageError, match="'much' is no number"):
        _shares([f"{one}=much"])
    with pytest.raises(UsageError, match="given twice"):
        _shares([str(one), f"{one}=0.2"])


# ---- Whole or not at all -----------------------------------------------------------------------
def test_an_older_model_is_replaced(run_dir, tmp_path, quickly):
    out = tmp_path / "model"
    export(run_dir, out)
    (out / "left over").touch()
    export(run_dir, out, {"note": "second"})
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert json.loads((out / "model_card.json").read_text())["note"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_of_something_else_is_refused_and_left_alone(run_dir, tmp_path, quickly):
    (tmp_path / "thesis.tex").write_text("all of it")
    for out in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(CheckpointError, match="something else than a model"):
            export(run_dir, out)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert (tmp_path / "thesis.tex").read_text() == "all of it"


def test_a_network_that_onnx_computes_otherwise_is_not_exported(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "PARITY", -1.0)
    with pytest.raises(CheckpointError, match="ONNX differs from Keras"):
        export(run_dir, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_an_export_that_fails_keeps_the_older_model(run_dir, tmp_path, quickly):
    out = tmp_path / "model"
    export(run_dir, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(ValueError, match="JSON"):
        export(run_dir, out, {"score": float("nan")})
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_run_without_a_best_state_is_refused(run_dir, tmp_path, quickly):
    with pytest.raises(ConfigError, match="neither a run nor a model"):
        export(tmp_path / "nothing", tmp_path / "model")
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "config.yaml").write_bytes((run_dir / "config.yaml").read_bytes())
    with pytest.raises(CheckpointError, match=BEST):
        export(tmp_path / "young", tmp_path / "model")
    assert not (tmp_path / "model").exists()
