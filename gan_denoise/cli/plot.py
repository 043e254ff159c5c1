"""The verb plot: curves of training runs as a picture for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.cli.console import print_line
from gan_denoise.cli.options import require


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Run directories, drawn over each other.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Picture to write: .png, .svg or .pdf.")
    ] = Path("curves.png"),
    metric: Annotated[
        str | None,
        typer.Option(help="Validation metric; what the first run's best state was chosen by if "
                          "not given.", show_default=False),
    ] = None,
    width: Annotated[
        float, typer.Option(metavar="MM", min=40, max=500,
                            help="Width in mm; 86 is a column of a paper.")
    ] = 86.0,
) -> None:
    """Draw losses, D/G balance and validation of runs, for papers."""
    require("plot", "tensorboard", "matplotlib")
    from gan_denoise.training.curve_plots import plot_runs

    print_line(str(plot_runs(runs, out, metric, width)))


VERBS = (plot,)
