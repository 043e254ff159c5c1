"""What a model folder may hold, so that one from a stranger can be used: files, network, settings.

Its parts are read whole, and only up to a size. The network may have no operator but ONNX's own, no
loops and no data in other files, and its tensors only so much memory. The settings may ask for no
transform that takes more memory or time than any speech model needs.
"""

from __future__ import annotations

import functools
import math
import stat
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from gan_denoise.config.artifacts import CARD, CARD_TEXT, FILTERBANK, NETWORK, SETTINGS
from gan_denoise.config.schema import Config
from gan_denoise.core.checksums import SUMS
from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.core.processes import cores

LARGEST = {NETWORK: 2**29, FILTERBANK: 2**26, SETTINGS: 2**20, CARD: 2**20,
           CARD_TEXT: 2**20, SUMS: 2**20}  # bytes
# Bytes of the tensors of all networks of a process: so much, and so much more for each core.
TENSOR_BYTES, TENSOR_BYTES_OF_CORE = 2**30, 2**29
# They come from one block, taken in use as it is needed, where those of three parts of a recording
# fit; of a free piece of it no more than this is given away with a smaller tensor. Several blocks,
# pieces given whole: a tenth more memory.
ARENA_BYTES, ARENA_REST = 2**27, 2**16
# Of the settings.
MOST_RATE, MOST_FFT, MOST_STEPS, MOST_DECIBELS = 768_000, 2**16, 10_000, 1000.0
MOST_VALUES = 2**20  # of the STFT, in a second of audio
LONGEST_SECONDS = 120.0  # of what an estimate depends on, on each side, and of a window
LONGEST_HOP_SECONDS = 1.0
OWN_DOMAINS = (b"", b"ai.onnx")


class ModelError(GanDenoiseError):
    """A model cannot be loaded or used."""


# ---- Files -------------------------------------------------------------------------------------
def read_part(folder: Path, name: str) -> bytes:
    """Return the content of a file of a model folder.

    Raises:
        ModelError: When it is a link out of the folder, no regular file, or too large; nothing of
            it is read then.
        OSError: When it cannot be read.
    """
    path = folder / name
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{path}: is a link out of the model folder", "copy the file itself there")
    with open(path, "rb") as file:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"{path}: is no regular file")
        content = file.read(LARGEST[name] + 1) if status.st_size <= LARGEST[name] else None
    if content is None or len(content) > LARGEST[name]:
        raise ModelError(f"{path}: has {status.st_size:,} bytes, and a model's at most "
                         f"{LARGEST[name]:,}")
    return content


# ---- Network -----------------------------------------------------------------------------------
def check_network(network: bytes) -> None:
    """Refuse an ONNX file that could load code or other files, or never end.

    Args:
        network: The file, a `ModelProto` (onnx.proto of ONNX 1.17).

    Raises:
        ModelError: For operators of other domains, functions, graphs within operators (If, Loop,
            Scan), or external data.
        ValueError: When the bytes are no message of Protocol Buffers.
    """
    for number, value in _fields(memoryview(network)):
        if number == 8:  # opset_import
            for inner, part in _fields(value):
                if inner == 1:
                    _check_domain(part)
        elif number in (20, 25):  # training_info, functions
            raise ModelError("its network brings functions of its own; only operators of ONNX run")
        elif number == 7:  # graph
            _check_graph(value)


def _check_graph(graph: memoryview) -> None:
    for number, value in _fields(graph):
        if number == 1:  # node
            for inner, part in _fields(value):
                if inner == 7:  # domain
                    _check_domain(part)
                elif inner == 5:  # attribute
                    _check_attribute(part)
        elif number == 5:  # initializer
            _check_tensor(value)
        elif number == 15:  # sparse_initializer
            _check_sparse(value)


def _check_attribute(attribute: memoryview) -> None:
    for number, value in _fields(attribute):
        if number in (6, 11):  # g, graphs
            raise ModelError("its network has graphs within operators (If, Loop, Scan), which may "
                             "never end")
        if number in (5, 10):  # t, tensors
            _check_tensor(value)
        elif number in (22, 23):  # sparse_tensor, sparse_tensors
            _check_sparse(value)


