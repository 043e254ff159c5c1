"""The settings of each kind of generator, discriminator and inversion.

A kind has the keys that have an effect on it, and no others, and is named by one of them. Kinds
from outside the package are classes derived from the ones here: see `registry`.
"""

from __future__ import annotations

import typing
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from gan_denoise.config.section import (
    Channels,
    Count,
    NonNegative,
    Odd,
    Positive,
    Section,
    Unit,
)


# ---- Generators --------------------------------------------------------------------------------
class GeneratorConfig(Section):
    """What every generator has; `models.generators` says what the others mean.

    A kind from outside the package derives from this class and gives `name` a value of its own.
    """

    ONLY_WITH: ClassVar = {"gain_floor_db": ("head", "gain"), "level_frames": ("head", "gain")}

    name: str
    head: Literal["gain", "direct"] = "gain"
    gain_floor_db: typing.Annotated[float, Field(gt=0.0)] = 60.0  # deepest cut of the gain head
    level_frames: Count = 251  # window of the level that the gain head's network sees relative to
    frames: Count = 0  # of a network for windows of so many frames only; 0: any number


class _Convolutional(GeneratorConfig):
    channels: Channels = (16, 24, 32, 48)  # of the encoder's convolutions
    dropout: typing.Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class TcnAutoencoder(_Convolutional):
    """Encoder and decoder with skips around dilated temporal convolutions."""

    name: Literal["tcn_autoencoder"] = "tcn_autoencoder"
    time_strides: tuple[Literal[1, 2], ...] = (1, 2)  # of the first levels
    batch_norm: bool = False  # after the convolutions of encoder and decoder
    width: Positive = 176  # channels of the bottleneck
    blocks: Positive = 10  # temporal convolutions in the bottleneck
    kernel: Positive = 5  # their width in steps of the total time stride
    dilations: Channels = (1, 2, 4, 8, 16)  # repeated over the blocks
    skips: Literal["concatenate", "add"] = "concatenate"  # how the decoder takes the encoder's


class UNet(_Convolutional):
    """Encoder and decoder with skips and batch norm."""

    name: Literal["unet"] = "unet"


class Autoencoder(_Convolutional):
    """The same without skips."""

    name: Literal["autoencoder"] = "autoencoder"


class ConvAutoencoder(_Convolutional):
    """Convolutions and pooling, mirrored."""

    name: Literal["conv_autoencoder"] = "conv_autoencoder"
    batch_norm: bool = False  # after the convolutions
    latent: Count = 0  # dense vector that all of a window passes through; 0: none

    @model_validator(mode="after")
    def _fits(self) -> ConvAutoencoder:
        if self.latent and not self.frames:
            raise ValueError("latent needs a fixed number of frames; give generator.frames")
        return self


class Cnn(_Convolutional):
    """Convolutions at full resolution with batch norm."""

    name: Literal["cnn"] = "cnn"
    kernel: Positive = 5  # frames and bands


# ---- Discriminators ----------------------------------------------------------------------------
class DiscriminatorConfig(Section):
    """What every discriminator has."""

    # Keys that say how it is trained; the network depends on the others.
    TRAINING_KEYS: ClassVar[frozenset[str]] = frozenset({"learning_rate"})

    kind: str
    learning_rate: NonNegative = 4e-4

    @property
    def network(self) -> dict[str, Any]:
        """Return the settings that the network depends on, by key."""
        return {key: value for key, value in dict(self).items() if key not in self.TRAINING_KEYS}


class RealFakeDiscriminator(DiscriminatorConfig):
    """A discriminator that tells clean mels from estimates.

    A kind from outside the package derives from this class and gives `kind` a value of its own.
    """

    TRAINING_KEYS = frozenset({"learning_rate", "loss", "feature_weight"})

    loss: Literal["lsgan", "hinge", "bce"] = "lsgan"
    feature_weight: NonNegative = 0.0  # of feature matching, beside losses.adversarial_weight


class PatchDiscriminator(RealFakeDiscriminator):
    """Clean or not, patch by patch."""

    kind: Literal["patch"] = "patch"
    channels: Channels = (16, 32, 64)
    spectral_norm: bool = True


class MetricDiscriminator(DiscriminatorConfig):
    """Predicts the PESQ of an estimate."""

    TRAINING_KEYS = frozenset({"learning_rate", "scored_clips", "replay_clips", "replay_size",
                               "pesq_workers"})

    kind: Literal["metric"] = "metric"
    scored_clips: Positive = 8  # estimates of a batch whose PESQ is computed
    replay_clips: Positive = 8  # earlier estimates that the discriminator sees again in a step
    replay_size: Positive = 128  # estimates that are kept for it
    pesq_workers: Positive = 2  # processes that compute PESQ


# ---- Inversions --------------------------------------------------------------------------------
class InversionConfig(Section):
    """What every inversion has.

    A kind from outside the package derives from this class and gives `name` a value of its own.
    """

    is_gain: ClassVar[bool] = False  # whether it is a gain on the noisy STFT, and no more

    name: str

    @property
    def gain(self) -> GainInversion:
        """The gain that losses and validation hear an estimate through: without phase steps."""
        return GainInversion()

    def reach(self, overlap: int) -> int:
        """Return how many frames on each side a sample depends on, beyond the network's.

        Args:
            overlap: Frames that share samples with a frame.
        """
        return overlap


class GainInversion(InversionConfig):
    """The estimate as a gain on the noisy STFT, whose phase is kept."""

    is_gain = True

    name: Literal["gain"] = "gain"
    max_gain_db: NonNegative = 0.0  # largest amplification by the gain
    gain_offset_db: float = 0.0  # added to the gain's decibels
    gain_smoothing: tuple[Odd, Odd] = (1, 1)  # frames and bands that its decibels are a mean over

    @property
    def gain(self) -> GainInversion:
        """Itself."""
        return self

    def reach(self, overlap: int) -> int:
        """See `InversionConfig`; smoothing adds to it."""
        return overlap + self.gain_smoothing[0] // 2


class GainPhaseInversion(GainInversion):
    """The gain, and Griffin-Lim steps that repair the phase."""

    name: Literal["gain+phase"] = "gain+phase"
    phase_steps: Count = 2

    def reach(self, overlap: int) -> int:
        """See `InversionConfig`; each phase step adds to it."""
        return super().reach(overlap) + overlap * self.phase_steps


class GriffinLimInversion(InversionConfig):
    """A waveform from the mel alone, from random phase."""

    name: Literal["griffinlim"] = "griffinlim"
    griffinlim_steps: Count = 60
    griffinlim_momentum: Unit = 0.99
    seed: Count = 0  # of the random phase
