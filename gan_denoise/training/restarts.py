"""Dead starts: how often a run may begin again, and when it may not."""

from __future__ import annotations

from pathlib import Path

from gan_denoise.config.artifacts import BEST
from gan_denoise.config.schema import TrainingConfig
from gan_denoise.training.checkpoints import RunState
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.monitor import Finding, beats_trivial

MAX_RESTARTS = 2
RESTART_SEEDS = 1000  # from the seed of one initialisation to that of the next


class DeadStart(Exception):
    """Ends an attempt whose generator is dead.

    Args:
        finding: What the monitor of the chief has found; None on another worker.
    """

    def __init__(self, finding: Finding | None):
        super().__init__("" if finding is None else finding.text)
        self.finding = finding


def refuse_restart(
    run_dir: Path, progress: RunState, training: TrainingConfig, finding: Finding
) -> None:
    """Raise where a run was alive before, or has restarted often enough.

    Args:
        run_dir: Its directory.
        progress: Its state.
        training: Its settings, of which the error names the way out.
        finding: What the monitor has found.

    Raises:
        TrainingError: The run ends.
    """
    alive = [row["step"] for row in progress.history if beats_trivial(row, training.select_by)]
    way_out = (
        f"lower training.learning_rate (now {training.learning_rate:g}) or lengthen "
        f"training.warmup_steps ({training.warmup_steps}); generator.batch_norm=true or a "
        "deeper generator.gain_floor_db make a start easier; training.watch=false lets a run "
        "go on whatever it does"
    )
    if alive:
        raise TrainingError(
            f"{run_dir}: step {progress.step}: {finding.text}. It was alive at step "
            f"{alive[-1]}, and {BEST} holds its best state", f"{way_out}, and start a new run"
        )
    if len(progress.restarts) == MAX_RESTARTS:
        raise TrainingError(
            f"{run_dir}: the generator is dead after {MAX_RESTARTS + 1} starts (step "
            f"{progress.step}: {finding.text})", way_out
        )
