"""The result of comparing a header with its file, and what the modules of all formats use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

SLACK = 1024  # bytes that a length may be wrong by without a note: padding, tags, the header itself


@dataclass(frozen=True)
class RawSamples:
    """Where the samples of a WAV lie in the file, and how they are encoded.

    Attributes:
        begin: Offset of the first byte.
        end: Offset of the byte after the last.
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        format: libsndfile's name of the container.
        subtype: libsndfile's name of the encoding.
        endian: Byte order, `LITTLE` or `BIG`.
    """

    begin: int
    end: int
    sample_rate: int
    channels: int
    format: str
    subtype: str
    endian: str


@dataclass(frozen=True)
class HeaderCheck:
    """What a header says, compared with the bytes of the file.

    Attributes:
        reliable: Whether a decoder that relies on the header reads all samples of the file.
        frames: Samples per channel in the file; None where only decoding can tell.
        note: How the header is wrong although nothing is missing; empty where it is right.
        cut_off: What is missing of what the header promises; empty where nothing is.
        raw_samples: Place of the samples in a WAV whose header is wrong; None for other files and
            where the encoding has blocks.
        states_length: Whether an MP3 has a header that states its length, correct or not.
        chained_streams: Begin and end, in bytes, of each stream of a chained Ogg (streams one after
            the other); empty for other files.
        bit_rate: Nominal bit rate in bits per second from a Vorbis header; None where none is
            given.
    """

    reliable: bool = True
    frames: int | None = None
    note: str = ""
    cut_off: str = ""
    raw_samples: RawSamples | None = None
    states_length: bool = False
    chained_streams: tuple[tuple[int, int], ...] = ()
    bit_rate: int | None = None


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """Read `size` bytes.

    Raises:
        EOFError: When the file ends before.
    """
    data = file.read(size)
    if len(data) < size:
        raise EOFError
    return data
