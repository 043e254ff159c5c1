"""WAV on pipes: the samples are those of libsndfile, bit for bit, however the pipe delivers."""

from __future__ import annotations

import io
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import AudioError
from gan_denoise.audio.containers import BITS
from gan_denoise.audio.wav_pipe import PipeReader, PipeWriter

RATE = 16000  # Hz
SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
cases = {"channels": st.integers(1, 6), "samples": st.integers(1, 300),
         "block": st.integers(1, 400), "seed": st.integers(0, 999)}  # fmt: skip


class Pipe(io.RawIOBase):
    """A pipe's end: reads what it likes of what was asked for, cannot seek."""

    def __init__(self, data: bytes, seed: int = 0, idle: bool = False) -> None:
        self.data, self.rng, self.idle = data, np.random.default_rng(seed), idle

    def read(self, size: int = -1) -> bytes | None:
        assert size > 0
        if self.idle and self.rng.random() < 0.1:
            return None
        count = min(size, int(self.rng.choice([1, 2, 5, 11, 100, 1000])))
        piece, self.data = self.data[:count], self.data[count:]
        return piece

    def seek(self, *arguments: object) -> int:
        raise io.UnsupportedOperation("seek")

    tell = seek


class RawSink(io.RawIOBase):
    """A raw file, which writes a part of what it is given, or nothing for now."""

    def __init__(self) -> None:
        self.data, self.calls = b"", 0

    def write(self, data: memoryview) -> int | None:  # type: ignore[override]
        self.calls += 1
        if self.calls % 50 == 0:
            return None
        self.data += bytes(data[:100])
        return min(len(data), 100)


def noise(channels: int, samples: int, seed: int = 0, level: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-level, level, (channels, samples)).astype(np.float32)


def nearest(audio: np.ndarray, subtype: str) -> np.ndarray:
    """Return the values that an encoding holds for these samples."""
    if subtype not in BITS:
        return audio.astype(np.float32 if subtype == "FLOAT" else np.float64)
    steps = 2.0 ** (BITS[subtype] - 1)
    exact = audio.astype(np.float64) * steps
    if audio.dtype == np.float32 and BITS[subtype] == 24:
        exact = exact.astype(np.float32)  # has no half steps near full scale
    return np.clip(np.rint(exact), -steps, steps - 1) / steps


def stored(audio: np.ndarray, subtype: str, format: str = "WAV") -> bytes:
    """Return the file that libsndfile writes of samples that the encoding holds."""
    file = io.BytesIO()
    soundfile.write(file, nearest(audio, subtype).T, RATE, subtype, format=format)
    return file.getvalue()


def loaded(data: bytes, dtype: str = "float32") -> np.ndarray:
    audio, rate = soundfile.read(io.BytesIO(data), dtype=dtype, always_2d=True)
    assert rate == RATE
    return audio.T


def collect(reader: PipeReader, block: int = 100) -> np.ndarray:
    blocks = list(reader.blocks(block))
    assert all(part.dtype == np.float32 and part.flags.c_contiguous for part in blocks)
    assert all(part.shape[1] == block for part in blocks[:-1])
    return np.concatenate([np.zeros((reader.channels, 0), np.float32), *blocks], axis=1)


def written(
    audio: np.ndarray, subtype: str, frames: int | None = None, block: int = 100
) -> tuple[bytes, int]:
    file = io.BytesIO()
    with PipeWriter(file, RATE, len(audio), subtype, frames) as writer:
        for start in range(0, audio.shape[1], block):
            writer.write(audio[:, start : start + block])
    return file.getvalue(), writer.clipped


def with_size(data: bytes, size: int, riff: int | None = None) -> bytes:
    """Return a WAV whose header states another size of the audio."""
    start = data.index(b"data") + 4
    data = data[:start] + struct.pack("<I", size) + data[start + 4 :]
    return data[:4] + struct.pack("<I", size if riff is None else riff) + data[8:]


