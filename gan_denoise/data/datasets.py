"""From settings to training batches: a pure function of (seed, step), as a `tf.data` pipeline."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
from gan_denoise.data.dataset_layouts import read_layout
from gan_denoise.data.feature_folder import FeatureFolder
from gan_denoise.data.mixing import Mixer
from gan_denoise.data.pairs import (
    Pair,
    PairError,
    hold_out,
    is_lone,
    match_folders,
)
from gan_denoise.data.synthetic_spectrograms import SpectrogramSource
from gan_denoise.data.validation_clips import (
    VALID_SEED,
    ValidationClips,
    ValidationMaterial,
    mix_validation,
)
from gan_denoise.data.validation_split import (
    Corpora,
    Progress,
    divide_lone_speaker,
    divide_noise,
    divide_speech,
    open_validation_sets,
)

if TYPE_CHECKING:
    import tensorflow as tf

NOTHING_TO_HEAR = "no pair in which both recordings are more than silence"


class Source(Protocol):
    """Where batches come from; the same arguments give the same batch."""

    def batch(
        self, step: int, batch_size: int, items: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[items, *config.crop_shape]` each.

        Args:
            step: Number of the batch.
            batch_size: Its size.
            items: Those of its items that are made, each from 0 to below `batch_size`; None: all.
        """


@dataclass(frozen=True)
class Material:
    """What a run trains and validates on.

    Attributes:
        train: Batches of `training.crop_seconds`.
        valid: The fixed validation clips.
        digest: Hash of the content, to prove on resume that it is the same.
        summary: One line for people.
        notices: A line on each file that is cut off, or whose header is wrong.
    """

    train: Source
    valid: ValidationClips
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


