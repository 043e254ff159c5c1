"""Where mixtures are written: `noisy/`, `clean/` and `manifest.json` appear together.

All three are made in one temporary folder beside their places and then get their names, one after
the other. A process that is killed between two of these renames leaves the others in the temporary
folder, complete: the next call for the same place gives them their names.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict, cast

from gan_denoise.core.atomic_files import check_new_folder, write_atomically
from gan_denoise.core.checksums import DamagedError, sealed, unsealed
from gan_denoise.core.json_text import parse_json
from gan_denoise.core.leftovers import remove_leftovers, temporary_folder

SIDES = ("noisy", "clean")
MANIFEST = "manifest.json"
_MAKING = ".mixing."  # begin of the temporary folder's name
_REQUEST = "request.json"  # in it: what the mixtures were made of


class MixtureRow(TypedDict):
    """A mixture in the manifest.

    Attributes:
        file: Name of the file below `noisy/` and `clean/`.
        speech: File of the utterance.
        speaker: Who speaks; None where the folders do not show it.
        noise: Kinds of the noises, joined by ` + `.
        noise_file: Files of the recorded ones, joined by ` + `.
        rir: File of the room impulse response; None: no room.
        snr_db: SNR in dB.
        seconds: Length.
        gain: Factor that noisy and clean have in common.
    """

    file: str
    speech: str
    speaker: str | None
    noise: str
    noise_file: str
    rir: str | None
    snr_db: float
    seconds: float
    gain: float


def finish_killed(out: Path) -> list[object]:
    """Give mixtures that a killed process had made completely their names; remove other remains.

    What stands in their places and is not theirs stays, and so do they then.

    Returns:
        The `request` of each `mixture_folder` that is finished by this.
    """
    finished: list[object] = []
    remove_leftovers(out, _MAKING, lambda left: _finish(left, out, finished))
    return finished


def read_rows(out: Path) -> list[MixtureRow]:
    """Return the rows of the manifest of mixtures.

    Raises:
        DamagedError: When it is no manifest, or a row is not as it was written.
        OSError: When the manifest cannot be read.
    """
    path = out / MANIFEST
    try:
        return [cast("MixtureRow", unsealed(row, path))
                for row in parse_json(path.read_text(encoding="utf-8"))]
    except DamagedError:
        raise
    except (ValueError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path}: is no manifest of mixtures ({error})",
                           "make them again") from error


@contextlib.contextmanager
def mixture_folder(
    out: Path, request: object, rows: Sequence[MixtureRow]
) -> Iterator[Path]:
    """Give a temporary folder with `noisy/` and `clean/` to fill; in the end they are in `out`.

    After an exception it is removed, and `out` is as before.

    Args:
        out: Folder for `noisy/`, `clean/` and the manifest; made where there is none.
        request: What the mixtures are made of, as JSON holds it.
        rows: Rows of the manifest, which the block may still add to.

    Raises:
        OutputError: When there are files in `noisy/` or `clean/` already, or the manifest cannot be
            written.
        OSError: When the disk is full or `out` cannot be written.
    """
    check_places(out)
    out.mkdir(parents=True, exist_ok=True)
    with temporary_folder(_MAKING, out, lambda left: _finish(left, out, [])) as build:
        for side in SIDES:
            (build / side).mkdir()
        yield build
        (build / _REQUEST).write_text(json.dumps(request), encoding="utf-8")
        content = json.dumps([sealed(row) for row in rows], indent=1, allow_nan=False).encode()
        # The manifest last: it says that all is there.
        write_atomically(build / MANIFEST, lambda file: file.write(content))
        check_places(out)
        _publish(build, out)


def check_places(out: Path) -> None:
    """Refuse to write where `noisy/` or `clean/` hold something, before any work.

    Raises:
        OutputError: When one does.
    """
    for side in SIDES:
        check_new_folder(out / side)


def _publish(build: Path, out: Path) -> None:
    """Rename what is in `build` to its place in `out`; all of it or nothing.

    Raises:
        OSError: When one cannot be renamed; a folder that is not empty is never replaced.
    """
    moved: list[str] = []
    try:
        for name in (*SIDES, MANIFEST):
            if (build / name).exists():
                if (out / name).is_dir():
                    (out / name).rmdir()  # Windows renames to no folder that exists
                os.replace(build / name, out / name)
                moved.append(name)
    except OSError:
        for name in reversed(moved):
            with contextlib.suppress(OSError):
                os.rename(out / name, build / name)
        raise


def _finish(left: Path, out: Path, finished: list[object]) -> None:
    """Publish what a killed process had still to publish.

    Raises:
        OSError: When it cannot be, as what is in its place is not what that process had made, or
            as a file is damaged.
    """
    if not (left / MANIFEST).is_file():  # killed before all was made, or when all was published
        return
    try:
        request = parse_json((left / _REQUEST).read_text(encoding="utf-8"))
        files = {row["file"] for row in read_rows(left)}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OSError(f"{left}: is damaged ({error})") from error
    if any(not (left / side).exists() and not (out / side).exists() for side in SIDES):
        return  # removed by the user: the other side alone is of no use
    for side in SIDES:
        if not (left / side).exists() and files != {
                path.relative_to(out / side).as_posix() for path in (out / side).rglob("*")
                if path.is_file()}:
            raise FileExistsError(f"{out / side}: holds other files")
    _publish(left, out)
    finished.append(request)
