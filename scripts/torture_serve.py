"""Attack of `torture_faults` on `serve`: the server and its training are killed amid jobs."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import soundfile
from torture_checks import Fault
from torture_verbs import NETWORK, RATE, TRAINING, Run, Verb, clear, half_files

from gan_denoise.config import load_config
from gan_denoise.pages import training_choice

START_SECONDS = 120.0  # this machine may be busy
END_SECONDS = 30.0
UPLOAD_SECONDS = 40.0  # of audio: long enough to be killed amid
AT_ONCE = 3
STEPS = 1000  # of a training, so that it is killed several times
SETTINGS = (*NETWORK, *TRAINING, "training.checkpoint_every=10", "training.validate_every=100")


class Server:
    """A `serve` of this process's own, with the address of its page.

    Args:
        out: Folder of all.
        training: Whether runs may be trained.
    """

    def __init__(self, out: Path, training: bool):
        data = ["--data", str(out / "material" / "pairs")] if training else []
        self.run = Run(["serve", "--port", "0", "-m", str(out / "material" / "model"), *data,
                        "--runs", str(out / "work" / "runs"), "--threads", "1"],
                       out / "work-home")
        until = time.monotonic() + START_SECONDS
        while not (found := re.search(r"http://\S+", self.run.printed())):
            if time.monotonic() > until or self.run.has_ended():
                raise RuntimeError(f"the server does not start: {self.run.printed()[-500:]}")
            time.sleep(0.05)
        self.address = found.group()

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        """Give a visitor with a session of its own."""
        with httpx.Client(base_url=self.address, timeout=60) as visitor:
            visitor.get("/")
            yield visitor

    def end(self, number: int) -> str:
        """Send a signal; return what is still running some time after, or nothing."""
        os.kill(self.run.pid, number)
        until = time.monotonic() + END_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(-1, os.WNOHANG)
                time.sleep(0.02)
                continue
            return ""
        left = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        commands = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in left]
        for pid in left:
            os.kill(int(pid), signal.SIGKILL)
        return "; ".join(commands)


def serve(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Kill the server amid jobs and amid training, and the process that trains."""
    # What the servers, which are forks of this process, lay under the choice of a visitor.
    training_choice.load_config = lambda name, settings: load_config(name, [*SETTINGS, *settings])
    clear(out / "work")
    source = _long_recording(out)
    _settle(out, fault, "before", None, source)
    whole, seconds = _undisturbed(out, source)
    for number in range(tries):
        if number % 10 == 3:
            _kill_amid_training(out, rng, fault, f"kill {number}, of the server amid training")
        elif number % 10 == 8:
            _kill_training(out, rng, fault, f"kill {number}, of the training process")
        else:
            _kill_amid_jobs(out, rng.uniform(0, 1.2 * seconds), source, fault,
                            f"kill {number}, of the server amid jobs")
        _settle(out, fault, f"kill {number}", whole, source)
        if number % 10 == 9:
            print(f"serve: {number + 1} kills", flush=True)
    _finish_training(out, fault)
    return tries


# ---- Attacks -------------------------------------------------------------------------------------
def _kill_amid_jobs(out: Path, after: float, source: bytes, fault: Fault, what: str) -> None:
    server = Server(out, training=False)
    visitors = [threading.Thread(target=_visit, args=(server, source)) for _ in range(AT_ONCE)]
    for visitor in visitors:
        visitor.start()
    time.sleep(after)
    if left := server.end(signal.SIGKILL):
        fault(f"{what}: still runs: {left}")
    for visitor in visitors:
        visitor.join()


def _visit(server: Server, source: bytes) -> None:
    """Upload and denoise until the server is gone."""
    with contextlib.suppress(httpx.HTTPError, KeyError), server.client() as visitor:
        while True:
            _denoised(visitor, source)


def _kill_amid_training(out: Path, rng: random.Random, fault: Fault, what: str) -> None:
    server = Server(out, training=True)
    with server.client() as visitor:
        _train(visitor)
        _wait_amid(visitor, rng)
    if left := server.end(signal.SIGKILL):
        fault(f"{what}: still runs: {left}")
    if half := half_files(out / "work"):
        fault(f"{what}: half a file: {half[0]}")


