"""The verdict on a long run: what grows is found, and what only swings is not."""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
soak = pytest.importorskip("soak")
soak_verdict = pytest.importorskip("soak_verdict")
COUNT = 100


def run(**changes):
    """Return samples of a run that is flat, but for a column that differs by a given series."""
    rng = np.random.default_rng(0)
    hours = np.arange(COUNT)
    columns = {
        "seconds": 30.0 * hours, "work": 300.0 * hours, "cpu_seconds": 20.0 * hours,
        "yardstick": np.full(COUNT, 0.1),
        "memory_mb": 400 + rng.uniform(-3, 3, COUNT), "handles": 40 + rng.integers(0, 5, COUNT),
        "threads": np.full(COUNT, 13), "temporary": rng.integers(0, 3, COUNT),
        "files": np.full(COUNT, 6), "logged_mb": 0.1 * hours,
    }
    # Caches fill in the first fifth.
    columns["memory_mb"] = columns["memory_mb"] - np.where(hours < COUNT // 5, 150, 0)
    columns |= {name: columns[name] + change(hours) for name, change in changes.items()}
    return [{name: float(column[i]) for name, column in columns.items()} for i in range(COUNT)]


def grown(samples):
    return [series.name for series in soak_verdict.verdict(samples) if not series.flat]


def test_a_run_that_swings_about_a_level_is_flat():
    assert grown(run()) == []


@pytest.mark.parametrize(("column", "change", "name"), [
    ("memory_mb", lambda x: 0.2 * x, "memory (MB)"),
    ("handles", lambda x: x // 10, "handles"),
    ("threads", lambda x: 2 * (x > 60), "threads"),
    ("temporary", lambda x: 0.1 * x, "temporary"),
    ("cpu_seconds", lambda x: 0.012 * x**2, "work per yardstick"),
    ("logged_mb", lambda x: 2.0 * x, "logged MB per 1,000"),
])
def test_what_grows_is_named(column, change, name):
    assert grown(run(**{column: change})) == [name]


def test_speed_counts_the_processor_not_the_clock():
    assert grown(run(seconds=lambda x: 5.0 * x**2)) == []


def test_a_machine_that_others_slow_down_is_no_slower_program():
    def slower(x):  # by half, from the middle on
        return np.maximum(x - 50, 0)

    assert grown(run(cpu_seconds=lambda x: 10.0 * slower(x))) == ["work per yardstick"]
    assert grown(run(cpu_seconds=lambda x: 10.0 * slower(x),
                     yardstick=lambda x: 0.05 * (x > 50))) == []


def test_a_pool_that_fills_late_is_no_leak():
    assert grown(run(threads=lambda x: 1 * (x > 60))) == []


@pytest.mark.parametrize("seed", range(20))
def test_files_that_come_and_go_by_the_dozen_are_no_leak(seed):
    """Four people's recordings, each of which has six files or none yet, at the time of a look."""
    swing = np.random.default_rng(seed).binomial(8, 0.5, COUNT) * 3
    assert grown(run(temporary=lambda x: 120 + swing)) == []
    assert grown(run(temporary=lambda x: 120 + swing + 0.2 * x)) == ["temporary"]


def test_the_judge_reads_what_was_written(tmp_path, capsys):
    table = tmp_path / "samples.csv"
    for samples, flat in ((run(), True), (run(threads=lambda x: x), False), (run()[:9], False)):
        with open(table, "w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, soak_verdict.COLUMNS)
            rows.writeheader()
            rows.writerows(samples)
        assert soak_verdict.judge(table) is flat
    assert "threads" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="Linux alone has /proc")
def test_a_process_is_watched_with_its_descendants_until_it_ends(tmp_path):
    program = ("import subprocess, sys, tempfile, time\n"
               "held = tempfile.NamedTemporaryFile()\n"
               "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(2)'])\n"
               "big = bytearray(50_000_000)\n"
               "time.sleep(60)\n")
    seen, none = [], tmp_path / "none"
    code = soak.watch([sys.executable, "-c", program], tmp_path, 0.3, none, none,
                      lambda: 1.0, lambda s: bool(seen.append(s)) or len(seen) > 2)
    assert code != 0  # Python ends by the signal itself, not as a command of ours
    assert max(s["memory_mb"] for s in seen) > 50
    assert max(s["threads"] for s in seen) == 2  # two processes of one
    assert seen[-1]["temporary"] == 1
    assert len(soak_verdict.read(tmp_path / "samples.csv")) >= 3


def test_what_is_watched_ends_with_the_watch(tmp_path):
    """A soak that is stopped leaves no training that goes on for hours."""
    begun = tmp_path / "pid"
    command = [sys.executable, "-c", f"import os, pathlib, time; "
               f"pathlib.Path({str(begun)!r}).write_text(str(os.getpid())); time.sleep(600)"]

    def stopped_once_it_runs():
        if begun.exists() and begun.read_text():
            raise KeyboardInterrupt
        return 0.0

    with pytest.raises(KeyboardInterrupt):
        soak.watch(command, tmp_path, 0.05, tmp_path / "out", tmp_path / "logs",
                   stopped_once_it_runs)
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
