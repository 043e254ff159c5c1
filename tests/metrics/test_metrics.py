import math
import sys

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise import metrics
from gan_denoise.data.synthetic_audio import voice
from gan_denoise.metrics import MissingMetric, Refused, blockwise, correlation, waveform
from gan_denoise.metrics.signal_files import store

RATE = 16000
WAVEFORM_METRICS = ("si_sdr", "snr", "lsd", "pesq_wb", "pesq_nb", "stoi", "estoi")


@pytest.fixture(scope="module")
def clean():
    return voice(1, 3.0, seed=0, sample_rate=RATE).astype(np.float64)


def at_snr(clean, snr_db, seed=0):
    """Clean plus white noise at an SNR of whole-clip energies."""
    noise = np.random.default_rng(seed).standard_normal(len(clean))
    gain = np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10 ** (snr_db / 10))
    return clean + gain * noise


needs_pesq = pytest.mark.skipif(not metrics.available()["pesq"], reason="pesq is not installed")


def score(name, clean, estimate, rate=RATE):
    if name.startswith("pesq"):
        pytest.importorskip("pesq")
    metric = getattr(metrics, name)
    return metric(clean, estimate) if name in ("si_sdr", "snr") else metric(clean, estimate, rate)


@pytest.mark.parametrize(
    ("name", "best", "tolerance"),
    [("si_sdr", math.inf, 0), ("snr", math.inf, 0), ("lsd", 0, 0), ("pesq_wb", 4.64, 0.01),
     ("pesq_nb", 4.55, 0.01), ("stoi", 1, 1e-6), ("estoi", 1, 1e-6), ("lag", 0, 0)],
)
def test_an_identical_estimate_gets_the_best_score(clean, name, best, tolerance):
    assert score(name, clean, clean) == pytest.approx(best, abs=tolerance)


@pytest.mark.parametrize("name", WAVEFORM_METRICS)
def test_more_noise_scores_worse(clean, name):
    scores = [score(name, clean, at_snr(clean, snr_db)) for snr_db in (20, 10, 0)]
    assert scores == sorted(scores, reverse=metrics.METRICS[name].higher_is_better)
    assert len(set(scores)) == 3


@pytest.mark.parametrize("name", ["mse_mel", "psnr_mel", "snr_mel"])
def test_a_mel_farther_off_scores_worse(name):
    mel = np.random.default_rng(0).random((10, 4))
    scores = [getattr(metrics, name)(mel, mel + off) for off in (0.01, 0.1, 0.2)]
    for row in [name] if name == "snr_mel" else [name, f"{name}_wave"]:
        assert scores == sorted(scores, reverse=metrics.METRICS[row].higher_is_better)


@pytest.mark.parametrize("name", WAVEFORM_METRICS)
def test_the_table_says_which_package_a_metric_needs(clean, name, monkeypatch):
    for package in ("pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, package, None)
    assert metrics.available() == {"pesq": False, "pystoi": False}
    package = metrics.METRICS[name].package
    if package is None:
        assert score(name, clean, clean) in (math.inf, 0)
    else:
        with pytest.raises(MissingMetric, match=rf"no [\w, ]*{name}.*: {package} is not installed"):
            getattr(metrics, name)(clean, clean, RATE)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 2.5, 17.5])
def test_a_known_snr_comes_back(clean, snr_db):
    noisy = at_snr(clean, snr_db)
    assert metrics.snr(clean, noisy) == pytest.approx(snr_db, abs=1e-9)
    # White noise hardly correlates with the clip, so that SI-SDR is nearly the same.
    assert metrics.si_sdr(clean, noisy) == pytest.approx(snr_db, abs=0.3)


def test_si_sdr_of_a_known_angle():
    t = np.arange(1000)
    sine, cosine = np.sin(2 * np.pi * t / 100), np.cos(2 * np.pi * t / 100)
    assert metrics.si_sdr(sine, sine + 0.1 * cosine) == pytest.approx(20)
    assert metrics.si_sdr(sine, 5 * (sine + 0.1 * cosine) + 3) == pytest.approx(20)
    assert metrics.si_sdr(sine, cosine) < -200


