"""The systems that this project grew from, trained and scored from their settings.

A system is one or two files under `configs/seeds` and an order of stages; every stage is one that
users have: mix, features, pretrain, fine-tune, export, evaluate. A stage that is done is not done
again, so the same call goes on where it was stopped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gan_denoise.audio import read_mono
from gan_denoise.config import load_config
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.config.schema import Config, DataConfig
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.json_text import parse_json
from gan_denoise.data.feature_folder import FeatureFolder
from gan_denoise.data.feature_writer import write_features
from gan_denoise.data.mixture_writer import MixtureSpec, write_pairs
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
from gan_denoise.exporting.exporter import export
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.reports.spectrograms import mel_picture, spectrogram_figure
from gan_denoise.training.loop import Kind, train
from gan_denoise.training.progress import OnProgress

TEST_SNR = 2.5  # dB, of the made-up spectrograms
TEST_SNRS = (-5.0, -2.5, 0.0, 2.5, 5.0, 7.5, 10.0)
DIGITS_SNR = -8.0
SPEECH_SNRS = (-5.0, 0.0, 5.0, 10.0, 15.0)
STFT_SNRS, NEAR_ZERO_SNRS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0), (0.1, 0.2, 0.3, 0.4, 0.5)
STFT_CLIPS, ROOMS = 600, 60  # clips of 8 seconds: 80 minutes; rooms of either set
TEST_CLIPS, TRAIN_CLIPS = 100, 8000  # that are written as files; of each SNR for TEST_SNRS
NOTE = "study.json"  # says what a folder is made of
SHOWN = 6  # clips of a picture of features
TEST_SECONDS = 3.0  # enough for PESQ and STOI; shorter utterances of a speaker are joined

OnScores = Callable[[str, Evaluation], None]
logger = logging.getLogger(__name__)


class RecipeError(GanDenoiseError):
    """A system cannot be reproduced: what is missing, and the way out."""


@dataclass(frozen=True)
class Recordings:
    """Folders that a system is trained and tested on; none for made-up spectrograms.

    Attributes:
        speech: Speech to train on.
        noise: Noise to train on.
        test_speech: Speech of other speakers, to test on.
        test_noise: Other recordings of noise, to test on.
    """

    speech: Sequence[Path] = ()
    noise: Sequence[Path] = ()
    test_speech: Sequence[Path] = ()
    test_noise: Sequence[Path] = ()


@dataclass(frozen=True)
class Stages:
    """The stages that systems are made of, in the folder of one system.

    Attributes:
        out: The folder.
        recordings: What the system is trained and tested on.
        settings: `section.key=value` laid over the config of every stage.
        progress: See `reproduce`.
        on_scores: See `reproduce`.
        scores: Evaluations so far, by the name of their folder.
    """

    out: Path
    recordings: Recordings
    settings: Sequence[str]
    progress: OnProgress | None = None
    on_scores: OnScores | None = None
    scores: dict[str, Evaluation] = field(default_factory=dict)

    def config(self, name: str | Path, *settings: str) -> Config:
        """Return a shipped config with settings laid over it."""
        return load_config(name, [*settings, *self.settings])

    def mixed(self) -> list[str]:
        """Return the settings of training on speech and noise, mixed on the fly."""
        return [f"data.{key}={json.dumps([str(path) for path in folders])}" for key, folders in
                (("speech", self.recordings.speech), ("noise", self.recordings.noise))]

    def model(
        self, config: Config, name: str, kind: Kind = "pretrain", init: str | None = None
    ) -> Enhancer:
        """Return a trained model, after the training and the export that are missing."""
        run, folder = self.out / "runs" / name, self.out / "models" / name
        if not folder.is_dir():
            start = self.out / "runs" / init if init is not None else None
            train(config, run, kind, start, progress=self.progress)
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
            logger.info("mixing %d clips into %s", count, folder)
            spec = MixtureSpec(rate, snrs, count, TEST_SECONDS if seconds is None else seconds,
                               recipe, seed=1 if test else 0)
            write_pairs(speech, noise, folder, spec, rir_folders=rooms)
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
        """Save an evaluation and hand it on."""
        save(evaluation, self.out / name)
        self.scores[name] = evaluation
        if self.on_scores is not None:
            self.on_scores(name, evaluation)
        logger.info("scores: %s", self.out / name)


def spectrograms(stages: Stages) -> None:
    """A denoising autoencoder on made-up spectrograms with Gaussian noise."""
    config = stages.config("seeds/spectrograms")
    models = {"model": stages.model(config, "autoencoder")}
    for name, snrs in (("scores", (TEST_SNR,) * 5), ("scores-by-snr", TEST_SNRS)):
        examples = synthetic_examples(config, TEST_CLIPS * len(snrs), snrs)
        stages.score_features(examples, models, name)


def audio_mnist(stages: Stages) -> None:
    """Spoken digits in noise at -8 dB; tested on speakers that it has not heard."""
    config = stages.config("seeds/audio-mnist", *stages.mixed())
    models = {"model": stages.model(config, "autoencoder")}
    test = stages.pairs("test", config.audio.sample_rate, (DIGITS_SNR,), TEST_CLIPS)
    stages.score(test, models)


def hybrid(stages: Stages) -> None:
    """Mel and MFCC stacked, through a dense bottleneck; noise on the waveform and on features."""
    base = stages.config("seeds/hybrid")
    rate, seconds = base.audio.sample_rate, base.training.crop_seconds
    train_pairs = stages.pairs("train", rate, SPEECH_SNRS, TRAIN_CLIPS, test=False, seconds=seconds)
    both = {"audio level": [f"data.noisy={train_pairs / 'noisy'}"], "feature level": []}
    for level, noisy in both.items():
        name = level.replace(" ", "-")
        folder = stages.out / "features" / name
        if not (folder / SETTINGS).is_file():
            clean = f"data.clean={train_pairs / 'clean'}"
            write_features(stages.config("seeds/hybrid", clean, *noisy), folder)
        config = stages.config(folder / SETTINGS)
        models = {"model": stages.model(config, name)}
        examples = list(stored_examples(FeatureFolder(folder, config)))
        stages.score_features(examples, models, f"scores-{name}-mel")
        if noisy:
            test = stages.pairs("test", rate, SPEECH_SNRS, TEST_CLIPS)
            stages.score(test, models, f"scores-{name}")


def ae_gan(stages: Stages) -> None:
    """A mel autoencoder, fine-tuned against a patch discriminator, inverted by Griffin-Lim."""
    config = stages.config("seeds/ae-gan", *stages.mixed())
    game = stages.config("seeds/ae-gan-finetune", *stages.mixed())
    alone = stages.model(config, "pretrained")
    tuned = stages.model(game, "fine-tuned", "finetune", "pretrained")
    test = stages.pairs("test", config.audio.sample_rate, SPEECH_SNRS, TEST_CLIPS)
    models = {
        f"{name}, {inversion}": model.with_inversion(inversion)
        for name, model in (("pretrained", alone), ("fine-tuned", tuned))
        for inversion in ("griffinlim", "gain")
    }
    stages.score(test, models | {"default": Enhancer.load()})


def stft(stages: Stages) -> None:
    """A CNN and a U-Net on files of STFT magnitudes, of mixtures in rooms; trained twice.

    The second time validation is trained on too, for the final score.
    """
    base = stages.config("seeds/stft-cnn")
    rate, seconds = base.audio.sample_rate, base.training.crop_seconds
    mixed = {"seconds": seconds, "recipe": base.data}
    rooms, test_rooms = stages.rooms("rooms", rate, 0), stages.rooms("test-rooms", rate, 1)
    material = stages.pairs("train", rate, STFT_SNRS, STFT_CLIPS, test=False, rooms=rooms, **mixed)
    features = stages.out / "features"
    if not features.is_dir():
        sides = [f"data.{side}={material / side}" for side in ("noisy", "clean")]
        write_features(stages.config("seeds/stft-cnn", *sides), features)
    models = {}
    for network in ("cnn", "unet"):
        for merged in (False, True):
            name = f"{network}, merged" if merged else network
            config = stages.config(f"seeds/stft-{network}", f"data.features={features}",
                                  f"data.merge_validation={str(merged).lower()}")
            models[name] = stages.model(config, name.replace(", ", "-"))
    for name, snrs in (("near-zero", NEAR_ZERO_SNRS), ("scores", STFT_SNRS)):
        test = stages.pairs(f"test-{name}", rate, snrs, TEST_CLIPS, rooms=test_rooms, **mixed)
        stages.score(test, models, name)


SYSTEMS: dict[str, Callable[[Stages], None]] = {
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
    settings: Sequence[str] = (),
    *,
    progress: OnProgress | None = None,
    on_scores: OnScores | None = None,
) -> dict[str, Evaluation]:
    """Train and score one of the systems; resumes what is there.

    Args:
        system: A name in `SYSTEMS`.
        out: Folder for everything.
        recordings: What to train and test on.
        settings: `section.key=value` laid over the system's config.
        progress: See `training.loop.train`; called in each training.
        on_scores: Called with each evaluation as soon as it is there, and the name of its folder.

    Returns:
        All evaluations, by the name of their folder in `out`.

    Raises:
        RecipeError: When there is no such system, it lacks recordings, or `out` holds another one.
    """
    if system not in SYSTEMS:
        raise RecipeError(f"there is no system '{system}'", f"there are {', '.join(SYSTEMS)}")
    missing = [name for name, folders in vars(recordings).items() if not folders]
    if missing and system not in WITHOUT_RECORDINGS:
        options = ", ".join(f"--{name.replace('_', '-')} DIR" for name in missing)
        raise RecipeError(f"{system} is made of recordings", f"give {options}")
    lost = [path for folders in vars(recordings).values() for path in folders if not path.exists()]
    if lost:
        raise RecipeError(f"{lost[0]}: is not there", "give a folder of recordings")
    _note_settings(Path(out), system, recordings, settings)
    stages = Stages(Path(out), recordings, settings, progress, on_scores)
    SYSTEMS[system](stages)
    return stages.scores


def _note_settings(out: Path, system: str, recordings: Recordings, settings: Sequence[str]) -> None:
    """Note what a folder is made of, and refuse one that is made of something else.

    A note alone may be replaced: the command that wrote it failed at its first stage.
    """
    folders = {name: [str(path.resolve()) for path in paths]
               for name, paths in vars(recordings).items()}
    ours = {"system": system, **folders, "settings": list(settings)}
    note = out / NOTE
    if note.is_file() and any(path != note for path in out.iterdir()):
        try:
            theirs = dict(parse_json(note.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RecipeError(f"{note}: cannot be read ({error})",
                              "it says what the folder is made of; give another --out") from error
        other = [name for name in ours if ours[name] != theirs.get(name)]
        if other:
            raise RecipeError(f"{out}: was made with other {', '.join(other)} (see {note})",
                              "give these, or another --out")
        return
    write_atomically(note, lambda file: file.write(json.dumps(ours, indent=1).encode()))
