"""Tables as CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from gan_denoise.core.atomic_files import write_atomically


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a header and rows as CSV in UTF-8; the file appears whole or not at all.

    Lines end in a line feed; None is an empty cell; what UTF-8 cannot hold of a file's name is
    written as an escape (`\\udcff`).

    Args:
        path: File to write; missing folders are made.
        columns: Names of the columns.
        rows: A value for each column.

    Raises:
        OutputError: When it cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    content = text.getvalue().encode("utf-8", "backslashreplace")
    write_atomically(path, lambda file: file.write(content))
