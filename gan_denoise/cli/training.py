"""Verbs that train: pretrain, finetune, tune."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
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
    TrainingWorkers,
    UsageError,
    Workers,
    cluster_of,
    require_training,
    require_utf8,
    run_or_model,
)
from gan_denoise.core.native_libraries import load_tensorflow
from gan_denoise.core.text import escape_line

if TYPE_CHECKING:
    from gan_denoise.config import Config
    from gan_denoise.core.ray_jobs import Cluster
    from gan_denoise.training.loop import Kind


def pretrain(
    run: RunDir, settings: Settings = None, config: ConfigFile = "pretrain",
    ray: RayAddress = None, workers: TrainingWorkers = None,
) -> None:
    """Train the autoencoder on pairs, or on speech and noise.

    Speech and noise are mixed on the fly. The same command goes on with a run that was stopped.
    """
    cluster = _cluster("pretrain", ray, workers, settings or ())
    require_utf8(run)
    from gan_denoise.config import load_config

    values = load_config(config, settings or ())
    if cluster is None:
        _train(values, run, "pretrain", None)
    else:
        _train_on(cluster, values, "pretrain", run, config, None, settings or ())


def finetune(
    run: RunDir,
    init: Annotated[
        Path, typer.Option(help="Pretrained run, or model folder (or shipped name) to start from.")
    ],
    settings: Settings = None,
    config: ConfigFile = "finetune",
    ray: RayAddress = None,
    workers: TrainingWorkers = None,
) -> None:
    """Fine-tune a pretrained autoencoder against a discriminator.

    The same command goes on with a run that was stopped.
    """
    cluster = _cluster("finetune", ray, workers, settings or ())
    require_utf8(run)
    from gan_denoise.config.saved import finetune_config

    source = run_or_model(init)
    values = finetune_config(config, settings or (), source)
    if cluster is None:
        _train(values, run, "finetune", source)
    else:
        _train_on(cluster, values, "finetune", run, config, init, settings or ())


def _cluster(
    verb: str, ray: str | None, workers: int | None, settings: Sequence[str]
) -> Cluster | None:
    """Return the cluster that trains; None: this machine, which has what it takes."""
    cluster = cluster_of(verb, ray, workers or 0)
    if cluster is None:
        require_training(verb)
        return None
    if workers is None:
        raise UsageError("--ray trains with a fixed number of workers: give --workers N")
    for setting in settings:
        key, _, value = setting.partition("=")
        if key.strip() == "training.strategy" and value.strip() != "multi_worker":
            raise UsageError(f"--ray trains with training.strategy=multi_worker; leave {setting} "
                             "out, or --ray")
    return cluster


def _train_on(
    cluster: Cluster, values: Config, verb: str, run: Path, config: str, init: Path | None,
    settings: Sequence[str],
) -> None:
    """Run a command in the workers of a cluster, and show what the chief prints.

    Args:
        cluster: Where.
        values: The settings that the command comes to.
        verb: Of the command.
        run: Its --run.
        config: Its --config; a file that is there has to be there for all workers.
        init: Its --init, if any; a folder likewise.
        settings: Given with it.
    """
    from gan_denoise.cli.training_output import logged_to, print_line
    from gan_denoise.core.standard_streams import OUTPUT
    from gan_denoise.training.ray_workers import TrainingJob, train_on_cluster
    from gan_denoise.training.worker_processes import MULTI_WORKER, Line

    consoles = {True: console(), False: console(stderr=True)}

    def show(worker: int, line: Line) -> None:
        if worker == 0:
            print_line(consoles[line.stream == OUTPUT], line.text)

    source = [] if init is None else ["--init", str(init)]
    inputs = [Path(config)] if Path(config).is_file() else []
    if init is not None and init.is_dir():
        inputs.append(init)
    job = TrainingJob(
        [verb, "--run", str(run), "--config", config, *source, *settings, MULTI_WORKER], run,
        inputs, cpus=max(values.training.threads, 1))
    with logged_to(consoles[False]):
        train_on_cluster(cluster, job, show)


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
    source = None if init is None else run_or_model(init)
    values = (load_config(config, settings or ()) if source is None
              else finetune_config(config, settings or (), source))
    command = escape_line(shlex.join(["gan-denoise", *sys.argv[1:]]))
    with logged_to(console(stderr=True)):
        report = search(values, study, source, command=command, cluster=cluster)
    render_study(report, console())
    if report.best is None:
        raise typer.Exit(FAILED)


VERBS = (pretrain, finetune, tune)
