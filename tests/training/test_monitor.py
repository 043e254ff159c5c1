"""What a monitor finds in the numbers of a run, and what it leaves alone."""

from __future__ import annotations

import json

import pytest
from conftest import tiny_config

from gan_denoise.training.monitor import (
    CHANCE,
    GAME_STEPS,
    GRADIENT,
    PLATEAU_STEPS,
    STEPS,
    VARIATION,
    Monitor,
    beats_trivial,
    summary,
    trivial_score,
)

HEALTHY = {GRADIENT: 0.05, VARIATION: 3.0}
PATCH = {"loss/discriminator": 0.4, "gradient_norm/discriminator": 0.3,
         "discriminator/real": 0.6, "discriminator/fake": 0.4}


def watch(kind="pretrain", counters=None, **sections):
    return Monitor(tiny_config(**sections), kind, {} if counters is None else counters)


def names(monitor, rows):
    """Return `{number of the row: what was found}`."""
    found = {number: [finding.name for finding in monitor.after_step(row)]
             for number, row in enumerate(rows, start=1)}
    return {number: findings for number, findings in found.items() if findings}


def validations(*scores, start=200):
    return [{"step": start * number, "si_sdr": score, "mse_mel": 0.02 + score / 1000,
             "si_sdr_noisy": 5.0, "si_sdr_best_gain": 5.0}
            for number, score in enumerate(scores, start=1)]


# ---- Dead generators ---------------------------------------------------------------------------
def test_a_gradient_that_vanishes_is_found_once_after_some_tens_of_steps():
    dying = [HEALTHY | {GRADIENT: 0.3 / 10**n} for n in range(200)]
    assert names(watch(), dying) == {6 + STEPS: ["gradient"]}


def test_an_output_that_does_the_same_to_every_sound_is_found():
    flat = [HEALTHY] * 10 + [HEALTHY | {VARIATION: 1e-5}] * 200
    monitor = watch()
    assert names(monitor, flat) == {10 + STEPS: ["output"]}
    finding = Monitor(monitor.config, "pretrain", {"output": STEPS - 1}).after_step(flat[-1])[0]
    assert finding.dead
    assert len(finding.text.splitlines()) == 1


def test_a_few_still_steps_are_left_alone():
    still = {GRADIENT: 0.0, VARIATION: 0.0}
    assert not names(watch(), ([still] * (STEPS - 1) + [HEALTHY]) * 5)


def test_a_slow_run_is_left_alone():
    """A small gradient and an output that hardly varies yet: as in the first steps of any run."""
    slow = [{GRADIENT: 1e-4, VARIATION: 0.01}] * 3000
    assert not names(watch(), slow)
    creeping = [5.001 + 1e-5 * n for n in range(20)]
    history = validations(*creeping)
    monitor = watch()
    for count in range(1, len(history) + 1):
        assert not monitor.after_validation(history[:count])


def test_validations_equal_to_the_last_digit_are_found():
    monitor = watch()
    assert not monitor.after_validation(validations(5.1, 5.2))
    (finding,) = monitor.after_validation(validations(5.1, 5.2, 5.2))
    assert (finding.name, finding.dead) == ("unchanged", True)
    assert "400 and 600" in finding.text


def test_the_discriminators_warm_up_is_no_dead_generator():
    """The generator is not trained there: it has no gradient, and its validations are equal."""
    monitor = watch("finetune", losses={"discriminator_warmup": 600})
    assert not names(monitor, [PATCH] * 300)
    assert not monitor.after_validation(validations(5.2, 5.2, 5.2))
    assert monitor.after_validation(validations(5.2, 5.2, 5.2, 5.2, 5.2))


def test_a_resumed_run_counts_on():
    dead = [HEALTHY | {GRADIENT: 0.0}] * STEPS
    counters = {}
    assert not names(watch(counters=counters), dead[:20])
    kept = json.loads(json.dumps(counters))  # as a state does
    assert names(watch(counters=kept), dead) == {STEPS - 20: ["gradient"]}