def plain(frames: int = 50, tag: int = 1, bits: int = 16, channels: int = 1,
          align: int | None = None, before: bytes = b"", audio: bytes = b"") -> bytes:  # fmt: skip
    """Return a WAV made by hand."""
    align = bits // 8 * channels if align is None else align
    audio = audio or bytes(frames * align)
    form = struct.pack("<HHIIHH", tag, channels, RATE, RATE * align, align, bits)
    body = b"WAVE" + before + b"fmt \x10\0\0\0" + form + b"data"
    return b"RIFF" + struct.pack("<I", 0) + body + struct.pack("<I", len(audio)) + audio


# ---- Reading ----


@settings(max_examples=60, deadline=None)
@given(**cases, subtype=st.sampled_from(SUBTYPES), format=st.sampled_from(["WAV", "WAVEX", "RF64"]))
def test_what_libsndfile_reads(
    channels: int, samples: int, block: int, seed: int, subtype: str, format: str
) -> None:
    data = stored(noise(channels, samples, seed), subtype, format)
    reader = PipeReader(Pipe(data, seed))
    assert (reader.sample_rate, reader.channels, reader.frames) == (RATE, channels, samples)
    assert (reader.format, reader.subtype) == ("WAV", subtype)
    np.testing.assert_array_equal(collect(reader, block), loaded(data))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16"])
def test_every_value(subtype: str) -> None:
    bits = 8 if subtype == "PCM_U8" else 16
    values = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1)) / 2.0 ** (bits - 1)
    data = stored(values[None], subtype)
    audio = collect(PipeReader(io.BytesIO(data)), 999)
    np.testing.assert_array_equal(audio[0], values)
    assert written(audio, subtype, len(values))[0][44:] == data[44:]


def test_a_pipe_that_does_not_block() -> None:
    data = stored(noise(2, 500), "PCM_16")
    np.testing.assert_array_equal(collect(PipeReader(Pipe(data, idle=True))), loaded(data))


