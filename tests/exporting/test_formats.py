"""What leaves for other languages: LiteRT, SavedModel, and dsp.json with its example."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, shake, tiny_config, tiny_run

from gan_denoise.config import ConfigError, checkpoint_folder, load_config
from gan_denoise.config.artifacts import DSP
from gan_denoise.data import synthetic_audio
from gan_denoise.dsp.mel import Mel
from gan_denoise.exporting import exporter as exporting
from gan_denoise.exporting.dsp_description import describe_dsp
from gan_denoise.exporting.exporter import export
from gan_denoise.exporting.formats import FORMATS, open_litert
from gan_denoise.inference.enhancer import Enhancer
from gan_denoise.inference.model import DEFAULT_MODEL
from gan_denoise.models.generators import GENERATORS, build_generator, receptive_field, time_stride
from gan_denoise.training.checkpoints import CheckpointError

EXAMPLE = Path(__file__).parents[2] / "scripts" / "onnx_example.py"
BANDS = 18  # halved to 9 and 5: the way back has to crop bands, too
SHAPES = ((1, 1), (2, 7), (3, 33), (1, 400), (1, 2))


def network_of(name, **generator):
    config = tiny_config(mel={"n_mels": BANDS}, generator={"name": name, **generator})
    network = build_generator(config)
    shake(network)
    return network


def worst_difference(run, network):
    worst = 0.0
    for shape in SHAPES:
        noisy = np.random.default_rng(shape[1]).random((*shape, BANDS), np.float32)
        expected = np.asarray(network(noisy, training=False))
        found = run(noisy)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        assert np.abs(expected - noisy).max() > 0.01  # the network does something
        worst = max(worst, np.abs(found - expected).max())
    return worst


# ---- Formats -----------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["litert", "savedmodel"])
@pytest.mark.parametrize("name", sorted(GENERATORS))
def test_a_format_computes_what_keras_computes_at_any_length_and_batch(name, form, tmp_path):
    head = {"head": "direct"} if name == "autoencoder" else {"dropout": 0.2}
    network = network_of(name, **head)
    path = tmp_path / FORMATS[form].file
    FORMATS[form].write(network, path)
    assert worst_difference(FORMATS[form].open(path), network) < 1e-5
    if form == "litert":
        assert b"Flex" not in path.read_bytes()  # operations that only TensorFlow has


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run whose every DSP setting is another than the usual one."""
    folder = tmp_path_factory.mktemp("portable") / "run"
    config = tiny_config(
        mel={"win_length": 200, "hop_length": 50, "fmin": 300.0, "fmax": 6000.0, "floor": 1e-4,
             "offset_db": 80.0, "range_db": 90.0},
        generator={"head": "direct"},
        inversion={"name": "gain+phase", "max_gain_db": 6.0, "gain_smoothing": [5, 3],
                   "gain_offset_db": 2.0},
    )
    tiny_run(folder, config)
    return folder


@pytest.fixture(scope="module")
def model(run_dir):
    """(folder, card) of a model in all formats."""
    out = run_dir.with_name("model")
    return out, export(run_dir, out, formats=["savedmodel", "litert"])


def test_export_writes_the_formats_that_are_asked_for(model):
    folder, card = model
    for name, form in FORMATS.items():
        assert (folder / form.file).exists()
        assert 0 <= card[f"{name}_parity_mel01"] < 1e-5
    assert "litert parity mel01" in (folder / "model_card.md").read_text(encoding="utf-8")
    assert "tensorflow" in card["versions"]
    for path in folder.rglob("*"):
        assert path.is_dir() or str(folder.parent).encode() not in path.read_bytes(), path.name


def test_litert_runs_on_tensorflows_interpreter_without_its_own(model, monkeypatch, recwarn):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    noisy = np.random.default_rng(0).random((2, 5, 16), np.float32)
    found = open_litert(model[0] / "model.tflite")(noisy)
    np.testing.assert_allclose(found, Enhancer.load(model[0]).estimate(noisy), atol=1e-5)
    assert not [item for item in recwarn if "Interpreter" in str(item.message)]


def test_a_format_that_does_not_exist_is_refused_before_any_work(run_dir, tmp_path):
    for formats in (["litert", "coreml"], "coreml"):
        with pytest.raises(ConfigError, match=r"no format 'coreml'; there are onnx, litert, saved"):
            export(run_dir, tmp_path / "model", formats=formats)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [0.1, np.nan])
