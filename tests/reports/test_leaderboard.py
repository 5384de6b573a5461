"""The leaderboard: who is averaged with whom, what each figure is, and how it reads.

After a wanted change of the page, `python tests/test_leaderboard.py` writes tests/golden/leaderboard.md anew.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from support.records import finished_record

from harness.commands.leaderboard import main, print_leaderboard, write_leaderboard
from harness.errors import UserError
from harness.facts.packing import pack_array
from harness.facts.records import RunRecord, record_path, write_record
from harness.metrics.registry import METRICS
from harness.reports.data_files import render_csv, render_json
from harness.reports.markdown import render_markdown
from harness.reports.standings import build_leaderboard
from harness.stats.uncertainty import t_interval, wilson

GOLDEN = Path(__file__).parent / "golden" / "leaderboard.md"
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


def table(markdown: str, number: int = 0) -> list[dict[str, str]]:
    """The page's table of that number: by title, the cells of each line."""
    tables = re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE)
    head, _, *body = ([cell.strip() for cell in line[1:-1].split(" | ")] for line in tables[number].splitlines())
    return [dict(zip(head, cells, strict=True)) for cells in body]


def table_with(markdown: str, title: str) -> list[dict[str, str]]:
    """The page's first table that has a column of that title."""
    count = len(re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE))
    return next(found for number in range(count) if title in (found := table(markdown, number))[0])


def cell(records: list[RunRecord], title: str = "MRPC F1/accuracy", line: int = 0) -> str:
    """What the main table of these records says there, without the bold of a best score."""
    return table(render_markdown(build_leaderboard(records)))[line][title].replace("**", "")


def whole_suite(score: float = 0.8, **changes: Any) -> list[RunRecord]:
    return [record(task, score, **changes) for task in GLUE]


def sample() -> list[RunRecord]:
    """Records that show everything a page can hold."""
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


def test_page_is_as_the_golden_file() -> None:
    assert render_markdown(build_leaderboard(sample(), unreadable=1, resamples=400)) == GOLDEN.read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("render", [render_markdown, render_csv, render_json], ids=lambda render: render.__name__)
def test_order_of_records_does_not_matter(render: Any) -> None:
    records = sample()
    expected = render(build_leaderboard(records, resamples=400))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert render(build_leaderboard(records, resamples=400)) == expected


def test_order_of_keys_in_a_record_does_not_matter() -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return value

    records = sample()
    turned = [RunRecord.model_validate(reversed_keys(run.model_dump(mode="json"))) for run in records]
    for render in (render_markdown, render_csv, render_json):
        assert render(build_leaderboard(turned, resamples=400)) == render(build_leaderboard(records, resamples=400))


def test_mean_and_deviation_over_seeds_are_numpys() -> None:
    f1, accuracy = [0.80123, 0.84456, 0.79789], [0.7, 0.75, 0.71]
    pairs = list(enumerate(zip(f1, accuracy, strict=True)))
    records = [record(values={"f1": a, "accuracy": b}, seed=seed) for seed, (a, b) in pairs]
    assert cell(records) == f"{100 * np.mean(f1):.1f}/{100 * np.mean(accuracy):.1f} (3)"
    scores = (np.array(f1) + np.array(accuracy)) / 2
    (row,) = json.loads(render_json(build_leaderboard(records)))["rows"]
    assert row["tasks"]["mrpc"]["score_std"] == pytest.approx(np.std(scores, ddof=1), abs=1e-15)
    lines = pd.read_csv(io.StringIO(render_csv(build_leaderboard(records))))
    lines = lines[lines["model"] == BERT].head(2).set_index("metric")
    assert lines.loc["f1", "mean"] == pytest.approx(np.mean(f1), abs=1e-15)
    assert lines.loc["f1", "std"] == pytest.approx(np.std(f1, ddof=1), abs=1e-15)
    assert lines.loc["f1", "baseline"] == CONSTANT_SCORES["f1"]
    assert lines.loc["f1", "seeds"] == "0 1 2"


def test_one_run_has_no_deviation() -> None:
    assert cell([record()]) == "80.0/80.0 (1)"


