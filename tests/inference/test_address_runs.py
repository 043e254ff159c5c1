"""Folders at addresses: the files of a local run, whatever is missing, lost or killed on the way.

What a store does is tested on a server of S3; what fails is made to fail in memory.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest
import soundfile
from conftest import RATE
from object_store import google_store, store_of

from gan_denoise.audio import AudioError
from gan_denoise.cli.app import run
from gan_denoise.core.atomic_files import write_atomically
from gan_denoise.core.locations import LocationError, location
from gan_denoise.core.standard_streams import tolerant_streams
from gan_denoise.inference import journal_objects, staging
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.folder import FolderOptions, enhance_folder
from gan_denoise.inference.folder_journal import Journal
from gan_denoise.inference.journal_files import FOLDER, NAME
from gan_denoise.inference.listed_files import ListedFiles
from gan_denoise.inference.options import DenoiseOptions

BUCKET = "s3://cleaning"
BAD = "s1/text.wav"
NAMES = ("a.wav", "s1/b c.flac", "s1/100%.wav", "s1/deep/#1 ü.wav", "s2/d.wav")


@pytest.fixture(scope="module")
def enhancer(tiny_model):
    return Enhancer.load(tiny_model, threads=2)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Some recordings, and a file that is none."""
    root = tmp_path_factory.mktemp("here")
    for seed, name in enumerate(NAMES):
        record(root / name, seed)
    (root / BAD).write_text("this is no recording")
    return root


@pytest.fixture(scope="module")
def reference(enhancer, here, tmp_path_factory):
    """What a local run makes of them, by name."""
    out = tmp_path_factory.mktemp("reference")
    enhance_folder(enhancer, [here], out, FolderOptions(jobs=1))
    return {name: (out / name).read_bytes() for name in NAMES}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GAN_DENOISE_CACHE", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    work = tmp_path / "cache" / staging.FOLDER
    assert not work.exists() or not any(work.iterdir())


@pytest.fixture(scope="module")
def bucket(here):
    with store_of(here, f"{BUCKET}/in") as files:
        yield files


@pytest.fixture
def memory(here):
    files = fsspec.filesystem("memory")
    files.put(f"{here}/", "/cleaning/in/", recursive=True)
    yield files
    files.rm("/cleaning", recursive=True)


def record(path, seed=0, samples=2000):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    soundfile.write(path, 0.1 * rng.standard_normal(samples), RATE)


def denoise(enhancer, source, out, progress=None, **options):
    return enhance_folder(enhancer, [source], out, FolderOptions(**{"jobs": 1} | options), progress)


def contents(files, address):
    """What is at an address but for the journals, by name."""
    files.invalidate_cache()
    begin = len(files._strip_protocol(address)) + 1
    return {name[begin:]: files.cat_file(name) for name in files.find(address)
            if name[begin:] and NAME not in name and FOLDER not in name}


def statuses(results):
    return {result.source.relative_to(location("s3://cleaning/in")).as_posix(): result.status
            for result in results}


# ---- A store -----------------------------------------------------------------------------------
@pytest.mark.parametrize("jobs", [1, 2])
def test_from_address_to_address_are_the_files_of_a_local_run(
        bucket, enhancer, reference, monkeypatch, jobs):
    out = f"{BUCKET}/out-{jobs}"
    results = denoise(enhancer, f"{BUCKET}/in", out, jobs=jobs)
    assert contents(bucket, out) == reference
    assert statuses(results) == dict.fromkeys(NAMES, "done") | {BAD: "failed"}
    failed = next(result for result in results if result.status == "failed")
    assert failed.error.startswith(f"{BUCKET}/in/{BAD}: not readable")
    assert str(results[0].target) == f"{out}/a.wav"

    monkeypatch.setattr(staging, "fetch", lambda *_: pytest.fail("was fetched again"))
    monkeypatch.setattr(Enhancer, "enhance_file", lambda *_: pytest.fail("was denoised again"))
    (again,) = enhance_folder(enhancer, [f"{BUCKET}/in/a.wav"], out, FolderOptions())
    assert (again.status, again.seconds) == ("skipped", results[0].seconds)


def test_from_here_to_an_address_and_back(bucket, enhancer, here, reference, tmp_path):
    out = f"{BUCKET}/mixed"
    denoise(enhancer, here, out, residual=f"{BUCKET}/removed")
    assert contents(bucket, out) == reference
    assert contents(bucket, f"{BUCKET}/removed").keys() == reference.keys()
    denoise(enhancer, f"{BUCKET}/in", tmp_path / "out")
    assert {name: (tmp_path / "out" / name).read_bytes() for name in NAMES} == reference
    again = denoise(enhancer, f"{BUCKET}/in", tmp_path / "out")
    assert sorted(result.status for result in again) == ["failed"] + ["skipped"] * len(NAMES)


