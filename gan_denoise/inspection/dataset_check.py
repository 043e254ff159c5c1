"""The dataset doctor: what is wrong with a folder of audio or of pairs, before the first epoch.

Every file is opened and decoded: of long files the first minute, or with `deep` all of it. Then
the files are held against each other: rates, copies across sets, speakers in two sets.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from gan_denoise.audio import AudioError, find_audio
from gan_denoise.data.dataset_layouts import LayoutError, read_layout
from gan_denoise.data.file_labels import is_noise, speakers_of, split_of
from gan_denoise.data.pairs import MANIFEST_SUFFIXES, Pair, PairError
from gan_denoise.inspection.file_checks import (
    FileMeasures,
    file_findings,
    measure_file,
    pair_findings,
    pair_snr_db,
)
from gan_denoise.inspection.findings import Finding, Report, Summary

LAG_SAMPLE = 200  # pairs whose lag is measured when not deep
SNR_STEP_DB = 5  # of the histogram


@dataclass(frozen=True)
class _Item:
    """A file and its place; `place` is what must not share content or speakers with another."""

    path: Path
    role: Literal["audio", "noisy", "clean"]
    place: tuple[int, str | None]  # dataset, split
    speaker: str | None


@dataclass(frozen=True)
class _Work:
    """One file, or the noisy and the clean one of a pair."""

    items: tuple[_Item, ...]
    pair: Pair | None = None
    lag: bool = False


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
    stats: dict[Path, FileMeasures] = {}
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
        paths = find_audio(root)
        speakers = speakers_of((path, root) for path in paths)
        for path, speaker in zip(paths, speakers, strict=True):
            place = (number, split_of(path, root))
            items.append(_Item(path, "audio", place, None if is_noise(path, root) else speaker))
    return root, items, pairs


def _works(items: Sequence[_Item], pairs: Sequence[Pair], deep: bool) -> Iterator[_Work]:
    if not pairs:
        yield from (_Work((item,)) for item in items)
        return
    stride = 1 if deep else math.ceil(len(pairs) / LAG_SAMPLE)
    for index, pair in enumerate(pairs):
        yield _Work((items[2 * index], items[2 * index + 1]), pair, lag=index % stride == 0)


def _work(work: _Work, deep: bool) -> tuple[dict[Path, FileMeasures], float | None, list[Finding]]:
    findings: list[Finding] = []
    stats = {}
    for item in work.items:
        try:
            stats[item.path] = measure_file(item.path, deep)
        except AudioError as error:
            findings.append(_from_error("unreadable", item.path, error))
        else:
            findings += file_findings(stats[item.path])
    snr_db = None
    if work.pair is not None and len(stats) == 2:
        noisy, clean = stats[work.pair.noisy], stats[work.pair.clean]
        snr_db = pair_snr_db(noisy, clean)
        findings += pair_findings(work.pair, noisy, clean, snr_db, work.lag)
    slim = {path: dataclasses.replace(s, head=s.head[:0].copy()) for path, s in stats.items()}
    return slim, snr_db, findings


def _from_error(kind: str, path: Path, error: ValueError) -> Finding:
    """The one-line errors of this package end in '; ' and the way out."""
    reason, _, way_out = str(error).removeprefix(f"{path}: ").rpartition("; ")
    return Finding("error", kind, str(path), reason or way_out, way_out if reason else "")


def _summarise(
    root: Path,
    kind: Literal["audio", "pairs"],
    items: Sequence[_Item],
    stats: dict[Path, FileMeasures],
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


def _about_content(items: Sequence[_Item], stats: dict[Path, FileMeasures]) -> Iterator[Finding]:
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
                    "leave one out, unless it was mixed with several noises",
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
