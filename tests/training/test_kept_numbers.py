"""A step leaves nothing behind: of Python's own numbers TensorFlow would keep each."""

from __future__ import annotations

import ctypes
import sys

import pytest
from conftest import tiny_config, tiny_material

from gan_denoise.training.trackers import TensorBoard
from gan_denoise.training.trainer import Trainer

COUNT = 2000


class _Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
        "fordblks", "keepcost")]


@pytest.fixture
def used():
    """Return the bytes of the C library's heap that are in use."""
    library = ctypes.CDLL(None)
    if sys.platform == "win32" or not hasattr(library, "mallinfo2"):
        pytest.skip("this C library does not tell")
    library.mallinfo2.restype = _Heap
    return lambda: library.mallinfo2().uordblks


def grown(used, work):
    """Return the bytes that a call with a number never seen before leaves, on average."""
    for number in range(100):
        work(number)
    before = used()
    for number in range(1000, 1000 + COUNT):
        work(number)
    return (used() - before) / COUNT


def test_the_learning_rates_of_past_steps_are_not_kept(used):
    trainer = Trainer(tiny_config(training={"steps": 10**6}), tiny_material(), "finetune")
    trainer.progress.total_steps = 10**6
    assert trainer.schedule(1000) != trainer.schedule(1001)
    assert grown(used, trainer._schedule) < 100  # one number of Python's: 650


def test_the_values_of_past_steps_are_not_kept(used, tmp_path):
    board = TensorBoard(tmp_path, tiny_config())
    try:
        def show(number):
            board.scalars(number, {"loss/total": number / 7, "valid/si_sdr": number / 9})
            if number % 20 == 0:
                board._writer.flush()

        assert grown(used, show) < 300  # two numbers and two steps of Python's: 2,300
    finally:
        board.close()
