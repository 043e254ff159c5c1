"""What `torture_faults` attacks: tiny material, a command for each verb, how results compare.

A command runs in a fork of a process that has imported TensorFlow, but not used it: seconds less
each time.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile as sf

from gan_denoise.core.checksums import KEY

RATE = 16000
NETWORK = ("mel.n_fft=256", "mel.win_length=256", "mel.hop_length=64", "mel.n_mels=16",
           "generator.name=unet", "generator.channels=[4,6]", "generator.level_frames=9")
TRAINING = ("training.batch_size=2", "training.crop_seconds=0.25", "training.warmup_steps=2",
            "training.validate_every=3", "training.checkpoint_every=2", "training.log_every=2",
            "training.data_workers=1", "training.steps=6", "data.valid_clips=2",
            "data.valid_seconds=0.2")
TEMPORARY = (".tmp", ".part")


@dataclass
class Verb:
    """A command under attack.

    Attributes:
        name: Of the verb.
        arguments: Its arguments; `{m}` is the folder of the material, `{o}` that of the output.
        out: What it writes, below the output folder.
        piped: Standard input, below the folder of the material; standard output is kept.
        unequal: Names of files whose content depends on the time.
        seconds: That it takes undisturbed; so are the next two.
        bytes: That it writes.
        reference: What it writes, by name.
    """

    name: str
    arguments: str
    out: str
    piped: str = ""
    unequal: Sequence[str] = ()
    seconds: float = 0.0
    bytes: int = 0
    reference: dict[str, str] = field(default_factory=dict)


VERBS = (
    Verb("corpus", "corpus {m}/speech -o {o}/corpus -j 1", "corpus"),
    Verb("mix", "mix --speech {m}/speech --noise {m}/noise -o {o}/mixed", "mixed"),
    Verb("features", "features -o {o}/features data.noisy={m}/pairs/noisy "
         f"data.clean={{m}}/pairs/clean {' '.join(NETWORK[:4])} training.crop_seconds=0.25",
         "features"),
    Verb("denoise a file", "denoise {m}/pairs/noisy/s0.wav -o {o}/clean.wav -m {m}/model",
         "clean.wav"),
    Verb("denoise a folder", "denoise {m}/pairs/noisy -o {o}/clean -m {m}/model -j 1", "clean"),
    Verb("denoise a pipe", "denoise - -o - -m {m}/model", "stdout", "pairs/noisy/s0.wav"),
    Verb("export", "export {m}/run -o {o}/model", "model"),
    Verb("evaluate", "evaluate --noisy {m}/pairs/noisy --clean {m}/pairs/clean -m {m}/model "
         "-o {o}/scores -j 1", "scores"),
    Verb("pretrain", "pretrain --run {o}/run data.noisy={m}/pairs/noisy data.clean={m}/pairs/clean "
         + " ".join((*NETWORK, *TRAINING)), "run"),
    Verb("finetune", "finetune --init {m}/run --run {o}/run data.noisy={m}/pairs/noisy "
         "data.clean={m}/pairs/clean discriminator.channels=[4,6] " + " ".join(TRAINING), "run"),
    Verb("tune", "tune -c {m}/tune.yaml --study {o}/study data.noisy={m}/pairs/noisy "
         "data.clean={m}/pairs/clean " + " ".join((*NETWORK, *TRAINING)), "study"),
)


def make_material(out: Path) -> None:
    """Write recordings, mixtures, a run and a model."""
    rng = np.random.default_rng(0)
    for kind, count in (("speech", 6), ("noise", 3)):
        (out / kind).mkdir(parents=True)
        for number in range(count):
            seconds = np.arange(RATE + 800 * number) / RATE
            voice = 0.3 * np.sin(2 * np.pi * (200 + 90 * number) * seconds)
            voice *= np.sin(2 * np.pi * 4 * seconds) > 0
            level = 0.005 if kind == "speech" else 0.1
            audio = level * rng.standard_normal(len(seconds)) + (voice if kind == "speech" else 0)
            sf.write(out / kind / f"{kind[0]}{number}.wav", audio, RATE)
    (out / "tune.yaml").write_text(
        "extends: pretrain\ntune:\n  trials: 2\n  prune: false\n  space:\n"
        "    training.learning_rate: {low: 1.0e-4, high: 1.0e-3}\n")
    for line in (f"mix --speech {out}/speech --noise {out}/noise -o {out}/pairs",
                 VERBS[8].arguments.format(m=out, o=out), f"export {out}/run -o {out}/model"):
        code, text = Run(line.split(), out).end()
        assert code == 0, text


class Run:
    """A command that runs in a fork of this process.

    Args:
        arguments: Of `gan-denoise`.
        home: Folder for its temporary files and its cache.
        piped: File for standard input.
        output: File that standard output goes to; None: with the messages.
        environment: What to set in its environment; None takes a name away.
    """

    def __init__(self, arguments: Sequence[str], home: Path, piped: Path | None = None,
                 output: Path | None = None, environment: Mapping[str, str | None] | None = None):
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        self.begun = time.monotonic()
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        names = {"TMPDIR": str(home / "tmp"), "GAN_DENOISE_CACHE": str(home / "cache"),
                 **(environment or {})}
        self.pid = os.fork()
        if self.pid:
            return
        try:
            source = os.open(piped or os.devnull, os.O_RDONLY)
            os.dup2(source, 0)
            os.dup2(self._messages.fileno(), 2)
            os.dup2(self._messages.fileno() if output is None else
                    os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
            for name, value in names.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})
            tempfile.tempdir = None
            _main(arguments)
        except SystemExit as ended:
            sys.stdout.flush()
            os._exit(ended.code if isinstance(ended.code, int) else 1)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(99)
        os._exit(0)

    def kill(self, number: int, after: float) -> None:
        """Send a signal after some seconds since the begin, unless it has ended."""
        while time.monotonic() - self.begun < after:
            if self.has_ended():
                return
            time.sleep(0.002)
        os.kill(self.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and the messages."""
        _, status = os.waitpid(self.pid, 0)
        self.seconds = time.monotonic() - self.begun
        while True:  # workers of a killed command, whose parent this process has become
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                break
        return os.waitstatus_to_exitcode(status), self.messages()

    def printed(self) -> str:
        """Return what it has printed so far."""
        return os.pread(self._messages.fileno(), 1 << 20, 0).decode(errors="replace")

    def has_ended(self) -> bool:
        """Return whether it has ended; `end` can still be called."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def messages(self) -> str:
        """Return what it has printed, once it has ended."""
        self._messages.seek(0)
        with self._messages:
            return self._messages.read().decode(errors="replace")


def _main(arguments: Sequence[str]) -> None:
    import tensorflow as tf

    from gan_denoise.cli.app import main

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    tf.config.run_functions_eagerly(True)  # no graphs are traced, which takes most of the time
    sys.argv = ["gan-denoise", *arguments]
    main()


def start(verb: Verb, material: Path, out: Path,
          environment: Mapping[str, str | None] | None = None) -> Run:
    """Start a verb that writes below a folder."""
    out.mkdir(exist_ok=True)
    words = verb.arguments.format(m=material, o=out).split()
    return Run(words, out.with_name(f"{out.name}-home"),
               material / verb.piped if verb.piped else None,
               out / verb.out if verb.piped else None, environment)


def clear(out: Path) -> None:
    """Remove what a verb has written."""
    for folder in (out, out.with_name(f"{out.name}-home")):
        for entry in folder.iterdir() if folder.is_dir() else ():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def files_of(out: Path) -> list[Path]:
    """Return all files below a folder that have their final names."""
    return sorted(path for path in out.rglob("*") if path.is_file() and not any(
        part.startswith(".") for part in path.relative_to(out).parts))


def left_over(out: Path) -> list[str]:
    """Return the temporary files that lie in the output and in the temporary folder."""
    home = out.with_name(f"{out.name}-home") / "tmp"
    return [str(path) for folder in (out, home) for path in folder.rglob("*")
            if path.name.endswith(TEMPORARY) or path.name.startswith((".building.", ".shared."))]


def half_files(out: Path) -> list[str]:
    """Return the files that have their final name and cannot be read whole, with the reason."""
    wrong = []
    for path in files_of(out):
        try:
            READERS.get(path.suffix, Path.read_bytes)(path)
        except Exception as error:  # whatever a library raises of a broken file
            wrong.append(f"{path}: {error}")
    return wrong


def content_of(out: Path) -> dict[str, str]:
    """Return a digest of each file's content, by name, without what depends on the time."""
    found = {}
    for path in files_of(out):
        if path.suffix in (".html", ".log", ".jsonl") or "tensorboard" in path.parts or (
                path.suffix in (".csv", ".yaml", ".md") and "study" in path.parts):
            continue
        content = READERS.get(path.suffix, Path.read_bytes)(path)
        found[str(path.relative_to(out))] = hashlib.sha256(
            str(content).replace(str(out), "OUT").encode()).hexdigest()
    return found


