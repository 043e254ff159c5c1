"""The header of a file, checked by the module of its format.

Recorders that lose power never fill in the length, encoders on a pipe cannot know it, downloads
stop half-way. Only formats whose decoders rely on a stored length are checked: WAV and its
relatives, FLAC, Ogg, NIST SPHERE, and the Xing header of MP3. A few kilobytes are read, however
long the file is.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from gan_denoise.audio.headers.flac import check_flac
from gan_denoise.audio.headers.header_check import HeaderCheck
from gan_denoise.audio.headers.mp3 import check_mp3, skip_id3
from gan_denoise.audio.headers.nist import check_nist
from gan_denoise.audio.headers.ogg import check_ogg
from gan_denoise.audio.headers.wav import check_w64, check_wav


def check_header(path: str | Path) -> HeaderCheck:
    """Compare a file's header with its bytes; the defaults come back for formats not checked here.

    Raises:
        OSError: When the file cannot be read.
    """
    with open(path, "rb") as file:
        return check_open_header(file)


def check_open_header(file: BinaryIO) -> HeaderCheck:
    """Check the header of an open file as `check_header` does; its position is changed."""
    size = file.seek(0, os.SEEK_END)
    start = skip_id3(file)
    file.seek(start)
    magic = file.read(12)
    file.seek(start)
    try:
        if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:] == b"WAVE":
            return check_wav(file, size)
        if magic[:4] == b"riff":
            return check_w64(file, size)
        if magic[:4] == b"fLaC":
            return check_flac(file, size, start)
        if magic[:4] == b"OggS":
            return check_ogg(file, size)
        if magic[:4] == b"NIST":
            return check_nist(file, size)
        return check_mp3(file, size, start)
    except (EOFError, struct.error):
        return HeaderCheck()
