"""The zip for the GLUE server, read by a checker that knows nothing but the server's published format."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.__main__ import main
from harness.facts.records import RunRecord, write_record
from harness.facts.tasks import load_task

MODEL = ["--model", "org/tiny", "--seed", "1"]

# -- the checker: file names, lines and answers as the server's sample submission has them -----------------------------

NAMES_OF_TWO, NAMES_OF_THREE = "entailment|not_entailment", "entailment|neutral|contradiction"
SERVER = {
    "AX.tsv": (1105, NAMES_OF_THREE),
    "CoLA.tsv": (1064, "[01]"),
    "MNLI-m.tsv": (9797, NAMES_OF_THREE),
    "MNLI-mm.tsv": (9848, NAMES_OF_THREE),
    "MRPC.tsv": (1726, "[01]"),
    "QNLI.tsv": (5464, NAMES_OF_TWO),
    "QQP.tsv": (390966, "[01]"),
    "RTE.tsv": (3001, NAMES_OF_TWO),
    "SST-2.tsv": (1822, "[01]"),
    "STS-B.tsv": (1380, r"\d\.\d+|5\.0+"),
    "WNLI.tsv": (147, "[01]"),
}
"""Lines of each file with its header, and what stands in the second column."""


def answers_in(path: Path) -> dict[str, list[str]]:
    """By file; fails where the server would refuse the zip."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(SERVER), "at the top of the zip, and nothing else"
        texts = {name: archive.read(name).decode("ascii") for name in archive.namelist()}
    found = {}
    for name, text in texts.items():
        lines, (count, answer) = text.split("\n"), SERVER[name]
        assert lines.pop() == "", "the last line ends too"
        assert len(lines) == count, name
        assert lines[0] == "index\tprediction"
        cells = [line.split("\t") for line in lines[1:]]
        assert [cell[0] for cell in cells] == [str(number) for number in range(count - 1)], name
        assert {len(cell) for cell in cells} == {2}, name
        found[name] = [cell[1] for cell in cells]
        assert [each for each in sorted(set(found[name])) if not re.fullmatch(answer, each)] == [], name
    assert all(0 <= float(value) <= 5 for value in found["STS-B.tsv"])
    return found


# -- records with predictions ------------------------------------------------------------------------------------------

SPLITS = {
    "cola": {"test": 1063},
    "sst2": {"test": 1821},
    "mrpc": {"test": 1725},
    "stsb": {"test": 1379},
    "mnli": {"test_matched": 9796, "test_mismatched": 9847, "ax.test": 1104},
    "qnli": {"test": 5463},
    "qqp": {"test": 390_965},
    "rte": {"test": 3000},
    "wnli": {"test": 146},
}

LABELS = {task: list(load_task(task).labels or []) for task in SPLITS}


def predicted(task: str, row: int) -> Any:
    """An answer that follows from task and row: every label is there, values go beyond the scale."""
    labels = LABELS[task]
    return labels[zlib.crc32(f"{task}{row}".encode()) % len(labels)] if labels else math.sin(row) * 4 + 2.5


@pytest.fixture
def add(tmp_path: Path, make_record: Callable[..., RunRecord]) -> Callable[..., RunRecord]:
    """A record of a task and its predictions, below `results`."""

    def write(task: str, rows: dict[str, int] | None = None, results: str = "results", **changes: Any) -> RunRecord:
        rows = SPLITS[task] if rows is None else rows
        record = make_record(task, model="org/tiny", **changes)
        files = {split: f"{record.run_id}.{split}.parquet" for split in rows}
        record = record.model_copy(update={"predictions": files})
        folder = write_record(record, tmp_path / results).parent
        for split, count in rows.items():
            columns = {"row": range(count), "prediction": [predicted(task, row) for row in range(count)]}
            pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), folder / files[split])
        return record

    return write


