"""`gan-denoise`: parses, calls, prints; no logic.

Stdout is for results, stderr for logs and progress. Exit 0: all done; 1: some files failed; 2:
usage or nothing found. Modules are imported by the verbs that need them, so that help is quick.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from gan_denoise import studies
from gan_denoise.options import FAILED, USAGE, ConfigFile, RunDir, Settings, require_training
from gan_denoise.terminal import AudioBar, FileBar, console, intention, shown, summary

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train an adversarial speech denoiser on your own recordings, measure it, and clean "
         "folders of audio.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130


class Inversion(StrEnum):
    """How an estimated mel becomes a waveform."""

    gain = "gain"
    gain_phase = "gain+phase"
    griffinlim = "griffinlim"


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


ModelName = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Model folder or shipped model.", show_default=False),
]
InversionName = Annotated[
    Inversion | None,
    typer.Option(help="From mel to waveform; the model's own if not given.", show_default=False),
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo-out"
    ),
) -> None:
    """Make voices and noises, pretrain, fine-tune, evaluate, denoise, report. Minutes."""
    require_training("demo")
    from gan_denoise import demo as demonstration

    demonstration.run(out, console(), console(stderr=True))


@app.command()
def check(
    data: Annotated[list[Path], typer.Argument(help="Folders of audio or pairs, or manifests.")],
    deep: Annotated[bool, typer.Option(help="Look at every sample of every file.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings here too.")
    ] = None,
) -> None:
    """Examine recordings before training: pairs, rates, clipping, silence, leaks, hours."""
    from gan_denoise.check import examine
    from gan_denoise.checkpoint import write_atomically

    report = examine(data, deep=deep)
    report.render(console())
    if json_file is not None:
        write_atomically(json_file, lambda file: file.write(report.to_json().encode()))
    if report.count("error"):
        raise typer.Exit(FAILED)


@app.command()
def mix(
    speech: Annotated[list[Path], typer.Option(help="Folder of clean speech.")],
    noise: Annotated[list[Path], typer.Option(help="Folder of noise.")],
    out: Annotated[Path, typer.Option(help="Folder for noisy/, clean/ and manifest.json.")],
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
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
) -> None:
    """Write paired folders of speech + noise at given SNRs."""
    from gan_denoise.config import load_config
    from gan_denoise.mixdown import write_pairs

    try:
        snrs = [float(value) for value in snr.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--snr {snr}: expected numbers such as -5,0,5") from None
    rows = write_pairs(speech, noise, out, sample_rate, snrs, count, seed, rir or (), seconds,
                       data=None if recipe is None else load_config(recipe).data)
    hours = sum(row["seconds"] for row in rows) / 3600
    typer.echo(shown(f"{len(rows)} pairs, {hours:.2f} h, in {out}"))


@app.command()
def pretrain(
    run: RunDir, settings: Settings = None, config: ConfigFile = "pretrain"
) -> None:
    """Train the autoencoder on pairs, or on speech + noise mixed on the fly."""
    require_training("pretrain")
    from gan_denoise.config import load_config

    _train(load_config(config, settings or ()), run, "pretrain", None)


@app.command()
def finetune(
    run: RunDir,
    init: Annotated[
        Path, typer.Option(help="Pretrained run, or model folder (or shipped name) to start from.")
    ],
    settings: Settings = None,
    config: ConfigFile = "finetune",
) -> None:
    """Fine-tune a pretrained autoencoder against a discriminator."""
    require_training("finetune")
    from gan_denoise.checkpoint import finetune_config
    from gan_denoise.enhance import find_model

    source = init if init.is_dir() else find_model(str(init))
    _train(finetune_config(config, settings or (), source), run, "finetune", source)


@app.command()
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
        Path | None, typer.Option(help="Folder for scores.csv, scores.json and waveforms.")
    ] = None,
    inversion: InversionName = None,
    trivial: Annotated[
        bool, typer.Option("--trivial", help="Score silence and the best constant gain too.")
    ] = False,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Scoring processes.")] = 2,
) -> None:
    """Measure models on paired recordings, beside the noisy input and the oracle."""
    from gan_denoise.enhance import DEFAULT_MODEL, Enhancer
    from gan_denoise.evaluate import evaluate as measure
    from gan_denoise.evaluate import render, save
    from gan_denoise.pairs import match_folders

    if (features is None) == (noisy is None) or (noisy is None) != (clean is None):
        raise _refused("give --noisy and --clean, or --features")
    pairs = match_folders(noisy, clean) if features is None else []
    loaded = [Enhancer.load(name) for name in model or [DEFAULT_MODEL]]
    if inversion is not None:
        loaded = [enhancer.with_inversion(inversion.value) for enhancer in loaded]
    models = {enhancer.name: enhancer for enhancer in loaded}
    if len(models) < len(loaded):
        raise typer.BadParameter("two models of one name: copy one to a folder of another name")
    if features is not None:
        from gan_denoise.feature_scores import evaluate_features, stored_examples
        from gan_denoise.features import FeatureFolder

        folder = FeatureFolder(features, loaded[0].config)
        evaluation = evaluate_features(stored_examples(folder), models)
        if out is not None:
            save(evaluation, out)
    else:
        with FileBar("files") as bar:
            evaluation = measure(pairs, models, trivial=trivial, jobs=jobs, out=out, progress=bar)
    render(evaluation, console())
    if out is not None:
        typer.echo(shown(f"scores{'' if features else ' and waveforms'} in {out}"), err=True)


@app.command()
def denoise(
    inputs: Annotated[
        list[Path], typer.Argument(help="Files and folders; - for WAV on standard input.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", "--output-dir", "--out-dir",
                           help="Folder for the cleaned files; - for standard output.")
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
    rest goes on. The same command resumes a run that was stopped.
    """
    from pydantic import ValidationError

    from gan_denoise import folder
    from gan_denoise.enhance import CHUNK_SECONDS, DEFAULT_MODEL, Enhancer
    from gan_denoise.treatment import Treatment

    share = _share(shard)
    if dry_run and report is not None:
        raise _refused("--dry-run writes nothing, also no --report")
    if report is not None:
        folder.check_report(report)
    try:
        treatment = Treatment.preset(
            preset, strength=strength, atten_lim_db=atten_lim, peak_guard=peak_guard,
            channels=channels.value if channels else None, format=format.value if format else None,
        )
    except ValidationError as error:
        fault = error.errors()[0]
        name = str(fault["loc"][0]).removesuffix("_db").replace("_", "-")
        raise _refused(f"--{name} {fault['input']}: {fault['msg']}") from None
    piped = [str(item) == "-" for item in (*inputs, out)]
    if any(piped) and (len(piped) > 2 or not all(piped)):
        raise _refused("- reads one WAV stream from standard input and writes one to standard "
                       "output: denoise - -o -")
    if any(piped) and (residual or report or dry_run or share or treatment.peak_guard
                       or treatment.format != "keep"):
        raise _refused("a stream takes no --residual, --report, --dry-run, --shard, --format and "
                       "no --peak-guard, which needs a second pass")
    enhancer = Enhancer.load(model or DEFAULT_MODEL, threads, chunk_seconds or CHUNK_SECONDS)
    if inversion is not None:
        enhancer = enhancer.with_inversion(inversion.value)
    enhancer = enhancer.with_treatment(treatment)
    if any(piped):
        from gan_denoise.pipe import enhance_pipe

        clipped = enhance_pipe(enhancer, sys.stdin.buffer, sys.stdout.buffer)
        if clipped:
            typer.echo(f"{clipped} samples clipped", err=True)
        return
    with AudioBar(quiet=dry_run) as bar:
        try:
            results = enhancer.enhance_folder(
                inputs, out, recursive, overwrite=not skip_existing, jobs=jobs, residual=residual,
                fail_fast=fail_fast, dry_run=dry_run, shard=share, progress=bar,
            )
        except folder.Interrupted as stopped:
            if report is not None:
                folder.write_report(stopped.results, report)
            bar.say(f"stopped after {len(stopped.results)} files; the same command goes on")
            raise
    if report is not None:
        folder.write_report(results, report)
    for result in results if dry_run else ():
        typer.echo(shown(intention(result)))
    typer.echo(shown(summary(results, bar.speed, out)))
    if any(result.status == "failed" for result in results):
        raise typer.Exit(FAILED)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Training run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
    notes: Annotated[
        Path | None, typer.Option(help="YAML for the model card: data, licences, scores.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", help="Beside ONNX: litert or savedmodel; may be repeated.",
                     show_default=False),
    ] = None,
) -> None:
    """Write the best state of a run as a model folder (ONNX + settings + card)."""
    require_training("export")
    import yaml

    from gan_denoise.export import export as write

    entries = yaml.safe_load(notes.read_text(encoding="utf-8")) if notes is not None else None
    card = write(run, out, entries, formats or ())
    parity = ", ".join(f"{name.removesuffix('_parity_mel01')} to {value:.1e}"
                       for name, value in card.items() if name.endswith("_parity_mel01"))
    console().print(f"{out}: {card['parameters']:,} parameters; equals Keras in mel01: {parity}",
                    highlight=False, soft_wrap=True)


