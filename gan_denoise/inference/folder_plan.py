"""The plan of a folder run: which files, under which names, in which format, and what is refused.

Made before any work, from names and headers alone; of recordings at an address from names alone,
as their headers come when they are fetched.
"""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from gan_denoise.audio import AudioError, AudioInfo, is_audio_suffix, probe, search
from gan_denoise.audio.containers import CONTAINERS, FORMAT_SUFFIXES
from gan_denoise.core.locations import is_remote, reaching
from gan_denoise.inference.folder_journal import Journal
from gan_denoise.inference.journal_files import NAME
from gan_denoise.inference.listed_files import ListedFiles
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.inference.output_format import OutputFormat

WRITTEN = "written by an earlier run"
PROBES = 16  # headers that are read at once: from a network drive each takes its time to come
PLANNED_AT_ONCE = 1024


@dataclass(frozen=True)
class Item:
    """One file of a run.

    Attributes:
        source: The input.
        target: The output.
        residual: The file for what is removed; None where none is wanted.
        info: The input's header; None where it could not be read, or is at an address.
        refused: Why nothing is written for it; None where it is accepted.
    """

    source: Path
    target: Path
    residual: Path | None = None
    info: AudioInfo | None = None
    refused: str | None = None

    @property
    def outputs(self) -> list[Path]:
        """The target, and the residual where one is wanted."""
        return [self.target] if self.residual is None else [self.target, self.residual]

    @property
    def seconds(self) -> float:
        """Length of the input in seconds, 0 where it is not known."""
        return self.info.seconds if self.info is not None else 0.0

    @property
    def header(self) -> dict[str, Any]:
        """What is known of the input, by the names of `FileResult`."""
        if self.info is None:
            return {}
        return {"seconds": self.seconds, "sample_rate": self.info.sample_rate,
                "channels": self.info.channels}


@dataclass(frozen=True)
class FolderPlan:
    """What a run would do.

    Attributes:
        out: Folder of the outputs.
        options: The options as asked for, with the format that the name of the output says.
        items: Every file, in the order of the inputs and their names.
        passed_over: Files that look like recordings and are not taken, by the reason.
        files: What lies at the addresses.
    """

    out: Path
    options: DenoiseOptions
    items: list[Item]
    passed_over: dict[str, list[Path]]
    files: ListedFiles


