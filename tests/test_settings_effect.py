"""No setting is without effect: every key of every kind is changed, and what it is for changes.

Networks are compared layer by layer, training by the values and weights of three steps, data by its
batches, inversions by the waveform, mels by the mel. Keys whose effect shows elsewhere are listed
with the reason.
"""

from __future__ import annotations

import itertools
import shutil
import typing

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny_config, tiny_material

from gan_denoise.config import flatten, join_settings, register_loss
from gan_denoise.config.data_sources import ValidationSet
from gan_denoise.config.registry import KINDS, LOSSES
from gan_denoise.config.schema import Config, valid_keys
from gan_denoise.data.datasets import load_material
from gan_denoise.data.feature_writer import write_features
from gan_denoise.dsp.inversion import invert
from gan_denoise.dsp.mel import Mel
from gan_denoise.models.discriminators import build_discriminator
from gan_denoise.models.generators import build_generator, receptive_field
from gan_denoise.training.trainer import Trainer

ELSEWHERE = {
    "format_version": "of the file", "plugins": "which modules are imported: test_extend",
    "data.cache": "where decoded audio is kept: test_corpus",
    "data.skip_missing": "what is done where a corpus has lost files: test_corpus_index",
    "discriminator.pesq_workers": "how many processes: test_metric_teachers",
    "training.steps": "when a run ends: test_loop", "training.minutes": "the same",
    "training.batch_size": "the batches: test_datasets", "training.crop_seconds": "the same",
    "training.accumulate": "how a batch is divided: test_update_step",
    "training.strategy": "where: test_distributed",
    "training.scale_learning_rate": "nothing on one device: test_distributed",
    "training.seed": "all draws: test_datasets, test_loop",
    "training.deterministic": "bit-equal repetition: test_loop",
    "training.max_bad_steps": "when a run goes back: test_loop",
    "training.select_by": "which state is the best: test_loop",
    "training.watch": "whether a dead start begins again: test_loop",
    "training.validate_every": "when: test_loop", "training.checkpoint_every": "when: test_loop",
    "training.log_every": "when: test_loop", "training.threads": "how wide",
    "training.data_workers": "how wide", "training.tracker": "where values go: test_trackers",
} | {key: "of tune alone: tests/tuning" for key in valid_keys() if key.startswith("tune.")}


def other(value, annotation):
    """Return another valid value of a setting."""
    options = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
    if options:
        return next(option for option in options if option != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 3 + 0.01
    if isinstance(value, tuple) and value and isinstance(value[0], (int, float)):
        step = 2 if isinstance(value[0], int) else 0.07
        return tuple(1 if item == 2 and len(value) > 1 and value == (1, 2) else item + step
                     for item in value)
    raise AssertionError(f"say what else than {value!r} there is")


def flipped(config, section, values, probe, also=()):
    """Return the keys of a section that change nothing when they are changed one by one."""
    before, kind = list(probe(config)), type(getattr(config, section))
    idle = []
    for key, info in kind.model_fields.items():
        name = f"{section}.{key}"
        if name in ELSEWHERE or (section in KINDS and key == KINDS[section].key):
            continue
        settings = getattr(config, section)
        if typing.get_args(info.annotation) == (getattr(settings, key),):
            continue  # the one value that names the kind
        value = values[key] if key in values else other(getattr(settings, key), info.annotation)
        changed = settings.model_copy(update={key: value})
        assert kind.model_validate(dict(changed)) == changed  # a value that users can give
        if same(before, probe(config.model_copy(update={section: changed}))):
            idle.append(name)
    return idle


def same(one, two):
    """Compare two series of values, up to the first difference: what follows is not computed."""
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a is not None and a == b
               for a, b in itertools.zip_longest(one, two))


# ---- Networks ----------------------------------------------------------------------------------
def layers_of(network):
    described = []
    for layer in network.layers:
        described.append((type(layer).__name__, str({key: value for key, value in
                          layer.get_config().items() if key not in ("name", "layer")})))
        described.append([tuple(v.shape) for v in layer.weights])
    return described


@pytest.mark.parametrize("name", sorted(KINDS["generator"].classes))
def test_every_key_of_a_generator_changes_the_network(name):
    config = tiny_config(generator={"name": name} | (
        {"frames": 8} if name == "conv_autoencoder" else {}), training={"crop_seconds": 0.03})
    values = {"time_strides": (2, 2)} if name == "tcn_autoencoder" else {}

    def probe(changed):
        return [*layers_of(build_generator(changed)), receptive_field(changed)]

    assert flipped(config, "generator", values, probe) == []


class Nearness:
    """Scores without processes: less with every dB of error."""

    def scores(self, clean, estimate):
        error = [np.sum((c - e) ** 2) / np.sum(c**2) for c, e in zip(clean, estimate, strict=True)]
        return np.float32(1 / (1 + np.array(error)))

    def close(self):
        pass


