"""Settings: strict, frozen, read from YAML, and every shipped file of them trains."""

from __future__ import annotations

import datetime
import json
import logging
import pickle
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from conftest import TinySource, tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gan_denoise.config import (
    ConfigError,
    check_resume,
    checkpoint_folder,
    config_folder,
    dump_config,
    flatten,
    join_settings,
    load_config,
    make_config,
    with_settings,
)
from gan_denoise.config.data_sources import (
    CleanData,
    DataConfig,
    FeatureData,
    PairData,
    SyntheticData,
)
from gan_denoise.config.kinds import Autoencoder, Cnn, GriffinLimInversion, MetricDiscriminator
from gan_denoise.config.registry import KINDS
from gan_denoise.config.schema import FREE_ON_RESUME, PATH_SETTINGS, PATHS, Config, valid_keys
from gan_denoise.config.yaml_values import read_yaml

SHIPPED = sorted(path.relative_to(config_folder()).with_suffix("").as_posix()
                 for path in config_folder().rglob("*.yaml"))


# ---- Strictness --------------------------------------------------------------------------------
@pytest.mark.parametrize(("values", "wrong", "nearest"), [
    ({"training": {"step": 3}}, "training.step", "training.steps"),
    ({"data": {"speach": "x"}}, "data.speach", "data.speech"),
    ({"losses": {"adverserial_weight": 1.0}}, "losses.adverserial_weight",
     "losses.adversarial_weight"),
    ({"mel": {"hop": 128}}, "mel.hop", "mel.hop_length"),
])
def test_an_unknown_key_names_the_nearest(values, wrong, nearest):
    with pytest.raises(ConfigError) as refused:
        make_config(values)
    assert f"unknown key '{wrong}'" in str(refused.value)
    assert f"did you mean '{nearest}'?" in str(refused.value)


def test_an_unknown_section_is_refused():
    with pytest.raises(ConfigError, match="unknown key 'trainers'"):
        make_config({"trainers": {}})


def test_a_key_that_resembles_nothing_lists_the_sections():
    with pytest.raises(ConfigError, match=r"the sections are .*generator, discriminator"):
        make_config({"zzz": 1})


@pytest.mark.parametrize(("section", "key", "value", "expected"), [
    ("training", "steps", True, "integer"),
    ("training", "batch_size", "16", "integer"),
    ("training", "batch_size", 3.5, "integer"),
    ("training", "batch_size", 0, "greater than"),
    ("training", "learning_rate", "fast", "number"),
    ("training", "learning_rate", True, "number"),
    ("training", "learning_rate", float("nan"), "finite"),
    ("training", "deterministic", 1, "boolean"),
    ("training", "deterministic", "yes", "boolean"),
    ("data", "snr_mean", True, "number"),
    ("data", "cache", 3, "string"),
    ("data", "noises", [3], "noises"),
    ("generator", "channels", [], "at least 1"),
    ("generator", "channels", ["a"], "integer"),
    ("discriminator", "loss", "wgan", "'lsgan', 'hinge' or 'bce'"),
    ("generator", "name", "gpt", "'tcn_autoencoder', 'unet'"),
    ("generator", "name", 3, "'tcn_autoencoder', 'unet'"),
    ("losses", "extra_weights", {"mine": 1.0}, "no loss 'mine'"),
    ("inversion", "name", "magic", "'griffinlim'"),
])
def test_a_wrong_type_names_key_and_expectation(section, key, value, expected):
    with pytest.raises(ConfigError) as refused:
        make_config({section: {key: value}})
    assert f"{section}.{key}" in str(refused.value)
    assert expected in str(refused.value)


def test_a_section_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="training"):
        make_config({"training": [1]})


