"""FFmpeg's libraries (PyAV): files opened, errors in words, tags. No network is read."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gan_denoise.core.errors import GanDenoiseError

# Containers that are read. Playlists and their like are not: they name other files, and addresses.
_READ = ("3g2,3gp,aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,bonk,caf,dsf,dss,dts,dtshd,dv,eac3,"
         "flac,flv,g722,g726,gsm,iff,ircam,ivf,loas,m4a,matroska,mj2,mlp,mov,mp3,mp4,mpc,mpc8,mpeg,"
         "mpegts,mxf,nistsphere,nut,ogg,oma,paf,pvf,qcp,rm,rso,shn,sln,sox,tak,tta,truehd,voc,vqf,"
         "w64,wav,webm,wsd,wv,xwma")
# Of the container and the codec, untrue of another file; and what every file of a kind has.
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "duration",
              "DURATION", "ENCODER", "WMFSDKVersion", "WMFSDKNeeded", "DeviceConformanceTemplate",
              "IsVBR"}
_USUAL = {"vendor_id", "handler_name", "language"}


class MediaError(GanDenoiseError):
    """FFmpeg cannot read or write something; the message is the reason alone."""


def tags(path: Path) -> dict[str, str]:
    """Return the text tags of a file, its pictures and chapters by name; those of the codec and
    container themselves are left out. Empty where FFmpeg does not know the file."""
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


def kept_tags(metadata: Any) -> dict[str, str]:
    """Return the tags that are true of a file made of this one as well."""
    return {name: text for name, text in metadata.items() if name not in _TECHNICAL and text}


def is_picture(stream: Any) -> bool:
    """Whether a stream is a cover, not a moving picture."""
    return stream.type == "video" and bool(
        stream.disposition & library().stream.Disposition.attached_pic)


def open_input(path: Path, options: dict[str, str]) -> Any:
    """Open a file for reading; the caller closes it.

    Raises:
        MediaError: When FFmpeg does not know it.
        OSError: When it cannot be opened.
    """
    av = library()
    if not path.exists():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        return av.open(url_of(path), metadata_errors="replace", options={
            "protocol_whitelist": "file", "format_whitelist": _READ, **options})
    except av.error.FFmpegError as error:
        raise MediaError(reason_of(error)) from error


def url_of(path: Path) -> str:
    """Return a name as FFmpeg takes it: one with a colon would be an address."""
    return f"file:{path}"


@contextlib.contextmanager
def reasons() -> Iterator[None]:
    """Turn FFmpeg's errors into ours, but for those that are the system's, which have a number."""
    try:
        yield
    except library().error.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise MediaError(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """Return FFmpeg's words for an error."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def library() -> Any:
    """Return PyAV, which takes a tenth of a second to load.

    Raises:
        MediaError: When it is not usable here.
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
