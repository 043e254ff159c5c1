"""Recordings in pieces: parts, blocks, threads and rates change nothing; amounts do what they say.

Parts are made short (a tenth of a second), so that a second of audio has many seams.
"""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import pytest
import soundfile
from conftest import RATE
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gan_denoise import audio
from gan_denoise.config import checkpoint_folder
from gan_denoise.data import synthetic_audio
from gan_denoise.examples import noisy_speech
from gan_denoise.inference import chunks
from gan_denoise.inference.enhancer import DEFAULT_MODEL, Enhancer
from gan_denoise.inference.options import DenoiseOptions

RATES = (8000, 11025, 16000, 22050, 44100, 48000)
INVERSIONS = ("gain", "gain+phase")
SHORT = 0.1  # seconds of a part


@pytest.fixture(scope="module")
def enhancer(tiny_model):
    return Enhancer.load(tiny_model, threads=1)


@pytest.fixture(scope="module")
def busy(tiny_model):
    """The same model on three threads, with much under way at once."""
    return Enhancer.load(tiny_model, threads=3, chunk_seconds=100.0)


def recording(shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def parts_of(seconds):
    return mock.patch.object(chunks, "PART_SECONDS", seconds)


def streamed(enhancer, noisy, rate, seed):
    """Push blocks of random sizes, none and single samples among them."""
    rng = np.random.default_rng(seed)
    stream = enhancer.stream(rate, len(noisy))
    done, start = [], 0
    while start < noisy.shape[1]:
        size = int(rng.choice([0, 1, 7, 500, 5000]))
        done.append(stream.push(noisy[:, start : start + size]))
        start += size
    return np.concatenate([*done, stream.finish()], axis=1)


# ---- Pieces ------------------------------------------------------------------------------------
@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 9000), rate=st.sampled_from(RATES), channels=st.integers(1, 3),
       mode=st.sampled_from(["keep", "link", "mono"]), name=st.sampled_from(INVERSIONS),
       seed=st.integers(0, 999))
def test_neither_blocks_nor_threads_change_a_bit(
    enhancer, busy, length, rate, channels, mode, name, seed
):
    noisy = recording((channels, length), seed)
    if mode == "mono":  # channels that cancel: only what knows the end takes the loudest of them
        assume(np.mean(noisy.mean(axis=0) ** 2) > 0.02 * np.mean(noisy**2))
    one, other = (model.with_inversion(name).with_options(DenoiseOptions(channels=mode))
                  for model in (enhancer, busy))
    with parts_of(SHORT):
        whole = one.enhance(noisy, rate)
        assert whole.shape == ((1 if mode == "mono" else channels), length)
        np.testing.assert_array_equal(streamed(one, noisy, rate, seed), whole)
        np.testing.assert_array_equal(streamed(other, noisy, rate, seed + 1), whole)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 30000), rate=st.sampled_from([RATE, 8000, 44100]),
       name=st.sampled_from(INVERSIONS), mode=st.sampled_from(["keep", "link"]),
       seconds=st.sampled_from([0.05, 0.1, 0.13, 0.3]), strength=st.sampled_from([1.0, 0.4]))
def test_parts_equal_the_whole(enhancer, length, rate, name, mode, seconds, strength):
    noisy = recording((2, length))
    treated = enhancer.with_inversion(name).with_options(
        DenoiseOptions(channels=mode, strength=strength)
    )
    with parts_of(1e6):
        whole = treated.enhance(noisy, rate)
    with parts_of(seconds):
        assert np.abs(treated.enhance(noisy, rate) - whole).max() <= 1e-4
    assert length < 1000 or np.abs(whole - noisy).max() > 0.02


def test_every_remainder_of_the_hop_keeps_the_length(enhancer):
    hop = enhancer.mel.config.hop_length
    with parts_of(SHORT):
        for length in [*range(1, 4 * hop + 1), *range(100 * hop, 101 * hop)]:
            cleaned = enhancer.enhance(recording(length), RATE)
            assert cleaned.shape == (length,)
            assert np.isfinite(cleaned).all()


