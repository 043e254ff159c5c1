"""What there is to choose from, by name, and how a module from outside the package adds to it.

Settings that list a module under `plugins` have it imported before anything else is read of them.
A generator, discriminator or inversion is registered with the class of its settings; a loss or a
layout of a dataset is a function. `docs/extend.md` has an example of each. Nothing here imports
Keras: a module that imports it within its functions keeps denoising free of it.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from gan_denoise.config import data_sources, kinds
from gan_denoise.config.section import ConfigError, Section

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

# The key that does for other kinds what a key does for some, where their names do not show it.
ALIKE = {"valid_speech": "valid_clean", "valid_clean": "valid_speech", "valid_noise": "valid_noisy",
         "valid_noisy": "valid_noise", "width": "channels", "blocks": "channels",
         "time_strides": "channels", "dilations": "kernel", "batch_norm": "dropout"}
ALLOWED = "GAN_DENOISE_PLUGINS"  # names the modules that model folders may have imported
Function = TypeVar("Function", bound=Callable[..., Any])


# ---- Kinds of settings -------------------------------------------------------------------------
class Kinds:
    """The settings classes of a section, by the value of the key that names the kind.

    Args:
        section: Name of the section.
        key: The key that names the kind.
        default: The class of settings that do not name one.
        others: The other classes.
    """

    def __init__(self, section: str, key: str, default: type[Section], *others: type[Section]):
        self.section, self.key, self.default = section, key, default
        self.classes: dict[str, type[Section]] = {}
        for settings in (default, *others):
            self.add(settings)

    def add(self, settings: type[Section]) -> str:
        """Add a class, and return the name of its kind.

        Raises:
            ConfigError: When another class has that name.
        """
        name = settings.model_fields[self.key].default
        if not isinstance(name, str):
            raise ConfigError(f"{settings.__name__}: gives '{self.key}' no value",
                              f'write {self.key}: Literal["my_name"] = "my_name"')
        known = self.classes.setdefault(name, settings)
        if (known.__module__, known.__qualname__) != (settings.__module__, settings.__qualname__):
            raise ConfigError(f"{self.section}.{self.key}: '{name}' is taken by "
                              f"{known.__module__}.{known.__qualname__}", "take another name")
        self.classes[name] = settings
        return name

    def choose(self, values: Mapping[str, object], own: Mapping[str, object],
               before: Mapping[str, object]) -> type[Section]:
        """Return the class of settings.

        Args:
            values: The section as far as it is read.
            own: What the newest file or overrides say.
            before: What those before it said.

        Raises:
            ConfigError: When there is no such kind.
        """
        name = values.get(self.key, self.default.model_fields[self.key].default)
        if isinstance(name, str) and name in self.classes:
            return self.classes[name]
        known = ", ".join(f"'{one}'" for one in sorted(self.classes))
        raise ConfigError(f"{self.section}.{self.key}: there is no {name!r}; there are {known}")

    def title(self, settings: type[Section]) -> str:
        """Return what a kind is called in messages."""
        return f"{self.section}.{self.key}={settings.model_fields[self.key].default}"

    def fields(self) -> dict[str, FieldInfo]:
        """Return the fields of all kinds, by key."""
        return {key: info for settings in self.all() for key, info in settings.model_fields.items()}

    def all(self) -> Iterable[type[Section]]:
        """Return all classes."""
        return self.classes.values()

    def explain(self, key: str, settings: type[Section]) -> str:
        """Return a line on a key that has no effect on a kind, with the nearest that has one."""
        near = ALIKE.get(key)
        if near not in settings.model_fields:
            (near,) = difflib.get_close_matches(key, settings.model_fields, n=1, cutoff=0.0)
        return (f"'{self.section}.{key}' has no effect with {self.title(settings)}; the nearest "
                f"key that has one is '{self.section}.{near}'")


class DataKinds(Kinds):
    """The sources of data: which one it is follows from the keys that name material."""

    def __init__(self) -> None:
        self.section, self.key, self.default = "data", "", data_sources.DataConfig
        self._all = (data_sources.DataConfig, data_sources.CleanData, data_sources.PairData,
                     data_sources.FeatureData, data_sources.SyntheticData)
        self.sources = frozenset(key for settings in self._all for key in settings.SOURCES)

    def choose(self, values: Mapping[str, object], own: Mapping[str, object],
               before: Mapping[str, object]) -> type[Section]:
        """See `Kinds`: another source than before replaces it."""
        given = [key for key in own if key in self.sources and own[key]]
        if all(key in self._of(before).model_fields for key in given):
            return self._of(values)
        return self._of(own)

    def title(self, settings: type[Section]) -> str:
        """See `Kinds`."""
        return settings.TITLE

    def all(self) -> Iterable[type[Section]]:
        """See `Kinds`."""
        return self._all

    def explain(self, key: str, settings: type[Section]) -> str:
        """See `Kinds`."""
        if key in self.sources:
            others = [self.title(one) for one in self._all if key in one.SOURCES]
            return f"data: give either {self.title(settings)}, or {' or '.join(others)}"
        return super().explain(key, settings)

    @staticmethod
    def _of(values: Mapping[str, object]) -> type[data_sources.DataSource]:
        if values.get("features"):
            synthetic = values["features"] == data_sources.SYNTHETIC
            return data_sources.SyntheticData if synthetic else data_sources.FeatureData
        if values.get("noisy") or values.get("pairs"):
            return data_sources.PairData
        if values.get("clean") and not values.get("speech"):
            return data_sources.CleanData
        return data_sources.DataConfig


KINDS: dict[str, Kinds] = {
    "data": DataKinds(),
    "generator": Kinds("generator", "name", kinds.TcnAutoencoder, kinds.UNet, kinds.Autoencoder,
                       kinds.ConvAutoencoder, kinds.Cnn),
    "discriminator": Kinds("discriminator", "kind", kinds.PatchDiscriminator,
                           kinds.MetricDiscriminator),
    "inversion": Kinds("inversion", "name", kinds.GainInversion, kinds.GainPhaseInversion,
                       kinds.GriffinLimInversion),
}


# ---- What the kinds are built by ---------------------------------------------------------------
@dataclass(frozen=True)
class Generator:
    """What makes a generator, but for its head.

    Attributes:
        build: (mel01, settings) -> logits, both Keras tensors `[batch, frames, bands]`.
        time_strides: settings -> stride of each level over time.
        field: settings -> frames on each side that a frame's logits can depend on.
    """

    build: Callable[[Any, Any], Any]
    time_strides: Callable[[Any], tuple[int, ...]]
    field: Callable[[Any], int]


@dataclass(frozen=True)
class Loss:
    """A loss from outside the package.

    Attributes:
        function: (clean, estimate) -> scalar.
        of: `mel`: both are mel01 `[batch, frames, bands]`. `spectrum`: both are STFTs as (real,
            imaginary), each `[batch, frames, bins]`; the estimate is the noisy one with the gain.
    """

    function: Callable[[Any, Any], Any]
    of: Literal["mel", "spectrum"]


@dataclass(frozen=True)
class Layout:
    """A layout of datasets.

    Attributes:
        read: folder -> its pairs; none where the folder is not of this layout.
        shows: What such a folder holds, for messages.
    """

    read: Callable[[Path], list]
    shows: str = field(default="")


GENERATORS: dict[str, Generator] = {}
DISCRIMINATORS: dict[str, Callable[[Any], Any]] = {}
INVERSIONS: dict[str, Callable[..., Any]] = {}
LOSSES: dict[str, Loss] = {}
LAYOUTS: dict[str, Layout] = {}


def register_generator(
    settings: type[kinds.GeneratorConfig],
    receptive_field: Callable[[Any], int],
    time_strides: Callable[[Any], tuple[int, ...]] = lambda settings: (1,),
) -> Callable[[Function], Function]:
    """Register a function `(mel01, settings) -> logits` as the generator of a settings class.

    Both are Keras tensors `[batch, frames, bands]`, of any number of frames; the head is added.

    Args:
        settings: Its settings, whose `name` is that of the generator.
        receptive_field: settings -> frames on each side that a frame's logits can depend on.
        time_strides: settings -> stride of each level over time; parts of a recording start at
            multiples of their product.
    """

    def register(build: Function) -> Function:
        name = KINDS["generator"].add(settings)
        GENERATORS[name] = Generator(build, time_strides, receptive_field)
        return build

    return register


def register_discriminator(
    settings: type[kinds.DiscriminatorConfig],
) -> Callable[[Function], Function]:
    """Register a function `config -> keras.Model` as the discriminator of a settings class.

    The model maps `[reference_mel, candidate_mel]`, each mel01 `[batch, frames, bands]`, to
    `[logits, feature, ...]`. Of settings derived from `RealFakeDiscriminator` the reference is the
    noisy mel, and the model learns to tell clean candidates from estimates.
    """

    def register(build: Function) -> Function:
        DISCRIMINATORS[KINDS["discriminator"].add(settings)] = build
        return build

    return register


def register_inversion(settings: type[kinds.InversionConfig]) -> Callable[[Function], Function]:
    """Register a function as the inversion of a settings class.

    It takes `(mel, estimate01, noisy_spectrum, length, settings)` as `dsp.inversion.invert` does,
    and returns the waveform, float32 `[length]`.
    """

    def register(function: Function) -> Function:
        INVERSIONS[KINDS["inversion"].add(settings)] = function
        return function

    return register


def register_loss(
    name: str, of: Literal["mel", "spectrum"] = "mel"
) -> Callable[[Function], Function]:
    """Register a function `(clean, estimate) -> scalar`; `losses.extra_weights` gives its weight.

    Args:
        name: Its name there, and of its curve: `loss/NAME`.
        of: `mel`: of mel01 `[batch, frames, bands]`. `spectrum`: of STFTs as (real, imaginary),
            each `[batch, frames, bins]`.
    """

    def register(function: Function) -> Function:
        LOSSES[name] = Loss(function, of)
        return function

    return register


def register_layout(name: str, shows: str = "") -> Callable[[Function], Function]:
    """Register a function `folder -> list of data.pairs.Pair` as a layout of datasets.

    The function returns none where a folder is not of its layout; others are tried then, those
    from outside the package first.

    Args:
        name: Its name.
        shows: What such a folder holds, for the message on a folder that no layout fits.
    """

    def register(read: Function) -> Function:
        LAYOUTS[name] = Layout(read, shows or name)
        return read

    return register


def refuse_plugins(modules: Iterable[str], origin: str) -> None:
    """Refuse modules that settings of a stranger ask for, unless the user has named them.

    Named are those that this process has imported already, and those in `$GAN_DENOISE_PLUGINS`,
    parted by commas.

    Args:
        modules: Their names.
        origin: Where the settings come from.

    Raises:
        ConfigError: When one is not named.
    """
    named = {name.strip() for name in os.environ.get(ALLOWED, "").split(",")}
    for module in modules:
        if module not in sys.modules and module not in named:
            raise ConfigError(f"{origin}: asks for the module '{module}' (plugins), whose code "
                              "would run", f"if you trust it, name it: {ALLOWED}={module}")


def import_plugins(modules: Iterable[str]) -> None:
    """Import the modules that settings list under `plugins`.

    Raises:
        ConfigError: When one cannot be found.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"plugins: {error}", "install it, or put its folder on the path: PYTHONPATH=FOLDER"
            ) from error
