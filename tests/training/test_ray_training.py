"""Workers on a Ray cluster train as processes of one machine do, and end together.

One Ray of two CPUs runs for the whole file.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow
from packaging.version import Version

from gan_denoise.cli.app import run
from gan_denoise.config.artifacts import LATEST
from gan_denoise.core.ray_cluster import ClusterError, connect
from gan_denoise.core.ray_jobs import Cluster
from gan_denoise.core.standard_streams import tolerant_streams
from gan_denoise.training import worker_processes
from gan_denoise.training.ray_workers import TrainingJob, train_on_cluster
from gan_denoise.training.worker_processes import (
    MULTI_WORKER,
    WorkerError,
    WorkerProcess,
    follow,
    free_ports,
)

pytest.importorskip("ray", reason="Ray is not installed: pip install 'gan-denoise[cluster]'")

HERE = Cluster("local", 2)


@pytest.fixture(scope="module", autouse=True)
def ray():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent))  # for `toy_worker`
        with connect("local", cpus=2) as module:
            yield module


def gan_denoise(*arguments: object) -> int:
    with tolerant_streams() as output:
        return run([str(argument) for argument in arguments], output)


def command(run_dir: Path, folders: Path) -> list[str]:
    return ["pretrain", "--run", str(run_dir), "--config", "debug", f"data.speech={folders}/speech",
            f"data.noise={folders}/noise", f"data.cache={run_dir.parent}/cache",
            "generator.channels=[4]", "training.steps=3", "training.threads=1",
            "training.select_by=si_sdr"]


def test_the_weights_are_those_of_two_processes(folders, tmp_path, capfd):
    hosts = [f"127.0.0.1:{port}" for port in free_ports(2)]
    follow([WorkerProcess([*command(tmp_path / "processes", folders), MULTI_WORKER], hosts, index)
            for index in range(2)], lambda worker, line: None)
    assert gan_denoise(*command(tmp_path / "ray", folders), "--ray", "local", "--workers", 2) == 0
    said = capfd.readouterr()
    lines = said.err.splitlines()
    if Version(tensorflow.__version__) < Version("2.21"):  # says that its server has started
        lines = lines[2:]
    assert lines[0].startswith("trains on CPU:0 of worker 0 of 2 (the chief, which writes)")
    assert any(line.startswith("step 3 validation") for line in lines)
    assert said.out.count("3 steps") == 1  # the chief's alone
    with (np.load(tmp_path / "processes" / LATEST) as ours,
          np.load(tmp_path / "ray" / LATEST) as theirs):
        for name in set(ours.files) - {"meta.json"}:
            assert ours[name].tobytes() == theirs[name].tobytes(), name
        assert ours.files == theirs.files
    assert not list((tmp_path / "ray").glob(".shared*"))


def test_what_cannot_be_is_refused_before_ray_is_asked(folders, tmp_path, capfd):
    arguments = command(tmp_path / "run", folders)
    for options, reason in (
        (["--ray", "local"], "give --workers N"),
        (["--ray", "local", "--workers", 0], "--workers"),
        (["--workers", 2], "--workers are those of --ray"),
        (["--ray", "local", "--workers", 2, "training.strategy=none"], "leave training.strategy"),
    ):
        assert gan_denoise(*arguments, *options) == 2
        assert reason in capfd.readouterr().err
    assert not (tmp_path / "run").exists()


def follow_two(case: str, folder: Path, on_line=lambda worker, line: None, inputs=()) -> None:
    job = TrainingJob([case, str(folder)], folder, inputs, module="toy_worker")
    train_on_cluster(HERE, job, on_line)


def assert_none_left(folder: Path) -> None:
    pids = [int(file.read_text()) for file in folder.glob("*.pid")]
    assert len(pids) == 2
    until = time.monotonic() + 10  # what is not a child of this process ends a moment later
    while left := [pid for pid in pids if is_there(pid)]:
        assert time.monotonic() < until, left
        time.sleep(0.05)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_worker_that_dies_ends_all_and_is_named(tmp_path):
    with pytest.raises(WorkerError, match=r"^worker 1 on .* died \(signal 9.*goes on from"):
        follow_two("die", tmp_path)
    assert_none_left(tmp_path)


def test_a_worker_that_is_lost_with_its_machine_ends_all(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_processes, "GRACE_SECONDS", 0.5)

    parents = {}  # Ray's processes, which hold the workers'

    def on_line(worker, line):
        parents[worker] = int(line.text.partition(" ")[2])
        if len(parents) == 2:
            os.kill(parents[1], signal.SIGKILL)

    with pytest.raises(WorkerError, match=r"^worker 1 on .* died \(its machine was lost"):
        follow_two("wait", tmp_path, on_line)
    assert_none_left(tmp_path)


def test_ctrl_c_lets_all_save(tmp_path):
    begun = []

    def on_line(worker, line):
        begun.append(line.text)
        if begun == ["begun"] * 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        follow_two("train", tmp_path, on_line)
    assert len(list(tmp_path.glob("*.saved"))) == 2
    assert_none_left(tmp_path)


def test_a_machine_that_does_not_see_the_files_ends_it(tmp_path):
    with pytest.raises(ClusterError, match=r"none: not the same folder on .*all machines"):
        follow_two("talk", tmp_path, inputs=[tmp_path / "none"])
    assert not list(tmp_path.iterdir())
