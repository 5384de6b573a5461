"""Records: equal specs are the same run, and a record is read as it was written."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from support.records import minimal_record, run_spec, task_facts

from harness.errors import UserError
from harness.facts.packing import pack_array
from harness.facts.recipes import Recipe
from harness.facts.record_parts import MAX_RECORD_BYTES, Cost, DataFacts, Energy, Environment, HistoryEntry, ModelFacts
from harness.facts.records import (
    SCHEMA_VERSION,
    RunRecord,
    RunSpec,
    prepare_results,
    read_record,
    read_record_copy,
    read_records,
    record_path,
    write_record,
)

ROOT = Path(__file__).resolve().parents[2]


def _spec(**fields: Any) -> RunSpec:
    return run_spec(**{"model": "google-bert/bert-base-cased", "seed": 42, **fields})


def _record(**fields: Any) -> RunRecord:
    return minimal_record(**{"spec": _spec(), **fields})


def _full_record() -> RunRecord:
    """A record with a value in every field."""
    spec = _spec(
        recipe=Recipe(epochs=5, warmup=0.06, max_grad_norm=None, train_rows=100),
        data="sha256:" + "0" * 64,
        test_mode=True,
        parent="bert-base-cased-seed42-0123456789",
    )
    return _record(
        spec=spec,
        status="collapsed",
        error="a split ended early",
        recipe_changes={"epochs": 5, "max_grad_norm": None},
        data=DataFacts(
            source="nyu-mll/glue/rte",
            revision="bcdcba79",
            fingerprint="0" * 64,
            rows={"train": 100, "validation": 277},
            full_rows={"train": 2490, "validation": 277},
            is_partial=True,
            missing_splits=["test"],
            shared_texts={"train & validation": 3},
        ),
        model=ModelFacts(commit="cd5ef92a", architecture="Bert", parameters=108_311_810, attention="sdpa", head="new"),
        metrics={"validation": {"accuracy": 0.1 + 0.2, "f1": None}},
        baseline={"validation": {"accuracy": 0.527, "f1": 1 / 3}},
        notes=["f1 of validation is undefined: neither a prediction nor a gold label is positive", "Türkçe ✓"],
        weights_sha256="0" * 64,
        selected_epoch=2,
        threshold=0.35,
        history=[
            HistoryEntry(
                epoch=1,
                step=4,
                train_loss=0.7,
                learning_rate=1e-5,
                seconds=3.5,
                metrics={"accuracy": 0.5, "loss": None},
            )
        ],
        rows_per_second=200.5,
        tokens_per_second=1e4,
        padding_share=0.25,
        peak_bytes=2**33,
        cost=Cost(
            seconds=10,
            setup_seconds=1,
            train_seconds=7,
            evaluate_seconds=1.5,
            device_seconds=20,
            steps=20,
            rows=500,
            tokens=12_345,
            peak_bytes_per_process=[2**33, 2**32],
        ),
        energy=Energy(gpu_joules=1.5, processor_joules=None, sources=["NVML of the GPU", "RAPL: not readable"]),
        environment=Environment(
            processes=2,
            devices=["cpu", "cpu"],
            precision="fp32",
            device_batch_size=16,
            accumulation=1,
            eval_batch_size=64,
            threads=1,
            distributed="MULTI_CPU",
            system="Linux",
            python="3.11.2",
            versions={"torch": "2.13.0"},
            git_commit=None,
            git_dirty=None,
        ),
        predictions={"validation": pack_array(np.arange(277) % 2)},
        gold={"validation": pack_array(np.arange(277) // 3 % 2)},
        row_groups={"validation": pack_array(np.arange(277) // 4)},
        prediction_files={"test": "rte-test.parquet"},
        parent_group_key="bert-base-cased-seed0-0123456789",
        trained_by="bert-base-cased-seed42-0123456789",
    )


def _files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# -- identity ----------------------------------------------------------------------------------------------------------


def test_equal_specs_are_the_same_run() -> None:
    assert _spec().run_id == _spec(recipe=Recipe(learning_rate=0.00002, warmup=0)).run_id


OTHER_RECIPES: dict[str, Any] = dict(
    learning_rate=3e-5,
    global_batch_size=16,
    epochs=4,
    max_steps=100,
    warmup=0.1,
    schedule="cosine",
    schedule_power=2.0,
    min_learning_rate_ratio=0.1,
    optimizer="muon",
    momentum=0.5,
    weight_decay=0.01,
    weight_decay_on="all",
    max_grad_norm=None,
    adam_beta1=0.8,
    adam_beta2=0.98,
    adam_epsilon=1e-6,
    encoder_dropout=0.2,
    head_dropout=0.2,
    class_weights="balanced",
    label_smoothing=0.1,
    label_scaling="unit",
    threshold="validation",
    max_length=256,
    length_grouping=False,
    select="best",
    evaluate_every=0.1,
    patience=1,
    pair_order="both",
    protocol="holdout",
    train_rows=1000,
    init_from="mnli",
    freeze=2,
    adapter="dora",
    adapter_rank=4,
    adapter_alpha=16.0,
    adapter_dropout=0.1,
    adapter_targets="query",
    layer_decay=0.8,
    layer_decay_offset=2,
)


@pytest.mark.parametrize("field", Recipe.model_fields)
def test_every_hyperparameter_makes_another_run(field: str) -> None:
    needed = {"layer_decay": 0.9} if field == "layer_decay_offset" else {}
    needed |= {"adapter": "lora"} if field.startswith("adapter_") else {}
    needed |= {"schedule": "polynomial", "schedule_power": 1.0} if field == "schedule_power" else {}
    needed |= {"optimizer": "sgd"} if field == "momentum" else {}
    needed |= {"weight_decay": 0.1} if field == "weight_decay_on" else {}
    before = Recipe(select="last" if field == "select" else "best", **needed)  # patience needs the best
    after = Recipe(**{**before.model_dump(), field: OTHER_RECIPES[field]})
    assert _spec(recipe=after).run_id != _spec(recipe=before).run_id


@pytest.mark.parametrize(
    "field, value",
    [
        ("task", "wnli"),
        ("task_version", 2),
        ("task_fingerprint", "ba9876543210"),
        ("data", "sha256:" + "0" * 64),
        ("model", "bert-base-cased"),
        ("parent", "bert-base-cased-seed42-0123456789"),
        ("revision", "cd5ef92a9fb2f889e972770a36d4ed042daf221e"),
        ("seed", 43),
        ("test_mode", True),
        ("trust_remote_code", True),
    ],
)
def test_everything_that_can_affect_a_score_makes_another_run(field: str, value: Any) -> None:
    assert _spec(**{field: value}).run_id != _spec().run_id


def test_every_field_of_a_spec_is_part_of_the_identity() -> None:
    """The two tests above name every field."""
    fields = "task task_version task_fingerprint data model revision seed recipe test_mode trust_remote_code parent"
    assert set(RunSpec.model_fields) == set(fields.split())
    assert set(Recipe.model_fields) == set(OTHER_RECIPES)


def test_run_id_of_published_records_is_frozen() -> None:
    assert _spec().run_id == "bert-base-cased-seed42-8a3baa6ec3"
    assert (
        _spec(recipe=Recipe(max_grad_norm=None, train_rows=100), parent="a-seed42-0").run_id
        == "bert-base-cased-seed42-f4f6cfd796"
    )


def test_fields_that_are_none_are_not_hashed() -> None:
    facts = _spec().model_dump()
    used = {name: value for name, value in facts.items() if value is not None}
    used["recipe"] = {name: value for name, value in facts["recipe"].items() if value is not None}
    digest = hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()
    assert _spec().run_id.endswith(f"-{digest[:10]}")


def test_folder_of_a_local_model_does_not_make_another_run() -> None:
    revision = "sha256:" + "a" * 64
    folders = ["models/mine", "/data/models/mine", "./mine/", "~/mine"]
    assert len({_spec(model=folder, revision=revision).run_id for folder in folders}) == 1


def test_contents_of_a_local_model_make_another_run() -> None:
    assert len({_spec(model="mine", revision="sha256:" + digit * 64).run_id for digit in "abc"}) == 3


def test_models_of_one_short_name_are_different_runs() -> None:
    first, second = _spec(model="alice/bert"), _spec(model="bob/bert")
    assert first.run_id.startswith("bert-seed42-")
    assert second.run_id.startswith("bert-seed42-")
    assert first.run_id != second.run_id


@pytest.mark.parametrize(
    "model, short",
    [
        ("google-bert/bert-base-cased", "bert-base-cased"),
        ("models/mine/", "mine"),
        ("answerdotai/ModernBERT-base", "ModernBERT-base"),
        ("org/name_v1.5", "name_v1.5"),
        ("my model (new)", "my-model-new"),
        ("türkçe/türkçe bert", "t-rk-e-bert"),
        ("a/" + "x" * 300, "x" * 48),
        ("../..", "model"),
        (".hidden", "hidden"),
        ("--help", "help"),
        ("/", "model"),
        ("", "model"),
        ("日本語", "model"),
        ("a\\b:c*d?e", "a-b-c-d-e"),
        ("line\nbreak", "line-break"),
    ],
)
def test_run_id_is_a_safe_file_name_for_any_model(model: str, short: str) -> None:
    run_id = _spec(model=model).run_id
    assert re.fullmatch(rf"{re.escape(short)}-seed42-[0-9a-f]{{10}}", run_id)


@pytest.mark.parametrize("seed", [0, 7, 2**31])
def test_run_id_shows_the_seed(seed: int) -> None:
    assert f"-seed{seed}-" in _spec(seed=seed).run_id


# -- writing and reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [_record(), _full_record()], ids=["smallest", "full"])
def test_record_is_read_as_it_was_written(tmp_path: Path, record: RunRecord) -> None:
    path = write_record(record, tmp_path)
    assert path == record_path(tmp_path, "rte", record.run_id) == tmp_path / "runs" / "rte" / f"{record.run_id}.json"
    assert read_record(path) == record
    assert read_record(path).spec.run_id == record.run_id


def test_full_record_leaves_no_field_out() -> None:
    """Otherwise the round trip above would not cover it."""
    empty = [name for name, value in _full_record().model_dump().items() if value in (None, {}, [])]
    assert empty == []


def test_record_is_readable_text(tmp_path: Path) -> None:
    text = write_record(_full_record(), tmp_path).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert "Türkçe ✓" in text
    assert next(iter(json.loads(text))) == "schema_version"


def test_only_the_record_is_written(tmp_path: Path) -> None:
    record = _record()
    path = write_record(record, tmp_path)
    assert _files(tmp_path) == [f"runs/rte/{record.run_id}.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_finished_record_is_not_replaced(tmp_path: Path) -> None:
    path = write_record(_record(notes=["first"]), tmp_path)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*--overwrite"):
        write_record(_record(notes=["second"]), tmp_path)
    assert read_record(path).notes == ["first"]


@pytest.mark.parametrize("status", ["ok", "collapsed", "diverged", "failed"])
def test_finished_record_is_replaced_on_request(tmp_path: Path, status: str) -> None:
    write_record(_record(status=status), tmp_path)
    path = write_record(_record(notes=["second"]), tmp_path, overwrite=True)
    assert read_record(path).notes == ["second"]


def test_record_of_a_failure_is_replaced(tmp_path: Path) -> None:
    write_record(_record(status="failed", error="CUDA out of memory"), tmp_path)
    path = write_record(_record(), tmp_path)
    assert (read_record(path).status, read_record(path).error) == ("ok", None)


@pytest.mark.parametrize(
    "status, is_finished", [("ok", True), ("collapsed", True), ("diverged", True), ("failed", False)]
)
def test_only_a_failed_run_is_unfinished(status: str, is_finished: bool) -> None:
    assert _record(status=status).is_finished is is_finished


def test_records_are_sorted_by_task_and_run_id(tmp_path: Path) -> None:
    specs = [_spec(task=task, seed=seed) for task in ("wnli", "rte") for seed in (2, 1)]
    for spec in specs:
        write_record(_record(spec=spec), tmp_path)
    records, messages = read_records(tmp_path)
    assert [(record.spec.task, record.run_id) for record in records] == sorted(
        (spec.task, spec.run_id) for spec in specs
    )
    assert messages == []


def test_folder_without_runs_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path) == ([], [])
    assert read_records(tmp_path / "missing") == ([], [])


def test_temporary_file_of_a_killed_process_is_not_read(tmp_path: Path) -> None:
    path = write_record(_record(), tmp_path)
    (path.parent / f".{path.name}-abc123").write_text("{")
    records, messages = read_records(tmp_path)
    assert (len(records), messages) == (1, [])


# -- unreadable records ------------------------------------------------------------------------------------------------


def _changed(tmp_path: Path, **changes: Any) -> Path:
    path = write_record(_full_record(), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("version, remedy", [(1, "run its command again"), (SCHEMA_VERSION + 1, "update the harness")])
def test_record_of_another_schema_version_is_refused_with_a_remedy(tmp_path: Path, version: int, remedy: str) -> None:
    path = _changed(tmp_path, schema_version=version, unknown_field=1)
    with pytest.raises(UserError) as caught:
        read_record(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: unsupported record: ")
    assert f"expected schema version {SCHEMA_VERSION}, got {version}" in message
    assert remedy in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["", "{", '{"schema_version": 1', "\x00", "nonsense"])
def test_file_that_is_not_json_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "half.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: not a readable record")


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", '{"schema_version": "1"}', '{"task": "rte"}'])
def test_json_that_is_not_a_record_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: not a record")


def _with(part: str, **values: Any) -> dict[str, Any]:
    """A part of the full record with other values."""
    return {part: {**_full_record().model_dump(mode="json")[part], **values}}


@pytest.mark.parametrize(
    "changes, where",
    [
        ({"status": "fine"}, "status"),
        ({"spec": None}, "spec"),
        ({"misspelled": 1}, "misspelled"),
        ({"started": "yesterday"}, "started"),
        ({"metrics": {"validation": {"accuracy": "high"}}}, "metrics.validation.accuracy"),
        ({"metrics": {"validation": {"accuracy": math.nan}}}, "metrics.validation.accuracy"),
        ({"padding_share": math.inf}, "padding_share"),
        (_with("environment", processes=0), "environment.processes"),
        (_with("task", problem_type="answer_selection"), "task"),
        (_with("task", metrics=["answer_f1"]), "task"),
        (_with("task", problem_type="answer_selection", metrics=["answer_f1"], labels=["right"]), "task"),
    ],
)
def test_record_with_an_invalid_field_is_named_with_the_field(
    tmp_path: Path, changes: dict[str, Any], where: str
) -> None:
    path = _changed(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: invalid record: {where}: ")


@pytest.mark.parametrize("change", [{"epochs": 0}, {"misspelled": 1}, {"learning_rate": math.inf}])
def test_record_with_an_invalid_recipe_is_named_with_its_file(tmp_path: Path, change: dict[str, Any]) -> None:
    spec = _full_record().model_dump(mode="json")["spec"]
    path = _changed(tmp_path, spec={**spec, "recipe": {**spec["recipe"], **change}})
    with pytest.raises(UserError) as caught:
        read_record(path)
    assert str(caught.value).startswith(f"{path}: invalid record: ")
    assert next(iter(change)) in str(caught.value)


def test_missing_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "missing.json"
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: not a readable record"):
        read_record(path)


def test_unreadable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a colleague, whose records would be missing without a word."""
    for task in ("rte", "cola"):
        write_record(minimal_record(spec=run_spec(task)), tmp_path)
    listing = Path.iterdir

    def refuse(folder: Path) -> Any:
        if folder.name == "rte":
            raise PermissionError(13, "Permission denied", str(folder))
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    records, messages = read_records(tmp_path)
    assert [record.spec.task for record in records] == ["cola"]
    assert [message.partition(":")[0] for message in messages] == [str(tmp_path / "runs" / "rte")]


