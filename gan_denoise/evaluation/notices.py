"""The notices of an evaluation: one line each on what a reader must know beside the scores."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from gan_denoise.core.decibels import amplitude_to_db
from gan_denoise.evaluation.pair_reader import SignalPair
from gan_denoise.evaluation.results import RESAMPLER, FileScores
from gan_denoise.evaluation.scoring import metric_rate
from gan_denoise.metrics import METRICS
from gan_denoise.metrics.baselines import NOISY, SILENCE
from gan_denoise.metrics.perceptual import PESQ_SECONDS

if TYPE_CHECKING:
    from gan_denoise.evaluation.estimates import FrontEnd

_SHOWN_REFUSALS = 5  # pairs whose reason is given; scores.json has them all
_SHOWN_NAMES = 3


def refusal_notices(refused: Mapping[str, str]) -> list[str]:
    """Return the reasons of the first refused pairs, and the names of the others.

    Args:
        refused: `{pair: reason}`.
    """
    notices = [f"refused: {reason}" for reason in list(refused.values())[:_SHOWN_REFUSALS]]
    others = list(refused)[_SHOWN_REFUSALS:]
    if others:
        notices.append(f"refused: {len(others)} more ({', '.join(others)})")
    return notices


def signal_notices(
    signals: Mapping[str, SignalPair], front_ends: Mapping[str, FrontEnd], packages: Sequence[str]
) -> list[str]:
    """Return what was changed in the pairs before they were scored, and what looks wrong.

    Args:
        signals: `{name: pair}` of all that were read.
        front_ends: `{model: front end}`.
        packages: The installed ones of `pesq` and `pystoi`.
    """
    return [
        *_rate_notices(signals, packages),
        *_correction_notices(signals),
        *_length_notices(signals, packages),
        *_front_end_notices(front_ends),
    ]


def score_notices(systems: Sequence[str], rows: Sequence[FileScores]) -> list[str]:
    """Return which metrics refused files, and which systems are shifted against the clean."""
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


def _rate_notices(signals: Mapping[str, SignalPair], packages: Sequence[str]) -> Iterator[str]:
    rates = Counter(pair.sample_rate for pair in signals.values())
    for rate, count in sorted(rates.items()):
        target = metric_rate(rate)
        names = [name for name in ("pesq_nb" if target == 8000 else "pesq_wb", "stoi", "estoi")
                 if METRICS[name].package in packages]
        if rate != target and names:
            yield (f"{rate} Hz ({count} of {len(signals)} files) resampled to {target} Hz "
                   f"({RESAMPLER}) for {', '.join(names)}")
    if 8000 in map(metric_rate, rates) and "pesq" in packages:
        yield "narrow-band material: pesq_nb, not comparable with pesq_wb"


def _correction_notices(signals: Mapping[str, SignalPair]) -> Iterator[str]:
    """Yield what the two files of a pair do not have in common, and how they were scored."""
    swapped, where = _select(signals, lambda pair: pair.clean_is_noisier)
    if swapped:
        yield (f"the clean file is the noisier one in {where}: are the noisy and the clean "
               "folder exchanged?")
    short, where = _select(signals, lambda pair: any(file.cut_off for file in pair.files))
    if short:
        reason = next(file.cut_off for file in short[0].files if file.cut_off)
        yield f"cut off, scored as far as they go: {where}; the first: {reason}"
    trimmed, where = _select(signals, lambda pair: pair.trimmed > 0)
    if trimmed:
        most = max(pair.trimmed / pair.sample_rate for pair in trimmed)
        yield (f"noisy and clean differ in length by up to {1000 * most:.0f} ms in {where}: "
               "scored from the beginning to the end of the shorter one")
    unequal, where = _select(
        signals, lambda pair: len({file.sample_rate for file in pair.files}) > 1)
    if unequal:
        rates = sorted({tuple(file.sample_rate for file in pair.files) for pair in unequal})
        shown = ", ".join(f"{noisy} and {clean} Hz" for noisy, clean in rates)
        yield (f"noisy and clean differ in rate ({shown}) in {where}: both scored at the lower "
               f"one ({RESAMPLER})")
    cancelled, where = _select(signals, lambda pair: pair.channel is not None)
    if cancelled:
        numbers = ", ".join(str(n) for n in sorted({1 + pair.channel for pair in cancelled}))
        yield (f"the mean of the channels cancels (as of right = -left) in {where}: scored by "
               f"channel {numbers}")
    loud, where = _select(signals, lambda pair: pair.gain != 1.0)
    if loud:
        lowest = amplitude_to_db(min(pair.gain for pair in loud))
        less = " or less" if len({pair.gain for pair in loud}) > 1 else ""
        yield (f"far above full scale: {where}, scored with a gain of {lowest:.0f} dB{less} on "
               "both sides")
    mixed, _ = _select(signals, lambda pair: pair.channel is None and any(
        len(file.energies) > 1 for file in pair.files))
    if mixed:
        yield f"{len(mixed)} of {len(signals)} files scored as the mean of their channels"


def _length_notices(signals: Mapping[str, SignalPair], packages: Sequence[str]) -> Iterator[str]:
    long, _ = _select(signals, lambda pair: len(pair.clean) > PESQ_SECONDS * pair.sample_rate)
    if long and "pesq" in packages:
        yield (f"PESQ of {len(long)} of {len(signals)} files, longer than {PESQ_SECONDS:.0f} s, "
               "is the mean over equal parts of at most that length")


def _front_end_notices(front_ends: Mapping[str, FrontEnd]) -> Iterator[str]:
    mels = [(front_end.mel.sample_rate, front_end.mel.config) for front_end in front_ends.values()]
    if any(mel != mels[0] for mel in mels):
        yield ("the models' mels differ: the mel columns compare each model with its own oracle "
               f"only, and noisy with {next(iter(front_ends))}")


def _select(
    signals: Mapping[str, SignalPair], condition: Callable[[SignalPair], bool]
) -> tuple[list[SignalPair], str]:
    """Return the pairs that meet a condition, and their count with a few names."""
    names = [name for name, pair in signals.items() if condition(pair)]
    shown = ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
    return [signals[name] for name in names], f"{len(names)} of {len(signals)} pairs ({shown})"
