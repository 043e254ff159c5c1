import numpy as np
import pytest

from gan_denoise import metrics
from gan_denoise.data.synthetic_audio import voice
from gan_denoise.metrics import Refused, perceptual
from gan_denoise.metrics.signal_files import store
from gan_denoise.metrics.stoi_blocks import stoi_in_blocks

pystoi = pytest.importorskip("pystoi")


@pytest.fixture(scope="module")
def pair():
    """Speech with pauses between, and the same in noise, peak 1."""
    clean = np.concatenate([np.pad(voice(v, 2.0, v, 16000), (0, 5000)) for v in range(3)])
    clean = clean.astype(np.float64) / np.max(np.abs(clean))
    return clean, clean + 0.1 * np.random.default_rng(0).standard_normal(len(clean))


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("rate", [16000, 8000, 10000, 44100])
@pytest.mark.parametrize("size", [1500, 10_000, 10**6])
def test_blocks_score_as_the_library_scores_the_whole(pair, extended, rate, size):
    clean, noisy = (signal[:-77] for signal in pair)
    found = stoi_in_blocks(clean, noisy, rate, extended, 1.0, size)
    assert found == pytest.approx(pystoi.stoi(clean, noisy, rate, extended), abs=1e-9)


def test_the_gain_is_of_both(pair):
    clean, noisy = pair
    expected = pystoi.stoi(clean, noisy, 16000)
    found = stoi_in_blocks(1e-4 * clean, 1e-4 * noisy, 16000, False, 1e4, 10_000)
    assert found == pytest.approx(expected, abs=1e-9)


def test_too_little_speech_has_no_score(pair):
    clean = np.zeros(32000)
    clean[8000:12000] = pair[0][8000:12000]  # 1/4 s
    assert stoi_in_blocks(clean, clean, 16000, False, 1.0, 10_000) is None
    assert stoi_in_blocks(clean[:100], clean[:100], 16000, False, 1.0, 10_000) is None


def test_a_long_recording_in_a_file_is_scored_so(pair, tmp_path, monkeypatch):
    monkeypatch.setattr(perceptual, "STOI_WHOLE_SECONDS", 1.0)
    monkeypatch.setattr(perceptual, "STOI_BLOCK", 10_000)
    files = [store(tmp_path / name, [signal]) for name, signal in zip("cn", pair, strict=True)]
    single = [np.float32(signal) for signal in pair]
    for metric, extended in ((metrics.stoi, False), (metrics.estoi, True)):
        expected = pystoi.stoi(*single, 16000, extended)
        assert metric(*files, 16000) == pytest.approx(expected, abs=1e-6)
    silent = np.zeros(32000)
    silent[8000:12000] = pair[0][8000:12000]
    with pytest.raises(Refused, match="30 frames"):
        metrics.stoi(silent, silent, 16000)
