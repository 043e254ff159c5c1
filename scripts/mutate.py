"""Mutation tests: how many small faults put into a module are noticed by its tests.

    python scripts/mutate.py [MODULE...] --out build/mutation

Works on a copy of the tree. A mutant is run by the tests that reach its statement, the fastest
first, until one fails; those that start processes come last. What does not import the module is
imported once, and each mutant is a fork of that process: with TensorFlow, too, it takes less than a
second and the time of its tests. (mutmut and cosmic-ray import anew for each, ten seconds with
TensorFlow; mutmut leaves out methods with decorators and all outside of functions.) Survivors are
printed, and all results are in OUT/results.json; `--again` runs the survivors of that file only.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import coverage
import hypothesis
import pytest
from mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[1]
METRICS = tuple(f"gan_denoise/metrics/{name}.py" for name in (
    "baselines", "blockwise", "correlation", "mel", "perceptual", "registry", "signal_files",
    "stoi_blocks", "waveform"))
JOURNAL = tuple(f"gan_denoise/inference/{name}.py" for name in (
    "folder_journal", "journal_entries", "journal_files"))
GROUPS = (  # modules, and the tests that are to notice their faults
    (METRICS, ("tests/metrics",)),
    (tuple(f"gan_denoise/data/{name}.py" for name in ("mixing", "augment", "channel")),
     ("tests/data/test_mixing.py", "tests/data/test_augment.py", "tests/data/test_channel.py")),
    (("gan_denoise/dsp/inversion.py",), ("tests/dsp/test_inversion.py",)),
    (JOURNAL, tuple(f"tests/inference/test_{name}.py" for name in (
        "folder_journal", "journal_files", "journal_names"))),
    (("gan_denoise/training/losses.py",), ("tests/training/test_losses.py",)),
)
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider",
           "-p", "no:unraisableexception")  # which collects all garbage, twice
BYTES = 8 * 2**30  # of one mutant
CONTROLS = 5  # tests that have to pass on an unchanged module that is imported anew
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


class Test(NamedTuple):
    """What a test took, and whether it started processes."""

    seconds: float
    processes: bool


class Reach(NamedTuple):
    """The tests of a group, by name; and of each module the names by line ("" is its import)."""

    tests: dict[str, Test]
    lines: dict[str, dict[int, list[str]]]

    def of(self, path: str, mutant: Mutant) -> list[str]:
        """Return the tests that reach a mutant, the fastest first, those with processes last.

        Of what runs at import these are all: who reads a constant reaches no line of its module.
        """
        lines = self.lines.get(path, {})
        first, last = mutant.lines
        names = {name for line in range(first, last + 1) for name in lines.get(line, ())}
        if "" in names:
            names = set(self.tests)
        names |= {name for name, test in self.tests.items() if test.processes}
        return sorted(names & self.tests.keys(),
                      key=lambda name: (self.tests[name].processes, self.tests[name].seconds))


class Recorder:
    """A plugin of pytest that notes the seconds of each test and what it reaches."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self._measured, self._popen, self.tests = measured, False, {}
        sys.addaudithook(self._audit)

    def _audit(self, event: str, _: tuple) -> None:
        self._popen |= event == "subprocess.Popen"

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        self._measured.switch_context(item.nodeid)
        self._popen, began = False, time.monotonic()
        result = yield
        self.tests[item.nodeid] = time.monotonic() - began, self._popen
        return result


def copy_tree(folder: Path) -> None:
    """Copy what git tracks or would track."""
    names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                           cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)


def forked(work: Callable[[], int], timeout: float) -> int | None:
    """Return the exit code of work in a fork of this process; None where it took too long."""
    child = os.fork()
    if not child:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        silence = os.open(os.devnull, os.O_RDWR)
        for handle in (0, 1, 2):
            os.dup2(silence, handle)
        code = 70
        try:
            code = int(work())
        finally:
            os._exit(code)
    ends = time.monotonic() + timeout
    status = 0
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # and what it started
    if time.monotonic() >= ends and not done:
        os.waitpid(child, 0)
        return None
    return os.waitstatus_to_exitcode(status)


def preload(tests: Sequence[str], scratch: Path) -> None:
    """Import what the tests import, themselves left out."""
    def list_modules() -> int:
        code = pytest.main([*OPTIONS, "--collect-only", *tests])
        own = str(Path("tests").absolute())
        names = [name for name, module in sys.modules.items() if not (
            getattr(module, "__file__", None) or "/").startswith(own)]
        scratch.write_text(json.dumps(names))
        return code

    if forked(list_modules, 600):
        raise SystemExit(f"{' '.join(tests)}: cannot be collected")
    for name in json.loads(scratch.read_text()):
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    gc.freeze()  # shared with the forks


