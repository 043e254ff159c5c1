"""Pages of the templates in `templates/`: one HTML file each that refers to no other file or host.

A page extends `base.html.j2`, whose blocks are `head` (styles of its own), `lead` (below the
heading), `content` and `scripts`. Its context needs `title`. `page.css` gives every page one look,
light and dark by the reader's system: classes `note` (smaller, grey), `number` (a cell aligned to
the right), `scroll` (round a wide table), `good`, `bad`, `hidden` (for screen readers only), and on
a button `primary` or `aria-pressed="true"`. Custom properties such as `--accent` and `--series-1`
to `--series-7` are the colours.

`macros.html.j2`, imported with context:

- `table(columns, rows, label)`: headings, lists of cells (text, numbers, None), what it holds;
- `figure(picture, caption)`: a drawing (`figures.picture_svg`) and its words;
- `audio(uri, label)`: the browser's player of one sound (`players.audio_uri`).

`player.html.j2`, imported with context: one player that switches between sounds at one position:

- `player_style()` in the block `head`, `player_script()` once in the block `scripts`;
- `player(tracks, label, ident)`: `players.Track`s (`players.make_tracks` makes them of waveforms),
  what is played, and an id that is unique on the page;
- `player_keys()`: a paragraph that tells the keys.

An element of the class `player` that is added later is bound by the script's `bindPlayer(element)`.
The global functions of all templates are `asset(name)` (the text of a style or script, as it is)
and `numeric(rows, count)`; the filter `shown` writes a cell. A name that the context lacks raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.locations import location

_FOLDER = "templates"


def render(template: str, **context: Any) -> str:
    """Return the page of a template; all text of the context is escaped.

    Args:
        template: Name of a file in `templates/`.
        **context: What the template shows.

    Raises:
        jinja2.UndefinedError: When the template uses a name that is not given.
    """
    return _environment().get_template(template).render(context)


def write_page(path: str | Path, text: str) -> Path:
    """Write a page and return its path; the file appears whole or not at all.

    A character that UTF-8 cannot hold, as in a broken file name, is written as an escape.

    Raises:
        OutputError: When it cannot be written.
    """
    path = location(path)
    content = text.encode("utf-8", "backslashreplace")
    write_atomically(path, lambda file: file.write(content))
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gan_denoise.reports", _FOLDER), autoescape=True,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )
    environment.globals |= {"asset": _asset, "numeric": _numeric}
    environment.filters["shown"] = _shown
    return environment


@cache
def _asset(name: str) -> Markup:
    """Return a style or script of the package, to stand in the page as it is."""
    file = resources.files("gan_denoise.reports") / _FOLDER / name
    return Markup(file.read_text(encoding="utf-8"))


def _numeric(rows: Sequence[Sequence[Any]], count: int) -> list[bool]:
    """Return for each column whether it holds numbers and empty cells only, and a number."""
    return [
        any(row[place] is not None for row in rows)
        and all(not isinstance(row[place], str) for row in rows)
        for place in range(count)
    ]


def _shown(cell: Any) -> str:
    """Return the text of a cell: floats with four digits, None empty."""
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
