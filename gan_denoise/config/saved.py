"""The settings of a run directory or a model folder, and those of a run that starts from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_denoise.config.artifacts import SETTINGS
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
    data = config.data
    named = data.speech or data.noisy or data.clean or data.pairs or data.features
    joined = config.model_copy(update={
        "audio": theirs.audio, "mel": theirs.mel, "generator": theirs.generator,
        "data": data if named else theirs.data,
    })
    return make_config(joined.model_dump(), origin=source)
