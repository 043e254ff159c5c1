"""What a user asks of a denoising run beyond the model: how much, which channels, which format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from gan_denoise.config.schema import NonNegative, Section, Unit

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Recognisers are trained on noise and stumble over what a denoiser leaves: a light hand.
    "asr": {"strength": 0.5, "atten_lim_db": 10.0},
    # For listeners: all of it, but a floor of room that makes pauses sound natural.
    "podcast": {"strength": 1.0, "atten_lim_db": 24.0, "channels": "link", "peak_guard": True},
    # What is kept for later may be cleaned again, never restored: little, and the image as it was.
    "archive": {"strength": 0.7, "atten_lim_db": 12.0, "channels": "link"},
}


class Treatment(Section):
    """Settings of a denoising run; a preset is a few of them by one name (`PRESETS`).

    Attributes:
        strength: Exponent of the gain: 1 all of it, 0 leaves the recording as it is.
        atten_lim_db: No band is cut by more than this many dB; None: as far as the model goes.
        channels: `keep` cleans each by itself; `link` gives all of them one gain, so that the
            stereo image stays; `mono` cleans and writes their mean.
        peak_guard: Whether a file whose output would pass full scale is turned down as a whole.
        format: Container of the output: that of the input, or another (`containers.FORMATS`).
        bit_rate: Of lossy outputs, kbit/s; None: about that of the input.
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
    def neutral(self) -> bool:
        """Whether nothing at all is removed."""
        return self.strength == 0 or self.atten_lim_db == 0

    @property
    def whole(self) -> bool:
        """Whether an inversion without a gain can do it: all of it, each channel by itself."""
        return self.strength == 1 and self.atten_lim_db is None and self.channels != "link"

    def soften(self, gain: np.ndarray) -> np.ndarray:
        """Return a gain, 0 to 1, to the power of the strength, and not below the floor."""
        softened = gain if self.strength == 1 else gain ** np.float32(self.strength)
        if self.atten_lim_db is None:
            return softened
        return np.maximum(softened, np.float32(10 ** (-self.atten_lim_db / 20)))

    @classmethod
    def preset(cls, name: str | None = None, **given: Any) -> Treatment:
        """Return a preset's settings; what is given and not None goes over them.

        Raises:
            KeyError: When there is no such preset.
            pydantic.ValidationError: For a value out of range.
        """
        settings = dict(PRESETS[name]) if name is not None else {}
        return cls(**settings | {key: value for key, value in given.items() if value is not None})
