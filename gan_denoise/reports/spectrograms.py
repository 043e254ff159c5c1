"""Pictures for people: log-mel spectrograms as PNG files and as images for TensorBoard."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.dsp.mel import Mel

RANGE_DB = 80.0  # below the loudest band of all signals: what a picture shows
WIDTH, PANEL_HEIGHT, HEAD_HEIGHT = 1000, 190, 60  # pixels
TICKS = (250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz
TICK_GAP = 0.07  # of the axis, between two of them
GRID = 2  # pixels between the mels of a grid
COLOURS = 256  # of the palette that keeps a PNG small

# Dark to bright through violet, red and orange, of evenly rising luminance: close to magma.
_ANCHORS = np.array(
    [(0, 0, 4), (28, 16, 68), (79, 18, 123), (129, 37, 129), (181, 54, 122), (229, 80, 100),
     (251, 135, 97), (254, 194, 135), (252, 253, 191)]
)  # fmt: skip


def spectrogram_figure(
    signals: Mapping[str, np.ndarray], sample_rate: int, path: str | Path, mel: Mel
) -> Path:
    """Draw log-mel spectrograms under one another, on one scale of colours, as a PNG.

    Args:
        signals: `{title: waveform [samples]}`, for instance noisy, denoised and clean.
        sample_rate: Of the waveforms, in Hz.
        path: The PNG to write; missing folders are made, the file appears whole or not at all.
        mel: The transform to show; waveforms of another rate are resampled to its own.

    Returns:
        The path.

    Raises:
        ValueError: No signals, or one that is not `[samples]`.
        ModuleNotFoundError: Matplotlib is not installed (it comes with the `train` extra).
    """
    if not signals or any(np.ndim(signal) != 1 or not len(signal) for signal in signals.values()):
        raise ValueError("expected at least one signal, each of shape [samples]")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = {title: _decibel(signal, sample_rate, mel) for title, signal in signals.items()}
    top = max(float(image.max()) for image in images.values())
    height = HEAD_HEIGHT + PANEL_HEIGHT * len(images)
    # The object interface: pyplot would keep global state and choose a window system.
    figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(images), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    ticks = mel_ticks(mel)
    for panel, (title, image), signal in zip(panels, images.items(), signals.values(), strict=True):
        drawn = panel.imshow(
            image.T, origin="lower", aspect="auto", interpolation="nearest", cmap="magma",
            vmin=top - RANGE_DB, vmax=top,
            extent=(0, len(signal) / sample_rate, -0.5, image.shape[1] - 0.5),
        )
        panel.set_title(title, loc="left", fontsize=11, pad=4)
        panel.set_yticks(*ticks)
        panel.tick_params(labelsize=8)
    figure.supylabel("frequency (Hz)", fontsize=9)
    panels[-1].set_xlabel("time (s)", fontsize=9)
    bar = figure.colorbar(drawn, ax=list(panels), pad=0.012, aspect=15 * len(images), fraction=0.03)
    bar.set_label("dB", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    canvas.draw()
    return _write_png(np.asarray(canvas.buffer_rgba())[..., :3], Path(path))


def mel_ticks(mel: Mel) -> tuple[list[float], list[str]]:
    """Return where round frequencies lie on an axis of mel bands, and how to write them.

    From the highest down, as long as they do not crowd: an STFT's own bins leave the low ones out.
    """
    places: dict[str, float] = {}
    for hertz in reversed(TICKS):
        place = _band_of(hertz, mel)
        if places and min(places.values()) - place < TICK_GAP * mel.config.n_mels:
            break
        if hertz < mel.sample_rate / 2:
            places[_hertz(hertz)] = place
    return list(places.values()), list(places)


def mel_image(mel01: np.ndarray) -> np.ndarray:
    """Return a mel as a picture: time to the right, low frequencies at the bottom.

    Args:
        mel01: `[frames, n_mels]` in [0, 1]; values beyond are shown as its ends.

    Returns:
        uint8 `[n_mels, frames, 3]`.
    """
    level = np.clip(np.asarray(mel01, np.float32), 0, 1).T[::-1] * 255  # [n_mels, frames]
    return _palette()[np.rint(level).astype(np.uint8)]


def mel_picture(rows: Sequence[Sequence[np.ndarray]], path: str | Path) -> Path:
    """Write mels as a PNG of a grid, for instance clips to the right, noisy over estimate.

    Args:
        rows: mel01 `[frames, n_mels]` of equal shape, as many in each row.
        path: The PNG to write; missing folders are made, the file appears whole or not at all.
    """
    edge = ((GRID, 0), (GRID, 0), (0, 0))
    tiles = [[np.pad(mel_image(mel), edge, constant_values=255) for mel in row] for row in rows]
    lines = [np.concatenate(row, axis=1) for row in tiles]
    return _write_png(np.concatenate(lines), Path(path))


def _palette() -> np.ndarray:
    places = np.linspace(0, 255, len(_ANCHORS))
    channels = [np.interp(np.arange(256), places, channel) for channel in _ANCHORS.T]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)  # [256, 3]


def _decibel(signal: np.ndarray, sample_rate: int, mel: Mel) -> np.ndarray:
    """Return the log-mel in dB, `[frames, n_mels]`."""
    at_rate = audio.resample(signal, sample_rate, mel.sample_rate)
    return 20 * np.log10(np.maximum(mel.linear(mel.stft(at_rate)), mel.config.floor))


def _band_of(hertz: float, mel: Mel) -> float:
    """Return where a frequency lies on the axis of bands."""
    bins = np.arange(mel.filterbank.shape[1]) * mel.sample_rate / mel.config.n_fft
    centres = mel.filterbank @ bins / np.maximum(mel.filterbank.sum(axis=1), 1e-12)  # [n_mels]
    return float(np.interp(hertz, centres, np.arange(len(centres))))


def _hertz(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _write_png(pixels: np.ndarray, path: Path) -> Path:
    from PIL import Image

    stream = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(COLOURS, dither=0)
    image.save(stream, format="PNG", optimize=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f".{secrets.token_hex(8)}.part"
    try:
        part.write_bytes(stream.getvalue())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
