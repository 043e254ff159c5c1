"""The space that a study searches: settings, each with the values that it may take.

In `tune.space` a key is that of a setting; its value is a list of choices, or an interval such as
`{low: 1.0e-4, high: 1.0e-2, log: true}` or `{low: 4, high: 12, step: 2}`, of whole numbers where
both ends are. Settings that belong together are a group, a list of mappings: under the name of
their section (`mel: [{n_fft: 512, hop_length: 128}, {n_fft: 1024, hop_length: 256}]`) or, with full
keys, under any other name.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gan_denoise.config import ConfigError, flatten, nearest_key, with_settings
from gan_denoise.config.registry import KINDS
from gan_denoise.config.schema import Config, valid_keys
from gan_denoise.core.errors import GanDenoiseError

if TYPE_CHECKING:
    import optuna

Value = str | float  # of a dimension, as it is drawn: the name of a choice, or a number
COMBINATIONS = 64  # of the other settings that a refused value is tried with
_ABSENT = object()  # the value of a setting that the kind at hand does not have
_INTERVAL = ("low", "high", "step", "log")


class SpaceError(GanDenoiseError):
    """A space cannot be searched: the key, and the way out."""


@dataclass(frozen=True)
class Choices:
    """A setting, or a group of them, with a few values.

    Attributes:
        key: Key of the setting, or name of the group.
        options: What each choice sets, `{"section.key": value}`, by the words that name it.
    """

    key: str
    options: Mapping[str, Mapping[str, object]]

    @property
    def keys(self) -> frozenset[str]:
        """Settings that it decides."""
        return frozenset(key for settings in self.options.values() for key in settings)

    @property
    def probes(self) -> Sequence[Value]:
        """Values that show whether it can be searched: all of them."""
        return list(self.options)

    def draw(self, trial: optuna.Trial) -> Value:
        """Return the value that an Optuna trial has, or is given now."""
        return trial.suggest_categorical(self.key, list(self.options))

    def settings(self, value: Value) -> Mapping[str, object]:
        """Return the settings that a value stands for, by `section.key`."""
        return self.options[str(value)]

    def value_in(self, settings: Mapping[str, object]) -> Value | None:
        """Return the value that these settings have, None where it is not among the choices."""
        return next((name for name, option in self.options.items()
                     if all(settings.get(key, _ABSENT) == value
                            for key, value in option.items())), None)


@dataclass(frozen=True)
class Interval:
    """A setting with the values from `low` to `high`, whole numbers where both are.

    Attributes:
        key: Key of the setting.
        low: Smallest value.
        high: Largest value.
        step: Between two values; None: 1, or any value where they are no whole numbers.
        log: Whether each factor is as likely as any other, not each difference.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def keys(self) -> frozenset[str]:
        """See `Choices`."""
        return frozenset({self.key})

    @property
    def probes(self) -> Sequence[Value]:
        """See `Choices`: the ends."""
        return [self.low, self.high] if self.whole else [float(self.low), float(self.high)]

    def draw(self, trial: optuna.Trial) -> Value:
        """See `Choices`."""
        if self.whole:
            return trial.suggest_int(self.key, int(self.low), int(self.high),
                                     step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.key, self.low, self.high, step=self.step, log=self.log)

    def settings(self, value: Value) -> Mapping[str, object]:
        """See `Choices`."""
        return {self.key: value}

    def value_in(self, settings: Mapping[str, object]) -> Value | None:
        """See `Choices`."""
        value = settings.get(self.key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return None
        if (self.whole and not isinstance(value, int)) or not self.low <= value <= self.high:
            return None
        steps = (value - self.low) / (self.step or value or 1)
        return value if self.step is None or abs(steps - round(steps)) < 1e-9 else None


@dataclass(frozen=True)
class Space:
    """What a study draws for each trial.

    Attributes:
        dimensions: Settings and groups of settings that are drawn independently; no two of them
            decide the same setting.
    """

    dimensions: tuple[Choices | Interval, ...]

    @classmethod
    def read(cls, specs: Mapping[str, object]) -> Space:
        """Read `tune.space`.

        Raises:
            SpaceError: For an unknown key, or values that say nothing.
        """
        if not specs:
            raise SpaceError("tune.space is empty", "name settings with their values, for instance "
                             "'tune.space={losses.mel_weight: [0.0, 0.5, 1.0]}'")
        dimensions = tuple(_dimension(key, spec) for key, spec in specs.items())
        decided: dict[str, str] = {}
        for dimension in dimensions:
            for key in sorted(dimension.keys):
                if key in decided:
                    raise SpaceError(f"tune.space: '{decided[key]}' and '{dimension.key}' both "
                                     f"decide {key}", "leave one out")
                decided[key] = dimension.key
        return cls(dimensions)

    @property
    def keys(self) -> frozenset[str]:
        """All settings that are decided."""
        return frozenset(key for dimension in self.dimensions for key in dimension.keys)

    def draw(self, trial: optuna.Trial) -> dict[str, Value]:
        """Return the values that an Optuna trial has or is given now, by the dimensions' keys."""
        return {dimension.key: dimension.draw(trial) for dimension in self.dimensions}

    def describe(self, drawn: Mapping[str, Value]) -> str:
        """Return what was drawn as a line for people."""
        return " · ".join(f"{dimension.key}={words(drawn[dimension.key])}"
                          for dimension in self.dimensions if dimension.key in drawn)

    def apply(self, config: Config, drawn: Mapping[str, Value]) -> Config:
        """Return settings with those that were drawn, and have an effect on the kind drawn.

        Raises:
            ConfigError: When they do not fit each other.
        """
        chosen: dict[str, object] = {}
        for dimension in self.dimensions:
            chosen.update(dimension.settings(drawn[dimension.key]))
        return with_settings(config, _with_effect(config, chosen))

    def values_in(self, config: Config) -> dict[str, Value] | None:
        """Return what would have to be drawn for the settings as they are; None: it cannot be."""
        settings = flatten(config)
        drawn: dict[str, Value] = {}
        for dimension in self.dimensions:
            known = dimension.keys & settings.keys()  # none: another kind has it
            value = dimension.value_in(settings) if known else dimension.probes[0]
            if value is None:
                return None
            drawn[dimension.key] = value
        return drawn

    def check(self, config: Config) -> list[str]:
        """Build the settings with each value, beside the others as they are and as they may be.

        Returns:
            A line for each value that was refused each time.

        Raises:
            SpaceError: When that is so of every value of a key.
        """
        lines = []
        for dimension in self.dimensions:
            refusals = {value: self._refusal(config, dimension, value)
                        for value in dimension.probes}
            refused = {value: reason for value, reason in refusals.items() if reason}
            if len(refused) == len(refusals):
                raise SpaceError(f"tune.space: no value of '{dimension.key}' is accepted: "
                                 f"{next(iter(refused.values()))}")
            lines += [f"tune.space: {dimension.key}={value} was refused beside all else that was "
                      f"tried: {reason}" for value, reason in refused.items()]
        return lines

    def _refusal(self, config: Config, dimension: Choices | Interval, value: Value) -> str | None:
        """Return why a value is refused, None where some combination has it."""
        rng, reason = random.Random(0), None
        others = [other for other in self.dimensions if other is not dimension]
        for attempt in range(COMBINATIONS if others else 1):
            chosen = dict(dimension.settings(value))
            for other in others if attempt else ():
                chosen.update(other.settings(rng.choice(other.probes)))
            own = dimension.settings(value)
            try:
                with_settings(config, {**_with_effect(config, chosen), **own})
            except ConfigError as error:
                reason = reason or str(error)
            else:
                return None
        return reason


def _with_effect(config: Config, chosen: Mapping[str, object]) -> dict[str, object]:
    """Return those of the chosen settings that the chosen kinds of generator and so on have."""
    kinds = {f"{section}.{kind.key}" for section, kind in KINDS.items()}
    named = with_settings(config, {key: chosen[key] for key in chosen if key in kinds})
    known = flatten(named).keys() | {key for key in chosen if key.startswith("data.")}
    return {key: value for key, value in chosen.items() if key in known}


def _dimension(key: str, spec: object) -> Choices | Interval:
    sections = {name.partition(".")[0] for name in valid_keys() if "." in name} - {"tune"}
    if isinstance(spec, tuple) and not spec:
        raise SpaceError(f"tune.space: '{key}' has no values")
    if isinstance(spec, tuple) and "." not in key:
        groups = [choice for choice in spec if isinstance(choice, Mapping)]
        if len(groups) == len(spec):
            return _group(key, groups, f"{key}." if key in sections else "")
    if key in sections:
        raise SpaceError(f"tune.space: '{key}' is a section", "give a list of mappings of its "
                         f"settings, or single ones as '{key}.NAME'")
    _known(key)
    if isinstance(spec, tuple):
        names = [_name(value) for value in spec]
        return Choices(key, _distinct(key, names, [{key: value} for value in spec]))
    if isinstance(spec, Mapping):
        return _interval(key, spec)
    raise SpaceError(f"tune.space: '{key}' needs a list of values, or an interval such as "
                     f"{{low: 1, high: 8}}; not {spec!r}")


def _group(key: str, choices: Sequence[Mapping[str, object]], prefix: str) -> Choices:
    """Return a group of settings, whose keys follow a prefix."""
    groups = [{_known(f"{prefix}{name}"): value for name, value in choice.items()}
              for choice in choices]
    names = [", ".join(f"{name}={_name(value)}" for name, value in choice.items())
             for choice in choices]
    return Choices(key, _distinct(key, names, groups))


def _interval(key: str, spec: Mapping[str, object]) -> Interval:
    shown = ", ".join(f"{name}: {_name(value)}" for name, value in spec.items())
    refusal = f"tune.space: '{key}: {{{shown}}}'"
    given = {name: spec[name] for name in _INTERVAL[:3] if spec.get(name) is not None}
    numbers = {name: value for name, value in given.items()
               if isinstance(value, (int, float)) and not isinstance(value, bool)}
    log = spec.get("log", False)
    if set(spec) - set(_INTERVAL) or not {"low", "high"} <= set(given):
        raise SpaceError(f"{refusal}: expected low and high, and step or log where wanted")
    if len(numbers) < len(given) or not isinstance(log, bool):
        raise SpaceError(f"{refusal}: low, high and step are numbers, log is true or false")
    low, high, step = numbers["low"], numbers["high"], numbers.get("step")
    if not low < high:
        raise SpaceError(f"{refusal}: low is not below high")
    if log and (low <= 0 or step is not None):
        raise SpaceError(f"{refusal}: with log, low is above 0 and there is no step")
    interval = Interval(key, low, high, step, log)
    if step is not None and (step <= 0 or (interval.whole and not isinstance(step, int))):
        raise SpaceError(f"{refusal}: step is above 0, and whole where low and high are")
    return interval


def _known(key: str) -> str:
    if key.startswith("tune.") or key == "format_version":
        raise SpaceError(f"tune.space: '{key}' is not for a study to change")
    if key not in valid_keys():
        raise SpaceError(f"tune.space: unknown key '{key}'{nearest_key(key)}")
    return key


def _distinct(
    key: str, names: Sequence[str], options: Sequence[Mapping[str, object]]
) -> dict[str, Mapping[str, object]]:
    """Return options by their names, which must differ."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpaceError(f"tune.space: '{key}' has {twice[0]} twice")
    return dict(zip(names, options, strict=True))


def words(value: object) -> str:
    """Return a value for people, numbers with the digits that matter."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _name(value: object) -> str:
    """Return a choice as people write it: by this it is known in databases and tables."""
    return value if isinstance(value, str) else json.dumps(value)