@app.command()
def bench(
    settings: Settings = None,
    model: ModelName = None,
    inversion: InversionName = None,
    threads: Annotated[int, typer.Option(min=0, help="0: one per core.")] = 1,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the recording.")] = 60.0,
    training: Annotated[
        str | None,
        typer.Option(help="Time a pretraining step of this config (and key=value) instead."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here too.")
    ] = None,
) -> None:
    """Measure speed, memory and start-up on this machine."""
    if training is not None:
        require_training("bench --training")
        from gan_denoise.config import load_config
        from gan_denoise.training_bench import measure_training, render_training

        figures = measure_training(load_config(training, settings or ()))
        render_training(figures, console())
    else:
        from gan_denoise.bench import measure, render
        from gan_denoise.enhance import DEFAULT_MODEL, Enhancer

        if settings:
            raise typer.BadParameter("key=value settings go with --training CONFIG")
        enhancer = Enhancer.load(model or DEFAULT_MODEL, threads)
        if inversion is not None:
            enhancer = enhancer.with_inversion(inversion.value)
        figures = measure(enhancer, seconds)
        render(figures, console())
    if json_file is not None:
        import json

        from gan_denoise.checkpoint import write_atomically

        content = json.dumps(figures, indent=1).encode()
        write_atomically(json_file, lambda file: file.write(content))


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="Model folder or shipped model.")] = None,
) -> None:
    """Show a model's card: data, licences, scores, limits."""
    from gan_denoise.enhance import DEFAULT_MODEL, find_model

    folder = find_model(model or DEFAULT_MODEL)
    card = folder / "model_card.md"
    if not card.is_file():
        raise FileNotFoundError(f"{folder}: has no model_card.md; export it again")
    typer.echo(card.read_text(encoding="utf-8"))


