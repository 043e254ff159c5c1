"""States on disk: exact, whole or not at all, and refused where they do not fit."""

from __future__ import annotations

import errno
import os
import struct
import zipfile

import numpy as np
import pytest
from conftest import tiny_config

from gan_denoise.config import ConfigError, dump_config
from gan_denoise.config.artifacts import BEST, LATEST, SETTINGS
from gan_denoise.core.errors import OutputError
from gan_denoise.training.checkpoints import (
    META,
    CheckpointError,
    RunState,
    can_resume,
    load_state,
    read_progress,
    read_variables,
    save_state,
)


class Variable:
    """Holds an array, as a network's variable does."""

    def __init__(self, value):
        self.value = np.asarray(value)

    def __array__(self, dtype=None, copy=None):
        return self.value

    def assign(self, value):
        assert value.shape == self.value.shape
        self.value = np.array(value)


def some_variables(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "generator.0.kernel": Variable(rng.standard_normal((3, 3, 2, 4)).astype(np.float32)),
        "generator.1.bias": Variable(np.float32([-0.0, 1e-45, np.inf, seed])),
        "generator.2.state": Variable(np.uint32([2**32 - 1, seed])),
        "g_optimizer.0.iterations": Variable(np.int64(2**60 + seed)),
        "g_optimizer.1.rate": Variable(np.float32(0.1 + seed)),
        "ema.0.half": Variable(rng.standard_normal(5).astype(np.float16)),
    }


def bytes_of(variables):
    return {name: (v.value.dtype, v.value.shape, v.value.tobytes())
            for name, v in variables.items()}


PROGRESS = RunState(
    "finetune", "abc", step=12, total_steps=40, seconds=3.25, bad_steps=3, bad_in_row=1,
    rollbacks=1, skipped=[[4, 7]], history=[{"step": 5, "si_sdr": 0.1 + 0.2}], best=0.1 + 0.2,
)


@pytest.fixture
def saved(tmp_path):
    save_state(tmp_path / LATEST, some_variables(), PROGRESS)
    return tmp_path / LATEST


# ---- States ------------------------------------------------------------------------------------
def test_a_state_comes_back_bit_by_bit(saved):
    variables = some_variables(seed=1)
    assert bytes_of(variables) != bytes_of(some_variables())
    progress = load_state(saved, variables)
    assert bytes_of(variables) == bytes_of(some_variables())
    assert progress == PROGRESS
    assert read_progress(saved) == PROGRESS


def test_a_new_run_has_nothing_but_its_material(tmp_path):
    fresh = RunState("pretrain", "digest")
    save_state(tmp_path / LATEST, {}, fresh)
    assert read_progress(tmp_path / LATEST) == fresh
    assert fresh.total_steps is None
    assert fresh.best is None


def test_variables_are_read_by_the_start_of_their_names(saved):
    assert set(read_variables(saved, "generator.")) == {
        "generator.0.kernel", "generator.1.bias", "generator.2.state"}
    assert len(read_variables(saved)) == 6


def without(name):
    return {key: value for key, value in some_variables(seed=1).items() if key != name}


@pytest.mark.parametrize(("variables", "named"), [
    (without("generator.1.bias"), "generator.1.bias"),
    (some_variables(seed=1) | {"ema.1.extra": Variable(np.zeros(2))}, "ema.1.extra"),
    (some_variables(seed=1) | {"ema.0.half": Variable(np.zeros(6, np.float16))}, "ema.0.half"),
    (some_variables(seed=1) | {"ema.0.half": Variable(np.zeros(5, np.float32))}, "ema.0.half"),
], ids=["left over", "missing", "other shape", "other type"])
def test_a_state_of_another_network_is_refused_and_changes_nothing(saved, variables, named):
    before = bytes_of(variables)
    with pytest.raises(CheckpointError) as refused:
        load_state(saved, variables)
    assert named in str(refused.value)
    assert str(saved) in str(refused.value)
    assert bytes_of(variables) == before


@pytest.mark.parametrize("keep", [0.99, 0.5, 0.1, 0.001, 0.0])
def test_a_cut_off_file_is_refused_and_changes_nothing(saved, keep):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(keep * len(content))])
    variables = some_variables(seed=1)
    with pytest.raises(CheckpointError) as refused:
        load_state(saved, variables)
    assert str(saved) in str(refused.value)
    assert bytes_of(variables) == bytes_of(some_variables(seed=1))
    with pytest.raises(CheckpointError):
        read_progress(saved)


