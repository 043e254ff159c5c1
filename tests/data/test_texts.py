"""Texts: the same as a tuple of strings, in arrays."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gan_denoise.data.texts import Texts

ITEMS = st.lists(st.one_of(st.none(), st.text(max_size=8)), max_size=12)


@given(ITEMS, ITEMS, st.data())
def test_they_act_as_the_strings_they_hold(first, second, data):
    texts = Texts.join([Texts.of(first), Texts.of(second)])
    items = first + second
    assert list(texts) == items
    assert [texts[number] for number in range(len(texts))] == items
    assert texts == tuple(items)
    chosen = data.draw(st.lists(st.integers(0, len(items) - 1))) if items else []
    assert list(texts.take(np.array(chosen, int))) == [items[number] for number in chosen]


def test_equal_strings_have_one_code_and_are_one_object():
    texts = Texts.of(["ann", "bob", None, "ann"])
    assert texts.codes.tolist() == [0, 1, -1, 0]
    assert texts.blob.tobytes() == b"annbob"
    first, _, _, last = texts
    assert first is last


def test_names_that_are_no_utf8_are_kept():
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    assert Texts.of([name])[0] == name
