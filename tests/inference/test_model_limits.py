"""Model folders from strangers: they run no code, read no other file, and take bounded memory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from gan_denoise import Enhancer
from gan_denoise.cli.models import info
from gan_denoise.config import checkpoint_folder, load_config, make_config
from gan_denoise.config.loader import ConfigError
from gan_denoise.config.saved import finetune_config
from gan_denoise.core.checksums import SUMS
from gan_denoise.evaluation.evaluate_waveforms import describe_model
from gan_denoise.evaluation.results import ScoresError, read_scores
from gan_denoise.inference.folder_journal import Journal
from gan_denoise.inference.model import Model, ModelError
from gan_denoise.inference.model_limits import LARGEST, check_network, check_settings, read_part

PAYLOAD = 'open("ran", "w").close()\n'


@pytest.fixture
def copy(tiny_model, tmp_path):
    """A copy of the model to spoil, without checksums, which anybody can make fit."""
    shutil.copytree(tiny_model, tmp_path / "copy", ignore=shutil.ignore_patterns(SUMS))
    path = tmp_path / "copy" / "config.yaml"
    path.write_text(re.sub("^#.*\n", "", path.read_text()))
    return tmp_path / "copy"


def change_settings(folder, pattern, new):
    text, count = re.subn(pattern, new, (folder / "config.yaml").read_text(), count=1)
    assert count == 1
    (folder / "config.yaml").write_text(text)


# ---- Code --------------------------------------------------------------------------------------
def test_a_module_that_settings_ask_for_is_not_imported(copy, tmp_path, monkeypatch):
    (tmp_path / "payload.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    change_settings(copy, r"plugins: \[\]", "plugins: [payload]")
    with pytest.raises(ModelError, match="GAN_DENOISE_PLUGINS=payload"):
        Model.load(copy)
    with pytest.raises(ConfigError, match="GAN_DENOISE_PLUGINS=payload"):
        finetune_config("debug", [], copy)
    assert not (tmp_path / "ran").exists()
    assert "payload" not in sys.modules
    monkeypatch.setenv("GAN_DENOISE_PLUGINS", "other, payload")
    Model.load(copy)
    assert (tmp_path / "ran").exists()


def test_a_pickle_in_place_of_the_filterbank_is_not_loaded(copy, tmp_path, monkeypatch):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    np.save(copy / "mel_filterbank.npy", np.array([Payload()], object), allow_pickle=True)
    with pytest.raises(ModelError, match="not a usable model"):
        Model.load(copy)
    assert not (tmp_path / "ran").exists()


def test_tags_of_python_objects_are_refused(copy, tmp_path):
    change_settings(copy, "plugins:", f'losses: !!python/object/apply:os.mkdir ["{tmp_path}/ran"]\n'
                    "plugins:")
    with pytest.raises(ModelError, match="not readable as YAML"):
        Model.load(copy)
    assert not (tmp_path / "ran").exists()


def an_operator(**changes):
    node = helper.make_node("Identity", ["noisy_mel"], ["estimate_mel"])
    for key, value in changes.items():
        if key == "attribute":
            node.attribute.append(value)
        else:
            setattr(node, key, value)
    return node


def a_model(*nodes, weights=(), domain=""):
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", "t", 16])
             for name in ("noisy_mel", "estimate_mel")]
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"receptive_field": "0", "time_stride": "1"})
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def outside():
    tensor = TensorProto(name="w", dims=[16], data_type=TensorProto.FLOAT,
                         data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../secret")
    return tensor


INNER = helper.make_graph([], "inner", [], [])
REFUSED = {
    "another domain": (a_model(an_operator(domain="evil")), "domain 'evil'"),
    "an imported domain": (a_model(an_operator(), domain="com.microsoft"), "com.microsoft"),
    "a loop": (a_model(an_operator(attribute=helper.make_attribute("body", INNER))), "never end"),
    "external data": (a_model(an_operator(), weights=[outside()]), "external data"),
    "external data of a constant": (
        a_model(an_operator(attribute=helper.make_attribute("value", outside()))), "external data"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_network_that_could_load_code_or_files_is_refused(copy, name):
    model, reason = REFUSED[name]
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=reason):
        Model.load(copy)


@pytest.mark.parametrize("place", ["opset_import", "node"])
def test_a_number_in_place_of_a_domain_takes_no_memory(place):
    domain = b"\x08" + b"\xff" * 8 + b"\x01"  # field 1, 2**57 - 1
    node = b"\x3a\x0c\x0a\x0a\x38" + b"\xff" * 8 + b"\x01"  # graph, node, field 7
    with pytest.raises(ModelError, match="the domain '144115188075855871'"):
        check_network(b"\x42\x0a" + domain if place == "opset_import" else node)


def test_functions_of_a_network_are_refused(copy):
    model = a_model(an_operator())
    model.functions.add(name="f", domain="")
    (copy / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="functions"):
        Model.load(copy)


def test_shipped_networks_and_a_plain_one_are_let_through(tiny_model):
    check_network(a_model(an_operator()).SerializeToString())
    for path in (*checkpoint_folder().glob("*/model.onnx"), tiny_model / "model.onnx"):
        check_network(path.read_bytes())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_are_a_network_or_refused(data, at):
    whole = REFUSED["external data"][0].SerializeToString()
    for network in (data, whole[:at] + data + whole[at + len(data):]):
        with contextlib.suppress(ModelError, ValueError):
            check_network(network)


def test_a_changed_network_that_onnx_reads_with_external_data_is_never_let_through():
    """The scan and the official parser agree on where external data is, for every flipped byte."""
    whole = REFUSED["external data of a constant"][0].SerializeToString()
    for at in range(len(whole)):
        network = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        try:
            read = onnx.ModelProto.FromString(network)
        except Exception:
            continue
        tensors = [attribute.t for node in read.graph.node for attribute in node.attribute]
        if any(tensor.data_location or tensor.external_data for tensor in tensors):
            with pytest.raises(ModelError):
                check_network(network)


# ---- Files -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["model.onnx", "config.yaml", "mel_filterbank.npy"])
def test_a_link_out_of_the_folder_is_refused_and_one_within_followed(copy, name, tmp_path):
    (copy / name).rename(copy / "real")
    (copy / name).symlink_to("real")
    Model.load(copy)
    (copy / "real").rename(tmp_path / "outside")
    (copy / name).unlink()
    (copy / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ModelError, match=f"{name}: is a link out of the model folder"):
        Model.load(copy)


def test_a_folder_that_is_a_link_is_a_model(copy, tmp_path):
    (tmp_path / "link").symlink_to(copy)
    assert Model.load(tmp_path / "link").config == Model.load(copy).config


@pytest.mark.parametrize("name", LARGEST)
def test_a_part_of_10_gb_is_refused_unread(copy, name):
    with open(copy / name, "ab") as file:
        file.truncate(10 * 2**30)
    begun = time.perf_counter()
    with pytest.raises(ModelError, match=rf"{name}: has 10,737,418,240 bytes.*{LARGEST[name]:,}"):
        (lambda: read_part(copy, name) if "card" in name else Model.load(copy))()
    assert time.perf_counter() - begun < 2


@pytest.mark.parametrize("parent", ["pretrain", "/etc/hosts"])
def test_settings_of_a_model_extend_no_file(copy, parent):
    change_settings(copy, "plugins:", f"extends: {parent}\nplugins:")
    with pytest.raises(ModelError, match="extends another file"):
        Model.load(copy)


def test_fine_tuning_takes_no_paths_of_a_model_folder(copy):
    change_settings(copy, r"  speech: \[\]", "  speech: [/etc]")
    change_settings(copy, r"  cache: null", "  cache: /tmp/elsewhere")
    config = finetune_config("debug", ["data.speech=", "data.noise="], copy)
    assert not config.data.named
    assert config.data.cache is None


# ---- Memory and time ---------------------------------------------------------------------------
HUGE = {
    "audio.sample_rate": {"audio": {"sample_rate": 10**9}, "mel": {"hop_length": 256}},
    "mel.n_fft": {"mel": {"n_fft": 2**20}},
    "values in a second": {"mel": {"hop_length": 1, "n_fft": 2**15}},
    "inversion.griffinlim_steps": {"inversion": {"name": "griffinlim", "griffinlim_steps": 10**9}},
    "inversion.phase_steps": {"inversion": {"name": "gain+phase", "phase_steps": 10**9}},
    "depends on": {"inversion": {"gain_smoothing": (10**9 + 1, 1)}},
    "inversion.max_gain_db": {"inversion": {"max_gain_db": 1e30}},
    "generator.frames": {"generator": {"frames": 10**6 + 1},
                         "training": {"crop_seconds": 8000.0}},
}


@pytest.mark.parametrize("name", HUGE)
def test_settings_beyond_all_use_are_refused(name):
    with pytest.raises(ModelError, match=name):
        check_settings(make_config(HUGE[name]))


def test_the_shipped_configs_are_within_the_limits():
    for path in sorted(checkpoint_folder().parent.glob("configs/**/*.yaml")):
        check_settings(load_config(path))


@pytest.mark.parametrize(("name", "value"), [
    ("receptive_field", "1000000000"), ("receptive_field", "-1"), ("time_stride", "0"),
    ("time_stride", "two"), ("receptive_field", "9" * 5000)])
def test_a_geometry_that_cannot_be_is_refused(copy, name, value):
    network = onnx.load(copy / "model.onnx")
    next(prop for prop in network.metadata_props if prop.key == name).value = value
    onnx.save(network, copy / "model.onnx")
    with pytest.raises(ModelError, match=f"{name}|depends on"):
        Model.load(copy)


@pytest.mark.parametrize("bank", [
    np.zeros((16, 129)), np.full((16, 129), np.nan), -np.ones((16, 129)), np.ones((16, 129), int),
    np.ones((16, 129), complex), np.ones(5), np.array(["a"])])
def test_a_filterbank_of_no_weights_is_refused(copy, bank):
    shape = np.load(copy / "mel_filterbank.npy").shape
    np.save(copy / "mel_filterbank.npy", np.resize(bank, shape) if bank.ndim == 2 else bank)
    with pytest.raises(ModelError, match="filterbank"):
        Model.load(copy)


def test_tensors_of_terabytes_are_an_error_and_take_no_memory(copy):
    """A column plus a row of a million each, which would be 4 TB: refused by the limit alone."""
    code = """if True:
        import resource, sys
        import numpy as np
        from gan_denoise import Enhancer
        enhancer = Enhancer.load(sys.argv[1])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            enhancer.enhance(np.zeros(8000, np.float32) + 0.1, 8000)
        except Exception as error:
            print(type(error).__name__, error)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < 200 * 1024, grown
    """
    nodes = [helper.make_node("ReduceMax", ["noisy_mel"], ["m"], keepdims=0),
             helper.make_node("Add", ["column", "m"], ["c"]),
             helper.make_node("Add", ["c", "row"], ["matrix"]),
             helper.make_node("ReduceMax", ["matrix"], ["largest"], keepdims=0),
             helper.make_node("Add", ["noisy_mel", "largest"], ["estimate_mel"])]
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), name)
               for name, shape in (("column", (30_000, 1)), ("row", (1, 30_000)))]
    (copy / "model.onnx").write_bytes(a_model(*nodes, weights=weights).SerializeToString())
    done = subprocess.run([sys.executable, "-c", code, copy], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("ModelError"), done.stdout


def test_networks_that_compute_something_else_are_errors_and_no_output(copy, tmp_path):
    """A wrong shape, or numbers that are none, write no file."""
    from gan_denoise.audio.writer import write

    write(tmp_path / "in.wav", np.full(8000, 0.1, np.float32), 8000)
    nan = numpy_helper.from_array(np.array(np.nan, np.float32), "nan")
    for nodes, weights in (
        ([helper.make_node("ReduceMax", ["noisy_mel"], ["estimate_mel"], keepdims=0)], ()),
        ([helper.make_node("Add", ["noisy_mel", "nan"], ["estimate_mel"])], (nan,)),
        ([helper.make_node("Concat", ["noisy_mel", "noisy_mel"], ["estimate_mel"], axis=1)], ()),
    ):
        network = a_model(*nodes, weights=weights)
        (copy / "model.onnx").write_bytes(network.SerializeToString())
        with pytest.raises(ModelError, match="the network's estimate is no mel"):
            Enhancer.load(copy).enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
        assert sorted(path.name for path in tmp_path.glob("*.wav")) == ["in.wav"]


# ---- Cards and journals ------------------------------------------------------------------------
DEEP = "[" * 100_000


def test_a_card_is_read_within_its_limits_or_said_not_to_be_readable(copy, tmp_path, capsys):
    for text in (DEEP, '{"a": ' * 50_000, "{", "9" * 5000):
        (copy / "model_card.json").write_text(text)
        assert "not readable" in describe_model(Enhancer.load(copy))["card"]
    os.truncate(copy / "model_card.json", 2**21)
    assert "not readable" in describe_model(Enhancer.load(copy))["card"]
    (tmp_path / "secret").write_text("secret")
    (copy / "model_card.md").unlink()
    (copy / "model_card.md").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match="link out of the model folder"):
        info(str(copy))
    assert "secret" not in capsys.readouterr().out


def test_a_journal_of_deep_lines_says_nothing(tmp_path):
    lines = [DEEP, '{"target": ' * 50_000, '{"state": "done", "outputs": ' + "9" * 5000 + "}", "5"]
    (tmp_path / ".gan-denoise-journal.jsonl").write_text("\n".join(lines) + "\n")
    journal = Journal(tmp_path)
    journal.refresh()
    assert journal.entry(tmp_path / "a.wav") is None


@pytest.mark.parametrize("text", [DEEP, "9" * 5000, "5", "null", '{"format_version": 1}'])
def test_scores_that_are_none_are_one_error(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ScoresError, match=r"scores\.json"):
        read_scores(tmp_path)
