"""The expected duration of a run: from similar runs, else from its model's speed, else unknown."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.facts.record_parts import HistoryEntry
from harness.facts.records import RunRecord, RunSpec
from harness.facts.tasks import load_task
from harness.sweeps.estimates import LAUNCH_SECONDS, comparable, estimate

Make = Callable[..., RunRecord]


def spec_of(make_record: Make, task: str, **recipe: object) -> RunSpec:
    return make_record(task, recipe=recipe).spec


def history(epochs: int) -> list[HistoryEntry]:
    """The history of a run that was evaluated after each epoch."""
    common = dict(train_loss=0.5, learning_rate=1e-5, seconds=5, metrics={})
    return [HistoryEntry(epoch=epoch, step=32 * epoch, **common) for epoch in range(1, epochs + 1)]


def test_twice_the_epochs_take_twice_the_seconds_of_steps_and_evaluations(make_record: Make) -> None:
    """The record: 11,004 rows in 50 s, 2 s of setup, 8 s of evaluation, on 1,000 training rows, in 11 epochs."""
    before = make_record("rte", history=history(11))
    expected = estimate(load_task("rte"), spec_of(make_record, "rte", epochs=22), [before])
    assert expected.rows == 22_000
    assert expected.seconds == pytest.approx(LAUNCH_SECONDS + 2 + 22_000 / 11_004 * 50 + 2 * 8)
    assert expected.basis == "1 of this task and model"


def test_record_without_a_number_of_training_rows_is_no_obstacle(make_record: Make) -> None:
    before = make_record("rte", history=history(11), data=dict(rows={"validation": 200}))
    assert estimate(load_task("rte"), spec_of(make_record, "rte", epochs=1), [before]).rows == 2490


@pytest.mark.parametrize("every, evaluations", [(0.1, 110), (16, 22), (1000, 1)])
def test_evaluations_within_epochs_are_counted_and_other_splits_once(
    make_record: Make, every: float, evaluations: int
) -> None:
    """1,000 rows in 32 steps per epoch; the record scored 11 x 200 rows and once 300 other ones."""
    rows = {"train": 1000, "validation": 200, "test": 300}
    before = make_record(
        "rte", history=history(11), data=dict(rows=rows), prediction_files=dict.fromkeys(("validation", "test"), "file")
    )
    spec = spec_of(make_record, "rte", epochs=11, evaluate_every=every)
    seconds = estimate(load_task("rte"), spec, [before]).seconds
    share = (200 * evaluations + 300) / (200 * 11 + 300)
    assert seconds == pytest.approx(LAUNCH_SECONDS + 2 + 11_000 / 11_004 * 50 + 8 * share)


def test_evaluations_within_epochs_are_counted_for_a_new_task_of_the_model(make_record: Make) -> None:
    spec = spec_of(make_record, "cola", epochs=1, evaluate_every=0.1)
    before = make_record("rte", rows_per_second=100.0, history=history(11))
    overhead = (61 + 9 * 8) / 50  # ten evaluations per epoch instead of one
    assert estimate(load_task("cola"), spec, [before]).seconds == pytest.approx(LAUNCH_SECONDS + 8551 / 100 * overhead)


def test_max_steps_are_counted(make_record: Make) -> None:
    spec = spec_of(make_record, "rte", max_steps=10, global_batch_size=16, epochs=9)
    assert estimate(load_task("rte"), spec, []).rows == 160


def test_reduced_rows_are_counted(make_record: Make) -> None:
    assert estimate(load_task("rte"), spec_of(make_record, "rte", train_rows=100, epochs=3), []).rows == 300


def test_pairs_in_both_orders_are_twice_the_rows(make_record: Make) -> None:
    assert estimate(load_task("rte"), spec_of(make_record, "rte", pair_order="both", epochs=3), []).rows == 2 * 3 * 2490


def test_task_of_another_model_gives_the_length_of_its_rows(make_record: Make) -> None:
    records = [
        make_record("rte", model="org/a", tokens_per_second=1000.0),
        make_record("cola", model="org/b", tokens_per_second=7.0),
    ]
    spec = spec_of(make_record, "cola", epochs=1).model_copy(update={"model": "org/a"})
    expected = estimate(load_task("cola"), spec, records)
    share = 61 / 50  # of all seconds to those of steps
    assert expected.seconds == pytest.approx(LAUNCH_SECONDS + 1000 * (500_000 / 11_004) / 1000 * share)
    assert expected.basis == "1 of this model, by tokens"


def test_model_alone_gives_rows_per_second(make_record: Make) -> None:
    spec = spec_of(make_record, "cola", epochs=1)
    expected = estimate(load_task("cola"), spec, [make_record("rte", rows_per_second=100.0)])
    assert expected.seconds == pytest.approx(LAUNCH_SECONDS + 8551 / 100 * 61 / 50)
    assert expected.basis == "1 of this model, by rows"


def test_unknown_model_has_no_estimate(make_record: Make) -> None:
    spec = spec_of(make_record, "cola").model_copy(update={"model": "org/new"})
    assert estimate(load_task("cola"), spec, [make_record("cola")]).seconds is None


def test_task_that_another_predicts_takes_no_training(make_record: Make) -> None:
    assert estimate(load_task("ax"), spec_of(make_record, "ax"), []).seconds == LAUNCH_SECONDS


def test_records_of_this_device_are_preferred(make_record: Make) -> None:
    records = [make_record("rte"), make_record("cola", cost=None), make_record("stsb", trained_by="other")]
    assert comparable(records, "NVIDIA H100", is_test_mode=False) == records[:1]
    assert comparable(records, "a processor", is_test_mode=False) == records[:1], "better than nothing"
    assert comparable(records, "NVIDIA H100", is_test_mode=True) == []
    here = make_record("wnli")
    assert here.environment is not None
    here = here.model_copy(update={"environment": here.environment.model_copy(update={"devices": ["a processor"]})})
    assert comparable([*records, here], "a processor", is_test_mode=False) == [here]
