"""One file denoised into another, in memory that does not grow with its length.

A file is read once, unless the first pass shows that it must be read again: for the gain of the
peak guard, for a peak far above full scale, or for channels that cancel each other in their mean.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gan_denoise.audio import AudioError, Reader, peak
from gan_denoise.audio.metadata import lost_metadata
from gan_denoise.audio.writer import Writer
from gan_denoise.dsp.levels import Levels
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.inference.output_format import OutputFormat
from gan_denoise.inference.results import FileResult
from gan_denoise.inference.streaming import Stream, TooLoud, channel_energies, input_gain

BLOCK_SECONDS = 2.0  # of audio, read at once
FULL_SCALE = 1 - 2.0**-15  # largest 16-bit sample: the peak that the peak guard leaves

StreamFactory = Callable[[int, int, int | None], Stream]
Progress = Callable[[float], None]


@dataclass(frozen=True)
class PassSettings:
    """How a pass over a file is made; the first pass has the defaults.

    Attributes:
        input_gain: Factor on what the model gets, a power of 2; the output is divided by it.
        output_gain: Factor of the peak guard on the output.
        channel: Number of the channel to take in place of the mean of all; None: the mean.
    """

    input_gain: float = 1.0
    output_gain: float = 1.0
    channel: int | None = None

    def note(self, peak_db: float | None) -> str:
        """Return what is unusual of an input with this peak in dBFS; empty where nothing is."""
        notes = []
        if self.input_gain != 1.0:
            notes.append(f"peak at {peak_db:+.1f} dBFS: cleaned at full scale, and brought back")
        if self.channel is not None:
            notes.append("its channels cancel each other in their mean: "
                         f"channel {self.channel + 1} was taken")
        return "; ".join(notes)


class _AnotherPass(Exception):
    """The outputs of a pass are dropped, and the file is read again with other settings."""

    def __init__(self, settings: PassSettings):
        super().__init__(settings)
        self.settings = settings


def denoise_file(
    open_stream: StreamFactory,
    options: DenoiseOptions,
    source: Path,
    targets: Sequence[Path],
    progress: Progress | None = None,
) -> FileResult:
    """Denoise one file; `Enhancer.enhance_file` is how it is called.

    Args:
        open_stream: Returns a stream for a sample rate in Hz, a number of channels, and the
            channel that is taken of them or None.
        options: Options of the run.
        source: The recording.
        targets: The file for the output; before it, where one is wanted, the file for what is
            removed.
        progress: Called with the seconds of the recording that were done since its last call.

    Raises:
        AudioError: As `Enhancer.enhance_file`.
    """
    begun = time.perf_counter()
    for path in targets:
        if path.exists() and source.exists() and path.samefile(source):
            raise AudioError(f"{source}: output is the input; give another output folder")
    settings = PassSettings()
    while True:
        try:
            with Reader(source) as reader:
                output = OutputFormat.choose(reader.info, options)
                for path in targets:
                    output.check(path)
                work = _FilePass(reader, output, options, settings)
                stream = open_stream(reader.info.sample_rate, reader.info.channels,
                                     settings.channel)
                writers = work.write(stream, targets, progress)
            break
        except _AnotherPass as another:
            settings, progress = another.settings, None
    return _result(work, writers, source, targets[-1], time.perf_counter() - begun)


def _result(
    work: _FilePass, writers: Sequence[Writer], source: Path, target: Path, elapsed: float
) -> FileResult:
    reader, levels, output = work.reader, work.levels, work.output
    info = reader.info
    notes = [reader.note, work.settings.note(levels.peak_in_db)]
    if output.resampled:
        notes.append(f"resampled from {info.sample_rate} to {output.sample_rate} Hz, which "
                     f"{output.encoding} takes")
    return FileResult(
        source, target, seconds=reader.frames / info.sample_rate, sample_rate=info.sample_rate,
        channels=info.channels, elapsed=elapsed, peak_in_db=levels.peak_in_db,
        peak_out_db=levels.peak_out_db, noise_floor_drop_db=levels.noise_floor_drop_db,
        clipped=writers[-1].clipped,
        guard_gain_db=round(20 * math.log10(work.settings.output_gain), 2),
        lost=(*writers[-1].lost, *lost_metadata(source, target)),
        note="; ".join(filter(None, notes)), cut_off=reader.cut_off,
    )


class _FilePass:
    """One pass over a file from its beginning to its end."""

    def __init__(self, reader: Reader, output: OutputFormat, options: DenoiseOptions,
                 settings: PassSettings):
        self.reader, self.output, self.options, self.settings = reader, output, options, settings
        self.levels = Levels(reader.info.sample_rate)
        self._energies = np.zeros(reader.info.channels)

    def write(
        self, stream: Stream, targets: Sequence[Path], progress: Progress | None
    ) -> list[Writer]:
        """Write the output to the last target, and what is removed to the one before it.

        Raises:
            _AnotherPass: When this pass showed that it needs other settings; nothing is left of it.
        """
        rate = self.reader.info.sample_rate
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(self._writer(path)) for path in targets]
            for noisy, *outputs in self._scaled(self._cleaned(stream)):
                self.levels.add(noisy, outputs[0])
                for writer, samples in zip(writers[::-1], outputs, strict=False):
                    writer.write(samples)
                if progress is not None:
                    progress(noisy.shape[1] / rate)
            if stream.cancelled:
                raise _AnotherPass(replace(self.settings, channel=int(np.argmax(self._energies))))
            if self.options.peak_guard and self.levels.peak_out > 1.0:
                raise _AnotherPass(
                    replace(self.settings, output_gain=FULL_SCALE / self.levels.peak_out))
        return writers

    def _writer(self, path: Path) -> Writer:
        output, info = self.output, self.reader.info
        return Writer(
            path, output.sample_rate, output.channels, output.container, output.encoding,
            info.path, bit_rate=output.bit_rate, input_rate=info.sample_rate,
            others=self.options.format == "keep", preserve_times=self.options.preserve_times,
        )

    def _cleaned(self, stream: Stream) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Give (noisy, removed) at the level that the model gets, `[channels, samples]` each."""
        info, gain = self.reader.info, self.settings.input_gain
        dtype = "float64" if info.subtype in ("PCM_32", "DOUBLE") else "float32"
        blocks = self.reader.blocks(round(BLOCK_SECONDS * info.sample_rate), dtype)
        for block in blocks:
            if gain != 1.0:
                block = block * block.dtype.type(gain)
            if self.options.channels == "mono" and self.settings.channel is None:
                self._energies += channel_energies(block)
            try:
                yield from stream.parts(block)
            except TooLoud as loud:  # how far it must be turned down, the rest of the file tells
                largest = max(map(peak, blocks), default=0.0)
                loudest = input_gain(max(loud.peak, largest))
                raise _AnotherPass(replace(self.settings, input_gain=loudest)) from None
        yield from stream.rest()

    def _scaled(
        self, parts: Iterable[tuple[np.ndarray, np.ndarray]]
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Give (noisy, output, removed) at the levels that are measured and written."""
        settings = self.settings
        scale = settings.output_gain / settings.input_gain
        for noisy, removed in parts:
            output = noisy - removed
            if scale != 1.0:
                # In the type of the output: what is brought back may be beyond float32.
                output, removed = scale * output, scale * removed.astype(output.dtype, copy=False)
            if settings.input_gain != 1.0:
                noisy = noisy / noisy.dtype.type(settings.input_gain)
            yield noisy, output, removed