def test_unbounded_metric_is_not_a_percentage_and_lower_is_better() -> None:
    records = [record("ratings", 0.71239), record("ratings", 0.9, model=ELECTRA)]
    first, second, constant = table(render_markdown(build_leaderboard(records)))
    assert first["ratings RMSE"] == "**0.712** (1)"
    assert second["ratings RMSE"] == "0.900 (1)"
    assert constant["ratings RMSE"] == "1.500"


def test_metric_of_evaluate_is_shown_as_it_is_and_not_compared() -> None:
    facts = {"metrics": ["perplexity"], "main_metrics": ["perplexity"]}
    assert cell([record("lm", {"perplexity": 12.3456}, facts=facts)], "lm perplexity") == "12.346 (1)"
    assert "**" not in render_markdown(build_leaderboard([record("lm", {"perplexity": 12.3456}, facts=facts)]))


def test_small_negative_is_shown_without_a_sign() -> None:
    assert cell([record("cola", -0.0001)], "CoLA Matthews") == "0.0 (1)"


def test_titles_name_metrics_and_splits() -> None:
    (line, _) = table(
        render_markdown(build_leaderboard([record(task) for task in ("imdb", "mnli", "mrpc", "rte", "ax")]))
    )
    expected = ["MRPC F1/accuracy", "MNLI accuracy m/mm", "RTE accuracy", "ax", "imdb accuracy test"]
    assert list(line) == ["Model", "Recipe", "GLUE", "GLUE-8", *expected]


def test_columns_of_the_average_need_a_task_of_the_suite() -> None:
    assert list(table(render_markdown(build_leaderboard([record("imdb")])))[0]) == [
        "Model",
        "Recipe",
        "imdb accuracy test",
    ]


def test_glue_average_first_averages_within_a_task() -> None:
    records = whole_suite(0.5)
    records[2] = record("mrpc", {"f1": 0.9, "accuracy": 0.7})
    matched = {"validation_matched": {"accuracy": 0.8}, "validation_mismatched": {"accuracy": 0.6}}
    records[5] = record("mnli", metrics=matched)
    records[8] = record("wnli", 0.2)
    line = table(render_markdown(build_leaderboard(records)))[0]
    assert line["GLUE"] == f"**{100 * (0.5 * 6 + 0.8 + 0.7 + 0.2) / 9:.1f}**"
    assert line["GLUE-8"] == f"**{100 * (0.5 * 6 + 0.8 + 0.7) / 8:.1f}**"


def test_glue_average_needs_every_task() -> None:
    line = table(render_markdown(build_leaderboard(whole_suite()[:8])))[0]
    assert (line["GLUE"], line["GLUE-8"]) == ("–", "**80.0**")
    undefined = [*whole_suite()[1:], record("cola", {"matthews_correlation": None})]
    assert table(render_markdown(build_leaderboard(undefined)))[0]["GLUE"] == "–"


def test_task_of_another_suite_does_not_enter_the_average() -> None:
    records = [*whole_suite()[:8], record("wnli", facts={"suite": None})]
    assert table(render_markdown(build_leaderboard(records)))[0]["GLUE"] == "–"


def test_average_carries_the_marks_of_its_tasks() -> None:
    part = record("rte", data={"is_partial": True})
    records = [*(run for run in whole_suite() if run.spec.task != "rte"), part]
    assert cell(records, "GLUE") == "80.0 [p]"
    (row,) = json.loads(render_json(build_leaderboard(records)))["rows"]
    assert row["average_marks"] == {"GLUE": ["p"], "GLUE-8": ["p"]}
    assert row["best_averages"] == ["GLUE", "GLUE-8"]


def test_a_task_says_which_rows_are_missing() -> None:
    part = record("rte", data={"is_partial": True, "rows": {"train": 2000, "validation": 408}})
    assert "Partial data: train 2,000 of 3,668 rows." in render_markdown(build_leaderboard([part, record("mrpc")]))


