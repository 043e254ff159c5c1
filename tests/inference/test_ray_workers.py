"""Folders on a Ray cluster: the files of a local run, whatever is killed on the way.

One Ray of two CPUs runs for the whole file.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE
from object_store import object_store
from packaging.version import Version

from gan_denoise import __version__
from gan_denoise.core.ray_cluster import ClusterError, connect
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.file_task import FileTask
from gan_denoise.inference.folder import FolderOptions, Interrupted, enhance_folder
from gan_denoise.inference.folder_journal import Journal
from gan_denoise.inference.journal_files import FOLDER, NAME
from gan_denoise.inference.model import ModelError
from gan_denoise.inference.ray_actors import actors_on

pytest.importorskip("ray", reason="Ray is not installed: pip install 'gan-denoise[cluster]'")
ray_workers = importlib.import_module("gan_denoise.inference.ray_workers")
ray_denoiser = importlib.import_module("gan_denoise.inference.ray_denoiser")

COUNT = 30


@pytest.fixture(scope="module")
def store():
    with object_store() as files:
        yield files


@pytest.fixture(scope="module")
def ray(store):  # its workers have the environment of its start
    with connect("local", cpus=2) as module:
        yield module


@pytest.fixture(scope="module")
def enhancer(tiny_model):
    return Enhancer.load(tiny_model, threads=2)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of tiny recordings, one that takes a while, and one that is none."""
    root = tmp_path_factory.mktemp("many")
    for number in range(COUNT - 2):
        record(root / f"{number % 3}" / f"{number}.wav", number, 1500 + 10 * number)
    record(root / "long.flac", 0, 240 * RATE)
    (root / "0" / "text.wav").write_text("this is no recording")
    return root


@pytest.fixture(scope="module")
def reference(enhancer, many, tmp_path_factory):
    """The contents and the results of a local run."""
    out = tmp_path_factory.mktemp("reference")
    results = enhance_folder(enhancer, [many], out, FolderOptions(jobs=1))
    return contents(out), results


def denoise(enhancer, source, out, progress=None, jobs=2, **options):
    options = FolderOptions(jobs=jobs, ray="local", **options)
    return enhance_folder(enhancer, [source], out, options, progress)


def record(path, seed=0, samples=2000):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(samples), RATE)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file() and path.name != NAME and path.parent.name != FOLDER}


def statuses(results):
    return [result.status for result in results]


def journal(out):
    """Return (state, target) of each line on a file, the oldest first."""
    lines = [json.loads(line) for path in (out / FOLDER).glob("*.jsonl")
             for line in path.read_bytes().split(b"\n")[:-1]]
    return [(line["state"], line["target"]) for line in sorted(lines, key=lambda one: one["time"])]


def wait_for(condition, process, seconds=120.0):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.005)


# ---- The same as on one machine -----------------------------------------------------------------
def test_a_cluster_gives_the_files_and_results_of_a_local_run(ray, enhancer, many, tmp_path,
                                                              reference, monkeypatch):
    monkeypatch.setattr(ray_workers, "PROGRESS_SECONDS", 0.05)
    seen = []
    results = denoise(enhancer, many, tmp_path / "out",
                      lambda tally: seen.append((tally.seconds_done, tally.result)))
    assert contents(tmp_path / "out") == reference[0]
    # No two workers append to one file.
    assert (tmp_path / "out" / NAME).read_bytes().count(b"\n") == 1
    assert len(list((tmp_path / "out" / FOLDER).iterdir())) == 2
    ours, theirs = [
        [result.figures() | {"elapsed": 0, "source": result.source} for result in some]
        for some in (results, reference[1])]
    assert ours == theirs  # levels, lengths, the error of the broken one: all the same
    assert [seconds for seconds, _ in seen] == sorted(seconds for seconds, _ in seen)
    assert seen[-1][0] == pytest.approx(sum(result.seconds for result in results))
    assert sum(result is not None for _, result in seen) == COUNT


