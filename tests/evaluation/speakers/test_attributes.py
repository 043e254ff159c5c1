"""Attributes of speakers: tables, names, and the way of a speaker's name to the scores."""

from __future__ import annotations

import json

import numpy as np
import pytest

from gan_denoise import metrics
from gan_denoise.audio.writer import write
from gan_denoise.data.corpus import build_corpus
from gan_denoise.data.mixture_writer import MixtureSpec, write_pairs
from gan_denoise.data.pairs import match_folders
from gan_denoise.evaluation.evaluate_waveforms import evaluate
from gan_denoise.evaluation.results import Evaluation, FileScores
from gan_denoise.evaluation.speakers.attributes import (
    SpeakerError,
    describe,
    name_speakers,
    read_speakers,
)

# Of AudioMNIST's audioMNIST_meta.txt, with its own slips.
META = {
    "01": {"accent": "german", "age": 30, "gender": "male", "native speaker": "no",
           "origin": "Europe, Germany, Wuerzburg", "recordingdate": "17-06-22-11-04-28",
           "recordingroom": "Kino"},
    "02": {"accent": "German", "age": "25", "gender": "male", "native speaker": "no",
           "origin": "Europe, Germany, Hamburg", "recordingroom": "VR-Room"},
    "18": {"accent": "Levant", "age": "22", "gender": "male", "native speaker": "no",
           "origin": "Europe, Syria, Damascus", "recordingroom": "vr-room"},
    "41": {"accent": "South African", "age": "41", "gender": "male", "native speaker": "yes",
           "origin": "Africa, South Africa, Vryburg", "recordingroom": "vr-room"},
    "45": {"accent": "German", "age": "1234", "gender": "male", "native speaker": "no",
           "origin": "Europe, Germany, Stuttgart", "recordingroom": "vr-romm"},
}


@pytest.fixture
def meta(tmp_path):
    path = tmp_path / "audioMNIST_meta.txt"
    path.write_text(json.dumps(META), encoding="utf-8")
    return path