def test_a_format_that_computes_something_else_is_refused(error, tmp_path, monkeypatch):
    def wrong(path):
        return lambda noisy: np.asarray(network(noisy)) + np.float32(error)

    network = network_of("unet")
    config = tiny_config(mel={"n_mels": BANDS})
    monkeypatch.setitem(FORMATS, "litert", dataclasses.replace(FORMATS["litert"], open=wrong))
    with pytest.raises(CheckpointError, match="LiteRT differs from Keras by"):
        exporting._parity(network, tmp_path / "model.tflite", config, "litert")


# ---- dsp.json ----------------------------------------------------------------------------------
def test_the_description_holds_the_numbers_of_the_settings(model, run_dir):
    config = load_config(run_dir / "config.yaml")
    dsp = json.loads((model[0] / "dsp.json").read_text(encoding="utf-8"))
    assert dsp == describe_dsp(config, FORMATS)
    mel = Mel(config.audio, config.mel)
    assert dsp["sample_rate"] == RATE
    assert {key: dsp["stft"][key] for key in ("n_fft", "win_length", "hop_length", "bins")} == {
        "n_fft": 256, "win_length": 200, "hop_length": 50, "bins": mel.filterbank.shape[1]}
    zeros = dsp["stft"]["window"]["zeros_left"], dsp["stft"]["window"]["zeros_right"]
    assert zeros == (28, 28)
    assert dsp["stft"]["padding"] == {"mode": "zeros", "left": 128, "right": 128}
    assert (dsp["mel"]["n_mels"], dsp["mel"]["fmin"], dsp["mel"]["fmax"]) == (16, 300, 6000)
    assert describe_dsp(tiny_config())["mel"]["fmax"] == RATE / 2
    scale = dsp["normalisation"]
    assert (scale["floor"], scale["offset_db"], scale["range_db"]) == (1e-4, 80, 90)
    assert (dsp["gain"]["max_gain_db"], dsp["gain"]["smoothing"]) == (6, [5, 3])
    assert dsp["gain"]["offset_db"] == 2
    assert dsp["inversion"]["name"] == "gain+phase"
    net = dsp["network"]
    assert (net["receptive_field"], net["time_stride"]) == (
        receptive_field(config), time_stride(config))
    assert net["input"]["shape"] == net["output"]["shape"] == ["batch", "frames", 16]
    assert {name: item["file"] for name, item in net["formats"].items()} == {
        "onnx": "model.onnx", "litert": "model.tflite", "savedmodel": "saved_model"}


def test_the_numbers_of_the_description_compute_what_the_package_computes(model, run_dir):
    """The transform is rebuilt from dsp.json alone and compared with the package's own."""
    config = load_config(run_dir / "config.yaml")
    dsp, mel = describe_dsp(config), Mel(config.audio, config.mel)
    stft, scale = dsp["stft"], dsp["normalisation"]
    window = stft["window"]
    w = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(stft["win_length"]) / stft["win_length"])
    w = np.pad(w, (window["zeros_left"], window["zeros_right"]))
    np.testing.assert_allclose(w, mel.window, atol=1e-7)
    noisy = recording()[:4001]
    padded = np.pad(noisy, (stft["padding"]["left"], stft["padding"]["right"]))
    frames = 1 + len(noisy) // stft["hop_length"]
    bins = np.arange(stft["bins"])[:, None] * np.arange(stft["n_fft"])
    kernel = np.exp(-2j * np.pi * bins / stft["n_fft"])  # [bins, n_fft]
    spectrum = np.stack([kernel @ (w * padded[t * stft["hop_length"]:][: stft["n_fft"]])
                         for t in range(frames)])
    assert mel.frames(len(noisy)) == frames
    np.testing.assert_allclose(spectrum, mel.stft(noisy), atol=1e-4)
    linear = (np.abs(spectrum) ** dsp["mel"]["power"]) @ mel.filterbank.T
    decibel = 20 * np.log10(np.maximum(linear, scale["floor"]))
    mel01 = (decibel + scale["offset_db"]) / scale["range_db"]
    expected = np.clip(mel01, scale["low"], scale["high"])
    np.testing.assert_allclose(mel.normalise(mel.linear(mel.stft(noisy))), expected, atol=1e-4)
    back = 10 ** ((expected * scale["range_db"] - scale["offset_db"]) / 20)
    np.testing.assert_allclose(mel.denormalise(expected), back, rtol=1e-5)
    silent_window = mel.window_energy(frames).min()  # the first sample of a Hann window is 0
    assert silent_window == np.float32(dsp["istft"]["weight_floor"])


EVERY_SETTING = {
    "mel": {"n_fft": 512, "win_length": 160, "hop_length": 32, "n_mels": 12, "fmin": 90.0,
            "fmax": 5000.0, "floor": 1e-6, "offset_db": 70.0, "range_db": 75.0},
    "inversion": {"name": "gain+phase", "phase_steps": 7, "max_gain_db": 3.0,
                  "gain_smoothing": [3, 1], "gain_offset_db": 1.0},
    "audio": {"sample_rate": 8000},
}


