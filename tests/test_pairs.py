"""Pairs by name, never by position; layouts as corpora unpack; no speaker on both sides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import AudioError
from gan_denoise.pairs import (
    LayoutError,
    Pair,
    PairError,
    hold_out,
    match_folders,
    read_layout,
    speaker_of,
    split_by_speaker,
    split_of,
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


def test_ms_snsd_has_several_noisy_to_one_clean(tmp_path: Path) -> None:
    touch(tmp_path, "NoisySpeech_training/noisy1_SNRdb_0.0_clnsp1.wav",
          "NoisySpeech_training/noisy1_SNRdb_10.0_clnsp1.wav",
          "NoisySpeech_training/noisy2_SNRdb_0.0_clnsp2.wav",
          "CleanSpeech_training/clnsp1.wav", "CleanSpeech_training/clnsp2.wav",
          "Noise_training/noisy1_SNRdb_0.0.wav")  # fmt: skip
    pairs = read_layout(tmp_path)
    assert [(p.clean.name, p.snr_db, p.split) for p in pairs] == [
        ("clnsp1.wav", 0.0, "train"), ("clnsp1.wav", 10.0, "train"), ("clnsp2.wav", 0.0, "train"),
    ]  # fmt: skip


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


# ---- Layouts ----


def test_voicebank(tmp_path: Path) -> None:
    for name in ("p226_001", "p287_002", "p230_003"):
        touch(tmp_path, f"clean_trainset_28spk_wav/{name}.wav",
              f"noisy_trainset_28spk_wav/{name}.wav")  # fmt: skip
    touch(tmp_path, "clean_trainset_56spk_wav/p234_001.wav",
          "noisy_trainset_56spk_wav/p234_001.wav",
          "clean_testset_wav/p232_001.wav", "noisy_testset_wav/p232_001.wav")  # fmt: skip
    pairs = read_layout(tmp_path)
    assert {(p.speaker, p.split) for p in pairs} == {
        ("p226", "train"), ("p287", "train"), ("p230", "train"), ("p234", "train"), ("p232", "test")
    }  # fmt: skip
    train, valid = hold_out(pairs, 0.2, seed=0)
    assert {p.speaker for p in train} == {"p230", "p234"}
    assert {p.speaker for p in valid} == {"p226", "p287"}


def test_a_set_that_is_half_unpacked(tmp_path: Path) -> None:
    touch(tmp_path, "clean_testset_wav/p232_001.wav", "noisy_testset_wav/p232_001.wav",
          "clean_trainset_28spk_wav/p226_001.wav")  # fmt: skip
    with pytest.raises(PairError, match="clean_trainset_28spk_wav: has no noisy folder"):
        read_layout(tmp_path)


def test_train_and_test_folders(tmp_path: Path) -> None:
    for split in ("train", "test", "Valid"):
        touch(tmp_path, f"{split}/clean/a.wav", f"{split}/noisy/a.wav", f"{split}/noise/a.wav")
    pairs = read_layout(tmp_path)
    assert {(p.split, p.noisy.parts[-3]) for p in pairs} == {
        ("train", "train"), ("test", "test"), ("valid", "Valid"),
    }  # fmt: skip
    train, valid = hold_out(pairs, 0.5, seed=0)
    assert ([p.split for p in train], [p.split for p in valid]) == (["train"], ["valid"])


@pytest.mark.parametrize(("clean", "noisy"), [("clean", "noisy"), ("wavs_clean", "wavs_noisy")])
def test_two_sibling_folders(tmp_path: Path, clean: str, noisy: str) -> None:
    touch(tmp_path, f"{clean}/p226_001.wav", f"{noisy}/p226_001.wav", "noise/n.wav")
    (pair,) = read_layout(tmp_path)
    assert (pair.noisy.parent.name, pair.clean.parent.name) == (noisy, clean)
    assert (pair.speaker, pair.split) == ("p226", None)


@pytest.mark.parametrize("columns", [("noisy", "clean"), ("noisy_wav", "clean_wav"),
                                     ("noisy_filepath", "clean_filepath")])  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_manifest_files(tmp_path: Path, columns: tuple[str, str], suffix: str) -> None:
    touch(tmp_path, "data/with space, and comma.wav", "other/ref 1.wav")
    noisy, clean = "../data/with space, and comma.wav", str(tmp_path / "other/ref 1.wav")
    row = {columns[0]: noisy, columns[1]: clean, "split": "dev", "speaker": "Ö", "snr_db": 3}
    manifest = tmp_path / "lists" / f"pairs{suffix}"
    manifest.parent.mkdir()
    if suffix == ".csv":
        cells = ",".join(f'"{value}"' for value in row.values())
        manifest.write_text(f"{','.join(row)}\n{cells}\n", encoding="utf-8-sig")
    else:
        manifest.write_text(json.dumps(row) + "\n")
    for source in (manifest, manifest.parent):
        (pair,) = read_layout(source)
        assert pair.noisy.samefile(tmp_path / "data/with space, and comma.wav")
        assert pair.clean == tmp_path / "other/ref 1.wav"
        assert (pair.split, pair.speaker, pair.snr_db) == ("valid", "Ö", 3.0)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("noisy,clean\nabsent.wav,a.wav\n", "1 listed file.*absent.wav"),
        ("noisy,other\na.wav,a.wav\n", "columns: noisy, other"),
        ("noisy,clean\na.wav,\n", "row 1 has no noisy and clean"),
        ("noisy,clean\na.wav,b.wav\na.wav,b.wav\n", "second time"),
        ("noisy,clean,snr_db\na.wav,b.wav,loud\n", "snr_db is 'loud'"),
        ("noisy,clean\n", "no pairs"),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, match: str) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(PairError, match=match):
        read_layout(tmp_path / "pairs.csv")


def test_broken_json(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"noisy": ')
    with pytest.raises(PairError, match="not readable as jsonl"):
        read_layout(tmp_path / "pairs.jsonl")


def test_unknown_layout_says_what_was_looked_for(tmp_path: Path) -> None:
    touch(tmp_path, "fred/a.wav", "anna/b.wav")
    with pytest.raises(LayoutError, match=r"found anna, fred\); looked for .*noisy_trainset"):
        read_layout(tmp_path)
    with pytest.raises(PairError, match="no such folder"):
        read_layout(tmp_path / "absent")


# ---- Speakers and splits ----


@pytest.mark.parametrize(
    ("name", "speaker"),
    [
        ("p226_001.wav", "p226"),
        ("3_jackson_12.flac", "jackson"),
        ("19/198/19-198-0001.flac", "19"),  # the folder is a chapter
        ("an4/fcaw/an406-fcaw-b.flac", "fcaw"),
        ("an4/00e09cf0-a01d-453e-9b89-dc6e6d31d362.flac", None),
        ("train/a.wav", None),
        ("a.wav", None),
        ("1-100032-A-0.wav", None),
        ("000_fcaw_babble_+0dB.flac", None),
    ],
)
def test_speaker_of(tmp_path: Path, name: str, speaker: str | None) -> None:
    touch(tmp_path, "an4/mmkw/x.flac", "19/227/19-227-0000.flac", "test/b.wav", name)
    assert speaker_of(tmp_path / name, tmp_path) == speaker


def test_a_lone_folder_is_no_speaker(tmp_path: Path) -> None:
    touch(tmp_path, "all/a.wav")
    assert speaker_of(tmp_path / "all/a.wav", tmp_path) is None


def test_split_of(tmp_path: Path) -> None:
    assert split_of(tmp_path / "dev/x/a.wav", tmp_path) == "valid"
    assert split_of(tmp_path / "train/x/a.wav", tmp_path / "train") == "train"
    assert split_of(tmp_path / "x/train.wav", tmp_path) is None


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


def test_nothing_to_train_on(tmp_path: Path) -> None:
    pair = Pair("a", tmp_path, tmp_path, split="test")
    with pytest.raises(PairError, match="no pairs to train on"):
        hold_out([pair], 0.2, 0)
