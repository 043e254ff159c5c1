"""Names of files: not UTF-8, or with control characters. No traceback, nothing lost, none raw."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import warnings

import numpy as np
import pytest
from conftest import RATE

from gan_denoise.audio.writer import write
from gan_denoise.cli import app
from gan_denoise.cli import console as consoles
from gan_denoise.cli.data import print_report
from gan_denoise.core import text
from gan_denoise.data import synthetic_audio
from gan_denoise.evaluation.results import Evaluation, FileScores, read_scores, save
from gan_denoise.evaluation.speakers.attributes import describe
from gan_denoise.evaluation.speakers.comparison import analyze
from gan_denoise.evaluation.speakers.report import write_analysis
from gan_denoise.inspection.findings import CheckReport, DatasetSummary, Finding
from gan_denoise.reports.figures import new_figure, picture_svg
from gan_denoise.reports.pages import render, write_page

LATIN = "caf\udce9"  # a name of Latin-1 bytes, as Python has it
RED = "\x1b[31mred"
NAMES = (LATIN, RED, "line\nbreak", "録音", "$x^$")


def run(monkeypatch, capfd, *arguments):
    """Run the command line in this process; return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["gan-denoise", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        app.main()
    said = capfd.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "Traceback" not in said.err
    return ended.value.code, said.out, said.err


@pytest.fixture
def pairs(tmp_path):
    """Pairs of all names in `noisy/` and `clean/`, and a noise."""
    for number, name in enumerate(NAMES):
        clean = 0.3 * synthetic_audio.voice(number, 0.6, seed=number)
        hiss = 0.03 * synthetic_audio.noise("white", 0.6, seed=number)
        for side, samples in (("clean", clean), ("noisy", clean + hiss)):
            write(tmp_path / side / "plain.wav", samples, RATE)
            os.rename(tmp_path / side / "plain.wav", tmp_path / side / f"{name}.wav")
    write(tmp_path / "noise" / "n.wav", synthetic_audio.noise("white", 1.0, seed=9), RATE)
    return tmp_path


# ---- The terminal ------------------------------------------------------------------------------
@pytest.mark.parametrize("stderr", [False, True])
def test_a_console_escapes_whatever_is_printed(capsys, stderr):
    from rich.table import Table
    from rich.text import Text

    console = consoles.console(stderr)
    table = Table(title=f"title {RED}")
    table.add_row(f"cell {LATIN}", Text("\x07bell"))
    for printed in (f"line {RED} {LATIN}", Text(f"text {RED}"), table):
        console.print(printed, soft_wrap=True)
    consoles.print_text(f"said {RED} {LATIN}\nnext", stderr)
    out, err = capsys.readouterr()
    said = err if stderr else out
    assert not (out if stderr else err)
    for word in ("line \\x1b[31mred caf\\udce9\n", "text \\x1b[31mred\n", "title \\x1b[31mred",
                 "cell caf\\udce9", "said \\x1b[31mred caf\\udce9\nnext\n"):
        assert word in said
    assert not any(ord(character) < 32 and character != "\n" for character in said)


def test_a_console_still_has_its_own_colours():
    stream = io.StringIO()
    console = consoles.console()
    console.file, console._color_system = stream, console._color_system
    coloured = type(console)(file=stream, force_terminal=True, color_system="standard",
                             _environ={})
    coloured.print(f"a {RED}", style="green", highlight=False)
    assert stream.getvalue() == "\x1b[32ma \\x1b[31mred\x1b[0m\n"


def test_what_the_encoding_lacks_is_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = type(consoles.console())(file=stream)
    console.print("録音 ±")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\u9332\\u97f3 \\xb1\n"
    assert text.escape_text("a\nb\u2028c") == "a\nb\\u2028c"


@pytest.mark.parametrize("arguments", [
    ("info", LATIN + RED), ("info", "a", RED), ("info", f"--{RED}"), (f"{RED}",),
    ("explore", ".", "-o", RED), ("mix", "--speech", "a", "--noise", "b", "--out", "c", "--snr",
                                  RED),
    ("evaluate", "--noisy", RED, "--clean", LATIN), ("denoise", RED, "-o", "x"),
    ("check", RED), ("pretrain", "--run", "r", f"data.{RED}=x"), ("mix", "--speech", RED,
                                                                  "--noise", "b", "--out", "c"),
])  # fmt: skip
def test_an_error_shows_no_control_character(monkeypatch, capfd, tmp_path, arguments):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(monkeypatch, capfd, *arguments)
    assert code == 2
    assert not out
    assert "\\x1b[31mred" in err


def test_a_folder_that_tensorflow_cannot_name_is_refused_before_any_work(
    monkeypatch, capfd, tmp_path
):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(monkeypatch, capfd, "pretrain", "--run", LATIN, "data.clean=x")
    assert (code, err.count("\n")) == (2, 1)
    assert "caf\\udce9: TensorFlow writes only where the name is UTF-8" in err


# ---- Files -------------------------------------------------------------------------------------
def evaluation_of(*names):
    rows = tuple(FileScores(name, system, 5.0, 1.0, RATE, {"si_sdr": value + number}, speaker=name)
                 for number, name in enumerate(names)
                 for system, value in (("noisy", 1.0), ("model", 3.0)))
    return Evaluation(("noisy", "model"), rows, notices=(f"of {names[0]}",))


def test_scores_of_any_name_are_written_and_come_back(tmp_path):
    evaluation = evaluation_of(*NAMES)
    save(evaluation, tmp_path)
    assert read_scores(tmp_path) == evaluation
    assert b'"caf\\udce9"' in (tmp_path / "scores.json").read_bytes()
    text = (tmp_path / "scores.csv").read_text(encoding="utf-8")
    assert text.splitlines()[1].startswith("caf\\udce9,noisy,")
    assert len(list(csv.reader(io.StringIO(text)))) == 1 + len(evaluation.rows)


def test_an_analysis_of_speakers_of_any_name_is_written(tmp_path):
    compared = analyze(evaluation_of(*NAMES), describe(NAMES), metrics=["si_sdr"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # also that a font lacks a script
        page = write_analysis(compared, tmp_path)
    assert "caf\\udce9" in page.read_text(encoding="utf-8")
    assert "caf\\udce9" in (tmp_path / "speakers.csv").read_text(encoding="utf-8")


def test_a_figure_takes_any_name(tmp_path):
    figure = new_figure(3, 2)
    axes = figure.subplots()
    axes.plot([0, 1], label=LATIN)
    axes.set_xticks(range(len(NAMES)), NAMES)
    axes.set_title("$" + RED)
    axes.set_yscale("log")
    axes.legend()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picture_svg(figure)
    page = write_page(tmp_path / "page.html", render("base.html.j2", title=LATIN))
    assert "\\udce9" in page.read_text(encoding="utf-8")
    assert axes.get_title() == r"\$\x1b[31mred"
    assert "caf\\udce9" in [label.get_text() for label in axes.get_xticklabels()]
    assert any("mathdefault" in label.get_text() for label in axes.get_yticklabels())


def test_findings_are_printed_in_a_line_each(capsys):
    name = "a\nb" + RED + LATIN
    report = CheckReport([Finding("note", "copy", name, "why", "what to do")],
                         [DatasetSummary(name, "audio")])
    print_report(report, consoles.console())
    said = capsys.readouterr().out
    assert said.count("a\\nb\\x1b[31mredcaf\\udce9") == 2


# ---- Verbs -------------------------------------------------------------------------------------
def test_check_writes_its_findings(tmp_path, monkeypatch, capfd):
    for name in (LATIN, RED):  # a copy each of the other
        write(tmp_path / "same" / "plain.wav", synthetic_audio.voice(0, 0.6, seed=0), RATE)
        os.rename(tmp_path / "same" / "plain.wav", tmp_path / "same" / f"{name}.wav")
    code, out, _ = run(monkeypatch, capfd, "check", tmp_path / "same", "--json",
                       tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["findings"]
    said = " ".join(finding["file"] + finding["reason"] for finding in found)
    assert LATIN in said
    assert RED in said
    assert "caf\\udce9.wav" in out
    assert "\\x1b[31mred.wav" in out
    assert code in (0, 1)


def test_mix_and_evaluate_keep_what_was_done(pairs, monkeypatch, capfd):
    code, _, _ = run(monkeypatch, capfd, "mix", "--speech", pairs / "clean", "--noise",
                     pairs / "noise", "--out", pairs / LATIN)
    assert code == 0
    rows = json.loads((pairs / LATIN / "manifest.json").read_text(encoding="utf-8"))
    assert {row["file"] for row in rows} == {f"{name}.wav" for name in NAMES}
    code, out, _ = run(monkeypatch, capfd, "evaluate", "--noisy", pairs / "noisy", "--clean",
                       pairs / "clean", "--out", pairs / "scores", "-j", 1)
    assert code == 0
    assert "oracle" in out
    scored = json.loads((pairs / "scores" / "scores.json").read_text(encoding="utf-8"))["rows"]
    assert {row["name"] for row in scored} == set(NAMES)


def test_training_takes_any_name(pairs):
    from gan_denoise.config import load_config
    from gan_denoise.data.datasets import load_material

    config = load_config("debug", [f"data.noisy={pairs / 'noisy'}", f"data.clean={pairs / 'clean'}",
                                   "training.steps=1", "data.valid_seconds=0.3"])
    noisy, _ = load_material(config).train.batch(0, 2)
    assert np.isfinite(noisy).all()
