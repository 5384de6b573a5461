"""Records of leaderboards, and readers of the tables on their Markdown page."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from support.records import finished_record

from harness.facts.packing import pack_array
from harness.facts.records import RunRecord
from harness.metrics.registry import METRICS
from harness.reports.markdown import render_markdown
from harness.reports.standings import build_leaderboard

BERT, ELECTRA = "google-bert/bert-base-cased", "google/electra-small-discriminator"
COMMIT = "cd5ef92a9fb2f889e972770a36d4ed042daf221e"
SHAPES: dict[str, tuple[list[str], list[str], list[str]]] = {
    "cola": (["matthews_correlation", "accuracy"], ["matthews_correlation"], ["validation"]),
    "mrpc": (["accuracy", "f1"], ["f1", "accuracy"], ["validation"]),
    "qqp": (["accuracy", "f1"], ["f1", "accuracy"], ["validation"]),
    "stsb": (["pearson", "spearman", "rmse"], ["pearson", "spearman"], ["validation"]),
    "mnli": (["accuracy"], ["accuracy"], ["validation_matched", "validation_mismatched"]),
    "imdb": (["accuracy", "f1_macro"], ["accuracy"], ["test"]),
    "ratings": (["rmse"], ["rmse"], ["validation"]),
    "emotions": (["f1_macro", "hamming_loss"], ["f1_macro"], ["validation"]),
    "ax": (["matthews_correlation"], ["matthews_correlation"], []),
}
"""The metrics, main metrics and reported splits of each task; other tasks report accuracy on validation."""
GLUE = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
CONSTANT_SCORES = {
    "f1": 0.8122,
    "accuracy": 0.6838,
    "f1_macro": 0.33,
    "matthews_correlation": 0.0,
    "rmse": 1.5,
}


def record(
    task: str = "mrpc",
    values: float | dict[str, float | None] = 0.8,
    *,
    model: str = BERT,
    commit: str | None = COMMIT,
    facts: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    **fields: Any,
) -> RunRecord:
    """A run that scored `values` on every reported split; one number is the value of every metric."""
    metrics, main_metrics, report = SHAPES.get(task, (["accuracy"], ["accuracy"], ["validation"]))
    shape = dict(metrics=metrics, main_metrics=main_metrics, report=report, suite="glue" if task in GLUE else None)
    if task == "emotions":
        shape |= {"problem_type": "multi_label_classification", "labels": ["joy", "anger", "fear"]}
    scores = values if isinstance(values, dict) else dict.fromkeys(metrics, values)
    rows = {"train": 3668, "validation": 408}
    constant = {name: CONSTANT_SCORES.get(name) for name in metrics}
    facts = {**shape, **(facts or {})}
    data = {"rows": rows, "full_rows": rows, **(data or {})}
    fields = {"baseline": dict.fromkeys(facts["report"], constant), **fields}
    return finished_record(task, scores, model=model, commit=commit, facts=facts, data=data, **fields)


def record_with_predictions(task: str, quality: float, *, seed: int = 1, rows: int = 200, **changes: Any) -> RunRecord:
    """A run with its prediction of each row: correct where its draw is below `quality`, with the metrics of these."""
    metrics, _, report = SHAPES.get(task, (["accuracy"], ["accuracy"], ["validation"]))
    outcome: dict[str, dict[str, Any]] = {"predictions": {}, "gold": {}, "metrics": {}}
    for split in report:
        ease = np.random.default_rng(len(split)).random(rows)  # some rows are easier than others, for all models
        random = np.random.default_rng([seed, int(1000 * quality), len(split)])
        gold: np.ndarray = np.arange(rows) % 3 % 2
        predictions = np.where(0.6 * ease + 0.4 * random.random(rows) < quality, gold, 1 - gold)
        if "rmse" in metrics:
            gold = np.arange(rows) % 11 / 2
            predictions = gold + random.normal(size=rows) * (1.1 - quality)
        elif "hamming_loss" in metrics:
            gold, predictions = (np.stack([one, 1 - one, one], axis=1) for one in (gold, predictions))
        outcome["predictions"][split], outcome["gold"][split] = pack_array(predictions), pack_array(gold)
        outcome["metrics"][split] = {name: METRICS[name].value(predictions, gold) for name in metrics}
    counts = {"train": 3668, **dict.fromkeys(report, rows)}
    return record(task, seed=seed, **{"data": {"rows": counts, "full_rows": counts}, **outcome, **changes})


def failed_record(task: str = "mrpc", **changes: Any) -> RunRecord:
    """A run that failed before its data and model were read."""
    unknown = dict.fromkeys(["data", "model", "selected_epoch", "rows_per_second", "peak_bytes", "cost", "environment"])
    outcome = {"status": "failed", "error": "RuntimeError: out of memory", "metrics": {}, "baseline": {}}
    return record(task, **changes).model_copy(update={**unknown, **outcome})


def scoreless_record(status: str, task: str = "mrpc", **changes: Any) -> RunRecord:
    """A run that read its data but has no score."""
    return record(task, status=status, error="the loss was nan", metrics={}, baseline={}, **changes)


def child_record(seed: int, value: float, parent_group_key: str = "parent-seed0") -> RunRecord:
    """A run that started from another task's run of the same seed."""
    spec = {"parent": f"{parent_group_key}-of-seed{seed}"}
    recipe = {"init_from": "mnli"}
    return record("rte", value, seed=seed, recipe=recipe, spec=spec, parent_group_key=parent_group_key)


