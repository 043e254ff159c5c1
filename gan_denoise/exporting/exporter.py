"""From a training run to a model folder that needs neither TensorFlow nor librosa.

A model folder holds `model.onnx` (`noisy_mel` -> `estimate_mel`, any batch, any number of frames),
`config.yaml`, `mel_filterbank.npy`, `dsp.json` for ports to other languages, a model card for
people and for programs, and the weights of the networks for further fine-tuning. LiteRT and
SavedModel are written on request.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gan_denoise.config import ConfigError, dump_config
from gan_denoise.config.artifacts import (
    BEST,
    DISCRIMINATOR_WEIGHTS,
    FILTERBANK,
    GENERATOR_WEIGHTS,
    NETWORK,
    SETTINGS,
)
from gan_denoise.config.data_sources import DataConfig, DataSource
from gan_denoise.config.saved import settings_of
from gan_denoise.config.schema import PATH_SETTINGS, Config, TuneConfig
from gan_denoise.core.atomic_files import new_folder
from gan_denoise.core.checksums import write_sums
from gan_denoise.dsp.mel import make_filterbank
from gan_denoise.exporting.dsp_description import write_dsp
from gan_denoise.exporting.formats import FORMATS, check_formats
from gan_denoise.exporting.model_card import describe_model, write_card
from gan_denoise.training.checkpoints import CheckpointError, read_progress, read_variables

if TYPE_CHECKING:
    import h5py
    import keras

PARITY = 1e-4  # largest difference of mel01 that is let through
PARITY_FRAMES = (1, 7, 250)


def export(
    run_dir: Path,
    out: Path,
    notes: Mapping[str, object] | None = None,
    formats: Iterable[str] = ("onnx",),
    average: Mapping[Path, float] | None = None,
) -> dict[str, Any]:
    """Write a model folder from the best state of a run.

    Args:
        run_dir: Directory of a training run.
        out: Folder to write; replaced when it is a model folder already.
        notes: Entries added to the model card (data, licences, scores).
        formats: Names among `onnx` (always written), `litert` and `savedmodel`.
        average: Runs or model folders that share a pretraining with this run, and the share of
            each: written is the mean of all their weights, in which this run has what is left
            of 1. A mean of fine-tuned weights generalises better than each of them (Wortsman et
            al. 2022, "Model soups"), and one with the weights that fine-tuning began with keeps
            more of what those could do on other data (Wortsman et al. 2022, "Robust fine-tuning of
            zero-shot models").

    Returns:
        The model card.

    Raises:
        CheckpointError: When the run holds no best state, those to average are of another network,
            `out` is something else than a model, or a format computes something else than Keras.
        ConfigError: When there is no such format, or the shares leave none to this run.
    """
    from gan_denoise.models.generators import build_generator, receptive_field, time_stride

    run_dir, out, formats = Path(run_dir), Path(out), check_formats(formats)
    shares = _shares(run_dir, average or {})
    config, progress = settings_of(run_dir), read_progress(run_dir / BEST)
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not _is_model(out):
        raise CheckpointError(f"{out}: holds something else than a model", "give another folder")
    generator = build_generator(config)
    _assign_mean(generator, config, shares)
    geometry = {"receptive_field": receptive_field(config), "time_stride": time_stride(config)}
    with new_folder(out, replace=_is_model) as build:
        parity = _write_networks(generator, build, config, geometry, formats)
        _write_settings(build, config, formats)
        _write_weights(generator, build, config, run_dir)
        card = describe_model(out.name, config, progress, generator, geometry, parity)
        if average:
            card["averaged_with"] = ", ".join(f"{Path(other).resolve().name} ({share:.3g})"
                                              for other, share in average.items())
        card |= notes or {}
        write_card(build, card)
        write_sums(build)
    return card


def _is_model(folder: Path) -> bool:
    return (folder / NETWORK).is_file()


def _shares(run_dir: Path, average: Mapping[Path, float]) -> list[tuple[Path, float]]:
    """Return the folders whose weights are averaged, and the share of each."""
    left = 1.0 - sum(average.values())
    if not all(share > 0 for share in (left, *average.values())):  # a NaN is not, either
        shares = ", ".join(f"{share:g}" for share in average.values())
        raise ConfigError(f"shares of {shares} in the mean: each has to be above 0, and their sum "
                          "below 1, as the run has the rest")
    return [(run_dir, left), *((Path(other), share) for other, share in average.items())]


def _assign_mean(
    generator: keras.Model, config: Config, shares: Iterable[tuple[Path, float]]
) -> None:
    """Give a generator the mean of the weights of runs or model folders."""
    from gan_denoise.training.initialization import load_generator

    sums = [np.zeros(weights.shape) for weights in generator.get_weights()]
    for source, share in shares:
        load_generator(generator, config, source)
        sums = [total + share * weights.astype(np.float64)
                for total, weights in zip(sums, generator.get_weights(), strict=True)]
    generator.set_weights(sums)


def _write_networks(
    generator: keras.Model, build: Path, config: Config, geometry: Mapping[str, int],
    formats: Iterable[str],
) -> dict[str, float]:
    """Write a generator in all formats; return the differences from Keras by a card's entry."""
    from gan_denoise.exporting.onnx_writer import write_onnx

    write_onnx(generator, build / NETWORK, geometry)
    parity = {}
    for name in formats:
        path = build / FORMATS[name].file
        write = FORMATS[name].write
        if write is not None:
            write(generator, path)
        parity[f"{name}_parity_mel01"] = _parity(generator, path, config, name)
    return parity


def _write_settings(build: Path, config: Config, formats: Iterable[str]) -> None:
    """Write `config.yaml`, the filterbank and `dsp.json`."""
    bank = make_filterbank(config.audio, config.mel)
    np.save(build / FILTERBANK, np.ascontiguousarray(bank, "<f4"))  # as dsp.json says
    write_dsp(build, config, formats)
    # Neither the paths of the recordings nor the search that led to these settings is published.
    public = config.model_copy(update={"data": _without_paths(config.data), "tune": TuneConfig()})
    (build / SETTINGS).write_text(dump_config(public), encoding="utf-8")


def _write_weights(generator: keras.Model, build: Path, config: Config, run_dir: Path) -> None:
    """Write the weights of the generator and, where the run has one, of the discriminator."""
    from gan_denoise.models.discriminators import build_discriminator
    from gan_denoise.training.initialization import assign

    _save_weights(generator, build / GENERATOR_WEIGHTS)
    variables = read_variables(run_dir / BEST, "discriminator.")
    if variables:
        discriminator = build_discriminator(config)
        assign(discriminator.variables, variables.values(), run_dir)
        _save_weights(discriminator, build / DISCRIMINATOR_WEIGHTS)


def _save_weights(network: keras.Model, path: Path) -> None:
    """Save weights as Keras does, each array once: it lists a spectral-norm kernel twice.

    Raises:
        OSError: When the disk is full. HDF5 itself may crash there, so that it is tried before.
    """
    arrays = network.get_weights()
    room = 2 * sum(array.nbytes for array in arrays) + 8192 * (len(arrays) + 16)
    try:
        with open(path, "wb") as file:
            file.write(bytes(room))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), os.fspath(path)) from error
    path.unlink()
    _write_h5(network, path)


def _write_h5(network: keras.Model, path: Path) -> None:
    import h5py

    whole = path.with_name(f"whole.{path.name}")
    network.save_weights(whole)
    stored: dict[tuple[tuple[int, ...], bytes], h5py.Dataset] = {}
    with h5py.File(whole) as source, h5py.File(path, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
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


def _parity(generator: keras.Model, path: Path, config: Config, name: str = "onnx") -> float:
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


def _without_paths(data: DataSource) -> DataConfig:
    """Return settings without paths: those of the machine that trained mean nothing elsewhere."""
    kept = {key: value for key, value in dict(data).items()
            if key in DataConfig.model_fields and f"data.{key}" not in PATH_SETTINGS}
    return DataConfig(**kept)
