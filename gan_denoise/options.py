"""What verbs of the command line share: options, exit codes, and a check for the extras."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

FAILED, USAGE = 1, 2  # exit codes
TRAINING = ("tensorflow", "librosa", "sklearn", "tensorboard", "onnx", "matplotlib")

Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings: section.key=value.", show_default=False)
]
ConfigFile = Annotated[
    str, typer.Option("--config", "-c", help="YAML file, or the name of a shipped config.")
]
RunDir = Annotated[
    Path, typer.Option("--run", help="Run directory; a run that is there is resumed.")
]


def require_training(verb: str) -> None:
    """End a verb that needs the `train` extra where it is not installed, and say so."""
    require(verb, *TRAINING)


def require(verb: str, *packages: str, extra: str = "train") -> None:
    """End a verb where packages are missing, with a line that says how to get them.

    Raises:
        typer.Exit: Where one is missing.
    """
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if not missing:
        return
    line = f"error: {verb} needs {', '.join(missing)}: pip install 'gan-denoise[{extra}]'"
    if extra == "train":
        line += ", or 'gan-denoise[train-gpu]' on Linux with an NVIDIA GPU"
    typer.echo(line, err=True)
    raise typer.Exit(USAGE)
