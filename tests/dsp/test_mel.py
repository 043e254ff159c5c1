"""STFT and mel: librosa's, the same in NumPy and in the graph, and invertible."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise.config.kinds import GainInversion
from gan_denoise.config.schema import AudioConfig, Config, MelConfig
from gan_denoise.data import synthetic_audio
from gan_denoise.dsp.inversion import band_gain
from gan_denoise.dsp.keras_mel import KerasMel
from gan_denoise.dsp.mel import Mel, analysis_window, make_filterbank, spread_matrix

RATE = 16000
# n_fft, win_length, hop_length
GEOMETRIES = [(512, 512, 128), (1024, 1024, 256), (512, 400, 100), (256, 256, 64)]


def make_mel(n_fft=512, win_length=None, hop_length=128, n_mels=40, **more):
    settings = MelConfig(n_fft=n_fft, win_length=win_length or n_fft, hop_length=hop_length,
                         n_mels=n_mels, **more)
    return Mel(AudioConfig(sample_rate=RATE), settings)


DEFAULT = Mel(AudioConfig(), MelConfig())
GRAPH = KerasMel(DEFAULT)


@st.composite
def signals(draw):
    """Signals in [-1, 1] of several kinds, lengths and levels."""
    length = draw(st.integers(1, 3000))
    kind = draw(st.sampled_from(["noise", "tone", "square", "clicks", "silence"]))
    peak = 10 ** (draw(st.floats(-80, 0)) / 20)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    time = np.arange(length) / RATE
    hertz = rng.uniform(20, 7900)
    made = {
        "noise": rng.uniform(-1, 1, length),
        "tone": np.sin(2 * np.pi * hertz * time),
        "square": np.sign(np.sin(2 * np.pi * hertz * time)),
        "clicks": (rng.random(length) < 0.01).astype(float),
        "silence": np.zeros(length),
    }[kind]
    return (peak * made).astype(np.float32)


def noise(length, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)


# ---- librosa -----------------------------------------------------------------------------------
@pytest.mark.parametrize(("n_fft", "win_length", "hop_length"), GEOMETRIES)
@pytest.mark.parametrize("length", [2048, 5000, 5001])
def test_stft_is_librosas(n_fft, win_length, hop_length, length):
    audio = noise(length)
    ours = make_mel(n_fft, win_length, hop_length).stft(audio)
    theirs = librosa.stft(audio, n_fft=n_fft, hop_length=hop_length, win_length=win_length,
                          window="hann", center=True, pad_mode="constant").T
    assert ours.shape == theirs.shape
    assert ours.dtype == np.complex64
    assert np.abs(ours - theirs).max() <= 3e-6 * np.abs(theirs).max()


def test_the_window_is_periodic_and_centred():
    window = analysis_window(MelConfig(n_fft=512, win_length=400, hop_length=100))
    assert not window[:57].any()  # 56 of padding, and the first sample of the window
    assert window[256] == 1
    assert not window[456:].any()
    np.testing.assert_allclose(window[57:256], window[257:456][::-1], atol=1e-6)


@pytest.mark.parametrize(("n_fft", "n_mels", "fmin", "fmax"),
                         [(512, 80, 0.0, None), (512, 64, 50.0, 7000.0), (1024, 80, 0.0, None)])
def test_mel_is_librosas(n_fft, n_mels, fmin, fmax):
    mel = make_mel(n_fft, hop_length=n_fft // 4, n_mels=n_mels, fmin=fmin, fmax=fmax)
    audio = noise(8000)
    theirs = librosa.feature.melspectrogram(
        y=audio, sr=RATE, n_fft=n_fft, hop_length=n_fft // 4, n_mels=n_mels, fmin=fmin,
        fmax=fmax, power=1.0, pad_mode="constant",
    ).T
    np.testing.assert_allclose(mel.linear(mel.stft(audio)), theirs, atol=1e-5)
    assert mel.linear(mel.stft(audio)).shape == (mel.frames(8000), n_mels)


def test_stft_filters_give_the_magnitudes_of_the_bins():
    mel = make_mel(256, hop_length=64, n_mels=129, filters="stft")
    audio = noise(3000)
    np.testing.assert_array_equal(mel.linear(mel.stft(audio)), np.abs(mel.stft(audio)))
    gain = np.random.default_rng(1).random((5, 129), np.float32)
    np.testing.assert_array_equal(mel.bin_gain(gain), gain)  # DC and Nyquist have their own


def test_stft_filters_want_a_band_for_each_bin():
    with pytest.raises(ValueError, match="give n_mels 257, not 80"):
        MelConfig(filters="stft")


# ---- MFCC --------------------------------------------------------------------------------------
MFCC = make_mel(n_mfcc=13, mfcc_range=((-700.0, 200.0), *[(-150.0, 150.0)] * 12))


def test_mfcc_are_librosas_of_the_same_log_mel():
    features = MFCC.features(MFCC.linear(MFCC.stft(noise(8000))))
    theirs = librosa.feature.mfcc(S=features[:, :40].T, n_mfcc=13).T
    np.testing.assert_allclose(features[:, 40:], theirs, atol=1e-3)


def test_mfcc_follow_the_mel_and_leave_it_as_it_is():
    audio = noise(8000)
    both, alone = MFCC.mel01(audio), make_mel().mel01(audio)
    assert both.shape == (*alone.shape[:-1], 40 + 13)
    np.testing.assert_array_equal(MFCC.mel_part(both), alone)
    low, high = np.array(MFCC.config.mfcc_range).T
    features = MFCC.features(MFCC.linear(MFCC.stft(audio)))
    np.testing.assert_allclose(both[:, 40:] * (high - low) + low, features[:, 40:], atol=1e-2)
    np.testing.assert_array_equal(MFCC.denormalise(both), make_mel().denormalise(alone))


def test_numpy_and_graph_agree_on_mfcc():
    linear = MFCC.linear(MFCC.stft(noise(4000)))
    graph = np.asarray(KerasMel(MFCC).normalise(linear[None]))[0]
    np.testing.assert_allclose(graph, MFCC.normalise(linear), atol=1e-4)


@pytest.mark.parametrize(("settings", "message"), [
    ({"n_mfcc": 2, "mfcc_range": ((0.0, 1.0),)}, "for each of 2 coefficients, not 1"),
    ({"n_mfcc": 1, "mfcc_range": ((3.0, 3.0),)}, "below its high"),
    ({"n_mfcc": 81, "mfcc_range": ((0.0, 1.0),) * 81}, "more than n_mels"),
])
def test_mfcc_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MelConfig(**settings)


# ---- NumPy and graph ---------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(signals())
def test_numpy_and_graph_agree(audio):
    """1e-5 on linear mels, 1e-3 on mel01 (log-mels in units of 110 dB)."""
    spectrum = DEFAULT.stft(audio)
    linear = DEFAULT.linear(spectrum)
    real, imaginary = (np.asarray(part)[0] for part in GRAPH.stft(audio[None]))
    graph_linear = np.asarray(GRAPH.linear(np.hypot(real, imaginary)[None]))[0]
    assert graph_linear.shape == linear.shape
    assert np.abs(graph_linear - linear).max() <= 1e-5
    graph01 = np.asarray(GRAPH.normalise(graph_linear))
    assert np.abs(graph01 - DEFAULT.normalise(linear)).max() <= 1e-3


def test_numpy_and_graph_agree_with_a_short_window():
    mel = make_mel(512, 400, 100)
    audio = noise(4000)
    real, imaginary = (np.asarray(part)[0] for part in KerasMel(mel).stft(audio[None]))
    np.testing.assert_allclose(real + 1j * imaginary, mel.stft(audio), atol=1e-4)


@pytest.mark.parametrize("inversion", [
    GainInversion(), GainInversion(max_gain_db=6.0),
    GainInversion(gain_smoothing=(5, 9), gain_offset_db=-2.0),
])
def test_numpy_and_graph_apply_the_same_gain(inversion):
    rng = np.random.default_rng(0)
    noisy01, estimate01 = (rng.random((2, 9, 80), np.float32) for _ in range(2))
    graph = np.asarray(GRAPH.bin_gain(noisy01, estimate01, inversion))
    gain = DEFAULT.bin_gain(band_gain(DEFAULT, noisy01, estimate01, inversion))
    np.testing.assert_allclose(graph, gain, rtol=1e-4, atol=1e-6)


def test_numpy_and_graph_denormalise_alike():
    mel01 = np.linspace(0, 1, 50, dtype=np.float32)
    np.testing.assert_allclose(np.asarray(GRAPH.denormalise(mel01)), DEFAULT.denormalise(mel01),
                               rtol=1e-4)


# ---- Inverse -----------------------------------------------------------------------------------
@pytest.mark.parametrize(("n_fft", "win_length", "hop_length", "tolerance"), [
    (256, 256, 64, 1e-5), (128, 128, 32, 1e-5), (256, 200, 50, 1e-5), (255, 255, 60, 1e-5),
    (256, 256, 128, 1e-3), (256, 256, 127, 1e-3), (256, 200, 100, 1e-3),
])
def test_istft_gives_the_signal_back(n_fft, win_length, hop_length, tolerance):
    mel = make_mel(n_fft, win_length, hop_length, n_mels=16)
    lengths = [*range(1, n_fft + 1), *range(10 * n_fft, 10 * n_fft + hop_length)]
    worst = 0.0
    for length in lengths:
        audio = noise(length, seed=length)
        back = mel.istft(mel.stft(audio), length)
        assert back.shape == audio.shape
        assert back.dtype == np.float32
        worst = max(worst, float(np.abs(back - audio).max()))
    assert worst <= tolerance


@pytest.mark.parametrize(("n_fft", "win_length", "hop_length"), [
    (512, 512, 128), (256, 200, 50), (255, 255, 60)])
def test_numpy_and_graph_invert_alike(n_fft, win_length, hop_length):
    mel = make_mel(n_fft, win_length, hop_length, n_mels=16)
    spectrum = mel.stft(noise(4001).reshape(1, -1))
    spectrum *= np.random.default_rng(0).random(spectrum.shape, np.float32)  # of no signal
    found = np.asarray(KerasMel(mel).istft((spectrum.real, spectrum.imag), 4001))
    np.testing.assert_allclose(found, mel.istft(spectrum, 4001), atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(signals())
def test_istft_gives_any_signal_back(audio):
    back = DEFAULT.istft(DEFAULT.stft(audio), len(audio))
    assert np.abs(back - audio).max() <= 1e-5


def test_batches_are_transformed_item_by_item():
    audio = noise(6 * 1000).reshape(2, 3, 1000)
    spectrum = DEFAULT.stft(audio)
    assert spectrum.shape == (2, 3, DEFAULT.frames(1000), 257)
    np.testing.assert_allclose(spectrum[1, 2], DEFAULT.stft(audio[1, 2]), atol=1e-5)
    np.testing.assert_allclose(DEFAULT.istft(spectrum, 1000), audio, atol=1e-5)


# ---- Bands and bins ----------------------------------------------------------------------------
@pytest.mark.parametrize(("n_fft", "n_mels", "fmin", "fmax"), [
    (512, 80, 0.0, None), (512, 64, 100.0, 7000.0), (1024, 80, 0.0, None), (256, 16, 0.0, 4000.0),
])
def test_spread_weights_sum_to_one_in_every_bin(n_fft, n_mels, fmin, fmax):
    mel = make_mel(n_fft, hop_length=n_fft // 4, n_mels=n_mels, fmin=fmin, fmax=fmax)
    spread = spread_matrix(make_filterbank(AudioConfig(), mel.config))
    assert spread.shape == (n_mels, n_fft // 2 + 1)
    assert (spread >= 0).all()
    np.testing.assert_allclose(spread.sum(axis=0), 1, atol=1e-6)


def test_bins_under_no_band_take_their_neighbours_gain():
    gains = np.random.default_rng(0).random((5, 80), np.float32)
    spread = DEFAULT.bin_gain(gains)
    np.testing.assert_allclose(spread[:, 0], spread[:, 1], rtol=1e-6)  # DC
    np.testing.assert_allclose(spread[:, -1], spread[:, -2], rtol=1e-6)  # Nyquist
    narrow = make_mel(fmin=1000.0, fmax=4000.0)
    covered = np.flatnonzero(narrow.filterbank.sum(axis=0))
    spread = narrow.bin_gain(gains[:, :40])
    for side, inner in ((spread[:, : covered[0]], covered[0]),
                        (spread[:, covered[-1] + 1 :], covered[-1])):
        assert side.shape[1] > 20
        np.testing.assert_allclose(side, np.broadcast_to(spread[:, [inner]], side.shape))


def test_a_common_gain_of_all_bands_is_that_gain_of_all_bins():
    np.testing.assert_allclose(DEFAULT.bin_gain(np.full((1, 80), 0.25, np.float32)), 0.25,
                               rtol=1e-5)


# ---- mel01 -------------------------------------------------------------------------------------
def test_mel01_is_a_fixed_map_of_decibels():
    linear = np.float32([1e-9, 1e-5, 1e-4, 1.0, 10 ** 0.5, 10.0])
    np.testing.assert_allclose(DEFAULT.normalise(linear), [0, 0, 20 / 110, 100 / 110, 1, 1],
                               atol=1e-6)
    inside = linear[1:5]
    np.testing.assert_allclose(DEFAULT.denormalise(DEFAULT.normalise(inside)), inside, rtol=1e-4)
    assert DEFAULT.denormalise(np.float32(0)) == pytest.approx(1e-5, rel=1e-4)


def test_silence_is_zero_and_full_scale_stays_under_one():
    assert not DEFAULT.mel01(np.zeros(1000, np.float32)).any()
    loudest = [np.sign(noise(16000))]
    loudest += [2 * synthetic_audio.voice(speaker, 2.0, seed=0) for speaker in range(4)]  # peak 1
    for audio in loudest:
        assert DEFAULT.mel01(audio).max() < 1


def test_a_level_change_is_a_shift():
    audio = 0.1 * noise(8000)
    quieter = DEFAULT.mel01(audio * np.float32(0.1))
    np.testing.assert_allclose(DEFAULT.mel01(audio) - quieter, 20 / 110, atol=1e-4)


def test_a_filterbank_of_other_settings_is_refused():
    with pytest.raises(ValueError, match=r"filterbank is \(80, 257\)"):
        Mel(AudioConfig(), MelConfig(n_mels=64), DEFAULT.filterbank)


def test_a_stored_filterbank_takes_librosas_place():
    config = Config()
    stored = Mel(config.audio, config.mel, DEFAULT.filterbank.copy())
    audio = noise(3000)
    np.testing.assert_array_equal(stored.mel01(audio), DEFAULT.mel01(audio))
