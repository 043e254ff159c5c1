"""From folders to batches: every kind of material, split by speaker, a function of the step."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from conftest import RATE, TinySource, tiny_config

from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import write
from gan_denoise.config import ConfigError, join_settings
from gan_denoise.data import synthetic_audio
from gan_denoise.data.corpus import build_corpus
from gan_denoise.data.datasets import PairSource, batches, load_material
from gan_denoise.data.pairs import PairError

TONES = {"low": 400, "mid": 800, "high": 1600, "top": 3200}  # Hz, of a speaker each
FOLDERS = ("speech", "noise", "noisy", "clean", "pairs", "valid_speech", "valid_noise",
           "valid_noisy", "valid_clean", "rir")
PLAIN = {"equalise": 0.0, "coloured": 0.0, "babble": 0.0, "resample_noise": 0.0}


def config_of(recipe=None, **data):
    """Return settings of tiny material; of the recipe what is of use to this kind of material."""
    small = {"valid_clips": 6, "valid_seconds": 0.4, "valid_fraction": 0.25}
    parent = tiny_config(data=small | (recipe or {}))
    return join_settings([parent.model_dump(), {"data": data}])


def material_of(**data):
    return load_material(config_of(**{key: str(value) if key in FOLDERS else value
                                      for key, value in data.items()}))


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Speakers that hold a tone each, in `clean/SPEAKER/` and, with noise, in `noisy/SPEAKER/`."""
    root = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    time = np.arange(RATE) / RATE
    for speaker, hertz in TONES.items():
        for take in range(2):
            clean = 0.4 * np.sin(2 * np.pi * hertz * time + take)
            for side, added in (("clean", 0.0), ("noisy", 0.05)):
                write(root / side / speaker / f"{take}.wav",
                            clean + added * rng.standard_normal(RATE), RATE)
    return root


def speakers_in(clips):
    """Return the speakers whose tones are the loudest of some clips."""
    found = set()
    for clip in clips:
        hertz = np.argmax(np.abs(np.fft.rfft(clip * np.hanning(len(clip))))) * RATE / len(clip)
        found.add(min(TONES, key=lambda speaker: abs(TONES[speaker] - hertz)))
    return found


