"""Verbs that examine recordings or write them: check, explore, corpus, rooms, mix, features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_denoise.cli.console import CountBar, console, print_line
from gan_denoise.cli.options import (
    FAILED,
    ConfigFile,
    JsonFile,
    RayAddress,
    Seed,
    Settings,
    UsageError,
    Workers,
    cluster_of,
    require,
    require_training,
)
from gan_denoise.core.text import escape_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from gan_denoise.inspection.findings import CheckReport, DatasetSummary, Finding

FILES_SHOWN = 3  # of each kind of finding
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
Jobs = Annotated[int, typer.Option(
    "--jobs", "-j", metavar="N", min=0, show_default=False,
    help="Processes; 0 (the default): one per core where there is enough to do.")]


# ---- Examine -----------------------------------------------------------------------------------
def check(
    data: Annotated[list[Path], typer.Argument(help="Folders of audio or pairs, or manifests.")],
    config: Annotated[
        str,
        typer.Option("--config", "-c", help="YAML file, or the name of a shipped config: its "
                                            "sample rate is what the files should have."),
    ] = "base",
    deep: Annotated[bool, typer.Option(help="Look at every sample of every file.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Find faults of recordings before training, and count hours.

    Orphans, mixed sample rates, clipping, silence, pairs that are not aligned, recordings and
    speakers that are in two splits.
    """
    from gan_denoise.config import load_config
    from gan_denoise.core.atomic_files import write_atomically
    from gan_denoise.inspection.dataset_check import check_datasets

    sample_rate = load_config(config).audio.sample_rate
    with CountBar("files or pairs") as bar:
        report = check_datasets(data, deep=deep, sample_rate=sample_rate, progress=bar)
    print_report(report, console())
    if json_file is not None:
        content = report.to_json().encode("utf-8", "backslashreplace")
        write_atomically(json_file, lambda file: file.write(content))
    if report.count("error"):
        raise typer.Exit(FAILED)


def print_report(report: CheckReport, console: Console) -> None:
    """Print the figures of each dataset, then the findings by kind, some files of each."""
    from rich.text import Text

    for summary in report.summary:
        console.print(_table(summary))
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    for (severity, kind), findings in groups.items():
        console.print(Text(severity, style=COLOURS[severity]), f"{kind}: {len(findings)}")
        for finding in findings[:FILES_SHOWN]:
            line = f"  {finding.file}: {finding.reason}; {finding.way_out}"
            console.print(Text(escape_line(line)), soft_wrap=True)
        if len(findings) > FILES_SHOWN:
            console.print(f"  ... and {len(findings) - FILES_SHOWN} more")
    if not report.findings:
        console.print("nothing to complain about")


def _table(summary: DatasetSummary) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(escape_line(summary.path)), show_header=False, title_justify="left")
    table.add_row("files", f"{summary.files} ({summary.kind}), {summary.hours:.2f} h")
    table.add_row("speakers", str(summary.speakers or "not shown by names or folders"))
    for name in ("splits", "sample_rates", "channels", "subtypes", "snr_db"):
        if counts := getattr(summary, name):
            text = ", ".join(f"{key}: {count}" for key, count in counts.items())
            table.add_row(name.replace("_", " "), Text(text))
    return table


def explore(
    folders: Annotated[list[Path], typer.Argument(help="Folders of recordings, compared.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="PAGE.html", help="The page to write.")
    ],
    csv: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a row for each recording too.",
                     show_default=False),
    ] = None,
    samples: Annotated[
        int, typer.Option(min=0, help="Recordings of each folder to look at and to hear.")
    ] = 4,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of those drawn at random, from the sixth on.")
    ] = 0,
    jobs: Jobs = 0,
) -> None:
    """Draw durations, levels, spectra, noise and pitch of recordings.

    The page compares folders, bandwidth included. Of long recordings a minute is measured. A file
    that cannot be read is named, and the rest goes on. To find what is
    wrong with a folder, use check.
    """
    require("explore", "librosa", "matplotlib")
    from gan_denoise.audio.info import describe_anomalies
    from gan_denoise.inspection.survey import save_csv, survey
    from gan_denoise.inspection.survey_page import make_page
    from gan_denoise.reports.pages import write_page

    _check_outputs(out, csv)
    with CountBar("files") as bar:
        surveyed = survey(folders, jobs, bar)
    for failure in surveyed.failures:
        print_line(f"failed: {failure}", stderr=True)
    for recording in surveyed.recordings:
        if remark := describe_anomalies(recording.info):
            print_line(f"{recording.info.path}: {remark}", stderr=True)
    write_page(out, make_page(surveyed, samples, seed))
    if csv is not None:
        save_csv(surveyed, csv)
    hours = sum(recording.info.seconds for recording in surveyed.recordings) / 3600
    print_line(f"{len(surveyed.recordings)} recordings, {hours:.2f} h, {len(surveyed.failures)} "
               f"failed, in {out}")
    if surveyed.failures:
        raise typer.Exit(FAILED)


