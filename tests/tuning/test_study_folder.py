"""A damaged database of a study is told, whatever SQLite makes of it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from conftest import tiny_config

from gan_denoise.tuning.study_folder import TuningError, open_study, require_optuna, seal_trial

pytest.importorskip("optuna")
CONFIG = tiny_config(tune={"trials": 2, "space": {"training.learning_rate": [1e-4, 1e-3]}})
FACTS = {"init": None, "material": "digest"}


def study_in(folder: Path) -> Path:
    """Make a study with a finished trial; return its database."""
    from optuna.trial import TrialState

    require_optuna()
    folder.mkdir(exist_ok=True)
    study = open_study(folder, CONFIG, FACTS)
    trial = study.ask()
    trial.suggest_categorical("training.learning_rate", [1e-4, 1e-3])
    trial.report(2.5, 3)
    trial.set_user_attr("minutes", 0.5)
    seal_trial(trial, "COMPLETE", 2.75)
    study.tell(trial, 2.75, TrialState.COMPLETE)
    return folder / "study.db"


@pytest.mark.parametrize("change", [
    "update trial_values set value = 2.7500001",
    "update trial_params set param_value = 1 - param_value",
    "update trial_intermediate_values set intermediate_value = 2",
    "update trials set state = 'FAIL'"])
def test_what_differs_in_the_database_is_told(change: str, tmp_path: Path):
    database = study_in(tmp_path)
    assert open_study(tmp_path, CONFIG, FACTS).best_value == 2.75
    with sqlite3.connect(database) as connection:
        connection.execute(change)
    with pytest.raises(TuningError, match=r"study\.db: is damaged"):
        open_study(tmp_path, CONFIG, FACTS)


def test_a_file_that_is_cut_is_told(tmp_path: Path):
    database = study_in(tmp_path)
    database.write_bytes(database.read_bytes()[:5000])
    with pytest.raises(TuningError, match=r"study\.db: is damaged"):
        open_study(tmp_path, CONFIG, FACTS)
