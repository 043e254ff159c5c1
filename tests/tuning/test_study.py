"""Studies: they find what is good, survive what kills them, and lose no trial."""

from __future__ import annotations

import csv
import io
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import logged, tiny_config, tiny_material
from rich.console import Console
from trial_threads import in_a_thread

from gan_denoise.cli.training_output import render_study
from gan_denoise.config import ConfigError, dump_config, load_config
from gan_denoise.core.errors import OutputError
from gan_denoise.training.preflight import ReadinessError
from gan_denoise.tuning import study as studies
from gan_denoise.tuning.search_space import SpaceError
from gan_denoise.tuning.study import TuningError
from gan_denoise.tuning.study_report import BEST, HISTORY, IMPORTANCE, PAGE, TABLE
from gan_denoise.tuning.trial import Job, Outcome, run_trial

pytest.importorskip("optuna")
OPTIMUM = 3e-3  # learning rate
RATES = {"training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}
SPACE = RATES | {"losses.mse_weight": [0.5, 1.0, 2.0]}


def toy(config, run_dir, kind, init, *, on_validation, **_):
    """Stand in for a run of 20 steps, in which the learning rate and a weight matter."""
    training = config.training
    top = 10 - math.log10(training.learning_rate / OPTIMUM) ** 2 - (config.losses.mse_weight != 1)
    for step in range(5, 21, 5):
        values = {"si_sdr": top - 4 / step, "mse_mel": 1 / top}
        on_validation(step, values)
    return SimpleNamespace(best={"step": step, **values})


def slow_toy(config, run_dir, kind, init, *, on_validation, **_):
    """The same in a second; leave a line in the run's folder for each time that it begins."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with open(run_dir / "begun.txt", "a") as file:
        file.write(f"{os.getpid()}\n")

    def slowly(step, values):
        time.sleep(0.2)
        on_validation(step, values)

    return toy(config, run_dir, kind, init, on_validation=slowly)


def dies(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(studies, "launch", in_a_thread)


def config_of(space=SPACE, training=None, **settings):
    settings = {"trials": 6, "startup_trials": 3, "space": space} | settings
    return tiny_config(training={"steps": 20} | (training or {}), tune=settings)


def study(folder, config, train=toy, material=None, **options):
    """Run a study, `train` in the place of training; return its report and what was logged."""
    start = studies.launch
    with pytest.MonkeyPatch.context() as patch, logged() as lines:
        patch.setattr(studies, "launch", lambda job: start(job, train))
        report = studies.tune(config, folder, command="gan-denoise tune --study s",
                              material=material or tiny_material(), **options)
    return report, "\n".join(lines)


def told(outcome):
    """Return what was drawn and what came of it, without the clock."""
    return [(row.number, row.state, row.score, dict(row.drawn)) for row in outcome.trials]


# ---- What it finds -----------------------------------------------------------------------------
@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A whole study."""
    folder = tmp_path_factory.mktemp("found") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "launch", in_a_thread)
        outcome, said = study(folder, config_of(trials=16, startup_trials=5))
    return folder, outcome, said


def test_a_study_finds_the_neighbourhood_of_the_optimum(found):
    _, outcome, said = found
    assert len(outcome.trials) == 16
    best = outcome.best
    assert best.drawn["losses.mse_weight"] == "1.0"
    assert OPTIMUM / 2 < best.drawn["training.learning_rate"] < OPTIMUM * 2
    assert best.score == max(row.score for row in outcome.trials)
    assert f"the best is {best.score:.4g} of trial {best.number}" in said


def test_the_first_trial_is_the_settings_as_they_are(found):
    _, outcome, _ = found
    assert outcome.trials[0].drawn == {"training.learning_rate": 1.5e-3, "losses.mse_weight": "1.0"}


def test_a_trial_below_the_median_is_stopped_after_its_warm_up(found):
    _, outcome, said = found
    stopped = [row for row in outcome.trials if row.state == "stopped"]
    assert stopped
    for row in stopped:
        assert row.number >= 5  # so many at first are not
        assert "below the median of the others at step 15" in row.reason  # after two validations
        assert f"trial {row.number}: step 20" not in said
        complete = [other for other in outcome.trials[:row.number] if other.state == "complete"]
        assert sum(other.score > row.score for other in complete) >= len(complete) / 2


def test_the_best_settings_are_a_settings_file(found):
    folder, outcome, _ = found
    text = (folder / BEST).read_text()
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert f"Trial {outcome.best.number} of {folder}: si_sdr" in head[0]
    assert head[1] == "#   gan-denoise tune --study s"
    config = load_config(folder / BEST)
    assert config == outcome.space.apply(config_of().model_copy(update={"tune": config.tune}),
                                         outcome.best.drawn)
    assert config.tune.space == {}
    assert "tune" not in text.split("format_version")[1]


