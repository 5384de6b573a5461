"""The checks of a record against its task, the pinned data and its saved model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.engine import models, test_mode
from harness.errors import UserError
from harness.facts.outcome import task_facts
from harness.facts.packing import pack_array
from harness.facts.records import RunRecord
from harness.facts.tasks import load_task
from harness.inspection.record_checks import check_files, gold_conflicts, texts_of_pinned_rows
from harness.requests.parents import model_folder
from harness.rows import loading
from harness.saved_models import bundles

TASK = load_task("rte")

Make = Callable[..., RunRecord]


@pytest.fixture
def make(make_record: Make) -> Make:
    """Makes the record of a run on the generated rows of test mode; `data` and fields replace its own."""
    tables = test_mode.tables(TASK)
    splits = loading.load_splits(TASK, tables, "standard", None)
    facts = loading.data_facts(TASK, tables, splits, is_test_mode=True).model_dump()

    def record(data: dict[str, Any] | None = None, **changes: Any) -> RunRecord:
        spec = {"task_version": TASK.version, "task_fingerprint": TASK.fingerprint, "test_mode": True}
        gold = {"validation": pack_array(np.asarray(splits["validation"].label))}
        own = dict(spec=spec, facts=task_facts(TASK).model_dump(), data={**facts, **(data or {})}, gold=gold)
        return make_record("rte", **{**own, **changes})

    return record


def fields(record: RunRecord, results: Path) -> list[str]:
    return [finding.field for finding in check_files(record, results).findings]


def test_data_are_compared_with_those_that_can_be_had(make: Make, tmp_path: Path) -> None:
    assert fields(make(), tmp_path) == []
    assert not any("data" in reason for reason in check_files(make(), tmp_path).unchecked)
    assert fields(make({"fingerprint": "0" * 64}), tmp_path) == ["data.fingerprint"]
    assert fields(make(gold={"validation": pack_array(np.zeros(96, np.int64))}), tmp_path) == ["gold.validation"]
    rows = make().data.rows  # type: ignore[union-attr]
    assert fields(make({"rows": {**rows, "train": 9}}), tmp_path) == ["data.rows.train"]


def test_data_that_cannot_be_had_are_named_as_not_checked(make: Make, tmp_path: Path) -> None:
    record = make()
    for changes, reason in (({"test_mode": False}, "local cache"), ({"data": "0" * 64}, "files of the user")):
        other = record.model_copy(update={"spec": record.spec.model_copy(update=changes)})
        checks = check_files(other, tmp_path)
        assert checks.findings == []
        assert any(reason in one for one in checks.unchecked)


def test_texts_are_those_of_the_rows_that_the_run_has_read(make: Make) -> None:
    record = make()
    tables = test_mode.tables(TASK)
    assert texts_of_pinned_rows([record]) == {
        name: split.texts for name, split in loading.load_splits(TASK, tables, "standard", None).items()
    }
    other = record.model_copy(update={"spec": record.spec.model_copy(update={"data": "0" * 64})})
    for runs in ([], [other], [make({"fingerprint": "0" * 64})]):
        with pytest.raises(UserError, match="--show-texts"):
            texts_of_pinned_rows(runs)


def test_task_of_the_record_is_the_registered_one(make: Make, tmp_path: Path) -> None:
    record = make()
    edited = record.model_copy(update={"task": record.task.model_copy(update={"select_on": "test"})})
    assert fields(edited, tmp_path) == ["task.select_on"]
    spec = record.spec.model_copy(update={"task_fingerprint": "other"})
    assert fields(record.model_copy(update={"spec": spec}), tmp_path) == ["spec.task_fingerprint"]
    spec = record.spec.model_copy(update={"task_version": TASK.version + 1})
    checks = check_files(record.model_copy(update={"spec": spec}), tmp_path)
    assert checks.findings == []
    assert any("version" in reason for reason in checks.unchecked)


def test_gold_labels_of_most_runs_on_the_same_data_are_right(make: Make) -> None:
    records = [make(seed=seed) for seed in (1, 2, 3)]
    records = [record.model_copy(update={"run_id": record.spec.run_id}) for record in records]
    records[1] = records[1].model_copy(update={"gold": {"validation": pack_array(np.zeros(96, np.int64))}})
    assert {run_id: one.field for run_id, one in gold_conflicts(records).items()} == {
        records[1].run_id: "gold.validation"
    }


def test_weights_are_those_of_the_saved_model(make: Make, tiny_model: Path, tmp_path: Path) -> None:
    model, tokenizer, *_ = models.build_model(str(tiny_model), "sha256:0", TASK, 1)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):  # as Training.weights_sha256
        digest.update(name.encode() + tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    record = make(weights_sha256=digest.hexdigest())
    folder = model_folder(tmp_path, "rte", record.run_id)
    folder.parent.mkdir(parents=True)
    bundles.stage_model(folder, record.run_id, model, tokenizer, model.state_dict(), 32)
    bundles.finish_bundle(folder, TASK, record)
    checks = check_files(record, tmp_path)
    assert checks.findings == []
    assert not any("weights" in reason for reason in checks.unchecked)
    assert fields(record.model_copy(update={"weights_sha256": "0" * 64}), tmp_path) == ["weights_sha256"]
    weights = load_file(folder / bundles.WEIGHTS)
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, folder / bundles.WEIGHTS)
    assert fields(record, tmp_path) == ["weights_sha256"]
