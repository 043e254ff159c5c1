"""What all settings are made of: strict, frozen sections, and the types of their values."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gan_denoise.core.errors import GanDenoiseError


class ConfigError(GanDenoiseError):
    """A setting is unknown, without effect, of the wrong type, or changed where it may not."""


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} has no middle; give an odd number")
    return value


def _of_64_bits(value: int) -> int:
    if value >= 2**63:  # what NumPy and TensorFlow count with
        raise ValueError("should be less than 2**63")
    return value


Unit = typing.Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = typing.Annotated[float, Field(ge=0.0)]
Count = typing.Annotated[int, Field(ge=0), AfterValidator(_of_64_bits)]
Positive = typing.Annotated[int, Field(ge=1), AfterValidator(_of_64_bits)]
Odd = typing.Annotated[int, Field(ge=1), AfterValidator(_of_64_bits), AfterValidator(_odd)]
Range = tuple[float, float]  # (low, high)
Channels = typing.Annotated[tuple[Positive, ...], Field(min_length=1)]
# Settings that name files and folders: text as it was given, never read as a number or a date.
PATH = "path"
FilePath = typing.Annotated[str | None, PATH]
Folders = typing.Annotated[tuple[str, ...], PATH]


class FrozenDict(dict):
    """A mapping that, like all settings, can be hashed and is not changed."""

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type, tuple[dict]]:
        return FrozenDict, (dict(self),)

    def _refuse(self, *_: Any, **__: Any) -> typing.NoReturn:
        raise TypeError("settings are frozen")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False,
                              defer_build=True)  # of most kinds no instance is ever made

    # Keys that have an effect only where another key of the section has a certain value.
    ONLY_WITH: typing.ClassVar[Mapping[str, tuple[str, Any]]] = {}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        # Another process validated what is unpickled here, and that alone builds the class; before
        # pydantic 2.14 an instance of one that is not built cannot be written.
        type(self).model_rebuild()
        super().__setstate__(state)


def freeze(value: Any) -> Any:
    """Return a value of lists and mappings as one of tuples and frozen mappings."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    return tuple(freeze(item) for item in value) if isinstance(value, (list, tuple)) else value