@pytest.mark.parametrize(("values", "word"), [
    ({"mel": {"win_length": 600}}, "win_length 600"),
    ({"mel": {"hop_length": 257}}, "hop_length 257"),
    ({"mel": {"fmax": 8001.0}}, "fmax"),
    ({"mel": {"fmin": 8000.0}}, "fmin"),
    ({"mel": {"fmin": 4000.0, "fmax": 1000.0}}, "fmin"),
    ({"data": {"snr_range": [10.0, -10.0]}}, "snr_range"),
    ({"data": {"noise": "folder"}}, "data.speech"),
    ({"data": {"noisy": "a", "clean": "b", "valid_noisy": "c"}}, "valid_clean"),
    ({"data": {"noisy": "a", "clean": "b", "valid_speech": "c"}}, "valid_clean"),
    ({"discriminator": {"kind": "metric"}, "losses": {"feature_weight": 1.0}}, "feature_weight"),
])
def test_settings_that_do_not_fit_each_other_are_refused(values, word):
    with pytest.raises(ConfigError, match=word):
        make_config(values)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Config().training.steps = 3


def test_a_newer_format_is_refused():
    with pytest.raises(ConfigError, match="newer gan_denoise"):
        make_config({"format_version": 3})
    assert make_config({"format_version": 2}) == make_config({"format_version": 1}) == Config()


# ---- Kinds: a key has an effect, or is refused -------------------------------------------------
@pytest.mark.parametrize(("values", "wrong", "kind", "nearest"), [
    ({"generator": {"name": "cnn", "width": 8}}, "generator.width", "generator.name=cnn", ""),
    ({"generator": {"name": "unet", "batch_norm": False}}, "generator.batch_norm",
     "generator.name=unet", ""),
    ({"generator": {"name": "autoencoder", "kernels": 3}}, "generator.kernels", "", ""),
    ({"generator": {"latent": 4}}, "generator.latent", "generator.name=tcn_autoencoder", ""),
    ({"generator": {"head": "direct", "gain_floor_db": 3.0}}, "generator.gain_floor_db",
     "generator.head=direct", ""),
    ({"discriminator": {"scored_clips": 3}}, "discriminator.scored_clips",
     "discriminator.kind=patch", ""),
    ({"discriminator": {"kind": "metric", "channels": [3]}}, "discriminator.channels",
     "discriminator.kind=metric", ""),
    ({"inversion": {"phase_steps": 3}}, "inversion.phase_steps", "inversion.name=gain", ""),
    ({"inversion": {"name": "griffinlim", "gain_smoothing": [3, 3]}}, "inversion.gain_smoothing",
     "inversion.name=griffinlim", "inversion.griffinlim_momentum"),
    ({"data": {"valid_noisy": "a"}}, "data.valid_noisy", "recordings to mix", "data.valid_noise"),
    ({"data": {"noisy": "a", "clean": "b", "snr_mean": 3.0}}, "data.snr_mean",
     "paired recordings", ""),
    ({"data": {"features": "synthetic", "babble": 0.1}}, "data.babble", "made-up", ""),
    ({"mel": {"filters": "stft", "n_mels": 257, "fmax": 4000.0}}, "mel.fmax",
     "mel.filters=stft", ""),
])
def test_a_key_without_effect_names_the_kind_and_the_nearest_key_that_has_one(
    values, wrong, kind, nearest
):
    with pytest.raises(ConfigError) as refused:
        make_config(values)
    for words in (f"'{wrong}'", kind, nearest):
        assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("given", "section", "kind"), [
    (["data.speech=a", "data.noise=b"], "data", DataConfig),
    (["data.noisy=a", "data.clean=b"], "data", PairData), (["data.pairs=a"], "data", PairData),
    (["data.clean=a"], "data", CleanData), (["data.features=a"], "data", FeatureData),
    (["data.features=synthetic", "training.select_by=snr_mel"], "data", SyntheticData),
    (["generator.name=cnn"], "generator", Cnn),
    (["discriminator.kind=metric"], "discriminator", MetricDiscriminator),
    (["inversion.name=griffinlim"], "inversion", GriffinLimInversion),
])
def test_another_kind_drops_what_its_parents_said_of_theirs(given, section, kind):
    more = ["training.select_by=snr_mel"] if "data.features=a" in given else []
    config, parent = load_config("debug", [*given, *more]), load_config("debug")
    assert type(getattr(config, section)) is kind
    shared = set(kind.model_fields) & set(type(getattr(parent, section)).model_fields)
    named = {one.partition("=")[0] for one in given}
    for key in shared - {"name", "kind"}:  # what both have is as the parent said
        if f"{section}.{key}" not in named:
            assert getattr(getattr(config, section), key) == getattr(getattr(parent, section), key)
    assert make_config(yaml.safe_load(dump_config(config))) == config


