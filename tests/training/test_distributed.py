"""Several workers train as one device does; one that is killed ends all, and a resume goes on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import tiny_config

from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import LATEST
from gan_denoise.config.schema import TrainingConfig
from gan_denoise.training.checkpoints import read_progress
from gan_denoise.training.distributed import make_replicas
from gan_denoise.training.errors import TrainingError
from gan_denoise.training.trainer import rate_factor

WORKER = Path(__file__).with_name("worker.py")
KINDS = ("pretrain", "patch", "metric")
LEAST = 1e-4  # that sums of another order may differ by
STEPS = int(os.environ.get("DISTRIBUTED_STEPS", "6"))


def settings(kind, strategy, **training):
    discriminator = {
        "patch": {"channels": [4], "feature_weight": 0.5},
        "metric": {"kind": "metric", "scored_clips": 3, "replay_clips": 2},
    }.get(kind, {"channels": [4]})
    return tiny_config(
        generator={"name": "cnn", "channels": [4]}, discriminator=discriminator,
        losses={"mel_weight": 0.5, "magnitude_weight": 0.5, "adversarial_weight": 0.1},
        training={"strategy": strategy, "batch_size": 4, "threads": 1} | training)


class Cluster:
    """Worker processes on this machine, for `with`: they never outlive the test."""

    def __init__(self, out: Path, configs: dict, workers: int = 1, options: tuple[str, ...] = ()):
        out.mkdir(parents=True, exist_ok=True)
        self.out = out
        for kind, config in configs.items():
            (out / f"{kind}.yaml").write_text(dump_config(config), encoding="utf-8")
        runs = [f"{kind}={out / kind}.yaml" for kind in configs]
        sockets = [socket.socket() for _ in range(workers)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        hosts = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
        for one in sockets:
            one.close()
        self.processes = []
        for index in range(workers):
            environment = {**os.environ, "PYTHONPATH": str(WORKER.parents[1])}
            if workers > 1:
                environment["TF_CONFIG"] = json.dumps({
                    "cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}})
            with open(out / f"{index}.log", "w") as log:
                self.processes.append(subprocess.Popen(
                    [sys.executable, WORKER, out, *runs, *options], env=environment, stdout=log,
                    stderr=log, start_new_session=True))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self, index=0) -> str:
        return (self.out / f"{index}.log").read_text(errors="replace")

    def wait(self, seconds=240) -> list[int]:
        codes = [process.wait(seconds) for process in self.processes]
        assert codes == [0] * len(codes), self.said(next(i for i, c in enumerate(codes) if c))
        return codes

    def state(self, kind, index=0):
        with np.load(self.out / f"{kind}-{index}.npz") as arrays:
            return {name: arrays[name] for name in arrays.files if name != "meta.json"}

    def losses(self, kind, index=0):
        steps = json.loads((self.out / f"{kind}-{index}.json").read_text())
        return [{name: value for name, value in step.items()
                 if name.startswith(("loss/", "discriminator/"))} for step in steps]


def assert_alike(one, other, kind):
    for expected, found in zip(one.losses(kind), other.losses(kind), strict=True):
        assert found == pytest.approx(expected, abs=LEAST)
    for name, value in one.state(kind).items():
        atol = 1e-3 if name.startswith("replay") else LEAST  # float16
        np.testing.assert_allclose(other.state(kind)[name], value, atol=atol, err_msg=name)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One device that has trained each kind."""
    configs = {kind: settings(kind, "none", steps=STEPS) for kind in KINDS}
    with Cluster(tmp_path_factory.mktemp("alone"), configs) as cluster:
        cluster.wait()
    return cluster


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_train_as_one_device_does(tmp_path, alone, workers):
    configs = {kind: settings(kind, "multi_worker", steps=STEPS) for kind in KINDS}
    with Cluster(tmp_path, configs, workers) as cluster:
        cluster.wait()
    assert (f"worker 0 of {workers} (the chief, which writes); {workers} devices in all"
            in cluster.said())
    assert "validation" not in cluster.said(1)
    for kind in KINDS:
        assert_alike(alone, cluster, kind)
        first = cluster.state(kind)
        for other in range(1, workers):
            for name, value in cluster.state(kind, other).items():
                assert value.tobytes() == first[name].tobytes(), name
            assert cluster.losses(kind, other) == cluster.losses(kind)
        assert read_progress(tmp_path / kind / LATEST).step == STEPS