def trained(config):
    """Yield the values of each of a few steps, then the weights."""
    keras.utils.set_random_seed(3)
    trainer = Trainer(config, MATERIAL, "finetune", scorer=Nearness())
    trainer.progress.total_steps = 5
    for step in range(4):
        noisy, clean = MATERIAL.train.batch(step, 4)
        values = trainer.train_step(step, tf.constant(noisy), tf.constant(clean))
        yield from map(str, sorted(values.items()))
    yield from map(np.asarray, trainer.variables().values())


MATERIAL = tiny_material()


@pytest.fixture
def eager():
    tf.config.run_functions_eagerly(True)  # tracing takes far longer than four steps
    yield
    tf.config.run_functions_eagerly(False)


GAME = {"discriminator_warmup": 1, "adversarial_ramp": 4, "adversarial_weight": 0.5}
STEPS = {"batch_size": 4, "warmup_steps": 3, "clip_norm": 0.01}


@pytest.mark.parametrize("kind", sorted(KINDS["discriminator"].classes))
def test_every_key_of_a_discriminator_changes_it_or_the_training(kind, eager):
    more = {"metric": {"scored_clips": 2, "replay_clips": 2, "replay_size": 5},
            "patch": {"feature_weight": 0.1}}[kind]
    config = tiny_config(generator={"name": "cnn", "channels": [4]}, losses=GAME,
                         discriminator={"kind": kind} | more, training=STEPS)

    def probe(changed):
        yield from layers_of(build_discriminator(changed))
        yield from trained(changed)

    assert flipped(config, "discriminator", {}, probe) == []


@pytest.mark.system
def test_every_key_of_losses_and_training_changes_the_training(eager):
    register_loss("mean_difference")(lambda clean, estimate: keras.ops.mean(clean - estimate))
    weights = {f"{name}_weight": 0.5
               for name in ("mse", "mel", "magnitude", "complex", "snr", "estoi")}
    config = tiny_config(generator={"name": "cnn", "channels": [4]}, losses=GAME | weights,
                         discriminator={"channels": [4]}, training=STEPS)
    try:
        values = {"extra_weights": {"mean_difference": 0.5}}
        assert flipped(config, "losses", values, trained) == []
    finally:
        del LOSSES["mean_difference"]
    assert flipped(config, "training", {"adam_betas": (0.8, 0.9), "ema_decay": 0.1}, trained) == []


# ---- Sound -------------------------------------------------------------------------------------
def test_every_key_of_audio_and_mel_changes_the_mel():
    wave = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    wave[1000:3000] *= 1e-5

    def probe(config):
        mel = Mel(config.audio, config.mel)
        return [mel.mel01(wave), mel.istft(mel.stft(wave), 4000)]

    config = tiny_config(mel={"n_fft": 256, "win_length": 200, "n_mfcc": 3, "mfcc_range":
                              [[-9.0, 9.0]] * 3}, generator={"head": "direct"})
    values = {"n_mfcc": 0, "mfcc_range": ((-8.0, 9.0),) * 3, "fmax": 6000.0, "fmin": 100.0,
              "n_fft": 512, "floor": 1e-2}
    assert flipped(config, "audio", {"sample_rate": 8000}, probe) == []
    mel = {key: value for key, value in values.items() if key not in ("n_mfcc", "filters")}
    stft = tiny_config(mel={"filters": "stft", "n_mels": 129})
    assert not same(probe(tiny_config()), probe(stft))
    assert not same(probe(config), probe(tiny_config(mel={"win_length": 200})))
    kept = config.mel.model_copy()
    for key in set(type(kept).model_fields) - {"filters", "n_mfcc"}:
        value = mel[key] if key in mel else other(getattr(kept, key), None)
        changed = config.model_copy(update={"mel": kept.model_copy(update={key: value})})
        assert not same(probe(config), probe(changed)), key


@pytest.mark.parametrize("name", sorted(KINDS["inversion"].classes))
def test_every_key_of_an_inversion_changes_the_waveform(name):
    config = tiny_config(inversion={"name": name})
    mel, rng = Mel(config.audio, config.mel), np.random.default_rng(0)
    spectrum = mel.stft(rng.normal(0, 0.1, 4000).astype(np.float32))
    estimate = mel.normalise(mel.linear(spectrum)) + rng.uniform(-0.1, 0.05, (
        len(spectrum), config.mel.n_mels)).astype(np.float32)

    def probe(changed):
        return [invert(mel, estimate, spectrum, 4000, changed.inversion)]

    assert flipped(config, "inversion", {"gain_smoothing": (3, 3)}, probe) == []


# ---- Data --------------------------------------------------------------------------------------
ALWAYS = dict.fromkeys(("resample_noise", "coloured", "babble", "equalise", "reverberate",
                        "resample_speech"), 1.0)
