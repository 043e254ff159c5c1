"""MP3 files: level, length and place of what a decoder other than FFmpeg gives back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise import audio
from gan_denoise.audio.ffmpeg import MediaError
from gan_denoise.audio.mp3_encoder import HEADROOM, _crc16, nearest_kbits, state_padding
from gan_denoise.audio.writer import Writer

RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


def chirp(rate: int, channels: int, samples: int, amplitude: float = 0.4) -> np.ndarray:
    """Return tones that rise, of another sign in each channel, so that nothing is mixed up."""
    time = np.arange(samples) / rate
    tone = amplitude * np.sin(2 * np.pi * (300 + 200 * time) * time)
    return np.stack([tone, -0.5 * tone][:channels]).astype(np.float32)


def write(path: Path, sound: np.ndarray, rate: int, bit_rate: int, blocks: int = 1,
          **kind: str) -> int:  # fmt: skip
    with Writer(path, rate, len(sound), bit_rate=bit_rate, **kind) as writer:
        for block in np.array_split(sound, blocks, axis=1):
            writer.write(block)
    return writer.clipped


def error_db(found: np.ndarray, sound: np.ndarray) -> float:
    return float(10 * np.log10(np.sum((found - sound) ** 2) / np.sum(sound**2)))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", RATES)
def test_libmpg123_gives_back_what_was_encoded(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.mp3"
    sound = chirp(rate, channels, rate + 123)
    write(path, sound, rate, 64_000 * channels, blocks=7)
    found, found_rate = soundfile.read(path, always_2d=True)
    assert found_rate == rate
    assert found.T.shape == sound.shape
    assert error_db(found.T, sound) < -40  # also in level: 1 % of it would be -40 dB


@pytest.mark.parametrize("kbits", [32, 128, 160, 192, 224, 256, 320])
def test_the_level_is_kept_at_every_bit_rate(tmp_path: Path, kbits: int) -> None:
    path = tmp_path / "a.mp3"
    sound = chirp(44100, 1, 44100)
    write(path, sound, 44100, 1000 * kbits)
    assert error_db(soundfile.read(path, always_2d=True)[0].T, sound) < -40
    assert audio.bit_rate(audio.probe(path)) == pytest.approx(1000 * kbits, rel=0.1)


def test_the_level_is_kept_in_a_video_container(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    sound = chirp(44100, 1, 44100)
    write(path, sound, 44100, 128_000, format="MATROSKA", subtype="MPEG_LAYER_III")
    found, _ = audio.read(path)
    assert np.std(found) == pytest.approx(np.std(sound), rel=0.02)


@pytest.mark.parametrize("samples", [1, 575, 576, 1152, 1153, 5000])
def test_no_sample_is_missing_and_none_is_added(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "a.mp3"
    write(path, chirp(44100, 1, samples), 44100, 128_000)
    least = 1152  # shorter ones are filled up with silence
    assert soundfile.info(path).frames == max(samples, least)
    assert audio.read(path)[0].shape[-1] == max(samples, least)


def test_blocks_do_not_matter(tmp_path: Path) -> None:
    sound = chirp(16000, 2, 20_000)
    files = [tmp_path / "whole.mp3", tmp_path / "blocks.mp3"]
    for path, blocks in zip(files, (1, 50), strict=True):
        write(path, sound, 16000, 48_000, blocks)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_samples_beyond_full_scale_are_kept_up_to_the_headroom(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    loud = chirp(16000, 1, 16000, amplitude=1.7)
    assert write(path, loud, 16000, 96_000) == 0
    assert error_db(audio.read(path)[0], loud) < -40
    louder = chirp(16000, 1, 16000, amplitude=3.0)
    assert write(path, louder, 16000, 96_000) == np.sum(np.abs(louder) > HEADROOM)


def test_a_quiet_recording_is_not_lost_in_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    quiet = chirp(16000, 1, 16000, amplitude=0.01)
    write(path, quiet, 16000, 96_000)
    assert error_db(audio.read(path)[0], quiet) < -35


def test_the_info_header_ends_with_its_checksum(tmp_path: Path) -> None:
    assert _crc16(b"123456789") == 0xBB3D  # the check value of CRC-16/ARC
    path = tmp_path / "a.mp3"
    write(path, chirp(44100, 2, 44100), 44100, 128_000)
    data = path.read_bytes()
    at = data.index(b"Info")
    start = data.rindex(b"\xff\xfb", 0, at)
    end = start + 190  # of MPEG-1 in stereo
    assert _crc16(data[start:end]) == int.from_bytes(data[end : end + 2], "big")
    delay = int.from_bytes(data[at + 141 : at + 144], "big")
    frames = int.from_bytes(data[at + 8 : at + 12], "big")
    assert delay >> 12 == 576
    assert 1152 * frames - (delay >> 12) - (delay & 0xFFF) == 44100


def test_a_file_without_an_info_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(b"\xff\xfb" + bytes(1000))
    with pytest.raises(MediaError, match="Info header"):
        state_padding(path, 0)


def test_the_nearest_bit_rate() -> None:
    assert nearest_kbits(44100, 131_000) == 128
    assert nearest_kbits(44100, 1_000) == 32
    assert nearest_kbits(16000, 1_000_000) == 160
