"""Settings: strict, frozen, read from YAML, and every shipped file of them trains."""

from __future__ import annotations

import datetime
import pickle

import numpy as np
import pytest
import yaml
from conftest import TinySource, tiny_config
from pydantic import ValidationError

from gan_denoise.config import (
    ConfigError,
    check_resume,
    config_folder,
    dump_config,
    flatten,
    load_config,
    make_config,
    with_settings,
)
from gan_denoise.config.schema import FREE_ON_RESUME, PATH_SETTINGS, PATHS, Config

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
    ("losses", "adversarial", "wgan", "'lsgan', 'hinge' or 'bce'"),
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
    ({"data": {"noisy": "a", "clean": "b", "valid_speech": "c"}}, "valid_noisy"),
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
        make_config({"format_version": 2})
    assert make_config({"format_version": 1}) == Config()


# ---- Files and overrides -----------------------------------------------------------------------
def test_base_holds_every_key_with_its_default():
    values = yaml.safe_load((config_folder() / "base.yaml").read_text(encoding="utf-8"))
    keys = {f"{section}.{key}" for section, keys in values.items() for key in keys}
    assert keys == set(flatten(Config())) - {"format_version"}
    assert load_config("base") == Config()


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
    for key in sorted(PATH_SETTINGS - {"data.noise", "data.features", "data.valid_noise"}):
        config = load_config("base", [f"{key}={name}"])
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
    assert {"data.speech", "data.clean", "data.cache"} <= PATH_SETTINGS == PATHS | {"data.cache"}


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
    keys = set(flatten(Config()))
    assert keys >= FREE_ON_RESUME | PATHS
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
@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_config_builds_and_takes_an_adversarial_step(name):
    import keras
    import tensorflow as tf

    from gan_denoise.data.datasets import Material
    from gan_denoise.dsp.mel import Mel
    from gan_denoise.training.trainer import Trainer

    config = load_config(name)
    crop = {} if config.generator.frames else {"crop_seconds": 0.5}
    ranges = ((-900.0, 900.0),) * config.mel.n_mfcc  # as gan-denoise features would measure them
    config = config.model_copy(update={
        "training": config.training.model_copy(update={"batch_size": 2, **crop}),
        "mel": config.mel.model_copy(update={"mfcc_range": ranges}),
    })
    source = TinySource(config.crop_samples)
    noisy, clean = source.batch(0, 2)
    if config.data.features is not None:
        mel = Mel(config.audio, config.mel)
        noisy, clean = (tf.constant(mel.mel01(wave)) for wave in (noisy, clean))
    keras.utils.set_random_seed(0)
    trainer = Trainer(config, Material(source, noisy, clean, "", ""), "finetune")
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
