"""The settings of each kind of data source: what is trained on.

A kind has the keys that have an effect on it, and no others. Which kind `data` is follows from the
keys that are given.
"""

from __future__ import annotations

import re
import typing
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gan_denoise.config.section import (
    Count,
    FilePath,
    Folders,
    FrozenDict,
    NonNegative,
    Positive,
    Range,
    Section,
    Unit,
    freeze,
)

SYNTHETIC = "synthetic"  # as data.features: made-up spectrograms
EASY_SETS = ("at_15_db", "clean")  # what validation on mixtures has beside its own sets


def _one_or_many(value: Any) -> Any:
    many = (value,) if isinstance(value, str) else value
    if not (isinstance(many, (tuple, list)) and all(isinstance(one, str) for one in many)):
        raise ValueError("should be the path of a folder, or a list of them, each of them text")
    return tuple(many)


class ValidationSet(Section):
    """Folders that one part of the validation clips is mixed from."""

    speech: Folders
    noise: Folders = ()  # (): that of training
    rir: Folders = ()  # with it every clip is in a room; (): as training says, in rooms of training

    _lists = field_validator("speech", "noise", "rir", mode="before")(_one_or_many)


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

    _lists = field_validator("speech", "noise", "rir", "valid_speech", "valid_noise",
                             mode="before", check_fields=False)(_one_or_many)

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
    skip_missing: bool = False  # go on without the sample files that a corpus lacks
    valid_sets: dict[str, ValidationSet] = FrozenDict()  # or several, each scored apart, by name
    easy_clips: Count = 8  # also scored at 15 dB, and so many without noise
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
    made_up: Unit = 0.0  # probability of an added made-up noise: hum, sirens, clicks, music ...
    noiseless: Unit = 0.0  # probability that no noise is added
    rumble: Unit = 0.0  # probability of loud noise below speech, whatever else is added
    clipping: Unit = 0.0  # probability that the noisy recording is clipped
    band_limit: Unit = 0.0  # probability of a telephone's band, or of one edge of it, on both
    codec: Unit = 0.0  # probability of a lossy codec on both

    @field_validator("valid_sets")
    @classmethod
    def _named_sets(cls, value: Any) -> Any:
        for name in value:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in EASY_SETS:
                raise ValueError(f"'{name}' is no name for a set; take small letters, "
                                 f"digits and _, but not {' or '.join(EASY_SETS)}")
        return freeze(value)

    @model_validator(mode="after")
    def _used(self) -> DataConfig:
        if self.noise and not self.speech:
            raise ValueError("noise is mixed with speech; give data.speech (or leave noise out)")
        if self.valid_sets and (self.valid_speech or self.valid_noise):
            raise ValueError("give either valid_sets, or valid_speech and valid_noise")
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
    skip_missing: bool = False
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
