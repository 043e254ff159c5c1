"""What the lines of the journals of a folder say of its files, in whatever order they are read.

The newest line of a file holds, by the time in it. Lines of version 0.1 have none: they are older
than all that have one, and follow each other as in their journal.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gan_denoise.core.checksums import unsealed
from gan_denoise.core.json_text import parse_json

_SETTLED = math.inf  # the time of what is settled: later than that of any line


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest line of a target.

    Attributes:
        state: `begun`, `done` or `failed`.
        time: When it was written: seconds since 1970.
        outputs: Sizes in bytes by name; zeros while the work is not done.
        host: The machine that wrote it.
        input: Digest of the input's content; None while the work is not done.
        settings: Digest of `Enhancer.settings`.
        figures: What `FileResult.figures` returned.
    """

    state: str
    time: float
    outputs: Mapping[str, int]
    host: str
    input: str | None = None
    settings: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


class Entries:
    """What is known of each file, by the lines taken so far.

    Attributes:
        newest: The time of the newest line.
    """

    def __init__(self) -> None:
        self.newest = 0.0
        self._entries: dict[str, Entry] = {}  # by target
        self._written: dict[str, float] = {}  # time of the newest line that claims an output
        self._gone: dict[str, float] = {}  # and of the newest that gives it up
        self._begun: dict[tuple[str, str], Entry] = {}  # by journal and target: not ended there
        self._abandoned: list[Entry] = []  # begun, and begun again: a worker was lost amid them

    def take(self, line: bytes, journal: str, number: int) -> None:
        """Take in a line; one that is torn or unknown is passed over.

        Args:
            line: The line.
            journal: Name of its journal; the lines of one come in their order.
            number: The line's number there.
        """
        try:
            values = unsealed(parse_json(line), journal)
            target, entry = str(values["target"]), _entry(values, float(number))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return
        self.newest = max(self.newest, entry.time)
        before = self._entries.get(target)
        if self._written.get(target) != _SETTLED and (before is None or before.time <= entry.time):
            self._entries[target] = entry
        claims = self._gone if entry.state == "failed" else self._written
        for name in entry.outputs:
            claims[name] = max(claims.get(name, 0.0), entry.time)
        unfinished = self._begun.pop((journal, target), None)
        if entry.state == "begun":
            self._begun[journal, target] = entry
            if unfinished is not None:
                self._abandoned.append(unfinished)

    def settle(self, target: str) -> None:
        """Keep no more of a target than that it was written: nothing else will be asked of it.

        A run over a million files would hold all their figures to its end.
        """
        self._entries.pop(target, None)
        self._written[target] = _SETTLED

    def knows(self, output: str) -> bool:
        """Return whether an output was written here, or may have been."""
        written = self._written.get(output)
        return written is not None and written > self._gone.get(output, -1.0)

    def entry(self, target: str) -> Entry | None:
        """Return the newest line of a target; None where there is none, or it failed."""
        entry = self._entries.get(target)
        return None if entry is None or entry.state == "failed" else entry

    def unfinished(self) -> Iterator[Entry]:
        """Yield what was begun, and not ended by whoever began it."""
        yield from self._begun.values()
        yield from self._abandoned


def _entry(values: Mapping[str, Any], age: float) -> Entry:
    """Return a line's entry; `age`: its time, if it has none.

    Raises:
        ValueError: When the line says nothing; KeyError, TypeError, AttributeError, OverflowError
            too.
    """
    state = values["state"]
    if state not in ("begun", "done", "failed"):
        raise ValueError(state)
    time = float(values.get("time", age))
    if not math.isfinite(time):
        raise ValueError(time)
    entry = Entry(state, time, {str(name): int(size) for name, size in values["outputs"].items()},
                  sys.intern(str(values["host"])))
    if state != "done":
        return entry
    return replace(entry, input=str(values["input"]), settings=sys.intern(str(values["settings"])),
                   figures={sys.intern(str(name)): value
                            for name, value in values["figures"].items()})