def submit(tmp_path: Path, *words: str, results: str = "results") -> Path:
    out = tmp_path / "glue.zip"
    main(["submit", *MODEL, "--results", str(tmp_path / results), "--out", str(out), *words])
    return out


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a submission that is refused says."""

    def refused(tmp_path: Path, *words: str) -> str:
        with pytest.raises(SystemExit) as end:
            submit(tmp_path, *words)
        assert end.value.code == 2
        return capsys.readouterr().err

    return refused


def test_server_takes_the_zip_and_finds_each_prediction_in_its_row(
    add: Callable[..., RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in SPLITS:
        add(task)
    found = answers_in(submit(tmp_path))
    for name, task in (("CoLA.tsv", "cola"), ("WNLI.tsv", "wnli"), ("MRPC.tsv", "mrpc"), ("QQP.tsv", "qqp")):
        numbers = {label: str(number) for number, label in enumerate(LABELS[task])}
        assert found[name][:500] == [numbers[predicted(task, row)] for row in range(len(found[name][:500]))]
    for name, task in (("RTE.tsv", "rte"), ("QNLI.tsv", "qnli"), ("MNLI-mm.tsv", "mnli"), ("AX.tsv", "mnli")):
        assert found[name] == [predicted(task, row) for row in range(len(found[name]))]
    values = [min(5.0, max(0.0, predicted("stsb", row))) for row in range(1379)]
    assert [float(value) for value in found["STS-B.tsv"]] == pytest.approx(values, abs=1e-4)
    assert {"0.0000", "5.0000"} <= set(found["STS-B.tsv"])
    assert "constant" not in capsys.readouterr().out


def test_what_is_missing_is_listed_and_nothing_written(
    add: Callable[..., RunRecord], tmp_path: Path, told: Callable[..., str]
) -> None:
    add("cola")
    add("rte", {"test": 2999})
    add("mnli", {"test_matched": 9796})
    record = add("wnli")
    (tmp_path / "results/runs/wnli" / record.predictions["test"]).unlink()
    error = told(tmp_path)
    assert "9 of 11 files lack predictions of org/tiny, seed 1" in error
    assert re.search(r"RTE\.tsv: .*parquet has 2,999 of 3,000 rows", error)
    assert "SST-2.tsv: no run of sst2" in error
    assert re.search(r"AX\.tsv: the run \S+ did not predict 'ax.test'", error)
    assert re.search(r"WNLI\.tsv: .*parquet is gone; --overwrite makes the run again", error)
    assert "CoLA.tsv" not in error
    assert "--allow-missing: it fills in a constant answer" in error
    assert not (tmp_path / "glue.zip").exists()


def test_missing_answers_are_constant_where_that_is_allowed_and_told(
    add: Callable[..., RunRecord], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("rte", {"test": 10})
    found = answers_in(submit(tmp_path, "--allow-missing"))
    assert found["RTE.tsv"] == [predicted("rte", row) for row in range(10)] + ["entailment"] * 2990
    assert set(found["CoLA.tsv"]) == {"1"}
    assert set(found["STS-B.tsv"]) == {"2.5"}
    printed = capsys.readouterr().out
    assert re.search(r"RTE\.tsv +3,000 rows .*2,990 rows are the constant entailment", printed)
    assert "11 files hold constant answers: what the server says of them is no result of the model" in printed


def test_same_answers_give_the_same_bytes(add: Callable[..., RunRecord], tmp_path: Path) -> None:
    add("wnli")
    first = submit(tmp_path, "--allow-missing").read_bytes()
    assert submit(tmp_path, "--allow-missing", "--overwrite").read_bytes() == first


def test_several_runs_are_told_apart_by_their_name(
    add: Callable[..., RunRecord], tmp_path: Path, told: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = add("wnli"), add("wnli", recipe={"epochs": 9})
    add("wnli", seed=2)
    error = told(tmp_path, "--allow-missing")
    assert "2 runs of wnli have the model org/tiny and the seed 1" in error
    assert first.run_id in error
    assert f"{second.run_id}: {{'epochs': 9}}" in error
    submit(tmp_path, "--allow-missing", "--run", second.run_id)
    assert second.run_id in capsys.readouterr().out


def test_runs_of_other_models_are_named_and_those_of_test_mode_are_not_taken(
    add: Callable[..., RunRecord], tmp_path: Path, told: Callable[..., str]
) -> None:
    add("cola", seed=5)
    add("wnli", spec={"test_mode": True})
    error = told(tmp_path)
    assert "CoLA.tsv: no run of cola; there is org/tiny (seed 5)" in error
    assert "WNLI.tsv: no run of wnli" in error


def test_rows_that_are_not_those_of_the_server_are_refused(
    add: Callable[..., RunRecord], tmp_path: Path, told: Callable[..., str]
) -> None:
    add("wnli", {"test": 147})
    assert "the server's WNLI.tsv has 146" in told(tmp_path, "--allow-missing")


def test_labels_that_the_server_does_not_know_are_refused(
    add: Callable[..., RunRecord], tmp_path: Path, told: Callable[..., str]
) -> None:
    record = add("rte")
    path = tmp_path / "results/runs/rte" / record.predictions["test"]
    pq.write_table(pa.table({"row": [0], "prediction": ["maybe"]}), path)
    assert "'maybe' is none of the server's labels entailment, not_entailment" in told(tmp_path, "--allow-missing")
    path.write_text("no parquet")
    assert "cannot be read" in told(tmp_path, "--allow-missing")


def test_place_is_checked_first(tmp_path: Path, told: Callable[..., str]) -> None:
    (tmp_path / "glue.zip").write_text("from before")
    assert "glue.zip: is there already; --overwrite replaces a file" in told(tmp_path)
    with pytest.raises(SystemExit):
        main(["submit", *MODEL, "--out", str(tmp_path / "glue.tar")])
    assert "its name must end in .zip" in told(tmp_path, "--out", str(tmp_path / "glue.tar"))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in told(tmp_path, "--out", str(tmp_path / "file" / "glue.zip"))
    assert (tmp_path / "glue.zip").read_text() == "from before"
    assert "results: there is no such folder" in told(tmp_path, "--out", str(tmp_path / "other.zip"))
