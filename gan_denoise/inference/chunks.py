"""A recording at the model's rate denoised part by part, in memory that does not grow with it.

Parts lie on a fixed grid and each is computed by itself with enough of its surroundings to equal
the whole, so what comes out depends neither on how the recording was handed in nor on how many
threads ran. Parts run side by side, each on one thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from gan_denoise.config.schema import InversionConfig
from gan_denoise.dsp.inversion import band_gain, invert, refine_phase
from gan_denoise.inference.model import Model
from gan_denoise.inference.options import DenoiseOptions

PART_SECONDS = 15.0  # length of a part; its surroundings are computed as well, and left out
MIRRORED_WINDOWS = 2  # windows of the transform that a recording goes on for behind its end
UPPER_BAND = 0.5  # of the model's Nyquist; the gain from here on is used for what lies above it


def mirrored(recording: np.ndarray, n_fft: int) -> np.ndarray:
    """Return a recording that goes on as its mirror image, so that its end cuts no frame.

    Networks that halve the frames know recordings that end at one place of their grid; at another
    the last frame, half of it silence, is of a kind that they have not seen, and its noise stays.

    Args:
        recording: `[..., samples]`, one sample or more.
        n_fft: Length of the transform's window in samples.

    Returns:
        `[..., samples + MIRRORED_WINDOWS * n_fft]`.
    """
    behind = (0, MIRRORED_WINDOWS * n_fft)
    return np.pad(recording, [*[(0, 0)] * (recording.ndim - 1), behind], "symmetric")


class DenoisedPart(NamedTuple):
    """What is removed from a part of a recording, at the model's rate.

    Attributes:
        removed: float32 `[channels, samples]`; with `full_band` without what the upper gain
            removes by itself.
        upper_gain: Gain of the upper speech band at the frames that begin in the part, float32
            `[channels, frames]`; linked channels have one.
    """

    removed: np.ndarray
    upper_gain: np.ndarray


class Chunks:
    """Cuts a recording into parts and gives what is removed from each, in order."""

    def __init__(self, model: Model, inversion: InversionConfig, options: DenoiseOptions,
                 channels: int, full_band: bool, pool: ThreadPoolExecutor, ahead: int):
        """Prepare the grid of parts.

        Args:
            model: The model.
            inversion: Settings of the way from mel to waveform.
            options: How much is removed, and whether channels share a gain.
            channels: Number of channels.
            full_band: Whether the recording goes on above the model's Nyquist frequency.
            pool: Threads that compute the parts.
            ahead: Number of parts that may be in work at once.
        """
        self._model, self._inversion, self._options = model, inversion, options
        self.full_band, self._pool, self._ahead = full_band, pool, ahead
        mel = model.mel
        self.sample_rate, self.hop_length = mel.sample_rate, mel.config.hop_length
        hop = mel.config.hop_length
        grid = hop * model.time_stride
        self._size = grid * max(round(PART_SECONDS * mel.sample_rate / grid), 1)
        reach = -(-mel.config.n_fft // hop)  # frames that share samples with a frame
        # Frames on each side that a sample depends on.
        self._margin = inversion.reach(reach)
        context = hop * (model.receptive_field + self._margin + reach)
        self._context = context + -context % grid
        # Waveforms from random phase do not continue each other: they are faded over, linearly,
        # which keeps the level.
        self._fade = 0 if inversion.is_gain else mel.config.n_fft
        self._tail: np.ndarray | None = None
        self._upper = mel.filterbank.argmax(axis=1) >= UPPER_BAND * mel.config.n_fft / 2
        self._buffer = np.zeros((channels, 0), np.float32)
        self._start = 0  # of the buffer, in samples of the recording
        self._next = 0  # first sample of the next part
        self._running: deque[tuple[list[Future[DenoisedPart]], bool]] = deque()

    def push(self, noisy: np.ndarray) -> Iterator[DenoisedPart]:
        """Take the next samples, float32 `[channels, samples]`; give the parts that are done."""
        self._buffer = np.concatenate([self._buffer, noisy], axis=1)
        # A rest shorter than a quarter of a part goes with the part before it.
        while self._end - self._next > self._size + max(self._context, self._size // 4):
            yield from self._submit(self._next + self._size)

    def finish(self) -> Iterator[DenoisedPart]:
        """Give the parts that remain; the recording ends here."""
        if (end := self._end) > self._next:
            self._buffer = mirrored(self._buffer, self._model.mel.config.n_fft)
            yield from self._submit(end, last=True)
        while self._running:
            yield self._collect()

    @property
    def _end(self) -> int:
        return self._start + self._buffer.shape[1]

    def _submit(self, stop: int, last: bool = False) -> Iterator[DenoisedPart]:
        while len(self._running) >= self._ahead:
            yield self._collect()
        low = max(self._next - self._context, 0)
        window = self._buffer[:, low - self._start : stop + self._context - self._start].copy()
        groups = [window] if self._options.channels == "link" else list(window[:, None])
        span = (self._next - low, stop - low)
        futures = [self._pool.submit(self._part, group, *span, last) for group in groups]
        self._running.append((futures, last))
        self._next = stop
        kept = max(stop - self._context, 0)
        self._buffer, self._start = self._buffer[:, kept - self._start :].copy(), kept

    def _collect(self) -> DenoisedPart:
        futures, last = self._running.popleft()
        parts = [future.result() for future in futures]
        samples = np.concatenate([part.removed for part in parts])
        if self._fade:
            samples = self._faded(samples, last)
        return DenoisedPart(samples, np.concatenate([part.upper_gain for part in parts]))

    def _faded(self, samples: np.ndarray, last: bool) -> np.ndarray:
        before, self._tail = self._tail, None
        if not last:
            samples, self._tail = samples[:, : -self._fade], samples[:, -self._fade :]
        if before is not None:
            ramp = ((np.arange(self._fade) + 0.5) / self._fade).astype(np.float32)
            samples = samples.copy()
            samples[:, : self._fade] *= ramp
            samples[:, : self._fade] += (1 - ramp) * before
        return samples

    # ---- One part, on a thread of the pool -----------------------------------------------------
    def _part(self, noisy: np.ndarray, start: int, stop: int, last: bool) -> DenoisedPart:
        """Return what is removed from `[start, stop)` of `noisy [channels, samples]`; channels
        that come together share a gain."""
        mel, hop = self._model.mel, self.hop_length
        if self._options.removes_nothing:
            frames = -(-stop // hop) - start // hop
            return DenoisedPart(np.zeros((len(noisy), stop - start), np.float32),
                                np.ones((1, frames), np.float32))
        spectrum = mel.stft(noisy)  # [C, T, bins]
        magnitude = np.abs(spectrum)
        if len(noisy) > 1:  # the level over all channels: a voice out of phase is not lost
            magnitude = np.sqrt(np.mean(magnitude**2, axis=0, keepdims=True))
        linear = mel.bands(magnitude)  # [1, T, n_mels]
        del magnitude  # the network takes most of the memory
        noisy01 = mel.normalise(linear)
        own = slice(start // hop, -(-stop // hop))  # the frames that begin in the part
        near = slice(max(own.start - self._margin, 0), None if last else own.stop + self._margin)
        first = near.start * hop  # sample
        inside = slice(start - first, stop - first + (0 if last else self._fade))
        if not self._inversion.is_gain:
            estimate01 = self._model.estimate(noisy01)
            wave = invert(mel, estimate01[0], spectrum[0], noisy.shape[1], self._inversion)
            return DenoisedPart((noisy - wave)[:, start : inside.stop + first],
                                np.ones((1, own.stop - own.start), np.float32))
        spectrum = spectrum[:, near].copy()
        estimate01 = self._model.estimate(noisy01, near)
        gain = band_gain(mel, noisy01[:, near], estimate01, self._inversion)
        gain = limit_gain(gain, self._options)
        length = noisy.shape[1] - first if last else (gain.shape[1] - 1) * hop
        share = mel.bin_gain(1 - gain)  # of each bin that goes, [1, T, bins]
        if self._inversion.name == "gain+phase":
            kept = refine_phase(mel, (1 - share) * spectrum, length, self._inversion.phase_steps)
            removed = noisy[:, first : first + length] - mel.istft(kept, length)
        else:
            removed = mel.istft(np.multiply(share, spectrum, out=spectrum), length)
        upper = self._upper_gain(linear[:, near], gain)
        samples = removed[:, inside]
        if self.full_band:
            place = np.arange(inside.start, inside.stop) / hop
            frames = np.arange(upper.shape[1])
            follow = np.interp(place, frames, upper[0]).astype(np.float32)
            samples = samples - (1 - follow) * noisy[:, start:stop]
        return DenoisedPart(samples, upper[:, own.start - near.start : own.stop - near.start])

    def _upper_gain(self, linear: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """Return the gain that the upper speech band as a whole gets, `[1, frames]`."""
        energy = linear[..., self._upper] ** 2
        total = energy.sum(axis=-1)
        after = (energy * gain[..., self._upper] ** 2).sum(axis=-1)
        return np.sqrt(after / np.maximum(total, 1e-20), dtype=np.float32)


def limit_gain(gain: np.ndarray, options: DenoiseOptions) -> np.ndarray:
    """Apply the strength and the largest attenuation to a gain.

    Args:
        gain: float32 factors from 0 to 1, of any shape.
        options: `strength` and `atten_lim_db` count.

    Returns:
        The gain to the power of the strength, and at least -`atten_lim_db` in dB.
    """
    limited = gain if options.strength == 1 else gain ** np.float32(options.strength)
    if options.atten_lim_db is None:
        return limited
    return np.maximum(limited, np.float32(10 ** (-options.atten_lim_db / 20)))
