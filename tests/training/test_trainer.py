"""Training steps: each moves its own network alone, and nothing where a batch is not finite."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TinySource, shake, tiny_config, tiny_material

from gan_denoise import metrics
from gan_denoise.data import synthetic_audio
from gan_denoise.data.datasets import Material
from gan_denoise.data.validation_clips import ValidationClips
from gan_denoise.models.generators import build_generator
from gan_denoise.training.adversarial import Mels, Part
from gan_denoise.training.trainer import Trainer

TOTAL = 70  # steps of the game
BATCH = TinySource().batch(5, 2)
GENERATOR = {"generator", "ema", "g_optimizer"}
DISCRIMINATOR = {"discriminator", "d_optimizer"}


def state(trainer):
    """Return copies of everything that a checkpoint holds, by name."""
    return {name: np.asarray(variable).copy() for name, variable in trainer.variables().items()}


def restore(trainer, values):
    for name, variable in trainer.variables().items():
        variable.assign(values[name])


def changed(before, after):
    """Return the names of the variables that are not bit-equal."""
    assert before.keys() == after.keys()
    return {name for name in before if before[name].tobytes() != after[name].tobytes()}


def owners(names):
    return {name.split(".")[0] for name in names}


def trainable(trainer, values, owner="generator"):
    """Return the values of an owner's trainable variables, by name."""
    ours = {id(variable) for variable in getattr(trainer, owner).trainable_variables}
    return {name: values[name] for name, variable in trainer.variables().items()
            if id(variable) in ours}


def tensors(schedule):
    return {name: tf.constant(value, tf.float32) for name, value in schedule.items()}


@pytest.fixture(scope="module")
def trained_game():
    """A U-Net with batch norm and dropout against a discriminator with spectral norm."""
    keras.utils.set_random_seed(1)
    config = tiny_config(
        generator={"dropout": 0.2},
        losses={"adversarial_weight": 0.02, "feature_weight": 0.02},
        training={"learning_rate": 5e-3, "ema_decay": 0.9},
    )
    trainer = Trainer(config, tiny_material(), "finetune")
    trainer.progress.total_steps = TOTAL
    return trainer, state(trainer)


@pytest.fixture
def game(trained_game):
    """The same trainer in its first state."""
    trainer, start = trained_game
    restore(trainer, start)
    return trainer


