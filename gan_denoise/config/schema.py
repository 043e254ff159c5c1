"""All settings and what they may be: frozen, strict, each with its unit.

`configs/base.yaml` says why each is what it is; `loader` reads them from files.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

FORMAT_VERSION = 1  # of config.yaml in runs and model folders; newer than this is refused


def _odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError(f"{value} has no middle; give an odd number")
    return value


Unit = typing.Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = typing.Annotated[float, Field(ge=0.0)]
Count = typing.Annotated[int, Field(ge=0)]
Positive = typing.Annotated[int, Field(ge=1)]
Odd = typing.Annotated[int, Field(ge=1), AfterValidator(_odd)]
Range = tuple[float, float]  # (low, high)
Channels = typing.Annotated[tuple[Positive, ...], Field(min_length=1)]
# Settings that name files and folders: text as it was given, never read as a number or a date.
PATH = "path"
FilePath = typing.Annotated[str | None, PATH]
Folders = typing.Annotated[tuple[str, ...], PATH]


class FrozenDict(dict):
    """A mapping that, like all settings, can be hashed and is not changed."""

    def __hash__(self) -> int:
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[type, tuple[dict]]:
        return FrozenDict, (dict(self),)

    def _refuse(self, *_: Any, **__: Any) -> typing.NoReturn:
        raise TypeError("settings are frozen")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse


class Section(BaseModel):
    """A frozen group of settings that refuses unknown keys and silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class AudioConfig(Section):
    sample_rate: Positive = 16000  # Hz; the rate the networks see


class MelConfig(Section):
    n_fft: Positive = 512  # samples
    win_length: Positive = 512  # samples, <= n_fft
    hop_length: Positive = 128  # samples
    filters: Literal["mel", "stft"] = "mel"  # stft: the bins themselves, n_mels = n_fft / 2 + 1
    n_mels: Positive = 80
    fmin: NonNegative = 0.0  # Hz
    fmax: float | None = None  # Hz; None: half the sample rate
    floor: typing.Annotated[float, Field(gt=0.0)] = 1e-5  # smallest linear mel that is told apart
    # mel01 = clip((20 log10(max(mel, floor)) + offset_db) / range_db, 0, 1)
    offset_db: float = 100.0
    range_db: typing.Annotated[float, Field(gt=0.0)] = 110.0
    # Cepstral coefficients of the log-mel, behind its bands; each from its range to [0, 1].
    n_mfcc: Count = 0
    mfcc_range: tuple[Range, ...] = ()

    @property
    def bands(self) -> int:
        """Values of a frame that the networks see: the mel's and the MFCC's."""
        return self.n_mels + self.n_mfcc

    @model_validator(mode="after")
    def _fits(self) -> MelConfig:
        bins = self.n_fft // 2 + 1
        if self.filters == "stft" and self.n_mels != bins:
            raise ValueError(f"filters: stft has {bins} bands at n_fft {self.n_fft}; give n_mels "
                             f"{bins}, not {self.n_mels}")
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc {self.n_mfcc} is more than n_mels {self.n_mels}")
        if len(self.mfcc_range) not in (0, self.n_mfcc):
            raise ValueError(f"mfcc_range: one (low, high) for each of {self.n_mfcc} coefficients, "
                             f"not {len(self.mfcc_range)}; none: gan-denoise features measures it")
        if any(low >= high for low, high in self.mfcc_range):
            raise ValueError("mfcc_range: each low must lie below its high")
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}")
        if self.hop_length > self.win_length // 2:
            raise ValueError(f"hop_length {self.hop_length} is over half of win_length: no inverse")
        return self


