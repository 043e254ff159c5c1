"""Runs: start, stop at any moment, resume exactly, survive what is not finite, say why not."""

from __future__ import annotations

import dataclasses
import functools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import RATE, kill, logged, shake, stillborn, tiny_config, tiny_material, tiny_run

from gan_denoise import metrics
from gan_denoise.config import ConfigError, dump_config
from gan_denoise.config.artifacts import BEST, LATEST, SETTINGS
from gan_denoise.config.saved import CONVERTIBLE, finetune_config, settings_of
from gan_denoise.config.schema import Config, DataConfig
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.file_locks import LOCK
from gan_denoise.core.termination import Terminated
from gan_denoise.exporting.exporter import export
from gan_denoise.models.generators import build_generator
from gan_denoise.training import loop, monitor, restarts, start
from gan_denoise.training.checkpoints import CheckpointError, read_progress, read_variables
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.initialization import load_generator, load_weights
from gan_denoise.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("eager")
FEW = {"channels": [4]}  # and thus few variables: the optimizer's part of a graph is of each


def light(**training):
    """Settings of networks that are traced quickly."""
    return tiny_config(generator=FEW | {"name": "cnn"}, discriminator=FEW, training=training)


def train(config, run_dir, kind="pretrain", material=None, init=None):
    """Train on tiny material; return the result and what was logged."""
    with logged() as lines:
        result = loop.train(config, run_dir, kind, init, material=material or tiny_material())
    return result, "\n".join(lines)


