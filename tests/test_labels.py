"""Labels of a source: several a row, however they are written, each fault with its row."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.rows.labels import read_labels, tidy

TOPICS = ["kargo", "iade", "şifre"]


def multi_label(**keys: Any) -> TaskSpec:
    facts = dict(
        name="topics",
        title="Topics",
        problem_type="multi_label_classification",
        source={"hub": "some/topics"},
        text="text",
        labels=TOPICS,
        splits={"train": "train", "validation": "validation"},
        rows={},
        metrics=["f1_micro"],
        main_metrics="f1_micro",
    )
    return TaskSpec(**(facts | keys))


def table(values: list[Any], feature: Any = None, **columns: list[Any]) -> datasets.Dataset:
    features = None if feature is None else datasets.Features({"label": feature})
    return datasets.Dataset.from_dict(columns or {"label": values}, features=features)


def test_lists_become_sets_in_the_tasks_order() -> None:
    sets = read_labels(multi_label(), "train", table([["iade", "kargo"], [], ["şifre"], ["şifre", " şifre "]]))
    assert sets.dtype == np.int8
    assert sets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    "separator, values",
    [
        (None, ['["iade", "kargo"]', "[]", "", '["s\u0327ifre"]']),
        (";", ["iade;kargo", "", " ; ", "s\u0327ifre;"]),
        (" | ", ["iade | kargo", "", "  ", " şifre"]),
        (";", [["iade", "kargo"], [], [], ["şifre"]]),
    ],
)
def test_texts_hold_lists_as_json_or_with_the_tasks_separator(separator: str | None, values: list[Any]) -> None:
    sets = read_labels(multi_label(separator=separator), "train", table(values))
    assert sets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_values_stand_for_the_names_that_the_task_gives_them() -> None:
    task = multi_label(labels={"kargo": 7, "iade": 8, "şifre": 9}, separator=",")
    assert read_labels(task, "train", table(["7,şifre", "8"])).tolist() == [[1, 0, 1], [0, 1, 0]]
    task = multi_label(labels={"kargo": 7, "iade": 8, "şifre": 9})
    assert read_labels(task, "train", table([[9, 8], []])).tolist() == [[0, 1, 1], [0, 0, 0]]


def test_lists_of_class_labels_count_by_name() -> None:
    other_order = datasets.Sequence(datasets.ClassLabel(names=["şifre", "kargo", "iade"]))
    assert read_labels(multi_label(), "train", table([[0, 2], [1]], other_order)).tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("on, off", [(1, 0), ("1", "0"), (True, False), ("True", "false"), (1.0, 0.0), (" 1", "0.0")])
def test_column_for_each_label_holds_zero_or_one(on: Any, off: Any) -> None:
    task = multi_label(label=["a", "b", "c"])
    rows = table([], a=[on, off], b=[off, off], c=[on, on])
    assert read_labels(task, "train", rows).tolist() == [[1, 0, 1], [0, 0, 1]]


def test_columns_name_the_labels_where_the_task_does_not() -> None:
    task = multi_label(label=["toxic", "rude"], labels=None)
    assert list(task.labels or {}) == ["toxic", "rude"]
    assert task.classes == 2


@pytest.mark.parametrize(
    "keys, values, told",
    [
        ({}, [["kargo"], ["iadee"]], r"'label' in row 2 of split 'train' is 'iadee', not one of .*Did you mean 'iade'"),
        ({}, ["kargo"], r"row 1 .* is 'kargo', not a list of labels\. If it is several .*'separator: \";\"'"),
        ({}, ["[kargo]"], r"row 1 .* is '\[kargo\]', not a list"),
        ({}, ["3"], "row 1 .* is '3', not a list"),
        ({}, [["kargo"], None], r"row 2 .* hidden label \(None\).* A row without labels has an empty text or list"),
        ({}, [-1], r"row 1 .* hidden label \(-1\)"),
        ({}, [[None]], r"row 1 .* hidden label \(None\)"),
        ({"separator": ";"}, ["kargo;iade", "kargo, iade"], "row 2 .* is 'kargo, iade', not one of the labels"),
        ({"separator": ";"}, [None], "row 1 .* hidden label"),
    ],
)
def test_label_that_cannot_be_is_told_with_its_row(keys: dict[str, Any], values: list[Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_labels(multi_label(**keys), "train", table(values))


@pytest.mark.parametrize(
    "value, told",
    [("yes", "is 'yes'; where each"), (2, "is 2; where"), (None, "hidden"), (-1, "hidden label"), (0.5, "is 0.5")],
)
def test_column_of_a_label_that_is_neither_zero_nor_one_is_told(value: Any, told: str) -> None:
    task = multi_label(label=["a", "b", "c"])
    with pytest.raises(UserError, match=f"column 'b' in row 1 of split 'train' .*{told}"):
        read_labels(task, "train", table([], a=[0], b=[value], c=[1]))


def test_case_is_never_touched() -> None:
    assert tidy(" Iİıi ") == "Iİıi"
    with pytest.raises(UserError, match="is 'Kargo', not one"):
        read_labels(multi_label(), "train", table([["Kargo"]]))
