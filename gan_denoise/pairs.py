"""Pairs of noisy and clean files: matched by name, read from known layouts, split by speaker.

Nothing is ever matched by its position in a sorted list, and a file without a partner is an error:
one missing file would otherwise shift every pair behind it.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio import find_audio

# VoiceBank+DEMAND comes without a validation set; these training speakers (one female, one male)
# are the usual choice.
VOICEBANK_VALID_SPEAKERS = ("p226", "p287")
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".json")

_SPLITS = {
    "train": "train", "training": "train", "tr": "train", "trainset": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "cv": "valid",
    "validset": "valid", "test": "test", "testing": "test", "tt": "test", "testset": "test",
}  # fmt: skip
_NOISY_COLUMNS = ("noisy", "noisy_wav", "noisy_filepath", "noisy_path")
_CLEAN_COLUMNS = ("clean", "clean_wav", "clean_filepath", "clean_path")
_LOOKED_FOR = (
    "clean_trainset_*/ with noisy_trainset_*/ (VoiceBank+DEMAND), train|valid|test/clean with "
    "train|valid|test/noisy, clean/ with noisy/ (DNS), wavs_clean/ with wavs_noisy/, "
    "CleanSpeech_*/ with NoisySpeech_*/ (MS-SNSD), a .csv or .jsonl with columns noisy and clean"
)
_SIDES = {"clean": "clean", "noisy": "noisy", "wavs_clean": "clean", "wavs_noisy": "noisy"}
_SET = re.compile(
    r"(?P<side>clean|noisy)(?:speech)?_(?P<set>(?P<split>[a-z]+?(?:set)?)(?:_\d+spk)?(?:_wav)?(?:_16k)?)"
)
# Names that carry the number of their clean file: DNS, then MS-SNSD (several noisy to one clean).
_NUMBERED = (re.compile(r"fileid_(\d+)$"), re.compile(r"clnsp(\d+)$"))
_SNR = re.compile(r"_snr(?:db_)?(-?\d+(?:\.\d+)?)(?=_|$)", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_VCTK = re.compile(r"([ps]\d{3})_\d{3}(?:_mic\d)?")
_LIBRISPEECH = re.compile(r"(\d+)-\d+-\d{4,}")
_DIGITS = re.compile(r"\d_([^\W_]+)_\d+")
# Folders that sort files by something else than the speaker.
_GENERIC = frozenset(_SPLITS) | {
    "clean", "noisy", "wav", "wavs", "flac", "audio", "speech", "data", "recordings", "clips",
    "wavs_clean", "wavs_noisy",
}  # fmt: skip


class PairError(ValueError):
    """Noisy and clean files do not fit together: one line with the reason and the way out."""


class LayoutError(PairError):
    """A folder shows no known layout of pairs: it may be a plain folder of audio."""


@dataclass(frozen=True)
class Pair:
    """A noisy file and its clean original.

    Attributes:
        name: Path of the noisy file below its folder, without suffix; unique within a split.
        noisy: The noisy file.
        clean: The clean file.
        speaker: Where the tree, the name or a manifest tells.
        split: `train`, `valid` or `test` where the layout tells.
        snr_db: SNR of the mixture in dB where a manifest or the name tells.
    """

    name: str
    noisy: Path
    clean: Path
    speaker: str | None = None
    split: str | None = None
    snr_db: float | None = None


def match_folders(noisy: Path, clean: Path) -> list[Pair]:
    """Match the files of two folders by name.

    The key is the path below the folder without suffix; where these differ, the number in names
    that end in `fileid_N` (DNS) or `clnspN` (MS-SNSD). A `manifest.json`, `.jsonl` or `.csv` beside
    the two folders, with rows of `file`, `snr_db` and `speaker`, adds what it says.

    Args:
        noisy: Folder of noisy files, searched with its sub-folders.
        clean: Folder of clean files.

    Returns:
        Pairs in the order of their names.

    Raises:
        PairError: For a file without a partner, two files of one key, or twice the same folder.
        AudioError: When a folder is missing or holds no audio.
    """
    noisy, clean = Path(noisy), Path(clean)
    if noisy.resolve() == clean.resolve():
        raise PairError(f"{noisy}: noisy and clean are the same folder; give two")
    noisy_names = _names(noisy)
    clean_names = _names(clean)
    partner = {name: name for name in noisy_names}
    if set(noisy_names) != set(clean_names):
        partner = _by_number(noisy_names, clean_names) or partner
    _refuse_orphans(noisy, clean, partner, clean_names)
    notes = _folder_notes(noisy, clean)
    pairs = []
    for name, path in noisy_names.items():
        original = clean_names[partner[name]]
        note = notes.get(path.relative_to(noisy).as_posix(), notes.get(path.name, {}))
        pairs.append(
            Pair(
                name=name,
                noisy=path,
                clean=original,
                speaker=note.get("speaker") or speaker_of(original, clean),
                snr_db=note.get("snr_db", _snr_of(path)),
            )
        )
    return pairs


def read_layout(root: Path) -> list[Pair]:
    """Read the pairs of a dataset as unpacked, or of a manifest file.

    Known layouts: VoiceBank+DEMAND (`clean_trainset_28spk_wav/` and so on), `train|valid|test` with
    `clean` and `noisy` in each, `clean/ noisy/` (DNS), `wavs_clean/ wavs_noisy/`,
    `CleanSpeech_training/ NoisySpeech_training/` (MS-SNSD), and a CSV, JSONL or JSON manifest with
    columns `noisy` and `clean` (also `noisy_wav`, `noisy_filepath`, ...), optionally `split`,
    `speaker`, `snr_db`; its relative paths count from the manifest.

    Args:
        root: The folder, or the manifest.

    Returns:
        Pairs, with `split` where the tree shows one.

    Raises:
        LayoutError: When no layout fits, naming those looked for.
        PairError: When the files of a layout do not pair up.
        AudioError: When one of its folders holds no audio.
    """
    root = Path(root)
    if root.is_file():
        return _read_manifest(root)
    if not root.is_dir():
        raise PairError(f"{root}: no such folder or manifest; check the path")
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    pairs = _read_sides(folders, split=None)
    for folder in folders:
        split = _SPLITS.get(folder.name.lower())
        if split is not None:
            inner = sorted(p for p in folder.iterdir() if p.is_dir())
            pairs += _read_sides(inner, split)
    if pairs:
        return pairs
    for path in sorted(root.iterdir()):
        if path.suffix.lower() in MANIFEST_SUFFIXES and path.is_file():
            rows = _rows(path)
            if rows and _column(rows[0], _NOISY_COLUMNS) and _column(rows[0], _CLEAN_COLUMNS):
                return _read_manifest(path)
    names = ", ".join(p.name for p in folders[:6]) or "no sub-folders"
    raise LayoutError(f"{root}: no known layout of pairs (found {names}); looked for {_LOOKED_FOR}")


def split_of(path: Path, root: Path) -> str | None:
    """Return `train`, `valid` or `test` where a folder from `root` down to the file is so named."""
    for name in (root.name, *path.relative_to(root).parts[:-1]):
        if name.lower() in _SPLITS:
            return _SPLITS[name.lower()]
    return None


def speaker_of(path: Path, root: Path) -> str | None:
    """Return the speaker of a file where its name or the tree below `root` tells, else None.

    Names of the VCTK (`p226_001`) and LibriSpeech (`1089-134686-0000`) kinds come first, because
    their folders may be chapters; then the folder of the file, if it has siblings; then
    `DIGIT_SPEAKER_TAKE` (`3_jackson_12`). A UUID as name shows no speaker, whatever its folder.
    """
    stem = path.stem
    if _UUID.fullmatch(stem):
        return None
    for pattern in (_VCTK, _LIBRISPEECH):
        match = pattern.fullmatch(stem)
        if match:
            return match.group(1)
    folder = path.parent
    if (
        folder != root
        and folder.is_relative_to(root)
        and folder.name.lower() not in _GENERIC
        and not _SET.fullmatch(folder.name.lower())
        and _has_siblings(folder)
    ):
        return folder.name
    match = _DIGITS.fullmatch(stem)
    return match.group(1) if match else None


def split_by_speaker(
    speakers: Sequence[str | None], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide items so that no speaker is on both sides.

    Args:
        speakers: Of each item; None is a speaker of its own.
        fraction: Share of the speakers to hold out, in (0, 1); at least one is.
        seed: Of the choice.

    Returns:
        Indices of the items to train on and to validate on, int64, each ascending.

    Raises:
        PairError: When all items are of one speaker, or `fraction` leaves nobody to train on.
    """
    groups: list[int] = []
    known: dict[Any, int] = {}
    for index, speaker in enumerate(speakers):
        groups.append(known.setdefault(index if speaker is None else speaker, len(known)))
    held_out = math.ceil(fraction * len(known))
    if len(known) < 2 or not 1 <= held_out < len(known):
        raise PairError(
            f"cannot hold out {fraction:g} of {len(known)} speaker(s) in {len(groups)} file(s): "
            "both sides need one; give more speakers, another share, or separate validation folders"
        )
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=1, test_size=held_out, random_state=seed)
    train, valid = next(splitter.split(np.zeros(len(groups)), groups=groups))
    return np.sort(train), np.sort(valid)


