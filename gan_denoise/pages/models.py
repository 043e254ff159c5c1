"""The models that a server offers, by name; each is loaded when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_denoise.config import checkpoint_folder
from gan_denoise.config.artifacts import NETWORK
from gan_denoise.config.registry import KINDS
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.model import DEFAULT_MODEL, find_model
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.pages.settings import ServeError


class Models:
    """Model folders by the names that visitors choose from.

    Args:
        models: Model folders, or names of shipped models, beside all that are shipped.
        threads: Parts of a recording that are computed side by side; 0: one per core.

    Raises:
        ModelError: When one of them is no model.
    """

    def __init__(self, models: Sequence[str | Path] = (), threads: int = 0):
        self._threads = threads
        self._folders: dict[str, Path] = {}
        self._loaded: dict[str, Enhancer] = {}
        self._lock = threading.Lock()
        shipped = sorted(path.parent for path in checkpoint_folder().glob(f"*/{NETWORK}"))
        for folder in sorted(shipped, key=lambda folder: folder.name != DEFAULT_MODEL):
            self.add(folder)
        for model in models:
            self.add(model)

    @property
    def names(self) -> list[str]:
        """Names of the models; the first is the default."""
        with self._lock:
            return list(self._folders)

    @property
    def folders(self) -> dict[str, Path]:
        """Folders of the models by name."""
        with self._lock:
            return dict(self._folders)

    def add(self, model: str | Path) -> str:
        """Offer a model folder too.

        Args:
            model: A model folder, or the name of a shipped model.

        Returns:
            Its name: that of the folder, with a number where another has that name.

        Raises:
            ModelError: When it is no model.
        """
        folder = find_model(model).resolve()
        with self._lock:
            for name, known in self._folders.items():
                if known == folder:
                    self._loaded.pop(name, None)  # it may have been written anew
                    return name
            name, number = folder.name, 2
            while name in self._folders:
                name, number = f"{folder.name} ({number})", number + 1
            self._folders[name] = folder
        return name

    def enhancer(self, name: str, inversion: str | None, options: DenoiseOptions) -> Enhancer:
        """Return a model with an inversion and options.

        Args:
            name: One of `names`; a path is none.
            inversion: Name of an inversion; None: the model's own.
            options: Options of the run.

        Raises:
            ServeError: When there is no such model or inversion.
            ModelError: When the model cannot be loaded, or the inversion cannot follow the options.
        """
        if inversion is not None and inversion not in inversions():
            raise ServeError(f"there is no inversion {inversion!r}",
                             f"take one of {', '.join(inversions())}")
        with self._lock:
            if name not in self._folders:
                raise ServeError(f"there is no model {name!r}",
                                 f"take one of {', '.join(self._folders)}")
            if name not in self._loaded:
                self._loaded[name] = Enhancer.load(self._folders[name], self._threads)
            enhancer = self._loaded[name]
        if inversion is not None:
            enhancer = enhancer.with_inversion(inversion)
        return enhancer.with_options(options)


def inversions() -> list[str]:
    """Return the names of the inversions."""
    return list(KINDS["inversion"].classes)


def parse_options(values: dict[str, Any]) -> tuple[str | None, DenoiseOptions]:
    """Return the inversion and the options of a request.

    Args:
        values: `inversion`, `preset`, and options by the names of `DenoiseOptions`; what is left
            out or None is the model's own, or that of the preset.

    Raises:
        ServeError: When one is not known or out of range.
    """
    from pydantic import ValidationError

    from gan_denoise.inference.options import PRESETS

    values = dict(values)
    inversion, preset = values.pop("inversion", None), values.pop("preset", None)
    if preset is not None and preset not in PRESETS:
        raise ServeError(f"there is no preset {preset!r}", f"take one of {', '.join(PRESETS)}")
    try:
        return inversion, DenoiseOptions.preset(preset, **values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])).removesuffix("_db").replace("_", " ")
        raise ServeError(f"{name}: {first['msg']}") from None
