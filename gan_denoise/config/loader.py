"""Settings from files and back: YAML with parents, `key=value`, errors that name the way out.

A settings file is YAML: `base.yaml` holds every key with its unit and its reason, any other file is
a delta of a few lines that names its parent with `extends:`. `key=value` overrides come last. An
unknown key or a wrong type is a `ConfigError` that names the key, what was expected, and the
nearest valid key.

Values are YAML, but for paths: a folder may be called `2024-01-05`, `no` or `#1`. A path is text as
given.
"""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from gan_denoise.config.schema import (
    FORMAT_VERSION,
    FREE_ON_RESUME,
    PATH_SETTINGS,
    PATHS,
    Config,
    TuneConfig,
)
from gan_denoise.core.errors import GanDenoiseError

EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
NULLS = ("", "~", "null", "Null", "NULL")  # as in YAML


class ConfigError(GanDenoiseError):
    """A setting is unknown, of the wrong type, or changed where it may not change."""


def load_config(source: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read settings from a YAML file, or a shipped config by name, and apply overrides.

    Args:
        source: Path of a YAML file, or the name of a shipped one (`pretrain`, `real-16k-pretrain`).
        overrides: `section.key=value` strings; values are YAML. That of a path is text as given;
            where nothing of that name is there, `[a, b]` is a list of paths for the settings that
            take several, and `null` or nothing unsets it.

    Raises:
        ConfigError: For an unknown key, a wrong type, or a malformed override.
        FileNotFoundError: When there is no such file and no shipped config of that name.
    """
    path = find_config(source)
    values = _read_with_parents(path, seen=())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}': expected key=value, for instance training.steps=500")
        _set(values, key.strip(), _parse(key.strip(), text, override))
    return make_config(values, origin=str(source))


def make_config(values: Mapping[str, Any], origin: str = "settings") -> Config:
    """Validate nested values; errors name the key, the expectation and the nearest valid key."""
    version = values.get("format_version", FORMAT_VERSION)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ConfigError(
            f"{origin}: settings of format {version}, written by a newer gan_denoise; this one "
            f"reads up to {FORMAT_VERSION}. Upgrade gan_denoise."
        )
    try:
        return Config.model_validate(_tuples(
            # A section with nothing but comments under it is None.
            {key: {} if value is None else value for key, value in values.items()}
        ))
    except ValidationError as error:
        raise ConfigError(f"{origin}: {_explain(error)}") from None


def dump_config(config: Config) -> str:
    """Return the resolved settings as YAML, every key written out; of `tune` where it is used."""
    left_out = {"tune"} if config.tune == TuneConfig() else set()
    values = config.model_dump(mode="json", exclude=left_out)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return settings in which some have other values, by `section.key`.

    Raises:
        ConfigError: For an unknown key, a wrong type, or values that do not fit each other.
    """
    values = config.model_dump()
    for key, value in settings.items():
        _set(values, key, value)
    return make_config(values)


def flatten(config: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return `{"section.key": value}` of all settings."""
    flat: dict[str, Any] = {}
    for key in type(config).model_fields:
        value = getattr(config, key)
        if isinstance(value, BaseModel):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def check_resume(old: Config, new: Config) -> None:
    """Raise when a resumed run's settings differ in what may not change.

    Raises:
        ConfigError: Naming each changed key with its old and new value.
    """
    before, after = flatten(old), flatten(new)
    fixed = [key for key in before if key not in FREE_ON_RESUME | PATHS]
    refuse_changes("run", {key: before[key] for key in fixed}, after)


def refuse_changes(what: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise a ConfigError that names what differs; `what` is the command's option, too."""
    changed = [f"{key}: the {what} has {value!r}, now {now.get(key)!r}"
               for key, value in before.items() if now.get(key) != value]
    if changed:
        raise ConfigError(
            f"this {what} was started with other settings: " + "; ".join(changed)
            + f". Take these back, or give another --{what} folder."
        )


def find_config(source: str | Path) -> Path:
    """Return the path of a settings file given as a path or as the name of a shipped config."""
    path, folder = Path(source), config_folder()
    if path.is_file():
        return path
    shipped = (folder / path).with_suffix(".yaml")
    if not path.is_absolute() and ".." not in path.parts and shipped.is_file():
        return shipped
    files = sorted(folder.rglob("*.yaml"))
    names = ", ".join(p.relative_to(folder).with_suffix("").as_posix() for p in files)
    raise FileNotFoundError(f"{source}: no such settings file; shipped ones are {names}")


def config_folder() -> Path:
    """Return the folder of the shipped configs, in a wheel or in a clone."""
    return _data_folder("configs")


def checkpoint_folder() -> Path:
    """Return the folder of the shipped models, in a wheel or in a clone."""
    return _data_folder("checkpoints")


def _data_folder(name: str) -> Path:
    package = Path(str(resources.files("gan_denoise")))
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends itself")
    try:
        values = _read_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML: {reason}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected sections such as 'training:', found {values!r}")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    beside = path.parent / f"{parent}.yaml"
    parent_path = beside if beside.is_file() else find_config(parent)
    return _merge(_read_with_parents(parent_path, (*seen, path.resolve())), values)


def _merge(base: dict[str, Any], delta: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in delta.items():
        if isinstance(merged.get(key), Mapping) and (value is None or isinstance(value, Mapping)):
            merged[key] = _merge(merged[key], value or {})
        else:
            merged[key] = value
    return merged


def _set(values: dict[str, Any], dotted: str, value: Any) -> None:
    if not dotted or dotted not in _valid_keys():
        raise ConfigError(f"unknown key '{dotted}'{nearest_key(dotted)}")
    *sections, key = dotted.split(".")
    for section in sections:
        values[section] = dict(values.get(section) or {})
        values = values[section]
    values[key] = value


def _parse(key: str, text: str, override: str) -> Any:
    if key in PATH_SETTINGS:
        return _parse_path(key, text, override)
    try:
        return _read_yaml(text, key)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{override}': the value is not readable as YAML: {reason}") from None


def _parse_path(key: str, text: str, override: str) -> Any:
    """A path that is there is that path, whatever its name; else a list, nothing, or a path."""
    several = isinstance(getattr(Config().data, key.removeprefix("data.")), tuple)
    if os.path.lexists(text):
        return text
    text = text.strip()
    if text in NULLS:
        return () if several else None
    is_list = several and text[0] == "[" and text[-1] == "]"
    if not is_list and not (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        return text
    try:
        return _read_yaml(text, key, _AnyCharacter)
    except yaml.YAMLError:
        raise ConfigError(
            f"'{override}': neither the path of something that is there nor a list of paths; give "
            "[a, b], in quotes a name that holds a comma, a bracket, a quote or #"
        ) from None


class _AnyCharacter(yaml.SafeLoader):
    """For names of files, which may hold what YAML refuses."""

    def check_printable(self, data: str) -> None:
        pass


def _read_yaml(text: str, key: str = "", loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Return the value of a YAML text, of the setting `key`; paths in it are text."""
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        _paths_as_text(reader, node, key)
        return reader.construct_document(node)
    finally:
        reader.dispose()


def _paths_as_text(reader: yaml.SafeLoader, node: yaml.Node, key: str) -> None:
    """Let the values of path settings, also in `tune.space`, be text, whatever they look like."""
    if isinstance(node, yaml.MappingNode):
        reader.flatten_mapping(node)
        for name, value in node.value:
            _paths_as_text(reader, value, f"{key}.{name.value}")
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _paths_as_text(reader, value, key)
    elif _is_path(key) and node.tag != "tag:yaml.org,2002:null":
        node.tag = "tag:yaml.org,2002:str"


def _is_path(key: str) -> bool:
    """Whether a key, which may stand below `tune.space`, is that of a path."""
    return key.lstrip(".").removeprefix("tune.space.") in PATH_SETTINGS


def _tuples(value: Any, key: str = "") -> Any:
    """YAML has lists where the settings hold tuples, and reads 1e-4 as text."""
    if isinstance(value, Mapping):
        return {name: _tuples(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(_tuples(item, key) for item in value)
    if isinstance(value, str) and EXPONENT.fullmatch(value) and not _is_path(key):
        return float(value)
    return value


def _valid_keys() -> list[str]:
    return list(flatten(Config()))


def nearest_key(key: str) -> str:
    """Return the end of a message on an unknown key: the valid one that it may be meant to be."""
    valid = _valid_keys()
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5) or difflib.get_close_matches(
        key.rsplit(".", 1)[-1], [name.rsplit(".", 1)[-1] for name in valid], n=1, cutoff=0.6
    )
    if not close:
        return "; the sections are " + ", ".join(Config.model_fields)
    full = next(name for name in valid if name == close[0] or name.endswith("." + close[0]))
    return f"; did you mean '{full}'?"


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"] if not isinstance(part, int))
        if item["type"] == "extra_forbidden":
            lines.append(f"unknown key '{key}'{nearest_key(key)}")
            continue
        expected = item["msg"].removeprefix("Value error, ")
        given = item["input"]
        shown = "" if isinstance(given, (dict, BaseModel)) else f", not {given!r}"
        where = f"'{key}' " if key else ""
        lines.append(f"{where}{expected[:1].lower()}{expected[1:]}{shown}{_type_of(key)}")
    return "; ".join(lines)


def _type_of(key: str) -> str:
    model: Any = Config
    for part in key.split("."):
        fields = getattr(model, "model_fields", {})
        if part not in fields:
            return ""
        model = fields[part].annotation
    if isinstance(model, type) and issubclass(model, BaseModel):
        return ""
    name = model.__name__ if isinstance(model, type) else str(model).replace("typing.", "")
    return f" (expected {name})" if isinstance(model, (type, types.UnionType)) else ""
