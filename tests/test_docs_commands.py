"""The commands of README and docs run, page by page, on made-up recordings.

Each page has a folder that holds what its commands name (`my/speech`, `benchmark/noisy` ...), and
its commands run in it one after the other, as they are printed: an exit code other than 0 fails.
Settings that make networks, recordings and studies small are appended, and training steps are
computed without a graph, whose making would take longer than the steps.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import av
import httpx
import numpy as np
import pytest
import soundfile
import tensorflow as tf
from documented import ROOT, collected, parse, python_blocks
from trial_threads import in_a_thread

from gan_denoise.cli.app import INTERRUPTED, run
from gan_denoise.config import checkpoint_folder, load_config
from gan_denoise.core.standard_streams import tolerant_streams
from gan_denoise.data import synthetic_audio
from gan_denoise.training import step_benchmark
from gan_denoise.tuning import study

RATE = 16000  # Hz

# What is parsed by test_docs.py and does not run here: single commands by what they begin with.
NOT_RUN = {
    "gan-denoise --install-completion": "changes the user's shell",
    "gan-denoise denoise - -o -": "stands between two ffmpeg; see cli/test_denoise.py",
    "gan-denoise demo": "has to improve recordings, which takes minutes; see recipes/test_demo.py",
    "gan-denoise seeds": "train several networks; see recipes/test_source_systems.py",
    "gan-denoise pretrain --config mine.yaml": "files of the page; see test_extend.py",
}
ELSEWHERE = {  # by what stands in them
    "--ray auto": "Ray takes seconds to start; see test_ray_verbs.py and others",
    "s3://": "the store is none of the page's folder; see inference/test_address_runs.py",
}
COMMANDS = [command for command in collected()
            if command.in_block and not command.text.startswith(tuple(NOT_RUN))
            and not any(part in command.text for part in ELSEWHERE)]

# ---- Material ----------------------------------------------------------------------------------
# By folder, its speakers.
SPEECH = {"my/speech": 3, "my/many": 2, "my/one": 2, "my/test-speech": 2,
          "my/valid-speech": 1, "my/others": 1, "speech/train/an4": 2,
          "speech/train/sti": 2, "speech/valid": 2, "world_valid": 2,
          **{f"world/{name}": 1 for name in ("arabic", "russian", "dspspeech20", "emodb", "kerstin",
                                             "wakeword", "precise", "commands")}}
SPEAKERS = {"digits": ("jackson", "nicolas", "theo", "yweweler", "george", "lucas"),
            "AudioMNIST/data": ("f1", "f2", "f3", "m1", "m2", "m3")}
NOISE = ("my/noise", "my/test-noise", "my/valid-noise", "my/other-noise", "noise/train",
         "noise/valid", "noise/test", "noise/extra", "noise/world", "noise/world_valid", "surrey")
PAIRS = ("my", "benchmark", "foreign", "behind/gsm")
FILES = ("recordings/a.wav", "recordings/b/c.flac", "interview.wav", "podcast.mp3", "memo.m4a",
         "noisy.wav")


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder with recordings and a model under the names that the pages use."""
    folder = tmp_path_factory.mktemp("material")
    voices = [0.5 * synthetic_audio.voice(number, 1.2, seed=number) for number in range(6)]
    fan = 0.1 * synthetic_audio.noise("fan", 2.0, 1)
    people = {**{name: [f"s{n}" for n in range(count)] for name, count in SPEECH.items()},
              **SPEAKERS}
    for name, speakers in people.items():
        for number, speaker in enumerate(speakers):
            write(folder / name / speaker / f"{speaker}.wav", voices[number])
    write(folder / "my/voice/one.wav", np.concatenate(3 * voices))  # its end is held out
    for name in NOISE:
        write(folder / name / "fan.wav", fan)
    for name in PAIRS:
        for number in range(3):
            write(folder / name / "clean" / f"{name[-1]}{number}.wav", voices[number])
            write(folder / name / "noisy" / f"{name[-1]}{number}.wav",
                  voices[number] + fan[:len(voices[number])])
    for name in FILES:
        write(folder / name, voices[1] + fan[:len(voices[1])])
    film(folder / "talk.mp4")
    about = {name: {"accent": "none", "gender": "female" if name[0] == "f" else "male"}
             for name in SPEAKERS["AudioMNIST/data"]}
    (folder / "AudioMNIST/data/audioMNIST_meta.txt").write_text(json.dumps(about))
    shutil.copytree(checkpoint_folder() / "hush", folder / "my-model")
    shutil.copytree(ROOT / "gan_denoise/examples", folder / "gan_denoise/examples")
    for card in ROOT.glob("docs/*-card.yaml"):
        (folder / "docs").mkdir(exist_ok=True)
        shutil.copy(card, folder / "docs")
    return folder


def write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {"format": "MP3"} if path.suffix == ".m4a" else {}  # its content says what it is
    soundfile.write(path, samples, RATE, **kind)


def film(path):
    """Write a second of video with sound."""
    with av.open(str(path), "w") as out:
        picture, sound = out.add_stream("mpeg4", rate=25), out.add_stream("aac", rate=RATE)
        picture.width = picture.height = 64
        frames = [av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)) for _ in range(25)]
        hum = synthetic_audio.noise("hum", 1.0, 1).astype(np.float32)[None]
        tone = av.AudioFrame.from_ndarray(hum, "fltp", "mono")
        tone.sample_rate = RATE
        for stream, parts in ((picture, frames), (sound, [tone])):
            for part in (*parts, None):
                out.mux(stream.encode(part))


