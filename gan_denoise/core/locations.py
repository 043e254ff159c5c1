"""Where files are: paths of this machine, and addresses such as `s3://bucket/speech`.

`location` makes a `pathlib.Path` of the one and a `upath.UPath` of the other; both have `name`,
`parent`, `/`, `is_file`, `iterdir`, `read_text` and so on, so that few functions need to know which
they have. What differs is here: listing (one request for a whole tree), the version of a file, and
errors in words. Libraries that read files of this machine only get `fetched_files.local_copy`.

fsspec and universal_pathlib (extra `cluster`) are imported with the first address, never without.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.leftovers import temporary_folder

# Two letters or more: `C:` is a drive.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_LOCAL = re.compile(r"^(file|local):/+")
# What object stores call the version of an object, the safest first.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified",
             "updated", "created")
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT)
GOOGLE_PARTS = 2**26  # bytes; gcsfs uploads in parts from 5 MiB on
SCRATCH = ".building."  # begin of the names of folders from `scratch_beside`


class LocationError(GanDenoiseError):
    """An address cannot be reached, or nothing is there; the reason begins with the address."""


class NotThere(LocationError):
    """Nothing is at an address."""


class OutsideError(LocationError, ValueError):
    """A name in an index leads out of the folder that the index is of."""


def location(path: str | os.PathLike[str] | Any) -> Path:
    """Return a path or an address as an object with the methods of a `Path`.

    Args:
        path: A path, an address (`s3://bucket/folder`), what this function returned, or an address
            that was taken for a path (`Path("s3://bucket/folder")`, as Typer makes of arguments).

    Raises:
        LocationError: When the packages that its protocol needs are not installed.
    """
    if is_remote(path):
        return path
    text = path if isinstance(path, str) else os.fspath(path)
    if isinstance(path, Path):
        if not (path.parts and len(path.parts[0]) > 2 and path.parts[0].endswith(":")):
            return path
        text = path.as_posix().replace(":/", "://", 1)  # pathlib folds the two slashes
    if not _ADDRESS.match(text) or text.startswith(("file://", "local://")):
        return Path(_LOCAL.sub("/", text))
    try:
        from upath import UPath

        made = UPath(text.rstrip("/"))
        made.fs  # noqa: B018 - imports what the protocol needs
    except ImportError as error:
        raise LocationError(f"{text}: {error}", "pip install 'gan-denoise[cluster]' reads "
                            "addresses of object stores") from error
    except ValueError as error:
        raise LocationError(f"{text}: {error}", "check the address") from error
    return made


def is_remote(path: Any) -> bool:
    """Return whether a location is an address."""
    return hasattr(path, "fs")


def beside(folder: Path, name: str) -> Path:
    """Return what a manifest in `folder` names: an address, or a path that counts from there."""
    if _ADDRESS.match(name):
        return location(name)
    return (folder / name).resolve() if is_remote(folder) else folder / name  # without `..`


def inside(folder: Path, name: str) -> Path:
    """Return what an index names, which has to be in its folder or below it.

    Only the name counts: a link that lies in the folder may lead anywhere.

    Args:
        folder: Path or address.
        name: Relative, as the index has it; whoever wrote that is not trusted.

    Raises:
        OutsideError: When the name is empty, an absolute path, an address, or has `..` in it.
    """
    pure = (PurePosixPath if is_remote(folder) else PurePath)(name)
    if (not pure.parts or pure.anchor or ".." in pure.parts or "\0" in name
            or _ADDRESS.match(name)):
        raise OutsideError(f"{folder}: names {name!r}, which is not in that folder",
                           "take it from where you trust it, or make it again")
    return folder / name


@contextlib.contextmanager
def reaching(path: Path) -> Iterator[None]:
    """Turn what an object store or its client raises into a LocationError that names the address.

    Around what is done to a path of this machine it does nothing; that this machine's disk is full
    stays an OSError.
    """
    try:
        yield
    except GanDenoiseError:
        raise
    except FileNotFoundError as error:
        if not is_remote(path):
            raise
        raise NotThere(f"{path}: no such file or folder", "check the address") from error
    except Exception as error:  # each store's client has its own errors, of no common base
        if not is_remote(path) or getattr(error, "errno", None) in _DISK_IS_FULL:
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LocationError(f"{path}: cannot be reached ({reason})",
                            "check the address, the credentials and the network") from error


def stamp(path: Path, fresh: bool = False) -> tuple[int, int | str]:
    """Return the size of a file in bytes and what changes with its content.

    The latter is the time of modification in nanoseconds, or the entity tag of an object.

    Args:
        path: The file.
        fresh: Ask the store, whatever an earlier listing said.

    Raises:
        OSError: When a path of this machine is missing.
        NotThere: When an address is missing.
        LocationError: When it cannot be reached.
    """
    if not is_remote(path):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    with reaching(path):
        info = path.fs.info(path.path, **({"refresh": True} if fresh else {}))
    if info["type"] != "file":
        raise LocationError(f"{path}: is a folder, expected a file")
    return _stamp_of(info)


def stamps(root: Path) -> dict[str, tuple[int, str]]:
    """Return the stamp of each file below an address, by its address.

    Raises:
        NotThere: When its bucket is missing. A folder of which there is no file is none.
        LocationError: When it cannot be reached.
    """
    with reaching(root):
        forget_listing(root)
        found = root.fs.find(root.path, detail=True)
    above, begin = str(root).rstrip("/"), len(root.path.rstrip("/")) + 1
    return {f"{above}/{name[begin:]}": _stamp_of(info) for name, info in found.items()
            if name[begin:] and info["type"] == "file"}


def _stamp_of(info: Mapping[str, Any]) -> tuple[int, str]:
    version = next((info[key] for key in _VERSIONS if info.get(key)), "")
    if hasattr(version, "timestamp"):  # a listing may say it in another form than a question
        version = version.timestamp()
    return int(info["size"]), str(version).strip('"')


def walk_address(root: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield the files below an address, sorted, without those in hidden folders.

    The tree is listed by one request for every thousand files; it also refreshes what `stamp`
    knows of them.

    Raises:
        LocationError: When it cannot be reached.
    """
    with reaching(root):
        forget_listing(root)
        found = root.fs.find(root.path, maxdepth=None if recursive else 1)
    begin = len(root.path.rstrip("/")) + 1
    for parts in sorted(name[begin:].split("/") for name in found):
        if parts[-1] and not any(part[:1] == "." or part == "__MACOSX" for part in parts[:-1]):
            yield root.joinpath(*parts)


