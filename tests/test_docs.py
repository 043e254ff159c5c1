"""What README and docs say works: commands, links, Python, the reference of settings.

Every `gan-denoise ...` in them is parsed by the command line itself; those that are cheap are run,
page by page, in a folder of made-up recordings.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import textwrap
from pathlib import Path

import pytest
import soundfile
import typer

from gan_denoise import examples
from gan_denoise.cli.app import app, run
from gan_denoise.config import checkpoint_folder, find_config, load_config
from gan_denoise.core.standard_streams import tolerant_streams
from gan_denoise.data import synthetic_audio

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md",
         *sorted((ROOT / "docs").glob("*.md"))]
COMMAND_LINE = typer.main.get_command(app)
RATE = 16000

# What is parsed and not run: verbs, pages, and single commands by what they begin with.
VERBS_PARSED = {
    "pretrain": "trains", "finetune": "trains", "tune": "trains", "demo": "trains",
    "seeds": "trains", "bench": "measures this machine for a minute", "serve": "never ends",
    "export": "needs a run", "plot": "needs a run", "features": "loads TensorFlow",
    "rooms": "simulates a hundred rooms", "explore": "draws for long; see cli/test_explore.py",
}
PAGES_PARSED = {
    "results.md": "the recordings of the benchmark", "experiments.md": "the same",
    "seeds.md": "the same", "performance.md": "the same, and tools of one system",
    "configuration.md": "trains", "finetune.md": "as in README",
    "extend.md": "run by test_extend.py",
}
COMMANDS_PARSED = {
    "gan-denoise --install-completion": "changes the user's shell",
    "gan-denoise --show-completion": "asks which shell it runs in; see cli/test_help.py",
    "gan-denoise denoise - -o -": "stands between two ffmpeg",
    "gan-denoise denoise talk.mp4": "needs a video; see inference/test_recordings.py",
    "gan-denoise evaluate -m my-model --features": "needs features",
    "gan-denoise mix --speech AudioMNIST/data": "needs AudioMNIST",
    "gan-denoise evaluate --noisy digits/noisy": "needs AudioMNIST",
    "gan-denoise analyze scores": "needs AudioMNIST, or speakers of known gender",
    "gan-denoise mix --speech my/test-speech --noise my/test-noise --rir": "needs rooms",
}


# ---- What is said ------------------------------------------------------------------------------
def fences(text: str, *languages: str) -> list[str]:
    """Return the code blocks of some languages; one without a language has the name ""."""
    found = re.findall(r"^( *)```([\w{}-]*)\n(.*?)^\1```$", text, flags=re.M | re.S)
    return [textwrap.dedent(code) for _, language, code in found if language in languages]


def without_code(text: str) -> str:
    """Return a text without its blocks of code and code within lines."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`]*`", "", text)