def test_unreadable_files_do_not_hide_the_others(tmp_path: Path) -> None:
    good = write_record(_record(), tmp_path)
    bad = [good.parent / "a-half.json", good.parent / "z-bytes.json"]
    bad[0].write_text('{"schema_version": 1')
    bad[1].write_bytes(b"\xff\xfe")
    records, messages = read_records(tmp_path)
    assert [record.run_id for record in records] == [_record().run_id]
    assert [message.startswith(f"{path}: ") for path, message in zip(bad, messages, strict=True)] == [True, True]


def _make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _make_huge(path: Path) -> None:
    os.truncate(path, MAX_RECORD_BYTES + 1)


def _link_to(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def _replace(old: str, new: str) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return replace


def _write(text: str) -> Callable[[Path], None]:
    return lambda path: [path.write_text(text), None][1]


def _predict(values: NDArray[Any]) -> Callable[[Path], None]:
    return _replace(pack_array(np.arange(277) % 2), pack_array(values))


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _as_regression(content: dict[str, Any]) -> None:
    """Makes a classification a regression, all but its packed class numbers."""
    content["task"] |= dict(labels=None, problem_type="regression", metrics=["pearson"], main_metrics=["pearson"])
    content["metrics"] = content["baseline"] = {}


HOSTILE: dict[str, tuple[Callable[[Path], None], str]] = {
    "nested lists": (_write("[" * 100_000), "nested too deeply"),
    "nested objects": (_write('{"a":' * 100_000), "nested too deeply"),
    "integer of 5,000 digits": (_replace("277", "9" * 5000), "4300"),
    "integer beyond 64 bits": (_replace(str(2**33), f"1{'0' * 400}"), "peak_bytes"),
    "integer beyond 64 bits in the recipe's changes": (
        _replace('"recipe_changes": {\n  "epochs": 5', f'"recipe_changes": {{"epochs": 1{"0" * 400}'),
        "recipe_changes.epochs",
    ),
    "accuracy of 1e308": (_replace(str(0.1 + 0.2), "1e308"), "metrics.validation"),
    "accuracy of -5": (_replace(str(0.1 + 0.2), "-5"), "accuracy is -5"),
    "accuracy that is NaN": (_replace(str(0.1 + 0.2), "NaN"), "accuracy"),
    "loss of 1e308": (_replace('"loss": null', '"loss": 1e308'), "loss"),
    "seconds of 1e308": (_replace('"seconds": 10.0', '"seconds": 1e308'), "cost.seconds"),
    "negative seconds": (_replace('"seconds": 10.0', '"seconds": -1'), "cost.seconds"),
    "metric of a regression in a classification": (
        _replace('"metrics": [\n   "accuracy"', '"metrics": [\n   "pearson",\n   "accuracy"'),
        "task: metrics: 'pearson' does not support single_label_classification; supported: accuracy, f1",
    ),
    "metric of a classification in a regression": (
        _replace(
            '"labels": [\n   "no",\n   "yes"\n  ],\n  "problem_type": "single_label_classification"',
            '"labels": null, "problem_type": "regression"',
        ),
        "task: metrics: 'accuracy' does not support regression; supported: pearson",
    ),
    "class numbers of a regression": (
        lambda path: _change(path, _as_regression),
        "predictions, gold: expected one or more labels of regression",
    ),
    "labels of a regression": (_replace("single_label_classification", "regression"), "task: labels: "),
    "main metric that is no metric": (
        _replace('"main_metrics": [\n   "accuracy"', '"main_metrics": [\n   "f1"'),
        "task: main_metrics: 'f1'",
    ),
    "no main metrics": (_replace('"main_metrics": [\n   "accuracy"\n  ]', '"main_metrics": []'), "main_metrics"),
    "lone surrogate": (_replace("The rte task", "\\ud800"), "title"),
    "lone surrogate in a name": (_replace('"train & validation"', '"\\ud800"'), "shared_texts"),
    "time without a time zone": (_replace('05Z"', '05"'), "started"),
    "run_id that leaves the folder": (_replace('"run_id": "', '"run_id": "../'), "run_id"),
    "no predictions": (_predict(np.zeros(0, np.int64)), "predictions"),
    "class without a label": (_predict(np.arange(277)), "predictions"),
    "class number that would need terabytes": (_predict(np.full(277, 10**12)), "predictions"),
    "values instead of classes": (_predict(np.full(277, 0.5)), "predictions"),
    "predictions that cannot be unpacked": (_replace(pack_array(np.arange(277) % 2), "AAAA"), "not a packed array"),
    "FIFO": (_make_fifo, "regular file"),
    "device": (_link_to("/dev/zero"), "regular file"),
    "folder": (_make_folder, "regular file"),
    "huge file": (_make_huge, f"{MAX_RECORD_BYTES:,} bytes"),
    "loop of symlinks": (_link_to("hostile.json"), "symbolic links"),
    "dangling symlink": (_link_to("missing"), "no such file"),
}
"""Changes to the file of a record, and a part of the message."""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_one_unreadable_record_among_the_others(tmp_path: Path, name: str) -> None:
    good, path = write_record(_record(), tmp_path), write_record(_full_record(), tmp_path)
    path = path.rename(path.with_name("hostile.json"))
    change, reason = HOSTILE[name]
    change(path)
    records, (message,) = read_records(tmp_path)
    assert [record.run_id for record in records] == [good.stem]
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert len(message) < 500


def test_copy_of_a_record_counts_once(tmp_path: Path) -> None:
    """A synchronised folder makes copies of files, and a merge of two folders may put one under another task."""
    path = write_record(_record(), tmp_path)
    copies = [path.with_name(f"{path.stem} (copy).json"), tmp_path / "runs" / "wnli" / path.name]
    for copy in copies:
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    records, messages = read_records(tmp_path)
    assert [record.run_id for record in records] == [path.stem]
    assert [str(copy) in message and str(path) in message for copy, message in zip(copies, messages, strict=True)] == [
        True,
        True,
    ]


def test_name_of_a_task_in_decomposed_letters_is_the_same_name(tmp_path: Path) -> None:
    """As some file systems and archives write it."""
    path = write_record(_record(spec=_spec(task="türkçe")), tmp_path)
    path.parent.rename(tmp_path / "runs" / unicodedata.normalize("NFD", "türkçe"))
    records, messages = read_records(tmp_path)
    assert ([record.run_id for record in records], messages) == ([path.stem], [])


def test_copy_is_not_the_record_of_another_run(tmp_path: Path) -> None:
    path = write_record(_record(), tmp_path)
    other = record_path(tmp_path, "rte", _spec(seed=7).run_id)
    shutil.copy(path, other)
    with pytest.raises(UserError, match=f"^{re.escape(str(other))}: .*{re.escape(path.name)}"):
        read_record(other)
    assert read_record_copy(other) == read_record(path)


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    """Otherwise a sweep would plan runs whose records cannot be written."""
    (tmp_path / "results").touch()
    with pytest.raises(UserError, match=rf"^{re.escape(str(tmp_path))}/results: .* got a file"):
        read_records(tmp_path / "results")
    assert read_records(tmp_path / "nosuch").records == []


def test_folder_whose_name_is_too_long_is_named() -> None:
    with pytest.raises(UserError, match=f"^{'a' * 300}/runs: .*too long"):
        read_records(Path("a" * 300))


def test_selected_answers_are_one_of_each_group_and_gold_labels_agreements() -> None:
    task = task_facts(problem_type="answer_selection", metrics=["answer_f1"], main_metrics=["answer_f1"])
    packed = pack_array(np.array([3, 3, 5]))

    def record(predictions: Any, gold: Any) -> RunRecord:
        arrays = dict(predictions={"validation": pack_array(predictions)}, gold={"validation": pack_array(gold)})
        return _record(task=task, row_groups={"validation": packed}, **arrays)

    agreements = np.array([1, 0.5, 0])
    complete = record(np.array([0, 1, 1]), agreements)
    with pytest.raises(ValidationError, match="row_groups: missing split validation"):
        _record(task=task, gold=complete.gold)
    for selected in ([1, 1, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0, 0, 1]):
        with pytest.raises(ValidationError, match="predictions: expected one row of each group of validation"):
            record(np.array(selected), agreements)
    for gold in (np.array([1, 0, 0]), agreements * 2, -agreements):
        with pytest.raises(ValidationError, match=r"predictions, gold: .* answer_selection"):
            record(np.array([0, 1, 1]), gold)


def test_groups_of_rows_must_fit_the_gold_labels() -> None:
    fields: dict[str, Any] = {"predictions": {"validation": pack_array(np.array([0, 1]))}}
    fields["gold"] = fields["predictions"]
    assert _record(**fields, row_groups={"validation": pack_array(np.array([0, 0]))}).row_groups
    for packed in (np.array([0]), np.array([0.0, 1.0]), np.array([[0], [1]])):
        with pytest.raises(ValidationError, match="row_groups: "):
            _record(**fields, row_groups={"validation": pack_array(packed)})
    with pytest.raises(ValidationError, match="row_groups: "):
        _record(row_groups={"validation": pack_array(np.array([0, 0]))})
    over_groups = {"metrics": ["exact_match_by_group"], "main_metrics": ["exact_match_by_group"]}
    with pytest.raises(ValidationError, match="row_groups: missing split validation"):
        _record(**fields, task=_record().task.model_copy(update=over_groups))


# -- no NaN ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "field, wrap",
    [
        ("metrics", lambda value: {"validation": {"accuracy": value}}),
        ("baseline", lambda value: {"validation": {"accuracy": value}}),
        ("rows_per_second", lambda value: value),
        ("padding_share", lambda value: value),
        ("recipe_changes", lambda value: {"warmup": value}),
    ],
)
def test_record_refuses_nan_and_infinity(field: str, wrap: Any, bad: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        _record(**{field: wrap(bad)})


def test_undefined_metric_is_null(tmp_path: Path) -> None:
    path = write_record(_record(metrics={"validation": {"f1": None}}), tmp_path)
    assert '"f1": null' in path.read_text(encoding="utf-8")


# -- the folder --------------------------------------------------------------------------------------------------------


def test_results_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results"
    prepare_results(results)
    prepare_results(results)
    assert (results / "runs").is_dir()
    assert _files(tmp_path) == []


@pytest.mark.parametrize("name", ["file", "file/results", "runs is a file"])
def test_results_folder_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "runs is a file").mkdir()
    (tmp_path / "runs is a file" / "runs").write_text("")
    with pytest.raises(UserError) as caught:
        prepare_results(tmp_path / name)
    assert str(caught.value).startswith(f"--results {tmp_path / name}: ")


# -- the schema --------------------------------------------------------------------------------------------------------


def test_published_schema_is_that_of_the_records() -> None:
    published = json.loads((ROOT / "results" / "run_record.schema.json").read_text(encoding="utf-8"))
    assert published == RunRecord.model_json_schema(), "make schema writes it again"


def test_module_prints_the_schema() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "harness.facts.records"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(printed.stdout) == RunRecord.model_json_schema()
    assert printed.stderr == ""
