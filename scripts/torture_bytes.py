"""Attacks of `torture_faults` on the bytes of what the project reads back.

A damaged file must be refused by an error that says which, or give the same as the whole one.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torture_checks import Fault
from torture_verbs import NETWORK, RATE, VERBS, Verb, clear, start

from gan_denoise.core.errors import GanDenoiseError

Read = Callable[[Path], object]  # of the folder of all material


def damage(verbs: list[Verb], out: Path, rng: random.Random, tries: int, fault: Fault) -> int:
    """Flip bits, overwrite and cut, then read; 3 * `tries` times for each kind of file."""
    home = out / "bytes"
    shutil.copytree(out / "material", home)
    for verb in VERBS:
        if verb.name in ("corpus", "features", "denoise a folder", "evaluate", "tune"):
            clear(out / "work")
            code, text = start(verb, home, out / "work").end()
            assert code == 0, text
            shutil.copytree(out / "work" / verb.out, home / verb.out)
    _in_a_fork(lambda: [str(len(str(_cache(home))))])
    done = 0
    for kind, (pattern, read) in KINDS.items():
        files = sorted(path for path in home.glob(pattern) if path.is_file())
        assert files, pattern
        todo = [(rng.choice(files), rng.getrandbits(32)) for _ in range(3 * tries)]
        done += len(todo)
        print(f"bytes: {kind}: {len(todo)} files", flush=True)
        for line in _in_a_fork(lambda todo=todo, read=read: _damaged(home, todo, read)):
            fault(f"{kind}: {line}")
    return done


def _in_a_fork(work: Callable[[], list[str]]) -> list[str]:
    """Return what a function returns in a fork; a crash is a line."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ours)
        try:
            lines = work()
        except BaseException:
            lines = [traceback.format_exc()]
        with os.fdopen(theirs, "wb") as file:
            file.write(pickle.dumps(lines))
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as file:
        content = file.read()
    _, status = os.waitpid(pid, 0)
    return pickle.loads(content) if content else [f"the process died: {status}"]


def _damaged(home: Path, todo: list[tuple[Path, int]], read: Read) -> list[str]:
    """Damage one file after the other; return a line for each that misleads."""
    lines = []
    expected = read(home)
    for path, seed in todo:
        whole = path.read_bytes()
        what, content = _change(whole, random.Random(seed))
        path.write_bytes(content)
        try:
            found = read(home)
            if not _same(found, expected):
                lines.append(f"{path.name}, {what} (seed {seed}): another result, silently")
        except GanDenoiseError as error:
            if str(home / path.relative_to(home).parts[0]) not in str(error):
                lines.append(f"{path.name}, {what} (seed {seed}): no file is named: {error}")
        except Exception as error:
            lines.append(f"{path.name}, {what} (seed {seed}): {type(error).__name__}: {error}")
        path.write_bytes(whole)
    return lines


