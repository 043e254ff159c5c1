"""Pairs of noisy and clean files: matched by name, split by speaker, or within a lone one.

Nothing is ever matched by its position in a sorted list, and a file without a partner is an error:
one missing file would otherwise shift every pair behind it.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio import find_audio
from gan_denoise.core.checksums import unsealed
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.locations import location, reaching
from gan_denoise.data.file_labels import snr_of, speakers_of

# VoiceBank+DEMAND comes without a validation set; these training speakers (one female, one male)
# are the usual choice.
VOICEBANK_VALID_SPEAKERS = ("p226", "p287")
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".json")

# Names that carry the number of their clean file: DNS, then MS-SNSD (several noisy to one clean).
_NUMBERED = (re.compile(r"fileid_(\d+)$"), re.compile(r"clnsp(\d+)$"))


class PairError(GanDenoiseError):
    """Noisy and clean files do not belong together as pairs."""


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
        noise: Kind of the noise where a manifest tells.
    """

    name: str
    noisy: Path
    clean: Path
    speaker: str | None = None
    split: str | None = None
    snr_db: float | None = None
    noise: str | None = None


def match_folders(noisy: str | Path, clean: str | Path) -> list[Pair]:
    """Match the files of two folders by name.

    The key is the path below the folder without suffix; where these differ, the number in names
    that end in `fileid_N` (DNS) or `clnspN` (MS-SNSD). A `manifest.json`, `.jsonl` or `.csv` beside
    the two folders, with rows of `file`, `snr_db`, `speaker` and `noise`, adds what it says.

    Args:
        noisy: Folder of noisy files, searched with its sub-folders, or its address.
        clean: Folder of clean files, or its address.

    Returns:
        Pairs in the order of their names.

    Raises:
        PairError: For a file without a partner, two files of one key, twice the same folder, or
            what is no folder.
        AudioError: When a folder is missing or holds no audio.
        LocationError: When an address cannot be reached.
    """
    noisy, clean = location(noisy), location(clean)
    if noisy.resolve() == clean.resolve():
        raise PairError(f"{noisy}: noisy and clean are the same folder", "give two")
    noisy_names = _names(noisy)
    clean_names = _names(clean)
    partner = {name: name for name in noisy_names}
    if set(noisy_names) != set(clean_names):
        partner = _by_number(noisy_names, clean_names) or partner
    _refuse_orphans(noisy, clean, partner, clean_names)
    together = noisy.resolve().parent == clean.resolve().parent
    notes = notes_beside(noisy) if together else {}
    originals = [clean_names[partner[name]] for name in noisy_names]
    speakers = speakers_of((original, clean) for original in originals)
    pairs = []
    for (name, path), original, speaker in zip(
        noisy_names.items(), originals, speakers, strict=True
    ):
        note = notes.get(path.relative_to(noisy).as_posix(), notes.get(path.name, {}))
        pairs.append(
            Pair(
                name=name,
                noisy=path,
                clean=original,
                speaker=note.get("speaker") or speaker,
                snr_db=note.get("snr_db", snr_of(path)),
                noise=note.get("noise"),
            )
        )
    return pairs


