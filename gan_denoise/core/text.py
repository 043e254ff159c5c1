"""Text that a terminal, a page and a picture can show: names of files may hold any character."""

from __future__ import annotations

import unicodedata

# Categories of Unicode that are escaped: control, surrogates, line and paragraph separators.
ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")


def escape_line(text: str, encoding: str | None = None) -> str:
    r"""Return text as one printable line.

    Control characters and line breaks become escapes such as `\n` and `\x1b`, and so does what the
    encoding lacks.

    Args:
        text: Any text, for instance the name of a file.
        encoding: That of the stream the line is for; None: UTF-8.
    """
    if not text.isprintable():
        text = "".join(
            character.encode("unicode_escape").decode()
            if unicodedata.category(character) in ESCAPED_CATEGORIES else character
            for character in text
        )
    return text.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def escape_text(text: str, encoding: str | None = None) -> str:
    """Return text of several lines, each escaped as by `escape_line`."""
    return "\n".join(escape_line(line, encoding) for line in text.split("\n"))
