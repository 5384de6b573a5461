"""The files that the servers of GLUE and SuperGLUE take, at the top of a zip, from the predictions of runs.

GLUE has one file per test set, tab-separated, with the header `index prediction` and rows numbered from 0. SuperGLUE
has one JSON object per row, with its `idx` and `label`; MultiRC has one per paragraph, with its questions and answers.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from harness.errors import UserError, boundary
from harness.facts.prediction_files import prediction_path
from harness.facts.records import RunRecord
from harness.facts.tasks import load_task

_NO_LABELS: Mapping[str, str] = MappingProxyType({})


class ServerFile(NamedTuple):
    """One file of the zip."""

    name: str
    task: str
    """The task whose models predict it."""
    split: str
    """The split that these predictions have in a record of the task."""
    rows: int
    """Rows of the server's test set."""
    form: Literal["number", "name", "value", "answer"]
    """The server's form of a prediction: a class number, a label's name, a value from 0 to 5, or an answer's text."""
    constant: str | int | None
    """Prediction for a row that has none: the most frequent training label, or the middle of the scale."""
    labels: Mapping[str, str] = _NO_LABELS
    """The server's name of each label, where it is not the task's."""
    is_nested: bool = False
    """Rows are named by paragraph, question and answer."""


_GLUE = (
    ServerFile("CoLA.tsv", "cola", "test", 1063, "number", 1),
    ServerFile("SST-2.tsv", "sst2", "test", 1821, "number", 1),
    ServerFile("MRPC.tsv", "mrpc", "test", 1725, "number", 1),
    ServerFile("STS-B.tsv", "stsb", "test", 1379, "value", "2.5"),
    ServerFile("MNLI-m.tsv", "mnli", "test_matched", 9796, "name", "entailment"),
    ServerFile("MNLI-mm.tsv", "mnli", "test_mismatched", 9847, "name", "entailment"),
    ServerFile("QNLI.tsv", "qnli", "test", 5463, "name", "entailment"),
    ServerFile("QQP.tsv", "qqp", "test", 390_965, "number", 0),
    ServerFile("RTE.tsv", "rte", "test", 3000, "name", "entailment"),
    ServerFile("WNLI.tsv", "wnli", "test", 146, "number", 0),
    ServerFile("AX.tsv", "mnli", "ax.test", 1104, "name", "entailment"),
)
"""The files of the sample submission and the FAQ (gluebenchmark.com/faq); the server refuses a zip without one."""

_SUPERGLUE = (
    ServerFile("BoolQ.jsonl", "boolq", "test", 3245, "name", "true", {"False": "false", "True": "true"}),
    ServerFile("CB.jsonl", "cb", "test", 250, "name", "contradiction"),
    ServerFile("COPA.jsonl", "copa", "test", 500, "number", 0),
    ServerFile("MultiRC.jsonl", "multirc", "test", 9693, "number", None, is_nested=True),
    ServerFile("ReCoRD.jsonl", "record", "test", 10_000, "answer", None),
    ServerFile("RTE.jsonl", "superglue_rte", "test", 3000, "name", "entailment"),
    ServerFile("WiC.jsonl", "wic", "test", 1400, "name", "false"),
    ServerFile("WSC.jsonl", "wsc", "test", 146, "name", "False", {"false": "False", "true": "True"}),
    ServerFile("AX-b.jsonl", "superglue_rte", "axb.test", 1104, "name", "entailment"),
    ServerFile("AX-g.jsonl", "superglue_rte", "axg.test", 356, "name", "entailment"),
)
"""File names and forms of labels as jiant writes them (scripts/benchmarks/benchmarks.py and tasks/lib); numbers of rows
from the data set's card on the Hub."""

SERVER_FILES: dict[str, tuple[ServerFile, ...]] = {"glue": _GLUE, "superglue": _SUPERGLUE}
"""All files of the zip by suite."""


class FilePredictions(NamedTuple):
    """The predictions for one file of the zip."""

    file: ServerFile
    run_id: str | None
    by_row: dict[int, str | int]
    """Predictions in the server's form, by row number."""
    ids: dict[int, Any]
    """The server's name of a row where that is no number, by row number."""
    problem: str | None
    """The reason why predictions are missing."""

    @property
    def missing(self) -> int:
        """Number of rows without a prediction."""
        return self.file.rows - len(self.by_row)

    @property
    def is_left_out(self) -> bool:
        """True when there is no constant for the missing rows."""
        return self.missing > 0 and self.file.constant is None

    @property
    def text(self) -> str:
        """The content of the file; missing predictions are its constant."""
        predictions = [self.by_row.get(row, self.file.constant) for row in range(self.file.rows)]
        return file_text(self.file, predictions, [self.ids.get(row) for row in range(self.file.rows)])


def predictions_of(file: ServerFile, run: RunRecord | str, results: Path) -> FilePredictions:
    """The predictions of a run for one file; `run` may be the reason why there is none.

    Raises:
        UserError: the run's file of predictions cannot be read, or has rows or labels that the server does not have.
    """
    import pyarrow as pa

    if isinstance(run, str):
        return FilePredictions(file, None, {}, {}, run)
    if file.split not in run.prediction_files:
        return FilePredictions(file, run.run_id, {}, {}, f"the run {run.run_id} has no predictions for {file.split!r}")
    path = prediction_path(run, results, file.split)
    if not path.is_file():
        return FilePredictions(file, run.run_id, {}, {}, f"file not found: {path}; run it again with --overwrite")
    with boundary(f"{path}: not a readable file of predictions", pa.ArrowException, LookupError, TypeError, ValueError):
        by_row, ids = _read_predictions(file, run, path)
    problem = f"{path} has {len(by_row):,} of {file.rows:,} rows" if len(by_row) < file.rows else None
    return FilePredictions(file, run.run_id, by_row, ids, problem)


