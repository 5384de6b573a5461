"""A run's identity follows from its options alone, and is that of the record it would write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.facts.records import RunSpec
from harness.facts.tasks import load_task, under_protocol
from harness.requests.identity import identify
from harness.requests.options import parse
from harness.rows.files import find_files


def spec_of(*words: str) -> RunSpec:
    options = parse(list(words))
    task = under_protocol(load_task(options.task), options.recipe.protocol)
    return identify(task, None if options.test_mode else find_files(task, options.data), options)


def test_same_options_are_the_same_run() -> None:
    assert spec_of("--task", "rte", "--seed", "3").run_id == spec_of("--seed", "3", "--task=rte").run_id


@pytest.mark.parametrize(
    "words", [("--seed", "4"), ("--epochs", "9"), ("--revision", "v1"), ("--model", "a/b"), ("--protocol", "holdout")]
)
def test_what_may_change_a_number_is_another_run(words: tuple[str, ...]) -> None:
    assert spec_of("--task", "rte", *words).run_id != spec_of("--task", "rte").run_id


@pytest.mark.parametrize("words", [("--precision", "fp32"), ("--device-batch-size", "4"), ("--results", "there")])
def test_how_it_is_computed_is_no_other_run(words: tuple[str, ...]) -> None:
    assert spec_of("--task", "rte", *words).run_id == spec_of("--task", "rte").run_id


def test_contents_of_the_data_are_part_of_it(make_task: Callable[..., Path], tiny_model: Path) -> None:
    task = make_task()
    words = ("--task", str(task), "--model", str(tiny_model))
    before = spec_of(*words)
    assert before.data is not None
    assert before.revision.startswith("sha256:")
    rows = task.parent / "small" / "train.csv"
    rows.write_text(rows.read_text() + "one more,yes\n")
    assert spec_of(*words).run_id != before.run_id
