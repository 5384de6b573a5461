"""Batches: the same rows in the same steps for any number of processes, padded and masked correctly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from harness.engine.batches import cut_batch, epoch_order, rows_of_steps, scoring_batches, step_batches
from harness.engine.tiny_example import generated
from harness.facts.recipes import Recipe, plan_steps

SIZES = (1, 7, 16, 17, 31, 32, 33, 100)
"""Numbers of rows: less than a step, whole steps and partial ones."""


def test_batch_pads_to_its_longest_row_and_masks_the_padding():
    encoded = generated(9)
    encoded.padding["input_ids"] = 5
    rows = np.array([4, 0, 7])
    batch = cut_batch(encoded, rows)
    longest = int(encoded.lengths[rows].max())
    assert batch.inputs["input_ids"].shape == (3, longest)
    assert batch.inputs["attention_mask"].sum(1).tolist() == encoded.lengths[rows].tolist()
    for line, row in enumerate(rows):
        length = encoded.lengths[row]
        flat = encoded.tokens["input_ids"][encoded.offsets[row] : encoded.offsets[row + 1]]
        assert batch.inputs["input_ids"][line, :length].tolist() == flat.tolist()
        assert (batch.inputs["input_ids"][line, length:] == 5).all()
    assert batch.labels.tolist() == encoded.labels[rows].tolist()


def test_batch_can_have_its_padding_in_front():
    encoded, rows = generated(9), np.array([4, 0, 7])
    right = cut_batch(encoded, rows, lambda longest: longest + 3)
    left = cut_batch(replace(encoded, pads_left=True), rows, lambda longest: longest + 3)
    for name, values in right.inputs.items():
        for line, length in enumerate(encoded.lengths[rows]):
            assert left.inputs[name][line].tolist() == values[line].roll(-int(length)).tolist()
            assert left.inputs["attention_mask"][line, -length:].all()


def test_filler_has_one_line_and_no_row():
    filler = cut_batch(generated(5), np.zeros(0, np.int64))
    assert len(filler.rows) == 0
    assert filler.inputs["input_ids"].shape[0] == 1


def test_values_become_float32_labels():
    encoded = replace(generated(4), labels=np.array([0.5, 1.0, 2.5, 5.0]))
    assert cut_batch(encoded, np.arange(4)).labels.dtype == torch.float32


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("device_batch_size", [None, 1])
@pytest.mark.parametrize("length_grouping", [True, False])
def test_every_process_gets_the_same_number_of_batches_and_each_row_is_drawn_once(
    rows, processes, device_batch_size, length_grouping
):
    encoded, recipe = generated(rows), Recipe(global_batch_size=12, length_grouping=length_grouping)
    plan = plan_steps(rows, recipe, processes, device_batch_size)
    dealt = [list(step_batches(encoded, plan, seed=3, epoch=1, process=process)) for process in range(processes)]
    expected = rows_of_steps(encoded.lengths, plan, 3, 1)
    assert sorted(np.concatenate(expected)) == list(range(rows))
    for number, shares in enumerate(zip(*dealt, strict=True)):
        drawn = sorted(int(row) for share in shares for batch in share.batches for row in batch.rows)
        assert drawn == sorted(expected[number].tolist())
        assert len({len(share.batches) for share in shares}) == 1
        assert {share.rows for share in shares} == {len(drawn)}
        assert {share.tokens for share in shares} == {int(encoded.lengths[drawn].sum())}
        computed = sum(b.inputs["input_ids"].numel() for share in shares for b in share.batches if len(b.rows))
        assert {share.computed_tokens for share in shares} == {computed}
        assert all(len(batch.rows) <= plan.device_batch_size for share in shares for batch in share.batches)
    assert len(dealt[0]) == plan.steps_per_epoch


def test_skip_leaves_out_the_first_steps():
    encoded, plan = generated(33), plan_steps(33, Recipe(global_batch_size=8), 1)
    whole = list(step_batches(encoded, plan, 0, 0, 0))
    rest = list(step_batches(encoded, plan, 0, 0, 0, skip=3))
    assert [step.batches[0].rows.tolist() for step in rest] == [step.batches[0].rows.tolist() for step in whole[3:]]


def test_order_depends_only_on_seed_and_epoch():
    assert np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    assert not np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 3))
    assert not np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 2, 2))
    assert sorted(epoch_order(50, 9, 9)) == list(range(50))


def test_without_grouping_steps_are_cut_from_the_permutation():
    encoded, plan = generated(33), plan_steps(33, Recipe(global_batch_size=8, length_grouping=False), 1)
    order = epoch_order(33, 5, 2)
    for number, rows in enumerate(rows_of_steps(encoded.lengths, plan, 5, 2)):
        assert sorted(rows) == sorted(order[number * 8 : number * 8 + 8])


def test_rows_of_a_step_have_similar_lengths_and_steps_are_shuffled():
    lengths = np.random.default_rng(0).integers(3, 100, size=1607)
    plan = plan_steps(1607, Recipe(global_batch_size=16), 1)
    steps = rows_of_steps(lengths, plan, 0, 0)
    whole = [rows for rows in steps if len(rows) == 16]
    assert [len(rows) for rows in steps if len(rows) != 16] == [7]
    assert np.mean([np.ptp(lengths[rows]) for rows in whole]) < 4
    longest = [lengths[rows].max() for rows in whole]
    assert 0.3 < np.mean(np.diff(longest) > 0) < 0.7, "the order of steps follows their lengths"
    next_epoch = rows_of_steps(lengths, plan, 0, 1)
    assert {frozenset(rows) for rows in steps}.isdisjoint(map(frozenset, next_epoch)), (
        "another epoch has the same steps"
    )


def test_order_of_the_steps_depends_on_seed_and_epoch():
    plan = plan_steps(103, Recipe(global_batch_size=10), 1)

    def position(seed: int, epoch: int) -> int:
        return [len(rows) for rows in rows_of_steps(np.arange(3, 3 + 103), plan, seed, epoch)].index(3)

    assert len({position(seed, 1) for seed in range(9)}) > 3
    assert len({position(1, epoch) for epoch in range(9)}) > 3


def test_last_partial_step_has_rows_of_random_lengths():
    """Otherwise the shortest rows, or the longest, would weigh more than others in every epoch."""
    lengths = np.arange(3, 3 + 103)
    plan = plan_steps(103, Recipe(global_batch_size=10), 1)
    means = [
        np.mean(next(lengths[rows] for rows in rows_of_steps(lengths, plan, 0, epoch) if len(rows) == 3))
        for epoch in range(300)
    ]
    assert abs(np.mean(means) - lengths.mean()) < 5


def test_rows_of_a_step_are_sorted_by_length_before_they_are_cut_into_batches():
    encoded = generated(100)
    plan = plan_steps(100, Recipe(global_batch_size=32), 1, 8)
    for step in step_batches(encoded, plan, 0, 0, 0):
        lengths = np.concatenate([encoded.lengths[batch.rows] for batch in step.batches])
        assert (np.diff(lengths) <= 0).all()


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("fills_up", [False, True])
def test_scoring_batches_are_the_same_for_any_number_of_processes(rows, processes, fills_up):
    encoded = generated(rows)
    expected = [batch.tolist() for batch in scoring_batches(encoded, 4, 0, 1, fills_up)]
    dealt = [scoring_batches(encoded, 4, process, processes, fills_up) for process in range(processes)]
    assert len({len(share) for share in dealt}) == 1
    in_order = [dealt[n % processes][n // processes].tolist() for n in range(len(expected))]
    assert in_order == expected
    assert sum(len(batch) for share in dealt for batch in share) == rows


def test_scoring_batches_fill_up_with_short_rows_to_the_tokens_of_the_first():
    encoded = generated(100)
    batches = scoring_batches(encoded, 4, 0, 1, fills_up=True)
    tokens = [len(batch) * encoded.lengths[batch[0]] for batch in batches]
    assert len(batches[0]) == 4 < len(batches[-2])
    assert max(tokens) == tokens[0]
    assert sorted(np.concatenate(batches)) == list(range(100))


def test_candidates_of_a_row_are_in_one_batch_and_their_logits_in_one_line():
    encoded = generated(9, choices=3)
    assert len(encoded) == 9
    assert encoded.lengths.sum() == encoded.offsets[-1]
    batch = cut_batch(encoded, np.array([4, 0]))
    for line, number in enumerate([12, 13, 14, 0, 1, 2]):
        first, last = encoded.offsets[number : number + 2]
        tokens = batch.inputs["input_ids"][line][batch.inputs["attention_mask"][line] > 0]
        assert tokens.tolist() == encoded.tokens["input_ids"][first:last].tolist()
    assert batch.labels.tolist() == encoded.labels[[4, 0]].tolist()
    assert batch.inputs["input_ids"].shape[1] == encoded.widths[[4, 0]].max()
    assert batch.scores(torch.arange(6.0)[:, None]).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert cut_batch(encoded, np.zeros(0, np.int64)).scores(torch.zeros(3, 1)).shape == (1, 3)


def test_steps_of_candidates_count_rows_and_all_their_tokens():
    encoded, plan = generated(9, choices=3), plan_steps(9, Recipe(global_batch_size=4, epochs=1), 2, 1)
    steps = [list(step_batches(encoded, plan, 1, 0, process)) for process in range(2)]
    batches = [batch for each in steps for step in each for batch in step.batches if len(batch.rows)]
    assert sorted(int(row) for batch in batches for row in batch.rows) == [*range(9)]
    assert sum(step.tokens for step in steps[0]) == encoded.offsets[-1]
    assert sum(step.computed_tokens for step in steps[0]) == sum(batch.inputs["input_ids"].numel() for batch in batches)
    scored = scoring_batches(encoded, 2, 0, 1, fills_up=True)
    assert sorted(np.concatenate(scored).tolist()) == [*range(9)]
    assert encoded.widths[scored[0][0]] == encoded.widths.max()
