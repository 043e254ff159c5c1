"""Models x pairs -> a row a file and system, beside the untouched noisy input and the oracle.

The oracle is the true clean mel put through a model's own inversion with the noisy spectrum: what
the model would reach if it knew the answer. A clip that a metric refuses is listed with the reason,
and every mean is over the files that no compared system refused. A missing file or a length that
does not match is an error, not a gap.
"""

from __future__ import annotations

import importlib.metadata
import math
import multiprocessing
import platform
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_denoise import audio, metrics
from gan_denoise.checkpoint import check_writable
from gan_denoise.inversion import invert
from gan_denoise.metrics import METRICS, Refused
from gan_denoise.scores import (
    BEST_GAIN,
    NOISY,
    ORACLE,
    RESAMPLER,
    SILENCE,
    Evaluation,
    Row,
    render,
    save,
)
from gan_denoise.trivial import trivial_estimates
from gan_denoise.writer import write

if TYPE_CHECKING:
    from gan_denoise.enhance import Enhancer
    from gan_denoise.mel import Mel
    from gan_denoise.pairs import Pair
    from gan_denoise.settings import InversionConfig

__all__ = ["Evaluation", "EvaluationError", "Row", "evaluate", "mel_scores", "render", "save",
           "waveform_scores"]

_PACKAGES = ("gan-denoise", "numpy", "scipy", "soxr", "soundfile", "onnxruntime", "pesq", "pystoi")


class EvaluationError(ValueError):
    """The material or a model's output cannot be scored: one line with the file and the reason."""


@dataclass(frozen=True)
class _Front:
    """A mel and an inversion that one or more models share; each has its oracle."""

    mel: Mel
    inversion: InversionConfig
    oracle: str


@dataclass
class _Task:
    """What a scoring process needs of one pair: arrays and words only."""

    name: str
    speaker: str | None
    snr_db: float | None
    sample_rate: int
    clean: np.ndarray  # [samples]
    packages: tuple[str, ...]
    estimates: dict[str, np.ndarray] = field(default_factory=dict)  # system: [samples]
    mels: dict[str, dict[str, float | Refused]] = field(default_factory=dict)  # system: scores


