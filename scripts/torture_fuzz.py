"""Fuzzing of what reads files from outside, guided by coverage (atheris); see torture_inputs.py.

    python scripts/torture_fuzz.py TARGET --runs 20000 --out build/torture-inputs/fuzz

An exception that a target does not allow is a finding: it is written to OUT/TARGET/findings with
the input that made it, once for each place that it comes from, and the run goes on. What libFuzzer
itself ends (out of memory, out of time, a crash) is left there as well. `pip install
'gan-denoise[torture]'` brings atheris.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import struct
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gan_denoise"]):
    from gan_denoise.audio import metadata, wav_chunks
    from gan_denoise.audio.headers import check_open_header
    from gan_denoise.audio.metadata_scan import scan_metadata
    from gan_denoise.audio.reader import Reader
    from gan_denoise.audio.wav_pipe import PipeReader
    from gan_denoise.config import load_config
    from gan_denoise.config.saved import settings_of_stranger
    from gan_denoise.core.checksums import BROKEN_ARRAYS
    from gan_denoise.core.errors import GanDenoiseError
    from gan_denoise.data.dataset_layouts import read_layout
    from gan_denoise.data.pairs import notes_beside
    from gan_denoise.evaluation.results import read_scores
    from gan_denoise.inference.folder_journal import Journal
    from gan_denoise.inference.journal_entries import Entries
    from gan_denoise.inference.model_limits import check_network, check_settings

import numpy as np
import soundfile as sf

SECONDS, MEGABYTES = 20, 1500  # of one input
FOLDER = Path(tempfile.mkdtemp(prefix="torture-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir()
                               else None))


def put(name: str, data: bytes) -> Path:
    """Write an input as a file in memory; return its path."""
    path = FOLDER / name
    path.write_bytes(data)
    return path


# ---- Targets: what is called, and what it may raise beside GanDenoiseError ----------------------
def headers(data: bytes) -> None:
    """Headers of audio files."""
    check_open_header(io.BytesIO(data))


def tags(data: bytes) -> None:
    """Metadata found in the bytes of a file, and copied from one WAV to another."""
    list(scan_metadata(io.BytesIO(data), {}))
    source, target = put("source.wav", data), put("target.wav", wav())
    wav_chunks.copy_chunks(source, target)


def files(data: bytes) -> None:
    """Whole files: libsndfile or FFmpeg decode them, and tags are compared."""
    path = put("file", data)
    metadata.lost_metadata(path)
    with Reader(path) as reader:
        done = 0
        for block in reader.blocks(2**14):
            done += block.size
            if done > 2**22:
                break


def pipe(data: bytes) -> None:
    """WAV streams."""
    reader = PipeReader(io.BytesIO(data))
    for number, _ in enumerate(reader.blocks(4096)):
        if number > 50:
            break


def settings(data: bytes) -> None:
    """Settings files: the user's own and those of a model."""
    path = put("config.yaml", data)
    with contextlib.suppress(GanDenoiseError):
        check_settings(settings_of_stranger(path))
    if len(data) < 200:  # what it extends takes a tenth of a second
        with contextlib.suppress(GanDenoiseError, FileNotFoundError):
            load_config(path)


def manifest(data: bytes) -> None:
    """Manifests of pairs, notes beside folders, and scores of an evaluation."""
    suffix = (".csv", ".jsonl", ".json")[data[0] % 3 if data else 0]
    path = put(f"manifest{suffix}", data[1:])
    put("scores.json", data[1:])
    try:
        for read in (read_layout, lambda path: notes_beside(path.parent / "x"),
                     lambda path: read_scores(path.parent)):
            with contextlib.suppress(GanDenoiseError):
                read(path)
    finally:
        path.unlink()


def journal(data: bytes) -> None:
    """Journals of an output folder."""
    entries = Entries()
    for number, line in enumerate(data.split(b"\n")):
        entries.take(line, "journal", number)
    put(".gan-denoise-journal.jsonl", data)
    read = Journal(FOLDER)
    read.refresh()
    read.entry(FOLDER / "a.wav")
    read.knows(FOLDER / "a.wav")
    read.remove_parts()


def model(data: bytes) -> None:
    """The check of networks before ONNX Runtime sees them, and filterbanks."""
    with contextlib.suppress(ValueError):
        check_network(data)
    with contextlib.suppress(*BROKEN_ARRAYS, MemoryError):  # a size that the header claims
        np.load(io.BytesIO(data), allow_pickle=False)


