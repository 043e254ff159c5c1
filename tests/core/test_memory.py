"""Memory of the C library: few arenas for many threads, and none of it returned for nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="settings of glibc")

ARENAS = """
import ctypes, sys, threading
from gan_denoise.core.memory import keep_freed_memory, limit_arenas
setting = {"limited": lambda: limit_arenas(2), "kept": keep_freed_memory, "free": lambda: True}
if not setting[sys.argv[1]]():
    sys.exit(77)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
together = threading.Barrier(8)

def allocate():
    together.wait()
    assert libc.malloc(100)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
file = libc.fopen(sys.argv[2].encode(), b"w")
libc.malloc_info(0, ctypes.c_void_p(file))
libc.fclose(ctypes.c_void_p(file))
"""


def test_threads_share_the_arenas_that_there_may_be(tmp_path):
    counts = {}
    for kind in ("limited", "kept", "free"):
        path = tmp_path / f"{kind}.xml"
        done = subprocess.run([sys.executable, "-c", ARENAS, kind, str(path)], capture_output=True,
                              text=True, check=False)
        if done.returncode == 77:
            pytest.skip("this C library has no arenas to limit")
        assert done.returncode == 0, done.stderr
        counts[kind] = path.read_text(encoding="ascii").count("<heap nr=")
    assert counts["kept"] <= 1
    assert counts["limited"] <= 2 < counts["free"]


FAULTS = """
import resource, sys
import numpy as np
from gan_denoise.core.memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(77)
if sys.argv[1] == "training":
    from gan_denoise.config.schema import TrainingConfig
    from gan_denoise.training.trainer import set_up
    set_up(TrainingConfig())

def work():
    for size in (2**22, 2**24, 2**23):
        np.ones(size, np.float32)

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_kept_memory_is_not_asked_for_again():
    faults = {}
    for kind in ("kept", "training", "returned"):
        done = subprocess.run([sys.executable, "-c", FAULTS, kind], capture_output=True, text=True,
                              check=False)
        if done.returncode == 77:
            pytest.skip("this C library has no such setting")
        assert done.returncode == 0, done.stderr
        faults[kind] = int(done.stdout)
    assert faults["kept"] < 100 < faults["returned"]
    assert faults["training"] < 100


CYCLES = """
import sys
from collections import deque
from gan_denoise.core.memory import collect_as_usual, collect_seldom

class Request:
    living = 0

    def __init__(self):
        self.itself, self.parts = self, [[] for _ in range(20)]
        Request.living += 1

    def __del__(self):
        Request.living -= 1

collect_seldom()
if sys.argv[1] == "usual":
    collect_as_usual()
most, under_way = 0, deque(maxlen=50)
for _ in range(20000):
    under_way.append(Request())
    most = max(most, Request.living)
print(most)
"""


def test_a_server_does_not_let_old_requests_wait():
    most = {kind: int(subprocess.run([sys.executable, "-c", CYCLES, kind], capture_output=True,
                                     text=True, check=True).stdout) for kind in ("usual", "seldom")}
    assert 2 * most["usual"] < most["seldom"]
