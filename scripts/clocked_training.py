"""Runs a command of `gan-denoise`, and prints at each training step what CPU seconds it has taken.

`cluster_training` starts it in the processes of workers.
"""

from __future__ import annotations

import time
from typing import Any

from gan_denoise.core.native_libraries import load_tensorflow

CLOCK = "clock "  # begins a line, which goes on with the step and the seconds


def train() -> None:
    """Run the command of `sys.argv`."""
    load_tensorflow()
    from gan_denoise.cli import main
    from gan_denoise.training.trainer import Trainer

    train_step = Trainer.train_step

    def clocked(trainer: Trainer, number: int, *arrays: Any) -> dict[str, float]:
        print(f"{CLOCK}{number} {time.process_time()}", flush=True)
        return train_step(trainer, number, *arrays)

    Trainer.train_step = clocked  # type: ignore[method-assign]
    main()


if __name__ == "__main__":
    train()
