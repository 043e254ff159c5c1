"""Builds the discriminator that the settings name.

The patch discriminator tells clean mels from estimates, patch by patch; the metric discriminator
predicts the PESQ of an estimate.
"""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

from gan_denoise.config.kinds import MetricDiscriminator, PatchDiscriminator
from gan_denoise.config.registry import DISCRIMINATORS, register_discriminator
from gan_denoise.config.schema import Config
from gan_denoise.dsp.mel import make_filterbank
from gan_denoise.models.pesq_layers import Disturbance, PesqScore


def build_discriminator(config: Config) -> keras.Model:
    """Build the discriminator that the settings name.

    Returns:
        Model `[reference_mel, candidate_mel]`, each mel01 `[batch, frames, n_mels]` ->
        `[logits or score, feature, feature, ...]`. The reference is the clean mel for `metric`,
        else the noisy one.
    """
    return DISCRIMINATORS[config.discriminator.kind](config)


@register_discriminator(MetricDiscriminator)
def build_metric_discriminator(
    config: Config, filterbank: np.ndarray | None = None
) -> keras.Model:
    """Build the metric discriminator (MetricGAN: Fu et al. 2019) on pairs of mels.

    It learns to predict the score of a candidate given the clean mel, and so gives the generator a
    slope towards a metric that has none. It starts as PESQ's own model of hearing, and learns from
    scores what that model gets wrong of the generator's estimates: from a few hundred scores it
    predicts better than a convolutional network from thousands (docs/experiments.md).

    Args:
        config: Settings; `audio` and `mel` are used.
        filterbank: Of the mels, `[n_mels, bins]`; None: computed.

    Returns:
        Model `[clean_mel, candidate_mel]`, each mel01 `[batch, frames, n_mels]` ->
        `[score, symmetric, asymmetric]`: `[batch, 1]`, and the disturbances that it is made of.
    """
    if filterbank is None:
        filterbank = make_filterbank(config.audio, config.mel)
    hz = np.fft.rfftfreq(config.mel.n_fft, 1 / config.audio.sample_rate)
    centres = filterbank @ hz / filterbank.sum(axis=1)
    frame_rate = config.audio.sample_rate / config.mel.hop_length
    clean = keras.Input((None, config.mel.bands), name="clean_mel")
    candidate = keras.Input((None, config.mel.bands), name="candidate_mel")
    disturbance = Disturbance(centres, config.mel.range_db)
    disturbances = disturbance([clean, candidate])
    score = PesqScore(disturbance.bark, frame_rate, name="score")(disturbances)
    return keras.Model([clean, candidate], [score, *disturbances], name="metric_discriminator")


@register_discriminator(PatchDiscriminator)
def build_patch_discriminator(config: Config) -> keras.Model:
    """Build the conditional patch discriminator (Isola et al. 2017) on pairs of mels.

    Each logit judges one patch of time and bands. Spectral normalisation (Miyato et al. 2018)
    bounds its slope; its vectors move only when it is called with `training=True`.

    Args:
        config: Settings; `discriminator` and `mel` are used.

    Returns:
        Model `[noisy_mel, candidate_mel]`, each mel01 `[batch, frames, n_mels]` ->
        `[logits, feature, feature, ...]`; logits are `[batch, frames', bands', 1]`, the features
        are the hidden layers, for feature matching.
    """
    settings, bands = config.discriminator, config.mel.bands

    def conv(filters: int, strides) -> layers.Layer:
        layer = layers.Conv2D(filters, (4, 4), strides, padding="same")
        # It rewrites the kernel, which half precision would round.
        return (layers.SpectralNormalization(layer, dtype="float32") if settings.spectral_norm
                else layer)

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
