"""What became of a file: levels, length, what was lost, why it failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FileResult:
    """What became of one file.

    Attributes:
        source: The input.
        target: The output.
        status: `done`, `skipped` (was done before), `failed`, or `planned` in a dry run.
        seconds: Duration of the recording, as decoded; 0 where it could not be read.
        sample_rate: In Hz.
        channels: Count of channels of the input.
        elapsed: Seconds of work.
        peak_in_db: Largest magnitude of the input, dB below full scale.
        peak_out_db: Of the output, before clipping and encoding.
        noise_floor_drop_db: By how much the quietest tenth of the recording went down.
        clipped: Samples that an integer format could not hold and that were clipped.
        guard_gain_db: Gain of the peak guard; 0 where it had nothing to do.
        lost: Names of metadata that the output does not have.
        note: What is unusual about the input or was done to it; empty where nothing is.
        cut_off: What is missing at the end of the input; empty where nothing is.
        error: Reason why there is no output, None where there is one.
        reason: Why a file of a folder is done, or done again; None where it is not.
    """

    source: Path
    target: Path
    status: str = "done"
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    elapsed: float = 0.0
    peak_in_db: float | None = None
    peak_out_db: float | None = None
    noise_floor_drop_db: float | None = None
    clipped: int = 0
    guard_gain_db: float = 0.0
    lost: tuple[str, ...] = ()
    note: str = ""
    cut_off: str = ""
    error: str | None = None
    reason: str | None = None

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of audio in a second of work; None without work."""
        return self.seconds / self.elapsed if self.elapsed and self.status == "done" else None