def test_a_flipped_bit_is_refused_and_changes_nothing(saved):
    content = bytearray(saved.read_bytes())
    kernel = some_variables()["generator.0.kernel"].value.tobytes()
    content[bytes(content).index(kernel) + 17] ^= 1
    saved.write_bytes(content)
    variables = some_variables(seed=1)
    with pytest.raises(CheckpointError):
        load_state(saved, variables)
    assert bytes_of(variables) == bytes_of(some_variables(seed=1))


@pytest.mark.parametrize("header", [
    "-" * 9000 + "1", "(" * 9000, "1+" * 4000 + "1", "a." * 4000 + "b", "1" * 9000,
    "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000, 10000000)}",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}"],
    ids=range(7))
def test_a_header_of_an_array_is_refused_whatever_it_claims(tmp_path, header):
    text = header.encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "latest.npz", "w") as file:
        file.writestr(f"{META}.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text)
    with pytest.raises(CheckpointError, match="is not a whole checkpoint"):
        read_progress(tmp_path / "latest.npz")


def test_another_file_in_its_place_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        read_progress(tmp_path / LATEST)
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    with pytest.raises(CheckpointError, match="not a state"):
        read_progress(tmp_path / "other.npz")
    (tmp_path / LATEST).write_text("this is no checkpoint at all")
    with pytest.raises(CheckpointError):
        read_progress(tmp_path / LATEST)


def test_a_state_on_a_full_disk_leaves_the_old_one(saved, monkeypatch):
    def fails(file, **arrays):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fails)
    with pytest.raises(OutputError, match="No space left"):
        save_state(saved, some_variables(seed=1), PROGRESS)
    monkeypatch.undo()
    assert os.listdir(saved.parent) == [LATEST]
    variables = some_variables(seed=1)
    load_state(saved, variables)
    assert bytes_of(variables) == bytes_of(some_variables())


def test_a_value_that_is_no_number_is_never_written(tmp_path):
    progress = RunState("pretrain", "", history=[{"si_sdr": float("nan")}])
    with pytest.raises(ValueError, match="JSON"):
        save_state(tmp_path / LATEST, {}, progress)
    assert not os.listdir(tmp_path)


# ---- Run directories ---------------------------------------------------------------------------
def write_run(folder, config, kind="pretrain"):
    folder.mkdir(exist_ok=True)
    (folder / SETTINGS).write_text(dump_config(config), encoding="utf-8")
    save_state(folder / LATEST, {}, RunState(kind, "digest"))


def test_where_a_run_may_start_and_where_it_resumes(tmp_path):
    config = tiny_config()
    run = tmp_path / "run"
    assert not can_resume(run, config, "pretrain")
    run.mkdir()
    assert not can_resume(run, config, "pretrain")
    # What a run leaves that was killed before its first state.
    (run / SETTINGS).write_text(dump_config(config), encoding="utf-8")
    (run / f".{LATEST}.abc").touch()
    assert not can_resume(run, config, "pretrain")
    write_run(run, config)
    assert can_resume(run, config, "pretrain")


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(CheckpointError, match="holds no run"):
        can_resume(tmp_path, tiny_config(), "pretrain")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        can_resume(tmp_path / "thesis.tex", tiny_config(), "pretrain")


def test_a_run_of_the_other_kind_or_with_other_settings_is_refused(tmp_path):
    write_run(tmp_path / "run", tiny_config())
    with pytest.raises(CheckpointError, match="holds a pretrain run"):
        can_resume(tmp_path / "run", tiny_config(), "finetune")
    with pytest.raises(ConfigError, match=r"training\.seed"):
        can_resume(tmp_path / "run", tiny_config(training={"seed": 5}), "pretrain")


def test_the_names_of_states_are_part_of_the_format():
    assert (LATEST, BEST, SETTINGS) == ("latest.npz", "best.npz", "config.yaml")


def test_a_flipped_bit_is_told_or_changes_nothing(tmp_path):
    path = tmp_path / LATEST
    save_state(path, some_variables(), RunState("pretrain", "digest", step=3))
    whole, content = bytes_of_file(path), path.read_bytes()
    refused = 0
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            found = bytes_of_file(path)
        except CheckpointError as error:
            found, refused = whole, refused + 1
            named = str(path) in str(error)
        else:
            named = True
        assert named, at
        assert found == whole, at
    assert refused > len(content) / 4  # the others are paddings, and dates of the archive


def bytes_of_file(path):
    return read_progress(path), {name: (value.dtype, value.tobytes())
                                 for name, value in read_variables(path).items()}
