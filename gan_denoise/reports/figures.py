"""Matplotlib figures for pages: an empty one, and one as a data URI. They need the train extra."""

from __future__ import annotations

import base64
import io
import warnings
from typing import TYPE_CHECKING

from gan_denoise.core.text import escape_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Matplotlib figure without pyplot's global state or a window system.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def picture_uri(figure: Figure) -> str:
    """Return a figure as a data URI of a PNG; `$` and letters that no font has show as they are."""
    stream = io.BytesIO()
    _show_names(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # of a script that the font lacks
        figure.savefig(stream, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


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
