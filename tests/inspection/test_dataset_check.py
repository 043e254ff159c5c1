"""The dataset doctor finds what was put in, and nothing in a healthy set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import write
from gan_denoise.data.pairs import PairError
from gan_denoise.inspection import file_checks
from gan_denoise.inspection.dataset_check import check_datasets
from gan_denoise.inspection.findings import CheckReport

RATE = 16000  # Hz


def voice(seed: int, seconds: float = 1.0) -> np.ndarray:
    """Low-passed noise in bursts, each seed another: `[samples]`, correlated like speech."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    smooth = np.convolve(rng.standard_normal(samples + 15), np.ones(16), "valid")
    bursts = 0.6 + 0.4 * np.sin(np.arange(samples) * 2 * np.pi * 4 / RATE)
    signal = smooth * bursts
    return (0.3 * signal / np.abs(signal).max()).astype(np.float32)


def mixed(clean: np.ndarray, snr_db: float, seed: int = 99) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(len(clean))
    gain = np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10 ** (snr_db / 10))
    return (clean + gain * noise).astype(np.float32)


def found(report: CheckReport, kind: str) -> list[tuple[str, str]]:
    return [(f.severity, Path(f.file).name) for f in report.findings if f.kind == kind]


def make_pairs(root: Path, count: int = 4, snr_db: float = 5.0, first: int = 0) -> None:
    for index in range(first, first + count):
        clean = voice(index)
        write(root / "clean" / f"{index}.wav", clean, RATE, subtype="FLOAT")
        write(root / "noisy" / f"{index}.wav", mixed(clean, snr_db), RATE, subtype="FLOAT")


# ---- Healthy data ----


def test_healthy_pairs_have_no_findings(tmp_path: Path) -> None:
    make_pairs(tmp_path)
    report = check_datasets([tmp_path], deep=True)
    assert report.findings == []
    (summary,) = report.summary
    assert (summary.kind, summary.files, summary.snr_db) == ("pairs", 8, {"5": 4})
    assert summary.hours == pytest.approx(4 / 3600)  # clean only
    assert summary.sample_rates == {"16000": 8}


def test_healthy_folder(tmp_path: Path) -> None:
    for number, speaker in enumerate(("anna", "Фёдор")):
        for take in range(2):
            write(tmp_path / speaker / f"take {take}.flac", voice(2 * number + take), RATE)
    report = check_datasets([tmp_path])
    assert report.findings == []
    (summary,) = report.summary
    assert (summary.kind, summary.files, summary.speakers) == ("audio", 4, 2)
    assert summary.subtypes == {"FLAC PCM_16": 4}


# ---- Single files ----


