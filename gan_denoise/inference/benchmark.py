"""How fast, how much memory, how soon: a model on this machine.

The recording is made up (speed does not depend on what is said), and each figure is the median of
several runs: machines are busy.
"""

from __future__ import annotations

import dataclasses
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import audio
from gan_denoise.audio.writer import Writer, write
from gan_denoise.core.leftovers import temporary_folder
from gan_denoise.core.machine import machine
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.file_enhancer import BLOCK_SECONDS

LONG_RATE, LONG_CHANNELS = 48000, 2  # of the recording that memory is measured on


def measure(enhancer: Enhancer, seconds: float = 60.0, runs: int = 5) -> dict[str, Any]:
    """Time a model on this machine.

    Args:
        enhancer: The model; its threads are the ones that are timed.
        seconds: Length of the recording, at the model's rate, one channel.
        runs: Repetitions, of which the median is taken.

    Returns:
        Figures by name: `speed` holds seconds of audio in a second of work by stage, `memory_mib`
        and `start_seconds` are of whole processes.
    """
    rate = enhancer.mel.sample_rate
    recording = _hiss(1, seconds, rate)
    clock = _TimedSession(enhancer.model.session)
    timed = dataclasses.replace(enhancer.model, session=clock)
    timed = Enhancer(timed, enhancer.inversion, enhancer.options, enhancer.threads,
                     enhancer.chunk_seconds, enhancer.pool)
    with temporary_folder("gan-denoise-bench-") as temporary:
        source, target = Path(temporary) / "noisy.wav", Path(temporary) / "out" / "noisy.wav"
        write(source, recording, rate)
        rows = []
        for _ in range(runs + 1):  # the first one warms up
            clock.seconds = 0.0
            array = _seconds(lambda: timed.enhance(recording, rate))
            network = clock.seconds / enhancer.threads
            copy = _seconds(lambda: _copy(source, target))
            whole = _seconds(lambda: timed.enhance_file(source, target))
            rows.append((network, array - network, copy, whole))
        stages = [seconds / statistics.median(times) for times in zip(*rows[1:], strict=True)]
        names = ("network", "transforms", "file", "whole")
        return {
            "model": enhancer.name,
            "inversion": enhancer.inversion.name,
            "threads": enhancer.threads,
            "seconds": seconds,
            "speed": {name: round(speed, 1) for name, speed in zip(names, stages, strict=True)},
            "start_seconds": _start(enhancer, Path(temporary), runs),
            "memory_mib": _memory(enhancer, Path(temporary)),
            "machine": machine(),
        }


class _TimedSession:
    """An ONNX Runtime session that adds up the time of its runs, over all threads."""

    def __init__(self, session: Any):
        self._session, self.seconds = session, 0.0

    def run(self, *arguments: Any) -> Any:
        begun = time.perf_counter()
        result = self._session.run(*arguments)
        self.seconds += time.perf_counter() - begun
        return result


def _hiss(channels: int, seconds: float, rate: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform(-0.1, 0.1, (channels, round(seconds * rate))).astype(np.float32)


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _copy(source: Path, target: Path) -> None:
    """Read and write a file in the way of `Enhancer.enhance_file`."""
    info = audio.probe(source)
    with Writer(target, info.sample_rate, info.channels, info.format, info.subtype) as writer:
        for block in audio.blocks(source, round(BLOCK_SECONDS * info.sample_rate)):
            writer.write(block)


def _command(enhancer: Enhancer, source: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "gan_denoise.cli", "denoise", str(source), "-o", str(out), "-m",
            str(enhancer.folder), "--overwrite", "--inversion", enhancer.inversion.name,
            "--threads", str(enhancer.threads)]


def _start(enhancer: Enhancer, folder: Path, runs: int) -> float:
    """Return the wall time of a whole process on four seconds of audio."""
    write(folder / "short.wav", _hiss(1, 4.0, enhancer.mel.sample_rate), enhancer.mel.sample_rate)
    command = _command(enhancer, folder / "short.wav", folder / "short")
    times = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True))
             for _ in range(runs)]
    return round(statistics.median(times), 2)


def _memory(enhancer: Enhancer, folder: Path) -> int | None:
    """Return the peak memory of a whole process on a recording of several parts, in MiB."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    write(folder / "long.wav", _hiss(LONG_CHANNELS, 120.0, LONG_RATE), LONG_RATE)
    subprocess.run(_command(enhancer, folder / "long.wav", folder / "long"), check=True,
                   capture_output=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # the largest of all children
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))


