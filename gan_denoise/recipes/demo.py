"""The demo: made-up voices and noises, training, evaluation, denoised files, a real recording.

The recording comes with the package (`gan_denoise.examples`); the model that was just trained and
the shipped one clean it side by side.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_denoise import audio, examples
from gan_denoise.config import load_config
from gan_denoise.config.saved import finetune_config
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.data import synthetic_audio
from gan_denoise.data.mixture_writer import MixtureSpec, write_pairs
from gan_denoise.data.pairs import Pair, match_folders
from gan_denoise.evaluation.evaluate_waveforms import evaluate
from gan_denoise.evaluation.report.page import PAGE, write_report
from gan_denoise.evaluation.results import Evaluation
from gan_denoise.exporting.exporter import export
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.folder import enhance_folder
from gan_denoise.metrics import METRICS, install_hint
from gan_denoise.metrics.baselines import NOISY
from gan_denoise.reports.spectrograms import spectrogram_figure
from gan_denoise.training.loop import train
from gan_denoise.training.progress import OnProgress

SPEECH_MINUTES = 10.0
TEST_SNRS = (0.0, 5.0, 10.0)  # dB
TEST_CLIPS = 24
FINETUNE = ("training.steps=200", "training.learning_rate=5.0e-4", "training.warmup_steps=10")
TUNED = "fine-tuned"
RECORDING = Pair("speech", examples.noisy_speech(), examples.clean_speech(), snr_db=5.0)
JUDGED_BY = ("si_sdr", "pesq_wb", "stoi")  # on each of them the demo's model must beat noisy

logger = logging.getLogger(__name__)


class DemoError(GanDenoiseError):
    """The demo's model is no better than no model."""

    exit_code = 1  # all was done, and it has failed


@dataclass(frozen=True)
class DemoResult:
    """What the demo has made and measured.

    Attributes:
        evaluation: Scores on speakers and noises that training has not seen.
        validation: Validation values of the fine-tuned model, with those of its discriminator.
        runs: Folder of the training runs.
        scores: Folder of the evaluation, with its page `report.html`.
        denoised: Folder of the denoised test recordings.
        recording: Scores of the fine-tuned and the shipped model on the real recording.
        recordings: Folder of the real recording: noisy, clean, and as each model cleans it.
        picture: Its spectrograms: noisy, the demo's model, the shipped model, clean.
    """

    evaluation: Evaluation
    validation: Mapping[str, float]
    runs: Path
    scores: Path
    denoised: Path
    recording: Evaluation
    recordings: Path
    picture: Path

    def require_improvement(self) -> None:
        """Check that the fine-tuned model beats the noisy recordings on each metric.

        Raises:
            DemoError: When it does not.
        """
        improved, _ = verdict(self.evaluation)
        if not improved:
            raise DemoError(
                "the demo's model does not beat the noisy recordings on each metric: this training "
                "has failed. gan-denoise demo training.seed=1 --out FOLDER tries another seed",
                "please report it, with the lines above",
            )


def run(
    out: str | Path, settings: Sequence[str] = (), *, progress: OnProgress | None = None
) -> DemoResult:
    """Synthesise, pretrain, fine-tune, evaluate, denoise, draw; resumes what is there.

    Args:
        out: Folder for everything.
        settings: `section.key=value` laid over both parts of training.
        progress: See `training.loop.train`; called in both parts.
    """
    out = Path(out)
    data = out / "data"
    if not (data / "test" / "manifest.json").is_file():
        logger.info("making voices and noises")
        synthetic_audio.write_corpus(data, minutes=SPEECH_MINUTES)
        write_pairs([data / "speech/test"], [data / "noise/test"], data / "test",
                    MixtureSpec(16000, TEST_SNRS, TEST_CLIPS), cache=data / "cache")
    folders = [
        f"data.{key}={data / folder}" for key, folder in (
            ("speech", "speech/train"), ("noise", "noise/train"),
            ("valid_speech", "speech/valid"), ("valid_noise", "noise/valid"), ("cache", "cache"),
        )
    ]
    runs, models = out / "runs", out / "models"
    logger.info("pretraining the autoencoder")
    train(load_config("demo", [*folders, *settings]), runs / "pretrained", progress=progress)
    logger.info("fine-tuning against the discriminator")
    config = finetune_config("demo", [*folders, *FINETUNE, *settings], runs / "pretrained")
    tuned = train(config, runs / TUNED, "finetune", runs / "pretrained", progress=progress)
    for name in ("pretrained", TUNED):
        export(runs / name, models / name)
    logger.info("measuring on speakers and noises that training has not seen")
    enhancers = {name: Enhancer.load(models / name) for name in ("pretrained", TUNED)}
    pairs = match_folders(data / "test/noisy", data / "test/clean")
    scores = out / "evaluation"
    evaluation = evaluate(pairs, enhancers, out=scores)
    write_report([scores], scores / PAGE)
    denoised = out / "denoised"
    enhance_folder(enhancers[TUNED], [data / "test/noisy"], denoised)
    logger.info("cleaning a real recording with this model and with the shipped one")
    recording, picture = clean_recording(enhancers[TUNED], out)
    return DemoResult(evaluation, tuned.best, runs, scores, denoised, recording,
                      out / "recording", picture)


def clean_recording(enhancer: Enhancer, out: Path) -> tuple[Evaluation, Path]:
    """Clean the example recording with a model and with the shipped one, score it and draw it.

    Args:
        enhancer: The model; the results call it `fine-tuned`.
        out: Gets `recording/SYSTEM/speech.wav`, the scores beside them, and `spectrograms.png`.

    Returns:
        The scores and the picture.
    """
    shipped, folder = Enhancer.load(), out / "recording"
    evaluation = evaluate([RECORDING], {TUNED: enhancer, shipped.name: shipped}, jobs=1, out=folder)
    write_report([folder], folder / PAGE)
    shown = {
        "noisy: a real voice beside a boat's engine": RECORDING.noisy,
        "the demo's model, which knows made-up voices alone": _cleaned(folder, TUNED),
        f"the shipped model, {shipped.name}": _cleaned(folder, shipped.name),
        "clean": RECORDING.clean,
    }
    signals = {title: audio.read_mono(path, 16000) for title, path in shown.items()}
    return evaluation, spectrogram_figure(signals, 16000, out / "spectrograms.png", shipped.mel)


def _cleaned(folder: Path, system: str) -> Path:
    return folder / system / f"{RECORDING.name}.wav"


def verdict(evaluation: Evaluation) -> tuple[bool, str]:
    """Return whether the fine-tuned model beats noisy on every metric, and a line that says it."""
    won: list[str] = []
    not_won: list[str] = []
    for metric in JUDGED_BY:
        before, after = evaluation.mean(NOISY, metric), evaluation.mean(TUNED, metric)
        if before is None or after is None:  # its package is not installed
            continue
        digits = 3 if metric == "stoi" else 2
        change = f"{METRICS[metric].label} {before:.{digits}f} -> {after:.{digits}f}"
        (won if after > before else not_won).append(change)
    line = "on voices and noises that it has not heard, the fine-tuned model "
    if won:
        line += f"beats the noisy recordings: {', '.join(won)}"
    if not_won:
        line += f"{'; it ' if won else ''}is no better than them: {', '.join(not_won)}"
    for package in ("pesq", "pystoi"):
        if any(METRICS[metric].package == package and evaluation.mean(TUNED, metric) is None
               for metric in JUDGED_BY):
            line += f"; {install_hint(package)}"
    return not not_won, line
