"""Verbs that train: pretrain, finetune, tune."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_denoise.cli.console import console
from gan_denoise.cli.options import (
    FAILED,
    ConfigFile,
    RayAddress,
    RunDir,
    Settings,
    Workers,
    cluster_of,
    require_training,
    require_utf8,
)
from gan_denoise.core.native_libraries import load_tensorflow
from gan_denoise.core.text import escape_line

if TYPE_CHECKING:
    from gan_denoise.config import Config
    from gan_denoise.training.loop import Kind


def pretrain(
    run: RunDir, settings: Settings = None, config: ConfigFile = "pretrain"
) -> None:
    """Train the autoencoder on pairs, or on speech and noise.

    Speech and noise are mixed on the fly. The same command goes on with a run that was stopped.
    """
    require_training("pretrain")
    require_utf8(run)
    from gan_denoise.config import load_config

    _train(load_config(config, settings or ()), run, "pretrain", None)


def finetune(
    run: RunDir,
    init: Annotated[
        Path, typer.Option(help="Pretrained run, or model folder (or shipped name) to start from.")
    ],
    settings: Settings = None,
    config: ConfigFile = "finetune",
) -> None:
    """Fine-tune a pretrained autoencoder against a discriminator.

    The same command goes on with a run that was stopped.
    """
    require_training("finetune")
    require_utf8(run)
    from gan_denoise.config.saved import finetune_config

    source = _run_or_model(init)
    _train(finetune_config(config, settings or (), source), run, "finetune", source)


def _run_or_model(init: Path) -> Path:
    """Return a folder as it is, and that of a shipped model by its name."""
    from gan_denoise.inference.model import find_model

    return init if init.is_dir() else find_model(str(init))


def _train(config: Config, run: Path, kind: Kind, init: Path | None) -> None:
    load_tensorflow()
    from gan_denoise.cli.training_output import TrainingDisplay, render_training
    from gan_denoise.training.loop import train

    hint = f"TensorBoard: tensorboard --logdir {run}"
    with TrainingDisplay(console(stderr=True), hint) as display:
        result = train(config, run, kind, init, progress=display.show)
    render_training(result, console())


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
    ray: RayAddress = None,
    workers: Workers = 0,
) -> None:
    """Search for settings by many short runs (Optuna).

    Runs that lag behind are stopped early. The same command goes on with a study that was stopped.
    """
    require_training("tune")
    require_utf8(study)
    from gan_denoise.cli.training_output import logged_to, render_study
    from gan_denoise.config import load_config
    from gan_denoise.config.saved import finetune_config
    from gan_denoise.tuning.study import tune as search

    cluster = cluster_of("tune", ray, workers)
    source = None if init is None else _run_or_model(init)
    values = (load_config(config, settings or ()) if source is None
              else finetune_config(config, settings or (), source))
    command = escape_line(shlex.join(["gan-denoise", *sys.argv[1:]]))
    with logged_to(console(stderr=True)):
        report = search(values, study, source, command=command, cluster=cluster)
    render_study(report, console())
    if report.best is None:
        raise typer.Exit(FAILED)


VERBS = (pretrain, finetune, tune)
