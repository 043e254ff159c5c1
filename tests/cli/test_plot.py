"""`gan-denoise plot`."""

from __future__ import annotations

from command_line import run_main
from conftest import tiny_config

from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import SETTINGS
from gan_denoise.training.trackers import TensorBoard


def test_curves_of_a_run_become_a_picture(monkeypatch, capfd, tmp_path):
    run, picture = tmp_path / "run", tmp_path / "curves.svg"
    run.mkdir()
    (run / SETTINGS).write_text(dump_config(tiny_config()), encoding="utf-8")
    tracker = TensorBoard(run, tiny_config())
    tracker.scalars(5, {"loss/total": 0.1, "valid/si_sdr": 9.0, "valid/si_sdr_noisy": 5.0})
    tracker.close()
    capfd.readouterr()
    code, out, _ = run_main(monkeypatch, capfd, "plot", run, "-o", picture)
    assert (code, out.strip()) == (0, str(picture))
    assert picture.read_bytes().startswith(b"<?xml")


def test_a_folder_that_is_no_run_is_refused(monkeypatch, capfd, tmp_path):
    code, _, errors = run_main(monkeypatch, capfd, "plot", tmp_path, "-o", tmp_path / "x.png")
    assert code == 2
    assert "holds no curves of a training run; give the folder given to --run" in errors
    assert not (tmp_path / "x.png").exists()
