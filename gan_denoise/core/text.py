"""Text that a terminal, a page and a picture can show: names may hold any character."""

from __future__ import annotations

import sys
import unicodedata

UNSHOWN = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control, surrogates, ends of line


def shown(text: str) -> str:
    """Return a line for stdout, with escapes for what a name may hold and a terminal may not."""
    return _escaped(text, getattr(sys.stdout, "encoding", None))


def escaped(text: str, encoding: str | None = None) -> str:
    """Return text, line by line as `shown`, for what takes this encoding (UTF-8)."""
    return "\n".join(_escaped(line, encoding) for line in text.split("\n"))


def _escaped(line: str, encoding: str | None) -> str:
    if not line.isprintable():
        line = "".join(character.encode("unicode_escape").decode()
                       if unicodedata.category(character) in UNSHOWN else character
                       for character in line)
    return line.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")
