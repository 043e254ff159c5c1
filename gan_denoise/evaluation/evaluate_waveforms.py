"""Models x pairs -> a row a file and system, beside the untouched noisy input and the oracle.

The oracle is the true clean mel put through a model's own inversion with the noisy spectrum: what
the model would reach if it knew the answer. A clip that a metric refuses is listed with the reason,
and every mean is over the files that no compared system refused. A pair that cannot be compared is
refused by name and with the reason, and the others are scored. Signals lie in temporary files and
are worked on part by part: memory does not grow with a recording.
"""

from __future__ import annotations

import importlib.metadata
import math
import multiprocessing
import platform
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_denoise import metrics
from gan_denoise.audio import AudioError
from gan_denoise.audio.writer import Writer
from gan_denoise.core.atomic_files import check_writable
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.evaluation.oracle import mel_frames, network_frames, oracle_parts, parts
from gan_denoise.evaluation.pair_reader import Material, MaterialError, read_pair
from gan_denoise.evaluation.results import RESAMPLER, Evaluation, Row, save
from gan_denoise.evaluation.table import render
from gan_denoise.inference.chunks import PART_SECONDS
from gan_denoise.metrics import METRICS, ErrorSums, Refused
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, ORACLE, SILENCE, best_gain
from gan_denoise.metrics.perceptual import PESQ_SECONDS
from gan_denoise.metrics.signal_files import Signal, blocks, resampled, store

if TYPE_CHECKING:
    from gan_denoise.config.schema import InversionConfig
    from gan_denoise.data.pairs import Pair
    from gan_denoise.dsp.mel import Mel
    from gan_denoise.inference.enhancer import Enhancer

__all__ = ["Evaluation", "EvaluationError", "Row", "evaluate", "render", "save",
           "waveform_scores"]

_PACKAGES = ("gan-denoise", "numpy", "scipy", "soxr", "soundfile", "onnxruntime", "pesq", "pystoi")
_WAITING = 2**26  # samples of pairs that wait for their scores; about an hour at 16 kHz
_TOLD = 5  # refused pairs whose reason is told; scores.json has them all


class EvaluationError(GanDenoiseError):
    """The material or a model's output cannot be scored: one line with the file and the reason."""


@dataclass(frozen=True)
class _Front:
    """A mel and an inversion that one or more models share; each has its oracle."""

    mel: Mel
    inversion: InversionConfig
    oracle: str


