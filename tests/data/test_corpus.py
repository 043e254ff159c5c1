"""corpus: decoded once, found again wherever the folder lies, true to 16 bits, and strict."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise import audio
from gan_denoise.audio import AudioError
from gan_denoise.data import corpus_shards, recordings
from gan_denoise.data.corpus import build_corpus

RATE = 16000


def _tone(seconds: float, level: float, rate: int = RATE, hertz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype("f4")


def _save(path: Path, samples: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "speech"
    _save(root / "anna" / "a.wav", _tone(0.5, 0.9))
    _save(root / "anna" / "b.wav", _tone(0.3, 1e-3))
    _save(root / "bert" / "c.wav", _tone(0.4, 0.2, rate=8000), rate=8000)
    return root


def _build(root: Path, cache: str, queue: multiprocessing.Queue) -> None:
    built = build_corpus([root], RATE, cache)
    queue.put((built.digest, float(np.abs(built.clip(0)).sum())))


class TestContent:
    def test_round_trip_is_true_to_sixteen_bits_of_each_file(self, tree, tmp_path):
        built = build_corpus([tree], RATE, tmp_path / "cache")
        assert built.names == ("anna/a.wav", "anna/b.wav", "bert/c.wav")
        assert built.groups == ("anna", "anna", "bert")
        assert built.parents == ("anna", "anna", "bert")
        assert built.folders.tolist() == [0, 0, 0]
        for index, name in enumerate(built.names):
            original = audio.read_mono(tree / name, RATE)
            clip = built.clip(index)
            assert clip.dtype == np.float32
            assert clip.shape == original.shape
            # A quiet file is as precise, relative to itself, as a loud one.
            assert np.abs(clip - original).max() <= 0.51 / 32767 * np.abs(original).max()
        assert built.seconds == pytest.approx(1.2, abs=1e-3)

    def test_clip_is_a_part_and_refuses_to_leave_the_recording(self, tree, tmp_path):
        built = build_corpus([tree], RATE, tmp_path / "cache")
        np.testing.assert_array_equal(built.clip(2, 100, 50), built.clip(2)[100:150])
        with pytest.raises(ValueError, match=r"anna/b\.wav"):
            built.clip(1, 4000, 2000)

    def test_subset_and_pickle_keep_the_recordings(self, tree, tmp_path):
        built = build_corpus([tree], RATE, tmp_path / "cache")
        part = built.subset([2, 0])
        assert part.names == ("bert/c.wav", "anna/a.wav")
        np.testing.assert_array_equal(part.clip(0), built.clip(2))
        packed = pickle.dumps(part)
        assert len(packed) < 4000
        np.testing.assert_array_equal(pickle.loads(packed).clip(1), built.clip(0))
        assert part.digest != built.digest

    def test_a_part_of_one_recording_leaves_the_others(self, tree, tmp_path):
        built = build_corpus([tree], RATE, tmp_path / "cache")
        part = built.part(0, 1000, 3000)
        np.testing.assert_array_equal(part.clip(0), built.clip(0)[1000:3000])
        np.testing.assert_array_equal(part.clip(1), built.clip(1))
        assert part.lengths.tolist() == [2000, *built.lengths[1:].tolist()]
        with pytest.raises(ValueError, match=r"anna/a\.wav"):
            part.clip(0, 1000, 1001)  # what is behind the part is out of reach

    @pytest.mark.parametrize("look", [1 << 20, 700])
    def test_the_end_of_the_sound_is_found_before_a_pause(self, tmp_path, monkeypatch, look):
        monkeypatch.setattr(recordings, "LOOK", look)
        sound = np.zeros(9000, "f4")
        sound[:4000], sound[4000:] = 0.5, 0.004
        _save(tmp_path / "a" / "a.wav", sound)
        built = build_corpus([tmp_path / "a"], RATE, tmp_path / "cache")
        assert built.sound_end(0, 0.01) == 4000
        assert built.sound_end(0, 0.001) == 9000

    def test_long_recordings_in_blocks_equal_whole_ones(self, tmp_path, monkeypatch):
        rng = np.random.default_rng(0)
        stereo = rng.uniform(-0.5, 0.5, (44100, 2)).astype("f4")
        _save(tmp_path / "long" / "x.wav", stereo, rate=44100)
        whole = build_corpus([tmp_path / "long"], RATE, tmp_path / "one").clip(0)
        monkeypatch.setattr(corpus_shards, "BLOCK", 5000)
        blocks = build_corpus([tmp_path / "long"], RATE, tmp_path / "two").clip(0)
        assert whole.shape == blocks.shape
        np.testing.assert_allclose(blocks, whole, atol=2e-5)

    def test_silent_recordings_are_listed_and_left_out(self, tree, tmp_path):
        _save(tree / "anna" / "nothing.wav", np.zeros(4000, "f4"))
        built = build_corpus([tree], RATE, tmp_path / "cache")
        assert built.silent == ("anna/nothing.wav",)
        assert "anna/nothing.wav" not in built.names
        assert len(built) == 3

    def test_folders_keep_their_order(self, tree, tmp_path):
        built = build_corpus([tree / "bert", tree / "anna"], RATE, tmp_path / "cache")
        assert built.names == ("c.wav", "a.wav", "b.wav")
        assert built.folders.tolist() == [0, 1, 1]


class TestCache:
    def test_hit_does_not_decode_again(self, tree, tmp_path, monkeypatch):
        seen = []
        build_corpus([tree], RATE, tmp_path / "cache", progress=lambda *p: seen.append(p))
        assert seen == [(1, 3), (2, 3), (3, 3)]
        monkeypatch.setattr(corpus_shards, "Reader", None)
        again = build_corpus([tree], RATE, tmp_path / "cache", progress=lambda *p: seen.append(p))
        assert len(seen) == 3
        assert len(again) == 3

    def test_moved_folder_has_the_same_cache_and_digest(self, tree, tmp_path, monkeypatch):
        first = build_corpus([tree], RATE, tmp_path / "cache")
        moved = tmp_path / "elsewhere" / "voices"
        moved.parent.mkdir()
        tree.rename(moved)
        monkeypatch.setattr(corpus_shards, "Reader", None)
        second = build_corpus([moved], RATE, tmp_path / "cache")
        assert second.digest == first.digest
        np.testing.assert_array_equal(second.clip(0), first.clip(0))

    def test_copy_with_other_times_has_the_same_digest(self, tree, tmp_path):
        first = build_corpus([tree], RATE, tmp_path / "cache")
        copy = tmp_path / "copy"
        shutil.copytree(tree, copy)
        for path in copy.rglob("*.wav"):
            os.utime(path, (1, 1))
        assert build_corpus([copy], RATE, tmp_path / "cache").digest == first.digest
        assert len(list((tmp_path / "cache").iterdir())) == 2

    def test_changed_file_changes_the_digest(self, tree, tmp_path):
        first = build_corpus([tree], RATE, tmp_path / "cache")
        _save(tree / "bert" / "c.wav", _tone(0.4, 0.3, rate=8000), rate=8000)
        assert build_corpus([tree], RATE, tmp_path / "cache").digest != first.digest

    @pytest.mark.parametrize("damage", ["cut", "index", "missing"])
    def test_damaged_cache_is_rebuilt(self, tree, tmp_path, damage):
        expected = build_corpus([tree], RATE, tmp_path / "cache").clip(0).copy()
        (folder,) = (tmp_path / "cache").iterdir()
        (samples,) = folder.glob("*.i16")
        size = samples.stat().st_size
        if damage == "cut":
            samples.write_bytes(samples.read_bytes()[:-2])
        elif damage == "index":
            (folder / "corpus.json").write_text('{"format": 1')
        else:
            samples.unlink()
        np.testing.assert_array_equal(build_corpus([tree], RATE, tmp_path / "cache").clip(0),
                                      expected)
        assert samples.stat().st_size == size
        assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]

    def test_environment_names_the_cache(self, tree, tmp_path, monkeypatch):
        monkeypatch.setenv("GAN_DENOISE_CACHE", str(tmp_path / "own"))
        build_corpus([tree], RATE)
        assert any((tmp_path / "own").iterdir())

    def test_two_processes_may_build_at_once(self, tree, tmp_path):
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        jobs = [context.Process(target=_build, args=(tree, str(tmp_path / "cache"), queue))
                for _ in range(2)]
        for job in jobs:
            job.start()
        results = [queue.get(timeout=60) for _ in jobs]
        for job in jobs:
            job.join()
        assert results[0] == results[1]
        assert len(list((tmp_path / "cache").iterdir())) == 1

    def test_losers_of_a_race_take_the_winners_build(self, tree, tmp_path):
        with ThreadPoolExecutor(4) as pool:
            built = list(pool.map(lambda _: build_corpus([tree], RATE, tmp_path / "cache"),
                                  range(4)))
        assert len({b.digest for b in built}) == 1
        assert len(list((tmp_path / "cache").iterdir())) == 1


class TestErrors:
    def test_bad_files_are_named_with_their_count_and_nothing_is_left(self, tree, tmp_path):
        (tree / "anna" / "text.wav").write_text("no audio")
        _save(tree / "anna" / "empty.wav", np.zeros(0, "f4"))
        _save(tree / "bert" / "nan.wav", np.full(100, np.nan, "f4"))
        with pytest.raises(AudioError, match="3 of 6") as caught:
            build_corpus([tree], RATE, tmp_path / "cache")
        for name in ("text.wav", "empty.wav", "nan.wav"):
            assert name in str(caught.value)
        assert not list((tmp_path / "cache").iterdir())

    def test_at_most_five_are_named(self, tmp_path):
        for number in range(7):
            (tmp_path / f"{number}.wav").write_text("no audio")
        with pytest.raises(AudioError, match="and 2 more"):
            build_corpus([tmp_path], RATE, tmp_path / "cache")

    def test_nothing_but_silence(self, tmp_path):
        _save(tmp_path / "n" / "x.wav", np.zeros(400, "f4"))
        with pytest.raises(AudioError, match="silence"):
            build_corpus([tmp_path / "n"], RATE, tmp_path / "cache")

    def test_missing_and_no_folder(self, tmp_path):
        with pytest.raises(AudioError, match="absent"):
            build_corpus([tmp_path / "absent"], RATE, tmp_path / "cache")
        with pytest.raises(AudioError, match="no folder"):
            build_corpus([], RATE, tmp_path / "cache")

    def test_cache_that_cannot_be_written(self, tree, tmp_path):
        (tmp_path / "cache").write_text("a file")
        with pytest.raises(AudioError, match=r"cache.*data\.cache"):
            build_corpus([tree], RATE, tmp_path / "cache")


def test_a_recording_that_is_cut_off_is_used_as_far_as_it_goes_and_named(tree, tmp_path):
    cut = _save(tree / "cut.wav", _tone(0.5, 0.1), subtype="PCM_16")
    cut.write_bytes(cut.read_bytes()[: 44 + 8000])
    for _ in range(2):  # decoded, and found decoded
        built = build_corpus([tree], RATE, tmp_path / "cache")
        assert built.notes == (
            f"{cut}: cut off: 0.25 s of 0.50 s are there; used as far as it goes",)
        assert built.lengths[built.names.index("cut.wav")] == 4000


def test_a_recording_of_unknown_length_is_decoded_in_blocks(tree, tmp_path, monkeypatch):
    cut = _save(tree / "open.wav", _tone(0.5, 0.1), subtype="PCM_16")
    raw = cut.read_bytes()
    cut.write_bytes(raw[:40] + bytes(4) + raw[44:])  # never closed
    whole = build_corpus([tree], RATE, tmp_path / "whole")
    monkeypatch.setattr(corpus_shards, "BLOCK", 3000)
    parts = build_corpus([tree], RATE, tmp_path / "parts")
    np.testing.assert_array_equal(whole.lengths, parts.lengths)
    for index in range(len(whole)):
        np.testing.assert_allclose(parts.clip(index), whole.clip(index), atol=2e-4)


def test_channels_that_cancel_are_named(tree, tmp_path):
    tone = _tone(0.5, 0.5)
    cable = _save(tree / "cable.wav", np.stack([tone, -tone], axis=1))
    built = build_corpus([tree], RATE, tmp_path / "cache")
    assert built.notes == (
        f"{cable}: its channels cancel each other in their mean; the loudest is used",)
    assert built.peak(built.names.index("cable.wav")) == pytest.approx(0.5, rel=1e-3)