def batches(
    source: Source, config: Config, start: int, items: Sequence[int] | None = None
) -> tf.data.Dataset:
    """Return an endless `tf.data.Dataset` of (step, noisy, clean) from a step on.

    Mixing runs in worker threads beside the network; the order does not depend on their number.

    Args:
        source: What batches are made by.
        config: Settings; a batch has `training.batch_size` items, `training.accumulate` times.
        start: Number of the first batch.
        items: Those of each batch that are made; None: all.
    """
    import tensorflow as tf

    training = config.training
    size = training.batch_size * training.accumulate
    shape = (size if items is None else len(items), *config.crop_shape)
    chosen = () if items is None else (items,)

    @tf.autograph.experimental.do_not_convert  # see `training.replicas.graph`
    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        noisy, clean = tf.numpy_function(
            lambda n: source.batch(int(n), size, *chosen), [step], (tf.float32, tf.float32)
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

    def batch(
        self, step: int, batch_size: int, items: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (noisy, clean), float32 `[items, samples]`, drawn by duration."""
        items = range(batch_size) if items is None else items
        out = np.zeros((2, len(items), self.samples), np.float32)
        for place, item in enumerate(items):
            rng = random_stream(self.seed, step, item)
            pair = self.indices[int(np.searchsorted(self._edges, rng.random()))]
            length = min(int(self.noisy.lengths[pair[0]]), int(self.clean.lengths[pair[1]]))
            start = int(rng.integers(max(length - self.samples, 0) + 1))
            frames = min(self.samples, length)
            noisy = self.noisy.clip(pair[0], start, frames)
            clean = self.clean.clip(pair[1], start, frames)
            peak = max(float(np.abs(noisy).max()), 1e-6)
            gain = np.float32(10 ** (rng.uniform(*self.data.peak_range) / 20) / peak)
            out[0, place, :frames], out[1, place, :frames] = noisy * gain, clean * gain
        return out[0], out[1]


# ---- Material ----------------------------------------------------------------------------------
def _mixed(config: Config, progress: Progress) -> Material:
    rate = config.audio.sample_rate
    data = config.data if isinstance(config.data, DataConfig) else _reconstruction(config.data)
    corpora = Corpora(data, rate, progress)
    speech = corpora.open(data.speech)
    noise, rir = corpora.open_any(data.noise), corpora.open_any(data.rir)
    if data.valid_sets:
        valid, held = open_validation_sets(data, corpora, noise, rir), ""
        more_speech, more_noise = (tuple(folder for one in data.valid_sets.values()
                                         for folder in getattr(one, side))
                                   for side in ("speech", "noise"))
        if data.merge_validation:
            speech = corpora.open((*data.speech, *more_speech), counted=False)
            noise = noise and corpora.open((*data.noise, *more_noise), counted=False)
    else:
        more_speech = data.valid_speech
        speech, valid_speech, held = divide_speech(data, corpora, speech)
        noise, valid_noise = divide_noise(data, corpora, noise)
        valid = {"": ValidationMaterial(valid_speech, valid_noise, rir)}
    if data.merge_validation and data.speech_weights:
        data = data.model_copy(update={
            "speech_weights": (*data.speech_weights, *[1.0] * len(more_speech))})
    source = Mixer(speech, noise, data, rate, config.crop_samples, config.training.seed, rir)
    added = f" + {noise.seconds / 3600:.2f} h of noise" if noise is not None else ", reconstruction"
    summary = f"{speech.seconds / 3600:.2f} h of speech ({len(speech)} files){added}{held}"
    return Material(source, mix_validation(valid, data, rate), _digest(corpora.digests), summary,
                    tuple(corpora.notices))


def _reconstruction(data: CleanData) -> DataConfig:
    """Return clean speech alone as a mixture without noise."""
    shared = {key: value for key, value in dict(data).items() if key in DataConfig.model_fields}
    folders = data.valid_speech or ((data.valid_clean,) if data.valid_clean else ())
    return DataConfig(**shared | {"speech": (data.clean,), "valid_speech": folders})


def _paired(config: Config, progress: Progress) -> Material:
    data, rate = config.data, config.audio.sample_rate
    if data.pairs is not None:
        pairs = read_layout(data.pairs)
    else:
        pairs = match_folders(data.noisy, data.clean)
    usable = [pair for pair in pairs if pair.split != "test"]
    if data.valid_noisy is not None and data.valid_clean is not None:
        train, valid = usable, match_folders(data.valid_noisy, data.valid_clean)
    elif is_lone([p.speaker for p in usable]) and all(p.split != "valid" for p in usable):
        train, valid = usable, []
    else:
        train, valid = hold_out(pairs, data.valid_fraction, seed=0)

    def sides(chosen: Sequence[Pair]) -> list[Corpus]:
        return [build_corpus([getattr(pair, side) for pair in chosen], rate, data.cache, progress)
                for side in ("noisy", "clean")]

    held, checked = "", []
    trained = sides([*train, *valid] if data.merge_validation else train)
    digests = [side.digest for side in trained]
    if valid:
        checked = sides(valid)
        digests += [side.digest for side in checked]
    else:
        rest, checked, held = divide_lone_speaker(_in_both(*trained), data)
        trained = trained if data.merge_validation else rest
    training = PairSource(*trained, data, config.crop_samples, config.training.seed)
    checking = PairSource(*checked, data, round(data.valid_seconds * rate), VALID_SEED)
    valid = ValidationClips(*checking.batch(0, data.valid_clips))
    summary = f"{training.noisy.seconds / 3600:.2f} h of pairs ({len(train)} files){held}"
    notices = dict.fromkeys(note for side in (*trained, *checked) for note in side.notes)
    return Material(training, valid, _digest(digests), summary, tuple(notices))


def _in_both(noisy: Corpus, clean: Corpus) -> list[Corpus]:
    """Return the two with the pairs that both hold, in one order."""
    numbers, ours, theirs = np.intersect1d(noisy.folders, clean.folders, return_indices=True)
    if not len(numbers):
        raise PairError(NOTHING_TO_HEAR)
    return [noisy.subset(ours), clean.subset(theirs)]


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
    clips = ValidationClips(*valid.batch(0, data.valid_clips))
    return Material(train, clips, digest, summary)


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
