"""Several batches make the update of the whole; half precision trains as float32 does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import TinySource, tiny_config, tiny_material

from gan_denoise.data.datasets import batches
from gan_denoise.training import precision as precisions
from gan_denoise.training.checkpoints import load_state, save_state
from gan_denoise.training.precision import LossScale
from gan_denoise.training.trainer import Trainer

LOSSES = {"mel_weight": 0.5, "magnitude_weight": 0.6, "discriminator_warmup": 1,
          "adversarial_ramp": 1, "adversarial_weight": 0.5}


class Loudness:
    """Scores without PESQ."""

    def scores(self, clean, estimate):
        return np.float32([np.abs(wave).mean() for wave in estimate])

    def close(self):
        pass


def trainer_of(kind, discriminator=None, generator="tcn_autoencoder", **training):
    few = {"channels": [4]} if generator == "cnn" else {}
    config = tiny_config(generator=few | {"name": generator}, losses=LOSSES,
                         discriminator=discriminator or few, training=training)
    keras.utils.set_random_seed(1)
    trainer = Trainer(config, tiny_material(), kind, Loudness())
    trainer.progress.total_steps = 9
    return trainer


def state(trainer):
    return {name: np.array(variable) for name, variable in trainer.variables().items()}


# ---- Several batches, one update ---------------------------------------------------------------
@pytest.mark.system
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("kind", "discriminator"), [
    ("pretrain", {}), ("finetune", {}), ("finetune", {"kind": "metric", "scored_clips": 3})],
    ids=["pretrain", "patch", "metric"])
def test_accumulated_batches_make_the_update_of_the_whole(kind, discriminator):
    whole = trainer_of(kind, discriminator, batch_size=4)
    parted = trainer_of(kind, discriminator, batch_size=2, accumulate=2)
    for step in range(2):
        batch = TinySource().batch(step, 4)
        expected, found = whole.train_step(step, *batch), parted.train_step(step, *batch)
        assert found.keys() == expected.keys()
        variation = expected.pop("output/variation_db", 0), found.pop("output/variation_db", 0)
        assert variation[1] == pytest.approx(variation[0], rel=0.2)  # a root of a mean
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    for name, value in state(whole).items():
        np.testing.assert_allclose(state(parted)[name], value, rtol=1e-3, atol=3e-5, err_msg=name)


@pytest.mark.usefixtures("eager")
def test_a_part_that_is_not_finite_undoes_the_whole_step():
    trainer = trainer_of("finetune", generator="unet", batch_size=2, accumulate=2)
    noisy, clean = TinySource().batch(0, 4)
    noisy[3, 7] = np.nan
    before = state(trainer)
    assert trainer.train_step(3, noisy, clean)["finite"] == 0
    for name, value in state(trainer).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_step_draws_as_many_items_as_all_its_batches_hold():
    config = tiny_config(training={"batch_size": 2, "accumulate": 3})
    _, noisy, clean = next(iter(batches(TinySource(), config, start=4)))
    np.testing.assert_array_equal((noisy, clean), TinySource().batch(4, 6))


# ---- Half precision ----------------------------------------------------------------------------
@pytest.mark.system
def test_half_precision_trains_the_gan_as_float32_does():
    ends = {}
    for name in ("float32", "bfloat16", "float16"):
        trainer = trainer_of("finetune", generator="cnn", precision=name)
        values = [trainer.train_step(step, *TinySource().batch(step, 2)) for step in range(30)]
        assert all(value["finite"] == 1 for value in values)
        ends[name] = np.mean([value["loss/total"] for value in values[-15:]])
        kinds = {variable.dtype for variable in trainer.generator.trainable_variables}
        assert kinds == {"float32"}
        assert trainer.ema.compute_dtype == "float32"
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.05)
    assert ends["float16"] == pytest.approx(ends["float32"], rel=0.05)
    assert ends["bfloat16"] != ends["float32"]
    assert keras.config.dtype_policy().name == "float32"  # of what is built next


@pytest.mark.usefixtures("eager")
def test_an_overflow_lowers_the_scale_and_is_no_bad_step():
    trainer = trainer_of("finetune", precision="float16")
    trainer.g_scale.scale.assign(2.0**60)
    before = state(trainer)
    values = trainer.train_step(3, *TinySource().batch(3, 2))
    assert values["finite"] == 1
    assert not np.isfinite(values["gradient_norm/generator"])
    after = state(trainer)
    moved = {name for name in after if not np.array_equal(after[name], before[name])}
    assert {name for name in moved if not name.startswith(("discriminator.", "d_"))} == {
        "g_scale.0.scale"}
    assert float(trainer.g_scale.scale) == 2.0**59
    noisy, clean = TinySource().batch(3, 2)
    noisy[0, 0] = np.nan  # no fault of the scale
    assert trainer.train_step(3, noisy, clean)["finite"] == 0
    assert float(trainer.g_scale.scale) == 2.0**59


def test_the_scale_doubles_after_many_steps_and_ends_at_its_least(monkeypatch):
    monkeypatch.setattr(precisions, "GROWTH_STEPS", 3)
    scale = LossScale()
    excused = [bool(scale.adapt(tf.constant(finite))) for finite in (True,) * 3 + (False,) * 2]
    assert float(scale.scale) == precisions.FIRST_SCALE / 2
    assert excused == [False] * 3 + [True] * 2
    scale.scale.assign(1.0)
    assert not scale.adapt(tf.constant(False))
    assert float(scale.scale) == 1.0


def test_the_scales_are_part_of_a_checkpoint(tmp_path):
    one = trainer_of("finetune", precision="float16")
    one.g_scale.scale.assign(8.0)
    one.adversary.scale.steps.assign(5)
    save_state(tmp_path / "state.npz", one.variables(), one.progress)
    other = trainer_of("finetune", precision="float16")
    load_state(tmp_path / "state.npz", other.variables())
    assert (float(other.g_scale.scale), int(other.adversary.scale.steps)) == (8.0, 5)


# ---- Nothing stays of a process that is killed --------------------------------------------------
def test_a_graph_and_its_batches_write_no_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    trainer = trainer_of("pretrain", batch_size=2)
    _, noisy, clean = next(iter(batches(TinySource(), trainer.config, 0)))
    trainer.train_step(0, noisy, clean)
    trainer.estimate(np.zeros((1, 20, trainer.config.mel.bands), np.float32))
    assert list(tmp_path.iterdir()) == []
