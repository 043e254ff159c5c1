"""MP3 encoded by LAME (lameenc), some four times as fast as the LAME in PyAV's wheels.

FFmpeg still writes the file: tags, pictures, and the Info header with its index. What it does not
know of packets that it has not encoded is put into the header afterwards: how many samples LAME has
added at the beginning and the end (Gabriel Bouvigne: "MP3 Info Tag", revision 1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.audio.ffmpeg import MediaError, load_av
from gan_denoise.audio.headers.mp3 import skip_id3

if TYPE_CHECKING:
    import av

# LAME takes 16 bits. It is given half of the amplitude, and the gain that the frames state is
# raised by as much: in steps of 2 ** (1 / 4).
_RAISED = 2.0
_GAIN_STEPS = round(4 * math.log2(_RAISED))
_LAME_SCALE = 0.95  # LAME turns a recording down by this; less at the highest bit rates
_HIGH_SCALES = {192: 0.97, 224: 0.98, 256: 1.0, 320: 1.0}  # by kbit/s
HEADROOM = _RAISED * _LAME_SCALE  # samples up to so many times full scale are kept
_QUALITY = 7  # without noise shaping: three times as fast as LAME's default
_ENCODER_DELAY = 576  # samples
_DECODER_DELAY = 529  # samples
_KBITS = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)  # MPEG-1
_LOW_KBITS = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)  # MPEG-2 and 2.5
_LOW_RATE = 32000  # Hz; MPEG-2 and 2.5 have the lower rates


class Mp3Encoder:
    """Encodes blocks of one recording to packets for a muxer.

    Attributes:
        delay: Samples that a decoder gives before the first sample of the recording.
    """

    delay = _ENCODER_DELAY + _DECODER_DELAY

    def __init__(self, stream: av.AudioStream, sample_rate: int, channels: int, bit_rate: int):
        """Start an encoder.

        Args:
            stream: PyAV's stream that the packets belong to.
            sample_rate: Sample rate in Hz, one of those of MP3.
            channels: 1 or 2.
            bit_rate: Bits per second; the nearest that MP3 has is taken.
        """
        import lameenc

        self._av, self._stream = load_av(), stream
        self._rate, self._channels = sample_rate, channels
        self._encoder = lameenc.Encoder()
        self._encoder.silence()
        self._encoder.set_in_sample_rate(sample_rate)
        self._encoder.set_out_sample_rate(sample_rate)
        self._encoder.set_channels(channels)
        self._encoder.set_bit_rate(nearest_kbits(sample_rate, bit_rate))
        self._encoder.set_quality(_QUALITY)
        self._scale = 2**15 / _RAISED / lame_scale(sample_rate, bit_rate)
        low = sample_rate < _LOW_RATE
        self._frame_samples = 576 if low else 1152
        self._side_bytes, self._gain = _gain_of_side_information(low, channels)
        self._rest = b""  # of the last frame
        self._samples = self._frames = 0

    def encode(self, audio: np.ndarray) -> Iterator[av.Packet]:
        """Encode a block.

        Args:
            audio: float32 `[channels, samples]`; samples beyond +-`HEADROOM` are clipped.
        """
        self._samples += audio.shape[1]
        steps = np.rint(audio.T * np.float32(self._scale))
        pcm = np.clip(steps, -(2**15), 2**15 - 1).astype("<i2")
        yield from self._packets(self._encoder.encode(pcm.tobytes()))

    def flush(self) -> Iterator[av.Packet]:
        """Give what the encoder still holds; nothing can be encoded afterwards."""
        yield from self._packets(self._encoder.flush())

    @property
    def padding(self) -> int:
        """Samples that were added at the end, once all is encoded."""
        return self._frames * self._frame_samples - self._samples - _ENCODER_DELAY

    def _packets(self, data: bytes) -> Iterator[av.Packet]:
        data = self._rest + bytes(data)
        start = 0
        while len(data) - start >= 4 and (stop := start + _frame_bytes(data, start)) <= len(data):
            packet = self._av.Packet(self._louder(data[start:stop]))
            packet.stream = self._stream
            packet.time_base = Fraction(1, self._rate)
            packet.pts = packet.dts = self._frames * self._frame_samples - self.delay
            packet.duration = self._frame_samples
            self._frames += 1
            start = stop
            yield packet
        self._rest = data[start:]

    def _louder(self, frame: bytes) -> bytes:
        """Raise the gain of all granules of a frame."""
        end = 4 + self._side_bytes
        side = int.from_bytes(frame[4:end], "big") + self._gain
        return frame[:4] + side.to_bytes(self._side_bytes, "big") + frame[end:]


def nearest_kbits(sample_rate: int, bit_rate: int) -> int:
    """Return the bit rate of MP3 that is nearest to one in bits per second, in kbit/s."""
    known = (_LOW_KBITS if sample_rate < _LOW_RATE else _KBITS)[1:]
    return min(known, key=lambda kbits: abs(1000 * kbits - bit_rate))


def lame_scale(sample_rate: int, bit_rate: int) -> float:
    """Return the factor by which LAME 3.100 turns a recording down at a constant bit rate.

    It does so to leave room for what its own errors add (`presets.c` of its source).

    Args:
        sample_rate: Sample rate in Hz.
        bit_rate: Bits per second that it is asked for.
    """
    return _HIGH_SCALES.get(nearest_kbits(sample_rate, bit_rate), _LAME_SCALE)


def state_padding(path: Path, padding: int) -> None:
    """Write what LAME has added to a recording into the Info header of its file.

    Args:
        path: An MP3 whose first frame is an Info header of FFmpeg's.
        padding: Samples that were added at the end.

    Raises:
        MediaError: When there is no such header.
        OSError: When the file cannot be changed.
    """
    with path.open("r+b") as file:
        start = skip_id3(file)
        file.seek(start)
        frame = bytearray(file.read(512))
        at = frame.find(b"Lavf", 0, 200)
        if at < 0:
            raise MediaError("its Info header was not written")
        frame[at + 21 : at + 24] = (_ENCODER_DELAY << 12 | padding).to_bytes(3, "big")
        frame[at + 34 : at + 36] = _crc16(frame[: at + 34]).to_bytes(2, "big")
        file.seek(start)
        file.write(frame[: at + 36])


def _frame_bytes(data: bytes, start: int) -> int:
    """Return the size of the frame of layer III whose header begins at `start`."""
    header = data[start : start + 4]
    version = header[1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    kbits = (_KBITS if version == 3 else _LOW_KBITS)[header[2] >> 4]
    rate = (44100, 48000, 32000)[header[2] >> 2 & 3] >> {3: 0, 2: 1, 0: 2}[version]
    return (144_000 if version == 3 else 72_000) * kbits // rate + (header[2] >> 1 & 1)


def _gain_of_side_information(low: bool, channels: int) -> tuple[int, int]:
    """Return the bytes of a frame's side information, and what raises all of its gains.

    The side information of ISO 11172-3 (13818-3 for the lower rates) as one number: each granule of
    each channel has 59 (63) bits, of which `global_gain` is the 22nd to the 29th.
    """
    bits, granules = (63, 1) if low else (59, 2)
    size = {(False, 1): 17, (False, 2): 32, (True, 1): 9, (True, 2): 17}[low, channels]
    first = 8 * size - granules * channels * bits  # bits before the first granule
    ends = [first + number * bits + 29 for number in range(granules * channels)]
    return size, sum(_GAIN_STEPS << (8 * size - end) for end in ends)


def _crc16(data: bytes) -> int:
    """Return the CRC-16 (polynomial 0x8005, reflected) that the Info header ends with."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return crc