@pytest.mark.parametrize(("section", "key"), [
    (section, key) for section, values in EVERY_SETTING.items() for key in values])
def test_no_setting_of_the_signal_processing_is_left_out(section, key):
    value = EVERY_SETTING[section][key]
    base = {"mel": {"fmax": 3500.0}, "inversion": {"name": "gain+phase"}}
    changed = base | {section: base.get(section, {}) | {key: value}}
    if (section, key) == ("inversion", "name"):
        base = base | {"inversion": {"name": "gain"}}
    assert describe_dsp(tiny_config(**changed)) != describe_dsp(tiny_config(**base))


@pytest.mark.parametrize("n_mels", [1, 16, 128])
def test_the_filterbank_is_where_the_description_says_without_an_npy_reader(n_mels, tmp_path):
    config = tiny_config(mel={"n_fft": 4096, "win_length": 2048, "n_mels": n_mels})
    mel = describe_dsp(config)["mel"]
    bank = np.random.default_rng(0).random((n_mels, 2049), np.float32)
    np.save(tmp_path / "bank.npy", bank)
    raw = np.fromfile(tmp_path / "bank.npy", "<f4", offset=mel["offset_bytes"])
    np.testing.assert_array_equal(raw.reshape(mel["shape"]), bank)


def test_the_shipped_models_are_described():
    for folder in checkpoint_folder().glob("*/"):
        if (folder / "model.onnx").is_file():
            dsp = json.loads((folder / DSP).read_text(encoding="utf-8"))
            assert dsp == describe_dsp(load_config(folder / "config.yaml"))


def test_parts_that_follow_the_description_equal_the_whole(model):
    folder, _ = model
    chunks = json.loads((folder / "dsp.json").read_text(encoding="utf-8"))["chunks"]
    grid, context = chunks["grid_samples"], chunks["context_samples"]
    enhancer = Enhancer.load(folder).with_inversion("gain")
    noisy = recording(seconds=4.0)
    whole = enhancer.enhance(noisy, RATE)
    start, stop = 7 * grid, 7 * grid + 2 * context + 3001
    assert stop + grid < len(noisy)
    part = enhancer.enhance(noisy[start:stop], RATE)
    inner = slice(context, -context)
    np.testing.assert_allclose(part[inner], whole[start:stop][inner], atol=1e-5)


# ---- The example -------------------------------------------------------------------------------
def recording(seconds=1.5):
    """A voice in noise whose number of samples is no multiple of the hop."""
    noise = synthetic_audio.noise("white", seconds, seed=1)
    noisy = 0.4 * synthetic_audio.voice(0, seconds, seed=0) + 0.05 * noise
    return noisy[:-7].astype(np.float32)


@pytest.mark.parametrize("name", ["tiny", DEFAULT_MODEL])
def test_the_example_computes_what_the_enhancer_computes(name, model, tmp_path):
    folder = model[0] if name == "tiny" else checkpoint_folder() / name
    noisy = np.stack([recording(), 0.1 * recording()[::-1]])
    noisy[1, 4000:12000] = 0  # digital silence
    soundfile.write(tmp_path / "noisy.wav", noisy.T, RATE, "FLOAT")
    subprocess.run([sys.executable, EXAMPLE, folder, "noisy.wav", "cleaned.wav"], cwd=tmp_path,
                   check=True)
    found, rate = soundfile.read(tmp_path / "cleaned.wav", dtype="float32")
    expected = Enhancer.load(folder).with_inversion("gain").enhance(noisy, RATE)
    assert rate == RATE
    assert np.abs(expected - noisy).max() > 0.01
    np.testing.assert_allclose(found.T, expected, atol=1e-5)


def test_the_example_refuses_another_rate(model, tmp_path):
    soundfile.write(tmp_path / "noisy.wav", recording(), 8000)
    done = subprocess.run(
        [sys.executable, EXAMPLE, model[0], tmp_path / "noisy.wav", tmp_path / "cleaned.wav"],
        capture_output=True, text=True, check=False,
    )
    assert "8000 Hz; resample it to 16000 Hz" in done.stderr
    assert not (tmp_path / "cleaned.wav").exists()


def test_the_example_is_short_and_needs_nothing_of_this_package():
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {item.name for item in node.names}
        assert not isinstance(node, ast.ImportFrom)
    assert names == {"json", "sys", "numpy", "onnxruntime", "soundfile"}
