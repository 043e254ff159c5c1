"""All settings and what they may be: frozen, strict, each with its unit.

`kinds` and `data_sources` have the sections that come in several kinds. `configs/base.yaml` says
why each value is what it is; `loader` reads them from files.
"""

from __future__ import annotations

import typing
from typing import Any, ClassVar, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from gan_denoise.config.data_sources import DataConfig, DataSource
from gan_denoise.config.kinds import (
    DiscriminatorConfig,
    GainInversion,
    GeneratorConfig,
    InversionConfig,
    MetricDiscriminator,
    PatchDiscriminator,
    TcnAutoencoder,
)
from gan_denoise.config.registry import KINDS, LOSSES
from gan_denoise.config.section import (
    PATH,
    Count,
    FrozenDict,
    NonNegative,
    Positive,
    Range,
    Section,
    Unit,
    freeze,
)

# Of config.yaml in runs and model folders; newer than this is refused. Format 1 held every key of
# every kind: those without effect are left out as it is read.
FORMAT_VERSION = 2


class AudioConfig(Section):
    """What recordings become before the networks see them."""

    sample_rate: Positive = 16000  # Hz; the rate the networks see


class MelConfig(Section):
    """The transform from samples to the mel that the networks see, and its scale."""

    ONLY_WITH: ClassVar = {"fmin": ("filters", "mel"), "fmax": ("filters", "mel")}

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


class LossConfig(Section):
    """What training minimises: the weights of the terms."""

    # Reconstruction; each term has a weight, 0 leaves it out.
    mse_weight: NonNegative = 1.0  # MSE of mel01, peak 1
    mel_weight: NonNegative = 0.0  # relative error of the 0.3-compressed linear mel
    magnitude_weight: NonNegative = 0.0  # power-compressed magnitude of the gained STFT
    complex_weight: NonNegative = 0.0  # power-compressed complex STFT
    snr_weight: NonNegative = 0.0  # decibels that the SNR of the gained STFT lies below 30
    estoi_weight: NonNegative = 0.0  # what the ESTOI of the gained STFT lies below 1
    compression: typing.Annotated[float, Field(gt=0.0, le=1.0)] = 0.3
    extra_weights: dict[str, NonNegative] = FrozenDict()  # of losses that plugins register
    # Against the discriminator.
    adversarial_weight: NonNegative = 0.01
    discriminator_warmup: Count = 200  # steps in which the discriminator alone learns
    adversarial_ramp: Count = 500  # steps from weight 0 to the full adversarial weight

    OF_WAVEFORMS: typing.ClassVar = (
        "magnitude_weight", "complex_weight", "snr_weight", "estoi_weight")

    @field_validator("extra_weights")
    @classmethod
    def _known(cls, value: Any) -> Any:
        if unknown := sorted(set(value) - set(LOSSES)):
            raise ValueError(f"there is no loss '{unknown[0]}'; plugins have registered "
                             f"{', '.join(sorted(LOSSES)) or 'none'}")
        return freeze(value)


class TrainingConfig(Section):
    """How long, how fast, and how training is watched and shown."""

    steps: Positive | None = None  # whichever of steps and minutes ends first
    minutes: typing.Annotated[float, Field(gt=0.0)] | None = None
    batch_size: Positive = 16
    accumulate: Positive = 1  # batches of batch_size that make one update
    crop_seconds: typing.Annotated[float, Field(gt=0.0, le=86_400.0)] = 2.0
    seed: Count = 0
    learning_rate: NonNegative = 1.5e-3
    # How both learning rates grow with the number of devices.
    scale_learning_rate: Literal["none", "linear", "sqrt"] = "none"
    final_rate: Unit = 0.02  # of the cosine, as a share of learning_rate
    warmup_steps: Count = 200
    optimizer: Literal["adam", "muon"] = "adam"  # of the generator; muon: of its matrices
    adam_betas: tuple[Unit, Unit] = (0.9, 0.999)
    clip_norm: NonNegative = 3.0  # of the global gradient norm; 0: no clipping
    ema_decay: Unit = 0.998
    precision: Literal["float32", "bfloat16", "float16"] = "float32"  # that networks compute in
    deterministic: bool = False  # bit-equal repetition, slower
    max_bad_steps: Positive = 3  # non-finite steps in a row before a roll-back
    select_by: Literal["si_sdr", "pesq_wb", "stoi", "estoi", "snr_mel"] = "si_sdr"
    watch: bool = True  # begin a dead start again, and end a run that stays dead
    # When, where, how wide: free to change on resume.
    strategy: Literal["none", "mirrored", "multi_worker"] = "none"  # the devices that train
    validate_every: Positive = 500  # steps
    checkpoint_every: Positive = 200  # steps
    log_every: Positive = 25  # steps
    threads: Count = 0  # 0: all cores
    data_workers: Positive = 2
    tracker: Literal["tensorboard", "wandb"] = "tensorboard"  # wandb: W&B beside TensorBoard


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
        return freeze(value)


