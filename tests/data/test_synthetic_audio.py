"""synthetic: voices that differ in pitch, noises of the right colour, splits that share nothing."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from gan_denoise.data.synthetic_audio import NOISE_KINDS, noise, voice, write_corpus

RATE = 16000


def _pitch(audio: np.ndarray) -> float:
    """Median pitch in Hz of the louder frames, by autocorrelation over 40 ms."""
    frames = audio[:len(audio) // 640 * 640].reshape(-1, 640)
    loud = frames[np.sqrt((frames**2).mean(1)) > 0.5 * np.sqrt((audio**2).mean())]
    spectra = np.abs(np.fft.rfft(loud * np.hanning(640), 2048)) ** 2
    spectra[:, 130:] = 0.0  # the pitch is heard below 1 kHz
    lags = np.fft.irfft(spectra)[:, RATE // 300:RATE // 70]
    return float(RATE / np.median(np.argmax(lags, axis=1) + RATE // 300))


def _slope(audio: np.ndarray) -> float:
    """Power of frequency that the energy density goes with, fitted over 100..6000 Hz."""
    power = np.mean(np.abs(np.fft.rfft(audio[:120 * 1024].reshape(-1, 1024) * np.hanning(1024)))
                    ** 2, axis=0)
    hertz = np.fft.rfftfreq(1024, 1 / RATE)
    use = (hertz > 100) & (hertz < 6000)
    weights = 1 / np.sqrt(hertz[use])  # octaves alike
    return float(np.polyfit(np.log(hertz[use]), np.log(power[use]), 1, w=weights)[0])


class TestVoice:
    def test_shape_level_and_determinism(self):
        audio = voice(3, 1.5, seed=7)
        assert audio.shape == (24000,)
        assert audio.dtype == np.float32
        assert np.abs(audio).max() == pytest.approx(0.5, abs=1e-4)
        np.testing.assert_array_equal(audio, voice(3, 1.5, seed=7))
        assert not np.array_equal(audio, voice(3, 1.5, seed=8))

    def test_speakers_differ_in_pitch_and_keep_their_own(self):
        # Numbers in a row are spread over the range of voices.
        pitches = np.array([[_pitch(voice(s, 6.0, seed)) for seed in (1, 2)] for s in range(5)])
        own = np.abs(np.log(pitches[:, 0] / pitches[:, 1]))
        assert own.max() < 0.15
        means = np.sort(pitches.mean(axis=1))
        assert np.log(means[1:] / means[:-1]).min() > 0.08
        assert means[0] > 70
        assert means[-1] < 270

    def test_has_syllables_and_pauses(self):
        audio = voice(1, 20.0, seed=0)
        level = 10 * np.log10((audio.reshape(-1, 320) ** 2).mean(1) + 1e-12)
        assert 0.1 < np.mean(level < level.max() - 40) < 0.6
        envelope = np.sqrt((audio.reshape(-1, 160) ** 2).mean(1))
        spectrum = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
        rates = np.fft.rfftfreq(len(envelope), 0.01)
        band = (rates > 1) & (rates < 10)
        assert spectrum[band].sum() > 0.5 * spectrum[rates > 0.5].sum()

    @pytest.mark.parametrize("rate", [8000, 22050, 48000])
    def test_other_rates(self, rate):
        audio = voice(0, 1.0, seed=0, sample_rate=rate)
        assert audio.shape == (rate,)
        assert np.isfinite(audio).all()

    def test_quality_metrics_see_speech(self):
        pesq = pytest.importorskip("pesq").pesq
        stoi = pytest.importorskip("pystoi").stoi
        clean = voice(2, 4.0, seed=5)
        noises = noise("traffic", 4.0, seed=1)
        scores = []
        for snr_db in (0, 10, 20):
            gain = np.sqrt(np.sum(clean**2) / np.sum(noises**2)) * 10 ** (-snr_db / 20)
            noisy = clean + np.float32(gain) * noises
            scores.append((pesq(RATE, clean, noisy, "wb"), stoi(clean, noisy, RATE)))
        assert scores[0] < scores[1] < scores[2]
        assert scores[0][1] < scores[1][1] < scores[2][1]
        assert scores[2][1] > 0.9


class TestNoise:
    @pytest.mark.parametrize("kind", NOISE_KINDS)
    def test_shape_level_and_determinism(self, kind):
        audio = noise(kind, 1.3, seed=4)
        assert audio.shape == (20800,)
        assert audio.dtype == np.float32
        assert np.abs(audio).max() == pytest.approx(0.5, abs=1e-4)
        np.testing.assert_array_equal(audio, noise(kind, 1.3, seed=4))
        assert not np.array_equal(audio, noise(kind, 1.3, seed=5))

    @pytest.mark.parametrize(("kind", "slope"), [("white", 0.0), ("pink", -1.0), ("brown", -2.0)])
    def test_colours_have_their_slope(self, kind, slope):
        assert _slope(noise(kind, 10.0, seed=2)) == pytest.approx(slope, abs=0.1)

    def test_unknown_kind_names_the_known_ones(self):
        with pytest.raises(ValueError, match="babble"):
            noise("purple", 1.0, seed=0)

    def test_no_samples(self):
        with pytest.raises(ValueError, match="less than a sample"):
            noise("white", 0.0, seed=0)


class TestCorpus:
    def test_splits_share_no_speaker_and_test_has_unseen_noises(self, tmp_path):
        write_corpus(tmp_path, seed=1, minutes=0.3)
        speakers = {split: {p.name for p in (tmp_path / "speech" / split).iterdir()}
                    for split in ("train", "valid", "test")}
        assert len(speakers["train"]) >= 8
        assert not speakers["train"] & speakers["valid"]
        assert not speakers["train"] & speakers["test"]
        assert not speakers["valid"] & speakers["test"]
        kinds = {split: {p.name for p in (tmp_path / "noise" / split).iterdir()}
                 for split in ("train", "valid", "test")}
        assert len(kinds["test"] - kinds["train"] - kinds["valid"]) >= 2
        assert kinds["train"] <= kinds["test"]
        contents = [p.read_bytes() for p in tmp_path.rglob("*.wav")]
        assert len(set(contents)) == len(contents)
        spoken = (tmp_path / "speech" / "train").rglob("*.wav")
        seconds = sum(soundfile.info(path).duration for path in spoken)
        assert seconds == pytest.approx(18.0, rel=0.3)

    def test_same_seed_same_bytes(self, tmp_path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            write_corpus(tmp_path / name, seed=seed, minutes=0.05)
        first, again, other = (
            {p.relative_to(tmp_path / name).as_posix(): p.read_bytes()
             for p in (tmp_path / name).rglob("*.wav")} for name in "abc"
        )
        assert first == again
        assert first != other
