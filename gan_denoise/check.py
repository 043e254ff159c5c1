"""The dataset doctor: what is wrong with a folder of audio or of pairs, before the first epoch.

Every file is opened and decoded: of long files the first minute, or with `deep` all of it. Findings
carry the file, the reason and the way out; `error` means that training or measuring on this data
misleads, `warning` that it costs quality, `note` that it is handled but worth knowing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import soundfile

from gan_denoise.audio import AudioError, AudioInfo, find_audio, peak_dbfs, probe, read
from gan_denoise.pairs import (
    MANIFEST_SUFFIXES,
    LayoutError,
    Pair,
    PairError,
    read_layout,
    speaker_of,
    split_of,
)

if TYPE_CHECKING:
    from rich.console import Console

# The folders of noise are kinds of noise, no speakers, and may well be in every split.
_NOISE = re.compile(r"(?<![a-z])(noises?|rirs?|music)(?![a-z])", re.IGNORECASE)

Severity = Literal["error", "warning", "note"]

BLOCK_SECONDS = 60.0  # decoded at once, and of each file when not deep
CORRELATE_SECONDS = 20.0  # of a pair, for the lag between noisy and clean
MAX_LAG_SECONDS = 0.5
LAG_SAMPLE = 200  # pairs whose lag is measured when not deep
CLIP_PEAK = 0.98  # flat tops below this are no clipping of a converter
SILENT_DBFS = -70.0  # peak
DC_OFFSET = 0.01  # of full scale
SHORT_SECONDS = 0.1
SNR_TOLERANCE_DB = 3.0  # to the manifest, whose SNR may be of the active speech only
SNR_STEP_DB = 5  # of the histogram


@dataclass(frozen=True)
class Finding:
    """One thing to know about one file or dataset.

    Attributes:
        severity: `error`, `warning` or `note`.
        kind: A word to group by, for instance `clipping`.
        file: Path of the file or dataset.
        reason: What was found.
        way_out: What to do about it.
    """

    severity: Severity
    kind: str
    file: str
    reason: str
    way_out: str


@dataclass
class Summary:
    """A dataset in figures; the mappings count files (`snr_db`: pairs, to the nearest 5 dB)."""

    path: str
    kind: Literal["audio", "pairs"]
    files: int = 0
    hours: float = 0.0  # of clean audio where there are pairs
    speakers: int = 0
    splits: dict[str, int] = field(default_factory=dict)
    sample_rates: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    subtypes: dict[str, int] = field(default_factory=dict)
    snr_db: dict[str, int] = field(default_factory=dict)


@dataclass
class Report:
    """All findings, worst first, and the figures of each dataset."""

    findings: list[Finding]
    summary: list[Summary]

    def count(self, severity: Severity) -> int:
        """Return the count of findings of one severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> str:
        """Return everything as strict JSON (no NaN, no Infinity)."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, allow_nan=False)

    def render(self, console: Console, shown: int = 3) -> None:
        """Print the figures and the findings, grouped by kind, `shown` files of each."""
        from rich.markup import escape
        from rich.table import Table

        for summary in self.summary:
            table = Table(title=escape(summary.path), show_header=False, title_justify="left")
            table.add_row("files", f"{summary.files} ({summary.kind}), {summary.hours:.2f} h")
            table.add_row("speakers", str(summary.speakers or "not shown by names or folders"))
            for name in ("splits", "sample_rates", "channels", "subtypes", "snr_db"):
                counts = getattr(summary, name)
                if counts:
                    text = ", ".join(f"{key}: {count}" for key, count in counts.items())
                    table.add_row(name.replace("_", " "), escape(text))
            console.print(table)
        colours = {"error": "red", "warning": "yellow", "note": "cyan"}
        groups: dict[tuple[Severity, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        for (severity, kind), findings in groups.items():
            console.print(f"[{colours[severity]}]{severity}[/] {kind}: {len(findings)}")
            for finding in findings[:shown]:
                line = f"  {finding.file}: {finding.reason}; {finding.way_out}"
                console.print(escape(line), soft_wrap=True, highlight=False)
            if len(findings) > shown:
                console.print(f"  ... and {len(findings) - shown} more")
        if not self.findings:
            console.print("nothing to complain about")


@dataclass(frozen=True)
class _Item:
    """A file and its place; `place` is what must not share content or speakers with another."""

    path: Path
    role: Literal["audio", "noisy", "clean"]
    place: tuple[int, str | None]  # dataset, split
    speaker: str | None


@dataclass(frozen=True)
class _Stats:
    info: AudioInfo
    peak: float
    rms: float
    dc: float
    flat: int  # samples in flat tops
    content: str  # hash of what was decoded
    whole: bool  # all of the file was decoded
    head: np.ndarray  # [samples], mean of channels, the first block; emptied outside of pairs


def examine(
    paths: Sequence[str | Path],
    deep: bool = False,
    jobs: int = 2,
    sample_rate: int = 16000,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Examine datasets, each alone and against each other.

    Args:
        paths: Of each dataset: a folder of audio, of pairs in a known layout, or a manifest.
        deep: Decode long files to the end and measure the lag of every pair, not of a sample.
        jobs: Threads.
        sample_rate: Of the model in Hz; other rates are noted.
        progress: Called with (done, all) after each file or pair.

    Returns:
        The findings, errors first, and a summary a dataset.

    Raises:
        AudioError: When a path is missing, not readable, or holds no audio.
        PairError: When a manifest is not readable.
    """
    findings: list[Finding] = []
    datasets = [_open(number, Path(path), findings) for number, path in enumerate(paths)]
    works = [work for _, items, pairs in datasets for work in _works(items, pairs, deep)]
    stats: dict[Path, _Stats] = {}
    ratios: dict[int, list[float]] = {}
    with ThreadPoolExecutor(max_workers=max(jobs, 1)) as pool:
        results = pool.map(lambda work: _work(work, deep), works)
        for done, (work, (measured, snr_db, found)) in enumerate(zip(works, results, strict=True)):
            stats |= measured
            findings += found
            if snr_db is not None:
                ratios.setdefault(work.items[0].place[0], []).append(snr_db)
            if progress is not None:
                progress(done + 1, len(works))
    summaries = []
    for number, (root, items, pairs) in enumerate(datasets):
        kind: Literal["audio", "pairs"] = "pairs" if pairs else "audio"
        summary = _summarise(root, kind, items, stats, ratios.get(number, []))
        findings += _about_rates(summary, sample_rate)
        summaries.append(summary)
    everything = [item for _, items, _ in datasets for item in items]
    findings += _about_content(everything, stats)
    findings += _about_speakers(everything)
    order = {"error": 0, "warning": 1, "note": 2}
    unique = dict.fromkeys(findings)  # a clean file of several noisy ones is measured each time
    return Report(sorted(unique, key=lambda f: (order[f.severity], f.kind)), summaries)


