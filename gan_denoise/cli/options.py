"""What verbs of the command line share: options, exit codes, refusals, a check for the extras."""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.cli.console import say

FAILED, USAGE = 1, 2  # exit codes
TRAINING = ("tensorflow", "librosa", "sklearn", "tensorboard", "onnx", "matplotlib")


class Inversion(StrEnum):
    """How an estimated mel becomes a waveform."""

    gain = "gain"
    gain_phase = "gain+phase"
    griffinlim = "griffinlim"


Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings: section.key=value.", show_default=False)
]
ConfigFile = Annotated[
    str, typer.Option("--config", "-c", help="YAML file, or the name of a shipped config.")
]
RunDir = Annotated[
    Path, typer.Option("--run", help="Run directory; a run that is there is resumed.")
]
ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model folder or shipped model.", show_default=False),
]
InversionName = Annotated[
    Inversion | None,
    typer.Option(help="From mel to waveform; the model's own if not given.", show_default=False),
]


def refused(message: str) -> typer.Exit:
    """Print one line of a usage error; raise what comes back."""
    say(f"error: {message}", stderr=True)
    return typer.Exit(USAGE)


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
    line = f"{verb} needs {', '.join(missing)}: pip install 'gan-denoise[{extra}]'"
    if extra == "train":
        line += ", or 'gan-denoise[train-gpu]' on Linux with an NVIDIA GPU"
    raise refused(line)


def require_utf8(folder: Path) -> None:
    """Refuse a folder that TensorFlow or ONNX Runtime could not write to.

    Raises:
        typer.Exit: Where its name is not UTF-8.
    """
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise refused(f"{folder}: TensorFlow writes only where the name is UTF-8; give another "
                      "folder") from None
