"""Speech in an object store, as S3 speaks it: a server on this machine's loopback."""

from __future__ import annotations

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from object_store import store_of

from gan_denoise.cli.app import run
from gan_denoise.config import load_config
from gan_denoise.core import checksums, fetched_files
from gan_denoise.core.locations import LocationError, location
from gan_denoise.core.standard_streams import tolerant_streams
from gan_denoise.data import corpus_shards, recordings
from gan_denoise.data.corpus import build_corpus, write_corpus
from gan_denoise.data.corpus_index import CorpusError
from gan_denoise.data.datasets import load_material
from gan_denoise.data.pairs import match_folders
from gan_denoise.inference.model import find_model

RATE = 16000
BUCKET = "s3://recordings"
MEMORY = "memory://recordings"


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """Speech of three speakers, noise, and their pairs."""
    root = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    for number, name in enumerate(["a", "b", "c"]):
        for take in range(2):
            tone = 0.3 * np.sin(np.arange(RATE) * (0.05 + 0.02 * number + 0.01 * take))
            noise = rng.uniform(-0.1, 0.1, RATE)
            for folder, sound in (("speech", tone), ("pairs/clean", tone),
                                  ("pairs/noisy", tone + noise), ("noise", noise)):
                path = root / folder / name / f"{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, sound, RATE)
    return root


@pytest.fixture(scope="module")
def bucket(here):
    """The same tree in a bucket."""
    with store_of(here, BUCKET) as files:
        yield files


