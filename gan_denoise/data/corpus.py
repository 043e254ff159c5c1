"""From folders of recordings to a `Corpus`: decoded once, in shards, and found decoded again.

Sources are folders of recordings, single files, and corpora that `write_corpus` wrote; each may be
an address. Recordings are decoded into the cache, whose key is made of relative paths, sizes and
versions, so a moved folder finds its cache again. A written corpus needs no look at recordings:
that of a million files opens in a second. Both are made of shards (`corpus_shards`), which
processes build side by side, and an index (`corpus_index`). Content hashes stand in the index, for
`digest`. Each recording is stored at full scale with a gain of its own, so that quiet ones keep
their precision.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from gan_denoise.audio import AudioError, find_audio, is_audio_suffix
from gan_denoise.core.atomic_files import new_folder
from gan_denoise.core.errors import OutputError
from gan_denoise.core.file_locks import locked_folder
from gan_denoise.core.locations import SCRATCH, is_remote, location, stamp
from gan_denoise.core.processes import ProcessPool, cores
from gan_denoise.core.ray_jobs import MARK, Cluster, RayPool
from gan_denoise.core.user_folders import cache_folder
from gan_denoise.data.corpus_index import (
    CorpusError,
    is_corpus,
    make_index,
    read_index,
    write_index,
)
from gan_denoise.data.corpus_shards import (
    ShardRows,
    ShardTask,
    SourceFile,
    build_shard,
    plan_shards,
)
from gan_denoise.data.file_labels import speakers_of
from gan_denoise.data.recordings import FULL_SCALE, Corpus, join_corpora

__all__ = ["FULL_SCALE", "Corpus", "build_corpus", "write_corpus"]
NAMED = 5  # of the files that cannot be used
_OURS = re.compile(r"(\d{5}-[0-9a-f]{16})\.(i16|json)|(index-[0-9a-f]{16})")
STALE_SECONDS = 24 * 3600  # a build this old was killed
Progress = Callable[[int, int], None] | None


def build_corpus(
    folders: Sequence[str | Path],
    sample_rate: int,
    cache: str | Path | None = None,
    progress: Progress = None,
    jobs: int = 0,
    skip_missing: bool = False,
) -> Corpus:
    """Decode all recordings under some folders, or find them decoded.

    With several processes, a script that calls this needs `if __name__ == "__main__":`.

    Args:
        folders: Folders of recordings, searched recursively, and corpora; their order is kept.
            Paths or addresses.
        sample_rate: Hz; other rates are resampled, channels are averaged.
        cache: Folder for decoded audio; None: `$GAN_DENOISE_CACHE`, or the user's cache folder.
        progress: Called with (recordings done, recordings in all) while decoding.
        jobs: Processes that decode; 0: one per core where there are several shards.
        skip_missing: Go on, with a note, without the sample files of a corpus that are missing.

    Raises:
        AudioError: When recordings cannot be read, are empty or hold non-finite samples (the first
            five are named), a folder is missing or holds no audio, all of it is silent, or the
            cache cannot be written.
        CorpusError: When a corpus is damaged, incomplete, or of another sample rate.
        LocationError: When an address cannot be reached.
        ProcessDied: When a process ends on the way.
    """
    roots = [location(folder) for folder in folders]
    if not roots:
        raise AudioError("no folder of recordings was given")
    corpora = {number for number, root in enumerate(roots)
               if not is_audio_suffix(root.suffix) and is_corpus(root)}
    parts = [_written(roots[number], number, sample_rate, skip_missing)
             for number in sorted(corpora)]
    if len(corpora) < len(roots):
        folders_of = {number: root for number, root in enumerate(roots) if number not in corpora}
        parts.append(_decoded(folders_of, sample_rate, cache, progress, jobs))
    return join_corpora(parts)


def write_corpus(
    folders: Sequence[str | Path],
    out: str | Path,
    sample_rate: int,
    progress: Progress = None,
    jobs: int = 0,
    skip_bad: bool = False,
    cluster: Cluster | None = None,
) -> Corpus:
    """Decode all recordings under some folders into a corpus that can be given in their place.

    What an earlier call did of the same recordings is kept: after an interruption, or where some
    were added, only the other shards are decoded. Nothing else may be in `out`.

    Args:
        folders: Folders of recordings; of several, names begin with that of the folder.
        out: Folder of the corpus, or its address.
        sample_rate: Hz.
        progress: As in `build_corpus`.
        jobs: As in `build_corpus`.
        skip_bad: Go on without recordings that cannot be read; each has a note.
        cluster: Where shards are built; None: in processes of this machine.

    Raises:
        AudioError: As `build_corpus`, and when two folders have one name.
        OSError: When the disk is full.
        LocationError: When an address cannot be reached.
        ProcessDied: When a process ends on the way.
        CorpusError: When another process builds this corpus.
        ClusterError: When the cluster does not answer, or does not see the folders.
    """
    roots = dict(enumerate(location(folder) for folder in folders))
    out = location(out)
    names = [root.name for root in roots.values()]
    if len(set(names)) < len(names):
        raise AudioError(f"two folders of one name: {', '.join(names)}", "rename one")
    files = _sources(roots)
    if len(roots) > 1:
        files = [replace(file, name=f"{names[file.folder]}/{file.name}") for file in files]
    tasks = plan_shards(files, sample_rate)
    with contextlib.nullcontext() if is_remote(out) else locked_folder(out, CorpusError(
            f"{out}: another process builds this corpus", "wait for its end")):
        index = _write(tasks, roots, out, progress, jobs, skip_bad, as_one=True, cluster=cluster)
        _remove_others(out, {index, *(task.name for task in tasks)})
    return read_index(out)


# ---- Sources -----------------------------------------------------------------------------------
def _written(root: Path, number: int, sample_rate: int, skip_missing: bool) -> Corpus:
    """Open a written corpus as folder `number`."""
    corpus = read_index(root, lambda _, name: f"{root}: {name}", skip_missing)
    if corpus.sample_rate != sample_rate:
        raise CorpusError(f"{root}: a corpus of {corpus.sample_rate} Hz, the settings want "
                          f"{sample_rate} Hz", "build one of that rate from the recordings")
    if number == 0:  # as all of its folders are
        return corpus
    return replace(corpus, folders=np.full(len(corpus), number, np.int32), known_digest=None)


def _sources(roots: dict[int, Path]) -> list[SourceFile]:
    """Return the recordings under some folders, in the order of these and of their names."""
    files = []
    for number, root in roots.items():
        for path in find_audio(root):
            name = path.name if path == root else path.relative_to(root).as_posix()
            files.append(SourceFile(number, name, path, *stamp(path)))
    return sorted(files, key=lambda file: (file.folder, file.name))


def _decoded(roots: dict[int, Path], sample_rate: int, cache: str | Path | None,
             progress: Progress, jobs: int) -> Corpus:
    """Decode recordings into the cache, or open what is there."""
    files = _sources(roots)
    tasks = plan_shards(files, sample_rate)
    key = hashlib.sha256("\n".join(task.name for task in tasks).encode()).hexdigest()[:32]

    def name_of(folder: int, name: str) -> str:
        root = roots[folder]
        return str(root if root.name == name and is_audio_suffix(root.suffix) else root / name)

    home: str | Path = "cache of decoded audio"
    try:
        home = Path(cache) if cache is not None else cache_folder()
        target = home / key
        if (corpus := _if_whole(target, name_of)) is not None:
            return corpus
        _remove_stale(target)
        # A whole folder is there already where another process was first: it holds the same.
        with (contextlib.suppress(OutputError),
              new_folder(target, replace=lambda target: _if_whole(target) is None) as build):
            _write(tasks, roots, build, progress, jobs)
            build.chmod(0o700)  # recordings may be private
        corpus = read_index(target, name_of)
        return replace(corpus, notes=(*corpus.notes, *_remove_old(home, files, sample_rate)))
    except OSError as error:
        elsewhere = ("GAN_DENOISE_CACHE to another folder, or data.cache where there are settings"
                     if cache is None else "data.cache to another folder")
        raise AudioError(
            f"{home}: the decoded audio was not written ({error.strerror or error})",
            f"make room there, or set {elsewhere}"
        ) from error


def _if_whole(
    target: Path, name_of: Callable[[int, str], str] = lambda folder, name: name
) -> Corpus | None:
    """Open a folder of the cache; None where it is missing or damaged."""
    try:
        return read_index(target, name_of)
    except CorpusError:
        return None


def _remove_old(home: Path, files: Sequence[SourceFile], sample_rate: int) -> Iterator[str]:
    """Remove what an earlier version had decoded of the same files; yield a line on that."""
    rows = [(file.folder, file.name, file.size, file.version) for file in files]
    key = hashlib.sha256(json.dumps([2, sample_rate, rows]).encode()).hexdigest()[:32]
    if (home / key / "samples.i16").is_file():
        shutil.rmtree(home / key, ignore_errors=True)
        yield f"{home / key}: of an earlier version of gan_denoise; decoded anew, and removed"


def _remove_stale(target: Path) -> None:
    """Remove what killed builds left, with a dot before the name or, of older versions, without."""
    for left in target.parent.glob(f"*{target.name}.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


# ---- Shards ------------------------------------------------------------------------------------
def _write(tasks: Sequence[ShardTask], roots: dict[int, Path], out: Path, progress: Progress,
           jobs: int, skip_bad: bool = False, as_one: bool = False,
           cluster: Cluster | None = None) -> str:
    """Build all shards, then the index, in which all folders are one where `as_one`.

    Returns:
        The name of the index's folder of arrays.
    """
    total = sum(len(task.files) for task in tasks)
    with _pool(tasks, roots, out, jobs, cluster) as pool:
        rows = list(_built(tasks, out, progress, pool, skip_bad))
    failures = [failure for row in rows for failure in row.failures.values()]
    if failures and (not skip_bad or len(failures) == total):
        more = f"; and {len(failures) - NAMED} more" if len(failures) > NAMED else ""
        raise AudioError(f"{len(failures)} of {total} recordings cannot be used: "
                         + "; ".join(failures[:NAMED]) + more)
    if not any(row.kept for row in rows):
        raise AudioError(
            f"nothing but silence in {', '.join(str(root) for root in roots.values())}")
    groups = speakers_of((file.path, roots[file.folder]) for task in tasks for file in task.files)
    corpus = make_index(tasks, rows, groups, out)
    if as_one:
        corpus = replace(corpus, folders=np.zeros_like(corpus.folders))
    return write_index(corpus, tasks, rows, out)


@contextlib.contextmanager
def _pool(tasks: Sequence[ShardTask], roots: dict[int, Path], out: Path, jobs: int,
          cluster: Cluster | None) -> Iterator[ProcessPool | RayPool | None]:
    """Give what builds shards: a cluster, processes, or None, this process."""
    jobs = min(jobs or cores(), len(tasks))
    if cluster is not None:
        with cluster.pool(lambda task, *_: f"decoding the {len(task.files)} recordings from "
                          f"{task.files[0].path} on", out, roots.values()) as pool:
            yield pool
    elif jobs > 1:
        with ProcessPool(jobs, "decoding", "fewer jobs take less memory") as pool:
            yield pool
    else:
        yield None


def _built(tasks: Sequence[ShardTask], out: Path, progress: Progress,
           pool: ProcessPool | RayPool | None, skip_bad: bool) -> Iterator[ShardRows]:
    """Yield the rows of each shard, in order."""
    total = sum(len(task.files) for task in tasks)
    done = 0

    def count(files: int = 1) -> None:
        nonlocal done
        done += files
        if progress is not None:
            progress(done, total)

    if pool is None:
        for task in tasks:
            before = done
            yield build_shard(task, out, skip_bad, count)
            if done == before:  # it was there
                count(len(task.files))
        return
    alike = [out] * len(tasks), [skip_bad] * len(tasks)
    for task, rows in zip(tasks, pool.map(build_shard, tasks, *alike), strict=True):
        count(len(task.files))
        yield rows


def _remove_others(out: Path, used: set[str]) -> None:
    """Remove what earlier calls wrote and the index does not name any more."""
    for entry in list(out.iterdir()):
        if entry.name.startswith((SCRATCH, MARK)) and not is_remote(entry):  # of killed ones
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            continue
        ours = _OURS.fullmatch(entry.name)
        if ours and entry.name.partition(".")[0] not in used:
            for file in list(entry.iterdir()) if entry.is_dir() else [entry]:
                file.unlink()
            if not is_remote(entry) and entry.is_dir():
                entry.rmdir()
