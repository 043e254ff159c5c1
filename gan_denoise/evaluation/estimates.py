"""The signals that are scored for one pair: of each model, of the oracles, of the trivial systems.

Models that share a transform and an inversion share one oracle. The errors of the mels are taken
here as well, because they need the networks, which the scoring processes do not have.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.evaluation.mel_parts import mel_frames, network_frames
from gan_denoise.evaluation.oracle import oracle_parts
from gan_denoise.evaluation.pair_reader import SignalPair
from gan_denoise.evaluation.scoring import MelErrors, PairEstimates, at_rate, mel_part_ranges
from gan_denoise.metrics import Refused
from gan_denoise.metrics.baselines import BEST_GAIN, NOISY, ORACLE, SILENCE, best_gain
from gan_denoise.metrics.signal_files import Signal, blocks, resampled, store

if TYPE_CHECKING:
    from gan_denoise.config.schema import InversionConfig
    from gan_denoise.config.section import Section
    from gan_denoise.data.pairs import Pair
    from gan_denoise.dsp.mel import Mel
    from gan_denoise.inference.enhancer import Enhancer


class EvaluationError(GanDenoiseError):
    """The pairs or a model's output cannot be scored; the reason names the file."""


@dataclass(frozen=True)
class FrontEnd:
    """A transform and an inversion that one or more models share.

    Attributes:
        mel: The transform.
        inversion: How a mel becomes a waveform.
        oracle: Name of the oracle with this transform and inversion.
    """

    mel: Mel
    inversion: InversionConfig
    oracle: str


def shared_front_ends(models: Mapping[str, Enhancer]) -> dict[str, FrontEnd]:
    """Return `{model: front end}`; models of equal settings have the same one."""
    shared: list[tuple[tuple[Section, ...], FrontEnd]] = []
    front_ends = {}
    for name, model in models.items():
        settings = (model.config.audio, model.config.mel, model.config.inversion)
        front_end = next((found for known, found in shared if known == settings), None)
        if front_end is None:
            oracle = f"{ORACLE} of {name}" if shared else ORACLE
            front_end = FrontEnd(model.mel, model.config.inversion, oracle)
            shared.append((settings, front_end))
        front_ends[name] = front_end
    return front_ends


def estimate_pair(
    pair: Pair,
    signals: SignalPair,
    folder: Path,
    models: Mapping[str, Enhancer],
    front_ends: Mapping[str, FrontEnd],
    packages: tuple[str, ...],
    trivial: bool,
) -> PairEstimates:
    """Run the models and the oracles on one pair, and score their mels.

    Args:
        pair: The pair, for its names and its SNR.
        signals: Its two files as read.
        folder: Receives the files of the estimates.
        models: `{system: model}`.
        front_ends: `{system: front end}` of the models.
        packages: The installed ones of `pesq` and `pystoi`.
        trivial: Whether to add silence and the best constant gain.

    Raises:
        EvaluationError: When a model's output is not finite or has another length.
        SignalError: When the folder is full.
    """
    rate, noisy, clean = signals.sample_rate, signals.noisy, signals.clean
    found = PairEstimates(pair.name, pair.speaker, pair.snr_db, rate, folder, clean, packages,
                          {NOISY: noisy})
    for number, (system, model) in enumerate(models.items()):
        path = folder / f"model{number}.f32"
        estimate = store(path, _finite(_enhanced(model, noisy, rate), pair, system))
        if estimate.shape != noisy.shape:
            raise EvaluationError(f"{pair.noisy}: {system} made {estimate.shape} of {noisy.shape}")
        found.signals[system] = estimate
    if trivial:
        found.signals[SILENCE] = noisy.at_gain(0.0)
        found.signals[BEST_GAIN] = noisy.at_gain(best_gain(clean, noisy))
    # Systems without a front end are analysed with the first model's.
    others = [system for system in found.signals if system not in models]
    for front_end in {each.oracle: each for each in front_ends.values()}.values():
        own = {name: model for name, model in models.items() if front_ends[name] is front_end}
        _add_oracle_and_mels(found, pair, front_end, own, others)
        others = []
    return found


