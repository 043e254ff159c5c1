"""A model with its options as values that go to another process, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_denoise.config.registry import import_plugins
from gan_denoise.core.memory import keep_freed_memory
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.options import DenoiseOptions


def setup_of(enhancer: Enhancer, threads: int) -> dict[str, Any]:
    """Return JSON values that `load_setup` makes the same enhancer of.

    Args:
        enhancer: The model with its options.
        threads: Number of threads of the process that loads it.
    """
    return {"model": str(enhancer.model.folder.resolve()),
            "inversion": enhancer.inversion.model_dump_json(),
            "options": enhancer.options.model_dump(), "threads": threads,
            "chunk_seconds": enhancer.chunk_seconds, "plugins": enhancer.config.plugins}


def load_setup(setup: Mapping[str, Any], folder: Path | None = None) -> Enhancer:
    """Load the model as the other process has it.

    Args:
        setup: What `setup_of` returned.
        folder: A copy of the model's folder; None: the folder itself.

    Raises:
        ModelError: When it cannot be loaded.
    """
    keep_freed_memory()
    import_plugins(setup["plugins"])  # the other process has them
    enhancer = Enhancer.load(folder or setup["model"], setup["threads"], setup["chunk_seconds"])
    return enhancer.with_inversion(**json.loads(setup["inversion"])).with_options(
        DenoiseOptions(**setup["options"]))