# ---- Seeds ---------------------------------------------------------------------------------------
def wav(subtype: str = "PCM_16", kind: str = "WAV", channels: int = 1) -> bytes:
    """Return a short sound in a container of libsndfile."""
    file = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal((400, channels))
    sf.write(file, noise, 16000, subtype, format=kind)
    return file.getvalue()


def sounds() -> Iterator[bytes]:
    """Yield a short sound of each container of libsndfile, some with tags before or behind."""
    for kind in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "NIST", "MP3",
                 "VOC", "PAF", "SVX", "IRCAM", "MAT5"):
        with contextlib.suppress(sf.LibsndfileError, ValueError):
            yield wav(sf.default_subtype(kind), kind)
    yield wav("FLOAT", channels=2)
    yield b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + wav()
    info = b"INFO" + struct.pack("<4sI", b"INAM", 6) + b"title\0"
    yield wav() + struct.pack("<4sI", b"LIST", len(info)) + info
    yield wav() + struct.pack("<4sI", b"cue ", 4) + bytes(4)


def texts() -> Iterator[bytes]:
    """Yield settings."""
    root = Path(__file__).resolve().parents[1]
    for path in sorted((root / "configs").rglob("*.yaml"))[:8]:
        yield path.read_bytes()[:2000]
    yield b"a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    yield b"training: {steps: 5, adam_betas: [0.9, 0.999]}\ndata: {clean: 2024-01-05}\n"
    yield b"generator: {name: unet, channels: [4, 8]}\nplugins: [json]\nextends: pretrain\n"


def rows() -> Iterator[bytes]:
    """Yield manifests; the first byte says which kind."""
    yield b"\0noisy,clean,snr_db\na.wav,b.wav,5\n"
    yield b"\1" + b'{"noisy": "a.wav", "clean": "b.wav", "snr_db": 5}\n{"file": "a"}\n'
    yield b"\2" + b'[{"noisy": "a.wav", "clean": "b.wav", "split": "train", "speaker": 3}]'
    yield b"\2" + json.dumps({"format_version": 1, "systems": ["noisy"], "rows": [
        {"name": "a", "system": "noisy", "scores": {"pesq_wb": 1.0}}], "notices": [],
        "versions": {}}).encode()


def lines() -> Iterator[bytes]:
    """Yield journals."""
    for state in ("begun", "done", "failed"):
        yield json.dumps({"state": state, "target": "a.wav", "time": 1.5, "host": "h", "input": "i",
                          "settings": "s", "outputs": {"a.wav": 3}, "figures": {"x": 1}}
                         ).encode() + b"\n"


def networks() -> Iterator[bytes]:
    """Yield the beginning of a network, a whole one, and a filterbank."""
    root = Path(__file__).resolve().parents[1] / "checkpoints"
    yield next(root.glob("*/model.onnx")).read_bytes()[:3000]
    yield bytes.fromhex("080842040a001011" "3a1c0a0f0a017812017922084964656e74697479120167")
    file = io.BytesIO()
    np.save(file, np.eye(4, dtype=np.float32))
    yield file.getvalue()


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]], int]] = {
    "headers": (headers, sounds, 4096), "tags": (tags, sounds, 4096), "pipe": (pipe, sounds, 4096),
    "files": (files, sounds, 4096), "settings": (settings, texts, 2048),
    "manifest": (manifest, rows, 1024), "journal": (journal, lines, 1024),
    "model": (model, networks, 4096),
}  # with seeds, and the longest input in bytes


def main() -> None:
    """Fuzz one target; libFuzzer ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/torture-inputs/fuzz"))
    given = parser.parse_args()
    call, seeds, longest = TARGETS[given.target]
    folder = given.out / given.target
    for name in ("seeds", "found", "findings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (folder / "seeds" / str(number)).write_bytes(seed[:longest])
    known = set()

    def one(data: bytes) -> None:
        try:
            call(data)
        except GanDenoiseError:
            return
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            place = next((f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames[::-1]
                          if "gan_denoise" in frame.filename), "elsewhere")
            key = f"{type(error).__name__}@{place}"
            if key not in known:
                known.add(key)
                (folder / "findings" / f"{key}.input").write_bytes(data)
                (folder / "findings" / f"{key}.txt").write_text(traceback.format_exc())

    atheris.Setup([sys.argv[0], f"-runs={given.runs}", f"-seed={given.seed}", f"-max_len={longest}",
                   f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", "-verbosity=0",
                   "-print_final_stats=1", f"-artifact_prefix={folder}/findings/",
                   str(folder / "found"), str(folder / "seeds")], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
