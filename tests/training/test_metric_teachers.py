"""The metric game: scores from outside, a memory of past estimates, and a discriminator of both."""

from __future__ import annotations

import multiprocessing

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TinySource, tiny_config, tiny_material

from gan_denoise import metrics
from gan_denoise.config import load_config
from gan_denoise.data import synthetic_audio
from gan_denoise.dsp.mel import Mel
from gan_denoise.models.discriminators import build_discriminator
from gan_denoise.models.pesq_layers import Disturbance
from gan_denoise.training import loop, losses
from gan_denoise.training.checkpoints import RunState, load_state, save_state
from gan_denoise.training.pesq_scorer import PesqScorer
from gan_denoise.training.replay_buffer import Replay
from gan_denoise.training.trainer import Trainer

METRIC = {"kind": "metric", "scored_clips": 2, "replay_clips": 3, "replay_size": 5,
          "learning_rate": 3e-2}


class Nearness:
    """A scorer without processes: 1 for the clean clip, less with every dB of error."""

    def __init__(self):
        self.calls = []

    def scores(self, clean, estimate):
        self.calls.append(len(clean))
        error = [np.sum((c - e) ** 2) / np.sum(c**2) for c, e in zip(clean, estimate, strict=True)]
        return np.float32(1 / (1 + np.array(error)))


def metric_trainer(**losses_):
    keras.utils.set_random_seed(3)
    config = tiny_config(discriminator=METRIC, losses={"discriminator_warmup": 2, **losses_})
    trainer = Trainer(config, tiny_material(), "finetune", scorer=Nearness())
    trainer.progress.total_steps = 60
    return trainer


def values_of(network):
    return [np.asarray(variable).copy() for variable in network.trainable_variables]


def moved(before, network):
    return [old.tobytes() != np.asarray(new).tobytes()
            for old, new in zip(before, network.trainable_variables, strict=True)]


# ---- The memory --------------------------------------------------------------------------------
def test_the_oldest_are_replaced_first():
    replay = Replay(4, 3, 2)
    for start in (0, 3, 6):
        score = np.arange(start, start + 3, dtype=np.float32)
        mels = np.ones((3, 3, 2), np.float32) * score[:, None, None] / 16
        replay.add(mels, mels / 2, score)
    assert sorted(replay.score.numpy()) == [5, 6, 7, 8]
    clean, candidate, score = replay.draw(50, np.random.default_rng(0))
    assert set(score.numpy()) == {5, 6, 7, 8}
    np.testing.assert_allclose(clean[:, 0, 0], score / 16)
    np.testing.assert_allclose(candidate, clean / 2)


def test_an_empty_memory_has_no_scores():
    clean, candidate, score = Replay(4, 3, 2).draw(2, np.random.default_rng(0))
    assert clean.shape == candidate.shape == (2, 3, 2)
    assert np.isnan(score).all()


# ---- The scorer ---------------------------------------------------------------------------------
@pytest.mark.skipif(not metrics.available()["pesq"], reason="pesq is not installed")
def test_scores_are_pesq_between_0_and_1():
    clean = synthetic_audio.voice(1, 2.0, seed=1)
    noisy = clean + 0.1 * synthetic_audio.noise("white", 2.0, seed=1)
    scorer = PesqScorer(16000, workers=1)
    try:
        same, worse, silent = scorer.scores([clean, clean, 0 * clean], [clean, noisy, noisy])
    finally:
        scorer.close()
    assert same == pytest.approx(1.0, abs=0.01)
    assert worse == pytest.approx((metrics.pesq_wb(clean, noisy, 16000) - 1) / 3.64, abs=1e-4)
    assert np.isnan(silent)


@pytest.mark.skipif(not metrics.available()["pesq"], reason="pesq is not installed")
def test_a_run_ends_its_judges(tmp_path):
    """Else a process of `multiprocessing` that trains, a trial of a study, would never end."""
    config = tiny_config(
        generator={"name": "tcn_autoencoder", "channels": [4], "blocks": 1, "dilations": [1]},
        discriminator=METRIC | {"pesq_workers": 1}, training={"steps": 3},
    )
    before = set(multiprocessing.active_children())
    seen = []
    loop.train(config, tmp_path, "finetune", material=tiny_material(),
               on_validation=lambda *_: seen.extend(multiprocessing.active_children()))
    assert set(seen) - before  # one was at work
    assert not set(multiprocessing.active_children()) - before


