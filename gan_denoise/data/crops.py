"""Random crops of recordings: short utterances are joined, short noises looped, silence redrawn."""

from __future__ import annotations

import math

import numpy as np

from gan_denoise.audio import peak
from gan_denoise.config.schema import DataConfig
from gan_denoise.data.corpus import Corpus

TRIES = 8  # draws of a clip before a silent one is given up
SPEECH_SILENCE = 0.01  # a crop that stays this far (-40 dB) below its recording's peak is a pause
NOISE_SILENCE = 0.001  # -60 dB
LOOP_FADE = 0.01  # seconds of cross-fade where a noise begins again
EDGE_FADE = 0.004  # seconds of fade at the ends of joined utterances


class SpeechCrops:
    """Draws crops of speech: folders by weight, utterances by duration, short ones joined.

    Args:
        corpus: Clean utterances.
        data: `pause_range`, seconds between joined utterances, and `speech_weights` are used.

    Attributes:
        voices: Number of the voice of each recording, int [recordings]; every unknown speaker has
            one of its own.
    """

    def __init__(self, corpus: Corpus, data: DataConfig) -> None:
        self.corpus, self.data = corpus, data
        self._fade = np.linspace(0.0, 1.0, round(EDGE_FADE * corpus.sample_rate), dtype=np.float32)
        # Per folder: its recordings, and where each one's share of the duration ends.
        self._folders = []
        for folder in np.unique(corpus.folders):
            members = np.flatnonzero(corpus.folders == folder)
            self._folders.append((members, np.cumsum(corpus.lengths[members])))
        # Where each folder's share of the chances ends; None: all have the same.
        self._shares = None
        if data.speech_weights:
            weights = np.array(data.speech_weights)[np.unique(corpus.folders)]
            self._shares = np.cumsum(weights) / weights.sum()
        self._speakers = _Grouped(corpus.folders, corpus.groups.codes)
        # Each recording of an unknown speaker counts as another voice.
        self.voices = np.where(corpus.groups.codes >= 0, self._speakers.of,
                               -1 - np.arange(len(corpus)))

    def draw(self, rng: np.random.Generator, samples: int, other_than: int | None = None
             ) -> tuple[np.ndarray | None, int]:
        """Draw a crop that is not silent.

        Args:
            rng: Random numbers of this crop.
            samples: Length of the crop.
            other_than: Number of a voice that is not to be heard.

        Returns:
            (crop, voice): float32 [samples] and the number of its voice; None where only
            `other_than` was drawn.
        """
        for _ in range(TRIES):
            members, ends = self._folders[self._folder(rng)]
            index = int(members[ends.searchsorted(rng.integers(ends[-1]), side="right")])
            if self.voices[index] == other_than:
                continue
            crop = self.crop(index, rng, samples)
            if peak(crop) > SPEECH_SILENCE * self.corpus.peak(index):
                return crop, int(self.voices[index])
        if other_than is not None:
            return None, other_than
        # Pauses only: take the crop around the loudest place.
        loudest = int(np.argmax(np.abs(self.corpus.clip(index))))
        return self.crop(index, rng, samples, around=loudest), int(self.voices[index])

    def _folder(self, rng: np.random.Generator) -> int:
        if self._shares is None:
            return int(rng.integers(len(self._folders)))
        return int(np.searchsorted(self._shares, rng.random(), side="right"))

    def crop(self, index: int, rng: np.random.Generator, samples: int, around: int | None = None
             ) -> np.ndarray:
        """Return part of a recording, or it joined with others of its speaker, [samples]."""
        length = int(self.corpus.lengths[index])
        spare = length - samples
        if spare >= 0:
            start = (int(rng.integers(spare + 1)) if around is None
                     else min(max(around - samples // 2, 0), spare))
            return self.corpus.clip(index, start, samples)
        parts = [self._faded(index)]
        while spare < 0:
            pause = round(rng.uniform(*self.data.pause_range) * self.corpus.sample_rate)
            peer = int(rng.choice(self._speakers[self._speakers.of[index]]))
            parts += [np.zeros(pause, dtype=np.float32), self._faded(peer)]
            spare += pause + len(parts[-1])
        # The first utterance stays whole where a loudest place is asked for.
        start = int(rng.integers(spare + 1)) if around is None else 0
        return np.concatenate(parts)[start:start + samples]

    def _faded(self, index: int) -> np.ndarray:
        clip = self.corpus.clip(index)
        fade = self._fade[:len(clip) // 2]
        clip[:len(fade)] *= fade
        clip[len(clip) - len(fade):] *= fade[::-1]
        return clip


class _Grouped:
    """Recordings by (folder, code): groups in the order of their first members.

    Attributes:
        of: Number of the group of each recording, int [recordings].
    """

    def __init__(self, folders: np.ndarray, codes: np.ndarray):
        codes = codes.astype(np.int64)
        keys = folders * (codes.max(initial=0) + 2) + codes
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        rank = np.empty_like(first)
        rank[np.argsort(first)] = np.arange(len(first))
        self.of = rank[inverse]
        self._members = np.argsort(self.of, kind="stable")
        self._ends = np.cumsum(np.bincount(self.of))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, group: int) -> np.ndarray:
        return self._members[self._ends[group - 1] if group else 0:self._ends[group]]


class NoiseCrops:
    """Draws crops of noise: kinds with equal chance, recordings within a kind with equal chance.

    Args:
        corpus: Recorded noises.
        data: Settings of looping and resampling are used.
    """

    def __init__(self, corpus: Corpus, data: DataConfig) -> None:
        self.corpus, self.data = corpus, data
        self._kinds = _Grouped(corpus.folders, corpus.parents.codes)

    def draw(self, rng: np.random.Generator, samples: int) -> tuple[np.ndarray, int] | None:
        """Return (crop [samples], recording); None where only silence was drawn."""
        data = self.data
        for _ in range(TRIES):
            members = self._kinds[rng.integers(len(self._kinds))]
            index = int(members[rng.integers(len(members))])
            speed = rng.uniform(*data.resample_range) if rng.random() < data.resample_noise else 1.0
            needed = samples if speed == 1.0 else math.ceil(samples * speed) + 2
            crop = self._crop(index, rng, needed)
            if speed != 1.0:
                crop = _stretch(crop, speed, samples)
            if peak(crop) > NOISE_SILENCE * self.corpus.peak(index):
                return crop, index
        return None

    def _crop(self, index: int, rng: np.random.Generator, samples: int) -> np.ndarray:
        spare = int(self.corpus.lengths[index]) - samples
        if spare >= 0:
            return self.corpus.clip(index, int(rng.integers(spare + 1)), samples)
        clip = self.corpus.clip(index)
        if rng.random() < self.data.loop_noise:
            return _loop(clip, int(rng.integers(len(clip))), samples,
                         round(LOOP_FADE * self.corpus.sample_rate))
        placed = np.zeros(samples, dtype=np.float32)
        start = int(rng.integers(1 - spare))
        placed[start:start + len(clip)] = clip
        return placed


def _loop(clip: np.ndarray, start: int, samples: int, fade: int) -> np.ndarray:
    """Repeat a clip from a place in it on, with an equal-power cross-fade at each seam."""
    fade = min(fade, len(clip) // 4)
    period = clip[:len(clip) - fade].copy()
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    period[:fade] = period[:fade] * np.sqrt(ramp) + clip[len(clip) - fade:] * np.sqrt(1.0 - ramp)
    start %= len(period)
    return np.tile(period, -(-(start + samples) // len(period)))[start:start + samples]


def _stretch(audio: np.ndarray, speed: float, samples: int) -> np.ndarray:
    """Return [samples] of a noise played `speed` times faster, by linear interpolation."""
    place = np.arange(samples, dtype=np.float32)
    place *= np.float32(speed)
    left = place.astype(np.int64)
    place -= left
    low = audio.take(left)
    high = audio[1:].take(left)
    high -= low
    high *= place
    high += low
    return high
