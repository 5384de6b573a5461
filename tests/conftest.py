"""Fixtures of all tests: no network, no tokens, no launcher's settings; a tiny model and small tasks."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
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
"""Prefixes of environment variables that would make a test depend on the machine."""

LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")

_TEXT = [f"w{row % 7} c{row % 2}s{row % 3} w{row % 5}" for row in range(24)]
_LABEL = [("no", "yes")[row % 2] for row in range(24)]
SMALL: dict[str, Columns] = {
    "train": {"text": _TEXT[:16], "label": _LABEL[:16]},
    "validation": {"text": _TEXT[16:], "label": _LABEL[16:]},
}
"""A classification that the tiny model can learn."""


def pytest_configure(config: pytest.Config) -> None:
    """Sets the environment before any test module imports the client of the Hub, which reads it once.

    A shell ignores SIGINT for a command in its background, and so would the tests' processes.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith(AMBIENT) or name in LAUNCHER_VARIABLES]:
        del os.environ[name]
    home = TemporaryDirectory(prefix="harness-tests-")
    config.add_cleanup(home.cleanup)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HOME": home.name, "TOKENIZERS_PARALLELISM": "false"}
    os.environ["HARNESS_CACHE"] = f"{home.name}/harness"
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the tests of several processes, the longest, so that no worker is left alone with them."""
    items.sort(key=lambda item: "two_ranks" not in item.nodeid)


@pytest.fixture(autouse=True)
def _accelerate_in_fp32() -> None:
    """Resets accelerate's shared state if a run of an earlier test has left it in bf16: every Accelerator shares it."""
    if (module := sys.modules.get("accelerate.state")) is not None:
        state = module.AcceleratorState
        if state._shared_state.get("_mixed_precision", "no") != "no":
            state._reset_state(reset_partial_state=True)


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
    """The function `support.records.finished_record`; only tests that use it import the package for it."""
    from support.records import finished_record

    return finished_record


@pytest.fixture
def write_rows() -> Callable[[Path, Columns], Path]:
    """`write_rows(path, columns)`: writes a file in the format of its extension, and makes its folder."""
    return _write_rows


@pytest.fixture
def make_task(tmp_path: Path) -> Callable[..., Path]:
    """`make_task(tables, name=..., ending=..., **keys)`: a task file and its data files, in the test's own folder.

    `keys` replace those of a two-class task on single texts; None leaves one out. The default rows are `SMALL`.
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


@pytest.fixture
def make_bundle(tiny_model: Path, tmp_path: Path, make_record: Callable[..., RunRecord]) -> Callable[..., Path]:
    """`make_bundle(task, name=...)`: the folder of a model of that task with a random head."""

    def make(task: TaskSpec, name: str = "bundle", **spec: Any) -> Path:
        from harness.engine import models
        from harness.facts.outcome import task_facts
        from harness.saved_models import bundles

        identity = {"task_version": task.version, "task_fingerprint": task.fingerprint, **spec}
        facts, threshold = task_facts(task).model_dump(), 0.4 if task.is_multi_label else None
        record = make_record(task.name, recipe={"max_length": 32}, spec=identity, facts=facts, threshold=threshold)
        model, tokenizer, *_ = models.build_model(str(tiny_model), "sha256:0", task, 1)
        folder = tmp_path / name
        bundles.stage_model(folder, record.run_id, model, tokenizer, model.state_dict(), 32)
        bundles.finish_bundle(folder, task, record)
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
