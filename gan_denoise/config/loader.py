"""Settings from files and back: YAML with parents, `key=value`, errors that name the way out.

A settings file is YAML: `base.yaml` holds every key with its unit and its reason, any other file is
a delta of a few lines that names its parent with `extends:`. `key=value` overrides come last. An
unknown key, one without effect, or a wrong type is a `ConfigError` that names the key, what was
expected, and the nearest valid key.

A file or the overrides may choose another kind of generator, say, than their parent: the parent's
keys that the new kind does not have are dropped then. What they themselves say must have an effect.

Values are YAML, but for paths: a folder may be called `2024-01-05`, `no` or `#1`. A path is text as
given.
"""

from __future__ import annotations

import difflib
import logging
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from gan_denoise.config.registry import KINDS, import_plugins
from gan_denoise.config.renamed_keys import present_name, with_present_names
from gan_denoise.config.schema import (
    FORMAT_VERSION,
    FREE_ON_RESUME,
    PATH_SETTINGS,
    PATHS,
    Config,
    TuneConfig,
    valid_keys,
)
from gan_denoise.config.section import ConfigError, Section
from gan_denoise.config.shipped import find_config
from gan_denoise.config.yaml_values import as_tuples, parse_value, read_yaml
from gan_denoise.core.checksums import check_text

LOG = logging.getLogger(__name__)
LARGEST_FILE = 2**20  # bytes of a settings file


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
    given: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ConfigError(f"'{override}': expected key=value, for instance training.steps=500")
        key = present_name(key.strip())
        _set(given, key, parse_value(key, text, override))
    return join_settings([*_read_with_parents(find_config(source), seen=()), given], str(source))


def make_config(values: Mapping[str, object], origin: str = "") -> Config:
    """Validate nested values; errors name the key, the expectation and the nearest valid key."""
    return join_settings([values], origin)


def join_settings(layers: Sequence[Mapping[str, object]], origin: str = "") -> Config:
    """Lay nested values over each other and validate them.

    Args:
        layers: Each over those before it; what one says of a kind must have an effect on it.
        origin: File that the settings come from, which errors begin with; empty: none.

    Raises:
        ConfigError: Naming the key, the expectation and the nearest valid key.
    """
    joined: dict[str, object] = {}
    modules: dict[str, None] = {}
    for layer in layers:
        _check_format(layer, origin)
        modules |= dict.fromkeys(modules_of(layer))
        import_plugins(modules)
        layer = with_present_names(as_tuples(layer))
        before, joined = joined, _merge(joined, layer)
        try:
            for section in joined:
                _keep_what_has_effect(section, layer, before, joined)
        except ConfigError as error:
            raise _error(origin, error.reason, error.way_out) from None
    own = {"format_version": FORMAT_VERSION, "plugins": tuple(modules)}
    return _validated(joined | own, origin)


def _check_format(layer: Mapping[str, object], origin: str) -> None:
    version = layer.get("format_version", FORMAT_VERSION)
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise _error(origin, f"settings of format {version}, written by a newer gan_denoise; this "
                     f"one reads up to {FORMAT_VERSION}", "upgrade gan_denoise")


def modules_of(values: Mapping[str, object]) -> Sequence[str]:
    """Return the modules that nested values list under `plugins`.

    Raises:
        ConfigError: When that is no list of names.
    """
    modules = values.get("plugins") or ()
    modules = (modules,) if isinstance(modules, str) else modules
    if not (isinstance(modules, (list, tuple)) and all(isinstance(one, str) for one in modules)):
        raise ConfigError(f"plugins: expected a list of names of modules, not {modules!r}")
    return modules


def _keep_what_has_effect(
    section: str, layer: Mapping[str, object], before: Mapping[str, object],
    joined: dict[str, object],
) -> None:
    """Drop what the parents said of another kind; refuse what the newest layer says in vain."""
    own, earlier, values = (part.get(section) for part in (layer, before, joined))
    own, earlier = own or {}, earlier or {}
    if values is None or not (isinstance(own, Mapping) and isinstance(values, Mapping)):
        return
    kinds = KINDS.get(section)
    if kinds is not None:
        settings, known = kinds.choose(values, own, earlier), kinds.fields()
    else:
        info = Config.model_fields.get(section)
        settings = info.annotation if info is not None else None
        if not (isinstance(settings, type) and issubclass(settings, Section)):
            return
        known = settings.model_fields
    old = layer.get("format_version") == 1
    kept, dropped = {}, []
    for key, value in values.items():
        reason = _in_vain(section, key, value, values, settings)
        if key not in known or not reason:
            kept[key] = value  # an unknown key is refused as it is validated
        elif key in own and (value or f"{section}.{key}" not in PATH_SETTINGS):
            if not old:
                raise ConfigError(reason)
            dropped.append(f"{section}.{key}")
    if dropped:
        LOG.info("settings of format 1: left out, as without effect: %s", ", ".join(dropped))
    joined[section] = kept


def _in_vain(
    section: str, key: str, value: object, values: Mapping[str, object],
    settings: type[Section],
) -> str | None:
    """Return why a key has no effect, with the nearest that has; None where it has one."""
    if key not in settings.model_fields:
        return KINDS[section].explain(key, settings) if section in KINDS else None
    if key not in settings.ONLY_WITH:
        return None
    other, needed = settings.ONLY_WITH[key]
    found = values.get(other, settings.model_fields[other].default)
    if found == needed or value == settings.model_fields[key].default:
        return None
    return (f"'{section}.{key}' has no effect with {section}.{other}={found}; leave it out, or "
            f"give {section}.{other}={needed}")


