"""`harness submit`: the zip, read by a checker that knows nothing but the server's published format."""

from __future__ import annotations

import json
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
from support.commands import run_harness

from harness.facts.records import RunRecord, write_record
from harness.facts.tasks import load_task

# -- the checker: file names, lines and predictions as in the server's sample submission -------------------------------

TWO_NAMES, THREE_NAMES = "entailment|not_entailment", "entailment|neutral|contradiction"
SERVER = {
    "AX.tsv": (1105, THREE_NAMES),
    "CoLA.tsv": (1064, "[01]"),
    "MNLI-m.tsv": (9797, THREE_NAMES),
    "MNLI-mm.tsv": (9848, THREE_NAMES),
    "MRPC.tsv": (1726, "[01]"),
    "QNLI.tsv": (5464, TWO_NAMES),
    "QQP.tsv": (390966, "[01]"),
    "RTE.tsv": (3001, TWO_NAMES),
    "SST-2.tsv": (1822, "[01]"),
    "STS-B.tsv": (1380, r"\d\.\d+|5\.0+"),
    "WNLI.tsv": (147, "[01]"),
}
"""Lines of each file with its header, and a pattern of its second column."""


def predictions_in(path: Path) -> dict[str, list[str]]:
    """The predictions by file; fails where the server would refusal the zip."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(SERVER), "at the top of the zip, and nothing else"
        texts = {name: archive.read(name).decode("ascii") for name in archive.namelist()}
    predictions = {}
    for name, text in texts.items():
        lines, (count, pattern) = text.split("\n"), SERVER[name]
        assert lines.pop() == "", "the last line ends too"
        assert len(lines) == count, name
        assert lines[0] == "index\tprediction"
        cells = [line.split("\t") for line in lines[1:]]
        assert [cell[0] for cell in cells] == [str(number) for number in range(count - 1)], name
        assert {len(cell) for cell in cells} == {2}, name
        predictions[name] = [cell[1] for cell in cells]
        assert [each for each in sorted(set(predictions[name])) if not re.fullmatch(pattern, each)] == [], name
    assert all(0 <= float(value) <= 5 for value in predictions["STS-B.tsv"])
    return predictions


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
    """A prediction that follows from task and row: every label occurs, and values beyond the scale."""
    labels = LABELS[task]
    return labels[zlib.crc32(f"{task}{row}".encode()) % len(labels)] if labels else math.sin(row) * 4 + 2.5


@pytest.fixture
def add(tmp_path: Path, make_record: Callable[..., RunRecord]) -> Callable[..., Path]:
    """`add(task, rows=..., **fields)`: writes a record and its predictions; returns the path of the record."""

    def write(task: str, rows: dict[str, int] | None = None, **fields: Any) -> Path:
        rows = SPLITS[task] if rows is None else rows
        record = make_record(task, model="org/tiny", **fields)
        files = {split: f"{record.run_id}.{split}.parquet" for split in rows}
        path = write_record(record.model_copy(update={"prediction_files": files}), tmp_path / "results")
        for split, count in rows.items():
            columns = {"row": list(range(count)), "prediction": [predicted(task, row) for row in range(count)]}
            pq.write_table(pa.table(columns), path.with_name(files[split]))
        return path

    return write


def submit(tmp_path: Path, *args: str, code: int = 0) -> Path:
    out = tmp_path / "glue.zip"
    defaults = {"--model": "org/tiny", "--seed": "1", "--results": tmp_path / "results", "--out": out}
    flags = [part for flag, value in defaults.items() if flag not in args for part in (flag, value)]
    run_harness("submit", *flags, *args, code=code)
    return out


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`refusal(*args)`: the message of a submission that ends with exit code 2."""

    def submit_refused(*args: str) -> str:
        submit(tmp_path, *args, code=2)
        return capsys.readouterr().err

    return submit_refused


