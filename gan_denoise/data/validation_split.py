"""What is trained on and what is validated on, of recordings to mix and of pairs.

Validation material is what the settings name, or else other speakers and other recordings than
those of training, or else the end of a lone speaker's recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gan_denoise.config.data_sources import DataConfig, RecordedSource
from gan_denoise.data.corpus import Corpus, build_corpus
from gan_denoise.data.crops import SPEECH_SILENCE
from gan_denoise.data.pairs import PairError, hold_out_of_one, is_lone, split_by_speaker
from gan_denoise.data.validation_clips import ValidationMaterial

HELD_CLIPS = 2  # of a lone speaker's recording, at least so many validation clips are held out
Progress = Callable[[int, int], None] | None  # files done, files in all


class Corpora:
    """Opens the corpora of a run, and keeps what there is to say of them.

    Args:
        data: Settings; says where decoded audio is kept.
        rate: Hz.
        progress: Called with the files decoded and their number.
    """

    def __init__(self, data: DataConfig, rate: int, progress: Progress):
        self._data, self._rate, self._progress = data, rate, progress
        self.digests: list[str] = []
        self.notices: dict[str, None] = {}

    def open(self, folders: Sequence[str], counted: bool = True) -> Corpus:
        """Return the corpus of some folders; its content counts as the run's unless it did."""
        built = build_corpus(folders, self._rate, self._data.cache, self._progress,
                             skip_missing=self._data.skip_missing)
        self.notices.update(dict.fromkeys(built.notes))
        if counted:
            self.digests.append(built.digest)
        return built

    def open_any(self, folders: Sequence[str]) -> Corpus | None:
        """Return the corpus of some folders; None where there are none."""
        return self.open(folders) if folders else None


def open_validation_sets(
    data: DataConfig, corpora: Corpora, noise: Corpus | None, rir: Corpus | None
) -> dict[str, ValidationMaterial]:
    """Return what the clips of each set of `data.valid_sets` are mixed from."""
    sets = {}
    for name, one in data.valid_sets.items():
        speech, rooms = corpora.open(one.speech), corpora.open_any(one.rir)
        other = corpora.open_any(one.noise) if noise is not None else None
        sets[name] = ValidationMaterial(
            speech, noise if other is None else other, rir if rooms is None else rooms,
            {} if rooms is None else {"reverberate": 1.0})
    return sets


def divide_speech(
    data: DataConfig, corpora: Corpora, speech: Corpus
) -> tuple[Corpus, Corpus, str]:
    """Return speech to train on, speech to validate on, and words on what was held out."""
    merge, held = data.merge_validation, ""
    if data.valid_speech:
        valid = corpora.open(data.valid_speech)
        train = corpora.open((*data.speech, *data.valid_speech), counted=False) if merge else speech
    elif is_lone(speech.groups):
        (train,), (valid,), held = divide_lone_speaker([speech], data)
        train = speech if merge else train
    else:
        ours, theirs = split_by_speaker(speech.groups, data.valid_fraction, seed=0)
        train, valid = speech if merge else speech.subset(ours), speech.subset(theirs)
    return train, valid, held


def divide_noise(
    data: DataConfig, corpora: Corpora, noise: Corpus | None
) -> tuple[Corpus | None, Corpus | None]:
    """Return noise to train on and noise to validate on."""
    merge = data.merge_validation
    if noise is None or (len(noise) == 1 and not data.valid_noise):
        return noise, noise  # a lone recording serves both
    if data.valid_noise:
        valid = corpora.open(data.valid_noise)
        train = corpora.open((*data.noise, *data.valid_noise), counted=False) if merge else noise
        return train, valid
    ours, theirs = split_by_speaker([None] * len(noise), data.valid_fraction, seed=0)
    return noise if merge else noise.subset(ours), noise.subset(theirs)


def divide_lone_speaker(
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