SOURCES = ["DataConfig", "CleanData", "PairData", "FeatureData", "SyntheticData"]


@pytest.mark.parametrize("kind", SOURCES)
def test_every_key_of_a_source_changes_the_data(kind, folders, tmp_path):
    path = {name: str(folders / name) for name in ("speech", "noise", "noisy", "clean")}
    small = {"valid_clips": 3, "valid_fraction": 0.25}
    short, other_clean = small | {"valid_seconds": 0.3}, str(folders / "noise")
    spoken = (other_clean,)
    data, values = {
        "DataConfig": (short | ALWAYS | {"speech": [path["speech"], path["noise"]],
                                         "noise": [path["noise"]], "rir": [path["noise"]]},
                       {"speech": (path["noisy"],), "noise": (path["noisy"],),
                        "rir": (path["noisy"],), "valid_speech": (path["noisy"],),
                        "valid_noise": (path["noisy"],), "speech_weights": (1.0, 9.0),
                        "easy_clips": 1,
                        "valid_sets": {"others": ValidationSet(speech=(path["noisy"],))}}),
        "CleanData": (short | {"clean": path["clean"], "equalise": 1.0},
                      {"clean": path["noisy"], "valid_clean": path["noisy"],
                       "valid_speech": spoken}),
        "PairData": (short | {"noisy": path["noisy"], "clean": path["clean"]},
                     {"noisy": path["clean"], "clean": path["noisy"]}),
        "FeatureData": ({"valid_clips": 3}, {}), "SyntheticData": (
            {"valid_clips": 3, "features": "synthetic"}, {}),
    }[kind]
    waves = kind not in ("FeatureData", "SyntheticData")
    # Longer than an utterance and a noise: they are joined and looped.
    select = {"training": {"crop_seconds": 2.0} if waves else {"select_by": "snr_mel"}}
    if kind == "FeatureData":
        for name in ("one", "two"):
            recordings = tiny_config(data={"clean": path["clean" if name == "one" else "noisy"],
                                           "valid_fraction": 0.25})
            made = write_features(recordings, tmp_path / name)
        data |= {"features": str(tmp_path / "one")}
        values = {"features": str(tmp_path / "two")}
        select["mel"] = made.mel.model_dump()
    config = tiny_config(data=data, **select)
    values |= {"valid_fraction": 0.6} if waves else {}
    values |= {"snr_range": (-1.0, 1.0), "noises": (3, 4), "babble_voices": (3, 3)}
    checks = {"valid_noisy": path["clean"], "valid_clean": path["noisy"], "pairs": str(tmp_path)}
    for side, taken in (("noisy", "clean"), ("clean", "noisy")) if kind == "PairData" else ():
        shutil.copytree(folders / taken, tmp_path / side)

    def probe(changed):
        try:
            material = load_material(changed)
        except Exception as error:  # a folder that lacks its other half: told, not ignored
            return [type(error).__name__, str(error)]
        batches = [part for step in range(2) for part in material.train.batch(step, 6)]
        features = changed.data.has_waveforms and kind == "CleanData" and load_material(
            join_settings([changed.model_dump(), {
                "data": {"clean": None, "features": "synthetic"},
                "training": {"select_by": "snr_mel"}}])).train.batch(0, 8)[0]
        # The last state is taken where validation material is trained on: `training.loop`.
        easy = [side for pair in material.valid.easy.values() for side in pair]
        return [*batches, material.valid.noisy, material.valid.clean, *easy, features,
                not waves and changed.data.merge_validation]

    if kind == "PairData":
        for key, value in checks.items():
            both = {"valid_noisy": path["noisy"], "valid_clean": path["clean"]}
            given = {"pairs": value, "noisy": None, "clean": None} if key == "pairs" else (
                both | {key: value})
            base = config if key == "pairs" else config.model_copy(
                update={"data": config.data.model_copy(update=both)})
            changed = config.data.model_copy(update=given)
            assert not same(probe(base), probe(config.model_copy(update={"data": changed}))), key
        values |= dict.fromkeys(("pairs", "valid_noisy", "valid_clean"))
    idle = flipped(config, "data", values, probe)
    assert set(idle) <= ({f"data.{key}" for key in checks} if kind == "PairData" else set())


def test_no_section_and_no_source_was_left_out():
    """The other tests go through every key of a section, and through every kind but of sources."""
    assert set(Config.model_fields) - {"format_version", "plugins", "tune"} == {
        "audio", "mel", "generator", "discriminator", "losses", "training", "inversion", "data"}
    assert sorted(kind.__name__ for kind in KINDS["data"].all()) == sorted(SOURCES)
    assert set(ELSEWHERE) <= set(valid_keys()) | set(flatten(Config()))