@dataclass
class _Task:
    """What a scoring process needs of one pair: files and words only."""

    name: str
    speaker: str | None
    snr_db: float | None
    sample_rate: int
    folder: Path  # of the signals; of no use once they are scored
    clean: Signal
    packages: tuple[str, ...]
    estimates: dict[str, Signal] = field(default_factory=dict)  # by system
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
    Decoded signals and estimates lie in the system's temporary folder (`TMPDIR`) while they are
    scored: about 1 GB for an hour at 16 kHz and one model.

    Args:
        pairs: Noisy and clean files, matched. What differs by a little is put right and told (see
            `material.read_pair`); a pair that cannot be is refused, and the rest is scored.
        enhancer: A model, several by the name to show, or None to score the noisy input alone.
        trivial: Score silence too, and the noisy input at the gain that is best for its SNR,
            which only who knows the clean can tell: what a model must beat.
        jobs: Processes that score; 1 scores in this one.
        out: Folder for `SYSTEM/NAME.wav` (32-bit float), `scores.csv` and `scores.json`.
        progress: Called with (files done, files in all).

    Returns:
        The scores, with the refused pairs and their reasons.

    Raises:
        EvaluationError: When no pair can be scored; naming the model whose output is not finite or
            has another length, or the folder that would be overwritten.
        OutputError: When `out` cannot be written.
        SignalError: When the temporary folder is full.
    """
    models = _by_name(enhancer)
    fronts = _fronts(models)
    systems = (NOISY, *models, *((SILENCE, BEST_GAIN) if trivial else ()),
               *dict.fromkeys(front.oracle for front in fronts.values()))
    _check_names(pairs)
    if out is not None:
        _check_out(Path(out), systems, pairs)
    installed = metrics.available()
    packages = tuple(name for name, there in installed.items() if there)
    materials: dict[str, Material] = {}
    refused: dict[str, str] = {}
    rows: list[Row] = []

    def tell() -> None:
        if progress is not None:
            progress(len(rows) // len(systems) + len(refused), len(pairs))

    def tasks(temporary: Path) -> Iterator[_Task]:
        for number, pair in enumerate(pairs):
            folder = temporary / str(number)
            folder.mkdir()
            try:
                material = read_pair(pair.noisy, pair.clean, folder)
            except (AudioError, MaterialError) as error:
                refused[pair.name] = str(error)
                shutil.rmtree(folder)
                tell()
                continue
            materials[pair.name] = material
            task = _prepare(pair, material, folder, models, fronts, packages, trivial)
            for system, estimate in task.estimates.items() if out is not None else ():
                path = Path(out, system, f"{pair.name}.wav")
                with Writer(path, task.sample_rate, 1, "WAV", "FLOAT") as writer:
                    for block in blocks(estimate):
                        writer.write(block)
            yield task

    try:
        with tempfile.TemporaryDirectory(prefix="gan-denoise-") as temporary:
            jobs = min(jobs, len(pairs) * len(systems))
            for task, scored in _scored(tasks(Path(temporary)), jobs):
                shutil.rmtree(task.folder)
                rows += sorted(scored, key=lambda row: systems.index(row.system))
                tell()
    except BrokenProcessPool as error:
        raise EvaluationError(
            "a scoring process died: out of memory, or the calling script lacks "
            "`if __name__ == '__main__':`; jobs=1 scores without processes"
        ) from error
    if not rows:
        raise EvaluationError(f"none of {len(pairs)} pairs can be scored: {_reasons(refused)}")
    notices = [f"refused: {reason}" for reason in list(refused.values())[:_TOLD]]
    if len(refused) > _TOLD:
        notices.append(f"refused: {len(refused) - _TOLD} more ({', '.join(list(refused)[_TOLD:])})")
    notices += [metrics.install_hint(name) for name, there in installed.items() if not there]
    notices += _material_notices(materials, fronts, packages) + _row_notices(systems, rows)
    evaluation = Evaluation(systems, tuple(rows), tuple(notices), _versions(), refused)
    if out is not None:
        save(evaluation, Path(out))
    return evaluation


def waveform_scores(
    clean: np.ndarray | Signal,
    estimate: np.ndarray | Signal,
    sample_rate: int,
    packages: Iterable[str],
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
    with tempfile.TemporaryDirectory(prefix="gan-denoise-") as folder:
        at_rate = [
            _at_rate(signal, sample_rate, rate, Path(folder, name))
            for signal, name in ((clean, "clean"), (estimate, "estimate"))
        ]
        if "pesq" in packages:
            name = "pesq_nb" if rate == 8000 else "pesq_wb"
            yield name, _score_or_refusal(getattr(metrics, name), *at_rate, rate)
        if "pystoi" in packages:
            yield "stoi", _score_or_refusal(metrics.stoi, *at_rate, rate)
            yield "estoi", _score_or_refusal(metrics.estoi, *at_rate, rate)
    yield "si_sdr", _score_or_refusal(metrics.si_sdr, clean, estimate)
    yield "snr", _score_or_refusal(metrics.snr, clean, estimate)
    yield "lsd", _score_or_refusal(metrics.lsd, clean, estimate, sample_rate)


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


def _check_names(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise EvaluationError("no pairs to evaluate")
    twice = [name for name, count in Counter(pair.name for pair in pairs).items() if count > 1]
    if twice:
        raise EvaluationError(f"'{twice[0]}' occurs twice among the pairs; evaluate one split only")


def _reasons(refused: Mapping[str, str]) -> str:
    more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
    return "; ".join(list(refused.values())[:3]) + more


def _check_out(out: Path, systems: Iterable[str], pairs: Iterable[Pair]) -> None:
    check_writable(out / "scores.csv")
    inputs = {path.resolve() for pair in pairs for path in (pair.noisy, pair.clean)}
    for system in systems:
        for pair in pairs:
            if Path(out, system, f"{pair.name}.wav").resolve() in inputs:
                raise EvaluationError(
                    f"{out}: writing there would replace {pair.noisy.parent}; give another --out"
                )


def _prepare(
    pair: Pair,
    material: Material,
    folder: Path,
    models: Mapping[str, Enhancer],
    fronts: Mapping[str, _Front],
    packages: tuple[str, ...],
    trivial: bool,
) -> _Task:
    """Run the models and the oracles on one pair, and score their mels."""
    rate, noisy, clean = material.sample_rate, material.noisy, material.clean
    task = _Task(pair.name, pair.speaker, pair.snr_db, rate, folder, clean, packages,
                 {NOISY: noisy})
    for number, (system, model) in enumerate(models.items()):
        path = folder / f"model{number}.f32"
        estimate = store(path, _checked(_enhanced(model, noisy, rate), pair, system))
        if estimate.shape != noisy.shape:
            raise EvaluationError(f"{pair.noisy}: {system} made {estimate.shape} of {noisy.shape}")
        task.estimates[system] = estimate
    if trivial:
        task.estimates[SILENCE] = noisy.at_gain(0.0)
        task.estimates[BEST_GAIN] = noisy.at_gain(best_gain(clean, noisy))
    others = [system for system in task.estimates if system not in models]
    for front in {front.oracle: front for front in fronts.values()}.values():
        own = [system for system in models if fronts[system] is front]
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            at_rate = {
                system: _at_rate(signal, rate, front.mel.sample_rate, Path(temporary, str(number)))
                for number, (system, signal) in enumerate(
                    {"": clean, NOISY: noisy, **{s: task.estimates[s] for s in own + others}}
                    .items())
            }
            path = folder / f"{len(task.estimates)}.f32"
            task.estimates[front.oracle], at_rate[front.oracle] = _oracle(
                front, at_rate[""], at_rate[NOISY], noisy, rate, path, Path(temporary, "oracle"))
            task.mels |= _mel_scores(front, at_rate, {s: models[s] for s in own},
                                     [*others, front.oracle], pair)
        others = []  # the first front has scored them
    return task


def _enhanced(model: Enhancer, noisy: Signal, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield what `Enhancer.enhance` gives, block by block."""
    stream = model.stream(sample_rate)
    for block in blocks(noisy):
        yield stream.push(block)[0]
    yield stream.finish()[0]


