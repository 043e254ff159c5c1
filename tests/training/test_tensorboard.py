"""What a run leaves for TensorBoard: curves, charts that show them, settings to compare, clips."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from conftest import tiny_config, tiny_material
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util.tensor_util import make_ndarray

from gan_denoise.training import loop
from gan_denoise.training.keeper import shows_clips
from gan_denoise.training.tensorboard_layout import comparable_settings
from gan_denoise.training.trackers import SCORES


def trained(folder, **sections):
    config = tiny_config(
        generator={"name": "tcn_autoencoder", "channels": [4], "blocks": 1, "dilations": [1]},
        training={"steps": 6, "validate_every": 3, **sections.pop("training", {})}, **sections,
    )
    loop.train(config, folder, "finetune", material=tiny_material())
    return config


def events(folder, part=""):
    board = EventAccumulator(str(folder / "tensorboard" / part), size_guidance={"tensors": 0})
    board.Reload()
    return board


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "run"
    return trained(folder), events(folder), events(folder, SCORES)


def test_the_charts_show_every_curve_and_validation_beside_what_it_must_beat(run):
    _, board, _ = run
    content = make_ndarray(board.Tensors(CONFIG_SUMMARY_TAG)[0].tensor_proto).item()
    charts = {chart.title: list(chart.multiline.tag)
              for category in layout_pb2.Layout.FromString(content).category
              for chart in category.chart}
    scalars = [tag for tag in board.Tags()["tensors"]
               if board.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"]

    def on(chart):
        return {tag for tag in scalars if any(re.match(p, tag) for p in charts[chart])}

    shown = set().union(*map(on, charts))
    assert {tag for tag in scalars if tag.startswith(("loss/", "speed/", "rate/"))} <= shown
    assert {"discriminator/real", "discriminator/fake", "valid/adversarial_share"} <= shown
    (si_sdr,) = (on(chart) for chart in charts if chart.startswith("SI-SDR (dB): model"))
    assert si_sdr == {"valid/si_sdr", "valid/si_sdr_noisy", "valid/si_sdr_best_gain"}
    (terms,) = (on(chart) for chart in charts if "each term" in chart)
    assert {"loss/mse", "loss/adversarial"} <= terms
    assert not {"loss/total", "loss/discriminator"} & terms


def test_runs_are_compared_by_their_settings_and_last_scores(run, tmp_path):
    def settings(board):
        plugin = board.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG).plugin_data
        info = hparams_metadata.parse_session_start_info_plugin_data(plugin.content)
        return {key: getattr(value, value.WhichOneof("kind"))
                for key, value in info.hparams.items()}

    config, _, scores = run
    trained(tmp_path / "other", training={"learning_rate": 0.004})
    one, other = settings(scores), settings(events(tmp_path / "other", SCORES))
    assert {key: (one[key], other[key]) for key in one if one[key] != other[key]} == {
        "training.learning_rate": (config.training.learning_rate, 0.004)}
    assert one["generator.name"] == "tcn_autoencoder"
    assert "data.cache" not in comparable_settings(config)


def test_the_fixed_clips_are_seen_and_heard(run):
    _, board, _ = run
    kinds = {tag: board.SummaryMetadata(tag).plugin_data.plugin_name
             for tag in board.Tags()["tensors"]}
    assert [tag for tag, kind in kinds.items() if kind == "images"] == [
        "mel: noisy, estimate, clean from the top"]
    assert {tag for tag, kind in kinds.items() if kind == "audio"} == {
        "audio/noisy", "audio/estimate", "audio/clean"}


def test_a_long_run_shows_its_clips_seldom_and_at_its_end(tmp_path):
    trained(tmp_path / "long", training={"steps": 17, "validate_every": 1})
    board = events(tmp_path / "long")
    for tag in ("mel: noisy, estimate, clean from the top", "audio/estimate"):
        assert [event.step for event in board.Tensors(tag)] == [*range(1, 13), 14, 15, 16, 17]
    assert [event.step for event in board.Tensors("valid/si_sdr")] == list(range(1, 18))


def test_clips_grow_with_the_logarithm_of_the_validations():
    shown = [number for number in range(1, 100_001) if shows_clips(number)]
    assert shown[:10] == list(range(1, 11))
    assert all(later <= 1.1 * earlier + 1 for earlier, later in pairwise(shown))
    tens = [sum(number <= 10**power for number in shown) for power in (2, 3, 4, 5)]
    assert set(np.diff(tens)) <= {24, 25}  # log(10) / log(1.1), whatever the length


def test_the_columns_of_the_comparison_are_the_scores_of_the_last_validation(run):
    _, board, scores = run
    columns = [tag for tag in scores.Tags()["tensors"] if tag.startswith("final/")]
    assert {"final/si_sdr", "final/psnr_mel"} <= set(columns)
    for tag in columns:
        name = tag.replace("final/", "valid/")
        last = [make_ndarray(source.Tensors(key)[-1].tensor_proto).item()
                for source, key in ((scores, tag), (board, name))]
        assert last[0] == last[1]
