import csv
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from gan_denoise import audio, evaluate, metrics
from gan_denoise.evaluate import EvaluationError
from gan_denoise.mel import Mel
from gan_denoise.pairs import Pair
from gan_denoise.settings import AudioConfig, Config, InversionConfig, MelConfig
from gan_denoise.synthetic import voice
from gan_denoise.writer import write

RATE = 16000
needs_pesq = pytest.mark.skipif(not metrics.available()["pesq"], reason="pesq is not installed")
MEL = ("psnr_mel", "mse_mel", "snr_mel", "psnr_mel_wave", "mse_mel_wave")


def make_mel(config):
    """A mel of overlapping triangles of equal width, which needs no librosa."""
    bands, bins = config.mel.n_mels, config.mel.n_fft // 2 + 1
    centres = np.linspace(0, bins - 1, bands + 2)[1:-1]
    distance = np.abs(np.arange(bins) - centres[:, None]) / (bins / (bands + 1))
    return Mel(config.audio, config.mel, np.maximum(1 - distance, 0).astype(np.float32))


class Fake:
    """A model that changes waveform and mel by given functions."""

    def __init__(self, name="fake", wave=lambda x: x, mel=lambda m: m, config=None):
        self.name, self.wave, self.change = name, wave, mel
        self.config = config or Config(mel=MelConfig(n_mels=64))
        self.mel = make_mel(self.config)

    def estimate(self, noisy01):
        return self.change(noisy01)

    def enhance(self, signal, sample_rate):
        return self.wave(signal)


@pytest.fixture
def make_pair(tmp_path):
    def make(name, snr_db=5.0, clean=None, rate=RATE, seconds=1.5):
        seed = sum(name.encode())
        if clean is None:
            clean = voice(seed % 7, seconds, seed, rate)
        noise = np.random.default_rng(seed).standard_normal(len(clean))
        energy = np.sum(clean.astype(np.float64) ** 2) or 1.0
        noise *= np.sqrt(energy / np.sum(noise**2) / 10 ** (snr_db / 10))
        paths = {side: tmp_path / side / f"{name}.wav" for side in ("noisy", "clean")}
        for side, signal in (("noisy", clean + noise), ("clean", clean)):
            write(paths[side], np.float32(signal), rate, subtype="FLOAT")
        return Pair(name, paths["noisy"], paths["clean"], snr_db=snr_db)

    return make


@pytest.fixture
def without_packages(monkeypatch):
    """PESQ and STOI take the time; most of what is tested here is about neither."""
    monkeypatch.setattr(metrics, "available", lambda: {"pesq": False, "pystoi": False})


def rows_of(evaluation, system):
    return {row.name: row for row in evaluation.rows if row.system == system}


@needs_pesq
def test_an_identity_model_scores_as_the_noisy_input(make_pair):
    pairs = [make_pair("a"), make_pair("b/c")]
    result = evaluate.evaluate(pairs, Fake("same"), jobs=1)
    assert result.systems == ("noisy", "same", "oracle")
    assert result.columns == ["pesq_wb", "stoi", "estoi", "si_sdr", "snr", "lsd", *MEL]
    assert result.notices == ()
    for metric in result.columns:
        assert result.improvement("same", metric) == pytest.approx(0, abs=1e-9), metric
        assert len(result.common(metric)) == 2
    for row in result.rows:
        assert row.lag == 0
        assert row.seconds == 1.5


@needs_pesq
def test_the_oracle_is_the_clean_mel_through_the_inversion(make_pair):
    result = evaluate.evaluate([make_pair("a"), make_pair("b")], Fake(), jobs=1)
    assert result.mean("oracle", "psnr_mel") == result.mean("oracle", "snr_mel") == math.inf
    assert result.mean("oracle", "mse_mel") == 0
    for metric in ("pesq_wb", "stoi", "estoi", "si_sdr", "snr", "psnr_mel_wave"):
        assert result.improvement("oracle", metric) > 0, metric
    for metric in ("lsd", "mse_mel", "mse_mel_wave"):
        assert result.improvement("oracle", metric) < 0, metric


