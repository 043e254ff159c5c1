"""Folders of recordings, decoded once into one memory-mapped int16 file with an index.

The cache key is made of relative paths, sizes and modification times, so a moved folder finds its
cache again; content hashes are stored beside it, for `digest` and for deep checks. Each recording
is stored at full scale with a gain of its own, so that quiet ones keep their precision.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gan_denoise.audio import AudioError, Reader, find_audio, resample, to_mono
from gan_denoise.audio.samples import cancels, energy
from gan_denoise.core.atomic_files import new_folder
from gan_denoise.core.decibels import db_to_amplitude
from gan_denoise.core.errors import OutputError
from gan_denoise.core.user_folders import cache_folder
from gan_denoise.data.file_labels import speakers_of

FORMAT = 2  # of a cache folder
BLOCK = 1 << 24  # samples of a file; longer recordings are decoded in blocks of this
FULL_SCALE = 32767
SILENT_PEAK = db_to_amplitude(-90)  # a recording that stays below this (-90 dBFS) is silent
LOOK = 1 << 20  # samples that are looked at for a sound at once
STALE_SECONDS = 24 * 3600  # a build this old was killed


@dataclass(frozen=True, eq=False)
class Corpus:
    """Recordings as views of one int16 array; sample = int16 * gain of its recording.

    Attributes:
        samples: int16 [total], memory-mapped read-only; all recordings behind each other.
        names: Relative path of each recording in its folder, with forward slashes.
        groups: Speaker of each recording, None where the tree does not show speakers.
        folders: Number of the folder that each recording is from, int [recordings].
        offsets: First sample of each recording, int64 [recordings].
        lengths: Length of each recording in samples, int64 [recordings].
        gains: float32 [recordings].
        hashes: SHA-256 of each file, hex.
        sample_rate: Hz.
        silent: Relative paths of recordings that were left out because they are silent.
        notes: A line on each file that is cut off, or whose header is wrong.
    """

    samples: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str | None, ...]
    folders: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    gains: np.ndarray
    hashes: tuple[str, ...]
    sample_rate: int
    silent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def seconds(self) -> float:
        """Length of all recordings together."""
        return float(self.lengths.sum() / self.sample_rate)

    @property
    def kinds(self) -> tuple[tuple[int, str], ...]:
        """(folder, parent folder) of each recording: the kind of a noise."""
        parents = (name.rpartition("/")[0] for name in self.names)
        return tuple((int(f), parent) for f, parent in zip(self.folders, parents, strict=True))

    @property
    def digest(self) -> str:
        """Hash of content, order and rate; equal for equal recordings in another place."""
        rows = [[int(f), name, content] for f, name, content in
                zip(self.folders, self.names, self.hashes, strict=True)]
        return hashlib.sha256(json.dumps([self.sample_rate, rows]).encode()).hexdigest()

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
        """
        length = int(self.lengths[index])
        stop = length if frames is None else start + frames
        if not 0 <= start <= stop <= length:
            raise ValueError(f"{self.names[index]}: samples {start}..{stop} of {length}")
        offset = int(self.offsets[index])
        part = self.samples[offset + start:offset + stop]
        # np.asarray: arithmetic on the memmap class itself costs several times more.
        return np.multiply(np.asarray(part), self.gains[index], dtype=np.float32)

    def subset(self, indices: Sequence[int] | np.ndarray) -> Corpus:
        """Return a corpus of some of the recordings; it shares the samples."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            groups=tuple(self.groups[i] for i in chosen),
            hashes=tuple(self.hashes[i] for i in chosen),
            folders=self.folders[chosen], offsets=self.offsets[chosen],
            lengths=self.lengths[chosen], gains=self.gains[chosen],
        )

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
        first = int(self.offsets[index])
        stop = first + int(self.lengths[index])
        while stop > first:
            start = max(stop - LOOK, first)
            part = np.abs(self.samples[start:stop], dtype=np.int32)
            if len(loud := np.flatnonzero(part > pause * FULL_SCALE)):
                return start + int(loud[-1]) + 1 - first
            stop = start
        return 0

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.samples, np.memmap):  # its path, not gigabytes of samples
            state["samples"] = os.fspath(self.samples.filename)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["samples"], str):
            state["samples"] = np.memmap(state["samples"], dtype=np.int16, mode="r")
        self.__dict__.update(state)


def build_corpus(
    folders: Sequence[str | Path],
    sample_rate: int,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Corpus:
    """Decode all recordings under some folders, or find them decoded.

    Args:
        folders: Folders of recordings, searched recursively; their order is kept.
        sample_rate: Hz; other rates are resampled, channels are averaged.
        cache: Folder for decoded audio; None: `$GAN_DENOISE_CACHE`, or the user's cache folder.
        progress: Called with (recordings done, recordings in all) while decoding.

    Raises:
        AudioError: When recordings cannot be read, are empty or hold non-finite samples (the first
            five are named), a folder is missing or holds no audio, all of it is silent, or the
            cache cannot be written.
    """
    roots = [Path(folder) for folder in folders]
    if not roots:
        raise AudioError("no folder of recordings was given")
    files = sorted(
        (number, _relative(path, root), path)
        for number, root in enumerate(roots) for path in find_audio(root)
    )
    stats = [(number, name, path.stat()) for number, name, path in files]
    key = hashlib.sha256(json.dumps(
        [FORMAT, sample_rate, [(number, name, stat.st_size, stat.st_mtime_ns)
                               for number, name, stat in stats]]
    ).encode()).hexdigest()[:32]
    home: str | Path = "cache of decoded audio"
    try:
        home = Path(cache) if cache is not None else cache_folder()
        target = home / key
        index = _load_index(target) or _build(files, sample_rate, target, progress)
    except OSError as error:
        elsewhere = ("GAN_DENOISE_CACHE to another folder, or data.cache where there are settings"
                     if cache is None else "data.cache to another folder")
        raise AudioError(
            f"{home}: the decoded audio was not written ({error.strerror or error})",
            f"make room there, or set {elsewhere}"
        ) from error
    return _open(target, index, files, roots, sample_rate)


def _relative(path: Path, root: Path) -> str:
    return path.name if path == root else path.relative_to(root).as_posix()


def _load_index(target: Path) -> dict[str, Any] | None:
    """Return the index of a whole cache folder, None where it is missing or damaged."""
    try:
        index = json.loads((target / "index.json").read_text(encoding="utf-8"))
        size = (target / "samples.i16").stat().st_size
        whole = index["format"] == FORMAT and size == 2 * sum(index["lengths"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    return index if whole else None


def _build(files: list[tuple[int, str, Path]], sample_rate: int, target: Path,
           progress: Callable[[int, int], None] | None) -> dict[str, Any]:
    """Decode into `target`, in place of a damaged folder; return the index."""
    _remove_stale(target)
    # A whole folder is there already where another process was first: it holds the same.
    with (contextlib.suppress(OutputError),
          new_folder(target, replace=lambda target: _load_index(target) is None) as build):
        _decode_all(files, sample_rate, build, progress)
        build.chmod(0o700)  # recordings may be private
    index = _load_index(target)
    if index is None:
        raise AudioError(f"{target}: the decoded audio is damaged", "remove this folder")
    return index


def _remove_stale(target: Path) -> None:
    """Remove what killed builds left, with a dot before the name or, of older versions, without."""
    for left in target.parent.glob(f"*{target.name}.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _open(target: Path, index: dict[str, Any], files: list[tuple[int, str, Path]],
          roots: list[Path], sample_rate: int) -> Corpus:
    lengths = np.asarray(index["lengths"], dtype=np.int64)
    corpus = Corpus(
        samples=np.memmap(target / "samples.i16", dtype=np.int16, mode="r"),
        names=tuple(name for _, name, _ in files),
        groups=tuple(speakers_of((path, roots[number]) for number, _, path in files)),
        folders=np.asarray([number for number, _, _ in files]),
        offsets=np.cumsum(lengths) - lengths,
        lengths=lengths,
        gains=np.asarray(index["gains"], dtype=np.float32),
        hashes=tuple(index["hashes"]),
        sample_rate=sample_rate,
        notes=tuple(f"{files[int(number)][2]}: {note}" for number, note in index["notes"].items()),
    )
    silent = corpus.gains == 0.0
    if silent.all():
        raise AudioError(f"nothing but silence in {', '.join(str(root) for root in roots)}")
    quiet = tuple(corpus.names[i] for i in np.flatnonzero(silent))
    return replace(corpus.subset(np.flatnonzero(~silent)), silent=quiet)


def _decode_all(files: list[tuple[int, str, Path]], sample_rate: int, build: Path,
                progress: Callable[[int, int], None] | None) -> None:
    """Write `samples.i16` and, last, `index.json`."""
    lengths, gains, hashes, failures = [], [], [], []
    notes: dict[int, str] = {}
    with open(build / "samples.i16", "wb") as sink:
        for done, (_, _, path) in enumerate(files, start=1):
            try:
                length, gain, note = _decode(path, sample_rate, sink)
            except AudioError as error:  # all are looked at, so that one message names them
                failures.append(str(error))
                continue
            with open(path, "rb") as source:
                hashes.append(hashlib.file_digest(source, "sha256").hexdigest())
            if note:
                notes[len(lengths)] = note
            lengths.append(length)
            gains.append(gain)
            if progress is not None:
                progress(done, len(files))
    if failures:
        more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise AudioError(f"{len(failures)} of {len(files)} recordings cannot be used: "
                         + "; ".join(failures[:5]) + more)
    index = {"format": FORMAT, "lengths": lengths, "gains": gains, "hashes": hashes,
             "notes": notes}
    (build / "index.json").write_text(json.dumps(index, allow_nan=False), encoding="utf-8")


def _decode(path: Path, sample_rate: int, sink: BinaryIO) -> tuple[int, float, str]:
    """Append a recording at full scale to `sink`; return its length, its gain, and a note."""
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
            scaled = np.rint(block / np.float32(gain)) if gain else np.zeros_like(block)
            sink.write(scaled.astype(np.int16).tobytes())
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
