"""What a journal says of files here and at addresses, of times, figures and digests."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest

from gan_denoise.core.locations import location
from gan_denoise.inference.folder_journal import (
    Journal,
    digest_of,
    digest_of_file,
    is_there,
    size_at,
)
from gan_denoise.inference.journal_files import FOLDER, NAME


@pytest.fixture
def address():
    yield location("memory://journals/out")
    files = fsspec.filesystem("memory")
    if files.exists("/journals"):
        files.rm("/journals", recursive=True)


def put(path, content=b"123"):
    if hasattr(path, "fs"):
        path.fs.pipe_file(path.path, content)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read(out):
    journal = Journal(out)
    journal.refresh()
    return journal


def written(journal):
    """The lines of a journal on a disk."""
    return [json.loads(line) for line in journal.path.read_bytes().splitlines()]


# ---- Names -------------------------------------------------------------------------------------
def test_outputs_at_an_address_are_named_from_there(address, tmp_path):
    outputs = [address / "sub" / "a.wav", location("memory://journals/rest/a.wav"),
               tmp_path / "a.wav"]
    names = ["sub/a.wav", "memory://journals/rest/a.wav", (tmp_path / "a.wav").as_posix()]
    journal = Journal(address)
    journal.begin(outputs)
    for path in outputs:
        put(path)
    journal.done(outputs, "input", "settings", {})
    line = json.loads(journal.path.fs.cat_file(journal.path.path).splitlines()[-1])
    assert line["target"] == names[0]
    assert line["outputs"] == dict.fromkeys(names, 3)
    again = read(address)
    assert all(map(again.knows, outputs))
    assert again.whole(again.entry(outputs[0]), outputs)
    put(outputs[1], b"1234")
    assert not again.whole(again.entry(outputs[0]), outputs)
    assert again.values() == {"out": "memory://journals/out", "writer": "",
                              "after": again.entry(outputs[0]).time}


def test_outputs_on_this_machine_are_named_from_the_folder(tmp_path, address):
    out = tmp_path / "out"
    outputs = [out / "a.wav", tmp_path / "rest" / "a.wav", address / "a.wav"]
    journal = Journal(out)
    journal.begin(outputs)
    assert list(written(journal)[0]["outputs"]) == [
        "a.wav", "../rest/a.wav", "memory://journals/out/a.wav"]
    assert all(map(read(out).knows, outputs))


@pytest.mark.parametrize("remote", [False, True])
def test_left_overs_are_removed_where_outputs_lie_on_this_machine(address, tmp_path, remote):
    out = address if remote else tmp_path / "out"
    begun = [tmp_path / "rest" / "a.wav", address / "a.wav"]
    Journal(out).begin(begun)
    part = tmp_path / "rest" / ".0123456789abcdef.part"
    put(part)
    read(out).remove_parts()
    assert not part.exists()


def test_a_folder_that_two_machines_wrote_in_is_given_time(tmp_path, monkeypatch):
    part = tmp_path / ".0123456789abcdef.part"
    put(part)
    journal = Journal(tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "another")
        journal.begin([tmp_path / "a.wav"])
    journal.begin([tmp_path / "b.wav"])
    read(tmp_path).remove_parts()
    assert part.exists()


def test_what_failed_and_is_there_stays_known(tmp_path, address):
    for out in (tmp_path, address):
        journal, (left, gone) = Journal(out), (out / "left.wav", out / "gone.wav")
        journal.begin([left, gone])
        put(left)
        journal.failed([left, gone])
        assert read(out).knows(left)
        assert not read(out).knows(gone)


def test_there_is_a_link_that_leads_nowhere_and_it_has_no_size(tmp_path, address):
    link = tmp_path / "link"
    os.symlink(tmp_path / "nowhere", link)
    assert is_there(link)
    assert size_at(link) is None
    assert (is_there(address / "a"), size_at(address / "a")) == (False, None)
    put(address / "a")
    assert (is_there(address / "a"), size_at(address / "a")) == (True, 3)


def test_what_is_begun_has_no_size_and_what_was_not_noted_is_not_whole(tmp_path):
    journal, target, other = Journal(tmp_path), tmp_path / "a.wav", tmp_path / "b.wav"
    journal.begin([target])
    assert read(tmp_path).entry(target).outputs == {"a.wav": 0}
    for path in (target, other):
        put(path, b"1")
    journal.done([target], "input", "settings", {})
    again = read(tmp_path)
    assert again.whole(again.entry(target), [target])
    assert not again.whole(again.entry(target), [target, other])


# ---- Processes ---------------------------------------------------------------------------------
@pytest.mark.parametrize(("writer", "worker", "expected"), [
    ("", None, ""), ("", 0, "worker-0"), ("1-of-2", None, "1-of-2"),
    ("1-of-2", 3, "1-of-2-worker-3"),
])
def test_another_process_goes_on_under_a_name_of_its_own(tmp_path, writer, worker, expected):
    values = Journal(tmp_path, writer, after=5.0).values(worker)
    assert values == {"out": str(tmp_path), "after": 5.0, "writer": expected}


@pytest.mark.parametrize("remote", [False, True])
def test_a_folder_is_marked_once(tmp_path, address, remote):
    out = address if remote else tmp_path
    journal, other = Journal(out), Journal(out, "1-of-2")
    assert journal.first_line() == b""
    mark = other.mark()
    assert json.loads(mark)["state"] == "folder"
    assert len(json.loads(mark)["id"]) == 32
    assert mark.endswith(b"}\n")
    assert journal.mark() == other.mark() == journal.first_line() == mark
    assert Journal(out / "other").mark() != mark
    journal.begin([out / "a.wav"])
    assert read(out).knows(out / "a.wav")  # a mark is no line of a file


def test_an_address_has_no_line_before_the_first(address):
    journal = Journal(address)
    journal.refresh()
    assert journal.path.parent == address / FOLDER
    assert not address.fs.exists(address.path)
    journal.begin([address / "a.wav"])
    journal.refresh(own=True)
    assert not journal.knows(address / "b.wav")
    assert not address.fs.exists((address / NAME).path)


# ---- Lines -------------------------------------------------------------------------------------
def test_times_follow_the_clock_and_rise_while_it_stands(tmp_path, monkeypatch):
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now)
    journal = Journal(tmp_path)
    for _ in range(5):
        journal.begin([tmp_path / "a.wav"])
    times = [line["time"] for line in written(journal)]
    assert times[0] == now
    assert times == sorted(set(times))
    assert times[-1] < now + 1e-3


def test_a_journal_is_legible_and_keeps_figures_as_they_are(tmp_path):
    journal, target = Journal(tmp_path), tmp_path / "会議.wav"
    figures = {"snr_db": np.float32(1.5), "clipped": np.int64(3), "of": Path("a/b.wav"),
               "lost": None}
    put(target)
    journal.done([target], "input", "settings", figures)
    assert "会議.wav".encode() in journal.path.read_bytes()
    assert read(tmp_path).entry(target).figures == {
        "snr_db": 1.5, "clipped": 3, "of": os.fspath(Path("a/b.wav")), "lost": None}


def test_digests_are_blake2b_of_128_bits(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    expected = hashlib.blake2b(b"content", digest_size=16).hexdigest()
    assert digest_of_file(tmp_path / "a") == expected
    assert digest_of({}) == hashlib.blake2b(b"{}", digest_size=16).hexdigest()
