"""The folder of a study: its database and settings, the lock on it, what may not change in it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.config import dump_config, flatten, refuse_changes
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.checksums import KEY, crc32, sealed_text
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.file_locks import locked_folder
from gan_denoise.tuning.search_space import Space

if TYPE_CHECKING:
    import optuna

DATABASE = "study.db"
NAME = "tune"  # of the study in its database
# What does not change a score, and so may change where a study goes on.
FREE = frozenset({"data.cache"}) | {
    f"training.{key}" for key in ("threads", "data_workers", "log_every", "checkpoint_every",
                                  "tracker")
} | {f"tune.{key}" for key in ("trials", "timeout_minutes", "workers")}


class TuningError(GanDenoiseError):
    """A study cannot begin or go on: the reason, and the way out."""


def require_optuna() -> None:
    """Check that Optuna is installed, and have it print warnings only.

    Raises:
        TuningError: Where it is not.
    """
    try:
        import optuna
    except ImportError:
        raise TuningError("tune needs optuna", "pip install 'gan-denoise[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def check_folder(folder: Path, config: Config) -> None:
    """Check that the folder is free, or holds a study of these settings.

    Raises:
        TuningError: Where it holds something else.
        ConfigError: Where the study there has other settings; names each.
    """
    if (folder / SETTINGS).is_file():
        before, now = (_fixed(settings) for settings in (settings_of(folder), config))
        refuse_changes("study", {key: before.get(key) for key in before | now}, now)
    elif folder.exists() and (not folder.is_dir() or any(
        not path.name.startswith(".") for path in folder.iterdir()
    )):
        raise TuningError(f"{folder}: is not empty and holds no study", "give another --study")


def _fixed(config: Config) -> dict[str, object]:
    """Return what may not change where a study goes on, each key of the space by itself."""
    flat = {key: value for key, value in flatten(config).items()
            if key not in FREE | {"tune.space"}}
    return flat | {f"tune.space.{key}": spec for key, spec in config.tune.space.items()}


def lock_folder(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Keep other processes from the study for a `with` block, or until this process ends.

    Raises:
        TuningError: Where another process is at the study.
    """
    return locked_folder(folder, TuningError(
        f"{folder}: another process is at this study",
        "tune.workers=N has several trials done at a time"))


def seal_trial(trial: optuna.Trial, state: str, score: float | None) -> None:
    """Note the checksum of a trial that is about to be finished.

    Args:
        trial: With all that is noted of it.
        state: Name of Optuna's `TrialState` that it gets.
        score: Its score; None: it has none.
    """
    found = trial.study.get_trials(deepcopy=False)[trial.number]
    trial.set_user_attr(KEY, _sum(found, state, score))


def _sum(trial: optuna.trial.FrozenTrial, state: str, score: float | None) -> str:
    noted = {key: value for key, value in trial.user_attrs.items() if key != KEY}
    reported = {str(step): value for step, value in trial.intermediate_values.items()}
    values = [trial.number, state, score, trial.params, noted, reported]
    return crc32(json.dumps(values, sort_keys=True).encode())


def _check_trials(study: optuna.Study) -> None:
    """Compare the finished trials with their checksums; those of an earlier version have none."""
    for trial in study.get_trials(deepcopy=False):
        score = trial.value if trial.state.name == "COMPLETE" else None
        known = trial.user_attrs.get(KEY) if trial.state.is_finished() else None
        if known is not None and known != _sum(trial, trial.state.name, score):
            raise ValueError(f"the checksum of trial {trial.number} differs")


@contextlib.contextmanager
def _database_errors(folder: Path) -> Iterator[None]:
    """Say of whatever Optuna and SQLite raise that the database is damaged."""
    from optuna.exceptions import OptunaError
    from sqlalchemy.exc import SQLAlchemyError

    path = folder / DATABASE
    try:
        if path.is_file():
            with contextlib.closing(sqlite3.connect(path)) as database:
                (state,) = database.execute("pragma integrity_check").fetchone()
                if state != "ok":
                    raise ValueError(state)
        yield
    except (OptunaError, SQLAlchemyError, sqlite3.Error, ValueError, LookupError, TypeError,
            AttributeError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TuningError(f"{path}: is damaged ({reason})",
                          "take it from a copy, or give another --study folder") from error


def open_study(folder: Path, config: Config, facts: Mapping[str, str | None]) -> optuna.Study:
    """Return the study in a folder, begun where there is none.

    Args:
        folder: Folder of the study.
        config: Settings with the section `tune`.
        facts: What a study is begun with and may not change: `init`, the run or model that trials
            start from, and `material`, the hash of the training material.

    Raises:
        TuningError: For other training material, or when the database is damaged.
        ConfigError: For another `init`.
    """
    import optuna

    text = sealed_text(dump_config(config)).encode()
    write_atomically(folder / SETTINGS, lambda file: file.write(text))
    settings = config.tune
    metric = settings.metric or config.training.select_by
    with _database_errors(folder):
        study = optuna.create_study(
            storage=optuna.storages.RDBStorage(f"sqlite:///{folder / DATABASE}"), study_name=NAME,
            direction="minimize" if metric == "mse_mel" else "maximize", load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(settings.startup_trials),
        )
        _check_trials(study)
        known = study.user_attrs
    if known.get("material", facts["material"]) != facts["material"]:
        raise TuningError(
            f"{folder}: the training material is not the one that this study was started with",
            "give the same recordings, or another --study folder",
        )
    refuse_changes("study", known, facts)
    for name, fact in facts.items():
        study.set_user_attr(name, fact)
    base = Space.read(settings.space).values_in(config)
    if base is not None and not study.trials:
        study.enqueue_trial(base)  # the settings as they are: what the others are measured by
    return study