@pytest.mark.parametrize(
    "size",
    [0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0x7FFFF000 // 6 * 6],
)
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_sizes_that_say_nothing(size: int, subtype: str) -> None:
    data = stored(noise(2, 300), subtype)
    reader = PipeReader(Pipe(with_size(data, size)))
    assert reader.frames is None
    np.testing.assert_array_equal(collect(reader), loaded(data))
    reader = PipeReader(Pipe(with_size(data, size)[:-1]))  # the last frame is not whole
    np.testing.assert_array_equal(collect(reader), loaded(data)[:, :-1])


def test_rf64_of_unknown_size() -> None:
    data = stored(noise(2, 300), "PCM_16", "RF64")
    start = data.index(b"ds64") + 8
    assert PipeReader(io.BytesIO(data)).frames == 300
    for size in (0, 2**64 - 1):
        changed = data[: start + 8] + struct.pack("<Q", size) + data[start + 16 :]
        reader = PipeReader(Pipe(changed))
        assert reader.frames is None
        np.testing.assert_array_equal(collect(reader), loaded(data))


def test_chunks_around_the_audio() -> None:
    pcm = (noise(1, 51) * 127 + 128).astype(np.uint8)
    before = b"LIST\5\0\0\0odd..\0" + b"JUNK\xc8\0\0\0" + bytes(200)
    data = plain(bits=8, before=before, audio=pcm.tobytes()) + b"\0LIST\4\0\0\0tags" * 20
    pipe = Pipe(data)
    reader = PipeReader(pipe)
    assert reader.frames == 51
    np.testing.assert_array_equal(collect(reader)[0], (pcm[0].astype(np.float32) - 128) / 128)
    assert pipe.data == b""  # or the program before the pipe would die of its tags


def test_no_samples() -> None:
    reader = PipeReader(io.BytesIO(stored(np.zeros((2, 0)), "PCM_16")))
    assert collect(reader).shape == (2, 0)


def test_cut_off() -> None:
    data = stored(noise(2, 300), "PCM_24")
    reader = PipeReader(Pipe(data[:-7]))
    blocks = reader.blocks(100)
    came = [next(blocks).shape[1] for _ in range(3)]
    assert came == [100, 100, 98]
    assert next(blocks, None) is None
    assert reader.cut_off == "0.02 s of 0.02 s came"
    reader = PipeReader(Pipe(with_size(stored(noise(1, 300), "PCM_16"), 3 * 2**30)))
    assert collect(reader).shape == (1, 300)
    assert reader.cut_off.endswith(f"of {3 * 2**30 / 2 / RATE:.2f} s came")


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "nothing came"), (b"RI", "no known audio"), (b"raw samples" * 9, "raw samples?"),
        (b"fLaC" + bytes(99), "FLAC came"), (b"ID3\4" + bytes(99), "MP3"),
        (b"\xff\xfb\x90" + bytes(99), "MP3"), (b"OggS" + bytes(99), "Ogg"),
        (b"\0\0\0\x20ftypM4A " + bytes(99), "MP4"), (b"RIFX" + bytes(99), "big-endian"),
        (b"RIFF\0\0\0\0AVI " + bytes(99), "AVI"), (plain()[:30], "header without audio"),
        (plain(before=b"LIST\xff\xff\xff\xff"), "header without audio"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0....", "without a format"),
        (plain(tag=6, bits=8), "8 bits A-law"), (plain(tag=7, bits=8), "mu-law"),
        (plain(tag=3, bits=16), "format 0x3"), (plain(bits=64), "64 bits"),
        (plain(tag=0xFFFE), "0xfffe"), (plain(bits=24, align=4), "24 bits in 4 bytes"),
        (plain(channels=0, audio=b".."), "0 channels"),
    ],
)  # fmt: skip
def test_refused(data: bytes, match: str) -> None:
    with pytest.raises(AudioError, match=match) as caught:
        PipeReader(Pipe(data), "the pipe")
    message = str(caught.value)
    assert message.startswith("the pipe: ")
    assert "give a file" in message
    assert "\n" not in message


@pytest.mark.parametrize(("subtype", "bad"), [("FLOAT", np.nan), ("DOUBLE", np.inf),
                                              ("DOUBLE", 1e300)])  # fmt: skip
def test_broken_samples(subtype: str, bad: float) -> None:
    audio = noise(2, 300).astype(np.float64)
    audio[1, 150] = bad
    blocks = PipeReader(Pipe(stored(audio, subtype))).blocks(100)
    next(blocks)
    with pytest.raises(AudioError, match="1 samples are NaN or infinite"):
        next(blocks)


# ---- Writing ----


@settings(max_examples=60, deadline=None)
@given(
    **cases,
    subtype=st.sampled_from(SUBTYPES),
    known=st.booleans(),
    double=st.booleans(),
    level=st.sampled_from([1e-8, 1.0, 1.3]),
)
def test_the_nearest_values_are_written(
    channels: int, samples: int, block: int, seed: int, subtype: str, known: bool, double: bool,
    level: float,
) -> None:  # fmt: skip
    audio = noise(channels, samples, seed, level)
    if double:
        audio = audio * (1 + 1e-12)
    audio.flat[:3] = [1.0, -1.0, 1.0 - 2**-24][: audio.size]
    data, clipped = written(audio, subtype, samples if known else None, block)
    assert clipped == (0 if subtype in ("FLOAT", "DOUBLE") else int((np.abs(audio) > 1).sum()))
    np.testing.assert_array_equal(loaded(data, "float64"), nearest(audio, subtype))
    reader = PipeReader(Pipe(data, seed))
    assert (reader.frames, reader.subtype) == (samples if known else None, subtype)
    np.testing.assert_array_equal(collect(reader, block), loaded(data))