def test_what_changed_is_done_again_and_nothing_else(bucket, enhancer, here, tmp_path):
    source, out = f"{BUCKET}/changing", f"{BUCKET}/changed"
    for name in NAMES[:2]:
        bucket.put_file(str(here / name), f"{source}/{name}")
    denoise(enhancer, source, out)
    record(tmp_path / "other.wav", seed=9)
    bucket.put_file(str(tmp_path / "other.wav"), f"{source}/a.wav")
    results = denoise(enhancer, source, out)
    assert [(result.status, result.reason) for result in results] == [
        ("done", "the input changed"), ("skipped", None)]
    bucket.rm(f"{out}/s1/b c.flac")
    results = denoise(enhancer, source, out)
    assert [(result.status, result.reason) for result in results] == [
        ("skipped", None), ("done", "an output is missing or has another size")]
    results = denoise(enhancer.with_options(DenoiseOptions(strength=0.5)), source, out)
    assert {result.reason for result in results} == {"model or settings changed"}


def test_shares_cover_all_and_know_of_each_other(bucket, enhancer, reference):
    out = f"{BUCKET}/shared"
    for number in (3, 1, 2):
        denoise(enhancer, f"{BUCKET}/in", out, shard=(number, 3))
    assert contents(bucket, out) == reference
    results = denoise(enhancer, f"{BUCKET}/in", out)
    assert statuses(results) == dict.fromkeys(NAMES, "skipped") | {BAD: "failed"}


@pytest.mark.system
def test_a_killed_run_leaves_nothing_half_written_and_goes_on(
        bucket, tiny_model, enhancer, tmp_path):
    for number in range(24):
        record(tmp_path / "many" / f"{number}.wav", number, 1500 + 100 * number)
    denoise(enhancer, tmp_path / "many", tmp_path / "local")
    whole = {path.name: path.read_bytes() for path in (tmp_path / "local").glob("*.wav")}
    bucket.put(f"{tmp_path}/many/", f"{BUCKET}/many/", recursive=True)
    code = ("import sys\n"
            "from gan_denoise.inference import Enhancer, FolderOptions, enhance_folder\n"
            "enhance_folder(Enhancer.load(sys.argv[1], threads=2), [sys.argv[2]], sys.argv[3],\n"
            "    FolderOptions(jobs=2))")
    out = f"{BUCKET}/killed"
    command = [sys.executable, "-c", code, str(tiny_model), f"{BUCKET}/many", out]
    process = subprocess.Popen(command, start_new_session=True)
    end = time.monotonic() + 60
    while len(bucket.find(out)) < 8 and process.poll() is None:  # with journals
        assert time.monotonic() < end
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)  # with its workers
    assert process.wait() == -signal.SIGKILL
    made = contents(bucket, out)
    assert made.items() <= whole.items()
    assert 0 < len(made) < 24
    assert subprocess.run(command).returncode == 0
    assert contents(bucket, out) == whole
    assert {result.status for result in denoise(enhancer, f"{BUCKET}/many", out)} == {"skipped"}


def test_the_command_takes_addresses(bucket, tiny_model, reference, capsys):
    out = f"{BUCKET}/command"
    with tolerant_streams() as output:
        code = run(["denoise", f"{BUCKET}/in", "-o", out, "-m", str(tiny_model), "-j", "1",
                    "--report", f"{out}/run.csv", "--report", f"{out}/run.html"], output)
    said = capsys.readouterr()
    assert code == 1  # for the file that is no recording
    assert "5 files done, 0 skipped, 1 failed" in said.out
    assert said.out.rstrip().endswith(f"in {out}")
    found = contents(bucket, out)
    rows = list(csv.DictReader(io.StringIO(found["run.csv"].decode())))
    assert [row["status"] for row in rows].count("done") == len(NAMES)
    assert rows[0]["source"] == f"{BUCKET}/in/a.wav"
    assert f"{BUCKET}/in/a.wav" in found["run.html"].decode()


def test_a_missing_bucket_is_one_line(bucket, enhancer, here):
    missing = "s3://no-such-bucket"
    for source, out in ((here, f"{missing}/out"), (f"{missing}/in", here / "x")):
        with pytest.raises((AudioError, LocationError), match=rf"{missing}/\w+: no such file or"):
            denoise(enhancer, source, out)


