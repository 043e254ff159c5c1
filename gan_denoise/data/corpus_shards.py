"""One shard of a corpus: a run of recordings, decoded into one file of int16 samples.

`build_shard` is a pure function of a `ShardTask`: any process, on any machine that reaches the
recordings, may do it. Beside `NAME.i16` it writes `NAME.json` with a row for each recording, last;
where both are there and whole the shard is done. NAME has a hash of names, sizes and versions of
its recordings and of the sample rate, so that a changed recording makes another shard.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

import numpy as np

from gan_denoise.audio import AudioError, Reader, resample, to_mono
from gan_denoise.audio.samples import cancels, energy
from gan_denoise.core.checksums import block_sums, sealed, unsealed
from gan_denoise.core.decibels import db_to_amplitude
from gan_denoise.core.fetched_files import local_copy
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.locations import (
    NotThere,
    is_remote,
    publish,
    reaching,
    scratch_beside,
    stamp,
)
from gan_denoise.data.recordings import FULL_SCALE

FORMAT = 3  # of a corpus
SHARD_BYTES = 256 << 20  # of recordings in a shard: 1.1 h of 16-bit WAV at 32 kHz
SHARD_FILES = 10_000
BLOCK = 1 << 24  # samples of a file; longer recordings are decoded in blocks of this
SILENT_PEAK = db_to_amplitude(-90)  # a recording that stays below this (-90 dBFS) is silent


@dataclass(frozen=True)
class SourceFile:
    """A recording before it is decoded.

    Attributes:
        folder: Number of the folder that it is from.
        name: Its path in the corpus, with forward slashes.
        path: Where it is.
        size: Bytes.
        version: Changes with its content, see `core.locations.stamp`.
    """

    folder: int
    name: str
    path: Path
    size: int
    version: int | str


@dataclass(frozen=True)
class ShardTask:
    """What a process needs to make a shard.

    Attributes:
        files: Its recordings.
        name: Name of its files, without suffix.
        sample_rate: Hz.
    """

    files: tuple[SourceFile, ...]
    name: str
    sample_rate: int


@dataclass
class ShardRows:
    """What was found out about the recordings of a shard; all lists are of those that it holds.

    Attributes:
        kept: Number of each recording among the files of the task.
        lengths: Samples.
        gains: Factor from int16 to samples.
        hashes: SHA-256 of the files, hex.
        silent: Numbers of the recordings that are silent, and not in the shard.
        notes: A line on a file that is unusual, by its number.
        failures: A line on each file that cannot be read, by its number.
        sums: CRC-32 of each block of the sample file, see `core.checksums`; None: of an earlier
            version.
    """

    kept: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    gains: list[float] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)
    silent: list[int] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    sums: list[int] | None = None


def plan_shards(files: Sequence[SourceFile], sample_rate: int) -> list[ShardTask]:
    """Divide recordings into shards: runs of at most `SHARD_BYTES` or `SHARD_FILES`."""
    tasks: list[ShardTask] = []
    first, taken = 0, 0
    for number, file in enumerate(files):
        if number > first and (taken + file.size > SHARD_BYTES or number - first >= SHARD_FILES):
            tasks.append(_task(files[first:number], len(tasks), sample_rate))
            first, taken = number, 0
        taken += file.size
    return [*tasks, _task(files[first:], len(tasks), sample_rate)]


def _task(files: Sequence[SourceFile], number: int, sample_rate: int) -> ShardTask:
    key = hashlib.sha256(json.dumps([FORMAT, sample_rate]).encode())
    for file in files:
        key.update(json.dumps([file.folder, file.name, file.size, file.version]).encode())
    return ShardTask(tuple(files), f"{number:05d}-{key.hexdigest()[:16]}", sample_rate)


def build_shard(
    task: ShardTask, out: Path, skip_bad: bool = False,
    progress: Callable[[], None] | None = None,
) -> ShardRows:
    """Decode the recordings of a shard, unless that was done before.

    Args:
        task: What to decode.
        out: Folder of the corpus, or its address.
        skip_bad: Leave out what cannot be read; else the shard is not written where there is any.
        progress: Called after each recording.

    Returns:
        Its rows; those that failed are named in `failures`.

    Raises:
        OSError: When the disk is full.
        LocationError: When `out` cannot be written.
    """
    rows = read_rows(task, out)
    if rows is not None and (skip_bad or not rows.failures):
        return rows
    rows = ShardRows()
    with scratch_beside(out) as scratch:
        with open(scratch / "samples", "wb") as sink:
            for number, file in enumerate(task.files):
                _add(rows, number, file.path, task.sample_rate, sink)
                if progress is not None:
                    progress()
        if rows.failures and not skip_bad:
            return rows
        rows.sums = block_sums(scratch / "samples")
        text = json.dumps(sealed(asdict(rows)), allow_nan=False)
        (scratch / "rows").write_text(text, encoding="utf-8")
        publish(scratch / "samples", out / f"{task.name}.i16")
        publish(scratch / "rows", out / f"{task.name}.json")
    return rows


def read_rows(task: ShardTask, out: Path) -> ShardRows | None:
    """Return the rows of a shard that is done; None where it is missing or damaged."""
    samples = out / f"{task.name}.i16"
    try:
        with reaching(samples):
            text = (out / f"{task.name}.json").read_text(encoding="utf-8")
            rows = ShardRows(**unsealed(parse_json(text), out))
            size = stamp(samples)[0]
    except (FileNotFoundError, NotADirectoryError, NotThere, ValueError, TypeError,
            AttributeError):
        return None
    for lines in ("notes", "failures"):  # JSON has text as keys
        setattr(rows, lines, {int(key): line for key, line in getattr(rows, lines).items()})
    if size != 2 * sum(rows.lengths):
        return None
    # At an address only the size is compared: to fetch all is what a build goes on to avoid.
    whole = rows.sums is None or is_remote(samples) or block_sums(samples) == rows.sums
    return rows if whole else None


def _add(rows: ShardRows, number: int, path: Path, sample_rate: int, sink: BinaryIO) -> None:
    """Append a recording to the samples and to the rows."""
    begin = sink.tell()
    try:
        length, gain, note = _decode(path, sample_rate, sink)
        with open(local_copy(path), "rb") as source:
            content = hashlib.file_digest(source, "sha256").hexdigest()
    except AudioError as error:  # all are looked at, so that one message names them
        sink.seek(begin)
        sink.truncate()
        rows.failures[number] = str(error)
        return
    if note:
        rows.notes[number] = note
    if gain == 0.0:
        rows.silent.append(number)
        return
    rows.kept.append(number)
    rows.lengths.append(length)
    rows.gains.append(gain)
    rows.hashes.append(content)


def _decode(path: Path, sample_rate: int, sink: BinaryIO) -> tuple[int, float, str]:
    """Append a recording at full scale to `sink`; return its length, its gain, and a note.

    Nothing is appended of a silent one, whose gain is 0.
    """
    cancelled: list[bool] = []
    with Reader(path) as reader:
        rate = reader.info.sample_rate
        blocks = _mono(reader, cancelled)
        begin = list(islice(blocks, 2))
        short = [resample(begin[0], rate, sample_rate)] if len(begin) < 2 else None
        # What is longer is decoded twice, never whole in memory.
        peak = max(float(np.max(np.abs(block), initial=0.0))
                   for block in short or _resampled(chain(begin, blocks), rate, sample_rate))
    notes = [f"cut off: {reader.cut_off}; used as far as it goes"] if reader.cut_off else []
    notes += [reader.note] if reader.note else []
    if any(cancelled):
        notes.append("its channels cancel each other in their mean; the loudest is used")
    gain = peak / FULL_SCALE if peak > SILENT_PEAK else 0.0
    length = 0
    with Reader(path) as reader:
        for block in short or _resampled(_mono(reader, []), rate, sample_rate):
            if gain:
                sink.write(np.rint(block / np.float32(gain)).astype(np.int16).tobytes())
            length += len(block)
    if length == 0:
        raise AudioError(f"{path}: no samples are left at {sample_rate} Hz", "record more")
    return length, gain, "; ".join(notes)


def _mono(reader: Reader, cancelled: list[bool]) -> Iterator[np.ndarray]:
    """Yield a recording block by block, float32 [samples]; add whether its channels cancel."""
    for audio in reader.blocks(BLOCK):
        mean = energy(audio.mean(axis=0, dtype=np.float32)) if len(audio) > 1 else None
        cancelled.append(mean is not None and cancels(mean, energy(audio) / len(audio)))
        yield to_mono(audio)


def _resampled(
    blocks: Iterable[np.ndarray], rate: int, sample_rate: int
) -> Iterator[np.ndarray]:
    """Yield blocks, float32 [samples], at another rate in Hz."""
    import soxr

    if rate == sample_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, sample_rate, 1, quality="HQ")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
