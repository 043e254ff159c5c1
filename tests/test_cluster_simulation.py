"""The simulation of many workers gives the answers that can be worked out on paper."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import cluster_check
import simulate_cluster
from cluster_costs import Costs, measure
from cluster_simulation import Step, all_reduce_seconds, dealt, shared, simulate
from cluster_training import NORM_EXCHANGES, StepCosts
from simulate_cluster import Archive, Site

COSTS = Costs(
    start=1.0, worker_start=1.0, plan=0.001, decide=0.001, dispatch=0.001,
    stages={"decode": (0.0, 0.001), "network": (0.01, 0.006), "encode": (0.0, 0.001),
            "rest": (0.0, 0.002)},
    journal_append=1e-4, journal_read=1e-5, bytes_in=20_000, bytes_out=20_000,
)  # fmt: skip
# Nothing but the workers' own work takes time.
FREE = Site(bandwidth=math.inf, requests=math.inf, latency=0.0, link=math.inf, append=0.0,
            ready=0.0)


# ---- Known answers -----------------------------------------------------------------------------
@given(costs=st.lists(st.floats(0.01, 10), min_size=1, max_size=30))
def test_one_worker_takes_the_sum(costs):
    tasks = [[Step(held=seconds / 2), Step("store", seconds / 2)] for seconds in costs]
    outcome = simulate(tasks, shared(len(tasks), 1), {"store": 1}, [Step(held=3.0)])
    assert outcome.seconds == pytest.approx(3 + sum(costs))


@given(count=st.integers(1, 60), workers=st.integers(1, 20), deal=st.booleans())
def test_equal_tasks_that_share_nothing_go_in_rounds(count, workers, deal):
    queues = (dealt if deal else shared)(count, workers)
    outcome = simulate([[Step(held=2.0)]] * count, queues, {})
    assert outcome.seconds == pytest.approx(2.0 * math.ceil(count / workers))


@pytest.mark.parametrize("workers", [8, 50, 200])
def test_a_saturated_store_bounds_the_throughput_at_its_bandwidth(workers):
    size, bandwidth, count = 10e6, 1e9, 2000
    tasks = [[Step("store", size / bandwidth), Step(held=0.05)]] * count
    outcome = simulate(tasks, shared(count, workers), {"store": 1})
    assert size * count / outcome.seconds <= bandwidth
    assert size * count / outcome.seconds > 0.97 * bandwidth
    assert outcome.saturated == "store"


def test_two_places_serve_twice_as_many():
    tasks = [[Step("cores", 1.0)]] * 12
    for cores, seconds in ((1, 12.0), (2, 6.0), (3, 4.0)):
        assert simulate(tasks, shared(12, 4), {"cores": cores}).seconds == seconds


def test_latency_is_the_workers_own():
    tasks = [[Step("store", 0.0, then=1.0)]] * 10
    assert simulate(tasks, shared(10, 10), {"store": 1}).seconds == 1.0


# ---- Lost workers ------------------------------------------------------------------------------
def test_a_lost_workers_task_is_done_by_another():
    lifetimes = itertools.chain([1.5], itertools.repeat(math.inf))
    outcome = simulate([[Step(held=1.0)]] * 5, shared(5, 2), {}, [Step(held=0.2)], lifetimes, 1.0)
    assert outcome.done == [1] * 5
    assert outcome.lost == 1
    # Two are done at 1.2 s. One worker is lost at 1.5 s, which is noticed at 2.5 s; the other has
    # begun the last one by then. The lost task is begun again at 2.7 s.
    assert outcome.seconds == pytest.approx(3.7)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), workers=st.integers(1, 8), deal=st.booleans())
def test_every_task_is_done_once_whoever_is_lost(seed, workers, deal):
    draws = random.Random(seed)
    count = 40
    tasks = [[Step("store", 0.1), Step(held=draws.uniform(0.5, 1.5))] for _ in range(count)]
    queues = (dealt if deal else shared)(count, workers)
    outcome = simulate(tasks, queues, {"store": 1}, [Step(held=0.5)],
                       iter(lambda: draws.expovariate(1 / 8), None), noticed=1.0)
    assert outcome.done == [1] * count


def test_losses_take_time():
    archive, runs = Archive(100, 10), []
    for hours in (0.0, 0.02):
        runs.append(simulate_cluster.driver_run(COSTS, archive, FREE, 10,
                                                simulate_cluster.failures(hours)))
    assert runs[0].lost == 0 < runs[1].lost
    assert runs[1].seconds > runs[0].seconds


# ---- Recordings --------------------------------------------------------------------------------
def test_a_cluster_without_bounds_divides_the_work():
    archive = Archive(200, 30)
    work = archive.files * COSTS.file(30)
    free = Costs(**{**vars(COSTS), "plan": 0.0, "decide": 0.0, "dispatch": 0.0, "journal_read": 0.0,
                    "start": 0.0, "worker_start": 0.0})
    for workers in (1, 10, 100):
        for run in (lambda n: simulate_cluster.shard_run(free, archive, FREE, n),
                    lambda n: simulate_cluster.driver_run(free, archive, FREE, n)):
            assert run(workers).seconds == pytest.approx(work / workers, rel=0.01)


def test_what_is_slow_is_what_saturates():
    archive = Archive(50, 10)
    slow = {"bandwidth": {"bandwidth": 1e6}, "requests": {"requests": 20.0}}
    for name, changes in slow.items():
        site = Site(**{**vars(FREE), **changes})
        outcome = simulate_cluster.shard_run(COSTS, archive, site, 100)
        assert outcome.saturated == name
    costs = Costs(**{**vars(COSTS), "dispatch": 0.05})
    assert simulate_cluster.driver_run(costs, archive, FREE, 100).saturated == "driver"


def test_nobody_waits_for_the_journal_of_another():
    site = Site(**{**vars(FREE), "append": 0.1})
    for workers in (1, 10):
        for run in (simulate_cluster.shard_run, simulate_cluster.driver_run):
            quick = run(COSTS, Archive(50, 10), FREE, workers).seconds
            appending = 18_000 * 2 * 0.1 / workers  # two lines a file
            assert run(COSTS, Archive(50, 10), site, workers).seconds == pytest.approx(
                quick + appending, rel=0.02)


def test_the_time_of_many_is_that_of_a_part_times_as_many(monkeypatch):
    archive, site = Archive(100, 10), simulate_cluster.SITES["nfs"]
    whole = simulate_cluster.shard_run(COSTS, archive, site, 10).seconds
    monkeypatch.setattr(simulate_cluster, "MOST_TASKS", 1000)
    part = simulate_cluster.shard_run(COSTS, archive, site, 10).seconds
    assert part == pytest.approx(whole, rel=0.02)


def test_processes_of_one_machine_share_its_cores():
    files = [4.0] * 64
    work = sum(COSTS.decide + COSTS.file(seconds) for seconds in files)
    begin = COSTS.start + len(files) * COSTS.plan
    predict = cluster_check.predict
    assert predict(COSTS, files, 1, 1, on=2) == pytest.approx(begin + work)
    assert predict(COSTS, files, 2, 1, on=2) == pytest.approx(begin + work / 2)
    # Four on two cores: twice as many begin, and none is faster.
    assert predict(COSTS, files, 4, 1, on=2) == pytest.approx(2 * begin + work / 2)


# ---- Training ----------------------------------------------------------------------------------
def test_all_reduce_of_few_large_and_many_small_messages():
    assert all_reduce_seconds(1, 1e9, 1e9, 1.0) == 0.0
    assert all_reduce_seconds(2, 1e9, 1e9, 0.0) == pytest.approx(1.0)
    assert all_reduce_seconds(1000, 1e9, 1e9, 0.0) == pytest.approx(2.0, rel=0.01)
    assert all_reduce_seconds(5, 0, 1e9, 0.5) == pytest.approx(4.0)


def test_a_training_step_is_never_faster_than_its_links():
    step = StepCosts(fixed=0.5, compute=10.0, input=1.0, exchanges=0, message=0.0,
                     byte=0.0, gradient_bytes=4e6, audio=16.0)
    seconds = [step.seconds(n, 1e8, 1e-4) for n in (1, 2, 4, 64, 4096)]
    assert seconds[0] == 11.5
    assert seconds[:3] == sorted(seconds[:3], reverse=True)
    assert seconds[1] == pytest.approx(0.5 + 5.5 + 0.04 + 2e-4)
    assert seconds[-1] > 2 * 4095 * 1e-4


def test_each_batch_norm_makes_all_workers_wait():
    step = StepCosts(0.0, 10.0, 0.0, exchanges=0, message=0.0, byte=1e-8,
                     gradient_bytes=4e6, audio=16.0)
    norms = dataclasses.replace(step, exchanges=15, message=2e-4)
    assert norms.seconds(1, 1e8, 1e-4) == step.seconds(1, 1e8, 1e-4)
    assert step.seconds(4, 1e8, 0.0) == pytest.approx(2.5 + 6 * 1e6 * (1e-8 + 1e-8))
    # 2 (N - 1) messages for each sum, of which one was there before and now takes work.
    assert norms.seconds(4, 1e8, 1e-4) - step.seconds(4, 1e8, 1e-4) == pytest.approx(
        6 * (15 * 3e-4 + 2e-4))


@pytest.mark.system
def test_what_a_recording_costs_is_measured_on_recordings(tmp_path):
    for seconds in (1, 2, 4):
        noise = np.random.default_rng(seconds).normal(0, 0.05, 16000 * seconds)
        soundfile.write(tmp_path / f"{seconds}.wav", noise, 16000)
    costs = measure(tmp_path, "calm")
    assert costs.bytes_in == pytest.approx(32_000, rel=0.01)  # 16 bits
    assert costs.stages["network"][1] > costs.stages["decode"][1]
    assert 0 < costs.file(10.0) < costs.file(20.0) < 20.0  # faster than it sounds
    assert min(costs.start, costs.worker_start, costs.plan, costs.journal_append) > 0


def test_a_batch_norm_exchanges_as_often_as_is_reckoned_with(monkeypatch):
    keras, tf = pytest.importorskip("keras"), pytest.importorskip("tensorflow")
    context = type(tf.distribute.get_replica_context())
    all_reduce, exchanges = context.all_reduce, []

    def counted(*arguments, **options):
        exchanges.append(arguments)
        return all_reduce(*arguments, **options)

    monkeypatch.setattr(context, "all_reduce", counted)
    norm, values = keras.layers.BatchNormalization(synchronized=True), tf.ones((2, 3, 4))
    norm.build(values.shape)

    @tf.function(autograph=False)
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(values)
            loss = tf.reduce_sum(norm(values, training=True) ** 2)
        return tape.gradient(loss, values)

    gradient()
    assert len(exchanges) == NORM_EXCHANGES
