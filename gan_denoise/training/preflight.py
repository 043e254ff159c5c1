"""Whether this machine can train with given settings, said before anything is read or written."""

from __future__ import annotations

from gan_denoise import metrics
from gan_denoise.config.schema import Config
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.metrics.perceptual import PESQ_RATES
from gan_denoise.training.trackers import check_tracker


class ReadinessError(GanDenoiseError):
    """Training cannot begin; names the setting and the way out."""


def check_readiness(config: Config, kind: str = "pretrain") -> None:
    """See to it that training can begin, as far as the settings alone tell.

    Args:
        config: Settings.
        kind: `pretrain` or `finetune`.

    Raises:
        ReadinessError: When nothing says when to stop, or PESQ is asked for and cannot be had.
        TrackingError: When the tracker cannot be used.
    """
    if config.training.steps is None and config.training.minutes is None:
        raise ReadinessError("give training.steps or training.minutes: nothing says when to stop")
    if config.training.select_by == "pesq_wb":
        require_pesq(config, "training.select_by=pesq_wb", "training.select_by=si_sdr")
    if kind == "finetune" and config.discriminator.kind == "metric":
        require_pesq(config, "discriminator.kind=metric", "discriminator.kind=patch")
    check_tracker(config.training.tracker)


def require_pesq(config: Config, setting: str, instead: str) -> None:
    """Raise a ReadinessError where a setting asks for wide-band PESQ that cannot be had."""
    (rate,) = PESQ_RATES["wb"]
    if config.audio.sample_rate != rate:
        raise ReadinessError(f"{setting}: wide-band PESQ is of {rate} Hz, this run is of "
                             f"{config.audio.sample_rate} Hz; take {instead}")
    if not metrics.available()["pesq"]:
        raise ReadinessError(f"{setting}: {metrics.install_hint('pesq')}")
