"""Layouts as corpora unpack, and manifests; what is missing is said in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import fsspec
import pytest

from gan_denoise.core.locations import location
from gan_denoise.data.dataset_layouts import LayoutError, read_layout
from gan_denoise.data.pairs import PairError, hold_out


def touch(root: Path, *names: str) -> None:
    """Pairing looks at names only: empty files do."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


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


def test_a_manifest_names_what_lies_on_another_drive(tmp_path: Path, monkeypatch) -> None:
    def relpath(*_):  # of Windows
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    touch(tmp_path, "noisy/a.wav", "clean/a.wav")
    (tmp_path / "pairs.csv").write_text("noisy,clean\nnoisy/a.wav,clean/a.wav\n")
    monkeypatch.setattr(os.path, "relpath", relpath)
    (pair,) = read_layout(tmp_path / "pairs.csv")
    assert pair.name == "a"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("noisy,clean\nabsent.wav,a.wav\n", "1 listed file.*absent.wav"),
        ("noisy,other\na.wav,a.wav\n", "columns: noisy, other"),
        ("noisy,clean\na.wav,\n", "row 1 has no noisy and clean"),
        ("noisy,clean\na.wav,b.wav\na.wav,b.wav\n", "second time"),
        ("noisy,clean,snr_db\na.wav,b.wav,loud\n", "snr_db is 'loud'"),
        ("noisy,clean\n", "no pairs"),
        ("noisy,clean\n.,a.wav\n", "1 listed file"),
        ("noisy,clean\na\0.wav,a.wav\n", "1 listed file|not readable"),
    ],
)
def test_bad_manifests(tmp_path: Path, text: str, match: str) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(PairError, match=match):
        read_layout(tmp_path / "pairs.csv")


@pytest.mark.parametrize("text", ["5", "true", '"text"', "[" * 100_000, "9" * 5000, "null"])
def test_json_that_holds_no_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "pairs.json").write_text(text)
    with pytest.raises(PairError, match=r"pairs.json: (expected rows|not readable|row|lists)"):
        read_layout(tmp_path / "pairs.json")


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


def test_a_listed_file_in_an_absent_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "pairs.csv").write_text("noisy,clean\na.wav,absent/anna/a.wav\n")
    with pytest.raises(PairError, match=r"1 listed file.*anna"):
        read_layout(tmp_path / "pairs.csv")


def test_layouts_and_manifests_at_an_address_are_those_of_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "clean_trainset_28spk_wav/p226_001.wav",
          "noisy_trainset_28spk_wav/p226_001.wav", "test/clean/s1/a.wav", "test/noisy/s1/a.wav",
          "test/clean/s2/b.wav", "test/noisy/s2/b.wav")  # fmt: skip
    (tmp_path / "lists").mkdir()
    store = fsspec.filesystem("memory")
    there = location("memory://layouts")
    row = {"noisy": "../test/noisy/s1/a.wav", "clean": str(there / "test/clean/s1/a.wav")}
    (tmp_path / "lists" / "pairs.jsonl").write_text(json.dumps(row))
    store.put(f"{tmp_path}/", "/layouts/", recursive=True)
    try:
        here, theirs = read_layout(tmp_path), read_layout("memory://layouts")
        assert len(here) == 3
        for ours, other in zip(here, theirs, strict=True):
            assert other.noisy == there / ours.noisy.relative_to(tmp_path).as_posix()
            assert (ours.name, ours.speaker, ours.split) == (other.name, other.speaker, other.split)
        assert {pair.speaker for pair in theirs} == {"p226", "s1", "s2"}
        (pair,) = read_layout(there / "lists" / "pairs.jsonl")
        assert (pair.name, pair.clean) == ("a", there / "test/clean/s1/a.wav")
        assert pair.noisy.is_file()
    finally:
        store.rm("/layouts", recursive=True)
