"""What every test stands on: no network, no tokens, no launcher's settings; a tiny model and small tasks."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml

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
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a two-layer BERT without a head, of 64 positions, and its tokenizer."""
    from harness.testmode import write_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    write_model(folder)
    return folder


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
            "headline": "accuracy",
            "recipe": {"epochs": 1, "global_batch": 8, "max_length": 32, "learning_rate": 3e-3},
            **keys,
        }
        path = tmp_path / f"{name}.yaml"
        facts = {key: value for key, value in facts.items() if value is not None}
        path.write_text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    return make


def _write_rows(path: Path, columns: Columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lstrip(".")
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    if ending == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(columns)), path)
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