@pytest.mark.parametrize(
    "mark, changes",
    [
        ("c", {"status": "collapsed"}),
        ("p", {"data": {"is_partial": True}}),
        ("r", {"recipe": {"train_rows": 100}}),
        (
            "h",
            {
                "recipe": {"protocol": "holdout", "select": "best"},
                "facts": {"report": ["validation_holdout"]},
            },
        ),
        ("s", {"recipe": {"select": "best"}}),
        ("s", {"recipe": {"threshold": "validation"}}),
        ("t", {"spec": {"test_mode": True}}),
    ],
)
def test_marks_stand_after_the_cell_and_are_explained(mark: str, changes: dict[str, Any]) -> None:
    page = render_markdown(build_leaderboard([record(**changes)]))
    shown = next(value for title, value in table(page)[0].items() if title.startswith("MRPC"))
    assert shown.endswith(f"(1) [{mark}]")
    assert re.findall(r"^- \\\[(.)\\\]", page, flags=re.MULTILINE) == [mark]


def test_selection_on_a_split_that_is_not_reported_has_no_mark() -> None:
    assert cell([record("imdb", recipe={"select": "best"})], "imdb accuracy test") == "80.0 (1)"


def test_page_without_marks_has_no_legend() -> None:
    assert "\\[" not in render_markdown(build_leaderboard([record()]))


def test_collapsed_run_is_averaged_and_marked() -> None:
    records = [record(values=0.9, seed=1), record(values=0.7, seed=2, status="collapsed")]
    assert cell(records) == "80.0/80.0 (2) [c]"
    assert "1 of 2 collapsed (seed 2)" in render_markdown(build_leaderboard(records))


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_run_without_a_score_is_counted_not_averaged(status: str) -> None:
    records = [record(seed=1), record(seed=2), scoreless_record(status, seed=3)]
    assert cell(records) == "80.0/80.0 (2) [d]"
    assert f"1 of 3 {status} (seed 3)" in render_markdown(build_leaderboard(records))


def test_only_diverged_runs_have_a_dash() -> None:
    assert cell([scoreless_record("diverged")]) == "– [d]"
    (line, *_) = csv.DictReader(io.StringIO(render_csv(build_leaderboard([scoreless_record("diverged")]))))
    assert (line["task"], line["mean"], line["n"], line["marks"]) == ("mrpc", "", "0", "d")


def test_run_that_failed_before_its_model_was_known_is_counted_with_its_like() -> None:
    records = [record(seed=1), failed_record(seed=2)]
    assert cell(records) == "80.0/80.0 (1) [d]"
    assert len(build_leaderboard(records).rows) == 1


def test_undefined_metric_makes_the_mean_undefined_and_is_noted() -> None:
    records = [
        record("stsb", {"pearson": 0.9, "spearman": 0.8}),
        record("stsb", {"pearson": None, "spearman": 0.6}, seed=2),
    ]
    assert cell(records, "STS-B Pearson/Spearman") == "–/70.0 (2)"
    assert "Pearson on validation is undefined (seed 2)" in render_markdown(build_leaderboard(records))


def test_variants_are_rows_of_their_own() -> None:
    recipes: list[dict[str, Any]] = [
        {},
        {"epochs": 2, "learning_rate": 5e-5},
        {"protocol": "holdout"},
        {"train_rows": 100},
    ]
    board = build_leaderboard([record(recipe=recipe, seed=seed) for recipe in recipes for seed in (1, 2)])
    assert {row.variant for row in board.rows} == {
        "default",
        "learning_rate=5e-05, epochs=2",
        "protocol=holdout",
        "train_rows=100",
    }
    assert all(len(group.scored) == 2 for group in board.groups.values())


def _child(seed: int, value: float, like: str = "parent-seed0", **fields: Any) -> RunRecord:
    spec = {"parent": f"{like}-of-seed{seed}"}
    return record("rte", value, seed=seed, recipe={"init_from": "mnli"}, spec=spec, parent_group_key=like, **fields)


