"""Companion tasks: predicted by the runs of another task, and scored where their labels are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.records import finished_record

from harness.engine import test_mode
from harness.engine.predictions import write_predictions
from harness.errors import UserError
from harness.facts.packing import unpack_array
from harness.facts.records import RunRecord, read_record, record_path
from harness.facts.tasks import load_task
from harness.inspection.record_checks import check_files
from harness.requests.companions import companion_splits, record_companion
from harness.requests.options import RunOptions, parse_options
from harness.sweeps.fetch import downloads_of
from harness.sweeps.file import Sweep
from harness.sweeps.plan import SweepRequest, expand, tasks_of

ROWS = test_mode.ROWS["labelled"]
NAMES = ["entailment", "not_entailment"]


@pytest.fixture
def options(tmp_path: Path) -> RunOptions:
    return parse_options(["--task", "axb", "--test-mode", "--results", str(tmp_path)])


def _parent(options: RunOptions, task: str, **files: str) -> RunRecord:
    record = finished_record(task, data={"rows": {"train": 9, "validation": 5}, "full_rows": {"train": 9}})
    record = record.model_copy(update={"prediction_files": files, "run_id": record.spec.run_id})
    path = record_path(options.folder, task, record.run_id)
    splits = companion_splits(replace(options, task=task))
    for split, file in files.items():
        half = len(splits[split].text) // 2
        values = np.eye(2, dtype=np.float32)[[0] * half + [1] * half]
        write_predictions(path.with_name(file), values, NAMES, splits[split])
    return record


def test_labelled_companion_is_scored_from_the_prediction_file(options: RunOptions) -> None:
    axb = load_task("axb")
    parent = _parent(options, "superglue_rte", **{"axb.test": "a.axb.test.parquet"})
    record = record_companion(axb, options, lambda _: parent)
    gold: Any = np.arange(ROWS) % 2
    expected = float(np.mean(gold == ([0] * (ROWS // 2) + [1] * (ROWS // 2))))
    assert record.metrics["test"]["accuracy"] == pytest.approx(expected)
    assert unpack_array(record.gold["test"]).tolist() == gold.tolist()
    assert (record.status, record.trained_by) == ("ok", parent.run_id)
    assert record.data is not None
    assert record.data.rows == {"train": 9, "validation": 5, "test": ROWS}
    assert record.data.fingerprint != parent.data.fingerprint  # type: ignore[union-attr]
    assert read_record(record_path(options.folder, "axb", record.run_id)) == record
    assert [finding for finding in check_files(record, options.folder).findings if "test" in finding.field] == []


def test_companion_with_hidden_labels_has_no_scores(options: RunOptions) -> None:
    parent = _parent(options, "mnli", **{"ax.test": "a.ax.test.parquet"})
    record = record_companion(load_task("ax"), options, lambda _: parent)
    assert (record.metrics, record.predictions) == ({}, {})
    assert record.data == parent.data


def test_predictions_of_other_rows_than_a_companion_with_hidden_labels_has_now_are_an_error(shops: Path) -> None:
    probe = shops / "probe.yaml"
    probe.write_text(
        probe.read_text().replace("evaluate: test\nreport: test", "evaluate: []\nreport: []\npredict: test")
    )
    own = parse_options(["--task", str(probe), "--results", str(shops.parent)])
    record = finished_record("stars").model_copy(update={"prediction_files": {"probe.test": "a.parquet"}})
    path = record_path(own.folder, "stars", record.run_id).with_name("a.parquet")
    splits = companion_splits(replace(own, task=str(shops / "stars.yaml")))
    write_predictions(path, np.eye(2, dtype=np.float32)[[0] * 8], ["bad", "good"], splits["probe.test"])
    assert record_companion(load_task(own.task), own, lambda _: record).prediction_files == {
        "test": "../stars/a.parquet"
    }
    (shops / "data.csv").write_text((shops / "data.csv").read_text().replace("w7", "other"))
    with pytest.raises(UserError, match=r"--task .*probe: a\.parquet .* texts .*--overwrite"):
        record_companion(load_task(own.task), own, lambda _: record)


def test_run_without_predictions_for_the_companion_is_named(options: RunOptions) -> None:
    with pytest.raises(UserError, match=r"--task axb: .*axb\.test"):
        record_companion(load_task("axb"), options, lambda _: _parent(options, "superglue_rte"))


def test_rows_of_companions_have_no_labels_in_the_run_that_predicts_them(options: RunOptions) -> None:
    splits = companion_splits(replace(options, task="superglue_rte"))
    assert splits.keys() == {"axb.test", "axg.test"}
    assert all(split.label is None for split in splits.values())


SHOPS = {
    "suite": "title: Shops\ntasks: [stars, probe]\n",
    "stars": "source: {file: data.csv}\ntext: text\nlabels: [bad, good]\nmodel: org/own\n"
    "splits: {train: 'all[:4]', validation: 'all[4:]'}\nmetrics: [accuracy]\nmain_metrics: accuracy\n"
    "recipe: {epochs: 7}\n",
    "probe": "source: {file: data.csv}\npredicted_by: stars\ntext: text\nlabels: [bad, good]\n"
    "splits: {test: all}\nevaluate: test\nreport: test\nmetrics: [accuracy]\nmain_metrics: accuracy\n",
}


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """The folder of a suite of one's own, whose task probe is predicted by the models of stars."""
    folder = tmp_path / "shops"
    folder.mkdir()
    for name, text in SHOPS.items():
        (folder / f"{name}.yaml").write_text(text if name == "suite" else f"title: {name}\n{text}")
    (folder / "data.csv").write_text(
        "text,label\n" + "".join(f"w{row},{('bad', 'good')[row % 2]}\n" for row in range(8))
    )
    return folder