def progress_of(run_dir, name=LATEST):
    return read_progress(run_dir / name)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A finished run of the autoencoder."""
    run_dir = tmp_path_factory.mktemp("pretrained") / "run"
    result, said = train(light(steps=6), run_dir)
    return run_dir, result, said


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory, pretrained):
    """A finished run against the discriminator, from the pretrained one."""
    run_dir = tmp_path_factory.mktemp("finetuned") / "run"
    result, said = train(light(steps=6), run_dir, "finetune", init=pretrained[0])
    return run_dir, result, said


# ---- A whole run -------------------------------------------------------------------------------
def test_a_run_leaves_its_settings_its_states_and_its_history(pretrained):
    run_dir, result, _ = pretrained
    assert settings_of(run_dir) == light(steps=6)
    assert result.step == 6
    assert result.run_dir == run_dir
    progress = progress_of(run_dir)
    assert (progress.kind, progress.step, progress.total_steps) == ("pretrain", 6, 6)
    assert [row["step"] for row in progress.history] == [5, 6]  # every 5, and the last
    assert {"si_sdr", "si_sdr_noisy", "mse_mel", "psnr_mel"} <= set(progress.history[0])
    assert progress.seconds > 0
    assert result.best == max(progress.history, key=lambda row: row["si_sdr"])
    assert result.last["loss/mse"] > 0
    assert sorted(path.name for path in run_dir.iterdir()) == [
        LOCK, BEST, SETTINGS, LATEST, "tensorboard"]


def test_fine_tuning_says_how_the_game_stands(finetuned, pretrained):
    run_dir, result, said = finetuned
    assert progress_of(run_dir).kind == "finetune"
    assert 0 < result.best["adversarial_share"] < 1
    assert {"discriminator/real", "discriminator/fake"} <= set(result.best)
    assert f"weights from {pretrained[0]}" in said
    assert {name.split(".")[0] for name in read_variables(run_dir / LATEST)} == {
        "generator", "ema", "g_optimizer", "discriminator", "d_optimizer"}


def test_tensorboard_shows_losses_rates_gradients_scores_pictures_and_sound(finetuned):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finetuned[0] / "tensorboard"), size_guidance={"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert tags >= {
        "loss/mse", "loss/adversarial", "loss/discriminator", "loss/total", "rate/generator",
        "rate/discriminator", "discriminator/real", "discriminator/fake",
        "gradient_norm/generator", "gradient_norm/discriminator", "valid/si_sdr",
        "valid/mse_mel", "speed/audio_seconds_per_second", "speed/waiting_for_data",
        "mel: noisy, estimate, clean from the top", "audio/noisy", "audio/estimate",
        "audio/clean",
    }
    assert [event.step for event in events.Tensors("valid/si_sdr")] == [5, 6]


# ---- Where weights come from -------------------------------------------------------------------
def test_fine_tuning_starts_from_the_best_average_of_another_run(tmp_path):
    config = light(steps=1)
    theirs = tiny_run(tmp_path / "run", config, "pretrain")
    trainer = Trainer(config, tiny_material(), "finetune")
    shake(trainer.discriminator)
    of_discriminator = trainer.discriminator.get_weights()
    load_weights(trainer, tmp_path / "run")
    for network in (trainer.generator, trainer.ema):
        for ours, best in zip(network.get_weights(), theirs.ema.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, best)
    for kept, now in zip(of_discriminator, trainer.discriminator.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, now)


def test_a_fine_tuned_run_brings_its_discriminator(tmp_path):
    config = light(steps=1)
    theirs = tiny_run(tmp_path / "run", config)
    trainer = Trainer(config, tiny_material(), "finetune")
    load_weights(trainer, tmp_path / "run")
    for ours, best in zip(trainer.discriminator.get_weights(),
                          theirs.discriminator.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, best)


TCN = {"name": "tcn_autoencoder", "channels": [4, 6], "blocks": 2, "batch_norm": True}
NOISY = np.random.default_rng(0).random((2, 21, 80), np.float32)


def test_more_blocks_start_as_identities_that_learn(tmp_path):
    theirs = tiny_run(tmp_path / "run", tiny_config(generator=TCN), "pretrain")
    config = finetune_config("debug", ["generator.blocks=7"], tmp_path / "run")
    deep = build_generator(config)
    load_generator(deep, config, tmp_path / "run")
    noisy = NOISY[..., :config.mel.bands]
    np.testing.assert_array_equal(deep(noisy, training=False), theirs.ema(noisy, training=False))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(deep(noisy, training=True)))
    gradients = tape.gradient(loss, deep.trainable_variables)
    learning = [np.any(gradient) for gradient, variable in
                zip(gradients, deep.trainable_variables, strict=True)
                if variable.ndim == 2 and not np.any(variable)]
    assert learning == [True] * 5  # the dense layer of each block that was added


@pytest.mark.parametrize("other", [{"skips": "concatenate"}, {"blocks": 1}])
def test_a_network_starts_from_another_where_both_can_do_the_same(tmp_path, other):
    """Added skips as concatenated ones and back; fewer blocks where the last one does nothing."""
    theirs = tiny_config(generator=TCN | {"skips": "add"})
    network = build_generator(theirs)
    shake(network)
    last = [layer for layer in network.layers if layer.name.startswith("dense")][2]
    last.set_weights([0.0 * weights for weights in last.get_weights()])
    write_weights(network, theirs, tmp_path / "theirs")
    noisy = NOISY[..., :theirs.mel.bands]

    config = tiny_config(generator=TCN | {"skips": "add"} | other)
    converted = build_generator(config)
    load_generator(converted, config, tmp_path / "theirs", CONVERTIBLE)
    expected = network(noisy, training=False)
    np.testing.assert_allclose(converted(noisy, training=False), expected, atol=1e-5)

    write_weights(converted, config, tmp_path / "converted")
    back = build_generator(theirs)
    load_generator(back, theirs, tmp_path / "converted", CONVERTIBLE)
    np.testing.assert_allclose(back(noisy, training=False), expected, atol=1e-5)


def test_other_frames_and_dilations_take_the_weights_as_they_are(tmp_path):
    theirs = tiny_config(generator=TCN)
    network = build_generator(theirs)
    shake(network)
    write_weights(network, theirs, tmp_path)
    config = tiny_config(generator=TCN | {"dilations": [1, 3], "level_frames": 51},
                         mel={"hop_length": 32})
    converted = build_generator(config)
    load_generator(converted, config, tmp_path, CONVERTIBLE)
    for ours, given in zip(converted.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, given)


def test_a_network_is_converted_only_where_that_is_asked_for(tmp_path):
    """So that no mean of weights is made of networks that do not share a function."""
    theirs, config = (tiny_config(generator=TCN | {"blocks": blocks}) for blocks in (2, 1))
    write_weights(build_generator(theirs), theirs, tmp_path)
    with pytest.raises(CheckpointError, match="'generator' settings differ"):
        load_generator(build_generator(config), config, tmp_path)
    wider = tiny_config(generator=TCN | {"width": 20})
    with pytest.raises(CheckpointError, match="'generator' settings differ"):
        load_generator(build_generator(wider), wider, tmp_path, CONVERTIBLE)


def write_weights(network, config: Config, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / SETTINGS).write_text(dump_config(config), encoding="utf-8")
    network.save_weights(folder / "generator.weights.h5")


def test_weights_of_another_network_or_none_are_refused(tmp_path, pretrained):
    trainer = Trainer(tiny_config(), tiny_material(), "finetune")
    before = [np.array(weight) for weight in trainer.generator.get_weights()]
    with pytest.raises(CheckpointError, match="'generator' settings differ"):
        load_weights(trainer, pretrained[0])
    (tmp_path / SETTINGS).write_text(dump_config(tiny_config()), encoding="utf-8")
    with pytest.raises(CheckpointError, match="neither"):
        load_weights(trainer, tmp_path)
    for old, new in zip(before, trainer.generator.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


# ---- Killed and resumed ------------------------------------------------------------------------
SCRIPT = """
import logging, sys
from pathlib import Path
from conftest import tiny_material
from gan_denoise.config import load_config
from gan_denoise.training.loop import train
logging.basicConfig(level=logging.INFO, format="%(message)s")
settings, kind, delay, *run_dirs = sys.argv[1:]
for run_dir in run_dirs:
    train(load_config(settings), Path(run_dir), kind, material=tiny_material(delay=float(delay)))
