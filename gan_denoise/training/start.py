"""How a run starts: from its own last checkpoint, from other weights, or from scratch."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import LATEST, SETTINGS
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.checksums import sealed_text
from gan_denoise.core.file_locks import locked_folder
from gan_denoise.data.datasets import Material, load_material
from gan_denoise.models.generators import build_generator
from gan_denoise.training.checkpoints import (
    CheckpointError,
    RunState,
    can_resume,
    load_state,
    read_progress,
)
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.initialization import load_weights
from gan_denoise.training.progress import log_decoding
from gan_denoise.training.replicas import Replicas
from gan_denoise.training.trainer import Trainer

logger = logging.getLogger("gan_denoise.training.loop")


class Start:
    """How a run starts.

    Args:
        config: Settings.
        run_dir: Directory of the run.
        kind: `pretrain` or `finetune`.
        init: Run or model folder whose weights a new run starts from, if any.
        replicas: Devices that train.
    """

    def __init__(
        self, config: Config, run_dir: Path, kind: str, init: Path | None, replicas: Replicas
    ):
        self.config, self.run_dir, self.kind, self.init = config, run_dir, kind, init
        self.replicas = replicas
        self.resuming = replicas.from_chief(self._can_resume)

    def _can_resume(self) -> bool:
        found = can_resume(self.run_dir, self.config, self.kind)
        if not found and self.init is not None:
            settings_of(self.init)  # an error now, not after minutes of decoding
        return found

    def first_trainer(
        self, material: Material | None, until: contextlib.ExitStack
    ) -> Trainer:
        """Return the trainer at its first step, or behind that of the last checkpoint.

        Args:
            material: Training material; None: what the settings name.
            until: Other processes are kept from the run until this ends.

        Raises:
            CheckpointError: When another process trains this run.
        """
        build_generator(self.config)  # an error now, not after minutes of decoding
        self.data = load_material(self.config, log_decoding()) if material is None else material
        if self.replicas.from_chief(lambda: self.data.digest) != self.data.digest:
            raise TrainingError(
                f"worker {self.replicas.rank} has other training material than the chief",
                "give all workers the same recordings")
        self.replicas.from_chief(lambda: until.enter_context(locked_folder(
            self.run_dir, CheckpointError(f"{self.run_dir}: another process trains this run",
                                          "wait for its end, or give another --run folder"))))
        trainer = self.trainer(self.config.training.seed, self.resuming)
        if self.replicas.chief:
            text = sealed_text(dump_config(self.config)).encode()
            write_atomically(self.run_dir / SETTINGS, lambda file: file.write(text))
        for notice in self.data.notices:
            logger.warning("%s", notice)
        logger.info("%s; %s parameters", self.data.summary,
                    f"{trainer.generator.count_params():,}")
        return trainer

    def trainer(self, seed: int, resumed: bool = False) -> Trainer:
        """Return a trainer whose weights are those of the run, of `init`, or drawn."""
        keras.utils.set_random_seed(seed)
        trainer = Trainer(self.config, self.data, self.kind, replicas=self.replicas)
        source = self._load_run if resumed else self._load_init
        trainer.progress = RunState(**self.replicas.from_chief(lambda: source(trainer)))
        self.replicas.share(trainer.variables())
        return trainer

    def _load_init(self, trainer: Trainer) -> dict[str, Any]:
        if self.init is not None:
            both = load_weights(trainer, self.init)
            loaded = "both networks" if both else "the generator; a discriminator starts anew"
            logger.info("weights from %s: %s", self.init, loaded)
        return asdict(trainer.progress)

    def _load_run(self, trainer: Trainer) -> dict[str, Any]:
        stored = read_progress(self.run_dir / LATEST)
        if stored.data_digest != trainer.progress.data_digest:
            raise CheckpointError(
                f"{self.run_dir}: the training material is not the one that this run was started "
                "with", "give the same recordings, or another --run folder",
            )
        found = load_state(self.run_dir / LATEST, trainer.variables())
        logger.info(
            "resumed %s at step %d: networks, optimizer moments, EMA, schedule and history of %d "
            "validations restored", self.run_dir, found.step, len(found.history),
        )
        return asdict(found)
