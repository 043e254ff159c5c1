"""The verbs of `gan-denoise` that study data and results."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.cli.console import FileBar, console, say
from gan_denoise.cli.options import (
    FAILED,
    ConfigFile,
    Settings,
    require,
    require_training,
    require_utf8,
)
from gan_denoise.core.native_libraries import load_tensorflow
from gan_denoise.core.text import escape_line


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (explore, rooms, features, tune, analyze, seeds):
        app.command()(verb)


def rooms(
    out: Annotated[Path, typer.Option(help="Folder to write; for mix --rir and data.rir.")],
    count: Annotated[int, typer.Option(min=1, help="Rooms.")] = 100,
    rt60: Annotated[
        tuple[float, float], typer.Option(metavar="S S", help="Range of reverberation times.")
    ] = (0.15, 0.7),
    sample_rate: Annotated[int, typer.Option(min=1000, help="Hz.")] = 16000,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
) -> None:
    """Write impulse responses of made-up rooms."""
    require("rooms", "pyroomacoustics", extra="rooms")
    from gan_denoise.data.room_simulation import write_rooms

    with FileBar("rooms") as bar:
        write_rooms(out, count, sample_rate, rt60, seed, bar)
    console().print(f"{count} rooms in {out}", highlight=False, soft_wrap=True)


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
    seed: Annotated[
        int, typer.Option(min=0, help="Of those drawn at random, from the sixth on.")
    ] = 0,
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
    from gan_denoise.audio.info import describe_anomalies
    from gan_denoise.core.atomic_files import check_writable
    from gan_denoise.inspection.survey import save_csv, survey
    from gan_denoise.inspection.survey_page import make_page

    for path, suffixes in ((out, (".html", ".htm")), (csv, (".csv",))):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"{path}: expected a name that ends in {suffixes[0]}")
        check_writable(path)
    with FileBar("files") as bar:
        surveyed = survey(folders, jobs, bar)
    for failure in surveyed.failures:
        say(f"failed: {escape_line(failure)}", stderr=True)
    for recording in surveyed.recordings:
        if told := describe_anomalies(recording.info):
            say(escape_line(f"{recording.info.path}: {told}"), stderr=True)
    make_page(surveyed, samples, seed).write(out)
    if csv is not None:
        save_csv(surveyed, csv)
    hours = sum(recording.info.seconds for recording in surveyed.recordings) / 3600
    say(f"{len(surveyed.recordings)} recordings, {hours:.2f} h, {len(surveyed.failures)} failed, "
        f"in {out}")
    if surveyed.failures:
        raise typer.Exit(FAILED)


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
    from gan_denoise.evaluation.results import read_scores
    from gan_denoise.evaluation.speakers.attributes import describe, name_speakers
    from gan_denoise.evaluation.speakers.comparison import analyze as compare
    from gan_denoise.evaluation.speakers.report import render, write_analysis

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


def features(
    out: Annotated[Path, typer.Option(help="Folder to write; its config.yaml trains on it.")],
    settings: Settings = None,
    config: ConfigFile = "base",
) -> None:
    """Write the features of paired (or clean) recordings as files, to train on them.

    data.noisy and data.clean, or data.pairs, say what of; data.clean alone: noise is added to the
    features in training.
    """
    require_training("features")
    from gan_denoise.config import load_config
    from gan_denoise.config.artifacts import SETTINGS
    from gan_denoise.data.feature_folder import FeatureFolder
    from gan_denoise.data.feature_writer import write_features

    with FileBar("recordings") as bar:
        made = write_features(load_config(config, settings or ()), out, bar)
    clips = FeatureFolder(out, made).clips
    counts = ", ".join(f"{len(clips[split])} {split}" for split in clips)
    console().print(f"{counts} clips in {out}; train with --config {out / SETTINGS}",
                    highlight=False, soft_wrap=True)


def tune(
    config: Annotated[
        str, typer.Option("--config", "-c", help="YAML file with a tune section, or the name of a "
                                                 "shipped config.")
    ],
    study: Annotated[
        Path, typer.Option(help="Folder of the study; one that is there goes on.")
    ],
    settings: Settings = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Fine-tune from this run or model, not pretrain.", show_default=False),
    ] = None,
) -> None:
    """Search settings: many short runs, those that lag behind stopped early (Optuna)."""
    require_training("tune")
    require_utf8(study)
    from gan_denoise.config import load_config
    from gan_denoise.config.saved import finetune_config
    from gan_denoise.inference.enhancer import find_model
    from gan_denoise.tuning.study import tune as search

    source = init if init is None or init.is_dir() else find_model(str(init))
    values = (load_config(config, settings or ()) if source is None
              else finetune_config(config, settings or (), source))
    command = escape_line(shlex.join(["gan-denoise", *sys.argv[1:]]))
    outcome = search(values, study, source, console(stderr=True), command)
    outcome.render(console())
    if outcome.best is None:
        raise typer.Exit(FAILED)


def seeds(
    system: Annotated[str, typer.Argument(help="spectrograms, audio-mnist, hybrid, ae-gan, stft.")],
    out: Annotated[Path, typer.Option(help="Folder for everything; what is there is kept.")],
    settings: Settings = None,
    speech: Annotated[list[Path] | None, typer.Option(help="Speech to train on.")] = None,
    noise: Annotated[list[Path] | None, typer.Option(help="Noise to train on.")] = None,
    test_speech: Annotated[list[Path] | None, typer.Option(help="Other speakers.")] = None,
    test_noise: Annotated[list[Path] | None, typer.Option(help="Other noise.")] = None,
) -> None:
    """Reproduce a system that this project grew from: train it, score it."""
    require_training("seeds")
    require_utf8(out)
    load_tensorflow()
    from gan_denoise.recipes.source_systems import Recordings, reproduce

    recordings = Recordings(speech or (), noise or (), test_speech or (), test_noise or ())
    reproduce(system, out, recordings, settings or (), console(), console(stderr=True))
