"""The page for people."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from gan_denoise.reports.html_page import Page, new_figure


class _Cells(HTMLParser):
    """The text of each table cell, and the tags that were left open."""

    VOID = frozenset({"meta", "img"})

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


def test_what_goes_into_a_page_is_read_from_it_again(tmp_path):
    page = Page("Rain & <voices>")
    page.heading("One")
    page.text("a < b", note=True)
    page.table(["name", "score"], [["<b>x</b>", 1.23456], ["y & z", None]])
    text = page.write(tmp_path / "new" / "page.html").read_text(encoding="utf-8")

    parser = _Cells()
    parser.feed(text)

    assert parser.cells == ["<b>x</b>", "1.235", "y & z", ""]
    assert parser.open == []
    assert "<title>Rain &amp; &lt;voices&gt;</title>" in text
    assert "a &lt; b" in text


def test_a_column_of_numbers_stands_to_the_right_and_one_of_words_does_not(tmp_path):
    page = Page("p")
    page.table(["word", "number"], [["a", 1], ["b", 2]])
    text = page.write(tmp_path / "p.html").read_text(encoding="utf-8")
    assert re.findall(r'<th( class="number")?>(\w+)', text) == [
        ("", "word"), (' class="number"', "number")
    ]


def test_a_figure_is_a_picture_inside_the_page(tmp_path):
    pytest.importorskip("matplotlib")
    page = Page("p")
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1])
    page.figure(figure, 'a "line"')
    text = page.write(tmp_path / "p.html").read_text(encoding="utf-8")
    data = re.search(r"data:image/png;base64,([^\"]+)", text)[1]
    assert base64.b64decode(data).startswith(b"\x89PNG")
    assert 'alt="a &quot;line&quot;"' in text
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)  # it needs nothing from elsewhere


def test_a_sound_is_heard_again_as_it_was(tmp_path):
    audio = np.random.default_rng(0).uniform(-1.2, 1.2, 500)
    page = Page("p")
    page.audio(audio, 44100)
    text = page.write(tmp_path / "p.html").read_text(encoding="utf-8")
    data = re.search(r'src="data:audio/flac;base64,([^"]+)"', text)[1]
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
    assert rate == 44100
    np.testing.assert_allclose(heard, np.clip(audio, -1, 1), atol=1e-4)
