"""The report says what the evaluation says, shows the files that it names, and stays small."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest

from gan_denoise.audio.writer import write
from gan_denoise.evaluation.report import examples
from gan_denoise.evaluation.report.examples import choose
from gan_denoise.evaluation.report.merging import merge
from gan_denoise.evaluation.report.page import write_report
from gan_denoise.evaluation.results import Evaluation, FileScores, save

RATE = 8000
GAINS = {"a": 1.0, "b": 5.0, "c": 3.0, "d": -2.0, "e": 4.0}  # of the model, by file


def evaluated(folder, waveforms=("noisy", "m", "clean"), **more):
    rows = []
    for number, (name, gain) in enumerate(GAINS.items()):
        for system, scores in (
            ("noisy", {"si_sdr": 2.0, "lsd": 9.0}),
            ("m", {"si_sdr": 2.0 + gain, "lsd": 9.0 + gain}),
            ("oracle", {"si_sdr": 20.0, "lsd": 1.0}),
        ):
            rows.append(FileScores(name, system, 5.0 * (number % 2), 1.0, RATE, scores,
                                   noise=("rain", "music")[number % 2]))
        for place, system in enumerate(waveforms):
            noise = np.random.default_rng(place).standard_normal(RATE)
            write(folder / system / f"{name}.wav", np.float32(0.1 * noise), RATE, subtype="FLOAT")
    save(Evaluation(("noisy", "m", "oracle"), tuple(rows), **more), folder)
    return folder


def cells(text, start):
    """The words of the row of a table that begins with `start`."""
    row = re.search(rf"<tr[^>]*><th scope=\"row\">{start}</th>(.*?)</tr>", text, re.DOTALL)[1]
    row = re.sub(r'<span class="hidden">.*?</span>', "", row)
    return [html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()
            for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]


def test_the_summary_says_what_the_evaluation_says(tmp_path):
    text = write_report([evaluated(tmp_path)], tmp_path / "r.html").read_text(encoding="utf-8")
    assert cells(text, "noisy") == [["2.00"], ["9.00"]]
    margin = 2.7764 * np.std(list(GAINS.values()), ddof=1) / 5**0.5  # Student's t, 4 degrees
    assert cells(text, "m")[0] == ["4.20", "+2.20", "±", f"{margin:.2f}"]
    assert cells(text, "oracle")[1] == ["1.00", "−8.00", "±", "0.00"]
    # Lower LSD is better: of the oracle it is good, of the model no clear change.
    kinds = re.findall(r'<span class="cell-change ([a-z]*)">', text)
    assert kinds == ["", "", "good", "good"]
    assert "m brings SI-SDR from 2.00 to 4.20 dB." in text


def test_best_median_and_worst_are_so_by_each_metric(tmp_path):
    rankings, chosen = choose(merge([evaluated(tmp_path)]))
    found = {row.metric: [(example.name, change) for example, change in row.places]
             for row in rankings}
    assert found["SI-SDR"] == [("b", "+5.00"), ("c", "+3.00"), ("d", "-2.00")]
    assert found["LSD"] == [("d", "+2.00"), ("c", "-3.00"), ("b", "-5.00")]
    assert sorted(example.name for example in chosen) == ["b", "c", "d"]
    (best,) = (example for example in chosen if example.name == "b")
    assert best.reasons == {("best", "SI-SDR"): ["m"], ("worst", "LSD"): ["m"]}


def test_each_named_file_has_a_player_of_noisy_model_and_clean(tmp_path):
    text = write_report([evaluated(tmp_path)], tmp_path / "r.html").read_text(encoding="utf-8")
    text = text.split("<template")[0]
    players = re.findall(r'<div class="player" id="(example-\d)".*?</output>', text, re.DOTALL)
    assert sorted(players) == ["example-1", "example-2", "example-3"]
    assert len(re.findall('data-audio="data:audio/mpeg;base64,', text)) == 9
    assert len(re.findall('src="data:image/webp;base64,', text)) == 9
    for ident in players:
        assert f'href="#{ident}-title"' in text
        assert f'id="{ident}-title"' in text
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:)?//""", text)