def _validated(values: Mapping[str, object], origin: str) -> Config:
    """Build the settings, each section that has kinds by the class of its kind."""
    # A section with nothing but comments under it is None.
    built = {key: {} if value is None else value for key, value in values.items()}
    problems = []
    for section, kinds in KINDS.items():
        given = built.get(section)
        if isinstance(given, Mapping):
            settings = kinds.choose(given, given, {})
            try:
                built[section] = settings.model_validate(given)
            except ValidationError as error:
                problems.append(_explain(error, section))
                del built[section]
    try:
        config = Config.model_validate(built)
    except ValidationError as error:
        problems.append(_explain(error))
    if problems:
        raise _error(origin, "; ".join(problems))
    return config


def _error(origin: str, reason: str, way_out: str = "") -> ConfigError:
    return ConfigError(f"{origin}: {reason}" if origin else reason, way_out)


def dump_config(config: Config) -> str:
    """Return the resolved settings as YAML, every key written out; of `tune` where it is used."""
    left_out = {"tune"} if config.tune == TuneConfig() else set()
    values = config.model_dump(mode="json", exclude=left_out)
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None)


def with_settings(config: Config, settings: Mapping[str, object]) -> Config:
    """Return settings in which some have other values, by `section.key`.

    Raises:
        ConfigError: For an unknown key, a wrong type, or values that do not fit each other.
    """
    given: dict[str, Any] = {}
    for key, value in settings.items():
        _set(given, present_name(key), value)
    return join_settings([config.model_dump(), given])


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
    kinds = {f"{section}.{kind.key}" for section, kind in KINDS.items() if kind.key}
    if changed := [key for key in kinds if before[key] != after[key]]:
        fixed = sorted(changed)  # all else differs with it
    refuse_changes("run", {key: before[key] for key in fixed}, after)


def refuse_changes(what: str, before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Raise a ConfigError that names what differs; `what` is the command's option, too."""
    changed = [f"{key}: the {what} has {value!r}, now {now.get(key)!r}"
               for key, value in before.items() if now.get(key) != value]
    if changed:
        raise ConfigError(
            f"this {what} was started with other settings: " + "; ".join(changed),
            f"take these back, or give another --{what} folder",
        )


def _read_with_parents(path: Path, seen: tuple[Path, ...]) -> list[dict[str, object]]:
    """Return the values of a file behind those of its parents, the farthest first."""
    if path.resolve() in seen:
        raise ConfigError(f"{path}: extends itself")
    values = read_file(path)
    parent = values.pop("extends", None)
    if parent is None:
        return [values]
    if not isinstance(parent, str):
        raise ConfigError(f"{path}: extends {parent!r}, expected the name of a settings file")
    beside = path.parent / f"{parent}.yaml"
    parent_path = beside if beside.is_file() else find_config(parent)
    return [*_read_with_parents(parent_path, (*seen, path.resolve())), values]


def read_file(path: Path) -> dict[str, Any]:
    """Return the values of one settings file as they stand there.

    Raises:
        ConfigError: When it is not readable as YAML, larger than `LARGEST_FILE`, or holds something
            else than sections.
        DamagedError: When its checksum differs.
        OSError: When it cannot be read.
    """
    with open(path, "rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path}: more than {LARGEST_FILE} bytes, which no settings take")
    check_text(content, path)
    try:
        values = read_yaml(content.decode())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not readable as YAML: {reason}") from None
    if values is None:
        return {}
    if not (isinstance(values, dict) and all(isinstance(key, str) for key in values)):
        shown = repr(values)[:100]
        raise ConfigError(f"{path}: expected sections such as 'training:', found {shown}")
    return values


def _merge(base: Mapping[str, object], delta: Mapping[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in delta.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and (value is None or isinstance(value, Mapping)):
            merged[key] = _merge(below, value or {})
        else:
            merged[key] = value
    return merged


def _set(values: dict[str, Any], dotted: str, value: object) -> None:
    if not dotted or dotted not in valid_keys():
        raise ConfigError(f"unknown key '{dotted}'{nearest_key(dotted)}")
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
    values[key] = value


def nearest_key(key: str) -> str:
    """Return the end of a message on an unknown key: the valid one that it may be meant to be."""
    valid = valid_keys()
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5) or difflib.get_close_matches(
        key.rsplit(".", 1)[-1], [name.rsplit(".", 1)[-1] for name in valid], n=1, cutoff=0.6
    )
    if not close:
        return "; the sections are " + ", ".join(Config.model_fields)
    full = next(name for name in valid if name == close[0] or name.endswith("." + close[0]))
    return f"; did you mean '{full}'?"


def _explain(error: ValidationError, section: str = "") -> str:
    lines = []
    for item in error.errors():
        parts = [section, *item["loc"]] if section else item["loc"]
        key = ".".join(str(part) for part in parts if not isinstance(part, int))
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
    section, _, name = key.partition(".")
    if section not in Config.model_fields or not name:
        return ""
    own = Config.model_fields[section].annotation
    fields = KINDS[section].fields() if section in KINDS else getattr(own, "model_fields", {})
    expected = fields[name].annotation if name in fields else None
    name = expected.__name__ if isinstance(expected, type) else str(expected).replace("typing.", "")
    return f" (expected {name})" if isinstance(expected, (type, types.UnionType)) else ""
