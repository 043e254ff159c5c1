"""`gan-denoise evaluate`: pairs that do not match, bars."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from command_line import gan_denoise, refusal, write_recordings
from conftest import RATE


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def test_orphans_and_other_bad_pairs_are_refused(recordings, tmp_path):
    clean = tmp_path / "clean"
    clean.mkdir()
    soundfile.write(clean / "a.wav", np.zeros(100), RATE)
    message = refusal(gan_denoise("evaluate", "--noisy", recordings, "--clean", clean))
    assert "sub/b" in message
    assert "sub/c d" in message
    assert f"in {recordings} have no clean partner" in message