def test_the_blind_test_compares_a_model_with_noisy_and_names_real_tracks(tmp_path):
    text = write_report([evaluated(tmp_path)], tmp_path / "r.html").read_text(encoding="utf-8")
    blind = json.loads(re.search(r'id="blind-data">(.*?)</script>', text)[1])
    assert blind["systems"] == ["m", "noisy"]
    assert len(blind["recordings"]) == 3
    assert all(one["tracks"] == {"m": 1, "noisy": 0} for one in blind["recordings"])


def test_charts_are_by_snr_and_by_noise_and_more_is_better(tmp_path):
    text = write_report([evaluated(tmp_path)], tmp_path / "r.html").read_text(encoding="utf-8")
    points = [html.unescape(words) for words in re.findall(r"<title>(m, .*?)</title>", text)]
    means = {place: np.mean([GAINS[name] for name in names])
             for place, names in (("0", "ace"), ("5", "bd"), ("rain", "ace"), ("music", "bd"))}
    for place, mean in means.items():
        own = [point for point in points if point.startswith(f"m, {place}: ")]
        assert [point.split()[2] for point in own] == [f"{mean:+.2f}", f"{-mean:+.2f}"]


def test_an_older_or_bare_evaluation_makes_a_page_that_says_what_is_missing(tmp_path):
    old = write_report([evaluated(tmp_path / "old", ("noisy", "m"))], tmp_path / "old.html")
    text = old.read_text(encoding="utf-8")
    assert "clean recordings were not kept" in text
    assert "kept no settings" in text
    assert "data:audio" in text
    bare = write_report([evaluated(tmp_path / "bare", ())], tmp_path / "bare.html")
    text = bare.read_text(encoding="utf-8")
    assert "nothing to hear" in text
    assert 'class="player"' not in text
    assert "Blind test" not in text


def test_an_evaluation_of_noisy_alone_makes_a_page(tmp_path):
    rows = (FileScores("a", "noisy", None, 1.0, RATE, {"snr": 1.0}),)
    save(Evaluation(("noisy",), rows), tmp_path)
    assert "1.00" in write_report([tmp_path], tmp_path / "r.html").read_text(encoding="utf-8")


def test_settings_card_notices_and_refusals_are_there_as_text(tmp_path):
    folder = evaluated(
        tmp_path, (), notices=("beware <b>",), refused_pairs={"x": "too <short>"},
        versions={"numpy": "2.0", "pesq": None},
        models={"m": {"settings": "mel: {n_mels: 80}", "card": {"data": {"speech": "AN4 & co"},
                                                               "minutes": 7.123456}}})
    text = write_report([folder], tmp_path / "r.html", title="T<i>").read_text(encoding="utf-8")
    for words in ("<h1>T&lt;i&gt;</h1>", "beware &lt;b&gt;", "too &lt;short&gt;",
                  "mel: {n_mels: 80}", "<dt>data: speech</dt><dd>AN4 &amp; co</dd>",
                  "<dd>7.123</dd>", "not installed"):
        assert words in text, words


def test_beyond_the_size_limit_files_have_no_player_and_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "BYTES", 45_000)
    page = write_report([evaluated(tmp_path)], tmp_path / "r.html")
    assert page.stat().st_size < 200_000
    assert re.search(r"[12] of 3 recordings have no player", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("seconds", [1.0, 20.0])
def test_of_a_long_recording_the_beginning_is_played(tmp_path, seconds):
    folder = evaluated(tmp_path, ())
    for system in ("noisy", "m", "clean"):
        write(folder / system / "b.wav", np.zeros(round(seconds * RATE), np.float32), RATE)
    merged = merge([folder])
    _, chosen = choose(merged)
    examples.add_players(merged, chosen)
    (best,) = (example for example in chosen if example.name == "b")
    assert len(best.tracks) == 3
    assert best.seconds == (examples.SECONDS if seconds > examples.SECONDS else None)