class DataConfig(Section):
    # Clean speech and noise, mixed on the fly ...
    speech: Folders = ()
    noise: Folders = ()
    rir: Folders = ()
    # ... or paired recordings: two folders, one folder of a known layout, or a manifest.
    noisy: FilePath = None
    clean: FilePath = None
    pairs: FilePath = None
    # ... or no sound at all: features from `gan-denoise features`, or `synthetic` spectrograms.
    features: FilePath = None
    # Validation material; left out, speakers are held out of the training material.
    valid_speech: Folders = ()
    valid_noise: Folders = ()
    valid_noisy: FilePath = None
    valid_clean: FilePath = None
    valid_fraction: typing.Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    merge_validation: bool = False  # train on the validation material too, for a final score
    valid_clips: Positive = 32
    valid_seconds: typing.Annotated[float, Field(gt=0.0)] = 4.0
    cache: FilePath = None  # folder of decoded audio; None: the user's cache folder
    # How a mixture is made. SNR is of whole-clip energies, normal and clipped to its range.
    snr_mean: float = 5.0  # dB
    snr_std: NonNegative = 7.0  # dB
    snr_range: Range = (-15.0, 30.0)  # dB
    peak_range: Range = (-50.0, 0.0)  # dBFS of the mixture
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

    @field_validator("speech", "noise", "rir", "valid_speech", "valid_noise", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        many = (value,) if isinstance(value, str) else value
        if not (isinstance(many, (tuple, list)) and all(isinstance(one, str) for one in many)):
            raise ValueError("should be the path of a folder, or a list of them, each of them text")
        return many

    @model_validator(mode="after")
    def _ordered(self) -> DataConfig:
        for key in ("snr_range", "peak_range", "resample_range", "pause_range", "noises",
                    "babble_voices"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"{key}: {low} is above {high}")
        return self

    @model_validator(mode="after")
    def _used(self) -> DataConfig:
        """A folder that nothing would read is a mistake, not a detail."""
        if self.noise and not self.speech:
            raise ValueError("noise is mixed with speech; give data.speech (or leave noise out)")
        if (self.valid_noisy is None) != (self.valid_clean is None) and self.noisy is not None:
            raise ValueError("valid_noisy and valid_clean belong together; give both")
        if (self.noisy or self.pairs) and (self.valid_speech or self.valid_noise):
            raise ValueError("paired recordings are validated on valid_noisy and valid_clean")
        others = ("speech", "noise", "rir", "noisy", "clean", "pairs", "valid_speech",
                  "valid_noise", "valid_noisy", "valid_clean")
        given = [key for key in others if getattr(self, key)]
        if self.features and given:
            raise ValueError(f"features hold noisy and clean already; leave out {', '.join(given)}")
        return self


class GeneratorConfig(Section):
    name: str = "tcn_autoencoder"
    head: Literal["gain", "direct"] = "gain"
    gain_floor_db: typing.Annotated[float, Field(gt=0.0)] = 60.0  # deepest cut of the gain head
    level_frames: Count = 251  # window of the level that the gain head's network sees relative to
    channels: Channels = (16, 24, 32, 48)  # of the encoder's convolutions
    time_strides: tuple[Literal[1, 2], ...] = (1, 2)  # of the first levels (tcn_autoencoder)
    batch_norm: bool = False  # after the convolutions of encoder and decoder (tcn_autoencoder)
    width: Positive = 176  # channels of the bottleneck (tcn_autoencoder)
    blocks: Positive = 10  # temporal convolutions in the bottleneck (tcn_autoencoder)
    kernel: Positive = 5  # their width in steps of the total time stride
    dilations: Channels = (1, 2, 4, 8, 16)  # repeated over the blocks
    dropout: typing.Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    frames: Count = 0  # of a network for windows of so many frames only; 0: any number
    latent: Count = 0  # dense vector that all of a window passes through (conv_autoencoder)

    @model_validator(mode="after")
    def _fits(self) -> GeneratorConfig:
        if self.latent and not self.frames:
            raise ValueError("latent needs a fixed number of frames; give generator.frames")
        if self.latent and self.name != "conv_autoencoder":
            raise ValueError("latent is of name=conv_autoencoder")
        return self


class DiscriminatorConfig(Section):
    kind: Literal["patch", "metric"] = "patch"  # clean or not; or its PESQ
    channels: Channels = (16, 32, 64)  # (patch)
    spectral_norm: bool = True  # (patch)
    learning_rate: NonNegative = 4e-4
    scored_clips: Positive = 8  # estimates of a batch that PESQ is computed of (metric)
    replay_clips: Positive = 8  # earlier estimates that the discriminator sees again in a step
    replay_size: Positive = 128  # estimates that are kept for it
    judges: Positive = 2  # processes that compute PESQ


class LossConfig(Section):
    # Reconstruction; each term has a weight, 0 leaves it out.
    mse_weight: NonNegative = 1.0  # MSE of mel01, peak 1
    mel_weight: NonNegative = 0.0  # relative error of the 0.3-compressed linear mel
    magnitude_weight: NonNegative = 0.0  # power-compressed magnitude of the gained STFT
    complex_weight: NonNegative = 0.0  # power-compressed complex STFT
    snr_weight: NonNegative = 0.0  # decibels that the SNR of the gained STFT lies below 30
    compression: typing.Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    # The adversary.
    adversarial: Literal["lsgan", "hinge", "bce"] = "lsgan"
    adversarial_weight: NonNegative = 0.01
    feature_weight: NonNegative = 0.0  # feature matching
    discriminator_warmup: Count = 200  # steps in which the discriminator alone learns
    adversarial_ramp: Count = 500  # steps from weight 0 to the full adversarial weight


class TrainingConfig(Section):
    steps: Positive | None = None  # whichever of steps and minutes ends first
    minutes: typing.Annotated[float, Field(gt=0.0)] | None = None
    batch_size: Positive = 16
    crop_seconds: typing.Annotated[float, Field(gt=0.0)] = 2.0
    seed: Count = 0
    learning_rate: NonNegative = 1.5e-3
    final_rate: Unit = 0.02  # of the cosine, as a share of learning_rate
    warmup_steps: Count = 200
    optimizer: Literal["adam", "muon"] = "adam"  # of the generator; muon: of its matrices
    adam_betas: tuple[Unit, Unit] = (0.9, 0.999)
    clip_norm: NonNegative = 3.0  # of the global gradient norm; 0: no clipping
    ema_decay: Unit = 0.998
    deterministic: bool = False  # bit-equal repetition, slower
    max_bad_steps: Positive = 3  # non-finite steps in a row before a roll-back
    select_by: Literal["si_sdr", "pesq_wb", "snr_mel"] = "si_sdr"
    watch: bool = True  # begin a dead start again, and end a run that stays dead
    # When, where, how wide: free to change on resume.
    validate_every: Positive = 500  # steps
    checkpoint_every: Positive = 200  # steps
    log_every: Positive = 25  # steps
    threads: Count = 0  # 0: all cores
    data_workers: Positive = 2
    tracker: Literal["tensorboard", "wandb"] = "tensorboard"  # wandb: W&B beside TensorBoard


class InversionConfig(Section):
    name: Literal["gain", "gain+phase", "griffinlim"] = "gain"
    max_gain_db: NonNegative = 0.0  # largest amplification by the gain
    gain_offset_db: float = 0.0  # added to the gain's decibels
    gain_smoothing: tuple[Odd, Odd] = (1, 1)  # frames and bands that its decibels are a mean over
    phase_steps: Count = 2  # of gain+phase
    griffinlim_steps: Count = 60
    griffinlim_momentum: Unit = 0.99
    seed: Count = 0  # of Griffin-Lim's random phase


class TuneConfig(Section):
    """What `tune` tries, and how; neither a run nor a model depends on it."""

    space: dict[str, Any] = FrozenDict()  # the values of a setting, by its key: see `space`
    trials: Positive = 30  # finished ones, after which the study ends
    timeout_minutes: typing.Annotated[float, Field(gt=0.0)] | None = None  # no trial begins later
    # What is searched for; None: training.select_by.
    metric: Literal["si_sdr", "pesq_wb", "snr_mel", "psnr_mel", "mse_mel"] | None = None
    startup_trials: Count = 8  # drawn at random; none is stopped early before so many are whole
    prune: bool = True  # stop a trial that stays below the median of the others
    warmup_validations: Count = 2  # of a trial, after which it may be stopped
    seed: Count = 0  # of what is drawn
    workers: Positive = 1  # trials at a time, which share the cores

    @field_validator("space")
    @classmethod
    def _frozen(cls, value: Any) -> Any:
        return _freeze(value)


class Config(Section):
    """All settings of a run or a model."""

    format_version: int = FORMAT_VERSION
    audio: AudioConfig = AudioConfig()
    mel: MelConfig = MelConfig()
    data: DataConfig = DataConfig()
    generator: GeneratorConfig = GeneratorConfig()
    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    inversion: InversionConfig = InversionConfig()
    tune: TuneConfig = TuneConfig()

    @property
    def crop_samples(self) -> int:
        """Length of a training crop in samples."""
        return round(self.training.crop_seconds * self.audio.sample_rate)

    @property
    def crop_frames(self) -> int:
        """Length of a training crop in frames."""
        return 1 + self.crop_samples // self.mel.hop_length

    @property
    def crop_shape(self) -> tuple[int, ...]:
        """Shape of a training crop: `[samples]`, or `[frames, bands]` of features."""
        if self.data.features is not None:
            return (self.crop_frames, self.mel.bands)
        return (self.crop_samples,)

    @model_validator(mode="after")
    def _fits(self) -> Config:
        half = self.audio.sample_rate / 2
        if self.mel.fmax is not None and self.mel.fmax > half:
            raise ValueError(f"mel.fmax {self.mel.fmax} Hz is above half of audio.sample_rate")
        if self.mel.fmin >= (self.mel.fmax or half):
            raise ValueError(f"mel.fmin {self.mel.fmin} Hz is not below fmax")
        frames = self.crop_frames
        if self.generator.frames not in (0, frames):
            fitting = (self.generator.frames - 0.5) * self.mel.hop_length / self.audio.sample_rate
            raise ValueError(f"training.crop_seconds: a crop has {frames} frames, generator.frames "
                             f"says {self.generator.frames}; give {fitting:.4g}")
        if self.data.features is not None:
            self._check_features()
        if self.mel.n_mfcc and self.generator.head == "gain":
            raise ValueError("generator.head: gain has no meaning for MFCC; give direct, or "
                             "mel.n_mfcc=0")
        if self.discriminator.kind == "metric" and (self.mel.n_mfcc or self.mel.filters != "mel"):
            raise ValueError("discriminator.kind: the metric discriminator judges a mel alone; "
                             "give patch, or mel.n_mfcc=0 and mel.filters=mel")
        if self.discriminator.kind == "metric" and self.losses.feature_weight:
            raise ValueError("losses.feature_weight: a metric discriminator has no features to "
                             "match; give 0, or discriminator.kind=patch")
        return self


    def _check_features(self) -> None:
        """Features have no phase: nothing that listens to a waveform can be asked of them."""
        heard = [f"losses.{key}" for key in ("magnitude_weight", "complex_weight", "snr_weight")
                 if getattr(self.losses, key)]
        if self.discriminator.kind == "metric":
            heard.append("discriminator.kind=metric")
        if self.training.select_by != "snr_mel":
            heard.append(f"training.select_by={self.training.select_by}")
        if heard:
            raise ValueError(f"data.features has no waveform, which {', '.join(heard)} "
                             f"need{'s' if len(heard) == 1 else ''}; take mse_weight, a patch "
                             "discriminator and select_by=snr_mel")


# Settings that name files and folders, by their type.
PATH_SETTINGS = frozenset(f"data.{key}" for key, field in DataConfig.model_fields.items()
                          if PATH in field.metadata)
# What only says when, where or how wide to run may change between a run and its resumption.
FREE_ON_RESUME = frozenset(
    f"training.{key}"
    for key in ("steps", "minutes", "validate_every", "checkpoint_every", "log_every", "threads",
                "data_workers", "max_bad_steps", "tracker", "watch")
) | {"data.cache"} | {f"tune.{key}" for key in TuneConfig.model_fields}
# Folders may move; their content may not change (the corpus hash is compared instead).
PATHS = PATH_SETTINGS - {"data.cache"}


def _freeze(value: Any) -> Any:
    if isinstance(value, Mapping):
        return FrozenDict({key: _freeze(item) for key, item in value.items()})
    return tuple(_freeze(item) for item in value) if isinstance(value, (list, tuple)) else value