def evaluate(
    pairs: Sequence[Pair],
    enhancer: Enhancer | Mapping[str, Enhancer] | None = None,
    *,
    trivial: bool = False,
    jobs: int = 2,
    out: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score models on pairs, beside the noisy input and the oracle.

    Files are read at their own rate as the mean of their channels. PESQ and STOI run in processes
    of their own, so a script that calls this with `jobs` > 1 needs `if __name__ == "__main__":`.

    Args:
        pairs: Noisy and clean files, of equal rate and length.
        enhancer: A model, several by the name to show, or None to score the noisy input alone.
        trivial: Score silence too, and the noisy input at the gain that is best for its SNR,
            which only who knows the clean can tell: what a model must beat.
        jobs: Processes that score; 1 scores in this one.
        out: Folder for `SYSTEM/NAME.wav` (32-bit float), `scores.csv` and `scores.json`.
        progress: Called with (files done, files in all).

    Raises:
        EvaluationError: Naming the files that are missing or do not match, the model whose output
            is not finite or has another length, or the folder that would be overwritten.
        CheckpointError: When `out` cannot be written.
    """
    models = _by_name(enhancer)
    fronts = _fronts(models)
    systems = (NOISY, *models, *((SILENCE, BEST_GAIN) if trivial else ()),
               *dict.fromkeys(front.oracle for front in fronts.values()))
    infos = _check_material(pairs)
    if out is not None:
        _check_out(Path(out), systems, pairs)
    installed = metrics.available()
    packages = tuple(name for name, there in installed.items() if there)

    def tasks() -> Iterator[_Task]:
        for pair in pairs:
            task = _enhance(pair, infos[pair.name].sample_rate, models, fronts, packages)
            if trivial:
                _add_trivial(task, next(iter(fronts.values()), None))
            for system, estimate in task.estimates.items() if out is not None else ():
                path = Path(out, system, f"{pair.name}.wav")
                write(path, estimate, task.sample_rate, format="WAV", subtype="FLOAT")
            yield task

    rows: list[Row] = []
    try:
        for done, scored in enumerate(_scored(tasks(), min(jobs, len(pairs))), start=1):
            rows += sorted(scored, key=lambda row: systems.index(row.system))
            if progress is not None:
                progress(done, len(pairs))
    except BrokenProcessPool as error:
        raise EvaluationError(
            "a scoring process died: out of memory, or the calling script lacks "
            "`if __name__ == '__main__':`; jobs=1 scores without processes"
        ) from error
    notices = [metrics.install_hint(name) for name, there in installed.items() if not there]
    notices += _material_notices(infos.values(), fronts, packages) + _row_notices(systems, rows)
    evaluation = Evaluation(systems, tuple(rows), tuple(notices), _versions())
    if out is not None:
        save(evaluation, Path(out))
    return evaluation


def waveform_scores(
    clean: np.ndarray, estimate: np.ndarray, sample_rate: int, packages: Iterable[str]
) -> Iterator[tuple[str, float | Refused]]:
    """Yield (metric, score or refusal) of a waveform.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz. PESQ and STOI take the signals at 16 kHz, or at 8 kHz where the rate is
            not above that, and then PESQ is `pesq_nb`.
        packages: Those of `pesq` and `pystoi` that are installed.
    """
    rate = _metric_rate(sample_rate)
    at_rate = [audio.resample(signal, sample_rate, rate) for signal in (clean, estimate)]
    if "pesq" in packages:
        name = "pesq_nb" if rate == 8000 else "pesq_wb"
        yield name, _score_or_refusal(getattr(metrics, name), *at_rate, rate)
    if "pystoi" in packages:
        yield "stoi", _score_or_refusal(metrics.stoi, *at_rate, rate)
        yield "estoi", _score_or_refusal(metrics.estoi, *at_rate, rate)
    yield "si_sdr", _score_or_refusal(metrics.si_sdr, clean, estimate)
    yield "snr", _score_or_refusal(metrics.snr, clean, estimate)
    yield "lsd", _score_or_refusal(metrics.lsd, clean, estimate, sample_rate)


def mel_scores(
    clean01: np.ndarray, estimate01: np.ndarray, wave01: np.ndarray
) -> Iterator[tuple[str, float | Refused]]:
    """Yield (metric, score or refusal) of a mel and of its waveform, analysed again.

    Args:
        clean01: mel01 of the clean clip, `[frames, n_mels]`.
        estimate01: What the generator returned, of the same shape.
        wave01: mel01 of the estimated waveform, of the same shape.
    """
    yield "psnr_mel", metrics.psnr_mel(clean01, estimate01)
    yield "mse_mel", metrics.mse_mel(clean01, estimate01)
    yield "snr_mel", _score_or_refusal(metrics.snr_mel, clean01, estimate01)
    yield "psnr_mel_wave", metrics.psnr_mel(clean01, wave01)
    yield "mse_mel_wave", metrics.mse_mel(clean01, wave01)


def _by_name(enhancer: Enhancer | Mapping[str, Enhancer] | None) -> dict[str, Enhancer]:
    if enhancer is None:
        return {}
    models = dict(enhancer) if isinstance(enhancer, Mapping) else {enhancer.name: enhancer}
    taken = ("", ".", "..", NOISY, SILENCE, BEST_GAIN)
    for name in models:
        if name in taken or name.startswith(ORACLE) or set(name) & set("/\\"):
            raise EvaluationError(f"'{name}' cannot name a model here; give it another name")
    return models


def _fronts(models: Mapping[str, Enhancer]) -> dict[str, _Front]:
    """Return `{model: front end}`; models of equal settings share one."""
    shared: list[tuple[Any, _Front]] = []
    fronts = {}
    for name, model in models.items():
        settings = (model.config.audio, model.config.mel, model.config.inversion)
        front = next((front for known, front in shared if known == settings), None)
        if front is None:
            oracle = f"{ORACLE} of {name}" if shared else ORACLE
            front = _Front(model.mel, model.config.inversion, oracle)
            shared.append((settings, front))
        fronts[name] = front
    return fronts


def _check_material(pairs: Sequence[Pair]) -> dict[str, audio.AudioInfo]:
    """Look at every header before the first second is enhanced."""
    if not pairs:
        raise EvaluationError("no pairs to evaluate")
    twice = [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]
    if twice:
        raise EvaluationError(f"'{twice[0]}' occurs twice among the pairs; evaluate one split only")
    infos, faults = {}, []
    for pair in pairs:
        try:
            noisy, clean = audio.probe(pair.noisy), audio.probe(pair.clean)
        except audio.AudioError as error:
            faults.append(str(error))
            continue
        infos[pair.name] = noisy
        sizes = [(info.sample_rate, info.frames) for info in (noisy, clean)]
        if sizes[0] != sizes[1]:
            told = " and ".join(f"{frames} samples at {rate} Hz" for rate, frames in sizes)
            faults.append(f"{pair.noisy} and {pair.clean} do not match: {told}")
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise EvaluationError("; ".join(faults[:3]) + more)
    return infos


def _check_out(out: Path, systems: Iterable[str], pairs: Iterable[Pair]) -> None:
    check_writable(out / "scores.csv")
    inputs = {path.resolve() for pair in pairs for path in (pair.noisy, pair.clean)}
    for system in systems:
        for pair in pairs:
            if Path(out, system, f"{pair.name}.wav").resolve() in inputs:
                raise EvaluationError(
                    f"{out}: writing there would replace {pair.noisy.parent}; give another --out"
                )


def _enhance(
    pair: Pair,
    sample_rate: int,
    models: Mapping[str, Enhancer],
    fronts: Mapping[str, _Front],
    packages: tuple[str, ...],
) -> _Task:
    """Run the models and the oracles on one pair, and score their mels."""
    clean = audio.read_mono(pair.clean, sample_rate)
    noisy = audio.read_mono(pair.noisy, sample_rate)
    if clean.shape != noisy.shape:
        raise EvaluationError(
            f"{pair.noisy} has {len(noisy)} samples, {pair.clean} has {len(clean)}"
        )
    task = _Task(pair.name, pair.speaker, pair.snr_db, sample_rate, clean, packages,
                 {NOISY: noisy})

    def score(system: str, front: _Front, clean01: np.ndarray, estimate01: np.ndarray) -> None:
        wave = audio.resample(task.estimates[system], sample_rate, front.mel.sample_rate)
        mels = map(front.mel.mel_part, (clean01, estimate01, front.mel.mel01(wave)))
        task.mels[system] = dict(mel_scores(*mels))

    for system, model in models.items():
        front = fronts[system]
        rate = front.mel.sample_rate
        noisy_at_rate = audio.resample(noisy, sample_rate, rate)
        clean01 = front.mel.mel01(audio.resample(clean, sample_rate, rate))
        noisy01 = front.mel.mel01(noisy_at_rate)
        if NOISY not in task.mels:
            score(NOISY, front, clean01, noisy01)
        task.estimates[system] = _checked(model.enhance(noisy, sample_rate), noisy, pair, system)
        score(system, front, clean01, _checked(model.estimate(noisy01), noisy01, pair, system))
        if front.oracle not in task.estimates:
            best = invert(
                front.mel, clean01, front.mel.stft(noisy_at_rate), len(noisy_at_rate),
                front.inversion,
            )
            # As a model does at a foreign rate: only what is removed passes through its rate.
            removed = audio.resample(noisy_at_rate - best, rate, sample_rate, len(noisy))
            task.estimates[front.oracle] = best if rate == sample_rate else noisy - removed
            score(front.oracle, front, clean01, clean01)
    return task


def _add_trivial(task: _Task, front: _Front | None) -> None:
    for system, wave in trivial_estimates(task.clean, task.estimates[NOISY]).items():
        task.estimates[system] = wave
        if front is not None:
            clean01, mel01 = (
                front.mel.mel_part(front.mel.mel01(
                    audio.resample(signal, task.sample_rate, front.mel.sample_rate)
                ))
                for signal in (task.clean, wave)
            )
            task.mels[system] = dict(mel_scores(clean01, mel01, mel01))


def _checked(output: np.ndarray, given: np.ndarray, pair: Pair, system: str) -> np.ndarray:
    if output.shape != given.shape:
        raise EvaluationError(f"{pair.noisy}: {system} made {output.shape} of {given.shape}")
    if not np.all(np.isfinite(output)):
        raise EvaluationError(f"{pair.noisy}: {system} returned NaN or infinite values")
    return output


def _scored(tasks: Iterable[_Task], jobs: int) -> Iterator[list[Row]]:
    """Score tasks in order, in processes where jobs > 1, with only a few waiting in memory."""
    if jobs <= 1:
        yield from map(_score, tasks)
        return
    # Not forked: a fork of a process with ONNX Runtime's or TensorFlow's threads may hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting: deque = deque()
        for task in tasks:
            waiting.append(pool.submit(_score, task))
            if len(waiting) > 2 * jobs:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _score(task: _Task) -> list[Row]:
    """Return a row per system of one file."""
    rows = []
    for system, estimate in task.estimates.items():
        found = dict(waveform_scores(task.clean, estimate, task.sample_rate, task.packages))
        found |= task.mels.get(system, {})
        lag = _score_or_refusal(metrics.lag, task.clean, estimate, task.sample_rate)
        rows.append(
            Row(
                task.name, system, task.snr_db, len(task.clean) / task.sample_rate,
                task.sample_rate,
                scores={k: v for k, v in found.items() if not isinstance(v, Refused)},
                refused={k: str(v) for k, v in found.items() if isinstance(v, Refused)},
                lag=None if isinstance(lag, Refused) else lag,
                speaker=task.speaker,
            )
        )
    return rows


def _score_or_refusal(metric: Callable[..., float], *arguments: Any) -> float | Refused:
    try:
        return metric(*arguments)
    except Refused as refusal:
        return refusal


def _material_notices(
    infos: Iterable[audio.AudioInfo], fronts: Mapping[str, _Front], packages: Sequence[str]
) -> list[str]:
    infos = list(infos)
    notices = []
    rates = Counter(info.sample_rate for info in infos)
    for rate, count in sorted(rates.items()):
        target = _metric_rate(rate)
        names = [n for n in _rate_bound(target) if METRICS[n].package in packages]
        if rate != target and names:
            notices.append(
                f"{rate} Hz ({count} of {len(infos)} files) resampled to {target} Hz ({RESAMPLER}) "
                f"for {', '.join(names)}"
            )
    if 8000 in map(_metric_rate, rates) and "pesq" in packages:
        notices.append("narrow-band material: pesq_nb, not comparable with pesq_wb")
    mixed = sum(info.channels > 1 for info in infos)
    if mixed:
        notices.append(f"{mixed} of {len(infos)} files scored as the mean of their channels")
    mels = [(front.mel.sample_rate, front.mel.config) for front in fronts.values()]
    if any(mel != mels[0] for mel in mels):
        first = next(iter(fronts))
        notices.append(
            "the models' mels differ: the mel columns compare each model with its own oracle only, "
            f"and noisy with {first}"
        )
    return notices


def _row_notices(systems: Sequence[str], rows: Sequence[Row]) -> list[str]:
    notices = []
    files = len({row.name for row in rows})
    for metric in METRICS:
        refusing = {row.name: row for row in reversed(rows)
                    if metric in row.refused and row.system != SILENCE}
        if refusing:
            row = next(reversed(refusing.values()))
            notices.append(
                f"{metric}: mean over {files - len(refusing)} of {files} files, the others were "
                f"refused ({row.name}, {row.system}: {row.refused[metric]})"
            )
    equal = [row.name for row in rows if row.system == NOISY and row.scores.get("snr") == math.inf]
    if equal:
        notices.append(
            f"{len(equal)} of {files} noisy files equal their clean ones ({equal[0]}): out of the "
            "means of what is infinite there, such as SNR and SI-SDR"
        )
    for system in systems:
        late = [row for row in rows if row.system == system and row.lag]
        if late:
            most = max((row.lag for row in late), key=abs)
            notices.append(
                f"{system}: {len(late)} of {files} files are shifted against the clean, by up to "
                f"{1000 * most:.2f} ms; SNR, SI-SDR and LSD mean little there"
            )
    return notices


def _metric_rate(sample_rate: int) -> int:
    """Hz at which PESQ and STOI get the signals."""
    return 8000 if sample_rate <= 8000 else 16000


def _rate_bound(rate: int) -> tuple[str, ...]:
    return ("pesq_nb" if rate == 8000 else "pesq_wb", "stoi", "estoi")


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    return versions