def _kill_training(out: Path, rng: random.Random, fault: Fault, what: str) -> None:
    server = Server(out, training=True)
    with server.client() as visitor:
        _train(visitor)
        _wait_amid(visitor, rng)
        children = Path(f"/proc/{server.run.pid}/task/{server.run.pid}/children")
        for pid in _children(children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        status = _until_idle(visitor, END_SECONDS)
        if status["state"] != "idle":
            fault(f"{what}: the server still says {status['state']}")
        elif status["outcome"] == "failed" and "signal 9" not in status["words"]:
            fault(f"{what}: it says {status['words']!r}")
        if half := half_files(out / "work"):
            fault(f"{what}: half a file: {half[0]}")
    if left := server.end(signal.SIGTERM):
        fault(f"{what}: still runs: {left}")


def _children(path: Path) -> list[int]:
    """Return all processes that the server's threads have started, but not the resource tracker."""
    pids = [int(pid) for each in path.parents[1].glob("*/children")
            for pid in each.read_text().split()]
    return [pid for pid in pids
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def _finish_training(out: Path, fault: Fault) -> None:
    """The run that was killed again and again goes on to its end."""
    server = Server(out, training=True)
    with server.client() as visitor:
        _train(visitor)
        status = _until_idle(visitor, 600)
        if status["outcome"] != "done" or f"{STEPS} steps" not in status["words"]:
            fault(f"the last training: {status['state']}, {status['words']!r}")
    server.end(signal.SIGTERM)


# ---- What holds after each -----------------------------------------------------------------------
def _settle(out: Path, fault: Fault, what: str, whole: bytes | None, source: bytes) -> None:
    """The next server has removed what was left, denoises, and leaves nothing at its end."""
    server = Server(out, training=False)
    temporary = out / "work-home" / "tmp"
    if len(left := list(temporary.iterdir())) != 1:
        fault(f"{what}: left: {', '.join(path.name for path in left)}")
    with server.client() as visitor:
        if whole is not None and _denoised(visitor, source) != whole:
            fault(f"{what}: the next server denoises otherwise")
    if left := server.end(signal.SIGTERM):
        fault(f"{what}: still runs after SIGTERM: {left}")
    if left := list(temporary.iterdir()):
        fault(f"{what}: left after SIGTERM: {left[0].name}")


def _undisturbed(out: Path, source: bytes) -> tuple[bytes, float]:
    """Return what a server makes of the recording, and the seconds that it takes."""
    server = Server(out, training=False)
    begun = time.monotonic()
    with server.client() as visitor:
        for _ in range(AT_ONCE):
            content = _denoised(visitor, source)
    seconds = time.monotonic() - begun
    server.end(signal.SIGTERM)
    return content, seconds


def _denoised(visitor: httpx.Client, source: bytes) -> bytes:
    """Upload, denoise, and return the result."""
    upload = visitor.post("/api/uploads", params={"name": "talk.wav"}, content=source).json()
    job = visitor.post("/api/jobs", json={"upload": upload["id"]}).json()
    while job["state"] in ("waiting", "running"):
        time.sleep(0.05)
        job = visitor.get(f"/api/jobs/{job['id']}").json()
    assert job["state"] == "done", job
    return visitor.get(f"/api/jobs/{job['id']}/result").content


def _train(visitor: httpx.Client) -> None:
    """Begin a run, or go on with one that was killed."""
    status = visitor.get("/api/training").json()
    unfinished = [row["name"] for row in status["runs"] if not row["finished"]]
    if unfinished:
        answer = visitor.post(f"/api/training/runs/{unfinished[0]}/resume")
    else:
        answer = visitor.post("/api/training", json={
            "name": f"run{time.time_ns()}", "kind": "pretrain", "config": "debug",
            "data": "pairs", "noisy": ["pairs/noisy"], "clean": ["pairs/clean"], "steps": STEPS})
    assert answer.status_code == 202, answer.text


def _wait_amid(visitor: httpx.Client, rng: random.Random) -> None:
    """Wait until some moment of a training: as it starts, or amid its steps."""
    if rng.random() < 0.3:
        time.sleep(rng.uniform(0, 10))
        return
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        status = visitor.get("/api/training").json()
        if status["state"] == "idle" or status["progress"]:
            break
        time.sleep(0.2)
    time.sleep(rng.uniform(0, 3))


def _until_idle(visitor: httpx.Client, seconds: float) -> dict:
    until = time.monotonic() + seconds
    while True:
        status = visitor.get("/api/training").json()
        if status["state"] == "idle" or time.monotonic() > until:
            return status
        time.sleep(0.1)


def _long_recording(out: Path) -> bytes:
    """Return the bytes of a long recording."""
    noisy, _ = soundfile.read(out / "material" / "pairs" / "noisy" / "s0.wav", dtype="int16")
    path = out / "long.wav"
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(round(UPLOAD_SECONDS * RATE / len(noisy))):
            file.write(noisy)
    return path.read_bytes()
