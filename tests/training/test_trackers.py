"""Weights & Biases shows what TensorBoard shows, offline, over an interruption too."""

from __future__ import annotations

import contextlib
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, tiny_config, tiny_material

from gan_denoise.config import check_resume, make_config
from gan_denoise.config.schema import Config
from gan_denoise.core.errors import OutputError
from gan_denoise.training import loop
from gan_denoise.training.trackers import (
    RUN_ID,
    TensorBoard,
    TrackingError,
    WeightsAndBiases,
    check_tracker,
)

pytestmark = pytest.mark.usefixtures("eager")
BLOCK, HEADER = 32768, 7  # bytes of W&B's files, which are LevelDB logs


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    """The package, with a user who never logged in."""
    package = pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / ".netrc"))
    package.teardown()  # it keeps the environment in which it was first used
    yield package
    package.teardown()


@pytest.fixture
def offline(wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    return wandb


def config(**training):
    return tiny_config(
        generator={"name": "tcn_autoencoder", "channels": [4], "blocks": 1, "dilations": [1]},
        training={"tracker": "wandb", "steps": 5, "validate_every": 2, **training},
    )


def records(path: Path):
    """Yield what an offline run holds, as W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = path.read_bytes()
    at, whole = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # no header fits into the rest of a block
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(whole)
            whole = b""


def history(path: Path) -> dict[int, dict]:
    """Return what was logged, by step."""
    rows = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or item.nested_key[0]: json.loads(item.value_json)
                   for item in record.history.item}
            rows[row.pop("_step")] = row
    return rows


def parts(run_dir: Path) -> list[Path]:
    """Return the files of the sittings of a run."""
    return sorted(run_dir.glob("wandb/offline-run-*/*.wandb"))


def train(settings, run_dir):
    return loop.train(settings, run_dir, material=tiny_material())


# ---- TensorBoard's files -------------------------------------------------------------------------
@contextlib.contextmanager
def largest_file(size):
    """Let no file of this process grow beyond some bytes: as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("write", [
    lambda board: board.text(1, "watch/any", "words"),
    lambda board: board.clips(1, {"noisy": np.zeros((1, 9, 8), np.float32)},
                              {"noisy": np.zeros((1, 800), np.float32)}),
    lambda board: (board.scalars(1, {"loss/mse": 1.0}), board.close()),
    lambda board: [board.scalars(step, {"loss/mse": 1.0}) for step in range(100)],
], ids=["text", "clips", "scalars", "many"])
def test_curves_that_cannot_be_written_end_the_run_with_one_line(tmp_path, write):
    board = TensorBoard(tmp_path, tiny_config())
    with largest_file(10), pytest.raises(OutputError) as ended:
        write(board)
    assert str(ended.value) == (f"{tmp_path / 'tensorboard'}: not writable (File too large); make "
                                "room or give permission; the same command resumes")


def test_curves_that_cannot_be_begun_end_the_run_with_one_line(tmp_path):
    (tmp_path / "tensorboard").write_text("a file in the place of the folder")
    with pytest.raises(OutputError, match=r"/tensorboard: not writable \(.+\); make room"):
        TensorBoard(tmp_path, tiny_config())


# ---- Offline -----------------------------------------------------------------------------------
def test_a_run_on_wandb_holds_what_tensorboard_holds_and_goes_on_in_the_same_run(
    offline, tmp_path
):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
    from tensorboard.util.tensor_util import make_ndarray

    run_dir = tmp_path / "run"
    train(config(), run_dir)
    known = (run_dir / RUN_ID).read_text()
    train(config(steps=8), run_dir)
    assert (run_dir / RUN_ID).read_text() == known
    offline.teardown()  # its service writes beside this process, and is waited for here
    first, second = parts(run_dir)
    assert first.name == second.name == f"run-{known}.wandb"
    rows = history(first)
    assert sorted(rows) == [2, 4, 5]
    assert sorted(history(second)) == [6, 8]

    board = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"tensors": 0})
    board.Reload()
    rows |= history(second)
    shown = {name for row in rows.values() for name in row if not name.startswith("_")}
    assert shown == set(board.Tags()["tensors"]) - {CONFIG_SUMMARY_TAG}
    for name in ("loss/mse", "rate/generator", "valid/si_sdr", "valid/psnr_mel"):
        for event in board.Tensors(name):
            assert rows[event.step][name] == pytest.approx(make_ndarray(event.tensor_proto))

    begun = next(record.run for record in records(first)
                 if record.WhichOneof("record_type") == "run")
    stored = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert make_config({name: stored[name] for name in Config.model_fields
                        if name in stored}) == config()
    assert (begun.project, begun.display_name) == ("gan-denoise", "run")


def test_the_fixed_clips_are_pictures_and_sound(offline, tmp_path):
    import soundfile
    from PIL import Image

    clip = np.sin(np.arange(4000) / 10)[None].astype(np.float32)
    mel = np.linspace(0, 1, 30 * 16, dtype=np.float32).reshape(1, 30, 16)
    tracker = WeightsAndBiases(tmp_path, config())
    tracker.clips(3, {"noisy": mel, "clean": mel}, {"noisy": 0.1 * clip})
    tracker.close()
    offline.teardown()
    media = next((tmp_path / "wandb").glob("offline-run-*")) / "files" / "media"
    picture = next(media.rglob("*.png"))
    assert Image.open(picture).size == (30, 32)  # two mels over each other
    sound, rate = soundfile.read(next(media.rglob("*.wav")))
    assert rate == RATE
    np.testing.assert_allclose(sound, 0.9 * clip[0] / np.abs(clip).max(), atol=1e-4)


# ---- What is missing ---------------------------------------------------------------------------
WAYS_OUT = ("WANDB_MODE=offline", "training.tracker=tensorboard")


def test_a_missing_login_is_one_line_before_anything_is_written(wandb, tmp_path):
    with pytest.raises(TrackingError) as refused:
        train(config(), tmp_path / "run")
    assert all(way in str(refused.value) for way in (*WAYS_OUT, "wandb login"))
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    check_tracker("tensorboard")
    with pytest.raises(TrackingError, match=r"pip install 'gan-denoise\[wandb\]'"):
        check_tracker("wandb")


def test_the_tracker_may_change_on_resume():
    check_resume(config(), config(tracker="tensorboard"))
