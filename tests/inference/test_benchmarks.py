"""The benchmark, on a clock that ticks when it is looked at: what is counted where is exact."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import pytest
from conftest import tiny_config
from rich.console import Console

from gan_denoise.cli.models import print_benchmark
from gan_denoise.cli.training_output import render_step_benchmark
from gan_denoise.dsp.mel import Mel
from gan_denoise.inference import benchmark
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.models.complexity import macs_per_frame
from gan_denoise.models.generators import build_generator
from gan_denoise.training import step_benchmark

TICK = 0.25  # seconds from one look at the clock to the next


class Clock:
    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        self.now += TICK
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(benchmark, "time", clock)
    return clock


@pytest.fixture
def no_processes(monkeypatch):
    monkeypatch.setattr(benchmark, "_start", lambda *_: 1.0)
    monkeypatch.setattr(benchmark, "_memory", lambda *_: None)


def test_every_stage_is_counted_once(tiny_model, clock, no_processes):
    # One look before and one after each piece of work; the network's lie within the others'.
    speed = benchmark.measure(Enhancer.load(tiny_model, threads=1), seconds=4.0, runs=2)["speed"]
    assert speed == {"network": 4 / TICK, "transforms": 4 / (2 * TICK), "file": 4 / TICK,
                     "whole": round(4 / (3 * TICK), 1)}


def test_a_slower_network_shows_as_the_network(tiny_model, clock, no_processes):
    enhancer = Enhancer.load(tiny_model, threads=1)

    def slow(*arguments):
        clock.now += 2.0
        return enhancer.model.session.run(*arguments)

    model = dataclasses.replace(enhancer.model, session=SimpleNamespace(run=slow))
    slowed = Enhancer(model, enhancer.inversion, enhancer.options, 1, 45.0, enhancer.pool)
    speed = benchmark.measure(slowed, seconds=4.0, runs=1)["speed"]
    assert speed["network"] == round(4 / (2 + TICK), 1)
    assert speed["transforms"] == 4 / (2 * TICK)
    assert speed["whole"] == round(4 / (2 + 3 * TICK), 1)


def test_what_was_measured_is_named(tiny_model):
    figures = benchmark.measure(Enhancer.load(tiny_model, threads=1), seconds=4.0, runs=1)
    assert (figures["model"], figures["inversion"], figures["threads"]) == ("model", "gain", 1)
    assert all(value > 0 for value in figures["speed"].values())
    assert figures["start_seconds"] > 0
    assert figures["memory_mib"] is None or figures["memory_mib"] > 30
    assert {"processor", "cores", "python", "onnxruntime"} <= set(figures["machine"])
    assert json.loads(json.dumps(figures)) == figures
    text = io.StringIO()
    print_benchmark(figures, Console(file=text, width=80))
    assert figures["machine"]["processor"] in text.getvalue().replace("\n", " ")
    assert "file to file" in text.getvalue()


# ---- Training ----------------------------------------------------------------------------------
def test_a_training_step_is_told_in_audio_and_in_work(monkeypatch, clock):
    monkeypatch.setattr(step_benchmark, "time", clock)
    config = tiny_config()
    figures = step_benchmark.measure_training(config, steps=2)
    heard = config.training.batch_size * config.training.crop_seconds
    assert figures["audio_seconds_per_second"] == pytest.approx(heard / TICK, abs=0.05)
    assert figures["step_ms"] == figures["network_ms"] == 1000 * TICK
    assert figures["peak_gflops"] == round(2 * 2048**3 / TICK / 1e9, 1)
    shown = io.StringIO()
    render_step_benchmark(figures, Console(file=shown, width=200))
    assert f"{1000 * TICK:g} ms a step" in shown.getvalue()


def test_a_training_step_on_features_is_timed(monkeypatch, clock):
    monkeypatch.setattr(step_benchmark, "time", clock)
    monkeypatch.setattr(step_benchmark, "SIZE", 64)
    config = tiny_config(data={"features": "synthetic"}, training={"select_by": "snr_mel"})
    assert step_benchmark.measure_training(config, steps=1)["step_ms"] == 1000 * TICK


@pytest.mark.system
def test_a_networks_work_is_three_times_its_forward_pass(monkeypatch, clock):
    monkeypatch.setattr(step_benchmark, "time", clock)
    monkeypatch.setattr(step_benchmark, "SIZE", 64)
    for seconds in (1.0, 2.0):
        config = tiny_config(training={"crop_seconds": seconds, "batch_size": 8},
                             generator={"channels": [32, 64]})
        generator = build_generator(config)
        frames = Mel(config.audio, config.mel).frames(config.crop_samples)
        expected = 6 * macs_per_frame(generator) * 8 * frames / TICK / 1e9
        found = step_benchmark.measure_training(config, steps=1)["network_gflops"]
        assert found == pytest.approx(expected, abs=0.051)
        assert found > 0.5
