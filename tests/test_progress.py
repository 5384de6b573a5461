"""Progress: sums, selection and patience, and a round trip through JSON."""

import json

import pytest
import torch

from harness.engine.progress import Progress, cost_fields
from harness.engine.training import Step
from harness.facts.outcome import SplitOutcome
from harness.facts.recipes import Recipe


def step(number, loss=1.0, rows=8, ends_epoch=False, is_checked=True):
    measured = torch.tensor([rows * loss, 0.1])
    return Step(number, (number + 1) // 2, measured, 1e-3, rows, 50, 64, 0.5, ends_epoch, is_checked)


def seen(loss, main_metrics=0.0):
    return SplitOutcome(loss, main_metrics, {"loss": loss}, {}, [], False, None, None, "", "")


def after_epochs(recipe, losses, headlines=None):
    progress = Progress(recipe)
    for epoch, loss in enumerate(losses, start=1):
        progress.add(step(2 * epoch - 1, loss=4.0, rows=8))
        progress.add(step(2 * epoch, loss=1.0, rows=4, ends_epoch=True))
        progress.close_epoch(
            step(2 * epoch, ends_epoch=True), seen(loss, 1 - loss if headlines is None else headlines[epoch - 1])
        )
    return progress


def test_losses_count_once_they_are_settled():
    progress = Progress(Recipe())
    assert progress.add(step(1, loss=3.0, is_checked=False)) == []
    assert progress.epoch_loss == 0.0
    assert [settled.number for settled in progress.add(step(2, loss=1.0))] == [1, 2]
    assert progress.epoch_loss == 8 * 3.0 + 8 * 1.0


def test_train_loss_of_an_epoch_weighs_rows_equally():
    progress = after_epochs(Recipe(), [0.5])
    assert progress.history[0].train_loss == pytest.approx((4.0 * 8 + 1.0 * 4) / 12)
    assert (progress.step, progress.rows, progress.tokens, progress.computed_tokens) == (2, 12, 100, 128)
    assert progress.history[0].seconds == 1.0


def test_last_takes_the_last_epoch_and_best_the_one_of_lowest_loss():
    losses = [0.9, 0.5, 0.7, 0.5]
    assert after_epochs(Recipe(), losses).selected_epoch == 4
    assert after_epochs(Recipe(select="best"), losses).selected_epoch == 2


def test_best_headline_takes_the_epoch_of_the_highest_score_whatever_its_loss():
    recipe = Recipe(select="best_main_score", patience=2)
    scored = after_epochs(recipe, [0.3, 0.5, 0.7], [0.6, 0.8, 0.8])
    assert scored.selected_epoch == 2
    assert not scored.is_out_of_patience
    undefined = after_epochs(recipe, [0.3, 0.5], [float("-inf"), float("-inf")])
    assert undefined.selected_epoch == 1


def test_patience_counts_epochs_without_a_lower_loss():
    recipe = Recipe(select="best", patience=2)
    assert not after_epochs(recipe, [0.9, 0.5, 0.6]).is_out_of_patience
    assert after_epochs(recipe, [0.9, 0.5, 0.6, 0.5]).is_out_of_patience
    assert not after_epochs(Recipe(select="best"), [0.1, 0.5, 0.6, 0.7]).is_out_of_patience


def test_what_json_keeps_is_all_of_it():
    recipe = Recipe(select="best", patience=3)
    before = after_epochs(recipe, [0.9, 0.5, 0.6])
    after = Progress.from_json(recipe, json.loads(json.dumps(before.to_json())))
    hidden = ("seconds_before", "_began")
    assert {k: v for k, v in vars(after).items() if k not in hidden} == {
        k: v for k, v in vars(before).items() if k not in hidden
    }
    assert after.seconds >= before.seconds_before


def test_a_run_without_an_epoch_survives_json_too():
    fresh = Progress.from_json(Recipe(), json.loads(json.dumps(Progress(Recipe()).to_json())))
    assert fresh.lowest == float("inf")


def test_another_topology_is_noted_once():
    progress = Progress(Recipe())
    progress.go_on(0.0, "2 processes with batches of 4", "")
    progress.go_on(0.0, "2 processes with batches of 4", "")
    assert progress.notes == []
    progress.go_on(0.0, "1 processes with batches of 4", "")
    assert "dropout is drawn and sums are rounded otherwise" in progress.notes[0]


def test_falling_back_is_noted_and_remembered():
    progress = Progress(Recipe())
    progress.go_on(0.0, "1 processes with batches of 4", "the loss of step 3 is not finite")
    assert progress.fell_back
    assert "fp32" in progress.notes[0]


def test_time_counts_from_the_beginning_of_the_set_up():
    from time import perf_counter

    progress = Progress(Recipe())
    progress.seconds_before = 100.0
    progress.go_on(perf_counter() - 50.0, "1 process(es) with batches of 4", "")
    assert 150.0 <= progress.seconds < 160.0


def test_cost_counts_all_processes():
    progress = Progress(Recipe())
    progress.step, progress.rows, progress.train_seconds = 3, 96, 2.0
    progress.tokens, progress.computed_tokens = 160, 200
    fields = cost_fields(progress, [7, 9], setup_seconds=1.0)
    assert fields["rows_per_second"] == 48
    assert fields["tokens_per_second"] == 80
    assert fields["padding_share"] == pytest.approx(1 - 160 / 200)
    assert fields["peak_bytes"] == 9
    assert fields["cost"].device_seconds == pytest.approx(2 * fields["cost"].seconds)
    assert fields["cost"].peak_bytes_per_process == [7, 9]
