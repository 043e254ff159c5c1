"""What README and docs tell their readers to type: blocks of code, and the commands in them."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path
from typing import NamedTuple

import typer

from gan_denoise.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
         *sorted((ROOT / "docs").glob("*.md"))]
COMMAND_LINE = typer.main.get_command(app)
BEFORE = r"(?:[A-Z_]+=\S+ +|taskset -c \d+ +)*"  # what may stand before a program's name


class Command(NamedTuple):
    """A command of this package that a page shows."""

    page: str
    text: str  # from "gan-denoise" on
    environment: tuple[tuple[str, str], ...]  # variables that are set before it
    in_block: bool  # on its own line, not within a sentence


def fences(text: str, *languages: str) -> list[str]:
    """Return the code blocks of some languages; one without a language has the name ""."""
    found = re.findall(r"^( *)```([\w{}-]*)\n(.*?)^\1```$", text, flags=re.M | re.S)
    return [textwrap.dedent(code) for _, language, code in found if language in languages]


def python_blocks(*names: str) -> list[str]:
    """Return the blocks of Python on the pages of some names, or on all."""
    return [block for page in PAGES if page.name in names or not names
            for block in fences(page.read_text(encoding="utf-8"), "python")]


def without_blocks(text: str) -> str:
    """Return a text without its blocks of code."""
    return re.sub(r"^( *)(```|~~~).*?^\1\2$", "", text, flags=re.M | re.S)


def shell_commands(block: str) -> list[list[str]]:
    """Return the words of every command in a block of lines for a shell, comments left out."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
        lexer.whitespace_split = True
        words = list(lexer)
        while words:
            end = words.index("|") if "|" in words else len(words)
            found.append(words[:end])
            words = words[end + 1:]
    return found


def collected() -> list[Command]:
    """Return every command of this package that the pages show, each once a page."""
    found: dict[tuple[str, str], Command] = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = [(words, True) for block in fences(text, "", "sh")
                  for words in shell_commands(block)]
        inline = [(words, False)
                  for code in re.findall(rf"`({BEFORE}gan-denoise [^`]+)`", without_blocks(text))
                  for words in shell_commands(" ".join(code.replace("\\|", "|").split()))]
        for words, in_block in blocks + inline:
            before = re.match(BEFORE, " ".join(words)).group()  # type: ignore[union-attr]
            rest = words[len(before.split()):]
            if rest[:1] == ["gan-denoise"]:
                variables = tuple(re.findall(r"([A-Z_]+)=(\S+)", before))
                command = shlex.join(rest)
                found.setdefault((page.name, command),
                                 Command(page.name, command, variables, in_block))
    return list(found.values())


def other_commands() -> list[tuple[str, list[str]]]:
    """Return (page, words) of the commands of other programs that stand on a line of their own."""
    return [(page.name, words) for page in PAGES
            for block in fences(page.read_text(encoding="utf-8"), "", "sh")
            for words in shell_commands(block)
            if "gan-denoise" not in words and re.match(r"(make|pip|python|tensorboard)$", words[0])]


def parse(words: list[str]) -> dict:
    """Return the values that a verb is given; what it lacks is allowed before a final `...`."""
    verb, *rest = words
    open_ended = rest[-1:] == ["..."] and not "".join(rest[-2:-1]).startswith("--")
    rest = rest[:-1] if open_ended else rest
    command = COMMAND_LINE.commands[verb]  # type: ignore[attr-defined]
    if {"-h", "--help"} & set(rest):
        return {}
    try:
        return command.make_context(verb, rest).params
    except Exception as error:
        if open_ended and type(error).__name__ == "MissingParameter":
            return {}
        raise
