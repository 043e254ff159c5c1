"""The HTML page of a survey: tables, figures and sample recordings of each folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from gan_denoise.audio import read
from gan_denoise.audio.info import describe_anomalies
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.dsp.mel import Mel
from gan_denoise.inspection import survey_plots
from gan_denoise.inspection.acoustics import ROLLOFF, VOICED_FRAMES
from gan_denoise.inspection.survey import PIECE_SECONDS, PIECES, Recording, Survey
from gan_denoise.inspection.survey_plots import Measure
from gan_denoise.reports.html_page import Page

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


def make_page(survey: Survey, samples: int = 4, seed: int = 0) -> Page:
    """Return the page of a survey (needs the `train` extra).

    Args:
        survey: The survey.
        samples: Number of recordings of each folder that the page shows and plays.
        seed: Seed of the random ones among them.
    """
    page = Page("Recordings at a glance")
    count, hours = len(survey.recordings), _hours(survey.recordings)
    page.text(f"{count:,} recordings, {hours:.2f} hours. These are pictures to look at; "
              "gan-denoise check says in words what is wrong with a folder: clipping, silence, "
              "copies, leaks.")
    _add_tables(page, survey)
    if survey.recordings:
        _add_figures(page, survey)
        _add_samples(page, survey, samples, seed)
    unusual = [[f"{r.folder}: {r.name}", told] for r in survey.recordings
               if (told := describe_anomalies(r.info))]
    if unusual:
        page.heading("Cut off, or with a wrong header")
        page.text("These files are in the figures, with what could be decoded.")
        page.table(["file", "what is unusual"], unusual)
    if survey.failures:
        page.heading("Not readable")
        page.text("These files are in no figure above.")
        page.table(["file and reason"], [[failure] for failure in survey.failures])
    page.heading("How it was measured")
    page.table(["measure", "method", "what it is worth"], _METHODS)
    return page


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


def _add_tables(page: Page, survey: Survey) -> None:
    folders = [(folder, survey.in_folder(folder)) for folder in survey.folders]
    total = [("all", list(survey.recordings))] if len(folders) > 1 else []
    page.table(
        ["folder", "recordings", "hours", "speakers", "sample rates (Hz)", "channels", "formats"],
        [[folder, len(own), round(_hours(own), 2), _speakers(own) or None,
          _counts(r.info.sample_rate for r in own), _counts(r.info.channels for r in own),
          _counts(f"{r.info.format} {r.info.subtype}" for r in own)]
         for folder, own in folders + total],
    )
    measures = (DURATION, *LEVELS, *NOISE, F0, *BANDS)
    page.text("Median recording, and in brackets the range of the middle 80 %:")
    page.table(["", *(folder for folder, _ in folders)],
               [[measure.label, *(_range(own, measure) for _, own in folders)]
                for measure in measures])


def _add_figures(page: Page, survey: Survey) -> None:
    page.heading("Durations")
    page.figure(survey_plots.distributions(survey, [DURATION]),
                "Each row counts one folder's recordings by length; training joins short ones and "
                "crops long ones, so what matters is what is far from the rest.")
    page.heading("Loudness and peaks")
    page.figure(survey_plots.distributions(survey, LEVELS),
                "Left the level of the speech without its pauses, right the highest sample: a "
                "narrow left hump was normalised, a wall at 0 dBFS on the right may be clipping.")
    page.heading("Long-term spectrum")
    page.figure(survey_plots.spectra(survey),
                "The median recording of each folder, each recording at one level, and the middle "
                "80 % as a band: folders that are to sound alike should lie on each other, and a "
                "cliff is a low-pass that somebody applied.")
    page.heading("Noise and pauses")
    page.figure(survey_plots.distributions(survey, NOISE),
                "Left how far the sound rises over its own steady noise floor, right how much of "
                "the time is pause: clean speech to train on should lie at 30 dB and above; "
                "without pauses the estimate reads too low.")
    page.heading("Pitch")
    page.figure(survey_plots.distributions(survey, [F0]),
                "The F0 of each recording's voiced frames, of recordings that have any: low and "
                "high voices should both be there; in noise, read it as what sounds like a voice.")
    figure = survey_plots.pitch_by_speaker(survey)
    if figure is not None:
        page.figure(figure, "Each speaker's median F0, in rising order, with the middle 80 % of "
                            "their recordings as a line: a gap in the curve is a kind of voice "
                            "that training will not hear, a long line a voice that changes, or "
                            "more than one.")
    page.heading("Bandwidth")
    page.figure(survey_plots.distributions(survey, BANDS),
                "Left, recordings well below half their sample rate were resampled from a lower "
                "rate or went through a lossy codec; right is dull against bright sound.")
    page.heading("Time by speaker and folder")
    page.figure(survey_plots.minutes(survey),
                "Minutes of each speaker, and of each sub-folder where names and folders tell no "
                "speaker: training draws the speech of a folder by duration, so who has a tall "
                "bar is heard more often.")


def _add_samples(page: Page, survey: Survey, samples: int, seed: int) -> None:
    mel = Mel(AudioConfig(), MelConfig())
    page.heading("Recordings to look at and to hear")
    page.text(f"Up to {SHOWN_SECONDS:g} s of each: waveform, the {mel.config.n_mels} mel bands "
              f"that training sees at {mel.sample_rate // 1000} kHz over "
              f"{survey_plots.RANGE_DB:g} dB (bright is loud), and {survey_plots.N_MFCC} MFCC of "
              "these, the lowest at the bottom, each as its deviation from its mean.")
    for folder in survey.folders:
        for recording, reason in choose_samples(survey.in_folder(folder), samples, seed):
            path, rate = recording.info.path, recording.info.sample_rate
            audio = read(path, 0, round(SHOWN_SECONDS * rate))[0].mean(axis=0)
            caption = f"{folder}: {recording.name}, {reason}. " + ", ".join(_words(recording))
            page.figure(survey_plots.recording_figure(audio, rate, mel), caption)
            page.audio(audio, rate)


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
    middle, low, high = (f"{value:.{measure.digits}f}" for value in (middle, low, high))
    return f"{middle} ({low}\u00a0to\u00a0{high})"  # a bracket stays on one line


def _counts(values: Iterable[Any]) -> str:
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