def test_two_devices_of_one_process_train_as_one_does(tmp_path, alone):
    configs = {kind: settings(kind, "mirrored", steps=STEPS) for kind in KINDS[1:]}
    with Cluster(tmp_path, configs, options=("--devices", "2")) as cluster:
        cluster.wait()
    for kind in configs:
        assert_alike(alone, cluster, kind)


def test_a_killed_worker_ends_the_run_and_one_device_goes_on_with_it(tmp_path, alone):
    config = settings("pretrain", "multi_worker", steps=6, checkpoint_every=2)
    with Cluster(tmp_path, {"pretrain": config}, workers=2, options=("--delay", "1")) as cluster:
        chief, victim = cluster.processes
        until = time.monotonic() + 200
        latest = tmp_path / "pretrain" / LATEST
        while not latest.is_file() or read_progress(latest).step < 2:
            assert chief.poll() is None, cluster.said()
            assert time.monotonic() < until, cluster.said()
            time.sleep(0.05)
        os.kill(victim.pid, signal.SIGKILL)
        assert chief.wait(60) == 1
    line = cluster.said().splitlines()[-1]
    assert "is gone" in line
    assert "goes on from the last checkpoint" in line
    assert read_progress(latest).step < 6
    one = settings("pretrain", "none", steps=6, checkpoint_every=2)
    with Cluster(tmp_path, {"pretrain": one}) as resumed:
        resumed.wait()
    assert "resumed" in resumed.said()
    for name, value in alone.state("pretrain").items():
        np.testing.assert_allclose(resumed.state("pretrain")[name], value, atol=LEAST,
                                   err_msg=name)


def test_a_roll_back_a_dead_start_and_ctrl_c_are_those_of_all_workers(tmp_path):
    config = settings("pretrain", "multi_worker", steps=10**4, checkpoint_every=2,
                      validate_every=10**4)
    options = ("--bad", "3", "4", "5", "--dead", "6", "--delay", "0.05")
    with Cluster(tmp_path, {"pretrain": config}, workers=2, options=options) as cluster:
        latest, until = tmp_path / "pretrain" / LATEST, time.monotonic() + 200
        while not (latest.is_file() and (found := read_progress(latest)).restarts and found.step):
            assert cluster.processes[0].poll() is None, cluster.said()
            assert time.monotonic() < until, cluster.said()
            time.sleep(0.05)
        cluster.processes[1].send_signal(signal.SIGINT)  # of one: all end behind the same step
        cluster.wait(60)
    for index in range(2):
        assert "went back to the state of step 2, going on behind step 5" in cluster.said(index)
        assert "begins again from another initialisation (seed 1000)" in cluster.said(index)
    first, second = cluster.state("pretrain", 0), cluster.state("pretrain", 1)
    for name, value in first.items():
        assert value.tobytes() == second[name].tobytes(), name
    assert cluster.losses("pretrain", 0) == cluster.losses("pretrain", 1)
    assert f"interrupted at step {read_progress(latest).step};" in cluster.said()


# ---- Settings ----------------------------------------------------------------------------------
@pytest.mark.parametrize("given", [None, "{", '{"cluster": {"worker": ["a:1"]}}',
                                   '{"cluster": {"worker": ["a:1"]}, "task": '
                                   '{"type": "worker", "index": 1}}'])
def test_a_cluster_that_is_not_named_is_refused(given, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if given is not None:
        monkeypatch.setenv("TF_CONFIG", given)
    with pytest.raises(TrainingError, match="TF_CONFIG") as refused:
        make_replicas(TrainingConfig(strategy="multi_worker"))
    assert '"cluster"' in refused.value.way_out


def test_rates_grow_with_the_devices_only_where_asked():
    assert [rate_factor(scaling, 4) for scaling in ("none", "linear", "sqrt")] == [1, 4, 2]