def hold_out(pairs: Sequence[Pair], fraction: float, seed: int) -> tuple[list[Pair], list[Pair]]:
    """Divide pairs into those to train on and those to validate on; test pairs are in neither.

    The dataset's own validation set is taken where it has one; else speakers p226 and p287 of
    VoiceBank; else a share of the speakers.

    Args:
        pairs: Of one dataset.
        fraction: Share of the speakers, as in `split_by_speaker`.
        seed: Of the choice.

    Raises:
        PairError: As `split_by_speaker`, and when there is nothing to train on.
    """
    usable = [pair for pair in pairs if pair.split != "test"]
    valid = [pair for pair in usable if pair.split == "valid"]
    rest = [pair for pair in usable if pair.split != "valid"]
    if not rest:
        raise PairError("no pairs to train on: all are of the test or validation set")
    if valid:
        return rest, valid
    speakers = {pair.speaker for pair in rest}
    if speakers > set(VOICEBANK_VALID_SPEAKERS):
        held = [pair.speaker in VOICEBANK_VALID_SPEAKERS for pair in rest]
        return (
            [pair for pair, out in zip(rest, held, strict=True) if not out],
            [pair for pair, out in zip(rest, held, strict=True) if out],
        )
    train_indices, valid_indices = split_by_speaker([p.speaker for p in rest], fraction, seed)
    return [rest[i] for i in train_indices], [rest[i] for i in valid_indices]


