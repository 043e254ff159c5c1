"""A study: training runs with settings drawn from a space, and the best of them.

Optuna draws the settings (TPE) and decides which trial is stopped (median pruner). Each trial is an
ordinary training run in a fresh process, so that none inherits TensorFlow's memory, threads or
seeds. This process alone writes the study's database; a trial that it finds unfinished there, when
it was killed or interrupted, goes on from its run's last checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.config import ConfigError
from gan_denoise.config.schema import Config, TuneConfig
from gan_denoise.core.processes import cores
from gan_denoise.core.ray_jobs import Cluster, cpus
from gan_denoise.data.datasets import Material, load_material
from gan_denoise.training.preflight import check_readiness, require_pesq
from gan_denoise.training.progress import log_decoding
from gan_denoise.tuning.ray_trials import RayTrials
from gan_denoise.tuning.search_space import Space, SpaceError
from gan_denoise.tuning.study_folder import (
    TuningError,
    check_folder,
    lock_folder,
    open_study,
    require_optuna,
    seal_trial,
)
from gan_denoise.tuning.study_report import StudyReport, importances, read_study
from gan_denoise.tuning.trial import (
    STOP_SECONDS,
    Job,
    Outcome,
    TrialHost,
    TrialProcess,
    Validation,
    ctrl_c_later,
    launch,
)

if TYPE_CHECKING:
    import optuna

    from gan_denoise.training.loop import Kind

TRIALS = "trials"  # folder of the runs
PAGE_SECONDS = 60.0  # between pages while the study runs; tables are always up to date
# What the training material is made of: trials share it where the space leaves these alone.
MATERIAL = ("data.", "audio.", "training.crop_seconds", "training.seed")
FIXED_BY_INIT = ("audio.", "mel.", "generator.")

logger = logging.getLogger(__name__)


# ---- The study ---------------------------------------------------------------------------------
def tune(
    config: Config,
    folder: str | Path,
    init: str | Path | None = None,
    *,
    command: str = "",
    material: Material | None = None,
    cluster: Cluster | None = None,
) -> StudyReport:
    """Try settings until `tune.trials` are finished or `tune.timeout_minutes` are over.

    The same call goes on with a study that was interrupted or killed. Nothing is printed: lines go
    to the logger `gan_denoise.tuning.study`, those of a trial to `trials/NUMBER.log`.

    Args:
        config: Settings; `tune.space` says which of them are tried, and with which values.
        folder: Folder of the study; made where there is none.
        init: Run or model folder that trials are fine-tuned from; None: they are pretrained.
        command: The command line, noted in `best.yaml`.
        material: Training material; None: what `config.data` names.
        cluster: Where trials run, as many at once as it says and each on as many CPUs as
            `training.threads` says, 1 where that is 0. They and this machine see the same folder,
            recordings and cache. None: on this machine, `tune.workers` at once.

    Returns:
        The trials, those of former calls among them.

    Raises:
        SpaceError, ConfigError, ReadinessError, TrackingError, TuningError, ClusterError: Before
            the first trial.
        KeyboardInterrupt: After running trials have saved their states.
    """
    require_optuna()
    folder, init = Path(folder), None if init is None else Path(init)
    base = config.model_copy(update={"tune": TuneConfig()})
    space = Space.read(config.tune.space)
    for line in space.check(base):
        logger.warning("%s", line)
    fixed = sorted(key for key in space.keys if key.startswith(FIXED_BY_INIT))
    if init is not None and fixed:
        raise SpaceError(f"tune.space: --init {init} fixes {', '.join(fixed)}", "leave it out")
    kind: Kind = "pretrain" if init is None else "finetune"
    _check(config, kind)
    check_folder(folder, config)
    made_of = MATERIAL if config.data.has_waveforms else (*MATERIAL, "mel.")
    shared = not any(key.startswith(made_of) for key in space.keys)
    if shared and material is None:
        material = load_material(base, log_decoding())
    facts = {"init": None if init is None else str(init.resolve()),
             "material": None if material is None else material.digest}
    with lock_folder(folder), _host(config.tune, folder, cluster) as host:
        study = open_study(folder, config, facts)
        return _Session(
            study, space, base, config.tune, host, folder, command,
            lambda settings, run_dir: Job(settings, run_dir, kind, init, material),
        ).run()


@contextlib.contextmanager
def _host(settings: TuneConfig, folder: Path, cluster: Cluster | None) -> Iterator[TrialHost]:
    """Give this machine, whose cores the trials share, or a cluster that sees the folder."""
    if cluster is None:
        share = 0 if settings.workers == 1 else max(cores() // settings.workers, 1)
        yield TrialHost(launch, settings.workers, share)
        return
    with cluster.pool(lambda *_: "looking for the study", folder) as pool:
        list(pool.map(len, [""]))  # a worker sees the folder
        yield TrialHost(RayTrials(pool).launch, cluster.workers or cpus(pool.ray), 1)


@dataclass
class _RunningTrial:
    """A trial whose process runs."""

    trial: optuna.Trial
    process: TrialProcess
    reported: set[int]  # steps
    begun: float = field(default_factory=time.monotonic)


class _TrialInterrupted(TuningError):
    """A trial cannot write its files, or read what it needs: nor will the next one."""

    exit_code = 1  # the work was begun and has failed


class _Session:
    """One call of `tune`: starts trials, takes their validations, keeps the study's files.

    Args:
        study: Optuna's.
        space: What trials draw.
        base: The settings that all trials share.
        settings: The section `tune`.
        host: Where trials run.
        folder: Folder of the study.
        command: See `tune`.
        job: Returns the job of a trial, from its settings and its run directory.
    """

    def __init__(
        self, study: optuna.Study, space: Space, base: Config, settings: TuneConfig,
        host: TrialHost, folder: Path, command: str, job: Callable[[Config, Path], Job],
    ):
        self.study, self.space, self.base, self.settings = study, space, base, settings
        self.host = host
        self.folder, self.command, self.job = folder, command, job
        self.metric = settings.metric or base.training.select_by
        self.running: dict[Connection, _RunningTrial] = {}
        self.begun = self.page_written = time.monotonic()
        self.stopping = False
        self.unfinished = [trial for trial in study.get_trials() if trial.state.name == "RUNNING"]

    def run(self) -> StudyReport:
        try:
            self._run_trials()
        except (KeyboardInterrupt, _TrialInterrupted):
            self._interrupt()
            logger.info("stopped; the same command goes on")
            raise
        finally:
            for trial in self.running.values():
                trial.process.kill()
                trial.process.join()
            report = self._write_report(page=True)
        if self.unfinished or len(report.trials) < self.settings.trials:
            logger.info("tune.timeout_minutes are over; the same command goes on")
        return report

    def _run_trials(self) -> None:
        while True:
            while len(self.running) < self.host.workers and (trial := self._next()):
                self._start(trial)
            if not self.running:
                return
            for connection in self._ready():
                self._receive(connection)

    def _ready(self, timeout: float | None = None) -> list[Connection]:
        """Wait until a trial sends something, or has ended; return those connections."""
        ready = wait(list(self.running), timeout)
        return [connection for connection in self.running if connection in ready]

    def _next(self) -> optuna.Trial | None:
        """Return the next trial: an unfinished one, or a new one; None where there is none."""
        from optuna.trial import Trial

        over = time.monotonic() - self.begun > 60 * (self.settings.timeout_minutes or math.inf)
        if over:
            return None
        if self.unfinished:
            trial = self.unfinished.pop(0)
            # Draws what the trial had not drawn yet.
            self.study.sampler = _sampler(self.settings, trial.number)
            return Trial(self.study, trial._trial_id)
        states = [trial.state for trial in self.study.get_trials(deepcopy=False)]
        finished = sum(state.is_finished() for state in states)
        if finished + len(self.running) >= self.settings.trials:
            return None
        self.study.sampler = _sampler(self.settings, len(states))
        return self.study.ask()

    def _start(self, trial: optuna.Trial) -> None:
        drawn = self.space.draw(trial)
        known = self.study.trials[trial.number].intermediate_values
        _log(trial, self.space.describe(drawn) + (" · goes on" if known else ""))
        try:
            config = self.space.apply(self.base, drawn)
        except ConfigError as error:
            self._finish(trial, "PRUNED", reason=str(error))
            return
        job = self.job(self._threads(config), self.folder / TRIALS / f"{trial.number:04d}")
        with ctrl_c_later():
            process, connection = self.host.launch(job)
            self.running[connection] = _RunningTrial(trial, process, set(known))

    def _threads(self, config: Config) -> Config:
        """Share the cores among the workers."""
        if not self.host.threads or config.training.threads:
            return config
        training = config.training.model_copy(update={"threads": self.host.threads})
        return config.model_copy(update={"training": training})

    # ---- What comes of a trial -----------------------------------------------------------------
    def _receive(self, connection: Connection) -> None:
        """Take what the process of a trial has sent: a validation, or the outcome."""
        running = self.running[connection]
        try:
            message = connection.recv()
        except (EOFError, OSError):  # the process has died
            message = None
        if isinstance(message, Validation):
            with contextlib.suppress(OSError):  # it died meanwhile: the next `recv` shows it
                connection.send(self._goes_on(running, message))
            return
        running.process.join(STOP_SECONDS)
        running.process.kill()  # nothing more comes from it
        running.process.join()
        connection.close()
        del self.running[connection]
        minutes = (time.monotonic() - running.begun) / 60
        running.trial.set_user_attr("minutes", round(minutes, 3))
        if message is not None:
            self._settle(running, message)
        elif not self.stopping:  # else it goes on the next time
            self._finish(running.trial, "FAIL", reason=running.process.describe_exit())

    def _settle(self, running: _RunningTrial, outcome: Outcome) -> None:
        """Write down the outcome of a run."""
        trial = running.trial
        if outcome.state == "stopped":
            self._finish(trial, "PRUNED", reason="below the median of the others at step "
                         f"{max(running.reported)}")
        elif outcome.state == "failed":
            self._finish(trial, "FAIL", reason=outcome.reason)
        elif outcome.state == "interrupted":
            if not self.stopping:
                raise _TrialInterrupted(f"trial {trial.number}: {outcome.reason}",
                                        "the same command goes on where the study is")
        elif self.metric not in outcome.best:
            self._finish(trial, "FAIL", reason=f"no validation gave a finite {self.metric}")
        else:
            trial.set_user_attr("best", outcome.best)
            self._finish(trial, "COMPLETE", outcome.best[self.metric])

    def _goes_on(self, running: _RunningTrial, validation: Validation) -> bool:
        """Note a validation; return whether the trial goes on, as the pruner decides."""
        step, score = validation.step, validation.values.get(self.metric, math.nan)
        if not math.isfinite(score):
            return True
        if step not in running.reported:  # else done again after a kill
            running.reported.add(step)
            running.trial.report(score, step)
        _log(running.trial, f"step {step}, {self.metric} {score:.4g}")
        last = step >= (self.base.training.steps or math.inf)
        may_stop = len(running.reported) > self.settings.warmup_validations and not last
        return not (self.settings.prune and may_stop and running.trial.should_prune())

    def _finish(
        self, trial: optuna.Trial, state: str, score: float | None = None, reason: str = ""
    ) -> None:
        """Write down what came of a trial; `state` is a name of Optuna's `TrialState`."""
        from optuna.trial import TrialState

        if reason:
            trial.set_user_attr("reason", reason)
        seal_trial(trial, state, score)
        self.study.tell(trial, score, TrialState[state])
        report = self._write_report()
        if score is None or report.best is None:
            _log(trial, f"{report.trials[trial.number].state}: {reason}")
        else:
            _log(trial, f"{self.metric} {score:.4g}; the best is {report.best.score:.4g} of trial "
                        f"{report.best.number}")

    # ---- The end -------------------------------------------------------------------------------
    def _interrupt(self) -> None:
        """Pass Ctrl-C on to the runs, and wait until they have saved their states."""
        self.stopping = True
        for trial in self.running.values():
            trial.process.interrupt()
        until = time.monotonic() + STOP_SECONDS
        while self.running and (left := until - time.monotonic()) > 0:
            for connection in self._ready(left):
                self._receive(connection)

    def _write_report(self, page: bool = False) -> StudyReport:
        """Bring the study's tables up to date, the page now and then."""
        report = read_study(self.study, self.folder, self.space, self.base, self.metric)
        report.write_tables(self.command)
        if page or time.monotonic() - self.page_written > PAGE_SECONDS:
            report.write_page(importances(self.study))
            self.page_written = time.monotonic()
        return report


def _log(trial: optuna.Trial, text: str) -> None:
    logger.info("trial %d: %s", trial.number, text)


def _check(config: Config, kind: str) -> None:
    check_readiness(config, kind)
    if not config.data.has_waveforms and config.tune.metric in ("si_sdr", "pesq_wb"):
        raise TuningError(f"tune.metric={config.tune.metric}: data.features has no waveform",
                          "take snr_mel, psnr_mel or mse_mel")
    if config.tune.metric == "pesq_wb":
        require_pesq(config, "tune.metric=pesq_wb", "tune.metric=si_sdr")


def _sampler(settings: TuneConfig, number: int) -> optuna.samplers.TPESampler:
    """Return the sampler of a trial; a resumed study draws what an uninterrupted one would."""
    from optuna.samplers import TPESampler

    seed = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
    return TPESampler(n_startup_trials=settings.startup_trials, seed=seed)
