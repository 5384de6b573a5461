"""The leaderboard: which runs are averaged, which cells are best or tied, and what is noted."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from support.boards import (
    BERT,
    COMMIT,
    ELECTRA,
    GLUE,
    cell,
    child_record,
    failed_record,
    record,
    record_with_predictions,
    scoreless_record,
    table,
    table_with,
    whole_suite,
)

from harness.facts.packing import pack_array, unpack_array
from harness.facts.records import RunRecord
from harness.facts.suites import Average, Suite
from harness.reports.data_files import render_csv, render_json
from harness.reports.markdown import render_markdown
from harness.reports.standings import build_leaderboard
from harness.stats.uncertainty import t_interval


def test_one_run_has_no_deviation() -> None:
    assert cell([record()]) == "80.0/80.0 (1)"


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


def test_average_with_an_error_is_not_computed(tmp_path: Path) -> None:
    """The mean of an accuracy and an RMSE has no unit, and its highest value is not the best."""
    averages = {"All": Average(), "Without": Average(without=("ratings",))}
    suite = Suite(name="own", title="Own", tasks={"rte": "RTE", "ratings": "R"}, averages=averages, folder=tmp_path)
    records = [record(task, 0.8, facts={"suite": "own"}) for task in ("rte", "ratings")]
    page = render_markdown(build_leaderboard(records, suites={"own": suite}))
    line = table(page)[0]
    assert (line["All"], line["Without"]) == ("–", "**80.0**")
    assert "- All is not computed: scores of R are not" in page


@pytest.mark.parametrize(
    ("first", "second", "described"),
    [
        ("rte", None, "All is the unweighted mean of the two tasks' scores, Other that with RTE; each"),
        (None, "rte", "All is the unweighted mean of the three tasks' scores, Other that without RTE; each"),
        ("rte", "wnli", "All is the unweighted mean of the two tasks' scores, Other that without W and with RTE; each"),
        (None, None, "All is the unweighted mean of the three tasks' scores, Other the same; each"),
    ],
)
def test_averages_are_described_by_their_tasks(
    tmp_path: Path, first: str | None, second: str | None, described: str
) -> None:
    without = {"All": first, "Other": second}
    averages = {name: Average(without=(task,) if task else ()) for name, task in without.items()}
    tasks = {"rte": "RTE", "wnli": "W", "cola": "C"}
    suite = Suite(name="own", title="Own", tasks=tasks, averages=averages, folder=tmp_path)
    records = [record(task, 0.8, facts={"suite": "own"}) for task in suite.tasks]
    assert described in render_markdown(build_leaderboard(records, suites={"own": suite}))


def test_average_carries_the_marks_of_its_tasks() -> None:
    part = record("rte", data={"is_partial": True})
    records = [*(run for run in whole_suite() if run.spec.task != "rte"), part]
    assert cell(records, "GLUE") == "80.0 [p]"
    (entry,) = json.loads(render_json(build_leaderboard(records)))["entries"]
    assert entry["average_marks"] == {"GLUE": ["p"], "GLUE-8": ["p"]}
    assert entry["best_averages"] == ["GLUE", "GLUE-8"]


def test_selection_on_a_split_that_is_not_reported_has_no_mark() -> None:
    assert cell([record("imdb", recipe={"select": "best"})], "imdb accuracy test") == "80.0 (1)"


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
    assert (line["task"], line["value"], line["n"], line["marks"]) == ("mrpc", "", "0", "d")


def test_run_that_failed_before_its_model_was_known_is_counted_with_the_others() -> None:
    records = [record(seed=1), failed_record(seed=2)]
    assert cell(records) == "80.0/80.0 (1) [d]"
    assert len(build_leaderboard(records).entries) == 1


def test_undefined_metric_makes_the_mean_undefined_and_is_noted() -> None:
    records = [
        record("stsb", {"pearson": 0.9, "spearman": 0.8}),
        record("stsb", {"pearson": None, "spearman": 0.6}, seed=2),
    ]
    assert cell(records, "STS-B Pearson/Spearman") == "–/70.0 (2)"
    assert "Pearson on validation is undefined (seed 2)" in render_markdown(build_leaderboard(records))


def test_a_metric_that_an_older_definition_lacks_is_not_called_undefined() -> None:
    older = record("rte", {"f1": 0.8}, facts={"metrics": ["f1"], "main_metrics": ["f1"]})
    text = render_markdown(build_leaderboard([older, record("rte", seed=2, spec={"task_version": 2})]))
    assert "accuracy on validation is missing: another definition" in text
    assert "accuracy on validation is undefined" not in text


def test_variants_are_separate_entries() -> None:
    recipes: list[dict[str, Any]] = [
        {},
        {"epochs": 2, "learning_rate": 5e-5},
        {"protocol": "holdout"},
        {"train_rows": 100},
    ]
    board = build_leaderboard([record(recipe=recipe, seed=seed) for recipe in recipes for seed in (1, 2)])
    assert {entry.variant for entry in board.entries} == {
        "default",
        "learning_rate=5e-05, epochs=2",
        "protocol=holdout",
        "train_rows=100",
    }
    assert all(len(group.scored) == 2 for group in board.groups.values())


def test_runs_that_start_from_another_task_are_a_separate_entry() -> None:
    direct = [record("rte", 0.6, seed=seed) for seed in (1, 2)]
    board = build_leaderboard([*direct, *(child_record(seed, 0.8) for seed in (1, 2))])
    scores = {entry.variant: board.groups[entry, "rte"].score.center for entry in board.entries}
    assert scores == {"default": pytest.approx(0.6), "init_from=mnli": pytest.approx(0.8)}
    assert [len(group.scored) for group in board.groups.values()] == [2, 2]
    assert board.not_ranked == ()


@pytest.mark.parametrize(
    "changes, noted",
    [
        ({"data": {"is_partial": True}}, "partial data"),
        ({"recipe": {"train_rows": 100}}, "reduced number of rows"),
        ({}, None),
    ],
    ids=["partial", "reduced", "whole"],
)
def test_parents_with_less_data_are_noted(changes: dict[str, Any], noted: str | None) -> None:
    parent = record("mnli", run_id="parent-seed0-of-seed1", **changes)
    notes = [note for note in build_leaderboard([parent, child_record(1, 0.6)]).notes if "started" in note]
    assert len(notes) == (noted is not None)
    for note in notes:
        assert note.startswith(f"RTE, {BERT} (init_from=mnli): ")
        assert "MNLI" in note
        assert noted in note


def test_runs_with_parents_of_another_recipe_are_never_averaged() -> None:
    board = build_leaderboard([child_record(1, 0.6), child_record(2, 0.6), child_record(3, 0.9, "another-seed0")])
    ((group, reason),) = board.not_ranked
    assert [run.spec.seed for run in group.runs] == [3]
    assert reason == "started from another-seed0, not parent-seed0"


def test_commits_of_one_model_are_separate_entries() -> None:
    board = build_leaderboard([record(), record(commit="0123456789abcdef", seed=2), record(model=ELECTRA)])
    labels = [entry.label for entry in board.entries]
    assert sorted(labels) == [f"{BERT}@01234567", f"{BERT}@{COMMIT[:8]}", ELECTRA]


def test_label_of_a_folder_is_its_last_part() -> None:
    folder = dict(commit=None, spec={"revision": "sha256:abcdef0123"})
    assert build_leaderboard([record(model="/home/me/models/mine/", **folder)]).entries[0].label == "mine"


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"spec": {"task_version": 2}, "seed": 9}, "task version 1, not 2"),
        ({"spec": {"task_fingerprint": "d2"}, "seed": 9}, "another definition of the task"),
        ({"data": {"fingerprint": "others"}, "seed": 9}, "other data"),
        ({"default": {"epochs": 5}, "seed": 9}, "recipe with epochs=3, not epochs=5"),
        ({"spec": {"revision": COMMIT}, "seed": 9}, f"revision main, not {COMMIT}"),
    ],
)
def test_groups_that_differ_in_more_than_the_seed_are_not_ranked(changes: dict[str, Any], reason: str) -> None:
    page = render_markdown(build_leaderboard([record(values=0.5, seed=1), record(values=0.9, **changes)]))
    assert table(page)[0]["MRPC F1/accuracy"].startswith("**90.0/90.0** (1)")
    (line,) = table_with(page, "Difference")
    assert line["Difference"] == reason
    assert line["Score"].startswith("50.0/50.0 (1)")


def test_mark_of_a_score_that_is_not_ranked_is_explained() -> None:
    newer = record_with_predictions("qnli", 0.95, spec={"task_version": 2})
    page = render_markdown(build_leaderboard([record_with_predictions("qnli", 0.3, seed=9), newer], resamples=200))
    assert table_with(page, "Difference")[0]["Score"].endswith("[b,v]")
    assert r"- \[b\] not above the constant baseline" in page


def test_partial_data_is_not_ranked_next_to_full_data() -> None:
    part = {"is_partial": True, "fingerprint": "part", "rows": {"train": 100, "validation": 408}}
    records = [record(values=0.6)] + [record(values=0.9, seed=seed, data=part) for seed in (1, 2, 3)]
    page = render_markdown(build_leaderboard(records))
    assert table(page)[0]["MRPC F1/accuracy"] == "**60.0/60.0** (1)"
    assert table_with(page, "Difference")[0]["Difference"] == "partial data (508 rows, not 4,076)"
    assert table_with(page, "Difference")[0]["Score"] == "90.0/90.0 (3) [p]"


def test_run_that_failed_under_another_recipe_is_not_ranked() -> None:
    page = render_markdown(build_leaderboard([record(), failed_record(seed=9, default={"epochs": 5})]))
    (line,) = table_with(page, "Difference")
    assert line["Difference"] == "failed before the data was read; recipe with epochs=5, not epochs=3"
    assert line["Score"] == "– [d]"


def test_the_group_with_more_runs_is_shown() -> None:
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


def test_best_is_bold_and_equal_shown_scores_all_are() -> None:
    scores = {BERT: 0.80004, ELECTRA: 0.80001, "a/c": 0.7}
    page = render_markdown(build_leaderboard([record(values=score, model=model) for model, score in scores.items()]))
    lines = {line["Model"]: line["MRPC F1/accuracy"] for line in table(page)}
    assert lines == {
        BERT: "**80.0/80.0** (1)",
        ELECTRA: "**80.0/80.0** (1)",
        "a/c": "70.0/70.0 (1)",
        "majority-class baseline": "81.2/68.4",
    }


def test_marked_cell_is_best_only_among_cells_with_the_same_marks() -> None:
    part = {"is_partial": True}
    records = [record(values=0.9, data=part), record(values=0.8, data=part, model=ELECTRA)]
    assert "**90.0/90.0** (1) [p]" in render_markdown(build_leaderboard(records))
    page = render_markdown(build_leaderboard([*records, record(values=0.1, model="a/c")]))
    assert "**10.0/10.0** (1)" in page
    assert "**90.0" not in page


def test_baseline_is_that_of_the_full_data() -> None:
    part = record(data={"is_partial": True}, baseline={"validation": {"f1": 0.1, "accuracy": 0.1}})
    full = record(model=ELECTRA)
    assert cell([part, full], line=2) == "81.2/68.4"
    assert cell([part], line=1) == "10.0/10.0 [p]"


def test_entries_are_sorted_by_average_then_by_number_of_scores_then_by_scores() -> None:
    records = whole_suite(0.5, model="z/low") + whole_suite(0.6, model="y/high")
    records += [
        record("rte", 0.99, model="b/one"),
        *(record(task, model="c/two") for task in ("rte", "mrpc")),
    ]
    records += [record("rte", 0.1, model="a/one")]
    labels = [entry.label for entry in build_leaderboard(records).entries]
    assert labels == ["y/high", "z/low", "c/two", "b/one", "a/one"]


def test_entries_of_an_error_metric_begin_with_the_lowest() -> None:
    facts = {"metrics": ["rmse"], "main_metrics": ["rmse"], "problem_type": "regression", "labels": None}
    errors = {"a/worst": 0.9, "b/best": 0.1, "c/middle": 0.5}
    records = [record("mine", {"rmse": error}, model=model, facts=facts) for model, error in errors.items()]
    assert [entry.label for entry in build_leaderboard(records).entries] == ["b/best", "c/middle", "a/worst"]


def test_cell_of_a_task_without_labels_is_predicted() -> None:
    runs = [record("ax", seed=seed, metrics={}, baseline={}, trained_by="x") for seed in (1, 2)]
    assert cell(runs, "ax") == "predicted (2)"


def test_test_mode_next_to_results_is_ignored_and_counted() -> None:
    page = render_markdown(build_leaderboard([record(), record(values=0.99, seed=2, spec={"test_mode": True})]))
    assert page.startswith("# Leaderboard\n")
    assert table(page)[0]["MRPC F1/accuracy"] == "**80.0/80.0** (1)"
    assert "1 record(s) of test mode" in page


def test_interval_of_a_single_run_is_over_rows_only_where_no_model_has_two() -> None:
    run = record_with_predictions("qnli", 0.9)
    ((group, evidence),) = build_leaderboard([run]).evidence.items()
    correct = round(200 * group.score.center)
    expected = stats.beta(correct + 0.5, 200 - correct + 0.5).ppf([0.025, 0.975])
    assert evidence.total == evidence.split == pytest.approx(tuple(expected), abs=2e-3)
    assert evidence.is_over_rows_only
    assert (evidence.seeds, evidence.split_method, evidence.rows) == (None, "posterior", 200)
    farthest = 100 * (group.score.center - evidence.total.low)
    assert cell([run], "QNLI accuracy") == f"{100 * group.score.center:.1f} ±{farthest:.1f} rows only (1)"


def test_single_run_is_lent_the_spread_of_the_other_models() -> None:
    single = record_with_predictions("qnli", 0.9, model="b")
    others = [record_with_predictions("qnli", 0.8 + seed / 100, model="a", seed=seed) for seed in (1, 2, 3)]
    board = build_leaderboard([single, *others], resamples=500)
    (evidence,) = (one for group, one in board.evidence.items() if group.entry.model == "b")
    assert not evidence.is_over_rows_only
    assert evidence.total.high - evidence.total.low > evidence.split.high - evidence.split.low
    marked = [
        record_with_predictions("qnli", 0.8 + seed / 100, model="a", seed=seed, recipe={"train_rows": 10})
        for seed in (1, 2, 3)
    ]
    (evidence,) = (
        one
        for group, one in build_leaderboard([single, *marked], resamples=500).evidence.items()
        if group.entry.model == "b"
    )
    assert evidence.is_over_rows_only


def test_interval_of_several_runs_is_over_seeds_and_rows() -> None:
    runs = [record_with_predictions("cola", 0.7, seed=seed) for seed in (1, 2, 3)]
    ((group, evidence),) = build_leaderboard(runs, resamples=500).evidence.items()
    assert evidence.seeds == pytest.approx(t_interval(group.scores))
    assert evidence.split_method == "posterior"
    assert evidence.total.low < min(evidence.split.low, group.score.center) < group.score.center < evidence.total.high
    assert evidence.total.high - evidence.total.low > evidence.split.high - evidence.split.low


def test_models_in_the_set_of_the_best_are_tied() -> None:
    qualities = {"a": 0.9, "b": 0.89, "c": 0.65}
    records = [
        record_with_predictions("qnli", quality, model=model, seed=seed)
        for model, quality in qualities.items()
        for seed in (1, 2)
    ]
    first, second, third, _ = table(render_markdown(build_leaderboard(records)))
    assert first["QNLI accuracy"].endswith("(2) ≈")
    assert second["QNLI accuracy"].endswith("(2) ≈")
    assert third["QNLI accuracy"].endswith("(2)")
    best, tied, worse, _ = table_with(render_markdown(build_leaderboard(records)), "to best")
    assert best["to best"] == best["p"] == ""
    assert tied["to best"].endswith("≈")
    assert worse["p"] == "<0.001 (<0.001)"
    entries = json.loads(render_json(build_leaderboard(records)))["entries"]
    assert [entry["tasks"]["qnli"]["is_tied"] for entry in entries] == [True, True, False]
    assert [entry["average_rank"] for entry in entries] == [
        {"mean": 1, "low": 1, "high": 2},
        {"mean": 2, "low": 1, "high": 2},
        {"mean": 3, "low": 3, "high": 3},
    ]


@pytest.mark.parametrize("groups", [None, [7, 7]], ids=["one row", "one group of rows"])
def test_a_single_row_has_no_interval(groups: list[int] | None) -> None:
    """It says nothing about other rows, and a foreign record may have it."""
    rows = 1 if groups is None else len(groups)
    packed = {} if groups is None else {"row_groups": {"validation": pack_array(np.array(groups))}}
    runs = [
        record_with_predictions("rte", 0.9, model=model, seed=seed, rows=rows, **packed)
        for model in "ab"
        for seed in (1, 2)
    ]
    board = build_leaderboard(runs)
    assert [one.total for one in board.evidence.values()] == [None, None]
    assert [entry["tasks"]["rte"]["n"] for entry in json.loads(render_json(board))["entries"]] == [2, 2]


def test_runs_of_one_recipe_are_one_entry_although_the_default_has_changed() -> None:
    """Folders of two people with different versions: the recipe of the one is the default of the other."""
    older = [record("rte", 0.7, seed=seed, recipe={"epochs": 3}, default={"epochs": 5}) for seed in (1, 2)]
    newer = [record("rte", 0.8, seed=seed) for seed in (3, 4)]
    assert older[0].spec.recipe == newer[0].spec.recipe
    assert [run.recipe_changes for run in (older[0], newer[0])] == [{"epochs": 3}, {}]
    board = build_leaderboard([*older, *newer])
    (entry,) = board.entries
    assert (entry.variant, cell([*older, *newer], "RTE accuracy")) == ("default", "75.0 (4)")


def test_set_of_the_best_is_that_of_the_models_with_predictions() -> None:
    """The best of the column is in no comparison, as the legend says."""
    runs = [
        record_with_predictions("qnli", quality, model=model, seed=seed)
        for model, quality in {"a": 0.8, "b": 0.79}.items()
        for seed in (1, 2, 3)
    ]
    markdown = render_markdown(build_leaderboard([*runs, record("qnli", 0.99, model="best")], resamples=400))
    cells = {line["Model"]: line["QNLI accuracy"] for line in table(markdown)[:3]}
    assert {model: cell.endswith("≈") for model, cell in cells.items()} == {"best": False, "a": True, "b": True}
    assert cells["best"].startswith("**99.0**")
    (legend,) = re.findall(r"^- ≈ marks .*?(?=^- )", markdown, re.MULTILINE | re.DOTALL)
    assert "stored predictions of the same rows" in " ".join(legend.split())


def test_single_runs_give_no_verdict_about_models() -> None:
    records = [record_with_predictions("qnli", quality, model=model) for model, quality in (("a", 0.9), ("b", 0.5))]
    board = build_leaderboard(records, resamples=200)
    assert not any(one.is_tied for one in board.evidence.values())
    (test,) = (one.to_best for one in board.evidence.values() if one.to_best)
    assert test.p < 0.001
    assert not test.is_significant
    assert [(rank.low, rank.high) for rank in board.ranks.values()] == [(1, 2), (1, 2)]


def test_a_record_without_predictions_changes_no_other_comparison() -> None:
    """The score of the column stays the one that is compared."""
    records = [
        record_with_predictions("cola", quality, model=model, seed=seed)
        for model, quality in (("a", 0.9), ("b", 0.85))
        for seed in (1, 2)
    ]
    bare = record_with_predictions("cola", 0.8, model="c").model_copy(update={"predictions": {}, "gold": {}})
    without, joined = (build_leaderboard(one, resamples=200) for one in (records, [*records, bare]))
    tests = [[one.to_best for one in board.evidence.values() if one.to_best] for board in (without, joined)]
    assert tests[0] == tests[1]
    assert len(tests[0]) == 1


def test_an_added_model_changes_no_interval_of_the_others() -> None:
    """A model that predicts one class throughout has an F1 that is undefined without positive rows."""
    records = [record_with_predictions("mrpc", 0.9, seed=seed, rows=20) for seed in (1, 2, 3)]
    collapsed = record_with_predictions("mrpc", 0.9, model="b", rows=20)
    zeros = pack_array(np.zeros(20, int))
    collapsed = collapsed.model_copy(update={"predictions": {"validation": zeros}})
    boards = [build_leaderboard(one, resamples=200) for one in (records, [*records, collapsed])]
    first, second = (next(one for group, one in b.evidence.items() if group.entry.model != "b") for b in boards)
    assert (first.total, first.split) == (second.total, second.split)


@pytest.mark.parametrize("mark, is_compared", [("collapsed", True), ("diverged", False)])
def test_collapsed_runs_are_honest_and_a_mean_of_survivors_is_not(mark: str, is_compared: bool) -> None:
    """The best score is one that every seed has reached, or failed to reach, on its own."""
    odd = record("mrpc", 0.95, model="b", seed=1)
    other = (
        record("mrpc", 0.7, model="b", seed=2, status="collapsed")
        if is_compared
        else scoreless_record(mark, model="b", seed=2)
    )
    board = build_leaderboard([record("mrpc", 0.8, model="a"), odd, other])
    best = {entry.model for (entry, task), one in board.cells.items() if one.is_best}
    assert best == ({"b"} if is_compared else {"a"})


def test_reduced_groups_of_unlike_training_rows_do_not_compete() -> None:
    def reduced(model: str, rows: int, score: float) -> list[RunRecord]:
        data = {"rows": {"train": rows, "validation": 408}, "is_partial": True}
        return [record("mrpc", score, model=model, seed=seed, data=data) for seed in (1, 2)]

    board = build_leaderboard([*reduced("a", 100, 0.7), *reduced("b", 2_000, 0.8), *reduced("c", 100, 0.75)])
    best = {entry.model for (entry, task), one in board.cells.items() if one.is_best}
    assert best == {"b", "c"}


@pytest.mark.parametrize("task, quality, is_marked", [("qnli", 0.53, True), ("qnli", 0.9, False), ("cola", 0.5, True)])
def test_scores_that_are_not_above_the_baseline_are_marked(task: str, quality: float, is_marked: bool) -> None:
    board = build_leaderboard([record_with_predictions(task, quality, seed=seed) for seed in (1, 2, 3)])
    (cell_of_model,) = (one for (entry, _), one in board.cells.items() if entry != board.baseline)
    assert ("b" in cell_of_model.marks) == is_marked
    (result,) = (entry["tasks"][task] for entry in json.loads(render_json(board))["entries"])
    assert ("b" in result["marks"]) == is_marked
    assert ("[b]" in render_markdown(board)) == is_marked


def test_baseline_of_two_metrics_is_one_constant() -> None:
    """The records have another constant for each metric; the gold labels decide."""
    run = record_with_predictions("mrpc", 0.9, baseline={"validation": {"f1": 0.9, "accuracy": 0.9}})
    gold = unpack_array(run.gold["validation"])
    share = float(np.mean(gold == 1))
    negative = (0 + 1 - share) / 2
    positive = (2 * share / (1 + share) + share) / 2
    board = build_leaderboard([run], resamples=200)
    assert board.cells[board.baseline, "mrpc"].score == pytest.approx(max(negative, positive))


def test_glue_average_has_the_interval_of_its_tasks() -> None:
    records = [record_with_predictions(task, 0.8, seed=seed) for task in GLUE for seed in (1, 2, 3)]
    board = build_leaderboard(records, resamples=200)
    (average,) = (cell for (entry, name), cell in board.averages.items() if name == "GLUE" and entry != board.baseline)
    half = average.evidence.total.high - average.score
    variances = [one.variance[0] for one in board.evidence.values()]
    assert half == pytest.approx(1.96 * math.sqrt(sum(variances)) / len(GLUE), rel=0.1)
    assert average.spread == f"±{100 * half:.1f}"


def test_marked_cells_are_not_compared_with_the_others() -> None:
    reduced = record_with_predictions("qnli", 0.6, model="b", recipe={"train_rows": 10})
    evidence = build_leaderboard([record_with_predictions("qnli", 0.9, model="a"), reduced]).evidence
    assert not any(one.is_tied or one.to_best for one in evidence.values())
    assert all(one.total for one in evidence.values())


def test_records_without_predictions_have_no_intervals_and_no_tests() -> None:
    records = [record_with_predictions("cola", quality, model=model) for model, quality in (("a", 0.9), ("b", 0.6))]
    records[1] = records[1].model_copy(update={"predictions": {}, "gold": {}})
    board = build_leaderboard(records, resamples=200)
    assert {group.entry.model: one.total is None for group, one in board.evidence.items()} == {"a": False, "b": True}
    assert not any(one.to_best for one in board.evidence.values())
    assert "No tests" in render_markdown(board)


def test_label_sets_have_intervals_and_tests() -> None:
    records = [
        record_with_predictions("emotions", quality, model=model, seed=seed)
        for model, quality in (("a", 0.9), ("b", 0.5))
        for seed in (1, 2)
    ]
    board = build_leaderboard(records, resamples=200)
    assert all(one.total and one.split_method == "bootstrap" for one in board.evidence.values())
    (test,) = [one.to_best for one in board.evidence.values() if one.to_best]
    assert test.is_significant


@pytest.mark.parametrize("rows, is_noted", [(10, True), (200, False)])
def test_intervals_of_labels_with_few_rows_have_a_note(rows: int, is_noted: bool) -> None:
    records = [record_with_predictions("emotions", 0.9, seed=seed, rows=rows) for seed in (1, 2)]
    page = render_markdown(build_leaderboard(records, resamples=200))
    assert ("Intervals: too narrow" in page) == is_noted


def test_page_says_how_often_rows_are_resampled() -> None:
    page = render_markdown(build_leaderboard([record_with_predictions("cola", 0.9, seed=seed) for seed in (1, 2)]))
    assert "10,000 sets of weights" in page