def test_nothing_is_shifted_in_time(enhancer):
    time = np.arange(30000)
    pulses = recording(30000) + 0.9 * (time % 3000 == 1500)
    with parts_of(SHORT):
        for rate in (RATE, 44100):
            cleaned = enhancer.enhance(pulses, rate)
            lags = np.correlate(cleaned, pulses[50:-50].astype(np.float32), "valid")
            assert lags.argmax() == 50


def test_few_parts_are_under_way_and_none_is_long(enhancer, busy, monkeypatch):
    lengths, waiting = [], []
    part, submit = chunks.Chunks._part, chunks.Chunks._submit

    def watched(self, noisy, *rest):
        lengths.append(noisy.shape[1])
        return part(self, noisy, *rest)

    def counted(self, *rest, **named):
        waiting.append(len(self._running))
        return submit(self, *rest, **named)

    monkeypatch.setattr(chunks.Chunks, "_part", watched)
    monkeypatch.setattr(chunks.Chunks, "_submit", counted)
    monkeypatch.setattr(chunks, "PART_SECONDS", SHORT)
    for model, most in ((enhancer, 2), (busy, 4)):
        model.enhance(recording(60000), RATE)
        assert max(lengths) < 8000
        assert max(waiting) == most
        lengths.clear()
        waiting.clear()


def test_random_phase_is_faded_over_at_the_seams(enhancer):
    time = np.arange(40000) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 437 * time)).astype(np.float32)
    bare = enhancer.with_inversion("griffinlim", griffinlim_steps=8)
    with parts_of(SHORT):
        cleaned = bare.enhance(tone, RATE)
    with parts_of(1e6):
        whole = bare.enhance(tone, RATE)
    steps = [np.abs(np.diff(wave[2000:-2000])).max() for wave in (cleaned, whole)]
    assert steps[0] < 1.5 * steps[1]  # no click
    assert cleaned.shape == tone.shape


def test_a_stream_of_nothing_is_nothing(enhancer):
    for rate in (RATE, 48000):
        stream = enhancer.stream(rate, 2)
        assert stream.finish().shape == (2, 0)
        stream = enhancer.stream(rate, 2)
        assert stream.push(np.zeros((2, 0), np.float32)).shape == (2, 0)
        assert stream.finish().shape == (2, 0)


def test_another_count_of_channels_is_refused(enhancer):
    stream = enhancer.stream(RATE, 2)
    with pytest.raises(ValueError, match=r"expected \[2, samples\], not \(1, 5\)"):
        stream.push(np.zeros(5, np.float32))


# ---- Files -------------------------------------------------------------------------------------
@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 9000), rate=st.sampled_from([RATE, 44100]),
       name=st.sampled_from(INVERSIONS), block=st.sampled_from([0.01, 0.2, 5.0]))
def test_a_file_is_what_the_array_is(
    enhancer, tmp_path_factory, length, rate, name, block
):
    folder = tmp_path_factory.mktemp("file")
    noisy = recording((2, length))
    soundfile.write(folder / "a.wav", noisy.T, rate, subtype="FLOAT")
    model = enhancer.with_inversion(name)
    with parts_of(SHORT), mock.patch("gan_denoise.inference.file_enhancer.BLOCK_SECONDS", block):
        model.enhance_file(folder / "a.wav", folder / "b.wav")
        np.testing.assert_array_equal(audio.read(folder / "b.wav")[0], model.enhance(noisy, rate))


