"""Runs and models with rows, weights and code from the Hub, here a stand-in on loopback, each at its commit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.local_hub import new_commit, serve
from support.own_code import CLASSES, write_own_model

from harness.facts.records import RunRecord, read_records
from harness.facts.tasks import load_task
from harness.rows.files import file_hash

MODEL_COMMIT = "abc" + "0" * 37
CODE_COMMIT = "c0de" + "0" * 36
ROWS_COMMIT = "def" + "0" * 37
ROWS = {"train": 32, "validation": 8, "test": 4}

PROGRAM = """
import json, sys
from harness.__main__ import main
from harness.errors import UserError
def run(args):
    try:
        main(args)
    except SystemExit as end:
        print(f"exit code {end.code}", flush=True)

*commands, last = json.loads(sys.argv[1])
for args in commands:
    run(args)

from harness.engine.models import build_model
from harness.facts.tasks import load_task
for name, revision in (("org/none", "main"), ("org/tiny", "v9"), ("org/tiny", "main")):
    try:
        print("built:", build_model(name, revision, load_task("rte"), 1).facts.commit)
    except UserError as error:
        print("built:", str(error).replace("\\n", " "))
built = build_model("org/own", sys.argv[2], load_task("rte"), 1, trusts_code=True)
print("built:", *(type(each).__module__ for each in (built.model, built.model.config, built.tokenizer)), flush=True)

sys.stdin.readline()
run(last)
"""
"""Runs commands, builds models, one of which has code of its own, and runs the last command after a line of input."""


class HubRuns(NamedTuple):
    """The result of the commands below."""

    output: str
    models: list[str]
    """Commit or error of each model that the program builds, and at last the modules of code from the Hub."""
    records: dict[str, RunRecord]
    """Records by task."""
    output_without_hub: str
    """Output of the first command, called again after the Hub is gone."""


def small_rte(rows: int) -> dict[str, list[Any]]:
    return {
        "sentence1": [f"w{row % 9} w{row % 5}" for row in range(rows)],
        "sentence2": [f"c{row % 2}s0 w{row % 7}" for row in range(rows)],
        "label": [row % 2 for row in range(rows)],
        "idx": list(range(rows)),
    }


@pytest.fixture(scope="module")
def runs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> HubRuns:
    """Runs of rte, of an own task with rows on the Hub, and of one with rows at a URL, all in one process."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("hub")
    shutil.copytree(tiny_model, new_commit(folder / "hub", "models", "org/tiny", MODEL_COMMIT), dirs_exist_ok=True)
    classes = {key: f"org/own--{name}" for key, name in CLASSES.items()}  # as `save_pretrained` and forks have them
    own_model = new_commit(folder / "hub", "models", "org/own", CODE_COMMIT)
    write_own_model(own_model, tiny_model, folder / "marker", classes=classes)
    glue = new_commit(folder / "hub", "datasets", "nyu-mll/glue", str(load_task("rte").source.revision))
    (glue / "rte").mkdir()
    data_files = []
    for split, rows in ROWS.items():
        pq.write_table(pa.table(small_rte(rows)), glue / "rte" / f"{split}-00000-of-00001.parquet")
        data_files.append({"split": split, "path": f"rte/{split}-*"})
    facts = json.dumps({"configs": [{"config_name": "rte", "data_files": data_files}]})
    (glue / "README.md").write_text(f"---\n{facts}\n---\n")
    own = new_commit(folder / "hub", "datasets", "org/rows", ROWS_COMMIT)
    (own / "train.csv").write_text("sentence,kind\n" + "c0s0 w1,no\nc1s0 w2,yes\n" * 8)
    (own / "test.csv").write_text("sentence,kind\n" + "c0s1 w3,no\nc1s1 w4,yes\n" * 2)
    (own / "all.csv").write_text("sentence,kind\n" + "c0s0 w1,no\nc1s0 w2,yes\n" * 8)
    with serve(folder / "hub") as address:
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
        shutil.copy(folder / "hub_rows.yaml", folder / "pinned.yaml")
        pin = ["tasks", "--pin", str(folder / "pinned.yaml")]
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps([pin, *commands, commands[0]]), CODE_COMMIT],
            env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": address, "HF_HOME": str(folder / "home")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        output = ""
        while output.count("built: ") < 4 and (line := process.stdout.readline()):
            output += line
    output_without_hub, _ = process.communicate("\n", timeout=120)
    records = {record.spec.task: record for record in read_records(folder / "results").records}
    built = [line.removeprefix("built: ") for line in output.splitlines() if line.startswith("built: ")]
    return HubRuns(output, built, records, output_without_hub)


