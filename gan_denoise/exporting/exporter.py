"""From a training run to a model folder that needs neither TensorFlow nor librosa.

A model folder holds `model.onnx` (`noisy_mel` -> `estimate_mel`, any batch, any number of frames),
`config.yaml`, `mel_filterbank.npy`, `dsp.json` for ports to other languages, a model card for
people and for programs, and the weights of the networks for further fine-tuning. LiteRT and
SavedModel are written on request.
"""

from __future__ import annotations

import datetime
import json
import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan_denoise import __version__
from gan_denoise.config import dump_config
from gan_denoise.config.artifacts import (
    BEST,
    CARD,
    CARD_TEXT,
    DISCRIMINATOR_WEIGHTS,
    FILTERBANK,
    GENERATOR_WEIGHTS,
    NETWORK,
    SETTINGS,
)
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import PATHS, Config, DataConfig, TuneConfig
from gan_denoise.dsp.mel import make_filterbank
from gan_denoise.exporting.dsp_description import write_dsp
from gan_denoise.exporting.formats import FORMATS, check_formats
from gan_denoise.exporting.model_card import _card_text, _look_ahead, _warnings
from gan_denoise.models.complexity import macs_per_frame
from gan_denoise.training.checkpoints import (
    CheckpointError,
    read_progress,
    read_variables,
)

PARITY = 1e-4  # largest difference of mel01 that is let through
PARITY_FRAMES = (1, 7, 250)


def export(
    run_dir: Path,
    out: Path,
    notes: Mapping[str, Any] | None = None,
    formats: Iterable[str] = ("onnx",),
) -> dict[str, Any]:
    """Write a model folder from the best state of a run.

    Args:
        run_dir: Directory of a training run.
        out: Folder to write; replaced when it is a model folder already.
        notes: Entries added to the model card (data, licences, scores).
        formats: Of `onnx` (always written), `litert` and `savedmodel`.

    Returns:
        The model card.

    Raises:
        CheckpointError: When the run holds no best state, `out` is something else than a model, or
            a format computes something else than Keras.
        ConfigError: When there is no such format.
    """
    import keras
    import tensorflow as tf

    from gan_denoise.exporting.onnx_writer import write_onnx
    from gan_denoise.models.discriminators import build_discriminator
    from gan_denoise.models.generators import build_generator, receptive_field, time_stride
    from gan_denoise.training.initialization import assign

    run_dir, out, formats = Path(run_dir), Path(out), check_formats(formats)
    config, progress = settings_of(run_dir), read_progress(run_dir / BEST)
    taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
    if taken and not (out / NETWORK).is_file():
        raise CheckpointError(f"{out}: holds something else than a model; give another folder")
    generator = build_generator(config)
    assign(generator.variables, read_variables(run_dir / BEST, "ema.").values(), run_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        build = Path(temporary) / "model"
        build.mkdir()
        geometry = {"receptive_field": receptive_field(config), "time_stride": time_stride(config)}
        write_onnx(generator, build / NETWORK, geometry)
        parity = {}
        for name in formats:
            path = build / FORMATS[name].file
            if FORMATS[name].write is not None:
                FORMATS[name].write(generator, path)
            parity[f"{name}_parity_mel01"] = _parity(generator, path, config, name)
        bank = make_filterbank(config.audio, config.mel)
        np.save(build / FILTERBANK, np.ascontiguousarray(bank, "<f4"))  # as dsp.json says
        write_dsp(build, config, formats)
        # The recordings' paths stay at home, as does what led to these settings.
        public = config.model_copy(update={
            "data": _without_paths(config.data), "tune": TuneConfig(),
        })
        (build / SETTINGS).write_text(dump_config(public), encoding="utf-8")
        _save_weights(generator, build / GENERATOR_WEIGHTS)
        judged = read_variables(run_dir / BEST, "discriminator.")
        if judged:
            discriminator = build_discriminator(config)
            assign(discriminator.variables, judged.values(), run_dir)
            _save_weights(discriminator, build / DISCRIMINATOR_WEIGHTS)
        frame_rate = config.audio.sample_rate / config.mel.hop_length
        if config.generator.frames:  # windows overlap: a frame is computed in several
            frame_rate *= config.generator.frames / geometry["time_stride"]
        card = {
            "name": out.name,
            "kind": progress.kind,
            "steps": progress.step,
            "training_minutes": round(progress.seconds / 60, 1),
            "audio_hours_trained": round(
                progress.step * config.training.batch_size * config.training.crop_seconds / 3600, 2
            ),
            "parameters": generator.count_params(),
            "mega_macs_per_second": round(macs_per_frame(generator) * frame_rate / 1e6, 1),
            "sample_rate": config.audio.sample_rate,
            **geometry,
            "look_ahead_ms": round(_look_ahead(config, geometry["receptive_field"])),
            "validation": progress.history[-1],
            **_warnings(config, progress),
            **parity,
            "versions": {"gan_denoise": __version__, "keras": keras.__version__,
                         "tensorflow": tf.__version__, "python": platform.python_version()},
            "date": datetime.date.today().isoformat(),
            **(notes or {}),
        }
        (build / CARD).write_text(json.dumps(card, indent=1, allow_nan=False), encoding="utf-8")
        (build / CARD_TEXT).write_text(_card_text(card), encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        build.rename(out)
    return card


def _save_weights(network: Any, path: Path) -> None:
    """Save weights as Keras does, each array once: it lists a spectral-norm kernel twice."""
    import h5py

    whole = path.with_name(f"whole.{path.name}")
    network.save_weights(whole)
    stored: dict[tuple[tuple[int, ...], bytes], Any] = {}
    with h5py.File(whole) as source, h5py.File(path, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                target.require_group(name).attrs.update(item.attrs)
                return
            key = (item.shape, item[()].tobytes())
            if key in stored:
                target[name] = stored[key]  # a hard link: loaders see two arrays
            else:
                stored[key] = target.create_dataset(name, data=item[()])

        source.visititems(copy)
        target.attrs.update(source.attrs)
    whole.unlink()


def _parity(generator: Any, path: Path, config: Config, name: str = "onnx") -> float:
    """Return the largest difference between Keras and a format over several lengths."""
    run = FORMATS[name].open(path)
    rng, worst = np.random.default_rng(0), 0.0
    fixed = config.generator.frames
    for frames in (fixed,) if fixed else PARITY_FRAMES:
        noisy = rng.random((2, frames, config.mel.bands), np.float32)
        expected = np.asarray(generator(noisy, training=False))
        worst = float(np.maximum(worst, np.abs(run(noisy) - expected).max()))  # a NaN stays
    if not worst <= PARITY:
        raise CheckpointError(
            f"{path}: {FORMATS[name].title} differs from Keras by {worst:.2g} in mel01"
        )
    return worst


def _without_paths(data: DataConfig) -> DataConfig:
    """Paths of the machine that trained mean nothing to others."""
    blank = DataConfig()
    paths = [key.removeprefix("data.") for key in (*PATHS, "data.cache")]
    return data.model_copy(update={key: getattr(blank, key) for key in paths})


