"""Losses: identity is 0, worse is larger, and known values come out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gan_denoise.training import losses

POWER = 0.3
RNG = np.random.default_rng(0)
CLEAN = RNG.uniform(0.01, 1.0, (3, 7, 5)).astype(np.float32)
NOISE = RNG.standard_normal((3, 7, 5)).astype(np.float32)
PHASE = RNG.uniform(0, 2 * np.pi, (3, 7, 5)).astype(np.float32)


def complex_loss(clean, estimate, power=POWER):
    """`compressed_complex` of complex spectra."""
    parts = [((x.real.copy(), x.imag.copy()), np.abs(x)) for x in (clean, estimate)]
    return float(losses.compressed_complex(*parts[0], *parts[1], power))


def spectrum(magnitude, phase=PHASE):
    return (magnitude * np.exp(1j * phase)).astype(np.complex64)


TERMS = {
    "mse": lambda c, e: float(losses.mse(c, e)),
    "mel": lambda c, e, power=POWER: float(losses.compressed_mel(c, e, power)),
    "magnitude": lambda c, e, power=POWER: float(losses.compressed_magnitude(c, e, power)),
    "complex": lambda c, e, power=POWER: complex_loss(spectrum(c), spectrum(e), power),
}


def missing_snr(clean, estimate):
    """`missing_snr` of complex spectra."""
    return float(losses.missing_snr(*[(x.real.copy(), x.imag.copy()) for x in (clean, estimate)]))


# ---- Reconstruction ----------------------------------------------------------------------------
@pytest.mark.parametrize("term", TERMS)
def test_identity_is_zero_and_worse_is_larger(term):
    loss = TERMS[term]
    assert loss(CLEAN, CLEAN) == pytest.approx(0, abs=1e-9)
    values = [loss(CLEAN, np.abs(CLEAN + size * NOISE)) for size in (0.0, 0.01, 0.1, 1.0)]
    assert values == sorted(values)
    assert values[1] > 1e-7
    assert values[-1] > 10 * values[1]


def test_mse_of_a_known_difference():
    assert float(losses.mse(CLEAN, CLEAN + np.float32(0.5))) == pytest.approx(0.25, rel=1e-5)


def test_a_relative_error_of_a_known_size():
    # Half the compressed magnitude is missing everywhere: a quarter of its energy.
    half = CLEAN * np.float32(0.5 ** (1 / POWER))
    assert TERMS["magnitude"](CLEAN, half) == pytest.approx(0.25, rel=1e-2)
    assert TERMS["complex"](CLEAN, half) == pytest.approx(0.25, rel=1e-2)
    # An estimate of silence misses all of it.
    assert TERMS["complex"](CLEAN, 0 * CLEAN) == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize("snr", [-5, 0, 10, 20])
def test_the_missing_snr_is_in_decibels_below_30(snr):
    clean = spectrum(CLEAN)
    energies = [np.sum(np.abs(x) ** 2, axis=(1, 2), keepdims=True) for x in (clean, NOISE)]
    gain = np.sqrt(energies[0] / energies[1]) * 10 ** (-snr / 20)
    value = missing_snr(clean, (clean + gain * NOISE).astype(np.complex64))
    # 30 dB is never quite reached: the error is taken over -30 dB.
    assert value == pytest.approx(10 * np.log10(10 ** (-snr / 10) + 1e-3) + 30, abs=0.01)
    assert missing_snr(clean, clean) == pytest.approx(0, abs=1e-4)


def test_the_complex_term_hears_the_phase_and_the_magnitude_term_does_not():
    turned = spectrum(CLEAN, PHASE + np.float32(np.pi))
    assert TERMS["magnitude"](CLEAN, np.abs(turned)) == pytest.approx(0, abs=1e-6)
    assert complex_loss(spectrum(CLEAN), turned) == pytest.approx(4.0, rel=1e-2)  # twice as far


@pytest.mark.parametrize("term", ["mel", "magnitude", "complex"])
@pytest.mark.parametrize("decibel", [-30, 6])
def test_compressed_terms_do_not_depend_on_a_common_level(term, decibel):
    gain = np.float32(10 ** (decibel / 20))
    estimate = np.abs(CLEAN + 0.2 * NOISE)
    value = TERMS[term](CLEAN, estimate)
    assert TERMS[term](gain * CLEAN, gain * estimate) == pytest.approx(value, rel=5e-3)


@pytest.mark.parametrize("term", ["mel", "magnitude", "complex"])
def test_a_quiet_clip_counts_as_much_as_a_loud_one(term):
    level = np.array([1, 0.1, 0.01], np.float32)[:, None, None]
    clean, estimate = level * CLEAN, level * np.abs(CLEAN + 0.2 * NOISE)
    alone = [TERMS[term](clean[k : k + 1], estimate[k : k + 1]) for k in range(3)]
    assert TERMS[term](clean, estimate) == pytest.approx(np.mean(alone), rel=1e-4)


@pytest.mark.parametrize("term", ["mel", "magnitude", "complex"])
def test_an_error_counts_as_much_as_its_part_of_the_clip(term):
    # Half the compressed magnitude of one frame is missing, and nothing else.
    half = CLEAN.copy()
    half[:, 2] *= np.float32(0.5 ** (1 / POWER))
    energy = np.sum(CLEAN.astype(float) ** (2 * POWER), axis=2)
    expected = np.mean(0.25 * energy[:, 2] / energy.sum(axis=1))
    assert TERMS[term](CLEAN, half) == pytest.approx(expected, rel=1e-3)


def test_the_missing_snr_is_the_mean_over_clips_of_any_level():
    level = np.array([1, 0.1, 0.01], np.float32)[:, None, None]
    snr = np.array([0.0, 10.0, 20.0], np.float32)[:, None, None]
    clean = level * spectrum(CLEAN)
    estimate = clean * (1 + 10 ** (-snr / 20))
    expected = np.mean(10 * np.log10(10 ** (-snr / 10) + 1e-3) + 30)
    assert missing_snr(clean, estimate) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("over_floor", [0.0, 10.0, 40.0])
def test_of_silence_the_missing_snr_is_of_an_error_over_minus_140_decibels(over_floor):
    silence = np.zeros((2, 7, 5), np.complex64)
    hum = silence + np.complex64(1e-7 * 10 ** (over_floor / 20))
    expected = 10 * math.log10(10 ** (over_floor / 10) + 1e-3) + 30
    assert missing_snr(silence, hum) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("term", ["mel", "magnitude", "complex"])
@pytest.mark.parametrize("power", [0.3, 1.0])
@pytest.mark.parametrize("level", [0.0, 1e-7, 1e-5, 1.0])
def test_at_no_level_an_error_counts_less_than_none(term, power, level):
    clean = np.full_like(CLEAN, level)
    assert TERMS[term](clean, clean, power) == 0
    assert 0 < TERMS[term](clean, clean + np.float32(1e-6), power) < math.inf


def test_the_slope_at_silence_is_finite():
    import tensorflow as tf

    silence = tf.Variable(np.zeros((1, 4, 3), np.float32))
    clean = CLEAN[:1, :4, :3]
    with tf.GradientTape(persistent=True) as tape:
        magnitude = losses.compressed_magnitude(clean, silence, POWER)
        parts = (silence, silence)
        complex_value = losses.compressed_complex((clean, clean), clean, parts, silence, POWER)
        nothing = losses.compressed_magnitude(0 * clean, silence, POWER)
    for value in (magnitude, complex_value, nothing):
        assert np.isfinite(tape.gradient(value, silence)).all()


# ---- Adversarial -------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "real", "fake", "discriminator", "generator"), [
    ("lsgan", 1.0, 0.0, 0.0, 1.0),
    ("lsgan", 0.0, 1.0, 2.0, 0.0),
    ("lsgan", 0.5, 0.5, 0.5, 0.25),
    ("hinge", 1.0, -1.0, 0.0, 1.0),
    ("hinge", 3.0, -2.0, 0.0, 2.0),
    ("hinge", 0.0, 0.0, 2.0, 0.0),
    ("bce", 0.0, 0.0, 2 * math.log(2), math.log(2)),
    ("bce", 50.0, -50.0, 0.0, 50.0),
    ("bce", -50.0, 50.0, 100.0, 0.0),
])
def test_known_values(kind, real, fake, discriminator, generator):
    real, fake = np.full((2, 3, 4, 1), real, np.float32), np.full((2, 3, 4, 1), fake, np.float32)
    assert float(losses.discriminator_loss(real, fake, kind)) == pytest.approx(
        discriminator, abs=1e-5)
    assert float(losses.generator_loss(fake, kind)) == pytest.approx(generator, abs=1e-5)


@pytest.mark.parametrize("kind", ["lsgan", "hinge", "bce"])
def test_a_discriminator_is_rewarded_for_telling_apart_and_a_generator_for_fooling(kind):
    weak, strong = np.float32([0.6, 0.4]), np.float32([0.9, 0.1])
    assert losses.discriminator_loss(*strong, kind) < losses.discriminator_loss(*weak, kind)
    assert losses.generator_loss(strong[0], kind) < losses.generator_loss(strong[1], kind)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="wgan"):
        losses.discriminator_loss(CLEAN, CLEAN, "wgan")
    with pytest.raises(ValueError, match="wgan"):
        losses.generator_loss(CLEAN, "wgan")


def test_feature_matching_is_zero_on_equal_layers_and_relative_to_each():
    real, fake = [CLEAN, NOISE], [CLEAN + np.float32(0.1), NOISE - np.float32(0.1)]
    assert float(losses.feature_matching(real, real)) == 0
    value = float(losses.feature_matching(real, fake))
    assert value > 0
    louder = [[100 * layers[0], layers[1]] for layers in (real, fake)]
    assert float(losses.feature_matching(*louder)) == pytest.approx(value, rel=1e-4)


def test_feature_matching_is_the_mean_of_relative_differences():
    real = [CLEAN, NOISE]
    fake = [1.5 * CLEAN, -NOISE]  # off by half, and by twice
    assert float(losses.feature_matching(real, fake)) == pytest.approx(1.25, rel=1e-5)
    halved = losses.feature_matching(real, fake, over_replicas=lambda size: 2 * size)
    assert float(halved) == pytest.approx(0.625, rel=1e-5)
    dead = [np.zeros_like(CLEAN)]
    assert 0 < float(losses.feature_matching(dead, [CLEAN])) < math.inf


def test_scores_are_matched_where_they_are_known():
    def loss(score, predicted):
        return float(losses.score_loss(np.float32(score), np.float32(predicted)))

    assert loss([0.5, math.nan, 0.9], [0.7, 100.0, 0.4]) == pytest.approx((0.2**2 + 0.5**2) / 2)
    assert loss([math.nan, 0.5], [3.0, 1.0]) == pytest.approx(0.25)
    assert loss([math.nan, math.nan], [3.0, 1.0]) == 0


def test_the_slope_at_a_score_that_is_unknown_is_zero():
    import tensorflow as tf

    predicted = tf.Variable([3.0, 1.0])
    with tf.GradientTape() as tape:
        value = losses.score_loss(tf.constant([math.nan, 0.5]), predicted)
    np.testing.assert_allclose(tape.gradient(value, predicted), [0.0, 1.0])
