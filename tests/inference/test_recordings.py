"""What people's files are like, cleaned: containers, bit rates, tags, levels, channels, names.

Whole recordings go through `Enhancer` and come out as they went in, but for their noise.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from conftest import RATE, require_encoder

from gan_denoise import audio
from gan_denoise.audio import AudioError, ffmpeg
from gan_denoise.audio.info import describe_anomalies
from gan_denoise.audio.wav_chunks import copy_chunks
from gan_denoise.audio.writer import write
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.folder import FolderOptions, enhance_folder
from gan_denoise.inference.folder_plan import WRITTEN, plan_folder
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.inference.streaming import TooLoud


@pytest.fixture(scope="module")
def enhancer(tiny_model):
    return Enhancer.load(tiny_model, threads=1)


def enhance(enhancer, inputs, out, **options):
    return enhance_folder(enhancer, inputs, out, FolderOptions(**options))


def recording(samples=16000, channels=1, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype("f4")


# ---- Containers --------------------------------------------------------------------------------
KINDS = {".m4a": ("IPOD", "AAC", 44100), ".mp4": ("MP4", "AAC", 48000),
         ".mov": ("MOV", "AAC", 48000),
         ".aac": ("ADTS", "AAC", 44100), ".webm": ("WEBM", "OPUS", 48000),
         ".mka": ("MATROSKA", "OPUS", 48000), ".wma": ("ASF", "WMAV2", 44100),
         ".amr": ("AMR", "AMR_NB", 8000), ".3gp": ("3GP", "AMR_NB", 8000),
         ".ac3": ("AC3", "AC3", 48000), ".opus": ("OGG", "OPUS", 48000),
         ".oga": ("OGG", "VORBIS", 44100), ".mp3": ("MP3", "MPEG_LAYER_III", 44100),
         ".wav": ("WAV", "IMA_ADPCM", 8000)}  # fmt: skip


@pytest.mark.parametrize("suffix", KINDS)
def test_it_comes_back_in_its_container_and_codec(enhancer, tmp_path, suffix):
    require_encoder(suffix)
    container, codec, rate = KINDS[suffix]
    source, target = tmp_path / f"in{suffix}", tmp_path / "out" / f"in{suffix}"
    write(source, recording(2 * rate), rate, container, codec)
    result = enhancer.enhance_file(source, target)
    before, after = (audio.probe(path, count=True) for path in (source, target))
    assert (after.format, after.subtype, after.sample_rate) == (
        before.format, before.subtype, before.sample_rate)
    assert 0 <= after.frames - before.frames < 2048
    assert result.seconds == before.seconds
    assert (result.note, result.cut_off, result.lost) == ("", "", ())


def test_a_codec_that_is_only_read_is_refused_before_any_work(enhancer, tmp_path):
    source = tmp_path / "in" / "a.mkv"
    write(source, recording(8000), 16000, "OGG", "VORBIS")  # FFmpeg's own encoder is experimental
    with av.open(str(source)) as old, av.open(str(source.with_name("b.mkv")), "w") as new:
        stream = new.add_stream_from_template(old.streams.audio[0])
        for packet in old.demux(audio=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    source.unlink()
    (result,) = enhance(enhancer, [source.parent], tmp_path / "out")
    assert result.status == "failed"
    assert "can be read, but not written" in result.error
    assert "--format wav, flac, mp3, opus, m4a, ogg can" in result.error
    assert not (tmp_path / "out" / "b.mkv").exists()
    for wanted in ("wav", "flac", "mp3", "opus", "m4a", "ogg"):
        one = enhancer.with_options(DenoiseOptions(format=wanted))
        (result,) = enhance(one, [source.parent], tmp_path / wanted)
        assert result.status == "done", result.error
        assert result.target.suffix == f".{wanted}"
        assert abs(audio.probe(result.target, count=True).seconds - 0.5) < 0.07


def test_a_format_that_does_not_know_the_rate_is_resampled_and_said(enhancer, tmp_path):
    write(tmp_path / "a.wav", recording(44100), 44100)
    one = enhancer.with_options(DenoiseOptions(format="opus"))
    result = one.enhance_file(tmp_path / "a.wav", tmp_path / "a.opus")
    assert "resampled from 44100 to 48000 Hz" in result.note
    assert audio.probe(tmp_path / "a.opus").frames == 48000


def film(path, seconds=2, rate=48000):
    """A video with a moving picture, sound, a subtitle-free second language, tags and chapters."""
    with av.open(str(path), "w") as out:
        picture = out.add_stream("mpeg4", rate=25)
        picture.width = picture.height = 64
        sounds = [out.add_stream("aac", rate=rate, layout="mono") for _ in range(2)]
        out.metadata["title"] = "A talk"
        for number in range(25 * seconds):
            image = np.full((64, 64, 3), 5 * number % 255, np.uint8)
            for packet in picture.encode(av.VideoFrame.from_ndarray(image)):
                out.mux(packet)
            for index, sound in enumerate(sounds):
                part = recording(rate // 25, seed=100 * index + number)
                frame = av.AudioFrame.from_ndarray(part, "fltp", "mono")
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = number * rate // 25
                for packet in sound.encode(frame):
                    out.mux(packet)
        for stream in (picture, *sounds):
            for packet in stream.encode(None):
                out.mux(packet)


def packets(path, **which):
    with av.open(str(path)) as container:
        return [(bytes(packet), packet.pts * packet.time_base)
                for packet in container.demux(**which) if packet.size]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_video_keeps_its_picture(enhancer, tmp_path, suffix):
    source, target = tmp_path / f"talk{suffix}", tmp_path / "out" / f"talk{suffix}"
    film(source)
    result = enhancer.enhance_file(source, target)
    assert packets(target, video=0) == packets(source, video=0)  # bit by bit, at the same times
    assert packets(target, audio=1) == packets(source, audio=1)  # the second language
    assert [data for data, _ in packets(target, audio=0)] != [
        data for data, _ in packets(source, audio=0)]
    assert ffmpeg.tags(target)["title"] == "A talk"
    assert result.lost == ()
    with av.open(str(target)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio", "audio"]
    sound, _ = audio.read(source)
    cleaned, _ = audio.read(target)
    lag = np.argmax(np.correlate(cleaned[0, :9000], sound[0, 1000:8000], "valid"))
    assert lag == 1000


def test_the_sound_alone_of_a_video(enhancer, tmp_path):
    film(tmp_path / "talk.mp4")
    one = enhancer.with_options(DenoiseOptions(format="wav"))
    result = one.enhance_file(tmp_path / "talk.mp4", tmp_path / "talk.wav")
    there = audio.read(tmp_path / "talk.mp4")[0].shape[1]
    assert audio.probe(tmp_path / "talk.wav").frames == there
    assert result.status == "done"


# ---- Bit rates ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("suffix", "kind", "rates"),
    [(".mp3", ("MP3", "MPEG_LAYER_III"), (64, 128, 320)), (".opus", ("OGG", "OPUS"), (24, 64, 128)),
     (".m4a", ("IPOD", "AAC"), (64, 160)), (".ogg", ("OGG", "VORBIS"), (70, 120, 200))],
)
def test_the_bit_rate_is_that_of_the_input_or_as_asked(enhancer, tmp_path, suffix, kind, rates):
    for rate in rates:
        source, target = tmp_path / f"{rate}{suffix}", tmp_path / "out" / f"{rate}{suffix}"
        rng = np.random.default_rng(0)
        with audio_writer(source, kind, 1000 * rate) as writer:
            writer.write(rng.uniform(-0.3, 0.3, (2, 4 * 48000)).astype(np.float32))
        enhancer.enhance_file(source, target)
        if suffix == ".ogg":  # of variable rate: the one that the encoder is set to
            assert abs(audio.probe(target).bit_rate / audio.probe(source).bit_rate - 1) < 0.03
        else:  # what is written is quieter than what came, so it may need less
            assert 0.5 < target.stat().st_size / source.stat().st_size < 1.15
        asked = enhancer.with_options(DenoiseOptions(bit_rate=96))
        asked.enhance_file(source, target)
        assert 0.5 * 96 < target.stat().st_size * 8 / 4000 < 1.2 * 96


def audio_writer(path, kind, bit_rate):
    from gan_denoise.audio.writer import Writer

    return Writer(path, 48000, 2, *kind, bit_rate=bit_rate)


# ---- What a file carries -----------------------------------------------------------------------
def chunk(name, body):
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def field_recording(path, channels=2, mask=None):
    """A broadcast WAV as field recorders write it."""
    soundfile.write(path, recording(8000, channels).T, RATE,
                    format="WAVEX" if mask is not None else "WAV")
    raw = bytearray(path.read_bytes())
    if mask is not None:
        at = raw.index(b"fmt ") + 8 + 20
        raw[at : at + 4] = struct.pack("<I", mask)
    chunks = {b"bext": b"scene 4".ljust(602, b"\0"), b"iXML": b"<TAKE>3</TAKE>",
              b"cue ": struct.pack("<I", 1) + bytes(24),
              b"LIST": b"adtl" + chunk(b"labl", b"\1\0\0\0go")}
    raw += b"".join(chunk(name, body) for name, body in chunks.items())
    raw[4:8] = struct.pack("<I", len(raw) - 8)
    path.write_bytes(raw)
    return chunks


def test_a_field_recording_keeps_its_chunks_mask_mode_and_time(enhancer, tmp_path):
    source, target = tmp_path / "take.wav", tmp_path / "out" / "take.wav"
    chunks = field_recording(source, 6, mask=0x60F)  # side speakers, not libsndfile's back ones
    source.chmod(0o640)
    os.utime(source, ns=(10**18, 10**18 + 123456000))
    one = enhancer.with_options(DenoiseOptions(preserve_times=True))
    result = one.enhance_file(source, target)
    raw = target.read_bytes()
    for name, body in chunks.items():
        assert chunk(name, body) in raw
    assert raw[raw.index(b"fmt ") + 28 :][:4] == struct.pack("<I", 0x60F)
    assert struct.unpack("<I", raw[4:8])[0] == len(raw) - 8
    assert soundfile.info(target).frames == 8000
    assert result.lost == ()
    assert target.stat().st_mode & 0o777 == 0o640
    assert target.stat().st_mtime_ns == source.stat().st_mtime_ns
    plain = enhancer.enhance_file(source, tmp_path / "now.wav")
    assert plain.target.stat().st_mtime_ns != source.stat().st_mtime_ns
    flac = enhancer.with_options(DenoiseOptions(format="flac"))
    lost = flac.enhance_file(source, tmp_path / "take.flac").lost
    assert set(lost) == {"bext (broadcast extension)", "iXML", "cue points", "cue point labels"}


def test_many_chunks_are_copied_up_to_so_many_bytes(tmp_path):
    """Each may be as large as it says: together they are held in memory."""
    for name, size in (("source", 30), ("target", 0)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(99), RATE)
        with open(tmp_path / f"{name}.wav", "ab") as file:
            for number in range(3 if size else 0):
                file.write(b"abc%d" % number + struct.pack("<I", size << 20))
                file.truncate(file.tell() + (size << 20))
                file.seek(0, os.SEEK_END)
    copy_chunks(tmp_path / "source.wav", tmp_path / "target.wav")
    copied = (tmp_path / "target.wav").read_bytes()
    assert [copied.count(b"abc%d" % number) for number in range(3)] == [1, 1, 0]


def test_the_mask_of_one_channel_is_not_that_of_six(enhancer, tmp_path):
    field_recording(tmp_path / "take.wav", 6, mask=0x60F)
    one = enhancer.with_options(DenoiseOptions(channels="mono"))
    one.enhance_file(tmp_path / "take.wav", tmp_path / "mono.wav")
    raw = (tmp_path / "mono.wav").read_bytes()
    assert raw[raw.index(b"fmt ") + 28 :][:4] != struct.pack("<I", 0x60F)


# ---- Levels and channels -----------------------------------------------------------------------
@pytest.mark.parametrize("level_db", [0, 40, 60, 90])
def test_far_above_full_scale_is_cleaned_like_the_same_at_it(enhancer, tmp_path, level_db):
    quiet = recording(20000)
    gain = np.float32(2.0 ** round(level_db / 6.02))
    for name, sound in (("quiet", quiet), ("loud", gain * quiet)):
        soundfile.write(tmp_path / f"{name}.wav", sound.T, RATE, "FLOAT")
        enhancer.enhance_file(tmp_path / f"{name}.wav", tmp_path / "out" / f"{name}.wav")
    as_loud = enhancer.enhance(gain * quiet[0], RATE)
    written = soundfile.read(tmp_path / "out" / "loud.wav", dtype="float32")[0]
    np.testing.assert_array_equal(as_loud, written)
    # The model gets both within an octave or two of each other.
    like = soundfile.read(tmp_path / "out" / "quiet.wav", dtype="float32")[0]
    change = 20 * np.log10(np.std(written / gain) / np.std(like))
    assert abs(change) < 1


@pytest.mark.parametrize(("subtype", "level"), [("FLOAT", 3e37), ("DOUBLE", 1e300)])
@pytest.mark.filterwarnings("error")
def test_what_is_near_the_end_of_the_floats_comes_back(enhancer, tmp_path, subtype, level):
    noise = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "in.wav", noise * level, RATE, subtype)
    enhancer.enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", tmp_path / "removed.wav")
    noisy, cleaned, removed = (soundfile.read(tmp_path / f"{name}.wav")[0] / level
                               for name in ("in", "out", "removed"))
    np.testing.assert_allclose(cleaned + removed, noisy, atol=1e-5)


def test_a_stream_far_above_full_scale_says_the_gain_to_apply(enhancer):
    stream = enhancer.stream(RATE)
    with pytest.raises(TooLoud, match=r"peak at \+40\.0 dBFS.* gain of -40\.0 dB"):
        stream.push(np.full((1, 100), 100.0, np.float32))


def test_channels_that_cancel_are_not_silence(enhancer, tmp_path):
    one = recording(16000)
    soundfile.write(tmp_path / "cable.wav", np.concatenate([one, -one]).T, RATE, "FLOAT")
    mono = enhancer.with_options(DenoiseOptions(channels="mono"))
    result = mono.enhance_file(tmp_path / "cable.wav", tmp_path / "mono.wav")
    assert "channels cancel each other" in result.note
    written = soundfile.read(tmp_path / "mono.wav", dtype="float32")[0]
    expected = enhancer.enhance(one[0], RATE)
    np.testing.assert_array_equal(written, expected)
    np.testing.assert_array_equal(mono.enhance(np.concatenate([one, -one]), RATE)[0], expected)
    np.testing.assert_allclose(audio.read_mono(tmp_path / "cable.wav", RATE), one[0])
    both = np.concatenate([one, recording(16000, seed=1)])
    np.testing.assert_array_equal(audio.to_mono(both), both.mean(axis=0, dtype=np.float32))


# ---- Verdicts, and what a run says -------------------------------------------------------------
def denoise(tiny_model, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "gan_denoise.cli", "denoise", *map(str, arguments), "-m",
         str(tiny_model)], capture_output=True, text=True)  # fmt: skip


def test_a_folder_of_everyday_faults(tiny_model, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("half", "open", "whole"):
        write(folder / f"{name}.wav", recording(16000), RATE)
    raw = (folder / "half.wav").read_bytes()
    (folder / "half.wav").write_bytes(raw[: len(raw) // 2])
    at = raw.index(b"data") + 4
    (folder / "open.wav").write_bytes(raw[:4] + bytes(4) + raw[8:at] + bytes(4) + raw[at + 4 :])
    for name in ("~rain.wav", "b.part.wav", "c.wav.crdownload", "dictation.dss", "notes.txt"):
        (folder / name).write_bytes(raw)
    field_recording(folder / "take.wav")
    done = denoise(tiny_model, folder, "-o", out, "--format", "flac", "--report",
                   tmp_path / "r.csv")
    assert done.returncode == 1  # one is cut off
    lines = done.stdout.splitlines()
    assert lines[0] == ("4 files passed over: 3 temporary names (b.part.wav, c.wav.crdownload, "
                        "~rain.wav); 1 not read (dictation.dss)")
    assert lines[1].startswith("not kept in 1 file: bext (broadcast extension), cue point labels")
    assert lines[2] == "1 file cut off, done as far as there is sound: half.wav"
    assert lines[3] == f"report: {tmp_path / 'r.csv'}"
    assert lines[4].startswith("4 files done, 0 skipped, 0 failed")
    assert "half.wav: cut off: 0.50 s of 1.00 s are there" in done.stderr
    assert "open.wav: its header was never finished; read to its end" in done.stderr
    assert soundfile.info(out / "open.flac").frames == 16000
    assert "cut off: 0.50 s of 1.00 s" in (tmp_path / "r.csv").read_text()
    again = denoise(tiny_model, folder, "-o", out, "--format", "flac")
    assert again.returncode == 1  # it is still cut off
    assert "0 files done, 4 skipped" in again.stdout


def test_one_file_into_one_file(tiny_model, enhancer, tmp_path):
    write(tmp_path / "talk.wav", recording(8000), RATE)
    out = tmp_path / "clean.wav"
    done = denoise(tiny_model, tmp_path / "talk.wav", "-o", out)
    assert done.returncode == 0, done.stderr
    assert out.is_file()
    assert audio.probe(out).frames == 8000
    again = denoise(tiny_model, tmp_path / "talk.wav", "-o", out)
    assert "0 files done, 1 skipped" in again.stdout
    (result,) = enhance(enhancer, [tmp_path / "talk.wav"], tmp_path / "talk.mp3")
    assert audio.probe(result.target).format == "MP3"
    with pytest.raises(AudioError, match=r"name it \.wav"):
        enhance(enhancer, [tmp_path / "talk.wav"], tmp_path / "talk.caf")
    wrong = enhancer.with_options(DenoiseOptions(format="flac"))
    with pytest.raises(AudioError, match="leave one out"):
        enhance(wrong, [tmp_path / "talk.wav"], tmp_path / "talk.mp3")
    (result,) = enhance(enhancer, [tmp_path / "talk.wav"], tmp_path / "talk.wav")
    assert "is the input" in result.error
    (tmp_path / "folder.wav").mkdir()
    (result,) = enhance(enhancer, [tmp_path / "talk.wav"], tmp_path / "folder.wav")
    assert result.target == tmp_path / "folder.wav" / "talk.wav"
    stranger = tmp_path / "mine.wav"
    stranger.write_bytes(b"not to be lost")
    (result,) = enhance(enhancer, [tmp_path / "talk.wav"], stranger)
    assert "--overwrite" in result.error
    assert stranger.read_bytes() == b"not to be lost"


def test_a_residual_beside_a_named_file(enhancer, tmp_path):
    write(tmp_path / "talk.wav", recording(8000), RATE, subtype="FLOAT")
    (result,) = enhance(enhancer, [tmp_path / "talk.wav"], tmp_path / "clean.wav",
                                        residual=tmp_path / "noise.wav")
    assert result.status == "done", result.error
    parts = [audio.read(tmp_path / f"{name}.wav")[0] for name in ("talk", "clean", "noise")]
    np.testing.assert_allclose(parts[0], parts[1] + parts[2], atol=1e-6)


def test_what_earlier_runs_wrote_is_no_input(enhancer, tmp_path):
    write(tmp_path / "talk.wav", recording(8000), RATE)
    enhance(enhancer, [tmp_path / "talk.wav"], tmp_path / "clean.wav")
    enhance(enhancer, [tmp_path], tmp_path / "one")
    settled = plan_folder([tmp_path], tmp_path / "two", DenoiseOptions())
    assert [item.source.name for item in settled.items] == ["talk.wav"]
    assert {path.relative_to(tmp_path).as_posix() for path in settled.passed_over[WRITTEN]} == {
        "clean.wav", "one/talk.wav"}
    again = plan_folder([tmp_path / "one"], tmp_path / "twice", DenoiseOptions())  # by name
    assert [item.source.name for item in again.items] == ["talk.wav"]


def test_a_result_says_what_is_unusual(enhancer, tmp_path):
    write(tmp_path / "a.flac", recording(9000), RATE)
    raw = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(raw[: len(raw) // 2])
    result = enhancer.enhance_file(tmp_path / "a.flac", tmp_path / "b.flac")
    assert describe_anomalies(result).startswith("cut off: ")
    assert result.seconds == audio.probe(tmp_path / "b.flac").seconds
