"""The verb of `gan-denoise` that cleans recordings: `denoise`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.cli.denoise_output import AudioBar, intention, remarks, summary
from gan_denoise.cli.options import FAILED, InversionName, ModelName, refused
from gan_denoise.core.text import escape_line


class Preset(StrEnum):
    """Names of `treatment.PRESETS`."""

    asr = "asr"
    podcast = "podcast"
    archive = "archive"


class Channels(StrEnum):
    """What becomes of several channels."""

    keep = "keep"
    mono = "mono"
    link = "link"


class Format(StrEnum):
    """Container of the outputs."""

    keep = "keep"
    wav = "wav"
    flac = "flac"
    mp3 = "mp3"
    opus = "opus"
    m4a = "m4a"
    ogg = "ogg"


def denoise(
    inputs: Annotated[
        list[Path], typer.Argument(help="Files and folders; - for WAV on standard input.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", "--output-dir", "--out-dir",
                           help="Folder for the cleaned files; for one file also the name of the "
                                "new one (clean.wav); - for standard output.")
    ],
    model: ModelName = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Settings for a purpose: asr, light, before a recogniser; podcast, "
                          "all noise but some room; archive, careful. Options given beside it "
                          "win.", show_default=False),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="How much of the noise goes, 1: all.",
                     show_default=False),
    ] = None,
    atten_lim: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Cut no band by more than this.", show_default=False),
    ] = None,
    channels: Annotated[
        Channels | None,
        typer.Option(help="keep (the default) cleans each by itself; link gives all one gain, so "
                          "that the stereo image stays; mono writes their mean.",
                     show_default=False),
    ] = None,
    format: Annotated[
        Format | None,
        typer.Option(help="Container of the outputs; keep (the default): that of each input.",
                     show_default=False),
    ] = None,
    bit_rate: Annotated[
        str | None,
        typer.Option(metavar="KBIT", show_default=False,
                     help="Of lossy outputs, kbit/s (128 or 128k); by itself about that of the "
                          "input."),
    ] = None,
    preserve_times: Annotated[
        bool, typer.Option("--preserve-times", help="Keep the files' times of modification.")
    ] = False,
    peak_guard: Annotated[
        bool | None,
        typer.Option("--peak-guard/--no-peak-guard", show_default=False,
                     help="Turn down, as a whole, a file that would clip."),
    ] = None,
    inversion: InversionName = None,
    residual: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for what was removed.", show_default=False),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Look into sub-folders.")] = True,
    skip_existing: Annotated[
        bool,
        typer.Option("--skip-existing/--overwrite",
                     help="Skip what an earlier run did from the same input, model and settings; "
                          "or do everything again, and replace any file in the way."),
    ] = True,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", metavar="N", min=0, show_default=False,
                     help="Processes; 0 (the default): one per thread where there is enough to "
                          "do."),
    ] = 0,
    threads: Annotated[
        int,
        typer.Option(metavar="N", min=0, show_default=False,
                     help="Of all processes together; 0 (the default): one per core."),
    ] = 0,
    chunk_seconds: Annotated[
        float | None,
        typer.Option(metavar="S", min=1, show_default=False,
                     help="Audio of a file that is under way at once, about (45); more keeps more "
                          "threads busy and takes more memory."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", show_default=False,
                     help="Do the I-th of N shares, counted from 1: machines share the work."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a row a file: .json or .csv.",
                     show_default=False),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End with the first file that fails.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be done.")
    ] = False,
) -> None:
    """Clean recordings: any rate, any channels; same length, level and format.

    The output folder mirrors the tree of each input folder. A file that fails is named, and the
    rest goes on; one that is cut off is cleaned as far as it goes, named, and ends the run with
    exit 1. The same command resumes a run that was stopped.
    """
    from pydantic import ValidationError

    from gan_denoise.inference import folder, folder_report
    from gan_denoise.inference.enhancer import CHUNK_SECONDS, DEFAULT_MODEL, Enhancer
    from gan_denoise.inference.options import Treatment

    share = _share(shard)
    if dry_run and report is not None:
        raise refused("--dry-run writes nothing, also no --report")
    if report is not None:
        folder_report.check_report(report)
    try:
        treatment = Treatment.preset(
            preset, strength=strength, atten_lim_db=atten_lim, peak_guard=peak_guard,
            channels=channels.value if channels else None, format=format.value if format else None,
            bit_rate=_kilobits(bit_rate), preserve_times=preserve_times or None,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]).removesuffix("_db").replace("_", "-")
        raise refused(f"--{name} {fault['input']}: {fault['msg']}") from None
    piped = [str(item) == "-" for item in (*inputs, out)]
    if any(piped) and (len(piped) > 2 or not all(piped)):
        raise refused("- reads one WAV stream from standard input and writes one to standard "
                       "output: denoise - -o -")
    if any(piped) and (residual or report or dry_run or share or treatment.peak_guard
                       or treatment.format != "keep" or treatment.bit_rate or preserve_times):
        raise refused("a stream takes no --residual, --report, --dry-run, --shard, --format, "
                      "--bit-rate, --preserve-times and no --peak-guard, which needs a second pass")
    enhancer = Enhancer.load(model or DEFAULT_MODEL, threads, chunk_seconds or CHUNK_SECONDS)
    if inversion is not None:
        enhancer = enhancer.with_inversion(inversion.value)
    enhancer = enhancer.with_treatment(treatment)
    if any(piped):
        from gan_denoise.inference.pipe import enhance_pipe

        done = enhance_pipe(enhancer, sys.stdin.buffer, sys.stdout.buffer)
        for line in done.notices:
            typer.echo(line, err=True)
        if done.cut_off:
            raise typer.Exit(FAILED)
        return
    with AudioBar(quiet=dry_run) as bar:
        try:
            results = enhancer.enhance_folder(
                inputs, out, recursive, overwrite=not skip_existing, jobs=jobs, residual=residual,
                fail_fast=fail_fast, dry_run=dry_run, shard=share, progress=bar,
            )
        except folder.Interrupted as stopped:
            if report is not None:
                folder_report.write_report(stopped.results, report)
            bar.say(f"stopped after {len(stopped.results)} files; the same command goes on")
            raise
    if report is not None:
        folder_report.write_report(results, report)
    for result in results if dry_run else ():
        typer.echo(escape_line(intention(result)))
    for line in (*remarks(results, bar.passed_over), summary(results, bar.speed, out)):
        typer.echo(escape_line(line))
    if any(result.status == "failed" or result.cut_off for result in results):
        raise typer.Exit(FAILED)


def _kilobits(text: str | None) -> int | None:
    if text is None:
        return None
    number = text.lower().removesuffix("bit/s").removesuffix("bps").removesuffix("k")
    if not number.isdecimal():
        raise refused(f"--bit-rate {text}: expected kbit/s, for instance 128")
    return int(number)


def _share(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise refused(f"--shard {shard}: expected I/N, for instance 1/4 to 4/4")
    return int(number), int(count)
