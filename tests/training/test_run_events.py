"""What a run has logged, read while it is written; its curves as a picture."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import soundfile
from conftest import RATE, tiny_config
from PIL import Image

from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.core.errors import OutputError
from gan_denoise.training.curve_plots import draw, labels, plot_runs, running_mean, styled
from gan_denoise.training.run_events import RunEvents, RunEventsError, read_run
from gan_denoise.training.trackers import TensorBoard, set_aside


def log(run_dir, config, first=0, steps=40, game=True, si_sdr=9.0):
    """Log what a run would."""
    run_dir.mkdir(exist_ok=True)
    (run_dir / SETTINGS).write_text(dump_config(config), encoding="utf-8")
    tracker = TensorBoard(run_dir, config)
    for step in range(first + 5, first + steps + 1, 5):
        values = {"loss/total": 1 / step, "loss/mse": 0.5 / step}
        if game:
            values |= {"loss/discriminator": 0.4, "discriminator/real": 0.7,
                       "discriminator/fake": 0.3}
        tracker.scalars(step, values)
    tracker.scalars(step, {"valid/si_sdr": si_sdr, "valid/si_sdr_noisy": 5.0,
                           "valid/si_sdr_best_gain": 5.0, "valid/mse_mel": 0.01})
    return tracker


@pytest.fixture
def run(tmp_path):
    log(tmp_path / "run", tiny_config()).close()
    return tmp_path / "run"


def test_curves_are_what_was_logged(run):
    events = read_run(run)
    steps, values = events.curve("loss/total")
    np.testing.assert_array_equal(steps, np.arange(5, 41, 5))
    np.testing.assert_allclose(values, 1 / steps, rtol=1e-6)
    assert events.curve("valid/si_sdr")[1].tolist() == [9.0]
    assert not len(events.curve("loss/never")[0])


def test_a_run_that_goes_on_is_read_on(run):
    events = read_run(run)
    log(run, tiny_config(), first=30, steps=20).close()  # from an earlier checkpoint
    np.testing.assert_array_equal(events.update().curve("loss/total")[0], np.arange(5, 51, 5))
    (file, *_) = sorted((run / "tensorboard").glob("events*"))
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])  # the last record is being written
    late = RunEvents(run).update()
    assert "valid/mse_mel" in late.tags
    file.write_bytes(whole)
    assert late.update().tags == events.tags


def test_a_dead_start_is_left_behind(run):
    events = read_run(run)
    set_aside(run, "dead-start-1")
    log(run, tiny_config(), steps=10).close()
    np.testing.assert_array_equal(events.update().curve("loss/total")[0], [5, 10])


def test_the_latest_clips_are_files_to_see_and_hear(run):
    sound = 0.5 * np.sin(np.arange(RATE) / 20)[None].astype(np.float32)
    mel = np.linspace(0, 1, 30 * 16, dtype=np.float32).reshape(1, 30, 16)
    tracker = log(run, tiny_config(), first=40)
    for step in (50, 60):
        tracker.clips(step, {"noisy": mel, "clean": mel}, {"noisy": sound})
    tracker.close()
    events = read_run(run)
    ((step, pictures),) = events.images.values()
    assert step == 60
    assert Image.open(io.BytesIO(pictures[0])).size == (30, 32)
    step, (wav,) = events.audio["audio/noisy"]
    heard, rate = soundfile.read(io.BytesIO(wav))
    assert (step, rate) == (60, RATE)
    np.testing.assert_allclose(heard, 0.9 * sound[0] / np.abs(sound).max(), atol=1e-4)


# ---- Pictures ----------------------------------------------------------------------------------
def test_runs_are_called_by_what_differs(tmp_path):
    names = [tmp_path / "a", tmp_path / "b"]
    slow = tiny_config(training={"learning_rate": 0.001})
    fast = tiny_config(training={"learning_rate": 0.01})
    assert labels(names, [slow, fast]) == ["learning_rate 0.001", "learning_rate 0.01"]
    assert labels(names, [slow, slow]) == ["a", "b"]
    assert labels([names[0], tmp_path / "x" / "a"], [slow, slow]) == [
        str(names[0]), str(tmp_path / "x" / "a")]
    assert labels([*names, tmp_path / "c"], [slow, fast, slow]) == [
        "a: learning_rate 0.001", "b: learning_rate 0.01", "c: learning_rate 0.001"]
    many = tiny_config(training={"seed": 1, "clip_norm": 1.0, "ema_decay": 0.5, "batch_size": 3})
    assert labels(names, [slow, many]) == ["a", "b"]


def test_a_figure_has_the_curves_of_all_runs_and_what_they_must_beat(run, tmp_path):
    log(tmp_path / "other", tiny_config(), si_sdr=7.0, game=False).close()
    runs = styled(["one", "two"], [read_run(run), read_run(tmp_path / "other")])
    figure = draw(runs, "si_sdr")
    loss, _game, validation = figure.axes
    assert {tuple(line.get_ydata()) for line in validation.lines} >= {(9.0,), (7.0,), (5.0, 5.0)}
    assert [text.get_text() for text in validation.get_legend().get_texts()] == [
        "noisy, best gain"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert len({line.get_color() for line in loss.lines}) == 2
    assert len(draw(runs[1:], "si_sdr").axes) == 2, "no game in a pretraining run"
    figure.canvas.draw()
    assert min(text.get_fontsize() for axes in figure.axes for text in axes.get_xticklabels()) >= 6


def test_a_run_of_one_logged_step_is_seen_in_each_panel(tmp_path):
    log(tmp_path / "short", tiny_config(), steps=5).close()
    figure = draw(styled(["short"], [read_run(tmp_path / "short")]), "si_sdr")
    for panel in figure.axes:
        lone = [line for line in panel.lines if len(line.get_xdata()) == 1]
        assert any(line.get_marker() == "o" for line in lone)


def test_a_picture_is_as_wide_as_asked_and_the_same_each_time(run, tmp_path):
    png = plot_runs([run], tmp_path / "curves.png")
    assert Image.open(png).width == pytest.approx(86 / 25.4 * 300, abs=2)
    svg = plot_runs([run], tmp_path / "a.svg").read_bytes()
    assert svg == plot_runs([run], tmp_path / "b.svg").read_bytes()
    assert plot_runs([run], tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_running_mean_keeps_level_and_length():
    np.testing.assert_allclose(running_mean(np.full(100, 3.0)), 3.0)
    assert len(running_mean(np.zeros(0))) == 0
    assert running_mean(np.array([2.0])).tolist() == [2.0]
    noise = np.random.default_rng(0).standard_normal(200)
    assert np.std(running_mean(noise)) < 0.5 * np.std(noise)


def test_what_is_no_run_is_refused(run, tmp_path):
    out = tmp_path / "curves.png"
    with pytest.raises(RunEventsError, match="no such folder"):
        plot_runs([run, tmp_path / "nothing"], out)
    with pytest.raises(RunEventsError, match="holds no curves"):
        plot_runs([tmp_path], out)
    with pytest.raises(RunEventsError, match=r"\.png, \.svg, \.pdf"):
        plot_runs([run], tmp_path / "curves.jpg")
    with pytest.raises(RunEventsError, match="has pesq_wb; they have mse_mel, si_sdr"):
        plot_runs([run], out, metric="pesq_wb")
    with pytest.raises(OutputError):
        plot_runs([run], run / SETTINGS / "curves.png")
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    (file,) = (broken / "tensorboard").glob("events*")
    file.write_bytes(b"\x08" + bytes(11) + b"\xff" * 12)
    with pytest.raises(RunEventsError, match="no event file"):
        plot_runs([broken], out)
    shutil.copy(next((run / "tensorboard").glob("events*")), file)
    content = bytearray(file.read_bytes())
    content[40] ^= 1  # of the first record, which TensorBoard writes itself
    file.write_bytes(content)
    with pytest.raises(RunEventsError, match="a checksum differs"):
        plot_runs([broken], out)
    assert not out.exists()
