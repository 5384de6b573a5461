"""A user's own rows: their flags, the splits of the task that is inferred, and the identity of a run on them."""

from __future__ import annotations

from typing import Any

from harness.facts.records import RunSpec
from harness.facts.tasks import TaskSpec
from harness.requests.identity import identify, resolve_task
from harness.requests.options import parse_options
from harness.rows.files import find_files
from harness.rows.loading import load_splits, read_tables
from harness.rows.own_data import OwnData
from harness.rows.splits import Split


def own(train: str = "train.csv", **keys: Any) -> OwnData:
    """The flags of one training file with the column `text`; `keys` replace them."""
    return OwnData(**{"train_file": (train,), "text_columns": "text", **keys})


def splits_of(task: TaskSpec) -> dict[str, Split]:
    """The splits of a task on its own files, as a run loads them."""
    return load_splits(task, read_tables(task, find_files(task, None)), "standard", None)


def spec_of(*args: str) -> RunSpec:
    """The identity of a run with these arguments and a model of the Hub."""
    options = parse_options([*args, "--model", "org/model"])
    task, _ = resolve_task(options)
    return identify(task, find_files(task, None), options)