@pytest.mark.parametrize(
    "content", [b"\r", b"end\r", b"end\n", b"end\r\n", b"end\n\r", b"\r\r", b""])
def test_last_bytes_reach_another_kind_of_store(content):
    with google_store("cleaning") as files:
        write_atomically(location("gs://cleaning/end"), lambda file: file.write(content))
        assert files.cat_file("gs://cleaning/end") == content


def test_another_kind_of_store(enhancer, here, reference, monkeypatch):
    with google_store("cleaning") as files:
        files.put(f"{here}/", "gs://cleaning/in/", recursive=True)
        denoise(enhancer, "gs://cleaning/in", "gs://cleaning/out")
        assert contents(files, "gs://cleaning/out") == reference
        files.put_file(str(here / "s2/d.wav"), "gs://cleaning/in/a.wav")
        again = denoise(enhancer, "gs://cleaning/in", "gs://cleaning/out")
        assert [result.reason for result in again if result.status == "done"] == [
            "the input changed"]
        assert sorted(result.status for result in again) == [
            "done", "failed", *["skipped"] * (len(NAMES) - 1)]
        with pytest.raises(LocationError, match="gs://no-such-bucket/out: no such file"):
            denoise(enhancer, here, "gs://no-such-bucket/out")


# ---- What goes wrong ---------------------------------------------------------------------------
def test_an_address_that_cannot_be_written_ends_the_run_before_any_work(
        memory, enhancer, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(memory, "pipe_file", refuse)
    monkeypatch.setattr(staging, "fetch", lambda *_: pytest.fail("was fetched"))
    with pytest.raises(LocationError, match=r"memory://cleaning/out/.*Access Denied"):
        denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out")


@pytest.mark.parametrize("lost", ["get_file", "put_file", "pipe_file"])
def test_a_lost_connection_is_a_failed_file_and_the_same_command_does_it(
        memory, enhancer, reference, monkeypatch, lost):
    out = "memory://cleaning/out"
    denoise(enhancer, "memory://cleaning/in/a.wav", out)
    working = getattr(memory, lost)

    def fail(first, *rest, **options):
        if "s1" in f"{first}{rest}":
            raise ConnectionError("connection reset")
        return working(first, *rest, **options)

    monkeypatch.setattr(memory, lost, fail)
    results = denoise(enhancer, "memory://cleaning/in", out)
    errors = [result.error for result in results if result.status == "failed"]
    made = contents(memory, "memory://cleaning/out")
    assert made.items() <= reference.items()
    assert {"a.wav", "s2/d.wav"} <= made.keys()
    assert any("memory://cleaning/" in error and "connection reset" in error for error in errors)
    monkeypatch.undo()
    denoise(enhancer, "memory://cleaning/in", out)
    assert contents(memory, "memory://cleaning/out") == reference


def test_a_store_that_is_lost_for_good_leaves_the_results(memory, enhancer, monkeypatch):
    def lose(tally):
        if tally.result is not None and tally.result.status == "done":
            for name in ("get_file", "put_file", "pipe_file", "info", "find", "cat", "cat_file"):
                monkeypatch.setattr(memory, name, refuse)

    def refuse(*_, **__):
        raise ConnectionError("connection refused")

    results = denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out", lose)
    monkeypatch.undo()
    assert [result.status for result in results] == ["done"] + ["failed"] * len(NAMES)
    assert all("connection refused" in result.error for result in results[1:])


def test_a_file_that_was_not_written_here_is_not_replaced(memory, enhancer, reference):
    memory.pipe_file("/cleaning/out/a.wav", b"somebody else's")
    results = denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out")
    assert "memory://cleaning/out/a.wav: exists and was not written" in results[0].error
    assert memory.cat_file("/cleaning/out/a.wav") == b"somebody else's"
    denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out", overwrite=True)
    assert contents(memory, "memory://cleaning/out") == reference


def test_what_earlier_runs_wrote_is_no_input(memory, enhancer, reference):
    denoise(enhancer, "memory://cleaning/in", "memory://cleaning/in/out")
    results = denoise(enhancer, "memory://cleaning/in", "memory://cleaning/in/out")
    assert len(results) == len(NAMES) + 1  # not what was written
    results = denoise(enhancer, "memory://cleaning/in", "memory://cleaning/elsewhere")
    assert len(results) == len(NAMES) + 1  # by the journal there
    with pytest.raises(AudioError, match="output folder is the input"):
        denoise(enhancer, "memory://cleaning/in", "memory://cleaning/in/")
    (result,) = denoise(enhancer, "memory://cleaning/in/a.wav", "memory://cleaning/in")
    assert "is the input" in result.error


def test_times_are_kept_where_there_is_a_file(memory, enhancer, tmp_path):
    timely = enhancer.with_options(DenoiseOptions(preserve_times=True))
    with pytest.raises(AudioError, match=r"memory://cleaning/out.*--preserve-times"):
        denoise(timely, "memory://cleaning/in", "memory://cleaning/out")
    denoise(timely, "memory://cleaning/in/a.wav", tmp_path / "a.wav")
    modified = memory.modified("/cleaning/in/a.wav").timestamp()
    assert (tmp_path / "a.wav").stat().st_mtime == pytest.approx(modified, abs=1e-3)


def test_a_dry_run_and_the_progress_count_files(memory, enhancer):
    planned = denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out", dry_run=True)
    assert {result.status for result in planned} == {"planned"}
    assert not memory.exists("/cleaning/out")
    seen = []
    results = denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out",
                      progress=lambda tally: seen.append((tally.files_done, tally.seconds_done,
                                                          tally.seconds, tally.remaining)))
    seconds = sum(result.seconds for result in results)
    assert seen[-1] == (len(results), pytest.approx(seconds), pytest.approx(seconds), None)