def table(tmp_path, text, name="speakers.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_the_table_of_audiomnist(meta):
    known = read_speakers(meta)
    assert known.attributes["01"] == {
        "accent": "German", "age band": "30-39", "gender": "male", "native": "no",
        "continent": "Europe", "country": "Germany", "recordingdate": "17-06-22-11-04-28",
        "recordingroom": "Kino",
    }
    assert [known.attributes[name].get("age band") for name in META] == [
        "30-39", "25-29", "under 25", "40 and over", None]
    assert known.attributes["41"]["native"] == "yes"
    assert known.attributes["41"]["country"] == "South Africa"


def test_slips_of_the_table_are_corrected_and_said(meta):
    known = read_speakers(meta)
    rooms = {row["recordingroom"] for row in known.attributes.values()}
    assert rooms == {"Kino", "vr-room"}  # the spelling that most have
    assert known.attributes["18"]["continent"] == "Asia"
    assert known.notices == (
        "speaker 18: origin 'Europe, Syria, Damascus' is read as 'Asia, Syria, Damascus'",
        "speaker 45: age 1234 cannot be, taken as unknown",
        "speaker 45: recordingroom 'vr-romm' is read as 'vr-room'",
    )


@pytest.mark.parametrize(("age", "band"), [
    (24.9, "under 25"), (25, "25-29"), (29, "25-29"), (30, "30-39"), (40, "40 and over"),
    (120, "40 and over"), (121, None), (0, None), (-3, None), ("twenties", "twenties"),
    ("unknown", None), (None, None), (float("inf"), None),
])  # fmt: skip
def test_ages_become_bands(tmp_path, age, band):
    path = table(tmp_path, json.dumps({"a": {"age": age}}), "a.json")
    assert read_speakers(path).attributes["a"].get("age band") == band


def test_a_csv_with_any_columns(tmp_path):
    path = table(tmp_path, "\ufeffgender, speaker,accent\r\nmale,jackson,neutral\r\n"
                           "Male,theo,\r\n\r\nmale,nicolas,\"BEL, French\"\r\nfemale,x\r\n")
    assert read_speakers(path).attributes == {
        "jackson": {"gender": "male", "accent": "neutral"},
        "theo": {"gender": "male"},
        "nicolas": {"gender": "male", "accent": "BEL, French"},
        "x": {"gender": "female"},
    }


def test_truth_values_and_an_origin_of_one_word(tmp_path):
    path = table(tmp_path, '{"a": {"native speaker": true, "origin": "Chile"}}', "a.json")
    assert read_speakers(path).attributes == {"a": {"native": "yes", "origin": "Chile"}}


@pytest.mark.parametrize(("name", "text", "reason"), [
    ("a.csv", "name,gender\na,f\n", "no column 'speaker'; it has name, gender"),
    ("a.csv", "", "is empty"),
    ("a.csv", "speaker,gender\n", "lists no speaker"),
    ("a.csv", "speaker,gender\na,f\na,m\n", "speaker a is there twice"),
    ("a.csv", "speaker,gender\n,f\n", "a row has no speaker"),
    ("a.csv", "speaker,gender\na,f,m\n", "more cells than the header"),
    ("a.csv", 'speaker,gender\na,"f\n', "not readable as CSV"),
    ("a.json", "speaker,gender\na,f\n", "not readable as JSON"),
    ("a.json", "{}", "lists no speaker"),
    ("a.json", '["a"]', "expected {speaker: {attribute: value}}"),
    ("a.json", '{"a": "f"}', "expected {speaker: {attribute: value}}"),
    ("a.json", '{"a": {"x": [1]}}', "'x' of speaker a is no single value"),
])  # fmt: skip
def test_bad_tables_are_told_by_name(tmp_path, name, text, reason):
    path = table(tmp_path, text, name)
    with pytest.raises(SpeakerError) as error:
        read_speakers(path)
    assert str(error.value).startswith(f"{path}: ")
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_match_with_and_without_leading_zeros(tmp_path):
    padded = read_speakers(table(tmp_path, "speaker,sex\n01,f\n10,m\n"))
    assert [padded.find(name) for name in ("01", "1", "10", "010", "100")] == [
        {"sex": "f"}, {"sex": "f"}, {"sex": "m"}, {"sex": "m"}, None]
    both = read_speakers(table(tmp_path, "speaker,sex\n01,f\n1,m\n"))
    assert [both.find(name) for name in ("01", "1", "001")] == [{"sex": "f"}, {"sex": "m"}, None]


def test_speakers_are_described_by_the_names_of_the_scores(meta):
    known = describe(["1", "41", "nobody", "1"], meta)
    assert list(known.attributes) == ["1", "41", "nobody"]
    assert known.attributes["1"]["accent"] == "German"
    assert known.attributes["nobody"] == {}
    assert known.notices[-1] == "not in audioMNIST_meta.txt: nobody"


def test_a_table_of_other_speakers(meta):
    with pytest.raises(SpeakerError, match="knows none of the speakers anna, bert; it names 01, 0"):
        describe(["anna", "bert"], meta)


def test_attributes_in_names(tmp_path):
    pattern = r"^(?P<gender>[fm])(?P<rest>\d)?"
    assert describe(["fcaw", "m2"], patterns=[pattern]).attributes == {
        "fcaw": {"gender": "f"}, "m2": {"gender": "m", "rest": "2"}}
    path = table(tmp_path, "speaker,gender\nfcaw,female\n")
    both = describe(["fcaw", "m2"], path, [pattern]).attributes
    assert both["fcaw"] == {"gender": "female"}  # the table comes first
    assert both["m2"]["gender"] == "m"


@pytest.mark.parametrize(("pattern", "reason"), [
    ("^[fm]", "no named group"), ("(", "no regular expression"), ("(?P<x>Q)", "fits no speaker"),
])  # fmt: skip
def test_bad_attribute_patterns(pattern, reason):
    with pytest.raises(SpeakerError, match=reason):
        describe(["fcaw"], patterns=[pattern])


def test_scores_without_speakers_say_how_to_name_them():
    with pytest.raises(SpeakerError, match="--speaker-pattern"):
        describe([], patterns=["^(?P<gender>[fm])"])


def test_speakers_in_file_names():
    rows = (FileScores("000_fcaw_rain", "noisy", None, 1.0, 8000),
            FileScores("x", "noisy", None, 1.0, 8000, speaker="kept"))
    scored = Evaluation(("noisy",), rows)
    for pattern in (r"^\d+_([a-z]+)", r"^(\d+)_(?P<speaker>[a-z]+)"):
        named = name_speakers(scored, pattern)
        assert [row.speaker for row in named.rows] == ["fcaw", "kept"]
    for pattern, reason in [("^no(.)", "fits no file; they are called 000_fcaw_rain"),
                            ("^(.)(.)", "needs a group"), ("^.", "needs a group"),
                            ("[", "no regular expression")]:
        with pytest.raises(SpeakerError, match=reason):
            name_speakers(scored, pattern)


@pytest.mark.parametrize(("names", "speakers"), [
    (("data/01/0_01_0.wav", "data/02/0_02_0.wav", "data/02/1_02_0.wav"), {"01", "02"}),
    (("01/0_01_0.wav", "02/0_02_0.wav"), {"01", "02"}),
    (("data/60/3_60_49.wav", "data/60/4_60_0.wav"), {"60"}),  # one speaker of many
    (("jackson/0_jackson_0.wav", "theo/0_theo_0.wav"), {"jackson", "theo"}),
    (("recordings/3_jackson_12.wav", "recordings/3_theo_1.wav"), {"jackson", "theo"}),
    (("3_jackson_12.wav", "3_theo_1.wav"), {"jackson", "theo"}),
    (("3/3_jackson_12.wav", "4/4_theo_1.wav"), {"jackson", "theo"}),  # sorted by digit
])  # fmt: skip
def test_speakers_of_digits_go_from_the_tree_to_the_scores(tmp_path, monkeypatch, names, speakers):
    monkeypatch.setattr(metrics, "available", lambda: {"pesq": False, "pystoi": False})
    rng = np.random.default_rng(0)
    for name in names:
        write(tmp_path / "speech" / name, rng.uniform(-0.5, 0.5, 2000).astype("f4"), 8000)
    write(tmp_path / "noise" / "0.wav", rng.uniform(-0.5, 0.5, 4000).astype("f4"), 8000)
    assert set(build_corpus([tmp_path / "speech"], 8000).groups) == speakers

    rows = write_pairs([tmp_path / "speech"], [tmp_path / "noise"], tmp_path / "mixed",
                       MixtureSpec(8000, [-8.0], count=2 * len(names)))
    assert {row["speaker"] for row in rows} == speakers
    pairs = match_folders(tmp_path / "mixed" / "noisy", tmp_path / "mixed" / "clean")
    assert {pair.speaker for pair in pairs} == speakers
    for pair in pairs:  # each the one in its own name
        assert pair.speaker == pair.name.split("/")[-1].split("_")[1]
    scored = evaluate(pairs, jobs=1)
    assert {row.speaker for row in scored.rows} == speakers


def test_a_table_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "latin.csv").write_bytes("speaker,stadt\na,Köln\n".encode("latin-1"))
    for path, reason in ((tmp_path / "none.csv", r"cannot be read \(No such file.*check the path"),
                         (tmp_path, r"cannot be read \(Is a directory"),
                         (tmp_path / "latin.csv", "no text in UTF-8.*save it")):
        with pytest.raises(SpeakerError, match=reason):
            read_speakers(path)