# ---- Reading, without the package ---------------------------------------------------------------
def _npz(path: Path) -> list[tuple[str, str]]:
    with np.load(path) as arrays:
        values = {name: arrays[name] for name in arrays.files}
    meta = values.pop("meta.json", None)
    rows = [(name, hashlib.sha256(values[name].tobytes()).hexdigest()) for name in sorted(values)]
    if meta is not None:
        progress = json.loads(meta.tobytes())
        del progress["seconds"]
        rows.append(("meta", str(progress)))
    return rows


def _study(path: Path) -> list[object]:
    with sqlite3.connect(path) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        return [database.execute(f"select trial_id, {column} from {table} order by trial_id")
                .fetchall() for table, column in (("trial_values", "value"),
                                                  ("trial_params", "param_value"))]


def _onnx(path: Path) -> bytes:
    import onnxruntime

    onnxruntime.InferenceSession(path)
    return path.read_bytes()


def _h5(path: Path) -> list[tuple[str, str]]:
    import h5py

    with h5py.File(path) as file:
        rows: list[tuple[str, str]] = []
        file.visititems(lambda name, item: rows.append((name, hashlib.sha256(
            item[()].tobytes()).hexdigest())) if hasattr(item, "shape") else None)
    return rows


def _json(path: Path) -> object:
    content = json.loads(path.read_text())
    if isinstance(content, dict):
        content.pop(KEY, None)
    return content


def _html(path: Path) -> bytes:
    content = path.read_bytes()
    assert content.rstrip().endswith(b"</html>"), "has no end"
    return content


def _csv(path: Path) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    assert len({len(row) for row in rows}) == 1, "rows of different lengths"
    return rows


READERS: dict[str, Callable[[Path], object]] = {
    ".wav": lambda path: (sf.read(path)[0].tobytes(), sf.info(path).samplerate),
    ".json": _json, ".npz": _npz, ".npy": lambda path: np.load(path).tobytes(), ".db": _study,
    ".onnx": _onnx, ".h5": _h5, ".html": _html, ".csv": _csv,
}