@dataclass(frozen=True)
class _Work:
    """One file, or the noisy and the clean one of a pair."""

    items: tuple[_Item, ...]
    pair: Pair | None = None
    lag: bool = False


def _open(number: int, root: Path, findings: list[Finding]) -> tuple[Path, list[_Item], list[Pair]]:
    pairs: list[Pair] = []
    try:
        if root.suffix.lower() in MANIFEST_SUFFIXES or not root.is_file():
            pairs = read_layout(root)
    except LayoutError:
        pass  # a plain folder of audio
    except PairError as error:
        if not root.is_dir():
            if not root.exists():
                raise AudioError(f"{root}: no such file or folder; check the path") from error
            raise
        findings.append(_from_error("pairs", root, error))
    items = []
    for pair in pairs:
        place = (number, pair.split)
        items.append(_Item(pair.noisy, "noisy", place, pair.speaker))
        items.append(_Item(pair.clean, "clean", place, pair.speaker))
    if not pairs:
        for path in find_audio(root):
            place = (number, split_of(path, root))
            speaker = None if any(map(_NOISE.search, path.parts)) else speaker_of(path, root)
            items.append(_Item(path, "audio", place, speaker))
    return root, items, pairs


def _works(items: Sequence[_Item], pairs: Sequence[Pair], deep: bool) -> Iterator[_Work]:
    if not pairs:
        yield from (_Work((item,)) for item in items)
        return
    stride = 1 if deep else math.ceil(len(pairs) / LAG_SAMPLE)
    for index, pair in enumerate(pairs):
        yield _Work((items[2 * index], items[2 * index + 1]), pair, lag=index % stride == 0)


