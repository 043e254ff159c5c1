"""The memory of a command does not grow with the length of a recording."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import soundfile

from gan_denoise.examples import noisy_speech

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peaks of Linux, in kilobytes"),
]
RATE = 48000
MOST = 330_000  # kB
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(folder, minutes):
    """Return the most memory in kB that denoising so many minutes of stereo takes."""
    import soxr

    speech, rate = soundfile.read(noisy_speech(), dtype="float32")
    speech = soxr.resample(speech, rate, RATE)
    both = np.stack([speech, 0.7 * np.roll(speech, 480)], axis=1)
    source = folder / f"{minutes}.wav"
    with soundfile.SoundFile(source, "w", RATE, 2) as file:
        for _ in range(round(60 * minutes * RATE / len(both))):
            file.write(both)
    command = [sys.executable, "-m", "gan_denoise.cli", "denoise", source, "-o",
               folder / "clean.wav", "--overwrite", "--threads", "2", "--jobs", "1"]
    done = subprocess.run([sys.executable, "-c", PEAK, *map(str, command)], capture_output=True,
                          text=True, check=True)
    return int(done.stdout)


def test_a_long_recording_takes_the_memory_of_a_short_one(tmp_path):
    short, long = peak(tmp_path, 3), peak(tmp_path, 15)
    assert long < MOST
    assert long < 1.1 * short