@pytest.fixture(scope="module")
def runs(material, trained):
    """Runs as train.md leaves them, for the pages that begin with them."""
    folder = material.parent / (material.name + "-runs")
    shutil.copytree(material, folder)
    with contextlib.chdir(folder), eagerly():
        for run_dir in ("runs/pretrained", "runs/finetuned"):
            train_once(next(command.text for command in COMMANDS if command.page == "train.md"
                            and f"--run {run_dir} " in command.text + " "), trained)
    return folder / "runs"


GIVEN = {  # (run as a page calls it, run that it is), by page
    "deploy.md": ("finetuned", "finetuned"),
    "results.md": ("longer", "pretrained"),  # by scripts/pretrain_jax.py
}


# ---- Small -------------------------------------------------------------------------------------
@contextlib.contextmanager
def eagerly():
    """Compute training steps without graphs."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def shrink(words: list[str]) -> list[str]:
    """Return the words of a command with those behind them that make its work small."""
    verb = words[0]
    if verb.startswith("--"):
        return words
    fixed = {"rooms": ["--count", "2"], "mix": ["--count", "4", "--seconds", "1"],
             "evaluate": ["-j", "1"], "explore": ["-j", "1"], "corpus": ["-j", "1"]}
    if verb in fixed:
        return words + fixed[verb]
    values = parse(words)
    if verb in ("pretrain", "finetune", "tune"):
        return words + small_settings(verb, values)
    if verb == "bench" and values["training"]:
        return words + small_network(load_config(values["training"])) + SMALL_STEPS
    return words


SMALL_STEPS = ["training.batch_size=1", "training.crop_seconds=0.5"]


def small_settings(verb, values):
    """Return the settings of little training for a verb and what it is given."""
    config = load_config(values["config"], values["settings"] or ())
    settings = [*SMALL_STEPS, "training.steps=1", "training.validate_every=1", "data.valid_clips=2"]
    if config.data.has_waveforms:
        settings.append("data.valid_seconds=1")
    if verb == "finetune":
        return settings + ["losses.discriminator_warmup=1", "losses.adversarial_ramp=1"] + (
            ["discriminator.pesq_workers=1", "discriminator.scored_clips=1",
             "discriminator.replay_clips=1"]
            if config.discriminator.kind == "metric" else ["discriminator.channels=[4,8]"])
    if verb == "tune":
        settings += ["tune.trials=1", "tune.space={training.learning_rate: [1.0e-3, 2.0e-3]}"]
    return settings + small_network(config)


def small_network(config):
    """Return settings that make a network small."""
    return ["generator.channels=[4,8]", "generator.time_strides=[1,1]", "generator.width=8",
            "generator.blocks=1"] if config.generator.name == "tcn_autoencoder" else []


# ---- Running -----------------------------------------------------------------------------------
def follow(command, environment=()):
    """Run a command of a page in this process; its exit code has to be 0."""
    words = shrink(shlex.split(command)[1:])
    if words[0] == "serve":
        visit(words, environment)
        return
    with (mock.patch.dict(os.environ, environment), tolerant_streams() as output,
          mock.patch.object(step_benchmark, "measure_training",
                            partial(step_benchmark.measure_training, steps=1)),
          mock.patch.object(study, "launch", in_a_thread)):
        assert run(words, output) == 0, shlex.join(words)


def visit(words, environment):
    """Start the server of a command on this machine alone, ask for its page, and end it."""
    here = ["--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen([sys.executable, "-m", "gan_denoise.cli", *words, *here],
                          stdout=subprocess.PIPE, text=True,
                          env=os.environ | dict(environment)) as process:
        try:
            address = process.stdout.readline().split()[0]
            answer = httpx.get(address, follow_redirects=True, timeout=30)
        finally:
            process.send_signal(signal.SIGINT)
    assert answer.is_success
    assert "<title>" in answer.text
    assert process.returncode == INTERRUPTED


def train_once(command, trained):
    """Run a command that trains, or copy a run of the same kind that another page has trained.

    Of the same kind are runs of one verb and config that begin with the same model and are given
    the same kinds of recordings.
    """
    values = parse(shlex.split(command)[1:])
    kinds = {setting.split("=")[0] for setting in values["settings"] or ()}
    kind = (command.split()[1], values["config"], values.get("init"),
            *sorted(key for key in kinds if key.startswith("data.")))
    run_dir = Path(values["run"])
    if kind in trained:
        if trained[kind] != run_dir.resolve():  # which the page may train on
            shutil.copytree(trained[kind], run_dir, dirs_exist_ok=True)
    else:
        follow(command)
        trained[kind] = run_dir.resolve()


@pytest.fixture(scope="module")
def trained():
    """Return the runs that pages have trained, by their kind."""
    return {}


@pytest.mark.parametrize("page", sorted({command.page for command in COMMANDS}))
def test_the_commands_of_a_page_run_one_after_the_other(page, material, trained,
                                                             tmp_path, request):
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    if page in GIVEN:
        name, run_dir = GIVEN[page]
        shutil.copytree(request.getfixturevalue("runs") / run_dir, tmp_path / "runs" / name)
    with contextlib.chdir(tmp_path), eagerly():
        for command in COMMANDS:
            if command.page == page:
                if shlex.split(command.text)[1] in ("pretrain", "finetune"):
                    train_once(command.text, trained)
                else:
                    follow(command.text, command.environment)


def test_what_is_not_run_is_still_said():
    for start in NOT_RUN:
        assert any(command.text.startswith(start) for command in collected()), start
    for part in ELSEWHERE:
        assert any(part in command.text for command in collected()), part


def test_python_that_does_not_train_runs(material, tmp_path, monkeypatch):
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in python_blocks("README.md", "python.md") if "train(" not in block]
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "block", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "clean.wav").is_file()
    assert (tmp_path / "gentle" / "noisy.wav").is_file()
