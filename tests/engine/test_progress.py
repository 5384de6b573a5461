"""Progress: sums, selection and patience, and a round trip through JSON."""

import json
from contextlib import nullcontext

import pytest
import torch
from support.records import run_spec

from harness.engine.progress import Progress, ProgressFile, progress_fields, read_summary
from harness.engine.training import Step
from harness.errors import UserError
from harness.facts.outcome import SplitOutcome
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.record_parts import Energy


def step(number, loss=1.0, rows=8, is_checked=True):
    measured = torch.tensor([rows * loss, 0.1])
    return Step(
        number, (number + 1) // 2, measured, 1e-3, rows, 50, 64, 0.5, number % 2 == 0, number % 2 == 0, is_checked
    )


def outcome(loss, main_score=0.0):
    return SplitOutcome(
        loss, main_score, {"loss": loss}, baseline={}, notes=[], is_collapsed=False, predictions="", gold=""
    )


def progress_after(recipe, losses, main_scores=None):
    progress = Progress(recipe)
    for epoch, loss in enumerate(losses, start=1):
        progress.add(step(2 * epoch - 1, loss=4.0, rows=8))
        progress.add(step(2 * epoch, loss=1.0, rows=4))
        main_score = 1 - loss if main_scores is None else main_scores[epoch - 1]
        progress.add_evaluation(step(2 * epoch), epoch, outcome(loss, main_score))
    return progress


def test_losses_count_once_they_are_checked():
    progress = Progress(Recipe())
    assert progress.add(step(1, loss=3.0, is_checked=False)) == []
    assert progress.loss_sum == 0.0
    assert [checked.number for checked in progress.add(step(2, loss=1.0))] == [1, 2]
    assert progress.loss_sum == 8 * 3.0 + 8 * 1.0


def test_train_loss_since_the_last_evaluation_weighs_rows_equally():
    progress = progress_after(Recipe(), [0.5])
    assert progress.history[0].train_loss == pytest.approx((4.0 * 8 + 1.0 * 4) / 12)
    assert (progress.step, progress.rows, progress.tokens, progress.computed_tokens) == (2, 12, 100, 128)
    assert progress.history[0].seconds == 1.0


def test_last_selects_the_last_epoch_and_best_the_one_of_lowest_loss():
    losses = [0.9, 0.5, 0.7, 0.5]
    assert progress_after(Recipe(), losses).selected.epoch == 4
    assert progress_after(Recipe(select="best"), losses).selected.epoch == 2


def test_best_main_score_selects_the_epoch_of_the_highest_score_for_any_loss():
    recipe = Recipe(select="best_main_score", patience=2)
    scored = progress_after(recipe, [0.3, 0.5, 0.7], [0.6, 0.8, 0.8])
    assert scored.selected.epoch == 2
    assert not scored.is_out_of_patience
    undefined = progress_after(recipe, [0.3, 0.5], [float("-inf"), float("-inf")])
    assert undefined.selected.epoch == 1


def test_patience_counts_evaluations_without_a_lower_loss():
    recipe = Recipe(select="best", patience=2)
    assert not progress_after(recipe, [0.9, 0.5, 0.6]).is_out_of_patience
    assert progress_after(recipe, [0.9, 0.5, 0.6, 0.5]).is_out_of_patience
    assert not progress_after(Recipe(select="best"), [0.1, 0.5, 0.6, 0.7]).is_out_of_patience


def test_json_round_trip_keeps_everything():
    recipe = Recipe(select="best", patience=3)
    before = progress_after(recipe, [0.9, 0.5, 0.6])
    after = Progress.from_json(recipe, json.loads(json.dumps(before.to_json())))
    clocks = ("seconds_before", "_started")
    assert {k: v for k, v in vars(after).items() if k not in clocks} == {
        k: v for k, v in vars(before).items() if k not in clocks
    }
    assert after.seconds >= before.seconds_before


def test_json_round_trip_without_an_epoch():
    fresh = Progress.from_json(Recipe(), json.loads(json.dumps(Progress(Recipe()).to_json())))
    assert fresh.lowest == float("inf")


@pytest.mark.parametrize(
    "forgery",
    [
        {"step": "4"},
        {"step": -4},
        {"step": True},
        {"rows": 10**30},
        {"tokens": 1.5},
        {"train_seconds": float("nan")},
        {"seconds_before": -1.0},
        {"history": {}},
        {"history": ["one"]},
        {"history": [{"epoch": 1}]},
        {"notes": "a note"},
        {"lowest": "low"},
        {"patience": 9},
        {"select": "last"},
        {"further": 1},
        None,
    ],
)
def test_forged_values_are_refused(forgery):
    recipe = Recipe(select="best", patience=3)
    values = json.loads(json.dumps(progress_after(recipe, [0.9, 0.5]).to_json()))
    forged = {**values, **forgery} if forgery else {name: value for name, value in values.items() if name != "rows"}
    with pytest.raises(UserError, match="progress: "):
        Progress.from_json(recipe, forged)


