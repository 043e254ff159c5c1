"""The report of a folder run: a row a file, as JSON or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gan_denoise.audio import AudioError
from gan_denoise.audio.info import describe_anomalies
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.locations import location, reaching
from gan_denoise.core.tables import write_csv
from gan_denoise.inference.folder_journal import to_json
from gan_denoise.inference.results import FileResult

COLUMNS = ("source", "target", "status", "seconds", "sample_rate", "channels", "real_time_factor",
           "elapsed", "peak_in_db", "peak_out_db", "noise_floor_drop_db", "clipped",
           "guard_gain_db", "lost", "note", "error")


def check_report(path: str | Path) -> None:
    """Refuse a report that could not be written, before any work.

    Raises:
        AudioError: For another suffix than .json and .csv, or a folder.
        LocationError: When an address cannot be reached.
    """
    path = location(path)
    if path.suffix.lower() not in (".json", ".csv"):
        raise AudioError(f"{path}: a table of the files is .json or .csv")
    with reaching(path):
        is_folder = path.is_dir()
    if is_folder:
        raise AudioError(f"{path}: is a folder; give the report another name")


def write_report(results: Sequence[FileResult], path: str | Path) -> None:
    """Write a row a file, as JSON or CSV; `COLUMNS` are its names, levels are in dB.

    The row of a skipped file has the figures of the run that did it.

    Raises:
        AudioError: As `check_report`.
        OutputError: When it cannot be written.
        LocationError: When it cannot at an address.
    """
    path = location(path)
    check_report(path)
    rows = [_row(result) for result in results]
    if path.suffix.lower() == ".json":
        content = b"[\n" + b",\n".join(to_json(row) for row in rows) + b"\n]\n"
        write_atomically(path, lambda file: file.write(content))
    else:
        write_csv(path, COLUMNS, [(row | {"lost": "; ".join(row["lost"])}).values()
                                  for row in rows])


def _row(result: FileResult) -> dict[str, Any]:
    values = result.figures() | {"source": str(result.source), "target": str(result.target)}
    values["real_time_factor"] = None
    if result.elapsed and result.error is None:
        values["real_time_factor"] = round(result.seconds / result.elapsed, 1)
    values |= {name: round(values[name], 4) for name in ("seconds", "elapsed")}
    values["note"] = describe_anomalies(result)
    return {name: values[name] for name in COLUMNS}