def test_the_known_snr_comes_back(make_pair, without_packages):
    pairs = [make_pair("a", snr_db=-5), make_pair("b", snr_db=15)]
    result = evaluate.evaluate(pairs, jobs=1)
    assert result.systems == ("noisy",)
    assert [row.scores["snr"] for row in result.rows] == pytest.approx([-5, 15], abs=1e-3)
    assert list(result.by_snr()) == ["-5 dB", "15 dB"]


def test_mel_of_the_generator_and_of_the_waveform_are_told_apart(make_pair, without_packages):
    pair = make_pair("a")
    clean = audio.read_mono(pair.clean, RATE)
    good_wave = Fake("wave", wave=lambda x: clean)
    good_mel = Fake("mel", mel=lambda m: good_wave.mel.mel01(clean))
    result = evaluate.evaluate([pair], {"wave": good_wave, "mel": good_mel}, jobs=1)
    wave, mel = (rows_of(result, name)["a"].scores for name in ("wave", "mel"))
    noisy = rows_of(result, "noisy")["a"].scores
    assert wave["psnr_mel_wave"] == math.inf
    assert wave["psnr_mel"] == noisy["psnr_mel"] == noisy["psnr_mel_wave"]
    assert mel["psnr_mel"] == math.inf
    assert mel["psnr_mel_wave"] == noisy["psnr_mel_wave"]


@needs_pesq
def test_a_mean_is_over_files_that_every_system_scored(make_pair):
    pairs = [make_pair("good", 0), make_pair("muted", 10), make_pair("silent", 5, np.zeros(RATE))]
    muted = audio.read_mono(pairs[1].noisy, RATE)
    model = Fake("mute", wave=lambda x: 0 * x if np.array_equal(x, muted) else x)
    result = evaluate.evaluate(pairs, model, jobs=1)
    # `muted` has an SI-SDR as it is and none from the model: it counts for neither.
    assert rows_of(result, "noisy")["muted"].scores["si_sdr"] == pytest.approx(10, abs=0.5)
    assert rows_of(result, "mute")["muted"].refused.keys() == {"pesq_wb", "si_sdr"}
    assert result.common("si_sdr") == result.common("pesq_wb") == ["good"]
    assert result.mean("noisy", "si_sdr") == rows_of(result, "noisy")["good"].scores["si_sdr"]
    assert result.common("snr") == ["good", "muted"]
    assert result.mean("mute", "snr") == pytest.approx((0 + 0) / 2, abs=1e-3)
    assert result.common("psnr_mel") == ["good", "muted", "silent"]
    told = [notice for notice in result.notices if notice.startswith("si_sdr")]
    assert told == ["si_sdr: mean over 1 of 3 files, the others were refused (muted, mute: "
                    "estimate is silent)"]


def test_faults_of_the_material_name_the_file(make_pair, tmp_path, without_packages):
    good, short, missing = make_pair("good"), make_pair("short"), make_pair("missing")
    write(short.clean, audio.read_mono(short.clean, RATE)[:-1], RATE)
    missing.clean.unlink()
    with pytest.raises(EvaluationError, match=r"short\.wav do not match: 24000 .* 23999"):
        evaluate.evaluate([good, short], jobs=1)
    with pytest.raises(EvaluationError, match=r"clean/missing\.wav: no such file"):
        evaluate.evaluate([good, missing], jobs=1)
    with pytest.raises(EvaluationError, match="no pairs"):
        evaluate.evaluate([], jobs=1)
    with pytest.raises(EvaluationError, match="'good' occurs twice"):
        evaluate.evaluate([good, good], jobs=1)
    write(short.clean, np.zeros(12000, np.float32), 8000)
    with pytest.raises(EvaluationError, match="at 8000 Hz"):
        evaluate.evaluate([short], jobs=1)


@pytest.mark.parametrize(
    ("change", "reason"), [(lambda x: x[:-1], "made"), (lambda x: x * np.nan, "NaN")]
)
def test_faults_of_a_model_name_it_and_the_file(make_pair, without_packages, change, reason):
    pair = make_pair("a")
    for model in (Fake("bad", wave=change), Fake("bad", mel=change)):
        with pytest.raises(EvaluationError, match=rf"noisy/a\.wav: bad .*{reason}"):
            evaluate.evaluate([pair], model, jobs=1)


