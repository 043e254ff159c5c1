"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from gan_denoise.core.errors import OutputError
from gan_denoise.core.leftovers import remove_leftovers, temporary_file, temporary_folder
from gan_denoise.core.locations import is_remote, publish, reaching, scratch_beside

FORMER = "former"  # what a new folder replaces, while it does


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Call `write` with a temporary file beside `path`, then rename it to `path`.

    For an address the file is one of this machine's temporary folder, and is uploaded.

    Raises:
        OutputError: When the disk is full or the folder cannot be written.
        LocationError: When an address cannot be reached or written.
    """
    try:
        if is_remote(path):
            with scratch_beside(path.parent) as folder:
                with open(folder / "file", "wb") as file:
                    write(file)
                publish(folder / "file", path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as (handle, temporary):
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error})", "what was there is kept"
        ) from error


def check_writable(path: Path) -> None:
    """Refuse a file that could not be written, before any work; makes nothing.

    Of an address only its own sort is known before.

    Raises:
        OutputError: When it is a folder, or its folder is none or cannot be written.
        LocationError: When an address cannot be reached.
    """
    with reaching(path):
        is_folder = path.is_dir()
    if is_folder:
        raise OutputError(f"{path}: is a folder", "give the file another name")
    if is_remote(path):
        return
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise OutputError(f"{path}: cannot be written, as {folder} cannot", "give another place")


@contextlib.contextmanager
def new_folder(
    out: Path, replace: Callable[[Path], bool] = lambda out: False
) -> Iterator[Path]:
    """Give an empty temporary folder, which becomes `out` when the `with` block has ended well.

    It lies beside `out`, on the same disk. After an exception in the block it is removed, and what
    was at `out` is as before; of a killed process, the next one removes it.

    Args:
        out: Folder to make; missing parents are made.
        replace: Whether what is at `out` may be replaced; asked before the block and, as another
            process may have written there meanwhile, after it. An empty folder always may.

    Yields:
        The temporary folder.

    Raises:
        OutputError: When there is something at `out` that must not be replaced.
        OSError: When the disk is full or the parent folder cannot be written.
    """
    def give_back(left: Path) -> None:
        if (left / FORMER).exists() and not os.path.lexists(out):
            os.rename(left / FORMER, out)

    remove_leftovers(out.parent, f".{out.name}.", give_back)
    _refuse(out, replace)
    out.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f".{out.name}.", out.parent, give_back) as temporary:
        build = temporary / "new"  # not `temporary` itself: only this user may enter that
        build.mkdir()
        yield build
        if _refuse(out, replace):
            with contextlib.suppress(FileNotFoundError):  # another process took it away
                os.rename(out, temporary / FORMER)
        try:
            if out.is_dir():
                out.rmdir()  # Windows renames to no folder that exists
            os.rename(build, out)
        except OSError:
            check_new_folder(out)  # another process was first
            raise


def check_new_folder(out: Path) -> None:
    """Refuse a folder that `new_folder` could not make as there is something, before any work.

    Raises:
        OutputError: When it is a file, or a folder that is not empty.
    """
    _refuse(out, lambda out: False)


def _refuse(out: Path, replace: Callable[[Path], bool]) -> bool:
    """Return whether `out` holds something; raise where that must not be replaced."""
    taken = out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir())))
    if taken and not replace(out):
        raise OutputError(f"{out}: is there already", "give another folder or remove it")
    return taken
