"""The result of a check of datasets: findings, each with a remedy, and figures of each dataset.

The severity of a finding: with an `error`, training or measuring on this data misleads; a `warning`
costs quality; a `note` is handled but worth knowing.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gan_denoise.core import text as names

if TYPE_CHECKING:
    from rich.console import Console

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know about one file or dataset.

    Attributes:
        severity: `error`, `warning` or `note`.
        kind: Kind of the fault, for instance `clipping`.
        file: Path of the file or dataset.
        reason: The fault.
        way_out: The remedy.
    """

    severity: Severity
    kind: str
    file: str
    reason: str
    way_out: str


@dataclass
class DatasetSummary:
    """The figures of a dataset.

    Attributes:
        path: The dataset.
        kind: `audio`, or `pairs` of noisy and clean files.
        files: Number of files.
        hours: Duration, without the noisy files of pairs.
        speakers: Number of speakers that names or folders tell.
        splits: `{split: files}`.
        sample_rates: `{rate in Hz: files}`.
        channels: `{channels: files}`.
        subtypes: `{format and encoding: files}`.
        snr_db: `{SNR to the nearest 5 dB: pairs}`.
    """

    path: str
    kind: Literal["audio", "pairs"]
    files: int = 0
    hours: float = 0.0
    speakers: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    sample_rates: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    subtypes: dict[str, int] = field(default_factory=dict)
    snr_db: dict[str, int] = field(default_factory=dict)


@dataclass
class CheckReport:
    """The result of a check.

    Attributes:
        findings: All findings, errors first.
        summary: The figures of each dataset.
    """

    findings: list[Finding]
    summary: list[DatasetSummary]

    def count(self, severity: Severity) -> int:
        """Return the number of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> str:
        """Return everything as strict JSON (no NaN, no Infinity)."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)

    def render(self, console: Console, shown: int = 3) -> None:
        """Print the figures and the findings, grouped by kind, `shown` files of each."""
        from rich.table import Table
        from rich.text import Text

        for summary in self.summary:
            title = Text(names.escape_line(summary.path))
            table = Table(title=title, show_header=False, title_justify="left")
            table.add_row("files", f"{summary.files} ({summary.kind}), {summary.hours:.2f} h")
            table.add_row("speakers", str(summary.speakers or "not shown by names or folders"))
            for name in ("splits", "sample_rates", "channels", "subtypes", "snr_db"):
                counts = getattr(summary, name)
                if counts:
                    text = ", ".join(f"{key}: {count}" for key, count in counts.items())
                    table.add_row(name.replace("_", " "), Text(text))
            console.print(table)
        colours = {"error": "red", "warning": "yellow", "note": "cyan"}
        groups: dict[tuple[Severity, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        for (severity, kind), findings in groups.items():
            console.print(Text(severity, style=colours[severity]), f"{kind}: {len(findings)}")
            for finding in findings[:shown]:
                line = f"  {finding.file}: {finding.reason}; {finding.way_out}"
                console.print(Text(names.escape_line(line)), soft_wrap=True)
            if len(findings) > shown:
                console.print(f"  ... and {len(findings) - shown} more")
        if not self.findings:
            console.print("nothing to complain about")
