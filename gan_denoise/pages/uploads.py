"""Uploads: a request's body into a temporary file, checked against the limits, and its header."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from gan_denoise.audio import AudioInfo, probe
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.text import escape_line
from gan_denoise.pages.settings import ServeError, ServeSettings

MEGABYTE = 10**6
FREE_BYTES = 10**9  # of the disk are left alone
SILENT_SECONDS = 60.0  # without data before an upload is given up
LONGEST_NAME = 120  # characters of a file name that are kept
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,6}")


@dataclass(frozen=True)
class Upload:
    """A recording of a session.

    Attributes:
        id: Random identifier.
        name: The file's name as its owner knows it; nothing on the disk has it.
        path: Where it lies.
        info: What its header says.
    """

    id: str
    name: str
    path: Path
    info: AudioInfo = field(repr=False)

    @property
    def folder(self) -> Path:
        """Folder of the upload and of what is made of it."""
        return self.path.parent

    def to_json(self) -> dict[str, object]:
        """Return what the page shows of it."""
        info = self.info
        return {"id": self.id, "name": self.name, "seconds": round(info.seconds, 3),
                "sample_rate": info.sample_rate, "channels": info.channels,
                "format": info.format, "encoding": info.subtype}

    def words(self, error: object) -> str:
        """Return an error's text with the name that the owner knows in place of the paths."""
        text = str(error).replace(str(self.path), self.name)
        return re.sub(re.escape(str(self.folder)) + r"\S*", "the result", text)


def clean_name(name: str) -> str:
    """Return the last part of a file name, without control characters and not too long."""
    name = escape_line(re.split(r"[\\/]", name)[-1].strip())[-LONGEST_NAME:]
    return name if name.strip(". ") else "recording"


async def receive(
    parts: AsyncIterator[bytes], name: str, length: int | None, folder: Path,
    settings: ServeSettings,
) -> Upload:
    """Write a request's body to a file and read its header.

    Args:
        parts: The body, in parts.
        name: The file's name as given by the browser.
        length: Length of the body in bytes as announced; None: not announced.
        folder: Folder of the session.
        settings: Settings of the server; the limits count.

    Raises:
        ServeError: When the file is too large or too long, is no audio, or does not arrive.
    """
    upload = _new_upload(name, folder)
    try:
        await _write(parts, upload, length, settings)
        return await asyncio.to_thread(_checked, upload, settings)
    except BaseException:  # also where the browser has gone
        shutil.rmtree(upload.folder, ignore_errors=True)
        raise


def take_file(source: Path, name: str, folder: Path, settings: ServeSettings) -> Upload:
    """Return an upload of a file of the package; arguments and errors as of `receive`."""
    upload = _new_upload(name, folder)
    shutil.copyfile(source, upload.path)
    return _checked(upload, settings)


def _new_upload(name: str, folder: Path) -> Upload:
    name = clean_name(name)
    suffix = Path(name).suffix
    identifier = secrets.token_urlsafe(16)
    place = folder / secrets.token_hex(16)
    place.mkdir(parents=True, mode=0o700)
    path = place / f"source{suffix.lower() if _SUFFIX.fullmatch(suffix) else '.bin'}"
    return Upload(identifier, name, path, AudioInfo(path, 1, 1, 0, "", ""))


async def _write(
    parts: AsyncIterator[bytes], upload: Upload, length: int | None, settings: ServeSettings
) -> None:
    largest = int(settings.max_megabytes * MEGABYTE)
    if length is not None:
        check_size(upload.name, length, settings)
    written = 0
    with open(upload.path, "wb") as file:
        try:
            while True:
                part = await asyncio.wait_for(anext(parts), SILENT_SECONDS)
                written += len(part)
                if written > largest:
                    check_size(upload.name, written, settings)
                if not upload.folder.exists():  # by "Delete them now", or its session is over
                    raise ServeError(f"{upload.name}: deleted while it came", "upload it again",
                                     410)
                if shutil.disk_usage(upload.folder).free < FREE_BYTES + len(part):
                    raise ServeError("the server's disk is full", "try again later", 507)
                file.write(part)
        except StopAsyncIteration:
            pass
        except TimeoutError:
            raise ServeError(f"{upload.name}: nothing came for {SILENT_SECONDS:g} s",
                             "upload it again", 408) from None
    if not written:
        raise ServeError(f"{upload.name}: the file is empty", "choose another file")


def check_size(name: str, size: int, settings: ServeSettings) -> None:
    """Refuse a file of more bytes than the limit.

    Raises:
        ServeError: When it is larger; says the limit.
    """
    if size > settings.max_megabytes * MEGABYTE:
        raise ServeError(
            f"{name}: larger than {settings.max_megabytes:g} MB, the limit of this page",
            "cut it, or use gan-denoise denoise, which has none", 413)


def check_seconds(name: str, seconds: float, settings: ServeSettings) -> None:
    """Refuse a recording of more seconds than the limit.

    Raises:
        ServeError: When it is longer; says the limit.
    """
    if seconds > 60 * settings.max_minutes:
        raise ServeError(
            f"{name}: longer than {settings.max_minutes:g} minutes, the limit of this page",
            "cut it, or use gan-denoise denoise, which has none", 413)


def _checked(upload: Upload, settings: ServeSettings) -> Upload:
    """Return an upload with what its header says."""
    try:
        info = probe(upload.path)
    except (GanDenoiseError, OSError, ValueError) as error:
        raise ServeError(upload.words(error), status=415) from error
    check_seconds(upload.name, info.seconds, settings)
    return Upload(upload.id, upload.name, upload.path, info)
