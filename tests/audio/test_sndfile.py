"""Part of a file as a file: the same bytes, wherever it is read."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio.sndfile import FileSlice, sndfile_path

CONTENT = bytes(range(200))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slice") / "file"
    path.write_bytes(CONTENT)
    return path


@given(
    begin=st.integers(0, 200), length=st.integers(0, 200),
    steps=st.lists(st.tuples(st.sampled_from([os.SEEK_SET, os.SEEK_CUR, os.SEEK_END]),
                             st.integers(0, 60), st.integers(0, 90)), max_size=6),
)  # fmt: skip
@settings(deadline=None)
def test_a_slice_reads_as_its_bytes(
    path: Path, begin: int, length: int, steps: list[tuple[int, int, int]]
) -> None:
    end = min(begin + length, 200)
    expected = io.BytesIO(CONTENT[begin:end])
    with FileSlice(path, begin, end) as part:
        assert part.read() == expected.read()
        for whence, offset, size in steps:
            offset = -min(offset, expected.tell()) if whence == os.SEEK_CUR else offset
            offset = -min(offset, end - begin) if whence == os.SEEK_END else offset
            place = min(expected.seek(offset, whence), end - begin)
            assert part.seek(offset, whence) == part.tell() == place
            assert part.read(size) == expected.read(size)
            expected.seek(part.tell())


def test_a_slice_ends_where_it_ends(path: Path) -> None:
    with FileSlice(path, 10, 20) as part:
        assert part.seek(99) == 10
        assert part.read(5) == b""
        assert part.seek(-99, os.SEEK_END) == 0
    assert part.closed


def test_names_that_are_no_utf8_go_as_bytes() -> None:
    assert sndfile_path(Path("grüße.wav")) == "grüße.wav"
    assert sndfile_path(Path(os.fsdecode(b"caf\xe9.wav"))) == b"caf\xe9.wav"
