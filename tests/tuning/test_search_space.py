"""The space of a study: what it draws fits the settings, and a mistake in it is told at once."""

from __future__ import annotations

import pytest
from conftest import tiny_config
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.config import ConfigError, config_folder, load_config
from gan_denoise.tuning.search_space import Choices, Interval, Space, SpaceError

MELS = ({"n_fft": 128, "win_length": 128, "hop_length": 32}, {"n_fft": 256, "hop_length": 64})
SPECS = {
    "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "training.batch_size": {"low": 2, "high": 8, "step": 2},
    "losses.mel_weight": {"low": 0, "high": 1.0},
    "generator.channels": [[4], [4, 8]],
    "discriminator.loss": ["lsgan", "hinge"],
    "training.deterministic": [True, False],
    "mel": MELS,
    "game": [{"discriminator.kind": "metric"},
             {"discriminator.kind": "patch", "discriminator.feature_weight": 0.1}],
}


def space_of(**specs):
    """Read specs as they come out of a settings file; `__` stands for the dot of a key."""
    specs = {key.replace("__", "."): spec for key, spec in specs.items()}
    return Space.read(tiny_config(tune={"space": specs}).tune.space)


class Drawn:
    """Draws as an Optuna trial does, from Hypothesis."""

    def __init__(self, data):
        self.draw = data.draw

    def suggest_categorical(self, name, choices):
        return self.draw(st.sampled_from(choices))

    def suggest_int(self, name, low, high, step=1, log=False):
        return self.draw(st.sampled_from(range(low, high + 1, step)))

    def suggest_float(self, name, low, high, step=None, log=False):
        return self.draw(st.floats(low, high))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_is_drawn_is_found_in_the_settings_again(data):
    space, config = space_of(**SPECS), tiny_config()
    drawn = space.draw(Drawn(data))
    changed = space.apply(config, drawn)
    found = space.values_in(changed)
    if drawn["game"].startswith("discriminator.kind=metric"):  # which has no such loss
        found["discriminator.loss"] = drawn["discriminator.loss"]
    assert found == drawn
    assert changed.generator.channels == ((4,) if drawn["generator.channels"] == "[4]" else (4, 8))
    assert changed.training.batch_size in (2, 4, 6, 8)
    assert changed.mel.win_length == changed.mel.n_fft
    # All else is as it was.
    assert space.apply(changed, space.values_in(changed)) == changed
    assert changed.inversion == config.inversion


def test_whole_ends_draw_whole_numbers_and_others_any():
    space = space_of(training__batch_size={"low": 2, "high": 8},
                     training__crop_seconds={"low": 1, "high": 2.0})
    assert [dimension.whole for dimension in space.dimensions] == [True, False]


def test_settings_that_the_space_does_not_reach_are_not_values_of_it():
    config = tiny_config(training={"learning_rate": 0.5, "batch_size": 3},
                         generator={"name": "tcn_autoencoder"})
    for specs in ({"training.learning_rate": SPECS["training.learning_rate"]},
                  {"training.batch_size": SPECS["training.batch_size"]},
                  {"generator.width": [3, 4]}):
        assert space_of(**specs).values_in(config) is None


def test_a_choice_is_named_as_it_is_written():
    space = space_of(**SPECS)
    channels, mel = (next(d for d in space.dimensions if d.key == key)
                     for key in ("generator.channels", "mel"))
    assert list(channels.options) == ["[4]", "[4, 8]"]
    assert list(mel.options)[1] == "n_fft=256, hop_length=64"
    assert mel.keys == {"mel.n_fft", "mel.win_length", "mel.hop_length"}
    assert isinstance(channels, Choices)
    assert isinstance(space.dimensions[0], Interval)