def test_from_address_to_address(ray, store, enhancer, tmp_path):
    for number in range(6):
        record(tmp_path / "in" / f"{number % 2}" / f"{number}.wav", number)
    enhance_folder(enhancer, [tmp_path / "in"], tmp_path / "out", FolderOptions(jobs=1))
    store.mkdir("s3://cluster")
    store.put(f"{tmp_path}/in/", "s3://cluster/in/", recursive=True)
    results = denoise(enhancer, "s3://cluster/in", "s3://cluster/out")
    assert statuses(results) == statuses(
        denoise(enhancer, tmp_path / "in", tmp_path / "out", overwrite=True))
    for path in (tmp_path / "out").rglob("*.wav"):
        assert store.cat_file(f"s3://cluster/out/{path.relative_to(tmp_path / 'out')}") == (
            path.read_bytes())
    again = denoise(enhancer, "s3://cluster/in", "s3://cluster/out")
    assert {result.status for result in again} == {"skipped"}


def test_what_is_done_starts_no_worker(ray, enhancer, many, tmp_path, monkeypatch):
    small = many / "1"
    first = denoise(enhancer, small, tmp_path / "out", jobs=1)

    def work(*_, **__):
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr(ray_workers.RayWorkers, "start", work)
    again = denoise(enhancer, small, tmp_path / "out")
    assert statuses(again) == ["skipped"] * len(first)


def free_cpus(ray, count):
    """Wait until so many CPUs of the cluster are free, and stay so."""
    end, since = time.monotonic() + 60, None
    while since is None or time.monotonic() - since < 1.0:
        assert time.monotonic() < end
        if ray.available_resources().get("CPU", 0) == count:
            since = since or time.monotonic()
        else:
            since = None
        time.sleep(0.05)


def test_actors_may_begin_before_the_run_and_idle_ones_hold_no_cpu(ray, enhancer, many, tmp_path,
                                                                   reference):
    with actors_on("local", 2) as actors:
        free_cpus(ray, 0)  # both have a place before anything is known of the run
        record(tmp_path / "in" / "a.wav")
        (result,) = enhance_folder(enhancer, [tmp_path / "in"], tmp_path / "1",
                                   FolderOptions(ray=actors))
        assert result.status == "done"
        free_cpus(ray, 2)
        enhance_folder(enhancer, [many], tmp_path / "2", FolderOptions(ray=actors))
        assert contents(tmp_path / "2") == reference[0]


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 1.0, 2.0])
def test_actors_that_nobody_takes_give_their_cpus_back(ray, seconds):
    """Ray keeps the CPU of one that is killed amid its creation."""
    with actors_on("local", 2):
        time.sleep(seconds)
    free_cpus(ray, 2)


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2, 1.0])
def test_a_worker_that_is_ended_as_it_starts_gives_its_cpu_back(ray, enhancer, tmp_path, seconds):
    with actors_on("local", 2) as actors:
        workers = ray_workers.RayWorkers(actors, enhancer, Journal(tmp_path))
        begun = [workers.start() for _ in range(3)]  # one of them waits for a CPU
        time.sleep(seconds)
        for worker in 2 * begun:
            worker.terminate()
            worker.join()
        free_cpus(ray, 2)
        with pytest.raises(ray_workers.WorkerDied, match="stopped as it started"):
            list(begun[0].run([]))


def test_relative_paths_are_those_of_the_caller(ray, enhancer, tmp_path, monkeypatch):
    record(tmp_path / "in" / "a.wav")
    monkeypatch.chdir(tmp_path)
    (result,) = denoise(enhancer, "in", "out", residual="removed")
    assert (result.status, str(result.source)) == ("done", "in/a.wav")
    assert sorted(contents(tmp_path)) == ["in/a.wav", "out/a.wav", "removed/a.wav"]


