"""Surveys of recordings: acoustic measures of every file under some folders, as a table.

Memory does not grow with the length of the recordings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio import (
    AudioError,
    AudioInfo,
    blocks,
    find_audio,
    peak,
    probe,
    read,
    to_mono,
)
from gan_denoise.audio.containers import by_libsndfile
from gan_denoise.audio.info import describe_anomalies
from gan_denoise.core.decibels import amplitude_to_db
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.locations import is_remote, location
from gan_denoise.core.processes import ProcessPool, cores
from gan_denoise.core.tables import write_csv
from gan_denoise.data.corpus_index import refuse_corpus
from gan_denoise.data.file_labels import is_noise, speakers_of
from gan_denoise.inspection.acoustics import AcousticMeasures, measure_acoustics

# A recording of up to a minute is measured whole; of a longer one, pieces spread evenly are.
PIECE_SECONDS = 10.0  # also what is decoded at once
PIECES = 6
FADE_SECONDS = 0.01  # where pieces are joined: a jump has energy in every band
PROCESS_FILES = 500  # fewer files do not repay the start of another process
CHUNK_FILES = 4  # handed to a process at once; those on their way are finished after Ctrl-C

COLUMNS = ("folder", "file", "speaker", "seconds", "sample_rate", "channels", "format", "subtype",
           "seconds_measured", "peak_dbfs", "level_db", "pauses", "snr_db", "f0_hz", "f0_low_hz",
           "f0_high_hz", "voiced", "bandwidth_hz", "rolloff_hz", "note")


class SurveyError(GanDenoiseError):
    """Recordings cannot be surveyed."""


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording and its measures.

    Attributes:
        folder: Label of the folder that it was found in.
        name: Path below that folder, with forward slashes.
        speaker: Speaker that the names of file and folders tell; None where none, and for noise.
        info: Format and length.
        seconds_measured: Duration of the part that was measured.
        peak_dbfs: Highest magnitude of all channels in dB of full scale; None for silence.
        acoustics: Measures of the mean of its channels.
    """

    folder: str
    name: str
    speaker: str | None
    info: AudioInfo
    seconds_measured: float
    peak_dbfs: float | None
    acoustics: AcousticMeasures

    def row(self) -> dict[str, Any]:
        """Return `{column: value}` of `COLUMNS`, numbers rounded to their precision."""
        info, measures = self.info, self.acoustics
        low, high = measures.f0_range_hz or (None, None)
        digits = {"seconds": 3, "seconds_measured": 3, "pauses": 3, "voiced": 3, "f0_hz": 1,
                  "f0_low_hz": 1, "f0_high_hz": 1, "peak_dbfs": 1, "level_db": 1, "snr_db": 1,
                  "bandwidth_hz": 0, "rolloff_hz": 0}
        values = (
            self.folder, self.name, self.speaker, info.seconds, info.sample_rate, info.channels,
            info.format, info.subtype, self.seconds_measured, self.peak_dbfs, measures.level_db,
            measures.pauses, measures.snr_db, measures.f0_hz, low, high, measures.voiced,
            measures.bandwidth_hz, measures.rolloff_hz, describe_anomalies(info),
        )
        return {
            name: round(value, digits[name] or None) if name in digits and value is not None
            else value for name, value in zip(COLUMNS, values, strict=True)
        }


@dataclass(frozen=True)
class Survey:
    """The result of a survey.

    Attributes:
        folders: Labels of the folders.
        recordings: The recordings that could be read.
        failures: A line for each file that could not be read.
    """

    folders: tuple[str, ...]
    recordings: tuple[Recording, ...]
    failures: tuple[str, ...]

    def in_folder(self, folder: str) -> list[Recording]:
        """Return the recordings of one folder."""
        return [recording for recording in self.recordings if recording.folder == folder]


@dataclass(frozen=True)
class _File:
    """A file to measure."""

    folder: str
    name: str
    speaker: str | None
    path: Path


