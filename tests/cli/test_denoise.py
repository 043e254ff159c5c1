"""`gan-denoise denoise` on files, folders and pipes, and the choice of its model."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile
from command_line import gan_denoise, refused, run_main, write_recordings
from conftest import RATE

from gan_denoise.config import checkpoint_folder
from gan_denoise.inference import folder as folder_run
from gan_denoise.inference.model import DEFAULT_MODEL
from gan_denoise.inference.options import PRESETS, DenoiseOptions


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture
def denoise(monkeypatch, capfd):
    """Run `gan-denoise denoise` in this process; return its exit code, stdout and stderr."""
    return functools.partial(run_main, monkeypatch, capfd, "denoise")


@pytest.fixture
def refusal(monkeypatch, capfd):
    """Run `gan-denoise denoise` in this process, which refuses; return the one line why."""
    return functools.partial(refused, monkeypatch, capfd, "denoise")


def test_denoise_mirrors_the_tree_and_keeps_formats(recordings, tmp_path):
    done = gan_denoise("denoise", recordings, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout
    for name in ("a.wav", "sub/b.flac", "sub/c d.wav"):
        before, after = soundfile.info(recordings / name), soundfile.info(tmp_path / "out" / name)
        assert (before.frames, before.format, before.subtype) == (
            after.frames, after.format, after.subtype)


def test_a_bad_file_is_named_and_the_rest_is_done(denoise, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text.wav").write_text("this is no recording")
    (folder / "empty.wav").touch()
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.full(4000, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "five.wav", 0.1 * np.ones((4000, 5)), 44100, subtype="PCM_24")
    soundfile.write(folder / "silent.wav", np.zeros(4000), RATE, subtype="PCM_U8")
    code, _, errors = denoise(folder, "-o", tmp_path / "out")
    assert code == 1
    failed = [line for line in errors.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 4
    for name in ("text.wav", "empty.wav", "none.wav", "nan.wav"):
        assert sum(name in line for line in failed) == 1
    written = sorted(path.name for path in (tmp_path / "out").rglob("[!.]*"))
    assert written == ["five.wav", "silent.wav"]
    assert soundfile.info(tmp_path / "out" / "five.wav").channels == 5
    assert not np.any(soundfile.read(tmp_path / "out" / "silent.wav")[0])


def test_ten_broken_files_among_fifty(denoise, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    rng = np.random.default_rng(0)
    for number in range(50):
        (folder / f"{number % 5}").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{number % 5}" / f"[{number}].wav",
                        0.1 * rng.standard_normal(3000), RATE)
    noise = 0.1 * rng.standard_normal(20000)
    (folder / "text.wav").write_text("this is no recording")
    (folder / "empty.flac").touch()
    (folder / "bytes.ogg").write_bytes(rng.bytes(5000))
    (folder / "dangling.wav").symlink_to(folder / "gone.wav")
    os.mkfifo(folder / "pipe.wav")
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.full(4000, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "infinite.wav", np.full(4000, np.inf), RATE, subtype="DOUBLE")
    for name, kept in (("cut.flac", 0.5), ("header.wav", 0.0005)):
        soundfile.write(folder / name, noise, RATE)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(kept * len(whole))])
    broken = {"text.wav": "not readable as audio", "empty.flac": "0 bytes",
              "bytes.ogg": "not readable as audio", "dangling.wav": "no such file",
              "pipe.wav": "no regular file", "none.wav": "holds no samples", "nan.wav": "NaN",
              "infinite.wav": "infinite",
              "header.wav": "not readable as audio"}
    report = tmp_path / "report.json"
    done = gan_denoise("denoise", folder, "-o", out, "-j", 2, "--report", report)
    assert done.returncode == 1
    remark, place, last = done.stdout.splitlines()
    assert remark == "1 file cut off, done as far as there is sound: cut.flac"
    assert place == f"report: {report}"
    assert last.startswith("51 files done, 0 skipped, 9 failed: 0.2 min of audio at ")
    lines = done.stderr.splitlines()
    assert len(lines) == 10
    assert [line for line in lines if "cut.flac: cut off: 0." in line and "of 1.25 s" in line]
    for name, reason in broken.items():
        assert [line for line in lines if line.startswith("failed: ") and name in line
                and reason in line], (name, lines)
    assert len(list(out.rglob("[!.]*.wav"))) == 50
    rows = json.loads(report.read_text())
    assert {Path(row["source"]).name for row in rows if row["status"] == "failed"} == set(broken)
    _, again, _ = denoise(folder, "-o", out)
    assert "1 file cut off" in again
    assert again.splitlines()[-1].startswith("0 files done, 51 skipped (done before), 9 failed")


def test_a_dry_run_says_what_a_run_does(recordings, denoise, tmp_path):
    out = tmp_path / "out"
    assert denoise(recordings / "sub", "-o", out)[0] == 0
    (out / "b.flac").write_bytes(b"cut")
    arguments = (recordings / "sub", recordings / "a.wav", "-o", out, "--dry-run")
    before = {path: path.read_bytes() for path in out.iterdir()}
    code, said, errors = denoise(*arguments)
    assert code == 0, errors
    lines = said.splitlines()
    assert lines[0].startswith("redo, an output is missing or has another size: ")
    assert lines[1] == f"skip: {recordings / 'sub' / 'c d.wav'} (done before)"
    assert lines[2] == f"new: {recordings / 'a.wav'} -> {out / 'a.wav'}"
    assert lines[3].startswith("2 files planned, 1 skipped (done before), 0 failed")
    soundfile.write(out / "a.wav", np.zeros(100), RATE)
    code, said, errors = denoise(*arguments)
    assert (code, errors) == (1, "")
    assert said.splitlines()[2].startswith(f"refused: {out / 'a.wav'}: exists and was not")
    _, said, _ = denoise(*arguments, "--overwrite")
    assert said.splitlines()[2].startswith("redo, overwrite: ")
    (out / "a.wav").unlink()
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_the_settings_of_a_run_reach_the_files(recordings, denoise, tmp_path):
    def samples(name, *arguments, file="a.wav"):
        code, _, errors = denoise(recordings, "--output-dir", tmp_path / name, *arguments)
        assert code == 0, errors
        return soundfile.read(tmp_path / name / file)[0]

    noisy = soundfile.read(recordings / "a.wav")[0]
    full = samples("full")
    light = samples("light", "--preset", "asr")
    np.testing.assert_allclose(samples("none", "--preset", "asr", "--strength", 0), noisy,
                               atol=1 / 32768)
    assert 0 < np.std(light - noisy) < np.std(full - noisy)
    samples("flac", "--format", "flac", "--channels", "mono", "--residual", tmp_path / "removed",
            "--shard", "1/3", "--no-recursive", file="a.flac")
    assert [path.name for path in (tmp_path / "removed").iterdir()] == ["a.flac"]


@pytest.mark.parametrize(("option", "choices"), [
    ("preset", PRESETS), *((name, get_args(DenoiseOptions.model_fields[name].annotation))
                           for name in ("channels", "format")),
])  # fmt: skip
def test_every_choice_of_the_options_can_be_given(
    recordings, tmp_path, monkeypatch, capfd, option, choices
):
    assert len(choices) > 2
    command = ("denoise", recordings / "a.wav", "-o", tmp_path / "out", "--dry-run", f"--{option}")
    for choice in choices:
        assert run_main(monkeypatch, capfd, *command, choice)[0] == 0
    code, _, errors = run_main(monkeypatch, capfd, *command, "nonsense")
    assert code == 2
    assert all(f"'{choice}'" in errors for choice in choices)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--strength", 2), "--strength 2.0: "), (("--atten-lim", -3), "--atten-lim -3.0: "),
    (("--strength", "nan"), "--strength nan: "), (("--shard", "0/4"), "--shard 0/4: "),
    (("--shard", "5/4"), "1/4 to 4/4"), (("--shard", "a"), "expected I/N"),
    (("--report", "x.txt"), ".csv, .json or .html"),
    (("--dry-run", "--report", "x.csv"), "--dry-run"),
    (("--inversion", "griffinlim", "--strength", 0.5), "griffinlim"),
    (("--inversion", "magic"), "magic"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_a_line(
    recordings, tmp_path, monkeypatch, capfd, arguments, said
):
    code, out, errors = run_main(monkeypatch, capfd, "denoise", recordings, "-o", tmp_path / "out",
                                 *arguments)
    assert (code, out) == (2, "")
    assert errors.startswith("error: ")
    assert said in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_page_and_a_table_of_one_run(recordings, tmp_path, monkeypatch, capfd):
    folder, page, table = tmp_path / "in", tmp_path / "page.html", tmp_path / "rows.json"
    folder.mkdir()
    shutil.copy(recordings / "a.wav", folder / "a.wav")
    (folder / "text.wav").write_text("this is no recording")
    code, _, _ = run_main(monkeypatch, capfd, "denoise", folder, "-o", tmp_path / "out",
                          "--report", page, "--report", table)
    assert code == 1  # one file has failed; the reports are whole
    assert [row["status"] for row in json.loads(table.read_text())] == ["done", "failed"]
    text = page.read_text(encoding="utf-8")
    assert "1 done, 0 skipped, 1 failed" in text
    assert "not readable as audio" in text
    assert text.count('data-audio="data:audio/') == 2  # before and after
    assert DEFAULT_MODEL in text
    assert text.rstrip().endswith("</html>")


def test_ctrl_c_leaves_a_whole_page_of_what_was_done(recordings, tmp_path, monkeypatch, capfd):
    page = tmp_path / "page.html"
    run_task = folder_run.run_task

    def once(*arguments):
        monkeypatch.setattr(folder_run, "run_task", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        return run_task(*arguments)

    monkeypatch.setattr(folder_run, "run_task", once)
    code, _, errors = run_main(monkeypatch, capfd, "denoise", recordings, "-o", tmp_path / "out",
                               "-j", 1, "--report", page)
    assert code == 130
    assert "the same command goes on" in errors
    text = page.read_text(encoding="utf-8")
    assert "Stopped after 1 of 3 files." in text
    assert text.count('data-audio="data:audio/') == 2
    assert text.rstrip().endswith("</html>")


@pytest.mark.parametrize("text", ["128", "128k", "128K", "128kbit/s", "128kbps"])
def test_a_bit_rate_as_people_write_it(recordings, tmp_path, monkeypatch, capfd, text):
    report = tmp_path / "report.json"
    command = ("denoise", recordings / "a.wav", "--format", "mp3", "--bit-rate")
    code, _, _ = run_main(monkeypatch, capfd, *command, text, "-o", tmp_path / "out", "--report",
                          report)
    assert code == 0
    seconds = json.loads(report.read_text())[0]["seconds"]
    size = (tmp_path / "out" / "a.mp3").stat().st_size
    assert 0.6 < size * 8 / seconds / 128_000 < 1.6  # a short file, with headers
    code, _, errors = run_main(monkeypatch, capfd, *command, "many", "-o", tmp_path / "out")
    assert (code, errors) == (2, "error: --bit-rate many: expected kbit/s, for instance 128\n")


def test_denoise_refuses_before_any_work(recordings, refusal, tmp_path):
    assert "no such" in refusal(tmp_path / "none", "-o", tmp_path / "o")
    (tmp_path / "empty").mkdir()
    assert "no audio found" in refusal(tmp_path / "empty", "-o", tmp_path / "o")
    assert "output folder is the input" in refusal(recordings, "-o", recordings)
    assert "shipped models" in refusal(recordings, "-o", tmp_path / "o", "-m", "nonsense")
    assert not (tmp_path / "o").exists()


def test_a_model_folder_that_is_not_whole_or_too_new_is_refused(recordings, refusal, tmp_path):
    source = checkpoint_folder() / DEFAULT_MODEL
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.yaml", "mel_filterbank.npy"):
        (model / name).write_bytes((source / name).read_bytes())
    arguments = (recordings, "-o", tmp_path / "o", "-m", model)
    assert "model.onnx" in refusal(*arguments)
    (model / "model.onnx").write_bytes((source / "model.onnx").read_bytes()[:1000])
    assert "not a usable model" in refusal(*arguments)
    settings = (source / "config.yaml").read_text()
    newer = re.sub(r"format_version: \d+", "format_version: 9", settings)
    (model / "config.yaml").write_text(newer)
    assert "newer gan_denoise" in refusal(*arguments)
    assert not (tmp_path / "o").exists()


def test_the_time_under_way_changes_nothing(recordings, denoise, tmp_path):
    for seconds in ("1", "500"):
        code, _, errors = denoise(recordings / "a.wav", "-o", tmp_path / seconds,
                                  "--chunk-seconds", seconds)
        assert code == 0, errors
    assert (tmp_path / "1" / "a.wav").read_bytes() == (tmp_path / "500" / "a.wav").read_bytes()


# ---- Pipes -------------------------------------------------------------------------------------
def piped(data: bytes, *arguments) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "gan_denoise.cli", "denoise", "-", "-o", "-", *arguments],
        input=data, capture_output=True,
    )


@pytest.mark.parametrize("arguments", [(), ("--strength", "0.5", "--channels", "mono")])
def test_a_pipe_gives_what_a_file_gives(denoise, tmp_path, arguments):
    noisy = np.random.default_rng(0).uniform(-0.3, 0.3, (30000, 2))
    soundfile.write(tmp_path / "a.wav", noisy, 44100, subtype="PCM_24")
    code, _, errors = denoise(tmp_path / "a.wav", "-o", tmp_path / "out", *arguments)
    assert code == 0, errors
    stream = piped((tmp_path / "a.wav").read_bytes(), *arguments)
    assert stream.returncode == 0, stream.stderr
    (tmp_path / "b.wav").write_bytes(stream.stdout)
    assert soundfile.info(tmp_path / "b.wav").subtype == "PCM_24"
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav")[0],
                                  soundfile.read(tmp_path / "out" / "a.wav")[0])


def test_what_a_pipe_cannot_do_is_refused_in_one_line(recordings, refusal, tmp_path):
    done = piped(b"no WAV at all")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: standard input: ")
    assert b"Traceback" not in done.stderr
    for arguments in (("-", "-o", tmp_path), (recordings, "-o", "-"), ("-", recordings, "-o", "-")):
        assert "denoise - -o -" in refusal(*arguments)
    for option in (("--report", tmp_path / "r.csv"), ("--peak-guard",), ("--preset", "podcast")):
        assert "a stream takes no" in refusal("-", "-o", "-", *option)


def test_a_reader_that_has_had_enough_ends_it_quietly(tmp_path):
    noisy = np.random.default_rng(0).uniform(-0.3, 0.3, 60 * RATE)
    soundfile.write(tmp_path / "a.wav", noisy, RATE)
    with open(tmp_path / "a.wav", "rb") as source:
        process = subprocess.Popen(
            [sys.executable, "-m", "gan_denoise.cli", "denoise", "-", "-o", "-"], stdin=source,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        process.stdout.read(10)
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(60) == 1
        assert errors == b""
