"""Published scores next to those of runs: they are those of the published rows."""

from __future__ import annotations

from harness.facts.published import published_rows, scores_of
from harness.facts.tasks import task_names
from harness.reports.references import references


def test_scores_are_fractions_of_the_tasks_alone() -> None:
    published = references(["cola", "sst2", "stsb"])
    assert {reference.task for reference in published} == {"cola", "sst2", "stsb"}
    assert all(0 < reference.score < 1 for reference in published)


def test_every_score_of_every_row_is_there() -> None:
    assert len(references(task_names())) == len(list(scores_of(published_rows()))) > 100


def test_setting_of_a_task_replaces_that_of_its_row() -> None:
    (mrpc, _) = [one for one in references(["mrpc"]) if one.model == "google-bert/bert-base-cased"]
    assert (mrpc.metric, mrpc.score, mrpc.setting[:8]) == ("f1", 0.8885, "5 epochs")
