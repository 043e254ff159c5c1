"""How TensorBoard shows runs: charts of its Custom Scalars tab, settings of its HParams tab.

A chart shows all tags that begin with one of its patterns; `_noisy` and `_best_gain` stand beside
each validation metric, so that a curve is seen against what it must beat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gan_denoise.config.loader import flatten
from gan_denoise.config.schema import FREE_ON_RESUME, PATHS, Config
from gan_denoise.training.monitor import GAIN_SUFFIX, NOISY_SUFFIX

if TYPE_CHECKING:
    from tensorboard.plugins.custom_scalar import layout_pb2

METRICS = {"si_sdr": "SI-SDR (dB)", "pesq_wb": "PESQ (WB)", "stoi": "STOI",
           "estoi": "ESTOI", "snr": "SNR (dB)",
           "snr_mel": "SNR of the mel (dB)", "psnr_mel": "PSNR of the mel (dB)",
           "mse_mel": "MSE of the mel"}
# Category -> chart -> patterns of tags (regular expressions, matched from the start of a tag).
CHARTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Validation": {
        f"{words}: model, noisy, best constant gain": tuple(
            f"valid/{metric}{suffix}$" for suffix in ("", NOISY_SUFFIX, GAIN_SUFFIX))
        for metric, words in METRICS.items()
    },
    "Validation, each set": {
        f"{words}: each set of clips, at 15 dB, clean input": (rf"valid/\w+/{metric}$",)
        for metric, words in METRICS.items()
    },
    "Losses": {
        "generator: weighted sum": (r"loss/total$",),
        "generator: each term, not weighted": (r"loss/(?!total$|discriminator$)",),
    },
    "Generator and discriminator": {
        "discriminator on clean speech and on estimates": (r"discriminator/(real|fake|score)$",),
        "loss of the discriminator": (r"loss/discriminator$",),
        "adversary's share of the generator's gradient": (r"valid/adversarial_share$",),
        "gradient norms": (r"gradient_norm/",),
    },
    "Speed": {
        "seconds of audio trained a second": (r"speed/audio_seconds_per_second$",),
        "share of the time spent waiting for data": (r"speed/waiting_for_data$",),
        "learning rates": (r"rate/",),
    },
}


def layout() -> layout_pb2.Layout:
    """Return the charts as a `Layout` message of TensorBoard's custom scalars."""
    from tensorboard.plugins.custom_scalar import layout_pb2

    return layout_pb2.Layout(category=[
        layout_pb2.Category(title=category, chart=[
            layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=patterns))
            for title, patterns in charts.items()
        ])
        for category, charts in CHARTS.items()
    ])


def comparable_settings(config: Config) -> dict[str, bool | int | float | str]:
    """Return the settings by which runs are compared, each as `section.key`.

    Left out is what has no effect on the result of a step: where files lie, when and how wide a run
    runs, studies. A value that is neither a number nor a text is written as text.
    """
    left_out = FREE_ON_RESUME | PATHS | {"format_version"}
    return {key: value if isinstance(value, (bool, int, float, str)) else str(value)
            for key, value in flatten(config).items()
            if key not in left_out and not key.startswith("tune.")}


def final_scores(values: Mapping[str, float]) -> dict[str, float]:
    """Return those of a run's named values that runs are compared by: the model's own scores."""
    return {f"final/{metric}": values[f"valid/{metric}"] for metric in METRICS
            if math.isfinite(values.get(f"valid/{metric}", math.nan))}
