"""`gan-denoise`: parses, calls, prints; no logic.

Stdout is for results, stderr for logs and progress. Exit 0: all done; 1: some files failed; 2:
usage or nothing found. Modules are imported by the verbs that need them, so that help is quick.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Train an adversarial speech denoiser on your own recordings, measure it, and clean "
         "folders of audio.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
FAILED, USAGE, INTERRUPTED = 1, 2, 130


class Inversion(StrEnum):
    """How an estimated mel becomes a waveform."""

    gain = "gain"
    gain_phase = "gain+phase"
    griffinlim = "griffinlim"


Settings = Annotated[
    list[str] | None, typer.Argument(help="Settings: section.key=value.", show_default=False)
]
ConfigFile = Annotated[
    str, typer.Option("--config", "-c", help="YAML file, or the name of a shipped config.")
]
RunDir = Annotated[
    Path, typer.Option("--run", help="Run directory; a run that is there is resumed.")
]
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
    _require_training("demo")
    from gan_denoise import demo as demonstration

    demonstration.run(out, _console(), _console(stderr=True))


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
    report.render(_console())
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
    sample_rate: Annotated[int, typer.Option(help="Hz.")] = 16000,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
) -> None:
    """Write paired folders of speech + noise at given SNRs."""
    from gan_denoise.mixdown import write_pairs

    try:
        snrs = [float(value) for value in snr.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--snr {snr}: expected numbers such as -5,0,5") from None
    rows = write_pairs(speech, noise, out, sample_rate, snrs, count, seed, rir or (), seconds)
    hours = sum(row["seconds"] for row in rows) / 3600
    _console().print(f"{len(rows)} pairs, {hours:.2f} h, in {out}", highlight=False)


@app.command()
def pretrain(
    run: RunDir, settings: Settings = None, config: ConfigFile = "pretrain"
) -> None:
    """Train the autoencoder on pairs, or on speech + noise mixed on the fly."""
    _require_training("pretrain")
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
    """Fine-tune a pretrained autoencoder against the patch discriminator."""
    _require_training("finetune")
    from gan_denoise.checkpoint import finetune_config
    from gan_denoise.enhance import find_model

    source = init if init.is_dir() else find_model(str(init))
    _train(finetune_config(config, settings or (), source), run, "finetune", source)


@app.command()
def evaluate(
    noisy: Annotated[Path, typer.Option(help="Folder of noisy recordings.")],
    clean: Annotated[Path, typer.Option(help="Folder of their clean versions.")],
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", help="Model folder or shipped model; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for scores.csv, scores.json and waveforms.")
    ] = None,
    inversion: InversionName = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Scoring processes.")] = 2,
) -> None:
    """Measure models on paired recordings, beside the noisy input and the oracle."""
    from gan_denoise.enhance import DEFAULT_MODEL, Enhancer
    from gan_denoise.evaluate import evaluate as measure
    from gan_denoise.evaluate import render
    from gan_denoise.pairs import match_folders

    pairs = match_folders(noisy, clean)
    loaded = [Enhancer.load(name) for name in model or [DEFAULT_MODEL]]
    if inversion is not None:
        loaded = [enhancer.with_inversion(inversion.value) for enhancer in loaded]
    models = {enhancer.name: enhancer for enhancer in loaded}
    if len(models) < len(loaded):
        raise typer.BadParameter("two models of one name: copy one to a folder of another name")
    with _bar("files") as bar:
        evaluation = measure(pairs, models, jobs=jobs, out=out, progress=bar)
    render(evaluation, _console())
    if out is not None:
        _console(stderr=True).print(f"scores and waveforms in {out}", highlight=False)


@app.command()
def denoise(
    inputs: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the cleaned files.")],
    model: ModelName = None,
    inversion: InversionName = None,
    recursive: Annotated[bool, typer.Option(help="Look into sub-folders.")] = True,
    threads: Annotated[int, typer.Option(min=0, help="Of the network; 0: all cores.")] = 0,
) -> None:
    """Clean recordings: any rate, any channels; same length, level and format.

    The output folder mirrors the tree of each input folder. A file that fails is named, and the
    rest goes on.
    """
    from gan_denoise.enhance import DEFAULT_MODEL, Enhancer

    enhancer = Enhancer.load(model or DEFAULT_MODEL, threads)
    if inversion is not None:
        enhancer = enhancer.with_inversion(inversion.value)
    errors = _console(stderr=True)
    with _bar("files") as bar:

        def progress(result: Any, done: int, total: int) -> None:
            bar(done, total)
            if result.error is not None:
                errors.print(f"failed: {result.error}", highlight=False, soft_wrap=True)
            elif result.clipped:
                errors.print(f"{result.target}: {result.clipped} samples clipped",
                             highlight=False, soft_wrap=True)

        results = enhancer.enhance_folder(inputs, out, recursive, progress)
    failed = sum(result.error is not None for result in results)
    seconds = sum(result.seconds for result in results)
    elapsed = sum(result.elapsed for result in results)
    speed = f" at {seconds / elapsed:.0f} x real time" if elapsed else ""
    _console().print(
        f"{len(results) - failed} files, {seconds / 60:.1f} min of audio{speed}, in {out}"
        + (f"; {failed} failed" if failed else ""), highlight=False, soft_wrap=True,
    )
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Training run.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Model folder to write.")],
    notes: Annotated[
        Path | None, typer.Option(help="YAML for the model card: data, licences, scores.")
    ] = None,
) -> None:
    """Write the best state of a run as a model folder (ONNX + settings + card)."""
    _require_training("export")
    import yaml

    from gan_denoise.export import export as write

    entries = yaml.safe_load(notes.read_text(encoding="utf-8")) if notes is not None else None
    card = write(run, out, entries)
    _console().print(
        f"{out}: {card['parameters']:,} parameters, ONNX equals Keras to "
        f"{card['onnx_parity_mel01']:.1e} of mel01", highlight=False, soft_wrap=True,
    )


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
    except Exception as error:
        if not (isinstance(error, OSError) or type(error).__module__.startswith("gan_denoise.")):
            raise  # a fault of the program: its traceback is worth more than a line
        typer.echo(f"error: {error}", err=True)
        sys.exit(USAGE)


def _train(config: Any, run: Path, kind: str, init: Path | None) -> None:
    from gan_denoise.run import train

    errors = _console(stderr=True)
    errors.print(f"TensorBoard: tensorboard --logdir {run}", highlight=False, soft_wrap=True)
    result = train(config, run, kind, init, errors)
    best = " · ".join(f"{name} {value:.4g}" for name, value in result.best.items())
    _console().print(
        f"{run}: {result.step} steps, {result.audio_speed:.0f} audio seconds a second, "
        f"{result.wait_share:.1%} of the time waiting for data\nbest validation: {best}",
        highlight=False, soft_wrap=True,
    )


def _require_training(verb: str) -> None:
    needed = ("tensorflow", "librosa", "sklearn", "tensorboard", "onnx", "tf2onnx", "matplotlib")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        typer.echo(
            f"error: {verb} needs {', '.join(missing)}: pip install 'gan-denoise[train]', or "
            "'gan-denoise[train-gpu]' on Linux with an NVIDIA GPU", err=True,
        )
        raise typer.Exit(USAGE)


def _console(stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)


class _bar:
    """A bar on stderr; call it with (done, total)."""

    def __init__(self, unit: str):
        from rich import progress

        console = _console(stderr=True)
        self._progress = progress.Progress(
            progress.BarColumn(bar_width=30), progress.MofNCompleteColumn(),
            progress.TextColumn(unit), progress.TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(unit, total=None)

    def __enter__(self) -> _bar:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def __call__(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)


if __name__ == "__main__":
    main()