def test_runs_that_start_from_another_task_stand_in_a_row_of_their_own() -> None:
    board = build_leaderboard(
        [*(record("rte", 0.6, seed=seed) for seed in (1, 2)), *(_child(seed, 0.8) for seed in (1, 2))]
    )
    scores = {row.variant: board.groups[row, "rte"].score.mean for row in board.rows}
    assert scores == {"default": pytest.approx(0.6), "init_from=mnli": pytest.approx(0.8)}
    assert [len(group.scored) for group in board.groups.values()] == [2, 2]
    assert board.apart == ()


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"data": {"is_partial": True}}, "partial data"),
        ({"recipe": {"train_rows": 100}}, "a reduced number of rows"),
        ({}, None),
    ],
    ids=["partial", "reduced", "whole"],
)
def test_runs_that_start_from_ones_of_less_data_are_noted(changes: dict[str, Any], told: str | None) -> None:
    parent = record("mnli", run_id="parent-seed0-of-seed1", **changes)
    notes = [note for note in build_leaderboard([parent, _child(1, 0.6)]).notes if "started" in note]
    row = f"RTE, {BERT} (init_from=mnli)"
    assert notes == ([f"{row}: started from runs of MNLI that were trained on {told}."] if told else [])


def test_runs_that_start_from_runs_of_another_recipe_are_never_averaged() -> None:
    board = build_leaderboard([_child(1, 0.6), _child(2, 0.6), _child(3, 0.9, "another-seed0")])
    ((group, reason),) = board.apart
    assert [run.spec.seed for run in group.runs] == [3]
    assert reason == "started from runs like another-seed0, not parent-seed0"


def test_commits_of_one_model_are_rows_of_their_own() -> None:
    board = build_leaderboard([record(), record(commit="0123456789abcdef", seed=2), record(model=ELECTRA)])
    labels = [row.label for row in board.rows]
    assert sorted(labels) == [f"{BERT}@01234567", f"{BERT}@{COMMIT[:8]}", ELECTRA]


def test_folder_is_called_by_its_last_part() -> None:
    folder = dict(commit=None, spec={"revision": "sha256:abcdef0123"})
    assert build_leaderboard([record(model="/home/me/models/mine/", **folder)]).rows[0].label == "mine"


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"spec": {"task_version": 2}, "seed": 9}, "task version 1, not 2"),
        ({"spec": {"task_fingerprint": "d2"}, "seed": 9}, "another definition of the task"),
        ({"data": {"fingerprint": "others"}, "seed": 9}, "other data"),
        ({"default": {"epochs": 5}, "seed": 9}, "recipe with epochs=3, not epochs=5"),
        ({"spec": {"revision": COMMIT}, "seed": 9}, f"asked for as revision main, not {COMMIT}"),
    ],
)
def test_groups_that_differ_in_more_than_the_seed_are_shown_apart(changes: dict[str, Any], reason: str) -> None:
    page = render_markdown(build_leaderboard([record(values=0.5, seed=1), record(values=0.9, **changes)]))
    assert table(page)[0]["MRPC F1/accuracy"].startswith("**90.0/90.0** (1)")
    (apart,) = table_with(page, "Why")
    assert apart["Why"] == reason
    assert apart["Score"].startswith("50.0/50.0 (1)")


def test_partial_data_is_shown_apart_from_the_full() -> None:
    part = {"is_partial": True, "fingerprint": "part", "rows": {"train": 100, "validation": 408}}
    records = [record(values=0.6)] + [record(values=0.9, seed=seed, data=part) for seed in (1, 2, 3)]
    page = render_markdown(build_leaderboard(records))
    assert table(page)[0]["MRPC F1/accuracy"] == "**60.0/60.0** (1)"
    assert table_with(page, "Why")[0]["Why"] == "partial data (508 rows, not 4,076)"
    assert table_with(page, "Why")[0]["Score"] == "90.0/90.0 (3) [p]"


def test_run_that_failed_under_another_recipe_is_shown_apart() -> None:
    page = render_markdown(build_leaderboard([record(), failed_record(seed=9, default={"epochs": 5})]))
    (apart,) = table_with(page, "Why")
    assert apart["Why"] == "broke off before the data was read; recipe with epochs=5, not epochs=3"
    assert apart["Score"] == "– [d]"


