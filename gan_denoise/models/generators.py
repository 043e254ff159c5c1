"""Builds the generator that the settings name; the shipped ones are convolutional autoencoders.

Every generator maps a noisy mel01 `[batch, frames, bands]` to an estimate of the clean mel01 of
the same shape, any number of frames; one that is made for a fixed number is run over windows (see
`dsp.overlap_add`). Normalisation has no statistics over time at inference (batch
norm with moving statistics, or layer norm within a frame) and the field of view is finite, so a
chunk with enough context on both sides equals the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from gan_denoise.config.kinds import Autoencoder, Cnn, ConvAutoencoder, TcnAutoencoder, UNet
from gan_denoise.config.registry import GENERATORS, register_generator
from gan_denoise.config.schema import Config
from gan_denoise.dsp.overlap_add import window_hop
from gan_denoise.models.layers import CropLike, DirectHead, GainHead, RelativeLevel


def build_generator(config: Config) -> keras.Model:
    """Build the generator that the settings name.

    Args:
        config: Settings; `generator` and `mel` are used.

    Returns:
        Functional model `noisy_mel [batch, frames, bands]` -> `estimate_mel` of the same shape,
        of any number of frames or of `generator.frames`.
    """
    settings, body = config.generator, GENERATORS[config.generator.name]
    noisy = keras.Input((settings.frames or None, config.mel.bands), name="noisy_mel")
    levelled = noisy
    if settings.head == "gain" and settings.level_frames:
        levelled = RelativeLevel(settings.level_frames, config.mel.range_db)(noisy)
    logits = body.build(levelled, settings)  # [B, T, F]
    if settings.head == "gain":
        head = GainHead(settings.gain_floor_db, config.mel.range_db, name="estimate_mel")
        estimate = head([noisy, logits])
    else:
        estimate = DirectHead(name="estimate_mel")(logits)
    return keras.Model(noisy, estimate, name=settings.name)


def convert(source: keras.Model, target: keras.Model) -> None:
    """Give a TCN autoencoder the weights of one with other blocks, skips, dilations or frames.

    Blocks that only the target has come last and change nothing as long as their dense layer is
    zero, which has a gradient (identity layers as in Net2Net: Chen, Goodfellow & Shlens 2016);
    those that only the source has, its last, are left out. A convolution of the decoder has two
    kernels where skips are concatenated, for what comes from below and for the skip, and one where
    they are added: both become it, or it becomes their mean.

    Args:
        source: The network whose weights are taken.
        target: One of the same channels, width and kernel; its variables are assigned.
    """
    theirs, ours = _stages(source), _stages(target)
    kept = theirs[1][:len(ours[1])]
    for layer in ours[1][len(kept):]:
        if isinstance(layer, layers.Dense):
            layer.set_weights([0.0 * weights for weights in layer.get_weights()])
    olds = [*theirs[0], *kept, *theirs[2]]
    for old, new in zip(olds, [*ours[0], *ours[1][:len(kept)], *ours[2]], strict=True):
        new.set_weights([_for_skips(weights, tuple(variable.shape)) for weights, variable in
                         zip(old.get_weights(), new.weights, strict=True)])


def _stages(network: keras.Model) -> tuple[list[keras.Layer], list[keras.Layer], list[keras.Layer]]:
    """Return the layers with weights before, in and behind a TCN autoencoder's blocks."""
    weighted = [layer for layer in network.layers if layer.weights]
    depthwise = [k for k, layer in enumerate(weighted) if isinstance(layer, layers.DepthwiseConv1D)]
    first, end = depthwise[0] - 1, depthwise[-1] + 2  # a norm before it, a dense layer behind it
    return weighted[:first], weighted[first:end], weighted[end:]


