"""The HTML page of a survey: tables, figures and sample recordings of each folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from gan_denoise.audio import read
from gan_denoise.audio.info import describe_anomalies
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.dsp.mel import Mel
from gan_denoise.inspection import survey_plots
from gan_denoise.inspection.acoustics import ROLLOFF, VOICED_FRAMES
from gan_denoise.inspection.survey import PIECE_SECONDS, PIECES, Recording, Survey
from gan_denoise.inspection.survey_plots import Measure
from gan_denoise.reports.figures import picture_svg
from gan_denoise.reports.pages import render
from gan_denoise.reports.players import audio_uri

SHOWN_SECONDS = 10.0  # of a sample recording, as figure and audio
LEVELS = (
    Measure("active speech level (dBFS)", lambda r: r.acoustics.level_db),
    Measure("peak (dBFS)", lambda r: r.peak_dbfs, digits=1),
)
NOISE = (
    Measure("SNR, estimated (dB)", lambda r: r.acoustics.snr_db),
    Measure("pauses (% of the time)", lambda r: _percent(r.acoustics.pauses)),
)
BANDS = (
    Measure("content up to (Hz)", lambda r: r.acoustics.bandwidth_hz),
    Measure("99 % of the energy below (Hz)", lambda r: r.acoustics.rolloff_hz),
)
DURATION = Measure("duration (s)", lambda r: r.info.seconds, log=True, digits=1)
F0 = Measure("median F0 of voiced frames (Hz)", lambda r: r.acoustics.f0_hz, log=True)


def make_page(survey: Survey, samples: int = 4, seed: int = 0) -> str:
    """Return the page of a survey as HTML (needs the `train` extra).

    Args:
        survey: The survey.
        samples: Number of recordings of each folder that the page shows and plays.
        seed: Seed of the random ones among them.
    """
    mel = Mel(AudioConfig(), MelConfig())
    found = bool(survey.recordings)
    return render(
        "survey.html.j2", title="Recordings at a glance", count=len(survey.recordings),
        hours=_hours(survey.recordings), names=list(survey.folders),
        folders=_folder_rows(survey), medians=_median_rows(survey),
        pictures=_pictures(survey) if found else {}, shown_seconds=SHOWN_SECONDS,
        mel={"bands": mel.config.n_mels, "khz": mel.sample_rate // 1000,
             "range_db": survey_plots.RANGE_DB, "n_mfcc": survey_plots.N_MFCC},
        samples=_samples(survey, mel, samples, seed) if found else [],
        unusual=[[f"{r.folder}: {r.name}", anomalies] for r in survey.recordings
                 if (anomalies := describe_anomalies(r.info))],
        failures=[[failure] for failure in survey.failures], methods=_METHODS,
    )


def choose_samples(
    recordings: Sequence[Recording], count: int, seed: int = 0
) -> list[tuple[Recording, str]]:
    """Choose recordings to show, each with the reason.

    First those of median length, of the lowest level, of the lowest SNR, the shortest and the
    longest, then random ones; none is chosen twice.

    Args:
        recordings: The recordings of a folder.
        count: Number of recordings to choose.
        seed: Seed of the random choice.
    """
    if not recordings:
        return []
    by_length = sorted(recordings, key=lambda r: (r.info.seconds, r.name))

    def lowest(value: Callable[[Recording], float | None]) -> Recording | None:
        known = [recording for recording in by_length if value(recording) is not None]
        return min(known, key=value, default=None)

    reasons: dict[int, tuple[Recording, list[str]]] = {}
    drawn = np.random.default_rng(seed).permutation(len(by_length))
    for recording, reason in (
        (by_length[len(by_length) // 2], "of median length"),
        (lowest(lambda r: r.acoustics.level_db), "the quietest"),
        (lowest(lambda r: r.acoustics.snr_db), "the lowest SNR"),
        (by_length[0], "the shortest"), (by_length[-1], "the longest"),
        *((by_length[number], "drawn at random") for number in drawn),
    ):
        if recording is None:
            continue
        if id(recording) in reasons:
            if reason != "drawn at random":
                reasons[id(recording)][1].append(reason)
        elif len(reasons) < count:
            reasons[id(recording)] = (recording, [reason])
    return [(recording, ", ".join(words)) for recording, words in reasons.values()]


def _folder_rows(survey: Survey) -> list[list[object]]:
    """Return what each folder holds, and with several of them all together."""
    folders = [(folder, survey.in_folder(folder)) for folder in survey.folders]
    total = [("all", list(survey.recordings))] if len(folders) > 1 else []
    return [[folder, len(own), round(_hours(own), 2), _speakers(own) or None,
             _counts(r.info.sample_rate for r in own), _counts(r.info.channels for r in own),
             _counts(f"{r.info.format} {r.info.subtype}" for r in own)]
            for folder, own in folders + total]


def _median_rows(survey: Survey) -> list[list[str]]:
    measures = (DURATION, *LEVELS, *NOISE, F0, *BANDS)
    return [[measure.label, *(_range(survey.in_folder(folder), measure)
                              for folder in survey.folders)] for measure in measures]


def _pictures(survey: Survey) -> dict[str, str]:
    """Return the figures by the names that the template has for them."""
    figures = {
        "durations": survey_plots.distributions(survey, [DURATION]),
        "levels": survey_plots.distributions(survey, LEVELS),
        "spectra": survey_plots.spectra(survey),
        "noise": survey_plots.distributions(survey, NOISE),
        "pitch": survey_plots.distributions(survey, [F0]),
        "pitch_by_speaker": survey_plots.pitch_by_speaker(survey),
        "bands": survey_plots.distributions(survey, BANDS),
        "minutes": survey_plots.minutes(survey),
    }
    return {name: picture_svg(figure) if figure is not None else ""
            for name, figure in figures.items()}


def _samples(survey: Survey, mel: Mel, count: int, seed: int) -> list[dict[str, str]]:
    """Return picture, caption and sound of the chosen recordings of each folder."""
    shown = []
    for folder in survey.folders:
        for recording, reason in choose_samples(survey.in_folder(folder), count, seed):
            path, rate = recording.info.path, recording.info.sample_rate
            audio = read(path, 0, round(SHOWN_SECONDS * rate))[0].mean(axis=0)
            name = f"{folder}: {recording.name}"
            shown.append({
                "name": name, "caption": f"{name}, {reason}. {', '.join(_words(recording))}",
                "picture": picture_svg(survey_plots.recording_figure(audio, rate, mel)),
                "audio": audio_uri(audio, rate, lossless=True),
            })
    return shown


def _words(recording: Recording) -> Iterator[str]:
    measures = recording.acoustics
    yield f"{recording.info.seconds:.1f} s"
    if recording.speaker is not None:
        yield f"speaker {recording.speaker}"
    if measures.level_db is not None:
        yield f"level {measures.level_db:.0f} dB"
    if measures.snr_db is not None:
        yield f"SNR {measures.snr_db:.0f} dB"
    if measures.f0_hz is not None:
        yield f"F0 {measures.f0_hz:.0f} Hz"


def _range(recordings: Sequence[Recording], measure: Measure) -> str:
    values = [value for value in map(measure.value, recordings) if value is not None]
    if not values:
        return "-"
    low, middle, high = np.percentile(values, (survey_plots.SPREAD[0], 50, survey_plots.SPREAD[1]))
    middle, low, high = (f"{value:z.{measure.digits}f}" for value in (middle, low, high))
    return f"{middle} ({low}\u00a0to\u00a0{high})"  # a bracket stays on one line


def _counts(values: Iterable[object]) -> str:
    counts = Counter(values).most_common()
    return ", ".join(f"{value}: {count}" if len(counts) > 1 else str(value)
                     for value, count in counts)


def _hours(recordings: Iterable[Recording]) -> float:
    return sum(recording.info.seconds for recording in recordings) / 3600


def _speakers(recordings: Iterable[Recording]) -> int:
    return len({(r.folder, r.speaker) for r in recordings if r.speaker is not None})


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_METHODS = (
    ("all",
     f"recordings of more than {PIECES * PIECE_SECONDS:g} s by {PIECES} pieces of "
     f"{PIECE_SECONDS:g} s spread evenly over them; all but the peak of the mean of the channels",
     "a peak or a silence between the pieces is not seen; gan-denoise check --deep sees it"),
    ("level, pauses",
     "ITU-T P.56 method B: RMS over the time in which somebody speaks; gaps of less than 0.2 s "
     "are no pauses",
     "the usual level of speech work (a full-scale sine has -3 dB); steady noise is active "
     "throughout, its level is its RMS"),
    ("SNR",
     "the mean energy over that of the noise: the 10th percentile of 50 ms frames",
     "good to a few dB for steady noise and speech with pauses; too high where the noise comes "
     "and goes (music, barks), too low where there is no pause"),
    ("F0",
     "YIN at 8 kHz, 60 to 450 Hz; a frame is voiced where it is like itself a period later "
     "(correlation of 0.7 or more) and within 30 dB of the loudest; at least "
     f"{VOICED_FRAMES} voiced frames",
     "a median over frames; single frames may be an octave off"),
    ("spectrum",
     "Welch, 64 ms Hann windows, summed in sixths of an octave",
     "each recording relative to its own energy"),
    ("content",
     "the highest frequency at which the long-term spectrum is within 60 dB of its peak",
     "noise that was added after a low-pass hides the low-pass"),
    (f"{100 * ROLLOFF:g} % of the energy",
     "of the same spectrum",
     "tells dull from bright, not upsampled from genuine"),
)
