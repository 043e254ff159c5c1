"""Figures of a survey: distributions, spectra, F0, durations, and one recording in detail.

Folders differ in colour, and also in row, line style, marker or hatching.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gan_denoise.inspection.acoustics import BAND_CENTRES, BAND_EDGES
from gan_denoise.reports.figures import colour as page_colour
from gan_denoise.reports.figures import new_figure, series_colours
from gan_denoise.reports.spectrograms import log_mel_db, mel_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gan_denoise.dsp.mel import Mel
    from gan_denoise.inspection.survey import Recording, Survey

COLOURS = series_colours()
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "|||", "+++")
WIDTH = 9.0  # inches
BINS = 60
NAMED = 48  # bars or speakers that still have room for their names
FLOOR_DB = -70.0  # of the spectra
SPREAD = (10, 90)  # percentiles
N_MFCC = 20
RANGE_DB = 80.0  # of a mel below its loudest band


@dataclass(frozen=True)
class Measure:
    """A measure of recordings, as `distributions` shows it.

    Attributes:
        label: Label of the axis, with the unit.
        value: Returns the measure of a recording; None where there is none.
        log: Whether the axis is logarithmic.
        digits: Decimals of the median.
    """

    label: str
    value: Callable[[Recording], float | None]
    log: bool = False
    digits: int = 0


class _Bar(NamedTuple):
    minutes: float
    name: str
    folder: int  # its number


def distributions(survey: Survey, measures: Sequence[Measure]) -> Figure:
    """Draw a histogram for each folder (rows) and measure (columns); a column shares its axis."""
    from matplotlib.ticker import AutoLocator, LogLocator, NullFormatter

    figure = new_figure(WIDTH, 0.7 + 0.85 * len(survey.folders))
    panels = figure.subplots(len(survey.folders), len(measures), sharex="col", squeeze=False)
    for column, measure in zip(panels.T, measures, strict=True):
        values = {folder: _values(survey.in_folder(folder), measure.value)
                  for folder in survey.folders}
        bins = _bins(np.concatenate(list(values.values())), measure.log)
        for panel, (folder, found), colour in zip(
            column, values.items(), itertools.cycle(COLOURS), strict=False
        ):
            _histogram(panel, found, bins, colour, measure.digits)
            panel.set_ylabel(folder if panel in panels[:, 0] else "", rotation=0, ha="right",
                             va="center", fontsize=9)
        if measure.log:
            column[-1].set_xscale("log")
            narrow = bins[-1] < 10 * bins[0]  # too narrow for enough of 1, 2, 5, 10, ...
            column[-1].xaxis.set_major_locator(
                AutoLocator() if narrow else LogLocator(subs=(1, 2, 5)))
            column[-1].xaxis.set_major_formatter("{x:g}")
            column[-1].xaxis.set_minor_formatter(NullFormatter())
        column[-1].set_xlabel(measure.label, fontsize=9)
    return figure


def spectra(survey: Survey) -> Figure:
    """Draw the long-term spectra of the folders: median, and 10th to 90th percentile."""
    figure = new_figure(WIDTH, 4.2)
    panel = figure.subplots()
    highest = BAND_EDGES[1]
    for folder, colour, line in zip(
        survey.folders, itertools.cycle(COLOURS), itertools.cycle(LINES), strict=False
    ):
        known = [recording.acoustics.bands_db for recording in survey.in_folder(folder)]
        levels = [levels for levels in known if levels is not None]
        levels = np.array(levels or [np.full(len(BAND_CENTRES), np.nan)])
        inside = np.mean(~np.isnan(levels), axis=0) >= 0.1  # a few of a higher rate draw no curve
        if not inside.any():
            continue
        highest = max(highest, BAND_EDGES[1:][inside][-1])
        low, middle, high = np.nanpercentile(levels[:, inside], (SPREAD[0], 50, SPREAD[1]), axis=0)
        panel.fill_between(BAND_CENTRES[inside], low, high, color=colour, alpha=0.15, lw=0)
        panel.plot(BAND_CENTRES[inside], middle, color=colour, ls=line, lw=1.8, label=folder)
        panel.legend(fontsize=9, loc="lower center")
    panel.set_xscale("log")
    ticks = (63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)
    panel.set_xticks(ticks, [f"{tick / 1000:g}k" if tick >= 1000 else str(tick) for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(BAND_EDGES[0], highest)
    panel.set_ylim(bottom=min(max(panel.get_ylim()[0], FLOOR_DB), -20), top=0)
    panel.set_xlabel("frequency (Hz)", fontsize=9)
    panel.set_ylabel("dB of the whole, per 1/6 octave", fontsize=9)
    panel.grid(alpha=0.3)
    _plain(panel)
    return figure


def pitch_by_speaker(survey: Survey) -> Figure | None:
    """Draw the median F0 of each speaker in rising order; None where no speaker is known."""
    voices = []
    for number, folder in enumerate(survey.folders):
        for speaker, own in _grouped(survey.in_folder(folder), lambda r: r.speaker).items():
            f0 = _values(own, lambda recording: recording.acoustics.f0_hz)
            if len(f0):
                voices.append((*np.percentile(f0, (50, *SPREAD)), speaker, number))
    if not voices:
        return None
    voices.sort()
    figure = new_figure(WIDTH, 3.4)
    panel = figure.subplots()
    for number, folder in enumerate(survey.folders):
        own = [(place, *voice[:3]) for place, voice in enumerate(voices) if voice[-1] == number]
        if not own:
            continue
        place, middle, low, high = np.array(own).T
        colour = COLOURS[number % len(COLOURS)]
        panel.vlines(place, low, high, color=colour, alpha=0.5, lw=2)
        panel.plot(place, middle, MARKERS[number % len(MARKERS)], color=colour, ms=5, label=folder)
    panel.legend(fontsize=9, loc="upper left", frameon=False)
    panel.set_ylabel("F0 (Hz)", fontsize=9)
    panel.grid(axis="y", alpha=0.3)
    _name_places(panel, [speaker for *_, speaker, _ in voices], "speakers")
    _plain(panel)
    return figure


def minutes(survey: Survey) -> Figure:
    """Draw the minutes of each speaker, and of each sub-folder where no speaker is known."""
    speakers: list[_Bar] = []
    kinds: list[_Bar] = []
    for number, folder in enumerate(survey.folders):
        own = survey.in_folder(folder)
        speakers += _bars(own, number, lambda r: r.speaker)
        kinds += _bars([r for r in own if r.speaker is None], number,
                       lambda r, folder=folder: r.name.rpartition("/")[0] or folder)
    drawn = [(bars, title) for bars, title in (
        (speakers, "speakers"), (kinds, "sub-folders of no known speaker")) if bars]
    figure = new_figure(WIDTH, 3.2 * len(drawn))
    panels = figure.subplots(len(drawn), 1, squeeze=False)[:, 0]
    for panel, (bars, title) in zip(panels, drawn, strict=True):
        bars.sort(key=lambda bar: (-bar.minutes, bar.name))
        for number, folder in enumerate(survey.folders):
            own = [(place, bar.minutes) for place, bar in enumerate(bars) if bar.folder == number]
            if own:
                panel.bar(*np.array(own).T, color=COLOURS[number % len(COLOURS)], width=0.8,
                          hatch=HATCHES[number % len(HATCHES)], edgecolor="white", lw=0,
                          label=folder)
        panel.legend(fontsize=9, frameon=False)
        panel.set_ylabel("minutes", fontsize=9)
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
        _name_places(panel, [bar.name for bar in bars], title)
        _plain(panel)
    return figure


def recording_figure(audio: np.ndarray, sample_rate: int, mel: Mel) -> Figure:
    """Draw the waveform, the log-mel and the MFCC of a recording, one below the other.

    Args:
        audio: float32 `[samples]`.
        sample_rate: Hz.
        mel: The transform; mel and MFCC are of the recording resampled to its rate.
    """
    from librosa.feature import mfcc

    seconds = len(audio) / sample_rate
    levels = log_mel_db(audio, sample_rate, mel)
    cepstrum = mfcc(S=levels.T, n_mfcc=N_MFCC)  # [N_MFCC, frames]
    cepstrum -= cepstrum.mean(axis=1, keepdims=True)
    cepstrum /= np.maximum(cepstrum.std(axis=1, keepdims=True), 1e-6)
    figure = new_figure(WIDTH, 4.4)
    wave, bands, coefficients = figure.subplots(3, 1, sharex=True, height_ratios=(2, 4, 3))
    _waveform(wave, audio, sample_rate)
    extent = (0, seconds, -0.5, mel.config.n_mels - 0.5)
    bands.imshow(levels.T, origin="lower", aspect="auto", interpolation="none", cmap="magma",
                 vmin=levels.max() - RANGE_DB, vmax=levels.max(), extent=extent)
    bands.set_yticks(*mel_ticks(mel))
    bands.set_ylabel("mel (Hz)", fontsize=9)
    coefficients.imshow(cepstrum, origin="lower", aspect="auto", interpolation="none",
                        cmap="gray", vmin=-2.5, vmax=2.5,
                        extent=(0, seconds, -0.5, N_MFCC - 0.5))
    coefficients.set_ylabel("MFCC", fontsize=9)
    coefficients.set_xlabel("time (s)", fontsize=9)
    for panel in (wave, bands, coefficients):
        panel.tick_params(labelsize=8)
    return figure


def _values(
    recordings: Iterable[Recording], value: Callable[[Recording], float | None]
) -> np.ndarray:
    found = (value(recording) for recording in recordings)
    return np.array([number for number in found if number is not None], dtype=float)


def _grouped(
    recordings: Iterable[Recording], key: Callable[[Recording], str | None]
) -> dict[str, list[Recording]]:
    """Return `{key: recordings}`; recordings without a key are left out."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        if (name := key(recording)) is not None:
            groups.setdefault(name, []).append(recording)
    return groups


