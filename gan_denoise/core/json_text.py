"""JSON of files and requests, which may come from anybody."""

from __future__ import annotations

import json
import re
from typing import Any

MOST_LEVELS = 50  # of lists and mappings in each other; far from where Python ends a recursion
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")


def parse_json(content: str | bytes) -> Any:
    """Return the value of a JSON text.

    Python's own reader recurses to the end of the stack where lists stand in lists, and that error
    comes up in whatever is freed meanwhile, too: such a text is refused before.

    Args:
        content: The text; bytes are UTF-8.

    Raises:
        ValueError: When it is no JSON, or has more than `MOST_LEVELS` levels.
    """
    text = content if isinstance(content, str) else content.decode("utf-8", "surrogatepass")
    if text.count("[") + text.count("{") > MOST_LEVELS:
        _check_levels(text)
    return json.loads(text)


def _check_levels(text: str) -> None:
    level = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        level += 1 if bracket in "[{" else -1
        if level > MOST_LEVELS:
            raise ValueError("nested too deep")
