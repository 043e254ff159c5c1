"""Scores of features without a waveform."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import RATE, tiny_config

from gan_denoise.data.feature_folder import FeatureError, FeatureFolder
from gan_denoise.data.feature_writer import write_features
from gan_denoise.evaluation.evaluate_features import (
    Example,
    evaluate_features,
    stored_examples,
    synthetic_examples,
)
from gan_denoise.metrics import snr_mel

CONFIG = tiny_config(
    data={"features": "synthetic"}, training={"select_by": "snr_mel", "crop_seconds": 0.5}
)


class Fake:
    """A model that changes features by a function."""

    def __init__(self, change, config=CONFIG):
        self.change, self.config = change, config

    def estimate(self, noisy01):
        return self.change(noisy01)


def test_synthetic_examples_have_the_snrs_asked_for_in_turn():
    examples = synthetic_examples(CONFIG, 6, (0.0, 10.0))
    assert [example.snr_db for example in examples] == [0, 10, 0, 10, 0, 10]
    assert len({example.name for example in examples}) == 6
    for example in examples:
        assert example.clean.shape == CONFIG.crop_shape
        assert snr_mel(example.clean, example.noisy) == pytest.approx(example.snr_db, abs=0.4)
    again = synthetic_examples(CONFIG, 6, (0.0, 10.0))
    np.testing.assert_array_equal(examples[3].noisy, again[3].noisy)


def test_a_row_a_clip_and_system_with_known_scores():
    examples = [Example("a", np.full((4, 16), 0.6, np.float32), np.full((4, 16), 0.5, np.float32)),
                Example("b", np.full((4, 16), 0.7, np.float32), np.full((4, 16), 0.5, np.float32))]
    seen = []
    result = evaluate_features(examples, {"half": Fake(lambda x: 0.5 + (x - 0.5) / 2)},
                               lambda *count: seen.append(count))
    assert result.systems == ("noisy", "half", "silence", "best gain")
    assert seen == [(1, 2), (2, 2)]
    assert result.mean("noisy", "mse_mel") == pytest.approx((0.01 + 0.04) / 2)
    assert result.mean("half", "mse_mel") == pytest.approx((0.01 + 0.04) / 8)
    assert result.change("half", "snr_mel") == pytest.approx(20 * np.log10(2))
    assert result.margin("half", "snr_mel") == pytest.approx(0, abs=1e-4)
    assert result.mean("silence", "snr_mel") == 0
    assert result.mean("best gain", "mse_mel") == pytest.approx(0, abs=1e-12)


def test_mfcc_take_no_part():
    config = tiny_config(mel={"n_mfcc": 2, "mfcc_range": [[0.0, 1.0]] * 2},
                         generator={"head": "direct"})
    clean = np.full((4, 18), 0.5, np.float32)
    spoilt = lambda x: np.concatenate([x[:, :16], 9 + x[:, 16:]], axis=1)  # noqa: E731
    result = evaluate_features([Example("a", clean, clean)], {"m": Fake(spoilt, config)})
    assert result.rows[1].scores["mse_mel"] == 0


def test_the_best_gain_is_that_of_the_mel():
    config = tiny_config(mel={"n_mfcc": 2, "mfcc_range": [[0.0, 1.0]] * 2},
                         generator={"head": "direct"})
    clean = np.full((4, 18), 0.5, np.float32)
    noisy = np.concatenate([2 * clean[:, :16], clean[:, 16:]], axis=1)
    result = evaluate_features([Example("a", noisy, clean)], {"m": Fake(lambda x: x, config)})
    assert result.mean("best gain", "mse_mel") == pytest.approx(0, abs=1e-12)


def test_models_of_other_transforms_are_not_compared():
    other = tiny_config(mel={"fmin": 50.0}, data={"features": "synthetic"},
                        training={"select_by": "snr_mel"})
    same = lambda x: x  # noqa: E731
    with pytest.raises(FeatureError, match="b: has another transform than a"):
        evaluate_features((), {"a": Fake(same), "b": Fake(same, other)})


@pytest.mark.parametrize("change", [lambda x: x[:-1], lambda x: x * np.nan])
def test_a_model_that_returns_something_else_is_named(change):
    examples = synthetic_examples(CONFIG, 1, (5.0,))
    with pytest.raises(FeatureError, match="00000: odd made"):
        evaluate_features(examples, {"odd": Fake(change)})


def test_a_stored_split_is_scored_by_speaker_and_noise_is_the_same_each_time(folders, tmp_path):
    config = tiny_config(
        data={"clean": str(folders / "clean"), "valid_fraction": 0.25, "snr_std": 0.0},
        training={"crop_seconds": 40 * 64 / RATE, "select_by": "snr_mel"},
    )
    settings = write_features(config, tmp_path / "out")
    folder = FeatureFolder(tmp_path / "out", settings)
    first, again = (stored_examples(folder) for _ in range(2))
    assert len({example.speaker for example in first}) == 1
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.noisy, other.noisy)
        assert one.snr_db == 5.0
    result = evaluate_features(first, {"same": Fake(lambda x: x, settings)})
    assert {row.speaker for row in result.rows} == {first[0].speaker}
    assert result.change("same", "snr_mel") == 0
