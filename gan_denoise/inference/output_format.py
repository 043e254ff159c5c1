"""How the output of a recording is written: container, encoding, rate, channels, bit rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gan_denoise.audio import AudioInfo
from gan_denoise.audio.containers import (
    check_container,
    fitting_formats,
    output_bit_rate,
    output_container,
    output_rate,
)
from gan_denoise.inference.options import DenoiseOptions


@dataclass(frozen=True)
class OutputFormat:
    """How the output of one recording is written.

    Attributes:
        info: Header of the input.
        container: libsndfile's name of the container, or FFmpeg's.
        encoding: Name of the encoding of the samples.
        sample_rate: Hz.
        channels: Number of channels.
        asked_bit_rate: Bit rate that a lossy encoding was asked for, bits per second; None: about
            that of the input.
    """

    info: AudioInfo
    container: str
    encoding: str
    sample_rate: int
    channels: int
    asked_bit_rate: int | None

    @classmethod
    def choose(cls, info: AudioInfo, options: DenoiseOptions) -> OutputFormat:
        """Choose the format from the input's header and the options; opens no file.

        Args:
            info: Header of the input.
            options: `format`, `channels` and `bit_rate` count.
        """
        container, encoding = output_container(info, options.format)
        return cls(
            info, container, encoding, output_rate(info, options.format),
            channels=1 if options.channels == "mono" else info.channels,
            asked_bit_rate=1000 * options.bit_rate if options.bit_rate else None,
        )

    @property
    def resampled(self) -> bool:
        """Whether the encoding does not take the input's rate."""
        return self.sample_rate != self.info.sample_rate

    @cached_property
    def bit_rate(self) -> int | None:
        """Bit rate of a lossy output in bits per second; None where there is none to choose.

        Some inputs do not tell theirs: then their packets are read.
        """
        return output_bit_rate(self.info, self.encoding, self.channels, self.asked_bit_rate)

    def check(self, path: Path) -> None:
        """Refuse, before any work, an output that the container cannot hold.

        Args:
            path: File that would be written; the error names it.

        Raises:
            AudioError: For too many channels or samples, or a rate or encoding that is not taken.
        """
        check_container(path, self.sample_rate, self.channels, self.container, self.encoding,
                        self.info.sure_frames)

    def alternatives(self) -> list[str]:
        """Return the format names (`containers.FORMAT_SUFFIXES`) that would hold the recording."""
        return fitting_formats(self.info, self.channels)
