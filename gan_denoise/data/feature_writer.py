"""Writes folders of features: log-mel and MFCC of the noisy and clean recordings of a dataset."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.config import ConfigError, dump_config, with_settings
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.data_sources import CleanData, DataSource, PairData
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import check_new_folder, new_folder
from gan_denoise.core.checksums import sealed
from gan_denoise.core.locations import location, reaching
from gan_denoise.data.dataset_layouts import read_layout
from gan_denoise.data.feature_folder import FORMAT, INDEX, SPLITS, Clip, FeatureError
from gan_denoise.data.file_labels import speakers_of
from gan_denoise.data.pairs import Pair, hold_out, match_folders, notes_beside, split_by_speaker
from gan_denoise.dsp.mel import Mel

SHORTEST = 0.5  # of a clip: what is left of a recording below this is no clip of its own


def write_features(
    config: Config, out: str | Path, progress: Callable[[int, int], None] | None = None
) -> Config:
    """Write the features of paired or of clean recordings.

    Recordings are cut into clips of `training.crop_seconds`; a rest of half a clip or more is
    filled up with silence, a shorter one left out unless it is all there is. Splits are those of
    the layout, with validation held out as in training where it has none; without any, speakers
    are held out, `data.valid_fraction` each for validation and test.

    Args:
        config: `data.noisy` and `data.clean`, or `data.pairs`, or `data.clean` alone: its noise is
            added to the features, by the SNRs of `data`, as they are read.
        out: Folder to write; must not exist, or be empty.
        progress: Called with (recordings done, recordings in all).

    Returns:
        The settings to train with, as in `config.yaml`.

    Raises:
        OutputError: When `out` holds something.
        FeatureError: When `data` names nothing, two recordings have one name, or all are silent.
        ConfigError: When the settings ask for what features do not have.
        AudioError, PairError: When the recordings cannot be used.
    """
    out = Path(out)
    check_new_folder(out)
    pairs = _split(_recordings(config.data), config.data.valid_fraction)
    settings = _to_train_with(config, out.resolve())
    mel = Mel(config.audio, config.mel)
    with new_folder(out) as build:
        clips: list[Clip] = []
        ranges = _Ranges(config.mel.bands)
        for done, pair in enumerate(pairs, start=1):
            for clip, arrays in _clips(pair, config, mel, build):
                clips.append(clip)
                if clip.split == "train":
                    ranges.add(arrays.values())
            if progress is not None:
                progress(done, len(pairs))
        if config.mel.n_mfcc and not config.mel.mfcc_range:
            settings = with_settings(settings, ranges.settings(config))
        index = {"format": FORMAT, "audio": settings.audio.model_dump(mode="json"),
                 "mel": settings.mel.model_dump(mode="json"), "clips": [asdict(c) for c in clips]}
        (build / INDEX).write_text(json.dumps(sealed(index), indent=0), encoding="utf-8")
        (build / SETTINGS).write_text(dump_config(settings), encoding="utf-8")
    return settings


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
        """Return settings by key: all bands of the mel share a range, each MFCC has its own.

        Raises:
            FeatureError: When all frames are the same.
        """
        bands = config.mel.n_mels
        low, high = float(self.low[:bands].min()), float(self.high[:bands].max())
        ranges = [(float(a), float(b)) for a, b in
                  zip(self.low[bands:], self.high[bands:], strict=True)]
        if any(low >= high for low, high in [(low, high), *ranges]):
            raise FeatureError("the recordings to train on are silent throughout", "give others")
        return {"mel.offset_db": -low, "mel.range_db": high - low, "mel.mfcc_range": ranges}


def _recordings(data: DataSource) -> list[Pair]:
    if isinstance(data, PairData) and data.pairs is not None:
        return read_layout(data.pairs)
    if isinstance(data, PairData) and data.noisy is not None and data.clean is not None:
        return match_folders(data.noisy, data.clean)
    if not isinstance(data, CleanData):
        raise FeatureError("give data.noisy and data.clean, or data.pairs, or data.clean alone")
    root = location(data.clean)
    with reaching(root):
        is_file = root.is_file()
    if is_file:
        raise FeatureError(f"{root}: is a file", "give data.clean the folder that it is in")
    files = audio.find_audio(root)
    notes = notes_beside(root)  # `mix` says whose a repeated utterance is, where no name does
    speakers = speakers_of((file, root) for file in files)
    return [Pair(file.relative_to(root).with_suffix("").as_posix(), file, file,
                 notes.get(file.relative_to(root).as_posix(), {}).get("speaker") or speaker)
            for file, speaker in zip(files, speakers, strict=True)]


def _split(pairs: Sequence[Pair], fraction: float) -> list[tuple[str, Pair]]:
    """Return (folder, pair): as the layout says, else by speaker."""
    test = [pair for pair in pairs if pair.split == "test"]
    if not any(pair.split for pair in pairs):
        rest, held = split_by_speaker([pair.speaker for pair in pairs], fraction, seed=0)
        test, pairs = [pairs[i] for i in held], [pairs[i] for i in rest]
        fraction /= 1 - fraction  # of what is left
    train, valid = hold_out(pairs, fraction, seed=0)
    chosen = zip(SPLITS, (train, valid, test), strict=True)
    return [(split, pair) for split, pairs in chosen for pair in pairs]


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
        if path.exists():
            raise FeatureError(f"{pair.clean}: another recording has the name {name} too",
                               "rename one")
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **arrays)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Clip(name, pair.speaker, pair.snr_db, len(arrays["clean"]), digest), arrays


def _to_train_with(config: Config, out: Path) -> Config:
    """Return the settings for a folder of features; they are refused now, not after the work."""
    recordings = dict.fromkeys(("data.noisy", "data.clean", "data.pairs"))
    ignored = [key for key in ("valid_noisy", "valid_clean", "valid_speech")
               if getattr(config.data, key, None)]
    if ignored:
        raise ConfigError("data: the validation set of features is held out of the recordings",
                          f"leave out {', '.join(ignored)}")
    # Validation has no waveform: there is no other score to select by.
    return with_settings(config, recordings | {
        "data.features": os.fspath(out), "training.select_by": "snr_mel",
    })