def commands_of(block: str) -> list[list[str]]:
    """Return the words of every `gan-denoise` command in a block of shell commands."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", block).splitlines():
        if "gan-denoise" not in line:
            continue
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
        lexer.whitespace_split = True
        words = list(lexer)
        while words:
            end = words.index("|") if "|" in words else len(words)
            part, words = words[:end], words[end + 1:]
            while part and re.match(r"[A-Z_]+=", part[0]):
                part.pop(0)
            if part and part[0] == "gan-denoise":
                found.append(part)
    return found


def collected() -> list[tuple[str, str, bool]]:
    """Return (page, command, whether it stands in a block) of all commands that are said."""
    found = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in fences(text, "", "sh"):
            for words in commands_of(block):
                found.setdefault((page.name, shlex.join(words)), True)
        for code in re.findall(r"`(gan-denoise [^`]+)`", re.sub(r"^ *```.*?```", "", text,
                                                                flags=re.M | re.S)):
            for words in commands_of(" ".join(code.replace("\\|", "|").split())):
                found.setdefault((page.name, shlex.join(words)), False)
    return [(page, command, block) for (page, command), block in found.items()]


COMMANDS = collected()


def parse(words: list[str]) -> dict:
    """Return the values that a verb is given; what it lacks is allowed before a final `...`."""
    verb, *rest = words
    open_ended = rest[-1:] == ["..."] and not "".join(rest[-2:-1]).startswith("--")
    rest = rest[:-1] if open_ended else rest
    command = COMMAND_LINE.commands[verb]
    if {"-h", "--help"} & set(rest):
        return {}
    try:
        return command.make_context(verb, rest).params
    except Exception as error:
        if open_ended and type(error).__name__ == "MissingParameter":
            return {}
        raise


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


def test_what_is_not_run_is_still_said():
    verbs = {shlex.split(command)[1] for _, command, _ in COMMANDS}
    assert set(VERBS_PARSED) <= verbs | set(COMMAND_LINE.commands)
    assert set(PAGES_PARSED) <= {page for page, _, _ in COMMANDS}
    for start in COMMANDS_PARSED:
        assert any(command.startswith(start) for _, command, _ in COMMANDS), start


def is_run(page: str, command: str) -> bool:
    """Return whether a command is cheap enough, and has what it needs here."""
    return not (page in PAGES_PARSED or shlex.split(command)[1] in VERBS_PARSED
                or any(command.startswith(start) for start in COMMANDS_PARSED))


RUN = [(page, command) for page, command, block in COMMANDS if block and is_run(page, command)]


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    """A folder with recordings and a model under the names that the pages use."""
    folder = tmp_path_factory.mktemp("docs")
    for name, speakers in (("my/speech", 3), ("my/test-speech", 2), ("my/voice", 1)):
        for speaker in range(speakers):
            _write(folder / name / f"s{speaker}" / "a.wav",
                   0.5 * synthetic_audio.voice(speaker, 1.5, seed=speaker))
    for name in ("my/noise", "my/test-noise"):
        _write(folder / name / "fan.wav", 0.2 * synthetic_audio.noise("fan", 2.0, 1))
    noisy = 0.5 * synthetic_audio.voice(1, 1.2, 1) + 0.1 * synthetic_audio.noise("fan", 1.2, 2)
    for name in ("recordings/a.wav", "recordings/b/c.flac", "interview.wav", "podcast.mp3",
                 "noisy.wav"):
        _write(folder / name, noisy)
    shutil.copy(folder / "podcast.mp3", folder / "memo.m4a")  # its content says what it is
    shutil.copytree(checkpoint_folder() / "hush", folder / "my-model")
    shutil.copytree(examples.noisy_speech().parent, folder / "gan_denoise" / "examples")
    return folder


def _write(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)


@pytest.mark.parametrize("page", sorted({page for page, _ in RUN}))
def test_the_commands_of_a_page_run_one_after_the_other(page, material, tmp_path, monkeypatch):
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for command in (command for where, command in RUN if where == page):
        with tolerant_streams() as output:
            assert run(shlex.split(command)[1:], output) == 0, command


# ---- Python ------------------------------------------------------------------------------------
def python_blocks(*names: str) -> list[str]:
    return [block for page in PAGES if page.name in names or not names
            for block in fences(page.read_text(encoding="utf-8"), "python")]


def test_python_compiles():
    blocks = python_blocks()
    assert len(blocks) >= len(python_blocks("README.md", "python.md")) > 0
    for block in blocks:
        assert compile(block, "block", "exec").co_names


def test_python_that_does_not_train_runs(material, tmp_path, monkeypatch):
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in python_blocks("README.md", "python.md") if "train(" not in block]
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, "block", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "clean.wav").is_file()
    assert (tmp_path / "gentle" / "noisy.wav").is_file()


# ---- Links, and what is generated --------------------------------------------------------------
def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.+?) *$", text, flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_repository_resolve(page):
    text = without_code(re.sub(r"\[`[^`]*`\]", "[code]", page.read_text(encoding="utf-8")))
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
