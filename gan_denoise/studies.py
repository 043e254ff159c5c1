"""The commands that look beyond one run: `tune`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from gan_denoise.terminal import FAILED, console, require_training


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(tune)


def tune(
    config: Annotated[
        str, typer.Option("--config", "-c", help="YAML file with a tune section, or the name of a "
                                                 "shipped config.")
    ],
    study: Annotated[
        Path, typer.Option(help="Folder of the study; one that is there goes on.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings: section.key=value.", show_default=False)
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Fine-tune from this run or model, not pretrain.", show_default=False),
    ] = None,
) -> None:
    """Search settings: many short runs, those that lag behind stopped early (Optuna)."""
    require_training("tune")
    from gan_denoise.checkpoint import finetune_config
    from gan_denoise.config import load_config
    from gan_denoise.enhance import find_model
    from gan_denoise.tuning import tune as search

    source = init if init is None or init.is_dir() else find_model(str(init))
    values = (load_config(config, settings or ()) if source is None
              else finetune_config(config, settings or (), source))
    command = shlex.join(["gan-denoise", *sys.argv[1:]])
    outcome = search(values, study, source, console(stderr=True), command)
    outcome.render(console())
    if outcome.best is None:
        raise typer.Exit(FAILED)