def _check_outputs(page: Path, csv: Path | None) -> None:
    """Refuse names of another kind, such as those of recordings, and folders without access."""
    from gan_denoise.core.atomic_files import check_writable

    for path, suffixes in ((page, (".html", ".htm")), (csv, (".csv",))):
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise UsageError(f"{path}: expected a name that ends in {suffixes[0]}")
        check_writable(path)


# ---- Write -------------------------------------------------------------------------------------
def rooms(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write; for mix --rir and data.rir.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Rooms.")] = 100,
    rt60: Annotated[
        tuple[float, float], typer.Option(metavar="S S", help="Range of reverberation times.")
    ] = (0.15, 0.7),
    sample_rate: Annotated[int, typer.Option(min=1000, help="Hz.")] = 16000,
    seed: Seed = 0,
) -> None:
    """Write impulse responses of simulated rooms."""
    require("rooms", "pyroomacoustics", extra="rooms")
    from gan_denoise.data.room_simulation import write_rooms

    with CountBar("rooms") as bar:
        write_rooms(out, count, sample_rate, rt60, seed, bar)
    print_line(f"{count} rooms in {out}")


def corpus(
    folders: Annotated[list[Path], typer.Argument(help="Folders of recordings, or addresses.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the corpus, or its address.")
    ],
    sample_rate: Annotated[
        int, typer.Option(min=1000, help="Hz, that of the models to train.")
    ] = 16000,
    jobs: Jobs = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out what cannot be read, with a note.")
    ] = False,
    ray: RayAddress = None,
    workers: Workers = 0,
) -> None:
    """Decode recordings once, for data.speech and others of many runs.

    A corpus of a million recordings opens in a second and, at an address, gives each machine only
    what it reads. After an interruption the same command goes on. docs/scale.md has more.
    """
    from gan_denoise.core.locations import location
    from gan_denoise.data.corpus import write_corpus

    cluster = cluster_of("corpus", ray, workers, jobs)
    with CountBar("recordings") as bar:
        written = write_corpus(folders, out, sample_rate, bar, jobs, skip_bad, cluster)
    for note in written.notes:
        print_line(note, stderr=True)
    silent = f", {len(written.silent)} silent ones left out" if written.silent else ""
    print_line(f"{len(written)} recordings, {written.seconds / 3600:.2f} h{silent}: "
               f"data.speech={location(out)}")


def mix(
    speech: Annotated[list[Path], typer.Option(help="Folder of clean speech.")],
    noise: Annotated[list[Path], typer.Option(help="Folder of noise.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for noisy/, clean/ and manifest.json.")
    ],
    rir: Annotated[
        list[Path] | None, typer.Option(help="Folder of room impulse responses.")
    ] = None,
    snr: Annotated[str, typer.Option(help="SNRs in dB, taken in turn.")] = "-5,0,5,10,15",
    count: Annotated[
        int | None, typer.Option(min=1, help="Mixtures; one for each utterance if not given.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length; that of the utterance if not given.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Config whose data section says how noises are made: several at once, "
                          "babble, coloured ones. One recorded noise each if not given.",
                     show_default=False),
    ] = None,
    sample_rate: Annotated[int, typer.Option(min=1, help="Hz.")] = 16000,
    seed: Seed = 0,
    ray: RayAddress = None,
    workers: Workers = 0,
) -> None:
    """Write paired folders of speech + noise at given SNRs."""
    from gan_denoise.config import mixing_recipe
    from gan_denoise.data.mixture_writer import MixtureSpec, write_pairs

    data = None if recipe is None else mixing_recipe(recipe)
    spec = MixtureSpec(sample_rate, _parse_snrs(snr), count, seconds, data, seed)
    cluster = cluster_of("mix", ray, workers)
    with CountBar("mixtures") as bar:
        rows = write_pairs(speech, noise, out, spec, rir_folders=rir or (), progress=bar,
                           notice=bar.print_line, cluster=cluster)
    hours = sum(row["seconds"] for row in rows) / 3600
    print_line(f"{len(rows)} pairs, {hours:.2f} h, in {out}")


def _parse_snrs(text: str) -> Sequence[float]:
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise UsageError(f"--snr {text}: expected numbers such as -5,0,5") from None


def features(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write; its config.yaml trains on it.")
    ],
    settings: Settings = None,
    config: ConfigFile = "base",
) -> None:
    """Write features of recordings as files, to train on them.

    The recordings are data.noisy and data.clean, or data.pairs, or data.clean alone: then noise is
    added to the features in training.
    """
    require_training("features")
    from gan_denoise.config import load_config
    from gan_denoise.config.artifacts import SETTINGS
    from gan_denoise.data.feature_folder import FeatureFolder
    from gan_denoise.data.feature_writer import write_features

    with CountBar("recordings") as bar:
        made = write_features(load_config(config, settings or ()), out, bar)
    clips = FeatureFolder(out, made).clips
    counts = ", ".join(f"{len(clips[split])} {split}" for split in clips)
    print_line(f"{counts} clips in {out}; train with --config {out / SETTINGS}")


VERBS = (check, explore, corpus, rooms, mix, features)