def test_a_worker_without_a_cpu_keeps_no_file_waiting(ray, enhancer, many, tmp_path, reference,
                                                      monkeypatch):
    monkeypatch.setattr("gan_denoise.inference.worker_pool.PLACE_SECONDS", 0.2)
    results = denoise(enhancer, many, tmp_path, jobs=5)  # of a cluster of two CPUs
    assert len(results) == COUNT
    assert contents(tmp_path) == reference[0]


def test_files_in_flight_are_few(enhancer):
    """A worker is sent two files at once, however many it is given."""
    open_calls, most = set(), []

    class Call:
        def remote(self, task):
            open_calls.add(task.source.name)
            most.append(len(open_calls))
            return task.source.name

    class Ray:
        def get(self, name, timeout=None):
            open_calls.remove(name)
            return {"status": "done"}

    Ray.exceptions = pytest.importorskip("ray").exceptions
    worker = object.__new__(ray_workers.RayWorker)
    worker._ray, worker._ready = Ray(), True
    worker._actor = type("Actor", (), {"denoise": Call(), "seconds": Call()})()
    paths = [Path(f"{number}.wav") for number in range(20)]
    tasks = [FileTask(path, path, None, "", "new") for path in paths]
    assert [result.source for result in worker.run(tasks)] == paths
    assert max(most) == ray_workers.IN_FLIGHT


# ---- Ray Client ---------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def client(ray):
    """Address of a Ray Client server of that Ray, which wants its token."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "ray.util.client.server", "--host", "127.0.0.1", "--port", str(port),
         "--address", ray.get_runtime_context().gcs_address, "--mode", "proxy"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def listens():
        with socket.socket() as taken:
            return taken.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, server)
    yield f"ray://127.0.0.1:{port}"
    server.terminate()
    server.wait()


def run(model, source, out, address, **environment):
    command = [sys.executable, "-m", "gan_denoise.cli", "denoise", str(source), "-o", str(out),
               "-m", str(model), "--ray", address, "--workers", "2"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120,
                          env=os.environ | environment)


def test_ray_client_gives_the_same_files(client, tiny_model, many, tmp_path, reference):
    done = run(tiny_model, many, tmp_path / "out", client)
    if not done.stdout:  # where all cores are taken, a server that has just begun answers too late
        done = run(tiny_model, many, tmp_path / "out", client)
    assert contents(tmp_path / "out") == reference[0], done.stderr
    (failure,), (_,) = done.stderr.splitlines(), done.stdout.splitlines()  # none of Ray's
    assert failure.startswith("failed: ")


@pytest.mark.skipif(Version(version("ray")) < Version("2.60"),
                    reason="before 2.60 Ray asks for a token only where it is told to")
@pytest.mark.parametrize(("by_client", "environment", "reason"), [
    (True, {"RAY_AUTH_MODE": "disabled"}, "wants its token; set RAY_AUTH_MODE=token"),
    (False, {"RAY_AUTH_MODE": "disabled"}, "wants its token; set RAY_AUTH_MODE=token"),
    (True, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "ab" * 32}, "wants its token"),
    (False, {"RAY_AUTH_MODE": "token", "HOME": "/nowhere"}, "Ray finds none"),
])
def test_a_cluster_that_wants_a_token_says_so(ray, client, tiny_model, many, tmp_path, by_client,
                                              environment, reason):
    address = client if by_client else ray.get_runtime_context().gcs_address
    begun = time.monotonic()
    done = run(tiny_model, many, tmp_path / "out", address, **environment)
    assert time.monotonic() - begun < 60
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {address}: ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


# ---- What is killed -----------------------------------------------------------------------------
class Deadly(ray_denoiser.Denoiser):
    """Kills its process amid files of these names, the second one only once."""

    def denoise(self, task):
        name, once = task.source.name, task.target.parent / ".killed"
        if name == "deadly.wav" or (name == "once.wav" and not once.exists()):
            once.touch()
            self._journal.begin([task.target])
            (task.target.parent / f".{'a' * 16}.part").touch()  # as it is amid a file
            os.kill(os.getpid(), signal.SIGKILL)
        return super().denoise(task)


class Stillborn(ray_denoiser.Denoiser):
    """Kills its process as it loads the model: as often as the folder's name says."""

    def load(self, parts, setup, journal, mark):
        for number in range(int(Path(journal["out"]).name)):
            with contextlib.suppress(FileExistsError):
                (Path(journal["out"]) / f".killed{number}").touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return super().load(parts, setup, journal, mark)