@pytest.mark.parametrize("name", ["noisy", "oracle", "silence", "best gain", "a/b", ""])
def test_a_name_that_would_collide_is_refused(make_pair, name):
    with pytest.raises(EvaluationError, match="cannot name a model"):
        evaluate.evaluate([make_pair("a")], {name: Fake()}, jobs=1)


def test_trivial_systems_are_scored_as_any_other(make_pair):
    result = evaluate.evaluate([make_pair("a", snr_db=-8.0)], Fake(), trivial=True, jobs=1)
    assert result.systems == ("noisy", "fake", "silence", "best gain", "oracle")
    assert result.mean("silence", "snr") == 0
    assert result.mean("best gain", "snr") == pytest.approx(10 * np.log10(1 + 10**-0.8), abs=0.1)
    assert result.mean("best gain", "si_sdr") == pytest.approx(result.mean("noisy", "si_sdr"))
    assert result.mean("silence", "snr_mel") == 0
    assert result.common("si_sdr") == ["a"]
    assert not [notice for notice in result.notices if "silence" in notice]


def test_out_holds_waveforms_and_scores(make_pair, tmp_path, without_packages):
    pairs, out = [replace(make_pair("a"), speaker="ann"), make_pair("b/c")], tmp_path / "out"
    seen = []
    model = Fake("double", wave=lambda x: 2 * x)
    result = evaluate.evaluate(
        pairs, model, jobs=1, out=out, progress=lambda *count: seen.append(count)
    )
    assert seen == [(1, 2), (2, 2)]
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    waves = [f"{s}/{p.name}.wav" for s in ("double", "noisy", "oracle") for p in pairs]
    assert written == sorted([*waves, "scores.csv", "scores.json"])
    doubled, _ = audio.read(out / "double" / "b" / "c.wav")
    noisy, _ = audio.read(pairs[1].noisy)
    np.testing.assert_array_equal(doubled, 2 * noisy)  # above full scale and not clipped
    with (out / "scores.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["name"], row["system"]) for row in table] == [
        (row.name, row.system) for row in result.rows
    ]
    assert float(table[0]["si_sdr"]) == result.rows[0].scores["si_sdr"]
    assert {(row["name"], row["speaker"]) for row in table} == {("a", "ann"), ("b/c", "")}
    scores = json.loads((out / "scores.json").read_text(), parse_constant=pytest.fail)
    assert scores["files"] == 2
    assert scores["summary"]["oracle"]["psnr_mel"] == {
        "mean": None, "median": None, "improvement": None, "margin": None,
        "note": "infinite: equal to the clean",
    }
    assert scores["rows"][2]["notes"]["psnr_mel"].startswith("infinite")
    assert scores["versions"]["numpy"] == np.__version__
    assert scores["metrics"]["si_sdr"]["files_in_mean"] == 2


def test_out_never_replaces_the_material(make_pair, tmp_path):
    pair = make_pair("a")
    before = pair.noisy.read_bytes()
    with pytest.raises(EvaluationError, match="would replace"):
        evaluate.evaluate([pair], Fake(), jobs=1, out=tmp_path)
    assert pair.noisy.read_bytes() == before


@needs_pesq
def test_8_khz_material_takes_narrow_band_pesq(make_pair):
    result = evaluate.evaluate([make_pair("a", rate=8000)], Fake(), jobs=1)
    assert result.columns[:3] == ["pesq_nb", "stoi", "estoi"]
    assert any("pesq_nb, not comparable" in notice for notice in result.notices)
    assert result.improvement("oracle", "si_sdr") > 0  # through the model's rate and back
    assert result.mean("noisy", "snr") == pytest.approx(5, abs=1e-3)


@needs_pesq
def test_other_rates_are_resampled_and_it_is_said(make_pair):
    result = evaluate.evaluate([make_pair("a", rate=44100), make_pair("b")], jobs=1)
    assert "pesq_wb" in result.columns
    assert result.notices == (
        "44100 Hz (1 of 2 files) resampled to 16000 Hz (soxr HQ) for pesq_wb, stoi, estoi",
    )
    assert result.rows[0].scores["snr"] == pytest.approx(5, abs=1e-3)  # at the file's own rate


