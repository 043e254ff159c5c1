"""Pairs by name, never by position; no speaker on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import AudioError
from gan_denoise.data.pairs import (
    Pair,
    PairError,
    hold_out,
    hold_out_of_one,
    is_lone,
    match_folders,
    split_by_speaker,
)


def touch(root: Path, *names: str) -> None:
    """Pairing looks at names only: empty files do."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def as_names(pairs: list[Pair], root: Path) -> list[tuple[str, str]]:
    return [
        (p.noisy.relative_to(root).as_posix(), p.clean.relative_to(root).as_posix()) for p in pairs
    ]


# ---- Matching two folders ----


def test_same_names_match_whatever_the_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "n/b/x 1.FLAC", "n/a.wav", "n/録音.wav")
    touch(tmp_path, "c/b/x 1.wav", "c/a.flac", "c/録音.ogg")
    pairs = match_folders(tmp_path / "n", tmp_path / "c")
    assert as_names(pairs, tmp_path) == [
        ("n/a.wav", "c/a.flac"), ("n/b/x 1.FLAC", "c/b/x 1.wav"), ("n/録音.wav", "c/録音.ogg"),
    ]  # fmt: skip
    assert [pair.name for pair in pairs] == ["a", "b/x 1", "録音"]


def test_dns_files_match_by_number_not_by_order(tmp_path: Path) -> None:
    touch(tmp_path, "noisy/zz_snr5_tl-21_fileid_2.wav", "noisy/aa_snr-3_tl-30_fileid_10.wav",
          "clean/clean_fileid_2.wav", "clean/clean_fileid_10.wav")  # fmt: skip
    pairs = match_folders(tmp_path / "noisy", tmp_path / "clean")
    assert {(p.noisy.name, p.clean.name, p.snr_db) for p in pairs} == {
        ("zz_snr5_tl-21_fileid_2.wav", "clean_fileid_2.wav", 5.0),
        ("aa_snr-3_tl-30_fileid_10.wav", "clean_fileid_10.wav", -3.0),
    }


def test_orphans_are_counted_and_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"n/{i}.wav" for i in range(9)), *(f"c/{i}.wav" for i in range(4, 10)))
    with pytest.raises(PairError) as caught:
        match_folders(tmp_path / "n", tmp_path / "c")
    message = str(caught.value)
    assert "4 file(s)" in message
    assert "(0, 1, 2, ...)" in message
    assert "1 file(s)" in message
    assert "(9)" in message


def test_equal_counts_do_not_make_pairs(tmp_path: Path) -> None:
    touch(tmp_path, "n/a.wav", "n/b.wav", "c/a.wav", "c/c.wav")
    with pytest.raises(PairError, match="no clean partner"):
        match_folders(tmp_path / "n", tmp_path / "c")


def test_an_orphan_among_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "n/x_fileid_1.wav", "n/x_fileid_3.wav", "c/clean_fileid_1.wav",
          "c/clean_fileid_2.wav")  # fmt: skip
    with pytest.raises(PairError, match=r"x_fileid_3.*clean_fileid_2"):
        match_folders(tmp_path / "n", tmp_path / "c")


def test_duplicates_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "n/a.wav", "n/a.flac", "c/a.wav")
    with pytest.raises(PairError, match="share the name a"):
        match_folders(tmp_path / "n", tmp_path / "c")
    touch(tmp_path, "m/x_fileid_1.wav", "m/y_fileid_1.wav", "d/clean_fileid_1.wav")
    with pytest.raises(PairError, match="carry the number 1"):
        match_folders(tmp_path / "m", tmp_path / "d")


def test_one_folder_twice(tmp_path: Path) -> None:
    touch(tmp_path, "n/a.wav")
    (tmp_path / "link").symlink_to(tmp_path / "n")
    with pytest.raises(PairError, match="same folder"):
        match_folders(tmp_path / "n", tmp_path / "link")


def test_empty_folder(tmp_path: Path) -> None:
    touch(tmp_path, "n/a.wav")
    (tmp_path / "c").mkdir()
    with pytest.raises(AudioError, match="no audio found under"):
        match_folders(tmp_path / "n", tmp_path / "c")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv"])
