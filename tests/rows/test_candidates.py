"""Rows with lists of candidates become a row for each candidate; invalid lists are named with their row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import UserError
from harness.facts.tasks import apply_protocol, read_task
from harness.rows.files import find_files
from harness.rows.loading import data_facts, fingerprint, load_splits, read_tables
from harness.rows.splits import Split

Make = Callable[..., Path]

ROWS = {
    "passage": ["Ann met Bob.", "Bob left.", "Cy ran."],
    "query": ["@placeholder met Bob", "then @placeholder left @placeholder", "@placeholder ran"],
    "entities": [["Ann", "Bob"], ["Bob", "the Ann", "Ann Lee"], ["Cy"]],
    "answers": [["Ann"], ["bob", "Ann"], ["Cy"]],
    "idx": [{"passage": 0, "query": 0}, {"passage": 1, "query": 1}, {"passage": 1, "query": 2}],
}
KEYS: dict[str, Any] = dict(
    text=["passage", "query"],
    candidates="entities",
    fill={"query": "@placeholder"},
    label="answers",
    labels=None,
    id="idx",
    metrics=["answer_f1", "answer_exact_match"],
    main_metrics=["answer_f1", "answer_exact_match"],
    ending="jsonl",
)


def load(make_task: Make, train: dict[str, Any] | None = None, other: Any = None, **keys: Any) -> dict[str, Split]:
    tables = {"train": {**ROWS, **(train or {})}, "validation": {**ROWS, **(other or {})}}
    task = read_task(make_task(tables, **{**KEYS, **keys}))
    return load_splits(task, read_tables(task, find_files(task, None)), "standard", None)


def test_each_candidate_is_a_row_of_the_group_of_its_question(make_task: Make) -> None:
    train = load(make_task)["train"]
    assert train.text == [*["Ann met Bob."] * 2, *["Bob left."] * 3, "Cy ran."]
    assert train.pair == [
        "Ann met Bob",
        "Bob met Bob",
        "then Bob left Bob",
        "then the Ann left the Ann",
        "then Ann Lee left Ann Lee",
        "Cy ran",
    ]
    assert train.candidates == ["Ann", "Bob", "Bob", "the Ann", "Ann Lee", "Cy"]
    assert train.label.tolist() == [1, 0, 1, 1, 0, 1], "as ReCoRD compares answers"
    assert np.asarray(train.gold) == pytest.approx([1, 0, 1, 1, 2 / 3, 1])
    assert train.questions.tolist() == [0, 0, 1, 1, 1, 2]
    assert [each["query"] for each in train.ids["idx"]] == [0, 0, 1, 1, 1, 2]


def test_lists_may_be_written_as_json_and_a_candidate_may_be_a_text(make_task: Make) -> None:
    lists = {name: [json.dumps(each) for each in ROWS[name]] for name in ("entities", "answers")}
    train = load(make_task, lists, lists, text=["query", "entities"], fill={}, id=[], ending="csv")["train"]
    assert train.pair == train.candidates == ["Ann", "Bob", "Bob", "the Ann", "Ann Lee", "Cy"]
    assert train.text[:2] == ["@placeholder met Bob"] * 2


def test_hidden_answers_leave_candidates_without_labels(make_task: Make) -> None:
    tables = {"train": ROWS, "validation": ROWS, "test": {**ROWS, "answers": [[], [], []]}}
    splits = {"train": "train", "validation": "validation", "test": "test"}
    task = read_task(make_task(tables, splits=splits, predict="test", **KEYS))
    test = load_splits(task, read_tables(task, find_files(task, None)), "standard", None)["test"]
    assert (test.label, test.gold, test.candidates) == (None, None, ["Ann", "Bob", "Bob", "the Ann", "Ann Lee", "Cy"])


def test_holdout_keeps_the_candidates_of_a_question_together(make_task: Make) -> None:
    task = apply_protocol(read_task(make_task({"train": ROWS, "validation": ROWS}, **KEYS)), "holdout")
    splits = load_splits(task, read_tables(task, find_files(task, None)), "holdout", None)
    halves = [splits[name] for name in ("validation", "validation_holdout")]
    queries = [{each["query"] for each in half.ids["idx"]} for half in halves]
    assert queries[0] | queries[1] == {0, 1, 2}
    assert not queries[0] & queries[1]
    assert [len(half.text) == len(half.candidates) == len(np.asarray(half.gold)) for half in halves] == [True] * 2


def test_number_of_rows_of_the_task_is_that_of_questions(make_task: Make) -> None:
    for questions, is_partial in ((3, False), (4, True)):
        path = make_task({"train": ROWS, "validation": ROWS}, rows={"train": questions}, **KEYS)
        task = read_task(path)
        tables = read_tables(task, find_files(task, None))
        facts = data_facts(task, tables, load_splits(task, tables, "standard", None), is_test_mode=False)
        assert (facts.rows["train"], facts.full_rows, facts.is_partial) == (6, {}, is_partial)


def test_fingerprint_changes_with_the_agreement_of_wrong_candidates(make_task: Make) -> None:
    train = load(make_task)["train"]
    other = train._replace(agreement=np.where(train.agreement < 1, 0.0, 1.0))
    assert fingerprint({"train": train}) != fingerprint({"train": other})


@pytest.mark.parametrize(
    "train, message",
    [
        ({"entities": [["Ann"], [], ["Cy"]]}, r"'entities', row 2 of split 'train': .*got 0"),
        ({"entities": [["Ann"], None, ["Cy"]]}, "'entities', row 2 of split 'train': missing list"),
        ({"entities": [["Ann"], ["Bob", "Ann", " "], ["Cy"]]}, "'entities', row 2 .*' ' is not a text"),
        ({"entities": [["Ann"], ["x"] * 1001, ["Cy"]]}, "'entities', row 2 .*got 1,001"),
        ({"entities": ["Ann", "Bob", "Cy"]}, "'entities', row 1 .*expected a list of texts, got 'Ann'"),
        ({"answers": [["Ann"], [], ["Cy"]]}, r"'answers', row 2 .*got 0.*'predict'"),
        ({"answers": [["Ann"], ["Bob", "Dee"], ["Cy"]]}, "'answers', row 2 .*'Dee' is not among the candidates"),
        ({"query": ["@placeholder", "x", "y"]}, "'query', row 2 of split 'train': placeholder '@placeholder' not"),
        ({"query": ["@placeholder", None, "y"]}, "'query', row 2 of split 'train': missing text"),
    ],
)
def test_invalid_question_is_named_with_its_row(make_task: Make, train: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(make_task, train)


def test_right_answer_that_is_no_candidate_may_be_in_a_scored_split(make_task: Make) -> None:
    """The official evaluation takes whatever is right: such a question cannot be answered, which counts."""
    validation = load(make_task, other={"answers": [["Dee"], ["Bob"], ["Cy"]]})["validation"]
    assert np.asarray(validation.gold) == pytest.approx([0, 0, 1, 0, 0, 1])


def test_missing_column_of_candidates_is_named(make_task: Make) -> None:
    with pytest.raises(UserError, match=r"column 'entitys' not found.*entities"):
        load(make_task, candidates="entitys")


def test_a_subset_of_the_training_rows_has_whole_questions_and_smaller_ones_are_parts_of_it(make_task: Make) -> None:
    sizes = [1 + number % 5 for number in range(40)]
    rows: dict[str, Any] = {
        "passage": [f"p{number}" for number in range(40)],
        "query": ["@placeholder"] * 40,
        "entities": [[f"e{each}" for each in range(size)] for size in sizes],
        "answers": [["e0"]] * 40,
    }
    task = read_task(make_task({"train": rows, "validation": rows}, **{**KEYS, "id": []}))
    tables = read_tables(task, find_files(task, None))
    drawn: set[str] = set()
    for train_rows in (5, 17, 60, 119, 120):
        train = load_splits(task, tables, "standard", train_rows)["train"]
        counts = {text: train.text.count(text) for text in train.text}
        assert all(count == sizes[int(text[1:])] for text, count in counts.items()), "whole questions"
        assert train_rows - 5 < len(train.text) <= train_rows
        assert drawn <= counts.keys()
        drawn = set(counts)
    assert len(drawn) == 40
    whole = load_splits(task, tables, "standard", None)
    assert fingerprint(load_splits(task, tables, "standard", 120)) == fingerprint(whole)
    with pytest.raises(UserError, match=r"--train-rows 121: small has only 120"):
        load_splits(task, tables, "standard", 121)
    big = {"entities": [[f"e{each}" for each in range(9)]] * 3, "answers": [["e0"]] * 3}
    task = read_task(make_task({"train": {**ROWS, **big}, "validation": ROWS}, **KEYS))
    with pytest.raises(UserError, match=r"--train-rows 8: .*small.* 9\."):
        load_splits(task, read_tables(task, find_files(task, None)), "standard", 8)
