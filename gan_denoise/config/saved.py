"""The settings of a run directory or a model folder, and those of a run that starts from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_denoise.config.artifacts import NETWORK, SETTINGS
from gan_denoise.config.data_sources import DataConfig, DataSource
from gan_denoise.config.kinds import TcnAutoencoder
from gan_denoise.config.loader import (
    ConfigError,
    flatten,
    join_settings,
    load_config,
    make_config,
    modules_of,
    read_file,
    with_settings,
)
from gan_denoise.config.registry import refuse_plugins
from gan_denoise.config.renamed_keys import present_name
from gan_denoise.config.schema import PATH_SETTINGS, PATHS, Config
from gan_denoise.config.yaml_values import parse_value
from gan_denoise.core.checksums import check_sums

NETWORK_KEYS = ("audio.", "mel.", "generator.")
# In which a TCN autoencoder may differ from one that it takes its weights from: see
# `models.generators.convert`.
CONVERTIBLE = frozenset({"generator.blocks", "generator.dilations", "generator.skips",
                         "generator.level_frames", "mel.hop_length"})


def network_differences(theirs: Config, ours: Config) -> set[str]:
    """Return the keys of the network, mel and audio settings that two do not share."""
    both = [{key: value for key, value in flatten(config).items() if key.startswith(NETWORK_KEYS)}
            for config in (theirs, ours)]
    return {key for key in both[0].keys() | both[1].keys()
            if key not in both[0] or key not in both[1] or both[0][key] != both[1][key]}


def settings_of(source: Path, trusted: bool = True) -> Config:
    """Return the settings of a run directory or a model folder.

    Args:
        source: The folder.
        trusted: Whether a run directory may run the code of its `plugins`. A model folder never
            may: see `settings_of_stranger`.

    Raises:
        ConfigError: When there are none, or they are not readable.
    """
    path = source / SETTINGS
    if not path.is_file():
        raise ConfigError(f"{source}: holds no {SETTINGS}, so it is neither a run nor a model")
    if not read_file(path):
        raise ConfigError(f"{path}: holds no settings", "take it from a copy")
    if is_model(source):
        check_sums(source, {SETTINGS: None})
    if is_model(source) or not trusted:
        return settings_of_stranger(path)
    return load_config(path)


def is_model(folder: Path) -> bool:
    """Return whether a folder is that of a model."""
    return (folder / NETWORK).is_file()


def settings_of_stranger(path: Path) -> Config:
    """Read settings that may come from anybody: they can neither run code nor name other files.

    Modules that they list under `plugins` are imported only where the user has named them, see
    `registry.refuse_plugins`.

    Raises:
        ConfigError: When they are not readable, extend another file, or ask for other modules.
        OSError: When the file cannot be read.
    """
    values = read_file(path)
    if "extends" in values:
        raise ConfigError(f"{path}: extends another file, which settings of a model never do",
                          "export the model again")
    refuse_plugins(modules_of(values), str(path))
    return join_settings([values], str(path))


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

    The network, mel and audio settings are those of `init`; where that is a TCN autoencoder,
    overrides may change the `CONVERTIBLE` ones. Data settings are too, where neither the settings
    file nor an override names any recordings.

    Raises:
        ConfigError: When an override would change the network, or the two do not fit each other.
    """
    about_network = [override for override in overrides if _key(override).startswith(NETWORK_KEYS)]
    others = [override for override in overrides if override not in about_network]
    config, theirs = load_config(source, others), settings_of(init)
    network = _converted(theirs, about_network, init)
    joined = config.model_copy(update={
        "audio": network.audio, "mel": network.mel, "generator": network.generator,
        "data": config.data if config.data.named else _data_of(init, theirs),
        "plugins": tuple(dict.fromkeys((*theirs.plugins, *config.plugins))),
    })
    return make_config(joined.model_dump(), origin=source)


def _key(override: str) -> str:
    return present_name(override.partition("=")[0].strip())


def _converted(theirs: Config, overrides: Sequence[str], init: Path) -> Config:
    """Return the settings of `init`, but for the convertible ones that overrides give."""
    convertible = CONVERTIBLE if isinstance(theirs.generator, TcnAutoencoder) else frozenset()
    values = {}
    for override in overrides:
        key = _key(override)
        if key not in convertible:
            free = f"only {', '.join(sorted(convertible))} can differ; " if convertible else ""
            raise ConfigError(
                f"{override}: --init {init} fixes the network, mel and audio settings",
                f"{free}leave it out, or train a network of your own with pretrain")
        values[key] = parse_value(key, override.partition("=")[2], override)
    return with_settings(theirs, values)


def _data_of(init: Path, theirs: Config) -> DataSource:
    """Return where a run's recordings are; of a model only how it mixes them."""
    if not is_model(init):
        return theirs.data
    return theirs.data.model_copy(update={
        key: field.get_default() for key, field in type(theirs.data).model_fields.items()
        if f"data.{key}" in PATH_SETTINGS | PATHS})