@needs_pesq
def test_swapping_changes_snr_and_pesq_and_leaves_si_sdr(clean):
    noisy = 0.5 * at_snr(clean, 5)
    assert metrics.si_sdr(noisy, clean) == pytest.approx(metrics.si_sdr(clean, noisy), abs=1e-9)
    assert abs(metrics.snr(noisy, clean) - metrics.snr(clean, noisy)) > 1
    assert abs(score("pesq_wb", noisy, clean) - score("pesq_wb", clean, noisy)) > 0.01


@settings(max_examples=50, deadline=None)
@given(scale=st.floats(1e-6, 1e6), sign=st.sampled_from([-1, 1]), snr_db=st.floats(-20, 60))
def test_si_sdr_does_not_see_the_scale(scale, sign, snr_db):
    reference = np.random.default_rng(1).standard_normal(500)
    estimate = at_snr(reference, snr_db, seed=2)
    expected = metrics.si_sdr(reference, estimate)
    assert metrics.si_sdr(reference, sign * scale * estimate) == pytest.approx(expected, abs=1e-6)
    assert metrics.si_sdr(scale * reference, estimate) == pytest.approx(expected, abs=1e-6)
    assert metrics.si_sdr(reference, scale * reference) == math.inf


@pytest.mark.parametrize("name", [*WAVEFORM_METRICS, "lag"])
def test_a_silent_reference_is_refused(clean, name):
    with pytest.raises(Refused, match="clean is silent"):
        score(name, np.zeros_like(clean), clean)


@pytest.mark.parametrize("name", ["pesq_wb", "pesq_nb", "si_sdr", "lag"])
def test_a_silent_estimate_is_refused_where_it_has_no_score(clean, name):
    with pytest.raises(Refused, match="estimate is silent"):
        score(name, clean, np.zeros_like(clean))


def test_a_silent_estimate_is_the_worst_where_it_has_one(clean):
    assert metrics.snr(clean, np.zeros_like(clean)) == 0
    assert score("stoi", clean, np.zeros_like(clean)) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", ["pesq_wb", "pesq_nb", "stoi", "estoi", "lsd"])
@pytest.mark.parametrize("samples", [1, 100, 400])
def test_too_short_a_clip_is_refused(clean, name, samples):
    clip = clean[8000 : 8000 + samples]
    with pytest.raises(Refused, match=r"short|less than"):
        score(name, clip, clip + 1e-3)


def test_too_little_speech_is_refused_and_not_given_the_stand_in(clean):
    clip = np.zeros(RATE)
    clip[8000:12000] = clean[8000:12000]  # 1/4 s of speech in a second
    with pytest.raises(Refused, match="30 frames"):
        score("stoi", clip, clip + 1e-3)


def test_no_utterance_is_refused(clean, monkeypatch):
    pesq = pytest.importorskip("pesq")

    def find_nothing(*_):
        raise pesq.NoUtterancesError(b"No utterances detected")

    monkeypatch.setattr(pesq, "pesq", find_nothing)
    with pytest.raises(Refused, match="no speech"):
        metrics.pesq_wb(clean, clean, RATE)


@pytest.mark.parametrize("stand_in", [-1.0, -7.0, math.nan])
def test_a_stand_in_of_pesq_is_refused(clean, monkeypatch, stand_in):
    pesq = pytest.importorskip("pesq")
    monkeypatch.setattr(pesq, "pesq", lambda *_: stand_in)
    with pytest.raises(Refused, match="no MOS"):
        metrics.pesq_wb(clean, clean, RATE)


@pytest.mark.parametrize("name", [*WAVEFORM_METRICS, "lag"])
def test_broken_input_is_an_error_and_no_refusal(clean, name):
    with pytest.raises(ValueError, match=r"\(48000,\), estimate is \(47999,\)") as error:
        score(name, clean, clean[:-1])
    assert not isinstance(error.value, Refused)
    with pytest.raises(ValueError, match="estimate holds NaN") as error:
        score(name, clean, np.where(np.arange(len(clean)) == 9, np.nan, clean))
    assert not isinstance(error.value, Refused)


