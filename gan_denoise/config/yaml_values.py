"""Values from YAML text, in which paths are text as given, whatever they look like."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import yaml

from gan_denoise.config.registry import KINDS
from gan_denoise.config.schema import PATH_SETTINGS
from gan_denoise.config.section import ConfigError
from gan_denoise.core.json_text import MOST_LEVELS

EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
MOST_VALUES = 100_000  # of a text, with its aliases written out
NULLS = ("", "~", "null", "Null", "NULL")  # as in YAML


def parse_value(key: str, text: str, override: str) -> Any:
    """Return the value of an override `key=text`.

    Raises:
        ConfigError: When the text is neither YAML nor, for a setting that names files, a path.
    """
    if key in PATH_SETTINGS:
        return _parse_path(key, text, override)
    try:
        return read_yaml(text, key)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{override}': the value is not readable as YAML: {reason}") from None


def _parse_path(key: str, text: str, override: str) -> Any:
    """A path that is there is that path, whatever its name; else a list, nothing, or a path."""
    several = KINDS["data"].fields()[key.removeprefix("data.")].default == ()
    if os.path.lexists(text):
        return text
    text = text.strip()
    if text in NULLS:
        return () if several else None
    is_list = several and text[0] == "[" and text[-1] == "]"
    if not is_list and not (len(text) > 1 and text[0] == text[-1] and text[0] in "'\""):
        return text
    try:
        return read_yaml(text, key, _AnyCharacter)
    except yaml.YAMLError:
        raise ConfigError(
            f"'{override}': neither the path of something that is there nor a list of paths; give "
            "[a, b], in quotes a name that holds a comma, a bracket, a quote or #"
        ) from None


class _Bounded(yaml.SafeLoader):
    """Refuses texts of many levels, and those whose aliases stand for millions of values.

    Where Python ends a recursion, so it does in whatever is freed meanwhile.
    """

    def __init__(self, text: str):
        super().__init__(text)
        self._values: dict[int, int] = {}  # of each node, those below it and its own
        self._levels: dict[int, int] = {}  # of each node, with its own
        self._level = 0  # of the node that is read

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node:
        """Return the next node, counted."""
        is_alias = self.check_event(yaml.AliasEvent)
        self._level += 1
        _check_levels(self._level)
        node = super().compose_node(parent, index)
        self._level -= 1
        if is_alias:
            if id(node) not in self._values:
                raise yaml.YAMLError("an alias stands within what it is an alias of")
            return node
        below = [item for pair in node.value for item in pair] if isinstance(
            node, yaml.MappingNode) else node.value if isinstance(node, yaml.SequenceNode) else []
        self._levels[id(node)] = 1 + max((self._levels[id(item)] for item in below), default=0)
        _check_levels(self._levels[id(node)])
        self._values[id(node)] = 1 + sum(self._values[id(item)] for item in below)
        if self._values[id(node)] > MOST_VALUES:
            raise yaml.YAMLError(f"more than {MOST_VALUES} values, aliases written out")
        return node


def _check_levels(levels: int) -> None:
    if levels > MOST_LEVELS:
        raise yaml.YAMLError("nested too deep")


class _AnyCharacter(_Bounded):
    """For names of files, which may hold what YAML refuses."""

    def check_printable(self, data: str) -> None:
        pass


def read_yaml(text: str, key: str = "", loader: type[_Bounded] = _Bounded) -> Any:
    """Return the value of a YAML text, of the setting `key`; paths in it are text.

    Raises:
        yaml.YAMLError: When the text is not YAML, or with its aliases written out has more than
            `MOST_VALUES` values or `MOST_LEVELS` levels.
    """
    reader = None
    try:
        reader = loader(text)
        node = reader.get_single_node()
        if node is None:
            return None
        _paths_as_text(reader, node, key)
        return reader.construct_document(node)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # PyYAML lets out what Python says of a number or a date that is none.
        raise yaml.YAMLError(str(error) or type(error).__name__) from error
    finally:
        if reader is not None:
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
    key = key.lstrip(".").removeprefix("tune.space.")
    return key in PATH_SETTINGS or key.startswith("data.valid_sets.")


def as_tuples(value: Any, key: str = "") -> Any:
    """YAML has lists where the settings hold tuples, and reads 1e-4 as text."""
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str):
                raise ConfigError(f"'{key.lstrip('.')}': {name!r} is no name of a setting")
        return {name: as_tuples(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return tuple(as_tuples(item, key) for item in value)
    if isinstance(value, str) and EXPONENT.fullmatch(value) and not _is_path(key):
        return float(value)
    return value
