"""From settings to training batches: a pure function of (seed, step), as a `tf.data` pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gan_denoise.config import ConfigError
from gan_denoise.config.data_sources import (
    CleanData,
    DataConfig,
    FeatureSource,
    PairData,
    RecordedSource,
    SyntheticData,
)
from gan_denoise.config.schema import Config
from gan_denoise.core.rng import random_stream
from gan_denoise.data.corpus import Corpus, build_corpus
from gan_denoise.data.crops import SPEECH_SILENCE
from gan_denoise.data.dataset_layouts import read_layout
from gan_denoise.data.feature_folder import FeatureFolder
from gan_denoise.data.mixing import Mixer
from gan_denoise.data.pairs import (
    Pair,
    PairError,
    hold_out,
    hold_out_of_one,
    is_lone,
    match_folders,
    split_by_speaker,
)
from gan_denoise.data.synthetic_spectrograms import SpectrogramSource

VALID_SEED = 20_000  # validation clips are the same for every training seed
HELD_CLIPS = 2  # of a lone speaker's recording, at least so many validation clips are held out
NOTHING_TO_HEAR = "no pair in which both recordings are more than silence"
Progress = Callable[[int, int], None] | None


class Source(Protocol):
    """Where batches come from; the same arguments give the same batch."""

    def batch(self, step: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[batch, *config.crop_shape]` each."""


@dataclass(frozen=True)
class Material:
    """What a run trains and validates on.

    Attributes:
        train: Batches of `training.crop_seconds`.
        valid_noisy: The fixed validation clips, float32 `[clips, samples]`, or `[clips, frames,
            bands]` of features.
        valid_clean: Their clean versions.
        digest: Hash of the content, to prove on resume that it is the same.
        summary: One line for people.
        notices: A line on each file that is cut off, or whose header is wrong.
    """

    train: Source
    valid_noisy: np.ndarray
    valid_clean: np.ndarray
    digest: str
    summary: str
    notices: tuple[str, ...] = ()


def load_material(config: Config, progress: Progress = None) -> Material:
    """Find, decode (or find decoded) and split what `config.data` names.

    Raises:
        ConfigError: When `data` names nothing to train on, or two kinds of material at once.
        AudioError, PairError: When the material cannot be used.
    """
    data = config.data
    if isinstance(data, FeatureSource):
        return _features(config)
    if isinstance(data, PairData):
        if data.pairs is not None and (data.noisy is not None or data.clean is not None):
            raise ConfigError("data: give either data.pairs, or data.noisy and data.clean")
        if data.pairs is None and data.clean is None:
            raise ConfigError("data.noisy needs data.clean beside it")
        return _paired(config, progress)
    if isinstance(data, DataConfig) and data.speech and not data.noise:
        raise ConfigError("data.speech needs data.noise; for clean speech alone give data.clean")
    if data.named:
        return _mixed(config, progress)
    raise ConfigError(
        "data: nothing to train on. Give data.speech=DIR data.noise=DIR (mixed on the fly), or "
        "data.noisy=DIR data.clean=DIR (paired), or data.pairs=DIR (a known layout), or "
        "data.features=DIR (from gan-denoise features)"
    )


def batches(source: Source, config: Config, start: int) -> Any:
    """Return an endless `tf.data.Dataset` of (step, noisy, clean) from a step on.

    Mixing runs in worker threads beside the network; the order does not depend on their number.
    """
    import tensorflow as tf

    training = config.training
    shape = (training.batch_size, *config.crop_shape)

    def load(step: Any) -> tuple[Any, Any, Any]:
        noisy, clean = tf.numpy_function(
            lambda n: source.batch(int(n), training.batch_size), [step], (tf.float32, tf.float32)
        )
        return step, tf.ensure_shape(noisy, shape), tf.ensure_shape(clean, shape)

    steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    workers = training.data_workers
    return steps.map(load, num_parallel_calls=workers, deterministic=True).prefetch(2 * workers)


