"""leaderboard.json and leaderboard.csv have every number of the leaderboard."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from support.boards import (
    BERT,
    CONSTANT_SCORES,
    cell,
    record,
    record_with_predictions,
    sample,
)

from harness.facts.record_parts import ModelFacts
from harness.reports.data_files import render_csv, render_json
from harness.reports.markdown import render_markdown
from harness.reports.standings import build_leaderboard
from harness.reports.task_page import render_task_page


def test_csv_and_json_have_every_number_of_every_group() -> None:
    board = build_leaderboard(sample(), resamples=400)
    groups = [*board.groups.values(), *(group for group, _ in board.not_ranked)]
    lines = list(csv.DictReader(io.StringIO(render_csv(board))))
    published = [line for line in lines if line["source"]]
    lines = [line for line in lines if not line["source"]]
    assert len(lines) == sum(len(group.metrics) or 1 for group in groups)
    content = json.loads(render_json(board))
    assert content["schema_version"] == 5
    results = [result for entry in content["entries"] for result in entry["tasks"].values()] + content["not_ranked"]
    run_ids = sorted(run["run_id"] for result in results for run in result["runs"])
    assert run_ids == sorted(run.run_id for run in sample())
    assert sum(len(result["figures"]) or 1 for result in results) == len(lines)
    assert len(content["references"]) == len(published) > 50
    average = board.averages[board.entries[0], "GLUE"].score
    assert content["entries"][0]["averages"]["GLUE"] == pytest.approx(average)


def test_no_small_number_is_rounded_to_zero() -> None:
    qualities = (("a", 0.9), ("b", 0.6))
    records = [record_with_predictions("rte", q, model=m, seed=seed) for m, q in qualities for seed in (1, 2, 3)]
    board = build_leaderboard(records)
    (test,) = (one.to_best for one in board.evidence.values() if one.to_best)
    assert 0 < test.p < 1e-7
    content = json.loads(render_json(board))
    (shown,) = (entry["tasks"]["rte"]["to_best"] for entry in content["entries"] if entry["tasks"]["rte"]["to_best"])
    assert [shown["p"], shown["p_holm"]] == pytest.approx([test.p, test.p_holm], rel=1e-5, abs=0)
    lines = [line for line in csv.DictReader(io.StringIO(render_csv(board))) if line["p"]]
    assert {float(line["p"]) for line in lines} == {shown["p"]}


def test_mean_and_deviation_over_seeds_are_numpys() -> None:
    f1, accuracy = [0.80123, 0.84456, 0.79789], [0.7, 0.75, 0.71]
    pairs = list(enumerate(zip(f1, accuracy, strict=True)))
    records = [record(values={"f1": a, "accuracy": b}, seed=seed) for seed, (a, b) in pairs]
    assert cell(records) == f"{100 * np.mean(f1):.1f}/{100 * np.mean(accuracy):.1f} (3)"
    scores = (np.array(f1) + np.array(accuracy)) / 2
    (entry,) = json.loads(render_json(build_leaderboard(records)))["entries"]
    assert entry["tasks"]["mrpc"]["score_std"] == pytest.approx(np.std(scores, ddof=1), abs=1e-15)
    lines = pd.read_csv(io.StringIO(render_csv(build_leaderboard(records))))
    lines = lines[lines["model"] == BERT].head(2).set_index("metric")
    assert lines.loc["f1", "value"] == pytest.approx(np.mean(f1), abs=1e-15)
    assert lines.loc["f1", "std"] == pytest.approx(np.std(f1, ddof=1), abs=1e-15)
    assert lines.loc["f1", "baseline"] == CONSTANT_SCORES["f1"]
    assert lines.loc["f1", "seeds"] == "0 1 2"


def test_name_is_no_formula_in_the_csv() -> None:
    lines = list(csv.DictReader(io.StringIO(render_csv(build_leaderboard([record(model="=SUM(A1)")])))))
    assert {line["model"] for line in lines if not line["source"]} == {"'=SUM(A1)"}


def test_csv_and_json_count_total_and_trainable_parameters() -> None:
    model = ModelFacts(
        commit=None, architecture="Bert", parameters=900, trainable_parameters=70, attention="sdpa", head="new"
    )
    board = build_leaderboard([record().model_copy(update={"model": model})])
    line = next(line for line in csv.DictReader(io.StringIO(render_csv(board))) if not line["source"])
    assert (line["parameters"], line["trainable_parameters"]) == ("900", "70")
    (entry,) = json.loads(render_json(board))["entries"]
    (result,) = entry["tasks"].values()
    assert (result["cost"]["parameters"], result["cost"]["trainable_parameters"]) == (900, 70)


@pytest.mark.parametrize(
    "parameters, trainable, shown",
    [
        (22_713_986, 294_914, "0.3 M of 22.7 M"),
        (22_713_986, 22_713_986, "22.7 M"),
        (900, None, "900"),
        (900, 70, "70 of 900"),
    ],
)
def test_pages_show_trained_parameters_where_others_are_frozen(
    parameters: int, trainable: int | None, shown: str
) -> None:
    model = ModelFacts(
        commit=None,
        architecture="Bert",
        parameters=parameters,
        trainable_parameters=trainable,
        attention="sdpa",
        head="new",
    )
    board = build_leaderboard([record().model_copy(update={"model": model})])
    assert f" {shown} |" in render_markdown(board)
    page = render_task_page(board, json.loads(render_json(board)), "mrpc", "leaderboard")
    assert f">{shown}</td>" in page
