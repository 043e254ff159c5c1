"""Describes the machine that figures are measured on, and the versions of the packages used."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from gan_denoise import __version__


def machine() -> dict[str, str | int | None]:
    """Return the processor, cores, system, and versions of Python and of the packages, by name."""
    packages = ("numpy", "scipy", "onnxruntime", "soundfile", "soxr")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "gan_denoise": __version__,
        **{package: metadata.version(package) for package in packages},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