def test_zip_has_each_prediction_in_its_row(
    add: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in SPLITS:
        add(task)
    predictions = predictions_in(submit(tmp_path))
    for name, task in (("CoLA.tsv", "cola"), ("WNLI.tsv", "wnli"), ("MRPC.tsv", "mrpc"), ("QQP.tsv", "qqp")):
        numbers = {label: str(number) for number, label in enumerate(LABELS[task])}
        first = predictions[name][:500]
        assert first == [numbers[predicted(task, row)] for row in range(len(first))]
    for name, task in (("RTE.tsv", "rte"), ("QNLI.tsv", "qnli"), ("MNLI-mm.tsv", "mnli"), ("AX.tsv", "mnli")):
        assert predictions[name] == [predicted(task, row) for row in range(len(predictions[name]))]
    values = [min(5.0, max(0.0, predicted("stsb", row))) for row in range(1379)]
    assert [float(value) for value in predictions["STS-B.tsv"]] == pytest.approx(values, abs=1e-4)
    assert {"0.0000", "5.0000"} <= set(predictions["STS-B.tsv"])
    assert "constant" not in capsys.readouterr().out


def test_missing_predictions_are_listed_and_nothing_is_written(
    add: Callable[..., Path], tmp_path: Path, refusal: Callable[..., str]
) -> None:
    add("cola")
    add("rte", {"test": 2999})
    add("mnli", {"test_matched": 9796})
    record = add("wnli")
    record.with_name(f"{record.stem}.test.parquet").unlink()
    error = refusal()
    assert re.search("9 of 11 files .*org/tiny, seed 1", error)
    assert re.search(r"RTE\.tsv: .*parquet has 2,999 of 3,000 rows", error)
    assert re.search(r"SST-2\.tsv: .*sst2", error)
    assert re.search(r"AX\.tsv: .*'ax\.test'", error)
    assert re.search(r"WNLI\.tsv: file not found: .*parquet.* --overwrite", error)
    assert "CoLA.tsv" not in error
    assert "--allow-missing" in error
    assert not (tmp_path / "glue.zip").exists()


def test_missing_predictions_are_constant_if_allowed(
    add: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add("rte", {"test": 10})
    predictions = predictions_in(submit(tmp_path, "--allow-missing"))
    assert predictions["RTE.tsv"] == [predicted("rte", row) for row in range(10)] + ["entailment"] * 2990
    assert set(predictions["CoLA.tsv"]) == {"1"}
    assert set(predictions["STS-B.tsv"]) == {"2.5"}
    printed = capsys.readouterr().out
    assert re.search(r"RTE\.tsv +3,000 rows .*2,990 rows .*constant entailment", printed)
    assert "11 files have constant predictions" in printed


def test_zip_without_any_prediction_of_the_model_is_refused(
    add: Callable[..., Path], refusal: Callable[..., str], tmp_path: Path
) -> None:
    add("rte")
    assert re.search(r"no file has .* of org/tyni, .*'org/tiny'", refusal("--allow-missing", "--model", "org/tyni"))
    assert "Did you mean" not in refusal("--allow-missing", "--seed", "99"), "the same name again"
    assert not (tmp_path / "glue.zip").exists()


def test_same_predictions_give_the_same_bytes(add: Callable[..., Path], tmp_path: Path) -> None:
    add("wnli")
    first = submit(tmp_path, "--allow-missing").read_bytes()
    assert submit(tmp_path, "--allow-missing", "--overwrite").read_bytes() == first
    assert submit(tmp_path, "--allow-missing", "--overwrite", "--model", "org/tiny/").read_bytes() == first


def test_several_runs_of_a_task_need_a_choice(
    add: Callable[..., Path], tmp_path: Path, refusal: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = add("wnli").stem, add("wnli", recipe={"epochs": 9}).stem
    add("wnli", seed=2)
    error = refusal("--allow-missing")
    assert re.search("2 runs of wnli .*org/tiny .*seed 1", error)
    assert first in error
    assert f"{second}: {{'epochs': 9}}" in error
    assert "--run" in error
    submit(tmp_path, "--allow-missing", "--run", second)
    assert second in capsys.readouterr().out


def test_unknown_run_is_refused_although_its_task_has_another(
    add: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    run_id = add("wnli").stem
    other = add("cola", seed=2).stem
    assert f"--run {run_id}x: " in refusal("--allow-missing", "--run", f"{run_id}x")
    assert f"--run {other}: " in refusal("--allow-missing", "--run", run_id, other)


def test_runs_of_other_models_are_listed_but_not_those_of_test_mode(
    add: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    add("cola", seed=5)
    add("wnli", spec={"test_mode": True})
    error = refusal()
    assert re.search(r"CoLA\.tsv: run of cola not found.* org/tiny \(seed 5\)", error)
    assert "WNLI.tsv: run of wnli not found\n" in error


def test_rows_that_the_server_does_not_have_are_an_error(add: Callable[..., Path], refusal: Callable[..., str]) -> None:
    add("wnli", {"test": 147})
    assert re.search(r"test\.parquet: expected 146 .*WNLI\.tsv, got 147", refusal("--allow-missing"))


def test_labels_that_the_server_does_not_have_are_an_error(
    add: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    record = add("rte")
    path = record.with_name(f"{record.stem}.test.parquet")
    pq.write_table(pa.table({"row": [0], "prediction": ["maybe"]}), path)
    assert re.search(r"test\.parquet: .*'maybe'.* entailment, not_entailment", refusal("--allow-missing"))
    path.write_text("no parquet")
    assert "test.parquet: not a readable file of predictions" in refusal("--allow-missing")
    for columns in ({"row": [0]}, {"row": [[1]], "prediction": ["entailment"]}, {"row": [0], "prediction": [[1]]}):
        pq.write_table(pa.table(columns), path)
        assert "test.parquet: not a readable file of predictions" in refusal("--allow-missing")


def test_files_of_predictions_in_another_folder_are_refused(
    add: Callable[..., Path], refusal: Callable[..., str]
) -> None:
    path = add("rte")
    path.write_text(path.read_text().replace(f"{path.stem}.test.parquet", "../../secret.parquet"))
    assert "invalid prediction_files.test" in refusal("--allow-missing")


def test_output_and_results_are_checked_first(tmp_path: Path, refusal: Callable[..., str]) -> None:
    (tmp_path / "glue.zip").write_text("earlier")
    assert re.search(r"--out .*glue\.zip: .*--overwrite", refusal())
    assert re.search(r"--out .*glue\.tar: .*\.zip", refusal("--out", str(tmp_path / "glue.tar")))
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal("--out", str(tmp_path / "file" / "glue.zip"))
    assert (tmp_path / "glue.zip").read_text() == "earlier"
    assert re.search("--results .*results: folder not found", refusal("--out", str(tmp_path / "other.zip")))


# -- SuperGLUE: a checker that knows only the published files ----------------------------------------------------------

JSONL: dict[str, tuple[int, set[Any]]] = {
    "AX-b.jsonl": (1104, {"entailment", "not_entailment"}),
    "AX-g.jsonl": (356, {"entailment", "not_entailment"}),
    "BoolQ.jsonl": (3245, {"false", "true"}),
    "CB.jsonl": (250, {"entailment", "contradiction", "neutral"}),
    "COPA.jsonl": (500, {0, 1}),
    "RTE.jsonl": (3000, {"entailment", "not_entailment"}),
    "WSC.jsonl": (146, {"False", "True"}),
    "WiC.jsonl": (1400, {"false", "true"}),
}
"""Rows and labels of each file that has one object per row."""


def superglue_predictions(path: Path) -> dict[str, list[Any]]:
    """The labels by file, in order of the server's numbers; fails where the server would refuse the zip."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        texts = {name: archive.read(name).decode("ascii") for name in archive.namelist()}
    objects = {name: [json.loads(line) for line in text.splitlines()] for name, text in texts.items()}
    labels: dict[str, list[Any]] = {}
    for name, (rows, known) in JSONL.items():
        assert all(set(each) == {"idx", "label"} for each in objects[name]), name
        assert sorted(each["idx"] for each in objects[name]) == list(range(rows)), name
        assert {each["label"] for each in objects[name]} <= known, name
        assert len({type(each["label"]) for each in objects[name]}) == 1, name
        labels[name] = [each["label"] for each in sorted(objects[name], key=lambda each: int(each["idx"]))]
    if "MultiRC.jsonl" in objects:
        paragraphs = objects["MultiRC.jsonl"]
        assert len({each["idx"] for each in paragraphs}) == len(paragraphs)
        questions = [question for each in paragraphs for question in each["passage"]["questions"]]
        answers = [
            (question["idx"], each["idx"], each["label"]) for question in questions for each in question["answers"]
        ]
        assert len({each[:2] for each in answers}) == len(answers) == 9693
        assert {label for *_, label in answers} <= {0, 1}
        labels["MultiRC.jsonl"] = [label for *_, label in sorted(answers)]
    return labels


SUPERGLUE_LABELS = {
    "copa": ["choice1", "choice2"],
    "wic": ["false", "true"],
    "wsc": ["false", "true"],
    "multirc": ["false", "true"],
    "boolq": ["False", "True"],
    "superglue_rte": ["entailment", "not_entailment"],
}
SUPERGLUE_ROWS = {"copa": 500, "wic": 1400, "wsc": 146, "multirc": 9693, "boolq": 3245, "superglue_rte": 3000}


def nested_id(row: int) -> dict[str, int]:
    return {"paragraph": row // 60, "question": row // 6, "answer": row}


@pytest.fixture
def add_superglue(tmp_path: Path, make_record: Callable[..., RunRecord]) -> Callable[..., list[str]]:
    """`add_superglue(task, ids=...)`: writes a record and its predictions; returns the predicted labels by id."""

    def write(task: str, ids: Callable[[int], Any] | None = None) -> list[str]:
        rows, labels = SUPERGLUE_ROWS[task], SUPERGLUE_LABELS[task]
        record = make_record(task, model="org/tiny")
        name = f"{record.run_id}.test.parquet"
        path = write_record(record.model_copy(update={"prediction_files": {"test": name}}), tmp_path / "results")
        predictions = [labels[zlib.crc32(f"{task}{row}".encode()) % 2] for row in range(rows)]
        columns: dict[str, Any] = {"row": list(range(rows)), "prediction": predictions}
        if ids is not None:
            columns["id_idx"] = [ids(row) for row in range(rows)]
        pq.write_table(pa.table(columns), path.with_name(name))
        return predictions

    return write


def test_superglue_zip_has_every_prediction_in_the_form_of_the_server(
    tmp_path: Path, add_superglue: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    wic = add_superglue("wic", lambda row: 1399 - row)
    wsc, copa, multirc = add_superglue("wsc"), add_superglue("copa", int), add_superglue("multirc", nested_id)
    boolq, rte = add_superglue("boolq"), add_superglue("superglue_rte")
    labels = superglue_predictions(submit(tmp_path, "--suite", "superglue", "--allow-missing"))
    assert labels["BoolQ.jsonl"] == [label.lower() for label in boolq]
    assert labels["RTE.jsonl"] == rte
    assert labels["WiC.jsonl"] == wic[::-1]
    assert labels["WSC.jsonl"] == [label.capitalize() for label in wsc]
    assert labels["COPA.jsonl"] == [int(label == "choice2") for label in copa]
    assert labels["MultiRC.jsonl"] == [int(label == "true") for label in multirc]
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "left out" in shown["ReCoRD.jsonl"]
    assert "250 rows are the constant" in shown["CB.jsonl"]
    assert "constant" not in shown["MultiRC.jsonl"]


def add_record(tmp_path: Path, make_record: Callable[..., RunRecord], **changes: list[Any]) -> list[str]:
    """Writes a record of ReCoRD with predictions of three candidates for each query; returns the answers."""
    record = make_record("record", model="org/tiny")
    name = f"{record.run_id}.test.parquet"
    path = write_record(record.model_copy(update={"prediction_files": {"test": name}}), tmp_path / "results")
    rows = range(3 * 10_000)
    columns: dict[str, list[Any]] = {
        "row": list(rows),
        "prediction": ["right" if row % 3 == row // 3 % 3 else "wrong" for row in rows],
        "candidate": [f'entity "{row}" é' for row in rows],
        "id_idx": [{"passage": row // 30, "query": 9999 - row // 3} for row in rows],
    }
    columns |= changes
    pq.write_table(pa.table(columns), path.with_name(name))
    pairs = zip(columns["candidate"], columns["prediction"], strict=True)
    return [candidate for candidate, prediction in pairs if prediction == "right"]


def test_record_file_has_the_text_of_the_answer_to_each_query(
    tmp_path: Path, make_record: Callable[..., RunRecord], capsys: pytest.CaptureFixture[str]
) -> None:
    answers = add_record(tmp_path, make_record)
    out = submit(tmp_path, "--suite", "superglue", "--allow-missing")
    with zipfile.ZipFile(out) as archive:
        objects = [json.loads(line) for line in archive.read("ReCoRD.jsonl").decode("ascii").splitlines()]
    assert [each["idx"] for each in objects] == list(range(10_000))
    assert all(set(each) == {"idx", "label"} for each in objects)
    assert [each["label"] for each in objects] == answers[::-1]
    assert "10,000 rows" in next(line for line in capsys.readouterr().out.splitlines() if "ReCoRD" in line)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"prediction": ["wrong", "right", "right"] * 10_000}, "query 9999 has several answers"),
        ({"prediction": ["right", "wrong", "wrong"] * 9_999 + ["wrong"] * 3}, "query 0 has no answer"),
        ({"id_idx": list(range(30_000))}, "no columns candidate and id_idx with passage and query"),
        (
            {"id_idx": [{"passage": 0, "query": row // 3 + 1} for row in range(30_000)]},
            "expected 10,000 different rows",
        ),
    ],
)
def test_record_rows_that_the_server_does_not_have_are_refused(
    tmp_path: Path, make_record: Callable[..., RunRecord], refusal: Callable[..., str], changes: Any, message: str
) -> None:
    add_record(tmp_path, make_record, **changes)
    assert message in refusal("--suite", "superglue", "--allow-missing")


@pytest.mark.parametrize(
    "task, ids, message",
    [
        ("multirc", None, "no column id_idx with paragraph, question and answer"),
        ("multirc", int, "no column id_idx with paragraph"),
        ("multirc", lambda row: nested_id(row // 2 * 2), "id_idx names an answer twice"),
        ("wic", lambda row: row + 1, r"expected 1,400 different rows for the server's WiC\.jsonl"),
        ("wic", lambda row: row // 2, r"expected 1,400 different rows for the server's WiC\.jsonl"),
    ],
)
def test_superglue_rows_that_the_server_does_not_have_are_refused(
    refusal: Callable[..., str], add_superglue: Callable[..., list[str]], task: str, ids: Any, message: str
) -> None:
    add_superglue(task, ids)
    assert re.search(message, refusal("--suite", "superglue", "--allow-missing"))


def test_superglue_zip_without_all_predictions_is_refused(
    refusal: Callable[..., str], add_superglue: Callable[..., list[str]]
) -> None:
    add_superglue("wsc")
    message = refusal("--suite", "superglue")
    assert "9 of 10 files" in message
    assert "MultiRC.jsonl: run of multirc not found" in message
