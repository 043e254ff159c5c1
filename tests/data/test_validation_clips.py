"""Validation clips: what is held out, sets that are scored apart, easy clips."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import tiny_config

from gan_denoise import metrics
from gan_denoise.config import ConfigError
from gan_denoise.data.datasets import load_material

RATE, SECONDS = 16000, 0.5


@pytest.fixture
def material(folders):
    def load(**data):
        given = {"speech": [str(folders / "speech")], "noise": [str(folders / "noise")],
                 "valid_clips": 3, "valid_seconds": SECONDS, "resample_noise": 0.0} | data
        return load_material(tiny_config(data=given))

    return load


def named(folders, **sets):
    return {name: {side: [str(folders / folder)] for side, folder in one.items()}
            for name, one in sets.items()}


def test_each_set_is_mixed_from_its_own_folders(material, folders):
    sets = named(folders, first={"speech": "speech", "noise": "noise"},
                 second={"speech": "clean"})
    both = material(valid_sets=sets).valid
    assert both.sets == {"first": slice(0, 3), "second": slice(3, 6)}
    assert both.noisy.shape == both.clean.shape == (6, round(SECONDS * RATE))
    for name, part in both.sets.items():
        alone = material(valid_sets={name: sets[name]}).valid
        assert alone.sets == {}  # nothing to score apart
        np.testing.assert_array_equal(both.noisy[part], alone.noisy)
        np.testing.assert_array_equal(both.clean[part], alone.clean)


def test_a_set_is_what_the_plain_folders_would_be(material, folders):
    plain = material(valid_speech=[str(folders / "clean")], valid_noise=[str(folders / "noise")])
    one = material(valid_sets=named(folders, x={"speech": "clean", "noise": "noise"}))
    np.testing.assert_array_equal(plain.valid.noisy, one.valid.noisy)
    assert plain.digest == one.digest  # the same material


def test_a_set_of_rooms_puts_every_clip_into_one(material, folders):
    dry, wet = (material(equalise=0.0, valid_sets=named(folders, x={"speech": "clean"} | rir),
                         reverberate=0.0).valid for rir in ({}, {"rir": "noise"}))
    for a, b in zip(dry.clean, wet.clean, strict=True):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.9


def test_training_hears_nothing_of_a_set_unless_merged(material, folders):
    sets = named(folders, x={"speech": "clean", "noise": "noisy"})
    bare, with_sets, merged = (material(**given).train for given in (
        {"valid_speech": [str(folders / "clean")], "valid_noise": [str(folders / "noisy")]},
        {"valid_sets": sets}, {"valid_sets": sets, "merge_validation": True}))
    np.testing.assert_array_equal(bare.batch(0, 4)[0], with_sets.batch(0, 4)[0])
    assert not np.array_equal(with_sets.batch(0, 4)[0], merged.batch(0, 4)[0])


def test_easy_clips_are_at_15_db_and_without_noise(material, folders):
    sets = named(folders, first={"speech": "speech"}, second={"speech": "clean"})
    easy = material(valid_sets=sets, easy_clips=5, clipping=1.0, rumble=1.0).valid.easy
    assert len(easy["at_15_db"][0]) == 6  # as many of each set
    # Clipping comes after the noise.
    assert [metrics.snr(c, n) for c, n in zip(*material(valid_sets=sets, easy_clips=5).valid.easy[
        "at_15_db"][::-1], strict=True)] == pytest.approx([15.0] * 6, abs=1e-3)
    np.testing.assert_array_equal(*easy["clean"])
    assert np.abs(easy["clean"][0]).max(axis=1).min() > 0
    assert material(easy_clips=0).valid.easy == {}


@pytest.mark.parametrize(("sets", "reason"), [
    ({"clean": {"speech": "a"}}, "'clean' is no name for a set"),
    ({"Two words": {"speech": "a"}}, "is no name for a set"),
    ({"x": {"noise": "a"}}, "'data.valid_sets.x.speech' field required"),
    ({"x": {"speech": "a", "room": "b"}}, "unknown key 'data.valid_sets.x.room'"),
])
def test_sets_that_mean_nothing_are_refused(sets, reason):
    with pytest.raises(ConfigError, match=reason):
        tiny_config(data={"speech": ["a"], "noise": ["b"], "valid_sets": sets})
    with pytest.raises(ConfigError, match="either valid_sets, or valid_speech"):
        tiny_config(data={"speech": ["a"], "noise": ["b"], "valid_speech": ["c"],
                          "valid_sets": {"x": {"speech": ["a"]}}})
