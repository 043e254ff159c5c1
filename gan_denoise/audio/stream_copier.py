"""Streams of a recording that are copied as they are into the file made of it: video, subtitles,
further audio, cover pictures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from gan_denoise.audio.ffmpeg import is_picture, kept_tags, load_av, open_input

if TYPE_CHECKING:
    import av


class StreamCopier:
    """A source file, and the streams of it that another container takes over.

    Attributes:
        streams: PyAV's streams of the source.
        main: PyAV's main audio stream of the source, which is not copied; None where it has none.
        container: PyAV's container of the source.
        copied: Names of the streams that are copied; pictures are not among them.
        lost: Names of the streams that the target does not take.
    """

    def __init__(self, source: Path, target: av.container.OutputContainer):
        """Open the source.

        Args:
            source: The file to copy from.
            target: PyAV's container, open for writing.

        Raises:
            MediaError: When FFmpeg does not know the source.
            OSError: When it cannot be opened.
        """
        self._av = load_av()
        self.container, self._target = open_input(source, {}), target
        self.streams = self.container.streams
        self.main = self.streams.best("audio")
        self._copies: dict[int, av.stream.Stream] = {}  # by the index in the source
        self._packets: Iterator[av.Packet] = iter(())
        self._next: av.Packet | None = None  # a packet that was read and is due later
        self.copied: list[str] = []
        self.lost: list[str] = []

    @property
    def is_empty(self) -> bool:
        """Whether no stream is copied, pictures included."""
        return not self._copies

    def add(self, stream: av.stream.Stream, pictures_only: bool) -> None:
        """Copy a stream, if the target takes it.

        Args:
            stream: One of `streams`.
            pictures_only: Copy it only if it is a cover picture.
        """
        name = f"stream {stream.index} ({stream.type})"
        picture = is_picture(stream)  # reported as a tag where it is lost
        wanted = not pictures_only and stream.type in ("video", "subtitle", "audio")
        if not wanted and not picture:
            self.lost.append(name)
            return
        try:
            copy = self._target.add_stream_from_template(stream, opaque=True)
        except (self._av.error.FFmpegError, ValueError, TypeError):
            self.lost += [] if picture else [name]
            return
        self.copied += [] if picture else [name]
        copy.metadata.update(kept_tags(stream.metadata))
        with contextlib.suppress(Exception):  # not all kinds have one
            copy.disposition = stream.disposition
        self._copies[stream.index] = copy

    def start(self, sample_rate: int) -> int | None:
        """Begin to read the streams that were added.

        Args:
            sample_rate: Sample rate of the main audio in Hz.

        Returns:
            The time at which the main audio starts beside a video, in samples; None where there is
            no video or it starts at once.
        """
        chosen = [stream for stream in self.streams if stream.index in self._copies]
        if not chosen:
            return None
        self._packets = self.container.demux(chosen)
        video = any(stream.type == "video" and not is_picture(stream) for stream in chosen)
        if not (video and self.main.start_time):
            return None
        return max(round(self.main.start_time * self.main.time_base * sample_rate), 0)

    def copy_until(self, seconds: Fraction | None) -> None:
        """Copy all packets up to a time.

        Args:
            seconds: Time of the last packet to copy; None: copy to the end.
        """
        while self._copies:
            packet = self._next or next(self._packets, None)
            self._next = None
            if packet is None:
                return
            if not packet.size:
                continue
            at = packet.dts if packet.dts is not None else packet.pts or 0
            if seconds is not None and at * packet.time_base > seconds:
                self._next = packet
                return
            packet.stream = self._copies[packet.stream.index]
            self._target.mux(packet)

    def close(self) -> None:
        """Close the source."""
        self.container.close()