def _check_sparse(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number in (1, 2):  # values, indices
            _check_tensor(value)


def _check_tensor(tensor: memoryview) -> None:
    for number, value in _fields(tensor):
        if number == 13 or (number == 14 and value):  # external_data, data_location
            raise ModelError("its network keeps weights in other files (external data)",
                             "save it as one file")


def _check_domain(domain: Any) -> None:
    if domain not in OWN_DOMAINS:
        # A number is no text: bytes of it would be so many zeros.
        shown = str(domain[:60], "utf-8", "backslashreplace") if isinstance(
            domain, memoryview) else str(domain)
        raise ModelError(f"its network has operators of the domain {shown!r}; only those of ONNX "
                         "itself run")


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Yield number and value of each field of a message: bytes, or an integer of a varint."""
    if not isinstance(message, memoryview):
        raise ValueError("a number where a message was expected")
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        if at + size > end:
            raise ValueError("a field goes on behind its message")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at >= len(message):
            raise ValueError("it ends within a number")
        byte = message[at]
        value |= (byte & 127) << 7 * place
        at += 1
        if byte < 128:
            return value, at
    raise ValueError("a number of more than 10 bytes")


@functools.cache
def limit_tensors(onnxruntime: ModuleType) -> int:
    """Bound the memory of all networks of this process that use it; return the bytes.

    A small file can ask for any amount: the sum of a column and a row is a matrix.
    """
    limit = TENSOR_BYTES + cores() * TENSOR_BYTES_OF_CORE
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo("Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0,
                                  onnxruntime.OrtMemType.DEFAULT),
        onnxruntime.OrtArenaCfg(limit, -1, ARENA_BYTES, ARENA_REST))
    return limit


# ---- Settings and transform --------------------------------------------------------------------
def check_settings(config: Config) -> None:
    """Refuse settings of a model that no recording could be denoised by in bounded memory and time.

    Raises:
        ModelError: Naming the setting and its limit.
    """
    mel, rate, inversion = config.mel, config.audio.sample_rate, config.inversion
    values = rate / mel.hop_length * (mel.n_fft // 2 + 1)
    limits = {
        "audio.sample_rate": (rate, MOST_RATE), "mel.n_fft": (mel.n_fft, MOST_FFT),
        "mel.n_mels": (mel.n_mels, MOST_FFT),
        "mel: values in a second of the STFT": (round(values), MOST_VALUES),
        "mel.hop_length in seconds": (mel.hop_length / rate, LONGEST_HOP_SECONDS),
        "generator.frames in seconds": (config.generator.frames * mel.hop_length / rate,
                                        LONGEST_SECONDS),
        "inversion.griffinlim_steps": (getattr(inversion, "griffinlim_steps", 0), MOST_STEPS),
        "inversion.phase_steps": (getattr(inversion, "phase_steps", 0), MOST_STEPS),
        **{f"{section}.{key}": (abs(getattr(values_of, key, 0.0)), MOST_DECIBELS)
           for section, values_of, keys in (
               ("mel", mel, ("offset_db", "range_db")),
               ("inversion", inversion, ("max_gain_db", "gain_offset_db"))) for key in keys},
    }
    for name, (value, limit) in limits.items():
        if value > limit:
            raise ModelError(f"{name}: {value:g}, and of a model at most {limit:g}")
    check_context(config, 0)


def check_context(config: Config, receptive_field: int) -> None:
    """Refuse a model whose estimates depend on too long a part of a recording.

    Args:
        config: Its settings.
        receptive_field: Frames on each side that the network looks at.

    Raises:
        ModelError: When it is longer than `LONGEST_SECONDS`.
    """
    overlap = -(-config.mel.n_fft // config.mel.hop_length)
    frames = receptive_field + config.inversion.reach(overlap) + overlap
    seconds = frames * config.mel.hop_length / config.audio.sample_rate
    if seconds > LONGEST_SECONDS:
        raise ModelError(f"an estimate depends on {seconds:.4g} s on each side, and of a model on "
                         f"at most {LONGEST_SECONDS:g}")


def check_filterbank(bank: Any) -> None:
    """Refuse what is no matrix of finite, non-negative weights.

    Raises:
        ModelError: When it is none.
    """
    if not (isinstance(bank, np.ndarray) and bank.ndim == 2 and bank.dtype.kind == "f"
            and bool(np.isfinite(bank).all()) and bank.min(initial=math.inf) >= 0
            and bank.any()):
        raise ModelError(f"{FILTERBANK} is no matrix of finite weights from 0 on")


def whole_number(text: str, name: str, least: int) -> int:
    """Return a number that the network states of itself.

    Raises:
        ModelError: When it is no whole number, or less than `least`.
    """
    if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < least:
        raise ModelError(f"{NETWORK} says {name} {text[:40]!r}, expected a whole number from "
                         f"{least} on")
    return int(text)
