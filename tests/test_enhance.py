"""The tool: shape, rate and level of any recording stay; chunks equal the whole."""

from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import onnx
import pytest
import soundfile
from conftest import RATE, tiny_config, tiny_run
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_denoise import audio, enhance, metrics, synthetic
from gan_denoise.audio import AudioError
from gan_denoise.config import checkpoint_folder
from gan_denoise.enhance import Enhancer, ModelError
from gan_denoise.export import export

N_FFT, HOP = 256, 64


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder of a tiny network with arbitrary weights."""
    folder = tmp_path_factory.mktemp("enhance")
    config = tiny_config(generator={"name": "tcn_autoencoder", "gain_floor_db": 20.0})
    tiny_run(folder / "run", config)
    export(folder / "run", folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def enhancer(model):
    return Enhancer.load(model, threads=1)


@pytest.fixture
def copy(model, tmp_path):
    """A copy of the model to spoil."""
    shutil.copytree(model, tmp_path / "copy")
    return tmp_path / "copy"


def recording(shape, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


# ---- Arrays ------------------------------------------------------------------------------------
def test_every_short_length_and_every_remainder_comes_back(enhancer):
    for length in [*range(1, N_FFT + 1), *range(10 * N_FFT, 10 * N_FFT + HOP)]:
        noisy = recording(length)
        cleaned = enhancer.enhance(noisy, RATE)
        assert cleaned.shape == (length,)
        assert cleaned.dtype == np.float32
        assert np.isfinite(cleaned).all()
        assert np.abs(cleaned - noisy).max() > 0


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]),
       st.sampled_from([(), (1,), (2,), (5,)]))
def test_any_length_rate_and_count_of_channels_comes_back(enhancer, length, rate, channels):
    noisy = recording((*channels, length))
    cleaned = enhancer.enhance(noisy, rate)
    assert cleaned.shape == noisy.shape
    assert cleaned.dtype == np.float32
    assert np.isfinite(cleaned).all()


def test_channels_are_cleaned_by_themselves(enhancer):
    for rate in (RATE, 44100):
        noisy = recording((2, 5000))
        together = enhancer.enhance(noisy, rate)
        for channel in range(2):
            np.testing.assert_array_equal(together[channel], enhancer.enhance(noisy[channel], rate))


def test_the_input_is_left_as_it_is(enhancer):
    noisy = recording(3000)
    kept = noisy.copy()
    enhancer.enhance(noisy, RATE)
    np.testing.assert_array_equal(noisy, kept)
    np.testing.assert_allclose(enhancer.enhance(noisy.astype(np.float64), RATE),
                               enhancer.enhance(noisy, RATE))


def test_silence_stays_silence(enhancer):
    for rate in (RATE, 48000):
        assert not enhancer.enhance(np.zeros(4000, np.float32), rate).any()


def test_what_the_model_cannot_hear_is_left_alone(enhancer):
    time = np.arange(48000) / 48000
    beyond = (0.1 * np.sin(2 * np.pi * 15000 * time)).astype(np.float32)
    inside = slice(1000, -1000)  # its start and end are clicks, which the model hears
    np.testing.assert_allclose(enhancer.enhance(beyond, 48000)[inside], beyond[inside], atol=1e-4)
    # What lies within its band is cleaned as at the model's own rate.
    noisy = synthetic.voice(0, 1.0, seed=0) + 0.2 * synthetic.noise("fan", 1.0, seed=0)
    cleaned = enhancer.enhance(audio.resample(noisy, RATE, 48000), 48000)
    assert metrics.snr(enhancer.enhance(noisy, RATE), audio.resample(cleaned, 48000, RATE)) > 20


@pytest.mark.parametrize("name", ["gain", "gain+phase"])
@pytest.mark.parametrize("seconds", [0.1, 0.13, 0.3])
def test_chunks_equal_the_whole(enhancer, monkeypatch, name, seconds):
    noisy = recording(30011)
    same = enhancer.with_inversion(name)
    whole = same.enhance(noisy, RATE)
    monkeypatch.setattr(enhance, "CHUNK_SECONDS", seconds)
    assert np.abs(whole - noisy).max() > 0.05
    assert np.abs(same.enhance(noisy, RATE) - whole).max() <= 1e-4


def test_chunks_keep_memory_from_growing_with_the_recording(enhancer, monkeypatch):
    monkeypatch.setattr(enhance, "CHUNK_SECONDS", 0.1)
    lengths = []
    part = Enhancer._part
    monkeypatch.setattr(Enhancer, "_part",
                        lambda self, noisy: lengths.append(len(noisy)) or part(self, noisy))
    enhancer.enhance(recording(40000), RATE)
    assert max(lengths) < 12000


def test_griffinlim_needs_no_phase_and_keeps_the_length(enhancer):
    bare = enhancer.with_inversion("griffinlim", griffinlim_steps=4)
    noisy = recording(3001)
    cleaned = bare.enhance(noisy, RATE)
    assert cleaned.shape == (3001,)
    assert np.abs(cleaned - enhancer.enhance(noisy, RATE)).max() > 0.01
    assert enhancer.config.inversion.name == "gain"  # the model itself is as it was


@pytest.mark.parametrize(("array", "word"), [
    (np.zeros((1000, 2), np.float32), r"\[channels, samples\]; pass array\.T"),
    (np.zeros(100, np.int16), "divide by 32768"),
    (np.float32([0, np.nan, 0]), "NaN"),
    (np.float32([0, np.inf, 0]), "infinite"),
    (np.zeros(0, np.float32), "not"),
    (np.zeros((2, 0), np.float32), "not"),
    (np.zeros((2, 2, 50), np.float32), "not"),
    (np.float32(0.5), "not"),
])
def test_an_array_that_is_no_recording_is_refused(enhancer, array, word):
    with pytest.raises(ModelError, match=word):
        enhancer.enhance(array, RATE)


# ---- Files -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "subtype", "rate", "channels"), [
    ("a.wav", "PCM_16", RATE, 1), ("b.wav", "PCM_24", 44100, 2), ("c.flac", "PCM_24", 48000, 2),
    ("d.wav", "FLOAT", 8000, 1), ("e.ogg", "VORBIS", 22050, 1),
])
def test_a_file_keeps_container_encoding_rate_length_and_channels(
    enhancer, tmp_path, name, subtype, rate, channels
):
    source, target = tmp_path / name, tmp_path / "out" / name
    soundfile.write(source, recording((4001, channels)), rate, subtype=subtype)
    result = enhancer.enhance_file(source, target)
    before, after = soundfile.info(source), soundfile.info(target)
    for key in ("format", "subtype", "samplerate", "frames", "channels"):
        assert getattr(before, key) == getattr(after, key)
    assert result.error is None
    assert result.seconds == pytest.approx(4001 / rate)
    assert result.clipped == 0
    cleaned = enhancer.enhance(audio.read(source)[0], rate)
    assert metrics.snr(cleaned, audio.read(target)[0]) > (5 if subtype == "VORBIS" else 60)


def test_a_file_over_itself_is_refused(enhancer, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, recording(1000), RATE)
    before = path.read_bytes()
    (tmp_path / "link.wav").symlink_to(path)
    for target in (path, tmp_path / "." / "a.wav", tmp_path / "link.wav"):
        with pytest.raises(AudioError, match="output is the input"):
            enhancer.enhance_file(path, target)
    assert path.read_bytes() == before


def test_a_full_disk_leaves_nothing_half_written(enhancer, tmp_path, monkeypatch):
    source, target = tmp_path / "a.wav", tmp_path / "out" / "a.wav"
    soundfile.write(source, recording(4000), RATE)
    write = soundfile.SoundFile.write

    def fails(self, data):
        write(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(soundfile.SoundFile, "write", fails)
    with pytest.raises(AudioError, match="disk full") as refused:
        enhancer.enhance_file(source, target)
    assert str(target) in str(refused.value)
    assert not list(target.parent.iterdir())
    target.write_bytes(b"what was there")
    results = enhancer.enhance_folder([source], tmp_path / "out")
    assert "disk full" in results[0].error
    assert target.read_bytes() == b"what was there"
    assert [path.name for path in target.parent.iterdir()] == ["a.wav"]


# ---- Folders -----------------------------------------------------------------------------------
@pytest.fixture
def tree(tmp_path):
    """Three recordings at several depths."""
    root = tmp_path / "in"
    for name in ("a.wav", "sub/b.flac", "sub/deep/c d.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / name, recording(2000), RATE)
    return root


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if path.is_file())


def test_a_folder_mirrors_its_tree(enhancer, tree, tmp_path):
    seen = []
    results = enhancer.enhance_folder([tree], tmp_path / "out",
                                      progress=lambda *values: seen.append(values))
    assert files_in(tmp_path / "out") == files_in(tree)
    assert all(result.error is None for result in results)
    assert [(done, total) for _, done, total in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [result for result, _, _ in seen] == results
    enhancer.enhance_folder([tree], tmp_path / "flat", recursive=False)
    assert files_in(tmp_path / "flat") == ["a.wav"]


def test_a_bad_file_is_reported_and_the_rest_is_done(enhancer, tree, tmp_path):
    (tree / "aa.wav").write_text("this is no recording")
    soundfile.write(tree / "nan.wav", np.full(500, np.nan), RATE, subtype="FLOAT")
    results = enhancer.enhance_folder([tree], tmp_path / "out")
    failed = {result.source.name: result.error for result in results if result.error}
    assert set(failed) == {"aa.wav", "nan.wav"}
    assert "aa.wav" in failed["aa.wav"]
    assert "NaN" in failed["nan.wav"]
    assert files_in(tmp_path / "out") == ["a.wav", "sub/b.flac", "sub/deep/c d.wav"]


def test_an_output_folder_that_is_the_input_is_refused(enhancer, tree):
    before = files_in(tree)
    for out in (tree, tree / "sub" / ".."):
        with pytest.raises(AudioError, match="output folder is the input"):
            enhancer.enhance_folder([tree], out)
    assert files_in(tree) == before


def test_two_inputs_for_one_output_are_refused_before_any_work(enhancer, tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(tree / "a.wav", other / "a.wav")
    with pytest.raises(AudioError, match="would both be written"):
        enhancer.enhance_folder([tree, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    results = enhancer.enhance_folder([tree, tree / "a.wav"], tmp_path / "out")
    assert len(results) == 3  # the same file twice is one


def test_an_output_folder_inside_the_input_is_not_read(enhancer, tree):
    out = tree / "cleaned"
    enhancer.enhance_folder([tree], out)
    again = enhancer.enhance_folder([tree], out)
    assert len(again) == 3
    assert files_in(out) == ["a.wav", "sub/b.flac", "sub/deep/c d.wav"]


def test_nothing_to_do_is_refused(enhancer, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no audio found"):
        enhancer.enhance_folder([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(AudioError, match="no such"):
        enhancer.enhance_folder([tmp_path / "none"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- Models ------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", enhance.PARTS)
def test_a_missing_part_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"{name} missing"):
        Enhancer.load(copy)


def test_a_model_without_its_geometry_is_refused(copy):
    network = onnx.load(copy / "model.onnx")
    del network.metadata_props[:]
    onnx.save(network, copy / "model.onnx")
    with pytest.raises(ModelError, match=r"receptive_field, time_stride; export"):
        Enhancer.load(copy)


def test_a_model_of_a_newer_version_is_refused(copy):
    settings = (copy / "config.yaml").read_text()
    assert "format_version: 1" in settings
    (copy / "config.yaml").write_text(settings.replace("format_version: 1", "format_version: 2"))
    with pytest.raises(ModelError, match="newer gan_denoise"):
        Enhancer.load(copy)


@pytest.mark.parametrize("name", ["model.onnx", "mel_filterbank.npy"])
def test_a_cut_off_part_is_refused(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="not a usable model"):
        Enhancer.load(copy)


def test_a_filterbank_of_other_settings_is_refused(copy):
    np.save(copy / "mel_filterbank.npy", np.zeros((16, 100), np.float32))
    with pytest.raises(ModelError, match="filterbank"):
        Enhancer.load(copy)


def test_a_run_or_nothing_in_place_of_a_model_says_the_way_out(model):
    with pytest.raises(ModelError, match="is a training run; first gan-denoise export"):
        Enhancer.load(model.parent / "run")
    with pytest.raises(ModelError, match="no such model folder; shipped models: "):
        Enhancer.load("nonsense")


# ---- The shipped model -------------------------------------------------------------------------
SHIPPED = checkpoint_folder() / enhance.DEFAULT_MODEL
needs_model = pytest.mark.skipif(not SHIPPED.is_dir(), reason=f"there is no {SHIPPED.name} model")


@pytest.fixture(scope="module")
def noisy_voice():
    """A voice, and the same in noise at 5 dB."""
    clean = synthetic.voice(2, 5.0, seed=4)
    noise = synthetic.noise("fan", 5.0, seed=4)
    noise *= np.float32(np.sqrt(np.sum(clean**2) / np.sum(noise**2) / 10**0.5))
    return clean, clean + noise


@needs_model
@pytest.mark.parametrize("decibel", [-20, -10, -3, 6])
def test_the_shipped_model_does_not_depend_on_the_level(noisy_voice, decibel):
    shipped = Enhancer.load()
    clean, noisy = noisy_voice
    reference = metrics.si_sdr(clean, shipped.enhance(noisy, RATE))
    scaled = shipped.enhance(noisy * np.float32(10 ** (decibel / 20)), RATE)
    assert abs(metrics.si_sdr(clean, scaled) - reference) <= 1


@needs_model
def test_the_shipped_model_removes_noise(noisy_voice):
    clean, noisy = noisy_voice
    cleaned = Enhancer.load().enhance(noisy, RATE)
    assert metrics.si_sdr(clean, cleaned) > metrics.si_sdr(clean, noisy)