def test_a_manifest_beside_the_folders_tells_the_snr(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path, "noisy/a.wav", "noisy/b.wav", "clean/a.wav", "clean/b.wav")
    rows = [{"file": "a.wav", "snr_db": -2.5, "speaker": "fcaw"}, {"file": "b.wav", "snr_db": None}]
    text = {
        ".json": json.dumps(rows),
        ".jsonl": "\n".join(map(json.dumps, rows)),
        ".csv": "file,snr_db,speaker\na.wav,-2.5,fcaw\nb.wav,,\n",
    }[suffix]
    (tmp_path / f"manifest{suffix}").write_text(text)
    pairs = match_folders(tmp_path / "noisy", tmp_path / "clean")
    assert [(p.snr_db, p.speaker) for p in pairs] == [(-2.5, "fcaw"), (None, None)]


# ---- Splits ----


@settings(max_examples=50, deadline=None)
@given(
    speakers=st.lists(st.sampled_from(["a", "b", "c", "d", None]), min_size=2, max_size=40),
    fraction=st.sampled_from([0.01, 0.1, 0.3, 0.5]),
    seed=st.integers(0, 2**31),
)
def test_no_speaker_is_on_both_sides(
    speakers: list[str | None], fraction: float, seed: int
) -> None:
    known = {speaker for speaker in speakers if speaker is not None}
    if len(known) + speakers.count(None) < 2:
        with pytest.raises(PairError, match="1 speaker"):
            split_by_speaker(speakers, fraction, seed)
        return
    train, valid = split_by_speaker(speakers, fraction, seed)
    assert len(train)
    assert len(valid)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, valid])), range(len(speakers)))
    assert not {speakers[i] for i in train} & {speakers[i] for i in valid} - {None}
    again = split_by_speaker(speakers, fraction, seed)
    np.testing.assert_array_equal(valid, again[1])


def test_seeds_choose_differently() -> None:
    speakers = [f"s{i}" for i in range(50)]
    assert len({tuple(split_by_speaker(speakers, 0.2, seed)[1]) for seed in range(5)}) > 1
    assert len(split_by_speaker(speakers, 0.2, 0)[1]) == 10


@pytest.mark.parametrize(("speakers", "fraction"), [
    ([], 0.2), (["a"], 0.2), (["a", "a"], 0.2), (["a", "b"], 1.0), (["a", "b"], 0.0)
])  # fmt: skip
def test_impossible_splits(speakers: list[str], fraction: float) -> None:
    with pytest.raises(PairError, match="cannot hold out"):
        split_by_speaker(speakers, fraction, 0)


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=12),
    fraction=st.sampled_from([0.01, 0.1, 0.5, 0.9]),
    shortest=st.integers(1, 300),
    seed=st.integers(0, 5),
)
def test_one_speaker_keeps_material_on_both_sides(
    lengths: list[int], fraction: float, shortest: int, seed: int
) -> None:
    held = hold_out_of_one(lengths, fraction, shortest, seed)
    if held is None:  # neither can a recording be divided, nor is there another one
        assert max(lengths) < 2 * shortest
        return
    chosen, samples = held
    if samples:
        assert len(chosen) == 1
        assert shortest <= samples <= max(fraction, 0.5) * lengths[chosen[0]]
    else:
        assert 1 <= len(chosen) < len(lengths)
        assert sum(lengths[i] for i in chosen) <= max(fraction, 0.5) * sum(lengths)


def test_one_speaker_is_held_out_by_whole_recordings_where_these_do() -> None:
    assert hold_out_of_one([100], 0.1, 20, 0) == ([0], 20)
    assert hold_out_of_one([1000], 0.1, 20, 0) == ([0], 100)
    assert hold_out_of_one([39], 0.1, 20, 0) is None
    assert hold_out_of_one([5, 600], 0.1, 20, 0) == ([1], 61)
    assert hold_out_of_one([30, 600], 0.1, 20, 0) == ([0], 0)
    chosen, samples = hold_out_of_one([10] * 40, 0.1, 20, 0)
    assert (len(chosen), samples) == (4, 0)


def test_one_speaker_is_told_from_several() -> None:
    assert is_lone([None])
    assert is_lone(["a", "a"])
    assert not is_lone([None, None])  # each may be another one
    assert not is_lone(["a", "b"])
    assert not is_lone([])


def test_nothing_to_train_on(tmp_path: Path) -> None:
    pair = Pair("a", tmp_path, tmp_path, split="test")
    with pytest.raises(PairError, match="no pairs to train on"):
        hold_out([pair], 0.2, 0)


def test_a_file_in_place_of_a_folder_is_told(tmp_path):
    touch(tmp_path, "noisy/a.wav", "clean/a.wav")
    with pytest.raises(PairError, match=r"noisy/a.wav: is a file; give the folder"):
        match_folders(tmp_path / "noisy" / "a.wav", tmp_path / "clean" / "a.wav")
