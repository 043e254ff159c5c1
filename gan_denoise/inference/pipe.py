"""A WAV stream denoised into another while it arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from gan_denoise.audio import AudioError
from gan_denoise.audio.wav_pipe import PipeReader, PipeWriter
from gan_denoise.inference.streaming import TooLoud

if TYPE_CHECKING:
    from gan_denoise.inference.enhancer import Enhancer


@dataclass(frozen=True)
class PipeResult:
    """The result of a stream.

    Attributes:
        clipped: Number of samples that an integer encoding clipped.
        cut_off: What is missing of what the header promised; empty where nothing is.
        notices: Lines for the user.
    """

    clipped: int
    cut_off: str
    notices: tuple[str, ...]


def enhance_pipe(enhancer: Enhancer, source: BinaryIO, target: BinaryIO) -> PipeResult:
    """Denoise a WAV stream into another of the same rate, encoding, speakers and length.

    Samples come late, by a part of the recording and the model's look-ahead. A stream that ends
    early is denoised as far as it goes.

    Args:
        enhancer: The model with its options; `format`, `bit_rate` and `peak_guard` do not count.
        source: The WAV stream, opened for reading bytes.
        target: Where the output goes, opened for writing bytes.

    Raises:
        AudioError: When the input is no WAV stream, is far above full scale, or holds no sample.
        OSError: When the output cannot be written.
    """
    reader = PipeReader(source)
    mono = enhancer.options.channels == "mono"
    channels = 1 if mono else reader.channels
    stream = enhancer.stream(reader.sample_rate, reader.channels)
    writer = PipeWriter(target, reader.sample_rate, channels, reader.subtype, reader.frames,
                        speaker_mask=None if mono and reader.channels > 1 else reader.speaker_mask)
    try:
        for block in reader.blocks(reader.sample_rate):
            writer.write(stream.push(block))
        writer.write(stream.finish())
    except TooLoud as error:
        raise AudioError(f"{reader.name}: {error}") from error
    if not reader.frames_read:
        raise AudioError(f"{reader.name}: a header came and no samples; see what the program "
                         "before the pipe says")
    if not reader.cut_off:
        writer.close()
    notices = []
    if reader.cut_off:
        notices.append(f"{reader.name}: cut off: {reader.cut_off}; see what the program before the "
                       "pipe says")
    if stream.cancelled:
        notices.append(f"{reader.name}: the channels cancel each other in their mean, which is "
                       "near silence; leave out --channels mono")
    if writer.clipped:
        notices.append(f"{writer.clipped} samples clipped")
    return PipeResult(writer.clipped, reader.cut_off, tuple(notices))
