"""The examples of docs/extend.md work from outside the package."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import RATE, tiny_config

from gan_denoise.audio.writer import write
from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import CARD, LATEST
from gan_denoise.training.checkpoints import read_progress, read_variables

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "extend.md").read_text(encoding="utf-8")
EXAMPLES = {re.match(r"# (\w+)", code)[1]: code
            for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)}

TRAIN = """
from pathlib import Path
import tensorflow
from gan_denoise.config import ConfigError, load_config, settings_of
from gan_denoise.exporting.exporter import export
from gan_denoise.training.loop import train

config = load_config("mine.yaml")
first = train(config, "run", "finetune")
assert settings_of(Path("run")) == config
again = load_config("mine.yaml", ["training.steps=3"])
tensorflow.config.run_functions_eagerly(True)  # the same graphs need not be traced again
train(again, "run", "finetune")  # resumed
export("run", "model")
for setting in ("plugins=[no_such]", "generator.kernel=3"):
    try:
        load_config("mine.yaml", [setting])
    except ConfigError as error:
        print(error)
"""

COMMAND = """
import sys
if sys.argv[1] == "pretrain":
    import tensorflow
    tensorflow.config.run_functions_eagerly(True)  # TRAIN has traced the graphs
if __name__ == "__main__":
    from gan_denoise.cli import main
    main()
"""

DENOISE = """
import sys
import numpy as np, soundfile
from gan_denoise import Enhancer

enhancer = Enhancer.load("model")
assert enhancer.inversion.name == "zero_phase" and enhancer.inversion.mix == 0.5
noisy, _ = soundfile.read("corpus/a_mic.wav", dtype="float32")
half = enhancer.enhance(noisy, 16000)
full = enhancer.with_inversion(mix=1.0).enhance(noisy, 16000)
assert half.shape == noisy.shape and np.isfinite(half).all()
assert np.abs(half - full).max() > 1e-4
none = enhancer.with_inversion(mix=0.0).enhance(noisy, 16000)
np.testing.assert_allclose(none, noisy, atol=1e-3)
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
"""


def test_the_text_has_an_example_of_each_of_under_30_lines():
    assert set(EXAMPLES) == {"generator", "discriminator", "loss", "layout", "inversion"}
    assert max(len(code.splitlines()) for code in EXAMPLES.values()) < 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the examples as modules, a corpus in their layout, and settings."""
    folder = tmp_path_factory.mktemp("outside")
    for name, code in EXAMPLES.items():
        (folder / f"my_{name}.py").write_text(code, encoding="utf-8")
    rng, time = np.random.default_rng(0), np.arange(2 * RATE) / RATE
    for number, speaker in enumerate("abc"):
        clean = 0.3 * np.sin(2 * np.pi * (200 + 100 * number) * time) * (np.sin(9 * time) > 0)
        clean += 0.003 * rng.standard_normal(len(time))
        noisy = clean + 0.05 * rng.standard_normal(len(time))
        for side, wave in (("mic", noisy), ("studio", clean)):
            write(folder / "corpus" / f"{speaker}_{side}.wav", wave.astype(np.float32), RATE)
    settings = dump_config(tiny_config(
        data={"pairs": "corpus", "valid_clips": 2, "valid_seconds": 0.4},
        losses={"discriminator_warmup": 0}, training={"steps": 2, "validate_every": 1}))
    for section in ("plugins", "generator", "discriminator", "inversion"):
        settings = re.sub(rf"^{section}:.*\n(?: .*\n)*", "", settings, flags=re.MULTILINE)
    (folder / "mine.yaml").write_text(settings.replace("extra_weights: {}", "extra_weights: "
                                      "{slope: 0.5}") + f"""
plugins: [{', '.join(f'my_{name}' for name in EXAMPLES)}]
generator: {{name: dilated, width: 8, level_frames: 9}}
discriminator: {{kind: by_frame, width: 8, feature_weight: 0.1}}
inversion: {{name: zero_phase, mix: 0.5}}
""", encoding="utf-8")
    return folder


NAMES = ",".join(f"my_{name}" for name in EXAMPLES)
UNNAMED = """
import sys
from gan_denoise import Enhancer
from gan_denoise.core.errors import GanDenoiseError

try:
    Enhancer.load("model")
except GanDenoiseError as error:
    print(error)
assert not [name for name in sys.modules if name.startswith("my_")]
import my_generator, my_discriminator, my_loss, my_layout, my_inversion
Enhancer.load("model")
"""


def run(folder, code, *arguments, plugins=NAMES):
    environment = os.environ | {"PYTHONPATH": str(folder), "GAN_DENOISE_PLUGINS": plugins}
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=folder, env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def told(folder):
    """Train, resume and export in one process; return what it printed of two mistakes."""
    return run(folder, TRAIN).stdout


def test_the_examples_train_resume_export_and_denoise(folder, told):
    progress = read_progress(folder / "run" / LATEST)
    assert progress.step == 3  # two steps, and one behind the resumption
    assert all(np.isfinite(row["si_sdr"]) for row in progress.history)
    owners = {name.split(".")[0] for name in read_variables(folder / "run" / LATEST)}
    assert {"generator", "discriminator"} <= owners
    card = json.loads((folder / "model" / CARD).read_text(encoding="utf-8"))
    assert card["onnx_parity_mel01"] < 1e-4
    run(folder, DENOISE)


def test_a_model_folder_runs_no_module_that_the_user_has_not_named(folder, told):
    said = run(folder, UNNAMED, plugins="my_loss").stdout
    assert "GAN_DENOISE_PLUGINS=my_" in said


def test_the_command_line_and_its_processes_import_them(folder, told):
    for arguments in (["pretrain", "--config", "mine.yaml", "--run", "other"],
                      ["denoise", "corpus", "-o", "cleaned", "--model", "model", "--jobs", "2"]):
        run(folder, COMMAND, *arguments)
    assert len(list((folder / "cleaned").rglob("*.wav"))) == 6


def test_a_module_that_is_not_found_and_a_key_it_does_not_have_are_told(told):
    assert "PYTHONPATH" in told
    assert "'generator.kernel' has no effect with generator.name=dilated" in told
