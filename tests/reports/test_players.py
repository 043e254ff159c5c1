"""Tracks of players: sounds that are heard as they were, at one loudness, with aligned pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from gan_denoise.config.schema import AudioConfig, MelConfig
from gan_denoise.dsp.mel import Mel
from gan_denoise.reports.players import (
    PEAK,
    audio_uri,
    loudness,
    make_tracks,
    matched_gains,
    spectrogram_uris,
)

RATE = 16000


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.split("base64,")[1])


def tone(hertz: float, seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize(("rate", "hertz", "lufs"), [
    (48000, 997.0, -3.01),  # BS.1770: a full-scale sine of 997 Hz in one channel
    (48000, 100.0, -4.83), (48000, 10000.0, 0.34),  # the K-weighting by the standard's coefficients
])
def test_loudness_is_that_of_the_standard(rate, hertz, lufs):
    assert loudness(tone(hertz, 4.0, rate), rate) == pytest.approx(lufs, abs=0.05)


def test_loudness_hardly_depends_on_the_rate_and_follows_the_gain():
    at = [loudness(tone(500.0, rate=rate), rate) for rate in (8000, 16000, 44100)]
    np.testing.assert_allclose(at, at[0], atol=0.2)  # the shelf is bent towards 4 kHz
    assert loudness(0.1 * tone(500.0), RATE) == pytest.approx(at[1] - 20, abs=0.05)


def test_pauses_do_not_make_a_recording_softer():
    speech = tone(500.0)
    with_pause = np.concatenate([speech, np.zeros(4 * RATE)])
    assert loudness(with_pause, RATE) == pytest.approx(loudness(speech, RATE), abs=0.7)
    assert loudness(np.zeros(RATE), RATE) is None
    assert loudness(speech[: RATE // 10], RATE) is None


def test_matched_signals_are_equally_loud_and_do_not_clip():
    rng = np.random.default_rng(0)
    signals = {"a": 0.01 * tone(300.0), "b": 0.9 * rng.standard_normal(2 * RATE), "none":
               np.zeros(2 * RATE)}
    gains = matched_gains(signals, RATE)
    heard = {name: gains[name] * signal for name, signal in signals.items()}
    assert loudness(heard["a"], RATE) == pytest.approx(loudness(heard["b"], RATE), abs=0.05)
    assert max(np.abs(signal).max() for signal in heard.values()) == pytest.approx(PEAK)
    assert matched_gains({"none": np.zeros(10)}, RATE) == {"none": 1.0}


def test_tracks_play_what_they_were_made_of():
    signals = {"soft": 0.01 * tone(440.0), "loud": 3.0 * tone(440.0)}
    tracks = make_tracks(signals, RATE)
    assert [track.label for track in tracks] == ["soft", "loud"]
    heard = []
    for track in tracks:
        sound, rate = soundfile.read(io.BytesIO(decoded(track.audio)))
        assert rate == RATE
        assert np.abs(sound).max() <= 1.0
        spectrum = np.abs(np.fft.rfft(sound[: 2 * RATE], 2 * RATE))
        assert np.argmax(spectrum) / 2 == pytest.approx(440, abs=1)
        heard.append(track.gain * np.sqrt(np.mean(np.square(sound[RATE // 2: RATE]))))
        assert track.picture == ""
    assert heard[0] == pytest.approx(heard[1], rel=0.02)


def test_flac_is_heard_as_it_was_and_a_rate_that_mp3_lacks_is_resampled():
    noise = np.random.default_rng(0).uniform(-1.2, 1.2, 500)
    heard, rate = soundfile.read(io.BytesIO(decoded(audio_uri(noise, 44100, lossless=True))))
    assert rate == 44100
    np.testing.assert_allclose(heard, np.clip(noise, -1, 1), atol=1e-4)
    for rate, stored in ((15000, 16000), (96000, 48000)):
        uri = audio_uri(0.5 * tone(440.0, 1.0, rate), rate)
        found, at = soundfile.read(io.BytesIO(decoded(uri)))
        assert at == stored
        assert len(found) / at == pytest.approx(1.0, abs=0.1)


def test_spectrograms_are_aligned_on_one_scale():
    mel = Mel(AudioConfig(), MelConfig())
    sound = np.where(np.arange(2 * RATE) < RATE, 0.0, tone(1000.0))
    uris = spectrogram_uris({"loud": sound, "soft": 0.01 * sound, "none": 0 * sound}, RATE, mel)
    images = {name: np.asarray(Image.open(io.BytesIO(decoded(uri))).convert("L"), float)
              for name, uri in uris.items()}
    assert len({image.shape for image in images.values()}) == 1
    height, width = images["loud"].shape
    assert height == 80
    left, right = images["loud"][:, : width // 2 - 4], images["loud"][:, width // 2 + 4:]
    assert left.max() < 10 < 200 < right.max()
    assert right.argmax() // right.shape[1] > height / 3  # 1 kHz lies in the lower part
    assert images["soft"].max() < images["loud"].max() - 50
    assert images["none"].max() < 10


def test_a_long_sound_has_a_picture_of_bounded_width():
    mel = Mel(AudioConfig(), MelConfig())
    uris = spectrogram_uris({"long": tone(1000.0, 60.0)}, RATE, mel)
    assert Image.open(io.BytesIO(decoded(uris["long"]))).width <= 900
