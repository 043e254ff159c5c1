"""Lost metadata: every container, made by hand, gives the exact list; no damage raises."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile
from conftest import require_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import ffmpeg, metadata_scan, probe
from gan_denoise.audio.containers import CONTAINERS
from gan_denoise.audio.metadata import lost_metadata
from gan_denoise.audio.metadata_scan import scan_metadata
from gan_denoise.audio.writer import Writer

RATE = 16000  # Hz
TONE = 0.3 * np.sin(0.1 * np.arange(3200, dtype=np.float32))
FIELDS = {"title": "A title", "copyright": "A house", "software": "A program",
          "artist": "An artist", "comment": "A comment", "date": "2019", "album": "An album",
          "license": "CC0", "tracknumber": "7", "genre": "Rock"}  # fmt: skip


# ---- Files by hand ----


@cache
def plain(format: str, subtype: str = "PCM_16") -> bytes:
    data = io.BytesIO()
    soundfile.write(data, TONE, RATE, subtype, format=format)
    return data.getvalue()


def chunk(name: bytes, body: bytes, order: str = "<") -> bytes:
    return name + struct.pack(order + "I", len(body)) + body + b"\0" * (len(body) % 2)


def wav(*chunks: bytes, info: dict[str, bytes] | None = None, order: str = "<") -> bytes:
    """RIFF or RIFX, half of the chunks before the data."""
    parts = [*chunks]
    if info is not None:
        items = b"".join(chunk(key.encode(), text, order) for key, text in info.items())
        parts.append(chunk(b"LIST", b"INFO" + items, order))
    sound = chunk(b"data", (TONE * 32767).astype(order + "i2").tobytes(), order)
    parts.insert(len(parts) // 2, sound)
    layout = struct.pack(order + "HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    return chunk(b"RIFF" if order == "<" else b"RIFX",
                 b"WAVE" + chunk(b"fmt ", layout, order) + b"".join(parts), order)  # fmt: skip


def aiff(*chunks: bytes) -> bytes:
    return chunk(b"FORM", plain("AIFF")[8:] + b"".join(chunks), ">")


def caf(info: dict[str, str], *chunks: bytes) -> bytes:
    text = struct.pack(">I", len(info))
    text += b"".join(f"{key}\0{value}\0".encode() for key, value in info.items())
    info_chunk = b"info" + struct.pack(">q", len(text)) + text
    at = 8 + 12 + 32  # behind the description of the audio
    return plain("CAF")[:at] + info_chunk + b"".join(chunks) + plain("CAF")[at:]


def comments(*lines: str) -> bytes:
    parts = [b"an encoder", *(line.encode() for line in lines)]
    sized = [struct.pack("<I", len(part)) + part for part in parts]
    return sized[0] + struct.pack("<I", len(lines)) + b"".join(sized[1:])


def flac(*lines: str, blocks: tuple[tuple[int, bytes], ...] = ()) -> bytes:
    raw, at, last = plain("FLAC"), 4, 0
    while not last:
        last, size = raw[at] & 128, int.from_bytes(raw[at + 1 : at + 4])
        at += 4 + size
    head = raw[:4] + b"\0" + raw[5 : 8 + 34]
    for kind, body in (*blocks, (1, b"\0" * 9), (4 | 128, comments(*lines))):
        head += bytes([kind]) + len(body).to_bytes(3) + body
    return head + raw[at:]


def page(head: bytes, number: int, flags: int, lacing: bytes, body: bytes) -> bytes:
    raw = head[:5] + bytes([flags]) + head[6:18] + struct.pack("<II", number, 0)
    raw += bytes([len(lacing)]) + lacing + body
    check = 0
    for byte in raw:
        check ^= byte << 24
        for _ in range(8):
            check = (check << 1 ^ (0x104C11DB7 if check & 0x80000000 else 0)) & 0xFFFFFFFF
    return raw[:22] + struct.pack("<I", check) + raw[26:]


def ogg(subtype: str, *lines: str) -> bytes:
    """The comments packet exchanged, over pages of at most 20 segments."""
    raw, at, pages = plain("OGG", subtype), 0, []
    while at < len(raw):
        lacing = raw[at + 27 : at + 27 + raw[at + 26]]
        start = at + 27 + len(lacing)
        pages.append((raw[at : at + 27], lacing, raw[start : start + sum(lacing)]))
        at = start + sum(lacing)
    packet, done, used = [b""], 0, 1
    while done < (2 if subtype == "VORBIS" else 1):
        _, lacing, body = pages[used]
        for size in lacing:
            packet[-1], body = packet[-1] + body[:size], body[size:]
            if size < 255:
                done += 1
                packet.append(b"")
        used += 1
    opus = subtype == "OPUS"
    packet[0] = b"OpusTags" + comments(*lines) if opus else b"\3vorbis" + comments(*lines) + b"\1"
    lacing, body = b"", b""
    for part in packet[: 1 if opus else 2]:
        lacing += b"\xff" * (len(part) // 255) + bytes([len(part) % 255])
        body += part
    new, flags = [pages[0]], 0
    while lacing:
        size = sum(lacing[:20])
        new.append((pages[0][0][:5] + bytes([flags]) + b"\0" * 8 + pages[0][0][14:], lacing[:20],
                    body[:size]))  # fmt: skip
        flags, lacing, body = int(lacing[:20][-1] == 255), lacing[20:], body[size:]
    whole = [*new, *pages[used:]]
    return b"".join(page(h, n, h[5], lacing, body) for n, (h, lacing, body) in enumerate(whole))


def syncsafe(size: int) -> bytes:
    return bytes([size >> 21 & 127, size >> 14 & 127, size >> 7 & 127, size & 127])


def id3(version: int, *frames: tuple[str, bytes], flags: int = 0) -> bytes:
    body = b""
    for key, text in frames:
        size = syncsafe(len(text)) if version == 4 else struct.pack(">I", len(text))
        body += key.encode() + (size + b"\0\0" if version > 2 else size[1:]) + text
    body += b"\0" * 20
    return b"ID3" + bytes([version, 0, flags]) + syncsafe(len(body)) + body


def mp3(front: bytes = b"", back: bytes = b"") -> bytes:
    return front + plain("MP3", "MPEG_LAYER_III") + back


PICTURE = struct.pack(">II9s5I", 3, 9, b"image/png", 0, 1, 1, 24, 0)  # FLAC's head of a picture
PICTURE += struct.pack(">I", 28000) + b"picture" * 4000
UTF16 = b"\1" + "Ein Titel".encode("utf-16")
APE = b"APETAGEX" + struct.pack("<IIII", 2000, 32, 0, 0) + bytes(8)
ID3V1 = b"TAG" + b"A title".ljust(90, b"\0") + b"2019" + bytes(31)
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")

FILES: dict[str, tuple[str, bytes, list[str]]] = {
    "wav": (
        ".wav",
        wav(
            chunk(b"cue ", bytes(28)), chunk(b"bext", bytes(602)), chunk(b"iXML", b"<x/>"),
            chunk(b"PEAK", bytes(16)), chunk(b"JUNK", bytes(27)), chunk(b"smpl", bytes(36)),
            chunk(b"LIST", b"adtl" + chunk(b"labl", b"\1\0\0\0one")), chunk(b"minf", bytes(16)),
            chunk(b"id3 ", id3(3, ("TPE2", b"\0Band"))), chunk(b"_PMX", b"<x/>"),
            chunk(b"LIST", b"wxyz"), chunk(b"inst", bytes(7)), chunk(b"cart", bytes(2048)),
            info={"IENG": b"Engineer\0", "INAM": b"A title\0", "IKEY": b"\0"},
        ),
        ["ID3 tag", "LIST chunk", "XMP", "bext (broadcast extension)", "cart (broadcast)",
         "chunk minf", "cue point labels", "cue points", "iXML", "inst (instrument)",
         "smpl (sampler loops)", "tag IENG"],
    ),
    "wav, a text that libsndfile gives up on": (
        ".wav",
        wav(info={"INAM": b"A title\0", "ICMT": b"x" * 3000, "IART": b"me"}),
        ["tag IART", "tag ICMT"],
    ),
    "wav, zeros behind": (".wav", wav() + bytes(99), []),
    "rifx": (
        ".wav",
        wav(chunk(b"cue ", bytes(28), ">"), info={"INAM": b"A", "ISBJ": b"Sub"}, order=">"),
        ["cue points", "tag ISBJ"],
    ),
    "rf64": (".rf64", plain("RF64") + chunk(b"bext", bytes(602)), ["bext (broadcast extension)"]),
    "w64": (
        ".w64",
        plain("W64").replace(
            b"data" + W64_TAIL,
            b"bext" + W64_TAIL + struct.pack("<q", 626) + bytes(608) + b"list" + W64_TAIL
            + struct.pack("<q", 38) + b"INFO" + chunk(b"INAM", b"ab") + bytes(2)
            + b"data" + W64_TAIL,
        ),
        ["bext (broadcast extension)", "tag INAM"],
    ),
    "aiff": (
        ".aiff",
        aiff(
            chunk(b"MARK", bytes(2), ">"), chunk(b"INST", bytes(20), ">"),
            chunk(b"COMT", struct.pack(">HIHH", 1, 0, 0, 2) + b"ab", ">"),
            chunk(b"NAME", b"A title.", ">"), chunk(b"ANNO", b"once", ">"),
            chunk(b"ANNO", b"more", ">"), chunk(b"APPL", b"stoc\4word ", ">"),
            chunk(b"ID3 ", id3(3, ("TPE2", b"\0Band")), ">"), chunk(b"basc", bytes(84), ">"),
        ),
        ["ID3 tag", "application data (stoc)", "chunk basc", "comments (COMT)", "cue points",
         "inst (instrument)", "tag ANNO (more than one)"],
    ),
    "caf": (
        ".caf",
        caf({"title": "A title", "tempo": "120", "encoding application": "X", "comments": "C"},
            b"mark" + struct.pack(">q", 8) + bytes(8)),
        ["cue points", "tag tempo"],
    ),
    "flac": (
        ".flac",
        flac("TITLE=A title", "artist=One", "ARTIST=Two", "DESCRIPTION=Text", "EMPTY=",
             "REPLAYGAIN_TRACK_GAIN=-3 dB", "ENCODER=X", "SOFTWARE=Y", "CHAPTER001NAME=One",
             blocks=((3, b"\xff" * 8 + bytes(10)), (2, b"riff" + bytes(9)), (6, PICTURE))),
        ["application data (riff)", "chapters", "picture", "tag ARTIST (more than one)",
         "tag DESCRIPTION", "tag REPLAYGAIN_TRACK_GAIN"],
    ),
    "vorbis": (
        ".ogg",
        ogg("VORBIS", "TITLE=A title", "METADATA_BLOCK_PICTURE=" + 20000 * "A", "MOOD=Gray"),
        ["picture", "tag MOOD"],
    ),
    "opus": (
        ".opus",
        ogg("OPUS", "METADATA_BLOCK_PICTURE=" + 20000 * "A", "TITLE=A title", "ENCODER=opusenc",
            "R128_TRACK_GAIN=0", "ENCODER_OPTIONS=--speech"),
        ["picture", "tag R128_TRACK_GAIN"],
    ),
    "nist": (
        ".sph",
        plain("NIST").replace(b"end_head\n" + bytes(21), b"speaker_id -s5 FADG0\nend_head\n", 1),
        ["tag speaker_id"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_exact_list(tmp_path: Path, name: str) -> None:
    suffix, data, expected = FILES[name]
    path = tmp_path / f"file{suffix}"
    path.write_bytes(data)
    assert soundfile.info(path).frames == len(TONE)
    assert lost_metadata(path) == expected


# ---- MP3: by FFmpeg ----

MP3S = {
    "ID3v2.2": (
        mp3(id3(2, ("TT2", b"\0A title"), ("TBP", b"\x00120"), ("COM", b"\0eng\0Some text"))),
        {"title": "A title", "tbp": "120", "comment": "Some text"}, [],
    ),
    "ID3v2.3": (
        mp3(id3(3, ("TIT2", UTF16), ("TBPM", b"\x00120"), ("TSSE", b"\0LAME"),
                ("TCOP", b"\0A house"), ("PRIV", b"owner\0" + bytes(9)),
                ("TXXX", b"\1" + "REPLAYGAIN_TRACK_GAIN\0".encode("utf-16") + UTF16[1:])), ID3V1),
        {"title": "Ein Titel", "tbpm": "120", "copyright": "A house",
         "replaygain_track_gain": "Ein Titel"}, [],
    ),
    "ID3v2.4 with chapters": (
        mp3(id3(4, ("TIT2", b"\3" + 300 * b"x"), ("TPE2", b"\3Band"), ("TDRC", b"\x032019-05-04"),
                ("CHAP", b"one\0" + bytes(16)))),
        {"title": 300 * "x", "album_artist": "Band", "date": "2019-05-04", "chapters": "1"}, [],
    ),
    "a picture that is none": (
        mp3(id3(3, ("TIT2", b"\0A title"), ("APIC", b"\0image/png\0\3\0" + PICTURE))),
        {"title": "A title"}, ["picture"],
    ),
    "APE and ID3v1": (mp3(back=APE + ID3V1), {"title": "A title"}, []),
    "FLAC behind an ID3 tag": (id3(4, ("TPE1", b"\3Me")) + flac("TITLE=A"), {"title": "A"}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", MP3S)
def test_tags_that_ffmpeg_reads_come_over(tmp_path: Path, name: str) -> None:
    data, kept, lost = MP3S[name]
    path = tmp_path / "file.mp3"
    path.write_bytes(data)
    target = rewrite(path)
    assert kept.items() <= ffmpeg.tags(target).items()
    assert lost_metadata(path, target) == lost


# ---- What survives, with the libsndfile that is installed ----


def rewrite(path: Path) -> Path:
    target = path.with_stem("copy")
    info = probe(path)
    with Writer(target, info.sample_rate, 1, info.format, info.subtype, source=path) as writer:
        writer.write(TONE)
    return target


@pytest.mark.parametrize("version", ["18.1.0", "19.0.2"])
def test_tags_of_any_bytes_are_read_by_each_pyav(tmp_path: Path, monkeypatch, version: str) -> None:
    """PyAV 19 escapes bytes that are no UTF-8, and knows no option for them."""
    def before(file, options, metadata_errors):
        return SimpleNamespace(metadata={"title": b"\xff a".decode("utf-8", metadata_errors)})

    def since_19(file, options):
        return SimpleNamespace(metadata={"title": b"\xff a".decode("utf-8", "surrogateescape")})

    monkeypatch.setattr(ffmpeg, "load_av", lambda: SimpleNamespace(
        __version__=version, error=av.error, open=before if version < "19" else since_19))
    (tmp_path / "a.mp3").touch()
    opened = ffmpeg.open_input(tmp_path / "a.mp3", {})
    assert ffmpeg.kept_tags(opened.metadata) == {"title": "\ufffd a"}


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_plain_files_lose_nothing(tmp_path: Path, suffix: str) -> None:
    require_encoder(suffix)
    path = tmp_path / f"plain{suffix}"
    rate = {".amr": 8000, ".3gp": 8000, ".ac3": 48000}.get(suffix, RATE)
    with Writer(path, rate, 1) as writer:
        writer.write(TONE)
    assert lost_metadata(path) == []
    assert lost_metadata(path, rewrite(path)) == []


@pytest.mark.parametrize(
    "format", [("WAV", "PCM_16"), ("WAVEX", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
               ("OGG", "OPUS"), ("AIFF", "FLOAT"), ("CAF", "ALAC_16"), ("RF64", "PCM_16"),
               ("AIFF", "ULAW")]
)  # fmt: skip
def test_texts_of_libsndfile_survive(tmp_path: Path, format: tuple[str, str]) -> None:
    path = tmp_path / "full.audio"
    with soundfile.SoundFile(path, "w", RATE, 1, format[1], format=format[0]) as file:
        for name, text in FIELDS.items():
            setattr(file, name, text)
        file.write(TONE)
    assert lost_metadata(path) == []
    assert lost_metadata(path, rewrite(path)) == []


MADE: list[tuple[str, dict[str, str], Callable[[str, bytes], bytes]]] = [
    (".wav", metadata_scan.INFO_TAGS, lambda key, text: wav(info={key: text})),
    (".aiff", metadata_scan.AIFF_TAGS, lambda key, text: aiff(chunk(key.encode(), text, ">"))),
    (".caf", metadata_scan.CAF_TAGS, lambda key, text: caf({key: text.decode()})),
    (".flac", metadata_scan.VORBIS_TAGS, lambda key, text: flac(f"{key}={text.decode()}")),
    (".ogg", metadata_scan.VORBIS_TAGS, lambda key, text: ogg("VORBIS", f"{key}={text.decode()}")),
    (".opus", metadata_scan.OPUS_TAGS, lambda key, text: ogg("OPUS", f"{key}={text.decode()}")),
]  # fmt: skip


@pytest.mark.parametrize("kind", range(len(MADE)), ids=[made[0] for made in MADE])
def test_each_tag_said_to_survive_does(tmp_path: Path, kind: int) -> None:
    suffix, known, make = MADE[kind]
    for key, name in known.items():
        path = tmp_path / f"one{suffix}"
        expected = "Rock" if name == "genre" else "2019"
        path.write_bytes(make(key, expected.encode()))
        target = rewrite(path)
        with soundfile.SoundFile(target) as file:
            text = getattr(file, name)
        assert text.startswith(expected), key
        assert lost_metadata(path) == lost_metadata(path, target) == []


def test_fields_that_the_target_did_not_take(tmp_path: Path) -> None:
    path = tmp_path / "full.flac"
    path.write_bytes(flac(*(f"{name}={text}" for name, text in FIELDS.items()), "MOOD=Gray"))
    lost = {".wav": ["MOOD", "license"],
            ".aiff": ["MOOD", "album", "date", "genre", "license", "tracknumber"],
            ".ogg": ["MOOD"], ".mp3": []}
    for suffix, names in lost.items():
        target = tmp_path / f"copy{suffix}"
        with Writer(target, RATE, 1, source=path) as writer:
            writer.write(TONE)
        assert lost_metadata(path, target) == [f"tag {name}" for name in names]
    with Writer(tmp_path / "copy.au", RATE, 1, source=path) as writer:
        writer.write(TONE)
    assert len(lost_metadata(path, tmp_path / "copy.au")) == len(FIELDS) + 1  # none is kept


def test_fields_that_came_over_altered(tmp_path: Path) -> None:
    path = tmp_path / "latin.wav"
    path.write_bytes(wav(info={"INAM": b"Gr\xfc\xdfe\0"}))
    assert lost_metadata(path) == lost_metadata(path, rewrite(path)) == ["tag title (altered)"]


# ---- Damage ----


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def check_names(names: list[str]) -> None:
    """Whatever the damage, a report gets names that it can print, each once and in order."""
    assert names == sorted(set(names))
    assert all(name.strip() and name.isprintable() for name in names)


@given(name=st.sampled_from(list(FILES)), where=st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_cut_file_never_raises(damaged: Path, name: str, where: float) -> None:
    suffix, data, _ = FILES[name]
    path = damaged / f"cut{suffix}"
    path.write_bytes(data[: round(where**3 * len(data))])  # more often in the header
    check_names(lost_metadata(path))


@given(name=st.sampled_from(list(FILES)), data=st.data())
@settings(max_examples=60, deadline=None)
def test_broken_bytes_never_raise(name: str, data: st.DataObject) -> None:
    raw = bytearray(FILES[name][1])
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, min(len(raw), 700) - 1))] = data.draw(st.integers(0, 255))
    check_names(sorted(set(scan_metadata(io.BytesIO(raw), {}))))  # libsndfile is not under test


def test_what_stands_before_the_damage_is_found(tmp_path: Path) -> None:
    data = flac("MOOD=Gray", "KEY=C", blocks=((6, PICTURE),))
    path = tmp_path / "cut.flac"
    path.write_bytes(data[: data.index(b"KEY=C")])
    assert lost_metadata(path) == ["picture", "tag MOOD"]
    assert lost_metadata(tmp_path / "missing.wav") == []


class CountingFile(io.FileIO):
    """A file that counts the bytes that are read of it."""

    count = 0

    def read(self, size: int = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_the_audio_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(struct.pack("<4sI4s4sI", b"RIFF", 2**31, b"WAVE", b"data", 2**31))
        file.seek(2**31, 1)
        file.write(chunk(b"cue ", bytes(28)))
    with CountingFile(path) as opened:
        assert list(scan_metadata(opened, {})) == ["cue points"]
        assert opened.count < 1000