def _for_skips(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a kernel `[T, F, in, out]` for skips that are concatenated, or added."""
    if weights.shape == shape:
        return weights
    if weights.shape[2] < shape[2]:
        return np.concatenate([weights, weights], axis=2)
    return (weights[:, :, :shape[2]] + weights[:, :, shape[2]:]) / 2.0


def time_stride(config: Config) -> int:
    """Return the total stride over time, in frames: chunks must start at multiples of it."""
    if config.generator.frames:
        return window_hop(config.generator.frames)
    return math.prod(GENERATORS[config.generator.name].time_strides(config.generator))


def receptive_field(config: Config) -> int:
    """Return how many frames on each side of a frame its estimate can depend on."""
    settings = config.generator
    if settings.frames:
        return settings.frames  # all windows over a frame, whatever is in them
    field = GENERATORS[settings.name].field(settings)
    if settings.head == "gain":
        field += settings.level_frames // 2
    return field + time_stride(config)  # the phase of a frame within a stride


# ---- Time geometry -----------------------------------------------------------------------------
def _halving(settings: UNet | Autoencoder | ConvAutoencoder) -> tuple[int, ...]:
    return (2,) * len(settings.channels)


def _chosen(settings: TcnAutoencoder) -> tuple[int, ...]:
    count = len(settings.channels)
    return (settings.time_strides + (1,) * count)[:count]


def _tcn_field(settings: TcnAutoencoder) -> int:
    strides = _chosen(settings)
    field, stride = _encoder_field(strides), math.prod(strides)
    field += stride * sum((settings.kernel // 2) * d for d in _dilations(settings))
    for step in reversed(strides):  # a 3x3 convolution before each step up
        field += stride
        stride //= step
    return field


def _mirrored_field(settings: UNet | Autoencoder) -> int:
    strides = _halving(settings)
    stride = math.prod(strides)
    field = _encoder_field(strides) + 2 * stride  # two 3x3 convolutions in the bottleneck
    return field + sum(2**level for level in range(len(strides)))  # one after each step up


def _pooled_field(settings: ConvAutoencoder) -> int:
    # Down, a 3x3 convolution and the second frame of a pool; up, a 3x3 convolution.
    return sum(3 * 2**level for level in range(len(settings.channels)))


def _cnn_field(settings: Cnn) -> int:
    return (settings.kernel // 2) * len(settings.channels) + 1


def _encoder_field(strides: Sequence[int]) -> int:
    field, stride = 0, 1
    for step in strides:
        field += stride * (_time_kernel(step) - 1)  # all of it on the longer side, to be safe
        stride *= step
    return field


def _time_kernel(stride: int) -> int:
    """An even kernel keeps 'same' padding aligned alike for odd and even numbers of frames."""
    return 3 if stride == 1 else 2 * stride


def _dilations(settings: TcnAutoencoder) -> list[int]:
    return [settings.dilations[k % len(settings.dilations)] for k in range(settings.blocks)]


# ---- Bodies: mel01 -> logits, both [B, T, F] ---------------------------------------------------
@register_generator(TcnAutoencoder, _tcn_field, _chosen)
def tcn_autoencoder(noisy: keras.KerasTensor, settings: TcnAutoencoder) -> keras.KerasTensor:
    """Convolutional encoder and decoder with skips around dilated temporal convolutions.

    The encoder halves the bands at each level and time only where `time_strides` says; its output
    is flattened to one vector per step, and residual temporal convolutions (TCN: Bai, Kolter &
    Koltun 2018; depthwise separable as in Conv-TasNet: Luo & Mesgarani 2019) carry it far in time.
    In the decoder a convolution with a nonlinearity joins what they found with the fine detail
    that the encoder kept.
    """
    bands = noisy.shape[-1]
    strides = _chosen(settings)
    x = _as_image(noisy)
    skips = [x]
    for channels, step in zip(settings.channels, strides, strict=True):
        x = layers.Conv2D(
            channels, (_time_kernel(step), 3), (step, 2), padding="same",
            **_activation(settings.batch_norm),
        )(x)  # [B, T / step, F / 2, C]
        if settings.batch_norm:
            x = _batch_norm(x)
        skips.append(x)
    height, channels = x.shape[2], x.shape[3]
    x = layers.Reshape((-1, height * channels))(x)  # [B, T', F' * C]
    x = layers.Dense(settings.width)(x)
    for dilation in _dilations(settings):
        x = _temporal_block(x, settings, dilation)
    x = layers.Dense(height * channels, activation="relu")(x)
    x = layers.Reshape((-1, height, channels))(x)  # [B, T', F', C]
    for level in reversed(range(len(strides))):
        skip = skips[level + 1]
        x = (layers.Add() if settings.skips == "add" else layers.Concatenate())([x, skip])
        x = layers.Conv2D(skip.shape[-1], 3, padding="same", activation="relu")(x)
        x = layers.Conv2DTranspose(
            skips[level].shape[-1], (strides[level], 4), (strides[level], 2), padding="same",
            **(_activation(settings.batch_norm) if level else {}),
        )(x)
        if settings.batch_norm and level:
            x = _batch_norm(x)
        x = CropLike()([x, skips[level]])  # [B, T, F, C] of the level above
    return layers.Reshape((-1, bands))(x)


@register_generator(UNet, _mirrored_field, _halving)
def unet(noisy: keras.KerasTensor, settings: UNet) -> keras.KerasTensor:
    """Convolutional encoder and decoder with skips (Ronneberger, Fischer & Brox 2015)."""
    return _mirrored(noisy, settings, with_skips=True)


@register_generator(Autoencoder, _mirrored_field, _halving)
def autoencoder(noisy: keras.KerasTensor, settings: Autoencoder) -> keras.KerasTensor:
    """Convolutional encoder, bottleneck and decoder, without skips."""
    return _mirrored(noisy, settings, with_skips=False)


@register_generator(ConvAutoencoder, _pooled_field, _halving)
def conv_autoencoder(noisy: keras.KerasTensor, settings: ConvAutoencoder) -> keras.KerasTensor:
    """The textbook denoising autoencoder: convolutions and pooling, mirrored, nothing else.

    Vincent et al. 2008, with convolutions (Masci et al. 2011). Of L channels it has 2 L
    convolutions; with `latent` all of a window passes through one dense vector.
    """
    bands = noisy.shape[-1]
    x = _as_image(noisy)
    levels = [x]
    for channels in settings.channels:
        x = _conv(x, channels, batch_norm=settings.batch_norm)
        x = layers.MaxPooling2D(2, padding="same")(x)  # [B, T / 2, F / 2, C]
        levels.append(x)
    if settings.latent:
        shape = x.shape[1:]
        x = layers.Reshape((1, math.prod(shape)))(x)  # [B, 1, T * F * C]
        x = layers.Dense(settings.latent, activation="relu")(x)
        x = layers.Dense(math.prod(shape), activation="relu")(x)
        x = layers.Reshape(shape)(x)
    if settings.dropout:
        x = layers.Dropout(settings.dropout)(x)
    for level in reversed(range(len(settings.channels))):
        x = layers.UpSampling2D((2, 2), interpolation="nearest")(x)
        x = CropLike()([x, levels[level]])
        if level:
            x = _conv(x, settings.channels[level - 1], batch_norm=settings.batch_norm)
    x = layers.Conv2D(1, 3, padding="same")(x)
    return layers.Reshape((-1, bands))(x)


@register_generator(Cnn, _cnn_field)
def cnn(noisy: keras.KerasTensor, settings: Cnn) -> keras.KerasTensor:
    """Convolutions at full resolution, no pooling (as in Park & Lee 2017, without their skips)."""
    x = _as_image(noisy)
    for channels in settings.channels:
        x = _conv(x, channels, (settings.kernel, settings.kernel))
    if settings.dropout:
        x = layers.Dropout(settings.dropout)(x)
    x = layers.Conv2D(1, 3, padding="same")(x)
    return layers.Reshape((-1, noisy.shape[-1]))(x)


def _as_image(noisy):
    """Spread a mel around zero, where networks learn fastest, and add a channel: [B, T, F, 1]."""
    spread = layers.Rescaling(4.0, offset=-2.0)(noisy)
    return layers.Reshape((-1, noisy.shape[-1], 1))(spread)


def _activation(batch_norm: bool) -> dict[str, str | bool]:
    """Return what a convolution does by itself; batch norm brings a bias and comes before ReLU."""
    return {"use_bias": False} if batch_norm else {"activation": "relu"}


def _batch_norm(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))


def _temporal_block(x, settings: TcnAutoencoder, dilation: int):
    y = layers.LayerNormalization(epsilon=1e-5)(x)
    y = layers.DepthwiseConv1D(
        settings.kernel, dilation_rate=dilation, padding="same", activation="relu"
    )(y)
    y = layers.Dense(settings.width)(y)
    if settings.dropout:
        y = layers.Dropout(settings.dropout)(y)
    return layers.Add()([x, y])


def _mirrored(noisy, settings: UNet | Autoencoder, with_skips: bool):
    bands = noisy.shape[-1]
    x = _as_image(noisy)
    levels = [x]
    for channels in settings.channels:
        x = _conv(x, channels, (_time_kernel(2), 3), (2, 2))  # [B, T / 2, F / 2, C]
        levels.append(x)
    x = _conv(x, settings.channels[-1])
    if settings.dropout:
        x = layers.Dropout(settings.dropout)(x)
    x = _conv(x, settings.channels[-1])
    widths = (settings.channels[0], *settings.channels[:-1])
    for level, channels in reversed(list(enumerate(widths))):
        x = layers.UpSampling2D((2, 2), interpolation="nearest")(x)
        x = CropLike()([x, levels[level]])
        if with_skips and level:
            x = layers.Concatenate()([x, levels[level]])
        x = _conv(x, channels)
    x = layers.Conv2D(1, 1)(x)
    return layers.Reshape((-1, bands))(x)


def _conv(
    x, channels: int, kernel: Sequence[int] = (3, 3), strides: Sequence[int] = (1, 1),
    batch_norm: bool = True,
):
    x = layers.Conv2D(channels, kernel, strides, padding="same", **_activation(batch_norm))(x)
    return _batch_norm(x) if batch_norm else x
