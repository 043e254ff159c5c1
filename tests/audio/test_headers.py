"""Headers compared with the bytes of the file: lengths that are right, wrong, unknown, cut off."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise.audio.headers import HeaderCheck, RawSamples, check_header, is_unknown_size

RATE, SAMPLES = 16000, 4000


def recording(path: Path, subtype: str = "PCM_16", format: str = "WAV", samples: int = SAMPLES,
              channels: int = 1, seed: int = 0) -> bytes:  # fmt: skip
    audio = np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels))
    soundfile.write(path, audio, RATE, subtype, format=format)
    return path.read_bytes()


def with_data_size(raw: bytes, size: int) -> bytes:
    at = raw.index(b"data") + 4
    return raw[:at] + struct.pack("<I", size) + raw[at + 4 :]


@pytest.mark.parametrize(
    ("format", "subtype"),
    [("WAV", "PCM_16"), ("WAV", "IMA_ADPCM"), ("WAVEX", "FLOAT"), ("RF64", "PCM_24"),
     ("W64", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("NIST", "PCM_16"), ("AIFF", "PCM_16"),
     ("CAF", "PCM_16"), ("AU", "PCM_16")],
)  # fmt: skip
def test_a_header_that_is_right(tmp_path: Path, format: str, subtype: str) -> None:
    recording(tmp_path / "a", subtype, format)
    check = check_header(tmp_path / "a")
    assert check.reliable
    assert (check.note, check.cut_off) == ("", "")
    assert (check.raw_samples, check.chained_streams) == (None, ())


def test_sizes_that_stand_for_unknown() -> None:
    assert all(is_unknown_size(size) for size in (0, 0xFFFFFFFF, 0x80000000, 0x7FFFF000))
    assert not any(is_unknown_size(size) for size in (1, 44, 8000, 2**30, 3 * 2**30))


@pytest.mark.parametrize("order", ["LITTLE", "BIG"])
def test_a_wav_of_unknown_length_has_its_samples_up_to_the_end(tmp_path: Path, order: str) -> None:
    audio = np.arange(2 * SAMPLES, dtype=np.int16).reshape(SAMPLES, 2)
    soundfile.write(tmp_path / "a", audio, RATE, "PCM_16", order, "WAV")
    raw = with_data_size((tmp_path / "a").read_bytes(), 0)
    (tmp_path / "a").write_bytes(raw)
    check = check_header(tmp_path / "a")
    assert check.frames == SAMPLES
    assert not check.reliable
    assert "never finished" in check.note
    begin = len(raw) - audio.nbytes
    assert check.raw_samples == RawSamples(begin, len(raw), RATE, 2, "WAV", "PCM_16", order)


def test_a_wav_whose_header_promises_less(tmp_path: Path) -> None:
    raw = recording(tmp_path / "a")
    (tmp_path / "a").write_bytes(with_data_size(raw, 2000))
    check = check_header(tmp_path / "a")
    assert check.frames == SAMPLES
    assert check.note == "its header promises 0.06 s, 0.25 s are there; read to its end"
    assert check.cut_off == ""


def test_an_encoding_of_blocks_has_no_single_samples(tmp_path: Path) -> None:
    raw = recording(tmp_path / "a", "IMA_ADPCM", samples=20000)
    (tmp_path / "a").write_bytes(with_data_size(raw, 1024))
    check = check_header(tmp_path / "a")
    assert (check.reliable, check.raw_samples, check.frames) == (False, None, None)


@pytest.mark.parametrize(
    ("format", "told"),
    [("WAV", "0.12 s of 0.25 s are there"), ("NIST", "3976 of 8000 bytes are there")],
)
def test_half_a_file(tmp_path: Path, format: str, told: str) -> None:
    raw = recording(tmp_path / "a", format=format)
    size = len(raw) - 8000  # of the header
    (tmp_path / "a").write_bytes(raw[: size + (3976 if format == "NIST" else 4000)])
    check = check_header(tmp_path / "a")
    assert check.cut_off == told
    assert check.reliable


@pytest.mark.parametrize(("total", "reliable"), [(SAMPLES, True), (0, False), (SAMPLES // 2, False),
                                                 (2 * SAMPLES, False)])  # fmt: skip
def test_flac_is_counted_by_its_last_frame(tmp_path: Path, total: int, reliable: bool) -> None:
    raw = bytearray(recording(tmp_path / "a", format="FLAC"))
    packed = int.from_bytes(raw[18:26], "big")
    raw[18:26] = (packed >> 36 << 36 | total).to_bytes(8, "big")
    for tag in (b"", b"ID3\4\0\0\0\0\0\12" + bytes(10)):
        (tmp_path / "a").write_bytes(tag + raw)
        check = check_header(tmp_path / "a")
        assert (check.frames, check.reliable) == (SAMPLES, reliable)
        assert bool(check.cut_off) == (total > SAMPLES)
        assert bool(check.note) == (0 < total < SAMPLES)


def test_ogg_pages(tmp_path: Path) -> None:
    one = recording(tmp_path / "a", "VORBIS", "OGG")
    assert (check_header(tmp_path / "a").bit_rate or 0) > 10_000
    two = recording(tmp_path / "b", "VORBIS", "OGG", seed=1)
    (tmp_path / "both").write_bytes(one + two)
    check = check_header(tmp_path / "both")
    assert check.reliable
    assert check.chained_streams == ((0, len(one)), (len(one), len(one) + len(two)))
    (tmp_path / "cut").write_bytes(one[:-100])
    assert check_header(tmp_path / "cut").cut_off == "it ends within a page"


def test_pages_of_which_none_begins_a_stream(tmp_path: Path) -> None:
    def page(serial: int) -> bytes:
        return b"OggS" + bytes(10) + struct.pack("<I", serial) + bytes(9)

    (tmp_path / "a").write_bytes(page(1) + page(2))
    assert check_header(tmp_path / "a") == HeaderCheck(reliable=False)


def test_mp3_that_counts_its_bytes(tmp_path: Path) -> None:
    raw = recording(tmp_path / "a", "MPEG_LAYER_III", "MP3", samples=40000)
    assert check_header(tmp_path / "a") == HeaderCheck(states_length=True)
    (tmp_path / "a").write_bytes(raw[: len(raw) // 2])
    check = check_header(tmp_path / "a")
    assert check.states_length
    assert check.cut_off.startswith(f"{len(raw) // 2} of ")


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"RIFF\0\0\0\0WAVE", b"RIFF\0\0\0\0WAVEfmt \2\0\0\0xx", b"fLaC",
             b"OggS", b"NIST_1A", b"ID3", b"anything" * 99]
)  # fmt: skip
def test_headers_that_end_too_early_say_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    assert check_header(tmp_path / "a") == HeaderCheck()
