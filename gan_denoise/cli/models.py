"""Verbs about a model folder: export, info, bench."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gan_denoise.cli.console import console, print_line, print_text
from gan_denoise.cli.options import (
    SHIPPED_MODELS,
    InversionName,
    JsonFile,
    ModelName,
    Settings,
    UsageError,
    load_enhancer,
    require_training,
    require_utf8,
    run_or_model,
)

if TYPE_CHECKING:
    from rich.console import Console

STAGES = {"network": "network", "transforms": "STFT, mel, gain, inverse",
          "file": "reading and writing WAV", "whole": "file to file"}


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
    average: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN[=SHARE]",
                     help="Another run or model of the same pretraining, such as the one that "
                          "fine-tuning began with: the mean of the weights, in which it has that "
                          "share (as much as each, if not given); may be repeated.",
                     show_default=False),
    ] = None,
) -> None:
    """Write the best state of a run as a model folder (ONNX, card)."""
    require_training("export")
    require_utf8(out)
    from gan_denoise.core.native_libraries import load_tensorflow

    load_tensorflow()
    import yaml

    from gan_denoise.exporting.exporter import export as write

    entries = yaml.safe_load(notes.read_text(encoding="utf-8")) if notes is not None else None
    card = write(run, out, entries, formats or (), _shares(average or []))
    parity = ", ".join(f"{name.removesuffix('_parity_mel01')} to {value:.1e}"
                       for name, value in card.items() if name.endswith("_parity_mel01"))
    print_line(f"{out}: {card['parameters']:,} parameters; equals Keras in mel01: {parity}")


def _shares(given: Sequence[str]) -> dict[Path, float]:
    """Return the runs or models of `--average` and their shares."""
    shares: dict[Path, float] = {}
    for text in given:
        name, equals, share = text.rpartition("=")
        if equals and not Path(text).exists():
            try:
                shares[run_or_model(Path(name))] = float(share)
            except ValueError:
                raise UsageError(f"--average {text}: '{share}' is no number") from None
        else:
            shares[run_or_model(Path(text))] = 1 / (len(given) + 1)
    if len(shares) < len(given):
        raise UsageError(f"--average {' '.join(given)}: one is given twice")
    return shares


def info(
    model: Annotated[
        str | None, typer.Argument(help=f"Model folder, or a shipped model: {SHIPPED_MODELS}.")
    ] = None,
) -> None:
    """Show a model's card: data, licences, scores, limits."""
    from gan_denoise.config.artifacts import CARD_TEXT
    from gan_denoise.inference.model import DEFAULT_MODEL, ModelError, find_model
    from gan_denoise.inference.model_limits import read_part

    folder = find_model(model or DEFAULT_MODEL)
    if not (folder / CARD_TEXT).is_file():
        raise ModelError(f"{folder}: has no {CARD_TEXT}", "export it again")
    print_text(read_part(folder, CARD_TEXT).decode("utf-8", "replace"))


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
    json_file: JsonFile = None,
) -> None:
    """Measure speed, memory and start-up on this machine."""
    if training is not None:
        figures = _bench_training(training, settings or [])
    else:
        from gan_denoise.inference.benchmark import measure

        if settings:
            raise UsageError("key=value settings go with --training CONFIG")
        figures = measure(load_enhancer(model, inversion, threads), seconds)
        print_benchmark(figures, console())
    if json_file is not None:
        from gan_denoise.core.atomic_files import write_atomically

        content = json.dumps(figures, indent=1).encode()
        write_atomically(json_file, lambda file: file.write(content))


def _bench_training(config: str, settings: list[str]) -> Mapping[str, Any]:
    """Time training steps; print and return the figures."""
    require_training("bench --training")
    from gan_denoise.core.native_libraries import load_tensorflow

    load_tensorflow()
    from gan_denoise.cli.training_output import render_step_benchmark
    from gan_denoise.config import load_config
    from gan_denoise.training.step_benchmark import measure_training

    figures = measure_training(load_config(config, settings))
    render_step_benchmark(figures, console())
    return figures


def print_benchmark(figures: Mapping[str, Any], console: Console) -> None:
    """Print the figures of `inference.benchmark.measure`."""
    from rich.table import Table

    from gan_denoise.inference.benchmark import LONG_CHANNELS, LONG_RATE

    machine = figures["machine"]
    console.print(f"{figures['model']}, {figures['inversion']}, {figures['threads']} thread(s), "
                  f"on {machine['processor']}, {machine['cores']} cores", highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("x real time", justify="right")
    for name, label in STAGES.items():
        table.add_row(label, f"{figures['speed'][name]:,.0f}")
    console.print(table)
    memory = figures["memory_mib"]
    console.print(
        f"start to end of `denoise` on a 4 s file: {figures['start_seconds']:.2f} s"
        + (f"\npeak memory on {LONG_CHANNELS} channels at {LONG_RATE / 1000:g} kHz: {memory} MiB"
           if memory else ""), highlight=False,
    )


VERBS = (export, info, bench)
