"""The package as a library: its public names, no line on stdout or stderr, types."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import tiny_config

import gan_denoise
from gan_denoise.config import dump_config

ROOT = Path(__file__).parents[1]
STRICT = (  # what mypy --strict asks of a module
    "disallow_any_generics", "disallow_subclassing_any", "disallow_untyped_calls",
    "disallow_untyped_defs", "disallow_incomplete_defs", "check_untyped_defs",
    "disallow_untyped_decorators", "warn_unused_ignores", "warn_return_any", "strict_equality",
    "extra_checks",
)
SCRIPT = '''
import json
import sys
from pathlib import Path

from gan_denoise import Enhancer, MixtureSpec, evaluate, export, mix, train
from gan_denoise.config import load_config
from gan_denoise.data.pairs import match_folders


def main(speech: str, noise: str, settings: str, out: Path) -> None:
    rows = mix([speech], [noise], out / "pairs",
               MixtureSpec(16000, [5.0], count=3, seconds=1.0))
    steps: list[int] = []
    result = train(load_config(settings), out / "run",
                   progress=lambda progress: steps.append(progress.step))
    card = export(out / "run", out / "model")
    enhancer = Enhancer.load(out / "model")
    pairs = match_folders(out / "pairs" / "noisy", out / "pairs" / "clean")
    scores = evaluate(pairs, enhancer, jobs=1)
    (out / "seen.json").write_text(json.dumps({
        "mixed": len(rows), "trained": result.step, "steps": steps, "exported": card["steps"],
        "scored": len(scores.names), "si_sdr": scores.mean("model", "si_sdr"),
    }))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
'''


def python(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python without a terminal, and with what a user has in the environment."""
    environment = {name: value for name, value in os.environ.items()
                   if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, env=environment,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)


@pytest.mark.system
def test_the_public_functions_print_nothing(folders, tmp_path):
    import json

    small = {"name": "cnn", "channels": [4]}
    config = tiny_config(generator=small, training={"steps": 3, "validate_every": 2}, data={
        "speech": [str(folders / "speech")], "noise": [str(folders / "noise")], "valid_clips": 2,
        "valid_seconds": 0.5})
    settings, script = tmp_path / "settings.yaml", tmp_path / "script.py"
    settings.write_text(dump_config(config), encoding="utf-8")
    script.write_text(SCRIPT, encoding="utf-8")
    done = python("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; "
                  "runpy.run_path(sys.argv.pop(1), run_name='__main__')",
                  script, folders / "speech", folders / "noise", settings, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert isinstance(seen.pop("si_sdr"), float)
    assert seen == {"mixed": 3, "trained": 3, "steps": [0, 1, 2, 3], "exported": seen["exported"],
                    "scored": 3}
    assert seen["exported"] in (2, 3)


def test_importing_the_package_imports_no_numpy_and_no_keras():
    done = python("-c", "import sys, gan_denoise; "
                  "print([name for name in ('numpy', 'keras', 'tensorflow', 'soundfile') "
                  "if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_every_public_name_is_there_and_no_other():
    for name in gan_denoise.__all__:
        assert getattr(gan_denoise, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'enhancer_'"):
        gan_denoise.enhancer_  # noqa: B018


def test_training_without_tensorflow_says_what_to_install():
    done = python("-c", "import sys; sys.modules['keras'] = None\n"
                  "try:\n    from gan_denoise import train\n"
                  "except ImportError as error:\n    print(error)")
    assert "pip install 'gan-denoise[train]'" in done.stdout


@pytest.mark.system
def test_types_of_the_public_surface_and_of_a_users_script(tmp_path, pytestconfig):
    pytest.importorskip("mypy")
    assert (Path(gan_denoise.__file__).parent / "py.typed").is_file()
    script = tmp_path / "users_script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    files = [ROOT / name for name in settings.pop("files")]
    ini = configparser.ConfigParser()
    ini["mypy"] = {name: str(value) for name, value in settings.items()}
    imported = "gan_denoise,gan_denoise.config,gan_denoise.data.pairs"  # by the script
    ini[f"mypy-{imported}"] = {"implicit_reexport": "False"}
    ini[f"mypy-{script.stem}"] = dict.fromkeys(STRICT, "True")
    config = tmp_path / "mypy.ini"
    with open(config, "w", encoding="utf-8") as file:
        ini.write(file)
    # What mypy knows of the libraries is kept until they change: from nothing it takes 15 s.
    done = python("-m", "mypy", "--config-file", config, "--cache-dir",
                  pytestconfig.cache.mkdir("mypy"), *files, script)
    assert done.returncode == 0, done.stdout