@pytest.mark.parametrize(("name", "subtype"), [
    ("a.wav", "PCM_16"), ("a.wav", "PCM_24"), ("a.wav", "PCM_32"), ("a.wav", "PCM_U8"),
    ("a.wav", "FLOAT"), ("a.wav", "DOUBLE"), ("a.flac", "PCM_16"), ("a.flac", "PCM_24"),
    ("a.aiff", "PCM_S8"), ("a.w64", "PCM_24"),
])
@pytest.mark.parametrize("nothing", [{"strength": 0.0}, {"atten_lim_db": 0.0}])
def test_strength_0_writes_the_same_samples(enhancer, tmp_path, name, subtype, nothing):
    whole = np.random.default_rng(0).integers(-(2**31), 2**31, (5000, 2), np.int32)
    exact = whole / 2**31
    soundfile.write(tmp_path / name, exact if subtype in ("FLOAT", "DOUBLE") else whole, 44100,
                    subtype=subtype)
    model = enhancer.with_options(DenoiseOptions(**nothing))
    result = model.enhance_file(tmp_path / name, tmp_path / "out" / name,
                                residual=tmp_path / "removed" / name)
    before, after = (soundfile.read(path / name, dtype="float64")[0]
                     for path in (tmp_path, tmp_path / "out"))
    np.testing.assert_array_equal(after, before)
    assert not soundfile.read(tmp_path / "removed" / name)[0].any()
    assert result.clipped == 0


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_integer_bytes_depend_on_nothing_but_the_settings(
    enhancer, busy, tmp_path, subtype, monkeypatch
):
    monkeypatch.setattr(chunks, "PART_SECONDS", SHORT)
    soundfile.write(tmp_path / "a.wav", recording((50000, 2)), 44100, subtype=subtype)
    written = []
    for model, block in itertools.product((enhancer, busy), (0.01, 0.3, 60.0)):
        monkeypatch.setattr("gan_denoise.inference.file_enhancer.BLOCK_SECONDS", block)
        model.enhance_file(tmp_path / "a.wav", tmp_path / "b.wav")
        written.append((tmp_path / "b.wav").read_bytes())
    assert len(set(written)) == 1


# ---- Amount ------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(rate=st.sampled_from(RATES), length=st.integers(1, 6000), strength=st.floats(0, 1),
       limit=st.one_of(st.none(), st.floats(0, 40)), mode=st.sampled_from(["keep", "link"]),
       name=st.sampled_from(INVERSIONS))
def test_output_and_residual_are_the_input(
    enhancer, tmp_path_factory, rate, length, strength, limit, mode, name
):
    folder = tmp_path_factory.mktemp("residual")
    noisy = recording((2, length))
    soundfile.write(folder / "a.wav", noisy.T, rate, subtype="FLOAT")
    model = enhancer.with_inversion(name).with_options(
        DenoiseOptions(strength=strength, atten_lim_db=limit, channels=mode)
    )
    with parts_of(SHORT):
        model.enhance_file(folder / "a.wav", folder / "b.wav", residual=folder / "c.wav")
    output, removed = (audio.read(folder / name)[0] for name in ("b.wav", "c.wav"))
    np.testing.assert_allclose(output + removed, noisy, atol=1e-6)
    if strength == 0 or limit == 0:
        np.testing.assert_array_equal(output, noisy)


def test_more_strength_takes_more_and_the_limit_is_kept(enhancer):
    noisy = recording(20000)

    def removed(**options):
        treated = enhancer.with_options(DenoiseOptions(**options))
        return np.sum((noisy - treated.enhance(noisy, RATE)) ** 2)

    amounts = [removed(strength=strength) for strength in (0.0, 0.2, 0.5, 0.8, 1.0)]
    assert amounts == sorted(amounts)
    assert amounts[0] == 0
    amounts = [removed(atten_lim_db=limit) for limit in (0.0, 3.0, 6.0, 15.0, 60.0)]
    assert amounts == sorted(amounts)
    assert amounts[-1] == pytest.approx(removed(), rel=1e-3)
    # A gain of at least -3 dB in every bin leaves at least half of the energy.
    kept = enhancer.with_options(DenoiseOptions(atten_lim_db=3.0)).enhance(noisy, RATE)
    assert np.sum(kept**2) > 0.49 * np.sum(noisy**2)


