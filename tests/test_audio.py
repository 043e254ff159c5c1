"""Audio files: what is written comes back, what cannot be read or held is said in one line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gan_denoise import audio
from gan_denoise.audio import AudioError

RATE = 16000  # Hz


def tone(seconds: float = 0.25, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


# ---- Integer round trips and clipping ----


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au", ".caf", ".w64", ".rf64"])
def test_every_16_bit_value_survives(tmp_path: Path, suffix: str) -> None:
    values = np.arange(-32768, 32768)
    path = tmp_path / f"all{suffix}"
    assert audio.write(path, (values / 32768).astype(np.float32), RATE, subtype="PCM_16") == 0
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], values)
    back, rate = audio.read(path)
    assert rate == RATE
    np.testing.assert_array_equal(back[0] * 32768, values)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_24_bit_values_survive(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(-(2**23), 2**23, 20000)
    values[:2] = -(2**23), 2**23 - 1
    path = tmp_path / f"deep{suffix}"
    audio.write(path, (values / 2**23).astype(np.float32), RATE, subtype="PCM_24")
    assert audio.probe(path).subtype == "PCM_24"
    np.testing.assert_array_equal(audio.read(path)[0][0].astype(np.float64) * 2**23, values)


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [(".wav", "PCM_16"), (".wav", "PCM_U8"), (".wav", "PCM_24"), (".wav", "PCM_32"),
     (".wav", "ULAW"), (".wav", "ALAW"), (".flac", "PCM_16"), (".aiff", "PCM_S8")],
)  # fmt: skip
def test_integers_clip_and_never_wrap(tmp_path: Path, suffix: str, subtype: str) -> None:
    loud = np.array([1.05, -1.05, 3.0, 1.0, -1.0, 0.5, -0.5, 0.0], np.float32)
    path = tmp_path / f"loud{suffix}"
    assert audio.write(path, loud, RATE, subtype=subtype) == 3
    back = audio.read(path)[0][0][: len(loud)]
    np.testing.assert_allclose(back, np.clip(loud, -1, 1), atol=0.035)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_left_alone(tmp_path: Path, subtype: str) -> None:
    loud = np.array([[2.5, -7.0, 0.1]], np.float32)
    assert audio.write(tmp_path / "f.wav", loud, RATE, subtype=subtype) == 0
    np.testing.assert_array_equal(audio.read(tmp_path / "f.wav")[0], loud)


def test_quiet_files_are_not_normalised(tmp_path: Path) -> None:
    audio.write(tmp_path / "q.wav", 0.01 * tone(), RATE)
    assert audio.peak_dbfs(audio.read(tmp_path / "q.wav")[0]) == pytest.approx(-46.0, abs=0.1)


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
    audio.write(path, whole, RATE, subtype="FLOAT")
    if start > samples:
        with pytest.raises(AudioError, match="outside"):
            audio.read(path, start, frames)
        return
    stop = None if frames is None else start + frames
    np.testing.assert_array_equal(audio.read(path, start, frames)[0], whole[:, start:stop])


# ---- Containers ----


@pytest.mark.parametrize("suffix", audio.AUDIO_SUFFIXES)
def test_each_suffix_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    stereo = np.stack([tone(), -tone()])
    path = tmp_path / f"Gespräch 会議{suffix.upper()}"
    audio.write(path, stereo, RATE)
    info = audio.probe(path)
    assert (info.sample_rate, info.channels, info.frames) == (RATE, 2, stereo.shape[1])
    assert info.seconds == 0.25
    back = audio.read(path)[0]
    tolerance = 0.05 if info.subtype in ("VORBIS", "OPUS", "MPEG_LAYER_III") else 1e-4
    assert np.sqrt(np.mean((back - stereo) ** 2)) < tolerance


@pytest.mark.parametrize(
    ("name", "rate", "channels", "match"),
    [
        ("a.opus", 44100, 1, "OPUS cannot hold 44100 Hz; .*48000"),
        ("a.mp3", 96000, 1, "MP3 cannot hold 96000 Hz"),
        ("a.mp3", 44100, 5, "5 channels; write .wav"),
        ("a.flac", 48000, 9, "9 channels"),
        ("a.ogg", 300000, 1, "VORBIS cannot hold 300000 Hz"),  # crashes libvorbis
        ("a.wav", RATE, 5000, "transposed"),
        ("a.txt", RATE, 1, "no audio suffix"),
    ],
)
def test_what_a_container_cannot_hold(
    tmp_path: Path, name: str, rate: int, channels: int, match: str
) -> None:
    with pytest.raises(AudioError, match=match):
        audio.write(tmp_path / name, np.zeros((channels, 100), np.float32), rate)
    assert list(tmp_path.iterdir()) == []


def test_unfit_encoding(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="FLAC cannot hold FLOAT"):
        audio.write(tmp_path / "a.flac", tone(), RATE, subtype="FLOAT")


def test_write_like_keeps_container_encoding_and_tags(tmp_path: Path) -> None:
    source = tmp_path / "in.flac"
    with soundfile.SoundFile(source, "w", 48000, 2, "PCM_24") as file:
        file.title = "Tür"
        file.write(np.zeros((100, 2)))
    info = audio.probe(source)
    assert audio.write_like(tmp_path / "out.flac", np.full((2, 50), 1.5, np.float32), info) == 100
    assert audio.probe(tmp_path / "out.flac") == audio.AudioInfo(
        tmp_path / "out.flac", 48000, 2, 50, "FLAC", "PCM_24"
    )
    with soundfile.SoundFile(tmp_path / "out.flac") as file:
        assert file.title == "Tür"


# ---- Atomic writing ----


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    audio.write(path, tone(), RATE)
    before = path.read_bytes()
    with pytest.raises(AudioError, match="NaN"):
        audio.write(path, np.array([0.0, np.nan], np.float32), RATE)
    with pytest.raises(AudioError, match="infinite"), audio.Writer(path, RATE, 1) as writer:
        writer.write(np.concatenate([tone(), [np.inf]]))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [
    OSError(errno.ENOSPC, "No space left on device"), soundfile.LibsndfileError(2)
])  # fmt: skip
def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    def fail(self: soundfile.SoundFile, data: np.ndarray) -> None:
        raise fault

    monkeypatch.setattr(soundfile.SoundFile, "write", fail)
    with pytest.raises(AudioError, match=r"out\.wav: not written: .*disk full .*MiB free"):
        audio.write(tmp_path / "out.wav", tone(), RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files by the system")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_really_refused_write(tmp_path: Path, suffix: str) -> None:
    code = (
        "import sys, numpy as np; from gan_denoise import audio\n"
        "noise = np.random.default_rng(0).uniform(-.5, .5, 300000).astype(np.float32)\n"
        "try: audio.write(sys.argv[1], noise, 16000)\n"
        "except audio.AudioError as error: print(error)"
    )

    def limit() -> None:
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"out{suffix}")],
        preexec_fn=limit, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "not written: the system refused the write" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_out_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = soundfile.SoundFile.write
    monkeypatch.setattr(soundfile.SoundFile, "write", lambda self, data: original(self, data[:9]))
    with pytest.raises(AudioError, match="shorter than the audio"):
        audio.write(tmp_path / "out.wav", tone(), RATE)
    assert list(tmp_path.iterdir()) == []


def test_writing_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out.wav").mkdir()
    with pytest.raises(AudioError, match="not written"):
        audio.write(tmp_path / "out.wav", tone(), RATE)
    assert list(tmp_path.iterdir()) == [tmp_path / "out.wav"]


def test_blocks_add_up(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 5000)).astype(np.float32)
    with audio.Writer(tmp_path / "new" / "a.wav", RATE, 2) as writer:
        for start in range(0, 5000, 777):
            writer.write(whole[:, start : start + 777])
        assert not (tmp_path / "new" / "a.wav").exists()
    assert writer.clipped == audio.write(tmp_path / "b.wav", whole, RATE)
    np.testing.assert_array_equal(
        audio.read(tmp_path / "new" / "a.wav")[0], audio.read(tmp_path / "b.wav")[0]
    )


def test_wrong_shape_and_type(tmp_path: Path) -> None:
    with audio.Writer(tmp_path / "a.wav", RATE, 2) as writer:
        with pytest.raises(ValueError, match=r"expected \[2, samples\]"):
            writer.write(tone())
        with pytest.raises(ValueError, match="float samples, not int16"):
            writer.write(np.zeros((2, 5), np.int16))


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
    audio.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 30000), RATE)
    path.write_bytes(path.read_bytes()[:30000])
    with pytest.raises(AudioError, match=r"cut\.flac"):
        audio.read(path)


@pytest.mark.parametrize(
    ("subtype", "step"), [("PCM_U8", 2**-7), ("PCM_24", 2**-22), ("FLOAT", 0.0), ("PCM_32", 2**-22)]
)
def test_depths(tmp_path: Path, subtype: str, step: float) -> None:
    audio.write(tmp_path / "a.wav", tone(), RATE, subtype=subtype)
    np.testing.assert_allclose(audio.read_mono(tmp_path / "a.wav", RATE), tone(), atol=step)


def test_five_channels_become_their_mean(tmp_path: Path) -> None:
    five = np.stack([k * 0.1 * tone() for k in range(5)])
    audio.write(tmp_path / "five.wav", five, RATE, subtype="FLOAT")
    assert audio.read(tmp_path / "five.wav")[0].shape == (5, 4000)
    np.testing.assert_allclose(
        audio.read_mono(tmp_path / "five.wav", RATE), 0.2 * tone(), atol=1e-6
    )


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
    audio.write(tmp_path / "a.wav", tone(1.0, 440.0, 48000), 48000, subtype="FLOAT")
    back, rate = audio.read(tmp_path / "a.wav", sample_rate=RATE)
    assert (rate, back.shape) == (RATE, (1, RATE))
    np.testing.assert_allclose(back[0, 1000:-1000], tone(1.0)[1000:-1000], atol=1e-3)


def test_peak() -> None:
    assert audio.peak_dbfs(np.array([[0.1, -0.5]])) == pytest.approx(-6.02, abs=0.01)
    assert audio.peak_dbfs(np.zeros(10)) == -np.inf
    assert audio.peak_dbfs(np.zeros(0)) == -np.inf
