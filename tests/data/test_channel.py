"""channel: bands lose what they should, codecs keep time and level, clipping cuts the peaks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from gan_denoise.core.rng import random_stream
from gan_denoise.data import channel

RATE = 16000


def _speech_like(seconds: float = 2.0) -> np.ndarray:
    """Noise with the long-term spectrum of speech and syllables of a quarter of a second."""
    rng = np.random.default_rng(0)
    samples = round(seconds * RATE)
    coloured = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(samples))
    syllables = 0.55 - 0.45 * np.cos(2 * np.pi * 4 * np.arange(samples) / RATE)
    audio = coloured * syllables
    return (0.5 * audio / np.abs(audio).max()).astype(np.float32)


def _snr(clean: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(clean**2) / np.sum((other - clean) ** 2)))


def test_a_band_limit_takes_the_edges_and_keeps_the_middle_in_time():
    clean = _speech_like()
    heard = [channel.band_limit(np.stack([clean, 2 * clean]), RATE, random_stream(0, 0, n))
             for n in range(40)]
    hertz, of_clean = signal.welch(clean, RATE, nperseg=1024)
    cuts = []
    for noisy, target in heard:
        np.testing.assert_allclose(target, 2 * noisy, rtol=1e-3, atol=1e-5)  # both alike
        change = 10 * np.log10(signal.welch(noisy, RATE, nperseg=1024)[1] / of_clean)
        assert np.abs(change[(hertz > 700) & (hertz < 1500)]).max() < 2.0
        lag = np.argmax(signal.correlate(noisy, clean, "same")) - len(clean) // 2
        assert lag == 0
        cuts.append((change[hertz < 60].mean() < -3, change[hertz > 7500].mean() < -3))
    low, high = np.sum(cuts, axis=0)
    assert min(low, high) > 20  # a telephone's band loses both
    assert np.mean([any(cut) for cut in cuts]) > 0.9  # the softest low cut takes less


@pytest.mark.parametrize("codec", channel.CODECS, ids=lambda codec: codec["subtype"])
def test_a_codec_keeps_time_length_and_level(codec, monkeypatch):
    monkeypatch.setattr(channel, "CODECS", (codec,))
    pair = np.stack([_speech_like(), 0.25 * _speech_like()[::-1]])
    coded = channel.code(pair, RATE, random_stream(0, 0, 0))
    assert (coded.shape, coded.dtype) == (pair.shape, np.float32)
    for before, after in zip(pair, coded, strict=True):
        lag = np.argmax(signal.correlate(after, before, "same")) - len(before) // 2
        assert abs(lag) <= 2
        assert abs(20 * np.log10(np.std(after) / np.std(before))) < 2.0
        assert 3.0 < _snr(before, after) < 60.0  # lossy, and still the same recording


@pytest.mark.parametrize("level", [0.0, 0.5, 0.8, 0.83, 0.9, 0.95])
def test_mp3_keeps_time_at_any_bit_rate(level):
    """Below 40 kbit/s its frames have no room for the length of the delay."""
    pair = np.stack([_speech_like(), 0.25 * _speech_like()[::-1]])
    coded = channel.transcode(pair, RATE, "MP3", "MPEG_LAYER_III", level)
    for before, after in zip(pair, coded, strict=True):
        assert np.argmax(signal.correlate(after, before, "same")) == len(before) // 2


def test_clipping_is_at_a_share_of_the_peak():
    noisy = _speech_like()
    for n in range(10):
        clipped = channel.clip(noisy, random_stream(1, 0, n))
        top = np.abs(clipped).max()
        low, high = channel.CLIP_SHARE
        assert low <= top / np.abs(noisy).max() <= high
        inside = np.abs(noisy) < top
        np.testing.assert_array_equal(clipped[inside], noisy[inside])


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_speed_moves_every_frequency_alike(speed):
    samples = 32000
    needed = channel.source_length(samples, speed)
    time = np.arange(needed) / RATE
    tones = (np.sin(2 * np.pi * 500 * time) + np.sin(2 * np.pi * 3000 * time)).astype(np.float32)
    made = channel.change_speed(tones, speed, samples)
    assert made.shape == (samples,)
    spectrum = np.abs(np.fft.rfft(made * np.hanning(samples)))
    exact = needed / channel.source_length(samples, 1.0)
    for hertz in (500, 3000):
        around = int(hertz * exact * samples / RATE)
        peak = around - 50 + int(np.argmax(spectrum[around - 50:around + 50]))
        assert peak * RATE / samples == pytest.approx(hertz * exact, abs=1.0)
    assert exact == pytest.approx(speed, rel=0.05)
    middle = slice(4000, -4000)
    assert np.std(made[middle]) == pytest.approx(1.0, rel=0.02)


def test_bands_are_those_of_telephones_and_of_one_edge():
    """The edges at -3 dB, how steep they are, and how often there are which."""
    impulse = np.zeros((1, RATE), np.float32)
    impulse[0, RATE // 2] = 1.0
    hertz = np.fft.rfftfreq(RATE, 1 / RATE)
    bands, slopes = [], ([], [])
    for n in range(300):
        response = channel.band_limit(impulse, RATE, random_stream(0, 0, n))[0]
        decibels = 20 * np.log10(np.maximum(np.abs(np.fft.rfft(response)), 1e-9))
        passed = hertz[decibels > -3.02]
        bands.append((passed[0] if decibels[5] < -3 else None,
                      passed[-1] if decibels[7900] < -3 else None))
        low, high = bands[-1]
        if low:
            slopes[0].append(-np.interp(low / 1.5, hertz, decibels))
        if high and high < 5000:
            slopes[1].append(-np.interp(high * 1.5, hertz, decibels))
    for pick, ranges, share in (
            (lambda low, high: low and high, ((200, 400), (3000, 3800)), 0.5),
            (lambda low, high: low and not high, ((60, 350), None), 0.25),
            (lambda low, high: high and not low, (None, (1800, 7000)), 0.25)):
        chosen = [band for band in bands if pick(*band)]
        assert len(chosen) / len(bands) == pytest.approx(share, abs=0.08)
        for side, edges in enumerate(ranges):
            if edges:
                found = [band[side] for band in chosen]
                slack = 0.08 * (edges[1] - edges[0]) + 2
                assert edges[0] - 2 <= min(found) < edges[0] + slack
                assert edges[1] - slack < max(found) <= edges[1] + 2
    # A Butterworth's of orders 2 to 16, at two thirds of the low edge and three halves of the high.
    least, most = (10 * np.log10(1 + 1.5 ** (2 * order)) for order in (2, 16))
    for of_edge in slopes:
        assert least - 0.5 < min(of_edge) < least + 3
        assert most - 6 < max(of_edge) < most + 0.5


@pytest.mark.parametrize(("subtype", "low", "high"), [
    ("MPEG_LAYER_III", 30, 66), ("OPUS", 5, 40), ("GSM610", 12.5, 14.0), ("ULAW", 63.5, 65.0)])
def test_codecs_have_the_bit_rates_of_calls_and_messages(monkeypatch, subtype, low, high):
    """In kbit/s: constant of MP3; 13.2 of GSM 06.10 and 64 of mu-law, at 8 kHz both."""
    codec = next(one for one in channel.CODECS if one["subtype"] == subtype)
    monkeypatch.setattr(channel, "CODECS", (codec,))
    write, rates = channel.soundfile.write, []

    def weigh(file, audio, rate, **options):
        write(file, audio, rate, **options)
        rates.append(8e-3 * file.getbuffer().nbytes / (len(audio) / rate))
        assert np.abs(audio).max() <= 1.05  # which resampling may overshoot

    monkeypatch.setattr(channel.soundfile, "write", weigh)
    pair = np.stack([_speech_like(2.0), 3 * _speech_like(2.0)])
    for n in range(8):
        channel.code(pair, RATE, random_stream(0, 0, n))
    assert low < min(rates) <= max(rates) < high
    if subtype in ("MPEG_LAYER_III", "OPUS"):
        assert max(rates) > 1.3 * min(rates)


def test_every_codec_is_drawn(monkeypatch):
    write, drawn = channel.soundfile.write, []

    def note(*arguments, **options):
        drawn.append(options["subtype"])
        write(*arguments, **options)

    monkeypatch.setattr(channel.soundfile, "write", note)
    for n in range(40):
        channel.code(_speech_like(0.2)[None], RATE, random_stream(0, 0, n))
    counts = [drawn.count(codec["subtype"]) for codec in channel.CODECS]
    assert sum(counts) == 40
    assert min(counts) > 3


@pytest.mark.parametrize("level", [0.0, 1e-5, 1.0, 50.0])
def test_a_codec_takes_any_level(level):
    pair = np.float32(level) * np.stack([_speech_like(0.5), _speech_like(0.5)])
    for n in range(6):
        coded = channel.code(pair, RATE, random_stream(0, 0, n))
        assert np.isfinite(coded).all()
        if level:
            assert np.std(coded) == pytest.approx(np.std(pair), rel=0.3)
        else:
            assert np.abs(coded).max() < 1e-6


def test_one_recording_of_a_codec_does_not_sound_in_the_next():
    pair = np.stack([np.zeros(8000, np.float32), _speech_like(0.5)])
    for n in range(12):
        coded = channel.code(pair, RATE, random_stream(0, 0, n))
        assert np.std(coded[0][:6000]) < 1e-3 * np.std(coded[1])


def test_a_speed_has_what_is_missing_as_silence_and_a_length_of_its_own():
    tone = np.sin(2 * np.pi * 500 * np.arange(4000) / RATE).astype(np.float32)
    made = channel.change_speed(tone, 1.0, 16000)
    assert (made.shape, made.dtype) == ((16000,), np.float32)
    np.testing.assert_allclose(made[100:3900], tone[100:3900], atol=0.02)
    assert np.abs(made[4500:15500]).max() < 0.01
    for speed in (0.8, 1.0, 1.25):
        assert channel.source_length(32000, speed) == pytest.approx(32000 * speed, rel=0.06)


@pytest.mark.parametrize(("speed", "top"), [(0.8, 0.8), (1.0, 1.0), (1.25, 1.0)])
def test_a_speed_keeps_all_of_the_band_and_adds_nothing_above_it(speed, top):
    samples = 16384  # a length of the transform: all of its period is seen
    length = channel.source_length(samples, speed)
    white = np.random.default_rng(0).standard_normal(length).astype("f4")
    out = channel.change_speed(white, speed, samples)
    power = np.abs(np.fft.rfft(out)) ** 2
    place = np.linspace(0, 1, len(power))  # of half the sample rate
    level = 10 * np.log10(power[place < 0.5].mean())
    inside = (place > top - 0.2) & (place < top - 0.06)  # the length rounds the speed
    assert 10 * np.log10(power[inside].mean()) == pytest.approx(level, abs=1.0)
    if top < 1:
        assert 10 * np.log10(power[place > top + 0.06].mean()) < level - 80