def test_the_table_holds_every_trial(found):
    folder, outcome, _ = found
    rows = list(csv.DictReader((folder / TABLE).open()))
    assert [int(row["trial"]) for row in rows] == list(range(16))
    for row, known in zip(rows, outcome.trials, strict=True):
        assert float(row["si_sdr"]) == known.score
        assert float(row["training.learning_rate"]) == known.drawn["training.learning_rate"]
        assert row["state"] == known.state
    assert {row["step"] for row in rows if row["state"] == "complete"} == {"20"}


def test_pictures_and_page_show_it(found):
    folder, outcome, _ = found
    for name in (HISTORY, IMPORTANCE):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    page = (folder / PAGE).read_text()
    assert page.count('<svg class="drawn"') == 2
    for text in (f"Trial {outcome.best.number}", "the settings as given", "training.learning_rate",
                 "below the median"):
        assert text in page
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == [
        BEST, "config.yaml", HISTORY, IMPORTANCE, "study.db", PAGE, TABLE]
    console = Console(file=io.StringIO(), width=100)
    render_study(outcome, console)
    lines = console.file.getvalue().splitlines()
    numbers = [line.split()[0] for line in lines if line.strip()[:1].isdigit()]
    assert numbers == [str(row.number) for row in outcome.ranking[:5]]


def test_a_metric_of_which_less_is_better_is_minimised(quick, tmp_path):
    outcome, _ = study(tmp_path / "s", config_of(metric="mse_mel", trials=4, prune=False))
    assert outcome.best.score == min(row.score for row in outcome.trials)
    assert not outcome.maximise


# ---- Stopped and resumed -----------------------------------------------------------------------
def test_a_study_in_two_sittings_is_the_study_in_one(quick, tmp_path):
    whole, _ = study(tmp_path / "whole", config_of(trials=8))
    study(tmp_path / "parts", config_of(trials=3))
    parts, _ = study(tmp_path / "parts", config_of(trials=8))
    assert told(parts) == told(whole)


def test_a_finished_study_stays_as_it_is(quick, tmp_path):
    first, _ = study(tmp_path, config_of(trials=3))
    again, said = study(tmp_path, config_of(trials=3))
    assert told(first) == told(again)
    assert "trial" not in said


SCRIPT = """
import functools, logging, sys
from pathlib import Path
from conftest import tiny_material
from gan_denoise.config import load_config
from gan_denoise.tuning import study
from test_study import slow_toy
if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings, folder = sys.argv[1:]
    study.launch = functools.partial(study.launch, train=slow_toy)
    study.tune(load_config(settings), Path(folder), material=tiny_material())
"""


@pytest.mark.system
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_is_killed_or_interrupted_loses_no_trial(quick, tmp_path, how):
    config = config_of(trials=4, prune=False)
    folder, settings = tmp_path / "study", tmp_path / "settings.yaml"
    settings.write_text(dump_config(config))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    begun = folder / "trials" / "0001" / "begun.txt"
    process = subprocess.Popen(
        [sys.executable, str(script), str(settings), str(folder)], stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])},
    )
    try:
        until = time.monotonic() + 180
        while not begun.is_file() and time.monotonic() < until and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.3)  # amid the trial
        process.send_signal(how)
        said = process.communicate(timeout=180)[1]
    finally:
        process.kill()
    assert begun.is_file(), said
    assert process.returncode != 0
    assert ("stopped; the same command goes on" in said) == (how == signal.SIGINT)
    assert ended(int(begun.read_text()))  # no process goes on by itself

    outcome, _ = study(folder, config)
    assert [row.state for row in outcome.trials] == ["complete"] * 4
    # What the killed process drew was trained on, in the same folder.
    assert told(outcome) == told(study(tmp_path / "whole", config)[0])
    assert not (folder / "trials" / "0004").exists()


