"""Write the list of the dependencies' licences into docs/licences.md.

`python scripts/licences.py` replaces what is between the marks there. The list is of what is
installed where it runs: `make test` installs all of it. What is declared comes from pyproject.toml,
what that needs in turn, and the licences, from the metadata of the packages.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
MARKS = ("<!-- list -->\n", "<!-- end -->")
EXTRAS = ("train", "metrics", "web", "tune", "rooms", "litert", "wandb", "cluster")
BASE = "default"
# Whose metadata names none, or a file in its place: read from the file of the licence in the wheel.
READ = {"namex": "Apache-2.0", "pyroomacoustics": "MIT"}
SAME = {"tensorflow": "tensorflow-cpu"}  # builds of one library, of which one is installed


def requirements(extra: str) -> list[Requirement]:
    """Return what pyproject.toml declares for an extra, or by default."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = (project["dependencies"] if extra == BASE
              else project["optional-dependencies"][extra])
    return [Requirement(line) for line in listed]


def needed(roots: Iterable[Requirement]) -> dict[str, metadata.Distribution]:
    """Return the installed packages that some need, themselves among them, by name."""
    found: dict[str, metadata.Distribution] = {}
    todo = [(canonicalize_name(root.name), frozenset(root.extras)) for root in roots]
    seen = set()
    while todo:
        name, extras = todo.pop()
        name = SAME.get(name, name)
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            one = Requirement(line)
            if one.marker is None or any(one.marker.evaluate({"extra": extra})
                                         for extra in ("", *extras)):
                todo.append((canonicalize_name(one.name), frozenset(one.extras)))
    return found


def licence(package: metadata.Distribution) -> str:
    """Return the licence of a package: an SPDX expression where it gives one."""
    about = package.metadata
    if expression := about.get("License-Expression"):
        return expression
    if known := READ.get(canonicalize_name(about["Name"])):
        return known
    classes = [line.rsplit(" :: ", 1)[1] for line in about.get_all("Classifier") or ()
               if line.startswith("License :: ") and line.count(" :: ") > 1]
    if classes:
        return ", ".join(sorted(classes))
    text = (about.get("License") or "").strip()
    if not text or len(text) > 60 or "\n" in text:
        raise SystemExit(f"{about['Name']}: no licence in its metadata; read its file, then "
                         "give it in READ")
    return text


def rows() -> list[str]:
    """Return the lines of the table: package, licence, version seen, and who needs it."""
    users: dict[str, list[str]] = {}
    packages: dict[str, metadata.Distribution] = {}
    for extra in (BASE, *EXTRAS):
        for name, package in needed(requirements(extra)).items():
            users.setdefault(name, []).append(extra)
            packages[name] = package
    return ["| package | licence | version seen | for |", "|---|---|---|---|"] + [
        f"| {name} | {licence(packages[name])} | {packages[name].version} | "
        f"{BASE if BASE in users[name] else ', '.join(users[name])} |"
        for name in sorted(packages, key=lambda name: (BASE not in users[name], name))]


def main() -> None:
    """Write the list."""
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    PAGE.write_text(before + MARKS[0] + "\n".join(rows()) + "\n" + MARKS[1] + after,
                    encoding="utf-8")


if __name__ == "__main__":
    main()