def test_more_runs_come_before_later_ones() -> None:
    old = [record(values=0.6, seed=seed) for seed in (1, 2)]
    assert cell([*old, record(values=0.9, seed=9, default={"epochs": 5})]) == "60.0/60.0 (2)"


def test_older_task_version_alone_in_its_cell_is_marked_and_not_best() -> None:
    records = [record(values=0.9), record(values=0.8, model=ELECTRA, spec={"task_version": 2})]
    lines = {line["Model"]: line["MRPC F1/accuracy"] for line in table(render_markdown(build_leaderboard(records)))}
    assert lines[BERT] == "90.0/90.0 (1) [v]"
    assert lines[ELECTRA] == "**80.0/80.0** (1)"


def test_holdout_shows_the_half_that_was_not_selected_on() -> None:
    halves = {
        "validation": {"f1": 0.99, "accuracy": 0.99},
        "validation_holdout": {"f1": 0.7, "accuracy": 0.7},
    }
    changes = {"spec": {"task_fingerprint": "d-holdout"}, "recipe": {"protocol": "holdout"}, "metrics": halves}
    holdout_split = record(facts={"report": ["validation_holdout"]}, **changes)
    lines = {line["Recipe"]: line for line in table(render_markdown(build_leaderboard([record(), holdout_split])))}
    assert lines["protocol=holdout"]["MRPC F1/accuracy"] == "70.0/70.0 (1) [h]"


def test_precisions_are_averaged_and_named() -> None:
    other = record(seed=2)
    assert other.environment
    environment = other.environment.model_copy(update={"precision": "fp32", "devices": ["cpu", "cpu"]})
    page = render_markdown(build_leaderboard([record(), other.model_copy(update={"environment": environment})]))
    (line,) = table_with(page, "n")
    assert (line["n"], line["precision"], line["devices"]) == ("2", "bf16, fp32", "1 × NVIDIA H100, 2 × cpu")


def test_best_is_bold_and_equal_shown_scores_all_are() -> None:
    scores = {BERT: 0.80004, ELECTRA: 0.80001, "a/c": 0.7}
    page = render_markdown(build_leaderboard([record(values=score, model=model) for model, score in scores.items()]))
    lines = {line["Model"]: line["MRPC F1/accuracy"] for line in table(page)}
    assert lines == {
        BERT: "**80.0/80.0** (1)",
        ELECTRA: "**80.0/80.0** (1)",
        "a/c": "70.0/70.0 (1)",
        "best constant answer": "81.2/68.4",
    }


def test_marked_cell_is_best_only_among_its_like() -> None:
    part = {"is_partial": True}
    records = [record(values=0.9, data=part), record(values=0.8, data=part, model=ELECTRA)]
    assert "**90.0/90.0** (1) [p]" in render_markdown(build_leaderboard(records))
    page = render_markdown(build_leaderboard([*records, record(values=0.1, model="a/c")]))
    assert "**10.0/10.0** (1)" in page
    assert "**90.0" not in page


def test_constant_answer_is_that_of_the_full_data() -> None:
    part = record(data={"is_partial": True}, baseline={"validation": {"f1": 0.1, "accuracy": 0.1}})
    full = record(model=ELECTRA)
    assert cell([part, full], line=2) == "81.2/68.4"
    assert cell([part], line=1) == "10.0/10.0 [p]"


def test_rows_are_sorted_by_average_then_by_number_of_scores() -> None:
    records = whole_suite(0.5, model="z/low") + whole_suite(0.6, model="y/high")
    records += [
        record("rte", 0.99, model="b/one"),
        *(record(task, model="c/two") for task in ("rte", "mrpc")),
    ]
    records += [record("rte", 0.1, model="a/one")]
    assert [row.label for row in build_leaderboard(records).rows] == ["y/high", "z/low", "c/two", "a/one", "b/one"]


def test_prediction_without_labels_is_called_so() -> None:
    runs = [record("ax", seed=seed, metrics={}, baseline={}, trained_by="x") for seed in (1, 2)]
    assert cell(runs, "ax") == "predicted (2)"


