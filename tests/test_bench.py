"""The benchmark: its stages add up, and it says what it measured."""

from __future__ import annotations

import io
import json
import time

import pytest
from rich.console import Console

from gan_denoise import bench
from gan_denoise.enhance import Enhancer
from gan_denoise.model import Model


@pytest.fixture(scope="module")
def figures(tiny_model):
    return bench.measure(Enhancer.load(tiny_model, threads=1), seconds=4.0, runs=1)


def test_the_stages_add_up_to_the_whole(figures):
    speed = figures["speed"]
    assert all(value > 0 for value in speed.values())
    parts = sum(1 / speed[name] for name in ("network", "transforms", "file"))
    assert 0.4 < parts * speed["whole"] < 1.6


def test_what_was_measured_is_named(figures):
    assert (figures["model"], figures["inversion"], figures["threads"]) == ("model", "gain", 1)
    assert 0.05 < figures["start_seconds"] < 60
    assert figures["memory_mib"] is None or 30 < figures["memory_mib"] < 2000
    assert {"processor", "cores", "python", "onnxruntime"} <= set(figures["machine"])
    assert json.loads(json.dumps(figures)) == figures
    text = io.StringIO()
    bench.render(figures, Console(file=text, width=80))
    assert figures["machine"]["processor"] in text.getvalue().replace("\n", " ")
    assert "file to file" in text.getvalue()


def test_a_slower_network_shows_as_the_network(tiny_model, monkeypatch):
    enhancer = Enhancer.load(tiny_model, threads=1)
    monkeypatch.setattr(bench, "_start", lambda *_: 1.0)
    monkeypatch.setattr(bench, "_memory", lambda *_: None)

    class Slow:
        def __init__(self, session):
            self._session = session

        def run(self, *arguments):
            time.sleep(0.2)
            return self._session.run(*arguments)

    slow = Model(**{**vars(enhancer.model), "session": Slow(enhancer.model.session)})
    before = bench.measure(enhancer, seconds=2.0, runs=1)["speed"]
    after = bench.measure(
        Enhancer(slow, enhancer.inversion, enhancer.treatment, 1, 45.0, enhancer.pool), 2.0, 1
    )["speed"]
    assert after["network"] <= 10 < before["network"]
    assert after["transforms"] > 10