def test_channels_are_averaged_and_it_is_said(make_pair, without_packages):
    pair = make_pair("a")
    noisy = audio.read_mono(pair.noisy, RATE)
    write(pair.noisy, np.stack([1.5 * noisy, 0.5 * noisy]), RATE, subtype="FLOAT")
    result = evaluate.evaluate([pair], jobs=1)
    assert result.rows[0].scores["snr"] == pytest.approx(5, abs=1e-3)
    assert any("mean of their channels" in notice for notice in result.notices)


def test_a_missing_pesq_is_one_line_and_the_rest_goes_on(make_pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)
    result = evaluate.evaluate([make_pair("a")], Fake(), jobs=1)
    assert result.columns == ["stoi", "estoi", "si_sdr", "snr", "lsd", *MEL]
    (notice,) = result.notices
    assert "pip install pesq" in notice
    assert "C compiler" in notice
    assert "\n" not in notice


def test_a_noisy_file_that_is_clean_already_is_told(make_pair, without_packages):
    pairs = [make_pair("a"), make_pair("b")]
    write(pairs[1].noisy, audio.read_mono(pairs[1].clean, RATE), RATE, subtype="FLOAT")
    result = evaluate.evaluate(pairs, Fake(), jobs=1)
    assert result.mean("fake", "snr") == pytest.approx(5, abs=1e-3)
    assert any("1 of 2 noisy files equal their clean ones (b)" in n for n in result.notices)


def test_a_delay_is_told(make_pair, without_packages):
    model = Fake("late", wave=lambda x: np.concatenate([np.zeros(80, np.float32), x[:-80]]))
    result = evaluate.evaluate([make_pair("a"), make_pair("b")], model, jobs=1)
    assert all(row.lag == pytest.approx(0.005) for row in rows_of(result, "late").values())
    (notice,) = (notice for notice in result.notices if "shifted" in notice)
    assert notice.startswith("late: 2 of 2 files are shifted against the clean, by up to 5.00 ms")


def test_models_share_an_oracle_unless_their_inversion_or_mel_differs(make_pair, without_packages):
    pair = make_pair("a")
    same = evaluate.evaluate([pair], {"x": Fake(), "y": Fake()}, jobs=1)
    assert same.systems == ("noisy", "x", "y", "oracle")
    steps = Config(mel=MelConfig(n_mels=64), inversion=InversionConfig(name="gain+phase"))
    other = evaluate.evaluate([pair], {"x": Fake(), "y": Fake(config=steps)}, jobs=1)
    assert other.systems == ("noisy", "x", "y", "oracle", "oracle of y")
    assert other.mean("oracle", "si_sdr") != other.mean("oracle of y", "si_sdr")
    assert not any("mels differ" in notice for notice in other.notices)
    narrow = Config(audio=AudioConfig(sample_rate=8000), mel=MelConfig(n_mels=32))
    third = evaluate.evaluate([pair], {"x": Fake(), "y": Fake(config=narrow)}, jobs=1)
    assert any("mels differ" in notice for notice in third.notices)


def test_processes_score_as_this_one_does(make_pair):
    pairs = [make_pair(name) for name in "abcd"]
    here = evaluate.evaluate(pairs, Fake(), jobs=1)
    there = evaluate.evaluate(pairs, Fake(), jobs=2)
    assert [(row.name, row.system) for row in there.rows] == [
        (row.name, row.system) for row in here.rows
    ]
    for one, other in zip(here.rows, there.rows, strict=True):
        assert other.scores == pytest.approx(one.scores)


def test_a_dead_process_is_an_error_with_the_way_out(make_pair, monkeypatch):
    monkeypatch.setattr(evaluate, "_scored", _broken)
    with pytest.raises(EvaluationError, match="jobs=1"):
        evaluate.evaluate([make_pair("a")], jobs=2)


def _broken(tasks, jobs):
    raise evaluate.BrokenProcessPool("a child process terminated abruptly")
    yield
