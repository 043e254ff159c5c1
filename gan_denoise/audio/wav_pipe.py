"""WAV streams on pipes: read and written in order, with a length that may be unknown.

Samples are scaled and rounded as in files. The header is parsed here and not by libsndfile, which
opens a pipe too, but there drops the last samples of RF64, reads nothing where the size is 0 (not
known yet) and takes samples of 24 bits in 4 bytes for 3 bytes each; soundfile does not hand on the
speaker mask.
"""

from __future__ import annotations

import math
import struct
import time
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

import numpy as np

from gan_denoise.audio.errors import AudioError
from gan_denoise.audio.headers import is_unknown_size
from gan_denoise.audio.samples import quantise

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # WAVE_FORMAT_...
_ENCODINGS = {  # libsndfile's subtype -> format tag, bytes of a sample
    "PCM_U8": (_PCM, 1), "PCM_16": (_PCM, 2), "PCM_24": (_PCM, 3), "PCM_32": (_PCM, 4),
    "FLOAT": (_FLOAT, 4), "DOUBLE": (_FLOAT, 8),
}  # fmt: skip
_SUBTYPES = {encoding: subtype for subtype, encoding in _ENCODINGS.items()}
_OTHER_TAGS = {2: "ADPCM", 6: "A-law", 7: "mu-law", 0x11: "IMA ADPCM", 0x31: "GSM", 0x55: "MP3"}
_OTHER_FILES = {b"fLaC": "FLAC", b"ID3": "MP3", b"OggS": "Ogg", b"FORM": "AIFF", b"caff": "CAF",
                b".snd": "AU", b"RIFX": "big-endian WAV", b"riff": "Wave64"}
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # after the tag of an extensible format
_UNKNOWN = 0xFFFFFFFF  # the size that ffmpeg writes on a pipe; ffmpeg, sox, libsndfile accept it
_PIECE = 2**20  # bytes read at once: a header can claim any size


