"""Speech + noise (+ a room) at a signal-to-noise ratio: on the fly for training, or as pairs.

`Mixer` is a pure function of (seed, step, index) without shared state, so threads may share it.
SNR is of whole-clip energies, so that the metric `snr` returns what was asked for; with a room the
ratio is of the target (speech through the early part of the response) to the added noise.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from gan_denoise.audio import write
from gan_denoise.config import DataConfig
from gan_denoise.corpus import Corpus, build_corpus

TRIES = 8  # draws of a clip before a silent one is given up
SPEECH_SILENCE = 0.01  # a crop that stays this far (-40 dB) below its recording's peak is a pause
NOISE_SILENCE = 0.001  # -60 dB
RELATIVE_DB = 12.0  # noises in one mixture differ in level by up to this
SLOPES = (-2.0, 0.5)  # power of frequency that coloured noise goes with: brown to light blue
KNOTS = 7  # of a random filter, an octave apart, the highest at half the sample rate
LOWEST_HZ = 20.0  # below, coloured noise rises no further
RESPONSE_SECONDS = 0.03  # a random filter's response is shorter than this
LOOP_FADE = 0.01  # seconds of cross-fade where a noise begins again
EDGE_FADE = 0.004  # seconds of fade at the ends of joined utterances
FULL_SCALE = 32767 / 32768  # largest sample that 16 bits hold
QUIETEST_NOISE = 10 ** (-78 / 20)  # RMS; below, rounding to 16 bits would change the SNR


def random_stream(seed: int, step: int, index: int) -> np.random.Generator:
    """Return the random numbers of one item; streams of different items never overlap."""
    return np.random.Generator(np.random.Philox(key=seed, counter=(step << 64 | index) << 128))


def snr_gain(clean: np.ndarray, noise: np.ndarray, snr_db: float) -> float:
    """Return the factor for `noise` that gives `snr_db` over the whole clip.

    Args:
        clean: float [samples].
        noise: float [samples].
        snr_db: Ratio of energies in dB.

    Raises:
        ValueError: When either is silent.
    """
    speech_energy, noise_energy = _energy(clean), _energy(noise)
    if speech_energy <= 0.0 or noise_energy <= 0.0:
        which = "clean" if speech_energy <= 0.0 else "noise"
        raise ValueError(f"{which} is silent: no gain gives an SNR of {snr_db} dB")
    return math.sqrt(speech_energy / noise_energy) * 10 ** (-snr_db / 20)


def mix_at_snr(
    clean: np.ndarray, noise: np.ndarray, snr_db: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Add noise at an SNR; where the sum would clip, one common gain lowers noisy and clean.

    Args:
        clean: float32 [samples] in [-1, 1].
        noise: float32 [samples], at any level.
        snr_db: Ratio of whole-clip energies in dB.

    Returns:
        (noisy, clean, gain): float32 [samples] each, and the common gain, <= 1.

    Raises:
        ValueError: When either is silent, or their lengths differ.
    """
    return _add(clean, clean, noise, snr_db)


def reverberate(speech: np.ndarray, response: np.ndarray, early: int
                ) -> tuple[np.ndarray, np.ndarray]:
    """Put speech into a room, without the delay of the direct path.

    Args:
        speech: float32 [samples].
        response: Room impulse response, float32 [taps]; its largest sample is the direct path.
        early: Samples after the direct path that belong to the target.

    Returns:
        (heard, target): speech through the whole response and through its early part, float32
        [samples] each, both aligned with `speech`.
    """
    samples = len(speech)
    direct = int(np.argmax(np.abs(response)))
    response = response[direct:direct + samples]
    size = _fft_size(samples + len(response))
    spectrum = fft.rfft(speech, size)
    heard = fft.irfft(spectrum * fft.rfft(response, size), size)
    target = fft.irfft(spectrum * fft.rfft(response[:early + 1], size), size)
    return heard[:samples], target[:samples]


