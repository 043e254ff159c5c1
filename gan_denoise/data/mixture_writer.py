"""Mixtures as files: speech + noise (+ a room) at given SNRs, in paired folders with a manifest.

Nothing clips, and no noise is so faint that 16 bits would change the SNR: noisy and clean share the
gain that this takes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gan_denoise.audio import peak
from gan_denoise.audio.writer import write
from gan_denoise.config.schema import DataConfig
from gan_denoise.core.decibels import db_to_amplitude
from gan_denoise.core.locations import inside
from gan_denoise.core.ray_jobs import Cluster
from gan_denoise.core.rng import random_stream
from gan_denoise.data.augment import RandomFilter, reverberate
from gan_denoise.data.corpus import Corpus, build_corpus
from gan_denoise.data.crops import TRIES, NoiseCrops, SpeechCrops
from gan_denoise.data.mixing import MixError, Noises, energy, snr_gain
from gan_denoise.data.mixture_folder import (
    MixtureRow,
    check_places,
    finish_killed,
    mixture_folder,
    read_rows,
)

FULL_SCALE = 32767 / 32768  # largest sample that 16 bits hold
# (random numbers, voice of the speech, samples) -> noise, and the parts it is the sum of
_Draw = Callable[[np.random.Generator, int, int], tuple[np.ndarray, list[int | str]]]
WIDEST_SNR = 100.0  # dB; beyond, one of the two is lost in 16 bits whatever the gain
QUIETEST_NOISE = db_to_amplitude(-78)  # RMS; below, rounding to 16 bits would change the SNR


@dataclass(frozen=True)
class MixtureSpec:
    """What mixtures are: their rate, SNRs, number and length, and how their noises are made.

    Attributes:
        sample_rate: Hz.
        snrs: SNRs in dB, taken in turn.
        count: Number of mixtures; None: one for each utterance. Fewer are a random choice, more go
            through the utterances again.
        seconds: Length of a mixture; None: that of its utterance.
        recipe: Settings of noises (several at once, coloured, babble), pauses and rooms, as for
            training; None: one recorded noise in each mixture.
        seed: Seed of all random choices.

    Raises:
        MixError: For an SNR or a length that cannot be.
    """

    sample_rate: int
    snrs: Sequence[float]
    count: int | None = None
    seconds: float | None = None
    recipe: DataConfig | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.snrs or not all(abs(snr_db) <= WIDEST_SNR for snr_db in self.snrs):
            raise MixError(f"SNRs are within +-{WIDEST_SNR:g} dB, for instance -5,0,5; not "
                           f"{', '.join(f'{snr_db:g}' for snr_db in self.snrs) or 'none'}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise MixError(f"a mixture cannot last {self.seconds:g} s",
                           "give a length above 0, or none")

    def utterances(self, available: int) -> list[int]:
        """Return the utterances to mix: all, a random choice of fewer, or all of them again."""
        chosen = np.arange(available)
        total = available if self.count is None else self.count
        if total < available:
            chosen = random_stream(self.seed, 0, 0).permutation(chosen)[:total]
        return [int(chosen[number % len(chosen)]) for number in range(total)]

    def request(self, digests: Sequence[str]) -> list[object]:
        """Return what decides on mixtures of corpora with these digests, as JSON has it."""
        recipe = None if self.recipe is None else self.recipe.model_dump(mode="json")
        return [self.sample_rate, list(self.snrs), self.count, self.seconds, recipe, self.seed,
                list(digests)]


_Mixture = tuple[np.ndarray, np.ndarray, MixtureRow]  # noisy, clean, row of the manifest
_Drawn = tuple[int, int, str]  # number of a mixture, number of its utterance, name of its file
BATCH = 32  # mixtures that a worker of a cluster makes together


def write_pairs(
    speech_folders: Sequence[str | Path],
    noise_folders: Sequence[str | Path],
    out: str | Path,
    spec: MixtureSpec,
    *,
    rir_folders: Sequence[str | Path] = (),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
    cluster: Cluster | None = None,
) -> list[MixtureRow]:
    """Write paired folders `noisy/` and `clean/` (16-bit WAV) and `manifest.json`.

    Where an earlier call was killed when it had made all mixtures, they are completed; if they are
    of the same arguments, nothing is made anew.

    Args:
        speech_folders: Clean utterances; sub-folders are kept in the names.
        noise_folders: Recorded noises, cropped or looped to the length of a mixture.
        out: Folder to write; what it holds of `noisy/` and `clean/` must be empty.
        spec: What the mixtures are.
        rir_folders: Room impulse responses; with them, some mixtures are in a room.
        cache: Folder of decoded audio, as in `build_corpus`.
        progress: Called with (mixtures done, mixtures in all).
        notice: Called with a line on each recording that is cut off, or whose header is wrong,
            and where nothing is made anew.
        cluster: Where mixtures are made, from what this machine has decoded into `cache`: all
            machines must see it, or the folders be corpora of `write_corpus`. None: here.

    Returns:
        The rows of the manifest.

    Raises:
        AudioError: When a folder cannot be used, or the disk is full.
        OutputError: When `out` holds pairs already, or the manifest cannot be written.
        MixError: Where a mixture would be of silence.
        LocationError: When the names in a corpus lead out of the folder to write.
        ProcessDied: When several workers died on the same mixtures.
        ClusterError: When the cluster does not answer, or does not see the folders.
    """
    out = Path(out)
    finished = finish_killed(out)
    if not finished:
        check_places(out)
    given = (speech_folders, noise_folders, *([rir_folders] if rir_folders else []))
    corpora = [build_corpus(folders, spec.sample_rate, cache) for folders in given]
    for note in (note for corpus in corpora for note in corpus.notes):
        if notice is not None:
            notice(note)
    request = spec.request([corpus.digest for corpus in corpora])
    if request in finished:
        if notice is not None:
            notice(f"{out}: an earlier run was ended when it had made these mixtures; they are "
                   "complete now, and nothing was made anew")
        return read_rows(out)
    return _write(out, _material(corpora, spec), request, cluster, progress)


def mix_at_snr(
    speech: np.ndarray, clean: np.ndarray, noise: np.ndarray, snr_db: float
) -> tuple[np.ndarray, np.ndarray, float]:
    """Add noise at an SNR, then give noisy and clean one gain, so that 16 bits hold both.

    The gain keeps the louder of the two below full scale, and raises noise of an RMS below -78 dB,
    whose SNR rounding would change.

    Args:
        speech: What the noise is added to, float32 [samples]: `clean`, or `clean` in a room.
        clean: Target, which the SNR refers to, float32 [samples].
        noise: float32 [samples], at any level.
        snr_db: Ratio of the energies of `clean` and the added noise in dB.

    Returns:
        (noisy, clean, gain): float32 [samples] each, and their common gain.

    Raises:
        MixError: When `clean` or `noise` is silent.
    """
    scaled = noise * np.float32(snr_gain(clean, noise, snr_db))
    noisy = speech + scaled
    lift = max(1.0, QUIETEST_NOISE / math.sqrt(energy(scaled) / len(scaled)))
    gain = min(lift, FULL_SCALE / max(peak(noisy), peak(clean)))
    return noisy * np.float32(gain), clean * np.float32(gain), gain


# ---- Drawing mixtures --------------------------------------------------------------------------
@dataclass(frozen=True)
class _Material:
    """What mixtures are drawn from, and how.

    Attributes:
        speech: Clean utterances.
        noise: Recorded noises.
        rir: Room impulse responses, None for no rooms.
        draw: Draws the noise of a mixture.
        data: Settings of pauses and rooms.
        spec: What the mixtures are.
    """

    speech: SpeechCrops
    noise: NoiseCrops
    rir: Corpus | None
    draw: _Draw
    data: DataConfig
    spec: MixtureSpec

    def drawn(self) -> list[_Drawn]:
        """Return number, utterance and file of each mixture."""
        used: set[str] = set()
        names = self.speech.corpus.names
        return [(number, index, _unique(names[index], used))
                for number, index in enumerate(self.spec.utterances(len(names)))]

    def mixture(self, drawn: _Drawn) -> _Mixture:
        """Return (noisy, clean, row of the manifest); the SNRs are taken in turn."""
        number, index, file = drawn
        snrs = self.spec.snrs
        rng = random_stream(self.spec.seed, 1, number)
        return self._mixture(index, float(snrs[number % len(snrs)]), rng, file)

    def _mixture(
        self, index: int, snr_db: float, rng: np.random.Generator, file: str
    ) -> _Mixture:
        """Return (noisy, clean, row of the manifest)."""
        corpus, rir = self.speech.corpus, self.rir
        if self.spec.seconds is None:
            clean = corpus.clip(index)
        else:
            clean = self.speech.crop(index, rng, round(self.spec.seconds * corpus.sample_rate))
        speech, room = clean, None
        if rir is not None and rng.random() < self.data.reverberate:
            room = int(rng.integers(len(rir)))
            early = round(self.data.early_ms / 1000 * corpus.sample_rate)
            speech, clean = reverberate(clean, rir.clip(room), early)
        noise, parts = self.draw(rng, self.speech.voices[index], len(clean))
        try:
            noisy, clean, gain = mix_at_snr(speech, clean, noise, snr_db)
        except MixError as error:
            raise MixError(f"{corpus.names[index]}: {error}",
                           "leave it out, or mix longer parts") from error
        kinds, files = self._names(parts)
        return noisy, clean, {
            "file": file, "speech": corpus.names[index], "speaker": corpus.groups[index],
            "noise": " + ".join(kinds), "noise_file": " + ".join(files),
            "rir": None if rir is None or room is None else rir.names[room], "snr_db": snr_db,
            "seconds": round(len(clean) / corpus.sample_rate, 4), "gain": round(gain, 6),
        }

    def _names(self, parts: Sequence[int | str]) -> tuple[list[str], list[str]]:
        """Return the kinds of the parts of a noise, and the files of the recorded ones."""
        corpus = self.noise.corpus
        files = [corpus.names[part] for part in parts if not isinstance(part, str)]
        kinds = [part if isinstance(part, str) else
                 corpus.parents[part] or Path(corpus.names[part]).stem for part in parts]
        return kinds, files


@dataclass(frozen=True)
class _Writer:
    """Makes mixtures and writes them, here or on a worker of a cluster."""

    material: _Material
    noisy: Path
    clean: Path

    def __call__(self, mixtures: Sequence[_Drawn]) -> list[MixtureRow]:
        """Write some mixtures; return their rows of the manifest."""
        rate, rows = self.material.spec.sample_rate, []
        for drawn in mixtures:
            noisy, clean, row = self.material.mixture(drawn)
            write(self.noisy / row["file"], noisy, rate, subtype="PCM_16")
            write(self.clean / row["file"], clean, rate, subtype="PCM_16")
            rows.append(row)
        return rows


def _write(
    out: Path, material: _Material, request: object, cluster: Cluster | None,
    progress: Callable[[int, int], None] | None,
) -> list[MixtureRow]:
    """Write all mixtures and, at last, the manifest; return its rows."""
    rows: list[MixtureRow] = []
    drawn = material.drawn()
    with mixture_folder(out, request, rows) as build:
        for _, _, file in drawn:
            inside(build, file)
        writer = _Writer(material, build / "noisy", build / "clean")
        with _mapped(writer, drawn, cluster) as written:
            for made in written:
                rows += made
                if progress is not None:
                    progress(len(rows), len(drawn))
    return rows


@contextlib.contextmanager
def _mapped(
    writer: _Writer, drawn: Sequence[_Drawn], cluster: Cluster | None
) -> Iterator[Iterator[list[MixtureRow]]]:
    """Give the rows of the mixtures as they are written, here or on a cluster."""
    if cluster is None:
        yield (writer([each]) for each in drawn)
        return
    material = writer.material
    corpora = [material.speech.corpus, material.noise.corpus, material.rir]
    decoded = [file for corpus in corpora if corpus is not None for file in corpus.samples.files
               if not isinstance(file, np.ndarray)]
    with cluster.pool(lambda mixtures: f"mixing {mixtures[0][2]} and the {len(mixtures) - 1} after "
                      "it", writer.noisy, decoded) as pool:
        yield pool.map(writer, [drawn[at:at + BATCH] for at in range(0, len(drawn), BATCH)])


def _material(corpora: Sequence[Corpus], spec: MixtureSpec) -> _Material:
    """Prepare speech, noise and, where there are any, impulse responses for drawing."""
    data = spec.recipe or DataConfig(loop_noise=1.0, resample_noise=0.0)
    speech, noise = SpeechCrops(corpora[0], data), NoiseCrops(corpora[1], data)
    draw = _one_of(noise) if spec.recipe is None else _by_recipe(noise, speech, data)
    return _Material(speech, noise, corpora[2] if len(corpora) > 2 else None, draw, data, spec)


def _one_of(noise: NoiseCrops) -> _Draw:
    def draw(
        rng: np.random.Generator, voice: int, samples: int
    ) -> tuple[np.ndarray, list[int | str]]:
        drawn = noise.draw(rng, samples)
        if drawn is None:
            raise MixError(f"only silence in {TRIES} draws of noise",
                           "leave silent recordings out")
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
