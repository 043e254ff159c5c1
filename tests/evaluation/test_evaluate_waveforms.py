import csv
import json
import math
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from gan_denoise import audio, metrics
from gan_denoise.audio.writer import write
from gan_denoise.config.kinds import GainPhaseInversion
from gan_denoise.config.schema import AudioConfig, Config, MelConfig
from gan_denoise.core.processes import ProcessDied
from gan_denoise.data.pairs import Pair
from gan_denoise.data.synthetic_audio import voice
from gan_denoise.dsp.mel import Mel
from gan_denoise.evaluation import evaluate_waveforms as evaluate
from gan_denoise.evaluation import oracle, pair_reader, scoring
from gan_denoise.evaluation.evaluate_waveforms import EvaluationError
from gan_denoise.evaluation.results import read_scores
from gan_denoise.evaluation.table import score_tables
from gan_denoise.metrics import (
    baselines,
    blockwise,
    correlation,
    perceptual,
    signal_files,
    waveform,
)

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
        self.model = SimpleNamespace(receptive_field=0, time_stride=1)
        self.folder = Path(name)  # there is none, and so no model card

    def estimate(self, noisy01):
        return self.change(noisy01)

    def stream(self, sample_rate):
        return FakeStream(self.wave)


class FakeStream:
    """Gives all at the end, as the function is of the whole."""

    def __init__(self, wave):
        self.wave, self.blocks = wave, []

    def push(self, block):
        self.blocks.append(block)
        return np.zeros((1, 0), np.float32)

    def finish(self):
        return np.float32(self.wave(np.concatenate(self.blocks)))[None]


class FakeInParts(Fake):
    """Gives every block at once, as an `Enhancer` that keeps nothing does."""

    def stream(self, sample_rate):
        nothing = np.zeros((1, 0), np.float32)
        return SimpleNamespace(push=lambda block: self.wave(block)[None], finish=lambda: nothing)


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
        for side, samples in (("noisy", clean + noise), ("clean", clean)):
            write(paths[side], np.float32(samples), rate, subtype="FLOAT")
        return Pair(name, paths["noisy"], paths["clean"], snr_db=snr_db)

    return make


@pytest.fixture
def without_packages(monkeypatch):
    """PESQ and STOI take the time; most of what is tested here is about neither."""
    monkeypatch.setattr(metrics, "available", lambda: {"pesq": False, "pystoi": False})


def rows_of(evaluation, system):
    return {row.name: row for row in evaluation.rows if row.system == system}


def told(evaluation):
    """Notices but for those of the packages that `without_packages` takes away."""
    return [notice for notice in evaluation.notices if "is not installed" not in notice]


@needs_pesq
def test_an_identity_model_scores_as_the_noisy_input(make_pair):
    pairs = [make_pair("a"), make_pair("b/c")]
    result = evaluate.evaluate(pairs, Fake("same"), jobs=1)
    assert result.systems == ("noisy", "same", "oracle")
    assert result.columns == ["pesq_wb", "stoi", "estoi", "si_sdr", "snr", "lsd", *MEL]
    assert result.notices == ()
    for metric in result.columns:
        assert result.change("same", metric) == pytest.approx(0, abs=1e-9), metric
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
        assert result.change("oracle", metric) > 0, metric
    for metric in ("lsd", "mse_mel", "mse_mel_wave"):
        assert result.change("oracle", metric) < 0, metric


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


def test_a_pair_that_cannot_be_compared_is_refused_and_the_rest_is_scored(
    make_pair, tmp_path, without_packages
):
    good, half, missing, text = (make_pair(name) for name in ("good", "half", "missing", "text"))
    write(half.noisy, audio.read_mono(half.noisy, RATE)[:12000], RATE)
    missing.clean.unlink()
    text.noisy.write_text("no audio")
    seen = []
    result = evaluate.evaluate([half, good, missing, text], Fake(), jobs=1, out=tmp_path / "out",
                               progress=lambda *count: seen.append(count))
    assert result.names == ["good"]
    assert list(result.refused_pairs) == ["half", "missing", "text"]
    assert "12000 samples at 16000 Hz and 24000 samples" in result.refused_pairs["half"]
    assert "differ by 0.75 s" in result.refused_pairs["half"]
    assert "clean/missing.wav: no such file" in result.refused_pairs["missing"]
    assert "noisy/text.wav" in result.refused_pairs["text"]
    assert [notice.split(": ")[0] for notice in told(result)] == ["refused"] * 3
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    stored = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert stored["refused_pairs"] == result.refused_pairs
    assert read_scores(tmp_path / "out").refused_pairs == result.refused_pairs
    console = Console(width=200, record=True)
    console.print(score_tables(result))
    assert "1 file, 0.0 min at 16,000 Hz; 3 pairs refused" in console.export_text()