def _names(folder: Path) -> dict[str, Path]:
    names: dict[str, Path] = {}
    for path in find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise PairError(
                f"{folder}: {names[name].name} and {path.name} share the name {name}; remove one"
            )
        names[name] = path
    return names


def _by_number(noisy: Iterable[str], clean: Iterable[str]) -> dict[str, str] | None:
    """Map noisy names to clean names by the number in them, if all of them carry one."""
    for pattern in _NUMBERED:
        noisy_keys = {name: _number(pattern, name) for name in noisy}
        clean_keys = {name: _number(pattern, name) for name in clean}
        if None in noisy_keys.values() or None in clean_keys.values():
            continue
        counts = Counter(clean_keys.values())
        if pattern is _NUMBERED[0]:
            counts |= Counter(noisy_keys.values())
        twice = [key for key, count in counts.items() if key is not None and count > 1]
        if twice:
            raise PairError(f"several files carry the number {twice[0][1]}; remove all but one")
        by_key = {key: name for name, key in clean_keys.items()}
        # A clean name of no file, where there is none of that number: reported as an orphan.
        return {name: by_key.get(key, "") for name, key in noisy_keys.items()}
    return None


def _number(pattern: re.Pattern[str], name: str) -> tuple[str, int] | None:
    match = pattern.search(name)
    return (os.path.dirname(name), int(match.group(1))) if match else None


def _refuse_orphans(
    noisy: Path, clean: Path, partner: Mapping[str, str], clean_names: Mapping[str, Path]
) -> None:
    used = set(partner.values())
    parts = []
    for folder, orphans, side in (
        (noisy, [name for name, other in partner.items() if other not in clean_names], "clean"),
        (clean, [name for name in clean_names if name not in used], "noisy"),
    ):
        if orphans:
            shown = ", ".join(orphans[:3]) + (", ..." if len(orphans) > 3 else "")
            parts.append(f"{len(orphans)} file(s) in {folder} have no {side} partner ({shown})")
    if parts:
        raise PairError(
            " and ".join(parts) + "; names must agree but for the suffix: add the partners or "
            "remove these files"
        )