def test_each_fault_of_a_file(tmp_path: Path) -> None:
    good = voice(0)
    write(tmp_path / "good.wav", good, RATE)
    write(tmp_path / "clipped.wav", 20 * good, RATE)
    write(tmp_path / "silent.wav", 0 * good, RATE)
    write(tmp_path / "dc.wav", good + 0.2, RATE)
    write(tmp_path / "hot.wav", 5 * good, RATE, subtype="FLOAT")
    write(tmp_path / "blip.wav", voice(1, 0.05), RATE)
    write(tmp_path / "eight.wav", voice(2), RATE, subtype="PCM_U8")
    write(tmp_path / "five.wav", np.stack([voice(k) for k in range(3, 8)]), RATE)
    write(tmp_path / "old.wav", voice(8), 8000)
    write(tmp_path / "studio.wav", voice(9), 48000)
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write(tmp_path / "zero.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "nan.wav", np.where(good > 0.29, np.nan, good), RATE, "FLOAT")
    whole = (tmp_path / "good.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[: len(whole) // 2])

    report = check_datasets([tmp_path])
    assert found(report, "clipping") == [("warning", "clipped.wav")]
    assert found(report, "silence") == [("warning", "silent.wav")]
    assert found(report, "dc offset") == [("warning", "dc.wav")]
    assert found(report, "level") == [("note", "hot.wav")]
    assert found(report, "short") == [("note", "blip.wav")]
    assert found(report, "coarse format") == [("note", "eight.wav")]
    assert found(report, "cut off") == [("warning", "cut.wav")]
    assert sorted(found(report, "unreadable")) == [
        ("error", "nan.wav"), ("error", "text.wav"), ("error", "zero.wav"),
    ]  # fmt: skip
    assert len(found(report, "low rate")) == len(found(report, "other rate")) == 1
    assert len(found(report, "channels")) == 1
    assert all(f.reason and f.way_out and f.file for f in report.findings)
    assert not [f for f in report.findings if f.file in f.reason or f.way_out in f.reason]
    assert [f.severity for f in report.findings] == sorted(
        (f.severity for f in report.findings), key=["error", "warning", "note"].index
    )


def test_deep_reads_beyond_the_first_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_checks, "BLOCK_SECONDS", 0.5)
    late = voice(0, 1.2)
    late[-5:] = np.inf
    write(tmp_path / "good.wav", voice(0, 1.2), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "late.wav", late, RATE, "FLOAT")
    assert found(check_datasets([tmp_path]), "unreadable") == []
    assert found(check_datasets([tmp_path], deep=True), "unreadable") == [("error", "late.wav")]


# ---- Pairs ----


def test_each_fault_of_a_pair(tmp_path: Path) -> None:
    make_pairs(tmp_path, 3)
    faults = {
        "late": np.concatenate([np.zeros(37), mixed(voice(20), 10.0)])[:RATE],
        "identical": voice(21),
        "long": np.concatenate([mixed(voice(22), 0.0), np.zeros(500)]),
        "inverted": -mixed(voice(23), 10.0),
        "other": voice(70),
    }
    for index, (name, noisy) in enumerate(faults.items(), start=20):
        write(tmp_path / "clean" / f"{name}.wav", voice(index), RATE, subtype="FLOAT")
        write(tmp_path / "noisy" / f"{name}.wav", noisy, RATE, subtype="FLOAT")
    write(tmp_path / "clean" / "rate.wav", voice(30), RATE)
    write(tmp_path / "noisy" / "rate.wav", voice(31), 8000)

    report = check_datasets([tmp_path])
    (late,) = [f for f in report.findings if f.kind == "misaligned"]
    assert Path(late.file).name == "late.wav"
    assert late.reason.startswith("37 samples late")
    assert found(report, "identical") == [("warning", "identical.wav")]
    assert found(report, "length mismatch") == [("error", "long.wav")]
    assert found(report, "polarity") == [("error", "inverted.wav")]
    assert found(report, "unrelated") == [("warning", "other.wav")]
    assert found(report, "rate mismatch") == [("warning", "rate.wav")]
    assert found(report, "copy") == found(report, "leak") == []
    assert report.summary[0].snr_db["identical"] == 1


def test_the_manifest_is_compared_with_the_waveforms(tmp_path: Path) -> None:
    make_pairs(tmp_path, 2, snr_db=5.0)
    rows = [{"file": "0.wav", "snr_db": 5.0}, {"file": "1.wav", "snr_db": 15.0}]
    (tmp_path / "manifest.json").write_text(json.dumps(rows))
    assert found(check_datasets([tmp_path]), "snr") == [("warning", "1.wav")]


def test_orphans_are_an_error_and_the_files_are_examined_anyway(tmp_path: Path) -> None:
    make_pairs(tmp_path, 3)
    (tmp_path / "clean" / "1.wav").unlink()
    report = check_datasets([tmp_path])
    (orphans,) = [f for f in report.findings if f.kind == "pairs"]
    assert orphans.severity == "error"
    assert "1 file(s)" in orphans.reason
    assert "add the partners" in orphans.way_out
    assert report.summary[0].files == 5


@settings(max_examples=25, deadline=None)
@given(lag=st.integers(-400, 400), snr_db=st.sampled_from([-5.0, 0.0, 20.0]))
def test_a_known_lag_comes_back(lag: int, snr_db: float) -> None:
    clean = voice(5)
    noisy = np.roll(mixed(clean, snr_db), lag)
    measured, best, *_ = file_checks.align(noisy, clean, RATE)
    assert measured == lag
    assert best == pytest.approx(1 / np.sqrt(1 + 10 ** (-snr_db / 10)), abs=0.1)


def test_an_offset_makes_no_correlation() -> None:
    """Both files of an unrelated pair have the offset of the same sound card."""
    noise = np.random.default_rng(0).standard_normal(RATE)
    found = file_checks.align(0.5 + 0.01 * noise, 0.5 + 0.01 * voice(5)[:RATE], RATE)
    assert abs(found.correlation) < 0.2
    assert found.sharpness < 8


def test_silence_correlates_with_nothing() -> None:
    assert file_checks.align(np.zeros(100), voice(0), RATE) == (0, 0.0, 0.0, 0.0)


# ---- Leaks ----


def test_same_audio_in_two_splits_is_a_leak_in_another_format_too(tmp_path: Path) -> None:
    for split, seed in (("train", 0), ("test", 10)):
        make_pairs(tmp_path / split, 2, first=seed)
    samples = soundfile.read(tmp_path / "train" / "clean" / "0.wav", dtype="float32")[0]
    write(tmp_path / "test" / "clean" / "copy.caf", samples, RATE, subtype="FLOAT")
    write(tmp_path / "test" / "noisy" / "copy.caf", mixed(samples, 0.0), RATE, subtype="FLOAT")
    report = check_datasets([tmp_path])
    assert len(found(report, "leak")) == 1
    assert found(report, "leak")[0][0] == "error"
    assert report.summary[0].splits == {"test": 3, "train": 2}


def test_same_audio_in_two_given_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "x.wav", voice(0), RATE)
        write(tmp_path / name / f"only {name}.wav", voice(ord(name)), RATE)
        write(tmp_path / name / "silence.wav", np.zeros(RATE, np.float32), RATE)
    assert found(check_datasets([tmp_path / "a", tmp_path / "b"]), "leak") == [("error", "x.wav")]


