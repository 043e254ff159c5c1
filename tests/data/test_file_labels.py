"""Speaker, split and SNR as names and folders tell them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gan_denoise.data.file_labels import is_noise, snr_of, speaker_of, speakers_of, split_of


def touch(root: Path, *names: str) -> None:
    """Labels look at names only: empty files do."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("p226_001.wav", "p226"),
        ("3_jackson_12.flac", "jackson"),
        ("recordings/3_jackson_12.wav", "jackson"),
        ("jackson/3_jackson_12.wav", "jackson"),
        ("3/3_jackson_12.wav", "jackson"),  # the folder is the digit
        ("data/01/3_01_49.wav", "01"),
        ("1/1_1_49.wav", "1"),
        ("1/3_1_49.wav", "1"),
        ("anna/1_take_2.wav", "anna"),
        ("19/198/19-198-0001.flac", "19"),  # the folder is a chapter
        ("an4/fcaw/an406-fcaw-b.flac", "fcaw"),
        ("an4/00e09cf0-a01d-453e-9b89-dc6e6d31d362.flac", None),
        ("train/a.wav", None),
        ("a.wav", None),
        ("1-100032-A-0.wav", None),
        ("000_fcaw_babble_+0dB.flac", None),
    ],
)
def test_speaker_of(tmp_path: Path, name: str, speaker: str | None) -> None:
    touch(tmp_path, "an4/mmkw/x.flac", "19/227/19-227-0000.flac", "test/b.wav", name)
    assert speaker_of(tmp_path / name, tmp_path) == speaker


def test_a_lone_folder_is_no_speaker(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.wav")
    assert speaker_of(tmp_path / "all/a.wav", tmp_path) is None


def test_split_of(tmp_path: Path) -> None:
    assert split_of(tmp_path / "dev/x/a.wav", tmp_path) == "valid"
    assert split_of(tmp_path / "train/x/a.wav", tmp_path / "train") == "train"
    assert split_of(tmp_path / "x/train.wav", tmp_path) is None


def test_speakers_of_many_files_with_one_look_at_each_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{speaker}/{number}.wav" for speaker in ("anna", "fred") for number in range(9)]
    touch(tmp_path, *names, "p226_001.wav", "one/all/a.wav")
    looks: list[str] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (looks.append(os.fspath(path)), scan(path))[1])
    files = [tmp_path / name for name in (*names, "p226_001.wav", "one/all/a.wav")]
    expected = ["anna"] * 9 + ["fred"] * 9 + ["p226", None]
    assert speakers_of((file, tmp_path) for file in files) == expected
    assert looks == [str(tmp_path), str(tmp_path / "one")]
    assert [speaker_of(file, tmp_path) for file in files] == expected


def test_folders_that_change_between_calls(tmp_path: Path) -> None:
    touch(tmp_path, "anna/a.wav")
    files = [(tmp_path / "anna/a.wav", tmp_path)]
    assert speakers_of(files) == [None]
    touch(tmp_path, "fred/b.wav")
    assert speakers_of(files) == ["anna"]


@pytest.mark.parametrize(("name", "snr_db"), [
    ("zz_snr5_tl-21_fileid_2.wav", 5.0), ("noisy1_SNRdb_-2.5_clnsp1.wav", -2.5), ("snr5.wav", None),
])  # fmt: skip
def test_snr_of(name: str, snr_db: float | None) -> None:
    assert snr_of(Path(name)) == snr_db


@pytest.mark.parametrize(("root", "name", "noise"), [
    ("data", "noise/train/rain/1.wav", True), ("data/noise/train", "rain/1.wav", True),
    ("Noises", "1.wav", True), ("rirs/room.wav", ".", True), ("MS-SNSD/noise_train", "a.wav", True),
    ("set", "music/song.flac", True), ("speech", "anna/1.wav", False),
    ("denoised", "1.wav", False), ("noisy", "1.wav", False),
    ("/home/anna/noise_reduction/speech", "anna/1.wav", False),
])  # fmt: skip
def test_noise_is_told_by_its_folder(root: str, name: str, noise: bool) -> None:
    assert is_noise(Path(root, name), Path(root)) == noise
