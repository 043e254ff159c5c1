"""The configs and models that come with the package, in a wheel or in a clone."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


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
