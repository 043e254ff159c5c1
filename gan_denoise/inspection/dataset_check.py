"""Checks datasets before training: folders of audio, and pairs of noisy and clean recordings.

Every file is decoded: the first minute of it, or all of it with `deep`. Then the files are compared
with each other: sample rates, equal audio in two sets, speakers in two sets.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gan_denoise.audio import AudioError, find_audio
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.locations import location, reaching
from gan_denoise.data.corpus_index import refuse_corpus
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
from gan_denoise.inspection.findings import CheckReport, DatasetSummary, Finding

LAG_SAMPLE = 200  # pairs whose lag is measured when not deep
SNR_STEP_DB = 5  # width of a bin of the histogram


@dataclass(frozen=True)
class _File:
    """A file of a dataset. Two `place`s must not share content or speakers."""

    path: Path
    role: Literal["audio", "noisy", "clean"]
    place: tuple[int, str | None]  # number of the dataset, split
    speaker: str | None


@dataclass(frozen=True)
class _Task:
    """What a thread checks: one file, or the noisy and the clean file of a pair."""

    files: tuple[_File, ...]
    pair: Pair | None = None
    lag: bool = False  # whether to measure the delay of the pair


@dataclass(frozen=True)
class _TaskResult:
    measures: dict[Path, FileMeasures]
    snr_db: float | None
    findings: list[Finding]


@dataclass(frozen=True)
class _Dataset:
    root: Path
    files: list[_File]
    pairs: list[Pair]


def check_datasets(
    paths: Sequence[str | Path],
    deep: bool = False,
    jobs: int = 2,
    sample_rate: int = 16000,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check datasets, each by itself and against each other.

    Args:
        paths: One path for each dataset: a folder of audio, a folder of pairs in a known layout, or
            a manifest of pairs; or the address of one.
        deep: Whether to decode long files to the end, and to measure the lag of every pair and not
            of a sample of them.
        jobs: Number of threads.
        sample_rate: Rate of the model in Hz; files of other rates are noted.
        progress: Called with (done, all) after each file or pair.

    Returns:
        The findings, errors first, and a summary of each dataset.

    Raises:
        AudioError: When a path is missing, not readable, or holds no audio.
        CorpusError: When one is a corpus.
        PairError: When a manifest is not readable.
    """
    findings: list[Finding] = []
    datasets = [_open(number, location(path), findings) for number, path in enumerate(paths)]
    tasks = [task for dataset in datasets for task in _tasks(dataset, deep)]
    measures: dict[Path, FileMeasures] = {}
    snrs: dict[int, list[float]] = {}  # by dataset
    with ThreadPoolExecutor(max_workers=max(jobs, 1)) as pool:
        results = pool.map(lambda task: _run(task, deep), tasks)
        for done, (task, result) in enumerate(zip(tasks, results, strict=True), start=1):
            measures |= result.measures
            findings += result.findings
            if result.snr_db is not None:
                snrs.setdefault(task.files[0].place[0], []).append(result.snr_db)
            if progress is not None:
                progress(done, len(tasks))
    summaries = [_summarise(dataset, measures, snrs.get(number, []))
                 for number, dataset in enumerate(datasets)]
    for summary in summaries:
        findings += _rate_findings(summary, sample_rate)
    files = [file for dataset in datasets for file in dataset.files]
    findings += _content_findings(files, measures)
    findings += _speaker_findings(files)
    order = {"error": 0, "warning": 1, "note": 2}
    unique = dict.fromkeys(findings)  # a clean file of several noisy ones is measured each time
    return CheckReport(sorted(unique, key=lambda f: (order[f.severity], f.kind)), summaries)


def _open(number: int, root: Path, findings: list[Finding]) -> _Dataset:
    """Find the files of a dataset; append to the findings where its pairs are not complete."""
    pairs: list[Pair] = []
    refuse_corpus(root)
    try:
        with reaching(root):
            is_file = root.is_file()
        if root.suffix.lower() in MANIFEST_SUFFIXES or not is_file:
            pairs = read_layout(root)
    except LayoutError:
        pass  # a plain folder of audio
    except PairError as error:
        if not root.is_dir():
            if not root.exists():
                raise AudioError(f"{root}: no such file or folder", "check the path") from error
            raise
        findings.append(_error_finding("pairs", root, error))
    files = []
    for pair in pairs:
        place = (number, pair.split)
        files.append(_File(pair.noisy, "noisy", place, pair.speaker))
        files.append(_File(pair.clean, "clean", place, pair.speaker))
    if not pairs:
        paths = find_audio(root)
        speakers = speakers_of((path, root) for path in paths)
        for path, speaker in zip(paths, speakers, strict=True):
            place = (number, split_of(path, root))
            files.append(_File(path, "audio", place, None if is_noise(path, root) else speaker))
    return _Dataset(root, files, pairs)