@pytest.mark.parametrize("rate", [RATE, 48000])
def test_the_guard_turns_a_loud_file_down_as_a_whole(enhancer, tmp_path, rate):
    loud = 14 * recording((2, 20000))  # peaks far beyond full scale
    soundfile.write(tmp_path / "a.wav", loud.T, rate, subtype="FLOAT")
    guarded = enhancer.with_options(DenoiseOptions(peak_guard=True))
    for name, kind in (("int.wav", "wav"), ("int.flac", "flac")):
        result = guarded.with_options(DenoiseOptions(peak_guard=True, format=kind)).enhance_file(
            tmp_path / "a.wav", tmp_path / name, residual=tmp_path / f"r-{name}"
        )
        plain = enhancer.enhance(loud, rate)
        gain = 10 ** (result.guard_gain_db / 20)
        assert gain == pytest.approx((1 - 2**-15) / np.abs(plain).max(), rel=2e-3)
        assert result.clipped == 0
        assert result.peak_out_db == pytest.approx(0, abs=0.01)
        written = audio.read(tmp_path / name)[0]
        np.testing.assert_allclose(written, gain * plain, atol=2e-3)
        together = written + audio.read(tmp_path / f"r-{name}")[0]
        loudest = np.abs(gain * loud) < 0.9  # the residual of an integer file may clip
        np.testing.assert_allclose(together[loudest], (gain * loud)[loudest], atol=2e-3)
    quiet = recording((2, 5000))
    soundfile.write(tmp_path / "q.wav", quiet.T, rate, subtype="FLOAT")
    assert guarded.enhance_file(tmp_path / "q.wav", tmp_path / "r.wav").guard_gain_db == 0
    np.testing.assert_array_equal(audio.read(tmp_path / "r.wav")[0], enhancer.enhance(quiet, rate))


# ---- Channels ----------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None)
@given(rate=st.sampled_from([RATE, 44100]), ratio=st.floats(0.01, 1.0),
       sign=st.sampled_from([1, -1]), name=st.sampled_from(INVERSIONS))
def test_linked_channels_keep_their_ratio(enhancer, rate, ratio, sign, name):
    left = recording(12000)
    right = np.float32(sign * ratio) * left
    linked = enhancer.with_inversion(name).with_options(DenoiseOptions(channels="link"))
    with parts_of(SHORT):
        cleaned = linked.enhance(np.stack([left, right]), rate)
    np.testing.assert_allclose(cleaned[1], np.float32(sign * ratio) * cleaned[0], atol=1e-5)


def test_linked_channels_share_one_gain(enhancer):
    """What a linear operator takes from a sum is the sum of what it takes."""
    left, right = 2 * recording((2, 20000))
    linked = enhancer.with_options(DenoiseOptions(channels="link"))
    for rate in (RATE, 48000):
        cleaned = linked.enhance(np.stack([left, right, left + right]), rate)
        np.testing.assert_allclose(cleaned[2], cleaned[0] + cleaned[1], atol=1e-5)
        apart = enhancer.enhance(np.stack([left, right, left + right]), rate)
        assert np.abs(apart[2] - apart[0] - apart[1]).max() > 1e-3


def test_one_channel_is_the_same_linked_or_not(enhancer):
    noisy = recording(9000)
    linked = enhancer.with_options(DenoiseOptions(channels="link"))
    np.testing.assert_array_equal(linked.enhance(noisy, 44100), enhancer.enhance(noisy, 44100))


def test_mono_cleans_the_mean(enhancer, tmp_path):
    noisy = recording((3, 9000))
    mono = enhancer.with_options(DenoiseOptions(channels="mono"))
    expected = enhancer.enhance(noisy.mean(axis=0), 22050)
    np.testing.assert_array_equal(mono.enhance(noisy, 22050)[0], expected)
    soundfile.write(tmp_path / "a.wav", noisy.T, 22050, subtype="FLOAT")
    mono.enhance_file(tmp_path / "a.wav", tmp_path / "b.wav")
    np.testing.assert_array_equal(audio.read(tmp_path / "b.wav")[0], expected[None])