class Config(Section):
    """All settings of a run or a model."""

    format_version: int = FORMAT_VERSION
    plugins: tuple[str, ...] = ()  # modules that register kinds of their own: see `registry`
    audio: AudioConfig = AudioConfig()
    mel: MelConfig = MelConfig()
    data: SerializeAsAny[DataSource] = DataConfig()
    generator: SerializeAsAny[GeneratorConfig] = TcnAutoencoder()
    discriminator: SerializeAsAny[DiscriminatorConfig] = PatchDiscriminator()
    losses: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()
    inversion: SerializeAsAny[InversionConfig] = GainInversion()
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
        if self.data.has_waveforms:
            return (self.crop_samples,)
        return (self.crop_frames, self.mel.bands)

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
        if not self.data.has_waveforms:
            self._check_features()
        if self.mel.n_mfcc and self.generator.head == "gain":
            raise ValueError("generator.head: gain has no meaning for MFCC; give direct, or "
                             "mel.n_mfcc=0")
        metric = isinstance(self.discriminator, MetricDiscriminator)
        if metric and (self.mel.n_mfcc or self.mel.filters != "mel"):
            raise ValueError("discriminator.kind: the metric discriminator judges a mel alone; "
                             "give patch, or mel.n_mfcc=0 and mel.filters=mel")
        return self

    def _check_features(self) -> None:
        """Features have no phase: nothing that listens to a waveform can be asked of them."""
        needing = [f"losses.{key}" for key in LossConfig.OF_WAVEFORMS if getattr(self.losses, key)]
        needing += [f"losses.extra_weights.{name}" for name in self.losses.extra_weights
                  if LOSSES[name].of == "spectrum"]
        if isinstance(self.discriminator, MetricDiscriminator):
            needing.append("discriminator.kind=metric")
        if self.training.select_by != "snr_mel":
            needing.append(f"training.select_by={self.training.select_by}")
        if needing:
            raise ValueError(f"data.features has no waveform, which {', '.join(needing)} "
                             f"need{'s' if len(needing) == 1 else ''}; take mse_weight, a patch "
                             "discriminator and select_by=snr_mel")


# Settings that name files and folders, by their type.
PATH_SETTINGS = frozenset(f"data.{key}" for key, field in KINDS["data"].fields().items()
                          if PATH in field.metadata)
# What only says when, where or how wide to run may change between a run and its resumption.
FREE_ON_RESUME = frozenset(
    f"training.{key}"
    for key in ("steps", "minutes", "strategy", "validate_every", "checkpoint_every", "log_every",
                "threads", "data_workers", "max_bad_steps", "tracker", "watch")
) | {"data.cache", "data.skip_missing", "discriminator.pesq_workers", "plugins"} | {
    f"tune.{key}" for key in TuneConfig.model_fields}
# Folders may move; their content may not change (the corpus hash is compared instead).
PATHS = (PATH_SETTINGS | {"data.valid_sets"}) - {"data.cache"}


def valid_keys() -> list[str]:
    """Return all keys of all kinds, as `section.key`."""
    keys = []
    for section, info in Config.model_fields.items():
        if section in KINDS:
            keys += [f"{section}.{key}" for key in KINDS[section].fields()]
        elif isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            keys += [f"{section}.{key}" for key in info.annotation.model_fields]
        else:
            keys.append(section)
    return keys