"""


class Process:
    """Training runs in a process of its own, for `with`: it never outlives the test."""

    def __init__(self, config: Config, kind: str, *run_dirs: Path, delay: float = 0.0):
        run_dir = run_dirs[0]
        self.run_dir, self.log = run_dir, run_dir.with_suffix(".log")
        settings = run_dir.with_suffix(".yaml")
        settings.write_text(dump_config(config), encoding="utf-8")
        here = str(Path(__file__).parents[1])
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SCRIPT, str(settings), kind, str(delay),
                 *map(str, run_dirs)],
                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": here},
                start_new_session=True,  # a Ctrl-C at the tests is not one at the run
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()

    def wait(self) -> int:
        return self.process.wait(timeout=180)

    def wait_for_step(self, step: int) -> None:
        """Return once a checkpoint of this step or a later one lies there."""
        until = time.monotonic() + 120
        while time.monotonic() < until:
            latest = self.run_dir / LATEST
            if latest.is_file() and read_progress(latest).step >= step:
                return
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)
        pytest.fail(f"no checkpoint of step {step}: {self.said()}")

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def assert_same_state(one: Path, other: Path) -> None:
    """Every array bit-equal, and all counters and the history but the clock."""
    ours, theirs = read_variables(one), read_variables(other)
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours
                 if (ours[name].dtype, ours[name].shape, ours[name].tobytes())
                 != (theirs[name].dtype, theirs[name].shape, theirs[name].tobytes())]
    assert not differing
    progress = [dataclasses.replace(read_progress(path), seconds=0.0) for path in (one, other)]
    assert progress[0] == progress[1]


@pytest.mark.system
def test_a_run_killed_at_a_random_step_resumes_bit_by_bit(tmp_path):
    """Batch norm, dropout and spectral norm; both networks, both optimizers, EMA, history."""
    config = tiny_config(
        generator=FEW | {"dropout": 0.2}, discriminator=FEW | {"feature_weight": 0.1},
        training={"steps": 16, "deterministic": True, "threads": 1},
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with Process(config, "finetune", killed, delay=0.15) as victim:
        victim.wait_for_step(3)
        time.sleep(random.uniform(0, 1.2))
        victim.process.send_signal(signal.SIGKILL)
        assert victim.wait() == -signal.SIGKILL, victim.said()
    assert 3 <= progress_of(killed).step < 16
    with Process(config, "finetune", killed, whole) as resumed:
        assert resumed.wait() == 0, resumed.said()
    assert f"resumed {killed} at step" in resumed.said().replace("\n", "")
    assert progress_of(whole).step == 16
    owners = {name.split(".")[0] for name in read_variables(whole / LATEST)}
    assert owners == {"generator", "ema", "g_optimizer", "discriminator", "d_optimizer"}
    for name in (LATEST, BEST):
        assert_same_state(whole / name, killed / name)
    left = {path.name for path in killed.iterdir() if path.name.startswith(".")}
    assert left == {LOCK}  # no half-written state of the killed one


def test_ctrl_c_saves_and_the_same_call_goes_on(tmp_path):
    def press(progress):
        if progress.step == 4:
            signal.raise_signal(signal.SIGINT)

    config, run_dir = light(steps=400), tmp_path / "run"
    with logged() as lines, pytest.raises(KeyboardInterrupt):
        loop.train(config, run_dir, material=tiny_material(), progress=press)
    step = progress_of(run_dir).step
    assert f"interrupted at step {step}; the same command resumes" in lines
    assert 4 <= step < 400
    result, said = train(light(steps=step + 2), run_dir)
    assert f"at step {step}" in said
    assert "resumed" in said
    assert result.step == progress_of(run_dir).step == step + 2


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_of_the_system_saves_the_state_too(tmp_path, number):
    def stop(progress):
        if progress.step == 4:
            signal.raise_signal(number)

    with pytest.raises(Terminated, match=number.name):
        loop.train(light(steps=400), tmp_path, material=tiny_material(), progress=stop)
    assert 4 <= progress_of(tmp_path).step < 400  # the checkpoint before is of step 3


def test_two_processes_do_not_train_one_run(tmp_path):
    def begin_another(progress):
        with pytest.raises(CheckpointError, match="another process trains this run"):
            loop.train(light(steps=1), tmp_path, material=tiny_material())

    loop.train(light(steps=1), tmp_path, material=tiny_material(), progress=begin_another)


def test_what_is_called_after_a_validation_may_end_the_run(tmp_path):
    class Enough(Exception):
        pass

    seen = []

    def on_validation(step, values):
        seen.append((step, values["si_sdr"]))
        if step == 4:
            raise Enough

    config, run_dir = light(steps=6, validate_every=2, checkpoint_every=3), tmp_path / "run"
    with pytest.raises(Enough):
        loop.train(config, run_dir, material=tiny_material(), on_validation=on_validation)
    assert [step for step, _ in seen] == [2, 4]
    assert progress_of(run_dir).step == 3  # the last checkpoint
    result, said = train(config, run_dir)
    assert "at step 3" in said
    assert result.step == 6
    assert progress_of(run_dir).history[0]["si_sdr"] == seen[0][1]


def test_a_finished_run_stays_as_it_is_and_more_steps_go_on(tmp_path, caplog):
    run_dir = tmp_path / "run"
    train(light(steps=3), run_dir)
    before = read_variables(run_dir / LATEST)
    with caplog.at_level("INFO", "gan_denoise"):
        result, _ = train(light(steps=3), run_dir)
    assert (result.step, result.audio_speed) == (3, 0)
    assert "all 3 steps are done: nothing is left to train; a larger training.steps" in caplog.text
    for name, value in read_variables(run_dir / LATEST).items():
        np.testing.assert_array_equal(value, before[name])
    result, _ = train(light(steps=5, log_every=1, checkpoint_every=1), run_dir)
    assert result.step == progress_of(run_dir).total_steps == 5
    assert settings_of(run_dir).training.steps == 5


def test_a_resume_with_a_changed_setting_names_it(pretrained):
    run_dir = pretrained[0]
    before = (run_dir / SETTINGS).read_bytes(), (run_dir / LATEST).read_bytes()
    with pytest.raises(ConfigError, match=r"training\.learning_rate: the run has 0\.0015, now 0.1"):
        train(light(steps=9, learning_rate=0.1), run_dir)
    with pytest.raises(CheckpointError, match="holds a pretrain run"):
        train(light(steps=9), run_dir, "finetune")
    with pytest.raises(CheckpointError, match="training material"):
        train(light(steps=9), run_dir, material=tiny_material(digest="other"))
    assert ((run_dir / SETTINGS).read_bytes(), (run_dir / LATEST).read_bytes()) == before


# ---- Refused before anything is written --------------------------------------------------------
def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(CheckpointError, match="give another --run"):
        train(light(steps=2), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def nothing_to_say_when_to_stop(folder):
    loop.train(light(), folder / "run", material=tiny_material())


def no_such_kind_of_training(folder):
    loop.train(light(steps=2), folder / "run", "pretain", material=tiny_material())


def no_such_generator(folder):
    loop.train(tiny_config(generator={"name": "gpt"}, training={"steps": 2}), folder / "run",
              material=tiny_material())


def no_material(folder):
    loop.train(light(steps=2), folder / "run")


def no_such_recordings(folder):
    config = tiny_config(data={"clean": str(folder / "none")}, training={"steps": 2})
    loop.train(config, folder / "run")


def nothing_to_start_from(folder):
    loop.train(light(steps=2), folder / "run", "finetune", folder / "none",
              material=tiny_material())


def pesq_at_another_rate(folder):
    config = tiny_config(audio={"sample_rate": 8000},
                         training={"steps": 2, "select_by": "pesq_wb"})
    loop.train(config, folder / "run", material=tiny_material())


@pytest.mark.parametrize(("attempt", "word"), [
    (nothing_to_say_when_to_stop, r"training\.steps or training\.minutes"),
    (no_such_kind_of_training, "'pretain' training; take pretrain or finetune"),
    (no_such_generator, "there is no 'gpt'"),
    (no_material, "nothing to train on"),
    (no_such_recordings, "no such"),
    (nothing_to_start_from, "neither a run nor a model"),
    (pesq_at_another_rate, "16000 Hz"),
])
def test_a_refused_setting_or_material_writes_nothing(tmp_path, attempt, word):
    with pytest.raises((GanDenoiseError, FileNotFoundError), match=word):
        attempt(tmp_path)
    assert not list(tmp_path.iterdir())


# ---- Not finite --------------------------------------------------------------------------------
def test_a_few_bad_steps_are_skipped_and_counted(tmp_path):
    result, said = train(light(steps=7), tmp_path / "run", material=tiny_material(bad={2, 3, 6}))
    progress = progress_of(tmp_path / "run")
    assert (result.step, progress.bad_steps, progress.rollbacks) == (7, 3, 0)
    assert "step 2: loss/mse" in said
    assert "skipped" in said
    iterations = read_variables(tmp_path / "run" / LATEST, "g_optimizer.0.")
    assert list(iterations.values()) == [4]


def test_a_last_step_that_is_bad_is_still_validated_and_saved(tmp_path):
    run_dir = tmp_path / "run"
    result, _ = train(light(steps=4), run_dir, material=tiny_material(bad={3}))
    progress = progress_of(run_dir)
    assert result.step == progress.step == progress.history[-1]["step"] == 4
    assert progress.bad_steps == 1
    assert progress_of(run_dir, BEST).step == 4


def test_bad_steps_in_a_row_roll_back_and_go_on_behind_them(tmp_path):
    run_dir = tmp_path / "run"
    result, said = train(light(steps=11, checkpoint_every=4), run_dir,
                         material=tiny_material(bad={5, 6, 7}))
    progress = progress_of(run_dir)
    assert result.step == progress.step == 11
    assert progress.skipped == [[4, 7]]  # since the last checkpoint
    assert (progress.rollbacks, progress.bad_steps, progress.bad_in_row) == (1, 3, 0)
    assert "went back to the state of step 4, going on behind step 7" in said
    # Updates: 0 to 3, then 8 to 10; no step is done twice.
    iterations = read_variables(run_dir / LATEST, "g_optimizer.0.")
    assert list(iterations.values()) == [7]
    assert all(np.isfinite(value).all() for value in read_variables(run_dir / LATEST).values())


def test_a_roll_back_goes_behind_the_first_failing_step(tmp_path):
    """The state to go back to is not one that was due among the failing steps."""
    run_dir = tmp_path / "run"
    train(light(steps=8, checkpoint_every=3), run_dir, material=tiny_material(bad={4, 5, 6}))
    assert progress_of(run_dir).skipped == [[3, 6]]


def test_the_third_roll_back_ends_the_run_with_term_steps_and_way_out(tmp_path):
    run_dir = tmp_path / "run"
    bad = {1, 2, 3, 5, 6, 7, 8, 9, 10}
    with pytest.raises(TrainingError) as ended:
        train(light(steps=40), run_dir, material=tiny_material(bad=bad))
    message = str(ended.value)
    assert "loss/mse" in message
    assert "steps 8 to 10" in message
    assert "training.learning_rate" in message
    progress = progress_of(run_dir)
    assert progress.rollbacks == 3
    assert [last for _, last in progress.skipped] == [3, 7, 10]
    assert progress.step == 11


# ---- Dead generators ---------------------------------------------------------------------------
def test_a_dead_start_begins_again_from_another_initialisation(tmp_path):
    run_dir = tmp_path / "run"
    with stillborn(1):
        result, said = train(light(steps=12), run_dir)
    (restart,) = result.restarts
    assert (restart["step"], restart["seed"]) == (6, 1000)
    assert "has not varied over time" in restart["reason"]
    assert "begins again from another initialisation (seed 1000), 1 of at most 2" in said
    progress = progress_of(run_dir)
    assert progress.step == 12
    assert progress.restarts == [restart]
    assert [row["step"] for row in progress.history] == [5, 10, 12]  # of the second start alone
    # What the dead start showed is another run on TensorBoard, with the line that says why.
    aside = run_dir / "tensorboard" / "dead-start-1"
    assert "watch/output" in tags(aside)
    assert "watch/output" not in tags(run_dir / "tensorboard")
    # The model's card says it, too.
    card = export(run_dir, tmp_path / "model")
    assert "seed 1000" in card["dead_starts"]
    assert "dead starts" in (tmp_path / "model" / "model_card.md").read_text()


def tags(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = (path for path in folder.iterdir() if path.is_file())
    events = EventAccumulator(str(path), size_guidance={"tensors": 0})
    events.Reload()
    return set(events.Tags()["tensors"])


def test_the_third_dead_start_ends_the_run_with_the_way_out(tmp_path):
    run_dir = tmp_path / "run"
    with stillborn(3), pytest.raises(TrainingError) as ended:
        train(light(steps=40), run_dir)
    message = str(ended.value)
    assert ended.value.exit_code == 1
    assert "dead after 3 starts" in message
    assert "training.learning_rate" in message
    assert "training.watch=false" in message
    assert len(message.splitlines()) == 1
    assert [row["seed"] for row in progress_of(run_dir).restarts] == [1000, 2000]


def test_a_run_that_is_not_watched_goes_on_whatever_it_does(tmp_path):
    with stillborn(1):
        result, said = train(light(steps=12, watch=False), tmp_path / "run")
    assert (result.step, result.restarts) == (12, ())
    assert "warning" not in said


def test_a_generator_that_dies_later_ends_the_run_and_keeps_its_best_state(tmp_path, monkeypatch):
    monkeypatch.setattr(monitor, "STEPS", 6)
    step_of, validate = Trainer.train_step, Trainer.validate

    def train_step(trainer, step, noisy, clean):
        if step == 8:
            kill(trainer)
        return step_of(trainer, step, noisy, clean)

    def beaten(trainer):  # so young a network beats nothing yet
        values, shown = validate(trainer)
        return values | {"si_sdr": values["si_sdr_noisy"] + 0.1 + trainer.progress.step}, shown

    monkeypatch.setattr(Trainer, "train_step", train_step)
    monkeypatch.setattr(Trainer, "validate", beaten)
    run_dir = tmp_path / "run"
    with pytest.raises(TrainingError, match="alive at step 10") as ended:
        train(light(steps=40), run_dir)
    assert BEST in str(ended.value)
    assert (run_dir / BEST).is_file()
    assert progress_of(run_dir).restarts == []


def test_a_healthy_slow_run_is_left_alone(tmp_path):
    with stillborn(0):
        result, said = train(light(steps=20, learning_rate=1e-6), tmp_path / "run")
    assert (result.step, result.restarts) == (20, ())
    assert "dead" not in said


@pytest.mark.system
def test_a_resumed_fine_tuning_that_begins_again_starts_from_the_same_weights(
    tmp_path, monkeypatch
):
    run_dir, source = tmp_path / "run", tmp_path / "source"
    tiny_run(source, light(steps=1))  # arbitrary weights: what beats nothing may begin again
    train(light(steps=4), run_dir, "finetune", init=source)
    loaded = []
    load = start.load_weights
    monkeypatch.setattr(start, "load_weights", lambda trainer, given: (
        loaded.append(given), load(trainer, given))[1])
    # Whether four steps from arbitrary weights beat doing nothing is chance; a run that was alive
    # does not begin again.
    monkeypatch.setattr(restarts, "beats_trivial", lambda values, metric: False)
    with stillborn(1):  # the one that is resumed: as if it had died since
        monkeypatch.setattr(start, "load_state", lambda path, variables: read_progress(path))
        result, _ = train(light(steps=20), run_dir, "finetune", init=source)
    assert len(result.restarts) == 1
    assert loaded == [source]


def test_a_discriminator_that_has_won_is_named_and_the_run_goes_on(
    tmp_path, pretrained, monkeypatch
):
    monkeypatch.setattr(monitor, "GAME_STEPS", 3)
    step_of = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", lambda *arguments: step_of(*arguments) | {
        "loss/discriminator": 1e-4, "discriminator/real": 1.0, "discriminator/fake": 0.0})
    run_dir = tmp_path / "run"
    result, said = train(light(steps=8), run_dir, "finetune", init=pretrained[0])
    assert result.step == 8
    assert said.count("the discriminator has won") == 1
    assert "watch/discriminator_won" in tags(run_dir / "tensorboard")


RESTARTS = """
import sys
from pathlib import Path
from conftest import stillborn, tiny_material
from gan_denoise.config import load_config, with_settings
from gan_denoise.training.loop import train
root, config = Path(sys.argv[1]), load_config(sys.argv[2])

