"""A description of rows on the terminal, and as files in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.inspection.description import TOKEN_PERCENTS, Description
from harness.inspection.output_files import write_output_files
from harness.inspection.pictures import label_bars, label_pie, length_histograms, value_histograms
from harness.inspection.terminal_table import one_line, print_table
from harness.metrics.registry import format_score
from harness.system.spreadsheets import csv_text

_MAX_CONFLICTS = 5
"""Conflicts on the terminal; the file has all."""

_MAX_LABELS = 30
"""Labels on the terminal, the most frequent of the first labelled split; the file has all."""


# -- terminal ----------------------------------------------------------------------------------------------------------


def print_description(description: Description) -> None:
    """Prints all tables."""
    task, splits = description.task, description.splits
    rows = [
        [name, *(f"{n:,}" for n in (facts.rows, facts.repeated, facts.empty)), "yes" if facts.is_labelled else "no"]
        for name, facts in splits.items()
    ]
    print_table(f"{task.name}: {task.title}", ["split", "rows", "repeated", "empty", "labels"], rows)
    _print_labels(description)
    _print_sizes("rows by number of labels", "labels", {name: facts.set_sizes for name, facts in splits.items()})
    _print_sizes("groups by number of rows", "rows", {name: facts.group_sizes for name, facts in splits.items()})
    values = {name: facts.values for name, facts in splits.items() if facts.values is not None}
    percents = next(iter(values.values()), {})
    rows = [[percent, *(format_score(by_percent[percent]) for by_percent in values.values())] for percent in percents]
    print_table("values, by percentile", ["", *values], rows)
    _print_lengths(description)
    rows = [[*names.split(" & "), f"{count:,}"] for names, count in description.shared.items()]
    print_table("texts in two splits", ["first", "second", "rows of the second"], rows)
    _print_conflicts(description)
    for note in description.notes:
        print(f"note: {note}")
    for name, facts in splits.items():
        rows = [[str(each.row), _label_text(each.label), one_line(each.text, each.pair)] for each in facts.examples]
        print_table(f"{name}: examples", ["row", "label", "text"], rows)


def _print_sizes(title: str, unit: str, by_split: Mapping[str, Mapping[int, int] | None]) -> None:
    """Prints how often each size occurs, by split."""
    known = {name: counts for name, counts in by_split.items() if counts is not None}
    sizes = sorted(set().union(*known.values()))
    rows = [[str(size), *(f"{counts.get(size, 0):,}" for counts in known.values())] for size in sizes]
    print_table(title, [unit, *known], rows)


def _print_labels(description: Description) -> None:
    counts = _label_counts(description)
    if not counts:
        return
    first, *_ = counts.values()
    title = "rows that have each label" if description.task.is_multi_label else "rows by label"
    labels = list(first)
    if len(labels) > _MAX_LABELS:
        labels = sorted(labels, key=lambda label: -first[label])[:_MAX_LABELS]
        title += f", the {_MAX_LABELS} most frequent of {len(first)}"
    total = {name: facts.rows for name, facts in description.splits.items()}
    rows = [
        [label, *(f"{by_label[label]:,} ({by_label[label] / total[name]:.1%})" for name, by_label in counts.items())]
        for label in labels
    ]
    print_table(title, ["", *counts], rows)


def _label_counts(description: Description) -> dict[str, Mapping[str, int]]:
    return {name: facts.counts for name, facts in description.splits.items() if facts.counts is not None}


def _print_lengths(description: Description) -> None:
    rows = [
        [
            name,
            *(f"{length:,}" for length in lengths.percentiles.values()),
            f"{lengths.cut_rows:,} ({lengths.cut_rows / facts.rows:.1%})",
            f"{lengths.cut_tokens:,} ({lengths.cut_tokens / max(lengths.tokens, 1):.1%})",
        ]
        for name, facts in description.splits.items()
        if (lengths := facts.lengths) is not None
    ]
    header = ["split", *(f"{percent}%" for percent in TOKEN_PERCENTS), "rows cut", "tokens cut off"]
    title = f"tokens per row with the tokenizer of {description.model}, cut at {description.max_length}"
    print_table(title, header, rows)


def _print_conflicts(description: Description) -> None:
    number, total = len(description.conflicts), sum(len(conflict.rows) for conflict in description.conflicts)
    rows = []
    for conflict in description.conflicts[:_MAX_CONFLICTS]:
        split, row, _ = conflict.rows[0]
        labels = list(dict.fromkeys(_label_text(label) for _, _, label in conflict.rows))
        listed = " / ".join([*labels[:3], *(["..."] if len(labels) > 3 else [])])
        rows.append([f"{split} {row}", f"{len(conflict.rows)}", listed, one_line(conflict.text, conflict.pair)])
    title = f"contradictory labels: {number:,} text{'s' * (number > 1)} in {total:,} rows"
    if number > _MAX_CONFLICTS:
        title += f", the {_MAX_CONFLICTS} in most rows"
    print_table(title, ["first", "rows", "labels", "text"], rows)


def _label_text(label: Any) -> str:
    if label is None:
        return "hidden"
    if isinstance(label, list):
        return "|".join(label) or "none"
    return label if isinstance(label, str) else f"{label:g}"


# -- files -------------------------------------------------------------------------------------------------------------


def write_description(description: Description, folder: Path) -> None:
    """Writes every table and picture.

    Raises:
        UserError: the folder cannot be written.
    """
    task, title, splits = description.task, description.task.title, description.splits
    texts, pictures = {"description.json": _as_json(description)}, {}
    if counts := _label_counts(description):
        rows = ([label, *(by_label[label] for by_label in counts.values())] for label in task.labels or [])
        texts["labels.csv"] = csv_text(["label", *counts], rows)
        totals = {name: splits[name].rows for name in counts}
        pictures["labels-bars"] = label_bars(counts, totals, f"{title}: labels")
        if not task.is_multi_label:  # shares of labels in sets add up to more than the whole
            first = next(iter(counts))
            pictures["labels-pie"] = label_pie(counts[first], f"{title}: labels of {first}")
    if description.values:
        pictures["values"] = value_histograms(description.values, f"{title}: values")
    if description.tokens:
        header = ["split", *(f"{percent}%" for percent in TOKEN_PERCENTS), "mean", "cut_rows", "cut_tokens", "tokens"]
        lengths = [(name, facts.lengths) for name, facts in splits.items() if facts.lengths is not None]
        rows = ([name, *each.percentiles.values(), *each[1:]] for name, each in lengths)
        texts["lengths.csv"] = csv_text(header, rows)
        pictures["lengths"] = length_histograms(description.tokens, description.max_length, f"{title}: lengths")
    conflicts = (
        [number, split, row, _label_text(label), conflict.text, conflict.pair]
        for number, conflict in enumerate(description.conflicts, start=1)
        for split, row, label in conflict.rows
    )
    texts["conflicts.csv"] = csv_text(["conflict", "split", "row", "label", "text", "pair"], conflicts)
    write_output_files(folder, texts, pictures)


def _as_json(description: Description) -> str:
    """Everything but the conflicts, which have a file of their own."""
    splits = {}
    for name, facts in description.splits.items():
        lengths = None if facts.lengths is None else facts.lengths._asdict()
        splits[name] = facts._asdict() | {"lengths": lengths, "examples": [each._asdict() for each in facts.examples]}
    content = {
        "task": description.task.name,
        "title": description.task.title,
        "splits": splits,
        "shared_texts": description.shared,
        "conflicting_texts": len(description.conflicts),
        "conflicting_rows": sum(len(conflict.rows) for conflict in description.conflicts),
        "notes": description.notes,
        "tokenizer": description.model,
        "max_length": description.max_length,
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