def _tasks(dataset: _Dataset, deep: bool) -> Iterator[_Task]:
    if not dataset.pairs:
        yield from (_Task((file,)) for file in dataset.files)
        return
    stride = 1 if deep else math.ceil(len(dataset.pairs) / LAG_SAMPLE)
    for index, pair in enumerate(dataset.pairs):
        files = (dataset.files[2 * index], dataset.files[2 * index + 1])
        yield _Task(files, pair, lag=index % stride == 0)


def _run(task: _Task, deep: bool) -> _TaskResult:
    findings: list[Finding] = []
    measures = {}
    for file in task.files:
        try:
            measures[file.path] = measure_file(file.path, deep)
        except AudioError as error:
            findings.append(_error_finding("unreadable", file.path, error))
        else:
            findings += file_findings(measures[file.path])
    snr_db = None
    if task.pair is not None and len(measures) == 2:
        noisy, clean = measures[task.pair.noisy], measures[task.pair.clean]
        snr_db = pair_snr_db(noisy, clean)
        findings += pair_findings(task.pair, noisy, clean, snr_db, task.lag)
    slim = {path: dataclasses.replace(m, head=m.head[:0].copy()) for path, m in measures.items()}
    return _TaskResult(slim, snr_db, findings)


def _error_finding(kind: str, path: Path, error: GanDenoiseError) -> Finding:
    """Return an error as a finding, whose own column names the file."""
    return Finding("error", kind, str(path), error.reason.removeprefix(f"{path}: "), error.way_out)


def _summarise(
    dataset: _Dataset, measures: dict[Path, FileMeasures], snrs: Sequence[float]
) -> DatasetSummary:
    known = [(file, measures[file.path].info) for file in dataset.files if file.path in measures]
    bins = Counter(
        "identical" if snr_db == math.inf else str(round(snr_db / SNR_STEP_DB) * SNR_STEP_DB)
        for snr_db in snrs
    )

    def counts(values: Iterator[object]) -> dict[str, int]:
        return {str(value): count for value, count in Counter(values).most_common()}

    return DatasetSummary(
        path=str(dataset.root),
        kind="pairs" if dataset.pairs else "audio",
        files=len({file.path for file in dataset.files}),
        hours=sum(info.seconds for file, info in known if file.role != "noisy") / 3600.0,
        speakers=len({file.speaker for file in dataset.files} - {None}),
        splits=counts(
            file.place[1] for file in dataset.files if file.place[1] and file.role != "noisy"),
        sample_rates=counts(info.sample_rate for _, info in known),
        channels=counts(info.channels for _, info in known),
        subtypes=counts(f"{info.format} {info.subtype}" for _, info in known),
        snr_db=dict(sorted(bins.items(), key=lambda b: float(b[0].replace("identical", "inf")))),
    )


def _rate_findings(summary: DatasetSummary, sample_rate: int) -> Iterator[Finding]:
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


def _content_findings(
    files: Sequence[_File], measures: dict[Path, FileMeasures]
) -> Iterator[Finding]:
    """Yield files with equal audio: an error between two places, a note within one."""
    groups: dict[str, dict[Path, _File]] = {}
    for file in files:
        measured = measures.get(file.path)
        if measured is not None and measured.peak > 0.0:  # silence is always the same
            groups.setdefault(measured.content, {}).setdefault(file.path, file)
    for group in groups.values():
        same = list(group.values())
        for index, file in enumerate(same):
            leaked = next((other for other in same[:index] if _apart(file, other)), None)
            if leaked is not None:
                yield Finding(
                    "error", "leak", str(file.path), f"the same audio as {leaked.path}",
                    "keep it in one of the sets only",
                )  # fmt: skip
            elif index and file.role == same[0].role:  # noisy == clean has its own finding
                yield Finding(
                    "note", "copy", str(file.path), f"the same audio as {same[0].path}",
                    "leave one out, unless it was mixed with several noises",
                )  # fmt: skip


def _apart(one: _File, other: _File) -> bool:
    """Return whether two files lie in sets that must not share anything."""
    (number, split), (other_number, other_split) = one.place, other.place
    return number != other_number or (None not in (split, other_split) and split != other_split)


def _speaker_findings(files: Sequence[_File]) -> Iterator[Finding]:
    """Yield speakers who are in the training set and in another one."""
    splits: dict[str, dict[str, Path]] = {}  # speaker -> split -> a file
    for file in files:
        if file.speaker is not None and file.place[1] is not None:
            splits.setdefault(file.speaker, {}).setdefault(file.place[1], file.path)
    for speaker, paths in splits.items():
        if "train" in paths and len(paths) > 1:
            others = [split for split in paths if split != "train"]
            yield Finding(
                "error" if "test" in others else "warning", "speaker leak", str(paths[others[0]]),
                f"speaker {speaker} is also in train ({paths['train']})",
                "keep each speaker in one set only",
            )  # fmt: skip
