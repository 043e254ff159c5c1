"""Recordings encoded by libsndfile.

Arrays are `[channels, samples]`, float with full scale at +-1, or int16 or int32 with the samples
in the upper bits.
"""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import numpy as np
import soundfile

from gan_denoise.audio.metadata import text_fields
from gan_denoise.audio.sndfile import sndfile_path
from gan_denoise.core.termination import held_back

_OPUS_BIT_RATES = 6_000, 256_000  # bits per second and channel, at compression levels 1 and 0


class SndfileWriter:
    """A file encoded block by block, with the text tags of a source.

    Attributes:
        lost: Always empty: libsndfile copies no other streams.
    """

    def __init__(
        self, path: Path, format: str, subtype: str, sample_rate: int, channels: int,
        bit_rate: int | None = None, source: Path | None = None,
    ) -> None:  # fmt: skip
        """Open a file for writing.

        Args:
            path: The file.
            format: libsndfile's name of the container.
            subtype: libsndfile's name of the encoding.
            sample_rate: Sample rate in Hz.
            channels: Number of channels.
            bit_rate: Bits per second of Opus and Vorbis; None for libsndfile's default.
            source: File whose text tags are copied.

        Raises:
            soundfile.LibsndfileError: When libsndfile cannot write this.
            OSError: When the file cannot be written.
        """
        self._path, self._frames = path, 0
        self.lost: list[str] = []
        self._file = soundfile.SoundFile(
            sndfile_path(path), "w", sample_rate, channels, subtype, format=format,
            compression_level=compression_level(subtype, sample_rate, channels, bit_rate),
        )
        try:
            if source is not None:
                self._copy_tags(source)
        except BaseException:
            self.abort()
            raise

    def _copy_tags(self, source: Path) -> None:
        for name, text in text_fields(source).items():
            # Some containers have no place for some tags; then the tag is left out.
            with contextlib.suppress(soundfile.LibsndfileError):
                setattr(self._file, name, text)

    def write(self, audio: np.ndarray) -> None:
        """Append a block, `[channels, samples]`.

        Raises:
            soundfile.LibsndfileError, OSError: When it cannot be written.
        """
        self._frames += audio.shape[1]
        self._file.write(audio.T)

    def close(self) -> None:
        """Finish the file, and read its last sample: on a full disk ALAC reports no error.

        Raises:
            soundfile.LibsndfileError, OSError: When it cannot be written or is incomplete.
        """
        self._file.close()
        if not self._frames:
            return
        with soundfile.SoundFile(sndfile_path(self._path)) as file:
            whole = file.frames >= self._frames  # block codecs fill up their last block
            if whole:
                with contextlib.suppress(soundfile.LibsndfileError):  # GSM and G.721 do not seek
                    file.seek(self._frames - 1)
                    whole = len(file.read(1, always_2d=True)) == 1
        if not whole:
            raise OSError(f"{file.frames} of {self._frames} samples are in the file")

    def abort(self) -> None:
        """Close the file and ignore errors: it is not kept."""
        with contextlib.suppress(soundfile.LibsndfileError, OSError):
            self._file.close()


def compression_level(
    subtype: str, sample_rate: int, channels: int, bit_rate: int | None
) -> float | None:
    """Return libsndfile's compression level that gives about a bit rate.

    Args:
        subtype: `OPUS` or `VORBIS`; other encodings have no level.
        sample_rate: Sample rate in Hz.
        channels: Number of channels.
        bit_rate: Bits per second.

    Returns:
        The level, 0 to 1; None for libsndfile's default.
    """
    if bit_rate is None or subtype not in ("OPUS", "VORBIS"):
        return None
    if subtype == "OPUS":
        lowest, highest = _OPUS_BIT_RATES
        return min(max((highest - bit_rate / channels) / (highest - lowest), 0.0), 1.0)
    low, high = 0.0, 1.0  # a higher level is a lower rate
    for _ in range(7):
        level = (low + high) / 2
        if _vorbis_bit_rate(level, sample_rate, channels) > bit_rate:
            low = level
        else:
            high = level
    return (low + high) / 2


@functools.lru_cache(maxsize=256)
def _vorbis_bit_rate(level: float, sample_rate: int, channels: int) -> int:
    """Return the nominal bit rate that the Vorbis encoder writes in its header."""
    file = io.BytesIO()
    with held_back(), soundfile.SoundFile(file, "w", sample_rate, channels, "VORBIS", format="OGG",
                                          compression_level=level):
        pass
    start = file.getvalue().find(b"\x01vorbis")
    return int.from_bytes(file.getvalue()[start + 20 : start + 24], "little")