# ---- The discriminator -------------------------------------------------------------------------
def disturbances(clean, candidate):
    """Total symmetric and asymmetric disturbance of each clip."""
    network = build_discriminator(tiny_config(discriminator=METRIC))
    _, *maps = network([clean, candidate], training=False)
    return [np.asarray(part).sum(axis=(1, 2)) for part in maps]


def some_mel(frames=100, seed=0):
    """mel01 of something that comes and goes as words do."""
    rng = np.random.default_rng(seed)
    words = np.sin(np.arange(frames) / 8)[None, :, None]
    return np.float32(0.6 + 0.15 * words + 0.05 * rng.standard_normal((2, frames, 16)))


@pytest.mark.parametrize("frames", [8, 33, 100])
def test_a_score_a_clip(frames):
    network = build_discriminator(tiny_config(discriminator=METRIC))
    mel = np.random.default_rng(0).random((3, frames, 16), np.float32)
    score, *maps = network([mel, mel[::-1]], training=False)
    assert score.shape == (3, 1)
    assert {tuple(part.shape) for part in maps} == {(3, frames, 16)}


def test_the_clean_clip_itself_has_the_best_score():
    network = build_discriminator(tiny_config(discriminator=METRIC))
    mel = some_mel()
    same, other = (np.asarray(network([mel, candidate], training=False)[0])
                   for candidate in (mel, some_mel(seed=1)))
    assert same == pytest.approx(1.0, abs=0.01)
    assert (other < same - 0.1).all()
    assert np.abs(disturbances(mel, mel)).max() == 0


def test_the_level_of_a_clip_is_not_heard():
    mel = some_mel()
    network = build_discriminator(tiny_config(discriminator=METRIC))
    other = some_mel(seed=1)
    loud, quiet = (np.asarray(network([mel, candidate], training=False)[0])
                   for candidate in (other, other - np.float32(20 / 110)))
    np.testing.assert_allclose(loud, quiet, rtol=1e-3)


def test_what_is_added_disturbs_more_than_what_is_missing():
    mel = some_mel()
    more, less = mel.copy(), mel.copy()
    more[:, 40:52, 5] += np.float32(15 / 110)
    less[:, 40:52, 5] -= np.float32(15 / 110)
    (heard, added), (missed, missing) = disturbances(mel, more), disturbances(mel, less)
    assert (heard > 0).all()
    assert (missed > 0).all()
    assert (added > 2 * heard).all()
    assert (missing < missed).all()


def test_what_is_below_the_threshold_of_hearing_is_not_heard():
    mel = some_mel()
    mel[:, :, 7] = 0.0
    faint = mel.copy()
    faint[:, :, 7] = 0.1  # 90 dB below the peaks
    np.testing.assert_allclose(disturbances(mel, faint), 0, atol=1e-3)


def test_twice_as_loud_is_10_decibels_more():
    """Zwicker & Fastl: one sone doubles with 10 dB."""
    tone = Disturbance(np.linspace(100, 4000, 16), 110.0)
    loud, quiet = (np.asarray(tone._loudness(np.full((1, 1, 16), power, np.float32)))[0, 0, 8]
                   for power in (1e8, 1e7))
    assert loud / quiet == pytest.approx(2, rel=0.2)


@pytest.mark.skipif(not metrics.available()["pesq"], reason="pesq is not installed")
@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_is_near_pesq_before_any_training(seed):
    config = load_config("real-16k-metric")
    network, mel = build_discriminator(config), Mel(config.audio, config.mel)
    clean = synthetic_audio.voice(1, 3.0, seed=seed)
    noise = synthetic_audio.noise("pink", 3.0, seed=seed)
    noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2))
    mixtures = [clean + noise * 10 ** (-snr / 20) for snr in (0, 10, 20, 30)]
    expected = [(metrics.pesq_wb(clean, mixture, 16000) - 1) / 3.64 for mixture in mixtures]
    mels = [mel.mel01(part)[None] for part in (clean, *mixtures)]
    found = [float(network([mels[0], part], training=False)[0][0, 0]) for part in mels[1:]]
    assert found == sorted(found)
    np.testing.assert_allclose(found, expected, atol=0.12)