studies.register(app)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from gan_denoise import __version__

        typer.echo(__version__)
        raise typer.Exit()


def main(*arguments: str) -> None:
    """Run the command line; `arguments` come before those that the user gave."""
    # TensorFlow greets with several lines of C++ logs; errors are still shown.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    try:
        app(args=[*arguments, *sys.argv[1:]])
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # who read standard output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith("gan_denoise.")):
            raise  # a fault of the program: its traceback is worth more than a line
        typer.echo(f"error: {error}", err=True)
        sys.exit(USAGE)


def _share(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    number, _, count = shard.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise _refused(f"--shard {shard}: expected I/N, for instance 1/4 to 4/4")
    return int(number), int(count)


def _refused(message: str) -> typer.Exit:
    """Print one line of a usage error; raise what comes back."""
    typer.echo(f"error: {message}", err=True)
    return typer.Exit(USAGE)


def _train(config: Any, run: Path, kind: str, init: Path | None) -> None:
    from gan_denoise.run import train

    errors = console(stderr=True)
    errors.print(f"TensorBoard: tensorboard --logdir {run}", highlight=False, soft_wrap=True)
    result = train(config, run, kind, init, errors)
    best = " · ".join(f"{name} {value:.4g}" for name, value in result.best.items())
    console().print(
        f"{run}: {result.step} steps, {result.audio_speed:.0f} audio seconds a second, "
        f"{result.wait_share:.1%} of the time waiting for data\nbest validation: {best}",
        highlight=False, soft_wrap=True,
    )


if __name__ == "__main__":
    main()
