"""`gan-denoise check`, `mix` and `features`: what is printed, what is written."""

from __future__ import annotations

import io
import json

import numpy as np
import soundfile
from command_line import gan_denoise
from conftest import RATE
from rich.console import Console

from gan_denoise.cli.data import print_report
from gan_denoise.data import synthetic_audio
from gan_denoise.inspection.findings import CheckReport, DatasetSummary, Finding


# ---- check -------------------------------------------------------------------------------------
def test_a_path_is_printed_as_it_is(tmp_path):
    path = tmp_path / "[red] :dog:"
    path.mkdir()
    soundfile.write(path / "[b].wav", np.zeros(RATE), RATE)
    done = gan_denoise("check", path)
    assert f"{path}"[-12:] in done.stdout
    assert "[b].wav: silent" in done.stdout


def test_rates_are_compared_with_that_of_the_config(command, tmp_path):
    for number, rate in enumerate((8000, 16000)):
        speech = synthetic_audio.voice(number, 1.0, seed=number)
        soundfile.write(tmp_path / f"{rate}.wav", speech[:: RATE // rate], rate)

    def rates(*arguments):
        code, _, errors = command("check", tmp_path, "--json", tmp_path / "f.json", *arguments)
        assert code == 0, errors
        findings = json.loads((tmp_path / "f.json").read_text())["findings"]
        return [(found["kind"], found["reason"].split(" Hz")[0]) for found in findings
                if "rate" in found["kind"]]

    assert rates() == [("low rate", "1 file(s) at 8000")]
    assert rates("--config", "seeds/audio-mnist") == [("other rate", "1 file(s) at 16000")]


def test_findings_are_grouped_and_some_of_each_kind_are_named():
    findings = [Finding("error", "leak", f"{name}.wav", "the same audio", "keep one")
                for name in "abcde"] + [Finding("note", "copy", "f.wav", "again", "leave it out")]
    summary = DatasetSummary("folder", "audio", files=6, hours=1.5, sample_rates={"16000": 6})
    page = io.StringIO()
    print_report(CheckReport(findings, [summary]), Console(file=page, width=100))
    lines = [line.strip() for line in page.getvalue().splitlines()]
    assert lines[-7:] == [
        "error leak: 5", "a.wav: the same audio; keep one", "b.wav: the same audio; keep one",
        "c.wav: the same audio; keep one", "... and 2 more", "note copy: 1",
        "f.wav: again; leave it out"]
    assert any("6 (audio), 1.50 h" in line for line in lines)
    assert any("16000: 6" in line for line in lines)


def test_nothing_found_is_said():
    page = io.StringIO()
    print_report(CheckReport([], []), Console(file=page))
    assert page.getvalue() == "nothing to complain about\n"


# ---- mix ---------------------------------------------------------------------------------------
def test_mix_writes_the_snr_that_the_manifest_says(command, tmp_path):
    synthetic_audio.write_corpus(tmp_path / "corpus", minutes=0.2)
    code, _, errors = command(
        "mix", "--speech", tmp_path / "corpus/speech/test", "--noise",
        tmp_path / "corpus/noise/test", "--out", tmp_path / "pairs", "--snr", "0,10", "--count", 3)
    assert code == 0, errors
    rows = json.loads((tmp_path / "pairs/manifest.json").read_text())
    assert [row["snr_db"] for row in rows] == [0, 10, 0]
    for row in rows:
        noisy = soundfile.read(tmp_path / "pairs/noisy" / row["file"])[0]
        clean = soundfile.read(tmp_path / "pairs/clean" / row["file"])[0]
        snr = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert abs(snr - row["snr_db"]) < 0.1
    code, said, errors = command("check", tmp_path / "pairs")
    assert code == 0, said + errors


def test_snrs_that_are_no_numbers_are_refused_in_a_line(refusal, tmp_path):
    line = refusal("mix", "--speech", "s", "--noise", "n", "--out", tmp_path / "out",
                   "--snr", "0;5")
    assert line == "error: --snr 0;5: expected numbers such as -5,0,5"
    assert not (tmp_path / "out").exists()


# ---- features ----------------------------------------------------------------------------------
def test_features_are_written_and_a_model_of_their_transform_is_scored_on_them(
    folders, tiny_model, command, refusal, tmp_path
):
    code, said, errors = command(
        "features", "--config", tiny_model / "config.yaml", "--out", tmp_path / "features",
        f"data.clean={folders / 'clean'}", "data.valid_fraction=0.25",
        "training.select_by=snr_mel")
    assert code == 0, errors
    assert "10 validation" in " ".join(said.split())
    code, said, errors = command("evaluate", "--features", tmp_path / "features", "-m", tiny_model,
                                 "--out", tmp_path / "scores")
    assert code == 0, errors
    assert "best gain" in said
    rows = json.loads((tmp_path / "scores/scores.json").read_text(encoding="utf-8"))["rows"]
    assert {row["speaker"] for row in rows} == {rows[0]["speaker"]} != {None}
    line = refusal("evaluate", "--features", tmp_path / "features")
    assert "made with" in line  # the default model has another transform
    assert "or --features" in refusal("evaluate", "--noisy", folders / "noisy")
