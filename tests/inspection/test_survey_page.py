"""The page of a survey holds what was measured, and every figure can be drawn of anything."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from conftest import RATE

from gan_denoise.audio import AudioInfo
from gan_denoise.audio.writer import write
from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.dsp.mel import Mel
from gan_denoise.inspection import survey_plots
from gan_denoise.inspection.acoustics import AcousticMeasures
from gan_denoise.inspection.survey import Recording, Survey, survey
from gan_denoise.inspection.survey_page import choose_samples, make_page

pytest.importorskip("librosa")
pytest.importorskip("matplotlib")


def recording(name: str, seconds: float = 1.0, speaker: str | None = None, folder: str = "a",
              **measures: float) -> Recording:
    """A recording that was measured, without a file."""
    info = AudioInfo(None, RATE, 1, round(seconds * RATE), "WAV", "PCM_16")
    return Recording(folder, name, speaker, info, seconds, -3.0, AcousticMeasures(**measures))


def tables(text: str) -> list[list[list[str]]]:
    """Return the cells of each table of a page, row by row."""
    return [[[html.unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)]
             for row in table.split("<tr>")[1:]]
            for table in re.findall(r"<table>(.*?)</table>", text, re.DOTALL)]


@pytest.fixture(scope="module")
def surveyed(folders):
    return survey([folders / "speech", folders / "noise"])


@pytest.fixture(scope="module")
def page(surveyed):
    return make_page(surveyed, samples=1)


def test_the_tables_say_what_the_rows_say(page, surveyed):
    head, medians, *_ = tables(page)
    rows = [recording.row() for recording in surveyed.recordings]
    assert [line[0] for line in head] == ["folder", "speech", "noise", "all"]
    for line in head[1:]:
        own = [row for row in rows if line[0] in (row["folder"], "all")]
        assert int(line[1]) == len(own)
        assert float(line[2]) == pytest.approx(sum(row["seconds"] for row in own) / 3600, abs=0.01)
    assert [line[3] for line in head[1:]] == ["4", "", "4"]  # speakers; kinds of noise are none
    assert head[1][4:] == ["16000", "1", "WAV PCM_16"]
    table = {line[0]: line[1:] for line in medians}
    assert table[""] == ["speech", "noise"]
    for label, key in (("active speech level (dBFS)", "level_db"), ("peak (dBFS)", "peak_dbfs"),
                       ("SNR, estimated (dB)", "snr_db"), ("content up to (Hz)", "bandwidth_hz")):
        for cell, folder in zip(table[label], ("speech", "noise"), strict=True):
            own = [row[key] for row in rows if row["folder"] == folder]
            assert float(cell.split()[0]) == pytest.approx(np.median(own), abs=0.51)


def test_every_figure_is_there_and_each_folder_can_be_heard(page):
    assert page.count("<figure>") == 8 + 2
    assert page.count("<audio") == 2
    assert page.count("<figcaption>") == page.count("<figure>")
    assert "gan-denoise check" in page
    assert "Not readable" not in page


def test_the_same_survey_makes_the_same_page(page, surveyed):
    assert make_page(surveyed, samples=1) == page


def test_what_cannot_be_read_is_listed(surveyed):
    failed = Survey(surveyed.folders, surveyed.recordings, ("bad <1>.wav: not readable",))
    text = make_page(failed, samples=0)
    assert ["bad <1>.wav: not readable"] in [line for table in tables(text) for line in table]
    assert "bad <1>" not in text
    text = make_page(Survey(("a",), (), ("x.wav: cut off",)))
    assert "x.wav: cut off" in text
    assert "<figure>" not in text


def test_silence_alone_makes_a_page(tmp_path):
    for name in ("short", "long"):
        write(tmp_path / "silent" / f"{name}.wav", np.zeros(50 * len(name)), RATE)
    text = make_page(survey([tmp_path / "silent"]))
    assert text.count("<audio") == 2
    assert tables(text)[1][2] == ["active speech level (dBFS)", "-"]


# ---- The choice ----


def test_the_chosen_are_what_they_are_said_to_be():
    recordings = [recording(f"{k}.wav", seconds=1 + k, level_db=-30.0 + (k * 7) % 10,
                            snr_db=20.0 + (k * 3) % 10) for k in range(10)]
    chosen = [(found.name, reason) for found, reason in choose_samples(recordings, 5)]
    assert chosen[:3] == [
        ("5.wav", "of median length"), ("0.wav", "the quietest, the lowest SNR, the shortest"),
        ("9.wav", "the longest"),
    ]
    assert [reason for _, reason in chosen[3:]] == ["drawn at random"] * 2


def test_no_recording_is_chosen_twice_and_the_seed_moves_the_random_ones():
    recordings = [recording(f"{k:02}.wav", seconds=1 + k, level_db=-30.0 - k) for k in range(40)]
    for count in (0, 1, 4, 12, 99):
        names = [found.name for found, _ in choose_samples(recordings, count)]
        assert len(names) == len(set(names)) == min(count, 40)
    first, second = ([found.name for found, _ in choose_samples(recordings, 12, seed)]
                     for seed in (0, 1))
    assert first[:3] == second[:3]
    assert first != second
    assert first == [found.name for found, _ in choose_samples(recordings, 12, 0)]
    assert choose_samples([], 4) == []


def test_silence_is_neither_the_quietest_nor_the_noisiest():
    recordings = [recording("silent.wav"), recording("b.wav", 2.0, level_db=-20.0)]
    reasons = dict(choose_samples(recordings, 2))
    assert [reason for found, reason in reasons.items() if found.name == "silent.wav"] == [
        "the shortest"
    ]


# ---- Figures ----


def test_speakers_stand_in_the_order_of_their_pitch():
    rows = [recording("1", speaker="high", f0_hz=220.0), recording("2", speaker="low", f0_hz=90.0),
            recording("3", speaker="low", f0_hz=110.0), recording("4", speaker="none"),
            recording("5", speaker="mid", folder="b", f0_hz=150.0)]
    (panel,) = survey_plots.pitch_by_speaker(Survey(("a", "b"), tuple(rows), ())).axes
    assert [label.get_text() for label in panel.get_xticklabels()] == ["low", "mid", "high"]
    heights = {tuple(line.get_ydata()) for line in panel.get_lines()}
    assert heights == {(100.0, 220.0), (150.0,)}
    assert survey_plots.pitch_by_speaker(Survey(("a",), (rows[3],), ())) is None


def test_minutes_are_those_of_the_speakers_and_of_what_has_none():
    rows = [recording("x/1", 60, "anna"), recording("x/2", 120, "anna"), recording("y/1", 60, "bo"),
            recording("rain/1", 30, folder="b"), recording("top", 90, folder="b")]
    speakers, rest = survey_plots.minutes(Survey(("a", "b"), tuple(rows), ())).axes
    for panel, names, minutes in ((speakers, ["anna", "bo"], [3, 1]),
                                  (rest, ["b", "rain"], [1.5, 0.5])):
        assert [label.get_text() for label in panel.get_xticklabels()] == names
        assert [bar.get_height() for bar in panel.patches] == minutes


@pytest.mark.parametrize("folders", [1, 9])
def test_figures_take_any_number_of_folders_and_hundreds_of_speakers(folders):
    names = tuple(f"folder {k}" for k in range(folders))
    rows = [recording(f"{k}/{n}", 1 + n, f"speaker {n}", name, level_db=-20.0, f0_hz=100.0 + n,
                      bands_db=np.full(51, -20.0)) for k, name in enumerate(names)
            for n in range(80)]
    found = Survey(names, tuple(rows), ())
    measure = survey_plots.Measure("F0", lambda row: row.acoustics.f0_hz, log=True)
    figure = survey_plots.distributions(found, [measure, measure])
    assert len(figure.axes) == 2 * folders
    assert len(survey_plots.spectra(found).axes[0].get_lines()) == folders
    assert f"{80 * folders} speakers" in survey_plots.pitch_by_speaker(found).axes[0].get_xlabel()
    assert survey_plots.minutes(found).axes[0].get_xlabel() == f"{80 * folders} speakers"


def test_a_histogram_counts_every_recording_once():
    rows = [recording(str(k), seconds=10.0 ** (k % 4 - 2)) for k in range(40)]
    measure = survey_plots.Measure("s", lambda row: row.info.seconds, log=True)
    (panel,) = survey_plots.distributions(Survey(("a",), tuple(rows), ()), [measure]).axes
    assert sorted(bar.get_height() for bar in panel.patches if bar.get_height()) == [10] * 4


@pytest.mark.parametrize(("low", "high"), [(3.5, 3.5), (70.0, 330.0), (0.02, 7200.0)])
def test_an_axis_has_numbers_on_it_however_narrow(low, high):
    rows = [recording(str(k), seconds=x) for k, x in enumerate(np.geomspace(low, high, 5))]
    measure = survey_plots.Measure("s", lambda row: row.info.seconds, log=True)
    figure = survey_plots.distributions(Survey(("a",), tuple(rows), ()), [measure])
    figure.draw_without_rendering()
    left, right = figure.axes[0].get_xlim()
    shown = [tick for tick in figure.axes[0].get_xticks() if left <= tick <= right]
    assert 3 <= len(shown) <= 20


@pytest.mark.parametrize("samples", [1, 700, 3 * RATE])
def test_the_figure_of_a_recording_shows_waveform_mel_and_20_mfcc(samples):
    mel = Mel(AudioConfig(), MelConfig())
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)
    wave, bands, coefficients = survey_plots.recording_figure(audio, RATE, mel).axes
    frames = mel.frames(samples)
    assert bands.images[0].get_array().shape == (80, frames)
    assert coefficients.images[0].get_array().shape == (20, frames)
    assert np.all(np.isfinite(coefficients.images[0].get_array()))
    assert wave.get_ylabel() == "waveform"
