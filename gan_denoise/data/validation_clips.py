"""The clips that every validation of a run scores: fixed mixtures, in one or several sets.

A model that is chosen on speakers, noises and rooms like those of its training is chosen for what
it has learnt by heart. Sets of other material are scored apart, and the best state is that of the
best mean over the sets. Beside them a few easy clips show whether the model does harm: mixtures at
15 dB, and speech without noise. They choose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gan_denoise.config.data_sources import EASY_SETS, DataConfig
from gan_denoise.data.corpus import Corpus
from gan_denoise.data.mixing import Mixer

VALID_SEED = 20_000  # validation clips are the same for every training seed
EASY_SNR = 15.0  # dB
AS_IT_COMES = dict.fromkeys(("reverberate", "clipping", "band_limit", "codec", "rumble"), 0.0)


@dataclass(frozen=True)
class ValidationClips:
    """What is validated on.

    Attributes:
        noisy: float32 `[clips, samples]`, or `[clips, frames, bands]` of features.
        clean: The same without noise.
        sets: Which of the clips are of which set, as many of each; empty where there is one set.
        easy: (noisy, clean) of clips that show whether the model does harm, by name.
    """

    noisy: np.ndarray
    clean: np.ndarray
    sets: Mapping[str, slice] = field(default_factory=dict)
    easy: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)


@dataclass(frozen=True)
class ValidationMaterial:
    """What the clips of a set are mixed from.

    Attributes:
        speech: Clean utterances.
        noise: Noises; None: the noisy clips are the clean ones.
        rir: Room impulse responses; None: no rooms.
        changes: Settings of the recipe that this set has of its own.
    """

    speech: Corpus
    noise: Corpus | None
    rir: Corpus | None
    changes: Mapping[str, object] = field(default_factory=dict)


def mix_validation(
    materials: Mapping[str, ValidationMaterial], data: DataConfig, sample_rate: int
) -> ValidationClips:
    """Mix the clips of every set.

    Args:
        materials: One or several sets, by name.
        data: Recipe of the mixtures; `valid_clips` are mixed of each set, of `valid_seconds`.
        sample_rate: Hz.
    """
    count = data.valid_clips
    noisy, clean = _mixed(materials, count, data, sample_rate)
    several = len(materials) > 1
    sets = {name: slice(at * count, (at + 1) * count) for at, name in enumerate(materials)}
    easy = {}
    if data.easy_clips and all(material.noise is not None for material in materials.values()):
        # As many of each set, so that they are of the same voices and noises.
        each = min(-(-data.easy_clips // len(materials)), count)
        level = {"snr_mean": EASY_SNR, "snr_std": 0.0, "snr_range": (EASY_SNR, EASY_SNR),
                 "noiseless": 0.0, "rumble": 0.0}
        for name, changes in zip(EASY_SETS, (level, {"noiseless": 1.0} | AS_IT_COMES), strict=True):
            easy[name] = _mixed(materials, each, data, sample_rate, changes)
    return ValidationClips(noisy, clean, sets if several else {}, easy)


def _mixed(
    materials: Mapping[str, ValidationMaterial], count: int, data: DataConfig, sample_rate: int,
    changes: Mapping[str, object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return (noisy, clean) of `count` clips of each set, float32 `[clips, samples]`."""
    samples, parts = round(data.valid_seconds * sample_rate), []
    for material in materials.values():
        # The weights are of the folders of data.speech.
        recipe = data.model_copy(
            update={"speech_weights": ()} | dict(material.changes) | dict(changes or {}))
        mixer = Mixer(material.speech, material.noise, recipe, sample_rate, samples, VALID_SEED,
                      material.rir)
        parts.append(mixer.batch(0, count))
    noisy, clean = zip(*parts, strict=True)
    return np.concatenate(noisy), np.concatenate(clean)
