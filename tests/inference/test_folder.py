"""Folders: nothing is lost, nothing is done twice, whatever kills a run or lies in its way."""

from __future__ import annotations

import csv
import dataclasses
import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from conftest import RATE
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise import audio
from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import write
from gan_denoise.core.checksums import SUMS
from gan_denoise.inference import folder, folder_plan, folder_report
from gan_denoise.inference.enhancer import Enhancer, ModelError
from gan_denoise.inference.folder import FolderOptions, enhance_folder
from gan_denoise.inference.folder_journal import digest_of, digest_of_file
from gan_denoise.inference.journal_entries import Entry
from gan_denoise.inference.journal_files import FOLDER, NAME
from gan_denoise.inference.options import DenoiseOptions
from gan_denoise.inference.worker_pool import Worker

COUNT = 200  # tiny files of the runs that are killed


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model


@pytest.fixture(scope="module")
def enhancer(model):
    return Enhancer.load(model, threads=2)


@pytest.fixture
def tree(tmp_path):
    """Three recordings at several depths."""
    root = tmp_path / "in"
    for seed, name in enumerate(("a.wav", "sub/b.flac", "sub/deep/c d.wav")):
        record(root / name, seed)
    return root


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A folder of tiny recordings, and one that takes a while."""
    root = tmp_path_factory.mktemp("many")
    for number in range(COUNT - 1):
        record(root / f"{number % 7}" / f"{number}.wav", number, 1500 + 10 * number)
    record(root / "long.wav", 0, 240 * RATE)  # a run takes seconds, on fast machines too
    return root


@pytest.fixture(scope="module")
def reference(enhancer, many, tmp_path_factory):
    """What undisturbed work in one process makes of it, by name."""
    out = tmp_path_factory.mktemp("reference")
    results = denoise(enhancer, [many], out, jobs=1)
    assert {result.status for result in results} == {"done"}
    return contents(out)


def denoise(enhancer, inputs, out, recursive=True, progress=None, **options):
    return enhance_folder(enhancer, inputs, out, FolderOptions(recursive, **options), progress)


def record(path, seed=0, samples=2000):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(samples), RATE)


def files_in(folder):
    """Names of all that is there but the journals."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file() and path.name != NAME and path.parent.name != FOLDER)


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def identities(folder, names):
    return {name: ((folder / name).stat().st_ino, (folder / name).stat().st_mtime_ns)
            for name in names}


def statuses(results):
    return [result.status for result in results]


def done_in(out):
    """Names of the targets whose last line in the journal says done."""
    last = {}
    if (out / NAME).exists():
        for line in (out / NAME).read_bytes().split(b"\n")[:-1]:
            values = json.loads(line)
            last[values["target"]] = values["state"]
    return {name for name, state in last.items() if state == "done"}


