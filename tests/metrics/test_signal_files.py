import errno
import pickle

import numpy as np
import pytest

from gan_denoise import audio
from gan_denoise.metrics import signal_files
from gan_denoise.metrics.signal_files import Signal, SignalError, blocks, resampled, store

NOISE = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)


def test_a_signal_reads_as_the_array_that_it_holds(tmp_path):
    signal = store(tmp_path / "x", [NOISE[:3000], NOISE[3000:3000], NOISE[3000:]])
    signal = pickle.loads(pickle.dumps(signal))  # goes to scoring processes
    assert (len(signal), signal.shape) == (10_000, NOISE.shape)
    for place in (slice(None), slice(5, 5), slice(9, 5), slice(5, 4000), slice(9000, 12_000),
                  slice(20_000, 30_000)):
        np.testing.assert_array_equal(signal[place], NOISE[place])
    np.testing.assert_array_equal(signal.first(700)[:], NOISE[:700])
    np.testing.assert_array_equal(signal.first(700)[600:900], NOISE[600:700])
    np.testing.assert_array_equal(signal.at_gain(0.5)[2:9], 0.5 * NOISE[2:9])
    assert [len(block) for block in blocks(signal, 4096)] == [4096, 4096, 1808]
    assert len(signal.first(20_000)) == 10_000
    np.testing.assert_array_equal(signal.at_gain(2.0)[2:9], 2 * NOISE[2:9])
    np.testing.assert_allclose(signal.at_gain(0.5).at_gain(3.0)[:], 1.5 * NOISE, rtol=1e-6)
    assert signal.at_gain(0.3)[:].dtype == np.float32


def test_blocks_follow_each_other_and_have_a_length_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(signal_files, "BLOCK", 3000)
    for signal in (NOISE, store(tmp_path / "x", [NOISE])):
        found = list(blocks(signal))
        assert [len(block) for block in found] == [3000, 3000, 3000, 1000]
        np.testing.assert_array_equal(np.concatenate(found), NOISE)


@pytest.mark.parametrize(("rate_in", "rate_out"), [(48000, 16000), (44100, 16000), (8000, 16000)])
@pytest.mark.parametrize("length", [None, 7000, 3])
def test_blocks_are_resampled_as_the_whole(monkeypatch, rate_in, rate_out, length):
    monkeypatch.setattr(signal_files, "BLOCK", 1000)
    found = np.concatenate(list(resampled(NOISE, rate_in, rate_out, length)))
    np.testing.assert_allclose(found, audio.resample(NOISE, rate_in, rate_out, length), atol=1e-6)


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"),
                                   OSError("1000 requested and 0 written")])
def test_a_full_disk_is_one_line_with_the_way_out(tmp_path, fault):
    def parts():
        yield NOISE
        raise fault

    with pytest.raises(SignalError, match="set TMPDIR to a folder with room") as error:
        store(tmp_path / "x", parts())
    assert "\n" not in str(error.value)


def test_a_missing_file_is_no_full_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        store(tmp_path / "nowhere" / "x", [NOISE])
    with pytest.raises(FileNotFoundError):
        Signal(tmp_path / "x", 5)[:]


@pytest.mark.parametrize("rate", [16000, 48000])
def test_what_is_resampled_is_padded_to_the_length_asked_for(rate):
    found = np.concatenate(list(resampled(NOISE, rate, 16000, 12_345)))
    assert (len(found), found.dtype) == (12_345, np.float32)
    assert not found[10_100:].any()
    assert list(map(len, resampled(NOISE[:0], rate, 16000))) == [0]


def test_what_is_stored_is_as_long_as_its_parts(tmp_path):
    assert len(store(tmp_path / "x", [])) == 0
    doubles = store(tmp_path / "y", [NOISE[:7].astype(np.float64), NOISE[::2][:5]])
    assert len(doubles) == 12
    np.testing.assert_array_equal(doubles[:], np.concatenate([NOISE[:7], NOISE[::2][:5]]))


def test_another_fault_of_the_disk_is_not_said_to_be_a_full_one(tmp_path):
    def parts():
        yield NOISE
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as error:
        store(tmp_path / "x", parts())
    assert not isinstance(error.value, SignalError)
