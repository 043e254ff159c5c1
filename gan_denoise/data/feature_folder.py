"""Folders of features (log-mel and MFCC), computed once from recordings and trained on often.

A folder of features holds `train`, `validation` and `test` with an `.npz` a clip (`noisy` and
`clean`, float16 `[frames, bands]`: the log-mel in dB and the MFCC, not scaled), `index.json` with
the transform and a line a clip, and `config.yaml`: the settings to train with, in which the ranges
of the training clips stand. Where there is no `noisy`, noise is added to the scaled features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.schema import Config
from gan_denoise.core.checksums import BROKEN_ARRAYS, unsealed
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.fetched_files import local_copy
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.locations import (
    NotThere,
    OutsideError,
    inside,
    is_remote,
    location,
    reaching,
    walk_address,
)
from gan_denoise.core.rng import random_stream
from gan_denoise.data.feature_noise import add_noise, draw_snr
from gan_denoise.dsp.mel import Mel

FORMAT = 1  # of index.json
INDEX = "index.json"
SPLITS = ("train", "validation", "test")  # folders


class FeatureError(GanDenoiseError):
    """A folder of features cannot be written or used."""


@dataclass(frozen=True)
class Clip:
    """An entry of the index: one clip.

    Attributes:
        file: Path below the folder, with forward slashes.
        speaker: Speaker, where it is known.
        snr_db: SNR of the mixture in dB, where it is known.
        frames: Number of frames; those behind the end of the recording are silent.
        sha256: Hash of the file, hex.
    """

    file: str
    speaker: str | None
    snr_db: float | None
    frames: int
    sha256: str

    @property
    def split(self) -> str:
        """Folder that it lies in."""
        return self.file.partition("/")[0]


class FeatureFolder:
    """A folder of features, opened for settings that must be those it was made with.

    Attributes:
        root: The folder.
        clips: Its clips, by split.
        digest: Hash of all of them.

    Raises:
        FeatureError: When it is none, is damaged, or was made with another transform.
    """

    def __init__(self, root: str | Path, config: Config):
        self.root = location(root)
        made_with, clips, self.digest = _read_index(self.root)
        for section, theirs in made_with.items():
            ours = getattr(config, section).model_dump(mode="json")
            other = [f"{section}.{key} {theirs.get(key)}" for key in ours
                     if ours[key] != theirs.get(key)]
            if other:
                raise FeatureError(
                    f"{self.root}: made with {', '.join(other)}",
                    f"train with --config {self.root / SETTINGS}, or write them anew"
                )
        self.config, self.mel = config, Mel(config.audio, config.mel)
        self.clips = {split: [clip for clip in clips if clip.split == split]
                      for split in SPLITS}

    def read(self, clip: Clip) -> tuple[np.ndarray | None, np.ndarray]:
        """Return (noisy, clean) as mel01, float32 `[frames, bands]`; None where noise is added.

        Raises:
            FeatureError: When the file is damaged.
        """
        path = self.root / clip.file
        try:
            with np.load(local_copy(path), allow_pickle=False) as arrays:
                scaled = {side: self.mel.scale(arrays[side].astype(np.float32)) for side in arrays}
            return scaled.get("noisy"), scaled["clean"]
        except (NotThere, *BROKEN_ARRAYS) as error:
            raise FeatureError(f"{path}: is not a whole clip ({error})",
                               "write the features anew") from error

    def source(self, splits: Sequence[str], seed: int) -> FeatureSource:
        """Return random crops of the clips of some splits.

        Raises:
            FeatureError: When there are none.
        """
        clips = [clip for split in splits for clip in self.clips[split]]
        if not clips:
            raise FeatureError(f"{self.root}: holds no clip of {' and '.join(splits)}")
        return FeatureSource(self, clips, seed)


class FeatureSource:
    """Crops of clips, each a pure function of (seed, step, index).

    Args:
        folder: Folder of the clips.
        clips: Clips to take crops from.
        seed: Seed of all crops.
    """

    def __init__(self, folder: FeatureFolder, clips: Sequence[Clip], seed: int):
        self.folder, self.clips, self.seed = folder, clips, seed

    def batch(
        self, step: int, batch_size: int, items: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[items, frames, bands]`."""
        items = range(batch_size) if items is None else items
        frames, bands = self.folder.config.crop_shape
        out = np.empty((2, len(items), frames, bands), np.float32)
        out[:] = self.folder.mel.silence
        for place, item in enumerate(items):
            rng = random_stream(self.seed, step, item)
            clip = self.clips[int(rng.integers(len(self.clips)))]
            start = int(rng.integers(max(clip.frames - frames, 0) + 1))
            crop = np.s_[start : start + frames]
            noisy, clean = self.folder.read(clip)
            clean = clean[crop]
            noisy = (noisy[crop] if noisy is not None
                     else add_noise(clean, draw_snr(self.folder.config.data, rng), rng))
            out[0, place, : len(clean)], out[1, place, : len(clean)] = noisy, clean
        return out[0], out[1]


def _read_index(root: Path) -> tuple[dict[str, dict[str, Any]], list[Clip], str]:
    """Return what a folder was made with (`audio`, `mel`), its clips, and the index's hash."""
    try:
        with reaching(root):
            text = (root / INDEX).read_text(encoding="utf-8")
        index = parse_json(text)
        newer = index["format"] > FORMAT
        if not newer:
            index = unsealed(index, root / INDEX)
        made_with = {section: dict(index[section]) for section in ("audio", "mel")}
        clips = [] if newer else [Clip(**row) for row in index["clips"]]
        for clip in clips:
            inside(root, clip.file)
    except OutsideError as error:
        raise FeatureError(error.reason, error.way_out) from error
    except (OSError, NotThere) as error:
        reason = getattr(error, "strerror", "") or "no such file"
        raise FeatureError(f"{root}: no folder of features ({INDEX}: {reason})",
                           "gan-denoise features writes one") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FeatureError(f"{root / INDEX}: is no index of features ({error!r})",
                           "write them anew") from error
    if newer:
        raise FeatureError(f"{root}: written by a newer gan_denoise", "upgrade, or write it anew")
    lost = _lost(root, clips)
    if lost:
        raise FeatureError(
            f"{root}: {len(lost)} of {len(clips)} clips are missing, the first is {lost[0]}",
            "copy the folder again, or write it anew"
        )
    return made_with, clips, hashlib.sha256(text.encode()).hexdigest()


def _lost(root: Path, clips: Sequence[Clip]) -> list[str]:
    """Return the clips that are not there; an address is asked once, not for each of them."""
    if not is_remote(root):
        return [clip.file for clip in clips if not (root / clip.file).is_file()]
    there = {file.relative_to(root).as_posix() for file in walk_address(root)}
    return [clip.file for clip in clips if clip.file not in there]