# ---- Kinds of material -------------------------------------------------------------------------
KINDS = {
    "mixed": ("speech", "noise"), "clean alone": ("clean",), "pairs": ("noisy", "clean"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_batches_and_validation_clips(folders, kind):
    material = material_of(**{key: folders / key for key in KINDS[kind]})
    noisy, clean = material.train.batch(3, 4)
    for part in (noisy, clean):
        assert part.shape == (4, config_of().crop_samples)
        assert part.dtype == np.float32
        assert np.isfinite(part).all()
    assert material.valid.noisy.shape == material.valid.clean.shape == (6, 6400)
    assert material.summary
    same = [np.array_equal(noisy, clean), np.array_equal(material.valid.noisy,
                                                         material.valid.clean)]
    assert same == [kind == "clean alone"] * 2
    peaks = 20 * np.log10(np.abs(noisy).max(axis=1))
    assert (peaks > -50.1).all()
    assert (peaks < 0.1).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_function_of_seed_and_step(folders, kind):
    data = {key: str(folders / key) for key in KINDS[kind]}
    first, again = (load_material(config_of(**data)) for _ in range(2))
    np.testing.assert_array_equal(first.train.batch(5, 3), again.train.batch(5, 3))
    np.testing.assert_array_equal(first.valid.noisy, again.valid.noisy)
    assert first.digest == again.digest
    assert np.abs(first.train.batch(5, 3)[0] - first.train.batch(6, 3)[0]).max() > 1e-3
    config = tiny_config(data=config_of(**data).data.model_dump(), training={"seed": 1})
    other = load_material(config)
    assert np.abs(first.train.batch(5, 3)[0] - other.train.batch(5, 3)[0]).max() > 1e-3
    np.testing.assert_array_equal(first.valid.noisy, other.valid.noisy)  # comparable over seeds


def test_a_folder_of_a_known_layout_is_paired(folders, tmp_path):
    for side in ("noisy", "clean"):
        shutil.copytree(folders / side, tmp_path / side)
    by_layout = material_of(pairs=tmp_path)
    by_folders = material_of(noisy=tmp_path / "noisy", clean=tmp_path / "clean")
    np.testing.assert_array_equal(by_layout.train.batch(0, 4), by_folders.train.batch(0, 4))


def test_a_lone_noise_file_serves_both(folders, tmp_path):
    shutil.copy(folders / "noise/fan/0.wav", tmp_path / "fan.wav")
    material = material_of(speech=folders / "speech", noise=tmp_path)
    for noisy, clean in (material.train.batch(0, 4),
                         (material.valid.noisy, material.valid.clean)):
        assert (np.abs(noisy - clean).max(axis=1) > 1e-5).all()


def test_validation_folders_are_taken_where_given(folders, tones):
    material = material_of(speech=folders / "speech", noise=folders / "noise",
                           valid_speech=tones / "clean", valid_noise=folders / "noise",
                           snr_mean=30.0, snr_std=0.0, recipe=PLAIN)
    spectrum = np.abs(np.fft.rfft(material.valid.clean * np.hanning(6400)))
    loudest = np.argmax(spectrum, axis=1) * RATE / 6400
    assert all(min(abs(hertz - tone) for tone in TONES.values()) < 10 for hertz in loudest)


# ---- Pairs -------------------------------------------------------------------------------------
def test_noisy_and_clean_share_gain_and_offset(tmp_path):
    rng = np.random.default_rng(0)
    for name, seconds in (("long", 3.0), ("short", 0.2)):
        clean = 0.2 * rng.standard_normal(round(seconds * RATE)).clip(-2, 2)
        write(tmp_path / "clean" / f"{name}.wav", clean, RATE, subtype="FLOAT")
        write(tmp_path / "noisy" / f"{name}.wav", 2 * clean, RATE, subtype="FLOAT")
    corpora = [build_corpus([tmp_path / side / f"{name}.wav" for name in ("long", "short")], RATE)
               for side in ("noisy", "clean")]
    source = PairSource(*corpora, config_of(peak_range=[-40.0, -3.0]).data, 4096, seed=0)
    noisy, clean = source.batch(0, 128)
    np.testing.assert_allclose(noisy, 2 * clean, atol=2e-4)
    peaks = 20 * np.log10(np.abs(noisy).max(axis=1))
    assert (peaks > -40.1).all()
    assert (peaks < -2.9).all()
    assert np.ptp(peaks) > 20  # levels differ from item to item
    short = ~noisy[:, 3200:].any(axis=1)
    assert 0 < short.sum() < 30  # drawn by duration, padded with zeros
    assert len(np.unique((noisy / np.abs(noisy).max(axis=1, keepdims=True))[~short, 0])) > 30


def test_a_pair_with_a_silent_side_is_left_out(tmp_path):
    voice = synthetic_audio.voice(0, 0.5, seed=0)
    for side, parts in (("noisy", (voice, voice)), ("clean", (voice, 0 * voice))):
        for name, part in zip(("a", "b"), parts, strict=True):
            write(tmp_path / side / f"{name}.wav", part, RATE)
    corpora = [build_corpus([tmp_path / side / f"{name}.wav" for name in "ab"], RATE)
               for side in ("noisy", "clean")]
    source = PairSource(*corpora, config_of().data, 1000, seed=0)
    assert len(source.indices) == 1
    lone = [build_corpus([tmp_path / "noisy/a.wav"], RATE), corpora[1].subset([])]
    with pytest.raises(PairError, match="silence"):
        PairSource(*lone, config_of().data, 1000, seed=0)


# ---- Speakers ----------------------------------------------------------------------------------
@pytest.mark.parametrize("sides", [("clean",), ("noisy", "clean")])
def test_validation_speakers_are_not_trained_on(tones, sides):
    material = material_of(**{side: tones / side for side in sides}, recipe=PLAIN)
    held_out = speakers_in(material.valid.clean)
    trained = set().union(*(speakers_in(material.train.batch(step, 8)[1]) for step in range(6)))
    assert len(held_out) == 1
    assert trained == set(TONES) - held_out


# ---- One speaker ---------------------------------------------------------------------------------
def rising(seconds, low=300, high=3000, pause=0.0, seed=0):
    """A tone whose pitch says where in the recording it is, then a pause of faint noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    tone = 0.4 * np.sin(2 * np.pi * (low + (high - low) * time / seconds / 2) * time)
    faint = 3e-4 * np.random.default_rng(seed).standard_normal(round(pause * RATE))
    return np.concatenate([tone, faint])


def pitches(clips):
    """Return the loudest frequencies of clips in Hz, at the begin and at the end of each."""
    size = 1024
    ends = [clip[at] for clip in clips for at in (np.s_[:size], np.s_[-size:])
            if np.abs(clip[at]).max() > 0.1 * np.abs(clip).max()]
    spectra = np.abs(np.fft.rfft(np.array(ends) * np.hanning(size)))
    return np.argmax(spectra, axis=1) * RATE / size


SIDES = (("speech", "noise"), ("clean",), ("noisy", "clean"))


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("pause", [0.0, 6.0])
def test_of_one_recording_the_end_is_held_out_and_not_trained_on(folders, tmp_path, sides, pause):
    """Of 8 s, 2 s are: those before a pause, in which there would be nothing to validate on."""
    for side in sides:
        write(tmp_path / side / "me reading.wav", rising(8.0, pause=pause), RATE)
    data = {side: tmp_path / side for side in sides} | {
        "recipe": {"snr_mean": 30.0, "snr_std": 0.0, **PLAIN}}
    if "noise" in sides:
        data["noise"] = folders / "noise"
    material = material_of(**data)
    assert "; validation: the last 2.0 s of me reading.wav" in material.summary
    border = 300 + 2700 * 6 / 8  # Hz
    trained = np.concatenate([pitches(material.train.batch(step, 16)[1]) for step in range(8)])
    held = pitches(material.valid.clean)
    assert trained.max() < border + 20 < held.min() + 60
    assert trained.min() < 600
    assert trained.max() > border - 300
    merged = material_of(merge_validation=True, **data)
    again = np.concatenate([pitches(merged.train.batch(step, 16)[1]) for step in range(8)])
    assert again.max() > border + 100
    assert merged.digest == material.digest


def test_of_several_recordings_of_one_speaker_whole_ones_are_held_out(folders, tmp_path):
    tones = dict(zip(range(1, 9), range(400, 4400, 500), strict=True))  # Hz, a take each
    time = np.arange(RATE) / RATE
    for take, hertz in tones.items():
        write(tmp_path / "clean" / f"p226_{take:03d}.wav", 0.4 * np.sin(2 * np.pi * hertz * time),
              RATE)
    material = material_of(clean=tmp_path / "clean", recipe=PLAIN)
    held = {round(hertz, -2) for hertz in pitches(material.valid.clean)}
    trained = {round(hertz, -2) for step in range(8)
               for hertz in pitches(material.train.batch(step, 16)[1])}
    assert "; validation: 2 of the files" in material.summary
    assert len(held) == 2
    assert not held & trained
    assert len(held | trained) == len(tones)


def test_of_a_long_and_a_short_recording_the_end_of_the_long_one_is_held_out(tmp_path):
    for name, seconds in (("p226_001", 10.0), ("p226_002", 0.3)):
        write(tmp_path / f"{name}.wav", rising(seconds), RATE)
    material = material_of(clean=tmp_path, recipe=PLAIN)
    assert "the last 2.6 s of p226_001.wav" in material.summary


def test_too_little_of_one_speaker_is_refused_with_the_way_out(tmp_path):
    for side in ("noisy", "clean"):
        write(tmp_path / side / "a.wav", rising(1.2), RATE)
    for data in ({"clean": tmp_path / "clean"},
                 {"noisy": tmp_path / "noisy", "clean": tmp_path / "clean"}):
        with pytest.raises(PairError, match=r"a\.wav: 1\.2 s of .*record 1\.6 s or more"):
            material_of(**data)


# ---- What is refused ---------------------------------------------------------------------------
@pytest.mark.parametrize(("named", "word"), [
    ((), "nothing to train on"),
    (("speech",), "noise"),
    (("noisy",), "clean"),
    (("speech", "noise", "noisy", "clean"), "either"),
    (("speech", "noise", "clean"), "clean"),
    (("pairs", "noisy", "clean"), "pairs"),
], ids=lambda value: "+".join(value) if isinstance(value, tuple) else "-")
def test_no_material_or_two_kinds_at_once_is_refused(folders, named, word):
    data = {key: folders if key == "pairs" else folders / key for key in named}
    with pytest.raises(ConfigError, match=word):
        material_of(**data)


def test_material_that_is_missing_or_unpaired_is_refused(folders, tmp_path):
    with pytest.raises(AudioError, match="no such"):
        material_of(speech=tmp_path / "none", noise=folders / "noise")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match="no audio"):
        material_of(clean=tmp_path / "empty")
    shutil.copytree(folders / "clean", tmp_path / "clean")
    (tmp_path / "clean/speaker1/0.wav").unlink()
    with pytest.raises(PairError, match="speaker1/0"):
        material_of(noisy=folders / "noisy", clean=tmp_path / "clean")


# ---- Identity of the material ------------------------------------------------------------------
def test_the_digest_follows_the_content_not_the_place(folders, tmp_path):
    shutil.copytree(folders / "speech", tmp_path / "moved")
    here = material_of(speech=folders / "speech", noise=folders / "noise")
    moved = material_of(speech=tmp_path / "moved", noise=folders / "noise")
    assert moved.digest == here.digest
    write(tmp_path / "moved/speaker0/0.wav", synthetic_audio.voice(9, 1.2, seed=9), RATE)
    other = material_of(speech=tmp_path / "moved", noise=folders / "noise")
    assert other.digest != here.digest


# ---- The pipeline ------------------------------------------------------------------------------
class Uneven(TinySource):
    """Later batches are sometimes ready before earlier ones."""

    def batch(self, step, batch_size):
        self.delay = 0.02 * (step % 3 == 0)
        return super().batch(step, batch_size)


def take(count, start=0, workers=1):
    config = tiny_config(training={"data_workers": workers})
    taken = list(batches(Uneven(), config, start).take(count))
    return [int(step) for step, _, _ in taken], [np.stack(item[1:]) for item in taken]


def test_the_order_depends_neither_on_workers_nor_on_the_start():
    steps, items = take(8)
    assert steps == list(range(8))
    for step, item in zip(steps, items, strict=True):
        np.testing.assert_array_equal(item, TinySource().batch(step, 2))
    for workers, start in ((4, 0), (1, 3), (4, 3)):
        others, found = take(8 - start, start, workers)
        assert others == steps[start:]
        np.testing.assert_array_equal(found, items[start:])