def plan_folder(
    inputs: Sequence[Path],
    out: Path,
    options: DenoiseOptions,
    recursive: bool = True,
    residual: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> FolderPlan:
    """Plan a run over files and folders; nothing is written.

    Args:
        inputs: Files and folders, or their addresses; the trees of the folders are mirrored.
        out: Output folder; or the output file, where there is one input file and the name has the
            suffix of an audio file.
        options: Options of the run; they decide container and channels of the outputs.
        recursive: Whether sub-folders are searched.
        residual: Folder for what is removed, or the file for it.
        shard: (i, n): only the i-th of n equal shares of the files, counted from 1. The headers of
            the others are not read: of a thousand shares each would read those of all.

    Raises:
        AudioError: When nothing is found, two inputs would write one output, a folder is input and
            output at once, or there is no such share.
        LocationError: When an address cannot be reached.
    """
    places = [out] if residual is None else [out, residual]
    named = [_names_file(inputs, place) for place in places]
    if named[0]:
        options = _with_format_of_name(inputs[0], out, options)
    roots = [place.parent if is_file else place
             for place, is_file in zip(places, named, strict=True)]
    _check_addresses(roots, options)
    if not all(named):
        _check_folders(inputs, roots)
    files = ListedFiles([*filter(_is_folder, inputs), *(
        root for root, is_file in zip(roots, named, strict=True) if not is_file)])
    taken: dict[Path, Path] = {}  # output -> source
    works: dict[Path, tuple[Path, list[Path]]] = {}  # source and outputs, by target
    passed_over: dict[str, list[Path]] = {}
    for source, relative in _sources(inputs, roots, recursive, files, passed_over):
        if options.format != "keep":
            relative = _renamed(relative, options.format)
        outputs = [place if is_file else place.joinpath(*relative.parts)
                   for place, is_file in zip(places, named, strict=True)]
        if len(set(outputs)) < len(outputs):
            raise AudioError(f"{out}: is the output and the residual; give two")
        for output in outputs:
            before = taken.setdefault(output, source)
            if before != source and _real(before) != _real(source):
                raise _clash(before, source, output)
        works.setdefault(outputs[0], (source, outputs))
    if not works:
        raise AudioError(f"no audio found under {', '.join(map(str, inputs))} outside {out}")
    _check_merged_names(taken, roots[0])
    items = _items(_share(works.values(), shard), options)
    sources = [source for source, _ in works.values()]
    return FolderPlan(roots[0], options, list(_check_sources(items, sources)), passed_over, files)


def _share(works: Iterable[Any], shard: tuple[int, int] | None) -> list[Any]:
    number, count = shard or (1, 1)
    if not 1 <= number <= count:
        raise AudioError(f"shard {number}/{count}: there are 1/{count} to {count}/{count}")
    return list(works)[number - 1 :: count]


def _names_file(inputs: Sequence[Path], place: Path) -> bool:
    """Whether an output is named as a file, as in `denoise talk.wav -o clean.wav`."""
    return (len(inputs) == 1 and not _is_folder(inputs[0]) and is_audio_suffix(place.suffix)
            and not _is_folder(place))


def _is_folder(path: Path) -> bool:
    with reaching(path):
        return path.is_dir()


def _real(path: Path) -> PurePath:
    """Return what is equal for one place: a path without links, or an address as it is."""
    return PurePosixPath(str(path)) if is_remote(path) else path.resolve()


def _with_format_of_name(source: Path, out: Path, options: DenoiseOptions) -> DenoiseOptions:
    """Return the options with the format that the output's name says."""
    suffix = out.suffix.lower()
    of_name = next((name for name, known in FORMAT_SUFFIXES.items() if known == suffix), None)
    if options.format == "keep":
        if suffix == source.suffix.lower():
            return options
        if of_name is None:
            fitting = dict.fromkeys((source.suffix.lower(), *FORMAT_SUFFIXES.values()))
            raise AudioError(f"{out}: {suffix} is written only of {suffix}; name it "
                             f"{', '.join(fitting)}")
        return options.model_copy(update={"format": of_name})
    if of_name != options.format:
        raise AudioError(f"{out}: its name says {suffix}, --format says {options.format}; "
                         "leave one out")
    return options


def _check_addresses(roots: Sequence[Path], options: DenoiseOptions) -> None:
    for root in roots:
        if options.preserve_times and is_remote(root):
            raise AudioError(f"{root}: a store gives what it is sent its own time of modification; "
                             "leave out --preserve-times")


def _check_folders(inputs: Sequence[Path], roots: Sequence[Path]) -> None:
    kinds = ("output", "residual")
    for kind, root in zip(kinds, roots, strict=False):
        for item in inputs:
            if _is_folder(item) and _real(item) == _real(root):
                raise AudioError(f"{root}: {kind} folder is the input; give another one")
        with reaching(root):
            is_file = root.exists() and not root.is_dir()
        if is_file:
            raise AudioError(f"{root}: {kind} is not a folder; give another one")
    if len(set(map(_real, roots))) < len(roots):
        raise AudioError(f"{roots[0]}: is the output and the residual folder; give two")


def _sources(
    inputs: Sequence[Path], roots: Sequence[Path], recursive: bool, listed: ListedFiles,
    passed_over: dict[str, list[Path]],
) -> Iterator[tuple[Path, Path]]:  # fmt: skip
    """Give each input file and its name below the output folder; add what is passed over."""
    for item in inputs:
        if not _is_folder(item):
            yield from ((source, Path(source.name)) for source in search(item).files)
            continue
        # What earlier runs wrote into output folders inside the input is no input.
        inside = set(map(_real, roots)) - set(_real(item).parents)
        found = search(item, recursive)
        for reason, paths in found.passed_over.items():
            passed_over.setdefault(reason, []).extend(
                path for path in paths if inside.isdisjoint(_real(path).parents))
        files = [path for path in found.files if inside.isdisjoint(_real(path).parents)]
        written = _written_before(item, files, listed)
        if 0 < len(written) < len(files):  # else they are what is asked for
            passed_over.setdefault(WRITTEN, []).extend(written)
            files = [path for path in files if path not in written]
        yield from ((source, source.relative_to(item)) for source in files)


def _written_before(root: Path, files: Iterable[Path], listed: ListedFiles) -> set[Path]:
    """Return the files that earlier runs wrote, by the journals of the folders that they lie in."""
    journals: dict[Path, Journal] = {}
    written: set[Path] = set()
    at_addresses = listed.folders_with(NAME)
    if is_remote(root) and not at_addresses:
        return written
    for path in files:
        for folder in path.parents:
            if folder not in journals:
                journals[folder] = Journal(folder)
                if not is_remote(folder) or str(folder) in at_addresses:
                    journals[folder].refresh()
            if journals[folder].knows(path):
                written.add(path)
            if folder == root:
                break
    return written


def _renamed(relative: Path, wanted: str) -> Path:
    usual = FORMAT_SUFFIXES[wanted]
    if CONTAINERS.get(relative.suffix.lower()) == CONTAINERS[usual]:
        return relative
    return relative.with_suffix(usual)


def _items(works: Sequence[tuple[Path, list[Path]]], options: DenoiseOptions) -> list[Item]:
    """Read the headers of files, of so many at once that a million does not fill the memory."""
    items: list[Item] = []
    with ThreadPoolExecutor(PROBES) as threads:
        for start in range(0, len(works), PLANNED_AT_ONCE):
            some = works[start : start + PLANNED_AT_ONCE]
            items += threads.map(lambda work: _item(*work, options), some)
    return items


def _item(source: Path, outputs: Sequence[Path], options: DenoiseOptions) -> Item:
    if is_remote(source):
        return Item(source, *outputs)
    info, hint = None, ""
    try:
        if source.exists() and not source.is_file():
            raise AudioError(f"{source}: is no regular file")  # a named pipe would wait for ever
        info = probe(source)
        output = OutputFormat.choose(info, options)
        try:
            output.check(outputs[0])
        except AudioError:
            if fitting := output.alternatives():
                hint = f" (--format {', '.join(fitting)} can)"
            raise
    except AudioError as error:
        return Item(source, *outputs, info=info, refused=f"{error}{hint}")
    return Item(source, *outputs, info=info)


def _check_sources(items: Sequence[Item], sources: Iterable[Path]) -> Iterator[Item]:
    """Refuse outputs that are inputs of any share, also by another name: they would be lost."""
    existing = {output: identity for item in items for output in item.outputs
                if (identity := _identity(output)) is not None}
    inputs = {_identity(source): source for source in sources} if existing else {}
    for item in items:
        for output in item.outputs:
            source = inputs.get(existing[output]) if output in existing else None
            if source is not None and item.refused is None:
                item = replace(item, refused=f"{output}: is the input {source}; give another "
                                             "output folder")
        yield item


def _identity(path: Path) -> tuple[int, int] | str | None:
    if is_remote(path):
        return str(path)
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _check_merged_names(taken: dict[Path, Path], out: Path) -> None:
    """Refuse outputs that differ in case or in composed accents alone, where the disk merges them.

    Where the disk tells them apart they are two files, as in the input.
    """
    merged: dict[str, Path] = {}
    for output, source in taken.items():
        key = unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(output)).casefold())
        before = merged.setdefault(key, output)
        if before != output and _merges_names(out):
            raise _clash(taken[before], source, output)


def _merges_names(folder: Path) -> bool:
    if is_remote(folder):
        return False
    while not folder.is_dir():
        folder = folder.parent
    name = f".gan-denoise-é-{secrets.token_hex(8)}"
    try:
        (folder / name).touch(exist_ok=False)
    except OSError:
        return False  # nothing will be written there
    try:
        return any((folder / other).exists()
                   for other in (name.upper(), unicodedata.normalize("NFD", name)))
    finally:
        (folder / name).unlink()


def _clash(one: Path, other: Path, output: Path) -> AudioError:
    return AudioError(f"{one} and {other} would both be written to {output}; denoise them into two "
                      "folders")
