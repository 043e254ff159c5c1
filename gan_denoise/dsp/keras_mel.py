"""STFT and mel in `keras.ops`: the transforms of `mel`, for training graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.config.schema import GainInversion
from gan_denoise.dsp.mel import Mel, cepstral_matrix

if TYPE_CHECKING:
    from keras import KerasTensor as Tensor


class KerasMel:
    """The transforms of `Mel` in `keras.ops`, for training graphs.

    Args:
        mel: The NumPy transform to repeat.
    """

    def __init__(self, mel: Mel):
        self.mel, self.config = mel, mel.config
        self.window, self.filterbank, self.spread = mel.window, mel.filterbank, mel.spread

    def stft(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return the spectrum.

        Args:
            audio: float32 `[batch, samples]`.

        Returns:
            Real and imaginary part, each `[batch, frames, bins]`.
        """
        from keras import ops

        half = self.config.n_fft // 2
        padded = ops.pad(audio, [[0, 0], [half, half]])
        return ops.stft(
            padded, self.config.n_fft, self.config.hop_length, self.config.n_fft,
            window=self.window, center=False,
        )

    def istft(self, spectrum: tuple[Tensor, Tensor], length: int) -> Tensor:
        """Return the least-squares inverse of `stft`.

        Args:
            spectrum: Real and imaginary part, each `[batch, frames, bins]`, of as many frames as
                `stft` makes of `length` samples.
            length: Number of samples to return.

        Returns:
            `[batch, length]`.
        """
        from keras import ops

        n_fft, hop = self.config.n_fft, self.config.hop_length
        count, pieces = self.mel.frames(length), -(-n_fft // hop)
        frames = ops.irfft(spectrum, n_fft) * self.window
        frames = ops.pad(frames, [[0, 0], [0, 0], [0, pieces * hop - n_fft]])
        frames = ops.reshape(frames, (-1, count, pieces, hop))
        signal = sum(
            ops.pad(frames[:, :, k], [[0, 0], [k, pieces - 1 - k], [0, 0]]) for k in range(pieces)
        )
        signal = ops.reshape(signal, (-1, (count + pieces - 1) * hop))
        inside = slice(n_fft // 2, n_fft // 2 + length)
        return signal[:, inside] / self.mel.window_energy(count)[inside]

    def linear(self, magnitude: Tensor) -> Tensor:
        """Return the linear mel: `[batch, frames, bins]` -> `[batch, frames, n_mels]`."""
        from keras import ops

        return ops.matmul(magnitude, self.filterbank.T)

    def normalise(self, linear: Tensor) -> Tensor:
        """Map a linear mel to mel01 in [0, 1], `[..., n_mels]` -> `[..., bands]`."""
        from keras import ops

        c = self.config
        decibel = ops.log(ops.maximum(linear, c.floor)) * (20 / np.log(10))
        mel01 = ops.clip((decibel + c.offset_db) / c.range_db, 0, 1)
        if not c.n_mfcc:
            return mel01
        self.mel.check_ranges()
        mfcc = ops.matmul(decibel, cepstral_matrix(c.n_mels, c.n_mfcc))
        mfcc01 = ops.clip((mfcc - self.mel.mfcc_low) / self.mel.mfcc_width, 0, 1)
        return ops.concatenate([mel01, mfcc01], axis=-1)

    def denormalise(self, mel01: Tensor) -> Tensor:
        """Map mel01 back to a linear mel, `[..., bands]` -> `[..., n_mels]`."""
        from keras import ops

        c = self.config
        decibel = self.mel.mel_part(mel01) * c.range_db - c.offset_db
        return ops.exp(decibel * (np.log(10) / 20))

    def bin_gain(self, noisy01: Tensor, estimate01: Tensor, inversion: GainInversion) -> Tensor:
        """Return the gain per bin that `gain` inversion applies.

        Args:
            noisy01: mel01 of the recording, `[batch, frames, bands]`.
            estimate01: mel01 of the estimate, of the same shape.
            inversion: `gain_smoothing`, `gain_offset_db` and `max_gain_db` are used.

        Returns:
            Amplitude gain, `[batch, frames, bins]`.
        """
        from keras import ops

        from gan_denoise.dsp.keras_bounds import upper_bound

        change = self.mel.mel_part(estimate01) - self.mel.mel_part(noisy01)
        if inversion.gain_smoothing != (1, 1):  # padding is not part of a mean
            change = ops.average_pool(change[..., None], inversion.gain_smoothing, strides=1,
                                      padding="same")[..., 0]
        decibel = change * self.config.range_db + inversion.gain_offset_db
        decibel = upper_bound(decibel, inversion.max_gain_db)
        return ops.matmul(ops.exp(decibel * (np.log(10) / 20)), self.spread)
