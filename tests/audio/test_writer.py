"""Writing: what is written comes back, whole or not at all; what cannot be held is refused."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import require_encoder

from gan_denoise import audio
from gan_denoise.audio import AudioError
from gan_denoise.audio.containers import (
    CONTAINERS,
    by_libsndfile,
    check_container,
    output_container,
)
from gan_denoise.audio.writer import Writer, write

RATE = 16000  # Hz


def tone(seconds: float = 0.25, hertz: float = 440.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


# ---- Integer round trips and clipping ----


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au", ".caf", ".w64", ".rf64"])
def test_every_16_bit_value_survives(tmp_path: Path, suffix: str) -> None:
    values = np.arange(-32768, 32768)
    path = tmp_path / f"all{suffix}"
    assert write(path, (values / 32768).astype(np.float32), RATE, subtype="PCM_16") == 0
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], values)
    back, rate = audio.read(path)
    assert rate == RATE
    np.testing.assert_array_equal(back[0] * 32768, values)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au", ".caf", ".w64", ".rf64"])
def test_samples_take_the_nearest_of_16_bits(tmp_path: Path, suffix: str) -> None:
    values = np.repeat(np.arange(-300, 300), 3)
    between = (values + np.tile([-0.49, 0.0, 0.49], 600)) / 32768
    write(tmp_path / f"near{suffix}", between, RATE, subtype="PCM_16")
    np.testing.assert_array_equal(
        soundfile.read(tmp_path / f"near{suffix}", dtype="int16")[0], values
    )


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_24_bit_values_survive(tmp_path: Path, suffix: str) -> None:
    values = np.random.default_rng(0).integers(-(2**23), 2**23, 20000)
    values[:2] = -(2**23), 2**23 - 1
    path = tmp_path / f"deep{suffix}"
    write(path, (values / 2**23).astype(np.float32), RATE, subtype="PCM_24")
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
    assert write(path, loud, RATE, subtype=subtype) == 3
    back = audio.read(path)[0][0][: len(loud)]
    np.testing.assert_allclose(back, np.clip(loud, -1, 1), atol=0.035)


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_float_files_are_left_alone(tmp_path: Path, subtype: str) -> None:
    loud = np.array([[2.5, -7.0, 0.1]], np.float32)
    assert write(tmp_path / "f.wav", loud, RATE, subtype=subtype) == 0
    np.testing.assert_array_equal(audio.read(tmp_path / "f.wav")[0], loud)


def test_quiet_files_are_not_normalised(tmp_path: Path) -> None:
    write(tmp_path / "q.wav", 0.01 * tone(), RATE)
    assert audio.peak_dbfs(audio.read(tmp_path / "q.wav")[0]) == pytest.approx(-46.0, abs=0.1)


# ---- Containers ----


# Samples that come out more than went in, and how late: what the codec cannot say in its container.
PADDED = {".m4a": (1024, 0), ".mp4": (1024, 0), ".mov": (1024, 0), ".aac": (1024, 0),
          ".webm": (960, 0), ".mka": (960, 0), ".mkv": (960, 0), ".wma": (2048, 0),
          ".amr": (160, 35), ".3gp": (160, -15), ".ac3": (1536, 256)}  # fmt: skip
RATES = {".amr": 8000, ".3gp": 8000, ".ac3": 48000, ".webm": 48000, ".mka": 48000, ".mkv": 48000}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_each_suffix_is_written_and_read(tmp_path: Path, suffix: str) -> None:
    require_encoder(suffix)
    rate, channels = RATES.get(suffix, RATE), 1 if RATES.get(suffix) == 8000 else 2
    time = np.arange(rate) / rate
    voice = sum(np.sin(2 * np.pi * 120 * k * (time + 0.05 * time**2)) / k for k in range(1, 20))
    speech = 0.1 * voice * np.clip(3 * np.sin(9 * time), 0, 1) * np.ones((channels, 1))
    path = tmp_path / f"Gespräch 会議{suffix.upper()}"
    write(path, speech.astype(np.float32), rate)
    info = audio.probe(path, count=True)
    assert (info.sample_rate, info.channels) == (rate, channels)
    more, late = PADDED.get(suffix, (0, 0))
    assert 0 <= info.frames - rate <= more
    back = audio.read(path)[0]
    if channels == 1:  # AMR keeps a voice, not its samples
        match = np.correlate(back[0], speech[0], "full")
        assert abs(int(np.argmax(match)) - (rate - 1) - late) < rate / 120  # a period of it
        return
    back = back[:, late:rate]
    original = speech[:, : back.shape[1]]
    lossless = by_libsndfile(*CONTAINERS[suffix]) and suffix not in (".ogg", ".oga", ".opus")
    if lossless or suffix in (".wv", ".tta"):
        np.testing.assert_allclose(back, original, atol=2**-15)
    else:
        error = np.sum((back - original) ** 2) / np.sum(original**2)
        assert error < 0.1, error


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
        write(tmp_path / name, np.zeros((channels, 100), np.float32), rate)
    assert list(tmp_path.iterdir()) == []


def test_unfit_encoding(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="FLAC cannot hold FLOAT"):
        write(tmp_path / "a.flac", tone(), RATE, subtype="FLOAT")


def test_a_copy_keeps_container_encoding_and_tags(tmp_path: Path) -> None:
    source = tmp_path / "in.flac"
    with soundfile.SoundFile(source, "w", 48000, 2, "PCM_24") as file:
        file.title = "Tür"
        file.write(np.zeros((100, 2)))
    info = audio.probe(source)
    container = output_container(info)
    with Writer(
        tmp_path / "out.flac", info.sample_rate, 2, *container, source=info.path
    ) as writer:
        writer.write(np.full((2, 50), 1.5, np.float32))
    assert writer.clipped == 100
    assert audio.probe(tmp_path / "out.flac") == audio.AudioInfo(
        tmp_path / "out.flac", 48000, 2, 50, "FLAC", "PCM_24"
    )
    with soundfile.SoundFile(tmp_path / "out.flac") as file:
        assert file.title == "Tür"


# ---- Atomic writing ----


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    write(path, tone(), RATE)
    before = path.read_bytes()
    with pytest.raises(AudioError, match="NaN"):
        write(path, np.array([0.0, np.nan], np.float32), RATE)
    with pytest.raises(AudioError, match="infinite"), Writer(path, RATE, 1) as writer:
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
    reason = "No space left on device .* MiB free there" if isinstance(fault, OSError) else (
        "the system refused the write. Nothing")  # no guess why
    with pytest.raises(AudioError, match=rf"out\.wav: not written: {reason}"):
        write(tmp_path / "out.wav", tone(), RATE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files by the system")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".m4a"])
def test_a_really_refused_write(tmp_path: Path, suffix: str) -> None:
    code = (
        "import sys, numpy as np; from gan_denoise.audio import AudioError\n"
        "from gan_denoise.audio.writer import write\n"
        "noise = np.random.default_rng(0).uniform(-.5, .5, 300000).astype(np.float32)\n"
        "try: write(sys.argv[1], noise, 16000)\n"
        "except AudioError as error: print(error)"
    )

    def limit() -> None:
        import resource  # not on Windows

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / f"out{suffix}")],
        preexec_fn=limit, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "not written: " in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_out_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = soundfile.SoundFile.write
    monkeypatch.setattr(soundfile.SoundFile, "write", lambda self, data: original(self, data[:9]))
    with pytest.raises(AudioError, match="9 of 4000 samples"):
        write(tmp_path / "out.wav", tone(), RATE)
    assert list(tmp_path.iterdir()) == []


def test_writing_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out.wav").mkdir()
    with pytest.raises(AudioError, match="not written"):
        write(tmp_path / "out.wav", tone(), RATE)
    assert list(tmp_path.iterdir()) == [tmp_path / "out.wav"]


def test_blocks_add_up(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).uniform(-1.2, 1.2, (2, 5000)).astype(np.float32)
    with Writer(tmp_path / "new" / "a.wav", RATE, 2) as writer:
        for start in range(0, 5000, 777):
            writer.write(whole[:, start : start + 777])
        assert not (tmp_path / "new" / "a.wav").exists()
    assert writer.clipped == write(tmp_path / "b.wav", whole, RATE)
    np.testing.assert_array_equal(
        audio.read(tmp_path / "new" / "a.wav")[0], audio.read(tmp_path / "b.wav")[0]
    )


def test_wrong_shape_and_type(tmp_path: Path) -> None:
    with Writer(tmp_path / "a.wav", RATE, 2) as writer:
        with pytest.raises(ValueError, match=r"expected \[2, samples\]"):
            writer.write(tone())
        with pytest.raises(ValueError, match="float samples, not int16"):
            writer.write(np.zeros((2, 5), np.int16))


def test_what_a_header_cannot_count_is_refused_before_any_work(tmp_path: Path) -> None:
    hours = 10 * 3600 * 48000  # of 16-bit stereo: 6.9 GB
    for format in ("WAV", "AIFF", "AU"):
        with pytest.raises(AudioError, match="longer than a"):
            check_container(tmp_path / "a", 48000, 2, format, "PCM_16", hours)
        check_container(tmp_path / "a", 48000, 2, format, "PCM_16", hours // 10)
    for format in ("FLAC", "W64", "RF64", "CAF"):
        check_container(tmp_path / "a", 48000, 2, format, "PCM_16", hours)