def test_a_copy_within_a_folder_is_a_note(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write(tmp_path / f"{name}.wav", voice(0), RATE)
    assert found(check_datasets([tmp_path]), "copy") == [("note", "y.wav")]


@pytest.mark.parametrize(
    ("split", "severity"), [("test", "error"), ("valid", "warning"), ("extra", None)]
)
def test_same_speaker_in_two_splits(tmp_path: Path, split: str, severity: str | None) -> None:
    for index, name in enumerate(("train/anna/a", "train/ben/b", f"{split}/anna/c",
                                  f"{split}/cleo/d")):  # fmt: skip
        write(tmp_path / f"{name}.wav", voice(index), RATE)
    leaks = [f for f in check_datasets([tmp_path]).findings if f.kind == "speaker leak"]
    assert [f.severity for f in leaks] == ([severity] if severity else [])
    assert all("anna" in f.reason for f in leaks)
    apart = check_datasets([tmp_path / "train", tmp_path / split])
    assert len(found(apart, "speaker leak")) == bool(severity)


def test_kinds_of_noise_are_no_speakers(tmp_path: Path) -> None:
    for index, name in enumerate(("train/rain", "train/dog", "test/rain", "test/dog")):
        write(tmp_path / "noise" / name / "x.wav", voice(index), RATE)
    report = check_datasets([tmp_path / "noise"])
    assert report.findings == []
    assert report.summary[0].speakers == 0


# ---- Report and usage ----


def test_json_is_strict(tmp_path: Path) -> None:
    make_pairs(tmp_path, 5)
    for index in range(5):
        clean = soundfile.read(tmp_path / "clean" / f"{index}.wav", dtype="float32")[0]
        write(tmp_path / "noisy" / f"{index}.wav", clean, RATE, subtype="FLOAT")
    report = check_datasets([tmp_path])

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads(report.to_json(), parse_constant=refuse)
    assert len(content["findings"]) == report.count("warning") == 5
    assert content["summary"][0]["snr_db"] == {"identical": 5}


def test_progress_and_threads_change_nothing(tmp_path: Path) -> None:
    make_pairs(tmp_path, 4)
    calls: list[tuple[int, int]] = []
    one = check_datasets([tmp_path], jobs=1, progress=lambda *count: calls.append(count))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check_datasets([tmp_path], jobs=3).to_json() == one.to_json()


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no such file or folder"):
        check_datasets([tmp_path / "absent"])
    with pytest.raises(AudioError, match="no audio found"):
        check_datasets([tmp_path])
    (tmp_path / "pairs.csv").write_text("noisy,clean\nx.wav,y.wav\n")
    with pytest.raises(PairError, match="do not exist"):
        check_datasets([tmp_path / "pairs.csv"])


def test_one_file_is_a_dataset(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", voice(0), RATE)
    assert check_datasets([tmp_path / "a.wav"]).summary[0].files == 1
