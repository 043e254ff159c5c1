"""The help: verbs in groups, each in one line and with an example; completion of the shell."""

from __future__ import annotations

import re

import pytest
import typer
from command_line import gan_denoise, run_main

from gan_denoise.cli.app import app
from gan_denoise.cli.groups import GROUPS
from gan_denoise.cli.options import SHIPPED_MODELS
from gan_denoise.config import checkpoint_folder
from gan_denoise.config.artifacts import NETWORK
from gan_denoise.inference import DEFAULT_MODEL

NARROW = {"COLUMNS": "80", "TERMINAL_WIDTH": "80"}
VERBS = typer.main.get_command(app).commands


@pytest.fixture(scope="module")
def overview():
    done = gan_denoise("--help", **NARROW)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_verb_has_a_group_and_an_example_of_itself():
    examples = {verb: example for group in GROUPS.values() for verb, example in group.items()}
    assert set(examples) == set(VERBS)
    for verb, example in examples.items():
        assert example.split()[:2] == ["gan-denoise", verb]


def test_groups_stand_in_their_order(overview):
    titles = re.findall(r"^╭─ (\w+) ─", overview, flags=re.M)
    assert titles == ["Options", *GROUPS]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_summary_of_a_verb_is_one_whole_line_at_80_columns(verb, overview):
    summary = VERBS[verb].help.split("\n\n")[0].replace("\n", " ")
    assert summary.endswith(".")
    assert re.search(rf"^│ {verb} +{re.escape(summary)} +│$", overview, flags=re.M)


def test_the_list_of_verbs_is_not_cut(overview):
    assert "…" not in overview
    assert "..." not in overview.replace("[OPTIONS] COMMAND [ARGS]...", "")


@pytest.mark.parametrize(("long", "short"), [
    ("--out", "-o"), ("--model", "-m"), ("--config", "-c"), ("--jobs", "-j")])
def test_an_option_of_several_verbs_has_one_short_name(long, short):
    verbs = {verb: option for verb, command in VERBS.items() for option in command.params
             if {long, short} & set(option.opts)}
    assert len(verbs) >= 3
    assert [verb for verb, option in verbs.items() if not {long, short} <= set(option.opts)] == []


def test_the_help_names_the_shipped_models():
    shipped = sorted(path.parent.name for path in checkpoint_folder().glob(f"*/{NETWORK}"))
    assert SHIPPED_MODELS.replace(f"{DEFAULT_MODEL} (default)", DEFAULT_MODEL) == ", ".join(shipped)
    options = {option.name: option.help for option in VERBS["denoise"].params}
    assert SHIPPED_MODELS in options["model"]


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_the_help_of_a_verb_fits_and_shows_its_example_in_one_line(verb, monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "80")
    code, text, _ = run_main(monkeypatch, capfd, verb, "--help")
    assert code == 0
    lines = [line.rstrip() for line in text.splitlines()]
    (example,) = (group[verb] for group in GROUPS.values() if verb in group)
    assert f" Example: {example}" in lines
    assert max(map(len, lines)) <= 80


def test_no_bracket_of_a_help_text_is_taken_for_markup(monkeypatch, capfd):
    monkeypatch.setenv("COLUMNS", "200")
    _, text, _ = run_main(monkeypatch, capfd, "analyze", "--help")
    assert "^(?P<gender>[fm])" in text


def test_help_needs_no_terminal_that_draws_boxes():
    done = gan_denoise("--help", PYTHONIOENCODING="ascii", **NARROW)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_is_given_a_script_that_asks_this_program(shell):
    # The program asks the shell that it runs in; this variable says to take the name given.
    done = gan_denoise("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0, done.stderr
    assert f"complete_{shell}" in done.stdout


@pytest.mark.parametrize(("words", "completed"), [
    (["fine"], {"finetune"}), ([""], set(VERBS)), (["mix", "--sp"], {"--speech"}),
    (["denoise", "x.wav", "--preset", "a"], {"asr", "archive"}),
])  # fmt: skip
def test_verbs_options_and_choices_are_completed(words, completed, monkeypatch, capfd):
    monkeypatch.setenv("_GAN_DENOISE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("gan-denoise", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    code, text, _ = run_main(monkeypatch, capfd)
    assert code == 0
    assert set(text.split()) == completed