def test_no_more_than_the_file_in_work_is_on_this_machine(memory, enhancer, cache):
    most = []

    def look(_):
        files = [path for path in (cache / staging.FOLDER).rglob("*")
                 if path.is_file() and path.suffix != ".part"]
        most.append(len(files))

    denoise(enhancer, "memory://cleaning/in", "memory://cleaning/out", progress=look)
    assert max(most) <= 2  # the input and its output
    assert [path.name for path in cache.iterdir()] == [staging.FOLDER]


def test_what_a_killed_process_left_here_is_removed(memory, enhancer, cache):
    left = cache / staging.FOLDER / "0123456789abcdef"
    left.mkdir(parents=True)
    (left / "0.wav").write_bytes(b"half of a recording")
    (left.parent / f".{left.name}.part").touch()
    denoise(enhancer, "memory://cleaning/in/a.wav", "memory://cleaning/out")
    assert not left.exists()


# ---- Journals ----------------------------------------------------------------------------------
def test_journals_are_objects_of_bounded_size_and_each_line_is_read_once(memory, monkeypatch):
    monkeypatch.setattr(journal_objects, "OBJECT_BYTES", 250)
    out = location("memory://cleaning/journal")
    writers = [Journal(out), Journal(out), Journal(out, "1-of-2")]
    reader = Journal(out)
    for number in range(12):
        writers[number % 3].begin([out / f"{number}.wav"])
        reader.refresh()
        assert reader.knows(out / f"{number}.wav")
    sizes = [memory.info(name)["size"] for name in memory.find(f"/cleaning/journal/{FOLDER}")]
    assert len(sizes) > 3
    assert max(sizes) < 500
    lines = journal_objects.JournalObjects(out, "")
    assert len({line for _, _, line in lines.new_lines()}) == 12
    assert list(lines.new_lines()) == []


def test_a_folder_that_was_copied_to_a_store_keeps_its_journal(memory, enhancer, here, tmp_path):
    denoise(enhancer, here, tmp_path / "out")
    memory.put(f"{tmp_path}/out/", "/cleaning/copied/", recursive=True)
    results = denoise(enhancer, here, "memory://cleaning/copied")
    assert sorted(result.status for result in results) == ["failed"] + ["skipped"] * len(NAMES)


def test_names_in_a_journal_are_those_below_its_folder_or_whole(memory, tmp_path):
    out = location("memory://cleaning/journal")
    outputs = [out / "s1" / "a.wav", location("memory://other/a.wav"), tmp_path / "a.wav"]
    Journal(out).begin(outputs)
    (name,) = memory.find(f"/cleaning/journal/{FOLDER}")
    line = json.loads(memory.cat_file(name))
    assert list(line["outputs"]) == ["s1/a.wav", "memory://other/a.wav", str(tmp_path / "a.wav")]
    again = Journal(out)
    again.refresh()
    assert all(map(again.knows, outputs))


def test_what_was_not_listed_is_asked_for(memory):
    listed = ListedFiles([location("memory://cleaning/in")])
    late = location("memory://cleaning/in/late.wav")
    assert not listed.is_there(late)
    late.write_bytes(b"12345")
    assert listed.size(late) == 5
    assert listed.stamp(location("memory://cleaning/in/a.wav")) == ListedFiles().stamp(
        location("memory://cleaning/in/a.wav"))