def survey(
    roots: Sequence[str | Path],
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Survey:
    """Measure all recordings under some folders.

    With several processes, a script that calls this needs `if __name__ == "__main__":`.

    Args:
        roots: Folders, searched recursively, or files; paths or addresses.
        jobs: Number of processes; 1 measures in this process, 0 chooses by cores and files.
        progress: Called with (files done, files in all) after each file.

    Returns:
        The recordings in the order of the folders, and the files that could not be read.

    Raises:
        AudioError: When a folder is missing, not readable, or holds no audio.
        CorpusError: When one is a corpus.
        SurveyError: When a folder is given twice.
        ProcessDied: When a process ends on the way.
    """
    paths = [location(root) for root in roots]
    labels = label_folders(paths)
    files = [file for root, label in zip(paths, labels, strict=True) for file in _find(root, label)]
    recordings, failures = [], []
    for done, result in enumerate(_measured(files, jobs or _processes(len(files))), start=1):
        (failures if isinstance(result, str) else recordings).append(result)
        if progress is not None:
            progress(done, len(files))
    return Survey(tuple(labels), tuple(recordings), tuple(failures))


def label_folders(roots: Sequence[Path]) -> list[str]:
    """Return a label for each folder: its path below the folder that holds them all.

    Where there are addresses, it is the name alone, and all of the address or path where names are
    alike.

    Raises:
        SurveyError: When two are the same folder.
    """
    real = [root if is_remote(root) else Path(os.path.realpath(root)) for root in roots]
    for number, root in enumerate(real):
        if root in real[:number]:
            raise SurveyError(f"{roots[number]}: given twice", "give each folder once")
    if any(map(is_remote, roots)):
        names = [root.name for root in real]
        return names if len(set(names)) == len(names) else list(map(str, real))
    common = Path(os.path.commonpath([root.parent for root in real]))
    return [root.relative_to(common).as_posix() for root in real]


def excerpt(path: Path, info: AudioInfo) -> tuple[np.ndarray, float]:
    """Read a recording of up to a minute, or six pieces of ten seconds spread over a longer one.

    At most ten seconds of all channels and a minute of one are in memory.

    Args:
        path: The recording.
        info: Its format and length, from `probe` with `count`.

    Returns:
        The mean of the channels, float32 `[samples]`, and the peak of all channels.

    Raises:
        AudioError: When it cannot be read.
    """
    size = round(PIECE_SECONDS * info.sample_rate)
    spread = info.frames > PIECES * size
    parts, top = [], 0.0
    for audio in _pieces(path, info, size) if spread else blocks(path, size):
        top = max(top, peak(audio))
        part = to_mono(audio)
        parts.append(_faded(part, info.sample_rate) if spread else part)
    return np.concatenate(parts), top


def _pieces(path: Path, info: AudioInfo, size: int) -> Iterator[np.ndarray]:
    """Read six pieces of a long recording, the first and the last samples among them."""
    if by_libsndfile(info.format, info.subtype):
        for start in np.linspace(0, info.frames - size, PIECES).astype(int):
            yield read(path, int(start), size)[0]
        return
    # To seek in what FFmpeg reads is not exact, and decoding all of it is fast.
    wanted = set(np.linspace(0, info.frames // size - 1, PIECES).astype(int).tolist())
    for number, block in enumerate(blocks(path, size)):
        if number in wanted:
            yield block


def save_csv(survey: Survey, path: str | Path) -> None:
    """Write a row for each recording as CSV; the file appears whole or not at all.

    Raises:
        OutputError: When it cannot be written.
    """
    write_csv(Path(path), COLUMNS,
              (recording.row().values() for recording in survey.recordings))


def _find(root: Path, label: str) -> Iterator[_File]:
    refuse_corpus(root)
    found = find_audio(root)
    speakers = speakers_of((path, root) for path in found)
    for path, speaker in zip(found, speakers, strict=True):
        name = path.name if path == root else path.relative_to(root).as_posix()
        yield _File(label, name, None if is_noise(path, root) else speaker, path)


def _processes(files: int) -> int:
    return max(min(cores(), files // PROCESS_FILES), 1)


def _measured(files: Sequence[_File], jobs: int) -> Iterator[Recording | str]:
    """Measure in order, in processes where jobs > 1."""
    if jobs <= 1:
        yield from map(_measure, files)
        return
    with ProcessPool(jobs, "measuring", "jobs=1 measures without processes") as pool:
        yield from pool.map(_measure, files, chunksize=CHUNK_FILES)


def _measure(file: _File) -> Recording | str:
    """Return what was measured, or a line on why a file cannot be read."""
    try:
        info = probe(file.path, count=True)
        audio, top = excerpt(file.path, info)
    except AudioError as error:
        return str(error)
    return Recording(
        folder=file.folder, name=file.name, speaker=file.speaker, info=info,
        seconds_measured=len(audio) / info.sample_rate,
        peak_dbfs=amplitude_to_db(top) if top > 0 else None,
        acoustics=measure_acoustics(audio, info.sample_rate),
    )


def _faded(part: np.ndarray, sample_rate: int) -> np.ndarray:
    """Return a piece with a short raised-cosine fade at both ends."""
    size = max(round(FADE_SECONDS * sample_rate), 1)
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(size) + 0.5) / size)
    part = part.copy()
    part[:size] *= rise
    part[-size:] *= rise[::-1]
    return part
