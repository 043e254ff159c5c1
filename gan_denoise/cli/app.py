"""The command line `gan-denoise`: its verbs, and how it ends.

Results go to stdout, logs and progress to stderr. Exit code 0: all done; 1: some files failed, or
the results could not be printed; 2: the command cannot be done as given; 130: Ctrl-C; 143: SIGTERM;
129: SIGHUP. Verbs import what they need themselves, so that help comes quickly.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gan_denoise.cli import data, denoise, evaluation, models, plot, recipes, serve, training
from gan_denoise.cli.console import print_line, print_text
from gan_denoise.cli.groups import GROUPS
from gan_denoise.cli.options import FAILED, USAGE
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.memory import collect_seldom
from gan_denoise.core.standard_streams import OUTPUT, TolerantStream, reason, tolerant_streams
from gan_denoise.core.termination import ending_signal, raised_as_exceptions
from gan_denoise.core.text import escape_text
from gan_denoise.core.user_folders import settle_libraries

INTERRUPTED = 128 + signal.SIGINT  # exit code
PROGRAM = "gan-denoise"



def unwrap(text: str) -> str:
    """Return a text whose paragraphs are a line each: the help wraps them to the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def ended_by_signals(verb: Callable[..., None]) -> Callable[..., None]:
    """Return a verb that ends by the exit code of the signal; Typer's is always that of Ctrl-C."""
    @functools.wraps(verb)
    def ended(*args: Any, **options: Any) -> None:
        try:
            with raised_as_exceptions():  # before and after it there is nothing to save or remove
                verb(*args, **options)
        except KeyboardInterrupt as error:
            raise typer.Exit(_interrupted(error)) from None

    return ended


app = typer.Typer(
    no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Train an adversarial speech denoiser on your own recordings, measure it, and "
         "denoise folders of audio.",
    epilog="gan-denoise VERB --help says more of a verb, with an example.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_verbs = {verb.__name__: verb
          for module in (denoise, data, training, models, evaluation, plot, recipes, serve)
          for verb in module.VERBS}
for _group, _examples in GROUPS.items():  # the order of the help
    for _name, _example in _examples.items():
        _verb = _verbs.pop(_name)
        app.command(rich_help_panel=_group, help=unwrap(inspect.getdoc(_verb) or ""),
                    epilog=f"Example: {_example}")(ended_by_signals(_verb))
assert not _verbs, f"cli/groups.py has no group for {', '.join(_verbs)}"


@app.callback(invoke_without_command=True)
def _options(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    if version:
        from gan_denoise import __version__

        print_text(__version__)
        raise typer.Exit()


def main(*arguments: str) -> None:
    """Run the command line and exit.

    Args:
        *arguments: Arguments that come before those of the process.
    """
    collect_seldom()
    with tolerant_streams() as output:
        code = run([*arguments, *sys.argv[1:]], output)
        output.flush()
        if output.error is not None:
            code = code or FAILED
            if output.error.errno != errno.EPIPE:  # then its reader needs no more
                print_line(f"error: standard output: {reason(output.error)}; what was done is "
                           "kept, what was to be printed is lost", stderr=True)
    sys.exit(code)


def run(arguments: list[str], output: TolerantStream) -> int:
    """Run one verb, print the error that ends it, and return the exit code.

    Args:
        arguments: The verb and its arguments.
        output: Standard output.

    Raises:
        Exception: What is neither a `GanDenoiseError` nor an `OSError` is a fault of the program,
            whose traceback should be seen.
    """
    settle_libraries()
    try:
        return app(args=arguments, prog_name=PROGRAM, standalone_mode=False) or 0
    except KeyboardInterrupt as error:
        return _interrupted(error)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else FAILED
    except BrokenPipeError:  # the reader of standard output needs no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), OUTPUT)
        return FAILED
    except GanDenoiseError as error:
        print_text(f"error: {error}", stderr=True)
        return error.exit_code
    except OSError as error:
        return _end_by(error, output)
    except Exception as error:
        if not (hasattr(error, "show") and hasattr(error, "message")):
            raise
        error.message = escape_text(str(error.message))  # Typer's, on an option or argument
        error.show()
        return getattr(error, "exit_code", USAGE)


def _interrupted(error: KeyboardInterrupt) -> int:
    """Print what ended the command, unless it was Ctrl-C, and return the exit code."""
    number = ending_signal(error)
    if number != signal.SIGINT:
        print_line(f"error: stopped by {signal.Signals(number).name}", stderr=True)
    return 128 + number


def _end_by(error: OSError, output: TolerantStream) -> int:
    """Print an error of the operating system and return the exit code."""
    if error.filename is not None:
        line = f"{error.filename}: {error.strerror}; check the path and its permissions"
    elif error.errno is not None:  # of no file, so of a stream
        output.flush()
        if output.error is None:  # else it is standard output, and `main` prints it
            print_line(f"error: standard input or output: {reason(error)}", stderr=True)
        return FAILED
    else:
        line = str(error)
    print_text(f"error: {line}", stderr=True)
    return USAGE
