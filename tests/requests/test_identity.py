"""The identity of a run follows from its options and the contents of its files alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.facts.records import RunSpec
from harness.facts.tasks import apply_protocol, load_task
from harness.requests.identity import identify
from harness.requests.options import parse_options
from harness.rows.files import find_files


def spec_of(*args: str) -> RunSpec:
    options = parse_options(list(args))
    task = apply_protocol(load_task(options.task), options.recipe.protocol)
    return identify(task, None if options.test_mode else find_files(task, options.data), options)


def test_same_options_have_the_same_run_id() -> None:
    assert spec_of("--task", "rte", "--seed", "3").run_id == spec_of("--seed", "3", "--task=rte").run_id


@pytest.mark.parametrize(
    "args", [("--seed", "4"), ("--epochs", "9"), ("--revision", "v1"), ("--model", "a/b"), ("--protocol", "holdout")]
)
def test_option_that_may_change_a_number_changes_the_run_id(args: tuple[str, ...]) -> None:
    assert spec_of("--task", "rte", *args).run_id != spec_of("--task", "rte").run_id


@pytest.mark.parametrize("args", [("--precision", "fp32"), ("--device-batch-size", "4"), ("--results", "there")])
def test_option_that_changes_no_number_keeps_the_run_id(args: tuple[str, ...]) -> None:
    assert spec_of("--task", "rte", *args).run_id == spec_of("--task", "rte").run_id


def test_contents_of_the_data_change_the_run_id(make_task: Callable[..., Path], tiny_model: Path) -> None:
    task = make_task()
    args = ("--task", str(task), "--model", str(tiny_model))
    before = spec_of(*args)
    assert before.data is not None
    assert before.revision.startswith("sha256:")
    rows = task.parent / "small" / "train.csv"
    rows.write_text(rows.read_text() + "one more,yes\n")
    assert spec_of(*args).run_id != before.run_id