def test_what_a_file_says_in_vain_is_refused_though_a_later_one_changes_the_kind():
    cnn = {"generator": {"name": "cnn", "width": 3}}
    with pytest.raises(ConfigError, match=r"generator\.width"):
        join_settings([cnn, {"generator": {"name": "tcn_autoencoder"}}])
    joined = join_settings([{"generator": {"width": 3}}, {"generator": {"name": "cnn"}},
                            {"generator": {"name": "tcn_autoencoder"}}])
    assert joined.generator.width == Config().generator.width  # dropped on the way


def test_another_folder_of_clean_speech_keeps_the_pairs():
    pairs = make_config({"data": {"noisy": "a", "clean": "b"}})
    assert with_settings(pairs, {"data.clean": "c"}).data == PairData(noisy="a", clean="c")
    mixed = with_settings(pairs, {"data.speech": ["s"], "data.noise": ["n"]})
    assert mixed.data == DataConfig(speech=("s",), noise=("n",))
    unset = with_settings(pairs, {"data.noisy": None, "data.clean": None})
    assert unset.data == DataConfig()


def test_settings_of_format_1_lose_what_has_no_effect_and_say_so_once(tmp_path, caplog):
    """Runs and models of that format hold every key of every kind."""
    old = {"format_version": 1, "data": {"clean": "a", "babble": 0.3, "noise": []},
           "generator": {"name": "cnn", "width": 8, "batch_norm": False, "kernel": 3},
           "discriminator": {"kind": "metric", "channels": [4], "judges": 1},
           "losses": {"adversarial": "hinge", "feature_weight": 0.0}}
    with caplog.at_level(logging.INFO):
        config = make_config(old)
    assert config.generator == Cnn(kernel=3)
    assert config.discriminator == MetricDiscriminator(pesq_workers=1)
    assert config.data == CleanData(clean="a")
    for key in ("data.babble", "generator.width", "discriminator.channels", "discriminator.loss"):
        assert sum(key in record.getMessage() for record in caplog.records) == 1
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    with pytest.raises(ConfigError):
        make_config({key: value for key, value in old.items() if key != "format_version"})


def test_the_shipped_model_of_format_1_is_read_with_all_that_has_an_effect():
    path = checkpoint_folder() / "hush" / "config.yaml"
    stored, config = yaml.safe_load(path.read_text(encoding="utf-8")), load_config(path)
    assert config.format_version == 2
    for section in ("audio", "mel", "training", "generator"):
        for key, value in stored[section].items():
            assert json.loads(json.dumps(getattr(getattr(config, section), key))) == value
    assert config.discriminator.scored_clips == stored["discriminator"]["scored_clips"]
    assert config.discriminator.pesq_workers == stored["discriminator"]["judges"]
    assert config.inversion.phase_steps == stored["inversion"]["phase_steps"]


def test_an_old_key_is_read_with_a_note(caplog):
    config = load_config("real-16k-metric", ["discriminator.judges=3"])
    assert config.discriminator.pesq_workers == 3
    assert len(caplog.records) == 1
    caplog.clear()
    config = make_config({"losses": {"adversarial": "bce"},
                          "tune": {"space": {"losses.feature_weight": [0.0, 0.1]}}})
    assert config.discriminator.loss == "bce"
    assert list(config.tune.space) == ["discriminator.feature_weight"]
    assert {record.getMessage() for record in caplog.records} == {
        "losses.adversarial is called discriminator.loss now",
        "losses.feature_weight is called discriminator.feature_weight now"}


# ---- Files and overrides -----------------------------------------------------------------------
def test_base_holds_every_key_with_its_default():
    values = yaml.safe_load((config_folder() / "base.yaml").read_text(encoding="utf-8"))
    keys = {"plugins"} | {f"{section}.{key}" for section, keys in values.items() if keys
                          for key in keys}
    assert keys == set(flatten(Config())) - {"format_version"}
    assert load_config("base") == Config()