def _oracle(
    front: _Front, clean: Signal, noisy: Signal, full: Signal, sample_rate: int, path: Path,
    temporary: Path,
) -> tuple[Signal, Signal]:
    """Return the oracle of a recording at its own rate, and as the front's mel takes it.

    Args:
        front: Mel and inversion.
        clean: At the mel's rate.
        noisy: At the mel's rate.
        full: The noisy recording at its own rate.
        sample_rate: Of that, in Hz.
        path: For the first result.
        temporary: For what is at the mel's rate.
    """
    rate = front.mel.sample_rate
    best = oracle_parts(front.mel, clean, noisy, front.inversion)
    if rate == sample_rate:
        estimate = store(path, best)
        return estimate, estimate
    # As a model does at a foreign rate: only what is removed passes through its rate.
    removed = store(temporary, _less(noisy, best))
    estimate = store(path, _less(full, resampled(removed, rate, sample_rate, len(full))))
    return estimate, _at_rate(estimate, sample_rate, rate, temporary)


def _mel_scores(
    front: _Front,
    at_rate: Mapping[str, Signal],
    models: Mapping[str, Enhancer],
    others: Iterable[str],
    pair: Pair,
) -> dict[str, dict[str, float | Refused]]:
    """Return `{system: scores}` of mels: of what a network returned, and of the waveform analysed
    again.

    Args:
        front: The transform.
        at_rate: Signals of the systems at its rate, and the clean one as "".
        models: Those that have a network's estimate to score.
        others: Systems whose estimate is their waveform's mel, or the clean one of an oracle.
        pair: To name in an error.
    """
    mel = front.mel
    sums = {system: (ErrorSums(), ErrorSums()) for system in (*others, *models)}
    strides = math.lcm(*(model.model.time_stride for model in models.values()))
    size = strides * max(round(PART_SECONDS * mel.sample_rate / mel.config.hop_length / strides), 1)
    for first, stop in parts(mel.frames(len(at_rate[""])), size):
        clean01 = mel.mel_part(mel_frames(mel, at_rate[""], first, stop))
        for system, (network, wave) in sums.items():
            wave01 = mel.mel_part(mel_frames(mel, at_rate[system], first, stop))
            wave.add(clean01, wave01)
            estimate01 = clean01 if system == front.oracle else wave01
            if system in models:
                estimate01 = mel.mel_part(
                    _network(models[system], at_rate[NOISY], first, stop, pair, system))
            network.add(clean01, estimate01)
    return {
        system: {
            "psnr_mel": network.psnr,
            "mse_mel": network.mse,
            "snr_mel": _score_or_refusal(lambda sums: sums.snr, network),
            "psnr_mel_wave": wave.psnr,
            "mse_mel_wave": wave.mse,
        }
        for system, (network, wave) in sums.items()
    }