def whole_suite(score: float = 0.8, **changes: Any) -> list[RunRecord]:
    return [record(task, score, **changes) for task in GLUE]


def sample() -> list[RunRecord]:
    """Records that use every feature of the page."""
    scores = dict(cola=0.61, sst2=0.921, mrpc=0.84, stsb=0.88, qqp=0.9, mnli=0.841, qnli=0.905, rte=0.66, wnli=0.5634)
    records = []
    for seed in (42, 43, 44):
        for number, (task, score) in enumerate(scores.items()):
            status = "collapsed" if task == "wnli" else "ok"
            offset = 0.0 if task == "wnli" else 0.001 * seed - 0.0003 * number
            records.append(record(task, score + offset, seed=seed, status=status))
        records.append(record("mrpc", {"accuracy": 0.8 + seed / 1000, "f1": 0.86}, model=ELECTRA, seed=seed))
        records.append(record("ax", model=BERT, seed=seed, metrics={}, baseline={}, trained_by="bert-seed42"))
        for recipe in ({"learning_rate": 5e-5, "epochs": 2}, {"protocol": "holdout"}, {"train_rows": 100}):
            facts = {"report": ["validation_holdout"]} if "protocol" in recipe else {}
            data = {"fingerprint": str(recipe)}
            records.append(record("mrpc", 0.7, seed=seed, recipe=recipe, facts=facts, data=data))
        records.append(record_with_predictions("qnli", 0.9, model="org/large", seed=seed))
        records.append(record_with_predictions("qnli", 0.85, model="org/base", seed=seed))
        records.append(record_with_predictions("cola", 0.8, model="org/large", seed=seed))
    records.append(record_with_predictions("qnli", 0.6, model="org/small"))
    records.append(record_with_predictions("cola", 0.7, model="org/small"))
    records.append(record_with_predictions("stsb", 0.7, model="org/small"))
    records.append(scoreless_record("diverged", model=ELECTRA, seed=45))
    records.append(failed_record("rte", model=ELECTRA, seed=42))
    part = {"is_partial": True, "fingerprint": "part", "rows": {"train": 100, "validation": 408}}
    records.append(record("sst2", 0.99, seed=42, spec={"data": "files"}, data=part))
    records.append(record("stsb", {"pearson": None, "spearman": 0.2}, model=ELECTRA, status="collapsed"))
    every_split = {split: {"loss": 0.2, "accuracy": 0.9, "f1_macro": 0.89} for split in ("test", "train", "validation")}
    rows = {"train": 25000, "validation": 12500, "test": 12500}
    records.append(record("imdb", metrics=every_split, default={"select": "best"}, data={"rows": rows}))
    folder = "/models/a|b<script>*x*_y_`z`[1]\n"
    for version, score in ((1, 0.9), (2, 0.7312)):
        spec = {"revision": "sha256:0123456789", "task_version": version}
        records.append(record("ratings", score, model=folder, spec=spec))
    return records


def page(records: list[RunRecord]) -> str:
    """The Markdown page of these records."""
    return render_markdown(build_leaderboard(records))


def table(markdown: str, number: int = 0) -> list[dict[str, str]]:
    """The lines of a table of the page, as cells by title."""
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    head, _, *body = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in tables[number].splitlines())
    return [dict(zip(head, cells, strict=True)) for cells in body]


def table_with(markdown: str, title: str) -> list[dict[str, str]]:
    """The page's first table with a column of that title."""
    count = len(re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE))
    tables = (table(markdown, number) for number in range(count))
    return next(lines for lines in tables if title in lines[0])


def cell(records: list[RunRecord], title: str = "MRPC F1/accuracy", line: int = 0) -> str:
    """A cell of the main table of these records, without the bold of a best score."""
    return table(page(records))[line][title].replace("**", "")
