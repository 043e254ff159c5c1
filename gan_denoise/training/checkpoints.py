"""Run directories: settings, the latest and the best state, atomic and exact.

A state is one `.npz`: every variable of both networks, both optimizers and the EMA by name, and the
counters and history as JSON. Names and shapes must match on loading; nothing is dropped silently.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np

from gan_denoise.config import check_resume
from gan_denoise.config.artifacts import LATEST, SETTINGS
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.checksums import BROKEN_ARRAYS
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.json_text import parse_json

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from numpy.typing import ArrayLike

META = "meta.json"


class CheckpointError(GanDenoiseError):
    """A run directory or a state file cannot be used; says which and what to do."""


class Restart(TypedDict):
    """A dead start, and the initialisation that followed.

    Attributes:
        step: Where it was found.
        reason: Why it is dead, in words.
        seed: Of the next initialisation.
    """

    step: int
    reason: str
    seed: int


@dataclass
class RunState:
    """All that a run counts and remembers beside its variables.

    Attributes:
        kind: `pretrain` or `finetune`.
        data_digest: Hash of the training material.
        step: Steps done; the next step has this number.
        total_steps: Where the schedules end; None until `training.minutes` has been measured.
        seconds: Time spent training, over all sittings.
        bad_steps: Steps skipped for a non-finite loss or gradient.
        bad_in_row: How many of them just now, one after another.
        rollbacks: Times that the run went back to an earlier state.
        skipped: `[first, last]` step ranges whose updates a roll-back undid.
        history: One dict of validation values per validation; the last one of `best.npz` is its
            own.
        best: The validation value of `best.npz`, None before the first.
        restarts: The dead starts so far.
        watch: What the run's monitor has counted.
    """

    kind: str
    data_digest: str
    step: int = 0
    total_steps: int | None = None
    seconds: float = 0.0
    bad_steps: int = 0
    bad_in_row: int = 0
    rollbacks: int = 0
    skipped: list[list[int]] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    best: float | None = None
    restarts: list[Restart] = field(default_factory=list)
    watch: dict[str, int] = field(default_factory=dict)


def can_resume(run_dir: Path, config: Config, kind: str) -> bool:
    """Return True when a directory holds a run to resume, False when a new one may start there.

    Raises:
        ConfigError: When the run there was started with other settings.
        CheckpointError: When the folder holds something else, or a run of the other kind.
    """
    if (run_dir / LATEST).is_file():
        found = read_progress(run_dir / LATEST).kind
        if found != kind:
            raise CheckpointError(f"{run_dir}: holds a {found} run; give another --run folder")
        check_resume(settings_of(run_dir), config)
        return True
    # A run that was killed before its first state leaves settings and hidden files.
    if run_dir.exists() and (not run_dir.is_dir() or any(
        name != SETTINGS and not name.startswith(".") for name in os.listdir(run_dir)
    )):
        raise CheckpointError(f"{run_dir}: is not empty and holds no run; give another --run")
    return False


def save_state(path: Path, variables: Mapping[str, ArrayLike], progress: RunState) -> None:
    """Write all variables and the progress to one file, under a temporary name first."""
    arrays = {name: np.asarray(variable) for name, variable in variables.items()}
    arrays[META] = np.frombuffer(json.dumps(asdict(progress), allow_nan=False).encode(), np.uint8)
    write_atomically(path, lambda file: np.savez(file, **arrays))


def read_progress(path: Path) -> RunState:
    """Return the progress stored in a state file."""
    try:
        return RunState(**parse_json(_read(path, lambda name: name == META)[META].tobytes()))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a whole checkpoint ({error})") from error


def read_variables(path: Path, prefix: str = "") -> dict[str, np.ndarray]:
    """Return the stored variables whose name starts with a prefix."""
    return _read(path, lambda name: name != META and name.startswith(prefix))


def load_state(
    path: Path, variables: Mapping[str, keras.Variable | tf.Variable]
) -> RunState:
    """Assign a stored state to variables of the same names, shapes and number.

    Raises:
        CheckpointError: When a variable is missing, left over, or of another shape or type.
    """
    stored = read_variables(path)
    if missing := sorted(set(variables) ^ set(stored)):
        names = ", ".join(missing[:5])
        raise CheckpointError(f"{path}: variables differ from the network's: {names}")
    for name, variable in variables.items():
        found, expected = stored[name], np.asarray(variable)
        if (found.shape, found.dtype) != (expected.shape, expected.dtype):
            raise CheckpointError(
                f"{path}: {name} is {found.dtype} {found.shape}, expected {expected.dtype} "
                f"{expected.shape}"
            )
    for name, variable in variables.items():
        variable.assign(stored[name])
    return read_progress(path)


def _read(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if META not in arrays.files:
                raise CheckpointError(f"{path}: is not a state of a training run")
            return {name: arrays[name] for name in arrays.files if wanted(name)}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file; is this a training run?") from None
    except CheckpointError:
        raise
    except BROKEN_ARRAYS as error:
        raise CheckpointError(f"{path}: is not a whole checkpoint ({error})") from error