def _work(work: _Work, deep: bool) -> tuple[dict[Path, _Stats], float | None, list[Finding]]:
    findings: list[Finding] = []
    stats = {}
    for item in work.items:
        try:
            stats[item.path] = _measure(item.path, deep)
        except AudioError as error:
            findings.append(_from_error("unreadable", item.path, error))
        else:
            findings += _about_file(stats[item.path])
    snr_db = None
    if work.pair is not None and len(stats) == 2:
        noisy, clean = stats[work.pair.noisy], stats[work.pair.clean]
        snr_db = _snr_db(noisy, clean)
        findings += _about_pair(work.pair, noisy, clean, snr_db, work.lag)
    slim = {path: dataclasses.replace(s, head=s.head[:0].copy()) for path, s in stats.items()}
    return slim, snr_db, findings


def _measure(path: Path, deep: bool) -> _Stats:
    info = probe(path)
    block = round(BLOCK_SECONDS * info.sample_rate)
    decoded = info.frames if deep else min(info.frames, block)
    peak = power = 0.0
    flat = 0
    sums = np.zeros(info.channels)
    digest = hashlib.blake2b(digest_size=16)
    head = np.zeros(0, np.float32)
    for start in range(0, max(decoded, 1), block):  # of an empty file, once: `read` refuses it
        audio, _ = read(path, start, block)  # [channels, samples]
        magnitude = np.abs(audio)
        top = float(magnitude.max(initial=0.0))
        if top >= CLIP_PEAK:
            at_top = magnitude >= top * 0.9999
            flat += int((at_top[:, 2:] & at_top[:, 1:-1] & at_top[:, :-2]).sum())
        peak = max(peak, top)
        power += float(np.vdot(audio, audio))
        sums += audio.sum(axis=1, dtype=np.float64)
        digest.update(np.ascontiguousarray(audio.T).tobytes())
        if start == 0:
            head = audio.mean(axis=0, dtype=np.float32)
    return _Stats(
        info=info,
        peak=peak,
        rms=math.sqrt(power / (decoded * info.channels)),
        dc=float(np.abs(sums).max()) / decoded,
        flat=flat,
        content=f"{info.frames}:{digest.hexdigest()}",
        whole=decoded == info.frames,
        head=head,
    )


def _from_error(kind: str, path: Path, error: ValueError) -> Finding:
    """The one-line errors of this package end in '; ' and the way out."""
    reason, _, way_out = str(error).removeprefix(f"{path}: ").rpartition("; ")
    return Finding("error", kind, str(path), reason or way_out, way_out if reason else "")


def _about_file(stats: _Stats) -> Iterator[Finding]:
    info, file = stats.info, str(stats.info.path)
    if stats.peak == 0.0 or peak_dbfs(np.array(stats.peak)) < SILENT_DBFS:
        part = "" if stats.whole else f" in the first {BLOCK_SECONDS:.0f} s"
        yield Finding(
            "warning", "silence", file, f"silent{part} (peak below {SILENT_DBFS:.0f} dBFS)",
            "remove the file or record it again",
        )  # fmt: skip
    if stats.flat:
        yield Finding(
            "warning", "clipping", file, f"{stats.flat} samples in flat tops at full scale",
            "record it lower; clipped speech teaches clipping",
        )  # fmt: skip
    if stats.peak > 1.0:
        yield Finding(
            "note", "level", file, f"peak at {peak_dbfs(np.array(stats.peak)):+.1f} dBFS",
            "keep it in a float format, or lower it",
        )  # fmt: skip
    # The mean of a blip is no offset.
    if stats.dc > max(DC_OFFSET, 0.1 * stats.rms) and info.seconds > SHORT_SECONDS:
        yield Finding(
            "warning", "dc offset", file, f"mean at {stats.dc:.3f} of full scale",
            "filter it out (high-pass at 20 Hz)",
        )  # fmt: skip
    if info.seconds < SHORT_SECONDS:
        yield Finding(
            "note", "short", file, f"{info.seconds:.3f} s long",
            "nothing to do where many files are joined; else remove it",
        )  # fmt: skip
    if info.subtype in ("PCM_U8", "PCM_S8", "ULAW", "ALAW") or info.format == "MP3":
        yield Finding(
            "note", "coarse format", file, f"{info.format} {info.subtype}: has coding noise",
            "use an uncompressed original as clean speech",
        )  # fmt: skip
    if info.format in ("WAV", "WAVEX"):
        with soundfile.SoundFile(str(info.path)) as opened:
            lines = opened.extra_info.splitlines()
        if any(line.startswith("data : ") and "should be" in line for line in lines):
            yield Finding(
                "warning", "cut off", file, "the header promises another length than the file has",
                "get a whole copy; what is there is used",
            )  # fmt: skip


