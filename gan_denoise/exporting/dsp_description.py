"""`dsp.json`: the signal processing around a network, for programs in other languages.

Numbers are taken from the settings and from what computes with them; formulas are short strings
that name these numbers. `scripts/onnx_example.py` follows the description, and a test compares it
with the package.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from gan_denoise.config.artifacts import DSP, FILTERBANK
from gan_denoise.config.schema import Config, GainInversion, MelConfig
from gan_denoise.dsp.mel import WEIGHT_FLOOR
from gan_denoise.exporting.formats import FORMATS, check_formats
from gan_denoise.inference.chunks import MIRRORED_WINDOWS

FORMAT_VERSION = 1  # of dsp.json
NPY_HEADER = 128  # bytes before the data of a two-dimensional .npy: NumPy pads to multiples of 64

_ORDER = "samples -> end -> stft -> mel -> normalisation -> network -> gain -> istft -> samples"
_SAMPLES = "floats, full scale is 1, not normalised in any way; each channel by itself"
_RESAMPLING = (
    "A recording of another rate is resampled to sample_rate by any good band-limited resampler "
    "without delay (soxr HQ here); the removed signal (noisy - cleaned) is resampled back and "
    "subtracted from the recording. What lies above sample_rate / 2 is so kept as it is; this "
    "package also gives it the gain of the bands above sample_rate / 4: the root of their energy "
    "after over before, linear between frames"
)


def write_dsp(folder: Path, config: Config, formats: Iterable[str] = ("onnx",)) -> None:
    """Write `dsp.json` into a model folder."""
    text = json.dumps(describe_dsp(config, formats), indent=1, allow_nan=False)
    (Path(folder) / DSP).write_text(text + "\n", encoding="utf-8")


def describe_dsp(config: Config, formats: Iterable[str] = ("onnx",)) -> dict[str, object]:
    """Return all that a program in another language must know to run a model.

    Args:
        config: Settings of the model.
        formats: The formats that its folder holds.

    Returns:
        Numbers in fields and formulas in short strings, fit for JSON.
    """
    return {
        "format_version": FORMAT_VERSION,
        "order": _ORDER,
        "sample_rate": config.audio.sample_rate,
        "samples": _SAMPLES,
        "resampling": _RESAMPLING,
        "end": {
            "samples": MIRRORED_WINDOWS * config.mel.n_fft,
            "rule": "The recording goes on for so many samples as its mirror image: the last "
                    "sample comes again, then the one before it; one that is shorter is mirrored "
                    "again. They are cut off at last",
        },
        "stft": _stft(config.mel),
        "mel": _mel(config),
        "normalisation": _normalisation(config.mel),
        "network": _network(config, formats),
        "gain": _gain(config.inversion.gain),
        "istft": {
            "weight_floor": WEIGHT_FLOOR,
            "formula": "y = overlap-add of w[n] irfft(Y[t])[n] at t hop_length, divided by "
                       "max(overlap-add of w[n]^2, weight_floor); the real inverse DFT scales by "
                       "1 / n_fft; then drop padding.left samples and keep as many as came in",
        },
        "chunks": _chunks(config),
        "inversion": {
            "name": config.inversion.name,
            "phase_steps": getattr(config.inversion, "phase_steps", 0),
            "gain": "what `gain` and `istft` say; enough for every model",
            "gain+phase": "before the last istft, phase_steps times: Z = stft(istft(Y)), Y = "
                          "|Y| Z / max(|Z|, 1e-12)",
            "griffinlim": "of this package, for a mel without its noisy recording; a port does "
                          "without it",
        },
    }


def _bins(mel: MelConfig) -> int:
    return mel.n_fft // 2 + 1


def _stft(mel: MelConfig) -> dict[str, object]:
    left = (mel.n_fft - mel.win_length) // 2
    return {
        "n_fft": mel.n_fft, "win_length": mel.win_length, "hop_length": mel.hop_length,
        "bins": _bins(mel),
        "window": {
            "name": "periodic Hann",
            "formula": "w[n] = 0.5 - 0.5 cos(2 pi n / win_length), 0 <= n < win_length; with "
                       "zeros_left and zeros_right around it, n_fft in all",
            "zeros_left": left, "zeros_right": mel.n_fft - mel.win_length - left,
        },
        "padding": {"mode": "zeros", "left": mel.n_fft // 2, "right": mel.n_fft // 2},
        "frames": "1 + floor(samples / hop_length)",
        "formula": "X[t, k] = sum over 0 <= n < n_fft of w[n] padded[t hop_length + n] "
                   "exp(-2 pi i k n / n_fft), 0 <= k < bins; no scaling",
    }


def _mel(config: Config) -> dict[str, object]:
    mel = config.mel
    return {
        "file": FILTERBANK,
        "shape": [mel.n_mels, _bins(mel)], "dtype": "float32", "byte_order": "little",
        "offset_bytes": NPY_HEADER,
        "layout": "row-major, a band after the other; without an .npy reader skip "
                  "offset_bytes and read n_mels * bins floats to the end of the file",
        "n_mels": mel.n_mels, "fmin": mel.fmin,
        "fmax": config.audio.sample_rate / 2 if mel.fmax is None else mel.fmax,
        "scale": ("Slaney, area norm (librosa.filters.mel)" if mel.filters == "mel" else
                  "none: a band for each bin"),
        "power": 1,
        "formula": "mel[t, m] = sum over k of bank[m, k] |X[t, k]|",
    }


def _normalisation(mel: MelConfig) -> dict[str, object]:
    described: dict[str, object] = {
        "floor": mel.floor, "offset_db": mel.offset_db, "range_db": mel.range_db,
        "low": 0.0, "high": 1.0,
        "formula": "mel01 = clip((20 log10(max(mel, floor)) + offset_db) / range_db, low, "
                   "high)",
        "inverse": "mel = 10^((mel01 range_db - offset_db) / 20)",
    }
    if mel.n_mfcc:
        described["mfcc"] = {
            "count": mel.n_mfcc, "ranges": [list(pair) for pair in mel.mfcc_range],
            "formula": "c[t, i] = the first count values of the orthonormal DCT-II over m of "
                       "20 log10(max(mel[t, m], floor)); mfcc01 = clip((c - low_i) / (high_i - "
                       "low_i), 0, 1); a frame is its n_mels of mel01, then its mfcc01; of the "
                       "estimate only the mel01 is used",
        }
    return described


def _network(config: Config, formats: Iterable[str]) -> dict[str, object]:
    from gan_denoise.models.generators import receptive_field, time_stride

    frames, stride = config.generator.frames, time_stride(config)
    tensor = {"shape": ["batch", frames or "frames", config.mel.bands], "dtype": "float32",
              "layout": "row-major: the bands of a frame lie together, lowest first"}
    described = {
        "input": {"name": "noisy_mel"} | tensor, "output": {"name": "estimate_mel"} | tensor,
        "values": "mel01 of the noisy recording -> mel01 of the clean estimate",
        "receptive_field": receptive_field(config), "time_stride": stride,
    }
    if frames:
        fade = frames - stride
        described["windows"] = (
            f"it takes {frames} frames: window i begins at frame i {stride}, frames of a mel of "
            "zeros, normalised, behind the recording's last; where windows overlap, the estimate "
            f"is their mean, weighted by min(1, (j + 0.5) / {fade}, ({frames} - j - 0.5) / {fade}) "
            "at a window's frame j"
        )
    described["formats"] = {name: {"file": FORMATS[name].file, "call": FORMATS[name].call}
                            for name in check_formats(formats)}
    return described


def _gain(inversion: GainInversion) -> dict[str, object]:
    described: dict[str, object] = {
        "max_gain_db": inversion.max_gain_db,
        "band_formula": "band_gain[t, m] = 10^(min((estimate01 - noisy01) range_db, "
                        "max_gain_db) / 20)",
    }
    if inversion.gain_smoothing != (1, 1):
        described |= {
            "smoothing": list(inversion.gain_smoothing),
            "smoothed": "before min, (estimate01 - noisy01) is the mean over so many frames and "
                        "bands around [t, m], those that there are",
        }
    if inversion.gain_offset_db:
        described |= {"offset_db": inversion.gain_offset_db,
                      "raised": "before min, offset_db is added to the decibels"}
    return described | {
        "spread_formula": "spread[m, k] = bank[m, n(k)] / sum over j of bank[j, n(k)]",
        "uncovered_bins": "n(k) = k where bin k has a band over it (its column of bank sums "
                          "to more than 0), else the nearest such bin; of two equally near "
                          "ones the lower",
        "formula": "Y[t, k] = X[t, k] * sum over m of band_gain[t, m] spread[m, k]; the noisy "
                   "phase is kept",
    }


def _chunks(config: Config) -> dict[str, object]:
    from gan_denoise.models.generators import receptive_field, time_stride

    mel = config.mel
    grid = mel.hop_length * time_stride(config)
    # Frames on each side that a gain depends on.
    reach = receptive_field(config) + config.inversion.gain.gain_smoothing[0] // 2
    return {
        "grid_samples": grid,
        "context_samples": -(-(reach * mel.hop_length + mel.n_fft) // grid) * grid,
        "rule": "A long recording may be cleaned in parts. A part starts at a multiple of "
                "grid_samples; of its output, drop context_samples at both ends, except at "
                "the ends of the recording: what is left equals the whole",
    }
