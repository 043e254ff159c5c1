"""Features as files: noisy and clean of a clip in one, made once and trained on many times.

A folder of features holds `train`, `validation` and `test` with an `.npz` a clip (`noisy` and
`clean`, float16 `[frames, bands]`: the log-mel in dB and the MFCC, not scaled), `index.json` with
the transform and a line a clip, and `config.yaml`: the settings to train with, in which the ranges
of the training clips stand. Where there is no `noisy`, noise is added to the scaled features.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.config import dump_config
from gan_denoise.labels import speakers_of
from gan_denoise.layouts import read_layout
from gan_denoise.mel import Mel
from gan_denoise.mixing import random_stream
from gan_denoise.pairs import Pair, match_folders, split_by_speaker
from gan_denoise.settings import Config, DataConfig
from gan_denoise.spectrograms import add_noise, draw_snr

FORMAT = 1  # of index.json
INDEX, SETTINGS = "index.json", "config.yaml"
SPLITS = {"train": "train", "valid": "validation", "test": "test"}  # of a pair -> folder
SHORTEST = 0.5  # of a clip: what is left of a recording below this is no clip of its own


class FeatureError(ValueError):
    """A folder of features cannot be written or used; says why and the way out."""


@dataclass(frozen=True)
class Clip:
    """A line of the index.

    Attributes:
        file: Below the folder, with forward slashes.
        speaker: Where it is known.
        snr_db: Of the mixture in dB, where it is known.
        frames: Length; what lies behind the end of its recording is silence.
        sha256: Of the file.
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


