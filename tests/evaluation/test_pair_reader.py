import numpy as np
import pytest

from gan_denoise import audio, metrics
from gan_denoise.audio.writer import write
from gan_denoise.data.synthetic_audio import voice
from gan_denoise.evaluation import pair_reader
from gan_denoise.evaluation.pair_reader import PairMismatchError, read_pair

RATE = 16000


@pytest.fixture
def read(tmp_path):
    def read(noisy, clean, rates=(RATE, RATE)):
        files = []
        for side, signal, rate in zip(("noisy", "clean"), (noisy, clean), rates, strict=True):
            files.append(tmp_path / f"{side}.wav")
            write(files[-1], np.float32(signal), rate, subtype="FLOAT")
        folder = tmp_path / "signals"
        folder.mkdir(exist_ok=True)
        return read_pair(*files, folder)

    return read


@pytest.fixture(scope="module")
def clean():
    return voice(1, 3.0, 1, RATE)


@pytest.fixture(scope="module")
def noise(clean):
    return np.random.default_rng(0).standard_normal(len(clean)).astype(np.float32)


def test_a_pair_is_read_as_read_mono_reads_it(read, clean, noise, tmp_path, monkeypatch):
    monkeypatch.setattr(pair_reader, "BLOCK", 1000)
    found = read(np.stack([clean, 0.1 * noise]), clean)
    np.testing.assert_array_equal(found.noisy[:], audio.read_mono(tmp_path / "noisy.wav", RATE))
    np.testing.assert_array_equal(found.clean[:], clean)
    assert [len(side.energies) for side in found.files] == [2, 1]
    assert (found.sample_rate, found.trimmed, found.channel, found.gain) == (RATE, 0, None, 1.0)


@pytest.mark.parametrize(("seconds", "more", "kept"), [
    (3.0, 300, True), (3.0, 4700, True), (3.0, 4900, False), (3.0, 24000, False),
    (0.5, 300, True), (0.5, 1000, False),
    (3.0, -300, True), (3.0, -24000, False),
])
def test_a_little_is_cut_and_more_is_refused(read, clean, seconds, more, kept):
    clean = clean[: round(seconds * RATE)]
    noisy = np.pad(clean, (0, more)) if more > 0 else clean[:more]
    if not kept:
        with pytest.raises(PairMismatchError, match=r"do not match: \d+ samples at .*cut both"):
            read(noisy, clean)
        return
    found = read(noisy, clean)
    assert found.trimmed == abs(more)
    assert len(found.noisy) == len(found.clean) == min(len(noisy), len(clean))


def test_an_hour_may_not_differ_by_minutes():
    """A share of the length alone would let it."""
    assert pair_reader.LENGTH_SECONDS < 1


def test_a_file_that_is_cut_off_is_read_as_far_as_it_goes_and_told(read, clean, tmp_path):
    for name in ("noisy", "clean"):
        write(tmp_path / f"{name}.wav", clean, RATE, subtype="FLOAT")
    paths = [tmp_path / "noisy.wav", tmp_path / "clean.wav"]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[: -4 * 2000])
    found = read_pair(*paths, tmp_path)
    assert (len(found.noisy), found.trimmed) == (len(clean) - 2000, 2000)
    assert [bool(side.cut_off) for side in found.files] == [True, False]
    paths[0].write_bytes(whole[: len(whole) // 2])
    cut_off = r"do not match: .* samples at 16000 Hz \(cut off: "
    with pytest.raises(PairMismatchError, match=cut_off):
        read_pair(*paths, tmp_path)


def test_two_rates_meet_at_the_lower(read, clean):
    for rates in ((48000, RATE), (RATE, 48000)):
        pair = [audio.resample(clean, RATE, rate) for rate in rates]
        found = read(*pair, rates)
        assert found.sample_rate == RATE
        assert [side.sample_rate for side in found.files] == list(rates)
        assert metrics.snr(found.clean, found.noisy) > 20  # there and back takes the band's edge


def test_only_a_mean_that_cancels_gives_way_to_a_channel(read, clean, noise):
    found = read(np.stack([clean, -clean + 1e-3 * noise]), np.stack([clean, -clean]))
    assert found.channel == 0
    np.testing.assert_array_equal(found.noisy[:], clean)
    # Channels that have nothing in common lose 3 dB, one dead channel 3, a silent file nothing.
    for channels in ([clean, noise], [clean, 0 * clean], [0 * clean, 0 * clean]):
        assert read(np.stack(channels), clean).channel is None


def test_of_both_sides_the_same_channel_is_taken(read, clean, noise):
    dead = 0 * clean
    found = read(np.stack([noise, dead, 2 * clean, -clean]), np.stack([dead, dead, clean, -clean]))
    assert found.channel == 2
    np.testing.assert_array_equal(found.noisy[:], 2 * clean)
    found = read(np.stack([dead, dead, clean, -clean]), clean)  # a mono clean file
    assert found.channel == 2
    np.testing.assert_array_equal(found.noisy[:], clean)
    np.testing.assert_array_equal(found.clean[:], clean)


@pytest.mark.parametrize(("peak", "gain"), [(7.9, 1.0), (8.5, 1 / 16), (30_000.0, 2.0**-15)])
def test_far_above_full_scale_both_get_one_gain(read, clean, peak, gain):
    clean = clean * np.float32(peak / np.max(np.abs(clean)))
    found = read(0.5 * clean, clean)
    assert found.gain == gain
    np.testing.assert_array_equal(found.clean[:], clean * np.float32(gain))
    np.testing.assert_array_equal(found.noisy[:], clean * np.float32(0.5 * gain))


@pytest.mark.parametrize("snr_db", [-5, 0, 10, 20])
@pytest.mark.parametrize("gain", [0.1, 1.0, 3.0])
def test_the_noisier_side_is_told_at_any_gain(clean, noise, snr_db, gain):
    level = np.sqrt(np.mean(clean**2) / np.mean(noise**2)) / 10 ** (snr_db / 20)
    noisy = gain * (clean + level * noise)
    assert pair_reader._is_noisier(noisy, clean, RATE)
    assert not pair_reader._is_noisier(clean, noisy, RATE)
    bursts = noise * (np.arange(len(noise)) // 4000 % 4 == 0)  # barking, which leaves pauses
    assert not pair_reader._is_noisier(clean, gain * (clean + 2 * level * bursts), RATE)


def test_equal_silent_or_unlike_sides_are_not_called_noisier(clean, noise):
    for one, other in ((clean, clean), (clean, 0 * clean), (0 * clean, clean), (noise, clean),
                       (clean, noise), (clean[:100], clean[:100])):
        assert not pair_reader._is_noisier(one, other, RATE)
