"""FFmpeg's libraries (PyAV): opening files, errors, tags. Nothing is read from a network."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from gan_denoise.core.errors import GanDenoiseError

if TYPE_CHECKING:
    import av

# Containers that are read. Playlists and the like are not: they name other files, and addresses.
_READ = ("3g2,3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,bonk,caf,dsf,dss,dts,dtshd,dv,eac3,"
         "flac,flv,g722,g726,gsm,iff,ircam,ivf,loas,m4a,matroska,mj2,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,"
         "mpegts,mxf,nistsphere,nut,ogg,oma,paf,pvf,qcp,rm,rso,shn,sln,sox,tak,tta,truehd,voc,vqf,"
         "w64,wav,webm,wsd,wv,xwma")
# Tags that describe the container or the codec, and are untrue of another file.
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration",
              "DURATION", "ENCODER", "WMFSDKVersion", "WMFSDKNeeded", "DeviceConformanceTemplate",
              "IsVBR"}
# Tags that every file of a kind has, whatever was recorded.
_USUAL = {"vendor_id", "handler_name", "language"}


class MediaError(GanDenoiseError):
    """FFmpeg cannot read or write something; the message is the reason alone."""


def tags(path: Path) -> dict[str, str]:
    """Return the tags of a file.

    Tags that describe the codec or the container are left out.

    Args:
        path: The file.

    Returns:
        Text by lower-case name; `picture` and `chapters` stand for those. Empty where FFmpeg does
        not know the file.
    """
    try:
        with open_input(path, {}) as container:
            found = kept_tags(container.metadata)
            for stream in container.streams:
                if stream.type == "audio":
                    found |= kept_tags(stream.metadata)
                elif is_picture(stream):
                    found["picture"] = "1"
            if container.chapters():
                found["chapters"] = "1"
            return {name.casefold(): text for name, text in found.items() if name not in _USUAL}
    except (MediaError, OSError):
        return {}


def kept_tags(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that are true of a file made of this one, too.

    Args:
        metadata: PyAV's tags of a container or stream.
    """
    return {name: _readable(text) for name, text in metadata.items()
            if name not in _TECHNICAL and text}


def _readable(text: str) -> str:
    """Return a tag with marks in the place of bytes that are no UTF-8, which PyAV 19 escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def is_picture(stream: av.stream.Stream) -> bool:
    """Return whether a stream is a cover picture and not a video."""
    return stream.type == "video" and bool(
        stream.disposition & load_av().stream.Disposition.attached_pic)


def open_input(path: Path, options: dict[str, str]) -> av.container.InputContainer:
    """Open a file for reading.

    Args:
        path: The file.
        options: Options of FFmpeg's demuxer.

    Returns:
        PyAV's container, which the caller closes.

    Raises:
        MediaError: When FFmpeg does not know the format.
        OSError: When it cannot be opened.
    """
    av = load_av()
    if not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        return av.open(url_of(path), **_tag_errors(av.__version__), options={
            "protocol_whitelist": "file", "format_whitelist": _READ, **options})
    except av.error.FFmpegError as error:
        raise MediaError(reason_of(error)) from error


def _tag_errors(version: str) -> dict[str, str]:
    """Return what tells PyAV to read tags of any bytes; from 19 on it does, and takes no option."""
    return {"metadata_errors": "replace"} if int(version.split(".")[0]) < 19 else {}


def url_of(path: Path) -> str:
    """Return a path as FFmpeg takes it: without the prefix a colon would make it an address."""
    return f"file:{path}"


@contextlib.contextmanager
def convert_errors() -> Iterator[None]:
    """Turn FFmpeg's errors into MediaError; those that are also OSError are passed on."""
    try:
        yield
    except load_av().error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise MediaError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return FFmpeg's text for an error, without a capital at its beginning."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def load_av() -> ModuleType:
    """Import PyAV, which takes a tenth of a second, when it is first needed.

    Raises:
        MediaError: When PyAV is missing or broken.
    """
    # The handler of a signal, which ends the process by an exception, would break the import.
    masks = "av" not in sys.modules and hasattr(signal, "pthread_sigmask")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}) if masks else ()
    try:
        import av
    except ImportError as error:
        raise MediaError(f"reading it takes the package av, which is not usable here ({error}): "
                         "pip install av") from error
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return av
