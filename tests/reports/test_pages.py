"""Pages of the templates: what goes in is read from them again, and nothing else is needed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from gan_denoise.reports import pages
from gan_denoise.reports.figures import colour, new_figure, picture_svg, series_colours
from gan_denoise.reports.pages import render, write_page


class _Cells(HTMLParser):
    """The text of each table cell, and the tags that were left open."""

    VOID = frozenset({"meta", "img", "link", "input"})

    def __init__(self):
        super().__init__()
        self.cells, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "td":
            self.cells[-1] += data


def page(body: str, **context: object) -> str:
    """Return a page whose content is given as a template."""
    source = ('{% extends "base.html.j2" %}'
              '{% from "macros.html.j2" import audio, figure, table with context %}'
              f"{{% block content %}}{body}{{% endblock %}}")
    return pages._environment().from_string(source).render({"title": "p", **context})


def test_what_goes_into_a_page_is_read_from_it_again(tmp_path):
    rows = [["<b>x</b>", 1.23456], ["y & z", None]]
    text = page("<p>{{ words }}</p>{{ table(['name', 'score'], rows, 'scores') }}",
                title="Rain & <voices>", words="a < b", rows=rows)
    parser = _Cells()
    parser.feed(write_page(tmp_path / "new" / "p.html", text).read_text(encoding="utf-8"))
    assert parser.cells == ["<b>x</b>", "1.235", "y & z", ""]
    assert parser.open == []
    assert "<title>Rain &amp; &lt;voices&gt;</title>" in text
    assert "a &lt; b" in text


def test_a_column_of_numbers_stands_to_the_right_and_one_of_words_does_not():
    text = page("{{ table(['word', 'number'], [['a', 1], ['b', 2]], 't') }}")
    assert re.findall(r'<th scope="col"( class="number")?>(\w+)', text) == [
        ("", "word"), (' class="number"', "number")
    ]


def test_a_name_that_is_not_given_is_an_error():
    with pytest.raises(UndefinedError, match="nothing_of_this_name"):
        page("{{ nothing_of_this_name }}")
    with pytest.raises(UndefinedError, match="'date' is undefined"):
        render("report.html.j2", title="p", lead=[], evaluation={"names": ["a"]})


def test_a_broken_name_is_written_as_an_escape(tmp_path):
    path = write_page(tmp_path / "p.html", page("{{ name }}", name="a\udcff.wav"))
    assert r"a\udcff.wav" in path.read_text(encoding="utf-8")


def test_a_figure_is_drawn_in_the_colours_of_the_page():
    pytest.importorskip("matplotlib")
    figure = new_figure(3, 2)
    axes, image = figure.subplots(1, 2)
    axes.plot([0, 1], color=series_colours()[0], label="<id=\"x\"> #000000")
    axes.bar([0, 1], [1, 1], color=colour("muted"), hatch="///", edgecolor="white")
    axes.legend()
    image.imshow([[0, 1]], interpolation="none", cmap="gray")
    twice = page("{{ figure(picture, caption) }}{{ figure(other, 'b') }}", caption='a "line"',
                 picture=picture_svg(figure), other=picture_svg(new_figure(1, 1)))
    assert 'aria-label="a &#34;line&#34;"' in twice
    drawn = re.search(r"<svg.*?</svg>", twice, re.DOTALL)[0]
    assert "&lt;id=\"x\"&gt; #000000</text>" in drawn
    for name in ("text", "page", "line", "muted", "series-1"):
        assert f"var(--{name})" in drawn
    assert re.findall("#[0-9a-f]{6}", drawn) == ["#000000"]  # no colour of its own
    css = str(pages._asset("page.css"))
    for name in set(re.findall(r"var\((--[\w-]+)\)", drawn)):
        assert css.count(f"{name}: #") == 2  # in the light and in the dark
    ids = re.findall(r' id="([^"]+)"', twice)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", drawn)) <= set(ids)
    assert "http" not in re.sub(r"base64,[^\"]+", "", twice)  # it needs nothing from elsewhere


@pytest.mark.parametrize("name", ["page.css", "player.css", "report.css", "player.js", "blind.js"])
def test_styles_and_scripts_stand_in_the_page_as_they_are(name):
    found = page("{{ asset(name) }}", name=name)
    text = pages._asset(name)
    assert isinstance(text, Markup)
    assert str(text) in found
    assert "</" not in text.replace("</label", "")  # it would end the element that holds it
    assert not re.search(r"https?:|url\(|@import", text)
