"""The systems that this project grew from, each from its settings to its scores.

A system is one or two files under `configs/seeds` and an order of stages; every stage is one that
users have: mix, features, pretrain, fine-tune, export, evaluate. What is done already is not done
again, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_denoise.audio import read_mono
from gan_denoise.config import load_config
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.schema import Config, DataConfig
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.data.feature_folder import FeatureFolder
from gan_denoise.data.feature_writer import write_features
from gan_denoise.data.mixture_writer import write_pairs
from gan_denoise.data.pairs import match_folders
from gan_denoise.data.room_simulation import write_rooms
from gan_denoise.evaluation.evaluate_features import (
    Example,
    evaluate_features,
    stored_examples,
    synthetic_examples,
)
from gan_denoise.evaluation.evaluate_waveforms import evaluate, save
from gan_denoise.evaluation.results import Evaluation
from gan_denoise.evaluation.table import render
from gan_denoise.exporting.exporter import export
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.reports.spectrograms import mel_picture, spectrogram_figure
from gan_denoise.training.loop import train

TEST_SNR = 2.5  # dB, of the made-up spectrograms
TEST_SNRS = (-5.0, -2.5, 0.0, 2.5, 5.0, 7.5, 10.0)
DIGITS_SNR = -8.0
SPEECH_SNRS = (-5.0, 0.0, 5.0, 10.0, 15.0)
STFT_SNRS, NEAR_ZERO_SNRS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (0.1, 0.2, 0.3, 0.4, 0.5)
STFT_CLIPS, ROOMS = 600, 60  # clips of 8 seconds: 80 minutes; rooms of either set
TEST_CLIPS, TRAIN_CLIPS = 100, 8000  # that are written as files; of each SNR for TEST_SNRS
NOTE = "study.json"  # what a folder is made of
SHOWN = 6  # clips of a picture of features
TEST_SECONDS = 3.0  # enough for PESQ and STOI; shorter utterances of a speaker are joined


class SeedError(GanDenoiseError):
    """A system cannot be reproduced: says what is missing."""


@dataclass(frozen=True)
class Recordings:
    """Folders that a system is trained and tested on; none for made-up spectrograms.

    Attributes:
        speech: To train on.
        noise: To train on.
        test_speech: Of other speakers.
        test_noise: Other recordings of noise.
    """

    speech: Sequence[Path] = ()
    noise: Sequence[Path] = ()
    test_speech: Sequence[Path] = ()
    test_noise: Sequence[Path] = ()


@dataclass(frozen=True)
class Study:
    """Stages of a system, in a folder of its own.

    Attributes:
        out: The folder.
        recordings: What it is made of.
        settings: `key=value` that come last, for every stage.
        results: Rich console for tables.
        log: Rich console for progress.
    """

    out: Path
    recordings: Recordings
    settings: Sequence[str]
    results: Any
    log: Any

    def config(self, name: str | Path, *settings: str) -> Config:
        """Return a shipped config with settings laid over it."""
        return load_config(name, [*settings, *self.settings])

    def mixed(self) -> list[str]:
        """Return the settings of training on speech and noise, mixed on the fly."""
        return [f"data.{key}={json.dumps([str(path) for path in folders])}" for key, folders in
                (("speech", self.recordings.speech), ("noise", self.recordings.noise))]

    def model(
        self, config: Config, name: str, kind: str = "pretrain", init: str | None = None
    ) -> Enhancer:
        """Return a trained model, after the training and the export that are missing."""
        run, folder = self.out / "runs" / name, self.out / "models" / name
        if not folder.is_dir():
            start = self.out / "runs" / init if init is not None else None
            train(config, run, kind, start, self.log)
            export(run, folder)
        return Enhancer.load(folder)

    def pairs(self, name: str, rate: int, snrs: Sequence[float], count: int, test: bool = True,
              seconds: float | None = None, recipe: DataConfig | None = None,
              rooms: Sequence[Path] = ()) -> Path:
        """Return a folder of mixtures, of the test material or of the training material."""
        folder, given = self.out / name, self.recordings
        if not (folder / "manifest.json").is_file():
            speech = given.test_speech if test else given.speech
            noise = given.test_noise if test else given.noise
            self.log.print(f"mixing {count} clips into {folder}", highlight=False, soft_wrap=True)
            write_pairs(speech, noise, folder, rate, snrs, count, seed=1 if test else 0,
                        seconds=TEST_SECONDS if seconds is None else seconds, data=recipe,
                        rir_folders=rooms)
        return folder

    def rooms(self, name: str, rate: int, seed: int) -> list[Path]:
        """Return a folder of made-up rooms, in a list."""
        folder = self.out / name
        if not folder.is_dir():
            write_rooms(folder, ROOMS, rate, seed=seed)
        return [folder]

    def score(self, folder: Path, models: Mapping[str, Enhancer], name: str = "scores") -> None:
        """Evaluate models on a folder of pairs beside noisy, the trivial systems and the oracle.

        And draw the first pair, by the first model.
        """
        pairs = match_folders(folder / "noisy", folder / "clean")
        self.report(evaluate(pairs, models, trivial=True), name)
        enhancer = next(iter(models.values()))
        rate = enhancer.mel.sample_rate
        noisy, clean = (read_mono(path, rate) for path in (pairs[0].noisy, pairs[0].clean))
        shown = {"noisy": noisy, "denoised": enhancer.enhance(noisy, rate), "clean": clean}
        spectrogram_figure(shown, rate, self.out / name / "spectrograms.png", enhancer.mel)

    def score_features(
        self, examples: Sequence[Example], models: Mapping[str, Enhancer], name: str = "scores"
    ) -> None:
        """Evaluate models on features, and draw the first of them: noisy, denoised, clean."""
        self.report(evaluate_features(examples, models), name)
        enhancer = next(iter(models.values()))
        drawn = examples[:SHOWN]
        rows = [[clip.noisy for clip in drawn],
                [enhancer.estimate(clip.noisy) for clip in drawn],
                [clip.clean for clip in drawn]]
        mel_picture(rows, self.out / name / "mels.png")

    def report(self, evaluation: Evaluation, name: str = "scores") -> None:
        """Save an evaluation and show it."""
        save(evaluation, self.out / name)
        render(evaluation, self.results)
        self.log.print(f"scores: {self.out / name}", highlight=False, soft_wrap=True)


def spectrograms(study: Study) -> None:
    """A denoising autoencoder on made-up spectrograms with Gaussian noise."""
    config = study.config("seeds/spectrograms")
    models = {"model": study.model(config, "autoencoder")}
    for name, snrs in (("scores", (TEST_SNR,) * 5), ("scores-by-snr", TEST_SNRS)):
        examples = synthetic_examples(config, TEST_CLIPS * len(snrs), snrs)
        study.score_features(examples, models, name)


def audio_mnist(study: Study) -> None:
    """Spoken digits in noise at -8 dB; tested on speakers that it has not heard."""
    config = study.config("seeds/audio-mnist", *study.mixed())
    models = {"model": study.model(config, "autoencoder")}
    test = study.pairs("test", config.audio.sample_rate, (DIGITS_SNR,), TEST_CLIPS)
    study.score(test, models)


def hybrid(study: Study) -> None:
    """Mel and MFCC stacked, through a dense bottleneck; noise on the waveform and on features."""
    base = study.config("seeds/hybrid")
    rate, seconds = base.audio.sample_rate, base.training.crop_seconds
    train_pairs = study.pairs("train", rate, SPEECH_SNRS, TRAIN_CLIPS, test=False, seconds=seconds)
    both = {"audio level": [f"data.noisy={train_pairs / 'noisy'}"], "feature level": []}
    for level, noisy in both.items():
        name = level.replace(" ", "-")
        folder = study.out / "features" / name
        if not (folder / SETTINGS).is_file():
            clean = f"data.clean={train_pairs / 'clean'}"
            write_features(study.config("seeds/hybrid", clean, *noisy), folder)
        config = study.config(folder / SETTINGS)
        models = {"model": study.model(config, name)}
        examples = list(stored_examples(FeatureFolder(folder, config)))
        study.score_features(examples, models, f"scores-{name}-mel")
        if noisy:
            test = study.pairs("test", rate, SPEECH_SNRS, TEST_CLIPS)
            study.score(test, models, f"scores-{name}")


def ae_gan(study: Study) -> None:
    """A mel autoencoder, fine-tuned against a patch discriminator, inverted by Griffin-Lim."""
    config = study.config("seeds/ae-gan", *study.mixed())
    game = study.config("seeds/ae-gan-finetune", *study.mixed())
    alone = study.model(config, "pretrained")
    tuned = study.model(game, "fine-tuned", "finetune", "pretrained")
    test = study.pairs("test", config.audio.sample_rate, SPEECH_SNRS, TEST_CLIPS)
    models = {
        f"{name}, {inversion}": model.with_inversion(inversion)
        for name, model in (("pretrained", alone), ("fine-tuned", tuned))
        for inversion in ("griffinlim", "gain")
    }
    study.score(test, models | {"default": Enhancer.load()})


def stft(study: Study) -> None:
    """A CNN and a U-Net on files of STFT magnitudes, of mixtures in rooms; trained twice.

    The second time validation is trained on too, for the final score.
    """
    base = study.config("seeds/stft-cnn")
    rate, seconds = base.audio.sample_rate, base.training.crop_seconds
    mixed = {"seconds": seconds, "recipe": base.data}
    rooms, test_rooms = study.rooms("rooms", rate, 0), study.rooms("test-rooms", rate, 1)
    material = study.pairs("train", rate, STFT_SNRS, STFT_CLIPS, test=False, rooms=rooms, **mixed)
    features = study.out / "features"
    if not features.is_dir():
        sides = [f"data.{side}={material / side}" for side in ("noisy", "clean")]
        write_features(study.config("seeds/stft-cnn", *sides), features)
    models = {}
    for network in ("cnn", "unet"):
        for merged in (False, True):
            name = f"{network}, merged" if merged else network
            config = study.config(f"seeds/stft-{network}", f"data.features={features}",
                                  f"data.merge_validation={str(merged).lower()}")
            models[name] = study.model(config, name.replace(", ", "-"))
    for name, snrs in (("near-zero", NEAR_ZERO_SNRS), ("scores", STFT_SNRS)):
        test = study.pairs(f"test-{name}", rate, snrs, TEST_CLIPS, rooms=test_rooms, **mixed)
        study.score(test, models, name)


SYSTEMS: dict[str, Callable[[Study], None]] = {
    "spectrograms": spectrograms,
    "audio-mnist": audio_mnist,
    "hybrid": hybrid,
    "ae-gan": ae_gan,
    "stft": stft,
}
WITHOUT_RECORDINGS = ("spectrograms",)


def reproduce(
    system: str,
    out: Path,
    recordings: Recordings,
    settings: Sequence[str],
    results: Any,
    log: Any,
) -> None:
    """Train and score one of the systems; resumes what is there.

    Args:
        system: A name in `SYSTEMS`.
        out: Folder for everything.
        recordings: What to train and test on.
        settings: `key=value` laid over the system's config.
        results: Rich console for tables.
        log: Rich console for progress.

    Raises:
        SeedError: When there is no such system, it lacks recordings, or `out` is of another one.
    """
    if system not in SYSTEMS:
        raise SeedError(f"there is no system '{system}'; there are {', '.join(SYSTEMS)}")
    missing = [name for name, folders in vars(recordings).items() if not folders]
    if missing and system not in WITHOUT_RECORDINGS:
        options = ", ".join(f"--{name.replace('_', '-')} DIR" for name in missing)
        raise SeedError(f"{system} is made of recordings; give {options}")
    lost = [path for folders in vars(recordings).values() for path in folders if not path.exists()]
    if lost:
        raise SeedError(f"{lost[0]}: is not there; give a folder of recordings")
    _claim(Path(out), system, recordings, settings)
    SYSTEMS[system](Study(Path(out), recordings, settings, results, log))


def _claim(out: Path, system: str, recordings: Recordings, settings: Sequence[str]) -> None:
    """Note what a folder is made of, and refuse one that is made of something else.

    A note alone may be replaced: it is of a command that failed at its first stage.
    """
    folders = {name: [str(path.resolve()) for path in paths]
               for name, paths in vars(recordings).items()}
    ours = {"system": system, **folders, "settings": list(settings)}
    note = out / NOTE
    if note.is_file() and any(path != note for path in out.iterdir()):
        theirs = json.loads(note.read_text(encoding="utf-8"))
        other = [name for name in ours if ours[name] != theirs.get(name)]
        if other:
            raise SeedError(f"{out}: was made with other {', '.join(other)} (see {note}); give "
                            "these, or another --out")
        return
    write_atomically(note, lambda file: file.write(json.dumps(ours, indent=1).encode()))
