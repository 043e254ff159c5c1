"""The verbs of `gan-denoise` that study data and results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.terminal import console


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command()(analyze)


def analyze(
    scores: Annotated[
        Path, typer.Argument(help="Folder of `evaluate --out`, or its scores.json.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for analysis.html and CSV files.")
    ],
    speakers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False,
                     help="Attributes of the speakers: CSV with a column speaker, or JSON such as "
                          "AudioMNIST's audioMNIST_meta.txt."),
    ] = None,
    attribute: Annotated[
        list[str] | None,
        typer.Option("--attribute", metavar="NAME", show_default=False,
                     help="Compare by this only; may be repeated. All if not given."),
    ] = None,
    attribute_pattern: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", show_default=False,
                     help="Attributes told by a speaker's name, as named groups: "
                          "'^(?P<gender>[fm])'."),
    ] = None,
    speaker_pattern: Annotated[
        str | None,
        typer.Option(metavar="REGEX", show_default=False,
                     help="Speaker told by a file's name, as a group: '^([a-z]+)_'."),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(help="Whose improvement; the first model if not given.", show_default=False),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", metavar="NAME", show_default=False,
                     help="Such as stoi; may be repeated. PESQ, STOI, ESTOI and SI-SDR if not "
                          "given."),
    ] = None,
) -> None:
    """Compare improvement between speakers, and by what they share: gender, accent, age."""
    from gan_denoise.analysis import analyze as compare
    from gan_denoise.analysis_page import render, write_analysis
    from gan_denoise.scores import read_scores
    from gan_denoise.speakers import describe, name_speakers

    evaluation = read_scores(scores)
    if speaker_pattern is not None:
        evaluation = name_speakers(evaluation, speaker_pattern)
    names = [row.speaker for row in evaluation.rows if row.speaker is not None]
    known = describe(names, speakers, attribute_pattern or ())
    analysis = compare(evaluation, known, system=system, metrics=metric or (),
                       attributes=attribute or ())
    page = write_analysis(analysis, out)
    render(analysis, console())
    console(stderr=True).print(f"page and tables: {page}", highlight=False, soft_wrap=True)
