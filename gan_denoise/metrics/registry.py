"""The table of all metrics: name, unit, definition, and the package that it needs."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

from gan_denoise.core.errors import GanDenoiseError


class Refused(GanDenoiseError):
    """A metric cannot score this clip."""


class MissingMetric(GanDenoiseError, ImportError):
    """The package of a metric is not installed."""


class Metric(NamedTuple):
    """A metric, as results show it.

    Attributes:
        label: Short name for tables.
        unit: `dB`, `MOS-LQO` or `0..1`; empty for a mean squared error.
        higher_is_better: Whether a higher score is better.
        definition: Source and variant.
        package: Package outside of the core dependencies that computes it; None where none does.
    """

    label: str
    unit: str
    higher_is_better: bool
    definition: str
    package: str | None = None


_MEL = "mel01 in [0, 1] of the generator"
_WAVE = "mel01 in [0, 1] of the waveform, analysed again"
METRICS: dict[str, Metric] = {
    "pesq_wb": Metric("PESQ wb", "MOS-LQO", True, "ITU-T P.862.2 at 16 kHz", "pesq"),
    "pesq_nb": Metric("PESQ nb", "MOS-LQO", True, "ITU-T P.862.1 at 8 kHz", "pesq"),
    "stoi": Metric("STOI", "0..1", True, "Taal et al. 2011, at 10 kHz", "pystoi"),
    "estoi": Metric("ESTOI", "0..1", True, "Jensen & Taal 2016, at 10 kHz", "pystoi"),
    "si_sdr": Metric("SI-SDR", "dB", True, "Le Roux et al. 2019, zero mean, whole clip"),
    "snr": Metric("SNR", "dB", True, "energy of clean over energy of the error, whole clip"),
    "lsd": Metric("LSD", "dB", False, "log-spectral distance, 32 ms Hann, floor -60 dB"),
    "psnr_mel": Metric("PSNR mel", "dB", True, f"peak 1, {_MEL}"),
    "mse_mel": Metric("MSE mel", "", False, _MEL),
    "snr_mel": Metric("SNR mel", "dB", True, f"energies of {_MEL}"),
    "psnr_mel_wave": Metric("PSNR wave", "dB", True, f"peak 1, {_WAVE}"),
    "mse_mel_wave": Metric("MSE wave", "", False, _WAVE),
}


def available() -> dict[str, bool]:
    """Return `{package: importable}` of the packages that some metrics need."""
    found = {}
    for package in ("pesq", "pystoi"):
        try:
            require(package)
            found[package] = True
        except MissingMetric:
            found[package] = False
    return found


def install_hint(package: str) -> str:
    """Return one line that says which metrics lack a missing package and how to install it."""
    names = ", ".join(name for name, metric in METRICS.items() if metric.package == package)
    builds = " (it is built from source and needs a C compiler)" if package == "pesq" else ""
    return f"no {names}: {package} is not installed{builds}; pip install {package}"


def require(package: str) -> ModuleType:
    """Import the package of a metric.

    Raises:
        MissingMetric: When it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingMetric(install_hint(package)) from error
