"""The ordinary way of a run: rows and model from the Hub, here a stand-in on loopback, each at the commit recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.local_hub import new_commit, serving

from harness.facts.records import RunRecord, read_records
from harness.facts.tasks import load_task
from harness.rows.files import file_hash

MODEL_COMMIT = "abc" + "0" * 37
ROWS = {"train": 32, "validation": 8, "test": 4}

PROGRAM = """
import json, sys
from harness.__main__ import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        print(f"exit code {end.code}", flush=True)
"""


class Ran(NamedTuple):
    """What came of the commands below, while the Hub was there."""

    output: str
    records: dict[str, RunRecord]
    """By task."""
    again: list[str]
    """The arguments of the first of them."""
    environment: dict[str, str]


def small_rte(rows: int) -> dict[str, list[Any]]:
    return {
        "sentence1": [f"w{row % 9} w{row % 5}" for row in range(rows)],
        "sentence2": [f"c{row % 2}s0 w{row % 7}" for row in range(rows)],
        "label": [row % 2 for row in range(rows)],
        "idx": list(range(rows)),
    }


@pytest.fixture(scope="module")
def ran(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """rte with a model, a task of one's own with rows of the Hub, and one with rows at a URL; in one process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_model, new_commit(folder / "hub", "models", "org/tiny", MODEL_COMMIT), dirs_exist_ok=True)
    glue = new_commit(folder / "hub", "datasets", "nyu-mll/glue", str(load_task("rte").source.revision))
    (glue / "rte").mkdir()
    places = []
    for split, rows in ROWS.items():
        pq.write_table(pa.table(small_rte(rows)), glue / "rte" / f"{split}-00000-of-00001.parquet")
        places.append({"split": split, "path": f"rte/{split}-*"})
    facts = json.dumps({"configs": [{"config_name": "rte", "data_files": places}]})
    (glue / "README.md").write_text(f"---\n{facts}\n---\n")
    own = new_commit(folder / "hub", "datasets", "org/rows", "def" + "0" * 37)
    (own / "train.csv").write_text("sentence,kind\n" + "c0s0 w1,no\nc1s0 w2,yes\n" * 8)
    (own / "test.csv").write_text("sentence,kind\n" + "c0s1 w3,no\nc1s1 w4,yes\n" * 2)
    (own / "all.csv").write_text("sentence,kind\n" + "c0s0 w1,no\nc1s0 w2,yes\n" * 8)
    with serving(folder / "hub") as address:
        task = {"title": "Own", "text": "sentence", "label": "kind", "labels": ["no", "yes"], "metrics": "accuracy"}
        task |= {"main_metrics": "accuracy", "rows": {"train": 16, "validation": 4}}
        splits = {"train": "train", "validation": "test"}
        hub = {**task, "source": {"hub": "org/rows"}, "splits": splits}
        (folder / "hub_rows.yaml").write_text(json.dumps(hub))
        file = f"{address}/datasets/org/rows/resolve/main/all.csv"
        url = {**task, "source": {"file": file, "sha256": file_hash(own / "all.csv")}}
        url |= {"splits": {"train": "all[:12]", "validation": "all[12:]"}, "rows": {"train": 12, "validation": 4}}
        (folder / "url_rows.yaml").write_text(json.dumps(url))
        small = ["--model", "org/tiny", "--epochs", "1", "--max-length", "32", "--precision", "fp32"]
        small += ["--results", str(folder / "results")]
        names = ["rte", str(folder / "hub_rows.yaml"), str(folder / "url_rows.yaml")]
        commands = [["run", "--task", name, *small] for name in names]
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address, "HF_HOME": str(folder / "home")}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(commands)], env=environment, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    records = {record.spec.task: record for record in read_records(folder / "results").records}
    return Ran(done.stdout + done.stderr, records, commands[0], environment)


def test_every_run_with_rows_and_model_of_the_hub_is_recorded(ran: Ran) -> None:
    assert ran.output.count("exit code 0") == 3, ran.output
    assert set(ran.records) == {"rte", "hub_rows", "url_rows"}


def test_record_names_the_commits_of_model_and_rows(ran: Ran) -> None:
    record = ran.records["rte"]
    assert record.model is not None
    assert record.model.commit == MODEL_COMMIT
    assert (record.spec.model, record.spec.revision, record.spec.data) == ("org/tiny", "main", None)
    assert record.data is not None
    assert (record.data.source, record.data.revision) == ("nyu-mll/glue/rte", load_task("rte").source.revision)


def test_fewer_rows_than_the_task_has_are_marked_as_partial(ran: Ran) -> None:
    data = ran.records["rte"].data
    assert data is not None
    assert data.is_partial
    assert data.rows == ROWS
    assert data.full_rows == {"train": 2490, "validation": 277, "test": 3000}
    assert data.missing == []


def test_own_task_takes_rows_of_the_hub_by_its_own_columns(ran: Ran) -> None:
    record = ran.records["hub_rows"]
    assert record.data is not None
    assert (record.data.source, record.data.revision, record.data.is_partial) == ("org/rows", None, False)
    assert record.data.rows == {"train": 16, "validation": 4}


def test_own_task_takes_rows_from_a_url(ran: Ran) -> None:
    record = ran.records["url_rows"]
    assert record.data is not None
    assert record.data.source.endswith("/resolve/main/all.csv")
    assert record.data.rows == {"train": 12, "validation": 4}
    assert record.spec.data is None, "its checksum is in the task"


def test_finished_run_is_found_again_without_the_hub(ran: Ran) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *ran.again], env=ran.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("finished already: ")
    assert ran.records["rte"].run_id in done.stdout
