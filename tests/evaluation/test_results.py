import io
import json
import math
import os

import pytest
from rich.console import Console

from gan_denoise.core.checksums import sealed, unsealed
from gan_denoise.core.errors import OutputError
from gan_denoise.evaluation import results
from gan_denoise.evaluation.results import Evaluation, FileScores
from gan_denoise.evaluation.table import score_tables
from gan_denoise.metrics import METRICS


def table(values, snr_db=None, **more):
    """`values` is {system: {file: {metric: score, or a text why not}}}."""
    rows = []
    for system, files in values.items():
        for name, found in files.items():
            numbers = {k: v for k, v in found.items() if not isinstance(v, str)}
            refused = {k: v for k, v in found.items() if isinstance(v, str)}
            snr = (snr_db or {}).get(name)
            rows.append(FileScores(name, system, snr, 2.0, 16000, numbers, refused, 0.0))
    return Evaluation(tuple(values), tuple(rows), **more)


@pytest.fixture
def refusing():
    return table(
        {
            "noisy": {"a": {"snr": 1.0}, "b": {"snr": 3.0}, "c": {"snr": 8.0}},
            "model": {"a": {"snr": 5.0}, "b": {"snr": "too short"}, "c": {"snr": 10.0}},
        }
    )


def test_means_are_over_files_that_no_system_refused(refusing):
    assert refusing.common("snr") == ["a", "c"]
    assert refusing.mean("noisy", "snr") == 4.5
    assert refusing.median("model", "snr") == 7.5
    assert refusing.change("model", "snr") == 3.0
    assert refusing.mean("noisy", "snr", ["b", "c"]) == 8.0
    assert refusing.mean("noisy", "snr", ["b"]) is None
    assert refusing.mean("noisy", "stoi") is None


def test_silence_takes_no_file_from_the_others():
    result = table(
        {
            "noisy": {"a": {"snr": 1.0, "stoi": 0.5}, "b": {"snr": 3.0, "stoi": 0.7}},
            "model": {"a": {"snr": 5.0, "stoi": 0.6}, "b": {"snr": 9.0, "stoi": 0.8}},
            "silence": {"a": {"snr": 0.0, "stoi": "silent"}, "b": {"snr": 0.0, "stoi": "silent"}},
        }
    )
    assert result.common("stoi") == ["a", "b"]
    assert result.change("silence", "snr") == -2.0
    assert result.mean("silence", "stoi") is None
    assert result.margin("silence", "stoi") is None


def test_the_margin_is_students_of_the_changes():
    """Changes 4 and 6: deviation sqrt 2, t of one degree of freedom 12.706."""
    result = table(
        {
            "noisy": {"a": {"snr": 1.0}, "b": {"snr": 3.0}},
            "model": {"a": {"snr": 5.0}, "b": {"snr": 9.0}},
        }
    )
    assert result.margin("model", "snr") == pytest.approx(12.706, abs=1e-3)
    assert result.margin("noisy", "snr") == 0
    assert result.margin("model", "snr", ["a"]) is None


def test_a_noisy_input_that_is_clean_already_does_not_make_the_mean_infinite():
    result = table(
        {
            "noisy": {"same": {"snr": math.inf, "stoi": 1.0}, "b": {"snr": 1.0, "stoi": 0.5}},
            "model": {"same": {"snr": 30.0, "stoi": 0.9}, "b": {"snr": 2.0, "stoi": 0.6}},
        }
    )
    assert result.common("snr") == ["b"]
    assert result.change("model", "snr") == 1.0
    assert result.common("stoi") == ["same", "b"]


def test_infinite_scores_stay_infinite_and_never_become_nan():
    result = table(
        {
            "noisy": {"a": {"snr": 0.0, "lsd": 2.0}, "b": {"snr": 1.0, "lsd": 2.0}},
            "model": {"a": {"snr": math.inf, "lsd": 1.0}, "b": {"snr": -math.inf, "lsd": 1.0}},
            "oracle": {"a": {"snr": math.inf, "lsd": 0.0}, "b": {"snr": 9.0, "lsd": 0.0}},
        }
    )
    assert result.mean("oracle", "snr") == result.change("oracle", "snr") == math.inf
    assert result.mean("model", "snr") is None
    text = json.dumps(results.to_json(result), allow_nan=False)
    assert "Infinity" not in text
    assert "NaN" not in text


def test_columns_are_in_the_order_of_the_definitions(refusing):
    assert refusing.columns == ["snr"]
    mixed = table({"noisy": {"a": {"mse_mel": 0.1, "pesq_wb": "silent", "snr": 1.0}}})
    assert mixed.columns == ["pesq_wb", "snr", "mse_mel"]


def test_few_snrs_are_groups_and_many_are_binned():
    few = table({"noisy": {n: {"snr": 1.0} for n in "abc"}}, {"a": 10.0, "b": -5.0, "c": 10.0})
    assert few.by_snr() == {"-5 dB": ["b"], "10 dB": ["a", "c"]}
    snrs = {f"{i}": i * 1.1 - 5 for i in range(12)}
    many = table({"noisy": {name: {"snr": 1.0} for name in snrs}}, snrs)
    groups = many.by_snr()
    assert list(groups) == ["-5 to 0 dB", "0 to 5 dB", "5 to 10 dB"]
    assert sorted(name for names in groups.values() for name in names) == sorted(snrs)
    assert all(0 <= snrs[name] < 5 for name in groups["0 to 5 dB"])
    assert table({"noisy": {"a": {"snr": 1.0}}}).by_snr() == {}


