"""Odd and hostile recordings, each handed to the command line with its memory and time measured.

    python scripts/torture_inputs.py --out build/torture-inputs

Makes the files (OUT/files), then runs `denoise`, `check` and, of what is called .wav, the pipe `-`
on each, in a process of its own. A run is wrong where the process took more memory or time than
MEGABYTES and SECONDS, showed a traceback or was killed, ended with another exit code than 0, 1 or
2, failed without saying why, wrote something of a file that failed, or left a temporary file.
OUT/runs.txt has a line on each. `scripts/torture_fuzz.py` finds the inputs that nobody thought of.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from torture_recordings import make_recordings

MEGABYTES, SECONDS = 700, 60  # of memory that is resident, and of time, that a run may take
LATE = 999  # as an exit code: ended by SIGTERM, as the time was over
ADDRESS_SPACE = 8 * 2**30  # bytes: what is asked for and never touched counts here
PROGRAM = Path(sys.executable).with_name("gan-denoise")
WATCHER = """
import resource, subprocess, sys
resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
process = subprocess.Popen(sys.argv[1:])
try:
    code = process.wait(%d)
except subprocess.TimeoutExpired:
    process.terminate()
    process.wait(20)
    code = 999
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, code, file=open(%r, "w"))
"""


@dataclass
class Run:
    """What came of one command on one file."""

    name: str
    verb: str
    code: int  # LATE: out of time; -1: not ended when asked to
    megabytes: float
    seconds: float
    said: str
    wrong: list[str]


def main() -> int:
    """Make the files and try all; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/torture-inputs"))
    parser.add_argument("--only", default="", metavar="REGEX", help="files of such names")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    out = given.out.resolve()
    files = out / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir(parents=True)
    make_recordings(files)
    paths = sorted(path for path in files.iterdir() if re.search(given.only, path.name))
    tasks = [(path, verb) for path in paths for verb in ("denoise", "check", "pipe")
             if verb != "pipe" or path.suffix == ".wav" or path.name.startswith("random")]
    with ThreadPoolExecutor(given.jobs) as pool:
        runs = [run for run in pool.map(lambda task: attempt(*task, out), tasks) if run]
    for run in runs:
        if run.wrong:
            print(f"wrong: {run.verb} {run.name}: {'; '.join(run.wrong)}")
    codes = Counter((run.verb, run.code) for run in runs)
    wrong = sum(bool(run.wrong) for run in runs)
    lines = [f"{run.verb:8} {run.code} {run.megabytes:6.0f} MB {run.seconds:5.1f} s  {run.name}: "
             f"{' '.join(run.said.split())[-200:]}" for run in runs]
    (out / "runs.txt").write_text("\n".join(lines) + "\n")
    print(f"{len(paths)} files, {len(runs)} runs: "
          + ", ".join(f"{count} x {verb} ended with {code}"
                      for (verb, code), count in sorted(codes.items(), key=str))
          + f"; at most {max(run.megabytes for run in runs):.0f} MB and "
          f"{max(run.seconds for run in runs):.0f} s; {wrong} wrong")
    return int(wrong > 0)


def attempt(path: Path, verb: str, out: Path) -> Run | None:
    """Run one command on one file in a folder of its own, and judge it."""
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        target = Path(temporary, "target")
        commands = {"denoise": ["denoise", path, "-o", target], "check": ["check", path.parent],
                    "pipe": ["denoise", "-", "-o", "-"]}
        arguments = commands[verb]
        if verb == "check":  # a folder with the file alone
            folder = Path(temporary, "noisy")
            folder.mkdir()
            os.link(path, folder / path.name)
            arguments = ["check", folder]
        figures = Path(temporary, "figures")
        watcher = WATCHER % (ADDRESS_SPACE, ADDRESS_SPACE, SECONDS, str(figures))
        begun = time.perf_counter()
        with open(path if verb == "pipe" else os.devnull, "rb") as stdin:
            process = subprocess.Popen([sys.executable, "-c", watcher, PROGRAM, *arguments],
                                       stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       start_new_session=True)
            said = process.communicate()
        seconds = time.perf_counter() - begun
        kilobytes, code = (map(int, figures.read_text().split()) if figures.exists()
                           else (0, -1))
        text = (said[1] if verb == "pipe" else said[0] + said[1]).decode(errors="replace")
        run = Run(path.name, verb, code, kilobytes / 1024, seconds, text, [])
        judge(run, target, len(said[0]))
        return run


def judge(run: Run, target: Path, piped: int) -> None:
    """Note what is wrong of a run."""
    if run.code == LATE:
        if not run.name.startswith("sparse"):  # a day of audio takes as long as it takes
            run.wrong.append(f"took more than {SECONDS} s")
    elif run.code not in (0, 1, 2):
        run.wrong.append(f"ended with {run.code}")
    if run.megabytes > MEGABYTES:
        run.wrong.append(f"took {run.megabytes:.0f} MB")
    if "Warning:" in run.said:
        run.wrong.append("shows a warning of a library")
    if "Traceback" in run.said:
        run.wrong.append(f"shows a traceback: {run.said.strip().splitlines()[-1][:200]}")
    if run.code not in (0, LATE) and not run.said.strip():
        run.wrong.append("failed without a word")
    if re.search(r"\b[A-Z]\w+Error: ", run.said):
        run.wrong.append("shows the name of an exception")
    written = [path for path in target.rglob("*") if path.is_file()]
    recordings = [path for path in written if not path.name.startswith(".gan-denoise-journal")]
    if [path for path in recordings if path.name.startswith(".")]:
        run.wrong.append("left a temporary file")
    elif run.verb == "denoise" and run.code == 0 and not recordings:
        run.wrong.append("done, and nothing written")
    elif run.verb == "denoise" and run.code == 2 and recordings:
        run.wrong.append("failed, and something written")


if __name__ == "__main__":
    sys.exit(main())
