"""Features as files: what is written is what the transform says, and what is read trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, tiny_config

from gan_denoise import audio
from gan_denoise.audio.writer import write
from gan_denoise.config import ConfigError, load_config
from gan_denoise.core.errors import OutputError
from gan_denoise.data import synthetic_audio
from gan_denoise.data.datasets import load_material
from gan_denoise.data.feature_folder import FeatureError, FeatureFolder
from gan_denoise.data.feature_writer import write_features
from gan_denoise.data.mixture_writer import MixtureSpec, write_pairs
from gan_denoise.dsp.mel import Mel
from gan_denoise.metrics import snr_mel
from gan_denoise.training.loop import train

MFCC = {"n_mfcc": 4}
CROP = {"steps": 3, "crop_seconds": 20 * 64 / RATE}
FEATURE_RUN = CROP | {"select_by": "snr_mel"}


def config_of(folders=None, sides=("noisy", "clean"), data=None, **sections):
    given = {side: str(folders / side) for side in sides} if folders else {}
    if "features" not in (data or {}):  # features have been divided already
        given["valid_fraction"] = 0.25
    return tiny_config(**{
        "data": {**given, "valid_clips": 3, **(data or {})},
        "generator": {"head": "direct"},
        "training": FEATURE_RUN,
    } | sections)


@pytest.fixture(scope="module")
def written(folders, tmp_path_factory):
    """(settings to train with, folder) of paired recordings of four speakers, with MFCC."""
    out = tmp_path_factory.mktemp("features") / "hybrid"
    return write_features(config_of(folders, mel=MFCC), out), out


# ---- Writing -----------------------------------------------------------------------------------
def test_a_file_holds_what_the_transform_makes_of_both_recordings(written, folders):
    settings, out = written
    with np.load(next((out / "train").rglob("0.0.npz"))) as arrays:
        stored = {side: arrays[side] for side in arrays}
    name = next((out / "train").rglob("0.0.npz")).parent.name
    mel = Mel(settings.audio, settings.mel)
    for side in ("noisy", "clean"):
        wave = audio.read_mono(folders / side / name / "0.wav", RATE)[: settings.crop_samples]
        expected = mel.features(mel.linear(mel.stft(wave)))
        assert stored[side].shape == expected.shape == (settings.crop_frames, 16 + 4)
        np.testing.assert_allclose(stored[side], expected, rtol=1e-3, atol=0.1)  # float16


def test_ranges_are_those_of_the_training_clips(written):
    settings, out = written
    with_range = [np.load(path) for path in (out / "train").rglob("*.npz")]
    frames = np.concatenate([arrays[side] for arrays in with_range for side in arrays])
    low, high = frames.min(axis=0).astype(float), frames.max(axis=0).astype(float)
    assert settings.mel.offset_db == -low[:16].min()
    assert settings.mel.range_db == high[:16].max() - low[:16].min()
    np.testing.assert_array_equal(settings.mel.mfcc_range, np.stack([low[16:], high[16:]], axis=1))
    folder = FeatureFolder(out, settings)
    for clip in folder.clips["train"]:
        for side in folder.read(clip):
            assert 0 <= side.min() <= side.max() <= 1
    scaled = np.concatenate([np.concatenate(folder.read(c)) for c in folder.clips["train"]])
    np.testing.assert_allclose(scaled[:, 16:].min(axis=0), 0, atol=1e-6)  # and they are used up
    np.testing.assert_allclose(scaled[:, 16:].max(axis=0), 1, atol=1e-6)


def test_no_speaker_is_in_two_splits_and_nothing_is_lost(written):
    settings, out = written
    clips = FeatureFolder(out, settings).clips
    speakers = [{clip.speaker for clip in clips[split]} for split in clips]
    assert [len(group) for group in speakers] == [2, 1, 1]
    assert len(set.union(*speakers)) == 4
    # 1.2 s are 15 clips of 20 hops
    assert sum(map(len, clips.values())) == 8 * round(1.2 * RATE / settings.crop_samples)


def test_the_settings_written_are_those_to_train_with(written):
    settings, out = written
    assert load_config(out / "config.yaml") == settings
    assert settings.data.features == str(out)
    assert not {"noisy", "clean", "pairs"} & set(dict(settings.data))


def test_settings_that_select_by_sound_become_settings_to_train_with(folders, tmp_path):
    write_features(config_of(folders, training=CROP), tmp_path / "out")
    assert load_config(tmp_path / "out/config.yaml").training.select_by == "snr_mel"


@pytest.mark.parametrize(("sections", "word"), [
    ({"losses": {"complex_weight": 0.1}}, r"losses\.complex_weight needs"),
    ({"data": {"valid_noisy": "there", "valid_clean": "here"}}, "leave out valid_noisy, valid_cl"),
])
def test_settings_that_nothing_could_train_with_are_refused_before_the_work(
    folders, tmp_path, sections, word
):
    with pytest.raises(ConfigError, match=word):
        write_features(config_of(folders, **sections), tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_layout_without_validation_has_it_held_out_as_in_training(tmp_path):
    tone = 0.5 * np.sin(np.arange(2000)).astype(np.float32)
    for number, speaker in enumerate(("p226", "p287", "p300", "p301")):
        for side in ("noisy", "clean"):
            write(tmp_path / f"{side}_trainset_28spk_wav/{speaker}_001.wav", tone / 2, RATE)
            write(tmp_path / f"{side}_testset_wav/p232_00{number}.wav", tone, RATE)
    settings = write_features(config_of(data={"pairs": str(tmp_path)}), tmp_path / "out")
    clips = FeatureFolder(tmp_path / "out", settings).clips
    assert {split: {clip.speaker for clip in clips[split]} for split in clips} == {
        "train": {"p300", "p301"}, "validation": {"p226", "p287"}, "test": {"p232"}}


def test_an_utterance_that_mix_repeats_is_in_one_split(tmp_path):
    """It is named `3_jackson_0_2`, which tells no speaker; the manifest does."""
    for speaker in ("george", "jackson", "lucas", "theo"):
        for digit in range(3):
            voice = 0.5 * synthetic_audio.voice(len(speaker), 0.2, seed=digit)
            write(tmp_path / f"speech/{digit}_{speaker}_0.wav", voice, RATE)
    write(tmp_path / "noise/a.wav", synthetic_audio.noise("white", 0.5, seed=0), RATE)
    rows = write_pairs([tmp_path / "speech"], [tmp_path / "noise"], tmp_path / "mix",
                       MixtureSpec(RATE, (5,), count=30))
    settings = write_features(
        config_of(data={"clean": str(tmp_path / "mix/clean")}), tmp_path / "out")
    speakers = {f"{row['file'].removesuffix('.wav')}": row["speaker"] for row in rows}
    clips = FeatureFolder(tmp_path / "out", settings).clips
    found = {split: {speakers[clip.file.partition("/")[2].split(".")[0]] for clip in clips[split]}
             for split in clips}
    assert sorted(map(len, found.values())) == [1, 1, 2]
    assert len(set.union(*found.values())) == 4


def test_two_recordings_of_one_name_are_refused(tmp_path):
    """The second clip of `a` and the only one of `a.1` would be one file."""
    for speaker in "bcde":
        for name, length in (("a", 3000), ("a.1", 1000)):
            write(tmp_path / "clean" / speaker / f"{name}.wav", np.full(length, 0.1, "f4"), RATE)
    with pytest.raises(FeatureError, match=r"another recording has the name train/\w/a\.1\.npz"):
        write_features(config_of(tmp_path, ["clean"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    write(tmp_path / "x.wav", np.full(3000, 0.1, np.float32), RATE)
    with pytest.raises(FeatureError, match=r"x\.wav: is a file; give data\.clean the folder"):
        write_features(config_of(data={"clean": str(tmp_path / "x.wav")}), tmp_path / "out")


def test_recordings_of_silence_alone_have_no_ranges(tmp_path):
    for speaker in "abcd":
        write(tmp_path / "clean" / speaker / "x.wav", np.zeros(3000, np.float32), RATE)
    with pytest.raises(FeatureError, match="silent throughout"):
        write_features(config_of(tmp_path, ["clean"], mel=MFCC), tmp_path / "out")


def test_a_rest_of_a_recording_is_filled_up_with_silence(tmp_path):
    for side in ("noisy", "clean"):
        for speaker in "abc":
            tone = np.sin(np.arange(int(1.6 * 1280))).astype(np.float32)
            write(tmp_path / side / speaker / "x.wav", 0.5 * tone, RATE)
    settings = write_features(config_of(tmp_path), tmp_path / "out")
    folder = FeatureFolder(tmp_path / "out", settings)
    (whole, rest), = (sorted(group, key=lambda clip: clip.file)
                      for group in [folder.clips["train"]])
    assert folder.read(whole)[1][-2].max() > 0.5
    assert folder.read(rest)[1][5].max() > 0.5
    assert not folder.read(rest)[1][-5:].any()


def test_what_is_there_is_not_written_over(written, folders):
    _, out = written
    with pytest.raises(OutputError, match="is there already"):
        write_features(config_of(folders), out)


def test_recordings_of_other_lengths_are_refused_and_leave_nothing(tmp_path):
    for side, length in (("noisy", 3000), ("clean", 4000)):
        for speaker in "abc":
            write(tmp_path / side / speaker / "x.wav", np.full(length, 0.1, np.float32), RATE)
    with pytest.raises(FeatureError, match="do not match: 4000 samples and 3000 samples"):
        write_features(config_of(tmp_path), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean", "noisy"]


# ---- Reading -----------------------------------------------------------------------------------
def test_a_batch_is_a_function_of_seed_and_step(written):
    settings, out = written
    source = FeatureFolder(out, settings).source(("train",), 0)
    first, again = source.batch(5, 3), source.batch(5, 3)
    np.testing.assert_array_equal(first, again)
    assert first[0].shape == (3, *settings.crop_shape)
    assert np.abs(np.subtract(first, source.batch(6, 3))).max() > 0


def test_noise_is_added_where_a_folder_holds_clean_features_alone(folders, tmp_path):
    config = config_of(folders, ["clean"], {"snr_mean": 6.0, "snr_std": 0.0})
    settings = write_features(config, tmp_path / "out")
    noisy, clean = FeatureFolder(tmp_path / "out", settings).source(("train",), 0).batch(0, 4)
    assert np.mean(list(map(snr_mel, clean, noisy))) == pytest.approx(6.0, abs=0.5)


def test_merged_validation_is_trained_on(written):
    settings, _ = written
    merged = settings.model_copy(
        update={"data": settings.data.model_copy(update={"merge_validation": True})}
    )
    apart, both = (load_material(config).train.clips for config in (settings, merged))
    assert {clip.split for clip in both} == {"train", "validation"}
    assert {clip.split for clip in apart} == {"train"}


def test_another_transform_is_refused_and_the_right_settings_named(written):
    settings, out = written
    other = settings.model_copy(update={"mel": settings.mel.model_copy(update={"fmin": 50.0})})
    with pytest.raises(FeatureError, match=r"made with mel\.fmin 0\.0; train with --config .*yaml"):
        FeatureFolder(out, other)


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(FeatureError, match="no folder of features"):
        FeatureFolder(tmp_path, config_of())


@pytest.fixture
def copied(written, tmp_path):
    """(settings, folder that may be damaged)."""
    settings, out = written
    return settings, Path(shutil.copytree(out, tmp_path / "copy"))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": 1, "audio": {}, "mel": {}}'])
def test_a_damaged_index_is_told(copied, text):
    settings, folder = copied
    (folder / "index.json").write_text(text)
    with pytest.raises(FeatureError, match=r"index\.json: is no index of features"):
        FeatureFolder(folder, settings)


@pytest.mark.parametrize("name", ["train/../../other.npz", "/train/x.npz", "s3://train/x.npz"])
def test_an_index_names_no_file_outside_its_folder(copied, name):
    settings, folder = copied
    index = json.loads((folder / "index.json").read_text())
    del index["crc32"]
    index["clips"][0]["file"] = name
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(FeatureError, match="not in that folder; take it from"):
        FeatureFolder(folder, settings)


def test_a_folder_of_a_newer_format_is_told(copied):
    settings, folder = copied
    text = (folder / "index.json").read_text().replace('"format": 1', '"format": 2')
    (folder / "index.json").write_text(text.replace('"speaker"', '"voice"'))
    with pytest.raises(FeatureError, match="a newer gan_denoise"):
        FeatureFolder(folder, settings)


def test_a_missing_clip_is_told_at_once_and_a_damaged_one_by_name(copied):
    settings, folder = copied
    opened = FeatureFolder(folder, settings)
    clip, path = opened.clips["test"][0], folder / opened.clips["test"][0].file
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"junk"):
        path.write_bytes(content)
        with pytest.raises(FeatureError, match=f"{clip.file}: is not a whole clip"):
            opened.read(clip)
    path.unlink()
    with pytest.raises(FeatureError, match=f"1 of 120 clips are missing, the first is {clip.file}"):
        FeatureFolder(folder, settings)


def test_ranges_that_are_not_measured_stop_training(folders):
    with pytest.raises(ConfigError, match="gan-denoise features measures it"):
        Mel(*(getattr(tiny_config(mel=MFCC, generator={"head": "direct"}), key)
              for key in ("audio", "mel"))).mel01(np.zeros(100, np.float32))


# ---- Training ----------------------------------------------------------------------------------
@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_features_train_and_are_validated(written, tmp_path, kind):
    settings, _ = written
    result = train(settings, tmp_path / "run", kind)
    assert result.step == 3
    assert {"mse_mel", "psnr_mel", "snr_mel", "snr_mel_noisy"} <= set(result.best)


@pytest.mark.usefixtures("eager")
def test_synthetic_spectrograms_train(tmp_path):
    config = config_of(data={"features": "synthetic", "snr_mean": 2.5, "snr_std": 0.0})
    result = train(config, tmp_path / "run")
    assert result.best["snr_mel_noisy"] == pytest.approx(2.5, abs=0.3)


@pytest.mark.parametrize(("sections", "message"), [
    ({"losses": {"snr_weight": 0.1}}, r"losses\.snr_weight needs"),
    ({"losses": {"estoi_weight": 0.1}}, r"losses\.estoi_weight needs"),
    ({"training": FEATURE_RUN | {"select_by": "si_sdr"}}, "select_by=si_sdr needs"),
    ({"discriminator": {"kind": "metric"}}, r"discriminator\.kind=metric needs"),
    ({"data": {"features": "synthetic", "speech": ["x"]}}, "give either made-up spectrograms"),
])
def test_what_needs_a_waveform_is_refused_before_training(sections, message):
    with pytest.raises(ConfigError, match=message):
        config_of(**{"data": {"features": "synthetic"}} | sections)
