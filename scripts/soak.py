"""Long runs: memory, file handles, threads, temporary files and speed of a command over hours.

    python scripts/soak.py train --minutes 180
    python scripts/soak.py finetune --minutes 60
    python scripts/soak.py files --count 20000
    python scripts/soak.py page --requests 1000

Runs the command on made-up or shipped recordings, looks at its processes every few seconds (Linux:
/proc), writes what it sees to `OUT/samples.csv`, and ends with a verdict: exit 1 where a series
grows. Speed is work in the processor time of a fixed computation, which is timed at each look, so
that other programs on the machine count little. Needs the extras `train` (train, finetune), `web`
and `dev` (page).

    python scripts/soak.py judge build/soak-train/samples.csv

gives the verdict on samples that are there.
"""

from __future__ import annotations

import argparse
import csv
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import soundfile
from serve_load import denoise
from soak_verdict import COLUMNS, Sample, judge

from gan_denoise.examples import noisy_speech

ASKED = 128 + signal.SIGTERM  # exit code of a command that has ended as it was asked
TICKS = os.sysconf("SC_CLK_TCK")
PEOPLE = 4  # at once



# ---- Samples -------------------------------------------------------------------------------------
def processes(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    found = [pid]
    for child in _children(pid):
        found += processes(child)
    return found


def _children(pid: int) -> list[int]:
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            children += [int(word) for word in (task / "children").read_text().split()]
        except OSError:  # a thread that has ended
            continue
    return children


def sample(pid: int, temporary: Path, written: Path, logged: Path) -> Sample:
    """Look at a process, its descendants, and the folders that it writes to.

    Memory is what they alone have: that of libraries is shared with whatever else runs.

    Args:
        pid: Of the process.
        temporary: Its TMPDIR.
        written: Its output.
        logged: Its curves, pictures and sounds.
    """
    seen = dict.fromkeys(COLUMNS, 0.0)
    for each in processes(pid):
        try:
            proc = Path(f"/proc/{each}")
            rollup = dict(line.split(":", 1) for line in
                          (proc / "smaps_rollup").read_text().splitlines()[1:])
            own = sum(int(rollup[name].split()[0]) for name in ("Pss_Anon", "Pss_Shmem"))
            numbers = (proc / "stat").read_text().rsplit(")", 1)[1].split()
            seen["memory_mb"] += own * 1024 / 1e6
            seen["handles"] += len(list((proc / "fd").iterdir()))
            seen["threads"] += int(numbers[17])
            # Its own, and of the children that it has waited for: user and system.
            seen["cpu_seconds"] += sum(map(int, numbers[11:15])) / TICKS
        except (OSError, KeyError):  # it has ended
            continue
    outputs = _files(written)
    seen["temporary"] = len(_files(temporary)) + sum(
        file.suffix in (".tmp", ".part") for file in outputs)
    seen["files"] = len(outputs)
    seen["logged_mb"] = sum(file.stat().st_size for file in _files(logged)) / 1e6
    return seen


def yardstick() -> float:
    """Return the processor time in seconds of a fixed computation."""
    begun = time.process_time()
    wave = np.random.default_rng(0).standard_normal(2**18, np.float32)
    for _ in range(12):  # an eighth of a second or more: the clock of a shared core swings
        wave = np.fft.irfft(np.fft.rfft(wave))
    return time.process_time() - begun


def _files(folder: Path) -> list[Path]:
    return [Path(root, name) for root, _, names in os.walk(folder) for name in names]


def watch(command: Sequence[str], out: Path, every: float, written: Path, logged: Path,
          work: Callable[[], float], enough: Callable[[Sample], bool] | None = None) -> int:
    """Run a command, and look at it until it ends.

    Args:
        command: Its words.
        out: Folder for `samples.csv`, `log.txt` and temporary files.
        every: Seconds between two looks.
        written: See `sample`.
        logged: See `sample`.
        work: Returns the work done so far: steps, files, requests.
        enough: Whether it is to be asked to end, after a sample.

    Returns:
        Its exit code, 0 where it has ended as it was asked.
    """
    temporary = out / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    begun, asked = time.monotonic(), False
    with (open(out / "log.txt", "w", encoding="utf-8") as log,
          open(out / "samples.csv", "w", newline="", encoding="utf-8") as table):
        rows = csv.DictWriter(table, COLUMNS)
        rows.writeheader()
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT,
                                 env=os.environ | {"TMPDIR": str(temporary)})
        try:
            while not _ended(child, every):
                done = work()
                seen = sample(child.pid, temporary, written, logged)
                if child.poll() is not None or not done:
                    continue
                seen |= {"seconds": time.monotonic() - begun, "work": done,
                         "yardstick": yardstick()}
                rows.writerow({name: f"{value:.3f}" for name, value in seen.items()})
                table.flush()
                if enough is not None and enough(seen) and not asked:
                    child.terminate()
                    asked = True
        finally:  # by Ctrl-C or SIGTERM before its end: nothing is left behind
            child.terminate()
            child.wait()
    return child.returncode - (ASKED if asked and child.returncode else 0)


