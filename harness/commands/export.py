"""`harness export`: records in the formats of others: the Hub's model-index, and Every Eval Ever."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from harness.errors import UserError, did_you_mean
from harness.facts.metrics import title_of
from harness.facts.records import RunRecord, read_records, write_atomically
from harness.reports.every_eval_ever import Evaluator, Relationship, Source, every_eval_ever, place_of, source_of
from harness.stats.groups import MARKS, Group, grouped, in_order

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_HUB_METRICS: dict[str, tuple[str, dict[str, str | bool] | None]] = {
    "f1_macro": ("f1", {"average": "macro"}),
    "f1_micro": ("f1", {"average": "micro"}),
    "precision_macro": ("precision", {"average": "macro"}),
    "recall_macro": ("recall", {"average": "macro"}),
    "pearson": ("pearsonr", None),
    "spearman": ("spearmanr", None),
    "rmse": ("mse", {"squared": False}),
}
"""Ours: the metric of the Hub that it is, and the arguments that make it so. Any other has one name on both sides."""


def model_index(records: Sequence[RunRecord]) -> list[EvalResult]:
    """What the Hub shows on a model's card: a result per task, split and metric of the task.

    A value is the mean over the runs that agree in all but the seed, a fraction where the metric ranges to 1; one
    that is undefined in a run is left out. A metric's name says over how many seeds, and what the runs' marks mean.
    """
    groups = sorted(grouped(records), key=lambda group: (group.spec.task, group.row))
    per_task = Counter(group.spec.task for group in groups)
    return [result for group in groups for result in _results(group, is_alone=per_task[group.spec.task] == 1)]


def _results(group: Group, is_alone: bool) -> Iterable[EvalResult]:
    from huggingface_hub import EvalResult  # the client of the Hub, which a table in the terminal does not need

    source = source_of(group.scored[0]) if group.scored else Source()
    remarks = [] if is_alone else [group.recipe]
    if len(group.scored) > 1:
        remarks.append(f"mean of {len(group.scored)} seeds")
    remarks += [MARKS[mark].partition(":")[0].partition(",")[0] for mark in in_order(group.marks)]
    for split, metric in group.places:
        value = group.over_seeds(split, metric).mean
        if value is None or metric not in group.task.metrics:
            continue
        kind, arguments = _HUB_METRICS.get(metric, (metric, None))
        yield EvalResult(
            task_type="text-classification",
            task_name="Text Classification",
            dataset_type=source.repository or group.spec.task,
            dataset_name=group.task.title,
            dataset_config=source.config,
            dataset_split=split,
            dataset_revision=source.revision,
            metric_type=kind,
            metric_args=arguments,
            metric_value=value,
            metric_name=title_of(metric) + (f" ({'; '.join(remarks)})" if remarks else ""),
        )


@dataclass(frozen=True)
class ExportOptions:
    """Write records in the format of others."""

    format: Literal["model-index", "every-eval-ever"]
    """model-index: metadata of one model for its card on the Hub, in YAML; every-eval-ever: a JSON file per run."""
    results: Path = Path("results")
    """The folder that holds runs/."""
    model: str | None = None
    """Only runs of this model, by its name in the records. model-index needs it where there are several."""
    recipe: str | None = None
    """Only runs whose recipe differs in this from the default, as the leaderboard shows it; `default` for none."""
    task: tuple[str, ...] = ()
    """Only runs of these tasks."""
    name: str | None = None
    """model-index: what the model is called that came of it; the short name of --model where it is left out."""
    organization: str | None = None
    """every-eval-ever: who made the runs."""
    relationship: Relationship = "third_party"
    """every-eval-ever: of these to those who made the model."""
    output: Path | None = None
    """The file (model-index; standard output where it is left out) or the folder (every-eval-ever) to write."""


def main(arguments: Sequence[str]) -> None:
    """Writes what was asked for; records that cannot be read or have no score are named or counted on stderr.

    Raises:
        UserError: nothing is there to write, or the flags do not say enough.
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    options = tyro.cli(ExportOptions, args=list(arguments), prog="harness export", config=config)
    records, problems = read_records(options.results)
    for problem in problems:
        print(problem, file=sys.stderr)
    chosen = _chosen(records, options)
    if options.format == "model-index":
        _write_model_index(chosen, options)
    else:
        _write_every_eval_ever(chosen, options)


def _chosen(records: Sequence[RunRecord], options: ExportOptions) -> list[RunRecord]:
    """The runs that the flags name, in the order of the records."""
    if not records:
        raise UserError(f"--results {options.results}: there is no record under {options.results / 'runs'}.")
    rows = {run.run_id: (group.row, run) for group in grouped(records) for run in group.runs}
    for flag, wanted, known in (
        ("--model", [options.model] if options.model else [], {row.model for row, _ in rows.values()}),
        ("--recipe", [options.recipe] if options.recipe else [], {row.variant for row, _ in rows.values()}),
        ("--task", options.task, {run.spec.task for run in records}),
    ):
        for word in wanted:
            if word not in known:
                listed = ", ".join(sorted(known))
                raise UserError(
                    f"{flag} {word}: no record has it.{did_you_mean(word, known)} The records have: {listed}."
                )
    found = [
        run
        for run in records
        if options.model in (None, rows[run.run_id][0].model)
        and options.recipe in (None, rows[run.run_id][0].variant)
        and (not options.task or run.spec.task in options.task)
    ]
    if not found:
        raise UserError("No record has this model, recipe and task together.")
    return found


def _write_model_index(records: Sequence[RunRecord], options: ExportOptions) -> None:
    from huggingface_hub import ModelCardData

    if len(models := sorted({group.row.model for group in grouped(records)})) > 1:
        raise UserError(f"--model: a model-index is of one model. Name one of: {', '.join(models)}.")
    results = model_index(records)
    if not results:
        raise UserError(f"{models[0]}: none of the {len(records)} run(s) has a score.")
    name = options.name or models[0].rsplit("/", 1)[-1]
    text = ModelCardData(model_name=name, eval_results=results).to_yaml() + "\n"
    if options.output is None:
        print(text, end="")
    else:
        write_atomically(options.output, text)
        print(options.output)


def _write_every_eval_ever(records: Sequence[RunRecord], options: ExportOptions) -> None:
    if not options.organization:
        raise UserError("--organization is missing: the schema wants to know who made the runs.")
    if options.output is None:
        raise UserError("--output is missing: the folder for the files, one of each run.")
    evaluator = Evaluator(options.organization, options.relationship)
    written = 0
    for run in records:
        content = every_eval_ever(run, evaluator)
        if run.spec.test_mode or not content["evaluation_results"]:
            continue
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomically(options.output / place_of(run), text)
        written += 1
    print(f"{options.output}: {written} file(s)")
    if written < len(records):
        print(f"{len(records) - written} run(s) left out: in test mode, or without a score.", file=sys.stderr)
