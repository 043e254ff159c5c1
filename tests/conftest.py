"""What the tests share: tiny settings, tiny material in memory, folders of made-up recordings.

The functions are imported by name (`from conftest import tiny_config`), also by the processes that
some tests start; the fixtures come by themselves.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from gan_denoise.audio.writer import write
from gan_denoise.config import dump_config, join_settings
from gan_denoise.config.artifacts import BEST, LATEST, SETTINGS
from gan_denoise.config.schema import Config
from gan_denoise.data import synthetic_audio
from gan_denoise.data.datasets import Material
from gan_denoise.data.validation_clips import ValidationClips
from gan_denoise.training.checkpoints import save_state

RATE = 16000  # Hz
CROP = 4096  # samples of a tiny training crop
CLIP = 3200  # samples of a tiny validation clip: too short for PESQ, which takes its time

# Whole jobs from the first to the last command, several processes, clusters, browsers, packaging:
# `make test-system`, with single tests that take long and are marked so. All others: `make test`.
SYSTEM = (
    "cli/test_training.py", "exporting/test_formats.py", "inference/test_processors.py",
    "inference/test_ray_workers.py", "pages/test_serve_browser.py",
    "pages/test_training_tab.py", "recipes/test_demo.py", "recipes/test_source_systems.py",
    "reports/test_report_browser.py", "test_docs_commands.py", "test_extend.py",
    "test_package.py", "test_ray_verbs.py", "test_tutorial.py", "training/test_distributed.py",
    "test_windows.py", "training/test_ray_training.py",
    "training/test_starts.py",
)
LONG = (  # files that take longest: they go first, so that no core is idle at the end
    "test_distributed.py", "test_docs_commands.py", "test_training_tab.py", "test_loop.py",
    "test_starts.py", "test_source_systems.py", "test_study.py", "test_update_step.py",
    "test_metric_teachers.py", "test_settings_effect.py", "test_formats.py", "test_folder.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).as_posix() in SYSTEM:
            item.add_marker("system")
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONG))


# ---- Without the extra `train`, as where TensorFlow has no release yet, its tests are skipped ----
ABSENT = [name for name in ("tensorflow", "keras", "h5py", "librosa", "sklearn", "onnx",
                            "tensorboard", "matplotlib", "PIL")
          if importlib.util.find_spec(name) is None]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    for name in ABSENT:
        if report.failed and f"No module named '{name}" in str(report.longrepr):
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 0, f"Skipped: {name} is not installed")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    report = yield
    if report.failed and call.excinfo.errisinstance(ModuleNotFoundError):
        missing = (call.excinfo.value.name or "").split(".")[0]
        if missing in ABSENT:
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"Skipped: {missing} is not installed")
    return report


def pytest_configure(config: pytest.Config) -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["GAN_DENOISE_CACHE"] = tempfile.mkdtemp(prefix="gan-denoise-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ["GAN_DENOISE_CACHE"], ignore_errors=True)


# ---- The command line, for tests/cli -------------------------------------------------------------
@pytest.fixture
def command(monkeypatch, capfd):
    """Run the command line in this process; return its exit code, stdout and stderr."""
    from command_line import run_main

    return partial(run_main, monkeypatch, capfd)


@pytest.fixture
def refusal(monkeypatch, capfd):
    """Run the command line in this process, which refuses; return the one line why."""
    from command_line import refused

    return partial(refused, monkeypatch, capfd)


# ---- Tiny settings and material ----------------------------------------------------------------
def tiny_config(**sections: dict[str, Any]) -> Config:
    """Return settings of tiny networks; a section given here is laid over the tiny one."""
    kind = sections.get("generator", {}).get("name", "unet")
    patch = sections.get("discriminator", {}).get("kind", "patch") == "patch"
    tiny: dict[str, dict[str, Any]] = {
        "mel": {"n_fft": 256, "win_length": 256, "hop_length": 64, "n_mels": 16},
        "generator": {"name": kind, "channels": [4, 6], "level_frames": 9} | (
            {"width": 8, "blocks": 2, "dilations": [1, 2]} if kind == "tcn_autoencoder" else {}),
        "discriminator": {"channels": [4, 6]} if patch else {"kind": "metric"},
        "losses": {"discriminator_warmup": 2, "adversarial_ramp": 2},
        "training": {"batch_size": 2, "crop_seconds": CROP / RATE, "warmup_steps": 2,
                     "validate_every": 5, "checkpoint_every": 3, "log_every": 2,
                     "data_workers": 1},
    }
    return join_settings([tiny, sections])


class TinySource:
    """Gated tones in white noise, a pure function of the step.

    Args:
        samples: Length of a crop.
        bad: Steps whose noisy batch holds a NaN.
        delay: Seconds that a batch takes.
    """

    def __init__(self, samples: int = CROP, bad: Iterable[int] = (), delay: float = 0.0):
        self.samples, self.bad, self.delay = samples, frozenset(bad), delay

    def batch(
        self, step: int, batch_size: int, items: Sequence[int] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(self.delay)
        rng = np.random.default_rng(step)
        seconds = np.arange(self.samples) / RATE
        hertz, phase = rng.uniform(200, 2000, (batch_size, 1)), rng.uniform(0, 6, (batch_size, 1))
        gate = np.sin(2 * np.pi * 8 * seconds + phase) > 0
        clean = 0.3 * np.sin(2 * np.pi * hertz * seconds) * gate
        clean += 0.005 * rng.standard_normal(clean.shape)  # a room: never digital silence
        noisy = clean + 0.05 * rng.standard_normal(clean.shape)
        if step in self.bad:
            noisy[0, 5] = np.nan
        chosen = slice(None) if items is None else list(items)
        return noisy[chosen].astype(np.float32), clean[chosen].astype(np.float32)


def tiny_material(
    bad: Iterable[int] = (), digest: str = "tiny", delay: float = 0.0
) -> Material:
    """Return material in memory, for `tiny_config`."""
    noisy, clean = TinySource(CLIP).batch(10**6, 2)
    return Material(TinySource(bad=bad, delay=delay), ValidationClips(noisy, clean), digest,
                    "tones in noise")


@pytest.fixture(scope="module")
def eager() -> Iterator[None]:
    """Run steps without tracing their graphs first, which takes longer than twenty tiny steps do.

    For tests about what is around the steps; `training/test_trainer.py` is about the graphs.
    """
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@contextlib.contextmanager
def logged() -> Iterator[list[str]]:
    """Collect the lines that the package logs."""
    lines: list[str] = []
    logger, handler = logging.getLogger("gan_denoise"), logging.Handler(logging.INFO)
    handler.emit = lambda record: lines.append(record.getMessage())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


def shake(network: Any, seed: int = 0) -> None:
    """Move every weight of a network away from its initial value, statistics included."""
    rng = np.random.default_rng(seed)
    for variable in network.weights:
        if "variance" in variable.name or "gamma" in variable.name:
            value = rng.uniform(0.5, 1.5, variable.shape)
        else:
            value = np.asarray(variable) + rng.normal(0, 0.2, variable.shape)
        variable.assign(value.astype(np.float32))


def tiny_run(folder: Path, config: Config, kind: str = "finetune") -> Any:
    """Write the folder of a run that has a best state, without training; return its trainer."""
    from gan_denoise.training.trainer import Trainer

    trainer = Trainer(config, tiny_material(), kind)
    shake(trainer.generator)
    shake(trainer.ema, seed=1)
    if trainer.discriminator is not None:
        shake(trainer.discriminator, seed=2)
    trainer.progress.step, trainer.progress.best = 7, 3.0
    trainer.progress.history = [{"step": 7, "si_sdr": 3.0}]
    folder.mkdir(parents=True)
    (folder / SETTINGS).write_text(dump_config(config), encoding="utf-8")
    for name in (LATEST, BEST):
        save_state(folder / name, trainer.variables(), trainer.progress)
    return trainer


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of a tiny network with arbitrary weights, and the run that it came from."""
    from gan_denoise.exporting.exporter import export

    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config(generator={"name": "tcn_autoencoder", "gain_floor_db": 20.0})
    tiny_run(folder / "run", config)
    export(folder / "run", folder / "model")
    return folder / "model"