class PairSource:
    """Random crops of paired recordings; noisy and clean share offset and gain.

    Args:
        noisy: Corpus of the noisy files.
        clean: Corpus of the clean files; `folders` numbers the pairs in both.
        data: `peak_range` is used.
        samples: Length of a crop; shorter recordings are padded with zeros.
        seed: Of all draws.
    """

    def __init__(self, noisy: Corpus, clean: Corpus, data: RecordedSource, samples: int, seed: int):
        self.noisy, self.clean, self.data = noisy, clean, data
        self.samples, self.seed = samples, seed
        by_number = {int(number): index for index, number in enumerate(clean.folders)}
        # A silent side was left out of its corpus; its pair says nothing about denoising.
        self.indices = [
            (index, by_number[int(number)])
            for index, number in enumerate(noisy.folders) if int(number) in by_number
        ]
        if not self.indices:
            raise PairError(NOTHING_TO_HEAR)
        lengths = np.array([int(noisy.lengths[n]) for n, _ in self.indices], np.float64)
        self._edges = np.cumsum(lengths) / lengths.sum()

    def batch(self, step: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[batch, samples]`, drawn by duration."""
        out = np.zeros((2, batch_size, self.samples), np.float32)
        for item in range(batch_size):
            rng = random_stream(self.seed, step, item)
            pair = self.indices[int(np.searchsorted(self._edges, rng.random()))]
            length = min(int(self.noisy.lengths[pair[0]]), int(self.clean.lengths[pair[1]]))
            start = int(rng.integers(max(length - self.samples, 0) + 1))
            frames = min(self.samples, length)
            noisy = self.noisy.clip(pair[0], start, frames)
            clean = self.clean.clip(pair[1], start, frames)
            peak = max(float(np.abs(noisy).max()), 1e-6)
            gain = np.float32(10 ** (rng.uniform(*self.data.peak_range) / 20) / peak)
            out[0, item, :frames], out[1, item, :frames] = noisy * gain, clean * gain
        return out[0], out[1]


# ---- Material ----------------------------------------------------------------------------------
def _mixed(config: Config, progress: Progress) -> Material:
    rate = config.audio.sample_rate
    data = config.data if isinstance(config.data, DataConfig) else _reconstruction(config.data)
    notices: dict[str, None] = {}

    def corpus(folders: Sequence[str]) -> Corpus:
        built = build_corpus(folders, rate, data.cache, progress)
        notices.update(dict.fromkeys(built.notes))
        return built

    speech = corpus(data.speech)
    noise = corpus(data.noise) if data.noise else None
    rir = corpus(data.rir) if data.rir else None
    digests = [c.digest for c in (speech, noise, rir) if c is not None]
    merge, held = data.merge_validation, ""
    if data.valid_speech:
        valid_speech = corpus(data.valid_speech)
        digests.append(valid_speech.digest)
        if merge:
            speech = corpus((*data.speech, *data.valid_speech))
    elif is_lone(speech.groups):
        (train,), (valid_speech,), held = _hold_out_of_one([speech], data)
        speech = speech if merge else train
    else:
        train, valid = split_by_speaker(speech.groups, data.valid_fraction, seed=0)
        valid_speech = speech.subset(valid)
        speech = speech if merge else speech.subset(train)
    valid_noise = noise
    if noise is not None and data.valid_noise:
        valid_noise = corpus(data.valid_noise)
        digests.append(valid_noise.digest)
        if merge:
            noise = corpus((*data.noise, *data.valid_noise))
    elif noise is not None and len(noise) > 1:  # a lone recording serves both
        train, valid = split_by_speaker([None] * len(noise), data.valid_fraction, seed=0)
        valid_noise = noise.subset(valid)
        noise = noise if merge else noise.subset(train)
    if merge and data.speech_weights:
        extra = (1.0,) * len(data.valid_speech)
        data = data.model_copy(update={"speech_weights": (*data.speech_weights, *extra)})
    source = Mixer(speech, noise, data, rate, config.crop_samples, config.training.seed, rir)
    valid_samples = round(data.valid_seconds * rate)
    # The weights are of the folders of data.speech.
    checked = data.model_copy(update={"speech_weights": ()})
    check = Mixer(valid_speech, valid_noise, checked, rate, valid_samples, VALID_SEED, rir)
    noisy, clean = check.batch(0, data.valid_clips)
    added = f" + {noise.seconds / 3600:.2f} h of noise" if noise is not None else ", reconstruction"
    summary = f"{speech.seconds / 3600:.2f} h of speech ({len(speech)} files){added}{held}"
    return Material(source, noisy, clean, _digest(digests), summary, tuple(notices))


def _reconstruction(data: CleanData) -> DataConfig:
    """Return clean speech alone as a mixture without noise."""
    shared = {key: value for key, value in dict(data).items() if key in DataConfig.model_fields}
    folders = data.valid_speech or ((data.valid_clean,) if data.valid_clean else ())
    return DataConfig(**shared | {"speech": (data.clean,), "valid_speech": folders})


def _paired(config: Config, progress: Progress) -> Material:
    data, rate = config.data, config.audio.sample_rate
    if data.pairs is not None:
        pairs = read_layout(Path(data.pairs))
    else:
        pairs = match_folders(Path(data.noisy), Path(data.clean))
    usable = [pair for pair in pairs if pair.split != "test"]
    if data.valid_noisy is not None and data.valid_clean is not None:
        train, valid = usable, match_folders(Path(data.valid_noisy), Path(data.valid_clean))
    elif is_lone([p.speaker for p in usable]) and all(p.split != "valid" for p in usable):
        train, valid = usable, []
    else:
        train, valid = hold_out(pairs, data.valid_fraction, seed=0)

    def sides(chosen: Sequence[Pair]) -> list[Corpus]:
        return [build_corpus([getattr(pair, side) for pair in chosen], rate, data.cache, progress)
                for side in ("noisy", "clean")]

    held, checked = "", []
    learnt = sides([*train, *valid] if data.merge_validation else train)
    digests = [side.digest for side in learnt]
    if valid:
        checked = sides(valid)
        digests += [side.digest for side in checked]
    else:
        rest, checked, held = _hold_out_of_one(_in_both(*learnt), data)
        learnt = learnt if data.merge_validation else rest
    training = PairSource(*learnt, data, config.crop_samples, config.training.seed)
    checking = PairSource(*checked, data, round(data.valid_seconds * rate), VALID_SEED)
    noisy, clean = checking.batch(0, data.valid_clips)
    summary = f"{training.noisy.seconds / 3600:.2f} h of pairs ({len(train)} files){held}"
    notices = dict.fromkeys(note for side in (*learnt, *checked) for note in side.notes)
    return Material(training, noisy, clean, _digest(digests), summary, tuple(notices))


def _in_both(noisy: Corpus, clean: Corpus) -> list[Corpus]:
    """Return the two with the pairs that both hold, in one order."""
    numbers, ours, theirs = np.intersect1d(noisy.folders, clean.folders, return_indices=True)
    if not len(numbers):
        raise PairError(NOTHING_TO_HEAR)
    return [noisy.subset(ours), clean.subset(theirs)]


def _hold_out_of_one(
    sides: Sequence[Corpus], data: RecordedSource
) -> tuple[list[Corpus], list[Corpus], str]:
    """Divide the recordings of a lone speaker, for want of another one to validate on.

    Args:
        sides: Clean speech, or noisy and clean whose recordings correspond.
        data: Says how much to hold out.

    Returns:
        The sides to train on, the sides to validate on, and words on what these are.

    Raises:
        PairError: When there is too little to divide.
    """
    clean, rate = sides[-1], sides[-1].sample_rate
    ends = [min(clean.sound_end(index, SPEECH_SILENCE), *(int(s.lengths[index]) for s in sides))
            for index in range(len(clean))]
    shortest = HELD_CLIPS * round(data.valid_seconds * rate)
    held = hold_out_of_one(ends, data.valid_fraction, shortest, seed=0)
    if held is None:
        raise PairError(
            f"{clean.names[0]}: {sum(ends) / rate:.1f} s of one speaker are too short to hold out "
            f"an end to validate on; record {2 * shortest / rate:g} s or more in one file, or "
            "give validation folders (data.valid_speech, or data.valid_noisy and data.valid_clean)"
        )
    chosen, samples = held
    if not samples:
        rest = np.setdiff1d(np.arange(len(clean)), chosen)
        return ([side.subset(rest) for side in sides], [side.subset(chosen) for side in sides],
                f"; validation: {len(chosen)} of the files, as all are of one speaker")
    index = int(chosen[0])
    end = ends[index]  # there is nothing to validate on in the pause behind it
    return ([side.part(index, 0, end - samples) for side in sides],
            [side.part(index, end - samples, end).subset([index]) for side in sides],
            f"; validation: the last {samples / rate:.1f} s of {clean.names[index]}, as all is of "
            "one speaker")


def _features(config: Config) -> Material:
    data, seed = config.data, config.training.seed
    if isinstance(data, SyntheticData):
        train = SpectrogramSource(config.crop_shape, data, seed)
        valid = SpectrogramSource(config.crop_shape, data, VALID_SEED)
        digest, summary = _digest([data.features]), "made-up spectrograms"
    else:
        folder = FeatureFolder(data.features, config)
        splits = ("train", "validation") if data.merge_validation else ("train",)
        train, valid = folder.source(splits, seed), folder.source(("validation",), VALID_SEED)
        digest, summary = folder.digest, f"features of {len(train.clips)} clips"
    noisy, clean = valid.batch(0, data.valid_clips)
    return Material(train, noisy, clean, digest, summary)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