# ---- Above the model's band --------------------------------------------------------------------
def band(wave, low, high, rate):
    spectrum = np.fft.rfft(wave)
    hertz = np.fft.rfftfreq(len(wave), 1 / rate)
    return np.fft.irfft(spectrum * ((hertz >= low) & (hertz < high)), len(wave))


def energy_db(wave):
    return 10 * np.log10(np.mean(np.square(wave)))


def sibilant_speech(seed, rate=48000):
    """Voiced speech below 8 kHz, sibilants up to 14 kHz, pauses; where they are."""
    rng = np.random.default_rng(seed)
    count = 5 * rate
    voice = audio.resample(synthetic_audio.voice(seed, 5.0, seed=seed), RATE, rate, length=count)
    clean, sibilants, pauses = np.zeros(count), np.zeros(count, bool), np.zeros(count, bool)
    at = rate // 2
    pauses[rate // 10 : at - rate // 20] = True
    while at < count - 1.2 * rate:
        syllable = slice(at, at + rate // 2)
        clean[syllable] += voice[syllable] * np.hanning(rate // 2) ** 0.3
        start, size = at + rate // 2, int(0.18 * rate)
        burst = band(rng.standard_normal(2 * size), 4500, 14000, rate)[size // 2 :][:size]
        clean[start : start + size] += 0.05 * burst * np.hanning(size) ** 0.5
        sibilants[start + rate // 33 : start + size - rate // 33] = True
        at = start + size + int(0.4 * rate)
        pauses[start + size + rate // 12 : at - rate // 20] = True
    return clean, sibilants, pauses


@pytest.mark.skipif(not (checkpoint_folder() / DEFAULT_MODEL).is_dir(), reason="no shipped model")
@pytest.mark.parametrize("hiss_db", [-50, -45])
def test_sibilants_stay_bright_and_hiss_in_pauses_goes(hiss_db):
    clean, sibilants, pauses = sibilant_speech(1)
    hiss = 10 ** (hiss_db / 20) * np.random.default_rng(9).standard_normal(len(clean))
    noisy = (clean + hiss).astype(np.float32)
    cleaned = Enhancer.load().enhance(noisy, 48000)
    above = [band(wave, 8000, 24000, 48000) for wave in (clean, noisy, cleaned)]
    assert abs(energy_db(above[2][sibilants]) - energy_db(above[0][sibilants])) <= 3
    assert energy_db(above[1][pauses]) - energy_db(above[2][pauses]) >= 15


def test_strength_and_limit_hold_above_the_band_too(enhancer):
    hiss = band(recording(48000), 9000, 24000, 48000).astype(np.float32)
    noisy = hiss + 0.1 * recording(48000)
    for options, floor in (({"atten_lim_db": 6.0}, -6.1), ({"strength": 0.0}, -1e-6)):
        cleaned = enhancer.with_options(DenoiseOptions(**options)).enhance(noisy, 48000)
        kept = energy_db(band(cleaned, 9000, 24000, 48000)[4000:-4000])
        full = energy_db(band(noisy, 9000, 24000, 48000)[4000:-4000])
        assert floor <= kept - full <= 1e-6


@pytest.mark.parametrize("name", ["calm", "calm-fast", "hush"])
def test_noise_goes_up_to_the_last_sample_wherever_a_recording_ends(name):
    """A network that halves the frames has seen recordings end at one place of its grid alone."""
    noisy, rate = soundfile.read(noisy_speech(), dtype="float32")
    model = Enhancer.load(name)
    hop = model.mel.config.hop_length
    for length in range(len(noisy) - 4 * hop, len(noisy) + 1, hop // 2):
        cleaned = model.enhance(noisy[:length], rate)
        energies = [np.sum(audio[length - hop : length] ** 2) for audio in (noisy, cleaned)]
        assert 10 * np.log10(energies[1] / energies[0]) < -20  # dB: nobody speaks there
