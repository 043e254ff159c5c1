"""The verb `denoise`: files, folders and pipes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gan_denoise.cli.console import print_line
from gan_denoise.cli.denoise_output import AudioBar, describe_losses, describe_plan, summarise
from gan_denoise.cli.denoise_reports import check_reports, write_reports
from gan_denoise.cli.options import (
    FAILED,
    AttenuationLimit,
    BitRate,
    ChannelMode,
    ChunkSeconds,
    DenoisedOut,
    DryRun,
    FailFast,
    Inputs,
    InversionName,
    Jobs,
    ModelName,
    OutputFormat,
    PeakGuard,
    PreserveTimes,
    PresetName,
    RayAddress,
    Recursive,
    ReportFiles,
    ResidualFolder,
    Shard,
    SkipExisting,
    Strength,
    Threads,
    UsageError,
    Workers,
    load_enhancer,
    require,
)
from gan_denoise.core.locations import location

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer
    from gan_denoise.inference.folder import FolderOptions
    from gan_denoise.inference.options import DenoiseOptions
    from gan_denoise.inference.ray_actors import Actors


def denoise(
    inputs: Inputs,
    out: DenoisedOut,
    model: ModelName = None,
    preset: PresetName = None,
    strength: Strength = None,
    atten_lim: AttenuationLimit = None,
    channels: ChannelMode = None,
    format: OutputFormat = None,
    bit_rate: BitRate = None,
    preserve_times: PreserveTimes = False,
    peak_guard: PeakGuard = None,
    inversion: InversionName = None,
    residual: ResidualFolder = None,
    recursive: Recursive = True,
    skip_existing: SkipExisting = True,
    jobs: Jobs = 0,
    threads: Threads = 0,
    chunk_seconds: ChunkSeconds = None,
    shard: Shard = None,
    ray: RayAddress = None,
    workers: Workers = 0,
    report: ReportFiles = None,
    fail_fast: FailFast = False,
    dry_run: DryRun = False,
) -> None:
    """Denoise recordings; rate, channels, length, level and format stay.

    The output folder mirrors the tree of each input folder. A file that fails is named, and the
    rest goes on; one that is cut off is denoised as far as it goes, named, and ends the run with
    exit 1. The same command resumes a run that was stopped.
    """
    # Typer makes paths of addresses.
    inputs, out, reports = [*map(location, inputs)], location(out), [*map(location, report or ())]
    share = _parse_shard(shard)
    _check_cluster(ray, workers, jobs or threads)
    check_reports(reports, dry_run)
    options = _options(
        preset, strength=strength, atten_lim_db=atten_lim, peak_guard=peak_guard,
        channels=channels, format=format, bit_rate=_parse_bit_rate(bit_rate),
        preserve_times=preserve_times or None,
    )
    piped = "-" in map(str, (*inputs, out))
    if piped:
        _check_pipe(inputs, out, options, residual or reports or dry_run or share or ray)
    with _actors(None if dry_run else ray, workers) as actors:
        enhancer = load_enhancer(model, inversion, threads, chunk_seconds).with_options(options)
        if piped:
            _denoise_pipe(enhancer)
            return
        from gan_denoise.inference.folder import FolderOptions

        how = FolderOptions(recursive, overwrite=not skip_existing, jobs=workers or jobs,
                            residual=residual, fail_fast=fail_fast, dry_run=dry_run, shard=share,
                            ray=actors)
        _denoise_files(enhancer, inputs, out, how, reports)


VERBS = (denoise,)


# ---- Options -----------------------------------------------------------------------------------
def _options(preset: str | None, **given: Any) -> DenoiseOptions:
    """Return a preset's options; those given that are not None replace them."""
    from pydantic import ValidationError

    from gan_denoise.inference.options import DenoiseOptions

    try:
        return DenoiseOptions.preset(preset, **given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).removesuffix("_db").replace("_", "-")
        raise UsageError(f"--{name} {first['input']}: {first['msg']}") from None


def _parse_bit_rate(text: str | None) -> int | None:
    """Return `128`, `128k` or `128kbit/s` as kbit/s."""
    if text is None:
        return None
    number = text.lower().removesuffix("bit/s").removesuffix("bps").removesuffix("k")
    if not number.isdecimal():
        raise UsageError(f"--bit-rate {text}: expected kbit/s, for instance 128")
    return int(number)


def _parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return `I/N` as (I, N)."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise UsageError(f"--shard {text}: expected I/N, for instance 1/4 to 4/4")
    return int(number), int(count)


def _check_cluster(ray: str | None, workers: int, local: int) -> None:
    """Refuse options that need a cluster or have none; `local`: one of this machine's."""
    if ray is None and workers:
        raise UsageError("--workers are those of --ray; on this machine --jobs says how many")
    if ray is not None:
        if local:
            raise UsageError("--jobs and --threads are this machine's; with --ray it is --workers, "
                             "of one thread each")
        require("denoise --ray", "ray", extra="cluster")


def _actors(ray: str | None, workers: int) -> AbstractContextManager[Actors | None]:
    """Ask for actors of a cluster, if there is one: they begin while the model is loaded here."""
    if ray is None:
        return nullcontext()
    from gan_denoise.inference.ray_actors import actors_on

    return actors_on(ray, workers)


def _check_pipe(
    inputs: Sequence[Path], out: Path, options: DenoiseOptions, files_only: Any
) -> None:
    """Refuse what standard input and output cannot have; `files_only`: an option of files."""
    if [*map(str, inputs), str(out)] != ["-", "-"]:
        raise UsageError("- reads one WAV stream from standard input and writes one to standard "
                         "output: denoise - -o -")
    if (files_only or options.peak_guard or options.format != "keep" or options.bit_rate
            or options.preserve_times):
        raise UsageError("a stream takes no --residual, --report, --dry-run, --shard, --ray, "
                         "--format, --bit-rate, --preserve-times and no --peak-guard, which needs "
                         "a second pass")


# ---- Work --------------------------------------------------------------------------------------
def _denoise_pipe(enhancer: Enhancer) -> None:
    from gan_denoise.inference.pipe import enhance_pipe

    done = enhance_pipe(enhancer, sys.stdin.buffer, sys.stdout.buffer)
    for line in done.notices:
        print_line(line, stderr=True)
    if done.cut_off:
        raise typer.Exit(FAILED)


def _denoise_files(
    enhancer: Enhancer, inputs: Sequence[Path], out: Path, how: FolderOptions,
    reports: Sequence[Path],
) -> None:
    """Denoise files and folders, print what came of them, and write the reports."""
    from gan_denoise.inference.folder import Interrupted, enhance_folder

    with AudioBar(quiet=how.dry_run) as bar:
        try:
            results = enhance_folder(enhancer, inputs, out, how, bar)
        except Interrupted as stopped:
            write_reports(stopped.results, reports, enhancer, out, bar, stopped=True)
            bar.print_line(f"stopped after {len(stopped.results)} files; the same command goes on")
            raise
    write_reports(results, reports, enhancer, out, bar)
    for result in results if how.dry_run else ():
        print_line(describe_plan(result))
    for line in describe_losses(results, bar.passed_over):
        print_line(line)
    for path in reports:
        print_line(f"report: {path}")
    print_line(summarise(results, bar.speed, out))
    if any(result.status == "failed" or result.cut_off for result in results):
        raise typer.Exit(FAILED)
