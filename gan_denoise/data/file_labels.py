"""Labels of a file by its name and place: its speaker, its split, its SNR."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from gan_denoise.core.locations import subfolders

SPLITS = {
    "train": "train", "training": "train", "tr": "train", "trainset": "train",
    "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid", "cv": "valid",
    "validset": "valid", "test": "test", "testing": "test", "tt": "test", "testset": "test",
}  # fmt: skip
# Folders of VoiceBank+DEMAND and MS-SNSD.
SET_FOLDER = re.compile(
    r"(?P<side>clean|noisy)(?:speech)?_(?P<set>(?P<split>[a-z]+?(?:set)?)(?:_\d+spk)?(?:_wav)?(?:_16k)?)"
)
_SNR = re.compile(r"_snr(?:db_)?(-?\d+(?:\.\d+)?)(?=_|$)", re.IGNORECASE)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_VCTK = re.compile(r"([ps]\d{3})_\d{3}(?:_mic\d)?")
_LIBRISPEECH = re.compile(r"(\d+)-\d+-\d{4,}")
_DIGITS = re.compile(r"(?P<digit>\d)_(?P<speaker>[^\W_]+)_\d+")
# The folders of noise are kinds of noise, no speakers, and may well be in every split.
_NOISE = re.compile(r"(?<![a-z])(noises?|rirs?|music)(?![a-z])", re.IGNORECASE)
# Folders that sort files by something else than the speaker.
_GENERIC = frozenset(SPLITS) | {
    "clean", "noisy", "wav", "wavs", "flac", "audio", "speech", "data", "recordings", "clips",
    "wavs_clean", "wavs_noisy",
}  # fmt: skip


def split_of(path: Path, root: Path) -> str | None:
    """Return `train`, `valid` or `test` where a folder from `root` down to the file is so named."""
    for name in (root.name, *path.relative_to(root).parts[:-1]):
        if name.lower() in SPLITS:
            return SPLITS[name.lower()]
    return None


def speaker_of(path: Path, root: Path) -> str | None:
    """Return the speaker of a file where its name or the tree below `root` tells, else None.

    Names of the VCTK (`p226_001`) and LibriSpeech (`1089-134686-0000`) kinds come first, because
    their folders may be chapters; then the folder of the file, if it has siblings; then
    `DIGIT_SPEAKER_TAKE` (`3_jackson_12`). A UUID as name shows no speaker, whatever its folder.
    """
    return _speaker(path, root, _is_divided)


def speakers_of(files: Iterable[tuple[Path, Path]]) -> list[str | None]:
    """Return the speaker of each (file, root), as `speaker_of`, with one look at each folder."""
    # The cache ends with the call: by the next one the folders may have changed.
    is_divided = functools.cache(_is_divided)
    return [_speaker(path, root, is_divided) for path, root in files]


def is_noise(path: Path, root: Path) -> bool:
    """Return whether a name from `root` down to the file says noise, music or room.

    A folder above `root` must be called just so: speech may well lie in `noise_reduction`.
    """
    inside = (root.name, *path.relative_to(root).parts)
    return any(map(_NOISE.search, inside)) or any(map(_NOISE.fullmatch, root.parts[:-1]))


def snr_of(path: Path) -> float | None:
    """Return the SNR in dB that a name tells (`_snr5`, `_SNRdb_10.0`), else None."""
    match = _SNR.search(path.stem)
    return float(match.group(1)) if match else None


def _speaker(path: Path, root: Path, is_divided: Callable[[Path], bool]) -> str | None:
    stem = path.stem
    if _UUID.fullmatch(stem):
        return None
    for pattern in (_VCTK, _LIBRISPEECH):
        match = pattern.fullmatch(stem)
        if match:
            return match.group(1)
    digits = _DIGITS.fullmatch(stem)
    folder = path.parent
    if (
        folder != root
        and not (digits and folder.name == digits["digit"])
        and folder.is_relative_to(root)
        and folder.name.lower() not in _GENERIC
        and not SET_FOLDER.fullmatch(folder.name.lower())
        and is_divided(folder.parent)
    ):
        return folder.name
    return digits["speaker"] if digits else None


def _is_divided(folder: Path) -> bool:
    """Whether it has several sub-folders: one alone is no division by speaker."""
    return len(subfolders(folder)) > 1