def test_test_mode_alone_is_titled_so() -> None:
    page = render_markdown(build_leaderboard([record(spec={"test_mode": True})]))
    assert re.match(r"# Test mode: .*no benchmark results\n", page)


def test_test_mode_beside_results_is_left_out_and_counted() -> None:
    page = render_markdown(build_leaderboard([record(), record(values=0.99, seed=2, spec={"test_mode": True})]))
    assert page.startswith("# Leaderboard\n")
    assert table(page)[0]["MRPC F1/accuracy"] == "**80.0/80.0** (1)"
    assert "Left out: 1 record(s) of test mode" in page


def test_task_table_shows_every_split_and_metric_side_by_side() -> None:
    accuracies = {"train": 0.99, "validation": 0.93, "test": 0.92}
    metrics = {split: {"loss": 0.25, "accuracy": value} for split, value in accuracies.items()}
    page = render_markdown(build_leaderboard([record("imdb", metrics=metrics)]))
    (line,) = table_with(page, "over rows")
    assert line["accuracy train / validation / test"] == "99.0 / 93.0 / 92.0"
    assert line["loss train / validation / test"] == "0.250 / 0.250 / 0.250"
    (line,) = table_with(page, "rows/s")
    assert (line["rows/s"], line["peak MiB"], line["seconds"]) == ("220.1", "2,048", "61.0")


def test_links_lead_to_the_records(tmp_path: Path) -> None:
    runs = [record(), record("a task (1)", seed=2), scoreless_record("diverged", seed=3)]
    for run in runs:
        write_record(run, tmp_path)
    page = MarkdownIt("commonmark").enable("table").render(render_markdown(write_leaderboard(tmp_path).board))
    links = re.findall(r'href="(runs/[^"]+)"', page)
    assert len(links) == 3
    assert all(
        (tmp_path / link.replace("%20", " ").replace("%28", "(").replace("%29", ")")).is_file() for link in links
    )


@pytest.mark.parametrize(
    "name",
    [
        "a|b<script>*x*_y_",
        "`c` [d](http://e)",
        "a\\|b",
        "x\n\n# y\r\n| z |",
        "&lt; ~~s~~ $m$",
        "![i](j)",
        "\u202ereversed",
    ],
)
def test_names_show_as_they_are_and_break_nothing(name: str) -> None:
    facts = {"title": name}
    records = [
        record(name, model=name, seed=1, facts=facts),
        failed_record(name, model=name, seed=2, facts=facts),
    ]
    records += [record(name, model=name, seed=3, facts=facts, default={"epochs": 5})]
    html = (
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(render_markdown(build_leaderboard(records)))
    )
    visible = " ".join("".join(letter if letter.isprintable() else " " for letter in name).split())
    escaped = visible.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert f'<td style="text-align:left">{escaped}</td>' in html
    page = html.split("</h1>", 1)[1].replace("<code>harness leaderboard</code>", "")
    assert not re.search(r"<(script|em|code|img|s|del|h1|blockquote)\b", page)
    assert re.findall("<h3>(.*)</h3>", page) == [f"{escaped}: {escaped}"]
    for block in re.findall(r"<table>.*?</table>", html, flags=re.DOTALL):
        columns = block.count("<th")
        columns -= block.count("<thead")
        assert all(line.count("<td") == columns for line in re.findall(r"<tr>.*?</tr>", block, re.DOTALL)[1:])


def test_interval_of_a_single_run_is_of_its_rows_alone() -> None:
    run = record_with_predictions("qnli", 0.9)
    ((group, evidence),) = build_leaderboard([run]).evidence.items()
    expected = wilson(run.metrics["validation"]["accuracy"], 200)
    assert evidence.total == evidence.split == expected
    assert (evidence.seeds, evidence.split_method, evidence.rows) == (None, "Wilson", 200)
    half = 50 * (expected.high - expected.low)
    assert cell([run], "QNLI accuracy") == f"{100 * group.score.mean:.1f} ±{half:.1f} (1)"


