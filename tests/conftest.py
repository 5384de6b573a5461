"""What every test stands on: no network, no tokens, no launcher's settings; a tiny model and small tasks."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from harness.facts.records import RunRecord
    from harness.facts.tasks import TaskSpec

Columns = Mapping[str, Sequence[Any]]

AMBIENT = ("ACCELERATE_", "HF_", "HUGGING", "TRANSFORMERS_", "MASTER_", "WANDB_")
"""How environment variables begin that would make a test depend on where it runs."""

LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")

_TEXT = [f"w{row % 7} c{row % 2}s{row % 3} w{row % 5}" for row in range(24)]
_LABEL = [("no", "yes")[row % 2] for row in range(24)]
SMALL: dict[str, Columns] = {
    "train": {"text": _TEXT[:16], "label": _LABEL[:16]},
    "validation": {"text": _TEXT[16:], "label": _LABEL[16:]},
}
"""Rows of a classification that the tiny model can read and learn."""


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module, and with it the client of the Hub, is imported: it reads these once."""
    for name in [name for name in os.environ if name.startswith(AMBIENT) or name in LAUNCHED]:
        del os.environ[name]
    home = TemporaryDirectory(prefix="harness-tests-")
    config.add_cleanup(home.cleanup)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": home.name, "TOKENIZERS_PARALLELISM": "false"}
    os.environ["HARNESS_CACHE"] = f"{home.name}/harness"
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a two-layer BERT without a head, of 64 positions, and its tokenizer."""
    from harness.engine.test_mode import write_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    write_model(folder)
    return folder


@pytest.fixture
def make_record() -> Callable[..., RunRecord]:
    """`make_record(task, metrics, model=..., seed=..., **fields)`: what a run on 200 validation rows left behind.

    `spec`, `facts` and `data` change fields of those parts, and any other name a field of the record itself.
    """
    return _make_record


@pytest.fixture
def write_rows() -> Callable[[Path, Columns], Path]:
    """Writes rows into a file in the format that its name ends in, making its folder."""
    return _write_rows


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """`make_task(tables, name=..., ending=..., **keys)`: a task file and its data files, in a folder of the test's own.

    `keys` replace those of a two-class task on single texts, whose rows `SMALL` are the default; None leaves one out.
    """

    def make(
        tables: Mapping[str, Columns] | None = None, *, name: str = "small", ending: str = "csv", **keys: Any
    ) -> Path:
        tables = SMALL if tables is None else tables
        files = {split: f"{name}/{split}.{ending}" for split in tables}
        for split, columns in tables.items():
            _write_rows(tmp_path / files[split], columns)
        facts = {
            "title": "A small task",
            "source": {"files": files},
            "text": "text",
            "labels": ["no", "yes"],
            "splits": {split: split for split in tables},
            "rows": {split: max(1, len(next(iter(columns.values())))) for split, columns in tables.items()},
            "metrics": ["accuracy"],
            "main_metrics": "accuracy",
            "recipe": {"epochs": 1, "global_batch_size": 8, "max_length": 32, "learning_rate": 3e-3},
            **keys,
        }
        path = tmp_path / f"{name}.yaml"
        facts = {key: value for key, value in facts.items() if value is not None}
        path.write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    return make


def _make_record(
    task: str = "rte",
    metrics: Mapping[str, float | None] | None = None,
    *,
    model: str = "example/bert",
    seed: int = 1,
    recipe: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    from harness.facts.recipes import Recipe
    from harness.facts.records import Cost, DataFacts, Environment, ModelFacts, RunRecord, RunSpec, TaskFacts

    metrics = {"accuracy": 0.7} if metrics is None else metrics
    changes = dict(recipe or {})
    identity = RunSpec(
        **{
            **dict(task=task, task_version=1, task_fingerprint="d1", data=None, model=model, revision="main", seed=seed),
            **dict(recipe=Recipe(**changes), **(spec or {})),
        }
    )
    names = [name for name in metrics if name != "loss"]
    about = dict(title=f"The {task} task", suite="glue", labels=["no", "yes"], metrics=names, main_metrics=names[:1])
    rows = {"train": 1000, "validation": 200}
    found = dict(source=f"example/glue/{task}", revision="r1", fingerprint=f"rows of {task}", rows=rows, full_rows=rows)
    cost = dict(seconds=60 + seed, setup_seconds=2, train_seconds=50, evaluate_seconds=8, device_seconds=60 + seed)
    ran = dict(processes=1, devices=["NVIDIA H100"], precision="bf16", device_batch_size=32, accumulation=1, threads=1)
    where = dict(eval_batch_size=64, distributed="NO", system="Linux", python="3.11.9", versions={"harness": "0.1.0"})
    told: dict[str, Any] = dict(
        run_id=identity.run_id,
        status="ok",
        spec=identity,
        recipe_changes=changes,
        task=TaskFacts(**{**about, "report": ["validation"], "select_on": "validation", **(facts or {})}),
        data=DataFacts(**{**found, "is_partial": False, "missing": [], "shared_texts": {}, **(data or {})}),
        model=ModelFacts(commit="c0ffee", architecture="Bert", parameters=1000, attention="sdpa", head="new"),
        metrics={"validation": dict(metrics)},
        baseline={"validation": dict.fromkeys(names, 0.5)},
        selected_epoch=3,
        rows_per_second=220.0,
        peak_bytes=2**30,
        cost=Cost(**cost, steps=345, rows=11004, tokens=500_000, peak_bytes_per_process=[2**30]),
        environment=Environment(**ran, **where, git_commit=None, git_dirty=None),
        command=f"harness run --task {task}",
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        finished=datetime(2026, 1, 2, 3, 5, 5 + seed, tzinfo=UTC),
    )
    return RunRecord(**{**told, **fields})


@pytest.fixture
def make_bundle(tiny_model: Path, tmp_path: Path, make_record: Callable[..., RunRecord]) -> Callable[..., Path]:
    """`make_bundle(task, name=...)`: the folder of a model of that task, whose head was drawn and never trained."""

    def make(task: TaskSpec, name: str = "kept", **spec: Any) -> Path:
        from harness.engine import models
        from harness.facts.outcome import task_facts
        from harness.saved_models import bundles

        identity = {"task_version": task.version, "task_fingerprint": task.fingerprint, **spec}
        facts, threshold = task_facts(task).model_dump(), 0.4 if task.is_multi_label else None
        record = make_record(task.name, recipe={"max_length": 32}, spec=identity, facts=facts, threshold=threshold)
        model, tokenizer, _ = models.build(str(tiny_model), "sha256:0", task, 1)
        folder = tmp_path / name
        bundles.put_model(folder, record.run_id, model, tokenizer, model.state_dict(), 32)
        bundles.finish(folder, task, record)
        return folder

    return make


def _write_rows(path: Path, columns: Columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lstrip(".")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(columns)), path)
    elif ending == "arrow":
        import pyarrow as pa

        table = pa.table(dict(columns))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    elif ending == "xlsx":
        import openpyxl

        book = openpyxl.Workbook()
        for row in [list(columns), *(list(row.values()) for row in rows)]:
            book.active.append(row)
        book.save(path)
    elif ending in ("csv", "tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(columns), delimiter="\t" if ending == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        text = f"[{','.join(lines)}]" if ending == "json" else "".join(f"{line}\n" for line in lines)
        path.write_text(text, encoding="utf-8")
    return path
