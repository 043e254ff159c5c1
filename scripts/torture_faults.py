"""Kills, signals, full disks, failing system calls, damaged files and rivals, for each verb.

    python scripts/torture_faults.py --out build/torture-faults [--only kills,bytes] [--tries 50]

Each attack says what is expected: no half file under a final name, no work lost that was done, and
the same command again ends well, with the result of an undisturbed run. Exit code 1 where an attack
finds a fault. OUT/faults.md has the table, OUT/faults.txt a line for each fault.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import shutil
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

from torture_bytes import damage
from torture_calls import calls, clocks, disks, homes, under_shim
from torture_checks import Fault, again, check_after
from torture_ray import ray
from torture_serve import serve
from torture_verbs import (
    VERBS,
    Verb,
    clear,
    content_of,
    half_files,
    left_over,
    make_material,
    start,
)

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: workers of a killed command become this process's


def main() -> int:
    """Attack; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/torture-faults"))
    parser.add_argument("--only", default=",".join(ATTACKS), help="attacks, joined by commas")
    parser.add_argument("--verbs", default="", help="verbs, joined by commas; all if not given")
    parser.add_argument("--tries", type=int, default=50, help="kills of each verb")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if {"calls", "clocks"} & set(given.only.split(",")) and not under_shim():
        return 2
    os.nice(10)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    import h5py  # noqa: F401 - all of these once, before the forks
    import keras  # noqa: F401
    import onnxruntime  # noqa: F401
    import optuna  # noqa: F401
    import tensorflow  # noqa: F401

    import gan_denoise.cli.app  # noqa: F401

    gc.freeze()
    out = given.out.absolute()
    shutil.rmtree(out, ignore_errors=True)
    make_material(out / "material")
    chosen = [verb for verb in VERBS if not given.verbs or verb.name in given.verbs.split(",")]
    for verb in chosen if set(given.only.split(",")) - OF_NO_VERB else ():
        _undisturbed(verb, out)
    rows, faults = [], []
    for attack in given.only.split(","):
        found: defaultdict[str, int] = defaultdict(int)
        begun = time.monotonic()
        tries = ATTACKS[attack](chosen, out, random.Random(given.seed), given.tries,
                                lambda line, attack=attack, found=found: (
                                    faults.append(f"{attack}: {line}"), _print(faults[-1]),
                                    found.update({"": found[""] + 1})))
        rows.append(f"| {attack} | {tries} | {found['']} | `--only {attack}` |")
        _print(f"{attack}: {tries} tries, {found['']} faults, {time.monotonic() - begun:.0f} s")
        (out / "faults.md").write_text(
            "| Attack | Tries | Faults | Command |\n|---|---:|---:|---|\n" + "\n".join(rows) + "\n")
        (out / "faults.txt").write_text("\n".join(faults) + "\n")
    return 1 if faults else 0


def _print(line: str) -> None:
    print(line, flush=True)


def _undisturbed(verb: Verb, out: Path) -> None:
    """Run a verb as it is meant; keep its time and its result."""
    folder = out / "work"
    clear(folder)
    run = start(verb, out / "material", folder)
    code, text = run.end()
    assert code == 0, f"{verb.name}: {text}"
    verb.seconds, verb.reference = run.seconds, content_of(folder)
    verb.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert not half_files(folder), half_files(folder)
    _print(f"{verb.name}: {verb.seconds:.1f} s, {len(verb.reference)} files compared")


def kills(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Kill at random moments, up to three times in a row, then let the command end."""
    done = 0
    for verb in verbs:
        for number in range(tries):
            if number % 3 == 0:
                clear(out / "work")
            run = start(verb, out / "material", out / "work")
            run.kill(signal.SIGKILL, rng.uniform(0, verb.seconds))
            run.end()
            done += 1
            if not verb.piped and (half := half_files(out / "work")):
                fault(f"{verb.name}, kill {number}: half a file: {half[0]}")
            if number % 3 == 2 or number == tries - 1:
                again(verb, out, fault, f"kill {number}")
            if number % 10 == 9:
                _print(f"{verb.name}: {number + 1} kills")
    return done


def signals(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """End by SIGTERM and SIGHUP at random moments."""
    done = 0
    for verb in verbs:
        for number in [signal.SIGTERM, signal.SIGHUP] * max(tries // 12, 1):
            clear(out / "work")
            run = start(verb, out / "material", out / "work")
            run.kill(number, rng.uniform(0.25, 0.95) * verb.seconds)
            code, text = run.end()
            done += 1
            if code not in (0, 128 + number, -number):
                fault(f"{verb.name}, {number.name}: exit {code}: {text[-200:]!r}")
            elif code > 0 and (left := left_over(out / "work")):
                fault(f"{verb.name}, {number.name}: left: {left[0]}")
            check_after(verb, out, fault, number.name, code, text)
    return done


def rivals(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Run two of a command at once: each ends well, or says in a line why it does not."""
    done = 0
    for verb in verbs:
        if verb.piped:
            continue
        for _ in range(max(tries // 16, 1)):
            clear(out / "work")
            first = start(verb, out / "material", out / "work")
            time.sleep(rng.uniform(0, 0.5) * verb.seconds)
            second = start(verb, out / "material", out / "work")
            # `end` waits for all children, so that the codes are taken first.
            codes = {pid: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT).si_status
                     for pid in (second.pid, first.pid)}
            done += 1
            texts = {run.pid: run.messages() for run in (first, second)}
            for pid in codes:
                os.waitpid(pid, 0)
            if all(codes.values()):
                fault(f"{verb.name}, two at once: both failed: {list(texts.values())}")
            for pid, text in texts.items():
                if "Traceback" in text or (codes[pid] and "error: " not in text):
                    fault(f"{verb.name}, two at once: exit {codes[pid]}: {text[-300:]!r}")
            again(verb, out, fault, "two at once")
    return done


ATTACKS = {"kills": kills, "signals": signals, "rivals": rivals, "clocks": clocks,
           "disks": disks, "calls": calls, "homes": homes, "bytes": damage, "serve": serve,
           "ray": ray}

OF_NO_VERB = {"bytes", "serve", "ray"}

if __name__ == "__main__":
    sys.exit(main())
