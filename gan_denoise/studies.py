"""Commands that study recordings: `explore`. They parse, call and print, as those of `cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.terminal import FileBar, console, require, shown


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(explore)


def explore(
    folders: Annotated[list[Path], typer.Argument(help="Folders of recordings, compared.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PAGE.html", help="The page to write.")
    ],
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a row a recording too.", show_default=False),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Recordings of each folder to look at and to hear.")
    ] = 4,
    seed: Annotated[int, typer.Option(help="Of those drawn at random, from the sixth on.")] = 0,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", metavar="N", min=0, show_default=False,
                     help="Processes; 0 (the default): one per core where there is enough to do."),
    ] = 0,
) -> None:
    """Draw recordings before training: durations, levels, spectra, noise, pitch, bandwidth.

    Of long recordings a minute is measured. A file that cannot be read is named, and the rest
    goes on. To be told what is wrong with a folder, use check.
    """
    require("explore", "librosa", "matplotlib")
    from gan_denoise.explore import make_page
    from gan_denoise.survey import save_csv, survey

    for path, suffixes in ((out, (".html", ".htm")), (csv, (".csv",))):
        if path is not None and path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"{path}: expected a name that ends in {suffixes[0]}")
    with FileBar("files") as bar:
        surveyed = survey(folders, jobs, bar)
    for failure in surveyed.failures:
        console(stderr=True).print(f"failed: {shown(failure)}", markup=False, emoji=False,
                                   highlight=False, soft_wrap=True)
    make_page(surveyed, samples, seed).write(out)
    if csv is not None:
        save_csv(surveyed, csv)
    hours = sum(recording.info.seconds for recording in surveyed.recordings) / 3600
    typer.echo(shown(f"{len(surveyed.recordings)} recordings, {hours:.2f} h, "
                     f"{len(surveyed.failures)} failed, in {out}"))
    if surveyed.failures:
        raise typer.Exit(1)