# ---- Mistakes ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("specs", "word"), [
    ({}, "is empty"),
    ({"training.learning_rte": [1e-3]}, "did you mean 'training.learning_rate'"),
    ({"mel": [{"n_ftt": 128}]}, "unknown key 'mel.n_ftt'; did you mean 'mel.n_fft'"),
    ({"game": [{"kind": "metric"}]}, "did you mean 'discriminator.kind'"),
    ({"tune.trials": [1, 2]}, "not for a study to change"),
    ({"mel": MELS, "mel.n_fft": [128]}, "'mel' and 'mel.n_fft' both decide mel.n_fft"),
    ({"training": {"batch_size": [1, 2]}}, "'training' is a section"),
    ({"mel": [1, 2]}, "'mel' is a section"),
    ({"training.batch_size": []}, "has no values"),
    ({"training.batch_size": [2, 4, 2]}, "has 2 twice"),
    ({"training.batch_size": 3}, "needs a list of values, or an interval"),
    ({"training.batch_size": {"low": 3}}, "expected low and high"),
    ({"training.batch_size": {"low": 3, "hihg": 4}}, "expected low and high"),
    ({"training.batch_size": {"low": 3, "high": "many"}}, "are numbers"),
    ({"training.batch_size": {"low": 3, "high": True}}, "are numbers"),
    ({"training.batch_size": {"low": 3, "high": 4, "log": 1}}, "log is true or false"),
    ({"training.batch_size": {"low": 4, "high": 4}}, "low is not below high"),
    ({"training.batch_size": {"low": 0, "high": 4, "log": True}}, "low is above 0"),
    ({"training.batch_size": {"low": 1, "high": 4, "log": True, "step": 1}}, "there is no step"),
    ({"training.batch_size": {"low": 1, "high": 4, "step": 0}}, "step is above 0"),
    ({"training.batch_size": {"low": 1, "high": 4, "step": 0.5}}, "whole where"),
])
def test_a_space_that_says_nothing_names_the_key(specs, word):
    with pytest.raises(SpaceError, match=word) as refused:
        space_of(**specs)
    assert str(refused.value).startswith("tune.space")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("specs", "word"), [
    ({"training.batch_size": ["many", 0]}, "should be a valid integer"),
    ({"training.batch_size": {"low": 1.0, "high": 8.0}}, "should be a valid integer"),
    ({"mel.hop_length": [200, 300]}, "hop_length 200 is over half of win_length"),
    ({"generator.head": ["gian"]}, "'gain' or 'direct'"),
])
def test_a_key_of_which_every_value_is_refused_is_an_error(specs, word):
    with pytest.raises(SpaceError, match=f"no value of '{next(iter(specs))}'.*{word}"):
        space_of(**specs).check(tiny_config())


def test_a_value_that_fits_none_of_the_others_is_told_and_one_that_fits_some_is_not():
    space = space_of(**{"mel.hop_length": [64, 200, 512], "window": [
        {"mel.n_fft": 256, "mel.win_length": 256}, {"mel.n_fft": 512, "mel.win_length": 512}]})
    (line,) = space.check(tiny_config())
    assert "mel.hop_length=512" in line
    assert "over half of win_length" in line
    with pytest.raises(ConfigError, match="over half"):
        space.apply(tiny_config(), {"mel.hop_length": "200", "window":
                                    "mel.n_fft=256, mel.win_length=256"})


@pytest.mark.parametrize("name", sorted(
    path.stem for path in config_folder().glob("*.yaml") if "space:\n" in path.read_text()))
def test_a_shipped_space_can_be_searched(name):
    config = load_config(name)
    space = Space.read(config.tune.space)
    assert space.check(config) == []
    assert space.values_in(config) is not None  # the settings as they are are among those tried


def test_a_setting_that_the_drawn_kind_does_not_have_is_left_out():
    space, config = space_of(generator__name=["cnn", "tcn_autoencoder"],
                             generator__width=[4, 6]), tiny_config()
    assert space.check(config) == []
    wide = space.apply(config, {"generator.name": "tcn_autoencoder", "generator.width": "6"})
    assert (wide.generator.name, wide.generator.width) == ("tcn_autoencoder", 6)
    flat = [space.apply(config, {"generator.name": "cnn", "generator.width": width})
            for width in ("4", "6")]
    assert flat[0] == flat[1]
    assert flat[0].generator.name == "cnn"
    with pytest.raises(SpaceError, match=r"generator\.width"):  # no kind that is searched has it
        space_of(generator__name=["cnn", "unet"], generator__width=[4, 6]).check(config)
