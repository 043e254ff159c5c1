"""JSON that may be another's: many levels are one error, before Python ends the recursion."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

from gan_denoise.core.errors import GanDenoiseError
from gan_denoise.data.corpus_index import read_index
from gan_denoise.data.corpus_shards import ShardTask
from gan_denoise.data.corpus_shards import read_rows as shard_rows
from gan_denoise.data.feature_folder import FeatureFolder
from gan_denoise.data.mixture_folder import finish_killed, read_rows
from gan_denoise.data.pairs import manifest_rows
from gan_denoise.evaluation.results import read_scores
from gan_denoise.evaluation.speakers.attributes import read_speakers
from gan_denoise.inference.folder_journal import Journal
from gan_denoise.pages.denoise_routes import read_json
from gan_denoise.pages.settings import ServeError
from gan_denoise.recipes.source_systems import RecipeError, Recordings, reproduce

DEEP = ["[" * 100_000, '{"a": ' * 100_000, "[" * 5000 + "]" * 5000,
        '{"a": "]", "b": ' * 5000 + "0" + "}" * 5000, '["\\"]", ' * 5000 + "0" + "]" * 5000]
TEXTS = [*DEEP, "{", "9" * 5000]


def _request(folder: Path) -> None:
    async def stream():
        yield (folder / "body").read_bytes()

    asyncio.run(read_json(SimpleNamespace(stream=stream)))


READERS = {
    "corpus.json": (read_index, GanDenoiseError),
    "index.json": (lambda folder: FeatureFolder(folder, None), GanDenoiseError),
    "manifest.json": (read_rows, GanDenoiseError),
    "pairs.json": (lambda folder: manifest_rows(folder / "pairs.json"), GanDenoiseError),
    "pairs.jsonl": (lambda folder: manifest_rows(folder / "pairs.jsonl"), GanDenoiseError),
    "scores.json": (read_scores, GanDenoiseError),
    "speakers.json": (lambda folder: read_speakers(folder / "speakers.json"), GanDenoiseError),
    "study.json": (lambda folder: reproduce("spectrograms", folder, Recordings(), ()),
                   RecipeError),
    "body": (_request, ServeError),
}


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
@pytest.mark.parametrize("name", READERS)
def test_a_text_that_is_none_is_one_error_without_a_recursion(tmp_path, name, text):
    read, kind = READERS[name]
    (tmp_path / name).write_text(text)
    (tmp_path / "another").touch()
    with pytest.raises(kind) as caught:
        read(tmp_path)
    error = caught.value
    assert "\n" not in str(error)
    assert len(str(error)) < 1000
    while error is not None:
        assert not isinstance(error, RecursionError)
        error = error.__context__


@pytest.mark.parametrize("text", DEEP, ids=range(len(DEEP)))
def test_what_may_be_passed_over_is(tmp_path, text):
    task = ShardTask((), "00000-0123456789abcdef", 16000)
    (tmp_path / f"{task.name}.json").write_text(text)
    (tmp_path / f"{task.name}.i16").touch()
    assert shard_rows(task, tmp_path) is None  # made anew
    (tmp_path / ".gan-denoise-journal.jsonl").write_text(text + "\n")
    journal = Journal(tmp_path)
    journal.refresh()
    assert journal.entry(tmp_path / "a.wav") is None


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_what_a_killed_process_left_stays_where_its_request_is_damaged(tmp_path, text):
    left = tmp_path / ".mixing.abcdefgh.tmp"
    left.mkdir()
    (left / "manifest.json").write_text("[]")
    (left / "request.json").write_text(text)
    assert finish_killed(tmp_path) == []
    assert (left / "request.json").read_text() == text
