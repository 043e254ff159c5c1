"""`gan-denoise`: parses, calls, prints; no logic.

Stdout is for results, stderr for logs and progress. Exit 0: all done; 1: some files failed, or what
was to be printed could not be; 2: usage or nothing found. Modules are imported by the verbs that
need them, so that help is quick.
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from gan_denoise.cli import studies
from gan_denoise.cli.console import FileBar, console, say
from gan_denoise.cli.denoise import denoise
from gan_denoise.cli.options import (
    FAILED,
    USAGE,
    ConfigFile,
    InversionName,
    ModelName,
    RunDir,
    Settings,
    refused,
    require_training,
    require_utf8,
)
from gan_denoise.config.artifacts import CARD_TEXT
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.native_libraries import load_tensorflow
from gan_denoise.core.standard_streams import OUTPUT, TolerantStream, reason, tolerant_streams
from gan_denoise.core.text import escape_text
from gan_denoise.core.user_folders import settle_libraries

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train an adversarial speech denoiser on your own recordings, measure it, and clean "
         "folders of audio.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130


@app.command()
def demo(
    settings: Settings = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo-out"
    ),
) -> None:
    """Make voices and noises, pretrain, fine-tune, evaluate, denoise, report. Minutes."""
    require_training("demo")
    require_utf8(out)
    load_tensorflow()
    from gan_denoise.recipes import demo as demonstration

    demonstration.run(out, console(), console(stderr=True), settings or ())


@app.command()
def check(
    data: Annotated[list[Path], typer.Argument(help="Folders of audio or pairs, or manifests.")],
    deep: Annotated[bool, typer.Option(help="Look at every sample of every file.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the findings here too.")
    ] = None,
) -> None:
    """Examine recordings before training: pairs, rates, clipping, silence, leaks, hours."""
    from gan_denoise.core.atomic_files import write_atomically
    from gan_denoise.inspection.dataset_check import check_datasets

    report = check_datasets(data, deep=deep)
    report.render(console())
    if json_file is not None:
        content = report.to_json().encode("utf-8", "backslashreplace")
        write_atomically(json_file, lambda file: file.write(content))
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
    from gan_denoise.data.mixture_writer import write_pairs

    try:
        snrs = [float(value) for value in snr.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--snr {snr}: expected numbers such as -5,0,5") from None
    rows = write_pairs(speech, noise, out, sample_rate, snrs, count, seed, rir or (), seconds,
                       data=None if recipe is None else load_config(recipe).data,
                       notice=lambda note: say(note, stderr=True))
    hours = sum(row["seconds"] for row in rows) / 3600
    say(f"{len(rows)} pairs, {hours:.2f} h, in {out}")


@app.command()
def pretrain(
    run: RunDir, settings: Settings = None, config: ConfigFile = "pretrain"
) -> None:
    """Train the autoencoder on pairs, or on speech + noise mixed on the fly."""
    require_training("pretrain")
    require_utf8(run)
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
    require_utf8(run)
    from gan_denoise.config.saved import finetune_config
    from gan_denoise.inference.enhancer import find_model

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
    from gan_denoise.data.pairs import match_folders
    from gan_denoise.evaluation.evaluate_waveforms import evaluate as measure
    from gan_denoise.evaluation.results import save
    from gan_denoise.evaluation.table import render
    from gan_denoise.inference.enhancer import DEFAULT_MODEL, Enhancer

    if (features is None) == (noisy is None) or (noisy is None) != (clean is None):
        raise refused("give --noisy and --clean, or --features")
    if features is not None and inversion is not None:
        raise refused("--inversion makes waveforms, of which --features has none; leave it out")
    pairs = match_folders(noisy, clean) if features is None else []
    loaded = [Enhancer.load(name) for name in model or [DEFAULT_MODEL]]
    if inversion is not None:
        loaded = [enhancer.with_inversion(inversion.value) for enhancer in loaded]
    models = {enhancer.name: enhancer for enhancer in loaded}
    if len(models) < len(loaded):
        raise typer.BadParameter("two models of one name: copy one to a folder of another name")
    if features is not None:
        from gan_denoise.data.feature_folder import FeatureFolder
        from gan_denoise.evaluation.evaluate_features import evaluate_features, stored_examples

        folder = FeatureFolder(features, loaded[0].config)
        evaluation = evaluate_features(stored_examples(folder), models)
        if out is not None:
            save(evaluation, out)
    else:
        with FileBar("files") as bar:
            evaluation = measure(pairs, models, trivial=trivial, jobs=jobs, out=out, progress=bar)
    render(evaluation, console())
    if out is not None:
        say(f"scores{'' if features else ' and waveforms'} in {out}", stderr=True)
    if evaluation.refused_pairs:
        raise typer.Exit(FAILED)


app.command()(denoise)


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
    require_utf8(out)
    load_tensorflow()
    import yaml

    from gan_denoise.exporting.exporter import export as write

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
        load_tensorflow()
        from gan_denoise.config import load_config
        from gan_denoise.training.step_benchmark import measure_training, render_training

        figures = measure_training(load_config(training, settings or ()))
        render_training(figures, console())
    else:
        from gan_denoise.inference.benchmark import measure, render
        from gan_denoise.inference.enhancer import DEFAULT_MODEL, Enhancer

        if settings:
            raise typer.BadParameter("key=value settings go with --training CONFIG")
        enhancer = Enhancer.load(model or DEFAULT_MODEL, threads)
        if inversion is not None:
            enhancer = enhancer.with_inversion(inversion.value)
        figures = measure(enhancer, seconds)
        render(figures, console())
    if json_file is not None:
        import json

        from gan_denoise.core.atomic_files import write_atomically

        content = json.dumps(figures, indent=1).encode()
        write_atomically(json_file, lambda file: file.write(content))


@app.command()
def info(
    model: Annotated[str | None, typer.Argument(help="Model folder or shipped model.")] = None,
) -> None:
    """Show a model's card: data, licences, scores, limits."""
    from gan_denoise.inference.enhancer import DEFAULT_MODEL, find_model

    folder = find_model(model or DEFAULT_MODEL)
    card = folder / CARD_TEXT
    if not card.is_file():
        raise FileNotFoundError(f"{folder}: has no {CARD_TEXT}; export it again")
    say(card.read_text(encoding="utf-8"))


