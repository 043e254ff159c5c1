"""What is known of a recording before its samples are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class AudioInfo:
    """The properties of a file as its header gives them.

    Attributes:
        path: The file.
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        frames: Samples per channel.
        format: Container, see `containers`.
        subtype: Encoding, see `containers`.
        bit_rate: Bit rate of the audio in bits per second; None where no header gives it.
        exact: Whether `frames` is certain; otherwise the header promises or estimates it.
        note: How the header is wrong although nothing is missing; empty where it is right.
        cut_off: What is missing of what the header promises, as far as is known before decoding.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    bit_rate: int | None = None
    exact: bool = True
    note: str = ""
    cut_off: str = ""

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.sample_rate

    @property
    def sure_frames(self) -> int:
        """Lower bound of the samples per channel: `frames` where it is exact, else 0."""
        return self.frames if self.exact else 0


class _Anomalies(Protocol):
    """What `AudioInfo`, `Reader` and the result of a file have in common."""

    @property
    def note(self) -> str: ...

    @property
    def cut_off(self) -> str: ...


def describe_anomalies(found: _Anomalies) -> str:
    """Return in one line what is missing of a file and how its header is wrong.

    Args:
        found: Has `cut_off` and `note`, as `AudioInfo`, `Reader` and the result of a file have.

    Returns:
        The line; empty where nothing is unusual.
    """
    cut = f"cut off: {found.cut_off}" if found.cut_off else ""
    return "; ".join(filter(None, (cut, found.note)))
