"""What a denoising run returns: a result for each file, and how far a run over a folder is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)  # a run returns one a file, of thousands
class FileResult:
    """The result of one file. Levels are in dB relative to full scale.

    Attributes:
        source: The input.
        target: The output.
        status: `done`, `skipped` (an earlier run did it), `failed`, or `planned` in a dry run.
        seconds: Duration of the recording as decoded; 0 where it could not be read.
        sample_rate: Hz.
        channels: Number of channels of the input.
        elapsed: Seconds of work.
        peak_in_db: Largest magnitude of the input; None for silence.
        peak_out_db: Largest magnitude of the output, before clipping and encoding.
        noise_floor_drop_db: By how many dB the level of the quietest tenth of the frames fell.
        clipped: Number of samples beyond full scale, which an integer encoding clipped.
        guard_gain_db: Gain of the peak guard; 0 where no gain was needed.
        lost: Names of metadata of the input that the output does not have.
        note: What is unusual about the input or the work on it; empty where nothing is.
        cut_off: What is missing at the end of the input; empty where nothing is.
        error: Why there is no output; None where there is one.
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
        """Seconds of audio per second of work; None without work."""
        return self.seconds / self.elapsed if self.elapsed and self.status == "done" else None

    def figures(self) -> dict[str, Any]:
        """Return all but the paths as JSON values; what is not finite is None."""
        values = asdict(self)
        del values["source"], values["target"]
        return {name: None if isinstance(value, float) and not math.isfinite(value) else value
                for name, value in values.items()}


@dataclass
class FolderProgress:
    """How far a run over a folder is. Every call of `progress` gets the same object.

    Attributes:
        files: Number of files.
        seconds: Audio in them, in seconds; of recordings at addresses as far as they are done.
        all_known: Whether `seconds` is that of all files.
        files_done: Number of files that are done, skipped or failed.
        seconds_done: Audio in those, and what is done of the files in work, in seconds.
        seconds_denoised: Audio that went through the model in this run, in seconds.
        passed_over: Files that look like recordings and are not taken, by the reason.
        result: Result of the file that this call reports as finished; None for a call within a
            file.
        began: Value of `time.monotonic()` at the start of the run.
    """

    files: int
    seconds: float
    files_done: int = 0
    seconds_done: float = 0.0
    seconds_denoised: float = 0.0
    all_known: bool = True
    passed_over: Mapping[str, list[Path]] = field(default_factory=dict)
    result: FileResult | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def speed(self) -> float:
        """Seconds of audio denoised per second of the run."""
        return self.seconds_denoised / max(time.monotonic() - self.began, 1e-9)

    @property
    def remaining(self) -> float | None:
        """Seconds until the end at this speed; None before there is one, or a length of all."""
        left = max(self.seconds - self.seconds_done, 0.0)
        return left / self.speed if self.seconds_denoised and self.all_known else None
