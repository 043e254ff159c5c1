"""The settings of each kind of data source, generator, discriminator and inversion.

A kind has the keys that have an effect on it, and no others. Generators, discriminators and
inversions are named by a key; what `data` is a source of follows from the keys that are given.
Kinds from outside the package are classes derived from the ones here: see `registry`.
"""

from __future__ import annotations

import typing
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gan_denoise.config.section import (
    Channels,
    Count,
    FilePath,
    Folders,
    NonNegative,
    Odd,
    Positive,
    Range,
    Section,
    Unit,
)

SYNTHETIC = "synthetic"  # as data.features: made-up spectrograms


# ---- Data: what is trained on ------------------------------------------------------------------
class DataSource(Section):
    """What every source has.

    Attributes:
        TITLE: What the source is called in messages.
        SOURCES: The keys that name its material.
        has_waveforms: Whether it gives waveforms, not features.
    """

    TITLE: ClassVar[str]
    SOURCES: ClassVar[tuple[str, ...]]
    has_waveforms: ClassVar[bool] = True

    valid_clips: Positive = 32
    merge_validation: bool = False  # train on the validation material too, for a final score

    @property
    def named(self) -> bool:
        """Whether any material is named."""
        return any(getattr(self, key) for key in self.SOURCES)

    @field_validator("speech", "noise", "rir", "valid_speech", "valid_noise", mode="before",
                     check_fields=False)
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        many = (value,) if isinstance(value, str) else value
        if not (isinstance(many, (tuple, list)) and all(isinstance(one, str) for one in many)):
            raise ValueError("should be the path of a folder, or a list of them, each of them text")
        return many

    @model_validator(mode="after")
    def _ordered(self) -> DataSource:
        for key in ("snr_range", "peak_range", "resample_range", "pause_range", "noises",
                    "babble_voices", "speech_range"):
            low, high = getattr(self, key, (0, 0))
            if low > high:
                raise ValueError(f"{key}: {low} is above {high}")
        return self


class RecordedSource(DataSource):
    """What every source of recordings has."""

    valid_fraction: typing.Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    valid_seconds: typing.Annotated[float, Field(gt=0.0)] = 4.0
    cache: FilePath = None  # folder of decoded audio; None: the user's cache folder
    peak_range: Range = (-50.0, 0.0)  # dBFS of the noisy clip


class DataConfig(RecordedSource):
    """Clean speech and noise, mixed on the fly; without folders, the recipe of a mixture."""

    TITLE = "recordings to mix (data.speech, data.noise)"
    SOURCES = ("speech", "noise")

    speech: Folders = ()
    noise: Folders = ()
    rir: Folders = ()
    speech_weights: tuple[NonNegative, ...] = ()  # of each speech folder; (): all equal
    # Validation material; left out, speakers are held out of the training material.
    valid_speech: Folders = ()
    valid_noise: Folders = ()
    # How a mixture is made. SNR is of whole-clip energies, normal and clipped to its range.
    snr_mean: float = 5.0  # dB
    snr_std: NonNegative = 7.0  # dB
    snr_range: Range = (-15.0, 30.0)  # dB
    noises: tuple[Positive, Positive] = (1, 3)  # recorded noises in one mixture
    resample_noise: Unit = 0.3  # probability that a recorded noise is sped up or slowed down
    resample_range: Range = (0.75, 1.35)
    loop_noise: Unit = 0.7  # a short noise is looped with this probability, else placed once
    coloured: Unit = 0.3  # probability of an added coloured noise
    babble: Unit = 0.2  # probability of added babble of other voices
    babble_voices: tuple[Positive, Positive] = (1, 5)
    equalise: Unit = 0.5  # probability of a random smooth filter on speech, and on noise
    equalise_db: NonNegative = 6.0  # its largest boost or cut
    reverberate: Unit = 0.5  # probability of a room impulse response, where `rir` is given
    early_ms: NonNegative = 50.0  # of the impulse response after its direct path: in the target
    pause_range: Range = (0.1, 0.5)  # seconds between joined utterances
    resample_speech: Unit = 0.0  # probability that speech is played faster or slower, by ...
    speech_range: Range = (0.85, 1.2)
    made_up: Unit = 0.0  # probability of an added made-up noise: hum, sirens, alarms, clicks ...
    noiseless: Unit = 0.0  # probability that no noise is added
    clipping: Unit = 0.0  # probability that the noisy recording is clipped
    band_limit: Unit = 0.0  # probability of a telephone's band, or of one edge of it, on both
    codec: Unit = 0.0  # probability of a lossy codec on both

    @model_validator(mode="after")
    def _used(self) -> DataConfig:
        if self.noise and not self.speech:
            raise ValueError("noise is mixed with speech; give data.speech (or leave noise out)")
        # A model's settings name no folders, and keep the weights as part of its recipe.
        if self.speech and len(self.speech_weights) not in (0, len(self.speech)):
            raise ValueError(f"speech_weights: {len(self.speech_weights)} weights for "
                             f"{len(self.speech)} folders of data.speech; give one for each")
        if self.speech_weights and not sum(self.speech_weights):
            raise ValueError("speech_weights: all are 0; give one folder a weight above 0")
        return self


class CleanData(RecordedSource):
    """Clean speech alone: reconstruction, or features that noise is added to."""

    TITLE = "clean speech alone (data.clean)"
    SOURCES = ("clean",)

    clean: FilePath = None
    valid_clean: FilePath = None
    valid_speech: Folders = ()
    # Of the noise that is added to features of this speech, as they are read.
    snr_mean: float = 5.0  # dB
    snr_std: NonNegative = 7.0  # dB
    snr_range: Range = (-15.0, 30.0)  # dB
    equalise: Unit = 0.5  # probability of a random smooth filter
    equalise_db: NonNegative = 6.0  # its largest boost or cut
    pause_range: Range = (0.1, 0.5)  # seconds between joined utterances


class PairData(RecordedSource):
    """Paired recordings: two folders, one folder of a known layout, or a manifest."""

    TITLE = "paired recordings (data.noisy and data.clean, or data.pairs)"
    SOURCES = ("noisy", "clean", "pairs")

    noisy: FilePath = None
    clean: FilePath = None
    pairs: FilePath = None
    valid_noisy: FilePath = None
    valid_clean: FilePath = None

    @model_validator(mode="after")
    def _used(self) -> PairData:
        """A folder that nothing would read is a mistake, not a detail."""
        if (self.valid_noisy is None) != (self.valid_clean is None):
            raise ValueError("valid_noisy and valid_clean belong together; give both")
        return self


class FeatureSource(DataSource):
    """What every source of features has."""

    SOURCES = ("features",)
    has_waveforms = False

    # Of the noise that is added to features of clean speech, as they are read.
    snr_mean: float = 5.0  # dB
    snr_std: NonNegative = 7.0  # dB
    snr_range: Range = (-15.0, 30.0)  # dB


class FeatureData(FeatureSource):
    """A folder from `gan-denoise features`."""

    TITLE = "features (data.features)"

    features: FilePath = None


class SyntheticData(FeatureSource):
    """Made-up spectrograms."""

    TITLE = "made-up spectrograms (data.features=synthetic)"

    features: Literal["synthetic"] = SYNTHETIC


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