def ended(number: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.kill(number, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_a_validation_that_is_done_again_after_a_kill_counts_once(quick, tmp_path):
    """The run goes on from its last checkpoint, which lies before what was reported."""
    import optuna

    study(tmp_path, config_of(trials=1))
    database = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / 'study.db'}")
    trial = database.ask({"training.learning_rate": optuna.distributions.FloatDistribution(
        1e-5, 1e-1, log=True)})  # killed before it was all drawn
    trial.report(5.0, 5)
    shutil.copytree(tmp_path, tmp_path.with_name("again"))
    outcome, said = study(tmp_path, config_of(trials=2))
    again, _ = study(tmp_path.with_name("again"), config_of(trials=2))
    assert told(outcome) == told(again)  # also what had not been drawn
    assert "trial 1: training.learning_rate" in said
    assert "goes on" in said
    assert [row.state for row in outcome.trials] == ["complete"] * 2
    values = optuna.load_study(study_name="tune", storage=f"sqlite:///{tmp_path / 'study.db'}"
                               ).trials[1].intermediate_values
    assert list(values) == [5, 10, 15, 20]
    assert values[5] == 5.0


# ---- Trials that come to nothing ---------------------------------------------------------------
def test_settings_that_do_not_fit_each_other_are_a_refused_trial(quick, tmp_path):
    space = {"mel.hop_length": [64, 200], "losses.mse_weight": [0.5, 1.0]}
    outcome, said = study(tmp_path, config_of(space, trials=8, startup_trials=8))
    refused = [row for row in outcome.trials if row.state == "refused"]
    assert refused
    assert all(row.drawn["mel.hop_length"] == "200" for row in refused)
    assert all("hop_length 200 is over half of win_length" in row.reason for row in refused)
    assert len(outcome.trials) == 8
    assert outcome.best.drawn["mel.hop_length"] == "64"
    assert said.startswith("tune.space: mel.hop_length=200 was refused")  # before the first trial


def test_a_trial_that_fails_is_told_and_the_others_go_on(quick, tmp_path):
    def train(config, *rest, **options):
        if config.training.learning_rate > 1e-2:
            raise TuningError("loss/mse not finite again at steps 8 to 10")
        if config.training.learning_rate < 1e-4:
            raise RuntimeError("out of\nmemory")
        if config.losses.mse_weight == 2:
            return SimpleNamespace(best={"step": 20})
        return toy(config, *rest, **options)

    outcome, said = study(tmp_path, config_of(trials=10, startup_trials=10, seed=4), train)
    reasons = {row.reason for row in outcome.trials if row.state == "failed"}
    assert reasons == {"loss/mse not finite again at steps 8 to 10", "RuntimeError: out of\nmemory",
                       "no validation gave a finite si_sdr"}
    assert outcome.best is not None
    assert "failed: loss/mse not finite" in said
    assert "not finite again" in (tmp_path / TABLE).read_text()


@pytest.mark.parametrize("error", [
    OutputError("latest.npz: cannot be written (No space left on device)", "the former is kept"),
    OSError(5, "Input/output error"),
])
def test_a_disk_that_fails_ends_the_study_and_no_trial(quick, tmp_path, error):
    """The settings are not to blame: the next call does that trial, as if nothing had been."""
    broken = []

    def train(config, run_dir, *rest, **options):
        if run_dir.name == "0002" and not broken:
            broken.append(run_dir)
            raise error
        return toy(config, run_dir, *rest, **options)

    with pytest.raises(TuningError, match=r"trial 2: .*; the same command goes on"):
        study(tmp_path / "broken", config_of(), train)
    outcome, _ = study(tmp_path / "broken", config_of(), train)
    whole, _ = study(tmp_path / "whole", config_of())
    assert told(outcome) == told(whole)


def test_a_process_that_dies_is_a_failed_trial(tmp_path):
    outcome, _ = study(tmp_path, config_of(trials=1), dies)
    assert [row.reason for row in outcome.trials] == ["the process died (signal 9: out of memory?)"]
    assert outcome.best is None
    assert not (tmp_path / BEST).exists()
    assert "No trial is complete yet" in (tmp_path / PAGE).read_text()


def test_a_trial_needs_nothing_but_its_job(tmp_path):
    """Any process can do it: the job goes through pickle, the result is the function's value."""
    job = pickle.loads(pickle.dumps(Job(config_of(), tmp_path / "run", "pretrain", None, None)))
    seen = []

    def goes_on(validation):
        seen.append(validation.step)
        return validation.step < 10

    whole = run_trial(job, lambda validation: True, toy)
    assert whole == run_trial(job, lambda validation: True, toy)
    assert (whole.state, whole.best["step"]) == ("done", 20)
    assert run_trial(job, goes_on, toy) == Outcome("stopped")
    assert seen == [5, 10]


# ---- How many, how long ------------------------------------------------------------------------
def test_workers_run_side_by_side_and_share_the_cores(quick, tmp_path, monkeypatch):
    monkeypatch.setattr(studies, "cores", lambda: 8)
    at_work, most, threads = [], [], set()

    def train(config, *rest, **options):
        at_work.append(None)
        most.append(len(at_work))
        threads.add(config.training.threads)
        time.sleep(0.1)
        result = toy(config, *rest, **options)
        at_work.pop()
        return result

    outcome, _ = study(tmp_path, config_of(trials=6, workers=3, prune=False), train)
    assert [row.state for row in outcome.trials] == ["complete"] * 6
    assert max(most) == 3
    assert threads == {2}
    assert load_config(tmp_path / BEST).training.threads == 0  # the best run has the machine


def test_no_trial_begins_after_the_time_is_over(quick, tmp_path):
    outcome, said = study(tmp_path, config_of(timeout_minutes=1e-9))
    assert not outcome.trials
    assert "tune.timeout_minutes are over" in said
    outcome, said = study(tmp_path, config_of(trials=2))
    assert len(outcome.trials) == 2
    assert "timeout" not in said


# ---- Refused before the first trial ------------------------------------------------------------
@pytest.mark.parametrize(("other", "word"), [
    (config_of(RATES), r"tune\.space\.losses\.mse_weight: .* \(0\.5, 1\.0, 2\.0\), now None"),
    (config_of(RATES | {"losses.mse_weight": [1.0]}), r"losses\.mse_weight: .* now \(1\.0,\)"),
    (config_of(SPACE | {"mel.n_mels": [12, 16]}), r"tune\.space\.mel\.n_mels: the study has None"),
    (config_of(startup_trials=4), r"tune\.startup_trials: the study has 3, now 4"),
    (config_of(training={"steps": 30}), r"training\.steps: the study has 20, now 30"),
])
def test_another_study_in_the_folder_is_refused_with_what_differs(
    begun_study, other, word
):
    with pytest.raises(ConfigError, match=word) as refused:
        study(begun_study, other)
    assert str(refused.value).count("the study has") == 1
    assert "another --study folder" in str(refused.value)


@pytest.fixture(scope="module")
def begun_study(tmp_path_factory):
    """The folder of a study of one trial, and its settings."""
    folder = tmp_path_factory.mktemp("begun")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "launch", in_a_thread)
        study(folder, config_of(trials=1))
    return folder