def _add_oracle_and_mels(
    found: PairEstimates, pair: Pair, front_end: FrontEnd, models: Mapping[str, Enhancer],
    others: Iterable[str],
) -> None:
    """Add the oracle of a front end, and the mel scores of the systems analysed with it."""
    rate, mel_rate, noisy = found.sample_rate, front_end.mel.sample_rate, found.signals[NOISY]
    used = {NOISY: noisy, **{system: found.signals[system] for system in (*models, *others)}}
    path = found.folder / f"{len(found.signals)}.f32"
    with tempfile.TemporaryDirectory(dir=found.folder) as temporary:
        clean = at_rate(found.clean, rate, mel_rate, Path(temporary, "clean"))
        waves = {
            system: at_rate(signal, rate, mel_rate, Path(temporary, str(number)))
            for number, (system, signal) in enumerate(used.items())
        }
        found.signals[front_end.oracle], waves[front_end.oracle] = _oracle(
            front_end, clean, waves[NOISY], noisy, rate, path, Path(temporary, "oracle"))
        found.mel_scores |= _mel_scores(front_end, clean, waves, models,
                                        [*others, front_end.oracle], pair)


def _enhanced(model: Enhancer, noisy: Signal, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield what `Enhancer.enhance` returns, float32 `[samples]`, block by block."""
    stream = model.stream(sample_rate)
    for block in blocks(noisy):
        yield stream.push(block)[0]
    yield stream.finish()[0]


def _oracle(
    front_end: FrontEnd, clean: Signal, noisy: Signal, full: Signal, sample_rate: int, path: Path,
    temporary: Path,
) -> tuple[Signal, Signal]:
    """Return the oracle of a recording at the recording's rate, and at the mel's rate.

    Args:
        front_end: Mel and inversion.
        clean: The clean signal at the mel's rate.
        noisy: The noisy signal at the mel's rate.
        full: The noisy recording at its own rate.
        sample_rate: Rate of `full` in Hz.
        path: File for the first result.
        temporary: File for what is at the mel's rate.
    """
    mel_rate = front_end.mel.sample_rate
    best = oracle_parts(front_end.mel, clean, noisy, front_end.inversion)
    if mel_rate == sample_rate:
        estimate = store(path, best)
        return estimate, estimate
    # As a model does at another rate: only what is removed passes through the mel's rate.
    removed = store(temporary, _minus(noisy, best))
    estimate = store(path, _minus(full, resampled(removed, mel_rate, sample_rate, len(full))))
    return estimate, at_rate(estimate, sample_rate, mel_rate, temporary)


def _mel_scores(
    front_end: FrontEnd,
    clean: Signal,
    waves: Mapping[str, Signal],
    models: Mapping[str, Enhancer],
    others: Iterable[str],
    pair: Pair,
) -> dict[str, dict[str, float | Refused]]:
    """Return `{system: scores}` of the mels, computed part by part.

    Args:
        front_end: The transform.
        clean: The clean signal at the transform's rate.
        waves: `{system: waveform}` at the same rate.
        models: `{system: model}` of those whose network makes the estimated mel.
        others: Systems whose estimated mel is that of their waveform, and the oracle, whose
            estimated mel is the clean one.
        pair: The pair, to name in an error.
    """
    mel = front_end.mel
    errors = {system: MelErrors() for system in (*others, *models)}
    strides = [model.model.time_stride for model in models.values()]
    for first, stop in mel_part_ranges(mel, len(clean), strides):
        clean01 = mel.mel_part(mel_frames(mel, clean, first, stop))
        for system, error in errors.items():
            wave01 = mel.mel_part(mel_frames(mel, waves[system], first, stop))
            estimate01 = clean01 if system == front_end.oracle else wave01
            if system in models:
                estimate01 = mel.mel_part(
                    _network_frames(models[system], waves[NOISY], first, stop, pair, system))
            error.add(clean01, estimate01, wave01)
    return {system: error.scores() for system, error in errors.items()}


def _network_frames(model: Enhancer, noisy: Signal, first: int, stop: int, pair: Pair, system: str
                    ) -> np.ndarray:
    """Return frames of a network's estimate, `[stop - first, bands]`; errors name the file."""
    try:
        found = network_frames(model.mel, model.estimate, model.model.receptive_field,
                               model.model.time_stride, noisy, first, stop)
    except (GanDenoiseError, ValueError) as error:
        raise EvaluationError(f"{pair.noisy}: {system} {error}") from error
    return next(_finite([found], pair, system))


def _finite(parts: Iterable[np.ndarray], pair: Pair, system: str) -> Iterator[np.ndarray]:
    for part in parts:
        if not np.all(np.isfinite(part)):
            raise EvaluationError(f"{pair.noisy}: {system} returned NaN or infinite values")
        yield part


def _minus(signal: Signal, parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the difference of a signal and another one that comes in parts."""
    start = 0
    for part in parts:
        yield signal[start : start + len(part)] - part
        start += len(part)