def test_base_shows_the_keys_of_every_other_kind_with_their_defaults():
    text = (config_folder() / "base.yaml").read_text(encoding="utf-8")
    blocks = [yaml.safe_load(block.replace("\n# ", "\n")) for block in
              re.findall(r"(?<=^# )\w+:.*\n(?:#   .*\n)+", text, re.MULTILINE)]
    shown = {kind for block in blocks for kind in kinds_shown(block)}
    default = {(section, type(getattr(Config(), section))) for section in KINDS}
    everything = {(section, kind) for section, kinds in KINDS.items() for kind in kinds.all()}
    alike = {("generator", Autoencoder), ("data", SyntheticData)}  # keys as of UNet, FeatureData
    assert shown == everything - default - alike


def kinds_shown(block):
    """Return the (section, class) whose keys, with their defaults, a block of settings is."""
    ((section, values),) = block.items()
    for kind in KINDS[section].all():
        defaults = json.loads(kind().model_dump_json())
        if values == defaults:
            yield section, kind


def test_overrides_come_last_and_are_typed():
    config = load_config("debug", [
        "training.steps=500", "training.learning_rate=1e-4", "training.minutes=null",
        "data.speech=/a/b", "data.noise=[/c, /d e]", "generator.channels=[4, 8, 16]",
        "training.deterministic=true", "data.peak_range=[-20, 0]",
    ])
    assert config.training.steps == 500
    assert config.training.learning_rate == 1e-4
    assert config.training.minutes is None
    assert config.data.speech == ("/a/b",)
    assert config.data.noise == ("/c", "/d e")
    assert config.generator.channels == (4, 8, 16)
    assert config.training.deterministic is True
    assert config.data.peak_range == (-20.0, 0.0)
    assert config.generator.width == 16  # of the file


@pytest.mark.parametrize(("override", "word"), [
    ("training.steps", "expected key=value"),
    ("training.stepz=3", "did you mean 'training.steps'"),
    ("training=3", "unknown key 'training'"),
    ("training.steps=many", "training.steps"),
    ("training.steps=[1", "not readable as YAML"),
    ("=3", "unknown key"),
])
def test_a_malformed_override_is_refused(override, word):
    with pytest.raises(ConfigError, match=word.replace("[", r"\[")):
        load_config("base", [override])


# Names of folders that YAML reads as something else than text.
ODD = ["2024-01-05", "2024", "no", "yes", "on", "#1", "take: 2", "[new]", "- old", "1e5", "0x10",
       "12:30", "1_000", ".5", "{a: b}", "*x", "@a", "| x", "caf\udce9", "a\x1b[31m", "a,b"]


