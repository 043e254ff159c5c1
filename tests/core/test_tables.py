"""CSV that spreadsheets and programs read back as it was given."""

from __future__ import annotations

import csv
import os

import pytest

from gan_denoise.core.errors import OutputError
from gan_denoise.core.tables import write_csv


def test_cells_come_back_as_they_were(tmp_path):
    path = tmp_path / "deep" / "table.csv"
    cells = ["a,b", 'say "so"', "two\nlines", "Żółć", "", " x "]
    write_csv(path, ["1", "2", "3", "4", "5", "6"], [cells, iter(cells)])
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["1", "2", "3", "4", "5", "6"], cells, cells]
    assert os.listdir(path.parent) == ["table.csv"]


def test_numbers_are_exact_nothing_is_empty_and_lines_end_alike(tmp_path):
    write_csv(tmp_path / "t.csv", ["a", "b", "c"], [[1, 0.1 + 0.2, None]])
    assert (tmp_path / "t.csv").read_bytes() == b"a,b,c\n1,0.30000000000000004,\n"


def test_names_that_are_no_text_are_escaped(tmp_path):
    write_csv(tmp_path / "t.csv", ["file"], [[os.fsdecode(b"\xff.wav")]])
    assert (tmp_path / "t.csv").read_bytes() == b"file\n\\udcff.wav\n"


def test_rows_that_fail_leave_the_old_table(tmp_path):
    write_csv(tmp_path / "t.csv", ["a"], [[1]])
    with pytest.raises(ZeroDivisionError):
        write_csv(tmp_path / "t.csv", ["a"], ([1 / n] for n in (1, 0)))
    assert (tmp_path / "t.csv").read_bytes() == b"a\n1\n"
    with pytest.raises(OutputError, match="cannot be written"):
        write_csv(tmp_path / "t.csv" / "below", ["a"], [])