@pytest.fixture
def store(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_DENOISE_CACHE", str(tmp_path / "cache"))
    return bucket


@pytest.fixture
def memory(here, tmp_path, monkeypatch):
    """The same tree at an address of another kind, which is faster than the server."""
    monkeypatch.setenv("GAN_DENOISE_CACHE", str(tmp_path / "cache"))
    files = fsspec.filesystem("memory")
    files.put(f"{here}/", "/recordings/", recursive=True)
    yield files
    for name in files.ls("/", detail=False):
        files.rm(name, recursive=True)


def _run(*arguments: object) -> int:
    with tolerant_streams() as output:
        return run([str(argument) for argument in arguments], output)


def test_recordings_at_an_address_make_the_same_corpus(store, here, tmp_path):
    ours = build_corpus([here / "speech"], RATE, tmp_path / "one")
    theirs = build_corpus([f"{BUCKET}/speech"], RATE, tmp_path / "two")
    assert theirs.digest == ours.digest
    assert theirs.groups == ours.groups == ("a", "a", "b", "b", "c", "c")
    np.testing.assert_array_equal(theirs.clip(3), ours.clip(3))


def test_a_changed_object_makes_another_corpus(store, here, tmp_path):
    digests = []
    for take in (0, 1, 1):
        store.put(str(here / f"speech/a/{take}.wav"), f"{BUCKET}/changed/a.wav")
        digests.append(build_corpus([f"{BUCKET}/changed"], RATE, tmp_path / "cache").digest)
    assert digests[0] != digests[1] == digests[2]


def test_a_written_corpus_is_read_in_parts(store, here, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_shards, "SHARD_FILES", 2)
    for module in (fetched_files, checksums, recordings):  # what is fetched and checked at once
        monkeypatch.setattr(module, "BLOCK", 4000)
    ours = build_corpus([here / "speech"], RATE, tmp_path / "local", jobs=1)
    written = write_corpus([f"{BUCKET}/speech"], f"{BUCKET}/speech.corpus", RATE, jobs=1)
    assert written.digest == ours.digest
    opened = build_corpus([f"{BUCKET}/speech.corpus"], RATE)
    ranges = []
    files = opened.samples.files[1].fs
    cat = files.cat_file
    monkeypatch.setattr(files, "cat_file", lambda path, **part: (
        ranges.append((part["start"], part["end"])), cat(path, **part))[1])
    for _ in range(2):
        np.testing.assert_array_equal(opened.clip(3, 7000, 500), ours.clip(3, 7000, 500))
    assert ranges == [(44000, 48000)]  # of 64,000 bytes
    again = build_corpus([f"{BUCKET}/speech.corpus"], RATE)
    np.testing.assert_array_equal(again.clip(3, 7000, 500), ours.clip(3, 7000, 500))
    assert len(ranges) == 1

    lost = opened.samples.files[1]
    store.rm(str(lost))
    with pytest.raises(CorpusError, match=rf"{lost}.*2 of 6 recordings.*data\.skip_missing=true"):
        build_corpus([f"{BUCKET}/speech.corpus"], RATE)
    rest = build_corpus([f"{BUCKET}/speech.corpus"], RATE, skip_missing=True)
    assert rest.groups == ("a", "a", "c", "c")


def test_training_batches_of_addresses_are_those_of_folders(memory, here, tmp_path):
    write_corpus([f"{MEMORY}/noise"], f"{MEMORY}/noise.corpus", RATE)

    def batch(*settings: str) -> np.ndarray:
        config = load_config("base", [*settings, f"data.cache={tmp_path / 'decoded'}",
                                      "data.valid_fraction=0.3", "data.valid_clips=1",
                                      "data.easy_clips=0"])
        return load_material(config).train.batch(3, 2)[0]

    ours = batch(f"data.speech={here}/speech", f"data.noise={here}/noise")
    theirs = batch(f"data.speech={MEMORY}/speech", f"data.noise={MEMORY}/noise.corpus")
    np.testing.assert_array_equal(ours, theirs)


def test_pairs_are_matched(store, here):
    ours = match_folders(here / "pairs/noisy", here / "pairs/clean")
    theirs = match_folders(f"{BUCKET}/pairs/noisy", f"{BUCKET}/pairs/clean")
    sides = [build_corpus([pair.noisy for pair in pairs], RATE)
             for pairs in (ours, theirs)]
    assert sides[0].digest == sides[1].digest
    assert [pair.name for pair in ours] == [pair.name for pair in theirs]
    assert str(theirs[0].clean) == f"{BUCKET}/pairs/clean/a/0.wav"


def test_verbs_take_addresses(memory, here, tmp_path, capsys):
    def summary(root: object) -> dict:
        assert _run("check", f"{root}/pairs", "--json", tmp_path / "check.json") == 0
        found = json.loads((tmp_path / "check.json").read_text())
        return {key: value for key, value in found["summary"][0].items() if key != "path"}

    assert summary(MEMORY) == summary(here)
    assert _run("corpus", f"{MEMORY}/speech", "-o", f"{MEMORY}/verbs.corpus") == 0
    assert "6 recordings" in capsys.readouterr().out
    assert _run("mix", "--speech", f"{MEMORY}/verbs.corpus", "--noise", f"{MEMORY}/noise",
                "-o", tmp_path / "one") == 0
    assert _run("mix", "--speech", here / "speech", "--noise", here / "noise",
                "-o", tmp_path / "two") == 0
    for name in ("noisy/a/0.wav", "manifest.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@pytest.mark.system
def test_verbs_that_measure_take_addresses(memory, here, tmp_path, capsys):
    """At an address they find what they find in the folder."""
    settings = load_config(find_model("hush") / "config.yaml").mel.model_dump()
    mel = [f"mel.{key}={value}" for key, value in settings.items() if value not in (None, ())]
    found = []
    for root in (here, MEMORY):
        out = tmp_path / str(len(found))
        assert _run("evaluate", "--noisy", f"{root}/pairs/noisy/a", "--clean",
                    f"{root}/pairs/clean/a", "-m", "hush", "-j", 1) == 0
        assert _run("explore", f"{root}/speech/a", "-o", out / "page.html", "--csv",
                    out / "rows.csv") == 0
        assert _run("features", "-o", out / "features", f"data.pairs={root}/pairs", *mel) == 0
        said = capsys.readouterr().out.replace(str(out), "")
        found.append((said.replace(MEMORY, str(here)), (out / "rows.csv").read_text(),
                      {path.relative_to(out): path.read_bytes() for path in out.rglob("*.npz")}))
    assert found[0] == found[1]
    assert len(found[0][2]) == 6
    memory.put(f"{tmp_path}/0/features/", "/features/", recursive=True)
    shown = []
    for root in (tmp_path / "0/features", "memory://features"):
        assert _run("evaluate", "--features", root, "-m", "hush") == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]


def test_verbs_say_what_a_corpus_is(here, tmp_path, capsys):
    write_corpus([here / "speech"], tmp_path / "corpus", RATE, jobs=1)
    assert _run("check", tmp_path / "corpus") == 2
    assert _run("explore", tmp_path / "corpus", "-o", tmp_path / "page.html") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    for line in errors:
        assert f"{tmp_path / 'corpus'}: a corpus of 6 recordings, 0.00 h at 16000 Hz" in line
        assert "give the recordings that it was made of" in line


def test_what_is_missing_or_not_reachable_is_one_line(store, monkeypatch):
    with pytest.raises(LocationError, match=rf"{BUCKET}/none.*: no such file or folder"):
        fetched_files.local_copy(location(f"{BUCKET}/none.wav"))
    with pytest.raises(Exception, match="s3://no-such-bucket/x: no such file or folder"):
        build_corpus(["s3://no-such-bucket/x"], RATE)