def test_silence_has_finite_slopes():
    network = build_discriminator(tiny_config(discriminator=METRIC))
    silence, mel = tf.zeros((1, 40, 16)), tf.constant(some_mel(40)[:1])
    for clean, candidate in ((silence, mel), (mel, silence), (silence, silence)):
        with tf.GradientTape() as tape:
            tape.watch(candidate)
            score = network([clean, candidate], training=True)[0]
        watched = [candidate, *network.trainable_variables]
        for slope in tape.gradient(score, watched, unconnected_gradients="zero"):
            assert np.isfinite(slope).all()


def test_the_loss_counts_known_scores_alone():
    score = tf.constant([1.0, float("nan"), 0.5])
    predicted = tf.Variable([0.5, 9.0, 0.5])
    with tf.GradientTape() as tape:
        loss = losses.score_loss(score, predicted)
    assert float(loss) == pytest.approx(0.125)
    np.testing.assert_allclose(tape.gradient(loss, predicted), [-0.5, 0, 0])
    assert float(losses.score_loss(tf.fill([2], float("nan")), predicted[:2])) == 0


# ---- The game ----------------------------------------------------------------------------------
def test_the_warm_up_teaches_the_discriminator_alone():
    trainer = metric_trainer()
    generator, discriminator = values_of(trainer.generator), values_of(trainer.discriminator)
    values = trainer.train_step(0, *TinySource().batch(0, 2))
    assert not any(moved(generator, trainer.generator))
    assert all(moved(discriminator, trainer.discriminator))
    assert 0 < values["discriminator/score"] < 1
    assert trainer.adversary.scorer.calls == [2]
    assert int(trainer.adversary.replay.count) == 2


def test_what_is_judged_is_what_is_scored():
    trainer = metric_trainer()
    noisy, clean = TinySource().batch(0, 2)
    waveforms = []
    trainer.adversary.scorer.scores = lambda clean, estimate: (
        waveforms.append(estimate) or np.full(len(clean), 0.5, np.float32))
    trainer.train_step(0, noisy, clean)
    judged = np.asarray(trainer.adversary.replay.candidate[:2], np.float32)
    np.testing.assert_allclose(judged, trainer.mel.mel01(waveforms[0]), atol=2e-3)


def test_the_discriminator_learns_the_scores():
    trainer = metric_trainer(discriminator_warmup=60)
    errors = [trainer.train_step(step, *TinySource().batch(step, 2))["loss/discriminator"]
              for step in range(60)]
    assert np.mean(errors[-10:]) < 0.3 * np.mean(errors[:10])


def test_the_scores_alone_move_the_generator():
    trainer = metric_trainer(mse_weight=0.0, adversarial_weight=1.0, discriminator_warmup=1)
    trainer.train_step(0, *TinySource().batch(0, 2))
    generator, discriminator = values_of(trainer.generator), values_of(trainer.discriminator)
    values = trainer.train_step(1, *TinySource().batch(1, 2))
    assert values["finite"] == 1
    assert -1 < values["loss/adversarial"] < 0
    assert any(moved(generator, trainer.generator))
    assert all(moved(discriminator, trainer.discriminator))
    assert 0 < trainer.adversarial_share(1, *TinySource().batch(1, 2)) <= 1


@pytest.mark.system
def test_a_state_goes_on_as_if_it_had_never_been_stored(tmp_path):
    steps = [TinySource().batch(step, 2) for step in range(6)]
    one = metric_trainer()
    for step in range(3):
        one.train_step(step, *steps[step])
    save_state(tmp_path / "state.npz", one.variables(), RunState("finetune", "tiny", 3, 60))
    other = metric_trainer()
    other.progress = load_state(tmp_path / "state.npz", other.variables())
    for step in range(3, 6):
        expected = one.train_step(step, *steps[step])
        found = other.train_step(step, *steps[step])
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    for name, variable in one.variables().items():
        np.testing.assert_allclose(np.asarray(variable, np.float32),
                                   np.asarray(other.variables()[name], np.float32), atol=1e-3)