def write_features(
    config: Config, out: str | Path, progress: Callable[[int, int], None] | None = None
) -> Config:
    """Write the features of paired or of clean recordings.

    Recordings are cut into clips of `training.crop_seconds`; a rest of half a clip or more is
    filled up with silence, a shorter one left out unless it is all there is. Splits are those of
    the layout, else speakers are held out, `data.valid_fraction` each for validation and test.

    Args:
        config: `data.noisy` and `data.clean`, or `data.pairs`, or `data.clean` alone: its noise is
            added to the features, by the SNRs of `data`, as they are read.
        out: Folder to write; must not exist, or be empty.
        progress: Called with (recordings done, recordings in all).

    Returns:
        The settings to train with, as in `config.yaml`.

    Raises:
        FeatureError: When `out` holds something, or `data` names nothing.
        AudioError, PairError: When the recordings cannot be used.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FeatureError(f"{out}: is there already; give another folder or remove it")
    pairs = _split(_recordings(config.data), config.data.valid_fraction)
    mel = Mel(config.audio, config.mel)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        build = Path(temporary) / "features"
        clips: list[Clip] = []
        ranges = _Ranges(config.mel.bands)
        for done, pair in enumerate(pairs, start=1):
            for clip, arrays in _clips(pair, config, mel, build):
                clips.append(clip)
                if clip.split == SPLITS["train"]:
                    ranges.add(arrays.values())
            if progress is not None:
                progress(done, len(pairs))
        if not any(clip.split == SPLITS["train"] for clip in clips):
            raise FeatureError("no recording to train on: all are of the validation or test set")
        measure = config.mel.n_mfcc and not config.mel.mfcc_range
        settings = config.model_copy(update={
            "mel": config.mel.model_copy(update=ranges.settings(config) if measure else {}),
            "data": _trained_on(config.data, out.resolve()),
        })
        index = {"format": FORMAT, "audio": settings.audio.model_dump(mode="json"),
                 "mel": settings.mel.model_dump(mode="json"), "clips": [asdict(c) for c in clips]}
        (build / INDEX).write_text(json.dumps(index, indent=0), encoding="utf-8")
        (build / SETTINGS).write_text(dump_config(settings), encoding="utf-8")
        if out.exists():
            out.rmdir()
        shutil.move(build, out)
    return settings


class FeatureFolder:
    """A folder of features, opened for settings that must be those it was made with.

    Attributes:
        root: The folder.
        clips: Its clips, by split.
        digest: Hash of all of them.

    Raises:
        FeatureError: When it is none, or was made with another transform.
    """

    def __init__(self, root: str | Path, config: Config):
        self.root = Path(root)
        try:
            text = (self.root / INDEX).read_text(encoding="utf-8")
        except OSError as error:
            raise FeatureError(f"{self.root}: no folder of features ({INDEX}: {error.strerror}); "
                               "gan-denoise features writes one") from error
        index = json.loads(text)
        if index["format"] > FORMAT:
            raise FeatureError(f"{self.root}: written by a newer gan_denoise; upgrade, or write it "
                               "anew")
        for section in ("audio", "mel"):
            ours = getattr(config, section).model_dump(mode="json")
            theirs = index[section]
            other = [f"{section}.{key} {theirs.get(key)}" for key in ours
                     if ours[key] != theirs.get(key)]
            if other:
                raise FeatureError(f"{self.root}: made with {', '.join(other)}; train with "
                                   f"--config {self.root / SETTINGS}, or write them anew")
        self.config, self.mel = config, Mel(config.audio, config.mel)
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self.clips: dict[str, list[Clip]] = {split: [] for split in SPLITS.values()}
        for row in index["clips"]:
            clip = Clip(**row)
            self.clips[clip.split].append(clip)

    def read(self, clip: Clip) -> tuple[np.ndarray | None, np.ndarray]:
        """Return (noisy, clean) as mel01, float32 `[frames, bands]`; None where noise is added."""
        with np.load(self.root / clip.file) as arrays:
            scaled = {side: self.mel.scale(arrays[side].astype(np.float32)) for side in arrays}
        return scaled.get("noisy"), scaled["clean"]

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
        folder: Where they are.
        clips: Which.
        seed: Of all draws.
    """

    def __init__(self, folder: FeatureFolder, clips: Sequence[Clip], seed: int):
        self.folder, self.clips, self.seed = folder, clips, seed

    def batch(self, step: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[batch, frames, bands]`."""
        frames, bands = self.folder.config.crop_shape
        out = np.zeros((2, batch_size, frames, bands), np.float32)
        for item in range(batch_size):
            rng = random_stream(self.seed, step, item)
            clip = self.clips[int(rng.integers(len(self.clips)))]
            start = int(rng.integers(max(clip.frames - frames, 0) + 1))
            crop = np.s_[start : start + frames]
            noisy, clean = self.folder.read(clip)
            clean = clean[crop]
            noisy = (noisy[crop] if noisy is not None
                     else add_noise(clean, draw_snr(self.folder.config.data, rng), rng))
            out[0, item, : len(clean)], out[1, item, : len(clean)] = noisy, clean
        return out[0], out[1]


# ---- Writing -----------------------------------------------------------------------------------
class _Ranges:
    """Smallest and largest value of each band."""

    def __init__(self, bands: int):
        self.low, self.high = np.full(bands, np.inf), np.full(bands, -np.inf)

    def add(self, features: Iterator[np.ndarray]) -> None:
        for frames in features:
            self.low = np.minimum(self.low, frames.min(axis=0))
            self.high = np.maximum(self.high, frames.max(axis=0))

    def settings(self, config: Config) -> dict[str, object]:
        """Return settings of the mel: all its bands share a range, each MFCC has its own."""
        bands = config.mel.n_mels
        low, high = float(self.low[:bands].min()), float(self.high[:bands].max())
        return {
            "offset_db": -low, "range_db": high - low,
            "mfcc_range": tuple((float(a), float(b)) for a, b in
                                zip(self.low[bands:], self.high[bands:], strict=True)),
        }


def _recordings(data: DataConfig) -> list[Pair]:
    if data.pairs is not None:
        return read_layout(Path(data.pairs))
    if data.noisy is not None and data.clean is not None:
        return match_folders(Path(data.noisy), Path(data.clean))
    if data.clean is None:
        raise FeatureError("give data.noisy and data.clean, or data.pairs, or data.clean alone")
    root = Path(data.clean)
    files = audio.find_audio(root)
    speakers = speakers_of((file, root) for file in files)
    return [Pair(file.relative_to(root).with_suffix("").as_posix(), file, file, speaker)
            for file, speaker in zip(files, speakers, strict=True)]


def _split(pairs: Sequence[Pair], fraction: float) -> list[tuple[str, Pair]]:
    """Return (folder, pair): as the layout says, else by speaker."""
    if any(pair.split for pair in pairs):
        return [(SPLITS[pair.split or "train"], pair) for pair in pairs]
    rest, test = split_by_speaker([pair.speaker for pair in pairs], fraction, seed=0)
    share = fraction / (1 - fraction)  # of what is left
    _, valid = split_by_speaker([pairs[i].speaker for i in rest], share, seed=0)
    of = {int(i): "test" for i in test} | {int(rest[i]): "validation" for i in valid}
    return [(of.get(number, "train"), pair) for number, pair in enumerate(pairs)]


def _clips(
    placed: tuple[str, Pair], config: Config, mel: Mel, build: Path
) -> Iterator[tuple[Clip, dict[str, np.ndarray]]]:
    """Write the clips of a pair; give each with its features."""
    split, pair = placed
    rate, size = config.audio.sample_rate, config.crop_samples
    sides = {"clean": pair.clean} | ({} if pair.noisy == pair.clean else {"noisy": pair.noisy})
    waves = {side: audio.read_mono(path, rate) for side, path in sides.items()}
    if len({len(wave) for wave in waves.values()}) > 1:
        lengths = " and ".join(f"{len(wave)} samples" for wave in waves.values())
        raise FeatureError(f"{pair.noisy} and {pair.clean} do not match: {lengths} at {rate} Hz")
    total = len(waves["clean"])
    count = max(int(total / size + 1 - SHORTEST), 1)
    for number in range(count):
        arrays = {}
        for side, wave in waves.items():
            piece = wave[number * size : (number + 1) * size]
            padded = np.pad(piece, (0, size - len(piece)))
            arrays[side] = mel.features(mel.linear(mel.stft(padded))).astype(np.float16)
        name = f"{split}/{pair.name}" + (f".{number}" if count > 1 else "") + ".npz"
        path = build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Clip(name, pair.speaker, pair.snr_db, len(arrays["clean"]), digest), arrays


def _trained_on(data: DataConfig, out: Path) -> DataConfig:
    blank = DataConfig()
    paths = {key: getattr(blank, key) for key in ("noisy", "clean", "pairs")}
    return data.model_copy(update=paths | {"features": os.fspath(out)})
