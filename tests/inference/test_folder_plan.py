"""Shares of a folder: together they are the whole, and each reads no more than it needs."""

from __future__ import annotations

import os

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.audio import AudioError
from gan_denoise.inference import folder_plan
from gan_denoise.inference.folder_plan import plan_folder
from gan_denoise.inference.options import DenoiseOptions

COUNT = 13


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan") / "in"
    for number in range(COUNT):
        path = root / f"s{number % 3}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(160), 16000)
    return root


def sources(folder, shard=None):
    plan = plan_folder([folder], folder.parent / "out", DenoiseOptions(), shard=shard)
    return [item.source for item in plan.items]


@settings(deadline=None, max_examples=25)  # a disk may be slow
@given(count=st.integers(1, COUNT + 3), data=st.data())
def test_shares_cover_every_file_once_in_any_order(folder, count, data):
    order = data.draw(st.permutations(range(1, count + 1)))
    shares = {number: sources(folder, (number, count)) for number in order}
    found = [source for share in shares.values() for source in share]
    assert sorted(found) == sorted(sources(folder))
    assert len(set(found)) == COUNT
    assert max(map(len, shares.values())) - min(map(len, shares.values())) <= 1


def test_a_share_reads_the_headers_of_its_own_files_alone(folder, monkeypatch):
    read = []
    probe = folder_plan.probe
    monkeypatch.setattr(folder_plan, "probe", lambda path: read.append(path) or probe(path))
    share = sources(folder, (2, 4))
    assert sorted(read) == sorted(share)  # several are read at once: in no order
    assert share == sources(folder)[1::4]


def test_an_output_that_is_the_input_of_another_share_is_refused(folder, tmp_path):
    first, second = sources(folder)[:2]
    target = tmp_path / first.relative_to(folder)
    target.parent.mkdir()
    os.link(second, target)
    plan = plan_folder([folder], tmp_path, DenoiseOptions(), shard=(1, 2))
    refused = [item for item in plan.items if item.refused is not None]
    assert [item.source for item in refused] == [first]
    assert f"is the input {second}" in refused[0].refused


def test_there_is_no_share_beyond_the_last(folder):
    for shard in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(AudioError, match="shard"):
            sources(folder, shard)
