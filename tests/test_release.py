"""What a release says of itself agrees: version, licences, bounds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gan_denoise

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGE = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
TOOLS = {"dev", "docs", "torture"}  # extras that no user needs
ROWS = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \| [^|]+ \| [^|]+ \|$",
                       PAGE.split("|---|---|---|---|\n")[1], re.M))


def declared(tools: bool = False) -> list[Requirement]:
    extras = [lines for extra, lines in PROJECT["optional-dependencies"].items()
              if tools or extra not in TOOLS]
    return [Requirement(line) for lines in (PROJECT["dependencies"], *extras) for line in lines]


def test_the_version_is_one():
    assert gan_denoise.__version__ == PROJECT["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.M).group(1) == PROJECT["version"]


def test_every_dependency_of_a_user_stands_in_the_list_of_licences():
    names = {canonicalize_name(one.name) for one in declared()} - {"tensorflow"}  # tensorflow-cpu
    assert names <= set(ROWS), names - set(ROWS)


def test_every_licence_in_the_list_is_one_that_was_judged():
    """What is not permissive is named above the list, with what to do."""
    permissive = re.compile(
        r"(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|0BSD|Zlib|CC0|CMU|LLVM)", re.I)
    text = PAGE.split("<!-- list -->")[0]
    for name, licence in ROWS.items():
        if re.search(r"GPL|MPL|Mozilla|proprietary", licence):
            assert name in text, f"{name}: {licence}"
        else:
            assert permissive.search(licence), f"{name}: {licence}"


@pytest.mark.parametrize("name", ["numpy", "av", "protobuf", "keras", "pyroomacoustics"])
def test_a_dependency_has_one_lower_bound(name):
    bounds = {str(one.specifier) for one in declared(tools=True) if one.name == name}
    assert len(bounds) == 1


def test_each_python_that_is_named_is_allowed_and_documented():
    pythons = [line.rsplit(" :: ", 1)[1] for line in PROJECT["classifiers"]
               if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", line)]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert pythons[0] == lowest
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    for python in pythons:
        assert python in install
