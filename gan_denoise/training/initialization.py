"""Weights of trained networks: from a run's best state, or from a model folder."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence, Set
from pathlib import Path

import h5py
import keras
import numpy as np

from gan_denoise.config.artifacts import BEST, DISCRIMINATOR_WEIGHTS, GENERATOR_WEIGHTS
from gan_denoise.config.kinds import TcnAutoencoder
from gan_denoise.config.saved import CONVERTIBLE, network_differences, settings_of
from gan_denoise.config.schema import Config
from gan_denoise.core.checksums import DamagedError, check_sums
from gan_denoise.models.generators import build_generator, convert
from gan_denoise.training.checkpoints import CheckpointError, read_variables
from gan_denoise.training.trainer import Trainer

UNREADABLE = (OSError, RuntimeError, LookupError)  # of h5py


def load_weights(trainer: Trainer, source: Path) -> bool:
    """Start the networks from a run's best state or from a model folder's weights.

    Returns:
        Whether the discriminator started from there too; not where the source has none, or one of
        other settings.

    Raises:
        CheckpointError: When there are no weights, those of another network, or a damaged file.
    """
    load_generator(trainer.generator, trainer.config, source, CONVERTIBLE)
    trainer.ema.set_weights(trainer.generator.get_weights())
    theirs = settings_of(source).discriminator
    if trainer.discriminator is None or theirs.network != trainer.config.discriminator.network:
        return False
    if (source / BEST).is_file():
        weights = read_variables(source / BEST, "discriminator.")
        if weights:
            assign(trainer.discriminator.variables, weights.values(), source)
        return bool(weights)
    if not (source / DISCRIMINATOR_WEIGHTS).is_file():
        return False
    _load(trainer.discriminator, source / DISCRIMINATOR_WEIGHTS)
    return True


def load_generator(
    generator: keras.Model, config: Config, source: Path, may_differ: Set[str] = frozenset()
) -> None:
    """Give a generator the weights of a run's best state or of a model folder.

    Args:
        generator: The network.
        config: Settings that it was built from.
        source: The run or the folder.
        may_differ: In which of the settings `CONVERTIBLE` the source may have other values. It
            may always have fewer temporal blocks: the further ones change nothing as they start.

    Raises:
        CheckpointError: When there are no weights, those of another network, or a damaged file.
    """
    theirs = settings_of(source)
    different = network_differences(theirs, config)
    if different and _convertible(theirs, config, different, may_differ):
        original = build_generator(theirs)
        load_generator(original, theirs, source)
        convert(original, generator)
        return
    for section in ("audio", "mel", "generator"):
        if getattr(theirs, section) != getattr(config, section):
            raise CheckpointError(
                f"{source}: its '{section}' settings differ from this run's, and so does the "
                f"network: {getattr(theirs, section)} against {getattr(config, section)}"
            )
    if (source / BEST).is_file():
        assign(generator.variables, read_variables(source / BEST, "ema.").values(), source)
    elif (source / GENERATOR_WEIGHTS).is_file():
        _load(generator, source / GENERATOR_WEIGHTS)
    else:
        raise CheckpointError(
            f"{source}: holds neither {BEST} of a run nor {GENERATOR_WEIGHTS} of a model"
        )


def _convertible(
    theirs: Config, ours: Config, different: Set[str], may_differ: Set[str]
) -> bool:
    both = theirs.generator, ours.generator
    if not all(isinstance(generator, TcnAutoencoder) for generator in both):
        return False
    more = {"generator.blocks"} if both[0].blocks < both[1].blocks else set()
    return different <= may_differ | more


def _load(network: keras.Model, path: Path) -> None:
    try:
        check_sums(path.parent, {path.name: None})
        with warnings.catch_warnings():
            # Of Keras' own lists of layers, which hold no weights; a layer that lacks is an error.
            warnings.filterwarnings("ignore", "Skipping nested container", UserWarning)
            network.load_weights(path)
    except DamagedError:
        raise
    except UNREADABLE as error:
        raise _unreadable(path, error) from error
    except ValueError as error:  # Keras' own message lists every layer
        _read_through(path)  # Keras before 3.14 raises this for a damaged file, too
        raise CheckpointError(
            f"{path}: weights of another network than this version builds from the same settings; "
            "train anew, or use the version that wrote them"
        ) from error


def _read_through(path: Path) -> None:
    def read(_: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            item[()]

    try:
        with h5py.File(path) as file:
            file.visititems(read)
    except UNREADABLE as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    return CheckpointError(f"{path}: cannot be read ({reason})",
                           "copy the folder again, or export the run again")


def assign(variables: Sequence[keras.Variable], values: Iterable[np.ndarray], source: Path) -> None:
    """Give variables the values stored for them in the same order.

    Raises:
        CheckpointError: When number or shapes differ; nothing is assigned then.
    """
    values = list(values)
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise CheckpointError(f"{source}: its weights have other shapes than this network's")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