def _snr_db(noisy: _Stats, clean: _Stats) -> float | None:
    """SNR of the first block in dB; None where it has no meaning, infinite where they are equal."""
    if noisy.info.sample_rate != clean.info.sample_rate:
        return None
    length = min(len(noisy.head), len(clean.head))
    speech = clean.head[:length].astype(np.float64)
    noise = noisy.head[:length] - speech
    signal, disturbance = float(speech @ speech), float(noise @ noise)
    if signal == 0.0:
        return None
    return 10.0 * math.log10(signal / disturbance) if disturbance else math.inf


def _about_pair(
    pair: Pair, noisy: _Stats, clean: _Stats, snr_db: float | None, lag: bool
) -> Iterator[Finding]:
    file = str(pair.noisy)
    rate = noisy.info.sample_rate
    if rate != clean.info.sample_rate:
        yield Finding(
            "warning", "rate mismatch", file, f"{rate} Hz, its clean file {clean.info.sample_rate}",
            "bring both to one rate",
        )  # fmt: skip
        return
    difference = noisy.info.frames - clean.info.frames
    if difference:
        yield Finding(
            "error" if abs(difference) > 0.01 * rate else "warning", "length mismatch", file,
            f"{abs(difference)} samples {'longer' if difference > 0 else 'shorter'} than its clean "
            "file", "cut both to the same part of the recording",
        )  # fmt: skip
    if snr_db == math.inf and not difference:
        yield Finding(
            "warning", "identical", file, "the same samples as its clean file",
            "there is no noise to learn from; check the folders",
        )  # fmt: skip
        return
    if lag and snr_db is not None:
        yield from _about_alignment(file, rate, noisy.head, clean.head)
    told = pair.snr_db
    if (
        told is not None and snr_db is not None and noisy.whole and clean.whole and not difference
        and abs(told - snr_db) > SNR_TOLERANCE_DB
    ):  # fmt: skip
        yield Finding(
            "warning", "snr", file, f"SNR {snr_db:.1f} dB, the name or manifest says {told:.1f} dB",
            "scores by SNR would mislead: correct the manifest, or check the pair",
        )  # fmt: skip


def _about_alignment(
    file: str, rate: int, noisy: np.ndarray, clean: np.ndarray
) -> Iterator[Finding]:
    samples = round(CORRELATE_SECONDS * rate)
    lag, best, at_zero, sharpness = cross_correlate(noisy[:samples], clean[:samples], rate)
    # On real speech wrong partners stay below 0.19 and 9, right ones at -6 dB above 0.4 and 9.7.
    if abs(best) < 0.2 and sharpness < 8.0:
        yield Finding(
            "warning", "unrelated", file, f"correlates with its clean file by {best:.2f} only",
            "listen to both: is this the right partner?",
        )  # fmt: skip
    elif best < 0.0:
        yield Finding(
            "error", "polarity", file, "inverted against its clean file", "invert one of them",
        )  # fmt: skip
    # Noise moves the peak of a flat correlation by a sample or two: it must be clearly better.
    elif lag and best > 1.02 * at_zero:
        yield Finding(
            "error", "misaligned", file,
            f"{abs(lag)} samples {'late' if lag > 0 else 'early'} ({1000 * lag / rate:+.1f} ms)",
            "shift one of them: a delay ruins training and SI-SDR",
        )  # fmt: skip


class Correlation(NamedTuple):
    """The peak of a cross-correlation within half a second; all zero for silence."""

    lag: int  # samples; positive: noisy is late
    best: float  # at that lag, in [-1, 1]
    at_zero: float  # at lag 0
    sharpness: float  # |best| over the root mean square of all lags


def cross_correlate(noisy: np.ndarray, clean: np.ndarray, rate: int) -> Correlation:
    """Find the delay of `noisy` against `clean`, both `[samples]` at `rate` Hz."""
    reach = max(min(round(MAX_LAG_SECONDS * rate), len(noisy), len(clean)) - 1, 0)
    norm = float(np.linalg.norm(noisy) * np.linalg.norm(clean))
    if norm == 0.0:
        return Correlation(0, 0.0, 0.0, 0.0)
    size = 1 << (max(len(noisy), len(clean)) + reach).bit_length()  # no wrap within reach
    spectrum = np.fft.rfft(noisy, size) * np.conj(np.fft.rfft(clean, size))
    circular = np.fft.irfft(spectrum, size) / norm
    near = np.concatenate([circular[size - reach :], circular[: reach + 1]])  # lags -reach..reach
    index = int(np.argmax(np.abs(near)))
    best = float(near[index])
    if best == 0.0:
        return Correlation(0, 0.0, 0.0, 0.0)
    sharpness = abs(best) / math.sqrt(float(np.mean(near**2)))
    return Correlation(index - reach, best, float(near[reach]), sharpness)


