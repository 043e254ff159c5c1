"""Metrics of one clip: functions `(clean, estimate) -> float`; the name says the variant.

Each takes arrays, or signals in files (`Signal`), and computes block by block: a recording of any
length is scored in constant memory. A metric that cannot score a clip raises `Refused` with the
reason and never returns a stand-in number, so only scores are averaged. `pesq` and `pystoi` are
imported on use.
"""

from gan_denoise.metrics.baselines import (
    BEST_GAIN,
    NOISY,
    ORACLE,
    SILENCE,
    best_gain,
    trivial_estimates,
)
from gan_denoise.metrics.blockwise import ErrorSums
from gan_denoise.metrics.mel import mse_mel, psnr_mel, snr_mel
from gan_denoise.metrics.perceptual import estoi, pesq_nb, pesq_wb, stoi
from gan_denoise.metrics.registry import (
    METRICS,
    Metric,
    MissingMetric,
    Refused,
    available,
    install_hint,
)
from gan_denoise.metrics.signal_files import Signal
from gan_denoise.metrics.waveform import lag, lsd, si_sdr, snr

__all__ = [
    "BEST_GAIN", "METRICS", "NOISY", "ORACLE", "SILENCE", "ErrorSums", "Metric", "MissingMetric",
    "Refused", "Signal", "available", "best_gain", "estoi", "install_hint", "lag", "lsd", "mse_mel",
    "pesq_nb", "pesq_wb", "psnr_mel", "si_sdr", "snr", "snr_mel", "stoi", "trivial_estimates",
]  # fmt: skip
