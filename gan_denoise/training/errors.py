"""The error of a training run that cannot go on."""

from __future__ import annotations

from gan_denoise.core.errors import GanDenoiseError


class TrainingError(GanDenoiseError):
    """Training cannot go on: what was seen, at which steps, and the way out."""

    exit_code = 1  # the work was begun and has failed
