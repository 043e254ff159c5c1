"""A model in use: it denoises arrays, streams and files on ONNX Runtime alone.

A recording keeps its rate, length, channels and level.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise.audio import peak
from gan_denoise.config import with_settings
from gan_denoise.config.schema import Config, InversionConfig
from gan_denoise.core.processes import cores
from gan_denoise.dsp.mel import Mel
from gan_denoise.inference.chunks import PART_SECONDS, Chunks
from gan_denoise.inference.file_enhancer import denoise_file
from gan_denoise.inference.model import DEFAULT_MODEL, Model, ModelError
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.streaming import Stream, channel_energies, input_gain

PROCESSING_VERSION = 1  # a journal's files of another version are done again
# Version 0.1 had the settings of every inversion in one section, and their digest in its journals.
_INVERSION_OF_0_1 = {"max_gain_db": 0.0, "gain_offset_db": 0.0, "gain_smoothing": (1, 1),
                     "phase_steps": 2, "griffinlim_steps": 60, "griffinlim_momentum": 0.99,
                     "seed": 0}
CHUNK_SECONDS = 3 * PART_SECONDS  # of audio in work at once


class Enhancer:
    """A model with its inversion, its options and its threads.

    `Enhancer.load` makes one; `with_inversion` and `with_options` make others of it that share
    the network and the threads.

    Attributes:
        model: The model.
        inversion: Settings of the way from mel to waveform.
        options: How much is removed, which channels, which output format.
        threads: Number of parts of a recording that are computed side by side.
        chunk_seconds: Audio that is in work at once, in seconds, about.
        pool: The threads.
    """

    def __init__(self, model: Model, inversion: InversionConfig, options: DenoiseOptions,
                 threads: int, chunk_seconds: float, pool: ThreadPoolExecutor):
        """Put the parts together; `Enhancer.load` is the usual way.

        Raises:
            ModelError: When the inversion has no gain and the options need one.
        """
        if not inversion.is_gain and options.needs_gain:
            raise ModelError(f"{inversion.name} makes a new waveform and has no gain: it knows no "
                             "strength, no atten_lim and no linked channels; take gain")
        self.model, self.inversion, self.options = model, inversion, options
        self.threads, self.chunk_seconds, self.pool = threads, chunk_seconds, pool

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT_MODEL,
        threads: int = 0,
        chunk_seconds: float = CHUNK_SECONDS,
    ) -> Enhancer:
        """Load a model folder, or a shipped model by name.

        Args:
            model: Folder, or name of a shipped model.
            threads: Number of parts of a recording that are computed side by side; 0: one per core.
            chunk_seconds: Audio that is in work at once, at least a part of 15 seconds; more keeps
                more threads busy and takes more memory. The result is the same.

        Raises:
            ModelError: When there is no such model, a part is missing, or it is too new.
        """
        loaded = Model.load(model)
        threads = threads or cores()
        at_once = max(round(chunk_seconds / PART_SECONDS), 1)
        return cls(loaded, loaded.config.inversion, DenoiseOptions(), threads, chunk_seconds,
                   ThreadPoolExecutor(min(threads, at_once), thread_name_prefix="enhance"))

    def with_inversion(self, name: str | None = None, **changes: Any) -> Enhancer:
        """Return the same model with another inversion.

        Args:
            name: `gain`, `gain+phase` or `griffinlim`; None: the present one.
            **changes: Settings of the inversion, by the keys that it has.

        Raises:
            ConfigError: When there is no such inversion, or it has no such setting.
            ModelError: When that inversion has no gain and the options need one.
        """
        if name is not None:
            changes["name"] = name
        keys = {f"inversion.{key}": value for key, value in changes.items()}
        inversion = with_settings(self.config, keys).inversion
        return Enhancer(self.model, inversion, self.options, self.threads, self.chunk_seconds,
                        self.pool)

    def with_options(self, options: DenoiseOptions) -> Enhancer:
        """Return the same model with other options.

        Raises:
            ModelError: When the options need a gain and the inversion has none.
        """
        return Enhancer(self.model, self.inversion, options, self.threads, self.chunk_seconds,
                        self.pool)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model.folder.name

    @property
    def folder(self) -> Path:
        """Folder of the model."""
        return self.model.folder

    @property
    def config(self) -> Config:
        """The model's settings, with the inversion in use."""
        return self.model.config.model_copy(update={"inversion": self.inversion})

    @property
    def mel(self) -> Mel:
        """The model's transform."""
        return self.model.mel

    def estimate(self, noisy01: np.ndarray) -> np.ndarray:
        """Return the network's estimate of the clean mel, as `Model.estimate`."""
        return self.model.estimate(noisy01)

    def settings(self) -> dict[str, Any]:
        """Return all that decides what is written for a recording, as JSON values.

        Journals hold a digest of it: another key or value makes files that are done count as
        changed, and they are done again.
        """
        inversion = _INVERSION_OF_0_1 | self.inversion.model_dump()
        return {"model": self.model.fingerprint, "inversion": inversion,
                "treatment": self.options.model_dump(), "version": PROCESSING_VERSION}

    # ---- Arrays --------------------------------------------------------------------------------
    def stream(
        self, sample_rate: int, channels: int = 1, channel: int | None = None
    ) -> Stream:
        """Return a stream for one recording: push blocks of it, then finish.

        Args:
            sample_rate: Any rate in Hz.
            channels: Number of channels of the blocks.
            channel: For the option `mono`: the channel to take in place of the mean of all.
        """
        model = self.model
        mono = self.options.channels == "mono"
        # One part for each thread, and one that is written; channels are computed side by side.
        together = 1 if self.options.channels in ("mono", "link") else channels
        ahead = 1 + -(-self.threads // together)
        chunks = Chunks(
            model, self.inversion, self.options, 1 if mono else channels,
            full_band=sample_rate > model.mel.sample_rate and self.inversion.is_gain,
            pool=self.pool,
            ahead=max(min(round(self.chunk_seconds / PART_SECONDS), ahead), 1),
        )
        return Stream(chunks, sample_rate, channels, mono, channel)

    def enhance(self, recording: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the recording without its noise: same shape, rate and level.

        Args:
            recording: Float `[samples]` or `[channels, samples]`, full scale is 1.
            sample_rate: Any rate in Hz.

        Returns:
            float32 (float64 for float64) of the same shape; `[1, samples]` of several channels
            with the option `mono`.

        Raises:
            ModelError: When the array is empty, not finite, looks transposed, or is of integers.
        """
        recording = np.asarray(recording)
        _check_array(recording)
        if recording.dtype != np.float64:
            recording = recording.astype(np.float32, copy=False)
        channels = np.atleast_2d(recording)
        gain = input_gain(peak(channels))
        if gain != 1.0:
            return self.enhance(recording * recording.dtype.type(gain), sample_rate) / gain
        stream = self.stream(sample_rate, len(channels))
        cleaned = np.concatenate([stream.push(channels), stream.finish()], axis=1)
        if stream.cancelled:
            loudest = int(np.argmax(channel_energies(channels)))
            return self.enhance(channels[loudest, None], sample_rate)
        return cleaned if recording.ndim == 2 else cleaned[0]

    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        residual: str | Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> FileResult:
        """Denoise one file into another; memory does not grow with its length.

        Rate, length, container and encoding stay those of the source, unless the options say
        otherwise.

        Args:
            source: The recording.
            target: File to write; it appears when it is whole.
            residual: File for what was removed; None: none.
            progress: Called with the seconds of the recording done since its last call.

        Raises:
            AudioError: When the source cannot be read, or a target cannot hold it or not be
                written.
        """
        targets = [Path(path) for path in (residual, target) if path is not None]
        return denoise_file(self.stream, self.options, Path(source), targets, progress)


def _check_array(recording: np.ndarray) -> None:
    if recording.ndim not in (1, 2) or recording.size == 0:
        raise ModelError(f"expected [samples] or [channels, samples], not {recording.shape}")
    if recording.ndim == 2 and recording.shape[0] > 32 and recording.shape[0] > recording.shape[1]:
        raise ModelError(
            f"{recording.shape} looks transposed: expected [channels, samples]; pass array.T"
        )
    if not np.issubdtype(recording.dtype, np.floating):
        raise ModelError(f"expected floats with full scale 1, not {recording.dtype}; for 16-bit "
                         "samples divide by 32768")
    if not np.isfinite(recording).all():
        raise ModelError("the recording holds NaN or infinite samples")
