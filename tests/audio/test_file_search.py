"""Audio files: any block comes back as stored, what cannot be read is said in one line."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_denoise import audio
from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import write

RATE = 16000  # Hz


def tone(seconds: float = 0.25, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


# ---- Blocks, depths, channels ----


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    channels=st.integers(1, 5),
    samples=st.integers(1, 400),
    start=st.integers(0, 400),
    frames=st.none() | st.integers(0, 400),
    seed=st.integers(0, 99),
)
def test_a_block_is_a_slice_of_the_whole(
    tmp_path: Path, channels: int, samples: int, start: int, frames: int | None, seed: int
) -> None:
    whole = np.random.default_rng(seed).uniform(-1, 1, (channels, samples)).astype(np.float32)
    path = tmp_path / "block.wav"
    write(path, whole, RATE, subtype="FLOAT")
    if start > samples:
        with pytest.raises(AudioError, match="outside"):
            audio.read(path, start, frames)
        return
    stop = None if frames is None else start + frames
    np.testing.assert_array_equal(audio.read(path, start, frames)[0], whole[:, start:stop])


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_24", 2**-22), ("FLOAT", 0.0), ("PCM_32", 2**-22)]
)
def test_depths(tmp_path: Path, subtype: str, step: float) -> None:
    write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    np.testing.assert_allclose(audio.read_mono(tmp_path / "a.wav", RATE), tone(), atol=step)


def test_five_channels_become_their_mean(tmp_path: Path) -> None:
    five = np.stack([k * 0.1 * tone() for k in range(5)])
    write(tmp_path / "five.wav", five, RATE, subtype="FLOAT")
    assert audio.read(tmp_path / "five.wav")[0].shape == (5, 4000)
    np.testing.assert_allclose(
        audio.read_mono(tmp_path / "five.wav", RATE), 0.2 * tone(), atol=1e-6
    )


# ---- Bad input ----


def test_bad_files(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is no audio\n" * 100)
    nothing = tmp_path / "nothing.wav"
    nothing.touch()
    for path, match in (
        (text, "not readable as audio"),
        (nothing, "empty"),
        (tmp_path / "absent.wav", "no such file"),
        (tmp_path, "is a folder"),
    ):
        for call in (audio.probe, audio.read):
            with pytest.raises(AudioError, match=match) as caught:
                call(path)
            assert "\n" not in str(caught.value)
            assert str(path) in str(caught.value)


def test_zero_length(tmp_path: Path) -> None:
    path = tmp_path / "zero.wav"
    soundfile.write(path, np.zeros(0, np.float32), RATE)
    assert audio.probe(path).frames == 0
    with pytest.raises(AudioError, match="length zero"):
        audio.read(path)


def test_nan_and_infinity_are_counted(tmp_path: Path) -> None:
    broken = tone()
    broken[[3, 5, 7]] = np.nan, np.inf, -np.inf
    path = tmp_path / "nan.wav"
    soundfile.write(path, broken, RATE, subtype="FLOAT")
    with pytest.raises(AudioError, match="3 of 4000 samples are NaN or infinite"):
        audio.read(path)
    assert audio.read(path, start=8)[0].shape == (1, 3992)


def test_truncated_flac(tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 30000), RATE)
    path.write_bytes(path.read_bytes()[:30000])
    there = audio.read(path)[0].shape[1]
    assert 0 < there < 30000
    assert "of 1.88 s are there" in audio.probe(path).cut_off


# ---- Finding ----


def test_find_audio(tmp_path: Path) -> None:
    for name in ("b.WAV", "a.Flac", "sub/дом 1.mp3", ".hidden.wav", "~x.wav", "c.tmp.wav", "n.txt",
                 ".git/x.wav", "__MACOSX/x.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [p.relative_to(tmp_path).as_posix() for p in audio.find_audio(tmp_path)]
    assert names == ["a.Flac", "b.WAV", "sub/дом 1.mp3"]
    assert len(audio.find_audio(str(tmp_path), recursive=False)) == 2
    assert audio.find_audio(tmp_path / "n.txt") == [tmp_path / "n.txt"]


def test_find_audio_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"no audio found under .* \(looked for \.wav .*\.flac"):
        audio.find_audio(tmp_path)
    with pytest.raises(AudioError, match="no such file or folder"):
        audio.find_audio(tmp_path / "absent")


def test_symbolic_links(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "in").mkdir(parents=True)
    outside.mkdir()
    (root / "in" / "a.wav").touch()
    (outside / "b.wav").touch()
    (root / "loop").symlink_to(root)
    (root / "again").symlink_to(root / "in")
    (root / "more").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (outside / "self").symlink_to(outside)
    assert audio.find_audio(root) == [root / "in" / "a.wav", root / "more" / "b.wav"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_unreadable_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        with pytest.raises(AudioError, match="not readable"):
            audio.find_audio(tmp_path)
    finally:
        tmp_path.chmod(0o700)


# ---- Resampling and levels ----


@settings(max_examples=30, deadline=None)
@given(
    samples=st.integers(0, 3000),
    channels=st.integers(1, 3),
    rates=st.sampled_from([(44100, 16000), (48000, 16000), (8000, 16000), (22050, 44100)]),
)
def test_resampled_length_is_exact(samples: int, channels: int, rates: tuple[int, int]) -> None:
    rate_in, rate_out = rates
    signal = np.ones((channels, samples), np.float32)
    there = audio.resample(signal, rate_in, rate_out)
    assert there.shape == (channels, round(samples * rate_out / rate_in))
    assert there.dtype == np.float32
    assert audio.resample(there, rate_out, rate_in, length=samples).shape == signal.shape


def test_there_and_back_keeps_a_tone_in_place() -> None:
    original = tone(1.0, 1000.0, 44100)[:-1]
    there = audio.resample(original, 44100, RATE)
    back = audio.resample(there, RATE, 44100, length=len(original))
    np.testing.assert_allclose(back[2000:-2000], original[2000:-2000], atol=1e-3)
    expected = tone(1.0, 1000.0, RATE)
    np.testing.assert_allclose(there[1000:-1000], expected[1000 : len(there) - 1000], atol=1e-3)


def test_same_rate_is_untouched() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 100)).astype(np.float32)
    np.testing.assert_array_equal(audio.resample(signal, RATE, RATE), signal)


def test_reading_at_another_rate(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tone(1.0, 440.0, 48000), 48000, subtype="FLOAT")
    back, rate = audio.read(tmp_path / "a.wav", sample_rate=RATE)
    assert (rate, back.shape) == (RATE, (1, RATE))
    np.testing.assert_allclose(back[0, 1000:-1000], tone(1.0)[1000:-1000], atol=1e-3)


def test_peak() -> None:
    assert audio.peak_dbfs(np.array([[0.1, -0.5]])) == pytest.approx(-6.02, abs=0.01)
    assert audio.peak_dbfs(np.zeros(10)) == -np.inf
    assert audio.peak_dbfs(np.zeros(0)) == -np.inf


@pytest.mark.parametrize(("signal", "peak"), [
    ([0.1, -0.5], 0.5), ([0.25, 0.5], 0.5), ([-0.5, -0.25], 0.5), ([0.0], 0.0), ([], 0.0)
])  # fmt: skip
def test_peak_is_the_largest_magnitude(signal: list[float], peak: float) -> None:
    assert audio.peak(np.array(signal, np.float32)) == peak
