"""The result of a check of datasets: findings, each with a remedy, and figures of each dataset.

The severity of a finding: with an `error`, training or measuring on this data misleads; a `warning`
costs quality; a `note` is handled but worth knowing.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

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
