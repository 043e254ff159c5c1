"""What README and docs say is there: commands, links, Python, the reference of settings.

Every command in them is parsed by the command line itself; test_docs_commands.py runs them.
"""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from pathlib import Path

import pytest
from documented import (
    COMMAND_LINE,
    PAGES,
    ROOT,
    collected,
    other_commands,
    parse,
    python_blocks,
    without_blocks,
)

from gan_denoise.config import find_config, load_config

COMMANDS = [(command.page, command.text, command.in_block) for command in collected()]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"]


# ---- Commands ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("page", "command", "block"), COMMANDS)
def test_a_command_is_one_of_the_command_line(page, command, block):
    words = shlex.split(command)[1:]
    if words in (["..."], ["VERB", "--help"]):
        return
    if words[0].startswith("--"):  # such options act as soon as they are parsed
        assert words[0] in {name for option in COMMAND_LINE.params for name in option.opts}
        return
    if not block and len(words) == 1:  # the name of a verb
        assert words[0] in COMMAND_LINE.commands
        return
    values = parse(words)
    settings = values.get("settings") or ()
    name = values.get("config") or values.get("training") or "base"
    try:
        find_config(name)
    except FileNotFoundError:
        assert name.endswith(".yaml"), f"there is no config {name}"
        name = "base"  # a file of the reader's
    load_config(name, settings)


def test_commands_of_other_programs_name_what_is_there():
    """Targets of make, extras of pip and scripts; the programs themselves are not run."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M)
    found = other_commands()
    assert found
    for _, (program, *rest) in found:
        if program == "make":
            assert rest[0] in targets, rest
        elif program == "pip":
            named = re.search(r"\[(.*)\]", rest[-1])
            assert not named or set(named.group(1).split(",")) <= set(EXTRAS), rest
        elif program == "python":
            assert (ROOT / rest[0]).is_file(), rest


def test_extras_that_are_named_exist():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for named in re.findall(r"pip install [^`\n]*?\[([\w,-]+)\]", text):
            assert set(named.split(",")) <= set(EXTRAS), (page.name, named)


# ---- Python ------------------------------------------------------------------------------------
def test_python_compiles():
    blocks = python_blocks()
    assert len(blocks) >= len(python_blocks("README.md", "python.md")) > 0
    for block in blocks:
        assert compile(block, "block", "exec").co_names


# ---- Links, and what is generated --------------------------------------------------------------
def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_resolve(page):
    text = re.sub(r"\[`[^`]*`\]", "[code]", page.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`]*`", "", without_blocks(text))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_reference_of_settings_is_up_to_date():
    """When this fails: python scripts/config_reference.py."""
    page = runpy.run_path(str(ROOT / "scripts" / "config_reference.py"))["page"]()
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == page


def test_every_setting_says_what_it_means():
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\w+\.\w+` \|.*\| (.*) \|$", text, flags=re.M)
    assert len(rows) > 100
    assert all(rows)


def test_the_tests_that_answers_point_to_are_there():
    text = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    answers = re.split(r"^## ", text, flags=re.M)[1:]
    assert len(answers) == 24  # as many as users' pains
    for answer in answers:
        pointers = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", answer)
        assert pointers, answer
        for path, name in pointers:
            assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8"), name