def _read_predictions(
    file: ServerFile, run: RunRecord, path: Path
) -> tuple[dict[int, str | int], dict[int, dict[str, int]]]:
    """Predictions in the server's form, and names of rows that are no numbers, by row number.

    Raises:
        UserError: the file cannot be read, or has rows or labels that the server does not have.
    """
    import pyarrow.parquet as pq

    names = {"row", "prediction", "candidate", "id_idx"}.intersection(pq.read_schema(path).names)
    columns = pq.read_table(path, columns=list(names)).to_pydict()
    rows, predicted, ids = columns["row"], columns["prediction"], columns.get("id_idx", [])
    if file.form == "answer":
        try:
            answers = answers_by_query(predicted, columns.get("candidate", []), ids)
        except ValueError as error:
            raise UserError(f"{path}: {error}. Train with the registered task {file.task}.") from None
        rows, predicted = list(answers), list(answers.values())
    elif ids and not file.is_nested:
        rows = ids  # the server's own number
    if len(set(rows)) != len(rows) or not set(rows) <= set(range(file.rows)):
        raise UserError(
            f"{path}: expected {file.rows:,} different rows for the server's {file.name}, got {len(rows):,}, numbered "
            f"up to {max(rows)}. The run {run.run_id} did not predict the server's test set."
        )
    if file.is_nested and (fault := nesting_fault(ids, len(rows))):
        raise UserError(f"{path}: {fault}. Train with the registered task {file.task}, whose predictions have it.")
    if file.form == "answer":
        return dict(zip(rows, predicted, strict=True)), {}
    if file.form == "value":
        return {row: f"{min(5.0, max(0.0, value)):.4f}" for row, value in zip(rows, predicted, strict=True)}, {}
    texts: dict[str, str | int] = dict(file.labels)
    if not texts:
        labels = list(load_task(file.task).labels or {})
        texts = {label: number if file.form == "number" else label for number, label in enumerate(labels)}
    if unknown := set(predicted) - set(texts):
        raise UserError(f"{path}: unknown label {sorted(unknown)[0]!r}; the server's labels: {', '.join(texts)}.")
    by_row = {row: texts[label] for row, label in zip(rows, predicted, strict=True)}
    return by_row, dict(zip(rows, ids, strict=True)) if file.is_nested else {}


def zip_bytes(texts: Mapping[str, str]) -> bytes:
    """The zip with these texts by file name: the same bytes for the same texts."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in texts.items():
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, text)
    return buffer.getvalue()


def file_text(file: ServerFile, predictions: Sequence[str | int | None], ids: Sequence[Any]) -> str:
    """The content of a file with these predictions in row order; ids: the names of rows of a nested one."""
    if file.is_nested:
        objects = _nested(predictions, ids)
    elif file.name.endswith(".tsv"):
        lines = [f"{row}\t{prediction}" for row, prediction in enumerate(predictions)]
        return "\n".join(["index\tprediction", *lines, ""])
    else:
        objects = [{"idx": row, "label": prediction} for row, prediction in enumerate(predictions)]
    return "".join(f"{json.dumps(each)}\n" for each in objects)


def answers_by_query(predictions: Sequence[str], candidates: Sequence[str], ids: Sequence[Any]) -> dict[int, str]:
    """The text of each query's answer, by the server's number of the query, from predictions of all candidates.

    Raises:
        ValueError: a row has no number, or a query has no answer or several.
    """
    queries = [each["query"] for each in ids if isinstance(each, dict) and isinstance(each.get("query"), int)]
    if not len(queries) == len(predictions) == len(candidates):
        raise ValueError("no columns candidate and id_idx with passage and query of each row")
    answers: dict[int, str] = {}
    for query, prediction, candidate in zip(queries, predictions, candidates, strict=True):
        if prediction == "right":
            if query in answers:
                raise ValueError(f"query {query} has several answers")
            answers[query] = candidate
    if missing := set(queries) - set(answers):
        raise ValueError(f"query {min(missing)} has no answer")
    return answers


def nesting_fault(ids: Sequence[Any], rows: int) -> str:
    """The reason why these do not name that many answers by paragraph, question and answer; empty if they do."""
    keys = ("paragraph", "question", "answer")
    if len(ids) != rows or any(not isinstance(each, dict) or set(each) != set(keys) for each in ids):
        return "no column id_idx with paragraph, question and answer of each row"
    if len({tuple(each[key] for key in keys) for each in ids}) != rows:
        return "id_idx names an answer twice"
    return ""


def _nested(predictions: Sequence[Any], ids: Sequence[dict[str, int]]) -> list[dict[str, Any]]:
    """An object per paragraph, in the order of the first rows."""
    paragraphs: dict[int, dict[int, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for prediction, each in zip(predictions, ids, strict=True):
        paragraphs[each["paragraph"]][each["question"]].append({"idx": each["answer"], "label": prediction})
    return [
        {"idx": number, "passage": {"questions": [{"idx": q, "answers": rows} for q, rows in questions.items()]}}
        for number, questions in paragraphs.items()
    ]
