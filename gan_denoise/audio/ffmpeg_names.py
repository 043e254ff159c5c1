"""FFmpeg's names of containers and codecs, which differ between reading and writing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import av

# Name of a container that is read -> of the one that is written.
_WRITTEN = {"aac": "adts", "matroska,webm": "matroska", "mov,mp4,m4a,3gp,3g2,mj2": "mp4"}
# Beginning of the brand of an MP4 file -> name of the container that is written.
_BRANDS = {"qt": "mov", "M4A": "ipod", "M4B": "ipod", "M4V": "mp4", "3gp": "3gp", "3g2": "3g2"}
_CODECS = {"mp3float": "mp3", "libopus": "opus", "amrnb": "amr_nb", "amrwb": "amr_wb"}


def container_name(container: av.container.InputContainer, codec: str, path: Path) -> str:
    """Return the name under which FFmpeg writes a container that it reads.

    Args:
        container: PyAV's container, open for reading.
        codec: FFmpeg's name of the codec of its audio.
        path: The file; its suffix tells WebM from Matroska and M4A from MP4.
    """
    name = container.format.name
    if (name, codec) == ("mp3", "mp2"):
        return "mp2"
    if name == "matroska,webm" and path.suffix.lower() == ".webm":
        return "webm"
    if name == "mov,mp4,m4a,3gp,3g2,mj2":
        brand = container.metadata.get("major_brand", "").strip()
        named = (written for begin, written in _BRANDS.items() if brand.startswith(begin))
        return next(named, "ipod" if path.suffix.lower() in (".m4a", ".m4b") else "mp4")
    return _WRITTEN.get(name, name.split(",")[0])


def codec_name(decoder: str) -> str:
    """Return the name of a codec, given that of one of its decoders."""
    return _CODECS.get(decoder, decoder)
