"""The main job on the embedded default: made-up voices and noises, from training to a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_denoise import audio, synthetic
from gan_denoise.checkpoint import finetune_config
from gan_denoise.config import load_config
from gan_denoise.enhance import Enhancer
from gan_denoise.evaluate import evaluate, render
from gan_denoise.export import export
from gan_denoise.mixdown import write_pairs
from gan_denoise.pairs import match_folders
from gan_denoise.report import spectrogram_figure
from gan_denoise.run import train

SPEECH_MINUTES = 10.0
TEST_SNRS = (0.0, 5.0, 10.0)  # dB
TEST_CLIPS = 24
FINETUNE = ("training.steps=200", "training.learning_rate=5.0e-4", "training.warmup_steps=10")


def run(out: Path, results: Any, log: Any) -> None:
    """Synthesise, pretrain, fine-tune, evaluate, denoise, report; resumes what is there.

    Args:
        out: Folder for everything.
        results: Rich console for the table and the paths.
        log: Rich console for progress.
    """
    data = out / "data"
    if not (data / "test" / "manifest.json").is_file():
        log.print("making voices and noises", highlight=False)
        synthetic.write_corpus(data, minutes=SPEECH_MINUTES)
        write_pairs([data / "speech/test"], [data / "noise/test"], data / "test", 16000, TEST_SNRS,
                    TEST_CLIPS, cache=data / "cache")
    folders = [
        f"data.{key}={data / folder}" for key, folder in (
            ("speech", "speech/train"), ("noise", "noise/train"),
            ("valid_speech", "speech/valid"), ("valid_noise", "noise/valid"), ("cache", "cache"),
        )
    ]
    runs, models = out / "runs", out / "models"
    log.print("pretraining the autoencoder", highlight=False)
    train(load_config("demo", folders), runs / "pretrained", console=log)
    log.print("fine-tuning against the discriminator", highlight=False)
    config = finetune_config("demo", [*folders, *FINETUNE], runs / "pretrained")
    game = train(config, runs / "fine-tuned", "finetune", runs / "pretrained", console=log).best
    for name in ("pretrained", "fine-tuned"):
        export(runs / name, models / name)
    log.print("measuring on speakers and noises that training has not seen", highlight=False)
    enhancers = {name: Enhancer.load(models / name) for name in ("pretrained", "fine-tuned")}
    pairs = match_folders(data / "test/noisy", data / "test/clean")
    evaluation = evaluate(pairs, enhancers, out=out / "evaluation")
    denoised = out / "denoised"
    enhancers["fine-tuned"].enhance_folder([data / "test/noisy"], denoised)
    chosen = pairs[0]
    picture = spectrogram_figure(
        {
            "noisy": audio.read_mono(chosen.noisy, 16000),
            "denoised": audio.read_mono(denoised / chosen.noisy.relative_to(data / "test/noisy"),
                                        16000),
            "clean": audio.read_mono(chosen.clean, 16000),
        },
        16000, out / "spectrograms.png", enhancers["fine-tuned"].mel,
    )
    render(evaluation, results, brief=True)
    results.print(
        f"adversary: D(real) {game['discriminator/real']:.2f}, D(fake) "
        f"{game['discriminator/fake']:.2f}, {game['adversarial_share']:.1%} of the generator's "
        f"gradient norm\ndenoised files: {denoised}\npicture: {picture}\nscores: "
        f"{out / 'evaluation'}\nTensorBoard: tensorboard --logdir {runs}",
        highlight=False, soft_wrap=True,
    )