def split_by_speaker(
    speakers: Sequence[str | None], fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide items so that no speaker is on both sides.

    Args:
        speakers: Speaker of each item; None is a speaker of its own.
        fraction: Share of the speakers to hold out, in (0, 1); at least one is.
        seed: Seed of the choice.

    Returns:
        Indices of the items to train on and to validate on, int64, each ascending.

    Raises:
        PairError: When all items are of one speaker, or `fraction` leaves nobody to train on.
    """
    groups: list[int] = []
    known: dict[str | int, int] = {}
    for index, speaker in enumerate(speakers):
        groups.append(known.setdefault(index if speaker is None else speaker, len(known)))
    held_out = math.ceil(fraction * len(known))
    if len(known) < 2 or not 1 <= held_out < len(known):
        raise PairError(
            f"cannot hold out {fraction:g} of {len(known)} speaker(s) in {len(groups)} file(s): "
            "both sides need one",
            "give more speakers, another share, or separate validation folders",
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
        pairs: Pairs of one dataset.
        fraction: Share of the speakers, as in `split_by_speaker`.
        seed: Seed of the choice.

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


def is_lone(speakers: Sequence[str | None]) -> bool:
    """Return whether all items are of one speaker, so that none can be held out."""
    return len(speakers) == 1 or (None not in speakers and len(set(speakers)) == 1)


def hold_out_of_one(
    lengths: Sequence[int], fraction: float, shortest: int, seed: int
) -> tuple[np.ndarray, int] | None:
    """Choose what of one speaker's recordings to validate on: whole ones, or the end of one.

    Whole ones where they come to `shortest` without being most of the material; else the end of
    the longest, where it can be divided.

    Args:
        lengths: Length of each recording in samples; at least one recording.
        fraction: Share of the material to hold out, in (0, 1).
        shortest: Samples that either side of a divided recording must have.
        seed: Seed of the choice.

    Returns:
        Indices of the recordings, int64 ascending, and the samples to take from the end of the
        one that is chosen; 0: they are whole. None where there is too little to divide.
    """
    total, largest = sum(lengths), max(fraction, 0.5)
    wanted = max(math.ceil(fraction * total), shortest)
    whole: list[int] = []
    held = 0
    for index in np.random.default_rng(seed).permutation(len(lengths)):
        if held < wanted and held + lengths[index] <= largest * total and len(lengths) > 1:
            whole.append(int(index))
            held += lengths[index]
    longest = int(np.argmax(lengths))
    if held < shortest and lengths[longest] >= 2 * shortest:
        return np.array([longest]), min(wanted, int(largest * lengths[longest]))
    return (np.sort(np.array(whole)), 0) if whole else None


def manifest_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV, JSONL or JSON file; JSON may be a list of rows, or rows by name.

    Raises:
        PairError: When it is none of these, or broken.
    """
    suffix = path.suffix.lower()
    rows: Iterable[Any]
    try:
        text = path.read_text(encoding="utf-8-sig")
        if suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        elif suffix == ".jsonl":
            rows = [parse_json(line) for line in text.split("\n") if line.strip()]
        elif suffix == ".json":
            content = parse_json(text)
            rows = content.values() if isinstance(content, dict) else content
            if not isinstance(rows, Iterable) or isinstance(rows, str):
                raise PairError(f"{path}: expected rows, found {str(content)[:60]}")
        else:
            raise PairError(
                f"{path}: no manifest", f"expected a folder, or {' '.join(MANIFEST_SUFFIXES)}"
            )
    except (ValueError, csv.Error) as error:  # of text, or of JSON
        raise PairError(f"{path}: not readable as {suffix[1:]} ({error})") from error
    return [unsealed(row, path) for row in rows if isinstance(row, dict)]


def row_snr(row: Mapping[str, Any], path: Path) -> float | None:
    """Return `snr_db` of a manifest's row, in dB.

    Raises:
        PairError: When it is no finite number.
    """
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


def _names(folder: Path) -> dict[str, Path]:
    names: dict[str, Path] = {}
    with reaching(folder):
        is_file = folder.is_file()
    if is_file:
        raise PairError(f"{folder}: is a file", "give the folder that it lies in")
    for path in find_audio(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in names:
            raise PairError(
                f"{folder}: {names[name].name} and {path.name} share the name {name}", "rename one"
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
            raise PairError(f"several files carry the number {twice[0][1]}",
                            "rename all but one")
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
            " and ".join(parts),
            "names must agree but for the suffix: add the partners or move these elsewhere",
        )


def notes_beside(folder: Path) -> dict[str, dict[str, Any]]:
    """Return `speaker`, `noise`, `snr_db` by file, as a manifest beside a folder says.

    Raises:
        PairError: When it is broken.
    """
    notes = {}
    for suffix in MANIFEST_SUFFIXES:
        path = folder.parent / f"manifest{suffix}"
        if path.is_file():
            for row in manifest_rows(path):
                if row.get("file"):
                    note = {key: row.get(key) or None for key in ("speaker", "noise")}
                    snr_db = row_snr(row, path)
                    notes[str(row["file"])] = note | ({} if snr_db is None else {"snr_db": snr_db})
    return notes