@pytest.fixture
def by_value(ray, monkeypatch):
    """Sends the workers of the cluster classes of this module, which they cannot import."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield monkeypatch
    ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def deadly(by_value):
    """Lets the workers of the cluster be `Deadly`."""
    by_value.setattr(ray_denoiser, "Denoiser", Deadly)


def test_a_worker_that_is_lost_as_it_starts_is_replaced(by_value, enhancer, tmp_path):
    by_value.setattr(ray_denoiser, "Denoiser", Stillborn)
    record(tmp_path / "in" / "a.wav")
    (result,) = denoise(enhancer, tmp_path / "in", tmp_path / "2", jobs=1)
    assert result.status == "done"
    with pytest.raises(ClusterError, match="could not start: it died 3 times as it loaded"):
        denoise(enhancer, tmp_path / "in", tmp_path / "9", jobs=1)


def test_a_lost_workers_files_are_done_and_a_deadly_one_is_given_up(
        deadly, enhancer, many, tmp_path, reference, capfd):
    source = tmp_path / "in"
    shutil.copytree(many, source)
    for name in ("deadly.wav", "once.wav"):
        shutil.copy(many / "0" / "0.wav", source / name)
    results = denoise(enhancer, source, tmp_path / "out")
    failed = {result.source.name: result.error for result in results if result.error}
    assert sorted(failed) == ["deadly.wav", "text.wav"]
    assert f"{source / 'deadly.wav'}: the worker on " in failed["deadly.wav"]
    assert failed["deadly.wav"].endswith("while on this file, 2 times")
    found = contents(tmp_path / "out")
    assert found.pop("once.wav") == found["0/0.wav"]
    found.pop(".killed")
    assert found == reference[0]
    # Once more where a worker dies of it before the answer to the file before has come.
    begun = [target for state, target in journal(tmp_path / "out")].count("deadly.wav")
    assert 2 <= begun <= 3
    assert capfd.readouterr() == ("", "")  # Ray has its own words for it


def test_a_file_is_begun_on_three_machines_that_are_lost(deadly, enhancer, tmp_path, monkeypatch):
    record(tmp_path / "in" / "deadly.wav")
    monkeypatch.setattr(ray_workers.RayWorker, "_death",
                        lambda *_: ray_workers.MachineLost("the machine was lost"))
    (result,) = denoise(enhancer, tmp_path / "in", tmp_path / "out")
    assert result.error.endswith("deadly.wav: the machine was lost while on this file, 3 times")
    assert len(journal(tmp_path / "out")) == 3


def test_ctrl_c_leaves_whole_files(ray, enhancer, many, tmp_path, reference):
    def interrupt(tally):
        if tally.files_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as stopped:
        denoise(enhancer, many, tmp_path, interrupt)
    assert len(stopped.value.results) == 5
    assert contents(tmp_path).items() <= reference[0].items()  # no half ones, no left-overs
    assert len(contents(tmp_path)) < COUNT - 1
    denoise(enhancer, many, tmp_path)
    assert contents(tmp_path) == reference[0]


def test_a_run_that_is_killed_goes_on(ray, tiny_model, many, tmp_path, reference):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "gan_denoise.cli", "denoise", str(many), "-o", str(out), "-m",
               str(tiny_model),
               "--ray", ray.get_runtime_context().gcs_address, "--workers", "2"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: "done" in dict(journal(out)), run)
    run.kill()
    run.wait()
    done = {target: (out / target).stat() for state, target in journal(out) if state == "done"}
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 1  # the file that is no recording
    assert contents(out) == reference[0]
    for target, before in done.items():
        now = (out / target).stat()
        assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    (failure,), (summary,) = again.stderr.splitlines(), again.stdout.splitlines()  # none of Ray's
    assert failure.startswith("failed: ")
    counts = re.findall(r"(\d+)(?: files)? (?:done|skipped|failed)", summary)
    made, skipped, failed = map(int, counts)
    assert (made + skipped, failed) == (COUNT - 1, 1)
    assert skipped >= len(done)


# ---- What is refused ----------------------------------------------------------------------------
def test_a_folder_that_the_workers_do_not_see_is_refused(ray, enhancer, tmp_path, monkeypatch):
    record(tmp_path / "in" / "a.wav")
    monkeypatch.setattr(Journal, "mark", lambda self: b"another folder")
    with pytest.raises(ClusterError, match=r"not the same folder on .*must lie on a path that all"):
        denoise(enhancer, tmp_path / "in", tmp_path / "out", jobs=1)
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("tells", [True, False])
def test_a_worker_of_another_version_is_refused(ray, enhancer, tmp_path, monkeypatch, tells):
    record(tmp_path / "in" / "a.wav")
    if tells:
        monkeypatch.setattr(ray_workers, "__version__", "9.0")
    else:
        loaded = ray_workers.RayWorker._loaded
        monkeypatch.setattr(ray_workers.RayWorker, "_loaded", lambda self: {
            key: value for key, value in loaded(self).items() if key != "version"})
    theirs, ours = (__version__, "9.0") if tells else ("another one", __version__)
    with pytest.raises(ClusterError, match=rf"gan-denoise is {theirs} on .*, and {ours} here"):
        denoise(enhancer, tmp_path / "in", tmp_path / "out", jobs=1)
    assert contents(tmp_path / "out") == {}


def test_a_model_that_changed_is_refused(ray, tiny_model, tmp_path):
    shutil.copytree(tiny_model, tmp_path / "model")
    enhancer = Enhancer.load(tmp_path / "model")
    record(tmp_path / "in" / "a.wav")
    with open(tmp_path / "model" / "config.yaml", "a") as file:
        file.write("# trained again\n")
    with pytest.raises(ModelError, match="changed since it was loaded"):
        denoise(enhancer, tmp_path / "in", tmp_path / "out")


def test_a_cluster_that_does_not_answer_is_one_line(tiny_model, many, tmp_path):
    with socket.socket() as other:  # takes connections, and says nothing
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        cases = {"nonsense": "no address of a Ray cluster", "127.0.0.1:1": "Connection refused",
                 "ray://127.0.0.1:1": "Connection refused", f"127.0.0.1:{taken}": "is not Ray"}
        code = (
            "import sys\n"
            "from gan_denoise.core import ray_cluster\n"
            "ray_cluster.CONNECT_SECONDS = 1.0\n"
            "for address in sys.argv[1:]:\n"
            "    try:\n"
            "        with ray_cluster.connect(address): pass\n"
            "    except ray_cluster.ClusterError as error:\n"
            "        print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, *cases], capture_output=True, text=True)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) == len(cases)
    for line, (address, reason) in zip(lines, cases.items(), strict=True):
        assert line.startswith(f"{address}: ")
        assert reason in line
        assert "local" in line  # the way out


@pytest.mark.parametrize(("options", "reason"), [
    (["--workers", "2"], "--workers are those of --ray"),
    (["--ray", "local", "--jobs", "2"], "with --ray it is --workers"),
    (["--ray", "local", "--threads", "2"], "with --ray it is --workers"),
])
def test_options_that_do_not_fit_are_refused(tmp_path, options, reason):
    done = subprocess.run([sys.executable, "-m", "gan_denoise.cli", "denoise", str(tmp_path), "-o",
                           str(tmp_path / "out"), *options], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    way_out = r"not installed; pip install 'gan-denoise\[cluster\]'"
    with pytest.raises(ClusterError, match=way_out), connect("local"):
        pass