def test_interval_of_several_runs_is_of_seeds_and_rows() -> None:
    runs = [record_with_predictions("cola", 0.7, seed=seed) for seed in (1, 2, 3)]
    ((group, evidence),) = build_leaderboard(runs, resamples=500).evidence.items()
    assert evidence.seeds == pytest.approx(t_interval(group.scores))
    assert evidence.split_method == "bootstrap"
    assert evidence.total.low < min(evidence.split.low, group.score.mean) < group.score.mean < evidence.total.high
    assert evidence.total.high - evidence.total.low > evidence.split.high - evidence.split.low


def test_models_that_cannot_be_told_apart_are_tied() -> None:
    records = [
        record_with_predictions("qnli", quality, model=model)
        for model, quality in (("a", 0.9), ("b", 0.89), ("c", 0.5))
    ]
    first, second, third, _ = table(render_markdown(build_leaderboard(records)))
    assert first["QNLI accuracy"].endswith("(1) ≈")
    assert second["QNLI accuracy"].endswith("(1) ≈")
    assert third["QNLI accuracy"].endswith("(1)")
    best, tied, worse = table_with(render_markdown(build_leaderboard(records)), "to best")
    assert best["to best"] == best["p"] == ""
    assert tied["to best"].endswith("≈")
    assert worse["p"] == "<0.001 (<0.001)"
    rows = json.loads(render_json(build_leaderboard(records)))["rows"]
    assert [row["tasks"]["qnli"]["is_tied"] for row in rows] == [True, True, False]
    assert [row["average_rank"]["mean"] for row in rows] == [1, 2, 3]
    assert rows[2]["tasks"]["qnli"]["to_best"]["method"] == "exact McNemar test"


def test_marked_cells_are_not_compared_with_the_others() -> None:
    reduced = record_with_predictions("qnli", 0.6, model="b", recipe={"train_rows": 10})
    evidence = build_leaderboard([record_with_predictions("qnli", 0.9, model="a"), reduced]).evidence
    assert not any(one.is_tied or one.to_best for one in evidence.values())
    assert all(one.total for one in evidence.values())


def test_records_without_answers_are_compared_by_what_they_keep() -> None:
    """Hits of a classification, squared errors of a regression; and the page says so."""
    for task, stand_in in (("cola", "accuracy"), ("stsb", "MSE")):
        records = [record_with_predictions(task, quality, model=model) for model, quality in (("a", 0.9), ("b", 0.6))]
        records[1] = records[1].model_copy(update={"answers": {}, "gold": {}})
        board = build_leaderboard(records, resamples=200)
        versus = next(one.to_best for one in board.evidence.values() if one.to_best)
        assert versus.quantity == stand_in.lower()
        assert versus.is_distinct
        assert f"Tests: about {stand_in}, as not all records keep answers" in render_markdown(board)
        assert {group.row.model: one.total is None for group, one in board.evidence.items()} == {"a": False, "b": True}


def test_cost_of_a_row_is_the_sum_over_its_runs() -> None:
    records = [
        record("rte", seed=1),
        record("rte", seed=2),
        record("mrpc", seed=1),
        scoreless_record("failed", "mrpc", seed=3),
    ]
    records[3] = records[3].model_copy(update={"cost": None})
    (line,) = table_with(render_markdown(build_leaderboard(records)), "device-hours")
    assert (line["tasks"], line["runs"]) == ("2", "4 (1 not known)")
    assert line["seconds"] == f"{61 + 62 + 61}"
    assert line["seconds once"] == f"{61.5 + 61:.0f}"
    assert line["device-hours"] == f"{180 / 3600:.2f}"


def test_published_scores_stand_apart_and_only_for_tasks_of_the_board() -> None:
    page = render_markdown(build_leaderboard([record("sst2")]))
    lines = table_with(page, "Source")
    assert all(line["SST-2 accuracy"] for line in lines)
    assert len(lines) > 5
    assert page.index("## Published elsewhere, not run here") < page.index("| Model | Setting")
    assert "CoLA" not in page.split("## Published")[1].split("## Tasks")[0]
    assert "Published" not in render_markdown(build_leaderboard([record("ratings", 0.5)]))
    assert "Published" not in render_markdown(build_leaderboard([record("sst2", spec={"test_mode": True})]))