def test_pesq_takes_its_own_rates_only(clean):
    with pytest.raises(ValueError, match="pesq_wb is defined at"):
        metrics.pesq_wb(clean, clean, 8000)
    with pytest.raises(ValueError, match="pesq_nb is defined at"):
        metrics.pesq_nb(clean, clean, 48000)


@needs_pesq
def test_pesq_survives_more_utterances_than_it_has_room_for():
    word = 0.1 * np.random.default_rng(0).standard_normal(RATE // 2)
    clip = np.tile(np.concatenate([word, np.zeros(RATE // 2)]), 70)
    noisy = at_snr(clip, 30)
    assert metrics.pesq_wb(clip, noisy, RATE) == pytest.approx(
        metrics.pesq_wb(clip[: 14 * RATE], noisy[: 14 * RATE], RATE), abs=0.3
    )


@needs_pesq
def test_pesq_of_a_long_clip_leaves_out_parts_without_speech(clean):
    clip = np.concatenate([np.tile(clean, 6)[: 15 * RATE], np.zeros(15 * RATE)])
    noisy = at_snr(clip, 10)
    expected = metrics.pesq_wb(clip[: 15 * RATE], noisy[: 15 * RATE], RATE)
    assert metrics.pesq_wb(clip, noisy, RATE) == expected
    muted = np.concatenate([np.zeros(15 * RATE), noisy[15 * RATE :]])
    with pytest.raises(Refused, match="silent where clean speaks"):
        metrics.pesq_wb(clip, muted, RATE)


def test_the_level_of_both_does_not_matter(clean):
    noisy = at_snr(clean, 5)
    for name in ("si_sdr", "snr", "lsd", "stoi", "estoi"):
        faint = score(name, 1e-4 * clean, 1e-4 * noisy)
        assert faint == pytest.approx(score(name, clean, noisy), abs=1e-3), name


def test_lsd_of_a_known_gain(clean):
    white = np.random.default_rng(0).standard_normal(RATE)
    assert metrics.lsd(white, 0.5 * white, RATE) == pytest.approx(20 * math.log10(2), abs=1e-3)


def distance(clean, estimate, rate):
    """LSD by its definition, frame by frame."""
    size, hop = 32 * rate // 1000, 8 * rate // 1000
    window = scipy.signal.get_window("hann", size)  # periodic
    floor = 1e-6 * np.mean(clean**2) * np.sum(window**2)
    frames = []
    for start in range(0, len(clean) - size + 1, hop):
        decibels = [10 * np.log10(np.maximum(
            np.abs(np.fft.rfft(window * x[start : start + size])) ** 2, floor))
            for x in (clean, estimate)]
        frames.append(np.sqrt(np.mean((decibels[0] - decibels[1]) ** 2)))
    return np.mean(frames)


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize("block", [1, 33, 1024])
def test_lsd_is_as_defined(clean, rate, block, monkeypatch):
    monkeypatch.setattr(waveform, "LSD_BLOCK", block)
    steps = np.repeat([1.0, 1e-2, 1e-4, 0.0], 2000)  # the last ones are under the floor
    noisy = at_snr(clean, 10)[8000:16000] * steps
    found = metrics.lsd(clean[8000:16000], noisy, rate)
    assert found == pytest.approx(distance(clean[8000:16000], noisy, rate), rel=1e-9)
    window = slice(8000, 8000 + 32 * rate // 1000)  # the shortest
    assert metrics.lsd(clean[window], noisy[: 32 * rate // 1000], rate) > 0


@pytest.mark.parametrize("correlation", [0.15, 0.25])
def test_lag_is_clear_from_a_correlation_of_a_fifth(correlation):
    speech, noise = np.random.default_rng(0).standard_normal((2, 200_000))
    delayed = np.roll(correlation * speech, 50) + math.sqrt(1 - correlation**2) * noise
    if correlation > 0.2:
        assert metrics.lag(speech, delayed, RATE) == 50 / RATE
    else:
        with pytest.raises(Refused, match=r"correlation 0\.15 at most"):
            metrics.lag(speech, delayed, RATE)


@pytest.mark.parametrize(("delay", "found"), [(1600, True), (-1600, True), (1601, False)])
def test_lag_looks_a_tenth_of_a_second_far(delay, found):
    white = np.random.default_rng(0).standard_normal(20_000)
    if found:
        assert metrics.lag(white, np.roll(white, delay), RATE) == delay / RATE
    else:
        with pytest.raises(Refused, match="no clear alignment"):
            metrics.lag(white, np.roll(white, delay), RATE)


@pytest.mark.parametrize("samples", [2, 5, 100])
def test_lag_of_a_clip_that_is_shorter_than_that(samples):
    white = np.random.default_rng(0).standard_normal(samples)
    assert metrics.lag(white, 2 * white, RATE) == 0


@pytest.mark.parametrize("snr_db", [100.0, 200.0, 250.0])
def test_si_sdr_tells_faint_errors_from_none(snr_db):
    t = np.arange(1000)
    sine, cosine = np.sin(2 * np.pi * t / 100), np.cos(2 * np.pi * t / 100)
    found = metrics.si_sdr(sine, sine + 10 ** (-snr_db / 20) * cosine)
    assert found == pytest.approx(snr_db, abs=1)


@pytest.mark.parametrize("delay", [-37, -1, 3, 800])
def test_lag_finds_a_delay_in_noise(clean, delay):
    delayed = np.roll(at_snr(clean, 0), delay)
    assert metrics.lag(clean, delayed, RATE) == delay / RATE
    assert metrics.lag(clean, -delayed, RATE) == delay / RATE


def test_lag_refuses_to_guess(clean):
    with pytest.raises(Refused, match="no clear alignment"):
        metrics.lag(clean, np.random.default_rng(0).standard_normal(len(clean)), RATE)


@pytest.mark.parametrize("name", ["si_sdr", "snr", "lsd", "pesq_wb", "lag"])
def test_blocks_of_files_score_as_the_whole(clean, name, monkeypatch, tmp_path):
    noisy = np.roll(at_snr(clean, 5), 37) + 0.01
    pair = [np.tile(np.float32(signal), 8)[:-77] for signal in (clean, noisy)]  # 24 s
    whole = score(name, *pair)
    monkeypatch.setattr(blockwise, "BLOCK", 5000)
    monkeypatch.setattr(correlation, "BLOCK", 5000)
    monkeypatch.setattr(waveform, "LSD_BLOCK", 33)
    files = [store(tmp_path / side, [x]) for side, x in zip("cn", pair, strict=True)]
    assert score(name, *files) == pytest.approx(whole, rel=1e-9)
    if name in ("si_sdr", "snr"):
        assert score(name, files[0], files[0].at_gain(2.0 if name == "si_sdr" else 1.0)) == math.inf
    late = np.where(np.arange(len(pair[1])) == 300_000, np.nan, pair[1])
    with pytest.raises(ValueError, match="estimate holds NaN"):
        score(name, pair[0], late)


def test_mel_metrics_of_known_errors():
    mel = np.full((10, 4), 0.5, np.float32)
    assert metrics.mse_mel(mel, mel) == 0
    assert metrics.psnr_mel(mel, mel) == metrics.snr_mel(mel, mel) == math.inf
    off = mel + 0.1
    assert metrics.mse_mel(mel, off) == pytest.approx(0.01, rel=1e-6)
    assert metrics.psnr_mel(mel, off) == pytest.approx(20, abs=1e-5)
    assert metrics.snr_mel(mel, off) == pytest.approx(20 * math.log10(5), abs=1e-5)
    with pytest.raises(Refused):
        metrics.snr_mel(np.zeros_like(mel), mel)
    with pytest.raises(ValueError, match="clean is"):
        metrics.mse_mel(mel, mel[:9])


def test_a_missing_package_names_the_way_out(clean, monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    assert metrics.available() == {"pesq": False, "pystoi": True}
    with pytest.raises(MissingMetric, match=r"C compiler.*pip install") as error:
        metrics.pesq_wb(clean, clean, RATE)
    assert "\n" not in str(error.value)


def test_every_metric_has_a_definition():
    functions = {name.removesuffix("_wave") for name in metrics.METRICS}
    assert all(callable(getattr(metrics, name)) for name in functions)
