"""A model folder loaded: the network on ONNX Runtime, its transform, its settings."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from gan_denoise.config import ConfigError, checkpoint_folder
from gan_denoise.config.artifacts import (
    FILTERBANK,
    FIRST_FRAME,
    INFERENCE_PARTS,
    LATEST,
    NETWORK,
    SETTINGS,
    STOP_FRAME,
)
from gan_denoise.config.saved import settings_of_stranger
from gan_denoise.config.schema import Config
from gan_denoise.core.checksums import SUMS, DamagedError, check_sums
from gan_denoise.core.native_libraries import FATAL, load_onnxruntime
from gan_denoise.dsp.mel import Mel
from gan_denoise.dsp.overlap_add import windowed
from gan_denoise.inference.model_limits import (
    ModelError,
    check_context,
    check_filterbank,
    check_network,
    check_settings,
    limit_tensors,
    read_part,
    whole_number,
)

DEFAULT_MODEL = "calm"


@dataclass(frozen=True)
class Model:
    """A network with all that is needed to use it.

    Attributes:
        folder: Where it was loaded from.
        config: Its settings.
        mel: Its transform.
        receptive_field: Number of frames on each side that a frame's estimate depends on.
        time_stride: Windows of a recording begin at multiples of this number of frames.
        frames: Length of a window of a network that takes no other; 0: any number.
        fingerprint: Hash of its parts.
        session: Session of ONNX Runtime; several threads may run it at once.
        keeps_frames: Whether it can be asked for some frames alone; older exports cannot.
    """

    folder: Path
    config: Config
    mel: Mel
    receptive_field: int
    time_stride: int
    frames: int
    fingerprint: str
    session: Any
    keeps_frames: bool = False

    @classmethod
    def load(cls, name: str | Path = DEFAULT_MODEL) -> Model:
        """Load a model folder, or a shipped model by name; it may come from a stranger.

        Nothing in it can run code or name other files: see `model_limits`.

        Raises:
            ModelError: When there is no such model, a part is missing, it is too new, or it is
                beyond the limits.
        """
        folder = find_model(name)
        digest = hashlib.blake2b(digest_size=16)
        try:
            parts = {part: read_part(folder, part) for part in INFERENCE_PARTS}
            if (folder / SUMS).is_file():
                read_part(folder, SUMS)
            check_sums(folder, parts)
            config = settings_of_stranger(folder / SETTINGS)
            check_settings(config)
            bank = np.load(io.BytesIO(parts[FILTERBANK]), allow_pickle=False)
            check_filterbank(bank)
            check_network(parts[NETWORK])
            session = _session(parts[NETWORK])
            field, stride = _geometry(session)
            check_context(config, field)
            mel = Mel(config.audio, config.mel, bank)
        except (ModelError, ConfigError, DamagedError) as error:
            raise ModelError(_with_folder(folder, error.reason), error.way_out) from error
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise ModelError(f"{folder}: not a usable model ({error}); export it again") from error
        for part in INFERENCE_PARTS:
            digest.update(parts[part])
        return cls(folder, config, mel, field, stride, config.generator.frames,
                   digest.hexdigest(), session, FIRST_FRAME.encode() in parts[NETWORK])

    def estimate(self, noisy01: np.ndarray, kept: slice = slice(None)) -> np.ndarray:
        """Return the network's estimate of the clean mel.

        Args:
            noisy01: mel01, float32 `[frames, bands]` or `[batch, frames, bands]`.
            kept: The frames that are asked for; computing them alone takes less time. All of the
                mel is looked at.

        Returns:
            mel01 of the same shape, but of these frames.
        """
        batch = noisy01 if noisy01.ndim == 3 else noisy01[None]
        first, stop, _ = kept.indices(batch.shape[1])
        if self.keeps_frames:
            estimate = self._keep(batch, first, stop)
        else:
            estimate = windowed(self._run, batch, self.frames, self.mel.silence)[:, first:stop]
        return estimate if noisy01.ndim == 3 else estimate[0]

    def _keep(self, noisy01: np.ndarray, first: int, stop: int) -> np.ndarray:
        """Return frames from `first` on to before `stop`; the network keeps whole strides."""
        before = first % self.time_stride
        begin, end = first - before, stop + -stop % self.time_stride
        limits = {FIRST_FRAME: np.int64([begin]), STOP_FRAME: np.int64([end])}
        kept = self._run(noisy01, limits, min(end, noisy01.shape[1]) - begin)
        return kept[:, before : before + stop - first]

    def _run(self, noisy01: np.ndarray, more: Mapping[str, np.ndarray] = MappingProxyType({}),
             frames: int | None = None) -> np.ndarray:
        """Run the network; so many frames come out of it, or as many as go in."""
        try:
            estimate = self.session.run(["estimate_mel"], {"noisy_mel": noisy01, **more})[0]
        except Exception as error:  # ONNX Runtime's errors share no base class
            reason = " ".join(str(error).split())
            raise ModelError(f"{self.folder}: the network cannot be run ({reason})",
                             "export the model again") from error
        batch, total, bands = noisy01.shape
        shape = batch, total if frames is None else frames, bands
        if not (isinstance(estimate, np.ndarray) and estimate.shape == shape
                and estimate.dtype == np.float32 and math.isfinite(estimate.sum())):
            raise ModelError(f"{self.folder}: the network's estimate is no mel of {shape} finite "
                             "numbers", "export the model again")
        return estimate


def _session(network: bytes) -> Any:
    """Return the session of a network that was checked."""
    onnxruntime = load_onnxruntime()
    limit_tensors(onnxruntime)
    options = onnxruntime.SessionOptions()
    # One thread: parts of a recording run side by side instead, the transforms with them, and
    # what comes out does not depend on the machine's cores.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # a plan for each length would be kept
    options.log_severity_level = FATAL  # its errors are raised
    options.add_session_config_entry("session.use_env_allocators", "1")  # those that are limited
    return onnxruntime.InferenceSession(
        with_limits(network), options, providers=["CPUExecutionProvider"])


def _geometry(session: Any) -> tuple[int, int]:
    """Return the receptive field and the time stride that a network states."""
    stated = session.get_modelmeta().custom_metadata_map
    least = {"receptive_field": 0, "time_stride": 1}
    missing = sorted(set(least) - set(stated))
    if missing:
        raise ModelError(f"{NETWORK} does not say its {', '.join(missing)}",
                         "export the model again")
    field, stride = (whole_number(stated[name], name, value) for name, value in least.items())
    return field, stride


def _with_folder(folder: Path, reason: str) -> str:
    return reason if reason.startswith(str(folder)) else f"{folder}: {reason}"


def with_limits(network: bytes) -> bytes:
    """Return an ONNX file whose constants FIRST_FRAME and STOP_FRAME, if it has them, are inputs.

    In the file they are none, so that other programs see one input. A message of Protocol Buffers
    that is appended to another is merged with it: here, more inputs to the graph.
    """
    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    if FIRST_FRAME.encode() not in network:
        return network
    shape = field(2, field(1, b"\x08\x01"))  # TensorShapeProto.dim, Dimension.dim_value: 1
    kind = field(2, field(1, b"\x08\x07" + shape))  # TypeProto.Tensor.elem_type: INT64
    inputs = (field(1, name.encode()) + kind for name in (FIRST_FRAME, STOP_FRAME))
    graph = b"".join(field(11, one) for one in inputs)  # GraphProto.input: ValueInfoProto
    return network + field(7, graph)  # ModelProto.graph


def find_model(model: str | Path) -> Path:
    """Return the folder of a model given as a folder or by the name of a shipped one.

    Raises:
        ModelError: When there is none, or a part of it is missing.
    """
    folder = Path(model)
    shipped = checkpoint_folder() / folder.name
    if not folder.is_dir() and str(model) == folder.name and shipped.is_dir():
        folder = shipped
    if not folder.is_dir():
        names = ", ".join(sorted(path.parent.name for path in
                                 checkpoint_folder().glob(f"*/{NETWORK}"))) or "none"
        raise ModelError(f"{model}: no such model folder; shipped models: {names}")
    missing = [part for part in INFERENCE_PARTS if not (folder / part).is_file()]
    if missing and (folder / LATEST).is_file():
        raise ModelError(f"{folder}: is a training run; first gan-denoise export {folder} -o MODEL")
    if missing:
        raise ModelError(f"{folder}: {', '.join(missing)} missing; export the model again")
    return folder