def _network(model: Enhancer, noisy: Signal, first: int, stop: int, pair: Pair, system: str
             ) -> np.ndarray:
    try:
        found = network_frames(model.mel, model.estimate, model.model.receptive_field,
                               model.model.time_stride, noisy, first, stop)
    except (GanDenoiseError, ValueError) as error:
        raise EvaluationError(f"{pair.noisy}: {system} {error}") from error
    return next(_checked([found], pair, system))


def _checked(output: Iterable[np.ndarray], pair: Pair, system: str) -> Iterator[np.ndarray]:
    for part in output:
        if not np.all(np.isfinite(part)):
            raise EvaluationError(f"{pair.noisy}: {system} returned NaN or infinite values")
        yield part


def _at_rate(signal: np.ndarray | Signal, rate_in: int, rate_out: int, path: Path
             ) -> np.ndarray | Signal:
    """Return a signal at another rate, in a file."""
    if rate_in == rate_out:
        return signal
    return store(path, resampled(signal, rate_in, rate_out))


def _less(signal: Signal, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield a signal less another one that comes in parts."""
    start = 0
    for part in parts:
        yield signal[start : start + len(part)] - part
        start += len(part)


def _scored(tasks: Iterable[_Task], jobs: int) -> Iterator[tuple[_Task, list[Row]]]:
    """Score tasks in order, in processes where jobs > 1, with only a few waiting on the disk."""
    if jobs <= 1:
        for task in tasks:
            yield task, [_score(task, system) for system in task.estimates]
        return
    # Not forked: a fork of a process with ONNX Runtime's or TensorFlow's threads may hang.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        waiting: deque[tuple[_Task, list[Future[Row]]]] = deque()

        def oldest() -> tuple[_Task, list[Row]]:
            task, futures = waiting.popleft()
            return task, [future.result() for future in futures]

        for task in tasks:
            waiting.append((task, [pool.submit(_score, task, s) for s in task.estimates]))
            while len(waiting) > 2 * jobs or sum(len(t.clean) for t, _ in waiting) > _WAITING:
                yield oldest()
        while waiting:
            yield oldest()


def _score(task: _Task, system: str) -> Row:
    """Return the row of one file and system."""
    estimate = task.estimates[system]
    found = dict(waveform_scores(task.clean, estimate, task.sample_rate, task.packages))
    found |= task.mels.get(system, {})
    lag = _score_or_refusal(metrics.lag, task.clean, estimate, task.sample_rate)
    return Row(
        task.name, system, task.snr_db, len(task.clean) / task.sample_rate, task.sample_rate,
        scores={k: v for k, v in found.items() if not isinstance(v, Refused)},
        refused={k: str(v) for k, v in found.items() if isinstance(v, Refused)},
        lag=None if isinstance(lag, Refused) else lag,
        speaker=task.speaker,
    )


def _score_or_refusal(metric: Callable[..., float], *arguments: Any) -> float | Refused:
    try:
        return metric(*arguments)
    except Refused as refusal:
        return refusal


def _material_notices(
    materials: Mapping[str, Material], fronts: Mapping[str, _Front], packages: Sequence[str]
) -> list[str]:
    files, notices = len(materials), []
    rates = Counter(material.sample_rate for material in materials.values())
    for rate, count in sorted(rates.items()):
        target = _metric_rate(rate)
        names = [n for n in _rate_bound(target) if METRICS[n].package in packages]
        if rate != target and names:
            notices.append(
                f"{rate} Hz ({count} of {files} files) resampled to {target} Hz ({RESAMPLER}) "
                f"for {', '.join(names)}"
            )
    if 8000 in map(_metric_rate, rates) and "pesq" in packages:
        notices.append("narrow-band material: pesq_nb, not comparable with pesq_wb")

    def those(what: Callable[[Material], bool]) -> tuple[list[Material], str]:
        """Return the pairs of which something is true, and their count with a few names."""
        names = [name for name, material in materials.items() if what(material)]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        return [materials[name] for name in names], f"{len(names)} of {files} pairs ({shown})"

    swapped, told = those(lambda m: m.clean_is_noisier)
    if swapped:
        notices.append(f"the clean file is the noisier one in {told}: are the noisy and the clean "
                       "folder exchanged?")
    short, told = those(lambda m: any(side.cut_off for side in m.sides))
    if short:
        reason = next(side.cut_off for side in short[0].sides if side.cut_off)
        notices.append(f"cut off, scored as far as they go: {told}; the first: {reason}")
    cut, told = those(lambda m: m.cut > 0)
    if cut:
        most = max(material.cut / material.sample_rate for material in cut)
        notices.append(f"noisy and clean differ in length by up to {1000 * most:.0f} ms in {told}: "
                       "scored from the beginning to the end of the shorter one")
    resampled_pairs, told = those(lambda m: len({side.sample_rate for side in m.sides}) > 1)
    if resampled_pairs:
        rates_told = sorted({tuple(side.sample_rate for side in m.sides) for m in resampled_pairs})
        of_them = ", ".join(f"{noisy} and {clean} Hz" for noisy, clean in rates_told)
        notices.append(f"noisy and clean differ in rate ({of_them}) in {told}: both scored at the "
                       f"lower one ({RESAMPLER})")
    cancelled, told = those(lambda m: m.channel is not None)
    if cancelled:
        numbers = ", ".join(str(n) for n in sorted({1 + m.channel for m in cancelled}))
        notices.append(f"the mean of the channels cancels (as of right = -left) in {told}: scored "
                       f"by channel {numbers}")
    loud, told = those(lambda m: m.gain != 1.0)
    if loud:
        most = 20 * math.log10(min(material.gain for material in loud))
        notices.append(f"far above full scale: {told}, scored with a gain of {most:.0f} dB"
                       f"{' or less' if len({m.gain for m in loud}) > 1 else ''} on both sides")
    mixed = sum(any(len(side.energies) > 1 for side in m.sides) and m.channel is None
                for m in materials.values())
    if mixed:
        notices.append(f"{mixed} of {files} files scored as the mean of their channels")
    long = [m for m in materials.values() if len(m.clean) > PESQ_SECONDS * m.sample_rate]
    if long and "pesq" in packages:
        notices.append(f"PESQ of {len(long)} of {files} files, longer than {PESQ_SECONDS:.0f} s, "
                       "is the mean over equal parts of at most that length")
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
