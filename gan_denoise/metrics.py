"""Scores of one clip: `(clean, estimate) -> float`, the variant in the name.

Each takes arrays, or signals in files (`signals.Signal`), and computes block by block: a recording
of any length is scored in constant memory, and as if it were whole.
A metric that cannot score a clip raises `Refused` with the reason and never returns a stand-in
number, so nothing but scores is ever averaged. SNR, LSD's floor, PESQ and STOI treat their
arguments differently: clean first, always. `pesq` and `pystoi` are imported on use.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from scipy import fft

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.intelligibility import stoi_in_blocks
from gan_denoise.signals import BLOCK, Signal

PESQ_RATES = {"wb": (16000,), "nb": (8000, 16000)}  # Hz; what P.862.2 and P.862.1 are defined for
PESQ_SECONDS = 20.0  # see `pesq_wb`
STOI_SECONDS = 0.4  # 30 frames of 25.6 ms, every 12.8 ms: the least that STOI correlates over
STOI_BLOCK = 2**16  # samples at 10 kHz
STOI_WHOLE_SECONDS = 20.0  # what pystoi gets at once; it keeps half a megabyte a second
LSD_SECONDS = (0.032, 0.008)  # window and hop
LSD_RANGE_DB = 60.0  # below the clean clip's mean power in a bin, both spectra are floored
LSD_BLOCK = 1024  # frames transformed at once
LAG_SECONDS = 0.1  # the longest delay that is looked for
LAG_CLEAR = 0.2  # normalised correlation under which a delay is a guess


class Refused(GanDenoiseError):
    """A metric cannot score this clip; the message says why."""


class MissingMetric(GanDenoiseError, ImportError):
    """The package of a metric is not installed; the message says how to get it."""


class Metric(NamedTuple):
    """What a column means."""

    label: str
    unit: str
    higher_is_better: bool
    definition: str
    package: str | None = None  # outside the core dependencies


_MEL = "mel01 in [0, 1] of the generator"
_WAVE = "mel01 in [0, 1] of the waveform, analysed again"
METRICS: dict[str, Metric] = {
    "pesq_wb": Metric("PESQ wb", "MOS-LQO", True, "ITU-T P.862.2 at 16 kHz", "pesq"),
    "pesq_nb": Metric("PESQ nb", "MOS-LQO", True, "ITU-T P.862.1 at 8 kHz", "pesq"),
    "stoi": Metric("STOI", "0..1", True, "Taal et al. 2011, at 10 kHz", "pystoi"),
    "estoi": Metric("ESTOI", "0..1", True, "Jensen & Taal 2016, at 10 kHz", "pystoi"),
    "si_sdr": Metric("SI-SDR", "dB", True, "Le Roux et al. 2019, zero mean, whole clip"),
    "snr": Metric("SNR", "dB", True, "energy of clean over energy of the error, whole clip"),
    "lsd": Metric("LSD", "dB", False, "log-spectral distance, 32 ms Hann, floor -60 dB"),
    "psnr_mel": Metric("PSNR mel", "dB", True, f"peak 1, {_MEL}"),
    "mse_mel": Metric("MSE mel", "", False, _MEL),
    "snr_mel": Metric("SNR mel", "dB", True, f"energies of {_MEL}"),
    "psnr_mel_wave": Metric("PSNR wave", "dB", True, f"peak 1, {_WAVE}"),
    "mse_mel_wave": Metric("MSE wave", "", False, _WAVE),
}


class Errors:
    """What MSE, PSNR and SNR are made of, added up part by part.

    Attributes:
        count: Values compared.
        energy: Sum of the clean ones' squares.
        error: Sum of the squared differences.
    """

    def __init__(self) -> None:
        self.count, self.energy, self.error = 0, 0.0, 0.0

    @classmethod
    def between(cls, clean: Any, estimate: Any) -> Errors:
        """Return the sums over two signals or mels of equal shape."""
        sums = cls()
        for pair in _blocks(*_pair(clean, estimate)):
            sums.add(*pair)
        return sums

    def add(self, clean: np.ndarray, estimate: np.ndarray) -> None:
        """Take the next values of both, of equal shape."""
        clean = np.asarray(clean, np.float64)
        self.count += clean.size
        self.energy += float(np.sum(clean**2))
        self.error += float(np.sum((clean - estimate) ** 2))

    @property
    def mse(self) -> float:
        """Mean squared error."""
        return self.error / self.count

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB, peak 1; inf where they are equal."""
        return _decibel(1.0, self.mse)

    @property
    def snr(self) -> float:
        """Ratio of the energies of clean and error in dB; inf where they are equal.

        Raises:
            Refused: The clean one is zero throughout.
        """
        if not self.energy:
            raise Refused("clean is silent")
        return _decibel(self.energy, self.error)


