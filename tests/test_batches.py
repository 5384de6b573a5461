"""Batches: the same rows in the same updates for any number of processes, padded and masked as they must be."""

import numpy as np
import pytest
import torch

from harness.batches import cut_batch, epoch_order, scoring_batches, windows
from harness.recipes import Recipe, plan_steps
from harness.selfcheck import SIZES, generated


def test_batch_pads_to_its_longest_row_and_masks_the_padding():
    encoded = generated(9)
    rows = np.array([4, 0, 7])
    batch = cut_batch(encoded, rows)
    longest = int(encoded.lengths[rows].max())
    assert batch.inputs["input_ids"].shape == (3, longest)
    assert batch.inputs["attention_mask"].sum(1).tolist() == encoded.lengths[rows].tolist()
    for line, row in enumerate(rows):
        length = encoded.lengths[row]
        flat = encoded.tokens["input_ids"][encoded.offsets[row] : encoded.offsets[row + 1]]
        assert batch.inputs["input_ids"][line, :length].tolist() == flat.tolist()
        assert (batch.inputs["input_ids"][line, length:] == 0).all()
    assert batch.labels.tolist() == encoded.labels[rows].tolist()


def test_filler_stands_for_no_row():
    filler = cut_batch(generated(5), np.zeros(0, np.int64))
    assert len(filler.rows) == 0
    assert filler.inputs["input_ids"].shape[0] == 1


def test_values_become_float32_labels():
    encoded = generated(4)._replace(labels=np.array([0.5, 1.0, 2.5, 5.0]))
    assert cut_batch(encoded, np.arange(4)).labels.dtype == torch.float32


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
@pytest.mark.parametrize("largest", [64, 2, 1])
def test_every_process_gets_the_same_windows_and_each_row_is_drawn_once(rows, processes, largest):
    encoded = generated(rows)
    plan = plan_steps(rows, Recipe(global_batch=12), processes, largest_device_batch=largest)
    dealt = [list(windows(encoded, plan, seed=3, epoch=1, process=process)) for process in range(processes)]
    order = epoch_order(rows, 3, 1)
    for number, together in enumerate(zip(*dealt, strict=True)):
        drawn = sorted(int(row) for window in together for batch in window.batches for row in batch.rows)
        assert drawn == sorted(order[number * 12 : (number + 1) * 12].tolist())
        assert len({len(window.batches) for window in together}) == 1
        assert {window.rows for window in together} == {len(drawn)}
        assert {window.tokens for window in together} == {int(encoded.lengths[drawn].sum())}
        computed = sum(b.inputs["input_ids"].numel() for window in together for b in window.batches if len(b.rows))
        assert {window.computed_tokens for window in together} == {computed}
        assert all(len(batch.rows) <= plan.device_batch for window in together for batch in window.batches)
    assert len(dealt[0]) == plan.updates_per_epoch


def test_skipped_windows_are_those_at_the_start():
    encoded, plan = generated(33), plan_steps(33, Recipe(global_batch=8), 1)
    whole = list(windows(encoded, plan, 0, 0, 0))
    rest = list(windows(encoded, plan, 0, 0, 0, skip=3))
    assert [w.batches[0].rows.tolist() for w in rest] == [w.batches[0].rows.tolist() for w in whole[3:]]


def test_order_depends_on_seed_and_epoch_alone():
    assert np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 2))
    assert not np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 1, 3))
    assert not np.array_equal(epoch_order(50, 1, 2), epoch_order(50, 2, 2))
    assert sorted(epoch_order(50, 9, 9)) == list(range(50))


def test_rows_of_like_length_share_a_batch_within_a_window():
    encoded = generated(100)
    plan = plan_steps(100, Recipe(global_batch=32), 1, 8)
    for window in windows(encoded, plan, 0, 0, 0):
        lengths = np.concatenate([encoded.lengths[batch.rows] for batch in window.batches])
        assert (np.diff(lengths) <= 0).all()


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_scoring_batches_are_the_same_for_any_number_of_processes(rows, processes):
    encoded = generated(rows)
    alone = [batch.tolist() for batch in scoring_batches(encoded, 4, 0, 1)]
    dealt = [scoring_batches(encoded, 4, process, processes) for process in range(processes)]
    assert len({len(mine) for mine in dealt}) == 1
    together = [dealt[n % processes][n // processes].tolist() for n in range(len(alone))]
    assert together == alone
    assert sum(len(batch) for mine in dealt for batch in mine) == rows