def test_the_command_scores_the_rest_names_the_refused_and_exits_with_1(make_pair, tmp_path):
    make_pair("good")
    pair = make_pair("half")
    write(pair.noisy, audio.read_mono(pair.noisy, RATE)[:12000], RATE)
    done = subprocess.run(
        [sys.executable, "-m", "gan_denoise.cli", "evaluate", "--noisy", tmp_path / "noisy",
         "--clean", tmp_path / "clean", "-j", "1", "--out", tmp_path / "out"],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "1 pair refused" in done.stdout
    assert "refused: " in done.stdout
    assert "do not match" in " ".join(done.stdout.split())
    assert read_scores(tmp_path / "out").names == ["good"]


def test_only_where_no_pair_can_be_scored_it_is_an_error(make_pair, without_packages):
    pairs = [make_pair("a"), make_pair("b")]
    for pair in pairs:
        pair.clean.unlink()
    missing = r"none of 2 pairs .*clean/a\.wav: no such file.*b\.wav"
    with pytest.raises(EvaluationError, match=missing):
        evaluate.evaluate(pairs, jobs=1)
    with pytest.raises(EvaluationError, match="no pairs"):
        evaluate.evaluate([], jobs=1)
    good = make_pair("good")
    with pytest.raises(EvaluationError, match="'good' occurs twice"):
        evaluate.evaluate([good, good], jobs=1)


def test_many_refusals_are_counted_and_all_are_named(make_pair, without_packages):
    pairs = [make_pair(f"p{number}", seconds=0.5) for number in range(8)]
    for pair in pairs[1:]:
        pair.noisy.unlink()
    notices = told(evaluate.evaluate(pairs, jobs=1))
    assert [notice.startswith("refused: ") for notice in notices] == [True] * 6
    assert notices[-1] == "refused: 2 more (p6, p7)"


def test_a_pair_that_an_encoder_padded_is_scored_on_its_common_part(make_pair, without_packages):
    pair, other = make_pair("a"), make_pair("b")
    expected = evaluate.evaluate([pair], Fake(), jobs=1)
    noisy = audio.read_mono(pair.noisy, RATE)
    write(pair.noisy, np.concatenate([noisy, np.zeros(300, np.float32)]), RATE, subtype="FLOAT")
    result = evaluate.evaluate([pair, other], Fake(), jobs=1)
    assert result.refused_pairs == {}
    assert rows_of(result, "noisy")["a"].seconds == 1.5
    for before, after in zip(expected.rows, result.rows, strict=False):
        assert after.scores == before.scores
    assert told(result) == ["noisy and clean differ in length by up to 19 ms in 1 of 2 pairs (a): "
                            "scored from the beginning to the end of the shorter one"]


def test_a_pair_that_is_cut_off_is_told(make_pair, without_packages):
    pair = make_pair("a")
    for path in (pair.noisy, pair.clean):
        path.write_bytes(path.read_bytes()[: -4 * RATE // 2])
    result = evaluate.evaluate([pair], jobs=1)
    assert result.rows[0].seconds == 1.0
    (notice,) = told(result)
    assert notice.startswith("cut off, scored as far as they go: 1 of 1 pairs (a); the first: 1.00")


def test_a_pair_of_two_rates_is_scored_at_the_lower_one(make_pair, without_packages):
    pair = make_pair("a")
    noisy = audio.read_mono(pair.noisy, RATE)
    write(pair.noisy, audio.resample(noisy, RATE, 48000), 48000, subtype="FLOAT")
    result = evaluate.evaluate([pair], Fake(), jobs=1)
    row = rows_of(result, "noisy")["a"]
    assert (row.sample_rate, row.seconds) == (RATE, 1.5)
    # White noise, of which there and back takes the edge of the band.
    assert row.scores["snr"] == pytest.approx(5, abs=0.5)
    (notice,) = told(result)
    assert notice.startswith("noisy and clean differ in rate (48000 and 16000 Hz) in 1 of 1 pairs")


def test_exchanged_folders_are_noticed(make_pair, without_packages):
    pairs = [make_pair("a", 0), make_pair("b", 15)]
    assert told(evaluate.evaluate(pairs, jobs=1)) == []
    swapped = [replace(pair, noisy=pair.clean, clean=pair.noisy) for pair in pairs]
    (notice,) = told(evaluate.evaluate(swapped, jobs=1))
    assert notice == ("the clean file is the noisier one in 2 of 2 pairs (a, b): are the noisy and "
                      "the clean folder exchanged?")


def test_channels_that_cancel_are_scored_by_one_of_them(make_pair, without_packages):
    pair = make_pair("a")
    expected = evaluate.evaluate([pair], Fake(), jobs=1)
    for path in (pair.noisy, pair.clean):
        mono = audio.read_mono(path, RATE)
        write(path, np.stack([mono, -mono]), RATE, subtype="FLOAT")
    result = evaluate.evaluate([pair], Fake(), jobs=1)
    assert [row.scores for row in result.rows] == [row.scores for row in expected.rows]
    (notice,) = told(result)
    assert notice.startswith("the mean of the channels cancels (as of right = -left) in 1 of 1")
    # One side alone: a stereo noisy recording of a mono clean one.
    write(pair.clean, mono, RATE, subtype="FLOAT")
    result = evaluate.evaluate([pair], Fake(), jobs=1)
    assert [row.scores for row in result.rows] == [row.scores for row in expected.rows]


def test_far_above_full_scale_scores_as_at_full_scale(make_pair, without_packages):
    pair = make_pair("a")
    expected = evaluate.evaluate([pair], Fake(), jobs=1)
    for path in (pair.noisy, pair.clean):  # samples in units of 16-bit integers
        write(path, audio.read_mono(path, RATE) * np.float32(2**15), RATE, subtype="FLOAT")
    result = evaluate.evaluate([pair], Fake(), jobs=1)
    for before, after in zip(expected.rows, result.rows, strict=True):
        for metric in ("si_sdr", "snr", "lsd"):
            assert after.scores[metric] == pytest.approx(before.scores[metric], abs=0.1), metric
        assert after.scores["psnr_mel"] == pytest.approx(before.scores["psnr_mel"], abs=1.5)
    (notice,) = told(result)
    assert notice.startswith("far above full scale: 1 of 1 pairs (a), scored with a gain of -")


def test_memory_does_not_grow_with_a_recording(make_pair, without_packages, monkeypatch):
    for module in (signal_files, pair_reader, blockwise, correlation, baselines):
        monkeypatch.setattr(module, "BLOCK", 2**14)
    monkeypatch.setattr(waveform, "LSD_BLOCK", 64)
    for module in (scoring, oracle):
        monkeypatch.setattr(module, "PART_SECONDS", 1.0)
    model = FakeInParts(wave=lambda x: np.float32(0.5) * x)
    peaks = []
    for seconds in (4, 4, 20):  # the first also imports
        pair = make_pair(f"{seconds} s", clean=np.tile(voice(1, 2.0, 1, RATE), seconds // 2))
        tracemalloc.start()
        evaluate.evaluate([pair], model, trivial=True, jobs=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.2 * peaks[1]
    assert peaks[2] < 20 * RATE * 4 * 2  # less than two such signals, of six


def test_parts_are_scored_as_the_whole(make_pair, monkeypatch):
    clean = np.concatenate([voice(v, 1.0, v, RATE) for v in range(4)])
    pair = make_pair("a", clean=clean)
    config = Config(mel=MelConfig(n_mels=64), inversion=GainPhaseInversion())
    model = FakeInParts(wave=lambda x: np.float32(0.5) * x, config=config)
    whole = evaluate.evaluate([pair], model, trivial=True, jobs=1)
    for module in (signal_files, pair_reader, blockwise, correlation, baselines):
        monkeypatch.setattr(module, "BLOCK", 5000)
    monkeypatch.setattr(waveform, "LSD_BLOCK", 33)
    monkeypatch.setattr(perceptual, "STOI_WHOLE_SECONDS", 1.0)
    monkeypatch.setattr(perceptual, "STOI_BLOCK", 3000)
    for module in (scoring, oracle):
        monkeypatch.setattr(module, "PART_SECONDS", 1.0)
    in_parts = evaluate.evaluate([pair], model, trivial=True, jobs=1)
    for one, other in zip(whole.rows, in_parts.rows, strict=True):
        assert other.lag == one.lag
        assert other.refused == one.refused
        tolerance = {"estoi": 0.05} if one.system == "silence" else {}  # pystoi draws it at random
        for metric, value in one.scores.items():
            assert other.scores[metric] == pytest.approx(
                value, rel=1e-5, abs=tolerance.get(metric, 1e-7)), (one.system, metric)


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
    waves = [f"{s}/{p.name}.wav" for s in ("clean", "double", "noisy", "oracle") for p in pairs]
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
    assert result.change("oracle", "si_sdr") > 0  # through the model's rate and back
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
    steps = Config(mel=MelConfig(n_mels=64), inversion=GainPhaseInversion())
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


def _end() -> None:
    os._exit(3)


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self):
        return _end, ()


def test_a_dead_process_is_an_error_with_the_way_out(make_pair, monkeypatch):
    monkeypatch.setattr(metrics, "available", lambda: {"pystoi": True, Deadly(): True})
    with pytest.raises(ProcessDied, match=r"while scoring \(exit code 3\); jobs=1"):
        evaluate.evaluate([make_pair("a"), make_pair("b")], jobs=2)
