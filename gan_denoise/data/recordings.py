"""Decoded recordings in a few files of int16 samples: the class `Corpus`, and how it reads.

A corpus of 10,000 hours is a million recordings in a thousand sample files. All that is known of a
recording is a row of NumPy arrays, memory-mapped where they come from an index; a sample file is
opened, or fetched block by block from its address, when a recording in it is first read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio import AudioError
from gan_denoise.core.checksums import BLOCK, CheckedBlocks
from gan_denoise.core.fetched_files import RemoteBlocks
from gan_denoise.core.locations import is_remote
from gan_denoise.data.texts import Texts

FULL_SCALE = 32767
LOOK = 1 << 20  # samples that are looked at for a sound at once
MEND = ("build the corpus again: only what is damaged is done; a folder of the cache of decoded "
        "audio: remove it")


class CorpusError(AudioError):
    """A corpus cannot be opened: it is damaged, incomplete, or not what the settings need."""


class SampleFiles:
    """Files of int16 samples, each opened when it is first read; they pickle as their places.

    Args:
        files: Paths and addresses; or int16 `[samples]` in memory.
        sums: For each file the CRC-32 of its blocks, see `core.checksums`; None: it has none.
    """

    def __init__(
        self, files: Sequence[Path | np.ndarray], sums: Sequence[np.ndarray | None] = ()
    ):
        self.files = tuple(files)
        self.sums = tuple(sums) or (None,) * len(self.files)
        self._readers: dict[int, Callable[[int, int], np.ndarray]] = {}

    def read(self, number: int, start: int, stop: int) -> np.ndarray:
        """Return samples start..stop-1 of a file, int16, as a view where it is mapped.

        Raises:
            CorpusError: When they are not as they were written.
        """
        reader = self._readers.get(number)
        if reader is None:
            reader = _reader(self.files[number])
            sums = self.sums[number]
            if sums is not None:
                reader = _checked(reader, sums, self.files[number])
            self._readers[number] = reader
        return reader(start, stop)

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "sums": self.sums, "_readers": {}}


def _checked(
    reader: Callable[[int, int], np.ndarray], sums: np.ndarray, file: object
) -> Callable[[int, int], np.ndarray]:
    """Return a reader that compares each block of a file when it is first read."""
    blocks, samples = CheckedBlocks(sums), BLOCK // 2

    def read(start: int, stop: int) -> np.ndarray:
        for block in blocks.unchecked(2 * start, 2 * stop):
            if not blocks.holds(block, reader(block * samples, (block + 1) * samples)):
                raise CorpusError(f"{file}: damaged: samples are not as they were written", MEND)
        return reader(start, stop)

    return read


def _reader(file: Path | np.ndarray) -> Callable[[int, int], np.ndarray]:
    """Return a function that reads samples start..stop-1."""
    if not isinstance(file, np.ndarray) and is_remote(file):
        blocks = RemoteBlocks(file)
        return lambda start, stop: blocks.read(
            2 * start, min(2 * stop, blocks.size)).view(np.int16)
    # np.asarray: slicing and arithmetic of the memmap class cost several times more.
    samples = np.asarray(file if isinstance(file, np.ndarray)
                         else np.memmap(file, dtype=np.int16, mode="r"))
    return lambda start, stop: samples[start:stop]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Recordings as parts of int16 files; sample = int16 * gain of its recording.

    Attributes:
        samples: The sample files.
        names: Relative path of each recording in its folder, with forward slashes.
        groups: Speaker of each recording, None where the tree does not show speakers.
        parents: Folder of each recording, relative as in `names`: the kind of a noise.
        folders: Number of the folder that each recording is from, int [recordings].
        files: Sample file that each recording is in, int [recordings].
        offsets: Its first sample there, int64 [recordings].
        lengths: Length of each recording in samples, int64 [recordings].
        gains: float32 [recordings].
        hashes: SHA-256 of each file, uint8 [recordings, 32].
        sample_rate: Hz.
        silent: Relative paths of recordings that were left out because they are silent.
        notes: A line on each file that is cut off, or whose header is wrong.
        known_digest: `digest` where it is known already.
    """

    samples: SampleFiles
    names: Texts[str]
    groups: Texts[str | None]
    parents: Texts[str]
    folders: np.ndarray
    files: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    gains: np.ndarray
    hashes: np.ndarray
    sample_rate: int
    silent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    known_digest: str | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""
        return float(self.lengths.sum() / self.sample_rate)

    @property
    def digest(self) -> str:
        """Hash of content, order and rate; equal for equal recordings in another place."""
        if self.known_digest is not None:
            return self.known_digest
        # The JSON of [rate, [[folder, name, content], ...]], a recording at a time.
        total = hashlib.sha256(f"[{self.sample_rate}, [".encode())
        before = ""
        for folder, name, content in zip(self.folders.tolist(), self.names, self.hashes,
                                         strict=True):
            row = f'{before}[{folder}, {json.dumps(name)}, "{content.tobytes().hex()}"]'
            total.update(row.encode())
            before = ", "
        total.update(b"]]")
        return total.hexdigest()

    def peak(self, index: int) -> float:
        """Largest absolute sample of a recording."""
        return float(self.gains[index]) * FULL_SCALE

    def clip(self, index: int, start: int = 0, frames: int | None = None) -> np.ndarray:
        """Return a part of a recording, float32 [samples].

        Args:
            index: Number of the recording.
            start: First sample.
            frames: Number of samples; None: up to the end.

        Raises:
            ValueError: When the part reaches out of the recording.
            LocationError: When it is to be fetched from an address that cannot be reached.
        """
        length = int(self.lengths[index])
        stop = length if frames is None else start + frames
        if not 0 <= start <= stop <= length:
            raise ValueError(f"{self.names[index]}: samples {start}..{stop} of {length}")
        offset = int(self.offsets[index])
        part = self.samples.read(int(self.files[index]), offset + start, offset + stop)
        return np.multiply(part, self.gains[index], dtype=np.float32)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Corpus:
        """Return a corpus of some of the recordings; it shares the samples."""
        chosen = np.asarray(indices, dtype=np.int64)
        arrays = ("names", "groups", "parents", "folders", "files", "offsets", "lengths", "gains",
                  "hashes")
        return replace(self, known_digest=None, **{
            name: values.take(chosen) if isinstance(values := getattr(self, name), Texts)
            else values[chosen] for name in arrays})

    def part(self, index: int, start: int, stop: int) -> Corpus:
        """Return a corpus in which one recording is only a part of it, samples `start..stop`.

        `peak` is that of the whole recording still.
        """
        offsets, lengths = self.offsets.copy(), self.lengths.copy()
        offsets[index] += start
        lengths[index] = stop - start
        return replace(self, offsets=offsets, lengths=lengths)

    def sound_end(self, index: int, pause: float) -> int:
        """Return the sample of a recording behind which all is below `pause` times its peak."""
        first, file = int(self.offsets[index]), int(self.files[index])
        stop = first + int(self.lengths[index])
        while stop > first:
            start = max(stop - LOOK, first)
            part = np.abs(self.samples.read(file, start, stop), dtype=np.int32)
            if len(loud := np.flatnonzero(part > pause * FULL_SCALE)):
                return start + int(loud[-1]) + 1 - first
            stop = start
        return 0


def join_corpora(parts: Sequence[Corpus]) -> Corpus:
    """Return the recordings of several corpora of one rate as one, in the order of `folders`."""
    if len(parts) == 1:
        return parts[0]
    files_before = np.cumsum([0, *(len(part.samples.files) for part in parts)])
    arrays = {name: np.concatenate([getattr(part, name) for part in parts])
              for name in ("folders", "offsets", "lengths", "gains", "hashes")}
    joined = Corpus(
        samples=SampleFiles([file for part in parts for file in part.samples.files],
                            [sums for part in parts for sums in part.samples.sums]),
        files=np.concatenate([part.files + before
                              for part, before in zip(parts, files_before, strict=False)]),
        **{name: Texts.join([getattr(part, name) for part in parts])
           for name in ("names", "groups", "parents")},
        **arrays, sample_rate=parts[0].sample_rate,
        silent=tuple(name for part in parts for name in part.silent),
        notes=tuple(note for part in parts for note in part.notes),
    )
    return joined.subset(np.argsort(joined.folders, kind="stable"))