def value_of(config, key):
    return flatten(config)[key]


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_is_given_as_text(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    beside = {"data.noise": ["data.speech=a"], "data.valid_noisy": ["data.pairs=a"],
              "data.valid_clean": ["data.clean=a"]}
    for key in sorted(PATH_SETTINGS - {"data.valid_noisy"}):
        config = load_config("base", [*beside.get(key, []), f"{key}={name}"])
        assert value_of(config, key) in (name, (name,))
        (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
        assert load_config(tmp_path / "config.yaml") == config
        assert make_config(config.model_dump()) == config
        assert with_settings(config, {"training.seed": 1}).data == config.data


@pytest.mark.parametrize("name", sorted(set(ODD) - {"[new]"}))
def test_a_path_that_is_not_there_is_text_too(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a wrong name is named as it was given, not as YAML reads it
    config = load_config("base", [f"data.speech={name}", f"data.cache={name}"])
    assert (config.data.speech, config.data.cache) == ((name,), name)


def test_several_folders_are_a_list_whose_names_are_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def speech(text):
        return load_config("base", [f"data.speech={text}"]).data.speech

    assert speech("[a, b c]") == ("a", "b c")
    assert speech("[2024-01-05, no, 1e5, 12:30]") == ("2024-01-05", "no", "1e5", "12:30")
    assert speech("['#1', \"a,b\", caf\udce9]") == ("#1", "a,b", "caf\udce9")
    assert speech("'2024'") == ("2024",)  # in quotes as before
    assert speech("[new]") == ("new",)
    (tmp_path / "[new]").mkdir()
    assert speech("[new]") == ("[new]",)  # what is there wins
    with pytest.raises(ConfigError, match="in quotes a name that holds") as refused:
        speech("[#1]")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("nothing", ["", "null", "~", " "])
def test_a_path_can_be_unset(nothing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["data.speech=a", "data.rir=b", "data.cache=c"]
    config = load_config("base", [*given, f"data.rir={nothing}", f"data.cache={nothing}"])
    assert (config.data.speech, config.data.rir, config.data.cache) == (("a",), (), None)
    (tmp_path / "null").mkdir()
    assert load_config("base", ["data.cache=null"]).data.cache == "null"


def test_paths_in_a_file_are_the_text_that_is_written_there(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("data:\n  speech: 2024-01-05\n  noise: [no, 1e5, 12:30]\n  rir:\n  - 0x10\n"
                    "  cache: null\n  snr_mean: 1e1\n"
                    "tune:\n  space:\n    data.noise: [2024-01-05, [no]]\n")
    config = load_config(path)
    assert config.data.speech == ("2024-01-05",)
    assert config.data.noise == ("no", "1e5", "12:30")
    assert config.data.rir == ("0x10",)
    assert config.data.cache is None
    assert config.data.snr_mean == 10.0  # all else is YAML still
    assert config.tune.space == {"data.noise": ("2024-01-05", ("no",))}


def test_a_path_that_is_no_text_is_refused_in_words():
    with pytest.raises(ConfigError, match=r"'data\.speech' should be the path of a folder"):
        make_config({"data": {"speech": datetime.date(2024, 1, 5)}})
    assert {"data.speech", "data.clean", "data.cache"} <= PATH_SETTINGS
    assert PATHS | {"data.cache"} == PATH_SETTINGS | {"data.valid_sets"}


def test_a_file_extends_another_one(tmp_path):
    (tmp_path / "parent.yaml").write_text("training:\n  steps: 7\n  seed: 3\nmel:\n  n_mels: 40\n")
    (tmp_path / "child.yaml").write_text("extends: parent\ntraining:\n  seed: 4\nlosses:\n  # -\n")
    config = load_config(tmp_path / "child.yaml")
    assert (config.training.steps, config.training.seed, config.mel.n_mels) == (7, 4, 40)
    (tmp_path / "shipped.yaml").write_text("extends: demo\n")
    assert load_config(tmp_path / "shipped.yaml") == load_config("demo")
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert load_config(tmp_path / "empty.yaml") == Config()


@pytest.mark.parametrize(("text", "word"), [
    ("extends: loop\n", "extends itself"),
    ("just text\n", "expected sections"),
    ("training: [1,\n", "not readable as YAML"),
    ("training:\n  stepz: 1\n", "training.stepz"),
])
def test_a_bad_file_is_named(tmp_path, text, word):
    path = tmp_path / "loop.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=word) as refused:
        load_config(path)
    assert "loop.yaml" in str(refused.value)


def test_a_missing_file_lists_the_shipped_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match="real-16k-pretrain"):
        load_config("pretrian")
    with pytest.raises(FileNotFoundError):
        load_config(tmp_path / "base.yaml")  # a path is not a name


def test_resolved_settings_come_back_from_their_yaml(tmp_path):
    config = tiny_config(data={"speech": ["a", "b"], "noise": ["c"]}, training={"minutes": 0.5},
                         losses={"adversarial_weight": 1e-5})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


def test_a_space_is_as_frozen_as_all_settings_and_comes_back_from_yaml(tmp_path):
    space = {"mel": [{"n_fft": 256, "hop_length": 64}, {"n_fft": 512}],
             "generator.channels": [[4], [4, 8]], "losses.mse_weight": {"low": 0.5, "high": 1}}
    config = tiny_config(tune={"space": space, "trials": 3})
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    for same in (load_config(path), pickle.loads(pickle.dumps(config))):
        assert same == config
        assert hash(same) == hash(config)
    assert hash(config) != hash(tiny_config())
    for change in (lambda: config.tune.space.update(mel=1),
                   lambda: config.tune.space["mel"][0].pop("n_fft")):
        with pytest.raises(TypeError, match="frozen"):
            change()
    assert config.tune.space["generator.channels"] == ((4,), (4, 8))
    check_resume(config, tiny_config())
    assert "tune" not in dump_config(tiny_config())


def test_settings_that_another_process_sent_can_be_written():
    config = tiny_config()
    code = ("import pickle, sys\n"
            "from gan_denoise.config import dump_config\n"
            "sys.stdout.write(dump_config(pickle.load(sys.stdin.buffer)))")
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(config),
                          capture_output=True)
    assert done.stdout.decode() == dump_config(config), done.stderr.decode()


def test_some_settings_are_changed_and_checked_anew():
    config = with_settings(tiny_config(), {"training.batch_size": 3, "mel.fmax": 4000.0})
    assert (config.training.batch_size, config.mel.fmax) == (3, 4000.0)
    assert config.generator == tiny_config().generator
    with pytest.raises(ConfigError, match=r"did you mean 'mel\.fmax'"):
        with_settings(config, {"mel.fmx": 1.0})
    with pytest.raises(ConfigError, match="above half"):
        with_settings(config, {"audio.sample_rate": 7000})


# ---- Resume ------------------------------------------------------------------------------------
def test_only_what_says_when_where_and_how_wide_may_change_on_resume():
    assert set(valid_keys()) >= FREE_ON_RESUME | PATHS
    free = tiny_config(
        training={"steps": 9, "minutes": 3.0, "validate_every": 1, "checkpoint_every": 2,
                  "log_every": 3, "threads": 1, "data_workers": 5, "max_bad_steps": 7,
                  "tracker": "wandb"},
        data={"speech": "moved", "noise": "moved too", "cache": "elsewhere"},
    )
    check_resume(tiny_config(), free)


@pytest.mark.parametrize(("section", "key", "value"), [
    ("training", "learning_rate", 1e-2), ("training", "batch_size", 3), ("training", "seed", 1),
    ("training", "select_by", "pesq_wb"), ("training", "deterministic", True),
    ("losses", "adversarial_weight", 0.5), ("generator", "channels", [4, 7]),
    ("mel", "n_mels", 17), ("data", "snr_mean", 6.0), ("discriminator", "spectral_norm", False),
])
def test_anything_else_that_changed_is_named_with_both_values(section, key, value):
    before, after = tiny_config(), tiny_config(**{section: {key: value}})
    with pytest.raises(ConfigError) as refused:
        check_resume(before, after)
    old, new = flatten(before)[f"{section}.{key}"], flatten(after)[f"{section}.{key}"]
    assert f"{section}.{key}: the run has {old!r}, now {new!r}" in str(refused.value)


# ---- What is shipped trains --------------------------------------------------------------------
@pytest.mark.system
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_builds_and_takes_an_adversarial_step(name):
    import keras
    import tensorflow as tf

    from gan_denoise.data.datasets import Material
    from gan_denoise.data.validation_clips import ValidationClips
    from gan_denoise.dsp.mel import Mel
    from gan_denoise.training.trainer import Trainer

    config = load_config(name)
    if config.discriminator.kind == "metric":
        pytest.importorskip("pesq")
    crop = {} if config.generator.frames else {"crop_seconds": 0.5}
    ranges = ((-900.0, 900.0),) * config.mel.n_mfcc  # as gan-denoise features would measure them
    config = config.model_copy(update={
        "training": config.training.model_copy(update={"batch_size": 2, **crop}),
        "mel": config.mel.model_copy(update={"mfcc_range": ranges}),
    })
    source = TinySource(config.crop_samples)
    noisy, clean = source.batch(0, 2)
    if not config.data.has_waveforms:
        mel = Mel(config.audio, config.mel)
        noisy, clean = (tf.constant(mel.mel01(wave)) for wave in (noisy, clean))
    keras.utils.set_random_seed(0)
    trainer = Trainer(config, Material(source, ValidationClips(noisy, clean), "", ""), "finetune")
    before = trainer.generator.get_weights()
    tf.config.run_functions_eagerly(True)  # one step: tracing these networks takes far longer
    try:
        values = trainer.train_step(config.losses.discriminator_warmup, noisy, clean)
    finally:
        tf.config.run_functions_eagerly(False)
    assert values["finite"] == 1
    assert {"loss/mse", "loss/adversarial", "loss/discriminator", "loss/total"} <= set(values)
    assert all(np.isfinite(value) for value in values.values())
    moved = [not np.array_equal(old, new)
             for old, new in zip(before, trainer.generator.get_weights(), strict=True)]
    assert np.mean(moved) > 0.9


# ---- Texts that are made to break readers -------------------------------------------------------
LAUGHS = "a0: &a0 [1, 1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12))


@pytest.mark.parametrize("text", [
    LAUGHS, MERGES, "a: &a [*a]", "a: &a {b: *a}", "a: " + "[" * 50_000, "a: " + "{a: " * 50_000,
    "a: " + "9" * 5000, "a: 2024-99-99", "a: !!int x", "a: !!float x", "a: !!timestamp x",
    "a: !!binary é", "? [a, b]\n: 1", "? {a: b}\n: 1", "1: 2", "a: !!python/name:os.system",
    "a: !!python/object/apply:os.getcwd []", "--- a\n--- b", "a: !!int ''", "extends: [a]",
    "extends: {a: b}", "generator: {4: [8]}", "tune: {space: {generator: [{4: 5}]}}", "extends: 5",
    "training: {crop_seconds: 1e308}", "a: \x00",
    "audio: {sample_rate: " + "1" * 400 + "}", "%YAML 9.9\n--- {}",
])
def test_a_hostile_text_is_one_error_and_soon(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    begun = time.perf_counter()
    with pytest.raises((ConfigError, FileNotFoundError)) as caught:
        load_config(path)
    assert time.perf_counter() - begun < 60  # written out, the aliases would take years
    assert len(str(caught.value)) < 1000


CHAIN = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))


@pytest.mark.parametrize("text", [
    "a: " + "[" * 5000, "a: " + "[" * 5000 + "]" * 5000, "a: " + "{a: " * 5000,
    "\n".join(" " * n + "a:" for n in range(1000)), "- " * 5000, "? " * 5000, CHAIN])
def test_a_deep_text_is_refused_before_python_ends_the_recursion(tmp_path, text):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ConfigError, match="nested too deep") as caught:
        load_config(tmp_path / "a.yaml")
    error = caught.value
    while error is not None:
        assert not isinstance(error, RecursionError)
        error = error.__context__


def test_aliases_are_taken_where_they_stand_for_little(tmp_path):
    (tmp_path / "a.yaml").write_text("training: {steps: &n 7, batch_size: *n}")
    config = load_config(tmp_path / "a.yaml")
    assert (config.training.steps, config.training.batch_size) == (7, 7)


def test_a_settings_file_of_gigabytes_is_refused_unread(tmp_path):
    with open(tmp_path / "a.yaml", "wb") as file:
        file.truncate(3 * 2**30)
    with pytest.raises(ConfigError, match="more than 1048576 bytes"):
        load_config(tmp_path / "a.yaml")


@settings(max_examples=200, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["steps", "name", "kind", "channels", "speech", "space", "tune", "plugins"])
        | st.text(max_size=3), inner, max_size=3), max_leaves=8),
    st.sampled_from([*Config.model_fields, "x"]))
def test_any_values_are_settings_or_one_error(value, section):
    text = yaml.safe_dump({section: value}, allow_unicode=True)
    if section == "plugins":
        return  # a module by any name
    try:
        made = make_config(read_yaml(text))
    except ConfigError as error:
        said = str(error)
    else:
        said = "settings"
        assert make_config(read_yaml(dump_config(made))) == made
    assert said.strip()
