"""PESQ and STOI: their rates, the least and the most that goes to the packages at once."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gan_denoise import metrics
from gan_denoise.metrics import Refused, perceptual

RATE = 16000


def white(seconds, rate=RATE, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))


@pytest.fixture
def parts(monkeypatch):
    """The lengths that go to a PESQ which scores the first part 2, the second 3 and so on."""
    pesq = pytest.importorskip("pesq")
    lengths = []

    def score(rate, clean, estimate, band):
        assert len(clean) == len(estimate)
        lengths.append(len(clean))
        return 1.0 + len(lengths)

    monkeypatch.setattr(pesq, "pesq", score)
    return lengths


@pytest.mark.parametrize("rate", [8000, 16000])
def test_narrowband_pesq_takes_both_rates(rate):
    pytest.importorskip("pesq")
    clean = white(1.0, rate)
    assert metrics.pesq_nb(clean, clean, rate) == pytest.approx(4.55, abs=0.01)
    assert metrics.pesq_nb(clean, clean + white(1.0, rate, seed=1), rate) < 3.5


@pytest.mark.parametrize(("seconds", "expected"), [
    (20.0, [20.0]), (20.5, [10.25, 10.25]), (45.0, [15.0] * 3)])
def test_pesq_gets_equal_parts_of_20_seconds_at_most(parts, seconds, expected):
    clip = white(seconds)
    found = metrics.pesq_wb(clip, clip, RATE)
    assert parts == [round(part * RATE) for part in expected]
    assert found == pytest.approx(np.mean(np.arange(2.0, 2.0 + len(expected))))


@pytest.mark.parametrize("silent", [0, 1])
def test_pesq_leaves_a_silent_part_out_and_goes_on_behind_it(parts, silent):
    clip = white(45.0)
    clip[15 * RATE * silent : 15 * RATE * (silent + 1)] = 0
    assert metrics.pesq_wb(clip, clip, RATE) == 2.5  # of 2 and 3, the two parts that are scored
    assert parts == [15 * RATE] * 2


def test_pesq_goes_on_behind_a_part_without_speech(monkeypatch):
    pesq = pytest.importorskip("pesq")
    answers = iter([pesq.NoUtterancesError("none"), 3.0, 4.0])

    def score(*_):
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(pesq, "pesq", score)
    assert metrics.pesq_wb(white(45.0), white(45.0), RATE) == 3.5


@pytest.mark.parametrize("score", [1.0, 5.0, 0.99, 5.01])
def test_a_mean_opinion_is_from_1_to_5(monkeypatch, score):
    pesq = pytest.importorskip("pesq")
    monkeypatch.setattr(pesq, "pesq", lambda *_: score)
    if 1 <= score <= 5:
        assert metrics.pesq_wb(white(1.0), white(1.0), RATE) == score
    else:
        with pytest.raises(Refused, match="no MOS"):
            metrics.pesq_wb(white(1.0), white(1.0), RATE)


def test_an_error_of_pesq_about_an_estimate_that_sounds_is_shown(monkeypatch):
    pesq = pytest.importorskip("pesq")

    def fail(*_):
        raise ValueError("cannot")

    monkeypatch.setattr(pesq, "pesq", fail)
    estimate = white(1.0)
    estimate[: RATE // 2] = 0  # it sounds in the second half alone
    with pytest.raises(ValueError, match="cannot"):
        metrics.pesq_wb(white(1.0), estimate, RATE)


@pytest.mark.parametrize("rate", [8000, 10000, 16000, 48000])
def test_30_frames_of_speech_are_enough_for_stoi(rate):
    """The first is 25.6 ms long, the others come every 12.8 ms: 0.4 s."""
    pytest.importorskip("pystoi")
    clip = white(0.45, rate)
    assert metrics.stoi(clip, clip, rate) == pytest.approx(1, abs=1e-6)
    short = white(0.39, rate)
    with pytest.raises(Refused, match="30 frames"):
        metrics.stoi(short, short, rate)


@pytest.mark.parametrize("level", [1e-30, 1e-6, 1e6])
@pytest.mark.parametrize("whole", [20.0, 0.5])
def test_stoi_of_a_recording_at_once_and_in_blocks_does_not_depend_on_the_level(
    monkeypatch, level, whole
):
    pystoi = pytest.importorskip("pystoi")
    clean, estimate = white(2.0), white(2.0) + white(2.0, seed=1)
    expected = pystoi.stoi(clean / np.abs(clean).max(), estimate / np.abs(clean).max(), RATE)
    monkeypatch.setattr(perceptual, "STOI_WHOLE_SECONDS", whole)
    assert metrics.stoi(level * clean, level * estimate, RATE) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seconds", [19.9, 20.1])
def test_stoi_of_more_than_20_seconds_goes_by_blocks(monkeypatch, seconds):
    pytest.importorskip("pystoi")
    monkeypatch.setattr(perceptual, "stoi_in_blocks", lambda *_: 0.25)
    clip = white(seconds, 8000)
    assert (metrics.stoi(clip, clip, 8000) == 0.25) == (seconds > 20)


@pytest.mark.parametrize(("warning", "score", "expected"), [
    ("Not enough STFT frames to compute intermediate intelligibility measure", 0.7, None),
    (None, 1e-5, None),
    ("another matter", 0.7, 0.7),
])
def test_pystois_word_for_too_little_speech_is_a_refusal(monkeypatch, warning, score, expected):
    """It warns and returns 1e-5; what else it warns of does not concern the score."""
    pystoi = pytest.importorskip("pystoi")

    def answer(*_):
        if warning:
            warnings.warn(warning, RuntimeWarning, stacklevel=2)
        return score

    monkeypatch.setattr(pystoi, "stoi", answer)
    clip = white(1.0)
    if expected is None:
        with pytest.raises(Refused, match="30 frames"):
            metrics.stoi(clip, clip, RATE)
        return
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert metrics.stoi(clip, clip, RATE) == expected
