"""Settings of runs and models: read where they lie, and handed on to a fine-tuning."""

from __future__ import annotations

import pytest
from conftest import tiny_config

from gan_denoise.config import ConfigError, dump_config
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.saved import finetune_config, settings_of


def write_run(folder, config):
    folder.mkdir(exist_ok=True)
    (folder / SETTINGS).write_text(dump_config(config), encoding="utf-8")


def test_settings_are_read_from_runs_and_models_alone(tmp_path):
    with pytest.raises(ConfigError, match="neither a run nor a model"):
        settings_of(tmp_path)
    (tmp_path / SETTINGS).write_text("training:\n  stepz: 1\n")
    with pytest.raises(ConfigError, match=r"training\.stepz"):
        settings_of(tmp_path)
    write_run(tmp_path, tiny_config())
    assert settings_of(tmp_path) == tiny_config()


def test_fine_tuning_keeps_the_network_and_where_unnamed_the_recordings(tmp_path):
    theirs = tiny_config(data={"speech": "voices", "noise": "noises", "snr_mean": 1.0})
    write_run(tmp_path / "run", theirs)
    config = finetune_config("debug", ["training.steps=9"], tmp_path / "run")
    assert (config.audio, config.mel, config.generator, config.data) == (
        theirs.audio, theirs.mel, theirs.generator, theirs.data)
    assert config.training.steps == 9
    own = finetune_config("debug", ["data.clean=mine"], tmp_path / "run")
    assert own.data.clean == "mine"
    assert not hasattr(own.data, "speech")
    with pytest.raises(ConfigError, match=r"generator\.width"):
        finetune_config("debug", ["generator.width=3"], tmp_path / "run")
    with pytest.raises(ConfigError, match=r"generator\.width"):
        finetune_config("debug", [" generator.width = 3"], tmp_path / "run")


def test_fine_tuning_may_change_what_weights_can_be_converted_for(tmp_path):
    theirs = tiny_config(generator={"name": "tcn_autoencoder", "channels": [4, 6], "blocks": 4})
    write_run(tmp_path / "run", theirs)
    config = finetune_config("debug", ["generator.blocks=3", "generator.dilations=[1,3]",
                                       "generator.skips=add", "mel.hop_length=32"],
                             tmp_path / "run")
    assert config.generator == theirs.generator.model_copy(
        update={"blocks": 3, "dilations": (1, 3), "skips": "add"})
    assert config.mel == theirs.mel.model_copy(update={"hop_length": 32})
    for wrong, reason in [("generator.blocks=many", "blocks"), ("generator.skips=none", "skips"),
                          ("mel.hop_length=4096", "no inverse"),
                          ("mel.n_mels=20", "fixes the network"),
                          ("generator.width=7", "fixes the network")]:
        with pytest.raises(ConfigError, match=reason) as error:
            finetune_config("debug", [wrong], tmp_path / "run")
    assert "only generator.blocks, generator.dilations, " in error.value.way_out
    write_run(tmp_path / "unet", tiny_config(generator={"name": "unet", "channels": [4, 6]}))
    with pytest.raises(ConfigError, match=r"mel\.hop_length=32: --init .* fixes the net") as error:
        finetune_config("debug", ["mel.hop_length=32"], tmp_path / "unet")
    assert "can differ" not in error.value.way_out


def test_fine_tuning_takes_the_features_that_are_named_and_refuses_what_does_not_fit(tmp_path):
    features = {"data": {"features": "synthetic"}, "training": {"select_by": "snr_mel"}}
    write_run(tmp_path / "run", tiny_config(**features))
    config = finetune_config("debug", ["data.features=mine", "training.select_by=snr_mel"],
                             tmp_path / "run")
    assert config.data.features == "mine"
    with pytest.raises(ConfigError, match=r"debug: .*no waveform, which training"):
        finetune_config("debug", ["training.select_by=si_sdr"], tmp_path / "run")
    write_run(tmp_path / "fixed", tiny_config(generator={"frames": 65}))
    with pytest.raises(ConfigError, match=r"debug: training\.crop_seconds: a crop has"):
        finetune_config("debug", ["training.crop_seconds=1"], tmp_path / "fixed")