def _ended(child: subprocess.Popen, seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def tool(*arguments: object) -> list[str]:
    """Return the words of a command of gan-denoise."""
    return [sys.executable, "-m", "gan_denoise.cli", *map(str, arguments)]


# ---- The four ------------------------------------------------------------------------------------
def train(options: argparse.Namespace) -> int:
    """Train a tiny network, with validations, states and curves as often as by default."""
    return _train(options, "pretrain", options.out / "run")


def finetune(options: argparse.Namespace) -> int:
    """Fine-tune a tiny network against the metric discriminator: PESQ, and estimates kept."""
    pretrained = options.out / "pretrained"
    command = _training("pretrain", pretrained, options.out, "training.steps=100")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return _train(options, "finetune", options.out / "run", "--init", pretrained,
                  "discriminator.kind=metric", "discriminator.scored_clips=1",
                  "discriminator.replay_clips=4", "discriminator.pesq_workers=1",
                  "training.crop_seconds=2")


def _train(options: argparse.Namespace, verb: str, run: Path, *further: object) -> int:
    from gan_denoise.training.checkpoints import read_progress

    state = run / "latest.npz"

    def steps() -> float:
        return float(read_progress(state).step) if state.is_file() else 0.0

    command = _training(verb, run, options.out, *further, "training.steps=1000000000")
    return watch(command, options.out, 30, run, run / "tensorboard", steps,
                 lambda seen: seen["seconds"] > 60 * options.amount)


def _training(verb: str, run: Path, out: Path, *further: object) -> list[str]:
    """Return the words of a training on made-up material, which is made where it is missing."""
    from gan_denoise.data.synthetic_audio import write_corpus

    material = out / "material"
    if not material.exists():
        write_corpus(material)
    return tool(verb, "-c", "debug", "--run", run,
                *(f"data.{key}={material}/{kind}/{part}" for key, kind, part in (
                    ("speech", "speech", "train"), ("noise", "noise", "train"),
                    ("valid_speech", "speech", "valid"), ("valid_noise", "noise", "valid"))),
                f"data.cache={out}/cache", "data.valid_seconds=4", "data.valid_clips=4",
                "training.threads=1", "training.validate_every=500",
                "training.checkpoint_every=200", "training.log_every=25", *further)


def files(options: argparse.Namespace) -> int:
    """Denoise a folder of files of about a second, in one process."""
    source, target = options.out / "noisy", options.out / "clean"
    source.mkdir()
    speech, rate = soundfile.read(noisy_speech(), dtype="int16")
    for number in range(options.amount):
        first = 997 * number % (len(speech) - 2 * rate)
        length = rate + 37 * number % rate // 2 - rate // 4  # 0.75 to 1.25 s
        soundfile.write(source / f"{number:06}.{('wav', 'flac')[number % 2]}",
                        speech[first : first + length], rate)
    return watch(tool("denoise", source, "-o", target, "-j", 1), options.out, 15, target,
                 options.out / "none", lambda: float(len(_files(target))))


def page(options: argparse.Namespace) -> int:
    """Denoise recordings of four people through the server, each: upload, job, sounds, download."""
    counted = Requests(options.amount, options.out / "log.txt")
    code = watch(tool("serve", "--port", 0), options.out, 5, options.out / "none",
                 options.out / "none", counted.so_far, lambda seen: counted.over)
    print(f"{counted.failed} of {options.amount} requests failed")
    return code or counted.failed


class Requests:
    """Requests of four people at once to a server, which begin when it says its address.

    Args:
        count: Of requests in all.
        log: What the server prints.
    """

    def __init__(self, count: int, log: Path):
        self.count, self.log = count, log
        self.done = self.failed = 0
        self._began = False

    @property
    def over(self) -> bool:
        """Whether all are done."""
        return self.done >= self.count

    def so_far(self) -> float:
        """Return how many are done; the first call with a server that listens begins them."""
        found = re.search(r"^http://\S+", self.log.read_text(encoding="utf-8"), re.MULTILINE)
        if found and not self._began:
            self._began = True
            threading.Thread(target=self._send, args=[found[0]], daemon=True).start()
        return float(self.done)

    def _send(self, address: str) -> None:
        content, clients = noisy_speech().read_bytes(), queue.SimpleQueue()
        for _ in range(PEOPLE):
            clients.put(httpx.Client(base_url=address, timeout=300))

        def one(_: int) -> bool:
            client = clients.get()
            try:
                return denoise(client, content) is not None
            finally:
                clients.put(client)

        with ThreadPoolExecutor(PEOPLE) as pool:
            for passed in pool.map(one, range(self.count)):
                self.done += 1
                self.failed += not passed


def main() -> None:
    """Run one of the four and judge it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(required=True, metavar="train | finetune | files | page | judge")
    for kind, name, value, words in ((train, "minutes", 180.0, "of training (180)"),
                                     (finetune, "minutes", 60.0, "of training (60)"),
                                     (files, "count", 20000, "of files (20000)"),
                                     (page, "requests", 1000, "in all (1000)")):
        chosen = kinds.add_parser(kind.__name__, help=kind.__doc__.splitlines()[0])
        chosen.add_argument(f"--{name}", type=type(value), default=value, help=words, dest="amount")
        chosen.add_argument("--out", type=Path, default=Path("build", f"soak-{kind.__name__}"),
                            help=f"folder, made anew (build/soak-{kind.__name__})")
        chosen.set_defaults(run=kind)
    kinds.add_parser("judge", help="Judge samples.").add_argument("table", type=Path)
    options = parser.parse_args()
    if "table" in options:
        sys.exit(not judge(options.table))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ASKED))
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    code = options.run(options)
    flat = judge(options.out / "samples.csv")
    if code:
        print(f"it failed ({code}): see {options.out}/log.txt")
    sys.exit(1 if code or not flat else 0)


if __name__ == "__main__":
    main()
