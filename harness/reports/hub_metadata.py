"""Scores as metadata of a model on the Hub: the model-index of its card, and its main scores for .eval_results.

The Hub shows both on the model's page. An entry of .eval_results is also on the page of its data set, if that is
registered as a benchmark with this task; the format is that of https://huggingface.co/docs/hub/eval-results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.facts.records import RunRecord
from harness.metrics.registry import title_of
from harness.reports.every_eval_ever import DataSource, data_source
from harness.stats.groups import Group, group_runs, mark_names

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

_HUB_METRICS: dict[str, tuple[str, dict[str, str | bool] | None]] = {
    "f1_macro": ("f1", {"average": "macro"}),
    "f1_micro": ("f1", {"average": "micro"}),
    "precision_macro": ("precision", {"average": "macro"}),
    "recall_macro": ("recall", {"average": "macro"}),
    "pearson": ("pearsonr", None),
    "spearman": ("spearmanr", None),
    "rmse": ("mse", {"squared": False}),
}
"""Metrics that have another name on the Hub, with their arguments there."""


def _groups(records: Sequence[RunRecord]) -> list[Group]:
    """The runs that differ in their seed only, by task and model."""
    return sorted(group_runs(records), key=lambda group: (group.spec.task, group.entry))


def model_index(records: Sequence[RunRecord]) -> list[EvalResult]:
    """A result for each task, split and metric of the task.

    A value is the mean over the runs that differ in their seed only, a fraction where the metric's maximum is 1. Left
    out are values that are undefined in a run, and those of the half of a split on which a holdout run was selected.
    The metric's name has the number of seeds and the runs' marks.
    """
    groups = _groups(records)
    per_task = Counter(group.spec.task for group in groups)
    return [result for group in groups for result in _results(group, is_only=per_task[group.spec.task] == 1)]


def _revision(group: Group) -> list[str]:
    """The start of the model's commit or hash where the runs are of several."""
    revision = group.entry.label.removeprefix(group.entry.model).removeprefix("@")
    return [f"revision {revision}"] if revision else []


def _results(group: Group, is_only: bool) -> Iterable[EvalResult]:
    from huggingface_hub import EvalResult  # slow to import

    source = data_source(group.scored[0]) if group.scored else DataSource()
    qualifiers = [*_revision(group), *([] if is_only else [group.recipe])]
    if len(group.scored) > 1:
        qualifiers.append(f"mean of {len(group.scored)} seeds")
    qualifiers += mark_names(group.marks)
    for split, metric in group.metrics:
        value = group.over_seeds(split, metric).center
        is_selection_half = f"{split}_holdout" in group.task.report
        if value is None or is_selection_half or metric not in group.task.metrics:
            continue
        hub_metric, arguments = _HUB_METRICS.get(metric, (metric, None))
        yield EvalResult(
            task_type="text-classification",
            task_name="Text Classification",
            dataset_type=source.repository or group.spec.task,
            dataset_name=group.task.title,
            dataset_config=source.config,
            dataset_split=split,
            dataset_revision=source.revision,
            metric_type=hub_metric,
            metric_args=arguments,
            metric_value=value,
            metric_name=title_of(metric) + (f" ({'; '.join(qualifiers)})" if qualifiers else ""),
        )


def eval_results(records: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """An entry for each task with rows from the Hub: the main score, the mean over runs that differ in their seed only.

    Scores are fractions where the metric's maximum is 1. The notes say which metrics and splits they are the mean of.
    """
    from huggingface_hub import eval_result_entries_to_yaml

    return eval_result_entries_to_yaml([entry for group in _groups(records) for entry in _entries(group)])


def _entries(group: Group) -> Iterable[EvalResultEntry]:
    from huggingface_hub import EvalResultEntry

    score = group.score.center
    source = data_source(group.scored[0]) if score is not None else None
    if source is None or source.repository is None:
        return
    metrics = "/".join(title_of(name) for name in group.task.main_metrics)
    notes = [f"{metrics} on {', '.join(group.task.report)}", *_revision(group), f"recipe {group.recipe}"]
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