studies.register(app)


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from gan_denoise import __version__

        say(__version__)
        raise typer.Exit()


def main(*arguments: str) -> None:
    """Run the command line; `arguments` come before those that the user gave."""
    with tolerant_streams() as output:
        code = _run([*arguments, *sys.argv[1:]], output)
        output.flush()
        if output.error is not None:
            code = code or FAILED
            if output.error.errno != errno.EPIPE:  # who read it has had enough
                say(f"error: standard output: {reason(output.error)}; what was done is kept, what "
                    "was to be printed is lost", stderr=True)
    sys.exit(code)


def _run(arguments: list[str], output: TolerantStream) -> int:
    """Run a verb; return its exit code."""
    settle_libraries()
    try:
        return app(args=arguments, standalone_mode=False) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else FAILED
    except BrokenPipeError:  # who read standard output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), OUTPUT)
        return FAILED
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "message"):  # of usage, from Typer
            error.message = escape_text(str(error.message))
            error.show()
            return getattr(error, "exit_code", USAGE)
        if not isinstance(error, (OSError, GanDenoiseError)):
            raise  # a fault of the program: its traceback is worth more than a line
        line = str(error)
        if isinstance(error, OSError) and error.filename is not None:  # of the system, not ours
            line = f"{error.filename}: {error.strerror}; check the path and its permissions"
        elif isinstance(error, OSError) and error.errno is not None:  # of no file: a stream
            output.flush()
            if output.error is None:  # else it is that one, and is said by `main`
                say(f"error: standard input or output: {reason(error)}", stderr=True)
            return FAILED
        say(f"error: {line}", stderr=True)
        return getattr(error, "exit_code", USAGE)


def _train(config: Any, run: Path, kind: str, init: Path | None) -> None:
    load_tensorflow()
    from gan_denoise.training.loop import train
    from gan_denoise.training.monitor import summary

    errors = console(stderr=True)
    errors.print(f"TensorBoard: tensorboard --logdir {run}", highlight=False, soft_wrap=True)
    result = train(config, run, kind, init, errors)
    starts = "".join(f"\ndead start, begun again with seed {row['seed']}: {row['reason']}"
                     for row in result.restarts)
    console().print(
        f"{run}: {result.step} steps, {result.audio_speed:.0f} audio seconds a second, "
        f"{result.wait_share:.1%} of the time waiting for data{starts}\n"
        f"best validation: {summary(result.best)}",
        highlight=False, soft_wrap=True,
    )
