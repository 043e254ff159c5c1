"""Simulated room impulse responses, to put training speech into.

The rooms are shoe boxes, by the image source method (Allen & Berkley 1979), which pyroomacoustics
computes (Scheibler, Bezzam & Dokmanić 2018).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio.writer import write
from gan_denoise.core.atomic_files import new_folder
from gan_denoise.core.decibels import db_to_power
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.rng import random_stream

SIZES = ((3.0, 10.0), (3.0, 8.0), (2.4, 4.0))  # metres
WALL, APART = 0.5, 0.7  # metres that voice and microphone keep from walls, and from each other
MAX_ORDER = 60  # reflections; the rooms that would need more are drawn again: the time is cubic
KEPT_DB = 60.0  # of the decay


class RoomError(GanDenoiseError):
    """No room with the wanted reverberation can be simulated."""


def write_rooms(
    out: str | Path,
    count: int,
    sample_rate: int = 16000,
    rt60: tuple[float, float] = (0.15, 0.7),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Write room impulse responses (32-bit float WAV, peak 1) and `rooms.json`.

    Args:
        out: Folder to write; must not exist, or be empty.
        count: How many.
        sample_rate: Hz.
        rt60: Range of the reverberation time in seconds. Few rooms are big enough for a long one
            (see `MAX_ORDER`), so of 0.15 to 0.7 half are below 0.3, and hardly any above 0.55.
        seed: Seed of the rooms.
        progress: Called with (rooms done, rooms in all).

    Returns:
        The rows of `rooms.json`: file, size, voice and microphone in metres, rt60 in seconds.

    Raises:
        OutputError: When `out` holds something.
        RoomError: When no room has such a reverberation time, or pyroomacoustics is missing.
    """
    rows = []
    with new_folder(Path(out)) as build:
        for number in range(count):
            response, row = room(random_stream(seed, 0, number), sample_rate, rt60)
            row = {"file": f"room_{number:04d}.wav", **row}
            write(build / row["file"], response, sample_rate, subtype="FLOAT")
            rows.append(row)
            if progress is not None:
                progress(number + 1, count)
        (build / "rooms.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return rows


def room(
    rng: np.random.Generator, sample_rate: int, rt60: tuple[float, float]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the impulse response of a room drawn at random, and what it is.

    Args:
        rng: Random numbers of this room.
        sample_rate: Hz.
        rt60: Range of the reverberation time in seconds.

    Returns:
        float32 `[taps]`, its largest sample 1, down to 60 dB of decay; and size, places, rt60.

    Raises:
        RoomError: When no room of 100 has such a reverberation time, or pyroomacoustics is missing.
    """
    try:
        import pyroomacoustics
    except ImportError:
        raise RoomError("rooms need pyroomacoustics: pip install 'gan-denoise[rooms]'") from None
    if not 0 < rt60[0] <= rt60[1] < math.inf:
        raise RoomError(f"rt60 of {rt60[0]:g} to {rt60[1]:g} s: give a range within 0.15 to 1")
    for _ in range(100):
        size = np.array([rng.uniform(*side) for side in SIZES])
        voice, microphone = rng.uniform(WALL, size - WALL, (2, 3))
        seconds = float(rng.uniform(*rt60))
        try:
            absorption, order = pyroomacoustics.inverse_sabine(seconds, size)
        except ValueError:  # walls that swallow more than all of it
            continue
        if order <= MAX_ORDER and np.linalg.norm(voice - microphone) >= APART:
            break
    else:
        raise RoomError(f"no room of up to {SIZES[0][1]:g} x {SIZES[1][1]:g} m has an rt60 of "
                        f"{rt60[0]:g} to {rt60[1]:g} s", "give a range within 0.15 to 1")
    box = pyroomacoustics.ShoeBox(
        size, fs=sample_rate, materials=pyroomacoustics.Material(absorption), max_order=order
    )
    box.add_source(voice)
    box.add_microphone(microphone)
    box.compute_rir()
    response = np.asarray(box.rir[0][0], np.float64)
    response /= np.abs(response).max()
    decay = np.cumsum(response[::-1] ** 2)[::-1]  # Schroeder 1965
    kept = int(np.argmax(decay < decay[0] * db_to_power(-KEPT_DB))) or len(response)
    row = {name: [round(float(value), 3) for value in place] for name, place in
           (("size", size), ("voice", voice), ("microphone", microphone))}
    return response[:kept].astype(np.float32), row | {"rt60": round(seconds, 3)}
