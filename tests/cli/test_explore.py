"""The commands that study recordings: what a user types, what comes of it."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest
import soundfile
from command_line import gan_denoise, run_main
from conftest import RATE

from gan_denoise.data import synthetic_audio

pytest.importorskip("librosa")
pytest.importorskip("matplotlib")


@pytest.mark.system
def test_a_page_and_a_csv_of_two_folders_with_a_broken_file(tmp_path):
    for number in range(3):
        path = tmp_path / ("one" if number else "two") / f"{number}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, synthetic_audio.voice(number, 1.2, seed=0), RATE)
    (tmp_path / "one" / "text.wav").write_text("this is no recording")
    out, rows = tmp_path / "out" / "page.html", tmp_path / "out" / "rows.csv"
    done = gan_denoise("explore", tmp_path / "one", tmp_path / "two", "-o", out, "--csv", rows,
                       "--samples", 1)
    assert done.returncode == 1, done.stderr
    assert done.stdout == f"3 recordings, 0.00 h, 1 failed, in {out}\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"failed: {tmp_path / 'one' / 'text.wav'}: not readable")
    text = out.read_text(encoding="utf-8")
    assert "text.wav: not readable" in text
    assert text.count("<audio") == 2
    with rows.open(newline="") as file:
        assert [row["folder"] for row in csv.DictReader(file)] == ["one", "one", "two"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["page.html", "rows.csv"]


def test_a_folder_without_audio_is_one_line_and_no_page(tmp_path):
    done = gan_denoise("explore", tmp_path, "-o", tmp_path / "page.html")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: no audio found under {tmp_path}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_written_is_refused_before_any_work(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", np.zeros(100), RATE)
    monkeypatch.setattr("gan_denoise.inspection.survey.survey", None)
    for arguments in (["-o", "a.wav/page.html"], ["-o", "page.html", "--csv", "a.wav/rows.csv"]):
        code, _, errors = run_main(monkeypatch, capfd, "explore", ".", *arguments)
        assert code == 2
        assert errors.startswith(f"error: {arguments[-1]}: cannot be written")
        assert errors.count("\n") == 1


def test_a_recording_is_not_taken_for_the_page(tmp_path, monkeypatch, capfd):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(100), RATE)
    before = path.read_bytes()
    for arguments in (["-o", str(path)], ["-o", "page.html", "--csv", str(path)]):
        code, _, errors = run_main(monkeypatch, capfd, "explore", tmp_path, *arguments)
        assert code == 2
        assert errors.startswith(f"error: {path}: expected a name that ends in ")
    assert path.read_bytes() == before


def test_without_the_extra_it_says_what_to_install(tmp_path, monkeypatch, capfd):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "librosa" else find_spec(name))
    code, _, errors = run_main(monkeypatch, capfd, "explore", tmp_path, "-o", "page.html")
    assert code == 2
    assert errors.startswith("error: explore needs librosa: pip install 'gan-denoise[train]'")
