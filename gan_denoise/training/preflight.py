"""Checks of settings before training: when to stop, PESQ, the tracker."""

from __future__ import annotations

from gan_denoise import metrics
from gan_denoise.config.kinds import MetricDiscriminator
from gan_denoise.config.schema import Config
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.metrics.perceptual import PESQ_RATES
from gan_denoise.training.trackers import check_tracker


class ReadinessError(GanDenoiseError):
    """Training cannot begin: the setting, and the way out."""


def check_readiness(config: Config, kind: str = "pretrain") -> None:
    """Check that training can begin, as far as the settings alone tell.

    Nothing is read or written.

    Args:
        config: Settings.
        kind: `pretrain` or `finetune`.

    Raises:
        ReadinessError: When nothing says when to stop, or PESQ is asked for and cannot be had.
        TrackingError: When the tracker cannot be used.
    """
    if config.training.steps is None and config.training.minutes is None:
        raise ReadinessError("nothing says when to stop", "give training.steps or training.minutes")
    if config.training.select_by == "pesq_wb":
        require_pesq(config, "training.select_by=pesq_wb", "training.select_by=si_sdr")
    chosen_by = config.training.select_by
    if chosen_by in ("stoi", "estoi") and not metrics.available()["pystoi"]:
        raise ReadinessError(f"training.select_by={chosen_by}: {metrics.install_hint('pystoi')}")
    if kind == "finetune" and isinstance(config.discriminator, MetricDiscriminator):
        require_pesq(config, "discriminator.kind=metric", "discriminator.kind=patch")
    check_tracker(config.training.tracker)


def require_pesq(config: Config, setting: str, instead: str) -> None:
    """Check that wide-band PESQ can be computed.

    Args:
        config: Settings.
        setting: The one that asks for it, for the message.
        instead: A setting that does without it.

    Raises:
        ReadinessError: When the sample rate is another one, or the package is missing.
    """
    (rate,) = PESQ_RATES["wb"]
    if config.audio.sample_rate != rate:
        raise ReadinessError(f"{setting}: wide-band PESQ is defined at {rate} Hz, and this run is "
                             f"at {config.audio.sample_rate} Hz", f"take {instead}")
    if not metrics.available()["pesq"]:
        raise ReadinessError(f"{setting}: {metrics.install_hint('pesq')}")
