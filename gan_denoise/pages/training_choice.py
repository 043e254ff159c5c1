"""What the training tab lets a visitor choose, and what a choice means as a command.

Folders are chosen by the names under which the server lists them, configs and models by theirs: a
path from a browser is none of them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeGuard, TypeVar

from gan_denoise.audio.file_search import is_audio_suffix
from gan_denoise.config import load_config
from gan_denoise.config.saved import finetune_config
from gan_denoise.config.schema import Config
from gan_denoise.config.shipped import config_folder
from gan_denoise.pages.settings import ServeError

Kind = Literal["pretrain", "finetune"]
Name = TypeVar("Name", bound=str)
LISTED_FOLDERS, LISTED_DEPTH = 500, 6
LONGEST_MINUTES = 7 * 24 * 60
MOST_STEPS = 10**7
_MINUTES = f"minutes: a number above 0, at most {LONGEST_MINUTES}"
EXPORTED = "models"  # folder of exported models, beside the runs
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
# The keys that a choice fills with folders, and whether they take several.
SOURCES = {"mix": {"speech": True, "noise": True}, "pairs": {"noisy": False, "clean": False}}


@dataclass(frozen=True)
class Choice:
    """A new training run.

    Attributes:
        run: Its directory.
        kind: `pretrain` or `finetune`.
        config: Name of a shipped config.
        settings: `section.key=value`, as on the command line.
        init: Run or model that fine-tuning starts from.
    """

    run: Path
    kind: Kind
    config: str
    settings: tuple[str, ...]
    init: Path | None = None

    def load(self) -> Config:
        """Return the settings of the run.

        Raises:
            ConfigError: When they do not fit each other.
        """
        if self.init is None:
            return load_config(self.config, self.settings)
        return finetune_config(self.config, self.settings, self.init)

    @property
    def command(self) -> str:
        """The command that trains the same."""
        init = [] if self.init is None else ["--init", str(self.init)]
        return shlex.join(["gan-denoise", self.kind, "--config", self.config,
                           "--run", str(self.run), *init, *self.settings])


def list_folders(roots: Sequence[Path]) -> dict[str, tuple[Path, int]]:
    """Return the folders with audio beneath some roots: `{name: (path, number of files)}`.

    A name is that of the root and the path below it. Symbolic links to folders are not followed,
    so nothing outside the roots is listed.
    """
    found: dict[str, tuple[Path, int]] = {}
    for number, root in enumerate(roots, start=1):
        taken = any(other.name == root.name for other in roots[: number - 1])
        label = f"{root.name or 'root'}{f' ({number})' if taken else ''}"
        counts: dict[Path, int] = {}
        for place, folders, files in os.walk(root):
            path = Path(place)
            depth = len(path.relative_to(root).parts)
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if depth >= LISTED_DEPTH or len(counts) >= LISTED_FOLDERS:
                folders.clear()
            own = sum(is_audio_suffix(Path(name).suffix) for name in files)
            counts[path] = own
            for parent in path.parents:
                if parent not in counts:
                    break
                counts[parent] += own
        found |= {"/".join((label, *path.relative_to(root).parts)): (path, count)
                  for path, count in counts.items() if count}
    return found


def list_configs() -> dict[Kind, list[str]]:
    """Return the shipped configs by the verb that the comment at their head gives them to."""
    configs: dict[Kind, list[str]] = {"pretrain": [], "finetune": []}
    for path in sorted(config_folder().glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        for kind, names in configs.items():
            if re.search(rf"^#.*gan-denoise {kind} --config {path.stem}\b", text, re.MULTILINE):
                names.append(path.stem)
    return configs


def parse_choice(
    values: Mapping[str, object], roots: Sequence[Path], sources: Mapping[str, Path], runs: Path
) -> Choice:
    """Return the run that a visitor asks for.

    Args:
        values: `name` of the run, `kind`, `config`, `data` (`mix` or `pairs`), the folders of its
            keys by their names, `init` of a fine-tuning run, and `minutes` or `steps`; without
            either, as long as the config says.
        roots: Folders beneath which recordings may be used.
        sources: Models and runs that fine-tuning may start from, by name.
        runs: Folder of all runs.

    Raises:
        ServeError: When something is missing, unknown or out of range.
    """
    name = str(values.get("name", ""))
    if not RUN_NAME.fullmatch(name) or name == EXPORTED:
        raise ServeError("the name of a run has letters, digits, - and _, at most 60",
                         "give another name")
    if (runs / name).exists():
        raise ServeError(f"there is a run {name!r} already", "resume it, or give another name")
    kind = _one_of("kind", values.get("kind"), list_configs())
    config = _one_of("config", values.get("config"), list_configs()[kind])
    source = _one_of("data", values.get("data"), SOURCES)
    init = None
    if kind == "finetune":
        init = sources[_one_of("model to start from", values.get("init"), sources)]
    folders = list_folders(roots)
    settings = []
    for key, several in SOURCES[source].items():
        chosen = values.get(key) or []
        if not isinstance(chosen, list) or not chosen or (len(chosen) > 1 and not several):
            raise ServeError(f"choose {'at least one folder' if several else 'one folder'} of "
                             f"{key}")
        paths = [str(folders[_one_of(f"folder of {key}", each, folders)][0]) for each in chosen]
        listed = several and len(paths) > 1
        settings.append(f"data.{key}=" + (json.dumps(paths, ensure_ascii=False) if listed
                                          else paths[0]))
    return Choice(runs / name, kind, config, (*settings, *_length(values)), init)


def more_steps(minutes: object, step: int, seconds: float) -> int:
    """Return how many steps a run does in some more minutes, at the speed that it has had.

    Args:
        minutes: As the visitor gives it.
        step: Steps that the run has done.
        seconds: Time that they took.

    Raises:
        ServeError: When the minutes are out of range, or the run has no speed yet.
    """
    if not _within(minutes, LONGEST_MINUTES):
        raise ServeError(_MINUTES)
    if not step or not seconds:
        raise ServeError("the run has not trained yet", "resume it")
    return min(max(1, round(60 * minutes * step / seconds)), MOST_STEPS)


def _length(values: Mapping[str, object]) -> list[str]:
    minutes, steps = values.get("minutes"), values.get("steps")
    if minutes is not None and not _within(minutes, LONGEST_MINUTES):
        raise ServeError(_MINUTES)
    if steps is not None and not (isinstance(steps, int) and _within(steps, MOST_STEPS)):
        raise ServeError(f"steps: a whole number above 0, at most {MOST_STEPS:,}")
    if minutes is None and steps is None:
        return []
    return [f"training.minutes={'null' if minutes is None else f'{minutes:g}'}",
            f"training.steps={'null' if steps is None else steps}"]


def _within(value: object, most: float) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= most


def _one_of(what: str, value: object, known: Collection[Name]) -> Name:
    for name in known:
        if name == value:
            return name
    raise ServeError(f"there is no {what} {value!r}", f"take one of {', '.join(known)}"
                     if len(known) <= 12 else "choose one that the page lists")
