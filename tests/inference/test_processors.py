"""The shipped models' output on other processors, which QEMU imitates.

ONNX Runtime, SciPy and NumPy choose their kernels by what a processor can do; QEMU's user mode
shows them the instruction sets of the one that it is told to be.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import gan_denoise
from gan_denoise import Enhancer

QEMU = shutil.which("qemu-x86_64")
HALF_STEP = 0.5 / 2**15  # of 16-bit samples
RECORDING = Path(gan_denoise.__file__).parent / "examples" / "noisy_speech.flac"
ON_ANOTHER = """
import sys
import numpy as np
from gan_denoise import Enhancer
recording = np.load(sys.argv[2])
np.save(sys.argv[3], Enhancer.load(sys.argv[1], threads=1).enhance(recording, 16000))
"""


@pytest.mark.skipif(QEMU is None, reason="qemu-x86_64 is not installed")
@pytest.mark.parametrize("processor", ["Nehalem", "Haswell"])  # SSE4.2 alone; AVX2 and FMA
@pytest.mark.parametrize("model", ["calm", "calm-fast", "hush"])
def test_other_instruction_sets_change_less_than_half_a_16_bit_step(
        tmp_path, monkeypatch, processor, model):
    recording, rate = soundfile.read(RECORDING, dtype="float32")
    assert rate == 16000
    recording = recording[: 2 * rate]
    np.save(tmp_path / "in.npy", recording)
    # Of a virtual environment the interpreter is a link, which QEMU follows: it loses its packages.
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    subprocess.run(
        [QEMU, "-cpu", processor, str(Path(sys.executable).resolve()), "-c", ON_ANOTHER, model,
         tmp_path / "in.npy", tmp_path / "out.npy"],
        check=True, capture_output=True, timeout=300,
    )
    here = Enhancer.load(model, threads=1).enhance(recording, rate)
    there = np.load(tmp_path / "out.npy")
    assert there.shape == here.shape
    assert np.abs(here).max() > 0.1
    assert np.abs(there - here).max() < HALF_STEP
