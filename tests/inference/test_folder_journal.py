"""The journals: lines of many writers, torn lines, left-overs of killed runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio.partial_files import remove_partial_files
from gan_denoise.audio.writer import Writer
from gan_denoise.core import file_locks
from gan_denoise.inference.folder_journal import Journal, digest_of, digest_of_file
from gan_denoise.inference.journal_entries import Entries
from gan_denoise.inference.journal_files import NAME

FIGURES = {"seconds": 1.5, "peak_in_db": None, "lost": ["iXML"]}


def read(out):
    journal = Journal(out)
    journal.refresh()
    return journal


def write_done(journal, target, content=b"whole"):
    target.parent.mkdir(parents=True, exist_ok=True)
    journal.begin([target])
    target.write_bytes(content)
    journal.done([target], "input", "settings", FIGURES)


def parts_in(folder):
    return sorted(folder.rglob(".*.part"))


def test_what_was_noted_is_read_again(tmp_path):
    out, residual = tmp_path / "out", tmp_path / "residual"
    journal = Journal(out)
    outputs = [out / "sub" / "a.wav", residual / "sub" / "a.wav"]
    assert not out.exists()  # nothing is written before the first line
    journal.begin(outputs)
    again = read(out)
    assert again.entry(outputs[0]).input is None
    assert all(again.knows(path) for path in outputs)
    for path in outputs:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"12345")
    journal.done(outputs, "input", "settings", FIGURES)
    again.refresh()
    entry = again.entry(outputs[0])
    assert (entry.input, entry.settings, entry.figures) == ("input", "settings", FIGURES)
    assert again.whole(entry, outputs)
    assert not again.whole(entry, [*outputs, out / "b.wav"])
    outputs[1].write_bytes(b"1234")
    assert not again.whole(entry, outputs)
    assert again.whole(entry, outputs[:1])
    journal.begin(outputs)  # begun anew: what was done does not hold any more
    assert read(out).entry(outputs[0]).input is None


def test_a_failure_leaves_no_claim_on_the_name(tmp_path):
    journal = Journal(tmp_path)
    new, old = tmp_path / "new.wav", tmp_path / "old.wav"
    write_done(journal, old)
    for target in (new, old):
        journal.begin([target])
        journal.failed([target])
    again = read(tmp_path)
    assert not again.knows(new)
    assert again.knows(old)  # that file is still ours
    assert again.entry(old) is None


def test_names_of_any_bytes_survive(tmp_path):
    names = ["会議.wav", "имя.wav", "عربي.wav", "a\nb.wav", 'q"\\.wav',
             os.fsdecode(b"\xff\xfe.wav")]
    journal = Journal(tmp_path)
    for name in names:
        journal.begin([tmp_path / name])
    journal.path.read_bytes().decode("utf-8")
    again = read(tmp_path)
    assert all(again.entry(tmp_path / name) is not None for name in names)


def test_a_torn_line_costs_itself_alone(tmp_path):
    journal = Journal(tmp_path)
    for name in "abc":
        write_done(journal, tmp_path / f"{name}.wav")
    content = journal.path.read_bytes()
    for end in range(len(content) - 150, len(content) - 1, 7):
        journal.path.write_bytes(content[:end])
        write_done(Journal(tmp_path), tmp_path / "d.wav")
        again = read(tmp_path)
        done = [name for name in "abcd"
                if (entry := again.entry(tmp_path / f"{name}.wav")) and entry.input]
        assert done == ["a", "b", "d"]


@pytest.mark.parametrize("line", [
    b"", b"\0\0\0", b"null", b"17", b"[]", b"{}", b'"done"', b'{"state": "done", "target": "a"}',
    b'{"state": "done", "target": "a", "host": "", "outputs": {"a": null}}',
    b'{"state": "done", "target": "a", "host": "", "outputs": ["a"]}',
    b'{"state": "begun", "target": "a", "host": "", "outputs": {"a": 1e999}}',
    b'{"state": "begun", "target": "a", "host": "", "outputs": {"a": 1}, "time": 1e999}',
    b'{"state": "of the future", "target": "a", "host": "", "outputs": {"a": 1}}', b"\xff\xfe\xfd",
])  # fmt: skip
def test_lines_that_say_nothing_are_passed_over(tmp_path, line):
    journal = Journal(tmp_path)
    write_done(journal, tmp_path / "b.wav")
    with open(journal.path, "ab") as file:
        file.write(line + b"\n")
    write_done(journal, tmp_path / "c.wav")
    again = read(tmp_path)
    assert not again.knows(tmp_path / "a")
    assert [again.entry(tmp_path / name).input for name in ("b.wav", "c.wav")] == ["input"] * 2


def test_many_processes_append_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from gan_denoise.inference.folder_journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "for number in range(300): journal.begin([journal.out / f'{sys.argv[2]}-{number}.wav'])"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name])
               for name in "abc"]
    assert [process.wait() for process in running] == [0, 0, 0]
    lines = (tmp_path / ".gan-denoise-journal.jsonl").read_bytes().splitlines()
    assert len({json.loads(line)["target"] for line in lines}) == len(lines) == 900


def test_digests_tell_content_and_settings_apart(tmp_path):
    path = tmp_path / "a"
    seen = set()
    for content in (b"", b"a", b"a" * 2**20, b"a" * (2**20 + 1)):
        path.write_bytes(content)
        seen.add(digest_of_file(path))
        assert digest_of_file(path) in seen
    assert len(seen) == 4
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1}) != digest_of({"a": 1, "b": 3})


# ---- Writers of their own ----------------------------------------------------------------------
TARGETS = ("a", "b")


def known(entries):
    """All that a plan asks of entries."""
    unfinished = {(one.host, name) for one in entries.unfinished() for name in one.outputs}
    return [(entries.entry(name), entries.knows(name)) for name in TARGETS], unfinished


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["begun", "done", "failed"]), st.sampled_from(TARGETS),
                          st.sampled_from(["1-of-2", "2-of-2", "worker-1"])), max_size=12),
       st.randoms())
def test_in_whatever_order_journals_are_read_they_say_the_same(events, order):
    """And what they say of a file is what its newest line says."""
    journals: dict[str, list[bytes]] = {}
    for moment, (state, target, writer) in enumerate(events, 1):
        line = {"state": state, "target": target, "time": float(moment), "host": writer,
                "outputs": {target: 0}, "input": "input", "settings": "", "figures": {}}
        journals.setdefault(writer, []).append(json.dumps(line).encode())
    chronological, shuffled = Entries(), Entries()
    turns = [writer for _, _, writer in events]
    for entries in (chronological, shuffled):
        left = {writer: iter(lines) for writer, lines in journals.items()}
        for writer in turns:
            entries.take(next(left[writer]), writer, number=1)
        order.shuffle(turns)
    assert known(shuffled) == known(chronological)
    newest = {target: state for state, target, _ in events}
    for target in TARGETS:
        entry = chronological.entry(target)
        assert (entry.state if entry else "failed") == newest.get(target, "failed")
        assert chronological.knows(target) == (newest.get(target) in ("begun", "done"))


def test_lines_of_old_count_in_their_order_and_before_all_others(tmp_path):
    journal = Journal(tmp_path)
    for name in ("a.wav", "b.wav"):
        write_done(journal, tmp_path / name)
    journal.failed([tmp_path / "c.wav"])
    lines = [json.loads(line) for line in journal.path.read_bytes().splitlines()]
    for line in lines:
        del line["time"], line["crc32"]  # as version 0.1 wrote them
    (tmp_path / NAME).write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read(tmp_path).entry(tmp_path / "a.wav").input == "input"
    Journal(tmp_path, "1-of-2").begin([tmp_path / "a.wav"])
    again = read(tmp_path)
    assert again.entry(tmp_path / "a.wav").input is None
    assert again.entry(tmp_path / "b.wav").input == "input"
    assert not again.knows(tmp_path / "c.wav")


def test_a_run_is_later_than_all_that_it_has_read_whatever_its_clock_says(tmp_path, monkeypatch):
    target = tmp_path / "a.wav"
    write_done(Journal(tmp_path, "1-of-2"), target)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    journal = read(tmp_path)
    worker = Journal(**json.loads(json.dumps(journal.values(worker=1))))
    for number, later in enumerate((worker, journal)):
        later.begin([target])
        assert read(tmp_path).entry(target).input is None
        later.done([target], f"input {number}", "settings", FIGURES)
        journal.refresh()
        assert journal.entry(target).input == f"input {number}"
    assert len(set(map(str, (worker.path, journal.path)))) == 2


def test_its_own_journal_alone_can_be_read_on(tmp_path):
    journal, other = Journal(tmp_path), Journal(tmp_path, "1-of-2")
    write_done(other, tmp_path / "a.wav")
    write_done(Journal(tmp_path), tmp_path / "b.wav")
    journal.refresh(own=True)
    assert not journal.knows(tmp_path / "a.wav")
    assert journal.knows(tmp_path / "b.wav")
    journal.refresh()
    assert journal.knows(tmp_path / "a.wav")


# ---- Left-overs --------------------------------------------------------------------------------
def test_left_overs_go_and_what_is_written_now_stays(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; import numpy as np\n"
        "from gan_denoise.inference.folder_journal import Journal\n"
        "from gan_denoise.audio.writer import Writer\n"
        "target = Path(sys.argv[1]) / 'sub' / 'a.wav'\n"
        "Journal(Path(sys.argv[1])).begin([target])\n"
        "Writer(target, 16000, 1).write(np.zeros(1000, np.float32))\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    assert len(parts_in(tmp_path)) == 1
    similar = tmp_path / "sub" / ".mine.part"  # not a name of ours
    similar.touch()
    with Writer(tmp_path / "sub" / "b.wav", 16000, 1) as live:
        live.write(np.zeros(1000, np.float32))
        assert len(parts_in(tmp_path)) == 3
        read(tmp_path).remove_parts()
        assert len(parts_in(tmp_path)) == 2
        live.write(np.zeros(1000, np.float32))
    assert parts_in(tmp_path) == [similar]
    assert (tmp_path / "sub" / "b.wav").exists()


def test_parts_of_another_machine_are_given_time(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "another")
        journal.begin([tmp_path / "a.wav"])
    part = tmp_path / ".0123456789abcdef.part"
    part.touch()
    read(tmp_path).remove_parts()
    assert part.exists()
    os.utime(part, (time.time() - 7200,) * 2)
    read(tmp_path).remove_parts()
    assert not part.exists()


def test_a_writer_gets_another_file_when_its_own_is_removed_before_the_lock(tmp_path, monkeypatch):
    lock = file_locks.lock_file
    removed = []

    def slow(handle, wait=True):
        if not removed:
            removed.append(True)
            remove_partial_files(tmp_path)
        return lock(handle, wait)

    monkeypatch.setattr(file_locks, "lock_file", slow)
    with Writer(tmp_path / "a.wav", 16000, 1) as file:
        file.write(np.zeros(10, np.float32))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_what_a_lost_worker_left_is_removed_though_its_file_is_done(tmp_path):
    journal, target = Journal(tmp_path), tmp_path / "sub" / "a.wav"
    journal.begin([target])
    left = target.parent / ".0123456789abcdef.part"
    left.parent.mkdir()
    left.touch()
    write_done(journal, target)  # by another worker
    again = read(tmp_path)
    again.remove_parts()
    assert [path.name for path in left.parent.iterdir()] == ["a.wav"]


def test_of_what_is_settled_little_is_kept_and_the_claim_stays(tmp_path):
    journal = Journal(tmp_path)
    targets = [tmp_path / f"{number}.wav" for number in range(400)]
    assert all(str(target) and target.parts for target in targets)  # a path keeps these itself
    kept = []
    for half in (targets[:200], targets[200:]):
        tracemalloc.start()
        for target in half:
            write_done(journal, target)
            journal.refresh()
            if half[0] is targets[200]:
                journal.settle(target)
        kept.append(tracemalloc.get_traced_memory()[0] / len(half))
        tracemalloc.stop()
    whole, settled = kept
    assert settled < 400 < whole  # bytes a file
    assert all(map(journal.knows, targets))
    assert journal.entry(targets[0]) is not None
    assert journal.entry(targets[-1]) is None


def test_settled_stays_settled_whatever_lines_follow(tmp_path):
    journal, target = Journal(tmp_path), tmp_path / "a.wav"
    journal.settle(target)
    write_done(journal, target)  # its own lines are read after the work
    journal.refresh()
    assert journal.entry(target) is None
    assert journal.knows(target)
    assert read(tmp_path).entry(target).input == "input"  # another run reads the file
