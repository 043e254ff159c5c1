"""The options of a denoising run: how much is removed, which channels, which output format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from gan_denoise.config.schema import NonNegative, Section, Unit

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Recognisers are trained on noise and stumble over what a denoiser leaves: half strength.
    "asr": {"strength": 0.5, "atten_lim_db": 10.0},
    # For listeners: full strength, but a floor of room noise that makes pauses sound natural.
    "podcast": {"strength": 1.0, "atten_lim_db": 24.0, "channels": "link", "peak_guard": True},
    # What is kept for later may be denoised again, never restored: little is removed.
    "archive": {"strength": 0.7, "atten_lim_db": 12.0, "channels": "link"},
}


class DenoiseOptions(Section):
    """What a user chooses beside the model; a preset is a set of these by name (`PRESETS`).

    Attributes:
        strength: Exponent of the gain: 1 removes all that the model finds, 0 nothing.
        atten_lim_db: Largest attenuation of a band in dB; None: no limit.
        channels: `keep` denoises each channel by itself; `link` gives all of them one gain, so
            that the stereo image stays; `mono` denoises and writes their mean.
        peak_guard: Whether a file whose output would pass full scale is turned down as a whole.
        format: Container of the output: `keep` for that of the input, or a key of
            `containers.FORMAT_SUFFIXES`.
        bit_rate: Bit rate of lossy outputs in kbit/s; None: about that of the input.
        preserve_times: Whether outputs get the input's time of modification.
    """

    strength: Unit = 1.0
    atten_lim_db: NonNegative | None = None
    channels: Literal["keep", "mono", "link"] = "keep"
    peak_guard: bool = False
    format: Literal["keep", "wav", "flac", "mp3", "opus", "m4a", "ogg"] = "keep"
    bit_rate: Annotated[int, Field(ge=6, le=1000)] | None = None
    preserve_times: bool = False

    @property
    def removes_nothing(self) -> bool:
        """Whether the output equals the input."""
        return self.strength == 0 or self.atten_lim_db == 0

    @property
    def needs_gain(self) -> bool:
        """Whether only an inversion that multiplies the input by a gain can follow the options."""
        return self.strength < 1 or self.atten_lim_db is not None or self.channels == "link"

    @classmethod
    def preset(cls, name: str | None = None, **given: Any) -> DenoiseOptions:
        """Return a preset's options; those given that are not None replace them.

        Args:
            name: A key of `PRESETS`; None: the defaults.
            **given: Options by their names.

        Raises:
            KeyError: When there is no such preset.
            pydantic.ValidationError: For a value out of range.
        """
        options = dict(PRESETS[name]) if name is not None else {}
        return cls(**options | {key: value for key, value in given.items() if value is not None})
