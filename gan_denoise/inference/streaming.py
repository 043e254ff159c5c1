"""A recording of any rate denoised block by block, with as many samples out as in.

What is removed is computed at the model's rate, resampled back and subtracted. A recording whose
band goes on above the model's Nyquist frequency keeps what lies there, with the gain that the
upper speech band gets: sibilants stay bright, and hiss in pauses goes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np

from gan_denoise.audio.samples import cancels, energy, peak
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.inference.chunks import Chunks, DenoisedPart

BLOCK = 2**16  # samples taken and given at once, so that nothing long is held twice
LOUDEST = 8.0  # largest peak, +18 dBFS; from +24 dBFS on the mel's ceiling would be reached


class TooLoud(GanDenoiseError):
    """Samples further above full scale than what the model was trained on.

    Attributes:
        peak: Largest magnitude of the block.
    """

    def __init__(self, peak: float):
        level = 20 * math.log10(peak)
        super().__init__(f"peak at {level:+.1f} dBFS, the model knows up to "
                         f"{20 * math.log10(LOUDEST):+.0f}: apply a gain of {-level:.1f} dB first")
        self.peak = peak


def input_gain(peak: float) -> float:
    """Return the gain that a recording with this peak needs for the model: 1 up to `LOUDEST`.

    Args:
        peak: Largest magnitude, where full scale is 1.

    Returns:
        A power of 2, so that dividing by it restores every sample exactly.
    """
    return 1.0 if peak <= LOUDEST else 2.0 ** -math.ceil(math.log2(peak))


def channel_energies(block: np.ndarray) -> np.ndarray:
    """Return the sum of squares of each channel, float64 `[channels]`.

    Args:
        block: Float `[channels, samples]`.
    """
    return np.sum(np.square(block, dtype=np.float64), axis=1)


class Stream:
    """One recording that is denoised block by block; `Enhancer.stream` returns one.

    `push` takes blocks of any size and returns the samples that are done, `finish` the rest: put
    together they are exactly what `Enhancer.enhance` and `enhance_file` give, but for `mono` of
    channels that cancel each other: those two take the loudest, a stream says `cancelled`. Nothing
    is shifted in time, but samples come late, by a part (15 seconds) and the model's look-ahead.
    """

    def __init__(self, chunks: Chunks, sample_rate: int, channels: int, mono: bool,
                 channel: int | None = None):
        """Prepare resampling; `Enhancer.stream` documents the parameters.

        Args:
            chunks: The model with its options, at the model's rate.
            sample_rate: Rate of the recording in Hz.
            channels: Number of channels of the blocks that come.
            mono: Whether one channel is made of them.
            channel: The channel to take for that; None: the mean.
        """
        self._chunks, self._channels, self._mono, self._channel = chunks, channels, mono, channel
        self._energies = np.zeros(2)  # energy of the mean, and mean energy of the channels
        kept = 1 if mono else channels
        self._noisy, self._removed = _Queue(), _Queue()
        self._none = np.zeros((kept, 0), np.float32)
        self._own_rate = sample_rate == chunks.sample_rate
        self._upper = None
        if not self._own_rate:
            self._down = _Resampler(sample_rate, chunks.sample_rate, kept)
            self._up = _Resampler(chunks.sample_rate, sample_rate, kept)
            if chunks.full_band:
                self._upper = _UpperGain(chunks.hop_length * sample_rate / chunks.sample_rate)

    def push(self, block: np.ndarray) -> np.ndarray:
        """Take the next samples and return those that are done.

        Args:
            block: Float `[samples]` or `[channels, samples]`, full scale is 1.

        Returns:
            `[channels, samples]` of the block's type; as many as are done, also none.

        Raises:
            ValueError: For another number of channels than the stream was made for.
            TooLoud: For a peak above `LOUDEST`.
        """
        return self._cleaned(self.parts(block))

    def finish(self) -> np.ndarray:
        """End the recording and return the samples that remain, `[channels, samples]`."""
        return self._cleaned(self.rest())

    @property
    def cancelled(self) -> bool:
        """Whether the channels so far cancel each other in the mean that is taken of them."""
        return cancels(*self._energies)

    def parts(self, block: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Take the next samples as `push` does, and give pairs (noisy, removed).

        Their difference is the output, `[channels, samples]` each.
        """
        block = np.atleast_2d(block)
        if block.ndim != 2 or len(block) != self._channels:
            raise ValueError(f"expected [{self._channels}, samples], not {block.shape}")
        if (loudest := peak(block)) > LOUDEST:
            raise TooLoud(loudest)
        if self._mono and self._channel is not None:
            block = block[self._channel : self._channel + 1]
        elif self._mono and len(block) > 1:
            mean = block.mean(axis=0, dtype=block.dtype, keepdims=True)
            self._energies += energy(mean), energy(block) / len(block)
            block = mean
        self._none = block[:, :0]
        for start in range(0, block.shape[1], BLOCK):
            piece = block[:, start : start + BLOCK]
            self._noisy.put(piece)
            piece = piece.astype(np.float32, copy=False)
            if not self._own_rate:
                piece = self._down(piece)
            for part in self._chunks.push(piece):
                self._take(part)
                yield from self._done()

    def rest(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """End the recording as `finish`, and give (noisy, removed)."""
        if not self._own_rate:
            for part in self._chunks.push(self._down.finish()):
                self._take(part)
        for part in self._chunks.finish():
            self._take(part)
            yield from self._done()
        if not self._own_rate:
            self._removed.put(self._up.finish())
            # There and back the count of samples may differ by one or two.
            missing = max(self._noisy.length - self._removed.length, 0)
            self._removed.put(np.zeros((len(self._none), missing), np.float32))
        yield from self._done(last=True)

    def _take(self, part: DenoisedPart) -> None:
        self._removed.put(part.removed if self._own_rate else self._up(part.removed))
        if self._upper is not None:
            self._upper.put(part.upper_gain)

    def _done(self, last: bool = False) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        ready = min(self._noisy.length, self._removed.length)
        if self._upper is not None and not last:
            ready = min(ready, self._upper.ready)
        while ready > 0:
            count = min(ready, BLOCK)
            noisy, removed = self._noisy.take(count), self._removed.take(count)
            if self._upper is not None:
                removed = removed + (1 - self._upper.take(count)) * noisy
            yield noisy, removed
            ready -= count

    def _cleaned(self, parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        blocks = [noisy - removed for noisy, removed in parts]
        return np.concatenate(blocks, axis=1) if blocks else self._none


class _Queue:
    """Blocks `[channels, samples]` that wait for their counterpart."""

    def __init__(self) -> None:
        self._blocks: deque[np.ndarray] = deque()
        self.length = 0  # samples

    def put(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self.length += block.shape[1]

    def take(self, count: int) -> np.ndarray:
        self.length -= count
        taken = []
        while count:
            block = self._blocks.popleft()
            if block.shape[1] > count:
                self._blocks.appendleft(block[:, count:])
                block = block[:, :count]
            taken.append(block)
            count -= block.shape[1]
        return taken[0] if len(taken) == 1 else np.concatenate(taken, axis=1)


class _Resampler:
    """soxr HQ on a stream of `[channels, samples]`; equal to one pass over the whole."""

    def __init__(self, rate_in: int, rate_out: int, channels: int):
        import soxr

        # One for each channel: soxr's one-channel path is the faster one.
        self._streams = [soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32", quality="HQ")
                         for _ in range(channels)]

    def __call__(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        return np.stack([stream.resample_chunk(np.ascontiguousarray(channel), last=last)
                         for stream, channel in zip(self._streams, block, strict=True)])

    def finish(self) -> np.ndarray:
        return self(np.zeros((len(self._streams), 0), np.float32), last=True)


class _UpperGain:
    """The gain above the model's band at each sample of the recording, linear between frames."""

    def __init__(self, hop: float):
        """Begin with no frame known.

        Args:
            hop: Samples of the recording from frame to frame, not always a whole number.
        """
        self._hop = hop
        self._gain = np.ones((1, 0), np.float32)  # from frame `_first` on
        self._first = self._next = 0  # frame; sample

    def put(self, gain: np.ndarray) -> None:
        self._gain = np.concatenate([self._gain, gain], axis=1) if self._gain.size else gain

    @property
    def ready(self) -> int:
        """Samples, from the next one on, that lie between known frames."""
        return int((self._first + self._gain.shape[1] - 1) * self._hop) - self._next

    def take(self, count: int) -> np.ndarray:
        """Return the gain at the next samples, `[channels, count]`; the last frame's is held."""
        if not self._gain.size:
            return np.ones((1, count), np.float32)
        place = np.arange(self._next, self._next + count) / self._hop  # in frames
        frames = np.arange(self._first, self._first + self._gain.shape[1])
        follow = np.stack([np.interp(place, frames, gain) for gain in self._gain])
        self._next += count
        used = max(int(self._next / self._hop) - self._first - 1, 0)
        used = min(used, self._gain.shape[1] - 1)
        self._gain, self._first = self._gain[:, used:], self._first + used
        return follow.astype(np.float32)
