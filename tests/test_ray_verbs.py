"""Verbs on a Ray cluster write what they write on this machine; what is killed is done again.

One Ray of two CPUs runs for the whole file. Functions of the tests are defined inside of them: the
workers cannot import this file, and take those as they are.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tiny_config, tiny_material
from toy_training import deadly, toy

from gan_denoise import __version__
from gan_denoise.cli.app import run
from gan_denoise.config.schema import DataConfig
from gan_denoise.core import ray_jobs
from gan_denoise.core.processes import ProcessDied
from gan_denoise.core.ray_cluster import ClusterError, connect
from gan_denoise.core.ray_jobs import Cluster, RayPool
from gan_denoise.core.standard_streams import tolerant_streams
from gan_denoise.data import corpus_shards
from gan_denoise.data.corpus import write_corpus
from gan_denoise.data.mixture_writer import MixtureSpec, write_pairs
from gan_denoise.data.pairs import match_folders
from gan_denoise.evaluation.evaluate_waveforms import evaluate
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.tuning import ray_trials
from gan_denoise.tuning.trial import run_connected

pytest.importorskip("ray", reason="Ray is not installed: pip install 'gan-denoise[cluster]'")

RATE = 16000
HERE = Cluster("local", 2)


@pytest.fixture(scope="module", autouse=True)
def ray():
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # for `toy_training` and tiny material
        with connect("local", cpus=2) as module:
            yield module


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


# ---- Jobs ---------------------------------------------------------------------------------------
def test_results_come_in_order():
    def power(number, exponent):
        time.sleep(0.2 if number == 0 else 0.0)
        return number**exponent

    with HERE.pool(lambda *_: "counting") as pool:
        assert list(pool.map(power, range(20), [2] * 20)) == [number**2 for number in range(20)]


def test_a_job_is_begun_when_one_is_done(tmp_path):
    go = tmp_path / "go"
    taken = []

    def numbers():
        for number in range(20):
            taken.append(number)
            yield number

    def work(number):
        while number and not go.exists():
            time.sleep(0.01)
        return number

    with HERE.pool(lambda *_: "waiting") as pool:
        results = pool.map(work, numbers())
        assert next(results) == 0
        assert len(taken) <= HERE.workers + 1  # all others wait for what is in flight
        go.touch()
        assert list(results) == list(range(1, 20))


def test_a_worker_keeps_what_the_function_has_made():
    class Counts:
        made = 0

        def __call__(self, _):
            self.made += 1
            return os.getpid(), self.made

    with HERE.pool(lambda *_: "counting") as pool:
        seen = list(pool.map(Counts(), range(8)))
    assert len(set(seen)) == 8
    assert max(made for _, made in seen) > 1


def test_errors_are_those_of_the_function(tmp_path):
    def refuse(number):
        from gan_denoise.core.errors import GanDenoiseError

        raise GanDenoiseError(f"job {number} is wrong", "leave it out")

    with HERE.pool(lambda *_: "trying") as pool:
        with pytest.raises(Exception, match=r"^job 0 is wrong; leave it out$"):
            list(pool.map(refuse, [0, 0]))
        with pytest.raises(ZeroDivisionError):
            list(pool.map(lambda number: 1 / number, [0]))


@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_workers_job_is_begun_again_once(tmp_path, times):
    def work(number):
        begun = tmp_path / f"{number}.{os.getpid()}"
        begun.touch()
        if number == 3 and len(list(tmp_path.glob("3.*"))) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with HERE.pool("doing {}".format) as pool:
        lost = list(pool.map(work, range(6), lost=lambda number, error: str(error)))
        if times == 1:
            assert lost == list(range(6))
        else:
            assert lost[3] == "a worker died while doing 3 (killed, or out of memory?), 2 times"
            assert lost[:3] + lost[4:] == [0, 1, 2, 4, 5]
    assert len(list(tmp_path.glob("3.*"))) == 2


def test_a_job_that_kills_its_workers_ends_what_cannot_go_on_without():
    def die(_):
        os.kill(os.getpid(), signal.SIGKILL)

    with (HERE.pool("doing {}".format) as pool,
          pytest.raises(ProcessDied, match=r"while doing 7 .*, 2 times$")):
        list(pool.map(die, [7]))


def test_a_run_that_ends_early_leaves_nothing_half_written(tmp_path):
    def work(number):
        import tempfile
        import time

        with tempfile.TemporaryDirectory(dir=tmp_path):
            for _ in range(6000 * number):
                time.sleep(0.01)
        return number

    with HERE.pool("doing {}".format) as pool:
        results = pool.map(work, [0, 1, 1])
        assert next(results) == 0
        until = time.monotonic() + 30
        while not list(tmp_path.iterdir()) and time.monotonic() < until:
            time.sleep(0.02)
        results.close()
    assert not list(tmp_path.iterdir())


def test_relative_paths_are_those_of_this_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with HERE.pool(lambda *_: "writing", Path("out")) as pool:
        list(pool.map(lambda name: Path("out", name).touch(), ["a", "b"]))
    assert sorted(contents(tmp_path)) == ["out/a", "out/b"]


def test_a_folder_that_the_workers_do_not_see_is_refused(ray, tmp_path):
    with (HERE.pool(lambda *_: "looking", inputs=[tmp_path / "none"]) as pool,
          pytest.raises(ClusterError, match=r"none: not the same folder on .*all machines")):
        list(pool.map(len, ["a"]))
    pool = RayPool(ray, 1, lambda *_: "writing")
    with pool.writing_to(tmp_path):
        (mark,) = tmp_path.iterdir()
        mark.unlink()  # as on a machine on which the folder is another one
        with pytest.raises(ClusterError, match=rf"^{tmp_path}: not the same folder on"):
            list(pool.map(len, ["a"]))


def test_a_worker_of_another_version_is_refused(ray, monkeypatch):
    monkeypatch.setattr(ray_jobs, "__version__", "9.0")
    with (HERE.pool(lambda *_: "looking") as pool,
          pytest.raises(ClusterError, match=rf"gan-denoise is {__version__} on .*, and 9\.0 here")):
        list(pool.map(len, ["a"]))


# ---- Studies ------------------------------------------------------------------------------------
def test_a_study_is_the_same_and_survives_its_workers(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    from gan_denoise.tuning import study

    config = tiny_config(training={"steps": 20}, tune={
        "trials": 3, "startup_trials": 3,
        "space": {"training.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}})

    def tune(name: str, train, cluster=None):
        trials = functools.partial(ray_trials.RayTrials, train=train)
        monkeypatch.setattr(study, "RayTrials", trials)
        found = study.tune(config, tmp_path / name, material=tiny_material(), cluster=cluster)
        return [(row.number, row.state, row.score, dict(row.drawn)) for row in found.trials], found

    monkeypatch.setattr(study, "launch", in_this_process)
    ours, _ = tune("one", None)
    theirs, found = tune("two", deadly, Cluster("local", 1))
    assert [row[0::3] for row in theirs] == [row[0::3] for row in ours]  # number, settings
    assert theirs[:2] == ours[:2]  # done, though the worker of the second was killed
    assert len(list((tmp_path / "two/trials/0001").glob("begun.*"))) == 2
    assert [row.state for row in found.trials] == ["complete", "complete", "failed"]
    assert found.trials[2].reason == "the process died (signal 9: out of memory?)"
    assert not list((tmp_path / "two").glob(".shared*"))


def in_this_process(job):
    """Do a trial in a thread."""
    ours, theirs = multiprocessing.Pipe()
    thread = threading.Thread(target=run_connected, args=(job, theirs, toy))
    thread.kill = lambda: None
    thread.start()
    return thread, ours


# ---- Verbs --------------------------------------------------------------------------------------
def test_a_corpus_is_the_same(folders, tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_shards, "SHARD_FILES", 3)
    ours = write_corpus([folders / "speech"], tmp_path / "one", RATE, jobs=1)
    (tmp_path / "two" / ".building.of a killed one").mkdir(parents=True)
    seen = []
    theirs = write_corpus([folders / "speech"], tmp_path / "two", RATE,
                          lambda *done: seen.append(done), cluster=HERE)
    assert theirs.digest == ours.digest
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert not list((tmp_path / "two").glob(".building*"))
    assert seen == [(3, 8), (6, 8), (8, 8)]


@pytest.mark.parametrize("recipe", [None, DataConfig(noises=(1, 2), babble=0.5, coloured=0.5)])
def test_mixtures_are_the_same(folders, tmp_path, recipe, monkeypatch):
    monkeypatch.setattr("gan_denoise.data.mixture_writer.BATCH", 3)
    spec = MixtureSpec(RATE, [-5.0, 5.0], count=11, recipe=recipe)
    rows = [write_pairs([folders / "speech"], [folders / "noise"], tmp_path / name, spec,
                        rir_folders=[folders / "noise/white"], cluster=cluster)
            for name, cluster in (("one", None), ("two", HERE))]
    assert rows[0] == rows[1]
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 2 * 11 + 1


def test_an_evaluation_is_the_same(folders, tiny_model, tmp_path):
    pairs = match_folders(folders / "noisy", folders / "clean")[:3]
    broken = tmp_path / "broken.wav"
    broken.write_text("no recording")
    pairs = [pairs[0], replace(pairs[1], noisy=broken), pairs[2]]
    model, seen = Enhancer.load(tiny_model), []
    one, two = (evaluate(pairs, model, trivial=True, jobs=1, out=tmp_path / name, cluster=cluster,
                         progress=lambda *done: seen.append(done))
                for name, cluster in (("one", None), ("two", HERE)))
    assert replace(one, rows=()) == replace(two, rows=())
    assert list(two.refused_pairs) == [pairs[1].name]
    for ours, theirs in zip(one.rows, two.rows, strict=True):
        assert replace(ours, scores={}) == replace(theirs, scores={})
        for row in (ours, theirs) if ours.system == "silence" else ():
            row.scores.pop("estoi")  # which is that of the dither that pystoi draws
        # One thread or two of BLAS, and that dither, move the last digits.
        assert theirs.scores == pytest.approx(ours.scores, rel=1e-12)
    files = [sorted(path.relative_to(tmp_path / name) for path in (tmp_path / name).rglob("*.wav"))
             for name in ("one", "two")]
    assert files[0] == files[1]
    for file in files[0]:  # not the bytes: the header has the time
        np.testing.assert_array_equal(*(soundfile.read(tmp_path / name / file)[0]
                                        for name in ("one", "two")))
    assert seen == 2 * [(1, 3), (2, 3), (3, 3)]


def test_a_pair_that_kills_its_workers_is_refused(folders, tiny_model, monkeypatch):
    pairs = match_folders(folders / "noisy", folders / "clean")[:2]
    mapped, deadly = RayPool.map, pairs[0].name

    def with_a_deadly_pair(pool, function, *arguments, **options):
        def dies(pair):
            if pair.name == deadly:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(pair)

        return mapped(pool, dies, *arguments, **options)

    monkeypatch.setattr(RayPool, "map", with_a_deadly_pair)
    found = evaluate(pairs, Enhancer.load(tiny_model), cluster=HERE)
    assert found.names == [pairs[1].name]
    assert str(pairs[0].noisy) in found.refused_pairs[pairs[0].name]
    assert found.refused_pairs[pairs[0].name].endswith("2 times")


def test_the_command_line(folders, tiny_model, tmp_path, capsys):
    def gan_denoise(*arguments: object) -> int:
        with tolerant_streams() as output:
            return run([str(argument) for argument in arguments], output)

    assert gan_denoise("corpus", folders / "speech", "-o", tmp_path / "corpus", "--ray", "local",
                       "--workers", 1) == 0
    assert gan_denoise("mix", "--speech", tmp_path / "corpus", "--noise", folders / "noise", "-o",
                       tmp_path / "pairs", "--count", 2, "--ray", "local") == 0
    assert gan_denoise("evaluate", "--noisy", tmp_path / "pairs/noisy", "--clean",
                       tmp_path / "pairs/clean", "-m", tiny_model, "--ray", "local") == 0
    assert "2 pairs" in (said := capsys.readouterr()).out
    assert "2 files" in said.out
    assert gan_denoise("corpus", folders / "speech", "-o", tmp_path / "c", "--workers", 2) == 2
    assert gan_denoise("corpus", folders / "speech", "-o", tmp_path / "c", "--ray", "local", "-j",
                       2) == 2
    refusals = capsys.readouterr().err
    assert "--workers are those of --ray" in refusals
    assert "with --ray it is --workers" in refusals
