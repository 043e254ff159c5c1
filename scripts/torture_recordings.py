"""The odd and hostile recordings of torture_inputs.py, each of a few lines."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 16000
CONTAINERS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST",
              "VOC")
SUFFIXES = {"WAVEX": "wav", "RF64": "wav", "NIST": "sph"}
MAGICS = {"wav": b"RIFF\xff\xff\xff\xffWAVEfmt ", "rf64.wav": b"RF64\xff\xff\xff\xffWAVEds64",
          "w64": b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00", "flac": b"fLaC\0\0\0\x22",
          "ogg": b"OggS\0\2", "mp3": b"\xff\xfb\x90\x64", "id3.mp3": b"ID3\4\0\0\0\0\x0f\x76",
          "m4a": b"\0\0\0\x20ftypM4A ", "mkv": b"\x1a\x45\xdf\xa3", "aiff": b"FORM\0\0\1\0AIFF",
          "caf": b"caff\0\1\0\0desc", "au": b".snd\0\0\0\x18", "amr": b"#!AMR\n",
          "wma": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "avi": b"RIFF\0\1\0\0AVI LIST",
          "sph": b"NIST_1A\n   1024\n", "ts": b"G" + bytes(187) + b"G", "flv": b"FLV\1\5\0\0\0\x09",
          "ape": b"MAC \x96\x0f", "wv": b"wvpk\x20\0\0\0\x07\4", "tta": b"TTA1\1\0",
          "aac": b"\xff\xf1P\x80",
          "voc": b"Creative Voice File\x1a", "opus": b"OggS\0\2" + bytes(20) + b"\1\x13OpusHead"}


def make_recordings(folder: Path) -> None:
    """Write all files into a folder."""
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(2 * RATE)
    for name, samples, rate in signals(noise):
        sf.write(folder / f"signal_{name}.wav", samples, rate,
                 "FLOAT" if samples.dtype == np.float32 else "DOUBLE" if name == "beyond" else None)
    wav = sound(noise, "WAV")
    for name, content in wavs(wav):
        (folder / f"wav_{name}.wav").write_bytes(content)
    for kind in CONTAINERS:
        suffix = SUFFIXES.get(kind, kind.lower())
        content = sound(noise[:100] if kind != "MP3" else noise, kind)
        (folder / f"claims_{kind}.{suffix}").write_bytes(claiming(kind, content))
    for name, content in tagged(wav, sound(noise, "MP3"), sound(noise, "FLAC")):
        (folder / f"tag_{name}").write_bytes(content)
    for suffix, magic in MAGICS.items():
        (folder / f"random_{len(magic)}.{suffix}").write_bytes(magic + rng.bytes(20_000))
    (folder / "random_nothing.wav").write_bytes(b"")
    (folder / "random_text.mp3").write_bytes(b"This is no recording.\n" * 100)
    (folder / "random_zeros.wav").write_bytes(bytes(100_000))
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        content = sound(noise, kind)
        for power in range(len(content).bit_length()):
            name = f"cut_{power:02d}.{kind.lower()}"
            (folder / name).write_bytes(content[: 2**power])
    sparse(folder / "sparse_3_gb_wav_of_1_kb.wav", wav[:44])
    sparse(folder / "sparse_zeros.wav", b"")


def sound(samples: np.ndarray, kind: str, rate: int = RATE) -> bytes:
    """Return samples in a container of libsndfile."""
    file = io.BytesIO()
    sf.write(file, samples, rate, sf.default_subtype(kind), format=kind)
    return file.getvalue()


def signals(noise: np.ndarray) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yield samples that are unusual: name, float samples, rate in Hz."""
    single = noise.astype(np.float32)
    yield "1_sample", noise[:1], RATE
    yield "2_samples", noise[:2], RATE
    yield "no_sample", noise[:0], RATE
    yield "384_khz", np.tile(noise, 12), 384_000
    yield "1_hz", noise[:50], 1
    yield "2_ghz", noise[:1000], 2_000_000_000
    yield "64_channels", noise.reshape(-1, 64), RATE
    yield "1000_channels", noise.reshape(-1, 1000), RATE
    yield "nan", np.where(np.arange(len(single)) == 999, np.float32("nan"), single), RATE
    yield "infinite", np.where(np.arange(len(single)) == 999, np.float32("inf"), single), RATE
    yield "dc", np.full(2 * RATE, 0.9), RATE
    yield "square", np.where(np.arange(2 * RATE) % 100 < 50, 1.0, -1.0), RATE
    yield "denormals", np.full(2 * RATE, 1e-42, np.float32), RATE
    yield "largest", (single * np.float32(3e38)), RATE
    yield "beyond", noise * 1e300, RATE
    yield "silence", np.zeros(2 * RATE), RATE
    yield "impulse", np.eye(1, 2 * RATE, 500)[0], RATE


