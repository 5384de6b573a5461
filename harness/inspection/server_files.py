"""The files that the servers of GLUE and SuperGLUE take, at the top of a zip.

GLUE has one file per test set, tab-separated, with the header `index prediction` and rows numbered from 0. SuperGLUE
has one JSON object per row, with its `idx` and `label`; MultiRC has one per paragraph, with its questions and answers.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

_NO_LABELS: Mapping[str, str | int] = MappingProxyType({})


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
    labels: Mapping[str, str | int] = _NO_LABELS
    """The server's form of each label, where it is not that of `form`."""
    is_nested: bool = False
    """Rows are named by paragraph, question and answer."""


_GLUE = (
    ServerFile("CoLA.tsv", "cola", "test", 1063, "number", "1"),
    ServerFile("SST-2.tsv", "sst2", "test", 1821, "number", "1"),
    ServerFile("MRPC.tsv", "mrpc", "test", 1725, "number", "1"),
    ServerFile("STS-B.tsv", "stsb", "test", 1379, "value", "2.5"),
    ServerFile("MNLI-m.tsv", "mnli", "test_matched", 9796, "name", "entailment"),
    ServerFile("MNLI-mm.tsv", "mnli", "test_mismatched", 9847, "name", "entailment"),
    ServerFile("QNLI.tsv", "qnli", "test", 5463, "name", "entailment"),
    ServerFile("QQP.tsv", "qqp", "test", 390_965, "number", "0"),
    ServerFile("RTE.tsv", "rte", "test", 3000, "name", "entailment"),
    ServerFile("WNLI.tsv", "wnli", "test", 146, "number", "0"),
    ServerFile("AX.tsv", "mnli", "ax.test", 1104, "name", "entailment"),
)
"""The files of the sample submission and the FAQ (gluebenchmark.com/faq); the server refuses a zip without one."""

_FALSE_TRUE = {"false": "false", "true": "true"}
_TWO_NAMES = {"entailment": "entailment", "not_entailment": "not_entailment"}
_BOOLQ = {"False": "false", "True": "true"}
_CB = {name: name for name in ("entailment", "contradiction", "neutral")}
_WSC = {"false": "False", "true": "True"}

_SUPERGLUE = (
    ServerFile("BoolQ.jsonl", "boolq", "test", 3245, "name", "true", _BOOLQ),
    ServerFile("CB.jsonl", "cb", "test", 250, "name", "contradiction", _CB),
    ServerFile("COPA.jsonl", "copa", "test", 500, "number", 0, {"choice1": 0, "choice2": 1}),
    ServerFile("MultiRC.jsonl", "multirc", "test", 9693, "number", None, {"false": 0, "true": 1}, is_nested=True),
    ServerFile("ReCoRD.jsonl", "record", "test", 10_000, "answer", None),
    ServerFile("RTE.jsonl", "superglue_rte", "test", 3000, "name", "entailment", _TWO_NAMES),
    ServerFile("WiC.jsonl", "wic", "test", 1400, "name", "false", _FALSE_TRUE),
    ServerFile("WSC.jsonl", "wsc", "test", 146, "name", "False", _WSC),
    ServerFile("AX-b.jsonl", "superglue_rte", "axb.test", 1104, "name", "entailment", _TWO_NAMES),
    ServerFile("AX-g.jsonl", "superglue_rte", "axg.test", 356, "name", "entailment", _TWO_NAMES),
)
"""File names and forms of labels as jiant writes them (scripts/benchmarks/benchmarks.py and tasks/lib); numbers of rows
from the data set's card on the Hub."""

SERVER_FILES: dict[str, tuple[ServerFile, ...]] = {"glue": _GLUE, "superglue": _SUPERGLUE}
"""All files of the zip by suite."""


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