class PipeReader:
    """A WAV stream read block by block from a binary file that cannot seek.

    Attributes:
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        format: libsndfile's name of the container, always `WAV`.
        subtype: libsndfile's name of the encoding, for instance `PCM_16`.
        frames: Samples per channel; None where the header does not say.
        speaker_mask: Bit mask of the speakers from an extensible header (`dwChannelMask`); None
            where the header is a plain one.
        name: Name of the stream in errors.
        frames_read: Samples per channel read so far.
        cut_off: What is missing of what the header promises; complete after the last block.
    """

    format = "WAV"

    def __init__(self, file: BinaryIO, name: str = "standard input") -> None:
        """Read the header, up to the first sample.

        Args:
            file: The stream; it is not closed.
            name: Name of the stream in errors.

        Raises:
            AudioError: When this is no WAV stream, or its encoding is neither PCM nor float.
        """
        self._file, self.name = file, name
        self.frames_read = 0
        self.cut_off = ""
        head = self._read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            raise self._refused(_format_name(head))
        long_size, form = 0, b""
        while True:
            chunk = self._read(8)
            if len(chunk) < 8:
                raise self._refused("a WAV header without audio")
            size = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"data":
                break
            body = self._read(min(size, 64))
            if chunk[:4] == b"fmt ":
                form = body
            elif chunk[:4] == b"ds64" and len(body) >= 16:
                long_size = int.from_bytes(body[8:16], "little")
            self._skip(size + size % 2 - len(body))
        self._parse(form)
        if head[:4] == b"RF64" and size == _UNKNOWN:
            unknown, size = long_size == 0 or long_size >= 2**63 - 1, long_size
        else:
            unknown = is_unknown_size(size)
        self.frames = None if unknown else size // self._frame_bytes

    def blocks(self, frames: int) -> Iterator[np.ndarray]:
        """Yield the samples block by block.

        Args:
            frames: Samples per channel of a block.

        Yields:
            float32 `[channels, frames]`, full scale at +-1; the last block may be shorter.

        Raises:
            AudioError: When samples are NaN or infinite.
        """
        if frames < 1:
            raise ValueError(f"blocks of {frames} samples")
        while self.frames is None or self.frames_read < self.frames:
            wanted = frames
            if self.frames is not None:
                wanted = min(frames, self.frames - self.frames_read)
            data = self._read(wanted * self._frame_bytes)
            came = len(data) // self._frame_bytes
            if came:
                self.frames_read += came
                yield self._decode(data[: came * self._frame_bytes])
            if came < wanted:
                if self.frames is not None:
                    rate = self.sample_rate
                    self.cut_off = (f"{self.frames_read / rate:.2f} s of "
                                    f"{self.frames / rate:.2f} s came")
                return
        self._skip(math.inf)  # tags after the audio: with the pipe closed their writer would fail

    def _parse(self, form: bytes) -> None:
        """Read the encoding, rate and channels from the body of the `fmt ` chunk."""
        if len(form) < 16:
            raise self._refused("a WAV without a format")
        tag, self.channels, self.sample_rate, _, align, bits = struct.unpack("<HHIIHH", form[:16])
        self.speaker_mask = None
        if tag == _EXTENSIBLE and form[26:40] == _GUID_TAIL:
            tag = int.from_bytes(form[24:26], "little")
            self.speaker_mask = int.from_bytes(form[20:24], "little")
        width = (bits + 7) // 8
        if (tag, width) not in _SUBTYPES:
            raise self._refused(f"WAV of {bits} bits {_OTHER_TAGS.get(tag, f'format {tag:#x}')}")
        plausible = 0 < self.channels <= 1024 and 0 < self.sample_rate < 2**31
        if not plausible or align != width * self.channels:
            raise self._refused(
                f"WAV of {self.channels} channels of {bits} bits in {align} bytes, at "
                f"{self.sample_rate} Hz,"
            )
        self._tag, self._width, self._frame_bytes = tag, width, align
        self.subtype = _SUBTYPES[tag, width]

    def _decode(self, data: bytes) -> np.ndarray:
        """Return whole sample frames as float32 `[channels, samples]`."""
        if self._tag == _FLOAT:
            with np.errstate(over="ignore"):  # a double beyond float32 is counted as infinite
                samples = np.frombuffer(data, f"<f{self._width}").astype(np.float32)
        else:  # the upper bytes of 32 bits
            wide = np.zeros((len(data) // self._width, 4), np.uint8)
            wide[:, 4 - self._width :] = np.frombuffer(data, np.uint8).reshape(-1, self._width)
            if self._width == 1:
                wide[:, 3] ^= 0x80  # 8 bits have no sign
            samples = wide.view("<i4")[:, 0].astype(np.float32) * np.float32(2**-31)
        broken = samples.size - int(np.isfinite(samples).sum())
        if broken:
            raise AudioError(
                f"{self.name}: {broken} samples are NaN or infinite, before sample "
                f"{self.frames_read}; render it again"
            )
        return np.ascontiguousarray(samples.reshape(-1, self.channels).T)

    def _read(self, size: int) -> bytes:
        """Read `size` bytes, fewer only at the end; one read of a pipe may return less."""
        data = bytearray()
        while len(data) < size:
            piece = self._file.read(min(size - len(data), _PIECE))
            if piece is None:  # a pipe set to not block, empty for now; not its end
                time.sleep(0.01)
            elif piece:
                data += piece
            else:
                break
        return bytes(data)

    def _skip(self, size: float) -> None:
        """Read and discard `size` bytes, or all that is left."""
        while size > 0 and (piece := self._read(int(min(size, _PIECE)))):
            size -= len(piece)

    def _refused(self, what: str) -> AudioError:
        """Return the error for a stream that is not read, naming what came in its place."""
        return AudioError(
            f"{self.name}: {what} came; only WAV (PCM or float) is read from a pipe: convert it "
            "(... | ffmpeg -i - -f wav - | ...), or give a file"
        )


class PipeWriter:
    """A WAV stream written block by block to a binary file that cannot seek.

    A context manager; it does not close the file. OSError of the system, BrokenPipeError among
    them, is passed on.

    Attributes:
        clipped: Number of samples beyond full scale that an integer encoding clipped so far.
    """

    def __init__(
        self, file: BinaryIO, sample_rate: int, channels: int, subtype: str,
        frames: int | None = None, speaker_mask: int | None = None,
    ) -> None:  # fmt: skip
        """Write the header.

        Args:
            file: The stream.
            sample_rate: Sample rate in Hz.
            channels: Number of channels.
            subtype: libsndfile's name of the encoding, as in `PipeReader`.
            frames: Samples per channel that will be written; None where it is not known yet.
            speaker_mask: Bit mask of the speakers for an extensible header; None for a plain one.

        Raises:
            AudioError: When a WAV stream cannot hold this.
        """
        if subtype.upper() not in _ENCODINGS:
            raise AudioError(
                f"a WAV stream cannot hold {subtype}; choose one of {', '.join(_ENCODINGS)}"
            )
        if not (1 <= channels <= 1024 and 1 <= sample_rate < 2**31):
            raise AudioError(f"a WAV stream cannot hold {channels} channels at {sample_rate} Hz")
        self.clipped = 0
        self._file, self._channels, self._frames = file, channels, frames
        self._tag, self._width = _ENCODINGS[subtype.upper()]
        self._done = 0
        align = self._width * channels
        tag = self._tag if speaker_mask is None else _EXTENSIBLE
        bits = 8 * self._width
        form = struct.pack("<HHIIHH", tag, channels, sample_rate,
                           min(sample_rate * align, 2**32 - 1), align, bits)
        if speaker_mask is not None:
            form += struct.pack("<HHIH", 22, bits, speaker_mask, self._tag) + _GUID_TAIL
        elif self._tag == _FLOAT:
            form += b"\0\0"  # the size of an extension, which sox misses otherwise
        size = riff_size = _UNKNOWN
        if frames is not None and frames * align < 2**32 - 64:
            size = frames * align
            riff_size = 4 + 8 + len(form) + 8 + size + size % 2
        # No pad byte after an unknown size: a reader would take it for a sample.
        self._pad = b"\0" if size % 2 and size != _UNKNOWN else b""
        head = struct.pack("<4sI4s4sI", b"RIFF", riff_size, b"WAVE", b"fmt ", len(form))
        self._write_all(head + form + struct.pack("<4sI", b"data", size))

    def write(self, audio: np.ndarray) -> None:
        """Append a block.

        Args:
            audio: float32 or float64 `[channels, samples]` or, for one channel, `[samples]`, full
                scale at +-1.

        Raises:
            AudioError: When samples are NaN or infinite.
            ValueError: For another number of channels, integer samples, or more samples than
                `frames` in all.
        """
        block = np.atleast_2d(np.asarray(audio))
        if block.ndim != 2 or len(block) != self._channels:
            raise ValueError(f"expected [{self._channels}, samples], not {np.shape(audio)}")
        if block.dtype not in (np.float32, np.float64):
            raise ValueError(f"expected float samples, not {block.dtype}")
        broken = block.size - int(np.isfinite(block).sum())
        if broken:
            raise AudioError(f"{broken} samples to write are NaN or infinite")
        done = self._done + block.shape[1]
        if self._frames is not None and done > self._frames:
            raise ValueError(f"{done} samples for a header of {self._frames}")
        last = done == self._frames and block.size > 0
        self._write_all(self._encode(block.T) + (self._pad if last else b""))
        self._done = done

    def close(self) -> None:
        """Check that as much was written as the header says; nothing is buffered.

        Raises:
            ValueError: When it is shorter.
        """
        if self._frames is not None and self._done != self._frames:
            raise ValueError(f"{self._done} samples for a header of {self._frames}")

    def __enter__(self) -> PipeWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()

    def _encode(self, block: np.ndarray) -> bytes:
        """Return `[samples, channels]` as bytes of the encoding, clipped where it is integer."""
        if self._tag == _FLOAT:
            return block.astype(f"<f{self._width}").tobytes()
        beyond = int((np.abs(block) > 1.0).sum())
        if beyond:
            self.clipped += beyond
            block = np.clip(block, -1.0, 1.0)
        whole = np.ascontiguousarray(quantise(block, 8 * self._width))
        whole = whole.astype(whole.dtype.newbyteorder("<"), copy=False)
        data = whole.reshape(-1, 1).view(np.uint8)[:, -self._width :]
        return (data ^ 0x80 if self._width == 1 else data).tobytes()

    def _write_all(self, data: bytes) -> None:
        """Write all bytes: a raw file (standard output under `python -u`) may take only some."""
        left = memoryview(data)
        while left:
            written = self._file.write(left)
            if written is None:  # a pipe set to not block, full for now
                time.sleep(0.01)
            left = left[written or 0 :]
        self._file.flush()  # the next program may play them at once


def _format_name(head: bytes) -> str:
    """Name the format of a stream by its first bytes."""
    if not head:
        return "nothing"
    for magic, name in _OTHER_FILES.items():
        if head.startswith(magic):
            return name
    if head[:1] == b"\xff" and head[1:2] >= b"\xe0":
        return "MP3 or AAC"
    if head[4:8] == b"ftyp":
        return "MP4"
    return f"no known audio (raw samples? it begins with {head!r})"
