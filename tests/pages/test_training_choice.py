"""What the training tab offers and takes: folders beneath the roots, configs, names, lengths."""

from __future__ import annotations

import shlex

import pytest

from gan_denoise.config import load_config
from gan_denoise.config.data_sources import PairData
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.pages.settings import ServeError
from gan_denoise.pages.training_choice import list_configs, list_folders, parse_choice


@pytest.fixture
def root(folders):
    return folders


def choose(root, tmp_path, **changed):
    values = {"name": "one", "kind": "pretrain", "config": "debug", "data": "mix",
              "speech": [f"{root.name}/speech"], "noise": [f"{root.name}/noise"]} | changed
    return parse_choice(values, [root], {"hush": tmp_path / "hush"}, tmp_path / "runs")


def test_folders_are_listed_with_all_files_beneath_them(root):
    found = list_folders([root])
    assert found[f"{root.name}/speech"] == (root / "speech", 8)
    assert found[f"{root.name}/speech/speaker1"] == (root / "speech" / "speaker1", 2)
    assert found[root.name][1] == 8 + 3 + 8 + 8


def test_nothing_outside_the_roots_is_listed(root, tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(root, target_is_directory=True)
    (inside / "empty").mkdir()
    assert list_folders([inside]) == {}


def test_roots_of_one_name_are_told_apart(root, tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "data").mkdir(parents=True)
        (tmp_path / place / "data" / "x.wav").touch()
    found = list_folders([tmp_path / "a" / "data", tmp_path / "b" / "data"])
    assert {name: path for name, (path, _) in found.items()} == {
        "data": tmp_path / "a" / "data", "data (2)": tmp_path / "b" / "data"}


def test_configs_are_offered_for_the_verb_that_they_are_for():
    configs = list_configs()
    assert {"pretrain", "debug", "real-16k-pretrain"} <= set(configs["pretrain"])
    assert {"finetune", "own-voice", "real-16k-metric"} <= set(configs["finetune"])
    assert not set(configs["pretrain"]) & {"finetune", "own-voice", "base"}
    for names in configs.values():
        for name in names:
            load_config(name)


def test_a_choice_is_a_command(root, tmp_path):
    choice = choose(root, tmp_path, minutes=2.5, steps=40)
    config = choice.load()
    assert config.data.speech == (str(root / "speech"),)
    assert (config.training.minutes, config.training.steps) == (2.5, 40)
    words = shlex.split(choice.command)
    assert words[:2] == ["gan-denoise", "pretrain"]
    assert load_config("debug", [word for word in words if "=" in word]) == config


def test_a_length_of_its_own_is_the_configs(root, tmp_path):
    assert choose(root, tmp_path).load().training == load_config("debug").training
    assert choose(root, tmp_path, minutes=1).load().training.steps is None, "not six steps"


def test_several_folders_and_pairs(root, tmp_path):
    speech = [f"{root.name}/speech/speaker{n}" for n in (0, 1)]
    assert choose(root, tmp_path, speech=speech).load().data.speech == tuple(
        str(root / "speech" / f"speaker{n}") for n in (0, 1))
    pairs = choose(root, tmp_path, data="pairs", noisy=[f"{root.name}/noisy"],
                   clean=[f"{root.name}/clean"]).load()
    assert isinstance(pairs.data, PairData)


@pytest.mark.parametrize("changed", [
    {"name": "../up"}, {"name": ""}, {"name": "a/b"}, {"name": ".hidden"}, {"name": "models"},
    {"name": "x" * 61}, {"kind": "tune"}, {"config": "../../secret"}, {"config": "own-voice"},
    {"kind": "finetune", "config": "finetune"}, {"data": "features"}, {"speech": []},
    {"speech": ["/etc"]}, {"speech": ["../speech"]}, {"noise": "noise"}, {"speech": [["x"]]},
    {"kind": "finetune", "config": "finetune", "init": "/etc"}, {"minutes": 0}, {"minutes": "10"},
    {"minutes": float("nan")}, {"minutes": True}, {"steps": 1.5}, {"steps": -1},
    {"data": "pairs", "noisy": [], "clean": []},
])
def test_what_was_not_offered_is_refused(root, tmp_path, changed):
    with pytest.raises(GanDenoiseError):
        choose(root, tmp_path, **changed)


def test_a_run_that_is_there_is_not_started_again(root, tmp_path):
    (tmp_path / "runs" / "one").mkdir(parents=True)
    with pytest.raises(ServeError, match="already"):
        choose(root, tmp_path)
