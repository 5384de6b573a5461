"""What a task's rows are like, on the terminal, and as files in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.inspection.description import TOKEN_LEVELS, Description, SplitFacts
from harness.inspection.report_files import csv_file, write_files
from harness.inspection.terminal_table import print_table

_SHOWN = 5
"""Conflicts on the terminal; all are in the file."""

_LABELS = 30
"""Labels on the terminal, the most frequent of `train`; all are in the file."""


# -- on the terminal ---------------------------------------------------------------------------------------------------


def show(seen: Description) -> None:
    """Prints all tables."""
    task, splits = seen.task, seen.splits
    rows = [
        [name, f"{facts.rows:,}", f"{facts.repeated:,}", f"{facts.empty:,}", "no" if _is_hidden(facts) else "yes"]
        for name, facts in splits.items()
    ]
    print_table(f"{task.name}: {task.title}", ["split", "rows", "repeated", "empty", "labels"], rows)
    labelled = {name: facts for name, facts in splits.items() if not _is_hidden(facts)}
    _show_labels(seen, {name: facts.counts for name, facts in labelled.items() if facts.counts is not None})
    sizes = {name: facts.set_sizes for name, facts in labelled.items() if facts.set_sizes is not None}
    lines = [
        [str(size), *(f"{found.get(size, 0):,}" for found in sizes.values())]
        for size in sorted({size for found in sizes.values() for size in found})
    ]
    print_table("rows by how many labels they have", ["labels", *sizes], lines)
    values = {name: facts.values for name, facts in labelled.items() if facts.values is not None}
    lines = [[name, *(f"{value:.3f}" for value in found.values())] for name, found in values.items()]
    print_table("values, by percentile", ["split", *next(iter(values.values()), {})], lines)
    _show_lengths(seen)
    lines = [[*names.split(" & "), f"{count:,}"] for names, count in seen.shared.items()]
    print_table("texts in two splits", ["first", "second", "rows of the second"], lines)
    _show_conflicts(seen)
    for hint in seen.hints:
        print(f"note: {hint}")
    for name, facts in splits.items():
        lines = [[str(each.row), _label(each.label), _text(each.text, each.pair)] for each in facts.examples]
        print_table(f"{name}: examples", ["row", "label", "text"], lines)


def _is_hidden(facts: SplitFacts) -> bool:
    return facts.counts is None and facts.values is None


def _show_labels(seen: Description, counts: Mapping[str, Mapping[str, int]]) -> None:
    if not counts:
        return
    first, *_ = counts.values()
    labels = list(first)
    if len(labels) > _LABELS:
        labels = sorted(labels, key=lambda label: -first[label])[:_LABELS]
    lines = [
        [label, *(f"{found[label]:,} ({found[label] / seen.splits[n].rows:.1%})" for n, found in counts.items())]
        for label in labels
    ]
    what = "rows that have each label" if seen.task.is_multi_label else "rows by label"
    more = f", the {_LABELS} most frequent of {len(first)}" if len(first) > _LABELS else ""
    print_table(what + more, ["", *counts], lines)


def _show_lengths(seen: Description) -> None:
    lines = [
        [
            name,
            *(f"{length:,}" for length in found.percentiles.values()),
            f"{found.cut_rows:,} ({found.cut_rows / facts.rows:.1%})",
            f"{found.cut_tokens:,} ({found.cut_tokens / max(found.tokens, 1):.1%})",
        ]
        for name, facts in seen.splits.items()
        if (found := facts.lengths) is not None
    ]
    header = ["split", *(f"{level}%" for level in TOKEN_LEVELS), "rows cut", "tokens cut off"]
    print_table(f"tokens of a row as {seen.model} reads it, cut at {seen.max_length}", header, lines)


def _show_conflicts(seen: Description) -> None:
    rows = sum(len(conflict.places) for conflict in seen.conflicts)
    what = f"{len(seen.conflicts):,} texts in {rows:,} rows have several labels"
    lines = []
    for conflict in seen.conflicts[:_SHOWN]:
        split, row, _ = conflict.places[0]
        labels = list(dict.fromkeys(_label(label) for _, _, label in conflict.places))
        several = " / ".join([*labels[:3], *(["..."] if len(labels) > 3 else [])])
        text = _text(conflict.text, conflict.pair)
        lines.append([f"{split} {row}", f"{len(conflict.places)}", several, text])
    more = f"; the {_SHOWN} in most rows" if len(seen.conflicts) > _SHOWN else ""
    print_table(what + more, ["first", "rows", "labels", "text"], lines)


def _label(label: Any) -> str:
    if label is None:
        return "hidden"
    if isinstance(label, list):
        return "|".join(label) or "none"
    return label if isinstance(label, str) else f"{label:g}"


def _text(text: str, pair: str | None) -> str:
    return " ".join((text if pair is None else f"{text} | {pair}").split())


# -- in a folder -------------------------------------------------------------------------------------------------------


def write(
    seen: Description,
    tokens: Mapping[str, NDArray[np.int64]],
    values: Mapping[str, NDArray[np.float64]],
    folder: Path,
) -> None:
    """Every table and picture, each file whole or not at all.

    tokens: of each row by split, as `described` was given them; values: those of a regression by labelled split.

    Raises:
        UserError: the folder cannot be written.
    """
    write_files(folder, _files(seen, tokens, values))


def _files(
    seen: Description, tokens: Mapping[str, NDArray[np.int64]], values: Mapping[str, NDArray[np.float64]]
) -> dict[str, bytes]:
    from harness.inspection import description_plots as plots

    title, splits = seen.task.title, seen.splits
    files = {"description.json": (json.dumps(_facts(seen), indent=1, ensure_ascii=False) + "\n").encode()}
    pictures = {}
    counts = {name: facts.counts for name, facts in splits.items() if facts.counts is not None}
    if counts:
        labels = list(seen.task.labels or [])
        lines = ([label, *(found[label] for found in counts.values())] for label in labels)
        files["labels.csv"] = csv_file(["label", *counts], lines)
        rows = {name: splits[name].rows for name in counts}
        pictures["labels-bars"] = plots.label_bars(counts, rows, f"{title}: labels")
        first, by_label = next(iter(counts.items()))
        if not seen.task.is_multi_label:  # shares of sets of labels add up to more than the whole
            pictures["labels-pie"] = plots.label_pie(by_label, f"{title}: labels of {first}")
    if values:
        pictures["values"] = plots.histograms(values, "value", f"{title}: values")
    if tokens:
        header = ["split", *(f"{level}%" for level in TOKEN_LEVELS), "mean", "cut_rows", "cut_tokens", "tokens"]
        found = [(name, facts.lengths) for name, facts in splits.items() if facts.lengths is not None]
        lines = ([name, *lengths.percentiles.values(), *lengths[1:]] for name, lengths in found)
        files["lengths.csv"] = csv_file(header, lines)
        pictures["lengths"] = plots.length_histograms(tokens, seen.max_length, f"{title}: lengths")
    conflicts = (
        [number, split, row, _label(label), conflict.text, conflict.pair]
        for number, conflict in enumerate(seen.conflicts, start=1)
        for split, row, label in conflict.places
    )
    files["conflicts.csv"] = csv_file(["conflict", "split", "row", "label", "text", "pair"], conflicts)
    return files | {f"{name}.{form}": each for name, drawn in pictures.items() for form, each in drawn.items()}


def _facts(seen: Description) -> dict[str, Any]:
    """All but the conflicts, which have a file of their own."""
    splits = {
        name: facts._asdict()
        | {
            "lengths": None if facts.lengths is None else facts.lengths._asdict(),
            "examples": [example._asdict() for example in facts.examples],
        }
        for name, facts in seen.splits.items()
    }
    return {
        "task": seen.task.name,
        "title": seen.task.title,
        "splits": splits,
        "shared_texts": seen.shared,
        "conflicting_texts": len(seen.conflicts),
        "conflicting_rows": sum(len(conflict.places) for conflict in seen.conflicts),
        "hints": seen.hints,
        "tokenizer": seen.model,
        "max_length": seen.max_length,
    }
