"""Verbs that go all the way from material to scores: demo, seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.cli.console import console
from gan_denoise.cli.options import Settings, require_training, require_utf8
from gan_denoise.core.native_libraries import load_tensorflow


def demo(
    settings: Settings = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for everything that the demo makes.")
    ] = Path("demo-out"),
) -> None:
    """Make voices, train on them, evaluate, denoise. Takes minutes."""
    require_training("demo")
    require_utf8(out)
    load_tensorflow()
    from gan_denoise.cli.training_output import TrainingDisplay, render_demo
    from gan_denoise.recipes.demo import run

    with TrainingDisplay(console(stderr=True)) as display:
        result = run(out, settings or (), progress=display.show)
    render_demo(result, console())
    result.require_improvement()


def seeds(
    system: Annotated[str, typer.Argument(help="spectrograms, audio-mnist, hybrid, ae-gan, stft.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for everything; what is there is kept.")
    ],
    settings: Settings = None,
    speech: Annotated[list[Path] | None, typer.Option(help="Speech to train on.")] = None,
    noise: Annotated[list[Path] | None, typer.Option(help="Noise to train on.")] = None,
    test_speech: Annotated[list[Path] | None, typer.Option(help="Other speakers.")] = None,
    test_noise: Annotated[list[Path] | None, typer.Option(help="Other noise.")] = None,
) -> None:
    """Reproduce a system that this project grew from, and score it."""
    require_training("seeds")
    require_utf8(out)
    load_tensorflow()
    from gan_denoise.cli.training_output import TrainingDisplay
    from gan_denoise.evaluation.table import score_tables
    from gan_denoise.recipes.source_systems import Recordings, reproduce

    recordings = Recordings(speech or (), noise or (), test_speech or (), test_noise or ())
    with TrainingDisplay(console(stderr=True)) as display:
        reproduce(system, out, recordings, settings or (), progress=display.show,
                  on_scores=lambda name, evaluation: console().print(score_tables(evaluation)))


VERBS = (demo, seeds)
