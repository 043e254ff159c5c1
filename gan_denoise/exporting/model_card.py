"""The card of a model, for people and for programs."""

from __future__ import annotations

import datetime
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise import __version__
from gan_denoise.config.artifacts import CARD, CARD_TEXT
from gan_denoise.config.schema import Config
from gan_denoise.models.complexity import macs_per_frame
from gan_denoise.training.checkpoints import RunState
from gan_denoise.training.monitor import beats_trivial

if TYPE_CHECKING:
    import keras


def describe_model(
    name: str, config: Config, progress: RunState, generator: keras.Model,
    geometry: Mapping[str, int], parity: Mapping[str, float],
) -> dict[str, Any]:
    """Return the card of a model.

    Args:
        name: The model's name.
        config: Settings of the run.
        progress: State of the run at the exported step.
        generator: Keras network.
        geometry: `receptive_field` and `time_stride` in frames.
        parity: Largest difference from Keras in mel01, by an entry's name.

    Returns:
        Entries in the order in which they are shown, fit for JSON.
    """
    import keras
    import tensorflow as tf

    seconds = progress.step * config.training.batch_size * config.training.crop_seconds
    frame_rate = config.audio.sample_rate / config.mel.hop_length
    if config.generator.frames:  # windows overlap: a frame is computed in several
        frame_rate *= config.generator.frames / geometry["time_stride"]
    return {
        "name": name,
        "kind": progress.kind,
        "steps": progress.step,
        "training_minutes": round(progress.seconds / 60, 1),
        "audio_hours_trained": round(seconds / 3600, 2),
        "parameters": generator.count_params(),
        "mega_macs_per_second": round(macs_per_frame(generator) * frame_rate / 1e6, 1),
        "sample_rate": config.audio.sample_rate,
        **geometry,
        "look_ahead_ms": round(look_ahead(config, geometry["receptive_field"])),
        "validation": progress.history[-1],
        **_warnings(config, progress),
        **parity,
        "versions": {"gan_denoise": __version__, "keras": keras.__version__,
                     "tensorflow": tf.__version__, "python": platform.python_version()},
        "date": datetime.date.today().isoformat(),
    }


def write_card(folder: Path, card: Mapping[str, object]) -> None:
    """Write a card into a model folder, as JSON and as Markdown.

    Raises:
        ValueError: When it holds a NaN or an infinity, which JSON does not have.
    """
    (folder / CARD).write_text(json.dumps(card, indent=1, allow_nan=False), encoding="utf-8")
    (folder / CARD_TEXT).write_text(card_text(card), encoding="utf-8")


def look_ahead(config: Config, receptive_field: int) -> float:
    """Return the milliseconds of future that a sample of the output depends on, at most.

    Args:
        config: Settings of the model.
        receptive_field: Frames on each side that a frame's estimate depends on.
    """
    frames = receptive_field + config.inversion.gain.gain_smoothing[0] // 2
    samples = frames * config.mel.hop_length + config.mel.win_length
    return samples / config.audio.sample_rate * 1000


def card_text(card: Mapping[str, object]) -> str:
    """Return a card as Markdown; a nested entry becomes a section."""
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


def _warnings(config: Config, progress: RunState) -> dict[str, str]:
    """Return the entries on what went wrong in a run; none where all was well."""
    warnings: dict[str, str] = {}
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


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