def test_what_changes_no_score_may_change(begun_study, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    outcome, _ = study(begun_study, config_of(
        trials=1, workers=2, timeout_minutes=5.0, training={"threads": 1, "tracker": "wandb"}))
    assert len(outcome.trials) == 1


def test_other_recordings_another_start_and_a_second_process_are_refused(begun_study):
    with pytest.raises(TuningError, match="training material is not the one"):
        study(begun_study, config_of(), material=tiny_material(digest="other"))
    with pytest.raises(ConfigError, match=r"init: the study has None, now '.*hush'"):
        study(begun_study, config_of(), init=Path("hush"))
    with studies.lock_folder(begun_study), pytest.raises(TuningError, match="another process"):
        study(begun_study, config_of())


def test_without_optuna_it_is_said_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(TuningError, match=r"pip install 'gan-denoise\[tune\]'"):
        study(tmp_path, config_of())


def test_mistakes_write_nothing(tmp_path):
    with pytest.raises(SpaceError, match=r"no value of 'mel\.hop_length'"):
        study(tmp_path / "s", config_of({"mel.hop_length": [500]}))
    with pytest.raises(SpaceError, match=r"--init hush fixes mel\.n_mels"):
        study(tmp_path / "s", config_of({"mel.n_mels": [12, 16]}), init=Path("hush"))
    with pytest.raises(ReadinessError, match="nothing says when to stop"):
        study(tmp_path / "s", config_of(training={"steps": None}))
    with pytest.raises(ReadinessError, match=r"tune\.metric=pesq_wb"):
        study(tmp_path / "s", tiny_config(
            audio={"sample_rate": 8000}, training={"steps": 3},
            tune={"space": RATES, "metric": "pesq_wb"}))
    with pytest.raises(TuningError, match=r"tune\.metric=si_sdr: data\.features has no waveform"):
        study(tmp_path / "s", tiny_config(
            data={"features": "synthetic"}, training={"steps": 3, "select_by": "snr_mel"},
            tune={"space": RATES, "metric": "si_sdr"}))
    assert not list(tmp_path.iterdir())
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(TuningError, match="give another --study"):
        study(tmp_path, config_of())


# ---- The real thing ----------------------------------------------------------------------------
@pytest.mark.system
def test_real_runs_are_trials_and_the_best_trains_on(tmp_path):
    from gan_denoise.config.artifacts import LATEST
    from gan_denoise.training import loop
    from gan_denoise.training.checkpoints import read_progress

    config = tiny_config(
        generator={"name": "cnn", "channels": [4]}, training={"steps": 4, "validate_every": 2},
        tune={"trials": 2, "workers": 2, "space": {"training.learning_rate": [1e-3, 1e-2]}},
    )
    outcome, _ = study(tmp_path / "study", config, train=None)
    assert [row.state for row in outcome.trials] == ["complete"] * 2
    for row in outcome.trials:
        progress = read_progress(tmp_path / f"study/trials/{row.number:04d}" / LATEST)
        assert (progress.kind, progress.step) == ("pretrain", 4)
        assert row.score == max(values["si_sdr"] for values in progress.history)
        assert "step 4 validation" in (tmp_path / f"study/trials/{row.number:04d}.log").read_text()
    best = load_config(tmp_path / "study" / BEST, ["training.steps=2"])
    result = loop.train(best, tmp_path / "run", material=tiny_material())
    assert result.step == 2