@pytest.fixture
def eagerly():
    """Run steps operation by operation: the same arithmetic, whatever else the step holds."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


# ---- Each sub-step moves its own network alone -------------------------------------------------
def test_the_game_holds_all_that_moves_in_a_call(game):
    names = set(state(game))
    generator = [variable.name for variable in game.generator.variables]
    assert sum("moving" in name for name in generator) > 4  # batch norm
    assert any("seed" in name for name in generator)  # dropout
    discriminator = [v.name for v in game.discriminator.non_trainable_variables]
    assert len(discriminator) == 4  # a vector of spectral norm a convolution
    assert owners(names) == GENERATOR | DISCRIMINATOR


def test_the_discriminators_step_moves_no_variable_of_the_generator(game):
    mels = [game.mel.mel01(part) for part in BATCH]
    estimate = (mels[0] + mels[1]) / 2
    before = state(game)
    mels = Mels(*mels, estimate, estimate)
    values = game.adversary.learn(20, [Part(*BATCH, mels)], tensors(game.schedule(20)))
    assert float(values["finite"]) == 1
    moved = changed(before, state(game))
    assert owners(moved) == DISCRIMINATOR
    assert trainable(game, before, "discriminator").keys() <= moved


def test_the_generators_step_moves_no_variable_of_the_discriminator(game):
    before = state(game)
    game.adversarial_step([BATCH], tensors(game.schedule(20)))
    moved = changed(before, state(game))
    assert owners(moved) == GENERATOR
    assert trainable(game, before).keys() <= moved


def test_the_discriminator_does_not_notice_how_the_generator_is_updated(game):
    start, schedule = state(game), game.schedule(20)
    ends = []
    for weight, rate in ((0.0, 1e-4), (5.0, 1e-2)):
        restore(game, start)
        given = tensors(schedule | {"adversarial_weight": weight, "feature_weight": weight,
                                    "g_rate": rate})
        _, (mels,) = game.adversarial_step([BATCH], given)
        game.adversary.learn(20, [Part(*BATCH, mels)], given)
        ends.append(state(game))
    assert owners(changed(start, ends[0])) == GENERATOR | DISCRIMINATOR
    moved = changed(*ends)
    assert owners(moved) == GENERATOR
    assert trainable(game, start).keys() <= moved


def test_the_warm_up_leaves_the_generator(game):
    before = state(game)
    values = game.train_step(0, *BATCH)
    assert "loss/discriminator" in values
    assert "loss/mse" not in values
    moved = changed(before, state(game))
    assert owners(moved) == DISCRIMINATOR


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_the_adversarial_term_alone_moves_the_generator(eagerly, weight):
    config = tiny_config(losses={"mse_weight": 0.0, "adversarial_weight": weight})
    trainer = Trainer(config, tiny_material(), "finetune")
    trainer.progress.total_steps = TOTAL
    before = state(trainer)
    values = trainer.train_step(10, *BATCH)
    assert values["finite"] == 1
    weights = trainable(trainer, before).keys()
    moved = changed(before, state(trainer)) & weights
    assert moved == (weights if weight else set())
    assert (values["gradient_norm/generator"] > 0) == bool(weight)


# ---- Learning ----------------------------------------------------------------------------------
def test_a_tiny_gans_mse_falls(game):
    noisy, clean = TinySource().batch(10**6, 8)
    mels = [game.mel.mel01(part) for part in (noisy, clean)]

    def error(network):
        return float(np.mean((np.asarray(network(mels[0], training=False)) - mels[1]) ** 2))

    before = error(game.generator)
    seen = [game.train_step(step, *TinySource().batch(step, 2)) for step in range(2, TOTAL)]
    assert all(values["finite"] == 1 for values in seen)
    assert error(game.generator) < 0.5 * before
    assert error(game.ema) < 0.5 * before
    losses = [values["loss/mse"] for values in seen]
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:5])


def test_pretraining_moves_generator_and_average_without_an_adversary(eagerly):
    config = tiny_config(losses={"mel_weight": 0.5, "magnitude_weight": 0.6,
                                 "complex_weight": 0.3})
    trainer = Trainer(config, tiny_material())
    assert trainer.discriminator is None
    before = state(trainer)
    assert owners(before) == GENERATOR
    values = trainer.train_step(0, *BATCH)
    assert values["finite"] == 1
    assert trainable(trainer, before).keys() <= changed(before, state(trainer))
    total = (values["loss/mse"] + 0.5 * values["loss/mel"] + 0.6 * values["loss/magnitude"]
             + 0.3 * values["loss/complex"])
    assert values["loss/total"] == pytest.approx(total, rel=1e-4)


def test_an_identity_estimate_of_clean_speech_costs_nothing(eagerly):
    config = tiny_config(losses={"mel_weight": 1.0, "magnitude_weight": 1.0,
                                 "complex_weight": 1.0, "estoi_weight": 1.0})
    trainer = Trainer(config, tiny_material())
    spectra = trainer.objective.spectra(BATCH[1], BATCH[1])
    terms, total = trainer.objective.reconstruction(spectra, spectra["clean01"])
    assert set(terms) == {"loss/mse", "loss/mel", "loss/magnitude", "loss/complex", "loss/estoi"}
    assert float(total) == pytest.approx(0, abs=1e-6)


# ---- What is not finite ------------------------------------------------------------------------
@pytest.mark.parametrize(("side", "value"), [("noisy", np.nan), ("clean", np.inf)])
@pytest.mark.parametrize("step", [0, 10], ids=["warm-up", "adversarial"])
def test_a_batch_that_is_not_finite_changes_nothing(game, side, value, step):
    game.train_step(9, *BATCH)  # so that both optimizers hold something
    parts = {"noisy": BATCH[0].copy(), "clean": BATCH[1].copy()}
    parts[side][0, 5] = value
    before = state(game)
    values = game.train_step(step, parts["noisy"], parts["clean"])
    assert values["finite"] == 0
    assert not changed(before, state(game))
    assert game.train_step(step, *BATCH)["finite"] == 1


def test_a_batch_that_is_not_finite_changes_nothing_in_pretraining(eagerly):
    trainer = Trainer(tiny_config(generator={"dropout": 0.2}), tiny_material())
    trainer.train_step(0, *BATCH)
    noisy = BATCH[0].copy()
    noisy[1, 100] = np.nan
    before = state(trainer)
    assert trainer.train_step(1, noisy, BATCH[1])["finite"] == 0
    assert not changed(before, state(trainer))


# ---- Schedules ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def scheduled():
    config = tiny_config(
        losses={"discriminator_warmup": 10, "adversarial_ramp": 20, "adversarial_weight": 0.5,
                "feature_weight": 2.0},
        training={"warmup_steps": 5, "learning_rate": 1e-2, "final_rate": 0.1, "ema_decay": 0.95},
        discriminator={"learning_rate": 1e-3},
    )
    trainer = Trainer(config, tiny_material(), "finetune")
    trainer.progress.total_steps = 100
    return trainer


def column(trainer, name, steps):
    return [trainer.schedule(step)[name] for step in steps]


def test_schedules_are_functions_of_the_step(scheduled):
    forwards = [scheduled.schedule(step) for step in range(110)]
    assert [scheduled.schedule(step) for step in reversed(range(110))] == forwards[::-1]


def test_the_discriminator_learns_alone_at_first(scheduled):
    for step in range(10):
        values = scheduled.schedule(step)
        assert values["g_rate"] == values["adversarial_weight"] == values["feature_weight"] == 0
        assert values["d_rate"] > 0.9e-3
    assert scheduled.schedule(10)["g_rate"] > 0


def test_rates_warm_up_and_end_at_the_final_rate(scheduled):
    rates = np.array(column(scheduled, "g_rate", range(101)))
    # The cosine from 1e-2 to a tenth of it over 100 steps, under five steps of warm-up.
    cosine = 1e-2 * (0.1 + 0.9 * (1 + np.cos(np.pi * np.arange(101) / 100)) / 2)
    np.testing.assert_allclose(rates[10:15], cosine[10:15] * [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(rates[15:], cosine[15:])
    assert rates[100] == pytest.approx(0.1 * 1e-2)
    assert column(scheduled, "d_rate", [0, 100, 200]) == pytest.approx([1e-3, 1e-4, 1e-4])


def test_the_adversary_ramps_up(scheduled):
    weights = column(scheduled, "adversarial_weight", range(40))
    assert weights[10] == pytest.approx(0.5 / 20)
    assert np.diff(weights[10:30]) == pytest.approx(0.5 / 20)
    assert weights[29:] == [0.5] * 11
    assert scheduled.schedule(19)["feature_weight"] == pytest.approx(1.0)


def test_before_the_total_is_known_rates_stay_at_their_start(scheduled, monkeypatch):
    monkeypatch.setattr(scheduled.progress, "total_steps", None)
    assert column(scheduled, "g_rate", [30, 3000]) == pytest.approx([1e-2, 1e-2])


def test_the_average_follows_faster_at_first(scheduled):
    decays = column(scheduled, "ema_decay", range(10, 400))
    assert decays == sorted(decays)
    assert decays[0] == pytest.approx(0.1)
    assert decays[-1] == 0.95


# ---- Muon --------------------------------------------------------------------------------------
def muon_trainer():
    keras.utils.set_random_seed(2)
    config = tiny_config(generator={"name": "tcn_autoencoder"},
                         training={"optimizer": "muon", "learning_rate": 1e-3, "warmup_steps": 0})
    return Trainer(config, tiny_material())


def test_muon_steps_equally_far_in_every_direction_of_a_matrix(eagerly):
    trainer = muon_trainer()
    matrices = [v for v in trainer.generator.trainable_variables if len(v.shape) == 2]
    assert len(matrices) == 4  # into the bottleneck, one a block, out of it
    before = [np.asarray(matrix).copy() for matrix in matrices]
    assert trainer.train_step(0, *BATCH)["finite"] == 1
    for old, matrix in zip(before, matrices, strict=True):
        taken = np.linalg.svd(np.asarray(matrix) - old, compute_uv=False)
        step = 1e-3 * 0.2 * np.sqrt(max(old.shape))  # Liu et al. 2025: as large as Adam's
        assert 0.5 * step < np.median(taken) <= taken.max() < 1.3 * step


def test_a_state_with_muon_goes_on_as_if_it_had_never_been_stored(eagerly):
    one, other = muon_trainer(), muon_trainer()
    for step in range(2):
        one.train_step(step, *TinySource().batch(step, 2))
    restore(other, state(one))
    for step in range(2, 4):
        for trainer in (one, other):
            trainer.train_step(step, *TinySource().batch(step, 2))
    assert not changed(state(one), state(other))


# ---- The average -------------------------------------------------------------------------------
def test_the_average_moves_by_its_decay_and_takes_statistics_as_they_are(game):
    shake(game.ema)
    before = [np.asarray(variable).copy() for variable in game.ema.trainable_variables]
    schedule = game.schedule(20) | {"ema_decay": 0.75}
    game.adversarial_step([BATCH], tensors(schedule))
    for old, new, variable in zip(before, game.ema.trainable_variables,
                                  game.generator.trainable_variables, strict=True):
        expected = 0.75 * old + 0.25 * np.asarray(variable)
        np.testing.assert_allclose(np.asarray(new), expected, atol=1e-6)
    for new, variable in zip(game.ema.non_trainable_variables,
                             game.generator.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(np.asarray(new), np.asarray(variable))


def test_a_new_average_equals_the_generator():
    trainer = Trainer(tiny_config(), tiny_material())
    for average, variable in zip(trainer.ema.get_weights(), trainer.generator.get_weights(),
                                 strict=True):
        np.testing.assert_array_equal(average, variable)


# ---- The adversary's share ---------------------------------------------------------------------
def test_the_adversarys_share_of_the_gradient(game, eagerly):
    before = state(game)
    assert game.adversarial_share(0, *BATCH) == 0  # its weight is 0 there
    ramped, full = (game.adversarial_share(step, *BATCH) for step in (2, 30))
    assert 0 < ramped < full < 1
    assert not changed(before, state(game))


# ---- Validation --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def judged():
    """A trainer whose average returns the noisy mel, on two voices in noise at 5 dB."""
    clean = np.stack([synthetic_audio.voice(speaker, 1.0, seed=speaker) for speaker in (0, 1)])
    noise = np.stack([synthetic_audio.noise("fan", 1.0, seed=seed) for seed in (0, 1)])
    ratio = np.sum(clean**2, axis=1) / np.sum(noise**2, axis=1) / 10**0.5
    noisy = clean + noise * np.sqrt(ratio)[:, None].astype(np.float32)
    trainer = Trainer(tiny_config(), Material(TinySource(), ValidationClips(noisy, clean), "", ""))
    kernel, bias = trainer.ema.trainable_variables[-2:]
    kernel.assign(np.zeros(kernel.shape, np.float32))
    bias.assign(np.full(bias.shape, 100, np.float32))  # the gain head's gain is 1
    return trainer


def test_an_average_that_does_nothing_scores_as_the_noisy_input(judged):
    noisy, clean = judged.material.valid.noisy, judged.material.valid.clean
    before = state(judged)
    values, shown = judged.validate()
    assert not changed(before, state(judged))
    mels = [judged.mel.mel01(part) for part in (noisy, clean)]
    assert values["mse_mel"] == pytest.approx(np.mean((mels[0] - mels[1]) ** 2), rel=1e-5)
    assert values["psnr_mel"] == pytest.approx(
        np.mean([metrics.psnr_mel(c, n) for n, c in zip(*mels, strict=True)]), rel=1e-5)
    assert values["si_sdr_noisy"] == pytest.approx(
        np.mean([metrics.si_sdr(c, n) for c, n in zip(clean, noisy, strict=True)]), rel=1e-6)
    assert 4 < values["si_sdr_noisy"] < 6
    assert values["si_sdr"] == pytest.approx(values["si_sdr_noisy"], abs=1e-3)
    if metrics.available()["pesq"]:
        assert 1 < values["pesq_wb_noisy"] < 4
        assert values["pesq_wb"] == pytest.approx(values["pesq_wb_noisy"], abs=0.01)
    np.testing.assert_allclose(shown["audio"]["estimate"], noisy, atol=1e-4)
    for name, part in (("noisy", noisy), ("clean", clean)):
        np.testing.assert_array_equal(shown["audio"][name], part)
        assert shown["mels"][name].shape == mels[0].shape


def test_an_average_that_knows_the_clean_mel_scores_highest(judged, monkeypatch):
    clean01 = judged.mel.mel01(judged.material.valid.clean)
    monkeypatch.setattr(judged, "_estimate", lambda noisy01: tf.constant(clean01))
    values, shown = judged.validate()
    assert values["mse_mel"] == 0
    assert values["psnr_mel"] == np.inf
    assert values["si_sdr"] > values["si_sdr_noisy"] + 2
    np.testing.assert_array_equal(shown["mels"]["estimate"], clean01)


# ---- Names -------------------------------------------------------------------------------------
def test_names_of_variables_do_not_depend_on_what_was_built_before():
    config = tiny_config(generator={"dropout": 0.2})
    first = Trainer(config, tiny_material(), "finetune")
    build_generator(tiny_config(generator={"name": "tcn_autoencoder"}))
    second = Trainer(config, tiny_material(), "finetune")
    assert list(first.variables()) == list(second.variables())
    held = [len(owner.variables) for owner in (
        first.generator, first.ema, first.g_optimizer, *first.adversary.holders().values())]
    assert len(first.variables()) == sum(held)  # no name stands for two
    restore(second, state(first))
    assert not changed(state(first), state(second))
