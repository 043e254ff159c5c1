"""The settings of a run directory or a model folder, and those of a run that starts from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.data_sources import DataConfig
from gan_denoise.config.loader import ConfigError, load_config, make_config
from gan_denoise.config.schema import Config


def settings_of(source: Path) -> Config:
    """Return the settings of a run directory or a model folder.

    Raises:
        ConfigError: When there are none, or they are not readable.
    """
    path = source / SETTINGS
    if not path.is_file():
        raise ConfigError(f"{source}: holds no {SETTINGS}, so it is neither a run nor a model")
    return load_config(path)


def mixing_recipe(source: str | Path) -> DataConfig:
    """Return how a settings file, or a shipped one by name, makes its mixtures.

    Raises:
        ConfigError: When it names something else than recordings to mix.
    """
    data = load_config(source).data
    if not isinstance(data, DataConfig):
        raise ConfigError(f"{source}: names {data.TITLE}, so it makes no mixtures",
                          "give settings that leave data.speech and data.noise out, or name them")
    return data


def finetune_config(source: str, overrides: Sequence[str], init: Path) -> Config:
    """Return the settings of a fine-tuning run that starts from another run or model.

    The network, mel and audio settings are those of `init`. Data settings are too, where neither
    the settings file nor an override names any recordings.

    Raises:
        ConfigError: When an override would change the network, or the two do not fit each other.
    """
    fixed = ("audio.", "mel.", "generator.")
    if refused := [override for override in overrides if override.startswith(fixed)]:
        raise ConfigError(f"{refused[0]}: --init {init} fixes the network, mel and audio settings")
    config, theirs = load_config(source, overrides), settings_of(init)
    joined = config.model_copy(update={
        "audio": theirs.audio, "mel": theirs.mel, "generator": theirs.generator,
        "data": config.data if config.data.named else theirs.data,
        "plugins": tuple(dict.fromkeys((*theirs.plugins, *config.plugins))),
    })
    return make_config(joined.model_dump(), origin=source)
