"""The discriminators: is this mel the clean one of this noisy one, patch by patch? Or: what would
PESQ say of this mel, given the clean one?"""

from __future__ import annotations

import math

import keras
from keras import layers, ops

from gan_denoise.config import Config


def build_discriminator(config: Config) -> keras.Model:
    """Build the discriminator that the settings name.

    Returns:
        Model `[reference_mel, candidate_mel]`, each mel01 `[batch, frames, n_mels]` ->
        `[judgement, feature, feature, ...]`. The reference is the noisy mel for `patch`, the clean
        one for `metric`.
    """
    kinds = {"patch": build_patch_discriminator, "metric": build_metric_discriminator}
    return kinds[config.discriminator.kind](config)


def build_metric_discriminator(config: Config) -> keras.Model:
    """Build the metric discriminator (MetricGAN: Fu et al. 2019) on pairs of mels.

    It learns to predict the score of a candidate given the clean mel, 1 for the clean one itself,
    and so gives the generator a slope towards a metric that has none. It sees what the metric
    hears: the loudness of the clean clip, and how far the candidate is above and below it.

    Args:
        config: Settings; `discriminator` and `mel` are used.

    Returns:
        Model `[clean_mel, candidate_mel]`, each mel01 `[batch, frames, n_mels]` ->
        `[score, feature, feature, ...]`; the score is `[batch, 1]`.
    """
    settings, bands = config.discriminator, config.mel.n_mels

    def bounded(layer: layers.Layer) -> layers.Layer:
        return layers.SpectralNormalization(layer) if settings.spectral_norm else layer

    clean = keras.Input((None, bands), name="clean_mel")
    candidate = keras.Input((None, bands), name="candidate_mel")
    as_image, loudness = layers.Reshape((-1, bands, 1)), Loudness(config.mel.range_db)
    heard_clean, heard = as_image(loudness(clean)), as_image(loudness(candidate))
    added = layers.ReLU()(layers.Subtract()([heard, heard_clean]))
    missing = layers.ReLU()(layers.Subtract()([heard_clean, heard]))
    x = layers.Concatenate()([heard_clean, added, missing])  # [B, T, F, 3]
    features = []
    for channels in settings.channels:
        x = layers.LeakyReLU(0.2)(
            bounded(layers.Conv2D(channels, (5, 5), (2, 2), padding="same"))(x)
        )  # [B, T / 2, F / 2, C]
        features.append(x)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.LeakyReLU(0.2)(bounded(layers.Dense(2 * settings.channels[-1]))(x))
    x = layers.Dense(1)(x)
    score = layers.Activation("linear", dtype="float32", name="score")(x)
    return keras.Model([clean, candidate], [score, *features], name="metric_discriminator")


@keras.saving.register_keras_serializable("gan_denoise")
class Loudness(layers.Layer):
    """Loudness over a clip of its mel01, `[batch, frames, n_mels]`, about 1 where speech is loud.

    A power of power over the threshold of hearing, as in Zwicker & Fastl (Psychoacoustics), at the
    listening level to which PESQ (ITU-T P.862) brings every clip first. Their exponent is 0.23;
    differences of this loudness follow PESQ closer (docs/experiments.md).

    Args:
        range_db: Decibels that mel01's [0, 1] stands for.
    """

    EXPONENT = 0.15
    THRESHOLD = 1e-7  # of power, below the mean of the clip: 79 dB SPL down to 9

    def __init__(self, range_db: float, **kwargs):
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.range_db = range_db

    def call(self, mel):
        power = ops.exp(mel * (self.range_db * math.log(10) / 10))
        power /= ops.mean(power, axis=(1, 2), keepdims=True)
        # Power 0 would have an infinite slope.
        return ops.power(power + self.THRESHOLD, self.EXPONENT) - self.THRESHOLD**self.EXPONENT

    def get_config(self):
        return super().get_config() | {"range_db": self.range_db}


def build_patch_discriminator(config: Config) -> keras.Model:
    """Build the conditional patch discriminator (Isola et al. 2017) on pairs of mels.

    Each logit judges one patch of time and bands. Spectral normalisation (Miyato et al. 2018)
    bounds its slope; its vectors move only when it is called with `training=True`.

    Args:
        config: Settings; `discriminator` and `mel.n_mels` are used.

    Returns:
        Model `[noisy_mel, candidate_mel]`, each mel01 `[batch, frames, n_mels]` ->
        `[logits, feature, feature, ...]`; logits are `[batch, frames', bands', 1]`, the features
        are the hidden layers, for feature matching.
    """
    settings, bands = config.discriminator, config.mel.n_mels

    def conv(filters: int, strides) -> layers.Layer:
        layer = layers.Conv2D(filters, (4, 4), strides, padding="same")
        return layers.SpectralNormalization(layer) if settings.spectral_norm else layer

    noisy = keras.Input((None, bands), name="noisy_mel")
    candidate = keras.Input((None, bands), name="candidate_mel")
    as_image = layers.Reshape((-1, bands, 1))
    x = layers.Concatenate()([as_image(noisy), as_image(candidate)])  # [B, T, F, 2]
    features = []
    for channels in settings.channels:
        x = layers.LeakyReLU(0.2)(conv(channels, (2, 2))(x))  # [B, T / 2, F / 2, C]
        features.append(x)
    x = layers.LeakyReLU(0.2)(conv(settings.channels[-1], (1, 1))(x))
    features.append(x)
    logits = layers.Activation("linear", dtype="float32", name="logits")(conv(1, (1, 1))(x))
    return keras.Model([noisy, candidate], [logits, *features], name="patch_discriminator")
