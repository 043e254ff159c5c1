"""Headers of WAV (RIFF, RIFX, RF64, BW64) and Wave64."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

from gan_denoise.audio.headers.header_check import SLACK, HeaderCheck, RawSamples, read_exactly

_IN_DS64 = 0xFFFFFFFF  # size of the data chunk of an RF64: the ds64 chunk has the real one
_EXTENSIBLE = 0xFFFE  # WAVE_FORMAT_EXTENSIBLE: the format tag stands further behind
_SUBTYPES = {  # format tag, bits -> libsndfile's name of the encoding
    (1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32", (3, 32): "FLOAT",
    (3, 64): "DOUBLE", (6, 8): "ALAW", (7, 8): "ULAW",
}  # fmt: skip


@dataclass(frozen=True)
class _WavHeader:
    """The header of a WAV up to its data chunk.

    Attributes:
        magic: `RIFF`, `RIFX`, `RF64` or `BW64`.
        form: Body of the `fmt ` chunk, at most 40 bytes; empty where there is none.
        begin: Offset of the first sample.
        promised: Size of the data chunk in bytes.
        unknown: Whether `promised` stands for "not known yet".
    """

    magic: bytes
    form: bytes
    begin: int
    promised: int
    unknown: bool

    @property
    def order(self) -> str:
        """Byte order for `struct`."""
        return ">" if self.magic == b"RIFX" else "<"

    @property
    def align(self) -> int:
        """Bytes of one sample of all channels; 0 where it is not given."""
        return struct.unpack(f"{self.order}H", self.form[12:14])[0] if self.form else 0

    def seconds(self, size: int) -> str:
        """Return the duration of so many bytes in words; the bytes where no rate is given."""
        rate = struct.unpack(f"{self.order}I", self.form[8:12])[0] if self.form else 0
        return f"{size / rate:.2f} s" if rate else f"{size} bytes"


def is_unknown_size(size: int) -> bool:
    """Return whether the size of a WAV's data chunk stands for "not known yet".

    Recorders write 0 until they close the file; on a pipe ffmpeg writes 0xffffffff, sox 0x7ffff000
    rounded to whole samples, arecord 0x80000000.
    """
    return size == 0 or min(abs(size - 2**31), abs(size - 2**32)) <= 2**16


def check_wav(file: BinaryIO, size: int) -> HeaderCheck:
    """Check a WAV.

    Args:
        file: The file, at its first byte.
        size: Size of the file in bytes.

    Raises:
        EOFError, struct.error: When the header is incomplete.
    """
    header = _read_header(file)
    begin, promised = header.begin, header.promised
    there = size - begin
    if promised > there:
        if header.unknown:  # libsndfile reads to the end of the file, where the size is large
            return HeaderCheck()
        if promised - there <= max(SLACK, header.align):
            return HeaderCheck(
                note=f"its header promises {promised - there} bytes more than there are")
        return HeaderCheck(
            cut_off=f"{header.seconds(there)} of {header.seconds(promised)} are there")
    rest = there - promised
    small = rest <= (0 if header.unknown else SLACK)
    if small or _is_chunks(file, begin + promised + promised % 2, size, header.order):
        return HeaderCheck(frames=None if promised else 0)
    samples = _raw_samples(header, size)
    frames = None if samples is None else there // header.align
    if header.unknown:
        note = "its header was never finished; read to its end"
    else:
        note = (f"its header promises {header.seconds(promised)}, {header.seconds(there)} are "
                "there; read to its end")
    return HeaderCheck(reliable=False, frames=frames, raw_samples=samples, note=note)


def check_w64(file: BinaryIO, size: int) -> HeaderCheck:
    """Check a Wave64: libsndfile takes float samples of an extensible header for integers.

    Args:
        file: The file.
        size: Size of the file in bytes.

    Raises:
        EOFError, struct.error: When the header is incomplete.
    """
    at = 40
    while at + 24 <= size:
        file.seek(at)
        name, length = struct.unpack("<4s12xq", read_exactly(file, 24))
        if name == b"fmt ":
            form = file.read(max(min(length, 64) - 24, 0))
            extensible_float = form[:2] == b"\xfe\xff" and form[24:26] == b"\3\0"
            return HeaderCheck(reliable=not extensible_float)
        at += max(length + -length % 8, 24)
    return HeaderCheck()


def _read_header(file: BinaryIO) -> _WavHeader:
    """Read the chunks up to the data chunk."""
    head = read_exactly(file, 12)
    order = ">" if head[:4] == b"RIFX" else "<"
    long_size, form = 0, b""
    while True:
        name, promised = struct.unpack(f"{order}4sI", read_exactly(file, 8))
        begin = file.tell()
        if name == b"data":
            break
        if name == b"fmt ":
            form = file.read(min(promised, 40))
            struct.unpack(f"{order}14x", form[:14])  # raises where it is too short
        elif name == b"ds64":
            (long_size,) = struct.unpack("<8xQ", read_exactly(file, 16))
        file.seek(begin + promised + promised % 2)
    if head[:4] in (b"RF64", b"BW64") and promised == _IN_DS64:
        unknown, promised = long_size == 0 or long_size >= 2**63 - 1, long_size
    else:
        unknown = is_unknown_size(promised)
    return _WavHeader(head[:4], form, begin, promised, unknown)


def _raw_samples(header: _WavHeader, end: int) -> RawSamples | None:
    """Describe the samples of a WAV; None where its encoding has blocks, as ADPCM has."""
    order, form = header.order, header.form
    tag, channels, rate, align, bits = struct.unpack(f"{order}HHI4xHH", form[:16])
    extensible = tag == _EXTENSIBLE and len(form) >= 26
    if extensible:
        (tag,) = struct.unpack(f"{order}H", form[24:26])
    subtype = _SUBTYPES.get((tag, bits))
    if subtype is None or not channels or align != channels * bits // 8:
        return None
    container = "WAVEX" if extensible else "WAV"
    return RawSamples(
        header.begin, end, rate, channels, "RF64" if header.magic == b"RF64" else container,
        subtype, "BIG" if order == ">" else "LITTLE",
    )


def _is_chunks(file: BinaryIO, start: int, size: int, order: str) -> bool:
    """Return whether the bytes after the audio are a chain of chunks or a tag, not more audio."""
    at = start
    while at + 8 <= size:
        file.seek(at)
        name, length = struct.unpack(f"{order}4sI", read_exactly(file, 8))
        if at == start and name[:3] in (b"TAG", b"ID3", b"APE"):
            return True
        if not (name.isascii() and name.decode().isprintable()) or at + 8 + length > size + 1:
            return False
        at += 8 + length + length % 2
    return True
