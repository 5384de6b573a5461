"""The Hub's .eval_results: a model's main scores on the data sets that it was trained and scored on, as YAML.

The format is that of https://huggingface.co/docs/hub/eval-results. The Hub shows a score on the model's page, and on
that of the data set if it is registered as a benchmark with this task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.facts.records import RunRecord
from harness.metrics.registry import title_of
from harness.reports.every_eval_ever import data_source
from harness.stats.groups import Group, group_runs, mark_names

if TYPE_CHECKING:
    from huggingface_hub import EvalResultEntry


def eval_results(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """An entry for each task with rows from the Hub: the main score, the mean over runs that differ in their seed only.

    Scores are fractions where the metric's maximum is 1. The notes say which metrics and splits they are the mean of.
    """
    from huggingface_hub import eval_result_entries_to_yaml  # slow to import

    groups = sorted(group_runs(records), key=lambda group: (group.spec.task, group.entry))
    return eval_result_entries_to_yaml([entry for group in groups for entry in _entries(group)])


def _entries(group: Group) -> Iterable[EvalResultEntry]:
    from huggingface_hub import EvalResultEntry

    score = group.score.center
    source = data_source(group.scored[0]) if score is not None else None
    if source is None or source.repository is None:
        return
    metrics = "/".join(title_of(name) for name in group.task.main_metrics)
    notes = [f"{metrics} on {', '.join(group.task.report)}", f"recipe {group.recipe}"]
    notes += [f"mean of {len(group.scored)} seeds"] if len(group.scored) > 1 else ["one seed"]
    notes += mark_names(group.marks)
    yield EvalResultEntry(
        dataset_id=source.repository,
        task_id=source.config or "default",
        value=score,
        dataset_revision=source.revision,
        date=max(run.finished for run in group.scored).isoformat(timespec="seconds"),
        notes="; ".join(notes),
    )
