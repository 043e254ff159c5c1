"""The command line: help, exit codes, one clear line for bad input, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise.config import checkpoint_folder
from gan_denoise.data import synthetic_audio
from gan_denoise.inference.model import DEFAULT_MODEL

RATE = 16000
HEAVY = ("tensorflow", "keras", "librosa", "torch", "matplotlib", "sklearn", "optuna", "wandb")


def gan_denoise(*arguments, **environment):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "gan_denoise.cli", *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **environment},
    )


def refusal(done) -> str:
    """Return the one line of an error that ended with exit code 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings in a tree, and their noise."""
    folder = tmp_path_factory.mktemp("recordings")
    for number, name in enumerate(("a.wav", "sub/b.flac", "sub/c d.wav")):
        speech = synthetic_audio.voice(number, 1.2, seed=number)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.5 * speech + 0.02 * synthetic_audio.noise("fan", 1.2, number), RATE)
    return folder


@pytest.mark.parametrize("verb", ["", "demo", "check", "mix", "pretrain", "finetune", "evaluate",
                                  "denoise", "export", "info", "bench", "analyze", "features",
                                  "seeds", "explore", "rooms", "tune"])
def test_help_fits_the_terminal(verb):
    done = gan_denoise(*verb.split(), "--help", COLUMNS="80", TERMINAL_WIDTH="80")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_denoise_and_info_import_nothing_heavy(recordings, tmp_path):
    code = (
        "import sys\n"
        "from gan_denoise.cli import main\n"
        "for arguments in (['denoise', sys.argv[1], '-o', sys.argv[2]], ['info']):\n"
        "    sys.argv[1:] = []\n"
        "    try:\n"
        "        main(*arguments)\n"
        "    except SystemExit as done:\n"
        "        assert not done.code, done.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    code = code.replace("['denoise', sys.argv[1], '-o', sys.argv[2]]",
                        repr(["denoise", str(recordings), "-o", str(tmp_path / "out")]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(list((tmp_path / "out").rglob("[!.]*.*"))) == 3


def test_denoise_mirrors_the_tree_and_keeps_formats(recordings, tmp_path):
    done = gan_denoise("denoise", recordings, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "3 files" in done.stdout
    for name in ("a.wav", "sub/b.flac", "sub/c d.wav"):
        before, after = soundfile.info(recordings / name), soundfile.info(tmp_path / "out" / name)
        assert (before.frames, before.format, before.subtype) == (
            after.frames, after.format, after.subtype)


def test_a_bad_file_is_named_and_the_rest_is_done(recordings, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "text.wav").write_text("this is no recording")
    (folder / "empty.wav").touch()
    soundfile.write(folder / "none.wav", np.zeros(0), RATE)
    soundfile.write(folder / "nan.wav", np.full(4000, np.nan), RATE, subtype="FLOAT")
    soundfile.write(folder / "five.wav", 0.1 * np.ones((4000, 5)), 44100, subtype="PCM_24")
    soundfile.write(folder / "silent.wav", np.zeros(4000), RATE, subtype="PCM_U8")
    done = gan_denoise("denoise", folder, "-o", tmp_path / "out")
    assert done.returncode == 1
    failed = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 4
    for name in ("text.wav", "empty.wav", "none.wav", "nan.wav"):
        assert sum(name in line for line in failed) == 1
    written = sorted(path.name for path in (tmp_path / "out").rglob("[!.]*"))
    assert written == ["five.wav", "silent.wav"]
    assert soundfile.info(tmp_path / "out" / "five.wav").channels == 5
    assert not np.any(soundfile.read(tmp_path / "out" / "silent.wav")[0])


def test_ten_broken_files_among_fifty(tmp_path):
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
    remark, last = done.stdout.splitlines()
    assert remark == "1 file cut off, done as far as there is sound: cut.flac"
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
    again = gan_denoise("denoise", folder, "-o", out)
    assert "1 file cut off" in again.stdout
    assert again.stdout.splitlines()[-1].startswith("0 files done, 51 skipped, 9 failed")


def test_a_dry_run_says_what_a_run_does(recordings, tmp_path):
    out = tmp_path / "out"
    assert gan_denoise("denoise", recordings / "sub", "-o", out).returncode == 0
    (out / "b.flac").write_bytes(b"cut")
    arguments = ("denoise", recordings / "sub", recordings / "a.wav", "-o", out, "--dry-run")
    before = {path: path.read_bytes() for path in out.iterdir()}
    done = gan_denoise(*arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("redo, an output is missing or has another size: ")
    assert lines[1] == f"skip: {recordings / 'sub' / 'c d.wav'} (done before)"
    assert lines[2] == f"new: {recordings / 'a.wav'} -> {out / 'a.wav'}"
    assert lines[3].startswith("2 files planned, 1 skipped, 0 failed")
    soundfile.write(out / "a.wav", np.zeros(100), RATE)
    done = gan_denoise(*arguments)
    assert done.returncode == 1
    assert done.stdout.splitlines()[2].startswith(f"refused: {out / 'a.wav'}: exists and was not")
    assert not done.stderr
    done = gan_denoise(*arguments, "--overwrite")
    assert done.stdout.splitlines()[2].startswith("redo, overwrite: ")
    (out / "a.wav").unlink()
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_the_settings_of_a_run_reach_the_files(recordings, tmp_path):
    def samples(name, *arguments, file="a.wav"):
        done = gan_denoise("denoise", recordings, "--output-dir", tmp_path / name, *arguments)
        assert done.returncode == 0, done.stderr
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


def test_the_choices_are_those_of_the_treatment():
    from typing import get_args

    from gan_denoise.cli import denoise
    from gan_denoise.inference.options import PRESETS, Treatment

    assert list(denoise.Preset) == list(PRESETS)
    for choices, name in ((denoise.Channels, "channels"), (denoise.Format, "format")):
        assert list(choices) == list(get_args(Treatment.model_fields[name].annotation))


@pytest.mark.parametrize(("arguments", "said"), [
    (("--strength", 2), "--strength 2.0: "), (("--atten-lim", -3), "--atten-lim -3.0: "),
    (("--strength", "nan"), "--strength nan: "), (("--shard", "0/4"), "--shard 0/4: "),
    (("--shard", "5/4"), "1/4 to 4/4"), (("--shard", "a"), "expected I/N"),
    (("--report", "x.txt"), ".json or .csv"), (("--dry-run", "--report", "x.csv"), "--dry-run"),
    (("--inversion", "griffinlim", "--strength", 0.5), "griffinlim"),
])  # fmt: skip
def test_settings_that_cannot_be_are_refused_in_a_line(recordings, tmp_path, arguments, said):
    from typer.testing import CliRunner

    from gan_denoise.cli import app

    command = ["denoise", str(recordings), "-o", str(tmp_path / "out"), *map(str, arguments)]
    done = CliRunner().invoke(app.app, command)
    shown = done.output.strip() or f"error: {done.exception}"  # as `main` shows it
    assert shown.startswith("error: ")
    assert said in shown
    assert "\n" not in shown
    assert not (tmp_path / "out").exists()


def test_the_console_takes_any_name(tmp_path):
    folder = tmp_path / "in"
    (folder / "[").mkdir(parents=True)
    (folder / "[" / "red][bold]:smile:.wav").write_text("this is no recording")
    (folder / "line\nbreak\x1b[31m.wav").write_text("this is no recording")
    soundfile.write(folder / "録音.wav", np.zeros(1000), RATE)
    with open(os.fsencode(folder) + b"/bad\xff.wav", "wb") as file:
        file.write(b"this is no recording")
    for environment in ({}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = gan_denoise("denoise", folder, "-o", tmp_path / "out", "--dry-run", **environment)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert len(done.stdout.splitlines()) == 5
        assert "[/red][bold]:smile:.wav" in done.stdout
        assert "line\\nbreak\\x1b[31m.wav" in done.stdout
        assert "bad\\udcff.wav" in done.stdout
    done = gan_denoise("denoise", folder, "-o", tmp_path / "out")
    assert "[/red][bold]:smile:.wav" in done.stderr
    assert len(done.stderr.splitlines()) == 3


def test_denoise_refuses_before_any_work(recordings, tmp_path):
    assert "no such" in refusal(gan_denoise("denoise", tmp_path / "none", "-o", tmp_path / "o"))
    (tmp_path / "empty").mkdir()
    assert "no audio found" in refusal(
        gan_denoise("denoise", tmp_path / "empty", "-o", tmp_path / "o"))
    assert "output folder is the input" in refusal(
        gan_denoise("denoise", recordings, "-o", recordings))
    assert "shipped models" in refusal(
        gan_denoise("denoise", recordings, "-o", tmp_path / "o", "-m", "nonsense"))
    assert not (tmp_path / "o").exists()


def test_a_model_folder_that_is_not_whole_or_too_new_is_refused(recordings, tmp_path):
    source = checkpoint_folder() / DEFAULT_MODEL
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.yaml", "mel_filterbank.npy"):
        (model / name).write_bytes((source / name).read_bytes())
    arguments = ("denoise", recordings, "-o", tmp_path / "o", "-m", model)
    assert "model.onnx" in refusal(gan_denoise(*arguments))
    (model / "model.onnx").write_bytes((source / "model.onnx").read_bytes()[:1000])
    assert "not a usable model" in refusal(gan_denoise(*arguments))
    settings = (source / "config.yaml").read_text()
    (model / "config.yaml").write_text(settings.replace("format_version: 1", "format_version: 9"))
    assert "newer gan_denoise" in refusal(gan_denoise(*arguments))
    assert not (tmp_path / "o").exists()


def test_training_refuses_bad_settings_and_material(recordings, tmp_path):
    run = ("--run", tmp_path / "run")
    steps = "training.steps=1"
    assert "did you mean 'data.speech'" in refusal(
        gan_denoise("pretrain", *run, "data.speach=x", steps))
    assert "training.steps" in refusal(gan_denoise("pretrain", *run, "training.steps=many"))
    assert "nothing to train on" in refusal(gan_denoise("pretrain", *run, steps))
    assert "there is no 'gpt'" in refusal(
        gan_denoise("pretrain", "--run", tmp_path / "run2", "generator.name=gpt", steps,
                    f"data.clean={recordings}"))
    missing = refusal(gan_denoise("finetune", "--run", tmp_path / "run3", "--init",
                                  tmp_path / "nothing", steps))
    assert "no such model" in missing


def test_a_file_where_a_folder_should_be_made_is_one_line(recordings):
    for verb in (["mix", "--speech", recordings, "--noise", recordings],
                 ["evaluate", "--noisy", recordings, "--clean", recordings / "sub"]):
        line = refusal(gan_denoise(*verb, "--out", recordings / "a.wav" / "out"))
        assert str(recordings) in line
        assert "Errno" not in line


def test_a_path_is_printed_as_it_is(tmp_path):
    path = tmp_path / "[red] :dog:"
    path.mkdir()
    soundfile.write(path / "[b].wav", np.zeros(RATE), RATE)
    done = gan_denoise("check", path)
    assert f"{path}"[-12:] in done.stdout
    assert "[b].wav: silent" in done.stdout


def test_orphans_and_other_bad_pairs_are_refused(recordings, tmp_path):
    clean = tmp_path / "clean"
    clean.mkdir()
    soundfile.write(clean / "a.wav", np.zeros(100), RATE)
    message = refusal(gan_denoise("evaluate", "--noisy", recordings, "--clean", clean))
    assert "b" in message
    assert "without" in message or "orphan" in message or "no " in message


def test_mix_writes_the_snr_that_the_manifest_says(tmp_path):
    synthetic_audio.write_corpus(tmp_path / "corpus", minutes=0.2)
    done = gan_denoise(
        "mix", "--speech", tmp_path / "corpus/speech/test", "--noise",
        tmp_path / "corpus/noise/test", "--out", tmp_path / "pairs", "--snr", "0,10", "--count", 3,
        GAN_DENOISE_CACHE=str(tmp_path / "cache"),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "pairs/manifest.json").read_text())
    assert [row["snr_db"] for row in rows] == [0, 10, 0]
    for row in rows:
        noisy = soundfile.read(tmp_path / "pairs/noisy" / row["file"])[0]
        clean = soundfile.read(tmp_path / "pairs/clean" / row["file"])[0]
        snr = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert abs(snr - row["snr_db"]) < 0.1
    checked = gan_denoise("check", tmp_path / "pairs")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_main_job_through_the_scripts(tmp_path):
    """Pretrain, fine-tune, export, evaluate: each by its own command, on made-up recordings."""
    corpus = tmp_path / "corpus"
    synthetic_audio.write_corpus(corpus, minutes=0.4)
    data = [f"data.speech={corpus}/speech/train", f"data.noise={corpus}/noise/train",
            f"data.cache={tmp_path}/cache"]

    def script(name, *arguments):
        done = subprocess.run(
            [sys.executable, Path("scripts") / f"{name}.py", *map(str, arguments)],
            capture_output=True, text=True, cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "6 steps" in script("pretrain", "--config", "debug", "--run", tmp_path / "pre", *data)
    assert "6 steps" in script("finetune", "--config", "debug", "--run", tmp_path / "fine",
                               "--init", tmp_path / "pre")
    assert gan_denoise("export", tmp_path / "fine", "-o", tmp_path / "model").returncode == 0
    assert (tmp_path / "model" / "discriminator.weights.h5").is_file()
    pairs = tmp_path / "pairs"
    assert gan_denoise("mix", "--speech", corpus / "speech/test", "--noise", corpus / "noise/test",
                       "--out", pairs, "--count", 2, "--seconds", 3,
                       GAN_DENOISE_CACHE=str(tmp_path / "cache")).returncode == 0
    table = script("evaluate", "--model", tmp_path / "model", "--noisy", pairs / "noisy", "--clean",
                   pairs / "clean", "--out", tmp_path / "scores", "-j", "1")
    assert "oracle" in table
    scores = json.loads((tmp_path / "scores/scores.json").read_text())
    assert scores
    script("denoise", pairs / "noisy", "-o", tmp_path / "out", "-m", tmp_path / "model")
    assert len(list((tmp_path / "out").rglob("*.wav"))) == 2


@pytest.mark.parametrize("verb", [["pretrain", "--run", "r"], ["export", "r", "-o", "m"], ["demo"],
                                  ["tune", "-c", "tune-example", "--study", "s"]])
def test_training_without_its_packages_says_what_to_install(verb, monkeypatch):
    import importlib.util

    from typer.testing import CliRunner

    from gan_denoise.cli.app import app

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name: None if name == "tensorflow" else find_spec(name))
    done = CliRunner().invoke(app, verb)
    assert done.exit_code == 2
    assert "tensorflow" in done.output
    assert "gan-denoise[train]" in done.output
    assert "gan-denoise[train-gpu]" in done.output


def test_finetuning_starts_from_the_shipped_model_or_a_run(tmp_path):
    """With its discriminator where there is one and the settings agree, else with a new one."""
    corpus = tmp_path / "corpus"
    synthetic_audio.write_corpus(corpus, minutes=0.3)
    data = [f"data.speech={corpus}/speech/train", f"data.noise={corpus}/noise/train",
            f"data.cache={tmp_path}/cache"]
    for name, init, said in (("own", DEFAULT_MODEL, "starts anew"),
                             ("again", tmp_path / "own", "both networks")):
        done = gan_denoise("finetune", "--config", "debug", "--run", tmp_path / name, "--init",
                           init, *data, "training.steps=2")
        assert done.returncode == 0, done.stderr
        assert said in " ".join(done.stderr.split())


# ---- Pipes -------------------------------------------------------------------------------------
def piped(data: bytes, *arguments) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "gan_denoise.cli", "denoise", "-", "-o", "-", *arguments],
        input=data, capture_output=True,
    )


@pytest.mark.parametrize("arguments", [(), ("--strength", "0.5", "--channels", "mono")])
def test_a_pipe_gives_what_a_file_gives(tmp_path, arguments):
    noisy = np.random.default_rng(0).uniform(-0.3, 0.3, (30000, 2))
    soundfile.write(tmp_path / "a.wav", noisy, 44100, subtype="PCM_24")
    done = gan_denoise("denoise", tmp_path / "a.wav", "-o", tmp_path / "out", *arguments)
    assert done.returncode == 0, done.stderr
    stream = piped((tmp_path / "a.wav").read_bytes(), *arguments)
    assert stream.returncode == 0, stream.stderr
    (tmp_path / "b.wav").write_bytes(stream.stdout)
    assert soundfile.info(tmp_path / "b.wav").subtype == "PCM_24"
    np.testing.assert_array_equal(soundfile.read(tmp_path / "b.wav")[0],
                                  soundfile.read(tmp_path / "out" / "a.wav")[0])


def test_what_a_pipe_cannot_do_is_refused_in_one_line(recordings, tmp_path):
    done = piped(b"no WAV at all")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"error: standard input: ")
    assert b"Traceback" not in done.stderr
    for arguments in (("-", "-o", tmp_path), (recordings, "-o", "-"), ("-", recordings, "-o", "-")):
        assert "denoise - -o -" in refusal(gan_denoise("denoise", *arguments))
    for option in (("--report", tmp_path / "r.csv"), ("--peak-guard",), ("--preset", "podcast")):
        assert "a stream takes no" in refusal(gan_denoise("denoise", "-", "-o", "-", *option))


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


def test_the_time_under_way_changes_nothing(recordings, tmp_path):
    for seconds in ("1", "500"):
        done = gan_denoise("denoise", recordings / "a.wav", "-o", tmp_path / seconds,
                           "--chunk-seconds", seconds)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "1" / "a.wav").read_bytes() == (tmp_path / "500" / "a.wav").read_bytes()


# ---- Features ----------------------------------------------------------------------------------
def test_features_are_written_and_a_model_of_their_transform_is_scored_on_them(
    folders, tiny_model, tmp_path
):
    done = gan_denoise("features", "--config", tiny_model / "config.yaml", "--out",
                       tmp_path / "features", f"data.clean={folders / 'clean'}",
                       "data.valid_fraction=0.25", "training.select_by=snr_mel")
    assert done.returncode == 0, done.stderr
    assert "10 validation" in " ".join(done.stdout.split())
    done = gan_denoise("evaluate", "--features", tmp_path / "features", "-m", tiny_model, "--out",
                       tmp_path / "scores")
    assert done.returncode == 0, done.stderr
    assert "best gain" in done.stdout
    rows = json.loads((tmp_path / "scores/scores.json").read_text(encoding="utf-8"))["rows"]
    assert {row["speaker"] for row in rows} == {rows[0]["speaker"]} != {None}
    refused = refusal(gan_denoise("evaluate", "--features", tmp_path / "features"))
    assert "made with" in refused  # the default model has another transform
    assert "or --features" in refusal(gan_denoise("evaluate", "--noisy", folders / "noisy"))