def run(name, config, on_validation=None):
    train(config, root / name, material=tiny_material(), on_validation=on_validation)

def stop(step, values):
    if step == 10:
        raise KeyboardInterrupt

run("plain", with_settings(config, {"training.seed": 1000}))
with stillborn(1):
    run("restarted", config)
with stillborn(1):
    try:
        run("in parts", config, stop)
    except KeyboardInterrupt:
        run("in parts", config)
"""


@pytest.mark.system
def test_a_restarted_run_is_that_of_its_seed_and_resumes_bit_by_bit(tmp_path):
    """In a process of its own: determinism is of a whole process. Tiny material has no seed."""
    config = light(steps=14, deterministic=True, threads=1)
    (tmp_path / "settings.yaml").write_text(dump_config(config), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-c", RESTARTS, str(tmp_path), str(tmp_path / "settings.yaml")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, capture_output=True,
        text=True, timeout=180,
    )
    assert result.returncode == 0, result.stderr
    plain, restarted = (read_variables(tmp_path / name / LATEST) for name in ("plain", "restarted"))
    assert {name: value.tobytes() for name, value in plain.items()} == {
        name: value.tobytes() for name, value in restarted.items()}
    assert progress_of(tmp_path / "in parts").restarts[0]["seed"] == 1000
    for name in (LATEST, BEST):
        assert_same_state(tmp_path / "restarted" / name, tmp_path / "in parts" / name)


# ---- Progress ----------------------------------------------------------------------------------
def test_progress_is_called_before_the_first_step_and_after_each(tmp_path):
    seen = []
    train_on = functools.partial(loop.train, run_dir=tmp_path / "run", material=tiny_material(),
                                 progress=seen.append)
    train_on(light(steps=3))
    assert [(progress.step, progress.total_steps) for progress in seen] == [
        (0, 3), (1, 3), (2, 3), (3, 3)]
    assert not seen[0].losses
    assert all(progress.losses["loss/mse"] > 0 for progress in seen[1:])
    assert not any(name.startswith("rate/") for name in seen[1].losses)
    seen.clear()
    train_on(light(steps=4))
    assert [progress.step for progress in seen] == [3, 4]


def test_what_is_wrong_is_logged_as_a_warning_and_the_rest_is_not(tmp_path, caplog):
    slow = {"name": "tcn_autoencoder", "channels": [4], "blocks": 1, "dilations": [1]}
    config = tiny_config(generator=slow, training={"steps": 4})  # too few to beat doing nothing
    with caplog.at_level("INFO", "gan_denoise"):
        loop.train(config, tmp_path / "run", material=tiny_material(bad={2}))
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    for level, word in (("WARNING", "step 2: loss/mse"), ("WARNING", "step 4 warning: "),
                        ("INFO", "step 4 validation: "), ("INFO", "tones in noise; ")):
        assert [found for found, line in lines if line.startswith(word)] == [level]


# ---- When it ends ------------------------------------------------------------------------------
@pytest.fixture
def timed_early(monkeypatch):
    """The speed is known after five steps."""
    monkeypatch.setattr(loop, "WARM_STEPS", 2)
    monkeypatch.setattr(loop, "TIMED_STEPS", 3)


def test_minutes_become_a_number_of_steps_once(tmp_path, timed_early):
    run_dir = tmp_path / "run"
    result, said = train(light(minutes=0.02), run_dir)
    progress = progress_of(run_dir)
    assert progress.total_steps == progress.step == result.step
    assert result.step >= 6
    assert f"0.02 minutes are {result.step} steps" in said
    assert progress.seconds < 30
    assert progress.history[-1]["step"] == result.step
    # The schedule of what was trained is not stretched afterwards.
    again, _ = train(light(minutes=50.0), run_dir)
    assert again.step == progress_of(run_dir).total_steps == result.step


def test_steps_and_minutes_end_at_whichever_comes_first(tmp_path, timed_early):
    result, _ = train(light(steps=4, minutes=30.0), tmp_path / "before it is measured")
    assert result.step == 4
    result, _ = train(light(steps=9, minutes=30.0), tmp_path / "steps")
    assert result.step == progress_of(tmp_path / "steps").total_steps == 9
    result, _ = train(light(steps=10**6, minutes=0.02), tmp_path / "minutes")
    assert 5 < result.step < 10**6
    assert progress_of(tmp_path / "minutes").total_steps == result.step


# ---- The best ----------------------------------------------------------------------------------
SCORES = {  # of the validations after 2, 4, 6 and 8 steps
    "si_sdr": (1.0, 3.0, np.nan, 2.0),
    "pesq_wb": (1.5, 1.2, 2.5, 2.1),
    "loss": (4.0, 3.0, 2.0, 1.0),
}


@pytest.mark.parametrize(("select_by", "step"), [("si_sdr", 4), ("pesq_wb", 6)])
def test_the_best_state_is_chosen_by_the_score_that_is_asked_for(
    tmp_path, monkeypatch, select_by, step
):
    if select_by == "pesq_wb" and not metrics.available()["pesq"]:
        pytest.skip("pesq is not installed")
    validate, calls = Trainer.validate, iter(range(4))

    def scripted(trainer):
        values, shown = validate(trainer)
        call = next(calls)
        return values | {name: scores[call] for name, scores in SCORES.items()}, shown

    monkeypatch.setattr(Trainer, "validate", scripted)
    run_dir = tmp_path / "run"
    result, _ = train(light(steps=8, validate_every=2, select_by=select_by), run_dir)
    best = progress_of(run_dir, BEST)
    assert best.step == best.history[-1]["step"] == result.best["step"] == step
    assert progress_of(run_dir).best == best.best == SCORES[select_by][step // 2 - 1]
    assert [row["step"] for row in progress_of(run_dir).history] == [2, 4, 6, 8]


def test_where_validation_is_trained_on_the_last_state_is_the_best_and_says_so(
    tmp_path, monkeypatch
):
    scores = iter((1.0, 3.0, 2.0))
    validate = Trainer.validate
    monkeypatch.setattr(Trainer, "validate", lambda trainer: (
        {"si_sdr": next(scores)}, validate(trainer)[1]))
    config = light(steps=6, validate_every=2)
    config = config.model_copy(update={"data": DataConfig(merge_validation=True)})
    result, _ = train(config, tmp_path / "run")
    assert result.best == {"step": 6, "si_sdr": 2.0}
    card = export(tmp_path / "run", tmp_path / "model")
    assert card["validation"] == {"step": 6, "si_sdr": 2.0}


def test_a_crop_is_as_long_as_the_settings_say():
    assert light().crop_samples == 4096
    assert tiny_config(training={"crop_seconds": 0.5}).crop_samples == RATE // 2