# ---- No better than nothing --------------------------------------------------------------------
def test_a_score_is_held_against_noisy_and_the_best_gain_after_some_steps_or_at_the_end():
    early, late = validations(4.9), validations(4.9, start=PLATEAU_STEPS)
    assert not watch().after_validation(early)
    for history, last in ((early, True), (late, False)):
        (finding,) = watch().after_validation(history, last=last)
        assert (finding.name, finding.dead) == ("trivial", False)
        assert "4.9" in finding.text
        assert "(5)" in finding.text
    assert not watch().after_validation(validations(5.1, start=PLATEAU_STEPS), last=True)


@pytest.mark.parametrize(("score", "noisy", "gain", "expected"), [
    (5.1, 5.0, 5.0, True), (5.0, 5.0, 5.0, False), (5.5, 5.0, 6.0, False), (5.5, 6.0, 5.0, False),
])
def test_both_trivial_systems_must_be_beaten(score, noisy, gain, expected):
    values = {"si_sdr": score, "si_sdr_noisy": noisy, "si_sdr_best_gain": gain}
    assert beats_trivial(values, "si_sdr") is expected


def test_silence_must_be_beaten_where_it_has_a_score():
    """At -8 dB it improves the SNR by 8 dB."""
    values = {"snr_mel_noisy": -8.0, "snr_mel_best_gain": 0.6}
    assert trivial_score(values | {"snr_mel_best_gain": -1.0}, "snr_mel") == 0.0
    assert beats_trivial(values | {"snr_mel": 0.5}, "snr_mel") is False
    assert beats_trivial(values | {"snr_mel": 0.7}, "snr_mel") is True


def test_where_there_is_no_bar_nothing_is_said():
    """Clean speech alone: noisy and clean are one, and the score is refused."""
    assert beats_trivial({"si_sdr": 5.0}, "si_sdr") is None
    assert not watch().after_validation([{"step": PLATEAU_STEPS, "si_sdr": 5.0}], last=True)


def test_a_validation_in_one_line_shows_each_metric_beside_what_must_be_beaten():
    values = {"si_sdr": 8.714, "mse_mel": 0.02, "si_sdr_noisy": 5.75, "si_sdr_best_gain": 5.75}
    assert summary(values) == "si_sdr 8.714 (noisy 5.75, best gain 5.75) · mse_mel 0.02"
    values |= {"mse_mel_noisy": 0.05, "mse_mel_best_gain": 0.03}
    assert summary(values).endswith(" · mse_mel 0.02 (0.05, 0.03)")


# ---- The game ----------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", sorted(CHANCE))
def test_a_discriminator_that_wins_or_loses_is_named(kind):
    losses = {"adversarial": kind}
    won = HEALTHY | PATCH | {"loss/discriminator": 0.01 * CHANCE[kind], "discriminator/fake": 0.0,
                             "discriminator/real": 1.0}
    assert names(watch("finetune", losses=losses), [won] * 300) == {
        GAME_STEPS: ["discriminator_won"]}
    lost = HEALTHY | PATCH | {"loss/discriminator": CHANCE[kind], "discriminator/fake": 0.5,
                              "discriminator/real": 0.5}
    assert names(watch("finetune", losses=losses), [lost] * 300) == {
        GAME_STEPS: ["discriminator_lost"]}
    open_game = HEALTHY | PATCH | {"loss/discriminator": 0.7 * CHANCE[kind]}
    assert not names(watch("finetune", losses=losses), [open_game] * 300)


def test_a_metric_discriminator_that_is_wrong_is_named():
    rows = [HEALTHY | {"loss/discriminator": 0.2, "discriminator/score": 0.2,
                       "discriminator/fake": fake} for fake in [0.3] * 100 + [0.6] * 300]
    assert names(watch("finetune"), rows) == {100 + GAME_STEPS: ["discriminator_lost"]}


def test_a_game_is_no_death():
    monitor = watch("finetune", counters={"won": GAME_STEPS - 1})
    (finding,) = monitor.after_step(HEALTHY | PATCH | {"loss/discriminator": 1e-4})
    assert not finding.dead
    assert "discriminator.learning_rate" in finding.text