def _summarise(
    root: Path,
    kind: Literal["audio", "pairs"],
    items: Sequence[_Item],
    stats: dict[Path, _Stats],
    ratios: Sequence[float],
) -> Summary:
    heard = [(item, stats[item.path].info) for item in items if item.path in stats]
    bins = Counter(
        "identical" if ratio == math.inf else str(round(ratio / SNR_STEP_DB) * SNR_STEP_DB)
        for ratio in ratios
    )

    def counts(values: Iterator[Any]) -> dict[str, int]:
        return {str(value): count for value, count in Counter(values).most_common()}

    return Summary(
        path=str(root),
        kind=kind,
        files=len({item.path for item in items}),
        hours=sum(info.seconds for item, info in heard if item.role != "noisy") / 3600.0,
        speakers=len({item.speaker for item in items} - {None}),
        splits=counts(item.place[1] for item in items if item.place[1] and item.role != "noisy"),
        sample_rates=counts(info.sample_rate for _, info in heard),
        channels=counts(info.channels for _, info in heard),
        subtypes=counts(f"{info.format} {info.subtype}" for _, info in heard),
        snr_db=dict(sorted(bins.items(), key=lambda b: float(b[0].replace("identical", "inf")))),
    )


def _about_rates(summary: Summary, sample_rate: int) -> Iterator[Finding]:
    low = {rate: count for rate, count in summary.sample_rates.items() if int(rate) < sample_rate}
    high = {rate: count for rate, count in summary.sample_rates.items() if int(rate) > sample_rate}
    for rate, count in low.items():
        yield Finding(
            "warning", "low rate", summary.path, f"{count} file(s) at {rate} Hz hold nothing above "
            f"{int(rate) // 2} Hz", f"train such speech at {rate} Hz (audio.sample_rate)",
        )  # fmt: skip
    for rate, count in high.items():
        yield Finding(
            "note", "other rate", summary.path, f"{count} file(s) at {rate} Hz",
            f"nothing to do: resampled to {sample_rate} Hz when read",
        )  # fmt: skip
    many = sum(count for channels, count in summary.channels.items() if int(channels) > 1)
    if many:
        yield Finding(
            "note", "channels", summary.path, f"{many} file(s) of more than one channel",
            "nothing to do: training takes the mean of the channels",
        )  # fmt: skip


def _about_content(items: Sequence[_Item], stats: dict[Path, _Stats]) -> Iterator[Finding]:
    """The same audio twice: a leak between places, a mere copy within one."""
    groups: dict[str, dict[Path, _Item]] = {}
    for item in items:
        measured = stats.get(item.path)
        if measured is not None and measured.peak > 0.0:  # silence is always the same
            groups.setdefault(measured.content, {}).setdefault(item.path, item)
    for group in groups.values():
        same = list(group.values())
        for index, item in enumerate(same):
            leaked = next((other for other in same[:index] if _apart(item, other)), None)
            if leaked is not None:
                yield Finding(
                    "error", "leak", str(item.path), f"the same audio as {leaked.path}",
                    "keep it in one of the sets only",
                )  # fmt: skip
            elif index and item.role == same[0].role:  # noisy == clean has its own finding
                yield Finding(
                    "note", "copy", str(item.path), f"the same audio as {same[0].path}",
                    "remove one, unless it was mixed with several noises",
                )  # fmt: skip


def _apart(one: _Item, other: _Item) -> bool:
    """Whether two files lie in sets that must not share anything."""
    (number, split), (other_number, other_split) = one.place, other.place
    return number != other_number or (None not in (split, other_split) and split != other_split)


def _about_speakers(items: Sequence[_Item]) -> Iterator[Finding]:
    splits: dict[str, dict[str, Path]] = {}  # speaker -> split -> a file
    for item in items:
        if item.speaker is not None and item.place[1] is not None:
            splits.setdefault(item.speaker, {}).setdefault(item.place[1], item.path)
    for speaker, files in splits.items():
        if "train" in files and len(files) > 1:
            others = [split for split in files if split != "train"]
            yield Finding(
                "error" if "test" in others else "warning", "speaker leak", str(files[others[0]]),
                f"speaker {speaker} is also in train ({files['train']})",
                "keep each speaker in one set only",
            )  # fmt: skip
