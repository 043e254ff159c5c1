"""`gan-denoise evaluate`: pairs that do not match, bars."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from command_line import write_recordings
from conftest import RATE

from gan_denoise.data import synthetic_audio
from gan_denoise.inference.model import DEFAULT_MODEL


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("recordings"))


def test_orphans_and_other_bad_pairs_are_refused(recordings, refusal, tmp_path):
    clean = tmp_path / "clean"
    clean.mkdir()
    soundfile.write(clean / "a.wav", np.zeros(100), RATE)
    message = refusal("evaluate", "--noisy", recordings, "--clean", clean)
    assert "sub/b" in message
    assert "sub/c d" in message
    assert f"in {recordings} have no clean partner" in message


def test_evaluate_leaves_a_page_and_report_compares_folders(command, refusal, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(2):
        clean = synthetic_audio.voice(number, 1.5, seed=0)
        for side, samples in (("clean", clean),
                              ("noisy", clean + 0.02 * rng.standard_normal(len(clean)))):
            (tmp_path / side).mkdir(exist_ok=True)
            soundfile.write(tmp_path / side / f"{number}.wav", samples, RATE)
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, inversion in zip(folders, ("gain", "gain+phase"), strict=True):
        code, _, errors = command("evaluate", "--noisy", tmp_path / "noisy", "--clean",
                                  tmp_path / "clean", "--out", folder, "--inversion", inversion,
                                  "--jobs", 1)
        assert code == 0, errors
        assert str(folder / "report.html") in errors
        text = (folder / "report.html").read_text(encoding="utf-8")
        assert f"Evaluation of {DEFAULT_MODEL}" in text
    page = tmp_path / "report.html"
    code, _, errors = command("report", *folders, "-o", page)
    assert code == 0, errors
    text = page.read_text(encoding="utf-8")
    assert f"Evaluation of {DEFAULT_MODEL} and {DEFAULT_MODEL} (two)" in text
    assert "intended use" in text  # of the model card
    for arguments, told in (([tmp_path / "noisy", "-o", page], "scores.json"),
                            ([folders[0], "-o", tmp_path / "page.txt"], "ends in .html")):
        assert told in refusal("report", *arguments)
