"""The card of a model, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gan_denoise.config.schema import Config
from gan_denoise.training.checkpoints import (
    Progress,
)
from gan_denoise.training.monitor import beats_trivial


def _warnings(config: Config, progress: Progress) -> dict[str, Any]:
    """Return what the card says of a run that was in trouble."""
    warnings: dict[str, Any] = {}
    if progress.restarts:
        warnings["dead_starts"] = "; ".join(
            f"step {row['step']}: {row['reason']}; began again with seed {row['seed']}"
            for row in progress.restarts
        )
    metric = config.training.select_by
    if beats_trivial(progress.history[-1], metric) is False:
        warnings["warning"] = (f"{metric} on validation is no better than that of the noisy input "
                               "or of a constant gain")
    return warnings


def _look_ahead(config: Config, field: int) -> float:
    """Milliseconds of future that a sample of the output depends on, at most."""
    frames = field + config.inversion.gain_smoothing[0] // 2
    samples = frames * config.mel.hop_length + config.mel.win_length
    return samples / config.audio.sample_rate * 1000


def _card_text(card: Mapping[str, Any]) -> str:
    """Return the model card as Markdown; a nested entry becomes a section."""
    lines = [f"# {card['name']}", ""]
    nested = {}
    for key, value in card.items():
        if isinstance(value, Mapping):
            nested[key] = value
        elif key != "name":
            lines.append(f"- {key.replace('_', ' ')}: {value}")
    for key, section in nested.items():
        lines += ["", f"## {key.replace('_', ' ')}", ""]
        lines += [f"- {name}: {_short(value)}" for name, value in section.items()]
    return "\n".join(lines) + "\n"


def _short(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value
