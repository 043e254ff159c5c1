"""Written corpora: equal to the recordings in shards of any size, resumable, strict on losses."""

from __future__ import annotations

import hashlib
import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise.audio import AudioError
from gan_denoise.config.data_sources import DataConfig
from gan_denoise.core.file_locks import locked_folder
from gan_denoise.core.locations import location
from gan_denoise.data import corpus_shards
from gan_denoise.data.corpus import build_corpus, write_corpus
from gan_denoise.data.corpus_index import CorpusError, write_index
from gan_denoise.data.corpus_shards import ShardRows, ShardTask
from gan_denoise.data.crops import NoiseCrops, SpeechCrops
from gan_denoise.data.recordings import Corpus, SampleFiles
from gan_denoise.data.texts import Texts

RATE = 8000
NAMES = tuple(f"{speaker}/{take}.wav" for speaker in ("ann", "bob", "cem") for take in range(3))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        path = tmp_path / "speech" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.uniform(-0.5, 0.5, 1000 + 100 * number), RATE)
    return tmp_path / "speech"


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(corpus_shards, "SHARD_FILES", 2)


def _alike(one: Corpus, other: Corpus) -> bool:
    return (one.digest == other.digest and one.names == other.names and one.groups == other.groups
            and all(np.array_equal(one.clip(i), other.clip(i)) for i in range(len(one))))


