"""Pictures of log-mel spectrograms: PNG files with axes, grids of mels, images for TensorBoard.

They need Matplotlib, which comes with the `train` extra.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gan_denoise import audio
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.dsp.mel import Mel

RANGE_DB = 80.0  # the picture shows levels from the loudest band of all signals down to this
WIDTH, PANEL_HEIGHT, HEAD_HEIGHT = 1000, 190, 60  # pixels
TICKS = (250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz
TICK_GAP = 0.07  # least distance of two ticks as a share of the axis
GRID = 2  # pixels between the mels of a grid
COLOURS = "magma"  # Matplotlib's colour map, dark to bright
PALETTE_SIZE = 256  # colours of a PNG


def spectrogram_figure(
    signals: Mapping[str, np.ndarray], sample_rate: int, path: str | Path, mel: Mel
) -> Path:
    """Draw log-mel spectrograms under one another, on one scale of colours, as a PNG.

    Args:
        signals: `{title: waveform [samples]}`, for instance noisy, denoised and clean.
        sample_rate: Rate of the waveforms in Hz.
        path: The PNG to write; missing folders are made, the file appears whole or not at all.
        mel: The transform to show; waveforms of another rate are resampled to its own.

    Returns:
        The path.

    Raises:
        ValueError: When there is no signal, or one is not `[samples]`.
        ModuleNotFoundError: When Matplotlib is not installed.
        OutputError: When the file cannot be written.
    """
    if not signals or any(np.ndim(signal) != 1 or not len(signal) for signal in signals.values()):
        raise ValueError("expected at least one signal, each of shape [samples]")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = {title: log_mel_db(signal, sample_rate, mel) for title, signal in signals.items()}
    top = max(float(image.max()) for image in images.values())
    height = HEAD_HEIGHT + PANEL_HEIGHT * len(images)
    # The object interface: pyplot would keep global state and choose a window system.
    figure = Figure(figsize=(WIDTH / 100, height / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(len(images), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    ticks = mel_ticks(mel)
    for panel, (title, image), signal in zip(panels, images.items(), signals.values(), strict=True):
        drawn = panel.imshow(
            image.T, origin="lower", aspect="auto", interpolation="nearest", cmap=COLOURS,
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


def log_mel_db(signal: np.ndarray, sample_rate: int, mel: Mel) -> np.ndarray:
    """Return the log-mel of a waveform in dB, `[frames, n_mels]`.

    Args:
        signal: `[samples]`; resampled to the transform's rate.
        sample_rate: Rate of the signal in Hz.
        mel: The transform; its floor is the lowest magnitude.
    """
    at_rate = audio.resample(signal, sample_rate, mel.sample_rate)
    return 20 * np.log10(np.maximum(mel.linear(mel.stft(at_rate)), mel.config.floor))


def mel_ticks(mel: Mel) -> tuple[list[float], list[str]]:
    """Return the positions of round frequencies on an axis of mel bands, and their labels.

    They are taken from the highest down, until two would be closer than `TICK_GAP` of the axis.
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
        mel01: `[frames, n_mels]` in [0, 1]; values beyond are clipped.

    Returns:
        uint8 `[n_mels, frames, 3]`.
    """
    from matplotlib import colormaps

    level = np.clip(np.asarray(mel01, np.float32), 0, 1).T[::-1] * 255  # [n_mels, frames]
    return colormaps[COLOURS](np.rint(level).astype(np.uint8), bytes=True)[..., :3]


def mel_picture(rows: Sequence[Sequence[np.ndarray]], path: str | Path) -> Path:
    """Write mels as a PNG of a grid, one pixel for each value.

    Args:
        rows: Rows of mels in [0, 1], each `[frames, n_mels]` of equal shape, as many in each row;
            for instance the noisy clips in the first row and their estimates in the second.
        path: The PNG to write; missing folders are made, the file appears whole or not at all.

    Returns:
        The path.

    Raises:
        OutputError: When it cannot be written.
    """
    edge = ((GRID, 0), (GRID, 0), (0, 0))
    tiles = [[np.pad(mel_image(mel), edge, constant_values=255) for mel in row] for row in rows]
    lines = [np.concatenate(row, axis=1) for row in tiles]
    return _write_png(np.concatenate(lines), Path(path))


def _band_of(hertz: float, mel: Mel) -> float:
    """Return the position of a frequency in Hz on the axis of bands."""
    bins = np.arange(mel.filterbank.shape[1]) * mel.sample_rate / mel.config.n_fft
    centres = mel.filterbank @ bins / np.maximum(mel.filterbank.sum(axis=1), 1e-12)  # [n_mels]
    return float(np.interp(hertz, centres, np.arange(len(centres))))


def _hertz(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _write_png(pixels: np.ndarray, path: Path) -> Path:
    """Write uint8 `[height, width, 3]` with a palette: 2.5 times smaller than Matplotlib's PNG."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(PALETTE_SIZE, dither=0)
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    write_atomically(path, lambda file: file.write(stream.getvalue()))
    return path
