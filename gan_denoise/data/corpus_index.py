"""The index of a corpus: opened in a moment however many recordings it has, read as it is used.

A corpus is a folder, or an address, with

- `corpus.json`: format, rate, digest, a line for each sample file, and the folder of the arrays;
- `index-HASH/*.npy`: an array for each column of `Corpus`, a row for each recording, which are
  memory-mapped (of an address: fetched whole, about 130 bytes a recording);
- `NUMBER-HASH.i16`: the sample files, with the rows of each beside it (`corpus_shards`).

`corpus.json` is written last, over the old one: what it names is there and whole.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.core.checksums import BROKEN_ARRAYS, block_sums, sealed, unsealed
from gan_denoise.core.fetched_files import local_copy
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.locations import (
    NotThere,
    OutsideError,
    forget_listing,
    inside,
    is_remote,
    publish,
    reaching,
    scratch_beside,
)
from gan_denoise.data.corpus_shards import FORMAT, ShardRows, ShardTask
from gan_denoise.data.recordings import Corpus, CorpusError, SampleFiles
from gan_denoise.data.texts import Texts

INDEX = "corpus.json"
_COLUMNS = ("folders", "files", "offsets", "lengths", "gains", "hashes")
_TEXTS = ("names", "groups", "parents")
_PARTS = ("blob", "ends", "codes")  # of texts
SUMS = "sums"  # CRC-32 of the blocks of all sample files, see `core.checksums`


def is_corpus(root: Path) -> bool:
    """Return whether a folder or an address is a corpus, and not a folder of recordings."""
    with reaching(root):
        return (root / INDEX).is_file()


def refuse_corpus(root: Path) -> None:
    """Refuse a corpus where recordings are wanted.

    Raises:
        CorpusError: When the path or address is that of a corpus; says what it holds.
    """
    if is_corpus(root):
        summary = _read_summary(root)
        raise CorpusError(
            f"{root}: a corpus of {summary['recordings']} recordings, {summary['hours']:.2f} h at "
            f"{summary['sample_rate']} Hz, for data.speech and others of training and for mix",
            "give the recordings that it was made of")


def make_index(
    tasks: Sequence[ShardTask], rows: Sequence[ShardRows], groups: Sequence[str | None], out: Path
) -> Corpus:
    """Put the rows of all shards together; notes are left to `write_index`.

    Args:
        tasks: The shards.
        rows: What was found out about the recordings of each.
        groups: Speaker of each file of all tasks.
        out: Folder of the sample files.
    """
    files = [task.files[number] for task, row in zip(tasks, rows, strict=True)
             for number in row.kept]
    begins = np.cumsum([0, *(len(task.files) for task in tasks)])
    kept = [begin + number for begin, row in zip(begins, rows, strict=False)
            for number in row.kept]
    names = [file.name for file in files]
    return Corpus(
        samples=SampleFiles([out / f"{task.name}.i16" for task in tasks],
                            [None if row.sums is None else np.array(row.sums, np.uint32)
                             for row in rows]),
        names=Texts.of(names), groups=Texts.of(groups[number] for number in kept),
        parents=Texts.of(name.rpartition("/")[0] for name in names),
        folders=np.array([file.folder for file in files], np.int32),
        files=np.repeat(np.arange(len(rows), dtype=np.int32), [len(row.kept) for row in rows]),
        offsets=np.concatenate([np.cumsum([0, *row.lengths[:-1]], dtype=np.int64)
                                [:len(row.lengths)] for row in rows]),
        lengths=np.array([length for row in rows for length in row.lengths], np.int64),
        gains=np.array([gain for row in rows for gain in row.gains], np.float32),
        hashes=np.frombuffer(bytes.fromhex("".join(content for row in rows
                                                   for content in row.hashes)),
                             np.uint8).reshape(-1, 32),
        sample_rate=tasks[0].sample_rate,
        silent=tuple(task.files[number].name for task, row in zip(tasks, rows, strict=True)
                     for number in row.silent),
    )


def write_index(
    corpus: Corpus, tasks: Sequence[ShardTask], rows: Sequence[ShardRows], out: Path
) -> str:
    """Write the index of sample files that are there; return the name of its folder of arrays.

    Args:
        corpus: From `make_index`.
        tasks: The shards.
        rows: What was found out about the recordings of each.
        out: Folder of the sample files, or its address.

    Raises:
        OSError: When the disk is full.
        LocationError: When the address cannot be reached.
    """
    digest = corpus.digest
    key = hashlib.sha256("\n".join([digest, *(task.name for task in tasks)]).encode())
    folder = f"index-{key.hexdigest()[:16]}"
    arrays = {name: getattr(corpus, name) for name in _COLUMNS}
    for name in _TEXTS:
        arrays |= {f"{name}_{part}": getattr(getattr(corpus, name), part) for part in _PARTS}
    shards = [{"file": f"{task.name}.i16", "samples": sum(row.lengths),
               "sums": None if row.sums is None else len(row.sums)}
              for task, row in zip(tasks, rows, strict=True)]
    arrays[SUMS] = np.array([one for row in rows for one in row.sums or ()], np.uint32)
    notes = [(task.files[number].folder, task.files[number].name, note)
             for task, row in zip(tasks, rows, strict=True)
             for number, note in (row.notes | {
                 number: f"left out ({failure})" for number, failure in row.failures.items()
             }).items()]
    summary = {"format": FORMAT, "sample_rate": corpus.sample_rate, "recordings": len(corpus),
               "hours": round(corpus.seconds / 3600, 3), "digest": digest, "index": folder,
               "shards": shards, "silent": corpus.silent, "notes": notes, "arrays": {}}
    with scratch_beside(out) as scratch:
        for name, array in arrays.items():
            np.save(scratch / f"{name}.npy", array)
            summary["arrays"][name] = block_sums(scratch / f"{name}.npy")
            publish(scratch / f"{name}.npy", out / folder / f"{name}.npy")
        (scratch / INDEX).write_text(json.dumps(sealed(summary), indent=0), encoding="utf-8")
        publish(scratch / INDEX, out / INDEX)
    return folder


def read_index(
    root: Path, name_of: Callable[[int, str], str] = lambda folder, name: name,
    skip_missing: bool = False,
) -> Corpus:
    """Open a corpus; its arrays are memory-mapped, no sample file is opened yet.

    Args:
        root: Its folder or address.
        name_of: What notes call a file, by the number of its folder and its name.
        skip_missing: Go on without the recordings of sample files that are missing, with a note.

    Raises:
        CorpusError: When it is damaged, of another version, or sample files are missing.
        LocationError: When it cannot be reached.
    """
    summary = _read_summary(root)
    try:
        sums = summary.get("arrays", {})  # of an earlier version: none
        names = (*_COLUMNS, *(f"{name}_{part}" for name in _TEXTS for part in _PARTS))
        arrays = {name: _array(inside(root, summary["index"]) / f"{name}.npy", sums.get(name))
                  for name in (*names, *([SUMS] if SUMS in sums else []))}
        corpus = Corpus(
            samples=SampleFiles([inside(root, shard["file"]) for shard in summary["shards"]],
                                _sums_of(summary["shards"], arrays.pop(SUMS, None))),
            **{name: arrays[name] for name in _COLUMNS},
            **{name: Texts(*(arrays[f"{name}_{part}"] for part in _PARTS)) for name in _TEXTS},
            sample_rate=summary["sample_rate"], silent=tuple(summary["silent"]),
            notes=tuple(f"{name_of(folder, name)}: {note}"
                        for folder, name, note in summary["notes"]),
            known_digest=summary["digest"],
        )
        whole = {len(array) for name, array in arrays.items()
                 if name.endswith("codes") or name in _COLUMNS} == {summary["recordings"]}
    except OutsideError as error:
        raise CorpusError(error.reason, error.way_out) from error
    except (NotThere, *BROKEN_ARRAYS) as error:
        raise _damaged(root, error) from error
    if not whole:
        raise _damaged(root, "arrays of different lengths")
    return _without_missing(root, corpus, summary["shards"], skip_missing)


def _read_summary(root: Path) -> dict[str, Any]:
    try:
        with reaching(root):
            values = parse_json((root / INDEX).read_text(encoding="utf-8"))
        version = values["format"]
        summary = unsealed(values, INDEX) if version == FORMAT else values
    except (OSError, NotThere, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(root, error) from error
    if version != FORMAT:
        raise CorpusError(f"{root}: a corpus of format {version}, this version reads {FORMAT}",
                          "build it again" if version < FORMAT else "upgrade gan_denoise")
    return summary


def _damaged(root: Path, error: object) -> CorpusError:
    return CorpusError(f"{root}: the index of the corpus is damaged ({error})",
                       "build the corpus again: what is whole of it is kept")


def _sums_of(
    shards: Sequence[dict[str, Any]], sums: np.ndarray | None
) -> list[np.ndarray | None]:
    """Return the checksums of each sample file; None of one that has none."""
    found: list[np.ndarray | None] = []
    first = 0
    for shard in shards:
        count = shard.get("sums")
        found.append(None if count is None or sums is None else sums[first : first + count])
        first += count or 0
    return found


def _array(file: Path, sums: list[int] | None) -> np.ndarray:
    """Return an array of the index; np.asarray: the memmap class is slow to take items from.

    Args:
        file: Where it is.
        sums: Its checksums; None: it has none.

    Raises:
        ValueError: When it is not as it was written.
    """
    copy = local_copy(file)
    if sums is not None and block_sums(copy) != sums:
        raise ValueError(f"{file.name}: its checksum differs")
    try:
        return np.asarray(np.load(copy, mmap_mode="r", allow_pickle=False))
    except ValueError:  # an empty array cannot be mapped
        return np.load(copy, allow_pickle=False)


def _without_missing(
    root: Path, corpus: Corpus, shards: Sequence[dict[str, Any]], skip_missing: bool
) -> Corpus:
    """Return the corpus where all its sample files are there, else only what is in the others.

    Raises:
        CorpusError: When some are missing and none may be, or when all are.
    """
    there = _sizes(root)
    missing = [number for number, shard in enumerate(shards)
               if there.get(shard["file"], 0) != 2 * shard["samples"]]
    if not missing:
        return corpus
    lost = np.isin(corpus.files, missing)
    first = root / shards[missing[0]]["file"]
    reason = (f"{first}: missing or not whole, as {len(missing)} of {len(shards)} sample files of "
              f"this corpus are, with {int(lost.sum())} of {len(corpus)} recordings")
    if not skip_missing or lost.all():
        raise CorpusError(reason, "copy it there again, or build the corpus again (only what is "
                          "missing is done), or go on without them by data.skip_missing=true")
    rest = corpus.subset(np.flatnonzero(~lost))
    return replace(rest, notes=(*rest.notes, f"{reason}; they are left out"))


def _sizes(root: Path) -> dict[str, int]:
    """Return the bytes of all files in a folder or at an address, by name."""
    if is_remote(root):
        with reaching(root):
            forget_listing(root)
            return {entry["name"].rpartition("/")[2]: int(entry["size"] or 0)
                    for entry in root.fs.ls(root.path, detail=True)}
    with os.scandir(root) as entries:
        return {entry.name: entry.stat().st_size for entry in entries}