def require_encoder(suffix: str) -> None:
    """Skip a test of files of a suffix that this build of FFmpeg has no encoder for."""
    from gan_denoise.audio.ffmpeg_encoders import encoder_of

    if suffix in (".amr", ".3gp") and encoder_of("amr_nb") is None:
        pytest.skip("this build of FFmpeg writes no AMR")


def kill(trainer: Any) -> None:
    """Force a generator's last layer into saturation, so far that no step leads out of it."""
    for network in (trainer.generator, trainer.ema):
        last = [layer for layer in network.layers if hasattr(layer, "kernel")][-1]
        last.bias.assign(np.full(last.bias.shape, -1e6, np.float32))


@contextlib.contextmanager
def stillborn(count: int) -> Iterator[None]:
    """Let the generators of the first so many starts be dead, and be looked at for six steps."""
    from gan_denoise.training import monitor
    from gan_denoise.training.trainer import Trainer

    build, starts = Trainer.__init__, iter(range(10**6))

    def init(trainer: Any, *arguments: Any, **options: Any) -> None:
        build(trainer, *arguments, **options)
        if next(starts) < count:
            kill(trainer)

    with (mock.patch.object(Trainer, "__init__", init), mock.patch.object(monitor, "STEPS", 6)):
        yield


# ---- Recordings --------------------------------------------------------------------------------
@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`speech/SPEAKER/TAKE.wav`, `noise/KIND/0.wav`, and pairs in `noisy/` and `clean/`."""
    root = tmp_path_factory.mktemp("folders")
    for kind in ("white", "hum", "fan"):
        write(root / "noise" / kind / "0.wav", synthetic_audio.noise(kind, 1.5, seed=0), RATE)
    for speaker in range(4):
        for take in range(2):
            name = Path(f"speaker{speaker}") / f"{take}.wav"
            clean = 0.5 * synthetic_audio.voice(speaker, 1.2, seed=take)
            hiss = 0.1 * synthetic_audio.noise("white", 1.2, seed=10 * speaker + take)
            write(root / "speech" / name, clean, RATE)
            write(root / "clean" / name, clean, RATE)
            write(root / "noisy" / name, clean + hiss, RATE)
    return root
