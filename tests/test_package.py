"""The wheel works in an environment of its own, outside the clone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from gan_denoise.inference.model import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A new environment with the wheel in it; dependencies are lent from this one."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("gan_denoise", "configs", "checkpoints"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run([*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w",
                    str(folder), str(source)], check=True, cwd=folder)
    wheel = next(folder.glob("*.whl"))
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    python = venv / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--quiet", "--no-deps", "--no-index",
                    str(wheel)], check=True, cwd=folder)
    site = next((venv / "lib").glob("python*/site-packages"))
    # A path line lends the dependencies, not this environment's own gan_denoise: .pth files of
    # a lent folder are not read.
    (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return venv / "bin", folder


def run(environment, *arguments, **options):
    programs, folder = environment
    return subprocess.run([str(programs / arguments[0]), *arguments[1:]], cwd=folder,
                          capture_output=True, text=True, **options)


def test_every_folder_of_the_package_is_listed():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = set(settings["tool"]["setuptools"]["packages"])
    folders = {".".join(path.parent.relative_to(ROOT).parts)
               for path in (ROOT / "gan_denoise").rglob("__init__.py")}
    assert listed == folders | {"gan_denoise.configs", "gan_denoise.checkpoints"}


def test_the_installed_package_is_the_wheels(environment):
    shown = run(environment, "python", "-c", "import gan_denoise; print(gan_denoise.__file__)")
    assert Path(shown.stdout.strip()).is_relative_to(environment[0].parent)


def test_the_wheel_carries_configs_and_models(environment):
    code = ("from gan_denoise.config import load_config; from gan_denoise import Enhancer; "
            "load_config('real-16k-finetune'); load_config('seeds/hybrid'); "
            "print(Enhancer.load().name)")
    shown = run(environment, "python", "-c", code)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == DEFAULT_MODEL


def test_the_wheel_carries_the_example_recording_and_its_notice(environment):
    code = ("import pathlib, gan_denoise.examples as examples; "
            "print(examples.noisy_speech()); print(examples.clean_speech()); "
            "print(pathlib.Path(examples.__file__).parent / 'NOTICE.md')")
    paths = [Path(line) for line in run(environment, "python", "-c", code).stdout.splitlines()]
    assert len(paths) == 3
    for path in paths:
        assert path.is_relative_to(environment[0].parent)
        assert path.is_file()
    assert "CMU AN4" in paths[2].read_text(encoding="utf-8")


def test_the_wheel_denoises_a_file(environment):
    folder = environment[1]
    time = np.arange(24000) / 16000
    noise = np.random.default_rng(0).standard_normal(24000)
    recording = 0.2 * np.sin(2 * np.pi * 220 * time) * (time > 0.5) + 0.05 * noise
    soundfile.write(folder / "noisy.wav", recording, 16000, subtype="PCM_24")
    done = run(environment, "gan-denoise", "denoise", "noisy.wav", "-o", "cleaned")
    assert done.returncode == 0, done.stderr
    cleaned, rate = soundfile.read(folder / "cleaned" / "noisy.wav")
    assert (rate, len(cleaned)) == (16000, 24000)
    assert soundfile.info(folder / "cleaned" / "noisy.wav").subtype == "PCM_24"
    pause = slice(1000, 7000)  # noise alone
    assert np.std(cleaned[pause]) < 0.5 * np.std(recording[pause])