class Mixer:
    """Training mixtures, each a pure function of (seed, step, index)."""

    def __init__(self, speech: Corpus, noise: Corpus | None, data: DataConfig, sample_rate: int,
                 samples: int, seed: int, rir: Corpus | None = None) -> None:
        """Prepare tables; nothing is read yet.

        Args:
            speech: Clean utterances.
            noise: Recorded noises; None: noisy equals clean (reconstruction from clean alone).
            data: The recipe.
            sample_rate: Hz, of every corpus.
            samples: Length of a mixture.
            seed: Of all draws.
            rir: Room impulse responses.

        Raises:
            ValueError: When a corpus has another sample rate.
        """
        for corpus in (speech, noise, rir):
            if corpus is not None and corpus.sample_rate != sample_rate:
                raise ValueError(f"a corpus of {corpus.sample_rate} Hz, mixed at {sample_rate} Hz")
        self.data, self.sample_rate, self.samples, self.seed = data, sample_rate, samples, seed
        self._speech = _Speech(speech, data)
        self._noise = None if noise is None else _Noise(noise, data)
        self._rir = rir
        self._early = round(data.early_ms / 1000 * sample_rate)
        self._filter = _Filter(samples, sample_rate, data.equalise_db)

    def item(self, step: int, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return mixture `index` of a step: (noisy, clean), float32 [samples] each."""
        rng = random_stream(self.seed, step, index)
        data = self.data
        clean, voice = self._speech.draw(rng, self.samples)
        if rng.random() < data.equalise:
            clean = self._filter.equalise(clean, rng)
        noisy = clean
        if self._noise is not None:
            if self._rir is not None and rng.random() < data.reverberate:
                response = self._rir.clip(int(rng.integers(len(self._rir))))
                noisy, clean = reverberate(clean, response, self._early)
            noise = self._noises(rng, voice)
            snr = float(np.clip(rng.normal(data.snr_mean, data.snr_std), *data.snr_range))
            noisy = noisy + noise * np.float32(snr_gain(clean, noise, snr))
        peak = 10 ** (rng.uniform(*data.peak_range) / 20)
        gain = np.float32(peak / _peak(noisy))
        return noisy * gain, clean * gain

    def batch(self, step: int, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the mixtures 0..batch_size-1 of a step: (noisy, clean), [batch, samples] each."""
        noisy = np.empty((batch_size, self.samples), dtype=np.float32)
        clean = np.empty_like(noisy)
        for index in range(batch_size):
            noisy[index], clean[index] = self.item(step, index)
        return noisy, clean

    def _noises(self, rng: np.random.Generator, voice: int) -> np.ndarray:
        """Return the sum of recorded, coloured and babble noise, float32 [samples], not silent."""
        data = self.data
        total = np.zeros(self.samples, dtype=np.float32)
        for _ in range(_count(rng, data.noises)):
            drawn = self._noise.draw(rng, self.samples)
            if drawn is not None:
                total += _levelled(drawn[0], rng)
        if rng.random() < data.equalise and _energy(total) > 0.0:
            total = self._filter.equalise(total, rng)
        if rng.random() < data.coloured or _energy(total) <= 0.0:
            total += _levelled(self._filter.coloured(rng), rng)
        if rng.random() < data.babble:
            voices = [self._speech.draw(rng, self.samples, other_than=voice)[0]
                      for _ in range(_count(rng, data.babble_voices))]
            babble = np.sum([_levelled(crop, rng) for crop in voices if crop is not None], axis=0)
            if np.ndim(babble):  # a lone speaker has no others
                total += _levelled(babble, rng)
        return total


class _Speech:
    """Draws crops of speech: folders alike, utterances by duration, short ones joined."""

    def __init__(self, corpus: Corpus, data: DataConfig) -> None:
        self.corpus, self.data = corpus, data
        self._fade = np.linspace(0.0, 1.0, round(EDGE_FADE * corpus.sample_rate), dtype=np.float32)
        # Per folder: its recordings, and where each one's share of the duration ends.
        self._folders = []
        for folder in np.unique(corpus.folders):
            members = np.flatnonzero(corpus.folders == folder)
            self._folders.append((members, np.cumsum(corpus.lengths[members])))
        groups = list(zip(corpus.folders.tolist(), corpus.groups, strict=True))
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        of = np.asarray([numbers[group] for group in groups])
        by_group = [np.flatnonzero(of == number) for number in range(len(numbers))]
        self._peers = [by_group[number] for number in of]
        # Of an unknown speaker each recording counts as another voice.
        self.voices = [int(number) if group is not None else -1 - index
                       for index, (number, (_, group)) in enumerate(zip(of, groups, strict=True))]

    def draw(self, rng: np.random.Generator, samples: int, other_than: int | None = None
             ) -> tuple[np.ndarray | None, int]:
        """Return (crop, voice), not silent; crop is None where there is no other voice."""
        for _ in range(TRIES):
            members, ends = self._folders[rng.integers(len(self._folders))]
            index = int(members[np.searchsorted(ends, rng.integers(ends[-1]), side="right")])
            if self.voices[index] == other_than:
                continue
            crop = self.crop(index, rng, samples)
            if _peak(crop) > SPEECH_SILENCE * self.corpus.peak(index):
                return crop, self.voices[index]
        if other_than is not None:
            return None, other_than
        # Pauses only: take the crop around the loudest place.
        loudest = int(np.argmax(np.abs(self.corpus.clip(index))))
        return self.crop(index, rng, samples, around=loudest), self.voices[index]

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
            peer = int(rng.choice(self._peers[index]))
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


class _Noise:
    """Draws crops of recorded noise: kinds alike, recordings within a kind alike."""

    def __init__(self, corpus: Corpus, data: DataConfig) -> None:
        self.corpus, self.data = corpus, data
        kinds: dict[tuple[int, str], list[int]] = {}
        for index, kind in enumerate(corpus.kinds):
            kinds.setdefault(kind, []).append(index)
        self._kinds = list(kinds.values())

    def draw(self, rng: np.random.Generator, samples: int) -> tuple[np.ndarray, int] | None:
        """Return (crop [samples], recording); None where only silence was drawn."""
        data = self.data
        for _ in range(TRIES):
            members = self._kinds[rng.integers(len(self._kinds))]
            index = members[rng.integers(len(members))]
            speed = rng.uniform(*data.resample_range) if rng.random() < data.resample_noise else 1.0
            needed = samples if speed == 1.0 else math.ceil(samples * speed) + 2
            crop = self._crop(index, rng, needed)
            if speed != 1.0:
                crop = _stretch(crop, speed, samples)
            if _peak(crop) > NOISE_SILENCE * self.corpus.peak(index):
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


class _Filter:
    """Random smooth filters without phase, and noise coloured by them, by FFT."""

    def __init__(self, samples: int, sample_rate: int, largest_db: float) -> None:
        self.samples = samples
        self._size = _fft_size(samples + round(RESPONSE_SECONDS * sample_rate))
        self._range = largest_db * math.log(10) / 20  # nepers
        hertz = fft.rfftfreq(self._size, 1 / sample_rate)
        self._log_hertz = np.log(np.maximum(hertz, LOWEST_HZ)).astype(np.float32)
        # Position of each bin among the knots; a smooth step between two of them.
        octaves = np.log2(np.maximum(hertz, 1.0) / (sample_rate / 2)) + KNOTS - 1
        place = np.clip(octaves, 0.0, KNOTS - 1 - 1e-6)
        self._knot = place.astype(np.intp)
        share = place - self._knot
        self._share = (share * share * (3.0 - 2.0 * share)).astype(np.float32)

    def equalise(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return float32 [samples] through a random filter."""
        spectrum = fft.rfft(audio, self._size)
        spectrum *= np.exp(self._curve(rng))
        return fft.irfft(spectrum, self._size)[:self.samples]

    def coloured(self, rng: np.random.Generator) -> np.ndarray:
        """Return noise of a random spectral slope through a random filter, float32 [samples]."""
        curve = self._curve(rng)
        curve += self._log_hertz * np.float32(rng.uniform(*SLOPES) / 2)
        # Even random numbers are 4 times faster than normal ones; their transform is normal.
        parts = rng.integers(-32767, 32768, 2 * len(curve), dtype=np.int16).astype(np.float32)
        spectrum = parts.view(np.complex64)
        spectrum *= np.exp(curve)
        spectrum[0] = 0.0
        return fft.irfft(spectrum, self._size)[:self.samples]

    def _curve(self, rng: np.random.Generator) -> np.ndarray:
        """Return log gains, float32 [bins]."""
        knots = rng.uniform(-self._range, self._range, KNOTS).astype(np.float32)
        curve = np.diff(knots)[self._knot]
        curve *= self._share
        curve += knots[self._knot]
        return curve


def write_pairs(
    speech_folders: Sequence[str | Path],
    noise_folders: Sequence[str | Path],
    out: str | Path,
    sample_rate: int,
    snrs: Sequence[float],
    count: int | None = None,
    seed: int = 0,
    rir_folders: Sequence[str | Path] = (),
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    cache: str | Path | None = None,
    data: DataConfig | None = None,
) -> list[dict[str, Any]]:
    """Write paired folders `noisy/` and `clean/` (16-bit WAV) and `manifest.json`.

    Args:
        speech_folders: Clean utterances; sub-folders are kept in the names.
        noise_folders: Recorded noises; one is in each mixture, cropped or looped to its length.
        out: Folder to write; what it holds of `noisy/` and `clean/` must be empty.
        sample_rate: Hz of the files written.
        snrs: SNRs in dB, taken in turn.
        count: Number of mixtures; None: one for each utterance. Fewer are a random choice, more go
            through the utterances again.
        seed: Of all draws.
        rir_folders: Room impulse responses; with them, some mixtures are in a room.
        seconds: Length of a mixture; None: that of its utterance.
        progress: Called with (mixtures done, mixtures in all).
        cache: Folder of decoded audio, as in `build_corpus`.
        data: Recipe of pauses and rooms; None: the default one.

    Returns:
        The rows of the manifest: file, speech, speaker, noise, noise_file, rir, snr_db, seconds,
        gain (common to noisy and clean).

    Raises:
        AudioError: When a folder cannot be used, or the disk is full.
        FileExistsError: When `out` holds pairs already.
        ValueError: When no SNR is given, or the noise is silent.
    """
    out = Path(out)
    for side in (out / "noisy", out / "clean"):
        if side.exists() and (not side.is_dir() or any(side.iterdir())):
            raise FileExistsError(f"{side}: is there already; give another folder or remove it")
    if not snrs:
        raise ValueError("no SNR given; for instance -5, 0, 5")
    data = (data or DataConfig()).model_copy(update={"loop_noise": 1.0, "resample_noise": 0.0})
    speech = _Speech(build_corpus(speech_folders, sample_rate, cache), data)
    noise = _Noise(build_corpus(noise_folders, sample_rate, cache), data)
    rir = build_corpus(rir_folders, sample_rate, cache) if rir_folders else None
    utterances = np.arange(len(speech.corpus))
    total = len(utterances) if count is None else count
    if total < len(utterances):
        utterances = random_stream(seed, 0, 0).permutation(utterances)[:total]
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    used: set[str] = set()
    with tempfile.TemporaryDirectory(prefix=".mix-", dir=out) as build:
        for number in range(total):
            index = int(utterances[number % len(utterances)])
            rng = random_stream(seed, 1, number)
            noisy, clean, row = _pair(index, float(snrs[number % len(snrs)]), rng, speech, noise,
                                      rir, data, seconds)
            row = {"file": _unique(speech.corpus.names[index], used), **row}
            write(Path(build, "noisy", row["file"]), noisy, sample_rate, subtype="PCM_16")
            write(Path(build, "clean", row["file"]), clean, sample_rate, subtype="PCM_16")
            rows.append(row)
            if progress is not None:
                progress(number + 1, total)
        Path(build, "manifest.json").write_text(json.dumps(rows, indent=1, allow_nan=False),
                                                encoding="utf-8")
        for name in ("noisy", "clean", "manifest.json"):  # the manifest last: it says all is there
            os.replace(Path(build, name), out / name)
    return rows


def _pair(index: int, snr_db: float, rng: np.random.Generator, speech: _Speech, noise: _Noise,
          rir: Corpus | None, data: DataConfig, seconds: float | None
          ) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Return (noisy, clean, row of the manifest) of one utterance."""
    corpus = speech.corpus
    if seconds is None:
        clean = corpus.clip(index)
    else:
        clean = speech.crop(index, rng, round(seconds * corpus.sample_rate))
    heard, room = clean, None
    if rir is not None and rng.random() < data.reverberate:
        room = int(rng.integers(len(rir)))
        early = round(data.early_ms / 1000 * corpus.sample_rate)
        heard, clean = reverberate(clean, rir.clip(room), early)
    drawn = noise.draw(rng, len(clean))
    if drawn is None:
        raise ValueError(f"only silence in {TRIES} draws of noise; remove silent recordings")
    noisy, clean, gain = _add(heard, clean, drawn[0], snr_db, QUIETEST_NOISE)
    name = noise.corpus.names[drawn[1]]
    row = {
        "speech": corpus.names[index], "speaker": corpus.groups[index],
        "noise": noise.corpus.kinds[drawn[1]][1] or Path(name).stem, "noise_file": name,
        "rir": None if room is None else rir.names[room], "snr_db": snr_db,
        "seconds": round(len(clean) / corpus.sample_rate, 4), "gain": round(gain, 6),
    }
    return noisy, clean, row


def _unique(name: str, used: set[str]) -> str:
    """Return a .wav name that no earlier mixture has, case aside."""
    stem = name.rpartition(".")[0] or name
    number, file = 1, f"{stem}.wav"
    while file.lower() in used:
        number += 1
        file = f"{stem}_{number}.wav"
    used.add(file.lower())
    return file


def _add(heard: np.ndarray, clean: np.ndarray, noise: np.ndarray, snr_db: float,
         quietest: float = 0.0) -> tuple[np.ndarray, np.ndarray, float]:
    """Return (noisy, clean, common gain): unclipped, and the noise's RMS not below `quietest`."""
    if clean.shape != noise.shape:
        raise ValueError(f"clean has the shape {clean.shape}, noise {noise.shape}")
    scaled = noise * np.float32(snr_gain(clean, noise, snr_db))
    noisy = heard + scaled
    lift = max(1.0, quietest / math.sqrt(_energy(scaled) / len(scaled)))
    gain = min(lift, FULL_SCALE / max(_peak(noisy), _peak(clean)))
    return noisy * np.float32(gain), clean * np.float32(gain), gain


def _count(rng: np.random.Generator, low_high: tuple[int, int]) -> int:
    return int(rng.integers(low_high[0], low_high[1] + 1))


def _energy(audio: np.ndarray) -> float:
    # Not np.dot: BLAS would start threads of its own, and its sum depends on their number.
    return float(np.einsum("i,i->", audio, audio))


def _peak(audio: np.ndarray) -> float:
    return max(float(audio.max()), -float(audio.min()))


def _levelled(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return noise at an RMS of -RELATIVE_DB..0 dB."""
    level = 10 ** (-rng.uniform(0.0, RELATIVE_DB) / 20)
    return audio * np.float32(level * math.sqrt(len(audio) / _energy(audio)))


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


def _fft_size(samples: int) -> int:
    """Return a length with many factors of two: twice as fast as the next fast length."""
    return 256 * fft.next_fast_len(-(-samples // 256), real=True)
