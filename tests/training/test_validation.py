"""Validation: the mean over sets, easy clips, and the line that says it."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import RATE, tiny_config

from gan_denoise import metrics
from gan_denoise.data.validation_clips import ValidationClips
from gan_denoise.dsp.mel import Mel
from gan_denoise.training.monitor import summary
from gan_denoise.training.validation import Validation


def mixture(clips, snr, seed=0, seconds=1.0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    clean = np.stack([np.sin(2 * np.pi * (200 + 50 * clip) * time) * (time % 0.3 < 0.2)
                      for clip in range(clips)]).astype(np.float32)
    noise = rng.normal(size=clean.shape).astype(np.float32)
    gain = np.sqrt((clean**2).sum(1) / (noise**2).sum(1) / 10 ** (snr / 10))
    return clean + noise * gain[:, None].astype(np.float32), clean


def validation(**sets):
    noisy, clean = (np.concatenate(side) for side in zip(*sets.values(), strict=True))
    size = len(noisy) // len(sets)
    parts = {name: slice(at * size, (at + 1) * size) for at, name in enumerate(sets)}
    config = tiny_config(data={"speech": ["a"], "noise": ["b"]})
    easy = {"clean": (clean[:2], clean[:2])}
    return Validation(config, ValidationClips(noisy, clean, parts, easy),
                      Mel(config.audio, config.mel), lambda mel01: mel01)


def test_a_score_is_the_mean_over_the_sets():
    hard, easy = mixture(3, -3.0), mixture(3, 9.0)
    values, _ = validation(hard=hard, easy=easy).scores()
    for name, (noisy, clean) in (("hard", hard), ("easy", easy)):
        expected = np.mean([metrics.si_sdr(c, n) for c, n in zip(clean, noisy, strict=True)])
        assert values[f"{name}/si_sdr_noisy"] == pytest.approx(expected, rel=1e-5)
    for metric in ("si_sdr", "snr", "mse_mel", "psnr_mel", "si_sdr_noisy"):
        parts = [values[f"{name}/{metric}"] for name in ("hard", "easy")]
        assert values[metric] == pytest.approx(np.mean(parts)), metric
    assert values["hard/si_sdr"] + 10 < values["easy/si_sdr"]


def test_a_set_whose_clips_a_metric_refuses_does_not_count():
    silent, clean = mixture(3, 0.0)[0], np.zeros((3, RATE), np.float32)
    heard = mixture(3, 5.0)
    values, _ = validation(silent=(silent, clean), heard=heard).scores()
    assert np.isnan(values["silent/si_sdr"])
    assert values["si_sdr"] == values["heard/si_sdr"]


def test_a_model_that_does_nothing_does_no_harm():
    values, _ = validation(hard=mixture(2, 0.0), easy=mixture(2, 5.0)).scores()
    assert values["clean/si_sdr"] > 60
    if metrics.available()["pystoi"]:
        assert values["clean/estoi"] == pytest.approx(1.0, abs=1e-3)
    assert not [name for name in values if name.startswith("clean/") and name.endswith("_gain")]


def test_intelligibility_falls_with_noise():
    if not metrics.available()["pystoi"]:
        pytest.skip("pystoi is not installed")
    values, _ = validation(hard=mixture(2, -6.0), easy=mixture(2, 12.0)).scores()
    for metric in ("stoi", "estoi"):
        assert values[f"hard/{metric}"] < values[f"easy/{metric}"] < values[f"clean/{metric}"]


def test_the_line_says_each_set_beside_noisy():
    line = summary({"si_sdr": 9.0, "strangers/si_sdr": 8.0, "strangers/snr": 7.0,
                    "clean/pesq_wb": 4.4, "discriminator/real": 0.5, "si_sdr_noisy": 5.0,
                    "si_sdr_best_gain": 5.5, "strangers/si_sdr_noisy": 3.0})
    assert line == ("si_sdr 9 (noisy 5, best gain 5.5) · discriminator/real 0.5 · "
                    "strangers: si_sdr 8 (3) · clean: pesq_wb 4.4")
