"""Impulse responses of made-up rooms."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from gan_denoise import audio
from gan_denoise.core.errors import OutputError
from gan_denoise.data.room_simulation import RoomError, room, write_rooms

pyroomacoustics = pytest.importorskip("pyroomacoustics")
RATE = 16000


def drawn(seed=0, rt60=(0.3, 0.3)):
    return room(np.random.default_rng(seed), RATE, rt60)


@pytest.mark.parametrize("seed", range(4))
def test_the_direct_path_comes_when_sound_has_travelled_it_and_is_the_largest(seed):
    response, row = drawn(seed)
    distance = np.linalg.norm(np.subtract(row["voice"], row["microphone"]))
    delay = pyroomacoustics.constants.get("frac_delay_length") // 2
    assert np.argmax(np.abs(response)) == pytest.approx(delay + distance / 343 * RATE, abs=2)
    assert response.dtype == np.float32
    assert np.abs(response).max() == 1


def test_a_longer_reverberation_is_longer():
    measured = [pyroomacoustics.experimental.measure_rt60(drawn(1, (s, s))[0], RATE, decay_db=30)
                for s in (0.2, 0.4)]
    assert 0.12 < measured[0] < 0.3
    assert measured[0] + 0.08 < measured[1] < 0.55


@pytest.mark.parametrize("seed", range(4))
def test_voice_and_microphone_are_inside_and_apart(seed):
    _, row = drawn(seed)
    for place in ("voice", "microphone"):
        assert all(0.5 <= x <= side - 0.5 for x, side in zip(row[place], row["size"], strict=True))
    assert np.linalg.norm(np.subtract(row["voice"], row["microphone"])) >= 0.7


def test_a_folder_of_them_is_the_same_for_the_same_seed(tmp_path):
    for name in "ab":
        rows = write_rooms(tmp_path / name, 2, RATE, (0.15, 0.3), seed=3)
    assert json.loads((tmp_path / "a/rooms.json").read_text()) == rows
    assert all(0.15 <= row["rt60"] <= 0.3 for row in rows)
    for row in rows:
        one, other = (audio.read(tmp_path / name / row["file"])[0] for name in "ab")
        np.testing.assert_array_equal(one, other)
    with pytest.raises(OutputError, match="is there already"):
        write_rooms(tmp_path / "a", 2)


@pytest.mark.parametrize("rt60", [(0.7, 0.2), (-0.5, 0.5), (0, 0), (np.nan, np.nan), (0.2, np.inf)])
def test_a_range_that_is_none_is_refused(rt60):
    with pytest.raises(RoomError, match="give a range within"):
        drawn(rt60=rt60)


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    with pytest.raises(RoomError, match=r"pip install 'gan-denoise\[rooms\]'"):
        write_rooms(tmp_path / "rooms", 1)
    assert not list(tmp_path.iterdir())


def test_a_reverberation_that_no_room_has_is_refused():
    with pytest.raises(RoomError, match=r"rt60 of 0\.001 to"):
        drawn(rt60=(0.001, 0.001))