def test_companions_of_an_own_suite_are_found_next_to_the_file_of_the_task(shops: Path) -> None:
    stars = str(shops / "stars.yaml")
    options = parse_options(["--task", stars, "--results", str(shops.parent)])
    splits = companion_splits(options)
    assert {name: len(split.text) for name, split in splits.items()} == {"probe.test": 8}
    assert companion_splits(replace(options, task="stars")) == {}, "no registered task has this name"
    (shops / "suite.yaml").unlink()
    assert companion_splits(options) == {}, "a folder of files is no suite"


def test_companion_of_an_own_suite_is_scored_by_a_run_of_the_task_next_to_it(shops: Path) -> None:
    own = parse_options(["--task", str(shops / "probe.yaml"), "--results", str(shops.parent)])
    assert (own.model, own.recipe.epochs) == ("org/own", 7), "those of the task that is trained"
    trained: list[str] = []
    counts = {"train": 4, "validation": 4, "test": 9}
    record = finished_record("stars", data={"rows": counts, "full_rows": counts})
    record = record.model_copy(
        update={"prediction_files": {"probe.test": "a.probe.test.parquet"}, "run_id": record.spec.run_id}
    )
    path = record_path(own.folder, "stars", record.run_id).with_name("a.probe.test.parquet")
    scores = np.eye(2, dtype=np.float32)[[0, 1] * 3 + [0, 0]]
    write_predictions(
        path, scores, ["bad", "good"], companion_splits(replace(own, task=str(shops / "stars.yaml")))["probe.test"]
    )

    def run(options: RunOptions) -> RunRecord:
        trained.append(options.task)
        return record

    probe = record_companion(load_task(own.task), own, run)
    assert trained == [str(shops / "stars.yaml")]
    assert (probe.spec.task, probe.trained_by, probe.metrics["test"]["accuracy"]) == ("probe", record.run_id, 7 / 8)
    assert probe.data is not None
    assert (probe.data.rows["test"], probe.data.full_rows) == (8, {"train": 4, "validation": 4}), "not those of stars"
    rows = (shops / "data.csv").read_text()
    (shops / "data.csv").write_text(rows.replace("w7,good", "w7,bad"))
    again = record_companion(load_task(own.task), own, run)
    assert again.metrics["test"]["accuracy"] == 1, "its labels are not part of the run that predicts it"
    assert read_record(record_path(own.folder, "probe", again.run_id)) == again
    (shops / "data.csv").write_text(rows.replace("w7,good", "other,good"))
    with pytest.raises(UserError, match=r"--task probe: .*a\.probe\.test\.parquet.* texts .*--overwrite"):
        record_companion(load_task(own.task), own, run)
    with (shops / "data.csv").open("a") as file:
        file.write("w8,bad\n")
    with pytest.raises(UserError, match=r"--task probe: .* 8 rows .* 9 .*--overwrite"):
        record_companion(load_task(own.task), own, run)


@pytest.mark.parametrize(
    "edit, fault",
    [
        (lambda text: text.replace("\ntext: text", "\ntext: review"), "review"),
        (
            lambda text: text.replace(
                "evaluate: test\nreport: test", "evaluate: []\nreport: []\npredict: test"
            ).replace("all}", "other}"),
            "'test'",
        ),
    ],
)
def test_rows_of_a_companion_are_checked_before_the_run_that_predicts_it(
    shops: Path, edit: Callable[[str], str], fault: str
) -> None:
    path = shops / "probe.yaml"
    path.write_text(edit(path.read_text()))
    stars = parse_options(["--task", str(shops / "stars.yaml"), "--results", str(shops.parent)])
    assert companion_splits(stars) == {}, "the task itself is trained"
    own = parse_options(["--task", str(path), "--results", str(shops.parent)])
    with pytest.raises(UserError, match=f"task probe: .*{fault}"):
        record_companion(load_task(own.task), own, lambda _: pytest.fail("trained"))


def test_sweep_of_an_own_suite_plans_the_run_that_predicts_its_companion(shops: Path, tmp_path: Path) -> None:
    sweep = Sweep.model_validate({"tasks": [str(shops)], "models": ["org/own"]})
    sweep = sweep.model_copy(update={"tasks": tasks_of(sweep)})
    stars, probe = expand(SweepRequest(sweep, {}, ("--results", str(tmp_path)), False), lambda *_: [{}])
    assert [run.task.name for run in (stars, probe)] == ["stars", "probe"]
    assert probe.after == stars.run_id
    assert downloads_of([stars.options, probe.options])[1] == [("org/own", "main", False, str(shops / "stars.yaml"))]


def test_changed_labels_of_a_companion_are_another_run_that_starts_from_the_same(shops: Path, tmp_path: Path) -> None:
    probe = shops / "probe.yaml"
    (shops / "probe.csv").write_text((shops / "data.csv").read_text())
    probe.write_text(probe.read_text().replace("data.csv", "probe.csv"))
    sweep = Sweep.model_validate({"tasks": [str(probe)], "models": ["org/own"]})
    request = SweepRequest(sweep, {}, ("--results", str(tmp_path)), False)
    (before,) = (run for run in expand(request) if run.is_requested)
    (shops / "probe.csv").write_text((shops / "data.csv").read_text().replace("w7,good", "w7,bad"))
    (after,) = (run for run in expand(request) if run.is_requested)
    assert after.run_id != before.run_id
    assert after.after == before.after