def wavs(wav: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield WAV files whose header is wrong."""
    head, samples = wav[:36], wav[44:]

    def form(**changes: int) -> bytes:
        values = {"tag": 1, "channels": 1, "rate": RATE, "bytes": 2 * RATE, "align": 2, "bits": 16}
        return struct.pack("<4sIHHIIHH", b"fmt ", 16, *(values | changes).values())

    riff = head[:12]
    for size in (0, 1, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"data_size_{size:x}", head + struct.pack("<4sI", b"data", size) + samples
    yield "format_size_ffffffff", riff + b"fmt \xff\xff\xff\xff" + wav[20:]
    yield "junk_size_ffffffff", riff + b"junk\xff\xff\xff\xff" + wav[12:]
    yield "riff_size_ffffffff", b"RIFF\xff\xff\xff\xff" + wav[8:]
    for name, changes in {
        "no_channels": {"channels": 0}, "65535_channels": {"channels": 65535, "align": 65534},
        "no_rate": {"rate": 0}, "rate_ffffffff": {"rate": 2**32 - 1}, "no_align": {"align": 0},
        "no_bits": {"bits": 0}, "65535_bits": {"bits": 65535}, "unknown_format": {"tag": 0x7777},
        "adpcm": {"tag": 0x11, "bits": 4, "align": 65535}, "extensible": {"tag": 0xFFFE},
    }.items():
        yield name, riff + form(**changes) + wav[36:]
    yield "two_formats", riff + form() + form(channels=2, align=4) + wav[36:]
    yield "two_datas", wav + wav[36:]
    yield "100000_chunks", wav[:36] + (b"abcd" + bytes(4)) * 100_000 + wav[36:]
    yield "no_data", wav[:36]
    yield "list_in_itself", wav + b"LIST\xff\xff\xff\xffINFO" + b"INAM\xff\xff\xff\xff" * 500


def claiming(kind: str, content: bytes) -> bytes:
    """Return a short file whose header claims a thousand million samples per channel."""
    many = 10**9
    data = bytearray(content)

    def put(behind: bytes, offset: int, layout: str, value: int) -> None:
        struct.pack_into(layout, data, data.index(behind) + offset, value)

    if kind in ("WAV", "WAVEX"):
        put(b"data", 4, "<I", 2 * many)
        struct.pack_into("<I", data, 4, 2 * many + 36)
    elif kind == "RF64":
        put(b"ds64", 16, "<Q", 2 * many)
        put(b"ds64", 24, "<Q", many)
    elif kind == "W64":
        put(b"data", 16, "<Q", 2 * many + 24)
    elif kind == "AIFF":
        put(b"COMM", 10, ">I", many)
        put(b"SSND", 4, ">I", 2 * many + 8)
    elif kind == "AU":
        struct.pack_into(">I", data, 8, 2 * many)
    elif kind == "CAF":
        put(b"data", 4, ">Q", 2 * many + 4)
    elif kind == "FLAC":
        data[21] &= 0xF0
        struct.pack_into(">I", data, 22, many)
    elif kind == "OGG":  # the last page; its checksum is wrong then
        struct.pack_into("<Q", data, data.rindex(b"OggS") + 6, many)
    elif kind == "MP3":
        at = data.find(b"Info") if b"Info" in data else data.find(b"Xing")
        if at > 0:
            struct.pack_into(">II", data, at + 8, many // 1152, 2**31)
    elif kind == "NIST":
        at = data.index(b"sample_count")
        end = data.index(b"\n", at)
        text = f"sample_count -i {many}".encode()
        data[at:end] = text
        data[1024 : 1024 + len(text) - (end - at)] = b""
    else:
        data[27:30] = b"\xff\xff\xff"  # of VOC's first block
    return bytes(data)


def tagged(wav: bytes, mp3: bytes, flac: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield files with tags of claimed sizes."""
    gigabyte = b"\x04\0\0\x7f\x7f\x7f\x7f"  # 268 MB, the most that ID3 can say
    yield "id3_claims_all.mp3", b"ID3" + gigabyte + mp3
    yield "id3_1000_nested.mp3", b"".join(b"ID3\4\0\0\0\0" + bytes([7, 104 - 10 * (n % 2)])
                                           for n in range(1000)) + mp3
    yield "id3_100000_empty.mp3", b"ID3\4\0\0\0\0\0\0" * 100_000 + mp3
    frame = b"APIC\x7f\x7f\x7f\x7f\0\0\0image/png\0\3\0"
    yield "id3_picture_claims_all.mp3", b"ID3\4\0\0\0\0\x10\0" + frame + bytes(2048) + mp3
    yield "id3_wav.wav", b"ID3" + gigabyte + wav
    comments = struct.pack("<I4sI", 4, b"test", 2**32 - 1)
    for name, block in {"comments_claim_all": b"\4" + len(comments).to_bytes(3, "big") + comments,
                        "picture_of_16_mb": b"\6\xff\xff\xff",
                        "10000_blocks": b"\1\0\0\4abcd" * 10_000}.items():
        yield f"{name}.flac", flac[:4] + b"\0" + flac[5:42] + block + flac[42:]
    ape = b"APETAGEX" + struct.pack("<IIII", 2000, 2**32 - 1, 2**32 - 1, 0) + bytes(8)
    yield "ape.mp3", mp3 + ape


def sparse(path: Path, head: bytes) -> None:
    """Write a file of 3 GB that takes no room on the disk; its header fits where it has one."""
    size = 3 * 2**30
    if head:
        head = head[:4] + struct.pack("<I", size - 8) + head[8:40] + struct.pack("<I", size - 44)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(size)
