"""Attack of `torture_faults` on `denoise --ray`: drivers and workers are killed amid a folder."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import soundfile
from torture_checks import Fault
from torture_verbs import RATE, Run, Verb, clear, content_of, half_files, left_over, start

FILES, SECONDS = 8, 40.0  # of the folder: recordings, and the length of each
START_SECONDS = 120.0  # this machine may be busy
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 2, "include_dashboard": False, "object_store_memory": 100 * 2**20})
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
WORKER = b"ray::Denoiser"


def ray(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Kill the driver, then a worker of the run that goes on, and so on."""
    noisy = _recordings(out)
    plain = Verb("denoise a folder", f"denoise {noisy} -o {{o}}/clean -m {{m}}/model -j 1", "clean")
    clear(out / "work")
    code, text = _end(start(plain, out / "material", out / "work"))
    assert code == 0, text
    plain.reference = content_of(out / "work")
    home = out / "ray-home"
    home.mkdir()
    with _cluster(home) as address:
        verb = Verb("denoise --ray", f"{plain.arguments.removesuffix(' -j 1')} --ray {address} "
                    "--workers 2", "clean", reference=plain.reference)
        clear(out / "work")
        begun = time.monotonic()
        code, text = _end(start(verb, out / "material", out / "work"))
        assert code == 0, text
        seconds = time.monotonic() - begun
        for number in range(tries):
            if number % 2 == 0:
                clear(out / "work")
                _kill_driver(verb, out, rng, seconds, fault, f"kill {number}, of the driver")
            else:
                _kill_worker(verb, out, rng, home, fault, f"kill {number}, of a worker")
            if number % 10 == 9:
                print(f"ray: {number + 1} kills", flush=True)
        _nothing_left(verb, out, home, fault)
    return tries


@contextlib.contextmanager
def _cluster(home: Path) -> Iterator[str]:
    """Give the address of a cluster of this machine, whose temporary folder is `home`."""
    process = subprocess.Popen([sys.executable, "-c", CLUSTER], stdin=subprocess.PIPE, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               env=os.environ | {"TMPDIR": str(home)})
    try:
        line = next((line for line in process.stdout if line.startswith("address")), "")
        assert line, "the cluster does not start"
        yield line.split()[1]
    finally:
        process.communicate()


def _kill_driver(verb: Verb, out: Path, rng: random.Random, seconds: float, fault: Fault,
                 what: str) -> None:
    run = start(verb, out / "material", out / "work")
    if rng.random() < 0.5:
        run.kill(signal.SIGKILL, rng.uniform(0, seconds))
    else:
        _until_some_done(run, out)
        time.sleep(rng.uniform(0, 2))
        run.kill(signal.SIGKILL, 0)
    _end(run)
    if half := half_files(out / "work"):
        fault(f"{what}: half a file: {half[0]}")


def _kill_worker(verb: Verb, out: Path, rng: random.Random, home: Path, fault: Fault,
                 what: str) -> None:
    """Kill one worker of a run, which ends well all the same, and loses no finished work."""
    before = {path: path.stat().st_mtime_ns for path in (out / "work").rglob("*.wav")}
    run = start(verb, out / "material", out / "work")
    until = time.monotonic() + START_SECONDS
    while not (workers := _workers(home)) and not run.has_ended() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(rng.choice((rng.uniform(0, 1), rng.uniform(0, 8))))
    for pid in rng.sample(workers := _workers(home), min(1, len(workers))):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    code, text = _end(run)
    found = content_of(out / "work")
    again = [path for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns]
    if code:
        fault(f"{what}: exit {code}: {text[-300:]!r}")
    elif found != verb.reference:
        fault(f"{what}: another result than without Ray")
    elif left := left_over(out / "work"):
        fault(f"{what}: left: {left[0]}")
    if len(again) > 2:  # those whose lines in the journals were about to be written
        fault(f"{what}: {len(again)} files that were done were done again")


def _nothing_left(verb: Verb, out: Path, home: Path, fault: Fault) -> None:
    """After a run without a kill nothing is left in the workers' temporary folder."""
    clear(out / "work")
    code, text = _end(start(verb, out / "material", out / "work"))
    if code:
        fault(f"the last run: exit {code}: {text[-300:]!r}")
    if left := list(home.glob("gan-denoise-*")):
        fault(f"left by workers: {left[0].name}")


def _end(run: Run) -> tuple[int, str]:
    """Wait for a command, and not for the cluster, which is a child of this process too."""
    _, status = os.waitpid(run.pid, 0)
    return os.waitstatus_to_exitcode(status), run.messages()


def _workers(home: Path) -> list[int]:
    """Return the processes of the workers: those of this cluster alone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cmdline").read_bytes().startswith(WORKER) and (
                    f"TMPDIR={home}".encode() in (entry / "environ").read_bytes().split(b"\0")):
                found.append(int(entry.name))
    return found


def _until_some_done(run: Run, out: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and not run.has_ended() and not list(
            (out / "work" / "clean").glob("*.wav")):
        time.sleep(0.02)


def _recordings(out: Path) -> Path:
    """Write a folder of recordings that take some seconds; return it."""
    noisy, _ = soundfile.read(out / "material" / "pairs" / "noisy" / "s0.wav", dtype="int16")
    folder = out / "long"
    folder.mkdir()
    for number in range(FILES):
        with soundfile.SoundFile(folder / f"{number}.wav", "w", RATE, 1, "PCM_16") as file:
            for _ in range(round(SECONDS * RATE / len(noisy))):
                file.write(noisy[number:])
    return folder
