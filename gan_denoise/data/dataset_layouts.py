"""Layouts of datasets as they unpack, and manifests: read as pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan_denoise.config.registry import LAYOUTS, register_layout
from gan_denoise.core.locations import beside, location, reaching, subfolders
from gan_denoise.data.file_labels import SET_FOLDER, SPLITS, snr_of, speakers_of
from gan_denoise.data.pairs import (
    MANIFEST_SUFFIXES,
    Pair,
    PairError,
    manifest_rows,
    match_folders,
    row_snr,
)

_NOISY_COLUMNS = ("noisy", "noisy_wav", "noisy_filepath", "noisy_path")
_CLEAN_COLUMNS = ("clean", "clean_wav", "clean_filepath", "clean_path")
_SIDES = {"clean": "clean", "noisy": "noisy", "wavs_clean": "clean", "wavs_noisy": "noisy"}


class LayoutError(PairError):
    """A folder shows no known layout of pairs: it may be a plain folder of audio."""


def read_layout(root: str | Path) -> list[Pair]:
    """Read the pairs of a dataset as unpacked, or of a manifest file.

    Known layouts: VoiceBank+DEMAND (`clean_trainset_28spk_wav/` and so on), `train|valid|test` with
    `clean` and `noisy` in each, `clean/ noisy/` (DNS), `wavs_clean/ wavs_noisy/`,
    `CleanSpeech_training/ NoisySpeech_training/` (MS-SNSD), and a CSV, JSONL or JSON manifest with
    columns `noisy` and `clean` (also `noisy_wav`, `noisy_filepath`, ...), optionally `split`,
    `speaker`, `snr_db`; its relative paths count from the manifest. Plugins add others: see
    `config.registry.register_layout`.

    Args:
        root: The folder, or the manifest, or the address of one.

    Returns:
        Pairs, with `split` where the tree shows one.

    Raises:
        LayoutError: When no layout fits, naming those looked for.
        PairError: When the files of a layout do not pair up.
        AudioError: When one of its folders holds no audio.
        LocationError: When an address cannot be reached.
    """
    root = location(root)
    with reaching(root):
        is_manifest, is_folder = root.is_file(), root.is_dir()
    if is_manifest:
        return _read_manifest(root)
    if not is_folder:
        raise PairError(f"{root}: no such folder or manifest", "check the path")
    layouts = sorted(LAYOUTS.values(), key=lambda layout: layout.read.__module__ == __name__)
    for layout in layouts:  # those from outside the package first
        if pairs := layout.read(root):
            return pairs
    names = ", ".join(p.name for p in subfolders(root)[:6]) or "no sub-folders"
    raise LayoutError(f"{root}: no known layout of pairs (found {names})",
                      "looked for " + ", ".join(layout.shows for layout in layouts))


@register_layout("sides", "clean_trainset_*/ with noisy_trainset_*/ (VoiceBank+DEMAND), "
                 "train|valid|test/clean with train|valid|test/noisy, clean/ with noisy/ (DNS), "
                 "wavs_clean/ with wavs_noisy/, CleanSpeech_*/ with NoisySpeech_*/ (MS-SNSD)")
def _side_by_side(root: Path) -> list[Pair]:
    folders = subfolders(root)
    pairs = _read_sides(folders, split=None)
    for folder in folders:
        split = SPLITS.get(folder.name.lower())
        if split is not None:
            pairs += _read_sides(subfolders(folder), split)
    return pairs


@register_layout("manifest", "a .csv or .jsonl with columns noisy and clean")
def _with_manifest(root: Path) -> list[Pair]:
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
            rows = manifest_rows(path)
            if rows and _column(rows[0], _NOISY_COLUMNS) and _column(rows[0], _CLEAN_COLUMNS):
                return _read_manifest(path)
    return []


def _read_sides(folders: Sequence[Path], split: str | None) -> list[Pair]:
    """Pair up sibling folders that differ in `clean` and `noisy` only."""
    sets: dict[str, dict[str, Path]] = {}
    splits: dict[str, str | None] = {}
    for folder in folders:
        name = folder.name.lower()
        match = SET_FOLDER.fullmatch(name)
        if name in _SIDES:
            key, side = name.replace(_SIDES[name], "*"), _SIDES[name]
            splits[key] = split
        elif match and match["split"] in SPLITS:
            key, side = match["set"], match["side"]
            splits[key] = split or SPLITS[match["split"]]
        else:
            continue
        sets.setdefault(key, {})[side] = folder
    pairs: list[Pair] = []
    for key, sides in sets.items():
        if len(sides) == 2:
            matched = match_folders(sides["noisy"], sides["clean"])
            pairs += [replace(pair, split=splits[key]) for pair in matched]
    lone = [sides for sides in sets.values() if len(sides) == 1]
    if pairs and lone:  # a set that is not unpacked yet would otherwise be missing in silence
        side, folder = next(iter(lone[0].items()))
        other = "noisy" if side == "clean" else "clean"
        raise PairError(f"{folder}: has no {other} folder beside it",
                            "add that one or move this one")
    return pairs


def _read_manifest(path: Path) -> list[Pair]:
    pairs = []
    missing = []
    seen: set[Path] = set()
    for number, row in enumerate(manifest_rows(path), start=1):
        noisy_column, clean_column = _column(row, _NOISY_COLUMNS), _column(row, _CLEAN_COLUMNS)
        if noisy_column is None or clean_column is None:
            raise PairError(
                f"{path}: row {number} has no noisy and clean file (columns: "
                f"{', '.join(map(str, row))})", "expected the columns noisy and clean"
            )
        noisy = beside(path.parent, str(row[noisy_column]))
        clean = beside(path.parent, str(row[clean_column]))
        if noisy in seen:
            raise PairError(f"{path}: row {number} lists {noisy} for the second time", "remove one")
        seen.add(noisy)
        absent = [file for file in (noisy, clean) if not _is_file(file)]
        if absent:
            missing += absent
            continue
        try:
            name = Path(os.path.relpath(str(noisy), str(path.parent))).with_suffix("").as_posix()
        except ValueError:  # on another drive of Windows
            name = noisy.stem
        split = row.get("split") or None
        snr_db = row_snr(row, path)
        pairs.append(
            Pair(
                name=noisy.stem if name.startswith("..") else name,
                noisy=noisy,
                clean=clean,
                speaker=row.get("speaker") or None,
                split=SPLITS.get(str(split).lower(), split),
                snr_db=snr_of(noisy) if snr_db is None else snr_db,
            )
        )
    if missing:
        raise PairError(
            f"{path}: {len(missing)} listed file(s) do not exist, the first is {missing[0]}",
            "relative paths count from the manifest's folder",
        )
    if not pairs:
        raise PairError(f"{path}: lists no pairs", "expected rows with the columns noisy and clean")
    speakers = speakers_of((pair.clean, path.parent) for pair in pairs)
    return [
        replace(pair, speaker=pair.speaker or speaker)
        for pair, speaker in zip(pairs, speakers, strict=True)
    ]


def _is_file(path: Path) -> bool:
    with reaching(path):
        return path.is_file()


def _column(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if row.get(name)), None)
