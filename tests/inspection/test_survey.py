"""A survey of made-up folders: what is read, what is told, what fails."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE

from gan_denoise.audio import AudioError, AudioInfo, probe, read
from gan_denoise.audio.writer import write
from gan_denoise.inspection import acoustics, survey
from gan_denoise.inspection.survey import SurveyError, excerpt, label_folders, save_csv

pytest.importorskip("librosa")


def test_recordings_and_their_speakers_are_found(folders):
    found = survey.survey([folders / "speech", folders / "noise"])
    assert found.folders == ("speech", "noise")
    assert found.failures == ()
    speech, noise = found.in_folder("speech"), found.in_folder("noise")
    assert [recording.name for recording in speech[:2]] == ["speaker0/0.wav", "speaker0/1.wav"]
    assert {recording.speaker for recording in speech} == {f"speaker{k}" for k in range(4)}
    assert {recording.speaker for recording in noise} == {None}  # their folders are kinds
    assert all(recording.seconds_measured == recording.info.seconds for recording in speech)
    row = speech[0].row()
    assert (row["sample_rate"], row["channels"], row["format"]) == (RATE, 1, "WAV")
    assert row["peak_dbfs"] == pytest.approx(20 * np.log10(0.25), abs=0.1)


def test_processes_and_progress_change_nothing(folders):
    calls = []
    one = survey.survey([folders / "speech"], jobs=1)
    two = survey.survey([folders / "speech"], jobs=2, progress=lambda *call: calls.append(call))
    assert [r.row() for r in one.recordings] == [r.row() for r in two.recordings]
    assert calls == [(done, 8) for done in range(1, 9)]


def test_a_broken_file_is_named_and_the_rest_is_measured(tmp_path):
    write(tmp_path / "good.wav", 0.1 * np.ones(4000), RATE)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.full(4000, np.nan), RATE, subtype="FLOAT")
    (tmp_path / "text.wav").write_text("this is no recording")
    found = survey.survey([tmp_path])
    assert [recording.name for recording in found.recordings] == ["good.wav"]
    assert len(found.failures) == 3
    for name, reason in (("none", "holds no samples"), ("nan", "NaN"), ("text", "not readable")):
        assert sum(f"{name}.wav" in line and reason in line for line in found.failures) == 1


def test_an_empty_folder_and_one_given_twice_are_refused(tmp_path, folders):
    with pytest.raises(AudioError, match="no audio found"):
        survey.survey([folders / "speech", tmp_path])
    with pytest.raises(SurveyError, match="given twice"):
        survey.survey([folders / "speech", folders / "noise" / ".." / "speech"])


def test_labels_are_short_and_tell_folders_apart():
    roots = [Path("/a/speech/train"), Path("/a/noise/train"), Path("/a/digits")]
    assert label_folders(roots) == ["speech/train", "noise/train", "digits"]
    assert label_folders(roots[:1]) == ["train"]
    assert label_folders([Path("/a"), Path("/a/b")]) == ["a", "a/b"]


def test_the_peak_is_of_all_channels_and_the_rest_of_their_mean(tmp_path):
    rng = np.random.default_rng(0)
    left, right = 0.1 * rng.standard_normal((2, RATE))
    right[100] = 0.99
    write(tmp_path / "stereo.wav", np.stack([left, right]), RATE, subtype="FLOAT")
    (found,) = survey.survey([tmp_path]).recordings
    assert found.peak_dbfs == pytest.approx(20 * np.log10(0.99), abs=0.01)
    assert found.acoustics.level_db == pytest.approx(-20 - 3, abs=0.2)


# ---- Long recordings ----


def test_of_a_long_recording_little_is_read_and_never_much_at_once(monkeypatch):
    asked = []

    def fake_read(path, start=0, frames=None):
        asked.append((start, frames))
        return np.full((2, frames), 0.1, np.float32), 48000

    monkeypatch.setattr(survey, "read", fake_read)
    hours = 10 * 3600 * 48000
    audio, peak = excerpt(Path("x.wav"), AudioInfo(Path("x.wav"), 48000, 2, hours, "WAV", "PCM_16"))
    assert [frames for _, frames in asked] == [10 * 48000] * 6
    assert asked[0][0] == 0
    assert asked[-1][0] == hours - 10 * 48000
    assert np.ptp(np.diff([start for start, _ in asked])) <= 1  # evenly
    assert len(audio) == 60 * 48000
    assert peak == pytest.approx(0.1)


def test_ten_hours_are_surveyed_by_a_minute(tmp_path, monkeypatch):
    # A WAV of ten hours that takes no room: all of it but the header is a hole in the file.
    path = tmp_path / "long.wav"
    samples = 36000 * 8000
    header = b"RIFF" + (36 + 2 * samples).to_bytes(4, "little") + b"WAVEfmt " + bytes(
        [16, 0, 0, 0, 1, 0, 1, 0, 0x40, 0x1F, 0, 0, 0x80, 0x3E, 0, 0, 2, 0, 16, 0]
    ) + b"data" + (2 * samples).to_bytes(4, "little")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + 2 * samples)
    sizes = []
    monkeypatch.setattr(survey, "read", lambda *given: sizes.append(given[2]) or read(*given))
    (found,) = survey.survey([path]).recordings
    assert found.info.seconds == 36000
    assert found.seconds_measured == 60
    assert max(sizes) == 80000
    assert found.peak_dbfs is None


def test_a_short_recording_is_read_whole(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, 25 * RATE)
    write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    whole, peak = excerpt(tmp_path / "a.wav", probe(tmp_path / "a.wav"))
    np.testing.assert_array_equal(whole, audio.astype(np.float32))
    assert peak == np.abs(whole).max()


def test_pieces_are_joined_without_clicks(tmp_path):
    time = np.arange(75 * RATE) / RATE
    write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 99.3 * time), RATE, subtype="FLOAT")
    audio, _ = excerpt(tmp_path / "a.wav", probe(tmp_path / "a.wav"))
    hertz, density = acoustics.long_term_spectrum(audio, RATE)
    assert density[hertz > 1000].sum() < 1e-7 * density.sum()


# ---- CSV ----


def test_a_silent_recording_is_a_row_of_empty_measures(tmp_path):
    write(tmp_path / "in" / "silent.wav", np.zeros(RATE), RATE)
    save_csv(survey.survey([tmp_path / "in"]), tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["folder"], row["file"], row["seconds"]) == ("in", "silent.wav", "1.0")
    for name in ("speaker", "peak_dbfs", "level_db", "snr_db", "f0_hz", "bandwidth_hz"):
        assert row[name] == ""


def test_the_csv_says_what_was_measured(folders, tmp_path):
    found = survey.survey([folders / "speech", folders / "noise"])
    save_csv(found, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == survey.COLUMNS
    assert len(rows) == 11
    for row, recording in zip(rows, found.recordings, strict=True):
        assert row["file"] == recording.name
        assert float(row["level_db"]) == pytest.approx(recording.acoustics.level_db, abs=0.051)
        assert float(row["bandwidth_hz"]) == pytest.approx(
            recording.acoustics.bandwidth_hz, abs=0.51)
