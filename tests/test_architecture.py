"""The package reads from left to right: who may import whom, how long a function is, what is said.

What a folder imports is read from the syntax tree, imports inside functions included.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gan_denoise"
# A folder imports from those to its left, from itself, and of one group only from itself.
ORDER = (
    {"core", "examples"}, {"metrics"}, {"config", "audio"}, {"dsp"},
    {"reports", "data", "models", "inference"},
    {"inspection", "training", "evaluation"}, {"tuning", "exporting"}, {"recipes"}, {"pages"},
    {"cli"},
)  # fmt: skip
RANK = {folder: rank for rank, folders in enumerate(ORDER) for folder in folders}
WITHOUT_KERAS = ("core", "metrics", "config", "audio", "dsp", "inference")
KERAS = {"tensorflow", "keras", "librosa"}
# They say that they are of Keras, and `native_libraries` is what loads TensorFlow for others.
KERAS_FILES = {"dsp/keras_mel.py", "dsp/keras_bounds.py", "core/native_libraries.py"}
LONGEST = 60  # lines of a function
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> list[str]:
    """Return the full names of all modules that a file imports, and of what it takes from them."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def folder_of(path: Path) -> str:
    """Return the folder of the package that a file lies in; empty for the package's own."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def module_of(path: Path) -> str:
    """Return a file's module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_folder_has_its_place():
    assert {folder_of(path) for path in FILES} - {""} == set(RANK)


def test_imports_point_from_right_to_left():
    against = []
    for path in FILES:
        own = folder_of(path)
        for name in imports(path):
            other = name.split(".")[1] if name.startswith("gan_denoise.") else ""
            if own and other in RANK and own != other and RANK[other] >= RANK[own]:
                against.append(f"{path.relative_to(ROOT)} imports {name}")
    assert against == []


def test_no_module_reaches_itself():
    modules = {module_of(path): path for path in FILES}
    edges = {}
    for module, path in modules.items():
        # A package hands on names of its modules; that closes no circle.
        named = {max((m for m in modules if f"{name}.".startswith(f"{m}.")), key=len, default="")
                 for name in imports(path) if name.startswith("gan_denoise.")}
        edges[module] = named - {module, ""} - {m for m, p in modules.items()
                                                if p.name == "__init__.py"}
    reached: dict[str, int] = {}

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module):], module))
        if module not in reached:
            for other in sorted(edges[module]):
                visit(other, (*above, module))
            reached[module] = 1

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("folder", WITHOUT_KERAS)
def test_inference_and_what_it_needs_name_no_training_library(folder):
    for path in (PACKAGE / folder).rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() not in KERAS_FILES:
            assert not {name.split(".")[0] for name in imports(path)} & (KERAS - {"librosa"}), path


def test_a_process_that_denoises_loads_no_training_library():
    code = ("import sys, gan_denoise; gan_denoise.Enhancer\n"
            "import gan_denoise.inference.folder, gan_denoise.inference.pipe, gan_denoise.config\n"
            f"print(sorted({KERAS!r} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_functions_can_be_read_at_once():
    long = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = node.end_lineno - node.lineno + 1
                if lines > LONGEST:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert long == []


def test_every_module_and_public_name_says_what_it_is():
    silent = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [tree, *(node for node in tree.body
                         if isinstance(node, (ast.FunctionDef, ast.ClassDef))
                         and not node.name.startswith("_"))]
        silent += [f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}"
                   for node in nodes if not ast.get_docstring(node)]
    assert silent == []


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    declared = {re.split(r"[\[<>=; ]", line)[0].lower().replace("_", "-") for line in wanted}
    packages = metadata.packages_distributions()
    others = [path for folder in ("tests", "scripts") for path in (ROOT / folder).rglob("*.py")]
    # JAX comes with the machine whose GPU it knows.
    ours = {"gan_denoise", "jax", *(path.stem for path in others)}
    undeclared = {}
    for path in [*FILES, *others]:
        for name in imports(path):
            top = name.split(".")[0]
            if top in sys.stdlib_module_names or top in ours:
                continue
            known = {dist.lower().replace("_", "-") for dist in packages.get(top, [top])}
            # One library of two builds, and the pieces that a declared one is made of.
            known |= {"tensorflow-cpu"} if top == "tensorflow" else set()
            if not known & declared:
                undeclared[top] = path.relative_to(ROOT).as_posix()
    assert undeclared == {}


def test_the_readme_has_every_folder():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)/` \|", text, flags=re.M)
    assert rows == [
        "core", "examples", "metrics", "config", "audio", "dsp", "reports", "data", "models",
        "inference", "inspection", "training", "evaluation", "tuning", "exporting", "recipes",
        "pages", "cli",
    ]  # fmt: skip