@pytest.mark.parametrize("subtype", SUBTYPES)
def test_a_captured_stream_is_a_file(tmp_path: Path, subtype: str) -> None:
    audio = noise(3, 301)
    for frames in (301, None):
        data, _ = written(audio, subtype, frames)
        path = tmp_path / "captured.wav"
        path.write_bytes(data)
        assert soundfile.info(path).subtype == subtype
        np.testing.assert_array_equal(
            soundfile.read(path, dtype="float32")[0].T, loaded(stored(audio, subtype))
        )


def test_the_header() -> None:
    data, _ = written(noise(1, 51), "PCM_U8", 51)
    assert len(data) % 2 == 0  # padded
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    assert struct.unpack("<I", data[40:44])[0] == 51
    data, _ = written(noise(1, 51), "PCM_U8")
    assert len(data) == 44 + 51  # a pad byte would be read as a sample
    assert data[4:8] == data[40:44] == b"\xff" * 4
    file = io.BytesIO()
    PipeWriter(file, RATE, 2, "PCM_16", 2**30)  # more than 32 bits can count
    assert PipeReader(io.BytesIO(file.getvalue())).frames is None


def test_the_header_goes_first_and_no_block_waits() -> None:
    file = io.BytesIO()
    buffered = io.BufferedWriter(file, 2**20)  # type: ignore[arg-type]
    writer = PipeWriter(buffered, RATE, 1, "pcm_16")
    assert len(file.getvalue()) == 44
    writer.write(np.zeros(10))
    assert len(file.getvalue()) == 64
    writer.close()
    assert not file.closed


def test_a_raw_file_writes_in_parts() -> None:
    sink, audio = RawSink(), noise(2, 5000)
    with PipeWriter(sink, RATE, 2, "PCM_24", 5000) as writer:  # type: ignore[arg-type]
        writer.write(audio)
    assert sink.data == written(audio, "PCM_24", 5000)[0]


def test_misuse() -> None:
    for arguments, match in (((RATE, 1, "VORBIS"), "VORBIS; choose one of PCM_U8"),
                             ((RATE, 0, "PCM_16"), "0 channels"), ((0, 1, "PCM_16"), "0 Hz")):
        with pytest.raises(AudioError, match=match):
            PipeWriter(io.BytesIO(), *arguments)
    writer = PipeWriter(io.BytesIO(), RATE, 2, "PCM_16", 10)
    for audio, match in ((np.zeros((3, 5)), "expected"), (np.zeros((2, 5), np.int16), "float"),
                         (np.zeros((2, 11)), "11")):
        with pytest.raises(ValueError, match=match):
            writer.write(audio)
    with pytest.raises(AudioError, match="10 samples"):
        writer.write(np.full((2, 5), np.nan))
    writer = PipeWriter(io.BytesIO(), RATE, 2, "PCM_16", 10)
    writer.write(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="5 samples for a header of 10"):
        writer.close()
    with pytest.raises(ValueError, match="blocks of 0"):
        next(PipeReader(io.BytesIO(plain())).blocks(0))


# ---- Pipes of the system ----


@pytest.mark.parametrize("frames", [50_000, None])
def test_through_a_pipe(frames: int | None) -> None:
    audio = noise(2, 50_000)
    source, sink = os.pipe()

    def send() -> None:
        with open(sink, "wb") as file, PipeWriter(file, RATE, 2, "FLOAT", frames) as writer:
            for start in range(0, 50_000, 7000):
                writer.write(audio[:, start : start + 7000])

    thread = threading.Thread(target=send)
    thread.start()
    with open(source, "rb") as file:
        np.testing.assert_array_equal(collect(PipeReader(file), 9999), audio)
    thread.join()


def test_a_broken_pipe_comes_through() -> None:
    source, sink = os.pipe()
    os.close(source)
    with (
        open(sink, "wb", buffering=0) as file,
        pytest.raises(BrokenPipeError),
        PipeWriter(file, RATE, 1, "PCM_16") as writer,
    ):
        writer.write(np.zeros(10))