def _bars(
    recordings: Iterable[Recording], folder: int, key: Callable[[Recording], str | None]
) -> list[_Bar]:
    return [_Bar(sum(recording.info.seconds for recording in group) / 60, name, folder)
            for name, group in _grouped(recordings, key).items()]


def _bins(values: np.ndarray, log: bool) -> np.ndarray:
    """Return the edges of BINS bins over all values, of any count and spread."""
    if not len(values):
        return np.linspace(0, 1, BINS + 1)
    low, high = values.min(), values.max()
    if log:
        return np.geomspace(low / 1.1, high * 1.1, BINS + 1)
    margin = 0.02 * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, BINS + 1)


def _histogram(
    panel: Axes, values: np.ndarray, bins: np.ndarray, colour: str, digits: int
) -> None:
    panel.set_yticks([])
    panel.spines[["left", "top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)
    note = "nothing to measure"
    if len(values):
        panel.hist(values, bins, color=colour, alpha=0.8)
        middle = float(np.median(values))
        panel.axvline(middle, color="black", lw=1)
        note = f"{len(values)} recordings, median {middle:.{digits}f}"
    panel.set_title(note, loc="right", fontsize=8, color=page_colour("muted"), pad=2)


def _name_places(panel: Axes, names: Sequence[str], title: str) -> None:
    """Name the places 0, 1, ... of an axis, where there is room for names."""
    panel.set_xlim(-0.7, max(len(names), 8) - 0.3)
    if len(names) <= NAMED:
        shown = [name if len(name) <= 20 else f"…{name[-19:]}" for name in names]
        turned = sum(map(len, shown)) > 80
        panel.set_xticks(range(len(names)), shown, rotation=90 if turned else 0)
        panel.set_xlabel(title, fontsize=9)
    else:
        panel.set_xticks([])
        panel.set_xlabel(f"{len(names)} {title}", fontsize=9)


def _plain(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=8)


def _waveform(panel: Axes, audio: np.ndarray, sample_rate: int, columns: int = 1000) -> None:
    """Draw the lowest and highest sample of each of so many columns, as an editor does."""
    size = -(-len(audio) // columns)
    padded = np.pad(audio, (0, -len(audio) % size), mode="edge").reshape(-1, size)
    seconds = (np.arange(len(padded)) + 0.5) * size / sample_rate
    panel.fill_between(seconds, padded.min(axis=1), padded.max(axis=1), color=COLOURS[0], lw=0.6)
    top = max(float(np.abs(audio).max(initial=0.0)), 1e-4)
    panel.set_ylim(-1.05 * top, 1.05 * top)
    panel.set_ylabel("waveform", fontsize=9)