@pytest.mark.parametrize(
    "forgery",
    [
        *({}, {"step": 5}, {"step": 6}, {"step": 3}, {"step": 10**9}, {"history": []}),
        *({"selected_number": number} for number in (0, 3)),
    ],
)
def test_progress_must_be_one_of_the_plan(forgery):
    """Two steps per epoch, three epochs; step 5 has no epoch of its own."""
    plan = plan_steps(12, Recipe(global_batch_size=8), 1)
    progress = progress_after(Recipe(), [0.9, 0.5])
    vars(progress).update(forgery)
    with nullcontext() if forgery in ({}, {"step": 5}) else pytest.raises(UserError, match="progress: "):
        progress.check_plan(plan)


def test_history_must_be_that_of_the_evaluations_within_epochs():
    """Two steps per epoch, an evaluation after each."""
    recipe = Recipe(global_batch_size=8, evaluate_every=0.5)
    progress = Progress(recipe)
    for number in (1, 2, 3):
        progress.add(step(number, loss=number))
        progress.add_evaluation(step(number), number / 2 if number % 2 else number // 2, outcome(0.5))
    assert [evaluation.train_loss for evaluation in progress.history] == [1.0, 2.0, 3.0]
    saved = json.loads(json.dumps(progress.to_json()))
    Progress.from_json(recipe, saved).check_plan(plan_steps(12, recipe, 1))
    assert [evaluation["epoch"] for evaluation in saved["history"]] == [0.5, 1, 1.5]
    saved["history"][1]["epoch"] = 1.25
    with pytest.raises(UserError, match="progress: "):
        Progress.from_json(recipe, saved).check_plan(plan_steps(12, recipe, 1))


def test_changed_topology_is_noted():
    progress = Progress(Recipe())
    progress.begin(0.0, "2 processes with batches of 4", "")
    progress.begin(0.0, "2 processes with batches of 4", "")
    assert progress.notes == []
    progress.begin(0.0, "1 processes with batches of 4", "")
    assert "1 processes with batches of 4 instead of 2 processes" in progress.notes[0]


def test_restart_in_fp32_is_noted_and_saved():
    progress = Progress(Recipe())
    progress.begin(0.0, "1 processes with batches of 4", "the loss of step 3 is not finite")
    assert progress.fell_back
    assert "fp32" in progress.notes[0]
    progress.begin(0.0, "1 processes with batches of 4", "an interrupted attempt diverged")
    assert len(progress.notes) == 1, "a resumed run has the note already"


def test_time_counts_from_the_start_of_the_setup():
    from time import perf_counter

    progress = Progress(Recipe())
    progress.seconds_before = 100.0
    progress.begin(perf_counter() - 50.0, "1 process(es) with batches of 4", "")
    assert 150.0 <= progress.seconds < 160.0


def test_cost_counts_all_processes():
    progress = Progress(Recipe())
    progress.step, progress.rows, progress.train_seconds = 3, 96, 2.0
    progress.tokens, progress.computed_tokens = 160, 200
    energy = Energy(gpu_joules=3.0, processor_joules=None, sources=["NVML of the GPU", "RAPL: none"])
    fields = progress_fields(progress, [7, 9], energy)
    assert fields["energy"] == energy
    assert fields["rows_per_second"] == 48
    assert fields["tokens_per_second"] == 80
    assert fields["padding_share"] == pytest.approx(1 - 160 / 200)
    assert fields["peak_bytes"] == 9
    assert fields["cost"].device_seconds == pytest.approx(2 * fields["cost"].seconds)
    assert fields["cost"].peak_bytes_per_process == [7, 9]


def test_energy_of_a_resumed_run_is_unknown():
    progress = progress_after(Recipe(), [0.5])
    progress.seconds_before = 9.0
    energy = progress_fields(progress, [7], Energy(gpu_joules=3.0, processor_joules=4.0, sources=["NVML"]))["energy"]
    assert (energy.gpu_joules, energy.processor_joules) == (None, None)
    assert "resumed" in energy.sources[-1]


def test_summary_has_the_loss_of_the_epoch_so_far_and_at_its_end_of_the_whole_epoch():
    progress = progress_after(Recipe(), [0.5])
    assert progress.summary(run_spec(), 6).loss == pytest.approx(3.0)
    progress.add(step(3, loss=0.25))
    assert progress.summary(run_spec(), 6).loss == 0.25


def test_progress_file_is_written_every_few_seconds_and_removed_at_the_end(tmp_path):
    with (file := ProgressFile(tmp_path / "run.json", run_spec())):
        file.write(progress_after(Recipe(), [0.5]), 6)
        assert read_summary(file.path).step == 0
        file.written_at = float("-inf")
        file.write(progress_after(Recipe(), [0.5]), 6)
        assert (read_summary(file.path).step, read_summary(file.path).total_steps) == (2, 6)
    assert list(tmp_path.iterdir()) == []


def test_progress_file_that_cannot_be_written_ends_no_run(tmp_path):
    (tmp_path / "file").touch()
    with ProgressFile(tmp_path / "file" / "run.json", run_spec()):
        pass
