"""Pools of processes: results in order, how one died, and that none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from gan_denoise.core.processes import Interruption, ProcessDied, ProcessPool, cores, exit_text


def _power(base: int, exponent: int) -> int:
    return base**exponent


def _die(how: int) -> None:
    if how < 0:
        os.kill(os.getpid(), -how)
        time.sleep(60)
    os._exit(how)


def _die_or_wait(how: int) -> None:
    if how:
        _die(how)
    time.sleep(60)


def _interrupted(_: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()


def _obey(interruption: Interruption, pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else as this process has it
    interruption.receive()
    for _ in range(2):
        try:
            pipe.send("works")
            for _ in range(600):
                time.sleep(0.05)
        except KeyboardInterrupt:
            pipe.send("interrupted")


def pool(jobs=1):
    return ProcessPool(jobs, "counting", "count fewer at once")


def test_results_come_in_order_from_other_processes():
    with pool(2) as processes:
        assert list(processes.map(_power, [5, 2, 3], [2, 3, 4], chunksize=2)) == [25, 8, 81]
        assert os.getpid() not in processes.map(_interrupted, range(2))  # Ctrl-C is ours


@pytest.mark.parametrize(("how", "text"), [
    (-signal.SIGKILL, "signal 9: out of memory?"), (-signal.SIGSEGV, "signal 11"),
    (3, "exit code 3"), (-signal.SIGTERM, "signal 15"),
])
def test_a_process_that_dies_is_one_line_that_says_how(how, text):
    processes = pool(2)
    begun = time.monotonic()
    with pytest.raises(ProcessDied) as died:
        list(processes.map(_die_or_wait, [how, 0]))
    assert time.monotonic() - begun < 40  # the other one would work for a minute
    assert str(died.value) == f"a process died while counting ({text}); count fewer at once"
    with pytest.raises(ProcessDied):  # and stays dead
        processes.map(_power, [1], [1])
    processes.close()


def test_a_script_without_a_main_part_is_told_what_it_lacks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from gan_denoise.core.processes import ProcessPool\n"
                      "print(list(ProcessPool(1, 'working', 'use jobs=1').map(abs, [1])))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "the calling script needs `if __name__ == '__main__':`, or use jobs=1" in done.stderr


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os, time\n"
                      "from gan_denoise.core.processes import ProcessPool\n"
                      "if __name__ == '__main__':\n"
                      "    pool = ProcessPool(1, 'waiting', 'wait less')\n"
                      "    print(*pool.map(eval, [\"__import__('os').getpid()\"]), flush=True)\n"
                      "    time.sleep(60)\n")
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    assert os.path.isdir(f"/proc/{worker}")
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 20
    while os.path.isdir(f"/proc/{worker}") and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.isdir(f"/proc/{worker}")


def test_how_a_process_ended_in_words():
    assert [exit_text(code) for code in (0, 2, -6, -9)] == [
        "exit code 0", "exit code 2", "signal 6", "signal 9: out of memory?"]


def test_there_is_a_core():
    assert 1 <= cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("signals", [True, False])
def test_a_process_is_interrupted_as_often_as_it_is_asked(monkeypatch, signals):
    """By an event, too, where a signal would end it: it goes on after each."""
    if not signals:
        monkeypatch.delattr(os, "setpgrp")
    context = get_context("spawn")
    interruption, (ours, theirs) = Interruption(context), context.Pipe(duplex=False)
    process = context.Process(target=_obey, args=(interruption, theirs))
    process.start()
    for _ in range(2):
        assert ours.poll(60)
        assert ours.recv() == "works"
        interruption.send(process)
        assert ours.poll(60)
        assert ours.recv() == "interrupted"
    process.join()
    assert process.exitcode == 0
    interruption.send(process)  # nothing