def available() -> dict[str, bool]:
    """Return `{package: importable}` of the packages that some metrics need."""
    found = {}
    for package in ("pesq", "pystoi"):
        try:
            _require(package)
            found[package] = True
        except MissingMetric:
            found[package] = False
    return found


def install_hint(package: str) -> str:
    """Return one line that says which columns a missing package takes away and how to get it."""
    names = ", ".join(name for name, metric in METRICS.items() if metric.package == package)
    builds = " (it is built from source and needs a C compiler)" if package == "pesq" else ""
    return f"no {names}: {package} is not installed{builds}; pip install {package}"


def mse_mel(clean01: np.ndarray, estimate01: np.ndarray) -> float:
    """Return the mean squared error of two mels in [0, 1], of equal shape."""
    return Errors.between(clean01, estimate01).mse


def psnr_mel(clean01: np.ndarray, estimate01: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of two mels in dB, peak 1; inf where they are equal."""
    return Errors.between(clean01, estimate01).psnr


def snr_mel(clean01: np.ndarray, estimate01: np.ndarray) -> float:
    """Return `10 log10(sum clean^2 / sum (clean - estimate)^2)` of two mels in [0, 1], in dB.

    Raises:
        Refused: The clean mel is zero throughout.
    """
    return snr(clean01, estimate01)


def snr(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Return the signal-to-noise ratio of whole-clip energies in dB; inf where they are equal.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.

    Raises:
        Refused: The clean clip is silent.
    """
    return Errors.between(clean, estimate).snr


def si_sdr(clean: np.ndarray, estimate: np.ndarray) -> float:
    """Return the scale-invariant signal-to-distortion ratio in dB.

    Le Roux, Wisdom, Erdogan & Hershey, "SDR - half-baked or well done?", ICASSP 2019, both signals
    with their mean removed. It depends on the angle between them only: it is the same for any
    scale or sign of either, and for swapped arguments. A delay of a few samples ruins it (`lag`).

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.

    Returns:
        dB; inf where the estimate is the scaled clean, to rounding; -inf where they are orthogonal.

    Raises:
        Refused: One of them is silent or constant.
    """
    clean, estimate = _pair(clean, estimate)
    units = _Unit(clean, "clean"), _Unit(estimate, "estimate")
    cosine = math.fsum(float(c @ e) for c, e in _unit_blocks(units))
    residual = math.fsum(float(np.sum((e - cosine * c) ** 2)) for c, e in _unit_blocks(units))
    rounding = (8 * np.finfo(np.float64).eps) ** 2
    return _decibel(cosine**2, residual if residual > rounding else 0.0)


def lsd(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return the log-spectral distance in dB.

    In each frame the root of the mean, over bins, of the squared difference of the two log power
    spectra in dB; then the mean over frames (Gray & Markel, "Distance measures for speech
    processing", IEEE TASSP 24(5), 1976). Hann windows of 32 ms every 8 ms. Both power spectra are
    floored 60 dB below the clean clip's mean power in a bin: without a floor, digital silence
    would decide the result.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz.

    Raises:
        Refused: The clean clip is silent, or shorter than one window.
    """
    clean, estimate = _pair(clean, estimate)
    _require_sound(clean, estimate)
    size, hop = (max(1, round(seconds * sample_rate)) for seconds in LSD_SECONDS)
    if len(clean) < size:
        raise Refused(f"shorter than a window of {1000 * LSD_SECONDS[0]:.0f} ms")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    power = math.fsum(float(np.sum(block**2)) for block, _ in _blocks(clean, clean)) / len(clean)
    floor = power * np.sum(window**2) * 10 ** (-LSD_RANGE_DB / 10)
    frames = 1 + (len(clean) - size) // hop
    total = 0.0
    for first in range(0, frames, LSD_BLOCK):
        inside = slice(first * hop, (min(first + LSD_BLOCK, frames) - 1) * hop + size)
        decibel = []
        for signal in (clean, estimate):
            view = np.lib.stride_tricks.sliding_window_view(_float64(signal, inside), size)[::hop]
            power = np.abs(fft.rfft(view * window, axis=-1)) ** 2
            decibel.append(10 * np.log10(np.maximum(power, floor)))  # [frames, bins]
        total += float(np.sum(np.sqrt(np.mean((decibel[0] - decibel[1]) ** 2, axis=-1))))
    return total / frames


def pesq_wb(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return wideband PESQ as MOS-LQO (ITU-T P.862.2), 1.04 to 4.64.

    A clip longer than 20 s is scored in equal parts of at most 20 s and the mean of the parts is
    returned, parts without speech left out: the reference code has room for 50 utterances, and
    writes behind its arrays (a crash, or a wrong score) when it finds more.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz; 16000.

    Raises:
        Refused: PESQ finds no speech, the clip is shorter than 1/4 s, or the estimate is silent.
        ValueError: Another sample rate.
        MissingMetric: `pesq` is not installed.
    """
    return _pesq(clean, estimate, sample_rate, "wb")


def pesq_nb(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return narrowband PESQ as MOS-LQO (ITU-T P.862 mapped by P.862.1), 1.02 to 4.55.

    This is not the raw P.862 score, which is higher for the same files. Long clips, arguments and
    errors are those of `pesq_wb`; the sample rate is 8000 or 16000 Hz.
    """
    return _pesq(clean, estimate, sample_rate, "nb")


def stoi(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return short-time objective intelligibility (Taal et al. 2011), about 0 to 1.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`; a silent one scores 0.
        sample_rate: Hz; pystoi resamples to 10 kHz by itself.

    Raises:
        Refused: The clean clip is silent, or has less than 30 frames (0.4 s) of speech.
        MissingMetric: `pystoi` is not installed.
    """
    return _stoi(clean, estimate, sample_rate, extended=False)


def estoi(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return extended STOI (Jensen & Taal 2016): much lower than STOI on the same files.

    Arguments and errors are those of `stoi`.
    """
    return _stoi(clean, estimate, sample_rate, extended=True)


def lag(clean: np.ndarray, estimate: np.ndarray, sample_rate: int) -> float:
    """Return the delay of the estimate behind the clean clip, in seconds, to a sample.

    The place of the largest absolute cross-correlation within 0.1 s. SNR, SI-SDR and LSD compare
    sample by sample and are meaningless where this is not 0.

    Args:
        clean: `[samples]`.
        estimate: `[samples]`.
        sample_rate: Hz.

    Raises:
        Refused: One of them is silent, or they correlate too little to tell (a lost phase).
    """
    clean, estimate = _pair(clean, estimate)
    units = _Unit(clean, "clean"), _Unit(estimate, "estimate")
    reach = min(round(LAG_SECONDS * sample_rate), len(clean) - 1)
    block = min(BLOCK, len(clean))
    size = fft.next_fast_len(block + 2 * reach, real=True)  # no wrap-around within reach
    around = np.zeros(2 * reach + 1)  # correlation at delays from -reach to reach
    for start in range(0, len(clean), block):
        near = units[1].block(start - reach, start + block + reach)
        here = fft.rfft(units[0].block(start, start + block), size)
        around += fft.irfft(fft.rfft(near, size) * np.conj(here), size)[: len(around)]
    around = np.abs(around)
    peak = int(np.argmax(around))
    if around[peak] < LAG_CLEAR:
        raise Refused(f"no clear alignment: correlation {around[peak]:.2f} at most")
    return (peak - reach) / sample_rate


def _pesq(clean: np.ndarray, estimate: np.ndarray, sample_rate: int, band: str) -> float:
    if sample_rate not in PESQ_RATES[band]:
        raise ValueError(f"pesq_{band} is defined at {PESQ_RATES[band]} Hz, not {sample_rate}")
    clean, estimate = _pair(clean, estimate)
    _require_sound(clean, estimate)
    package = _require("pesq")
    scores = []
    for inside in _equal_parts(len(clean), math.ceil(len(clean) / (PESQ_SECONDS * sample_rate))):
        part = [_float64(signal, inside) for signal in (clean, estimate)]
        if not np.any(part[0]):
            continue
        try:
            score = float(package.pesq(sample_rate, *part, band))
        except package.NoUtterancesError:
            continue
        except package.BufferTooShortError:
            raise Refused("shorter than 1/4 s") from None
        except ValueError:  # pesq's own NaN
            if np.any(part[1]):
                raise
            raise Refused("estimate is silent where clean speaks") from None
        if not 1.0 <= score <= 5.0:
            raise Refused(f"pesq returned {score}, which is no MOS")
        scores.append(score)
    if not scores:
        raise Refused("PESQ found no speech in the clean clip")
    return float(np.mean(scores))


def _stoi(clean: np.ndarray, estimate: np.ndarray, sample_rate: int, extended: bool) -> float:
    clean, estimate = _pair(clean, estimate)
    loudest = _require_sound(clean, estimate)
    package = _require("pystoi")
    too_little = Refused(f"less than {STOI_SECONDS} s of speech: STOI needs 30 frames")
    if len(clean) < STOI_SECONDS * sample_rate:  # pystoi fails on the shortest
        raise too_little
    gain = 1 / loudest  # one for both: pystoi adds constants to the faintest signals
    if len(clean) > STOI_WHOLE_SECONDS * sample_rate:
        score = stoi_in_blocks(clean, estimate, sample_rate, extended, gain, STOI_BLOCK)
        if score is None:
            raise too_little
        return score
    whole = [gain * _float64(signal, slice(None)) for signal in (clean, estimate)]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames")
        try:
            score = float(package.stoi(*whole, sample_rate, extended))
        except RuntimeWarning:
            raise too_little from None
    if score == 1e-5:  # pystoi's stand-in, should it come without the warning
        raise too_little
    return score


def _pair(clean: Any, estimate: Any) -> tuple[Any, Any]:
    """Return both as arrays or signals of one shape."""
    clean, estimate = (x if isinstance(x, Signal) else np.asarray(x) for x in (clean, estimate))
    if clean.shape != estimate.shape:
        raise ValueError(f"clean is {clean.shape}, estimate is {estimate.shape}")
    if 0 in clean.shape:
        raise Refused("empty")
    return clean, estimate


def _float64(signal: Any, place: slice) -> np.ndarray:
    return np.asarray(signal[place], np.float64)


def _blocks(clean: Any, estimate: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield both as finite float64, block by block."""
    for start in range(0, len(clean), BLOCK):
        pair = [_float64(signal, slice(start, start + BLOCK)) for signal in (clean, estimate)]
        for block, name in zip(pair, ("clean", "estimate"), strict=True):
            if not np.all(np.isfinite(block)):
                raise ValueError(f"{name} holds NaN or infinite values")
        yield tuple(pair)


def _equal_parts(samples: int, count: int) -> Iterator[slice]:
    """Yield places of parts whose lengths differ by one sample at most, the longer ones first."""
    length, longer = divmod(samples, count)
    for number in range(count):
        start = number * length + min(number, longer)
        yield slice(start, start + length + (number < longer))


def _require_sound(clean: Any, estimate: Any) -> float:
    """Return the clean clip's peak, where both are finite and it is not silent."""
    peak = max(float(np.max(np.abs(block))) for block, _ in _blocks(clean, estimate))
    if not peak:
        raise Refused("clean is silent")
    return peak


class _Unit:
    """A signal without its mean, at energy 1, read by blocks."""

    def __init__(self, signal: Any, name: str):
        self._signal, self._name = signal, name
        self._peak = self._energy = 1.0
        self._mean = 0.0
        peak = max(map(_peak, self))
        self._mean = math.fsum(float(np.sum(block)) for block in self) / len(signal)
        # What rounding leaves of a constant:
        if max(map(_peak, self)) <= 1e-12 * peak:
            raise Refused(f"{name} is silent")
        self._peak = peak  # squares of the faintest signals would underflow
        self._energy = math.fsum(float(np.sum(block**2)) for block in self)

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self._signal), BLOCK):
            yield self.block(start, start + BLOCK)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return `[start, stop)`, zeros before the beginning; what is behind the end is left out.

        Raises:
            ValueError: For samples that are not finite.
        """
        inside = _float64(self._signal, slice(max(start, 0), stop))
        if not np.all(np.isfinite(inside)):
            raise ValueError(f"{self._name} holds NaN or infinite values")
        inside = (inside - self._mean) / self._peak / math.sqrt(self._energy)
        return np.pad(inside, (max(-start, 0), 0)) if start < 0 else inside


def _unit_blocks(units: tuple[_Unit, _Unit]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return zip(*units, strict=True)


def _peak(block: np.ndarray) -> float:
    return float(np.max(np.abs(block)))


def _decibel(signal: float, error: float) -> float:
    if error == 0:
        return math.inf
    return 10 * math.log10(signal / error) if signal > 0 else -math.inf


def _require(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingMetric(install_hint(package)) from error
