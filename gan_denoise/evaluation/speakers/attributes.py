"""Attributes of speakers, read from the table of a corpus or from their names.

Tables are written by hand: spellings that differ in case only are unified, ages become bands,
"Europe, Germany, Berlin" becomes a continent and a country, and impossible values become unknown,
with a notice.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.json_text import parse_json
from gan_denoise.evaluation.results import Evaluation

# Years under which a band ends. AudioMNIST's 60 speakers are 22 to 61, half of them 25 to 29 and
# two over 40: decades would put nearly all into one.
_AGE_BANDS = ((25, "under 25"), (30, "25-29"), (40, "30-39"), (121, "40 and over"))
_UNKNOWN = frozenset({"", "-", "?", "n/a", "na", "nan", "none", "null", "unknown"})
# Slips of AudioMNIST's own table: (attribute, as written, lower case) -> as meant.
_MEANT = {
    ("recordingroom", "vr-romm"): "vr-room",
    ("origin", "europe, syria, damascus"): "Asia, Syria, Damascus",
    ("origin", "europe, india, chennai"): "Asia, India, Chennai",
    ("origin", "europe, india, delhi"): "Asia, India, Delhi",
    ("origin", "europe, spanien, mallorca"): "Europe, Spain, Mallorca",
}


class SpeakerError(GanDenoiseError):
    """A table or a pattern says nothing about these speakers."""


@dataclass(frozen=True)
class Speakers:
    """Attributes by speaker.

    Attributes:
        attributes: `{speaker: {attribute: value}}`, without unknown values.
        notices: Lines that a reader must know: corrections, missing speakers.
    """

    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def find(self, speaker: str) -> Mapping[str, str] | None:
        """Return the attributes of a speaker; numbers match with and without leading zeros."""
        if speaker in self.attributes or not speaker.isdecimal():
            return self.attributes.get(speaker)
        same = [name for name in self.attributes
                if name.isdecimal() and name.lstrip("0") == speaker.lstrip("0")]
        return self.attributes[same[0]] if len(same) == 1 else None


def read_speakers(path: str | Path) -> Speakers:
    """Read a table of speakers: AudioMNIST's `audioMNIST_meta.txt`, JSON of its shape, or CSV.

    JSON is `{speaker: {attribute: value}}`; a CSV has a column `speaker`, every other column is an
    attribute. Of these, `age` becomes `age band`, `origin` ("continent, country, place") becomes
    `continent` and `country`, and `native speaker` is called `native`.

    Raises:
        SpeakerError: When the file is neither, cannot be read, or names a speaker twice.
    """
    path = Path(path)
    rows = (_csv_rows if path.suffix.lower() == ".csv" else _json_rows)(path)
    notices: list[str] = []
    table: dict[str, dict[str, str]] = {}
    for speaker, row in rows:
        if not speaker:
            raise SpeakerError(f"{path}: a row has no speaker", "name one, or remove the row")
        if speaker in table:
            raise SpeakerError(f"{path}: speaker {speaker} is there twice", "keep one")
        table[speaker] = {}
        for attribute, value in row:
            if value.casefold() not in _UNKNOWN:
                table[speaker] |= _derived(speaker, attribute, value, notices)
    if not table:
        raise SpeakerError(f"{path}: lists no speaker")
    return Speakers(_one_spelling(table), tuple(notices))


def describe(
    names: Iterable[str], table: str | Path | None = None, patterns: Sequence[str] = ()
) -> Speakers:
    """Return the attributes of some speakers, by the names given here.

    Args:
        names: Names of the speakers in an evaluation.
        table: A file that `read_speakers` reads.
        patterns: Regular expressions with named groups, searched in a speaker's name: each group
            is an attribute. `^(?P<gender>[fm])` reads the gender from the first letter, as in CMU
            AN4. A table takes precedence.

    Raises:
        SpeakerError: When the table knows none of them, or a pattern fits none of them.
    """
    names = list(dict.fromkeys(names))
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for pattern in patterns:
        for name, attributes in _read_names(names, pattern).items():
            found[name] |= attributes
    if table is None:
        return Speakers(found)
    known = read_speakers(table)
    missing = [name for name in names if known.find(name) is None]
    if names and len(missing) == len(names):
        raise SpeakerError(
            f"{table}: knows none of the speakers {_listed(names)}; it names "
            f"{_listed(list(known.attributes))}"
        )
    for name in names:
        found[name] |= known.find(name) or {}
    notices = known.notices
    if missing:
        notices += (f"not in {Path(table).name}: {_listed(missing, 20)}",)
    return Speakers(found, notices)


def name_speakers(evaluation: Evaluation, pattern: str) -> Evaluation:
    """Return an evaluation with speakers read from the names of the files.

    Args:
        evaluation: Rows whose speaker is unknown or wrong.
        pattern: Regular expression, searched in a file's name; its group `speaker`, or its only
            group, is the speaker. A file that it does not fit keeps what it has.

    Raises:
        SpeakerError: When the pattern is broken, has no such group, or fits no file.
    """
    compiled = _compiled(pattern)
    if "speaker" not in compiled.groupindex and compiled.groups != 1:
        raise SpeakerError(f"'{pattern}': needs a group (?P<speaker>...), or just one group")
    group = "speaker" if "speaker" in compiled.groupindex else 1
    found = {name: match.group(group) for name in evaluation.names
             if (match := compiled.search(name)) and match.group(group)}
    if not found:
        raise SpeakerError(f"'{pattern}': fits no file; they are called {evaluation.names[0]}")
    return replace(evaluation, rows=tuple(
        replace(row, speaker=found.get(row.name, row.speaker)) for row in evaluation.rows
    ))


def _csv_rows(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    text = _text_of(path)
    try:
        columns, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise SpeakerError(f"{path}: not readable as CSV ({error})") from error
    except ValueError:
        raise SpeakerError(f"{path}: is empty") from None
    columns = [name.strip() for name in columns]
    if "speaker" not in columns:
        raise SpeakerError(f"{path}: no column 'speaker'; it has {_listed(columns)}",
                           "name one so, and part columns by commas")
    if any(len(row) > len(columns) for row in rows):
        raise SpeakerError(f"{path}: a row has more cells than the header")
    place = columns.index("speaker")
    return [
        (row[place].strip() if place < len(row) else "",
         [(name, cell.strip()) for name, cell in zip(columns, row, strict=False)
          if name != "speaker"])
        for row in rows if any(row)
    ]


def _json_rows(path: Path) -> list[tuple[str, list[tuple[str, str]]]]:
    text = _text_of(path)
    try:
        content = parse_json(text)
    except ValueError as error:
        raise SpeakerError(
            f"{path}: not readable as JSON ({error})", "expected JSON, or a file called .csv"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(row, dict) for row in content.values()):
        raise SpeakerError(f"{path}: expected {{speaker: {{attribute: value}}}}")
    for speaker, row in content.items():
        for name, value in row.items():
            if isinstance(value, dict | list):
                raise SpeakerError(f"{path}: '{name}' of speaker {speaker} is no single value")
    return [(speaker.strip(), [(name, _text(value)) for name, value in row.items()])
            for speaker, row in content.items()]


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SpeakerError(f"{path}: cannot be read ({error.strerror})",
                           "check the path") from error
    except UnicodeDecodeError as error:
        raise SpeakerError(f"{path}: is no text in UTF-8 ({error.reason})", "save it as that"
                           ) from error


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value).strip()


def _derived(speaker: str, attribute: str, value: str, notices: list[str]) -> dict[str, str]:
    """Return the attributes to group by of an entry of a table."""
    meant = _MEANT.get((attribute, value.casefold()), value)
    if meant != value:
        notices.append(f"speaker {speaker}: {attribute} '{value}' is read as '{meant}'")
    if attribute == "age":
        return _age_band(speaker, value, notices)
    if attribute == "native speaker":
        return {"native": value}
    parts = [part.strip() for part in meant.split(",")]
    if attribute == "origin" and len(parts) > 1:
        return {"continent": parts[0], "country": parts[1]}
    return {attribute: meant}


def _age_band(speaker: str, value: str, notices: list[str]) -> dict[str, str]:
    try:
        years = float(value)
    except ValueError:
        return {"age band": value}  # a word, such as Common Voice's "twenties"
    band = next((name for end, name in _AGE_BANDS if 0 < years < end), None)
    if band is None:
        notices.append(f"speaker {speaker}: age {value} cannot be, taken as unknown")
    return {} if band is None else {"age band": band}


def _one_spelling(table: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """Unify values that differ in case only to their most frequent spelling."""
    spellings: dict[tuple[str, str], Counter[str]] = {}
    for row in table.values():
        for name, value in row.items():
            spellings.setdefault((name, value.casefold()), Counter())[value] += 1
    usual = {key: counts.most_common(1)[0][0] for key, counts in spellings.items()}
    return {speaker: {name: usual[name, value.casefold()] for name, value in row.items()}
            for speaker, row in table.items()}


def _read_names(names: Iterable[str], pattern: str) -> dict[str, dict[str, str]]:
    """Return the named groups of a pattern in each name that it fits."""
    compiled = _compiled(pattern)
    if not compiled.groupindex:
        raise SpeakerError(
            f"'{pattern}': has no named group",
            "for instance ^(?P<gender>[fm]) for a first letter",
        )
    if not names:
        raise SpeakerError("no speaker of these scores is known",
                           "tell them from the names of the files by --speaker-pattern")
    found = {name: {key: value for key, value in match.groupdict().items() if value}
             for name in names if (match := compiled.search(name))}
    if not found:
        raise SpeakerError(f"'{pattern}': fits no speaker; they are {_listed(list(names))}")
    return found


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise SpeakerError(f"'{pattern}': no regular expression ({error})") from error


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
