"""What the server says of a training process that ends by itself."""

from __future__ import annotations

import os
import signal
import struct
import time

import pytest


def half_a_message(pipe, interruption):
    """Be killed amid a message of 100 bytes."""
    os.write(pipe.fileno(), struct.pack("!i", 100) + b"half")
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_process_that_is_killed_amid_a_message_leaves_the_server_free(tmp_path):
    pytest.importorskip("starlette", reason="serve needs the extra `web`")
    from gan_denoise.pages.models import Models
    from gan_denoise.pages.settings import ServeSettings
    from gan_denoise.pages.training import TRAINING, Training

    training = Training(ServeSettings(runs=tmp_path), Models())
    training._launch(TRAINING, tmp_path / "one", "", half_a_message)
    until = time.monotonic() + 60
    while training.to_json()["state"] != "idle":
        assert time.monotonic() < until
        time.sleep(0.05)
    shown = training.to_json()
    assert shown["outcome"] == "failed"
    assert shown["words"].startswith("the process ended (signal 9")
