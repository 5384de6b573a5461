"""`harness export`: writes records in formats of the Hub, in that of Every Eval Ever, or as a table in LaTeX."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from harness.errors import UserError, boundary, did_you_mean
from harness.facts.choices import read_searches
from harness.facts.records import RunRecord, missing_records, read_records
from harness.reports.every_eval_ever import Relationship, collection_path, every_eval_ever
from harness.reports.hub_metadata import eval_results, model_index
from harness.reports.latex import render_latex
from harness.reports.standings import build_leaderboard
from harness.stats.groups import group_runs, rejected_groups
from harness.system.atomic import write_atomically
from harness.system.command_line import parse_flags


@dataclass(frozen=True)
class ExportOptions:
    """Write records in another format."""

    format: Literal["latex", "model-index", "eval-results", "every-eval-ever"]
    """latex: the leaderboard's table for a paper; model-index: YAML metadata of one model for its card on the Hub;
    eval-results: its main scores as a file for .eval_results on the Hub; every-eval-ever: a JSON file per run."""
    results: Path = Path("results")
    """The folder with runs/."""
    model: tuple[str, ...] = ()
    """Only runs of these models, by their names in the records; a single one for the Hub's formats."""
    recipe: str | None = None
    """Only runs with these differences from the default recipe, as in the leaderboard; `default` for none."""
    task: tuple[str, ...] = ()
    """Only runs of these tasks."""
    name: str | None = None
    """model-index: the name of the fine-tuned model; by default the short name of --model."""
    organization: str | None = None
    """every-eval-ever: the organization that made the runs."""
    relationship: Relationship = "third_party"
    """every-eval-ever: its relationship to the developer of the model."""
    output: Path | None = None
    """The file to write, by default standard output, or the folder (every-eval-ever)."""


def main(arguments: Sequence[str]) -> None:
    """Writes the chosen format; names unreadable records on stderr and counts those without a score.

    Raises:
        UserError: no run matches, or a flag is missing.
    """
    options = parse_flags(ExportOptions, arguments, "export")
    records, messages = read_records(options.results)
    if not records:
        raise UserError(f"--results {missing_records(options.results, messages)}")
    for message in messages:
        print(message, file=sys.stderr)
    matching = _matching(records, options)
    if options.format == "every-eval-ever":
        _write_every_eval_ever(matching, options)
    else:
        shown = matching if options.recipe else _without_rejected(matching, options.results)
        scored = [run for run in shown if not run.spec.test_mode]  # whose rows are generated
        text = ""
        if options.format != "latex":
            text = _hub_metadata(scored, options)
        elif any(run.metrics for run in scored):
            text = render_latex(build_leaderboard(scored))
        if not text:
            names = ", ".join(sorted({run.spec.model for run in shown}))
            raise UserError(f"{names}: no score in {len(shown)} run(s) that fits {options.format}, outside test mode.")
        _write(text, options.output)


def _without_rejected(records: Sequence[RunRecord], results: Path) -> list[RunRecord]:
    """The runs of a leaderboard: without those of points that a grid did not choose, which are counted on stderr."""
    searches, messages = read_searches(results)
    rejected = {run.run_id for group in rejected_groups(list(group_runs(records)), searches) for run in group.runs}
    if rejected:
        messages.append(f"{len(rejected)} run(s) left out, of points that a grid did not choose.")
    for message in messages:
        print(message, file=sys.stderr)
    return [run for run in records if run.run_id not in rejected]


def _matching(records: Sequence[RunRecord], options: ExportOptions) -> list[RunRecord]:
    """The runs that the flags select, in the order of the records."""
    entries = {run.run_id: group.entry for group in group_runs(records) for run in group.runs}
    for flag, wanted, known in (
        ("--model", options.model, {entry.model for entry in entries.values()}),
        ("--recipe", [options.recipe] if options.recipe else [], {entry.variant for entry in entries.values()}),
        ("--task", options.task, {run.spec.task for run in records}),
    ):
        for value in wanted:
            if value not in known:
                listed = ", ".join(sorted(known))
                suggestion = did_you_mean(value, known)
                raise UserError(f"{flag} {value}: not found in the records, which have: {listed}.{suggestion}")
    matching = [
        run
        for run in records
        if (not options.model or entries[run.run_id].model in options.model)
        and options.recipe in (None, entries[run.run_id].variant)
        and (not options.task or run.spec.task in options.task)
    ]
    if not matching:
        raise UserError("--model, --recipe, --task: no record matches all of them. Drop one.")
    return matching


def _hub_metadata(records: Sequence[RunRecord], options: ExportOptions) -> str:
    """The metadata of one model; empty without a score that fits.

    Raises:
        UserError: the records are of several models.
    """
    models = sorted({group.entry.model for group in group_runs(records)})
    if not models:
        return ""
    if len(models) > 1:
        names = ", ".join(models)
        raise UserError(f"--model: {options.format} describes one model, got {len(models)}. Name one of: {names}.")
    if options.format == "eval-results":
        entries = eval_results(records)
        return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True) if entries else ""
    from huggingface_hub import ModelCardData

    results = model_index(records)
    name = options.name or models[0].rsplit("/", 1)[-1]
    return ModelCardData(model_name=name, eval_results=results).to_yaml() + "\n" if results else ""


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    with boundary(f"--output {output}: cannot be written"):
        write_atomically(output, text)
    print(output)


def _write_every_eval_ever(records: Sequence[RunRecord], options: ExportOptions) -> None:
    if not options.organization:
        raise UserError("--organization is missing: name the organization that made the runs.")
    if options.output is None:
        raise UserError("--output is missing: name the folder for the files, one per run.")
    written = 0
    for run in records:
        content = every_eval_ever(run, options.organization, options.relationship)
        if run.spec.test_mode or not content["evaluation_results"]:
            continue
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        with boundary(f"--output {options.output}: cannot be written"):
            write_atomically(options.output / collection_path(run), text)
        written += 1
    if not written:
        raise UserError(f"{len(records)} run(s), all in test mode or without a score: there is nothing to export.")
    print(f"{options.output}: {written} file(s)")
    if written < len(records):
        print(f"{len(records) - written} run(s) left out: in test mode, or without a score.", file=sys.stderr)
