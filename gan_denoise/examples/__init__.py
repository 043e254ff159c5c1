"""A short real recording in noise, and the same without it; `NOTICE.md` says whose they are.

Both are 16 kHz mono FLAC of 5.1 seconds and are aligned to the sample.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def noisy_speech() -> Path:
    """Return the recording in noise: a man reads letters and digits beside a boat engine."""
    return FOLDER / "noisy_speech.flac"


def clean_speech() -> Path:
    """Return the same recording without the noise."""
    return FOLDER / "clean_speech.flac"