def forget_listing(root: Path) -> None:
    """Let the client of a store ask again what is at an address and below it."""
    below = root.path.rstrip("/") + "/"
    for folder in [name for name in root.fs.dircache if f"{name}/".startswith(below)]:
        root.fs.invalidate_cache(folder)
    root.fs.invalidate_cache(root.path)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones.

    Raises:
        OSError: When a folder of this machine cannot be read.
        LocationError: When an address cannot be reached.
    """
    if is_remote(folder):
        with reaching(folder):
            entries = folder.fs.ls(folder.path, detail=True)
        names = [entry["name"].rstrip("/").rpartition("/")[2] for entry in entries
                 if entry["type"] == "directory"]
    else:
        with os.scandir(folder) as found:
            names = [entry.name for entry in found if entry.is_dir()]
    return [folder / name for name in sorted(names) if not name.startswith(".")]


@contextlib.contextmanager
def scratch_beside(out: Path) -> Iterator[Path]:
    """Give a temporary folder, from which `publish` moves files to the folder `out`.

    It lies in `out` itself, or in this machine's temporary folder where that is an address.

    Raises:
        OSError: When the folder cannot be made.
    """
    home = None if is_remote(out) else out
    if home is not None:
        home.mkdir(parents=True, exist_ok=True)
    with temporary_folder(SCRATCH, home) as temporary:
        yield temporary


def publish(file: Path, target: Path) -> None:
    """Make a file of this machine the file `target`: no reader ever sees a part of it.

    A path has to be on the same disk. An address is written by one PUT, or by one upload in parts
    for what is larger than some tens of megabytes: object stores show the one or the other only
    when it is whole, and keep what was there until then. They have no renaming, so that a temporary
    name would cost a copy of each file. The parts of an upload that was killed are seen by nobody,
    but are stored until a rule of the bucket removes them.

    Raises:
        OSError: When the folder cannot be written.
        LocationError: When the address cannot be reached or written.
    """
    if not is_remote(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
        return
    with reaching(target):
        if (target.protocol in ("gs", "gcs") and file.stat().st_size < GOOGLE_PARTS
                and _ends_with_return(file)):
            # gcsfs begins what follows the bytes of a small file with a mere line feed, and a
            # server that reads RFC 2046, 5.1.1 takes the two for its line break: a byte is lost.
            # Of one part of an upload in parts nothing follows.
            content = file.read_bytes()
            target.fs.pipe_file(target.path, content, chunksize=len(content))
            return
        target.fs.put_file(os.fspath(file), target.path)


def _ends_with_return(file: Path) -> bool:
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 1))
        return opened.read(1) == b"\r"