class TestContent:
    @pytest.mark.parametrize("files", [1, 2, 4, 9])
    def test_shards_of_any_size_hold_the_same(self, tree, tmp_path, monkeypatch, files):
        whole = build_corpus([tree], RATE, tmp_path / "cache")
        monkeypatch.setattr(corpus_shards, "SHARD_FILES", files)
        written = write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        assert len(written.samples.files) == -(-9 // files)
        assert _alike(written, whole)
        assert _alike(build_corpus([tmp_path / "out"], RATE, tmp_path / "none"), whole)
        assert not (tmp_path / "none").exists()

    def test_processes_make_what_one_makes(self, tree, tmp_path, small_shards):
        seen = []
        one = write_corpus([tree], tmp_path / "one", RATE, jobs=1)
        two = write_corpus([tree], tmp_path / "two", RATE, lambda *p: seen.append(p), jobs=2)
        assert _alike(one, two)
        assert seen[-1] == (9, 9)
        names = [sorted(file.name for file in (tmp_path / out).iterdir()) for out in ("one", "two")]
        assert names[0] == names[1]

    def test_the_digest_is_that_of_earlier_versions(self, tree, tmp_path):
        rows = [[0, name, hashlib.sha256((tree / name).read_bytes()).hexdigest()]
                for name in NAMES]
        expected = hashlib.sha256(json.dumps([RATE, rows]).encode()).hexdigest()
        built = build_corpus([tree], RATE, tmp_path / "cache")
        assert built.digest == expected == replace(built, known_digest=None).digest

    def test_corpora_and_folders_are_joined_in_their_order(self, tree, tmp_path):
        write_corpus([tree / "bob"], tmp_path / "bob.corpus", RATE)
        folders = [tree / "cem", tmp_path / "bob.corpus", tree / "ann"]
        joined = build_corpus(folders, RATE, tmp_path / "cache")
        plain = build_corpus([tree / "cem", tree / "bob", tree / "ann"], RATE, tmp_path / "cache")
        assert joined.folders.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        assert _alike(joined, plain)

    def test_of_several_folders_names_begin_with_that_of_the_folder(self, tree, tmp_path):
        written = write_corpus([tree / "cem", tree / "ann"], tmp_path / "out", RATE)
        assert written.names == tuple(f"{one}/{take}.wav" for one in ("cem", "ann")
                                      for take in range(3))
        assert set(written.parents) == {"cem", "ann"}
        with pytest.raises(AudioError, match="two folders of one name"):
            write_corpus([tree / "cem", tmp_path / "cem"], tmp_path / "out", RATE)

    def test_an_old_cache_is_replaced_with_a_note(self, tree, tmp_path):
        files = [(0, name, (tree / name).stat()) for name in NAMES]
        rows = [(number, name, stat.st_size, stat.st_mtime_ns) for number, name, stat in files]
        old = tmp_path / "cache" / hashlib.sha256(
            json.dumps([2, RATE, rows]).encode()).hexdigest()[:32]
        old.mkdir(parents=True)
        (old / "samples.i16").touch()
        built = build_corpus([tree], RATE, tmp_path / "cache")
        assert [note.partition(": ")[0] for note in built.notes] == [str(old)]
        assert not old.exists()
        assert build_corpus([tree], RATE, tmp_path / "cache").notes == ()


class TestBuilding:
    def test_what_was_done_is_kept(self, tree, tmp_path, small_shards, monkeypatch):
        write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        (shard,) = tmp_path.glob("out/00002-*.i16")
        shard.unlink()
        decoded = []
        decode = corpus_shards._decode
        monkeypatch.setattr(corpus_shards, "_decode", lambda path, *rest: (
            decoded.append(path), decode(path, *rest))[1])
        written = write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        assert decoded == [tree / "bob/1.wav", tree / "bob/2.wav"]
        assert _alike(written, build_corpus([tree], RATE, tmp_path / "cache"))

    def test_a_change_makes_its_shard_anew_and_removes_the_old_one(
        self, tree, tmp_path, small_shards
    ):
        before = write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        (tmp_path / "out" / "mine.json").touch()
        soundfile.write(tree / NAMES[8], np.full(500, 0.25), RATE)
        after = write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        assert after.digest != before.digest
        assert after.lengths[8] == 500
        assert len(list(tmp_path.glob("out/*.i16"))) == 5
        assert len(list(tmp_path.glob("out/index-*"))) == 1
        assert (tmp_path / "out" / "mine.json").exists()

    def test_bad_recordings_end_it_or_are_noted(self, tree, tmp_path, small_shards):
        (tree / "bob" / "1.wav").write_text("no audio")
        with pytest.raises(AudioError, match=r"1 of 9 recordings cannot be used: .*bob/1\.wav"):
            write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        assert not (tmp_path / "out" / "corpus.json").exists()
        for _ in range(2):  # the second time what is there is read
            written = write_corpus([tree], tmp_path / "out", RATE, jobs=1, skip_bad=True)
            assert len(written) == 8
            (note,) = written.notes
            assert note.startswith("bob/1.wav: left out (")
        (again,) = build_corpus([tmp_path / "out"], RATE).notes
        assert again.startswith(f"{tmp_path / 'out'}: bob/1.wav: left out (")


class TestOpening:
    def test_a_missing_file_is_named_or_left_out_where_that_is_allowed(
        self, tree, tmp_path, small_shards
    ):
        written = write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        lost = written.samples.files[1]
        lost.rename(tmp_path / "elsewhere")
        with pytest.raises(CorpusError, match=rf"{lost.name}.*2 of 9.*data\.skip_missing=true"):
            build_corpus([tmp_path / "out"], RATE)
        rest = build_corpus([tmp_path / "out"], RATE, skip_missing=True)
        assert list(rest.names) == [*NAMES[:2], *NAMES[4:]]
        assert lost.name in rest.notes[0]
        assert rest.digest != written.digest

    def test_another_rate_and_a_damaged_index_are_said(self, tree, tmp_path):
        written = write_corpus([tree], tmp_path / "out", RATE)
        with pytest.raises(CorpusError, match="8000 Hz, the settings want 16000 Hz"):
            build_corpus([tmp_path / "out"], 16000)
        next((tmp_path / "out").glob("index-*/lengths.npy")).unlink()
        with pytest.raises(CorpusError, match="damaged"):
            build_corpus([tmp_path / "out"], RATE)
        assert _alike(write_corpus([tree], tmp_path / "out", RATE), written)
        summary = json.loads((tmp_path / "out" / "corpus.json").read_text())
        (tmp_path / "out" / "corpus.json").write_text(json.dumps(summary | {"format": 99}))
        with pytest.raises(CorpusError, match="format 99"):
            build_corpus([tmp_path / "out"], RATE)

    @pytest.mark.parametrize("name", ["../other.i16", "/etc/passwd", "s3://other/x.i16", ""])
    @pytest.mark.parametrize("key", ["index", "file"])
    def test_an_index_names_no_file_outside_its_folder(self, tree, tmp_path, key, name):
        write_corpus([tree], tmp_path / "out", RATE)
        path = tmp_path / "out" / "corpus.json"
        summary = json.loads(path.read_text())
        del summary["crc32"]
        (summary if key == "index" else summary["shards"][0])[key] = name
        path.write_text(json.dumps(summary))
        with pytest.raises(CorpusError, match="not in that folder; take it from"):
            build_corpus([tmp_path / "out"], RATE)

    def test_it_pickles_as_its_places(self, tree, tmp_path, small_shards):
        written = write_corpus([tree], tmp_path / "out", RATE, jobs=1)
        written.clip(0)
        packed = pickle.dumps(written)
        assert len(packed) < 6000
        assert _alike(pickle.loads(packed), written)

    def test_a_hundred_thousand_recordings_are_no_objects(self, tmp_path):
        """Nothing of the index is read before it is used: the arrays are those of the files."""
        count, shards = 100_000, 10
        rng = np.random.default_rng(0)
        tasks = [ShardTask((), f"{number:05d}-{number:016x}", RATE) for number in range(shards)]
        files = [tmp_path / f"{task.name}.i16" for task in tasks]
        for file in files:
            rng.integers(-9999, 9999, 5000).astype(np.int16).tofile(file)
        names = [f"s{number // 100}/{number}.wav" for number in range(count)]
        made = Corpus(
            SampleFiles(files), Texts.of(names), Texts.of(name.split("/")[0] for name in names),
            Texts.of(name.split("/")[0] for name in names), np.zeros(count, np.int32),
            np.repeat(np.arange(shards, dtype=np.int32), count // shards),
            rng.integers(0, 3000, count), np.full(count, 2000), np.ones(count, np.float32),
            np.zeros((count, 32), np.uint8), RATE)
        write_index(made, tasks, [ShardRows(lengths=[5000]) for _ in tasks], location(tmp_path))
        opened = build_corpus([tmp_path], RATE)
        for name in ("lengths", "offsets", "hashes"):
            assert isinstance(getattr(opened, name).base, np.memmap)
        assert (len(opened), opened.names[99_999]) == (count, "s999/99999.wav")
        crops = SpeechCrops(opened, DataConfig())
        crop, voice = crops.draw(np.random.default_rng(1), 1000)
        assert crop.shape == (1000,)
        assert 0 <= voice < 1000
        assert NoiseCrops(opened, DataConfig()).draw(np.random.default_rng(1), 1000) is not None


class TestDamage:
    """A flipped bit of a corpus is told, and mended by building again."""

    @pytest.mark.parametrize("file", ["*.i16", "index-*/gains.npy", "index-*/offsets.npy"])
    def test_a_flipped_bit_is_told_and_mended(self, file, tree, tmp_path):
        out = tmp_path / "out"
        whole = write_corpus([tree], out, RATE)
        samples = [whole.clip(number) for number in range(len(whole))]
        path = next(out.glob(file))
        content = bytearray(path.read_bytes())
        content[-3] ^= 4
        path.write_bytes(content)
        with pytest.raises(CorpusError, match="damaged"):  # noqa: PT012
            damaged = build_corpus([out], RATE)
            for number in range(len(damaged)):
                damaged.clip(number)
        mended = write_corpus([tree], out, RATE)
        for number, clip in enumerate(samples):
            assert np.array_equal(mended.clip(number), clip)

    def test_a_corpus_of_before_there_were_checksums_opens(self, tree, tmp_path):
        whole = write_corpus([tree], tmp_path / "out", RATE)
        path = tmp_path / "out" / "corpus.json"
        summary = json.loads(path.read_text())
        del summary["crc32"], summary["arrays"]
        for shard in summary["shards"]:
            del shard["sums"]
        path.write_text(json.dumps(summary))
        opened = build_corpus([tmp_path / "out"], RATE)
        assert all(np.array_equal(opened.clip(number), whole.clip(number))
                   for number in range(len(whole)))

    def test_another_build_at_the_same_time_is_told(self, tree, tmp_path):
        with locked_folder(tmp_path / "out", CorpusError("busy")), \
                pytest.raises(CorpusError, match="another process builds this corpus"):
            write_corpus([tree], tmp_path / "out", RATE)