def test_every_run_with_rows_and_model_of_the_hub_is_recorded(runs: HubRuns) -> None:
    assert runs.output.count("exit code 0") == 3, runs.output
    assert set(runs.records) == {"rte", "hub_rows", "url_rows"}


def test_missing_model_and_missing_revision_are_errors_and_an_existing_model_has_its_commit(runs: HubRuns) -> None:
    no_model, no_revision, commit, _ = runs.models
    assert no_model.startswith("--model org/none: ")
    assert "not a valid model identifier" in no_model
    assert "Check the name" in no_model
    assert no_revision.startswith("--model org/tiny: ")
    assert "revision v9" in no_revision
    assert commit == MODEL_COMMIT


def test_code_of_the_hub_is_that_of_the_commit(runs: HubRuns) -> None:
    """References to its own repository by name, too."""
    modules = runs.models[-1].split()
    assert len(modules) == 3
    assert all(CODE_COMMIT in module for module in modules), "the module of the code has the commit in its name"


def test_record_names_the_commits_of_model_and_rows(runs: HubRuns) -> None:
    record = runs.records["rte"]
    assert record.model is not None
    assert record.model.commit == MODEL_COMMIT
    assert (record.spec.model, record.spec.revision, record.spec.data) == ("org/tiny", "main", None)
    assert record.data is not None
    assert (record.data.source, record.data.revision) == ("nyu-mll/glue/rte", load_task("rte").source.revision)


def test_record_names_the_commit_of_unpinned_rows(runs: HubRuns) -> None:
    data = runs.records["hub_rows"].data
    assert data is not None
    assert (data.revision, data.is_unpinned) == (ROWS_COMMIT, True)
    assert not any(
        record.data.is_unpinned for name, record in runs.records.items() if name != "hub_rows" and record.data
    )


def test_pinned_task_names_the_commit(runs: HubRuns) -> None:
    assert f"pinned org/rows to {ROWS_COMMIT}" in runs.output


def test_fewer_rows_than_the_task_has_are_marked_as_partial(runs: HubRuns) -> None:
    data = runs.records["rte"].data
    assert data is not None
    assert data.is_partial
    assert data.rows == ROWS
    assert data.full_rows == {"train": 2490, "validation": 277, "test": 3000}
    assert data.missing_splits == []


def test_own_task_reads_rows_on_the_hub_by_its_own_columns(runs: HubRuns) -> None:
    record = runs.records["hub_rows"]
    assert record.data is not None
    assert (record.data.source, record.data.is_partial) == ("org/rows", False)
    assert record.data.rows == {"train": 16, "validation": 4}


def test_own_task_reads_rows_from_a_url(runs: HubRuns) -> None:
    record = runs.records["url_rows"]
    assert record.data is not None
    assert record.data.source.endswith("/resolve/main/all.csv")
    assert record.data.rows == {"train": 12, "validation": 4}
    assert record.spec.data is None, "its checksum is in the task"


def test_finished_run_is_found_again_without_the_hub(runs: HubRuns) -> None:
    assert "already finished" in runs.output_without_hub
    assert runs.records["rte"].run_id in runs.output_without_hub
    assert "exit code 0" in runs.output_without_hub
