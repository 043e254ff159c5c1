"""mixing and its crops: SNR as asked for, pure in (seed, step, index), nothing dropped."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gan_denoise.config.schema import DataConfig
from gan_denoise.core.rng import random_stream
from gan_denoise.data.augment import RandomFilter
from gan_denoise.data.crops import NoiseCrops, SpeechCrops
from gan_denoise.data.mixing import (
    RELATIVE_DB,
    RUMBLE_SNR,
    Mixer,
    MixError,
    Noises,
    energy,
    snr_gain,
)
from gan_denoise.data.recordings import FULL_SCALE, Corpus, SampleFiles
from gan_denoise.data.texts import Texts

RATE = 16000
PLAIN = {"coloured": 0.0, "babble": 0.0, "equalise": 0.0, "resample_noise": 0.0}


def _corpus(clips: dict[str, np.ndarray], speakers: bool = True, rate: int = RATE) -> Corpus:
    """A corpus in memory; a name is [FOLDER:]GROUP/FILE."""
    peaks = [float(np.abs(clip).max()) for clip in clips.values()]
    stored = [np.rint(clip / peak * FULL_SCALE).astype(np.int16)
              for clip, peak in zip(clips.values(), peaks, strict=True)]
    lengths = np.array([len(clip) for clip in stored])
    folders = [int(name.partition(":")[0]) if ":" in name else 0 for name in clips]
    names = tuple(name.rpartition(":")[2] for name in clips)
    return Corpus(
        samples=SampleFiles([np.concatenate(stored)]), names=Texts.of(names),
        groups=Texts.of(name.partition("/")[0] if speakers else None for name in names),
        parents=Texts.of(name.rpartition("/")[0] for name in names),
        folders=np.array(folders), files=np.zeros(len(names), np.int32),
        offsets=np.cumsum(lengths) - lengths, lengths=lengths,
        gains=np.array(peaks, dtype=np.float32) / FULL_SCALE,
        hashes=np.zeros((len(names), 32), np.uint8), sample_rate=rate,
    )


def _noise(seconds: float, seed: int, level: float = 0.3) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-level, level, round(seconds * RATE)).astype("f4")


def _tone(seconds: float, hertz: float, level: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hertz * time)).astype("f4")


def _snr(clean: np.ndarray, noisy: np.ndarray) -> float:
    clean, noisy = clean.astype(float), noisy.astype(float)
    return float(10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2)))


def _dominant(audio: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(audio))
    return float(np.argmax(spectrum) * RATE / len(audio))


@pytest.fixture(scope="module")
def speech() -> Corpus:
    return _corpus({f"s{s}/{u}.wav": _noise(1.0 + 0.7 * u, 10 * s + u) for s in range(4)
                    for u in range(3)})


@pytest.fixture(scope="module")
def noise() -> Corpus:
    return _corpus({f"kind{k}/{u}.wav": _noise(0.3 + 1.5 * u, 100 + 10 * k + u) for k in range(3)
                    for u in range(2)})


class TestPurity:
    def test_items_depend_on_seed_step_and_index_alone(self, speech, noise):
        mixer = Mixer(speech, noise, DataConfig(), RATE, 16000, seed=5)
        mixer.batch(9, 3)  # what was drawn before does not matter
        first = mixer.item(3, 2)
        again = Mixer(speech, noise, DataConfig(), RATE, 16000, seed=5).item(3, 2)
        for one, two in zip(first, again, strict=True):
            assert one.tobytes() == two.tobytes()
        for other in (mixer.item(2, 3), mixer.item(3, 1),
                      Mixer(speech, noise, DataConfig(), RATE, 16000, seed=6).item(3, 2)):
            assert not np.array_equal(other[0], first[0])

    def test_batch_is_its_items(self, speech, noise):
        mixer = Mixer(speech, noise, DataConfig(), RATE, 16000, seed=0)
        noisy, clean = mixer.batch(7, 4)
        assert noisy.shape == clean.shape == (4, 16000)
        assert noisy.dtype == clean.dtype == np.float32
        for index in range(4):
            one = mixer.item(7, index)
            np.testing.assert_array_equal(noisy[index], one[0])
            np.testing.assert_array_equal(clean[index], one[1])

    def test_threads_do_not_disturb_each_other(self, speech, noise):
        mixer = Mixer(speech, noise, DataConfig(), RATE, 16000, seed=0, rir=speech)
        alone = [mixer.batch(step, 2) for step in range(12)]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda step: mixer.batch(step, 2), range(12)))
        for one, two in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], two[0])
            np.testing.assert_array_equal(one[1], two[1])


class TestRecipe:
    def test_snr_and_peak_keep_to_their_ranges(self, speech, noise):
        data = DataConfig(snr_mean=0.0, snr_std=20.0, snr_range=(-10.0, 10.0),
                          peak_range=(-40.0, -6.0))
        noisy, clean = Mixer(speech, noise, data, RATE, 16000, seed=0).batch(0, 64)
        snrs = [_snr(c, n) for c, n in zip(clean, noisy, strict=True)]
        assert min(snrs) == pytest.approx(-10.0, abs=0.05)
        assert max(snrs) == pytest.approx(10.0, abs=0.05)
        peaks = 20 * np.log10(np.abs(noisy).max(axis=1))
        assert -40.01 <= peaks.min() < -30
        assert -12 < peaks.max() <= -5.99

    def test_snr_is_what_was_asked_for(self, speech, noise):
        data = DataConfig(snr_mean=3.0, snr_std=0.0)
        noisy, clean = Mixer(speech, noise, data, RATE, 16000, seed=0).batch(0, 16)
        for c, n in zip(clean, noisy, strict=True):
            assert _snr(c, n) == pytest.approx(3.0, abs=0.01)

    def test_without_noise_noisy_is_clean(self, speech):
        mixer = Mixer(speech, None, DataConfig(), RATE, 16000, seed=0, rir=speech)
        noisy, clean = mixer.batch(0, 8)
        np.testing.assert_array_equal(noisy, clean)

    def test_folders_have_equal_shares_whatever_their_size(self):
        clips = {f"0:a/{n}.wav": _tone(1.5, 500.0) for n in range(40)}
        clips["1:b/0.wav"] = _tone(1.5, 2000.0)
        mixer = Mixer(_corpus(clips), None, DataConfig(equalise=0.0), RATE, 8000, seed=0)
        tones = [_dominant(clean) for clean in mixer.batch(0, 200)[1]]
        assert 0.35 < np.mean([tone > 1000 for tone in tones]) < 0.65

    def test_kinds_of_noise_have_equal_shares(self):
        clips = {f"many/{n}.wav": _tone(2.0, 500.0) for n in range(30)}
        clips["one/0.wav"] = _tone(2.0, 3000.0)
        data = DataConfig(noises=(1, 1), snr_mean=-15.0, snr_std=0.0, **PLAIN)
        speech = _corpus({"a/0.wav": _noise(2.0, 0)})
        noisy, clean = Mixer(speech, _corpus(clips), data, RATE, 8000, seed=0).batch(0, 200)
        tones = [_dominant(n - c) for n, c in zip(noisy, clean, strict=True)]
        assert 0.35 < np.mean([tone > 1000 for tone in tones]) < 0.65

    def test_silent_noise_is_redrawn_and_then_coloured(self):
        gap = np.zeros(60 * RATE, "f4")
        gap[:RATE] = _noise(1.0, 3)  # one second of sound in a minute
        mostly = _corpus({"a/0.wav": gap})
        data = DataConfig(noises=(1, 1), snr_std=0.0, snr_mean=0.0, **PLAIN)
        speech = _corpus({"a/0.wav": _noise(2.0, 0)})
        noisy, clean = Mixer(speech, mostly, data, RATE, 8000, seed=0).batch(0, 50)
        for n, c in zip(noisy, clean, strict=True):
            assert _snr(c, n) == pytest.approx(0.0, abs=0.01)

    def test_pauses_of_speech_are_redrawn(self):
        gap = np.zeros(60 * RATE, "f4")
        gap[30 * RATE:31 * RATE] = _tone(1.0, 700.0)
        noisy, _ = Mixer(_corpus({"a/0.wav": gap}), None, DataConfig(), RATE, 8000, 0).batch(0, 40)
        assert {round(_dominant(n), -2) for n in noisy} == {700.0}

    def test_resampling_moves_the_pitch_of_noise_within_its_range(self):
        data = DataConfig(**PLAIN | {"resample_noise": 1.0}, resample_range=(0.8, 1.25),
                          noises=(1, 1), snr_mean=-15.0, snr_std=0.0)
        speech = _corpus({"a/0.wav": _noise(2.0, 0)})
        mixer = Mixer(speech, _corpus({"k/0.wav": _tone(2.0, 1000.0)}), data, RATE, 16000, seed=0)
        tones = [_dominant(n - c) for n, c in zip(*mixer.batch(0, 40), strict=True)]
        assert min(tones) == pytest.approx(820.0, abs=25)
        assert max(tones) == pytest.approx(1220.0, abs=35)

    @pytest.mark.parametrize("looped", [0.0, 1.0])
    def test_short_noise_is_looped_or_placed_once(self, looped):
        data = DataConfig(**PLAIN, noises=(1, 1), loop_noise=looped)
        short = _corpus({"k/0.wav": _noise(0.2, 4)})
        speech = _corpus({"a/0.wav": _noise(2.0, 0)})
        noisy, clean = Mixer(speech, short, data, RATE, 16000, seed=0).batch(0, 8)
        sounding = np.mean(np.abs(noisy - clean) > 1e-6 * np.abs(noisy).max(), axis=1)
        assert (sounding > 0.95).all() if looped else (np.abs(sounding - 0.2) < 0.02).all()

    def test_babble_is_of_other_speakers(self):
        voices = _corpus({"a/0.wav": _tone(3.0, 500.0), "b/0.wav": _tone(3.0, 2000.0)})
        data = DataConfig(**PLAIN | {"babble": 1.0}, noises=(1, 1), snr_mean=-10.0, snr_std=0.0)
        faint = _corpus({"k/0.wav": _tone(3.0, 6000.0)})
        noisy, clean = Mixer(voices, faint, data, RATE, 16000, seed=0).batch(0, 20)
        for n, c in zip(noisy, clean, strict=True):
            added = np.abs(np.fft.rfft(n - c))
            assert added[round(_dominant(c))] < 0.01 * added.max()
            assert added[2500 - round(_dominant(c))] > 0.05 * added.max()

    def test_lone_speaker_has_no_babble_and_no_error(self, noise):
        voices = _corpus({"a/0.wav": _tone(3.0, 500.0)})
        noisy, clean = Mixer(voices, noise, DataConfig(babble=1.0), RATE, 16000, seed=0).batch(0, 8)
        assert np.isfinite(noisy).all()
        assert np.all(np.square(noisy - clean).sum(axis=1) > 0)  # the recorded noise is there

    def test_other_rates_are_refused(self, speech):
        with pytest.raises(ValueError, match="8000"):
            Mixer(_corpus({"a/0.wav": _noise(1.0, 0)}, rate=8000), None, DataConfig(), RATE, 100, 0)


class TestJoining:
    def test_short_utterances_are_joined_within_a_speaker_with_pauses(self):
        clips = {f"a/{n}.wav": _tone(0.3, 400.0 + 100 * n) for n in range(3)}
        clips |= {f"b/{n}.wav": _tone(0.3, 3000.0 + 100 * n) for n in range(3)}
        data = DataConfig(pause_range=(0.2, 0.2), equalise=0.0)
        mixer = Mixer(_corpus(clips), None, data, RATE, 32000, seed=0)
        for clean in mixer.batch(0, 16)[1]:
            spectrum = np.abs(np.fft.rfft(clean)) ** 2
            low = spectrum[:3000].sum() / spectrum.sum()  # bins of 0.5 Hz: below 1.5 kHz
            assert low < 0.01 or low > 0.99
            assert 0.3 < np.mean(clean == 0.0) < 0.55  # 0.2 s of pause in each 0.5 s

    def test_every_utterance_is_drawn(self):
        clips = {f"s{n % 2}/{n}.wav": _tone(0.2 + 0.1 * n, 300.0 * (n + 1)) for n in range(12)}
        corpus = _corpus(clips)
        mixer = Mixer(corpus, None, DataConfig(equalise=0.0), RATE, 8000, seed=0)
        heard = set()
        for clean in mixer.batch(0, 300)[1]:
            spectrum = np.abs(np.fft.rfft(clean))  # bins of 2 Hz
            heard |= {n for n in range(12) if spectrum[150 * (n + 1)] > 0.2 * spectrum.max()}
        assert heard == set(range(12))

    def test_speakers_that_are_unknown_are_joined_too(self):
        corpus = _corpus({f"x/{n}.wav": _tone(0.3, 500.0) for n in range(3)}, speakers=False)
        noisy, _ = Mixer(corpus, None, DataConfig(), RATE, 32000, seed=0).batch(0, 4)
        assert (np.mean(np.abs(noisy) > 0, axis=1) > 0.3).all()

    def test_draws_go_with_duration(self):
        corpus = _corpus({"a/0.wav": _tone(1.0, 500.0), "b/0.wav": _tone(9.0, 500.0)})
        voices = SpeechCrops(corpus, DataConfig())
        drawn = [voices.draw(random_stream(0, 0, i), 8000)[1] for i in range(400)]
        assert 0.84 < np.mean([v == voices.voices[1] for v in drawn]) < 0.96


class TestRoom:
    def test_mixtures_hold_the_late_part_and_targets_do_not(self, speech, noise):
        response = np.zeros(8000, "f4")
        response[100], response[6000] = 1.0, 0.9
        data = DataConfig(**PLAIN, reverberate=1.0, snr_mean=30.0, snr_std=0.0)
        rooms = _corpus({"r/0.wav": response})
        dry = Mixer(speech, None, DataConfig(equalise=0.0), RATE, 16000, seed=0).item(0, 0)[1]
        noisy, clean = Mixer(speech, noise, data, RATE, 16000, seed=0, rir=rooms).item(0, 0)
        np.testing.assert_allclose(clean / np.abs(clean).max(), dry / np.abs(dry).max(), atol=1e-4)
        assert _snr(clean, noisy) < 3.0


@pytest.mark.parametrize("late", [0, 1])
def test_the_target_has_the_room_up_to_the_last_early_sample(late):
    response = np.zeros(4000, "f4")
    response[[100, 900 + late]] = 1.0, 0.5  # 50 ms after the direct path, or a sample later
    data = DataConfig(**PLAIN, reverberate=1.0, noiseless=1.0, early_ms=50.0)
    speech, faint = _corpus({"s/0.wav": _noise(2.0, 0)}), _corpus({"k/0.wav": _noise(1.0, 1)})
    mixer = Mixer(speech, faint, data, RATE, 16000, 0, rir=_corpus({"r/0.wav": response}))
    noisy, clean = mixer.item(0, 0)
    assert np.allclose(noisy, clean, atol=1e-5) == (late == 0)


# ---- Voices and channels -----------------------------------------------------------------------
def test_folders_are_drawn_by_their_weights():
    corpus = _corpus({f"{f}:s{f}/a.wav": _tone(1.5, 300.0 * (f + 1)) for f in range(3)})
    crops = SpeechCrops(corpus, DataConfig(speech_weights=(1.0, 0.0, 3.0)))
    drawn = [crops.draw(random_stream(0, 0, n), 8000)[1] for n in range(400)]
    share = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(share, [0.25, 0.0, 0.75], atol=0.06)


def test_without_noise_the_mixture_is_the_target(speech, noise):
    mixer = Mixer(speech, noise, DataConfig(noiseless=1.0), RATE, 16000, 0)
    for n in range(5):
        noisy, clean = mixer.item(0, n)
        np.testing.assert_array_equal(noisy, clean)


@pytest.mark.parametrize("what", ["band_limit", "codec", "resample_speech", "made_up", "clipping",
                                  "rumble"])
def test_what_happens_now_and_then_leaves_the_other_mixtures_as_they_are(speech, noise, what):
    """A probability of 0 draws nothing: recipes from before give the same mixtures as ever."""
    def items(**recipe):
        mixer = Mixer(speech, noise, DataConfig(**recipe), RATE, 16000, 0)
        return [mixer.item(0, n) for n in range(6)]

    before, never, always = items(), items(**{what: 0.0}), items(**{what: 1.0})
    for (a, _), (b, _), (c, _) in zip(before, never, always, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_speech_at_another_speed_moves_in_pitch(noise):
    corpus = _corpus({"s0/a.wav": _tone(4.0, 1000.0)})
    recipe = PLAIN | {"resample_speech": 1.0, "speech_range": (0.8, 1.25), "noiseless": 1.0}
    mixer = Mixer(corpus, noise, DataConfig(**recipe), RATE, 16000, 0)
    pitches = [_dominant(mixer.item(0, n)[1]) for n in range(20)]
    assert 790 < min(pitches) < 950 < 1050 < max(pitches) < 1265


def test_rumble_is_added_below_speech_at_levels_of_its_own(speech, noise):
    recipe = PLAIN | {"noiseless": 1.0, "rumble": 1.0}
    mixer = Mixer(speech, noise, DataConfig(**recipe), RATE, 16000, 0)
    levels = []
    for n in range(60):
        noisy, clean = mixer.item(0, n)
        levels.append(_snr(clean, noisy))
        power = np.abs(np.fft.rfft((noisy - clean) * np.hanning(len(noisy)))) ** 2
        assert power[:300].sum() > 0.99 * power.sum()  # a bin is 1 Hz
    low, high = RUMBLE_SNR
    assert low - 0.1 <= min(levels) < low + 5
    assert high - 5 < max(levels) <= high + 0.1


# ---- Levels ------------------------------------------------------------------------------------
@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 13.0])
@pytest.mark.parametrize("level", [1e-3, 1.0, 30.0])
def test_a_gain_makes_the_snr_of_whole_clips(snr_db, level):
    clean, noise = level * _noise(1.0, 0), level**2 * _noise(1.0, 1)
    assert energy(clean) == pytest.approx(np.sum(clean.astype(float) ** 2), rel=1e-5)
    assert _snr(clean, clean + snr_gain(clean, noise, snr_db) * noise) == pytest.approx(
        snr_db, abs=1e-3)


def test_no_gain_makes_an_snr_of_silence():
    sound, silence = 1e-3 * _noise(0.1, 0), np.zeros(1600, np.float32)
    with pytest.raises(MixError, match=r"^clean is silent: no gain gives an SNR of 3\.0 dB"):
        snr_gain(silence, sound, 3.0)
    with pytest.raises(MixError, match=r"^noise is silent"):
        snr_gain(sound, silence, 3.0)
    with pytest.raises(MixError, match=r"^clean is silent"):
        snr_gain(silence, silence, 3.0)


def _drawn(speech, noise, count, **recipe):
    """What `Noises` draws by a recipe: (noise [8000], parts) each."""
    data = DataConfig(**PLAIN | recipe)
    made = Noises(NoiseCrops(noise, data), SpeechCrops(speech, data), data,
                  RandomFilter(8000, RATE, data.equalise_db))
    return [made.draw(random_stream(0, 0, n), voice=0) for n in range(count)]


def _decibels(audio):
    return 10 * np.log10(np.mean(audio.astype(float) ** 2))


SILENT = {"k/0.wav": np.r_[1.0, np.zeros(60 * RATE)].astype("f4")}  # for a sample in a minute


@pytest.mark.parametrize("recorded", [True, False])
def test_the_level_of_a_noise_is_up_to_12_decibels_below_full_scale(speech, noise, recorded):
    """Of a recorded one, and of the coloured one that comes where only silence was recorded."""
    drawn = _drawn(speech, noise if recorded else _corpus(SILENT), 100, noises=(1, 1))
    levels = [_decibels(total) for total, _ in drawn]
    assert -RELATIVE_DB - 0.01 <= min(levels) < -RELATIVE_DB + 1
    assert -1 < max(levels) <= 0.01
    assert RELATIVE_DB == 12


def test_parts_say_what_a_noise_is_the_sum_of(speech, noise):
    found = [parts for _, parts in _drawn(speech, noise, 60, noises=(1, 3))]
    assert {len(parts) for parts in found} == {1, 2, 3}
    assert {part for parts in found for part in parts} == set(range(len(noise)))
    everything = {"noises": (2, 2), "coloured": 1.0, "babble": 1.0, "made_up": 1.0}
    for total, parts in _drawn(speech, noise, 5, **everything):
        assert parts[2:] == ["coloured", "babble", "made-up"]
        assert total.shape == (8000,)
        assert total.dtype == np.float32


def test_where_only_silence_was_recorded_the_noise_is_coloured(speech):
    for total, parts in _drawn(speech, _corpus(SILENT), 5, noises=(1, 1)):
        assert parts == ["coloured"]
        assert energy(total) > 0


def test_each_part_is_added_at_a_level_of_its_own(speech, noise):
    """Sums of independent noises: their powers add up."""
    def power(**recipe):
        drawn = _drawn(speech, noise, 150, **{"noises": (1, 1)} | recipe)
        return np.mean([np.mean(total.astype(float) ** 2) for total, _ in drawn])

    one = power()
    assert power(noises=(3, 3)) == pytest.approx(3 * one, rel=0.15)
    for what in ("coloured", "babble", "made_up"):
        assert power(**{what: 1.0}) == pytest.approx(2 * one, rel=0.15)


def test_a_recorded_noise_is_added_as_it_is_and_not_turned_around(speech):
    pulses = np.zeros(3 * RATE, "f4")
    pulses[::100] = 0.5  # upwards only
    upwards = _corpus({"k/0.wav": pulses})
    for total, _ in _drawn(speech, upwards, 5, noises=(1, 1)):
        assert total.max() > 10 * -total.min()
    mixer = Mixer(speech, upwards, DataConfig(**PLAIN, noises=(1, 1)), RATE, 8000, 0)
    for n in range(5):
        noisy, clean = mixer.item(0, n)
        assert (noisy - clean).max() > 10 * -(noisy - clean).min()


def test_babble_is_of_as_many_voices_as_the_recipe_says():
    tones = [500.0 + 500.0 * n for n in range(6)]
    voices = _corpus({f"s{n}/0.wav": _tone(3.0, hertz) for n, hertz in enumerate(tones)})
    faint = _corpus({"k/0.wav": _tone(3.0, 7000.0)})
    counts = []
    for total, _ in _drawn(voices, faint, 60, noises=(1, 1), babble=1.0, babble_voices=(1, 2)):
        spectrum = np.abs(np.fft.rfft(total))[[round(hertz / 2) for hertz in tones]]
        assert spectrum[0] < 0.01 * spectrum.max()  # the voice that is left out
        counts.append(int(np.sum(spectrum > 0.05 * spectrum.max())))
    assert set(counts) == {1, 2}


@pytest.mark.parametrize("what", ["coloured", "babble", "made_up"])
def test_a_part_is_added_as_often_as_the_recipe_says(speech, noise, what):
    found = _drawn(speech, noise, 300, noises=(1, 1), **{what: 0.3})
    assert 0.2 < np.mean([len(parts) == 2 for _, parts in found]) < 0.4


# ---- What happens to a mixture -----------------------------------------------------------------
def test_a_noise_is_equalised_as_often_as_the_recipe_says(speech):
    """White noise through a random filter is white no longer."""
    white = _corpus({"k/0.wav": _noise(3.0, 9)})

    def is_white(total):
        thirds = np.array_split(np.abs(np.fft.rfft(total)) ** 2, 4)
        powers = [np.mean(part) for part in thirds]
        return max(powers) < 1.25 * min(powers)

    for equalise, low, high in ((0.0, 0.99, 1.0), (1.0, 0.0, 0.15), (0.5, 0.3, 0.7)):
        found = _drawn(speech, white, 80, noises=(1, 1), equalise=equalise, equalise_db=12.0)
        assert low <= np.mean([is_white(total) for total, _ in found]) <= high


def test_clipping_is_of_the_noisy_recording_alone(speech, noise):
    recipe = PLAIN | {"snr_mean": 20.0, "snr_std": 0.0}
    plain = Mixer(speech, noise, DataConfig(**recipe), RATE, 16000, 0)
    clipped = Mixer(speech, noise, DataConfig(**recipe, clipping=1.0), RATE, 16000, 0)
    for n in range(5):
        noisy, clean = clipped.item(0, n)
        top = np.abs(noisy).max()
        assert np.sum(np.abs(noisy) > 0.999 * top) > 5
        np.testing.assert_allclose(_unit(clean), _unit(plain.item(0, n)[1]), atol=1e-6)


def _unit(audio):
    return audio / np.linalg.norm(audio)


@pytest.mark.parametrize("what", ["band_limit", "codec"])
def test_a_channel_is_of_the_noisy_recording_and_its_target(speech, noise, what):
    recipe = PLAIN | {"snr_mean": 40.0, "snr_std": 0.0}
    plain = Mixer(speech, noise, DataConfig(**recipe), RATE, 16000, 0)
    changed = Mixer(speech, noise, DataConfig(**recipe, **{what: 1.0}), RATE, 16000, 0)
    for n in range(8):
        for before, after in zip(plain.item(0, n), changed.item(0, n), strict=True):
            assert _snr(_unit(before), _unit(after)) < 35


def test_rooms_are_drawn_as_often_as_the_recipe_says_and_all_of_them(speech):
    rooms = {}
    for n, delay in enumerate((2000, 4000, 6000)):
        rooms[f"r/{n}.wav"] = np.zeros(8000, "f4")
        rooms[f"r/{n}.wav"][[100, 100 + delay]] = 1.0, 0.5
    data = DataConfig(**PLAIN, reverberate=0.5, noiseless=1.0, early_ms=150.0)
    mixer = Mixer(speech, _corpus(SILENT), data, RATE, 16000, seed=0, rir=_corpus(rooms))
    heard = []
    for n in range(120):
        noisy, clean = mixer.item(0, n)
        # Of white speech, what lags behind the target by more than 150 ms stays in the noisy one.
        echo = [clean[:-lag] @ (noisy - clean)[lag:] / (clean @ clean) for lag in (4000, 6000)]
        early = clean[:-2000] @ clean[2000:] / (clean @ clean)
        heard.append("none" if max(*echo, early) < 0.1 else
                     ("early" if early > max(echo) else str(4000 + 2000 * int(np.argmax(echo)))))
    share = {name: heard.count(name) / len(heard) for name in heard}
    assert share.keys() == {"none", "early", "4000", "6000"}
    assert 0.38 < share["none"] < 0.62
    assert min(share.values()) > 0.08


def test_speech_is_equalised_as_often_as_the_recipe_says():
    white = _corpus({"s/0.wav": _noise(3.0, 9)})
    plain = Mixer(white, None, DataConfig(equalise=0.0), RATE, 8000, 0)
    sometimes = Mixer(white, None, DataConfig(equalise=0.5), RATE, 8000, 0)
    same = [np.allclose(_unit(sometimes.item(0, n)[1]), _unit(plain.item(0, n)[1]), atol=1e-5)
            for n in range(80)]
    assert 0.35 < np.mean(same) < 0.65


def test_what_never_happens_takes_no_random_number():
    from gan_denoise.data.mixing import _happens

    untouched, drawn = random_stream(0, 0, 0), random_stream(0, 0, 0)
    assert not _happens(drawn, 0.0)
    assert drawn.random() == untouched.random()
    assert np.mean([_happens(drawn, 0.25) for _ in range(2000)]) == pytest.approx(0.25, abs=0.03)


def test_items_of_a_batch_can_be_chosen(speech, noise):
    mixer = Mixer(speech, noise, DataConfig(), RATE, 4000, seed=0)
    noisy, clean = mixer.batch(7, 4)
    some = mixer.batch(7, 4, items=[3, 1])
    np.testing.assert_array_equal(some[0], noisy[[3, 1]])
    np.testing.assert_array_equal(some[1], clean[[3, 1]])


@pytest.mark.parametrize("which", ["speech", "noise", "rir"])
def test_no_corpus_has_another_rate(speech, noise, which):
    corpora = {"speech": speech, "noise": noise, "rir": speech}
    corpora[which] = _corpus({"a/0.wav": _noise(1.0, 0)}, rate=8000)
    with pytest.raises(ValueError, match="a corpus of 8000 Hz, mixed at 16000 Hz"):
        Mixer(corpora["speech"], corpora["noise"], DataConfig(), RATE, 100, 0, corpora["rir"])
