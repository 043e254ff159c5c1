"""A quiet start: nothing of TensorFlow's greeting on the terminal, all of it where it fails."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import RATE

from gan_denoise.audio.writer import write
from gan_denoise.core.native_libraries import stderr_kept_back
from gan_denoise.data import synthetic_audio

GREETINGS = ("0000 00:00:", "absl::InitializeLog", ".cc:", "TensorFlow binary", "oneDNN", "CUDA",
             "WARNING", "tensorflow:")


def test_what_is_written_below_python_is_kept_back(capfd):
    print("before", file=sys.stderr)
    with stderr_kept_back():
        os.write(2, b"I0000 00:00:1795629292.900576 2550 port.cc:153] greeting\n")
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "before\nafter\n"


def test_what_was_kept_back_is_shown_where_it_fails(capfd):
    def import_tensorflow():
        os.write(2, b"F0000 port.cc:153] this processor lacks AVX\n")
        raise ImportError("tensorflow")

    with pytest.raises(ImportError), stderr_kept_back():
        import_tensorflow()
    assert "this processor lacks AVX" in capfd.readouterr().err
    os.write(2, b"again\n")
    assert capfd.readouterr().err == "again\n"


def test_an_abort_says_in_which_import_it_was():
    """A processor that lacks an instruction ends the process, not the import."""
    script = ("import os\nfrom gan_denoise.core.native_libraries import stderr_kept_back\n"
              "def import_tensorflow():\n    os.abort()\n"
              "with stderr_kept_back():\n    import_tensorflow()\n")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode < 0
    assert "Fatal Python error: Aborted" in result.stderr
    assert "import_tensorflow" in result.stderr


@pytest.mark.system
@pytest.mark.parametrize("commands", [
    [["pretrain", "training.deterministic=true"]],
    [["pretrain", "training.precision=float16"]],
    [["pretrain"], ["finetune", "discriminator.kind=metric"]],  # keeps its clips in float16
], ids=["deterministic", "float16", "metric"])
def test_no_line_of_tensorflow_reaches_the_terminal_of_training(tmp_path, commands):
    """The command line in a process of its own, as `make demo` and `pretrain` call it."""
    write(tmp_path / "noise" / "0.wav", synthetic_audio.noise("pink", 2.0, seed=0), RATE)
    for speaker in range(3):
        write(tmp_path / "speech" / f"s{speaker}" / "0.wav",
              synthetic_audio.voice(speaker, 2.0, seed=0), RATE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    for verb, *settings in commands:
        init = ["--init", str(tmp_path / "pretrain")] if verb == "finetune" else []
        result = subprocess.run(
            [sys.executable, "-m", "gan_denoise.cli", verb, "--config", "debug", "--run",
             str(tmp_path / verb), *init, f"data.speech={tmp_path / 'speech'}",
             f"data.noise={tmp_path / 'noise'}", *settings],
            env=environment, capture_output=True, text=True, timeout=180,
        )
        assert result.returncode == 0, result.stderr
        said = result.stdout + result.stderr
        assert not [greeting for greeting in GREETINGS if greeting in said], said
        assert result.stderr.startswith("trains on ")
        # Every validation stands beside what a model must beat, to the end.
        for line in (result.stderr, result.stdout.splitlines()[-1]):
            assert "si_sdr" in line
            assert "(noisy " in line
            assert ", best gain " in line


def test_onnx_runtime_says_nothing_and_tells_nobody(tmp_path):
    """Its wheels keep what they would send below the user's cache folder, and warn if they cannot.

    A fault of a session comes as an exception, not in lines of its own too.
    """
    code = ("import numpy as np\nfrom gan_denoise.inference.model import Model\n"
            "model = Model.load()\n"
            "try:\n    model.session.run(None, {'noisy_mel': np.zeros((1, 2, 3), np.float32)})\n"
            "except Exception as error:\n    print('raised', type(error).__name__)\n")
    home = tmp_path / "home"
    home.mkdir()
    for place in (home, tmp_path / "none"):
        environment = {name: value for name, value in os.environ.items()
                       if name not in ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")}
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                                env=environment | {"HOME": str(place)})
        assert (result.returncode, result.stderr) == (0, ""), result.stderr
        assert result.stdout.startswith("raised ")
    assert list(home.rglob("*")) == []
    assert not (tmp_path / "none").exists()