def test_many_records_get_fewer_resamples_and_the_page_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [record_with_predictions("cola", 0.9, seed=seed) for seed in (1, 2)]
    few = build_leaderboard(records)
    assert few.resampling == (10_000, False)
    assert "10,000 times N" in render_markdown(few)
    assert "to first order" not in render_markdown(few)
    monkeypatch.setattr("harness.reports.standings._MANY_RECORDS", 1)
    many = build_leaderboard(records)
    assert many.resampling == (1_000, True)
    assert "1,000 times N" in render_markdown(many)
    assert "to first order" in render_markdown(many)
    ((_, exact),), ((_, approximate),) = few.evidence.items(), many.evidence.items()
    assert approximate.total == pytest.approx(exact.total, abs=0.01)
    assert approximate.split == pytest.approx(exact.split, abs=0.02)


def test_csv_and_json_hold_every_figure_of_every_group() -> None:
    board = build_leaderboard(sample(), resamples=400)
    groups = [*board.groups.values(), *(group for group, _ in board.apart)]
    lines = list(csv.DictReader(io.StringIO(render_csv(board))))
    elsewhere = [line for line in lines if line["source"]]
    lines = [line for line in lines if not line["source"]]
    assert len(lines) == sum(len(group.places) or 1 for group in groups)
    content = json.loads(render_json(board))
    assert content["schema_version"] == 1
    entries = [entry for row in content["rows"] for entry in row["tasks"].values()] + content["apart"]
    assert sorted(run["run_id"] for entry in entries for run in entry["runs"]) == sorted(run.run_id for run in sample())
    assert sum(len(entry["figures"]) or 1 for entry in entries) == len(lines)
    assert len(content["references"]) == len(elsewhere) > 50
    assert content["rows"][0]["averages"]["GLUE"] == pytest.approx(board.averages[board.rows[0], "GLUE"].score)


def test_terminal_shows_the_table_and_no_markup_of_names() -> None:
    for width in (60, 400):
        console = Console(width=width, record=True, file=io.StringIO())
        print_leaderboard(build_leaderboard([record(model="a/[red]b"), record("rte", status="collapsed")]), console)
        text = console.export_text()
        assert "[red]" in text
        assert "80.0/80.0 (1)" in text
        assert "[c] collapsed" in text


def test_files_are_written_and_left_when_nothing_changed(tmp_path: Path) -> None:
    for run in sample():
        write_record(run, tmp_path)
    assert write_leaderboard(tmp_path).problems == []
    paths = [tmp_path / f"leaderboard.{ending}" for ending in ("md", "csv", "json")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    write_leaderboard(tmp_path)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before


def test_corrupt_record_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(record(), tmp_path)
    corrupt = record_path(tmp_path, "mrpc", "broken")
    corrupt.write_text("{", encoding="utf-8")
    main(["--results", str(tmp_path)])
    error = capsys.readouterr().err
    assert str(corrupt) in error
    assert "1 file(s)" in error
    assert "Left out: 1 file(s) under runs/" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--results", str(tmp_path), "--strict"])
    assert stopped.value.code == 1


def test_strict_is_content_with_readable_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(record(), tmp_path)
    main(["--results", str(tmp_path), "--strict"])
    assert capsys.readouterr().err == ""


def test_folder_without_records_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record under .*accelerate launch harness/run\.py --task sst2"):
        main(["--results", str(tmp_path)])
    corrupt = record_path(tmp_path, "mrpc", "broken")
    corrupt.parent.mkdir(parents=True)
    corrupt.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(str(corrupt))):
        write_leaderboard(tmp_path)
    assert not (tmp_path / "leaderboard.md").exists()


def test_import_is_quick() -> None:
    heavy = ("torch", "transformers", "datasets", "evaluate", "pandas", "sklearn")
    script = f"import sys, harness.commands.leaderboard; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(render_markdown(build_leaderboard(sample(), unreadable=1, resamples=400)), encoding="utf-8")
