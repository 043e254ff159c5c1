import numpy as np
import pytest
from PIL import Image

from gan_denoise.config.schema import Config, MelConfig
from gan_denoise.data.synthetic_audio import voice
from gan_denoise.dsp.mel import Mel
from gan_denoise.reports import spectrograms

RATE = 16000


@pytest.fixture(scope="module")
def mel():
    """Triangles of equal width: no librosa."""
    config = Config()
    bands, bins = config.mel.n_mels, config.mel.n_fft // 2 + 1
    centres = np.linspace(0, bins - 1, bands + 2)[1:-1]
    distance = np.abs(np.arange(bins) - centres[:, None]) / (bins / (bands + 1))
    return Mel(config.audio, config.mel, np.maximum(1 - distance, 0).astype(np.float32))


def read_png(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_a_picture_has_the_width_of_a_readme_and_is_small(mel, tmp_path):
    clean = voice(0, 8.0, 0, RATE)
    noisy = clean + 0.05 * np.random.default_rng(0).standard_normal(len(clean))
    path = tmp_path / "deep" / "spectrograms.png"
    signals = {"Noisy": noisy, "Denoised": clean, "Clean": clean}
    assert spectrograms.spectrogram_figure(signals, RATE, path, mel) == path
    assert [p.name for p in path.parent.iterdir()] == ["spectrograms.png"]
    assert path.stat().st_size < 200_000
    pixels = read_png(path)
    height = spectrograms.HEAD_HEIGHT + 3 * spectrograms.PANEL_HEIGHT
    assert pixels.shape == (height, spectrograms.WIDTH, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_panels_share_one_scale_of_colours(mel, tmp_path):
    loud = 0.5 * np.random.default_rng(0).standard_normal(RATE)
    signals = {"loud": loud, "faint": loud / 1000, "silent": np.zeros(RATE)}
    pixels = read_png(spectrograms.spectrogram_figure(signals, RATE, tmp_path / "a.png", mel))
    middle = pixels[:, 400:600].mean(axis=(1, 2))
    third = len(middle) // 3
    loud, faint, silent = (np.median(middle[k * third + 60 : k * third + 140]) for k in range(3))
    assert loud > faint + 50
    assert faint > silent + 10
    assert silent < 5


def test_other_rates_are_drawn_on_the_transform_of_the_model(mel, tmp_path):
    signal = voice(0, 1.0, 0, 44100)
    assert spectrograms.spectrogram_figure({"a": signal}, 44100, tmp_path / "a.png", mel).is_file()


@pytest.mark.parametrize("signals", [{}, {"a": np.zeros((2, 100))}, {"a": np.zeros(0)}])
def test_what_is_no_signal_is_an_error(mel, tmp_path, signals):
    with pytest.raises(ValueError, match="signal"):
        spectrograms.spectrogram_figure(signals, RATE, tmp_path / "a.png", mel)
    assert list(tmp_path.iterdir()) == []


def test_frequencies_lie_where_the_transform_has_them(mel):
    tone = np.sin(2 * np.pi * 2000 * np.arange(RATE) / RATE)
    loudest = mel.linear(mel.stft(tone)).mean(axis=0).argmax()
    assert spectrograms._band_of(2000, mel) == pytest.approx(loudest, abs=0.6)


def test_mel_image_has_low_frequencies_at_the_bottom_and_time_to_the_right():
    mel01 = np.zeros((7, 4), np.float32)
    mel01[2, 0] = 1  # third frame, lowest band
    image = spectrograms.mel_image(mel01)
    assert image.shape == (4, 7, 3)
    assert image.dtype == np.uint8
    brightest = np.unravel_index(image.sum(axis=-1).argmax(), (4, 7))
    assert brightest == (3, 2)


def test_mel_image_grows_brighter_and_clips():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    luminance = spectrograms.mel_image(ramp)[::-1, 0] @ np.array([0.2126, 0.7152, 0.0722])
    assert np.all(np.diff(luminance) > -0.6)
    assert luminance[0] < 1
    assert luminance[-1] > 240
    ends = spectrograms.mel_image(np.array([[-1.0, 0.0, 1.0, 2.0]]))[::-1, 0]
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[2], ends[3])


def test_a_grid_of_mels_holds_each_where_it_belongs(tmp_path):
    dark, bright = np.zeros((5, 4), np.float32), np.ones((5, 4), np.float32)
    path = spectrograms.mel_picture([[dark, bright], [bright, dark]], tmp_path / "new" / "grid.png")
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float64).mean(axis=-1)
    assert pixels.shape == (2 * (4 + spectrograms.GRID), 2 * (5 + spectrograms.GRID))
    tiles = [[pixels[row * 6 + 2 : row * 6 + 6, column * 7 + 2 : column * 7 + 7]
              for column in range(2)] for row in range(2)]
    assert tiles[0][0].max() < 10 < 220 < tiles[0][1].min()
    assert tiles[1][1].max() < 10 < 220 < tiles[1][0].min()


def test_frequencies_on_an_axis_do_not_crowd():
    stft = Config(mel=MelConfig(filters="stft", n_mels=257))
    places, names = spectrograms.mel_ticks(Mel(stft.audio, stft.mel))
    assert names == ["4k", "2k", "1k"]  # 500 Hz would be 16 of 257 bins below 1 kHz
    assert places == pytest.approx([128, 64, 32])
