"""Report pages: one HTML file of text, tables, figures and audio that refers to no other file."""

from __future__ import annotations

import base64
import html
import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.text import escape_text

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #8884; text-align: left; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 1.5rem 0; } img { max-width: 100%; background: white; }
figcaption, .note { color: #777; font-size: .9rem; }
"""


class Page:
    """An HTML page; what is added appears in that order, and all text is escaped.

    Args:
        title: Title and first heading of the page.
    """

    def __init__(self, title: str):
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")

    def text(self, text: str, note: bool = False) -> None:
        """Add a paragraph; a note is smaller and grey."""
        kind = ' class="note"' if note else ""
        self._parts.append(f"<p{kind}>{html.escape(text)}</p>")

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Add a table; columns of numbers are aligned to the right, floats have four digits.

        Args:
            columns: Headings.
            rows: Cells of each row: strings, numbers, or None for an empty cell.
        """
        rows = [list(row) for row in rows]
        numeric = [
            any(row[place] is not None for row in rows)
            and all(not isinstance(row[place], str) for row in rows)
            for place in range(len(columns))
        ]

        def line(tag: str, cells: Iterable[Any]) -> str:
            kinds = [' class="number"' if number else "" for number in numeric]
            return "<tr>" + "".join(
                f"<{tag}{kind}>{html.escape(_shown(cell))}</{tag}>"
                for cell, kind in zip(cells, kinds, strict=True)
            ) + "</tr>"

        body = "\n".join(line("td", row) for row in rows)
        self._parts.append(f"<table>\n{line('th', columns)}\n{body}\n</table>")

    def figure(self, figure: Figure, caption: str) -> None:
        """Add a Matplotlib figure as a picture inside the page."""
        stream = io.BytesIO()
        _show_names(figure)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font lacks
            figure.savefig(stream, format="png", dpi=110)
        data = base64.b64encode(stream.getvalue()).decode()
        words = html.escape(caption, quote=True)
        self._parts.append(f'<figure><img alt="{words}" src="data:image/png;base64,{data}">'
                           f"<figcaption>{words}</figcaption></figure>")

    def audio(self, waveform: np.ndarray, sample_rate: int) -> None:
        """Add a player of a waveform, stored as FLAC with 16 bits.

        Args:
            waveform: float `[samples]` or `[samples, channels]`.
            sample_rate: Rate of the waveform in Hz.
        """
        import soundfile

        stream = io.BytesIO()
        soundfile.write(stream, waveform, sample_rate, format="FLAC", subtype="PCM_16")
        data = base64.b64encode(stream.getvalue()).decode()
        self._parts.append(f'<audio controls preload="none" src="data:audio/flac;base64,{data}">'
                           "</audio>")

    def write(self, path: str | Path) -> Path:
        """Write the page and return its path; the file appears whole or not at all.

        Raises:
            OutputError: When it cannot be written.
        """
        text = "\n".join([
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head><body>",
            *self._parts, "</body></html>\n",
        ])
        path = Path(path)
        content = text.encode("utf-8", "backslashreplace")
        write_atomically(path, lambda file: file.write(content))
        return path


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Matplotlib figure without pyplot's global state or a window system.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _show_names(figure: Figure) -> None:
    """Escape the texts of a figure: characters that no font has, and $, which begins a formula."""
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    def literal(text: str) -> str:
        return escape_text(text).replace("$", r"\$")

    for text in figure.findobj(Text):
        text.set_text(literal(text.get_text()))
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = axis.get_major_formatter()
            if isinstance(labels, FuncFormatter):  # given with the ticks, not made of numbers
                axis.set_major_formatter(FuncFormatter(
                    lambda value, place, labels=labels: literal(labels(value, place))))


def _shown(cell: Any) -> str:
    if cell is None:
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
