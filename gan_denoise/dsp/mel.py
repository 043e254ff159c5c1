"""STFT and mel spectrogram in NumPy: the input of models, and the way back to a waveform.

`keras_mel` repeats it for training graphs. Both are librosa's: periodic Hann window, frames centred
on multiples of the hop, zero padding of `n_fft / 2` on both sides, magnitudes (power 1),
`librosa.filters.mel` (Slaney scale and area norm). `mel01` is the log-mel mapped to [0, 1] by
constants stored with the model, so it does not depend on statistics of the file. Two settings
change the values of a frame: `filters: stft` takes the magnitudes of the STFT's bins in place of
mel bands, and `n_mfcc` appends MFCC to the bands.

In shapes, `bins` is `n_fft / 2 + 1`, and `bands` is `n_mels + n_mfcc`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy import fft
from scipy.sparse import csr_array

from gan_denoise.config import ConfigError
from gan_denoise.config.schema import AudioConfig, MelConfig

WEIGHT_FLOOR = 1e-11  # least sum of squared windows that the inverse STFT divides by
BLOCK = 256  # frames transformed at once: twice as fast where they fit the processor's cache


def make_filterbank(audio: AudioConfig, mel: MelConfig) -> np.ndarray:
    """Return the filterbank of the settings.

    Args:
        audio: Sample rate.
        mel: Transform settings.

    Returns:
        float32 `[n_mels, bins]`: librosa's, which needs the `train` extra, or for `filters: stft`
        the identity.
    """
    if mel.filters == "stft":
        return np.eye(mel.n_mels, dtype=np.float32)
    import librosa

    return librosa.filters.mel(
        sr=audio.sample_rate, n_fft=mel.n_fft, n_mels=mel.n_mels, fmin=mel.fmin, fmax=mel.fmax
    ).astype(np.float32)


def analysis_window(mel: MelConfig) -> np.ndarray:
    """Return the periodic Hann window, centred in `n_fft` samples, float32 `[n_fft]`."""
    n = np.arange(mel.win_length)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / mel.win_length)
    left = (mel.n_fft - mel.win_length) // 2
    return np.pad(hann, (left, mel.n_fft - mel.win_length - left)).astype(np.float32)


def spread_matrix(filterbank: np.ndarray) -> np.ndarray:
    """Return the matrix that spreads a gain per mel band to a gain per bin.

    A bin's gain is the mean of the gains of the bands that cover it, weighted by the filterbank.
    Bins that no band covers (DC, Nyquist, all beyond fmin and fmax) take the nearest covered bin's
    gain.

    Args:
        filterbank: `[n_mels, bins]`.

    Returns:
        float32 `[n_mels, bins]`, columns sum to 1.
    """
    weight = filterbank.sum(axis=0)
    covered = np.flatnonzero(weight > 0)
    nearest = covered[np.abs(np.arange(len(weight))[:, None] - covered).argmin(axis=1)]
    return (filterbank[:, nearest] / weight[nearest]).astype(np.float32)


def cepstral_matrix(n_mels: int, n_mfcc: int) -> np.ndarray:
    """Return the orthonormal DCT-II that turns a log-mel into MFCC (Davis & Mermelstein 1980).

    Args:
        n_mels: Number of mel bands.
        n_mfcc: Number of coefficients.

    Returns:
        float32 `[n_mels, n_mfcc]`.
    """
    return fft.dct(np.eye(n_mels), norm="ortho", axis=1)[:, :n_mfcc].astype(np.float32)


class Mel:
    """STFT, mel and their normalisation in NumPy, for one set of settings.

    Args:
        audio: Sample rate.
        mel: Transform settings.
        filterbank: `[n_mels, bins]` as stored with a model; None computes it (needs librosa).

    Raises:
        ValueError: When the filterbank is of another shape than the settings say.
    """

    def __init__(self, audio: AudioConfig, mel: MelConfig, filterbank: np.ndarray | None = None):
        self.sample_rate = audio.sample_rate
        self.config = mel
        self.filterbank = make_filterbank(audio, mel) if filterbank is None else filterbank
        expected = (mel.n_mels, mel.n_fft // 2 + 1)
        if self.filterbank.shape != expected:
            raise ValueError(f"filterbank is {self.filterbank.shape}, the settings say {expected}")
        self.spread = spread_matrix(self.filterbank)
        self._to_bands, self._to_bins = csr_array(self.filterbank), csr_array(self.spread.T)
        self.mfcc_low, high = np.array(mel.mfcc_range, np.float32).reshape(-1, 2).T
        self.mfcc_width = high - self.mfcc_low
        self.window = analysis_window(mel)

    def frames(self, samples: int) -> int:
        """Return the number of frames that `stft` makes of so many samples."""
        return 1 + samples // self.config.hop_length

    def stft(self, audio: np.ndarray) -> np.ndarray:
        """Return the complex spectrum.

        Args:
            audio: float `[..., samples]`, samples >= 1.

        Returns:
            complex64 `[..., frames, bins]`, frames = 1 + samples // hop_length.
        """
        half = self.config.n_fft // 2
        padding = [(0, 0)] * (audio.ndim - 1) + [(half, half)]
        padded = np.pad(np.asarray(audio, np.float32), padding)
        view = np.lib.stride_tricks.sliding_window_view(padded, self.config.n_fft, axis=-1)
        view = view[..., :: self.config.hop_length, :]
        if view.shape[-2] <= BLOCK:
            return fft.rfft(view * self.window, axis=-1)
        spectrum = np.empty((*view.shape[:-1], self.config.n_fft // 2 + 1), np.complex64)
        for start in range(0, view.shape[-2], BLOCK):
            block = np.s_[..., start : start + BLOCK, :]
            spectrum[block] = fft.rfft(view[block] * self.window, axis=-1)
        return spectrum

    def istft(self, spectrum: np.ndarray, length: int) -> np.ndarray:
        """Return the least-squares inverse of `stft` (Griffin & Lim 1984, eq. 6).

        Args:
            spectrum: complex `[..., frames, bins]`.
            length: Number of samples to return.

        Returns:
            float32 `[..., length]`.
        """
        n_fft, hop = self.config.n_fft, self.config.hop_length
        count = spectrum.shape[-2]
        signal = np.zeros((*spectrum.shape[:-2], (count - 1) * hop + n_fft), np.float32)
        for start in range(0, count, BLOCK):
            block = spectrum[..., start : start + BLOCK, :]
            frames = fft.irfft(block, n=n_fft, axis=-1).astype(np.float32, copy=False)
            frames *= self.window
            added = _overlap_add(frames, hop)
            signal[..., start * hop : start * hop + added.shape[-1]] += added
        weight = self.window_energy(count)
        half = n_fft // 2
        signal = signal[..., half : half + length] / weight[half : half + length]
        missing = length - signal.shape[-1]
        return np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, missing)]) if missing else signal

    def linear(self, spectrum: np.ndarray) -> np.ndarray:
        """Return the linear mel of magnitudes: `[..., frames, bins]` -> `[..., frames, n_mels]`."""
        return self.bands(np.abs(spectrum))

    def bands(self, bins: np.ndarray) -> np.ndarray:
        """Apply the filterbank: `[..., frames, bins]` -> `[..., frames, n_mels]`."""
        return _product(self._to_bands, bins)

    def features(self, linear: np.ndarray) -> np.ndarray:
        """Return the log-mel in dB, followed by the MFCC where the settings have some.

        Args:
            linear: Linear mel, `[..., n_mels]`; values below the settings' `floor` are raised to
                it.

        Returns:
            `[..., bands]`, the first `n_mels` in dB.
        """
        decibel = 20 * np.log10(np.maximum(linear, self.config.floor))
        if not self.config.n_mfcc:
            return decibel
        mfcc = fft.dct(decibel, norm="ortho", axis=-1)[..., : self.config.n_mfcc]
        return np.concatenate([decibel, mfcc], axis=-1)

    def scale(self, features: np.ndarray) -> np.ndarray:
        """Map features to mel01.

        Args:
            features: `[..., bands]`, as `features` returns them.

        Returns:
            float32 in [0, 1], of the same shape.

        Raises:
            ConfigError: When the settings have MFCC but not their ranges.
        """
        c = self.config
        mel01 = np.clip((self.mel_part(features) + c.offset_db) / c.range_db, 0, 1)
        if not c.n_mfcc:
            return mel01.astype(np.float32)
        self.check_ranges()
        mfcc = features[..., c.n_mels :]
        mfcc01 = np.clip((mfcc - self.mfcc_low) / self.mfcc_width, 0, 1)
        return np.concatenate([mel01, mfcc01], axis=-1).astype(np.float32)

    def check_ranges(self) -> None:
        """Check that the ranges of the MFCC are known.

        Raises:
            ConfigError: When they are not measured yet.
        """
        if len(self.config.mfcc_range) != self.config.n_mfcc:
            raise ConfigError("mel.mfcc_range: not measured yet; gan-denoise features measures it "
                              "and writes the settings to train with")

    def normalise(self, linear: np.ndarray) -> np.ndarray:
        """Map a linear mel to mel01, float32 in [0, 1], `[..., n_mels]` -> `[..., bands]`.

        Where the settings have MFCC, they follow the mel, mapped to [0, 1] as well.
        """
        return self.scale(self.features(linear))

    @property
    def silence(self) -> np.ndarray:
        """mel01 of a silent frame, float32 `[bands]`."""
        return self.normalise(np.zeros(self.config.n_mels, np.float32))

    def denormalise(self, mel01: np.ndarray) -> np.ndarray:
        """Map mel01 `[..., bands]` back to a linear mel `[..., n_mels]`.

        Values that were below the floor come back as the floor; MFCC are ignored.
        """
        c = self.config
        decibel = self.mel_part(np.asarray(mel01)) * c.range_db - c.offset_db
        return (10 ** (decibel / 20)).astype(np.float32)

    def mel_part(self, mel01: Any) -> Any:
        """Return the bands without MFCC: `[..., bands]` -> `[..., n_mels]`."""
        return mel01[..., : self.config.n_mels] if self.config.n_mfcc else mel01

    def mel01(self, audio: np.ndarray) -> np.ndarray:
        """Return the normalised log-mel: `[..., samples]` -> float32 `[..., frames, bands]`."""
        return self.normalise(self.linear(self.stft(audio)))

    def log_gain(self, noisy01: np.ndarray, estimate01: np.ndarray) -> np.ndarray:
        """Return log10 of the amplitude gain per band that turns one mel into another.

        Args:
            noisy01: mel01 of the recording, `[..., bands]`.
            estimate01: mel01 of the estimate, of the same shape.

        Returns:
            `[..., n_mels]`.
        """
        change = self.mel_part(estimate01) - self.mel_part(noisy01)
        return change * np.float32(self.config.range_db / 20)

    def bin_gain(self, band_gain: np.ndarray) -> np.ndarray:
        """Spread a gain per band to bins: `[..., frames, n_mels]` -> `[..., frames, bins]`."""
        return _product(self._to_bins, band_gain)

    @functools.lru_cache(maxsize=4)  # noqa: B019 (one transform lives as long as its model)
    def window_energy(self, frames: int) -> np.ndarray:
        """Return the sum of squared windows of some frames, `[samples]`, at least WEIGHT_FLOOR."""
        hop = self.config.hop_length
        squared = np.pad(self.window**2, (0, -self.config.n_fft % hop)).reshape(-1, hop)
        energy = np.zeros((frames + len(squared) - 1, hop), np.float32)
        for k, piece in enumerate(squared):
            energy[k : k + frames] += piece
        return np.maximum(energy.reshape(-1), WEIGHT_FLOOR)


def _product(matrix: csr_array, rows: np.ndarray) -> np.ndarray:
    """Multiply every row of `[..., n]` by a sparse matrix: `[..., m]`.

    Not by BLAS: the rounding of its sums, and so the bytes of an output, depends on its threads.
    """
    flat = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]).T)
    return np.ascontiguousarray((matrix @ flat).T).reshape(*rows.shape[:-1], matrix.shape[0])


def _overlap_add(frames: np.ndarray, hop: int) -> np.ndarray:
    """Add `[..., count, size]` frames at multiples of the hop: `[..., (count - 1) * hop + size]`.

    Each frame is cut into pieces of one hop; piece k of all frames is added in one operation.
    """
    *batch, count, size = frames.shape
    pieces = -(-size // hop)
    padded = np.zeros((*batch, count, pieces * hop), np.float32)
    padded[..., :size] = frames
    padded = padded.reshape(*batch, count, pieces, hop)
    out = np.zeros((*batch, count + pieces - 1, hop), np.float32)
    for k in range(pieces):
        out[..., k : k + count, :] += padded[..., k, :]
    return out.reshape(*batch, -1)[..., : (count - 1) * hop + size]