def start(model, source, out, jobs=2, **options):
    """Start a run in a process of its own."""
    code = (
        "import json, sys\n"
        "from gan_denoise.inference import Enhancer, FolderOptions, enhance_folder\n"
        "model, source, out, options = sys.argv[1:]\n"
        "results = enhance_folder(Enhancer.load(model, threads=2), [source], out,\n"
        "    FolderOptions(**json.loads(options)))\n"
        "print(json.dumps([result.status for result in results]))"
    )
    options = json.dumps({"jobs": jobs, **options})
    return subprocess.Popen([sys.executable, "-c", code, str(model), str(source), str(out),
                             options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        ended = process.poll() is not None
        assert not ended or condition(), "the run ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.002)


# ---- Trees -------------------------------------------------------------------------------------
def test_a_run_does_not_keep_what_the_journal_says_of_its_files(enhancer, many, tmp_path):
    kept = []

    def progress(at):
        if at.result is not None and at.files_done % 50 == 0:
            kept.append(sum(type(one) is Entry for one in gc.get_objects()))

    for _ in range(2):  # the second skips what the first has done
        denoise(enhancer, [many], tmp_path, jobs=1, progress=progress)
    first, second = kept[:4], kept[4:]
    assert max(first) - min(first) <= 2
    assert second[0] - second[-1] >= 140  # all are read at first


def test_a_folder_mirrors_its_tree(enhancer, tree, tmp_path):
    results = denoise(enhancer, [tree], tmp_path / "out")
    assert files_in(tmp_path / "out") == files_in(tree)
    assert [result.source.name for result in results] == ["a.wav", "b.flac", "c d.wav"]
    assert statuses(results) == ["done"] * 3
    for name in files_in(tree):
        before, after = audio.probe(tree / name), audio.probe(tmp_path / "out" / name)
        assert (before.frames, before.subtype) == (after.frames, after.subtype)
    denoise(enhancer, [tree], tmp_path / "flat", recursive=False)
    assert files_in(tmp_path / "flat") == ["a.wav"]


def test_progress_adds_up(enhancer, tree, tmp_path):
    record(tree / "long.wav", samples=25 * RATE)
    (tree / "bad.wav").write_text("this is no recording")
    for jobs in (1, 2):
        seen = []

        def watch(tally, seen=seen):
            seen.append((tally.files_done, tally.seconds_done, tally.result))
            assert tally.seconds_denoised <= tally.seconds_done + 1e-9
            assert tally.remaining is None or tally.remaining >= 0

        results = denoise(enhancer, [tree], tmp_path / f"{jobs}", jobs=jobs, progress=watch)
        total = sum(result.seconds for result in results)
        assert seen[-1][:2] == (5, pytest.approx(total))
        assert [seconds for _, seconds, _ in seen] == sorted(seconds for _, seconds, _ in seen)
        assert sum(result is not None for *_, result in seen) == 5
        inside = [seconds for _, seconds, result in seen if result is None]
        assert max(inside) - min(inside) > 10  # it moves within the long file, too


def test_a_callback_that_fails_is_no_failure_of_a_file(enhancer, tree, tmp_path):
    for jobs in (1, 2):
        with pytest.raises(ZeroDivisionError):
            denoise(enhancer, [tree], tmp_path / "out", jobs=jobs,
                                    progress=lambda tally: 1 / 0)
    assert set(statuses(denoise(enhancer, [tree], tmp_path / "out"))) <= {"done", "skipped"}
    assert files_in(tmp_path / "out") == files_in(tree)


def test_residual_and_output_add_up_to_the_input(enhancer, tree, tmp_path):
    out, residual = tmp_path / "out", tmp_path / "residual"
    denoise(enhancer, [tree], out, residual=residual)
    assert files_in(residual) == files_in(out) == files_in(tree)
    for name in files_in(tree):
        parts = [audio.read(root / name)[0] for root in (out, residual)]
        np.testing.assert_allclose(sum(parts), audio.read(tree / name)[0], atol=2 / 32768)
    assert statuses(denoise(enhancer, [tree], out, residual=residual)) == ["skipped"] * 3
    assert statuses(denoise(enhancer, [tree], out)) == ["skipped"] * 3
    (residual / "a.wav").unlink()
    again = denoise(enhancer, [tree], out, residual=residual)
    assert statuses(again) == ["done", "skipped", "skipped"]


def test_another_format_changes_the_suffix(enhancer, tree, tmp_path):
    soundfile.write(tree / "nine.wav", np.full((500, 9), 0.1), RATE)
    record(tree / "W.WAV")
    to_flac = enhancer.with_options(DenoiseOptions(format="flac"))
    results = denoise(to_flac, [tree], tmp_path / "flac")
    assert files_in(tmp_path / "flac") == ["W.flac", "a.flac", "sub/b.flac", "sub/deep/c d.flac"]
    assert audio.probe(tmp_path / "flac" / "a.flac").format == "FLAC"
    refused = [result.error for result in results if result.error]
    assert len(refused) == 1
    assert "nine.wav" in refused[0] or "nine.flac" in refused[0]
    assert "--format wav" in refused[0]
    to_wav = enhancer.with_options(DenoiseOptions(format="wav"))
    denoise(to_wav, [tree], tmp_path / "wav")
    assert "W.WAV" in files_in(tmp_path / "wav")  # a name that fits is kept


def test_symlink_loops_end(enhancer, tree, tmp_path):
    (tree / "sub" / "up").symlink_to(tree)
    (tree / "self").symlink_to(tree / "self")
    (tree / "same.wav").symlink_to(tree / "a.wav")
    results = denoise(enhancer, [tree], tmp_path / "out")
    assert statuses(results) == ["done"] * 4
    assert not (tmp_path / "out" / "same.wav").is_symlink()


def test_names_in_any_script(enhancer, tmp_path):
    names = ["会議 録音.wav", "Запись №1.wav", "تسجيل.wav", "Übung e\u0301.wav", "naïve 👩‍🎤.wav",
             "a\nb.wav", "[red]x.wav", "-rf.wav", "100%s.wav", "x" * 251 + ".wav"]
    for name in names:
        record(tmp_path / "in" / name)
    results = denoise(enhancer, [tmp_path / "in"], tmp_path / "out", jobs=2)
    assert statuses(results) == ["done"] * len(names)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.wav")) == sorted(names)
    again = denoise(enhancer, [tmp_path / "in"], tmp_path / "out")
    assert statuses(again) == ["skipped"] * len(names)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_a_name_of_undecodable_bytes_is_a_name(enhancer, tree, tmp_path):
    os.rename(tree / "a.wav", os.fsencode(tree) + b"/a\xff.wav")
    for jobs in (1, 2):
        results = denoise(enhancer, [tree], tmp_path / f"{jobs}", jobs=jobs)
        assert statuses(results) == ["done", "done", "done"]
        assert (tmp_path / f"{jobs}" / os.fsdecode(b"a\xff.wav")).is_file()
        again = denoise(enhancer, [tree], tmp_path / f"{jobs}", jobs=jobs)
        assert statuses(again) == ["skipped"] * 3
        for suffix in ("json", "csv"):
            folder_report.write_report(results, tmp_path / f"report.{suffix}")
        rows = json.loads((tmp_path / "report.json").read_bytes())
        assert Path(rows[0]["source"]) == results[0].source
        with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
            assert [row["status"] for row in csv.DictReader(file)] == statuses(results)


# ---- What is refused ---------------------------------------------------------------------------
def test_a_bad_file_is_reported_and_the_rest_is_done(enhancer, tree, tmp_path):
    (tree / "aa.wav").write_text("this is no recording")
    soundfile.write(tree / "nan.wav", np.full(500, np.nan), RATE, subtype="FLOAT")
    os.mkfifo(tree / "pipe.wav")
    for jobs in (1, 2):
        results = denoise(enhancer, [tree], tmp_path / f"{jobs}", jobs=jobs)
        failed = {result.source.name: result for result in results if result.error}
        assert set(failed) == {"aa.wav", "nan.wav", "pipe.wav"}
        assert "aa.wav" in failed["aa.wav"].error
        assert "NaN" in failed["nan.wav"].error
        assert failed["nan.wav"].seconds == 500 / RATE
        assert files_in(tmp_path / f"{jobs}") == ["a.wav", "sub/b.flac", "sub/deep/c d.wav"]


def test_any_fault_of_one_file_is_a_row(enhancer, tree, tmp_path, monkeypatch):
    whole = Enhancer.enhance_file

    def faulty(self, source, *rest):
        if source.name == "b.flac":
            raise RuntimeError("non-zero status code returned")
        return whole(self, source, *rest)

    monkeypatch.setattr(Enhancer, "enhance_file", faulty)
    results = denoise(enhancer, [tree], tmp_path / "out")
    assert statuses(results) == ["done", "failed", "done"]
    assert "b.flac: RuntimeError: non-zero status" in results[1].error


def test_folders_that_are_input_and_output_are_refused(enhancer, tree, tmp_path):
    before = contents(tree)
    (tmp_path / "link").symlink_to(tree)
    for out in (tree, tree / "sub" / "..", tmp_path / "link"):
        with pytest.raises(AudioError, match="output folder is the input"):
            denoise(enhancer, [tree], out)
        with pytest.raises(AudioError, match="residual folder is the input"):
            denoise(enhancer, [tree], tmp_path / "out", residual=out)
    with pytest.raises(AudioError, match="give two"):
        denoise(enhancer, [tree], tmp_path / "out", residual=tmp_path / "in" / ".." / "out")
    with pytest.raises(AudioError, match="not a folder"):
        denoise(enhancer, [tree], tree / "a.wav")
    assert contents(tree) == before
    assert not (tmp_path / "out").exists()


def test_two_inputs_for_one_output_are_refused_before_any_work(enhancer, tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tree / "a.wav", other / "a.wav")
    with pytest.raises(AudioError, match="would both be written"):
        denoise(enhancer, [tree, other], tmp_path / "out")
    record(tree / "a.flac")
    with pytest.raises(AudioError, match=r"a\.flac and .*a\.wav would both be written"):
        denoise(enhancer.with_options(DenoiseOptions(format="flac")), [tree], tmp_path / "out")
    record(tree / "residual" / "a.wav")
    with pytest.raises(AudioError, match="would both be written"):  # a residual over an output
        denoise(enhancer, [tree], tmp_path / "out", residual=tmp_path / "out" / "residual")
    assert not (tmp_path / "out").exists()
    results = denoise(enhancer, [tree, tree / "a.wav"], tmp_path / "out")
    assert len(results) == 5  # the same file twice is one


def test_names_that_the_disk_may_merge(enhancer, tree, tmp_path, monkeypatch):
    record(tree / "A.WAV", seed=9)
    record(tree / unicodedata.normalize("NFC", "é.wav"))
    record(tree / unicodedata.normalize("NFD", "é.wav"))
    before = files_in(tmp_path)
    assert len(files_in(tree)) == 6, "this disk merges them: the test needs another one"
    results = denoise(enhancer, [tree], tmp_path / "out", dry_run=True)
    assert statuses(results) == ["planned"] * 6
    assert files_in(tmp_path) == before
    exists = Path.exists
    merged = {"upper": lambda path: path.with_name(path.name.lower()),
              "accents": lambda path: path.with_name(unicodedata.normalize("NFC", path.name))}
    for twin in merged.values():
        with monkeypatch.context() as disk:
            disk.setattr(Path, "exists", lambda path, twin=twin: exists(path) or exists(twin(path)))
            with pytest.raises(AudioError, match="would both be written"):
                denoise(enhancer, [tree], tmp_path / "out")
    assert files_in(tmp_path) == before


def test_an_output_folder_inside_the_input_is_not_read(enhancer, tree):
    out, residual = tree / "cleaned", tree / "sub" / "removed"
    (tree / "link").symlink_to(out)
    denoise(enhancer, [tree], out, residual=residual)
    again = denoise(enhancer, [tree], out, residual=residual)
    assert statuses(again) == ["skipped"] * 3
    assert files_in(out) == files_in(residual) == ["a.wav", "sub/b.flac", "sub/deep/c d.wav"]


def test_an_input_inside_the_output_folder_is_no_output(enhancer, tree, tmp_path):
    results = denoise(enhancer, [tree], tmp_path)
    assert statuses(results) == ["done"] * 3
    assert (tmp_path / "a.wav").is_file()


def test_an_output_that_is_an_input_is_refused(enhancer, tree, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    os.link(tree / "a.wav", out / "a.wav")
    (out / "sub").symlink_to(tree / "sub")
    before = contents(tree)
    for overwrite in (False, True):
        results = denoise(enhancer, [tree], out, overwrite=overwrite)
        assert statuses(results) == ["failed"] * 3
        assert all("is the input" in result.error for result in results)
    results = denoise(enhancer, [out / "a.wav"], out)
    assert "is the input" in results[0].error
    assert contents(tree) == before


def test_a_file_that_was_not_written_here_is_not_replaced(enhancer, tree, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.wav").write_bytes(b"the only copy of something")
    (out / "sub").mkdir()
    (out / "sub" / "b.flac").symlink_to("nowhere")
    results = denoise(enhancer, [tree], out)
    assert statuses(results) == ["failed", "failed", "done"]
    assert all("was not written by gan-denoise here; --overwrite replaces it" in result.error
               for result in results[:2])
    assert (out / "a.wav").read_bytes() == b"the only copy of something"
    assert statuses(denoise(enhancer, [tree], out, overwrite=True)) == ["done"] * 3
    assert audio.probe(out / "a.wav").frames == 2000
    assert statuses(denoise(enhancer, [tree], out)) == ["skipped"] * 3


def test_what_took_the_name_after_a_failure_is_not_replaced(enhancer, tree, tmp_path):
    soundfile.write(tree / "nan.wav", np.full(500, np.nan), RATE, subtype="FLOAT")
    assert statuses(denoise(enhancer, [tree], tmp_path / "out")).count("failed") == 1
    (tmp_path / "out" / "nan.wav").write_bytes(b"made by hand")
    record(tree / "nan.wav")
    results = denoise(enhancer, [tree], tmp_path / "out")
    assert "was not written by gan-denoise here" in results[1].error
    assert (tmp_path / "out" / "nan.wav").read_bytes() == b"made by hand"


def test_nothing_to_do_is_refused(enhancer, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no audio found"):
        denoise(enhancer, [tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(AudioError, match="no such"):
        denoise(enhancer, [tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- Once is enough ----------------------------------------------------------------------------
def test_what_is_done_costs_no_network(enhancer, tree, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = denoise(enhancer, [tree], out)
    before = identities(out, files_in(out))

    def work(*_, **__):
        raise AssertionError("nothing is to be done")

    monkeypatch.setattr(Enhancer, "enhance_file", work)
    monkeypatch.setattr(Worker, "__init__", work)
    for jobs in (1, 2):
        again = denoise(enhancer, [tree], out, jobs=jobs)
        assert statuses(again) == ["skipped"] * 3
        assert identities(out, files_in(out)) == before
        for one, other in zip(first, again, strict=True):  # the figures of the run that did it
            for name in ("seconds", "channels", "elapsed", "peak_in_db", "noise_floor_drop_db"):
                assert getattr(one, name) == getattr(other, name)


def test_what_changed_is_done_again(enhancer, tree, tmp_path):
    out = tmp_path / "out"
    denoise(enhancer, [tree], out)

    def again(enhancer=enhancer, **options):
        planned = denoise(enhancer, [tree], out, dry_run=True, **options)
        results = denoise(enhancer, [tree], out, **options)
        assert [result.reason for result in planned] == [result.reason for result in results]
        return {result.source.name: result.reason for result in results if result.status == "done"}

    assert again() == {}
    record(tree / "a.wav", seed=5)
    assert again() == {"a.wav": "the input changed"}
    os.utime(tree / "a.wav", (0, 0))
    assert again() == {}  # the content counts
    (out / "a.wav").write_bytes((out / "a.wav").read_bytes()[:-1])
    (out / "sub" / "b.flac").unlink()
    missing = "an output is missing or has another size"
    assert again() == {"a.wav": missing, "b.flac": missing}
    softer = enhancer.with_options(DenoiseOptions(strength=0.5))
    changed = dict.fromkeys(["a.wav", "b.flac", "c d.wav"], "model or settings changed")
    assert again(softer) == changed
    assert again(softer) == {}
    assert again(softer.with_inversion("gain", max_gain_db=1.0)) == changed
    assert set(again(overwrite=True).values()) == {"overwrite"}
    (out / NAME).write_text("")
    assert all("not written by gan-denoise here" in result.error
               for result in denoise(enhancer, [tree], out))


def test_a_changed_model_redoes_the_files(enhancer, model, tree, tmp_path):
    denoise(enhancer, [tree], tmp_path / "out")
    shutil.copytree(model, tmp_path / "model")
    same = Enhancer.load(tmp_path / "model")
    assert statuses(denoise(same, [tree], tmp_path / "out")) == ["skipped"] * 3
    with open(tmp_path / "model" / "config.yaml", "a") as file:
        file.write("# trained again\n")
    with pytest.raises(ModelError, match="not as it was written"):
        Enhancer.load(tmp_path / "model")
    (tmp_path / "model" / SUMS).unlink()  # the change is meant
    other = Enhancer.load(tmp_path / "model")
    for jobs in (2, 1):
        results = denoise(other, [tree], tmp_path / "out", jobs=jobs)
        assert statuses(results) == ["done" if jobs == 2 else "skipped"] * 3
    with pytest.raises(ModelError, match="changed since it was loaded"):
        denoise(same, [tree], tmp_path / "out", jobs=2)


def test_a_dry_run_writes_nothing(enhancer, tree, tmp_path):
    out = tmp_path / "out"
    record(out / "a.wav")
    before = files_in(tmp_path)
    results = denoise(enhancer, [tree], out, dry_run=True)
    assert statuses(results) == ["failed", "planned", "planned"]
    assert [result.reason for result in results[1:]] == ["new", "new"]
    assert files_in(tmp_path) == before
    assert not (out / NAME).exists()


def test_shards_are_the_whole_and_share_nothing(enhancer, many, tmp_path, reference):
    names = []
    for number in (1, 2, 3):
        results = denoise(enhancer, [many], tmp_path, shard=(number, 3), dry_run=True)
        names += [result.source.relative_to(many).as_posix() for result in results]
    assert len(names) == len(set(names))
    assert sorted(names) == sorted(reference)
    assert denoise(enhancer, [many / "long.wav"], tmp_path, shard=(2, 2)) == []
    for shard in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(AudioError, match="shard"):
            denoise(enhancer, [many], tmp_path, shard=shard)


def test_what_any_share_did_is_skipped_by_every_other_run(enhancer, tree, tmp_path):
    out = tmp_path / "out"
    count = len(denoise(enhancer, [tree], out, dry_run=True))
    for number in (2, 1):
        denoise(enhancer, [tree], out, shard=(number, 2))
    assert not (out / NAME).exists()  # the journal of a run without shares
    assert len(list((out / FOLDER).iterdir())) == 2
    for shard in (None, (1, 1), (3, 3)):
        results = denoise(enhancer, [tree], out, shard=shard)
        assert set(statuses(results)) == {"skipped"}
    assert len(denoise(enhancer, [tree], out, dry_run=True)) == count
    assert len(list((out / FOLDER).iterdir())) == 2  # a run that does nothing writes nothing
    # What they wrote is no input, and their left-overs are found.
    again = denoise(enhancer, [tmp_path], tmp_path / "again", dry_run=True)
    assert {tmp_path / "again" / result.source.relative_to(tmp_path) for result in again} == {
        result.target for result in again}
    assert not [result for result in again if out in result.source.parents]


def test_what_another_kind_of_run_does_meanwhile_is_skipped(enhancer, tree, tmp_path):
    def other(tally):
        if tally.files_done == 1 and not (tmp_path / FOLDER).exists():
            denoise(enhancer, [tree], tmp_path, shard=(1, 1))

    results = denoise(enhancer, [tree], tmp_path, progress=other, jobs=1)
    assert set(statuses(results)) == {"done", "skipped"}
    assert statuses(results).count("done") == 1


@given(st.sets(st.text("ab1", min_size=1, max_size=4), min_size=1, max_size=20),
       st.integers(1, 25), st.randoms())
@settings(max_examples=15, deadline=None)
def test_shards_cover_every_file_once_in_whatever_order(names, count, order):
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            (Path(root) / f"{name}.wav").touch()  # refused, which is a result as well
        numbers = list(range(1, count + 1))
        order.shuffle(numbers)
        plans = [folder_plan.plan_folder([Path(root)], Path(root, "out"), DenoiseOptions(),
                                         shard=(number, count)) for number in numbers]
        sources = [item.source.stem for plan in plans for item in plan.items]
    assert sorted(sources) == sorted(names)


def test_the_first_failure_can_end_the_run(enhancer, tree, tmp_path):
    soundfile.write(tree / "nan.wav", np.full(500, np.nan), RATE, subtype="FLOAT")
    results = denoise(enhancer, [tree], tmp_path / "out", fail_fast=True)
    assert statuses(results) == ["done", "failed"]
    (tree / "z.wav").write_text("this is no recording")  # seen before any work
    results = denoise(enhancer, [tree], tmp_path / "new", fail_fast=True)
    assert statuses(results) == ["failed"]
    assert not (tmp_path / "new").exists()


# ---- Runs that are stopped ---------------------------------------------------------------------
@pytest.mark.system
def test_killed_again_and_again_it_comes_to_its_end(enhancer, model, many, tmp_path, reference):
    out = tmp_path / "out"
    rng = random.Random(0)
    done = {}
    for stop in sorted(rng.sample(range(2, COUNT - 30), 3)):
        run = start(model, many, out)
        wait_for(lambda stop=stop: len(done_in(out)) >= stop, run)
        time.sleep(0.01 * rng.random())
        run.kill()
        run.wait()
        now = identities(out, done_in(out))
        assert done.items() <= now.items()  # what was done was not done again
        done = now
    results = denoise(enhancer, [many], out, jobs=2)
    assert contents(out) == reference  # whole files, no half ones, no left-overs
    assert len(results) == COUNT
    assert {result.status for result in results} == {"done", "skipped"}
    assert statuses(results).count("done") <= COUNT - len(done)
    assert done.items() <= identities(out, reference).items()
    folder_report.write_report(results, tmp_path / "report.csv")
    with open(tmp_path / "report.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == COUNT
    assert all(float(row["seconds"]) > 0 and float(row["real_time_factor"]) > 0 for row in rows)


def test_what_a_killed_process_left_is_removed(enhancer, model, many, tmp_path, reference):
    run = start(model, many / "long.wav", tmp_path, jobs=1)
    wait_for(lambda: list(tmp_path.glob(".*.part")), run)
    run.kill()
    run.wait()
    assert len(files_in(tmp_path)) == 1
    denoise(enhancer, [many / "long.wav"], tmp_path, dry_run=True)
    assert files_in(tmp_path) != ["long.wav"]  # a dry run leaves all as it is
    denoise(enhancer, [many / "long.wav"], tmp_path)
    assert contents(tmp_path) == {"long.wav": reference["long.wav"]}


def test_ctrl_c_leaves_whole_files_and_the_report(model, many, tmp_path, reference):
    out, report = tmp_path / "out", tmp_path / "report.json"
    command = [sys.executable, "-m", "gan_denoise.cli", "denoise", str(many), "-o", str(out), "-m",
               str(model), "-j", "2", "--threads", "2", "--report", str(report)]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for(lambda: len(done_in(out)) >= 5, run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    errors = run.communicate(timeout=20)[1]
    assert run.returncode == 130, errors
    assert "the same command goes on" in errors
    assert "Traceback" not in errors
    found = contents(out)
    assert 5 <= len(found) < COUNT
    assert found.items() <= reference.items()
    rows = json.loads(report.read_bytes())
    assert {row["status"] for row in rows} == {"done"}
    assert 0 < len(rows) <= len(found)
    done = identities(out, done_in(out))
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert contents(out) == reference
    assert done.items() <= identities(out, reference).items()
    assert len(json.loads(report.read_bytes())) == COUNT


def test_ctrl_c_within_one_process(enhancer, many, tmp_path, reference):
    def interrupt(tally):
        if tally.files_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(folder.Interrupted) as stopped:
        denoise(enhancer, [many], tmp_path, jobs=1, progress=interrupt)
    assert statuses(stopped.value.results) == ["done"] * 5
    assert len(files_in(tmp_path)) == 5
    assert contents(tmp_path).items() <= reference.items()


@pytest.mark.parametrize("shards", [(None, None), ((1, 1), None), ((1, 2), (2, 2))])
def test_two_runs_at_once_share_a_folder(model, many, tmp_path, reference, shards):
    runs = [start(model, many, tmp_path, jobs=1, shard=shard) for shard in shards]
    seen = [json.loads(run.communicate(timeout=60)[0]) for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert {status for one in seen for status in one} <= {"done", "skipped"}
    assert contents(tmp_path) == reference


def test_a_file_that_kills_its_process_costs_no_other(enhancer, many, tmp_path, monkeypatch,
                                                      reference):
    source = tmp_path / "in"
    shutil.copytree(many, source)
    deadly = ["0/deadly.wav", "3/deadly too.wav"]
    for name in deadly:
        shutil.copy(many / "0" / "0.wav", source / name)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, resource, signal, sys\n"
        "if 'gan_denoise.inference.folder_worker' in sys.orig_argv:\n"
        "    import soundfile\n"
        "    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "    init, read = soundfile.SoundFile.__init__, soundfile.SoundFile.read\n"
        "    def opens(self, file, *rest, **options):\n"
        "        print('a library prints what it likes')\n"
        "        if 'deadly.wav' in str(file):\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        init(self, file, *rest, **options)\n"
        "    def reads(self, *rest, **options):\n"
        "        if 'deadly too' in self.name:  # with its output begun\n"
        "            os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        return read(self, *rest, **options)\n"
        "    soundfile.SoundFile.__init__, soundfile.SoundFile.read = opens, reads\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")
    results = denoise(enhancer, [source], tmp_path / "out", jobs=2)
    failed = {result.source.relative_to(source).as_posix(): result.error
              for result in results if result.status != "done"}
    assert sorted(failed) == deadly
    assert all("the process died (signal 11) while on this file" in error
               for error in failed.values())
    assert contents(tmp_path / "out") == reference


def test_a_worker_that_cannot_start_ends_the_run(enhancer, tree, tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\nif 'gan_denoise.inference.folder_worker' in sys.orig_argv: os._exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with pytest.raises(ModelError, match=r"could not start: .*exit code 3"):
        denoise(enhancer, [tree], tmp_path / "out", jobs=2)


def test_a_worker_that_is_killed_as_it_starts_is_replaced(enhancer, tree, tmp_path, monkeypatch):
    """As often as there is a file that it can take away."""
    lives, site = tmp_path / "lives", tmp_path / "site"
    lives.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, pathlib, signal, sys\n"
        "if 'gan_denoise.inference.folder_worker' in sys.orig_argv:\n"
        f"    for life in pathlib.Path({str(lives)!r}).iterdir():\n"
        "        try:\n"
        "            life.unlink()\n"
        "        except FileNotFoundError:\n"
        "            continue\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n")
    denoise(enhancer, [tree], tmp_path / "whole", jobs=2)
    monkeypatch.syspath_prepend(site)
    for number in range(2):
        (lives / str(number)).touch()
    assert statuses(denoise(enhancer, [tree], tmp_path / "out", jobs=2)) == ["done"] * 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not list(lives.iterdir())
    for number in range(9):
        (lives / str(number)).touch()
    with pytest.raises(ModelError, match=r"could not start: .*signal 9"):
        denoise(enhancer, [tree], tmp_path / "other", jobs=2)
    assert 3 <= len(list(lives.iterdir())) <= 6  # one of two workers was killed three times


def test_a_worker_stopped_amid_an_import_says_nothing(model, tmp_path):
    # A compiled module turns whatever is raised while it starts into an ImportError.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys, time\n"
        "class Finder:\n"
        "    def find_spec(name, *_):\n"
        "        try:\n"
        "            if name == 'onnxruntime':\n"
        "                os.kill(os.getpid(), signal.SIGTERM)\n"
        "                time.sleep(5)\n"
        "        except BaseException: raise ImportError('initialization failed') from None\n"
        "sys.meta_path.insert(0, Finder)\n")
    setup = {"model": str(model), "inversion": "{}", "options": {}, "threads": 1,
             "chunk_seconds": 30, "plugins": [], "out": str(tmp_path)}
    path = os.pathsep.join([str(tmp_path), *(entry or os.getcwd() for entry in sys.path)])
    run = subprocess.run([sys.executable, "-m", "gan_denoise.inference.folder_worker"],
                         capture_output=True, text=True, input=json.dumps(setup),
                         env=os.environ | {"PYTHONPATH": path})
    assert run.returncode == -signal.SIGTERM
    assert (run.stdout, run.stderr) == ("", "")


def test_workers_stop_when_the_parent_is_killed(model, many, tmp_path):
    run = start(model, many, tmp_path / "out")
    wait_for(lambda: len(done_in(tmp_path / "out")) >= 1, run)
    run.kill()
    # They hold the stderr of the run as long as they live.
    assert run.communicate(timeout=10) == ("", "")
    assert set(files_in(tmp_path / "out")) <= set(files_in(many))


# ---- Folders of earlier versions ----------------------------------------------------------------
# Lines that version 0.1.0 wrote for a file of this content, model and these options.
OLD_LINES = (
    '{"state": "begun", "target": "a.wav", "host": "desk", "outputs": {"a.wav": 0}}\n'
    '{"state": "done", "target": "a.wav", "host": "desk", "outputs": {"a.wav": 4044}, '
    '"input": "INPUT", "settings": "SETTINGS", "figures": {"status": "done", "seconds": 0.125, '
    '"sample_rate": 16000, "channels": 1, "elapsed": 0.02, "peak_in_db": -9.0, '
    '"peak_out_db": -12.5, "noise_floor_drop_db": 21.3, "clipped": 0, "guard_gain_db": 0.0, '
    '"lost": ["tag genre"], "note": "", "cut_off": "", "error": null, "reason": null}}\n'
)
OLD_SETTINGS = (
    ("gain", {}, "83317eb0be6141261d9c2e45f4eef657"),
    ("gain", {"strength": 0.5, "atten_lim_db": 12.0, "channels": "link", "peak_guard": True,
              "format": "flac", "bit_rate": 96, "preserve_times": True},
     "49b3508910b18fa41d8dd07c165f9460"),
    ("griffinlim", {}, "fef0b93a84fa27ad77c441dae26a6fd7"),
    ("gain+phase", {}, "0dd1826d87ab15eb0d307204d35a2af7"),
)


@pytest.fixture
def of_old(enhancer):
    """An enhancer whose model has the digest that the old lines were written with."""
    model = dataclasses.replace(enhancer.model, fingerprint="0" * 32)
    return Enhancer(model, enhancer.inversion, enhancer.options, 1, 45.0, enhancer.pool)


@pytest.mark.parametrize(("inversion", "options", "digest"), OLD_SETTINGS)
def test_the_digest_of_the_settings_is_that_of_version_0_1(of_old, inversion, options, digest):
    settled = of_old.with_inversion(inversion).with_options(DenoiseOptions(**options))
    assert digest_of(settled.settings()) == digest


def test_what_version_0_1_did_is_skipped(of_old, tmp_path):
    source, out = tmp_path / "in" / "a.wav", tmp_path / "out"
    record(source)
    out.mkdir()
    (out / "a.wav").write_bytes(bytes(4044))  # its size is what counts
    lines = OLD_LINES.replace("SETTINGS", OLD_SETTINGS[0][2])
    (out / NAME).write_text(lines.replace("INPUT", digest_of_file(source)))
    (result,) = denoise(of_old, [source], out)
    assert (result.status, result.noise_floor_drop_db, result.lost) == (
        "skipped", 21.3, ("tag genre",))
    assert (out / "a.wav").read_bytes() == bytes(4044)
    softer = of_old.with_options(DenoiseOptions(strength=0.9))
    (result,) = denoise(softer, [source], out)
    assert (result.status, result.reason) == ("done", "model or settings changed")


# ---- How often a file is opened -----------------------------------------------------------------
@pytest.fixture
def opened(monkeypatch):
    """The paths that are opened, by Python, libsndfile or FFmpeg, in this process."""
    paths = []

    def note(name):
        if isinstance(name, (str, bytes, os.PathLike)):
            paths.append(Path(os.fsdecode(name).removeprefix("file:")))

    def noted(function, at):
        def call(*arguments, **options):
            note(arguments[at])
            return function(*arguments, **options)
        return call

    monkeypatch.setattr("builtins.open", noted(open, 0))
    monkeypatch.setattr(os, "open", noted(os.open, 0))
    monkeypatch.setattr(soundfile.SoundFile, "__init__", noted(soundfile.SoundFile.__init__, 1))
    monkeypatch.setattr(av, "open", noted(av.open, 0))
    return paths


@pytest.mark.parametrize(("suffix", "most"), [(".wav", 8), (".flac", 7), (".m4a", 8)])
def test_a_source_is_opened_a_few_times(enhancer, tmp_path, opened, suffix, most):
    source, out = tmp_path / f"a{suffix}", tmp_path / "out"
    write(source, np.full((2, 8000), 0.1, np.float32), RATE)
    for status, limit in (("done", most), ("skipped", 3)):  # skipped: the header, and the content
        opened.clear()
        (result,) = denoise(enhancer, [source], out, jobs=1)
        assert result.status == status
        assert 0 < opened.count(source) <= limit


def test_each_further_pass_opens_a_source_as_often_as_the_first(enhancer, tmp_path, opened):
    tone = 0.9 * np.sin(np.arange(8000) / 7, dtype=np.float32)
    loud = np.stack([tone, np.roll(tone, 11)])
    opens = {}
    for name, samples, options in (
        ("once", 0.1 * loud, {}),
        ("guarded", 2 * loud, {"strength": 0.0, "peak_guard": True}),
        ("far above full scale", 20 * loud, {}),
        ("cancelled", np.stack([tone, -tone]), {"channels": "mono"}),
    ):
        source = tmp_path / f"{name}.wav"
        write(source, samples, RATE, "WAV", "FLOAT")
        opened.clear()
        one = enhancer.with_options(DenoiseOptions(**options))
        result = one.enhance_file(source, tmp_path / "out" / f"{name}.wav")
        assert (name == "once") == (result.note == "" and result.guard_gain_db == 0)
        opens[name] = opened.count(source)
    assert opens["guarded"] == opens["far above full scale"] == opens["cancelled"]
    assert opens["once"] < opens["guarded"] < 2 * opens["once"]


# ---- The report --------------------------------------------------------------------------------
def test_the_report_has_a_row_a_file(enhancer, tree, tmp_path):
    (tree / "bad, \"quoted\".wav").write_text("this is no recording")
    soundfile.write(tree / "silent.wav", np.zeros((3000, 2)), 44100)
    results = denoise(enhancer, [tree], tmp_path / "out")
    for suffix in (".json", ".CSV"):
        folder_report.write_report(results, tmp_path / f"report{suffix}")
    rows = json.loads((tmp_path / "report.json").read_text())
    with open(tmp_path / "report.CSV", encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [list(folder_report.COLUMNS)] * 5
    assert [row["source"] for row in rows] == [row["source"] for row in table] == [
        str(result.source) for result in results]
    assert [row["status"] for row in table] == ["done", "failed", "done", "done", "done"]
    assert "not readable as audio" in rows[1]["error"]
    assert rows[1]["real_time_factor"] is None
    assert rows[2]["source"].endswith("silent.wav")
    assert rows[2]["peak_in_db"] is None  # digital silence has no level
    assert (rows[2]["sample_rate"], rows[2]["channels"]) == (44100, 2)
    expected = rows[0]["seconds"] / rows[0]["elapsed"]
    assert rows[0]["real_time_factor"] == pytest.approx(expected, rel=0.05)
    for path in (tmp_path / "report.txt", tmp_path / "report", tree):
        with pytest.raises(AudioError, match="report"):
            folder_report.check_report(path)


def test_a_plan_reads_headers_alone(enhancer, tree, tmp_path):
    write(tree / "opus.opus", np.zeros(4800, np.float32), 48000)
    items = folder_plan.plan_folder([tree], tmp_path / "out", DenoiseOptions(channels="mono")).items
    assert [item.seconds for item in items] == [0.125, 0.1, 0.125, 0.125]
    assert all(item.refused is None and item.residual is None for item in items)
