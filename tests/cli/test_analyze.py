"""`gan-denoise analyze`: from a folder of scores to a page and tables."""

from __future__ import annotations

import csv
import importlib.util
import re
import sys

import numpy as np
import pytest

from gan_denoise.cli import main
from gan_denoise.cli.options import USAGE
from gan_denoise.evaluation import results
from gan_denoise.evaluation.results import Evaluation, FileScores

pytest.importorskip("matplotlib")


@pytest.fixture
def folder(tmp_path):
    """Scores of 12 speakers; women gain 2 dB more, one speaker has no STOI."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        speaker = f"{'fm'[number % 2]}{number:02d}"
        for file in range(3):
            noisy = {"stoi": 0.7, "si_sdr": rng.normal(0, 1)}
            gain = 6 + 2 * (number % 2 == 0) + rng.normal(0, 0.5)
            model = {"stoi": 0.8 + rng.normal(0, 0.02), "si_sdr": noisy["si_sdr"] + gain}
            if number == 3:
                del model["stoi"]
            for system, found in (("noisy", noisy), ("<hush>", model)):
                rows.append(FileScores(f"{speaker}_{file}", system, 5.0, 1.0, 16000, found))
    results.save(Evaluation(("noisy", "<hush>"), tuple(rows)), tmp_path / "scores")
    return tmp_path


def analyze(folder, *arguments):
    with pytest.raises(SystemExit) as done:
        main("analyze", str(folder / "scores"), "-o", str(folder / "out"), *arguments)
    return done.value.code


@pytest.fixture(autouse=True)
def plain_terminal(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gan-denoise"])
    monkeypatch.setenv("COLUMNS", "100")


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


PATTERNS = ("--speaker-pattern", "^([fm]..)_", "--attribute-pattern", "^(?P<gender>[fm])")


def test_a_difference_is_printed_and_written(folder, capsys):
    assert not analyze(folder, *PATTERNS)
    shown = capsys.readouterr()
    assert "What differs\n- gender: SI-SDR gains +8." in shown.out
    assert re.search(r"all +12 +36 +\+0\.1\d\d +\+\d\.\d\d dB", shown.out)
    assert str(folder / "out" / "analysis.html") in shown.err.replace("\n", "")
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "analysis.csv", "analysis.html", "speakers.csv", "tests.csv"]

    (stoi, si_sdr) = read(folder / "out" / "tests.csv")
    assert (si_sdr["metric"], si_sdr["highest"], si_sdr["lowest"]) == ("si_sdr", "f", "m")
    assert float(si_sdr["difference"]) == pytest.approx(2.0, abs=0.5)
    assert float(si_sdr["p"]) <= float(si_sdr["adjusted_p"]) < 0.05 < float(stoi["adjusted_p"])
    assert stoi["groups"] in ("f 6; m 5", "m 5; f 6")

    groups = read(folder / "out" / "analysis.csv")
    assert [(row["attribute"], row["group"], row["metric"], row["speakers"], row["files"])
            for row in groups] == [
        ("", "all speakers", "stoi", "11", "33"), ("", "all speakers", "si_sdr", "12", "36"),
        ("gender", "f", "stoi", "6", "18"), ("gender", "m", "stoi", "5", "15"),
        ("gender", "f", "si_sdr", "6", "18"), ("gender", "m", "si_sdr", "6", "18")]
    assert all(float(row["low"]) < float(row["improvement"]) < float(row["high"])
               for row in groups)
    speakers = read(folder / "out" / "speakers.csv")
    gains = [float(row["improvement"]) for row in speakers if row["metric"] == "si_sdr"]
    assert len(gains) == 12
    assert gains == sorted(gains)  # the least helped first


def test_the_page_says_it_in_words_tables_and_pictures(folder):
    analyze(folder, *PATTERNS)
    text = (folder / "out" / "analysis.html").read_text(encoding="utf-8")
    assert "<h1>Does &lt;hush&gt; help all speakers alike?</h1>" in text
    headings = re.findall("<h2>(.*?)</h2>", text)
    assert headings == ["Over all speakers", "What differs",
                        "What does not differ, as far as can be seen", "Gender", "Speakers",
                        "How to read this"]
    assert text.count("<svg") == 2
    assert text.count("<table>") == 3
    assert ">differs<" in text
    assert ">not found<" in text


def test_the_same_scores_give_the_same_files(folder):
    def written():
        analyze(folder, *PATTERNS)
        return {path.name: path.read_bytes() for path in (folder / "out").iterdir()}

    assert written() == written()


def test_speakers_alone_need_no_attributes(folder, capsys):
    assert not analyze(folder, "--speaker-pattern", "^([fm]..)_", "--metric", "si_sdr")
    assert "12 of 12 speakers gain" in capsys.readouterr().out
    assert read(folder / "out" / "tests.csv") == []


def test_many_small_groups_are_shown_as_one(folder, capsys):
    table = folder / "speakers.csv"
    accents = ["x"] * 6 + ["a", "b", "c", "d", "e", "e"]
    table.write_text("speaker,accent\n" + "".join(
        f"{'fm'[number % 2]}{number:02d},{accent}\n" for number, accent in enumerate(accents)))
    assert not analyze(folder, "--speaker-pattern", "^([fm]..)_", "--speakers", str(table))
    shown = capsys.readouterr().out
    assert re.search(r"smaller groups +6 ", shown)
    assert "accent: not compared." in shown
    groups = {row["group"] for row in read(folder / "out" / "analysis.csv")}
    assert groups == {"all speakers", *accents}  # the file has each


@pytest.mark.parametrize(("arguments", "reason"), [
    ((), "no file has a speaker"),
    (("--speaker-pattern", "^(X)"), "fits no file"),
    ((*PATTERNS, "--system", "none"), "no system 'none' was scored"),
    ((*PATTERNS, "--metric", "pesq_wb"), "'pesq_wb' has no scores"),
    ((*PATTERNS, "--attribute", "age"), "'age' is known of no speaker; there is gender"),
    ((*PATTERNS, "--speakers", "nowhere.csv"), "nowhere.csv"),
])  # fmt: skip
def test_what_cannot_be_done_is_one_line_and_writes_nothing(folder, capsys, arguments, reason):
    assert analyze(folder, *arguments) == USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert reason in shown.err
    assert shown.err.count("\n") == 1
    assert not (folder / "out").exists()


def test_without_matplotlib_nothing_is_written(folder, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "matplotlib" else find(name))
    assert analyze(folder, *PATTERNS) == USAGE
    assert "needs matplotlib: pip install" in capsys.readouterr().err
    assert not (folder / "out").exists()
