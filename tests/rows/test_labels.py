"""Labels of a source: several per row in every format, and an invalid label is named with its row."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pytest

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.rows.labels import normalize_label, read_labels

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


def test_lists_become_label_sets_in_the_order_of_the_task() -> None:
    label_sets = read_labels(multi_label(), "train", table([["iade", "kargo"], [], ["şifre"], ["şifre", " şifre "]]))
    assert label_sets.dtype == np.int8
    assert label_sets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize(
    "separator, values",
    [
        (None, ['["iade", "kargo"]', "[]", "", '["s\u0327ifre"]']),
        (";", ["iade;kargo", "", " ; ", "s\u0327ifre;"]),
        (" | ", ["iade | kargo", "", "  ", " şifre"]),
        (";", [["iade", "kargo"], [], [], ["şifre"]]),
    ],
)
def test_texts_are_json_lists_or_have_the_separator_of_the_task(separator: str | None, values: list[Any]) -> None:
    label_sets = read_labels(multi_label(separator=separator), "train", table(values))
    assert label_sets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_values_are_mapped_to_the_names_of_the_task() -> None:
    task = multi_label(labels={"kargo": 7, "iade": 8, "şifre": 9}, separator=",")
    assert read_labels(task, "train", table(["7,şifre", "8"])).tolist() == [[1, 0, 1], [0, 1, 0]]
    task = multi_label(labels={"kargo": 7, "iade": 8, "şifre": 9})
    assert read_labels(task, "train", table([[9, 8], []])).tolist() == [[0, 1, 1], [0, 0, 0]]


def test_lists_of_class_labels_are_matched_by_name() -> None:
    other_order = datasets.Sequence(datasets.ClassLabel(names=["şifre", "kargo", "iade"]))
    assert read_labels(multi_label(), "train", table([[0, 2], [1]], other_order)).tolist() == [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("on, off", [(1, 0), ("1", "0"), (True, False), ("True", "false"), (1.0, 0.0), (" 1", "0.0")])
def test_column_of_each_label_has_zeros_and_ones(on: Any, off: Any) -> None:
    task = multi_label(label=["a", "b", "c"])
    rows = table([], a=[on, off], b=[off, off], c=[on, on])
    assert read_labels(task, "train", rows).tolist() == [[1, 0, 1], [0, 0, 1]]


def test_columns_name_the_labels_by_default() -> None:
    task = multi_label(label=["toxic", "rude"], labels=None)
    assert list(task.labels) == ["toxic", "rude"]
    assert task.classes == 2


@pytest.mark.parametrize(
    "keys, values, message",
    [
        ({}, [["kargo"], ["iadee"]], r"column 'label', row 2 of split 'train': unknown label 'iadee'.*mean 'iade'"),
        ({}, ["kargo"], r"row 1 .*expected a list of labels, got 'kargo'.*'separator: \";\"'"),
        ({}, ["[kargo]"], r"row 1 .*expected a list of labels, got '\[kargo\]'"),
        ({}, ["3"], "row 1 .*expected a list of labels, got '3'"),
        ({}, [["kargo"], None], r"row 2 .* hidden label \(None\).* empty text or list"),
        ({}, [-1], r"row 1 .* hidden label \(-1\)"),
        ({}, [[None]], r"row 1 .* hidden label \(None\)"),
        ({"separator": ";"}, ["kargo;iade", "kargo, iade"], "row 2 .*unknown label 'kargo, iade'"),
        ({"separator": ";"}, [None], "row 1 .* hidden label"),
    ],
)
def test_invalid_label_is_named_with_its_row(keys: dict[str, Any], values: list[Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(multi_label(**keys), "train", table(values))


@pytest.mark.parametrize(
    "value, message", [("yes", "0 or 1, got 'yes'"), (2, "got 2"), (None, "hidden"), (-1, "hidden"), (0.5, "got 0.5")]
)
def test_column_of_a_label_with_another_value_is_refused(value: Any, message: str) -> None:
    task = multi_label(label=["a", "b", "c"])
    with pytest.raises(UserError, match=f"column 'b', row 1 of split 'train': .*{message}"):
        read_labels(task, "train", table([], a=[0], b=[value], c=[1]))


def test_case_is_kept() -> None:
    assert normalize_label(" Iİıi ") == "Iİıi"
    with pytest.raises(UserError, match="unknown label 'Kargo'"):
        read_labels(multi_label(), "train", table([["Kargo"]]))