def _change(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    way = rng.randrange(4)
    if way == 0:
        size = rng.randrange(len(content))
        return f"cut to {size} bytes", content[:size]
    changed = bytearray(content)
    at = rng.randrange(len(changed))
    if way == 1:
        stop = min(at + 512, len(changed))
        changed[at:stop] = bytes(stop - at)
        return f"bytes {at} to {stop} zero", bytes(changed)
    for place in [at] if way == 2 else [at, rng.randrange(len(changed))]:
        changed[place] ^= 1 << rng.randrange(8)
    return f"a bit of byte {at} flipped", bytes(changed)


class Redone(list):
    """Entries of a journal: a file without one is done again, which is no other result."""


class Logged(list):
    """Curves: a file that is cut is that of a run which goes on, and has the first points."""


def _same(a: object, b: object) -> bool:
    if isinstance(a, Logged):
        whole = dict(b)
        return all(tag in whole and whole[tag].startswith(points) for tag, points in a)
    if isinstance(a, Redone):
        return all(one is None or one.state != "done" or one == other
                   for one, other in zip(a, b, strict=True))
    return pickle.dumps(a) == pickle.dumps(b)


# ---- How each kind is read -----------------------------------------------------------------------
def _checkpoint(home: Path) -> object:
    from gan_denoise.training.checkpoints import read_progress, read_variables

    path = home / "run" / "latest.npz"
    return read_progress(path), sorted((name, value.tobytes()) for name, value
                                       in read_variables(path).items())


def _corpus(home: Path) -> object:
    from gan_denoise.data.corpus import build_corpus

    corpus = build_corpus([home / "corpus"], RATE)
    return [(corpus.names[number], corpus.groups[number], corpus.clip(number).tobytes())
            for number in range(len(corpus))], corpus.digest


def _built_again(home: Path) -> object:
    from gan_denoise.data.corpus import write_corpus

    write_corpus([home / "speech"], home / "corpus", RATE, jobs=1)
    return _corpus(home)


def _cache(home: Path) -> object:
    from gan_denoise.data.corpus import build_corpus

    corpus = build_corpus([home / "speech"], RATE, home / "cache", jobs=1)
    return [corpus.clip(number).tobytes() for number in range(len(corpus))]


def _settings(home: Path) -> object:
    from gan_denoise.config.saved import settings_of

    return settings_of(home / "run").model_dump()


def _journal(home: Path) -> object:
    from gan_denoise.inference.folder_journal import Journal

    journal = Journal(home / "clean")
    journal.refresh()
    return Redone(journal.entry(path) for path in sorted((home / "clean").glob("*.wav")))


def _features(home: Path) -> object:
    from gan_denoise.config import load_config
    from gan_denoise.data.feature_folder import FeatureFolder

    config = load_config("base", [f"data.features={home / 'features'}", *NETWORK[:4],
                                  "training.select_by=snr_mel", "training.crop_seconds=0.25"])
    folder = FeatureFolder(home / "features", config)
    return [(clip, [None if part is None else part.tobytes() for part in folder.read(clip)])
            for split in folder.clips.values() for clip in split]


def _model(home: Path) -> object:
    from gan_denoise.inference.model import Model

    model = Model.load(home / "model")
    noisy = np.random.default_rng(0).random((40, model.config.mel.bands), np.float32)
    return model.config.model_dump(), model.estimate(noisy).tobytes()


def _weights(home: Path) -> object:
    from gan_denoise.config.saved import settings_of
    from gan_denoise.models.generators import build_generator
    from gan_denoise.training.initialization import _load

    network = build_generator(settings_of(home / "model"))
    _load(network, home / "model" / "generator.weights.h5")
    return [np.asarray(variable).tobytes() for variable in network.variables]


def _scores(home: Path) -> object:
    from gan_denoise.evaluation.results import read_scores

    return read_scores(home / "scores")


def _manifest(home: Path) -> object:
    from gan_denoise.data.pairs import notes_beside

    return notes_beside(home / "pairs" / "noisy")


def _curves(home: Path) -> object:
    from gan_denoise.training.run_events import read_run

    events = read_run(home / "run")
    return Logged((tag, events.curve(tag)[1].tobytes()) for tag in events.tags)


def _study(home: Path) -> object:
    from gan_denoise.config.saved import settings_of
    from gan_denoise.tuning.study_folder import check_folder, open_study

    folder = home / "study"
    config = settings_of(folder)
    check_folder(folder, config)
    before = (folder / "config.yaml").read_bytes()
    if folder not in _MATERIAL:  # of the whole one, which is read first
        _MATERIAL[folder] = _material(folder)
    study = open_study(folder, config, {"init": None, "material": _MATERIAL[folder]})
    (folder / "config.yaml").write_bytes(before)
    return [(trial.number, trial.value, trial.params) for trial in study.trials], study.user_attrs


_MATERIAL: dict[Path, str] = {}


def _material(folder: Path) -> str:
    import optuna

    known = optuna.load_study(study_name="tune", storage=f"sqlite:///{folder / 'study.db'}")
    return known.user_attrs["material"]


KINDS: dict[str, tuple[str, Read]] = {
    "checkpoint": ("run/latest.npz", _checkpoint),
    "corpus, opened": ("corpus/**/*.*[yn6]", _corpus),
    "corpus, built again": ("corpus/[0-9c]*.*", _built_again),
    "cache of decoded audio": ("cache/*/**/*.*[yn6]", _cache),
    "settings of a run": ("run/config.yaml", _settings),
    "journal": ("clean/.gan-denoise-journal.jsonl", _journal),
    "features": ("features/**/*.npz", _features),
    "index of features": ("features/index.json", _features),
    "model": ("model/*", _model),
    "weights": ("model/*.h5", _weights),
    "scores": ("scores/scores.json", _scores),
    "manifest": ("pairs/manifest.json", _manifest),
    "curves": ("run/tensorboard/*", _curves),
    "study": ("study/study.db", _study),
}
