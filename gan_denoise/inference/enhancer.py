"""The tool: a model cleans arrays, streams, files and folders, on ONNX Runtime alone.

A recording keeps its rate, length, channels and level.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_denoise import audio
from gan_denoise.audio.containers import (
    check_container,
    output_bit_rate,
    output_container,
    output_rate,
)
from gan_denoise.audio.metadata import lost_metadata
from gan_denoise.audio.writer import Writer
from gan_denoise.config.schema import Config, InversionConfig
from gan_denoise.core.processes import cores
from gan_denoise.dsp.levels import Levels
from gan_denoise.dsp.mel import Mel
from gan_denoise.inference.chunks import PART_SECONDS, Chunks
from gan_denoise.inference.model import DEFAULT_MODEL, Model, ModelError, find_model
from gan_denoise.inference.options import Treatment
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.streaming import LOUDEST, Stream, TooLoud

if TYPE_CHECKING:
    from gan_denoise.inference.folder import Tally

__all__ = ["DEFAULT_MODEL", "Enhancer", "FileResult", "ModelError", "find_model"]

PROCESSING_VERSION = 1  # of the samples that a model gives; journals redo files of another one
CHUNK_SECONDS = 3 * PART_SECONDS  # of audio under way at once
BLOCK_SECONDS = 2.0  # that a file is read in
FULL_SCALE = 1 - 2.0**-15  # what the peak guard leaves: the largest 16-bit sample


@dataclass(frozen=True)
class _Pass:
    """How a file is gone through: another way where the first one showed the need.

    Attributes:
        input_gain: What the model gets the recording at; the output is brought back. A power of 2.
        output_gain: Of the peak guard.
        channel: The one that is taken where the mean of the channels is silence.
    """

    input_gain: float = 1.0
    output_gain: float = 1.0
    channel: int | None = None

    def note(self, peak_db: float | None) -> str:
        """Say what is unusual of an input with this peak in dBFS."""
        told = []
        if self.input_gain != 1.0:
            told.append(f"peak at {peak_db:+.1f} dBFS: cleaned at full scale, and "
                        "brought back")
        if self.channel is not None:
            told.append("its channels cancel each other in their mean: "
                        f"channel {self.channel + 1} was taken")
        return "; ".join(told)


class Enhancer:
    """A model in use: how its mel becomes sound, how much of the noise goes, on how many threads.

    `Enhancer.load` makes one; `with_inversion` and `with_treatment` make others of it that share
    the network.

    Attributes:
        model: The model.
        inversion: Settings of the way from mel to waveform.
        treatment: How much, which channels, which format.
        threads: Parts of a recording that are computed side by side.
        chunk_seconds: Audio that is under way at once, about.
    """

    def __init__(self, model: Model, inversion: InversionConfig, treatment: Treatment,
                 threads: int, chunk_seconds: float, pool: ThreadPoolExecutor):
        self.model, self.inversion, self.treatment = model, inversion, treatment
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
            threads: Parts of a recording that are computed side by side; 0: one per core.
            chunk_seconds: Audio that is under way at once, at least a part of 15 seconds; more
                keeps more threads busy and takes more memory. The result is the same.

        Raises:
            ModelError: When there is no such model, a part is missing, or it is too new.
        """
        loaded = Model.load(model)
        threads = threads or cores()
        at_once = max(round(chunk_seconds / PART_SECONDS), 1)
        return cls(loaded, loaded.config.inversion, Treatment(), threads, chunk_seconds,
                   ThreadPoolExecutor(min(threads, at_once), thread_name_prefix="enhance"))

    def with_inversion(self, name: str | None = None, **changes: Any) -> Enhancer:
        """Return the same model with another inversion, by name or by its settings."""
        if name is not None:
            changes["name"] = name
        inversion = InversionConfig(**(self.inversion.model_dump() | changes))
        return self._with(inversion=inversion)

    def with_treatment(self, treatment: Treatment) -> Enhancer:
        """Return the same model with another treatment."""
        return self._with(treatment=treatment)

    def _with(self, **changes: Any) -> Enhancer:
        own = {"inversion": self.inversion, "treatment": self.treatment} | changes
        if own["inversion"].name == "griffinlim" and not own["treatment"].whole:
            raise ModelError("griffinlim makes a new waveform and has no gain: it knows no "
                             "strength, no atten_lim and no linked channels; take gain")
        return Enhancer(self.model, threads=self.threads, chunk_seconds=self.chunk_seconds,
                        pool=self.pool, **own)

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
        """Return all that decides what is written for a recording, as JSON values."""
        return {"model": self.model.fingerprint, "inversion": self.inversion.model_dump(),
                "treatment": self.treatment.model_dump(), "version": PROCESSING_VERSION}

    # ---- Arrays --------------------------------------------------------------------------------
    def stream(
        self, sample_rate: int, channels: int = 1, channel: int | None = None
    ) -> Stream:
        """Return a stream for one recording: push blocks of it, then finish.

        Args:
            sample_rate: Hz, any.
            channels: Count of channels.
            channel: Where the treatment says `mono`: the one to take, not the mean of all.
        """
        model = self.model
        mono = self.treatment.channels == "mono"
        chunks = Chunks(
            model, self.inversion, self.treatment, 1 if mono else channels,
            full_band=sample_rate > model.mel.sample_rate and self.inversion.name != "griffinlim",
            pool=self.pool,
            ahead=max(min(round(self.chunk_seconds / PART_SECONDS), self.threads + 1), 1),
        )
        return Stream(chunks, sample_rate, channels, mono, channel)

    def enhance(self, recording: np.ndarray, sample_rate: int) -> np.ndarray:
        """Return the recording without its noise: same shape, rate and level.

        Args:
            recording: Float `[samples]` or `[channels, samples]`, full scale is 1.
            sample_rate: Hz, any.

        Returns:
            float32 (float64 for float64) of the same shape; one channel of several where the
            treatment says `mono`.

        Raises:
            ModelError: When the array is empty, not finite, looks transposed, or is of integers.
        """
        recording = np.asarray(recording)
        _check_array(recording)
        if recording.dtype != np.float64:
            recording = recording.astype(np.float32, copy=False)
        channels = np.atleast_2d(recording)
        gain = _input_gain(audio.peak(channels))
        if gain != 1.0:
            return self.enhance(recording * recording.dtype.type(gain), sample_rate) / gain
        stream = self.stream(sample_rate, len(channels))
        cleaned = np.concatenate([stream.push(channels), stream.finish()], axis=1)
        if stream.cancelled:
            return self.enhance(channels[_loudest([channels]), None], sample_rate)
        return cleaned if recording.ndim == 2 else cleaned[0]

    # ---- Files ---------------------------------------------------------------------------------
    def enhance_file(
        self,
        source: str | Path,
        target: str | Path,
        residual: str | Path | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> FileResult:
        """Clean one file into another; memory does not grow with its length.

        Rate, length, container and encoding stay those of the source, but for what the treatment
        says of channels and format.

        Args:
            source: The recording.
            target: File to write; it appears when it is whole.
            residual: File for what was removed; None: none.
            progress: Called with the seconds of the recording done since its last call.

        Raises:
            AudioError: When the source cannot be read, or a target cannot hold it or not be
                written.
        """
        begun = time.perf_counter()
        source, target = Path(source), Path(target)
        targets = [target] if residual is None else [Path(residual), target]
        for path in targets:
            if path.exists() and source.exists() and path.samefile(source):
                raise audio.AudioError(f"{source}: output is the input; give another output folder")
        way, settled = _Pass(), False
        while True:
            try:
                with audio.Reader(source) as reader:
                    info = reader.info
                    levels = Levels(info.sample_rate)
                    if not settled:
                        self._check(info, targets)
                    writers = self._write(reader, targets, way, levels, progress)
                break
            except _Guarded as guarded:
                way = replace(way, output_gain=FULL_SCALE / guarded.peak)
            except _Cancelled:
                way = replace(way, channel=_loudest(audio.blocks(source, 2**16)))
            except TooLoud:
                gain = _input_gain(max(map(audio.peak, audio.blocks(source, 2**16))))
                way = replace(way, input_gain=gain)
            settled, progress = True, None
        rate = output_rate(info, self.treatment.format)
        notes = [reader.note, way.note(levels.peak_in_db)]
        if rate != info.sample_rate:
            codec = output_container(info, self.treatment.format)[1]
            notes.append(f"resampled from {info.sample_rate} to {rate} Hz, which {codec} takes")
        return FileResult(
            source, target, seconds=reader.frames / info.sample_rate, sample_rate=info.sample_rate,
            channels=info.channels, elapsed=time.perf_counter() - begun,
            peak_in_db=levels.peak_in_db, peak_out_db=levels.peak_out_db,
            noise_floor_drop_db=levels.noise_floor_drop_db, clipped=writers[-1].clipped,
            guard_gain_db=round(20 * math.log10(way.output_gain), 2),
            lost=(*writers[-1].lost, *lost_metadata(source, target)),
            note="; ".join(filter(None, notes)), cut_off=reader.cut_off,
        )

    def _check(self, info: audio.AudioInfo, targets: Sequence[Path]) -> None:
        """Refuse what the targets cannot hold."""
        channels = 1 if self.treatment.channels == "mono" else info.channels
        rate = output_rate(info, self.treatment.format)
        encoding = output_container(info, self.treatment.format)
        for path in targets:
            check_container(path, rate, channels, *encoding, info.sure_frames)

    def _write(
        self,
        reader: audio.Reader,
        targets: Sequence[Path],
        way: _Pass,
        levels: Levels,
        progress: Callable[[float], None] | None,
    ) -> list[Writer]:
        """Write the cleaned recording to the last target, and what was removed to one before."""
        info, treatment = reader.info, self.treatment
        rate = info.sample_rate
        channels = 1 if treatment.channels == "mono" else info.channels
        stream = self.stream(rate, info.channels, way.channel)
        format, subtype = output_container(info, treatment.format)
        wanted = 1000 * treatment.bit_rate if treatment.bit_rate else None
        bits = output_bit_rate(info, subtype, channels, wanted)
        dtype = "float64" if info.subtype in ("PCM_32", "DOUBLE") else "float32"
        scale = way.output_gain / way.input_gain
        with contextlib.ExitStack() as stack:
            writers = [
                stack.enter_context(Writer(
                    path, output_rate(info, treatment.format), channels, format, subtype, info.path,
                    bit_rate=bits, input_rate=rate, others=treatment.format == "keep",
                    preserve_times=treatment.preserve_times,
                ))
                for path in targets
            ]

            def write(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
                for noisy, removed in parts:
                    output = noisy - removed
                    if scale != 1.0:
                        output, removed = scale * output, scale * removed
                    if way.input_gain != 1.0:
                        noisy = noisy / noisy.dtype.type(way.input_gain)
                    levels.add(noisy, output)
                    for writer, samples in zip(writers[::-1], (output, removed), strict=False):
                        writer.write(samples)
                    if progress is not None:
                        progress(noisy.shape[1] / rate)

            for block in reader.blocks(round(BLOCK_SECONDS * rate), dtype):
                if way.input_gain != 1.0:
                    block = block * block.dtype.type(way.input_gain)
                write(stream.parts(block))
            write(stream.rest())
            # Nothing of this pass is kept.
            if stream.cancelled:
                raise _Cancelled
            if treatment.peak_guard and levels.peak_out > 1.0:
                raise _Guarded(levels.peak_out)
        return writers

    def enhance_folder(
        self,
        inputs: Sequence[str | Path],
        out: str | Path,
        recursive: bool = True,
        *,
        overwrite: bool = False,
        jobs: int = 0,
        residual: str | Path | None = None,
        fail_fast: bool = False,
        dry_run: bool = False,
        shard: tuple[int, int] | None = None,
        progress: Callable[[Tally], None] | None = None,
    ) -> list[FileResult]:
        """Clean files and folders into one folder that mirrors their trees.

        A file that fails is reported in its result, and the rest goes on. What an earlier run did
        is skipped, by the content of the input, the model and the settings. The folder's journal
        knows what was written here; a file that it does not know is not replaced.

        Args:
            inputs: Files and folders.
            out: Output folder.
            recursive: Whether sub-folders are searched.
            overwrite: Do everything again, and replace also what was not written here.
            jobs: Processes; 0: one per thread where there is enough to do.
            residual: Folder for what is removed; None: none.
            fail_fast: Whether the first failure ends the run; files without a result are left out.
            dry_run: Only say what would be done.
            shard: (i, n): only the i-th of n equal shares of the files, counted from 1.
            progress: Called as the work goes on.

        Returns:
            A result a file, in the order of the inputs and their names.

        Raises:
            AudioError: Before any work, when nothing is found, two inputs would write one output,
                or a folder is input and output at once.
            ModelError: When a process cannot load the model.
            folder.Interrupted: On Ctrl-C; has the results so far.
        """
        from gan_denoise.inference import folder

        return folder.enhance_folder(
            self, inputs, out, recursive, overwrite=overwrite, jobs=jobs, residual=residual,
            fail_fast=fail_fast, dry_run=dry_run, shard=shard, progress=progress,
        )


class _Guarded(Exception):
    """The output of a first pass goes beyond full scale."""

    def __init__(self, peak: float):
        super().__init__(peak)
        self.peak = peak


class _Cancelled(Exception):
    """The channels cancel each other in their mean."""


def _input_gain(peak: float) -> float:
    """Return the gain that a model gets a recording at: 1, but for levels that it does not know."""
    return 1.0 if peak <= LOUDEST else 2.0 ** -math.ceil(math.log2(peak))


def _loudest(blocks: Iterable[np.ndarray]) -> int:
    """Return the number of the channel with the most energy."""
    return int(np.argmax(sum(np.sum(np.square(block, dtype=np.float64), axis=1)
                             for block in blocks)))


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
