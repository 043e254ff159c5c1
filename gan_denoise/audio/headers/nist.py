"""The header of NIST SPHERE."""

from __future__ import annotations

import math
import re
from typing import BinaryIO

from gan_denoise.audio.headers.header_check import SLACK, HeaderCheck

_HEADER = 1024  # bytes


def check_nist(file: BinaryIO, size: int) -> HeaderCheck:
    """Check a NIST SPHERE file.

    Args:
        file: The file, at its first byte.
        size: Size of the file in bytes.
    """
    fields = dict(re.findall(rb"(sample_count|channel_count|sample_n_bytes) -i (\d+)",
                             file.read(_HEADER)))
    if len(fields) < 3:
        return HeaderCheck()
    promised, there = math.prod(map(int, fields.values())), size - _HEADER
    short = promised - there > SLACK
    return HeaderCheck(cut_off=f"{there} of {promised} bytes are there" if short else "")
