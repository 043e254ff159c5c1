"""Improvement by speaker and by group: known effects are found, none is none, too few is said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from gan_denoise.evaluation.results import Evaluation, FileScores
from gan_denoise.evaluation.speakers.attributes import Speakers
from gan_denoise.evaluation.speakers.comparison import AnalysisError, analyze
from gan_denoise.evaluation.speakers.summary import summarize


def scored(improvements, metric="stoi", noisy=0.5, snrs=None, system="model"):
    """An evaluation of `{speaker: improvement of each file}`."""
    rows = []
    for speaker, changes in improvements.items():
        for number, change in enumerate(changes):
            place = (f"{speaker}/{number}", (snrs or {}).get(speaker), 1.0, 16000)
            for name, score in (("noisy", noisy), (system, noisy + change)):
                rows.append(
                    FileScores(place[0], name, *place[1:], {metric: score}, speaker=speaker))
    return Evaluation(("noisy", system), tuple(rows))


def grouped(**groups):
    """`kind` of speakers named after their group: a=[means of its speakers]."""
    improvements = {f"{group}{number}": [mean - 0.1, mean + 0.1]
                    for group, means in groups.items() for number, mean in enumerate(means)}
    return scored(improvements), Speakers({name: {"kind": name[0]} for name in improvements})


def spread(size):
    """Values of mean 0 and deviation 1, evenly likely under a normal distribution."""
    values = norm.ppf((np.arange(size) + 0.5) / size)
    return values / values.std(ddof=1)


def said(analysis):
    return {heading: " ".join(lines) for heading, lines in summarize(analysis).items()}


def test_a_known_effect_is_found_with_its_sign_and_size():
    analysis = analyze(*grouped(a=spread(8), b=spread(8) + 2))
    (test,) = analysis.comparisons
    assert [group.value for group in test.groups] == ["b", "a"]  # the higher first
    assert test.difference == pytest.approx(2.0)
    assert test.effect == pytest.approx(2 * 0.94529, abs=1e-4)  # 2 deviations, 14 degrees
    assert test.adjusted_p == test.p < 0.01
    assert test.found
    assert "kind: STOI gains +2.000 for b (8), +0.000 for a (8)" in said(analysis)["What differs"]
    assert "What does not differ, as far as can be seen" not in said(analysis)


def test_three_groups_of_a_known_effect():
    analysis = analyze(*grouped(a=spread(6), b=spread(6), c=spread(6) + 3))
    (test,) = analysis.comparisons
    # Between: 36 on 2 degrees; within: 15 on 15.
    assert test.effect == pytest.approx((36 - 2) / 51)
    assert test.effect_name == "epsilon squared"
    assert test.groups[0].value == "c"
    assert test.found


def test_groups_that_do_not_differ():
    analysis = analyze(*grouped(a=spread(5), b=spread(7)))
    assert analysis.comparisons[0].effect == pytest.approx(0.0, abs=1e-12)
    assert analysis.comparisons[0].p > 0.9
    assert "What differs" not in said(analysis)
    assert said(analysis)["What does not differ, as far as can be seen"] == (
        "kind: no difference was found in STOI between b (7), a (5); the smallest p that so many "
        "speakers can give is 0.0013.")


def test_few_analyses_of_nothing_find_something():
    """Four comparisons each, corrected: in the long run 5 % of the analyses at most."""
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(60):
        evaluation = scored({f"s{number}": [value] for number, value in
                             enumerate(rng.standard_normal(9))})
        speakers = Speakers({f"s{number}": {name: str(rng.integers(2)) for name in "abcd"}
                             for number in range(9)})
        found += any(test.found for test in analyze(evaluation, speakers).comparisons)
    assert found <= 7


def test_the_speaker_is_the_unit_and_not_the_file():
    few, speakers = grouped(a=[0.1, 0.5, 0.3, 0.2], b=[0.4, 0.6, 0.9, 0.3])
    many = Evaluation(few.systems, tuple(
        FileScores(f"{row.name}/{copy}", row.system, None, 1.0, 16000, row.scores,
                   speaker=row.speaker)
        for row in few.rows for copy in range(10)))
    one, ten = (analyze(evaluation, speakers) for evaluation in (few, many))
    assert ten.comparisons[0].p == one.comparisons[0].p
    assert ten.everyone[0].files == 10 * one.everyone[0].files
    assert ten.everyone[0].interval == pytest.approx(one.everyone[0].interval)


def test_a_talkative_speaker_weighs_no_more_than_others():
    analysis = analyze(scored({"a": [1.0] * 50, "b": [0.0], "c": [2.0]}), Speakers())
    assert analysis.everyone[0].mean == pytest.approx(1.0)
    assert [member.files for member in analysis.everyone[0].members] == [50, 1, 1]


def test_three_and_three_speakers_cannot_differ_enough():
    analysis = analyze(*grouped(a=[0.1, 0.2, 0.3], b=[5.1, 5.2, 5.3]))
    (test,) = analysis.comparisons
    assert (test.p, test.smallest_p) == (pytest.approx(0.1), pytest.approx(0.1))
    assert said(analysis)["What cannot be said"] == (
        "kind: too few speakers for any finding in STOI between a (3), b (3); the smallest p that "
        "so many speakers can give is 0.1.")


def test_groups_of_two_are_shown_and_not_compared():
    analysis = analyze(*grouped(a=[0.1, 0.2, 0.3, 0.4], b=[5.1, 5.2], c=[1.1, 1.2, 1.5, 1.4]))
    by_value = {group.value: group for group in analysis.groups}
    assert by_value["b"].mean == pytest.approx(5.15)
    assert by_value["b"].interval is None
    assert by_value["a"].interval is not None
    assert [group.value for group in analysis.comparisons[0].groups] == ["c", "a"]


def test_one_large_group_is_no_comparison():
    analysis = analyze(*grouped(a=[0.1, 0.2, 0.3, 0.4], b=[5.1, 5.2]))
    assert analysis.comparisons == ()
    assert said(analysis)["What cannot be said"] == (
        "kind: not compared. That takes two groups of 3 speakers at least; there are a (4), b (2).")


def test_attributes_without_groups_and_unknown_speakers_are_said():
    evaluation = scored({name: [0.1 * place] for place, name in enumerate("abcdef")})
    speakers = Speakers({name: {"room": "one", "date": name} | ({"sex": "mf"[place % 2]}
                                                                if name != "f" else {})
                         for place, name in enumerate("abcdef")}, ("from the table",))
    analysis = analyze(evaluation, speakers)
    assert analysis.attributes == ("sex",)
    assert analysis.notices == (
        "from the table",
        "room: one of all speakers; nothing to compare",
        "date: another of each speaker; nothing to compare",
        "sex: unknown of 1 of 6 speakers, who are left out of its groups",
    )


def test_files_without_a_speaker_are_left_out_and_counted():
    evaluation = scored({"a": [1.0], "b": [3.0], None: [100.0]})
    analysis = analyze(evaluation, Speakers())
    assert analysis.everyone[0].mean == pytest.approx(2.0)
    assert analysis.notices == ("1 of 3 files left out, whose speaker is unknown",)
    with pytest.raises(AnalysisError, match=r"no file has a speaker.*--speaker-pattern"):
        analyze(scored({None: [1.0]}), Speakers())


def test_less_is_better_turns_the_sign():
    analysis = analyze(scored({"a": [-2.0], "b": [1.0]}, metric="lsd"), Speakers())
    assert [member.improvement for member in analysis.everyone[0].members] == [2.0, -1.0]
    assert "1 of 2 speakers gain, most a (+2.00 dB), least b (-1.00 dB)" in said(
        analysis)["Over all speakers"]


def test_infinite_improvements_are_left_out_and_counted():
    evaluation = scored({"a": [1.0, math.inf], "b": [2.0], "c": [-math.inf]}, metric="si_sdr")
    analysis = analyze(evaluation, Speakers())
    assert [member.speaker for member in analysis.everyone[0].members] == ["a", "b"]
    assert analysis.notices == ("SI-SDR: 2 files left out, whose score is infinite",)


def test_other_noise_for_other_speakers_is_said():
    evaluation, speakers = grouped(a=spread(4), b=spread(4))
    snrs = {name: 5.0 if name.startswith("a") else 2.0 for name in speakers.attributes}
    rows = tuple(FileScores(row.name, row.system, snrs[row.speaker], 1.0, 16000, row.scores,
                     speaker=row.speaker) for row in evaluation.rows)
    analysis = analyze(Evaluation(evaluation.systems, rows), speakers)
    assert ("kind: the groups were not given the same noise: the mean SNR of the input is 2.0 dB "
            "for b, 5.0 dB for a") in said(analysis)["To bear in mind"]
    assert "To bear in mind" not in said(analyze(evaluation, speakers))


def test_all_comparisons_are_corrected_together():
    evaluation, speakers = grouped(a=spread(5), b=spread(5) + 1.5)
    once = analyze(evaluation, speakers).comparisons[0]
    more = Speakers({name: row | {"half": str(place % 2), "third": str(place % 3)}
                     for place, (name, row) in enumerate(speakers.attributes.items())})
    analysis = analyze(evaluation, more)
    assert len(analysis.comparisons) == 3
    assert analysis.comparisons[0].p == once.p
    assert analysis.comparisons[0].adjusted_p == pytest.approx(3 * once.p)
    chosen = analyze(evaluation, more, attributes=["kind"])
    assert chosen.attributes == ("kind",)
    assert chosen.comparisons == (once,)


def test_system_and_metrics_are_chosen():
    rows = [FileScores(f"{speaker}", system, None, 1.0, 16000,
                {"si_sdr": score, "stoi": score / 10, "lsd": 1.0}, speaker=speaker)
            for speaker in "abc"
            for system, score in (("noisy", 1.0), ("x", 2.0), ("y", 4.0), ("oracle", 9.0))]
    evaluation = Evaluation(("noisy", "x", "y", "oracle"), tuple(rows))
    analysis = analyze(evaluation, Speakers())
    assert (analysis.system, analysis.metrics) == ("x", ("stoi", "si_sdr"))
    analysis = analyze(evaluation, Speakers(), system="y", metrics=["lsd", "si_sdr"])
    assert analysis.metrics == ("si_sdr", "lsd")
    assert [group.mean for group in analysis.everyone] == [3.0, 0.0]
    for wrong, reason in [({"system": "z"}, "no system 'z' was scored; there is x, y, oracle"),
                          ({"system": "noisy"}, "no system 'noisy'"),
                          ({"metrics": ["snr"]}, "'snr' has no scores; there is stoi, si_sdr, lsd"),
                          ({"attributes": ["age"]}, "'age' is known of no speaker; there is none")]:
        with pytest.raises(AnalysisError, match=reason):
            analyze(evaluation, Speakers(), **wrong)
    with pytest.raises(AnalysisError, match="only the noisy input"):
        analyze(Evaluation(("noisy",), tuple(rows[::4])), Speakers())


def test_silence_which_most_metrics_refuse():
    """What scored is compared; of what did not, one line says so."""
    evaluation = scored({"a": [0.1, 0.2], "b": [0.1]}, system="silence")
    (group,) = analyze(evaluation, Speakers(), system="silence").everyone
    assert [member.improvement for member in group.members] == pytest.approx([0.15, 0.1])
    refused = replace(evaluation, rows=tuple(
        replace(row, scores={}) if row.system == "silence" else row for row in evaluation.rows))
    with pytest.raises(AnalysisError, match="STOI scored no file of silence"):
        analyze(refused, Speakers(), system="silence")
