"""Recordings decoded by libsndfile.

Arrays are `float32` or `float64` `[channels, samples]` with full scale at +-1.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.headers import HeaderCheck
from gan_denoise.audio.info import AudioInfo
from gan_denoise.audio.sndfile import PartOfFile, sndfile_path


class SndfileReader:
    """A file open for decoding.

    Attributes:
        subtype: libsndfile's name of the encoding.
        note: Always empty: what is unusual is known from the header.
        cut_off: What cannot be decoded of what the header promises; complete after the last block.
    """

    note = ""

    def __init__(self, path: Path, header: HeaderCheck):
        """Open a file.

        Args:
            path: The file.
            header: Its header. `raw_samples` are read without the file's own header;
                `chained_streams` one after the other.

        Raises:
            soundfile.LibsndfileError: When libsndfile cannot read it.
            OSError: When the file cannot be opened.
        """
        self._path, self._header = path, header
        raw = header.raw_samples
        if raw is not None:
            self._file = PartOfFile(path, raw.begin, raw.end, "r", raw.sample_rate, raw.channels,
                                    raw.subtype, raw.endian, "RAW")
        elif header.chained_streams:
            self._file = PartOfFile(path, *header.chained_streams[0])
        else:
            self._file = soundfile.SoundFile(sndfile_path(path))
        self.subtype = self._file.subtype
        self.cut_off = ""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def states_no_length(self) -> bool:
        """Whether the header gives a length of zero, as in a file that was never finished."""
        return self._file.frames <= 0

    @functools.cached_property
    def frames(self) -> int:
        """Samples per channel as the headers of all chained streams give them."""
        total = self._file.frames
        for stream in self._header.chained_streams[1:]:
            with PartOfFile(self._path, *stream) as file:
                total += file.frames
        return total

    def info(self) -> AudioInfo:
        """Return the properties of the file.

        Raises:
            soundfile.LibsndfileError: When one of several chained streams cannot be read.
        """
        file, header = self._file, self._header
        note, cut_off = header.note, header.cut_off
        raw = header.raw_samples
        if raw is not None:
            return AudioInfo(self._path, raw.sample_rate, raw.channels, self.frames, raw.format,
                             raw.subtype, note=note, cut_off=cut_off)
        if not cut_off and file.format != "WAV":
            logged_note, logged_cut_off = _logged_length_error(file)
            note, cut_off = logged_note or note, logged_cut_off
        return AudioInfo(self._path, file.samplerate, file.channels, self.frames, file.format,
                         file.subtype, self._bit_rate(), note=note, cut_off=cut_off)

    def blocks(self, frames: int, dtype: str, start: int) -> Iterator[np.ndarray]:
        """Yield the recording block by block.

        Args:
            frames: Samples per channel of a block.
            dtype: `float32` or `float64`.
            start: First sample.

        Yields:
            `[channels, frames]`; the last block may be shorter.

        Raises:
            soundfile.LibsndfileError: When decoding fails.
            MediaError: When sample rate or channels differ between chained streams.
        """
        done = start
        source = self._chained_blocks if self._header.chained_streams else self._plain_blocks
        for block in source(frames, dtype, start):
            done += block.shape[1]
            yield block
        if done < self.frames:
            rate = self._file.samplerate
            self.cut_off = f"{done / rate:.2f} s of {self.frames / rate:.2f} s can be decoded"

    def _plain_blocks(self, frames: int, dtype: str, start: int) -> Iterator[np.ndarray]:
        if start:
            self._seek(start)
        while True:
            block = self._file.read(frames, dtype=dtype, always_2d=True)
            if len(block):
                yield np.ascontiguousarray(block.T)
            if len(block) < frames:
                return

    def _seek(self, start: int) -> None:
        """Go to a sample, by decoding all before it where the encoding cannot be sought in."""
        try:
            self._file.seek(start)
        except soundfile.LibsndfileError:  # GSM, G.721 and others
            left = start
            while left and (got := len(self._file.read(min(left, 2**16), dtype="float32"))):
                left -= got

    def _chained_blocks(self, frames: int, dtype: str, start: int) -> Iterator[np.ndarray]:
        """Decode the streams of a chained Ogg one after the other."""
        rate, channels = self._file.samplerate, self._file.channels
        waiting = np.zeros((0, channels), dtype)  # [samples, channels]
        for stream in self._header.chained_streams:
            with PartOfFile(self._path, *stream) as file:
                if (file.samplerate, file.channels) != (rate, channels):
                    raise MediaError("rate or channels change on the way")
                while len(block := file.read(frames, dtype=dtype, always_2d=True)):
                    block, start = block[start:], max(start - len(block), 0)
                    waiting = np.concatenate([waiting, block])
                    while len(waiting) >= frames:
                        yield np.ascontiguousarray(waiting[:frames].T)
                        waiting = waiting[frames:]
        if len(waiting):
            yield np.ascontiguousarray(waiting.T)

    def _bit_rate(self) -> int | None:
        """Return the bit rate of Vorbis and Opus in bits per second; None for other encodings."""
        file = self._file
        if file.subtype == "VORBIS" and self._header.bit_rate:
            return self._header.bit_rate
        if file.subtype not in ("VORBIS", "OPUS") or file.frames <= 0:
            return None
        return round(8 * self._path.stat().st_size * file.samplerate / file.frames)


def _logged_length_error(file: soundfile.SoundFile) -> tuple[str, str]:
    """Return note and `cut_off` for a wrong length: libsndfile corrects it and only logs that."""
    for line in file.extra_info.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() not in ("SSND", "data", "Data Size", "riff") or "should be" not in rest:
            continue
        with suppress(ValueError):
            promised, there = (int(part.strip(" )")) for part in rest.split("(should be"))
            if 0 < there < promised < 2**31 - 2**16:
                return "", f"{there} of {promised} bytes are there"
            if 0 <= promised < there and name.strip() != "riff":
                return "its header was never finished; read to its end", ""
    return "", ""
