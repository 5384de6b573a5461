"""Published scores next to those of runs: they are those of the published rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.boards import record, table_with

from harness.facts import published
from harness.facts.published import published_rows, references
from harness.facts.tasks import task_names
from harness.reports.data_files import render_json
from harness.reports.formulas import formulas
from harness.reports.html import render_html
from harness.reports.markdown import render_markdown
from harness.reports.pair_tests import pair_tests
from harness.reports.standings import build_leaderboard


def test_scores_are_fractions_of_the_tasks_alone() -> None:
    published = references(["cola", "sst2", "stsb"])
    assert {reference.task for reference in published} == {"cola", "sst2", "stsb"}
    assert all(0 < reference.score < 1 for reference in published)


def test_every_score_of_every_row_is_there() -> None:
    scores = [score for row in published_rows().values() for task in row.tasks.values() for score in task.scores]
    assert len(references(task_names())) == len(scores) > 100


def test_an_error_is_no_percentage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is added to those that come with the harness, with errors next to percentages."""
    (tmp_path / "own.yaml").write_text(
        "model: a/b\nsource: a paper\nsetting: 3 epochs\ntasks:\n  ratings:\n    scores:\n"
        "      - {metric: rmse, split: validation, value: 0.512}\n"
        "      - {metric: pearson, split: validation, value: 91.2}\n"
        "      - {metric: unstated, split: test, value: 90.5}\n"
    )
    monkeypatch.setattr(published, "PUBLISHED_FOLDER", tmp_path)
    published_rows.cache_clear()
    try:
        assert [one.score for one in references(["ratings"])] == [0.512, 0.912, 0.905]
        board = build_leaderboard([record("ratings", 0.6)])
        (line,) = table_with(render_markdown(board), "Source")
        assert line["ratings RMSE"] == "0.512, 91.2 Pearson, 90.5 ? test"
        assert ">0.512<" in render_html(json.loads(render_json(board)), {}, formulas(board), "", pair_tests(board))
    finally:
        published_rows.cache_clear()


def test_setting_of_a_task_replaces_that_of_its_row() -> None:
    (mrpc, _) = [one for one in references(["mrpc"]) if one.model == "google-bert/bert-base-cased"]
    assert (mrpc.metric, mrpc.score, mrpc.setting[:8]) == ("f1", 0.8885, "5 epochs")
