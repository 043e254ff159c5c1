"""The demo: made-up voices and noises, training, evaluation, denoised files and a picture."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_denoise import audio
from gan_denoise.config import load_config
from gan_denoise.config.saved import finetune_config
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.data import synthetic_audio
from gan_denoise.data.mixture_writer import write_pairs
from gan_denoise.data.pairs import match_folders
from gan_denoise.evaluation.evaluate_waveforms import evaluate
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
        scores: Folder of the evaluation.
        denoised: Folder of the denoised test recordings.
        picture: Spectrograms of one of them: noisy, denoised, clean.
    """

    evaluation: Evaluation
    validation: Mapping[str, float]
    runs: Path
    scores: Path
    denoised: Path
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
    """Synthesise, pretrain, fine-tune, evaluate, denoise; resumes what is there.

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
        write_pairs([data / "speech/test"], [data / "noise/test"], data / "test", 16000, TEST_SNRS,
                    TEST_CLIPS, cache=data / "cache")
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
    evaluation = evaluate(pairs, enhancers, out=out / "evaluation")
    denoised = out / "denoised"
    enhance_folder(enhancers[TUNED], [data / "test/noisy"], denoised)
    chosen = pairs[0]
    picture = spectrogram_figure(
        {
            "noisy": audio.read_mono(chosen.noisy, 16000),
            "denoised": audio.read_mono(denoised / chosen.noisy.relative_to(data / "test/noisy"),
                                        16000),
            "clean": audio.read_mono(chosen.clean, 16000),
        },
        16000, out / "spectrograms.png", enhancers[TUNED].mel,
    )
    return DemoResult(evaluation, tuned.best, runs, out / "evaluation", denoised, picture)


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
