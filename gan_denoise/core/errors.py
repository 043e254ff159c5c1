"""The base of all errors that a user can do something about."""

from __future__ import annotations


class GanDenoiseError(Exception):
    """A reason, and where there is one a way out; the text is one line with both.

    Every error of this package that is not a fault of the program is one of these. The command
    line prints the text and ends with `exit_code`.

    Args:
        reason: What is wrong, and with which file or setting.
        way_out: What to do about it; empty where the reason says it.
    """

    exit_code = 2

    def __init__(self, reason: str, way_out: str = ""):
        super().__init__(f"{reason}; {way_out}" if way_out else reason)
        self.reason, self.way_out = reason, way_out


class OutputError(GanDenoiseError):
    """A file or folder cannot be written; what was there is kept."""
