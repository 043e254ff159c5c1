"""Several evaluations as one: systems of one name, other recordings, what was not kept."""

from __future__ import annotations

import numpy as np
import pytest

from gan_denoise.audio.writer import write
from gan_denoise.evaluation.report.merging import ReportError, is_model, merge
from gan_denoise.evaluation.results import Evaluation, FileScores, ScoresError, save


def evaluated(folder, systems, names=("a", "b"), noisy=1.0, notices=()):
    """Save an evaluation; a system's score is the length of its name."""
    rows = [FileScores(name, system, 5.0, 2.0, 16000,
                       {"snr": noisy if system == "noisy" else float(len(system))})
            for name in names for system in systems]
    save(Evaluation(tuple(systems), tuple(rows), tuple(notices),
                    models={name: {"settings": folder.name} for name in systems
                            if is_model(name)}), folder)
    return folder


def test_models_of_two_folders_are_compared_beside_one_noisy_and_one_oracle(tmp_path):
    one = evaluated(tmp_path / "1", ("noisy", "first", "best gain", "oracle"), notices=["n", "m"])
    two = evaluated(tmp_path / "2", ("noisy", "second", "oracle"), notices=["n"])
    merged = merge([one, two])
    assert merged.evaluation.systems == ("noisy", "first", "second", "best gain", "oracle")
    assert merged.models == ("first", "second")
    assert merged.evaluation.mean("second", "snr") == 6.0
    assert merged.evaluation.notices == ("n", "m")
    assert merged.evaluation.models["second"] == {"settings": "2"}
    assert merged.left_out == ()


def test_models_of_one_name_are_told_apart_by_their_folder(tmp_path):
    folders = [evaluated(tmp_path / name, ("noisy", "m")) for name in ("old", "new")]
    assert merge(folders).models == ("m", "m (new)")
    assert merge([folders[0], *folders]).models == ("m", "m (old)", "m (new)")


def test_another_oracle_is_kept(tmp_path):
    one = evaluated(tmp_path / "1", ("noisy", "m", "oracle"))
    two = evaluated(tmp_path / "2", ("noisy", "n", "oracle of n"))
    assert merge([one, two]).evaluation.systems[-2:] == ("oracle", "oracle of n")


def test_only_shared_recordings_are_compared_and_the_others_are_named(tmp_path):
    one = evaluated(tmp_path / "1", ("noisy", "m"), names=("a", "b", "c"))
    two = evaluated(tmp_path / "2", ("noisy", "n"), names=("b", "d"))
    merged = merge([one, two])
    assert merged.evaluation.names == ["b"]
    assert merged.left_out == ("a", "c", "d")


def test_what_cannot_be_compared_is_an_error(tmp_path):
    one = evaluated(tmp_path / "1", ("noisy", "m"))
    with pytest.raises(ReportError, match="another recording"):
        merge([one, evaluated(tmp_path / "2", ("noisy", "n"), noisy=2.0)])
    with pytest.raises(ReportError, match="share no recording"):
        merge([one, evaluated(tmp_path / "3", ("noisy", "n"), names=("x",))])
    with pytest.raises(ReportError, match="no evaluation"):
        merge([])
    with pytest.raises(ScoresError, match="evaluate --out"):
        merge([tmp_path / "none"])


def test_waveforms_are_found_where_they_were_kept(tmp_path):
    folder = evaluated(tmp_path / "1", ("noisy", "m"))
    write(folder / "m" / "a.wav", np.zeros(2), 16000)
    merged = merge([folder])
    assert merged.file("m", "a") == folder / "m" / "a.wav"
    assert merged.file("m", "b") is merged.file("clean", "a") is None
