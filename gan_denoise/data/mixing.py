"""Training mixtures on the fly: speech + noise (+ a room) at a signal-to-noise ratio.

`Mixer` is a pure function of (seed, step, index) without shared state, so threads may share it.
SNR is of whole-clip energies, so that the metric `snr` returns what was asked for; with a room the
ratio is of the target (speech through the early part of the response) to the added noise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gan_denoise.audio import peak
from gan_denoise.config.schema import DataConfig
from gan_denoise.core.decibels import db_to_amplitude
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.rng import random_stream
from gan_denoise.data import channel
from gan_denoise.data.augment import RandomFilter, reverberate
from gan_denoise.data.corpus import Corpus
from gan_denoise.data.crops import NoiseCrops, SpeechCrops
from gan_denoise.data.made_up_noise import made_up_noise, rumble

RUMBLE_SNR = (-25.0, 10.0)  # dB, of speech over what is added below it
RELATIVE_DB = 12.0  # noises in one mixture differ in level by up to this


class MixError(GanDenoiseError):
    """Speech and noise cannot be mixed as asked."""


def energy(audio: np.ndarray) -> float:
    """Return the sum of squares of float [samples]."""
    # Not np.dot: BLAS would start threads of its own, and its sum depends on their number.
    return float(np.einsum("i,i->", audio, audio))


def snr_gain(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> float:
    """Return the factor for `noise` that gives `snr_db` over the whole clip.

    Args:
        clean: float [samples].
        noise: float [samples].
        snr_db: Ratio of energies in dB.

    Raises:
        MixError: When either is silent.
    """
    speech_energy, noise_energy = energy(clean), energy(noise)
    if speech_energy <= 0.0 or noise_energy <= 0.0:
        which = "clean" if speech_energy <= 0.0 else "noise"
        raise MixError(f"{which} is silent: no gain gives an SNR of {snr_db} dB")
    return math.sqrt(speech_energy / noise_energy) * db_to_amplitude(-snr_db)


class Mixer:
    """Training mixtures, each a pure function of (seed, step, index)."""

    def __init__(self, speech: Corpus, noise: Corpus | None, data: DataConfig, sample_rate: int,
                 samples: int, seed: int, rir: Corpus | None = None) -> None:
        """Prepare tables; nothing is read yet.

        Args:
            speech: Clean utterances.
            noise: Recorded noises; None: noisy equals clean (reconstruction from clean alone).
            data: Recipe of the mixtures.
            sample_rate: Sample rate of every corpus in Hz.
            samples: Length of a mixture.
            seed: Seed of all mixtures.
            rir: Room impulse responses.

        Raises:
            ValueError: When a corpus has another sample rate.
        """
        for corpus in (speech, noise, rir):
            if corpus is not None and corpus.sample_rate != sample_rate:
                raise ValueError(f"a corpus of {corpus.sample_rate} Hz, mixed at {sample_rate} Hz")
        self.data, self.sample_rate, self.samples, self.seed = data, sample_rate, samples, seed
        self._speech = SpeechCrops(speech, data)
        self._rir = rir
        self._early = round(data.early_ms / 1000 * sample_rate)
        self._filter = RandomFilter(samples, sample_rate, data.equalise_db)
        self._noises = None
        if noise is not None:
            self._noises = Noises(NoiseCrops(noise, data), self._speech, data, self._filter)

    def item(self, step: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mixture `index` of a step: (noisy, clean), float32 [samples] each."""
        rng = random_stream(self.seed, step, index)
        data = self.data
        clean, voice = self._voice(rng)
        if rng.random() < data.equalise:
            clean = self._filter.equalise(clean, rng)
        noisy = clean
        if self._noises is not None:
            if self._rir is not None and rng.random() < data.reverberate:
                response = self._rir.clip(int(rng.integers(len(self._rir))))
                noisy, clean = reverberate(clean, response, self._early)
            if not _happens(rng, data.noiseless):
                noise, _ = self._noises.draw(rng, voice)
                snr = float(np.clip(rng.normal(data.snr_mean, data.snr_std), *data.snr_range))
                noisy = noisy + noise * np.float32(snr_gain(clean, noise, snr))
            if _happens(rng, data.rumble):
                noise = rumble(self.samples, self.sample_rate, rng)
                gain = snr_gain(clean, noise, rng.uniform(*RUMBLE_SNR))
                noisy = noisy + noise * np.float32(gain)
        noisy, clean = self._channel(noisy, clean, rng)
        top = db_to_amplitude(rng.uniform(*data.peak_range))
        gain = np.float32(top / peak(noisy))
        return noisy * gain, clean * gain

    def _voice(self, rng: np.random.Generator) -> tuple[np.ndarray, int]:
        """Return speech [samples], at its own speed or another, and the number of its voice."""
        if not _happens(rng, self.data.resample_speech):
            return self._speech.draw(rng, self.samples)
        speed = rng.uniform(*self.data.speech_range)
        crop, voice = self._speech.draw(rng, channel.source_length(self.samples, speed))
        return channel.change_speed(crop, speed, self.samples), voice

    def _channel(self, noisy: np.ndarray, clean: np.ndarray, rng: np.random.Generator
                 ) -> tuple[np.ndarray, np.ndarray]:
        """Return both after the way that recordings come: see `channel`."""
        data = self.data
        if _happens(rng, data.clipping):
            noisy = channel.clip(noisy, rng)
        if _happens(rng, data.band_limit):
            noisy, clean = channel.band_limit(np.stack([noisy, clean]), self.sample_rate, rng)
        if _happens(rng, data.codec):
            noisy, clean = channel.code(np.stack([noisy, clean]), self.sample_rate, rng)
        return noisy, clean

    def batch(
        self, step: int, batch_size: int, items: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return mixtures of a step: (noisy, clean), `[items, samples]` each.

        Args:
            step: Number of the step.
            batch_size: Number of its mixtures.
            items: Those that are made; None: all.
        """
        items = range(batch_size) if items is None else items
        noisy = np.empty((len(items), self.samples), dtype=np.float32)
        clean = np.empty_like(noisy)
        for place, index in enumerate(items):
            noisy[place], clean[place] = self.item(step, index)
        return noisy, clean


class Noises:
    """Sums of recorded, coloured, babble and made-up noise, as the recipe says.

    Args:
        recorded: Recorded noises.
        speech: What babble is made of.
        data: Recipe of the noises.
        shape: Random filters of the length of a mixture.
    """

    def __init__(self, recorded: NoiseCrops, speech: SpeechCrops, data: DataConfig,
                 shape: RandomFilter) -> None:
        self._recorded, self._speech, self._data, self._filter = recorded, speech, data, shape

    def draw(self, rng: np.random.Generator, voice: int) -> tuple[np.ndarray, list[int | str]]:
        """Return (noise, parts): float32 [samples], not silent, and what it is the sum of.

        Args:
            rng: Random numbers of this noise.
            voice: Number of the voice of the speech, which is left out of the babble.

        Returns:
            Parts are numbers of recordings, `coloured`, `babble`, and `made-up`.
        """
        data, samples = self._data, self._filter.samples
        total, parts = np.zeros(samples, dtype=np.float32), []
        for _ in range(_count(rng, data.noises)):
            drawn = self._recorded.draw(rng, samples)
            if drawn is not None:
                total += _levelled(drawn[0], rng)
                parts.append(drawn[1])
        if rng.random() < data.equalise and energy(total) > 0.0:
            total = self._filter.equalise(total, rng)
        if rng.random() < data.coloured or energy(total) <= 0.0:
            total += _levelled(self._filter.coloured(rng), rng)
            parts.append("coloured")
        if rng.random() < data.babble:
            voices = [self._speech.draw(rng, samples, other_than=voice)[0]
                      for _ in range(_count(rng, data.babble_voices))]
            babble = np.sum([_levelled(crop, rng) for crop in voices if crop is not None], axis=0)
            if np.ndim(babble):  # a lone speaker has no others
                total += _levelled(babble, rng)
                parts.append("babble")
        if _happens(rng, data.made_up):
            total += _levelled(made_up_noise(samples, self._filter.sample_rate, rng), rng)
            parts.append("made-up")
        return total, parts


def _happens(rng: np.random.Generator, probability: float) -> bool:
    """Draw whether something happens; what never does takes no random number."""
    return probability > 0.0 and rng.random() < probability


def _count(rng: np.random.Generator, low_high: tuple[int, int]) -> int:
    return int(rng.integers(low_high[0], low_high[1] + 1))


def _levelled(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return noise at an RMS of -RELATIVE_DB..0 dB."""
    level = db_to_amplitude(-rng.uniform(0.0, RELATIVE_DB))
    return audio * np.float32(level * math.sqrt(len(audio) / energy(audio)))
