"""What is expected after each attack of `torture_faults`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torture_verbs import Verb, content_of, half_files, left_over, start

Fault = Callable[[str], None]


def check_after(verb: Verb, out: Path, fault: Fault, what: str, code: int, text: str) -> None:
    """Check what an attack has left, run the command again, and compare its result."""
    folder = out / "work"
    if "Traceback" in text:
        fault(f"{verb.name}, {what}: a traceback: {text[text.index('Traceback'):][-600:]!r}")
    elif code > 0 and "error: " not in text and "failed" not in text:
        fault(f"{verb.name}, {what}: exit {code} without a reason")
    if not verb.piped and (half := half_files(folder)):
        fault(f"{verb.name}, {what}: half a file: {half[0]}")
    again(verb, out, fault, what)


def again(verb: Verb, out: Path, fault: Fault, what: str) -> None:
    """Run the command again; its result must be that of an undisturbed run."""
    folder = out / "work"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.wav")}
    code, text = start(verb, out / "material", folder).end()
    found = content_of(folder)
    if (code and "is there already; give another folder or remove it" in text
            and found == verb.reference):
        return  # all is there, and it says what to do
    if code:
        fault(f"{verb.name}, {what}: the next run ends with {code}: {text[-300:]!r}")
    elif found != verb.reference:
        differ = sorted(name for name in found.keys() | verb.reference
                        if found.get(name) != verb.reference.get(name))
        fault(f"{verb.name}, {what}: another result: {', '.join(differ[:4])}")
    elif left := left_over(folder):
        fault(f"{verb.name}, {what}: left: {left[0]}")
    elif verb.name == "denoise a folder" and sum(
            path.stat().st_mtime_ns != time for path, time in before.items()) > 1:
        # One may be: that whose line in the journal was about to be written.
        fault(f"{verb.name}, {what}: files that were done were done again")
