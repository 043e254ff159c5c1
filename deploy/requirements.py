"""Prints what the image installs: the package's dependencies and those of some of its extras.

    python requirements.py pyproject.toml cpu|gpu
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

EXTRAS = ("metrics", "cluster")
TRAIN = {"cpu": "train", "gpu": "train-gpu"}  # different builds of TensorFlow


def requirements(pyproject: Path, variant: str) -> list[str]:
    """Return the requirements of a variant of the image.

    Args:
        pyproject: The package's pyproject.toml.
        variant: `cpu` or `gpu`.

    Raises:
        SystemExit: When there is no such variant.
    """
    if variant not in TRAIN:
        sys.exit(f"VARIANT={variant}: there are {' and '.join(TRAIN)}")
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras[TRAIN[variant]]]
    return [*wanted, *(line for extra in EXTRAS for line in extras[extra])]


if __name__ == "__main__":
    print(*requirements(Path(sys.argv[1]), sys.argv[2]), sep="\n")