def test_json_counts_what_was_refused(refusing):
    found = results.to_json(refusing)
    assert found["metrics"]["snr"]["files_in_mean"] == 2
    assert found["metrics"]["snr"]["files_refused"] == {"noisy": 0, "model": 1}
    assert found["summary"]["model"]["snr"] == {
        "mean": 7.5, "median": 7.5, "improvement": 3.0, "margin": pytest.approx(12.706, abs=0.01)
    }
    (row,) = (row for row in found["rows"] if row["refused"])
    assert (row["name"], row["system"], row["refused"]) == ("b", "model", {"snr": "too short"})


def test_scores_appear_whole_or_not_at_all(refusing, tmp_path, monkeypatch):
    results.save(refusing, tmp_path / "deep" / "out")
    assert sorted(p.name for p in (tmp_path / "deep" / "out").iterdir()) == [
        "scores.csv", "scores.json"
    ]

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match=r"scores.json: cannot be written \(No space"):
        results.save(refusing, tmp_path / "full")
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.parametrize("width", [40, 80, 100])
def test_the_table_fits_with_all_metrics_and_whole_names(width):
    def found(k):
        values = dict.fromkeys(METRICS, 12.34 + k) | {"snr": -13.34 + k}
        del values["pesq_nb"]
        return values | {"pesq_wb": 1.23, "stoi": 0.5, "estoi": 0.5, "mse_mel": 0.0123,
                         "mse_mel_wave": 0.0123, "psnr_mel": math.inf if k == 4 else 20.0}

    systems = ("noisy", "pretrained", "fine-tuned", "oracle")
    result = table(
        {system: {"a": found(k), "b": found(k)} for k, system in enumerate(systems, 1)},
        {"a": 0.0, "b": 5.0},
        notices=("3 files of 48000 Hz resampled to 16000 Hz",),
    )
    console = Console(width=width, file=io.StringIO())
    console.print(score_tables(result))
    text = console.file.getvalue()
    assert "…" not in text
    assert " ".join(text.split()).startswith(
        "2 files, 0.1 min at 16,000 Hz - 3 files of 48000 Hz resampled")
    for expected in (*systems, "mean", "± 95 %", "median", "vs noisy", "-12.3", "inf", "0 dB (1)"):
        assert expected in text
    assert all(len(line) <= width for line in text.splitlines())
    mean = text[text.index("mean") :].splitlines()[1]
    assert mean.split()[:4] == ["noisy", "1.23", "0.500", "0.500"]


def test_the_table_of_the_noisy_input_alone():
    console = Console(width=80, file=io.StringIO())
    console.print(score_tables(table({"noisy": {"a": {"snr": 5.0, "stoi": "silent"}}})))
    assert "vs noisy" not in console.file.getvalue()
    assert "5.0" in console.file.getvalue()


def test_scores_come_back_from_their_file(refusing, tmp_path):
    rows = (FileScores("a", "noisy", -8.0, 2.0, 8000, {"snr": -8.0, "lsd": 3.0}, lag=0.001,
                       speaker="01"),
            FileScores("a", "model", -8.0, 2.0, 8000, {"snr": math.inf, "lsd": 0.0}, speaker="01"),
            FileScores("a", "oracle", -8.0, 2.0, 8000, {"lsd": -0.0}, {"snr": "silent"},
                       speaker="01"),
            FileScores("b", "noisy", None, 1.0, 8000, {"snr": -math.inf}))
    evaluation = Evaluation(("noisy", "model", "oracle"), rows, ("a line",), {"pesq": None})
    results.save(evaluation, tmp_path)
    assert results.read_scores(tmp_path) == evaluation
    assert results.read_scores(tmp_path / "scores.json") == evaluation


def test_what_is_no_file_of_scores_is_told(refusing, tmp_path):
    path = tmp_path / "scores.json"
    results.save(refusing, tmp_path)
    whole = json.loads(path.read_text())
    for text, reason in [
        ("name,system\n", "no scores.json"), ("[]", "no scores.json"), ("{}", "format_version"),
        (json.dumps(whole | {"format_version": 99}), "of version 99, expected 1"),
        (json.dumps(whole | {"systems": ["model", "noisy"]}), "checksum differs"),
        (json.dumps(sealed(unsealed(whole, path) | {"rows": [{"name": "a"}]})), "no scores.json"),
    ]:
        path.write_text(text)
        with pytest.raises(results.ScoresError, match=reason) as error:
            results.read_scores(path)
        assert str(path) in str(error.value)
    reason = r"nowhere: cannot be read .*gan-denoise evaluate"
    with pytest.raises(results.ScoresError, match=reason):
        results.read_scores(tmp_path / "nowhere")


def test_kinds_of_noise_and_models_are_kept(tmp_path):
    rows = [FileScores(name, "noisy", 0.0, 2.0, 16000, {"snr": 1.0}, noise=kind)
            for name, kind in (("a", "rain"), ("b", "babble"), ("c", "rain"), ("d", None))]
    models = {"m": {"settings": "audio: {}", "card": {"steps": 3}}}
    results.save(Evaluation(("noisy",), tuple(rows), models=models), tmp_path)
    again = results.read_scores(tmp_path)
    assert again.by_noise() == {"babble": ["b"], "rain": ["a", "c"]}
    assert again.models == models