def _folder_notes(noisy: Path, clean: Path) -> dict[str, dict[str, Any]]:
    """What a manifest beside the folders says, by file name."""
    if noisy.resolve().parent != clean.resolve().parent:
        return {}
    notes = {}
    for suffix in MANIFEST_SUFFIXES:
        path = noisy.parent / f"manifest{suffix}"
        if path.is_file():
            for row in _rows(path):
                if row.get("file"):
                    note = {"speaker": row.get("speaker") or None}
                    snr_db = _snr(row, path)
                    notes[str(row["file"])] = note | ({} if snr_db is None else {"snr_db": snr_db})
    return notes


def _read_sides(folders: Sequence[Path], split: str | None) -> list[Pair]:
    """Pair up sibling folders that differ in `clean` and `noisy` only."""
    sets: dict[str, dict[str, Path]] = {}
    splits: dict[str, str | None] = {}
    for folder in folders:
        name = folder.name.lower()
        match = _SET.fullmatch(name)
        if name in _SIDES:
            key, side = name.replace(_SIDES[name], "*"), _SIDES[name]
            splits[key] = split
        elif match and match["split"] in _SPLITS:
            key, side = match["set"], match["side"]
            splits[key] = split or _SPLITS[match["split"]]
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
        raise PairError(f"{folder}: has no {other} folder beside it; add that one or move this one")
    return pairs


def _read_manifest(path: Path) -> list[Pair]:
    pairs = []
    missing = []
    seen: set[Path] = set()
    for number, row in enumerate(_rows(path), start=1):
        noisy_column, clean_column = _column(row, _NOISY_COLUMNS), _column(row, _CLEAN_COLUMNS)
        if noisy_column is None or clean_column is None:
            raise PairError(
                f"{path}: row {number} has no noisy and clean file (columns: "
                f"{', '.join(map(str, row))}); expected the columns noisy and clean"
            )
        noisy = path.parent / str(row[noisy_column])
        clean = path.parent / str(row[clean_column])
        missing += [file for file in (noisy, clean) if not file.is_file()]
        if noisy in seen:
            raise PairError(f"{path}: row {number} lists {noisy} for the second time; remove one")
        seen.add(noisy)
        name = Path(os.path.relpath(noisy, path.parent)).with_suffix("").as_posix()
        split = row.get("split") or None
        snr_db = _snr(row, path)
        pairs.append(
            Pair(
                name=noisy.stem if name.startswith("..") else name,
                noisy=noisy,
                clean=clean,
                speaker=row.get("speaker") or speaker_of(clean, path.parent),
                split=_SPLITS.get(str(split).lower(), split),
                snr_db=_snr_of(noisy) if snr_db is None else snr_db,
            )
        )
    if missing:
        raise PairError(
            f"{path}: {len(missing)} listed file(s) do not exist, the first is {missing[0]}; "
            "relative paths count from the manifest's folder"
        )
    if not pairs:
        raise PairError(f"{path}: lists no pairs; expected rows with the columns noisy and clean")
    return pairs


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV, JSONL or JSON file; JSON may be a list of rows, or rows by name."""
    suffix = path.suffix.lower()
    try:
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        elif suffix == ".jsonl":
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        elif suffix == ".json":
            content = json.loads(text)
            rows = list(content.values() if isinstance(content, dict) else content)
        else:
            raise PairError(
                f"{path}: no manifest; expected a folder, or {' '.join(MANIFEST_SUFFIXES)}"
            )
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise PairError(f"{path}: not readable as {suffix[1:]} ({error})") from error
    return [row for row in rows if isinstance(row, dict)]


def _column(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if row.get(name)), None)


def _snr(row: Mapping[str, Any], path: Path) -> float | None:
    value = row.get("snr_db")
    if value is None or value == "":
        return None
    try:
        snr_db = float(value)
    except (TypeError, ValueError):
        snr_db = math.nan
    if not math.isfinite(snr_db):
        raise PairError(f"{path}: snr_db is {value!r}, expected a number in dB or nothing")
    return snr_db


def _snr_of(path: Path) -> float | None:
    match = _SNR.search(path.stem)
    return float(match.group(1)) if match else None


def _has_siblings(folder: Path) -> bool:
    """Whether there is another folder beside it: one alone is no division by speaker."""
    with os.scandir(folder.parent) as entries:
        return sum(1 for entry in entries if entry.is_dir() and entry.name[0] != ".") > 1
