"""Verbs that measure: evaluate, analyze."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_denoise.cli.console import CountBar, console, print_line
from gan_denoise.cli.options import (
    FAILED,
    InversionName,
    RayAddress,
    UsageError,
    Workers,
    cluster_of,
    load_enhancer,
    require,
)

if TYPE_CHECKING:
    from gan_denoise.evaluation.results import Evaluation
    from gan_denoise.inference.enhancer import Enhancer


def evaluate(
    noisy: Annotated[
        Path | None, typer.Option(help="Folder of noisy recordings.", show_default=False)
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(help="Folder of their clean versions.", show_default=False)
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="In their place the test clips of a folder from `features`.",
                     show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model folder or shipped model; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for scores, waveforms and report.html."),
    ] = None,
    inversion: InversionName = None,
    trivial: Annotated[
        bool, typer.Option("--trivial", help="Score silence and the best constant gain too.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", min=1, show_default=False,
                     help="Scoring processes; 2 if not given."),
    ] = None,
    ray: RayAddress = None,
    workers: Workers = 0,
) -> None:
    """Score models on pairs, beside the noisy input and the oracle."""
    from gan_denoise.data.pairs import match_folders
    from gan_denoise.evaluation.evaluate_waveforms import evaluate as evaluate_pairs
    from gan_denoise.evaluation.table import score_tables

    _check_inputs(noisy, clean, features, inversion, ray)
    cluster = cluster_of("evaluate", ray, workers, jobs)
    if out is not None:
        require("evaluate --out", "librosa", "matplotlib", "PIL")  # the mels of the page's pictures
    pairs = match_folders(noisy, clean) if features is None else []
    models = _load_models(model or [None], inversion)
    if features is not None:
        evaluation = _evaluate_features(features, models, out)
    else:
        with CountBar("files") as bar:
            evaluation = evaluate_pairs(pairs, models, trivial=trivial, jobs=jobs or 2, out=out,
                                        progress=bar, cluster=cluster)
    console().print(score_tables(evaluation))
    if out is not None:
        from gan_denoise.evaluation.report.page import PAGE, write_report

        print_line(f"scores{'' if features else ' and waveforms'} in {out}, page: "
                   f"{write_report([out], out / PAGE)}", stderr=True)
    if evaluation.refused_pairs:
        raise typer.Exit(FAILED)


def _check_inputs(noisy: Path | None, clean: Path | None, features: Path | None,
                  inversion: str | None, ray: str | None) -> None:
    """Refuse what is missing, and what clips of features do not have."""
    if (features is None) == (noisy is None) or (noisy is None) != (clean is None):
        raise UsageError("give --noisy and --clean, or --features")
    if features is not None and inversion is not None:
        raise UsageError("--inversion makes waveforms, of which --features has none; leave it out")
    if features is not None and ray is not None:
        raise UsageError("--ray is for recordings; the clips of --features are scored here")


def _load_models(names: Sequence[str | None], inversion: str | None) -> dict[str, Enhancer]:
    loaded = [load_enhancer(name, inversion) for name in names]
    models = {enhancer.name: enhancer for enhancer in loaded}
    if len(models) < len(loaded):
        raise UsageError("two models of one name", "copy one to a folder of another name")
    return models


def _evaluate_features(
    root: Path, models: dict[str, Enhancer], out: Path | None
) -> Evaluation:
    from gan_denoise.data.feature_folder import FeatureFolder
    from gan_denoise.evaluation.evaluate_features import evaluate_features, stored_examples
    from gan_denoise.evaluation.results import save

    folder = FeatureFolder(root, next(iter(models.values())).config)
    with CountBar("clips") as bar:
        evaluation = evaluate_features(stored_examples(folder), models, bar)
    if out is not None:
        save(evaluation, out)
    return evaluation


def report(
    evaluations: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="Folders of `evaluate --out`, of the "
                                                          "same recordings.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PAGE.html", help="The page to write.")
    ] = Path("report.html"),
    title: Annotated[
        str | None, typer.Option(help="Heading of the page.", show_default=False)
    ] = None,
) -> None:
    """Make one page of evaluations: scores, charts, players.

    It compares the models of all folders, plays the best, median and worst files of each metric,
    and holds a blind test. One file without the network or other files beside it.
    """
    from gan_denoise.core.atomic_files import check_writable
    from gan_denoise.evaluation.report.page import write_report

    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{out}: the page's name ends in .html")
    require("report", "librosa", "matplotlib", "PIL")
    check_writable(out)
    print_line(f"page: {write_report(evaluations, out, title)}", stderr=True)


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
                     help="Attributes in a speaker's name, as named groups: "
                          r"'^(?P<gender>\[fm])'."),
    ] = None,
    speaker_pattern: Annotated[
        str | None,
        typer.Option(metavar="REGEX", show_default=False,
                     help="Speaker in a file's name, as a group: '^(.+?)_'."),
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
    """Compare improvement between speakers, by gender, accent, age."""
    from gan_denoise.evaluation.results import read_scores
    require("analyze", "matplotlib")
    from gan_denoise.evaluation.speakers.attributes import describe, name_speakers
    from gan_denoise.evaluation.speakers.comparison import analyze as compare
    from gan_denoise.evaluation.speakers.report import improvement_table, write_analysis

    evaluation = read_scores(scores)
    if speaker_pattern is not None:
        evaluation = name_speakers(evaluation, speaker_pattern)
    names = [row.speaker for row in evaluation.rows if row.speaker is not None]
    known = describe(names, speakers, attribute_pattern or ())
    analysis = compare(evaluation, known, system=system, metrics=metric or (),
                       attributes=attribute or ())
    page = write_analysis(analysis, out)
    console().print(improvement_table(analysis))
    print_line(f"page and tables: {page}", stderr=True)


VERBS = (evaluate, report, analyze)
