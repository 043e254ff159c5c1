"""Workers of one command: what is seen of them, how they end together, and that none is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gan_denoise.core.standard_streams import ERRORS, OUTPUT
from gan_denoise.core.termination import Terminated
from gan_denoise.training import worker_processes
from gan_denoise.training.worker_processes import WorkerError, WorkerProcess, follow

HOSTS = ["127.0.0.1:7001", "127.0.0.1:7002"]


def follow_two(case: str, folder: Path, on_line=lambda worker, line: None):
    """Follow two workers; return their lines, in order, and check that none of them is left."""
    seen = []

    def show(worker, line):
        seen.append((worker, line.stream, line.text))
        on_line(worker, line)

    try:
        follow([WorkerProcess([case, str(folder)], HOSTS, index, "toy_worker")
                for index in range(2)], show)
    finally:
        for file in folder.glob("*.pid"):
            with pytest.raises(ProcessLookupError):
                os.kill(int(file.read_text()), 0)
    return seen


def test_each_has_its_task_and_all_lines_are_seen(tmp_path):
    assert sorted(follow_two("talk", tmp_path)) == [
        (0, OUTPUT, f"to stdout: {HOSTS}"), (0, ERRORS, "to stderr: 0: grüße"),
        (1, OUTPUT, f"to stdout: {HOSTS}"), (1, ERRORS, "to stderr: 1: grüße")]


@pytest.mark.parametrize(("case", "code", "reason"), [
    ("refuse", 2, "worker 1: a.wav is missing; bring it back"),
    ("fault", 1, "worker 1 died (exit code 1, KeyError: 'step'); the same command"),
])
def test_the_failure_of_one_ends_all_with_its_exit_code(tmp_path, monkeypatch, case, code, reason):
    monkeypatch.setattr(worker_processes, "GRACE_SECONDS", 0.5)
    with pytest.raises(WorkerError) as ended:
        follow_two(case, tmp_path)
    assert str(ended.value).startswith(reason)
    assert ended.value.exit_code == code


def test_the_one_that_was_killed_is_named_not_the_one_that_misses_it(tmp_path):
    with pytest.raises(WorkerError, match=r"^worker 1 died \(signal 9: .*checkpoint$") as ended:
        follow_two("die", tmp_path)
    assert ended.value.exit_code == 1


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt),
                                               (signal.SIGTERM, Terminated)])
def test_ctrl_c_and_sigterm_let_all_save(tmp_path, number, error):
    begun = []

    def on_line(worker, line):
        begun.append(line.text)
        if begun.count("begun") == 2 and len(begun) == 2:
            os.kill(os.getpid(), number)

    with pytest.raises(error):
        follow_two("train", tmp_path, on_line)
    assert begun == ["begun"] * 2 + ["saved"] * 2
    assert len(list(tmp_path.glob("*.saved"))) == 2
