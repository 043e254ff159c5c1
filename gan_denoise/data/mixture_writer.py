"""Mixtures as files: speech + noise (+ a room) at given SNRs, in paired folders with a manifest.

Nothing clips, and no noise is so faint that 16 bits would change the SNR: noisy and clean share the
gain that this takes.
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

from gan_denoise.audio import peak
from gan_denoise.audio.writer import write
from gan_denoise.config.schema import DataConfig
from gan_denoise.core.rng import random_stream
from gan_denoise.data.augment import RandomFilter, reverberate
from gan_denoise.data.corpus import Corpus, build_corpus
from gan_denoise.data.crops import TRIES, NoiseCrops, SpeechCrops
from gan_denoise.data.mixing import MixError, Noises, energy, snr_gain

FULL_SCALE = 32767 / 32768  # largest sample that 16 bits hold
# (random numbers, voice of the speech, samples) -> noise, and the parts it is the sum of
_Draw = Callable[[np.random.Generator, int, int], tuple[np.ndarray, list[int | str]]]
WIDEST_SNR = 100.0  # dB; beyond, one of the two is lost in 16 bits whatever the gain
QUIETEST_NOISE = 10 ** (-78 / 20)  # RMS; below, rounding to 16 bits would change the SNR


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
        MixError: When either is silent, or their lengths differ.
    """
    return _add(clean, clean, noise, snr_db)


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
    notice: Callable[[str], None] | None = None,
) -> list[dict[str, Any]]:
    """Write paired folders `noisy/` and `clean/` (16-bit WAV) and `manifest.json`.

    Args:
        speech_folders: Clean utterances; sub-folders are kept in the names.
        noise_folders: Recorded noises, cropped or looped to the length of a mixture.
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
        data: Recipe of noises (several at once, coloured, babble), pauses and rooms, as for
            training; None: one recorded noise in each mixture.
        notice: Called with a line on each recording that is cut off, or whose header is wrong.

    Returns:
        The rows of the manifest: file, speech, speaker, noise, noise_file, rir, snr_db, seconds,
        gain (common to noisy and clean).

    Raises:
        AudioError: When a folder cannot be used, or the disk is full.
        FileExistsError: When `out` holds pairs already.
        MixError: For an SNR or a length that cannot be, or where a mixture would be of silence.
    """
    out = Path(out)
    for side in (out / "noisy", out / "clean"):
        if side.exists() and (not side.is_dir() or any(side.iterdir())):
            raise FileExistsError(f"{side}: is there already; give another folder or remove it")
    if not snrs or not all(abs(snr_db) <= WIDEST_SNR for snr_db in snrs):
        raise MixError(f"SNRs are within +-{WIDEST_SNR:g} dB, for instance -5,0,5; not "
                       f"{', '.join(f'{snr_db:g}' for snr_db in snrs) or 'none'}")
    if seconds is not None and not 0 < seconds < math.inf:
        raise MixError(f"a mixture cannot last {seconds:g} s; give a length above 0, or none")
    recipe, data = data, data or DataConfig(loop_noise=1.0, resample_noise=0.0)
    given = (speech_folders, noise_folders, *([rir_folders] if rir_folders else []))
    corpora = [build_corpus(folders, sample_rate, cache) for folders in given]
    for note in (note for corpus in corpora for note in corpus.notes):
        if notice is not None:
            notice(note)
    speech, noise = SpeechCrops(corpora[0], data), NoiseCrops(corpora[1], data)
    draw = _one_of(noise) if recipe is None else _by_recipe(noise, speech, recipe)
    rir = corpora[2] if rir_folders else None
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
                                      draw, rir, data, seconds)
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


def _pair(index: int, snr_db: float, rng: np.random.Generator, speech: SpeechCrops,
          noise: NoiseCrops, draw: _Draw, rir: Corpus | None, data: DataConfig,
          seconds: float | None) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
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
    added, parts = draw(rng, speech.voices[index], len(clean))
    try:
        noisy, clean, gain = _add(heard, clean, added, snr_db, QUIETEST_NOISE)
    except MixError as error:
        raise MixError(
            f"{corpus.names[index]}: {error}; leave it out, or mix longer parts") from error
    files = [noise.corpus.names[part] for part in parts if not isinstance(part, str)]
    kinds = [part if isinstance(part, str) else
             noise.corpus.kinds[part][1] or Path(noise.corpus.names[part]).stem for part in parts]
    row = {
        "speech": corpus.names[index], "speaker": corpus.groups[index],
        "noise": " + ".join(kinds), "noise_file": " + ".join(files),
        "rir": None if room is None else rir.names[room], "snr_db": snr_db,
        "seconds": round(len(clean) / corpus.sample_rate, 4), "gain": round(gain, 6),
    }
    return noisy, clean, row


def _one_of(noise: NoiseCrops) -> _Draw:
    def draw(rng: np.random.Generator, voice: int, samples: int) -> tuple[np.ndarray, list]:
        drawn = noise.draw(rng, samples)
        if drawn is None:
            raise MixError(f"only silence in {TRIES} draws of noise; leave silent recordings out")
        return drawn[0], [drawn[1]]

    return draw


def _by_recipe(noise: NoiseCrops, speech: SpeechCrops, data: DataConfig) -> _Draw:
    rate = noise.corpus.sample_rate
    return lambda rng, voice, samples: Noises(
        noise, speech, data, RandomFilter(samples, rate, data.equalise_db)
    ).draw(rng, voice)


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
        raise MixError(f"clean has the shape {clean.shape}, noise {noise.shape}")
    scaled = noise * np.float32(snr_gain(clean, noise, snr_db))
    noisy = heard + scaled
    lift = max(1.0, quietest / math.sqrt(energy(scaled) / len(scaled)))
    gain = min(lift, FULL_SCALE / max(peak(noisy), peak(clean)))
    return noisy * np.float32(gain), clean * np.float32(gain), gain
