"""Recordings read to their end, whatever their headers say; what is missing is named."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gan_denoise import audio
from gan_denoise.audio import AudioError, Reader
from gan_denoise.audio.containers import by_libsndfile
from gan_denoise.audio.ffmpeg_encoders import encoder_of
from gan_denoise.audio.writer import write

RATE = 16000  # Hz
LOUD = 0.3
SLACK = 1024  # bytes that a header may be wrong by without a word


def sound(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise that no codec makes small, so that every part of a file matters."""
    return np.random.default_rng(seed).uniform(-LOUD, LOUD, (channels, samples)).astype(np.float32)


def decoded_by_ffmpeg(path: Path) -> int:
    """Count the samples that FFmpeg's decoder gives, without any of this package."""
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0))


def read_all(path: Path, block: int = 3000) -> tuple[np.ndarray, Reader]:
    with Reader(path) as reader:
        blocks = list(reader.blocks(block))
    assert all(one.shape[1] == block for one in blocks[:-1])
    return np.concatenate(blocks, axis=1), reader


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recordings")


# ---- Containers x codecs x rates x channels x lengths ----

LOSSLESS = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"),
            ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAVEX", "PCM_16"), ("RF64", "PCM_24"),
            ("W64", "PCM_16"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_24"),
            ("CAF", "PCM_16"), ("CAF", "ALAC_16"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"),
            ("NIST", "PCM_16"), ("WV", "WAVPACK"), ("TTA", "TTA"), ("IPOD", "ALAC"),
            ("MATROSKA", "FLAC")]  # fmt: skip
LOSSY = [("WAV", "ULAW"), ("WAV", "IMA_ADPCM"), ("WAV", "MS_ADPCM"), ("WAV", "GSM610"),
         ("WAV", "G721_32"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"),
         ("WAV", "MPEG_LAYER_III"), ("IPOD", "AAC"), ("MP4", "AAC"), ("MOV", "AAC"),
         ("ADTS", "AAC"), ("WEBM", "OPUS"), ("MATROSKA", "OPUS"), ("ASF", "WMAV2"),
         ("AMR", "AMR_NB"), ("3GP", "AMR_NB"), ("AC3", "AC3"),
         ("MP2", "MPEG_LAYER_II")]  # fmt: skip
LOSSY = [kind for kind in LOSSY if kind[1] != "AMR_NB" or encoder_of("amr_nb")]
MOST_PADDING = 10000  # samples that a codec of blocks fills up its last one with


@given(
    kind=st.sampled_from(LOSSLESS + LOSSY), rate=st.sampled_from([8000, 16000, 44100, 48000]),
    channels=st.sampled_from([1, 2, 6]), samples=st.integers(1, 20000),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_what_comes_out_is_what_decoding_gives(
    folder: Path, kind: tuple[str, str], rate: int, channels: int, samples: int
) -> None:
    path = folder / f"{'-'.join(kind)}.audio"
    given = sound(samples, channels)
    try:
        write(path, given, rate, *kind)
    except AudioError:  # before anything is written, for want of a rate or channels
        return
    back, reader = read_all(path)
    info = audio.probe(path, count=True)
    assert (reader.note, reader.cut_off) == ("", "")
    assert back.shape == (channels, info.frames)
    assert info.sample_rate == rate or kind[1] == "OPUS"
    if kind in LOSSLESS:
        assert back.shape[1] == samples
        np.testing.assert_allclose(back, given, atol=2**-6 if kind[1] == "PCM_U8" else 2**-14)
        return
    expected = samples * info.sample_rate / rate
    assert expected <= back.shape[1] + 1 <= expected + MOST_PADDING
    if kind[1] not in ("IMA_ADPCM", "MS_ADPCM", "GSM610") and samples > 4000:
        # FFmpeg tells the rate of Opus by its clock, libsndfile by what went in; and FFmpeg leaves
        # what fills up the last packet of a Vorbis of one page.
        exact = kind[1] in ("OPUS", "VORBIS")
        assert back.shape[1] == samples if exact and kind[0] == "OGG" else (
            exact or back.shape[1] == decoded_by_ffmpeg(path))


# ---- Headers that are wrong ----


def with_sizes(path: Path, data: int | None, riff: int | None) -> int:
    """Write other sizes into a WAV; return the bytes of audio that it holds."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    there = len(raw) - at - 4
    if data is not None:
        raw[at : at + 4] = struct.pack("<I", data)
    if riff is not None:
        raw[4:8] = struct.pack("<I", riff)
    path.write_bytes(raw)
    return there


@given(
    subtype=st.sampled_from(["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"]),
    channels=st.sampled_from([1, 2]), samples=st.integers(8, 15000).map(lambda half: 2 * half),
    data=st.none() | st.sampled_from([0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000]) | st.floats(0.1, 3.0),
    riff=st.sampled_from([None, 0, 8, 36, 4088, 0xFFFFFFFF]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_a_wav_is_read_to_its_end(
    folder: Path, subtype: str, channels: int, samples: int, data: float | int | None, riff: int
) -> None:
    path = folder / "header.wav"
    given = sound(samples, channels)
    soundfile.write(path, given.T, RATE, subtype)
    there = len(path.read_bytes()) - path.read_bytes().index(b"data") - 8
    promised = round(data * there) if isinstance(data, float) else data
    with_sizes(path, promised, riff)
    back, reader = read_all(path)
    if promised is None or promised in (0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000):
        assert back.shape[1] == samples
        assert not reader.cut_off
    elif promised > there:
        assert back.shape[1] == samples
        assert bool(reader.cut_off) == (promised - there > SLACK)
    else:  # as long as FFmpeg takes it, or read to the end and said
        assert back.shape[1] == samples if reader.note else there - promised <= SLACK
        assert bool(reader.note) == (there - promised > SLACK)
    step = 2**-4 if subtype == "ULAW" else 2**-6
    np.testing.assert_allclose(back, given[:, : back.shape[1]], atol=step)


def test_what_stands_behind_the_audio_is_no_audio(tmp_path: Path) -> None:
    for tail in (b"LIST" + struct.pack("<I", 4000) + bytes(4000), b"TAG" + bytes(2000),
                 b"id3 " + struct.pack("<I", 5000) + b"x" * 5000, bytes(99)):  # fmt: skip
        path = tmp_path / "tail.wav"
        soundfile.write(path, sound(500)[0], RATE)
        path.write_bytes(path.read_bytes() + tail)
        back, reader = read_all(path)
        assert (back.shape[1], reader.note, reader.cut_off) == (500, "", "")


def test_an_empty_data_chunk_before_other_chunks_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    soundfile.write(path, np.zeros(0), RATE)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 9000) + bytes(9000))
    with pytest.raises(AudioError, match="holds no samples"):
        read_all(path)


def with_total(path: Path, total: int) -> None:
    """Write another count of samples into a FLAC's header."""
    raw = bytearray(path.read_bytes())
    packed = int.from_bytes(raw[18:26], "big")
    raw[18:26] = (packed >> 36 << 36 | total).to_bytes(8, "big")
    path.write_bytes(raw)


@given(
    subtype=st.sampled_from(["PCM_16", "PCM_24"]), channels=st.sampled_from([1, 2, 6]),
    rate=st.sampled_from([8000, 22050, 96000]), samples=st.integers(20, 60000),
    total=st.just(0) | st.floats(0.1, 0.99) | st.floats(1.01, 5.0),
)  # fmt: skip
# A checksum that is right by chance stands between the last two frames.
@example(subtype="PCM_24", channels=2, rate=8000, samples=23020, total=0)
@settings(max_examples=60, deadline=None)
def test_a_flac_is_read_to_its_end(
    folder: Path, subtype: str, channels: int, rate: int, samples: int, total: float
) -> None:
    path = folder / "header.flac"
    given = sound(samples, channels)
    soundfile.write(path, given.T, rate, subtype)
    promised = int(total * samples)
    with_total(path, promised)
    assert audio.probe(path).frames == samples  # without decoding
    back, reader = read_all(path)
    np.testing.assert_allclose(back, given, atol=2**-14)
    if promised == 0:  # a stream does not know; nothing is wrong with that
        assert (reader.note, reader.cut_off) == ("", "")
    elif promised < samples:
        assert "read to its end" in reader.note
        assert not reader.cut_off
    elif promised > samples:
        assert reader.cut_off.endswith(f"of {promised / rate:.2f} s are there")


# ---- MP3 ----


def mp3(path: Path, samples: int = 40000, xing: bool = True, variable: bool = False) -> bytes:
    """Return an MP3; by default of constant rate and with the header that tells its length."""
    quiet, loud = sound(samples // 2) / 50, sound(samples - samples // 2)
    with av.open(str(path), "w", format="mp3", options={"write_xing": str(int(xing))}) as out:
        options = {"compression_level": "9"}
        stream = out.add_stream("libmp3lame", rate=RATE, layout="mono", options=options)
        if variable:
            stream.codec_context.qscale = True
            stream.codec_context.global_quality = 2 * 118
        else:
            stream.bit_rate = 32000
        frame = av.AudioFrame.from_ndarray(np.concatenate([quiet, loud], axis=1), "fltp", "mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    return path.read_bytes()


def id3(size: int) -> bytes:
    return b"ID3\3\0\0" + bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127]) \
        + bytes(size)


APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0x80000000) + bytes(8)


@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize("xing", [False, True])
@pytest.mark.parametrize(
    ("front", "back"),
    [(b"", b""), (id3(100_000), b""), (id3(0), b""), (b"", APE + b"TAG" + bytes(125)),
     (bytes(4000), b""), (id3(5000) + id3(10), b"")],
    ids=["plain", "cover", "empty tag", "APE", "zeros", "two tags"],
)  # fmt: skip
def test_an_mp3_is_whole(
    tmp_path: Path, front: bytes, back: bytes, xing: bool, variable: bool
) -> None:
    path = tmp_path / "a.mp3"
    plain = mp3(path, xing=xing, variable=variable)
    expected, _ = read_all(path)
    assert 40000 <= expected.shape[1] < 40000 + 2 * 1152
    path.write_bytes(front + plain + back)
    decoded, reader = read_all(path)
    assert (reader.note, reader.cut_off) == ("", "")
    late = 1105 + 29 if front.startswith(b"\0") and xing else 0  # no decoder finds the header there
    assert decoded.shape[1] == decoded_by_ffmpeg(path) >= expected.shape[1] + late
    lag = np.argmax(np.correlate(decoded[0, : 9000 + late], expected[0, :9000], "valid"))
    assert abs(int(lag) - late) < 30
    if not late:
        np.testing.assert_array_equal(decoded, expected)
    assert audio.probe(path, count=True).frames == audio.read(path)[0].shape[1] == len(decoded[0])


def test_an_mp3_that_says_how_long_it_was_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    whole = mp3(path)
    path.write_bytes(whole[: len(whole) // 2])
    decoded, reader = read_all(path)
    assert 15000 < decoded.shape[1] < 25000
    assert "bytes are there" in reader.cut_off


# ---- Cut off ----


@given(
    kind=st.sampled_from([*LOSSLESS, *LOSSY]), where=st.floats(0, 1),
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_a_file_cut_anywhere_gives_what_is_there_or_an_error_in_a_line(
    folder: Path, kind: tuple[str, str], where: float
) -> None:
    whole, path = folder / f"{'-'.join(kind)}.whole", folder / "cut.audio"
    rate = {"AC3": 48000, "AMR_NB": 8000, "OPUS": 48000}.get(kind[1], RATE)
    if not whole.exists():
        write(whole, sound(30000), rate, *kind)
    length = read_all(whole)[0].shape[1]
    raw = whole.read_bytes()
    path.write_bytes(raw[: round(where * len(raw))])
    decoded, told = None, ""
    try:
        decoded, _ = read_all(path)
    except AudioError as error:
        told = str(error)
    if decoded is not None:
        assert 0 < decoded.shape[1] <= length
    else:
        assert told.startswith(f"{path}: ")
        assert "\n" not in told
        assert "remove" not in told  # nobody is told to delete a recording


@pytest.mark.parametrize(
    "kind", [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_16"), ("AU", "PCM_16"),
             ("W64", "PCM_16"), ("RF64", "PCM_16"), ("NIST", "PCM_16"), ("CAF", "PCM_16"),
             ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("IPOD", "AAC"), ("MP4", "AAC"),
             ("MP3", "MPEG_LAYER_III")],
    ids="-".join,
)  # fmt: skip
def test_half_a_file_is_named_as_cut_off(tmp_path: Path, kind: tuple[str, str]) -> None:
    path = tmp_path / "half.audio"
    write(path, sound(60000), RATE, *kind)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    decoded, reader = read_all(path)
    assert 10000 < decoded.shape[1] < 50000
    assert reader.cut_off
    assert audio.probe(path, count=True).cut_off == reader.cut_off


# ---- Names, seeking, and what is no audio ----


@pytest.mark.parametrize("kind", [("WAV", "PCM_16"), ("IPOD", "AAC")])
def test_odd_names(tmp_path: Path, kind: tuple[str, str]) -> None:
    for name in ("12:30 call.wav", "http:x.mp3", "caf\udce9.wav", "-.wav", "50%.wav", "a?b#c.m4a"):
        write(tmp_path / name, sound(2048), RATE, *kind)
        assert read_all(tmp_path / name)[0].shape == (1, 2048)


@pytest.mark.parametrize(
    "kind", [("WAV", "PCM_16"), ("WAV", "GSM610"), ("WAV", "G721_32"), ("OGG", "VORBIS"),
             ("MP3", "MPEG_LAYER_III"), ("IPOD", "AAC")], ids="-".join
)  # fmt: skip
def test_a_part_is_that_of_the_whole(tmp_path: Path, kind: tuple[str, str]) -> None:
    path = tmp_path / "a.audio"
    write(path, sound(30000), RATE, *kind)
    whole = audio.read(path)[0]
    for start, frames in ((0, 100), (5000, 9000), (29000, None), (0, None), (29990, 9999)):
        stop = None if frames is None else start + frames
        np.testing.assert_array_equal(audio.read(path, start, frames)[0], whole[:, start:stop])


@pytest.mark.parametrize("name", ["text.wav", "text.m4a", "text.flac"])
def test_what_is_no_audio(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("this is no recording " * 99)
    with pytest.raises(AudioError, match="not readable as audio"):
        audio.probe(tmp_path / name)


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "secret.wav", sound(2000), RATE)
    for text in ("#EXTM3U\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
                 "ffconcat version 1.0\nfile secret.wav\n"):
        (tmp_path / "list.mp3").write_text(text)
        with pytest.raises(AudioError):
            read_all(tmp_path / "list.mp3")


def test_a_file_by_another_name(tmp_path: Path) -> None:
    write(tmp_path / "memo.mp3", sound(4096), RATE, "IPOD", "AAC")
    info = audio.probe(tmp_path / "memo.mp3")
    assert (info.format, info.subtype) == ("IPOD", "AAC")
    write(tmp_path / "take.flac", sound(4096), RATE, "WAV", "PCM_16")
    assert audio.probe(tmp_path / "take.flac").format == "WAV"
    assert not by_libsndfile("IPOD", "AAC")


def test_a_wav_of_more_than_its_header_can_count(tmp_path: Path) -> None:
    """The size has wrapped around; the file is sparse, so it takes no room."""
    path = tmp_path / "long.wav"
    soundfile.write(path, sound(1000, 2).T, RATE)
    there = 2**32 + 4 * 5000
    with_sizes(path, there - 2**32, None)
    with open(path, "r+b") as file:
        file.truncate(44 + there)
    info = audio.probe(path)
    assert "read to its end" in info.note
    assert info.frames == there // 4
    with Reader(path) as reader:
        first = next(reader.blocks(2000))
    np.testing.assert_allclose(first[:, :1000], sound(1000, 2), atol=2**-14)


def test_oggs_one_after_the_other_are_one_recording(tmp_path: Path) -> None:
    parts = []
    for number, quality in enumerate((0.2, 0.8)):
        path = tmp_path / f"{number}.ogg"
        given = sound(20000, seed=number)
        soundfile.write(path, given.T, RATE, format="OGG", subtype="VORBIS",
                        compression_level=quality)
        parts.append((path.read_bytes(), audio.read(path)[0]))
    joined = tmp_path / "joined.ogg"
    joined.write_bytes(parts[0][0] + parts[1][0])
    expected = np.concatenate([parts[0][1], parts[1][1]], axis=1)
    assert audio.probe(joined).frames == 40000
    np.testing.assert_array_equal(read_all(joined)[0], expected)
    np.testing.assert_array_equal(audio.read(joined, 19000, 9000)[0], expected[:, 19000:28000])


def test_an_mp3_whose_header_counts_wrong_has_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    whole = mp3(path)
    expected = read_all(path)[0]
    at = whole.index(b"Info") + 8 if b"Info" in whole else whole.index(b"Xing") + 8
    count = int.from_bytes(whole[at : at + 4], "big")
    for wrong in (count // 2, 2 * count):
        path.write_bytes(whole[:at] + wrong.to_bytes(4, "big") + whole[at + 4 :])
        decoded, reader = read_all(path)
        assert "read to its end" in reader.note
        assert 0 <= decoded.shape[1] - expected.shape[1] <= 1152
        np.testing.assert_array_equal(decoded[:, : expected.shape[1]], expected)


def test_an_aiff_that_was_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.aiff"
    soundfile.write(path, sound(5000)[0], RATE)
    raw = path.read_bytes()
    at = raw.index(b"SSND") + 4
    path.write_bytes(raw[:at] + bytes(4) + raw[at + 4 :])
    decoded, reader = read_all(path)
    assert decoded.shape[1] == 5000
    assert "never finished" in reader.note


def test_float_samples_of_a_w64(tmp_path: Path) -> None:
    """An extensible format, as ffmpeg writes it, is taken for integers by libsndfile."""
    path = tmp_path / "a.w64"
    given = sound(5000, 2)
    with av.open(str(path), "w", format="w64") as out:
        stream = out.add_stream("pcm_f32le", rate=RATE, layout="stereo")
        frame = av.AudioFrame.from_ndarray(given, "fltp", "stereo")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    info = audio.probe(path)
    assert (info.format, info.subtype) == ("W64", "FLOAT")
    np.testing.assert_array_equal(read_all(path)[0], given)


def test_an_encoding_that_no_decoder_knows_is_an_error(tmp_path: Path) -> None:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 0x7777, 1, RATE, 2 * RATE, 2, 16)
    (tmp_path / "a.wav").write_bytes(b"RIFF\xff\0\0\0WAVE" + form + b"data\x80\0\0\0" + bytes(128))
    with pytest.raises(AudioError, match="not readable as audio"):
        Reader(tmp_path / "a.wav")
