"""Matplotlib figures for pages, as SVG in the page's own colours. They need the train extra.

A figure is drawn once, in the light colours of `page.css`; in the page each of them is the custom
property of that name, so that a figure follows the page into the dark. What is black or white is
the page's text or ground. Letters are text in the page's font.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from markupsafe import Markup

from gan_denoise.core.text import escape_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = 7  # colours that tell series apart
# Matplotlib's own colours: text and axes, ground, grid, frame of a legend.
_DEFAULTS = {"#000000": "text", "#ffffff": "page", "#b0b0b0": "line", "#cccccc": "line"}
_LEFT_OUT = {"style", "metadata"}  # elements: of styles for the whole page, of where it comes from


def new_figure(width: float, height: float) -> Figure:
    """Return an empty Matplotlib figure without pyplot's global state or a window system.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def colour(name: str) -> str:
    """Return a colour of `page.css` in its light form, as `#rrggbb`.

    Args:
        name: Name of a custom property without its dashes: `text`, `muted`, `line`, `series-1`.
    """
    return _palette()[name]


def series_colours() -> tuple[str, ...]:
    """Return the colours of series, which people with any colour vision tell apart in pairs."""
    return tuple(colour(f"series-{number}") for number in range(1, SERIES + 1))


def picture_svg(figure: Figure) -> Markup:
    """Return a figure as an SVG element; `$` and what is no character show as they are."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    _show_names(figure)
    settings = {"svg.fonttype": "none", "svg.hashsalt": "gan_denoise"}
    with warnings.catch_warnings(), rc_context(settings):
        warnings.filterwarnings("ignore", message="Glyph")  # the browser has a font for it
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())
    unique = f"svg{hashlib.sha256(stream.getvalue()).hexdigest()[:8]}"  # ids of figures differ
    names = {value: name for name, value in reversed(_palette().items())} | _DEFAULTS
    for parent in list(root.iter()):
        for child in [each for each in parent if _local(each.tag) in _LEFT_OUT]:
            parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _attribute(_local(key), value, unique, names)
                          for key, value in element.attrib.items()
                          if not (element.tag == "g" and key == "id")}
        element.tail = None
    root.attrib = {"class": "drawn", "viewBox": root.attrib["viewBox"], "aria-hidden": "true"}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


@cache
def _palette() -> dict[str, str]:
    """Return the colours of the light scheme by name."""
    file = resources.files("gan_denoise.reports") / "templates" / "page.css"
    light = file.read_text(encoding="utf-8").partition("}")[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))


def _local(name: str) -> str:
    """Return a name without its namespace, which HTML does not have."""
    return name.rpartition("}")[2]


def _attribute(key: str, value: str, unique: str, names: dict[str, str]) -> str:
    """Return the value of an attribute in the page: colours, short numbers, an id of its own."""
    if key == "d":
        return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", value)
    if key == "id":
        return f"{unique}-{value}"
    if key == "href":
        return value.replace("#", f"#{unique}-", 1) if value.startswith("#") else value
    if key == "style":  # the font is the page's
        value = re.sub(r"font-family:[^;]*;? ?", "", value)
    value = value.replace("url(#", f"url(#{unique}-")
    return re.sub(r"#[0-9a-f]{6}\b", lambda found: (
        f"var(--{names[found[0]]})" if found[0] in names else found[0]), value)


def _show_names(figure: Figure) -> None:
    """Escape the texts of a figure: what is no character, and $, which begins a formula."""
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
