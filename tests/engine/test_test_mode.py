"""Test mode: real schemas, a rule that is learned, and no network."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.commands import run

from harness.__main__ import main as harness
from harness.engine import test_mode
from harness.facts.packing import unpack_array
from harness.facts.records import read_record
from harness.facts.tasks import TaskSpec, all_tasks, load_task, read_task
from harness.rows.loading import load_splits


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.name)
def test_generated_rows_have_the_columns_of_the_task_and_load(task):
    tables = test_mode.tables(task)
    assert list(tables.by_split) == list(task.splits)
    splits = load_splits(task, tables, "standard", None)
    for name, split in splits.items():
        assert (split.pair is not None) == (len(task.text) == 2)
        assert (split.label is None) == (name in task.predict)
        if split.label is not None and not task.is_regression:
            assert set(split.label) == set(range(task.classes))


def test_generated_rows_are_the_same_each_time():
    task = load_task("mrpc")
    first, second = test_mode.tables(task).by_split, test_mode.tables(task).by_split
    assert first["train"]["sentence1"][:] == second["train"]["sentence1"][:]
    assert first["train"]["sentence1"][:5] != first["validation"]["sentence1"][:5]


LABEL_SETS = dict(
    problem_type="multi_label_classification",
    metrics=["f1_micro", "subset_accuracy"],
    main_metrics="f1_micro",
    labels=["a", "b", "c"],
)


@pytest.mark.parametrize("keys", [{}, {"separator": " / "}, {"label": ["x", "y", "z"]}, {"labels": {"a": 3, "b": 4}}])
def test_generated_label_sets_load_in_every_format_of_the_source(keys, make_task):
    task = read_task(make_task(**(LABEL_SETS | keys)))
    split = load_splits(task, test_mode.tables(task), "standard", None)["train"]
    assert split.label.shape == (384, task.classes)
    assert set(split.label.sum(axis=1)) == set(range(task.classes + 1)), "from no label to all"
    for number in range(task.classes):
        has_signal = [f"c{number}s1" in text or f"c{number}s2" in text for text in split.text]
        assert has_signal == (split.label[:, number] > 0).tolist()


def test_in_a_pair_the_rule_is_in_the_second_text_alone():
    rows = test_mode.tables(load_task("mrpc")).by_split["train"]
    assert not any("c" in token for text in rows["sentence1"] for token in text.split())
    assert all(any("c" in token for token in text.split()) for text in rows["sentence2"])


def test_both_rows_of_a_minimal_pair_have_one_label():
    task = load_task("axg")
    label = load_splits(task, test_mode.tables(task), "standard", None)["test"].label
    assert label[::2].tolist() == label[1::2].tolist()


@pytest.mark.parametrize(
    "keys",
    [
        {
            "group_rows": 5,
            "splits": {"train": "train", "validation": "validation", "test": "test"},
            "predict": ["test"],
        },
        {"group_rows": 500},
        {"group": ["question"], "splits": {"train": "all[stratified :90%]", "validation": "all[stratified 90%:]"}},
        {"group": ["question"], "splits": {"train": "all[:90%]", "validation": "all[90%:]"}},
    ],
)
def test_groups_are_whole_in_test_mode(keys):
    facts = dict(name="mine", title="Mine", source={"file": "a.csv"}, text="text", labels=["no", "yes"])
    facts |= dict(splits={"train": "train", "validation": "validation"}, metrics=["accuracy"], main_metrics="accuracy")
    task = TaskSpec(**{**facts, **keys})
    splits = load_splits(task, test_mode.tables(task), "standard", None)
    sizes = {name: set(np.bincount(split.row_groups).tolist()) for name, split in splits.items()}
    assert sizes == {name: {task.group_rows or 4} for name in task.splits}


SHAPES = {
    (len(task.text), task.problem_type, bool(task.group), task.classes > 2): task.name
    for task in sorted(all_tasks(), key=lambda task: task.classes)
    if task.predicted_by is None
}
"""One task of each shape: texts, problem type, groups, and the most classes where there are more than two."""


@pytest.mark.parametrize("name", SHAPES.values())
def test_task_of_every_shape_scores_clearly_above_the_baseline(name, tmp_path, capsys):
    run("--task", name, "--test-mode", "--results", tmp_path)
    (path,) = (tmp_path / "test-mode" / "runs" / name).glob("*.json")
    record, task = read_record(path), load_task(name)
    assert record.status == "ok"
    assert record.spec.test_mode
    for split in task.report:
        for metric in task.main_metrics:
            score, constant = record.metrics[split][metric], record.baseline[split][metric]
            assert score > 0.2 + (constant or 0.0), (split, metric)
    assert not list((tmp_path / "runs").glob("**/*.json"))


@pytest.fixture(scope="module")
def tickets(tmp_path_factory):
    """The record of a run of the documentation's multi-label task, with the holdout protocol and a chosen threshold."""
    folder = tmp_path_factory.mktemp("tickets")
    text = (Path(__file__).parents[2] / "docs" / "multi-label.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "multi_label" in block]
    (folder / "tickets.yaml").write_text(block, encoding="utf-8")
    flags = ("--save-model", folder / "saved", "--threshold", "validation", "--protocol", "holdout")
    flags += ("--select", "best_main_score", "--epochs", 12, "--global-batch-size", 16)
    run("--task", folder / "tickets.yaml", "--test-mode", "--results", folder, *flags)
    (path,) = (folder / "test-mode" / "runs" / "tickets").glob("*.json")
    return path


def test_multi_label_task_scores_clearly_above_the_baseline(tickets):
    record = read_record(tickets)
    values, constant = record.metrics["validation_holdout"], record.baseline["validation_holdout"]
    assert record.status == "ok"
    assert values["f1_micro"] > 0.9 > constant["f1_micro"] + 0.2
    assert values["hamming_loss"] < 0.1 < constant["hamming_loss"] - 0.2
    assert values["subset_accuracy"] > 0.8 > constant["subset_accuracy"] + 0.2


def test_predictions_of_label_sets_follow_the_recorded_threshold(tickets):
    record = read_record(tickets)
    rows = pd.read_parquet(tickets.with_name(record.prediction_files["validation_holdout"]))
    probabilities = 1 / (1 + np.exp(-np.stack(rows["scores"].to_numpy())))
    expected = [
        [name for name, p in zip(record.task.labels, row, strict=True) if p >= record.threshold]
        for row in probabilities
    ]
    assert [list(names) for names in rows["prediction"]] == expected
    packed = unpack_array(record.predictions["validation_holdout"])
    assert [[name for name, on in zip(record.task.labels, row, strict=True) if on] for row in packed] == expected
    is_correct = [set(a) == set(b) for a, b in zip(rows["prediction"], rows["label"], strict=True)]
    assert np.mean(is_correct) == pytest.approx(record.metrics["validation_holdout"]["subset_accuracy"])
    assert unpack_array(record.gold["validation_holdout"]).shape == (48, 3)


def test_threshold_is_chosen_on_the_selection_split_and_agrees_with_the_history(tickets):
    record = read_record(tickets)
    assert record.threshold in [number / 20 for number in range(1, 20)]
    assert record.task.problem_type == "multi_label_classification"
    assert record.metrics["validation"] == pytest.approx(record.history[record.selected_epoch - 1].metrics)


def test_saved_multi_label_model_is_evaluated_with_the_recorded_threshold(tickets, tmp_path, capsys):
    record, saved = read_record(tickets), tickets.parents[3] / "saved"
    harness(["evaluate", str(saved), "--split", "validation_holdout", "--out", str(tmp_path)])
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["validation_holdout"] == pytest.approx(record.metrics["validation_holdout"], abs=1e-6)
    assert {path.name for path in tmp_path.glob("*.svg")} == {"labels.svg"}
    classes = pd.read_csv(tmp_path / "classes.csv")
    assert classes["f1"].mean() == pytest.approx(record.metrics["validation_holdout"]["f1_macro"])
    assert "labels" in capsys.readouterr().out
    card = (saved / "README.md").read_text()
    assert f"{record.threshold:g}" in card
    assert "top_k=None" in card


def test_tiny_model_is_the_same_each_time_and_random_states_do_not_change(tmp_path):
    import torch

    torch.manual_seed(5)
    before = torch.get_rng_state()
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        test_mode.write_model(folder)
    assert torch.equal(before, torch.get_rng_state())
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()