def dependents(path: str) -> set[str]:
    """Return the names of a module of the package and of those loaded that import it."""
    imports = {name: set(_imports(Path(module.__file__))) for name, module in sys.modules.items()
               if name.partition(".")[0] == "gan_denoise" and getattr(module, "__file__", None)}
    found, more = set(), {path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")}
    while more:
        found |= more
        more = {name for name, imported in imports.items() if imported & found} - found
    return found


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def reach(modules: Sequence[str], tests: Sequence[str], scratch: Path) -> Reach:
    """Run the tests once without a fault."""
    def measure() -> int:
        measured = coverage.Coverage(data_file=None, include=list(modules), config_file=False)
        recorder = Recorder(measured)
        forget({name for name in sys.modules if name.startswith("gan_denoise")})
        measured.start()
        code = pytest.main([*OPTIONS, *tests], plugins=[recorder])
        measured.stop()
        data = measured.get_data()
        lines = {path: data.contexts_by_lineno(os.path.abspath(path)) for path in modules}
        scratch.write_text(json.dumps({"tests": recorder.tests, "lines": lines}))
        return code

    if forked(measure, 1800):
        raise SystemExit(f"{' '.join(tests)}: fails without a fault")
    found = json.loads(scratch.read_text())
    return Reach({name: Test(*values) for name, values in found["tests"].items()},
                 {path: {int(line): names for line, names in lines.items()}
                  for path, lines in found["lines"].items()})


def forget(modules: set[str]) -> None:
    """Let modules be imported anew."""
    for name in modules & sys.modules.keys():
        del sys.modules[name]
        parent, _, own = name.rpartition(".")
        if parent in sys.modules:  # which would hand it out
            vars(sys.modules[parent]).pop(own, None)


class Module:
    """A module of the copied tree, and the tests that reach its lines."""

    def __init__(self, path: str, reached: Reach) -> None:
        self.path, self.reached, self._file = path, reached, Path(path)
        self.source = self._file.read_text(encoding="utf-8")
        self._stale, self._version = dependents(path), 10**9
        tests = sorted(reached.tests, key=lambda name: reached.tests[name].seconds)[:CONTROLS]
        if self._run(self.source, tests) != SURVIVED:
            # It registers itself somewhere: all is imported anew.
            self._stale = {name for name in sys.modules if name.startswith("gan_denoise")}
            if self._run(self.source, tests) != SURVIVED:
                raise SystemExit(f"{path}: its tests fail without a fault")

    def fate(self, mutant: Mutant) -> tuple[str, int]:
        """Return what becomes of a mutant, and how many tests reach it."""
        names = self.reached.of(self.path, mutant)
        return (self._run(mutant.source, names) if names else SURVIVED), len(names)

    def _run(self, source: str, names: list[str]) -> str:
        def work() -> int:
            forget(self._stale)
            return pytest.main([*OPTIONS, *names])

        self._file.write_text(source, encoding="utf-8")
        self._version += 2  # by which Python tells that its compiled file is of another source
        os.utime(self._file, (self._version, self._version))
        try:
            code = forked(work, 20 + 10 * sum(self.reached.tests[name].seconds for name in names))
        finally:
            self._file.write_text(self.source, encoding="utf-8")
        return TIMED_OUT if code is None else KILLED if code else SURVIVED


def run_group(group: tuple, chosen: Callable[[str], bool], again: set[str] | None,
              scratch: Path) -> Iterator[tuple[str, list[dict]]]:
    """Run the mutants of the chosen modules of a group; yield each module's fates."""
    paths, tests = [path for path in group[0] if chosen(path)], group[1]
    if not paths:
        return
    preload(tests, scratch)
    reached = reach(paths, tests, scratch)
    for path in paths:
        module, results = Module(path, reached), []
        for mutant in mutants(module.source):
            name = f"{path}:{mutant.place}:{mutant.before} -> {mutant.after}"
            if again is not None and name not in again:
                continue
            found, count = module.fate(mutant)
            results.append({"name": name, "line": mutant.lines[0], "tests": count, "fate": found})
            if found == SURVIVED:
                print(f"{path}:{mutant.lines[0]} {mutant.place}: {count} tests\n"
                      f"    {mutant.before}\n    {mutant.after}", flush=True)
        count = [one["fate"] for one in results]
        print(f"== {path}: {len(count)} mutants, {len(count) - count.count(SURVIVED)} killed "
              f"({count.count(TIMED_OUT)} by time)", flush=True)
        yield path, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="part of a module's path; default: all")
    parser.add_argument("--out", type=Path, default=Path("build/mutation"))
    parser.add_argument("--again", action="store_true", help="the survivors of OUT/results.json")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    again = None
    results = out / "results.json"
    if arguments.again:
        again = {one["name"] for fates in json.loads(results.read_text()).values()
                 for one in fates if one["fate"] == SURVIVED}
        results = out / "again.json"
    hypothesis.settings.register_profile(  # a failing example need not be the smallest
        "mutants", phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate), database=None,
        derandomize=True, deadline=None)
    hypothesis.settings.load_profile("mutants")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy_tree(Path(folder) / "tree")
        os.chdir(Path(folder) / "tree")
        sys.path.insert(0, os.getcwd())
        os.environ |= {"PYTHONPATH": os.getcwd(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is compiled is kept in the copy
        sys.dont_write_bytecode = False
        found: dict[str, list[dict]] = {}
        for group in GROUPS:
            for path, fates in run_group(group, lambda path: not arguments.modules or any(
                    part in path for part in arguments.modules), again, Path(folder) / "scratch"):
                found[path] = fates
                results.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
