"""The report on a study: its trials as a table, the best settings, pictures and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gan_denoise.config import dump_config
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.tables import write_csv
from gan_denoise.reports.figures import colour, new_figure, picture_svg
from gan_denoise.reports.pages import render, write_page
from gan_denoise.tuning.search_space import Space, Value, words

if TYPE_CHECKING:
    import optuna
    from markupsafe import Markup
    from matplotlib.figure import Figure

BEST, TABLE, PAGE = "best.yaml", "trials.csv", "study.html"
HISTORY, IMPORTANCE = "history.png", "importance.png"
FEWEST = 4  # complete trials of which importance says something
COLOURS = {"complete": colour("series-1"), "stopped": colour("muted")}


@dataclass(frozen=True)
class TrialResult:
    """A trial.

    Attributes:
        number: Its number, from 0; its run is `trials/NUMBER`.
        state: `complete`, `stopped` early, `refused` by the settings' rules, `failed`, `running`.
        score: Score of the best state; that of the last validation where the trial was stopped;
            None without one.
        drawn: What was drawn, by the keys of the space.
        values: All validation values of the best state, and its step.
        minutes: Time that it took.
        reason: Why it is not complete.
    """

    number: int
    state: str
    score: float | None
    drawn: Mapping[str, Value]
    values: Mapping[str, float] = field(default_factory=dict)
    minutes: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class StudyReport:
    """The trials of a study so far, and the files that show them.

    Attributes:
        folder: Folder of the study.
        space: What was searched.
        base: The settings that all trials share.
        metric: Name of the score.
        maximise: Whether the highest score is the best.
        trials: The trials, by number.
    """

    folder: Path
    space: Space
    base: Config
    metric: str
    maximise: bool
    trials: Sequence[TrialResult]

    @property
    def ranking(self) -> list[TrialResult]:
        """Complete trials, the best first."""
        scored = [(row.score, row) for row in self.trials
                  if row.state == "complete" and row.score is not None]
        return [row for _, row in sorted(scored, key=lambda pair: pair[0] * self._sign)]

    @property
    def best(self) -> TrialResult | None:
        """The best trial, None before one is complete."""
        return next(iter(self.ranking), None)

    def write_tables(self, command: str) -> None:
        """Write `trials.csv`, and `best.yaml` once there is a best trial."""
        keys = [dimension.key for dimension in self.space.dimensions]
        measured = sorted({name for row in self.trials for name in row.values} - {self.metric})
        write_csv(
            self.folder / TABLE,
            ["trial", "state", self.metric, *keys, *measured, "minutes", "reason"],
            ([row.number, row.state, row.score, *(row.drawn.get(key) for key in keys),
              *(row.values.get(name) for name in measured), row.minutes, row.reason]
             for row in self.trials),
        )
        if self.best is not None:
            _write(self.folder / BEST, self._settings_of(self.best, command).encode())

    def write_page(self, importance: Mapping[str, float]) -> None:
        """Write `study.html` and its pictures.

        Args:
            importance: Share of each key of the space, see `importances`; empty while it is not
                known.
        """
        keys = [dimension.key for dimension in self.space.dimensions]
        reasons = any(row.reason for row in self.trials)
        text = render(
            "study.html.j2", title=f"Study {self.folder.resolve().name}",
            finished=sum(row.state != "running" for row in self.trials), metric=self.metric,
            better=self._better, best=self._best_settings(), keys=keys,
            complete=len(self.ranking), reasons=reasons,
            history=self._drawn(self._history(), HISTORY) if self.best else "",
            importance=self._drawn(_bars(importance), IMPORTANCE) if importance else "",
            trials=[[row.number, row.score, row.state,
                     *(words(row.drawn[key]) if key in row.drawn else None for key in keys),
                     row.minutes, *([row.reason] if reasons else [])] for row in self.trials],
        )
        write_page(self.folder / PAGE, text)

    # ---- Parts ---------------------------------------------------------------------------------
    @property
    def _better(self) -> str:
        return "higher" if self.maximise else "lower"

    @property
    def _sign(self) -> int:
        """1 where the lowest score is the best, -1 where the highest is."""
        return -1 if self.maximise else 1

    def _settings_of(self, best: TrialResult, command: str) -> str:
        config = self.space.apply(self.base, best.drawn)
        lines = [
            f"Trial {best.number} of {self.folder}: {self.metric} {best.score:.6g} "
            f"({self._better} is better), the best of {len(self.ranking)} complete trials.",
            f"  {command}",
        ]
        return "".join(f"# {line}\n" for line in lines) + dump_config(config)

    def _best_settings(self) -> dict[str, object] | None:
        """Return the best trial as the page shows it, beside the settings as given."""
        if self.best is None:
            return None
        given = self.space.values_in(self.base) or {}
        return {
            "number": self.best.number, "score": self.best.score, "file": BEST,
            "given": [row.score for row in self.ranking if row.drawn == given],
            "settings": [[key, words(value), words(given[key]) if key in given else None]
                         for key, value in self.best.drawn.items()],
        }

    def _drawn(self, figure: Figure, name: str) -> Markup:
        """Write a figure beside the page, and return it for the page."""
        _write(self.folder / name, lambda file: figure.savefig(file, format="png", dpi=110))
        return picture_svg(figure)

    def _points(self, state: str) -> dict[int, float]:
        """Return the scores of the trials of a state by their numbers."""
        return {row.number: row.score for row in self.trials
                if row.state == state and row.score is not None}

    def _history(self) -> Figure:
        from matplotlib.ticker import MaxNLocator

        figure = new_figure(8, 3.6)
        axes = figure.subplots()
        for state, own in COLOURS.items():
            points = self._points(state)
            if points:
                axes.scatter(list(points), list(points.values()), s=28, color=own,
                             marker="o" if state == "complete" else "x", label=state, zorder=3)
        complete = self._points("complete")
        best = list(accumulate(complete.values(), max if self.maximise else min))
        last = self.trials[-1].number
        axes.step([*complete, last], [*best, best[-1]], where="post", color=colour("series-2"),
                  linewidth=1.5, label="best so far")
        axes.set(xlabel="trial", ylabel=self.metric)
        axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10],
                                               integer=True))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return figure


def read_study(
    study: optuna.Study, folder: Path, space: Space, base: Config, metric: str
) -> StudyReport:
    """Return what an Optuna study holds."""
    trials = study.get_trials(deepcopy=False)
    rows = [_row(trial) for trial in trials if trial.state.name != "WAITING"]
    return StudyReport(folder, space, base, metric, study.direction.name == "MAXIMIZE", rows)


def importances(study: optuna.Study) -> Mapping[str, float]:
    """Return the share of each key in the variance of the score (fANOVA, Hutter et al. 2014).

    Empty while there are too few trials to tell.
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    scores = [trial.value for trial in study.get_trials(deepcopy=False)
              if trial.state.name == "COMPLETE"]
    if len(scores) < FEWEST or len(set(scores)) == 1:
        return {}
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _row(trial: optuna.trial.FrozenTrial) -> TrialResult:
    facts = trial.user_attrs
    states = {"COMPLETE": "complete", "FAIL": "failed", "RUNNING": "running",
              "PRUNED": "stopped" if trial.intermediate_values else "refused"}
    return TrialResult(trial.number, states[trial.state.name], trial.value, trial.params,
               facts.get("best", {}), facts.get("minutes"), facts.get("reason", ""))


def _bars(importance: Mapping[str, float]) -> Figure:
    shares = sorted(importance.items(), key=lambda item: item[1])
    figure = new_figure(8, 0.8 + 0.35 * len(shares))
    axes = figure.subplots()
    bars = axes.barh([key for key, _ in shares], [share for _, share in shares],
                     color=COLOURS["complete"], height=0.6)
    axes.bar_label(bars, fmt="{:.0%}", padding=4)
    axes.set(xlabel="share of the variance", xlim=(0, 1.12 * max(importance.values())))
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _write(path: Path, content: bytes | Callable[[IO[bytes]], object]) -> None:
    write = content if callable(content) else lambda file: file.write(content)
    write_atomically(path, write)
