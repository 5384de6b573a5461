"""A task from flags and training rows: anything the flags omit is inferred from the rows, and printed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from harness.errors import UserError
from harness.facts.tasks import TaskSpec
from harness.metrics.metric import ProblemType
from harness.rows.columns import column_names, column_values, has_column, missing_column_message
from harness.rows.files import find_files
from harness.rows.label_inference import InferredLabels, infer_choice_labels, infer_labels, is_unlabelled
from harness.rows.own_data import VALIDATION_PERCENT, OwnData, check_own_flags, split_columns
from harness.rows.own_source import file_source, hub_source, infer_delimiter, refuse_same_files
from harness.system.output import LINE_CONTROLS, escape_controls

if TYPE_CHECKING:
    import datasets

_METRICS: dict[ProblemType, list[str]] = {
    "single_label_classification": ["accuracy", "f1_macro", "precision_macro", "recall_macro"],
    "multi_label_classification": ["f1_micro", "f1_macro", "subset_accuracy", "hamming_loss"],
    "multiple_choice": ["accuracy"],
    "answer_selection": ["answer_f1", "answer_exact_match"],
    "regression": ["pearson", "spearman", "mse", "rmse", "mae"],
}
"""Metrics by problem type; the first two are the main metrics."""


class InferredTask(NamedTuple):
    """A task, and messages for the user about what was inferred."""

    task: TaskSpec
    messages: tuple[str, ...]


def infer_task(own: OwnData) -> InferredTask:
    """The task of the flags and the training rows. Files are read once; those of the Hub and URLs are downloaded.

    Raises:
        UserError: a flag is missing or invalid, or the rows cannot be used (with the row where there is one).
    """
    from harness.rows import loading

    check_own_flags(own)
    name = own.task_name
    messages: list[str] = []
    draft = _draft(own, name)
    files = find_files(draft, None)
    if files is None:
        messages.append(f"dataset: {draft.source.hub} at commit {draft.source.revision}")
    else:
        refuse_same_files(files.by_split)
        if delimiter := infer_delimiter(draft, files.by_split["train"][0]):
            source = draft.source.model_copy(update={"delimiter": delimiter})
            draft = draft.model_copy(update={"source": source})
            messages.append(f"delimiter: {delimiter!r}, inferred from the header")
    tables = loading.read_tables(draft, files).by_split
    _check_tables(own, draft, tables)
    messages.insert(0, f"task {name!r}: {', '.join(f'{len(table):,} {split} rows' for split, table in tables.items())}")
    draft = draft.model_copy(update={"fill": _infer_fill(own, draft, tables["train"])})
    labels = _infer_labels(own, draft, tables["train"])
    messages += labels.messages
    is_test_hidden = "test" in tables and _has_no_labels(draft, tables["test"])
    if is_test_hidden:
        messages.append("test: no labels, so it is predicted and not scored")
    splits = _splits(own, tables, labels.problem_type, messages)
    task = _task(draft, labels, splits, is_test_hidden)
    _refuse_unknown_labels(task, tables, labels)
    by_split = loading.cut_splits(task, tables)
    if empty := [split for split, table in by_split.items() if len(table) == 0]:
        units = "texts" if own.group_column is None else f"groups in column {own.group_column!r}"
        raise UserError(
            f"--{empty[0]}-percent: {empty[0]} would be empty: {len(tables['train']):,} training rows have too few "
            f"different {units}, and rows of equal ones stay together. Add --{empty[0]}-file."
        )
    left, is_single = len(by_split["train"]), labels.problem_type == "single_label_classification"
    fewest = len(labels.labels or ()) if is_single else 2
    if (own.validation_percent or own.test_percent) and left < fewest:
        percents = [name for name in ("validation", "test") if getattr(own, f"{name}_percent")]
        flags = " and ".join(f"--{name}-percent" for name in percents)
        raise UserError(
            f"{flags}: {left} of {len(tables['train']):,} training rows left: expected at least {fewest}"
            f"{', one per label' * is_single}. Lower the percentage, or give a file of {' and '.join(percents)} rows."
        )
    if by_split.keys() - tables.keys():
        messages.append(f"rows: {', '.join(f'{len(table):,} {split}' for split, table in by_split.items())}")
    rows = {split: len(table) for split, table in by_split.items()}
    shown = tuple(escape_controls(message, LINE_CONTROLS) for message in messages)
    return InferredTask(task.model_copy(update={"rows": rows}), shown)


def _draft(own: OwnData, name: str) -> TaskSpec:
    """The task as far as the flags define it, not validated: enough to read its rows."""
    text, join = [], {}
    first, second = split_columns("--text-columns", own.text_columns), split_columns("--pair-column", own.pair_column)
    choices = split_columns("--choice-columns", own.choice_columns)
    candidates = () if own.candidates_column is None else (own.candidates_column,)
    for columns in (first, second if own.placeholder else (*second, *candidates)):
        if columns:
            text.append("+".join(columns))
            if len(columns) > 1:
                join[text[-1]] = columns
    label = split_columns("--label-column", own.label_column)
    if candidates and len(label) > 1:
        raise UserError(f"--label-column {own.label_column}: expected one column, with the list of right candidates.")
    group = split_columns("--group-column", own.group_column)
    used = [*first, *second, *choices, *candidates, *label]
    if duplicate := next((column for column in used if used.count(column) > 1), None):
        flags = "--text-columns, --pair-column, --choice-columns, --candidates-column, --label-column"
        raise UserError(f"{flags}: duplicate column {duplicate!r}.")
    files = {"train": own.train_file, "validation": own.validation_file, "test": own.test_file}
    source, splits = hub_source(own.dataset) if own.dataset else file_source(files, own.delimiter, own.encoding)
    facts: dict[str, Any] = dict(name=name, title=name, source=source, text=tuple(text), join=join, splits=splits)
    facts |= dict(choices=choices, candidates=own.candidates_column, group=group, rows={}, metrics=(), main_metrics=())
    return TaskSpec.model_construct(**facts, label=label[0] if len(label) == 1 else label)


def _check_tables(own: OwnData, draft: TaskSpec, tables: Mapping[str, datasets.Dataset]) -> None:
    flags = dict.fromkeys(draft.text_columns, "--text-columns") | dict.fromkeys(draft.label_columns, "--label-column")
    flags |= dict.fromkeys(split_columns("--pair-column", own.pair_column), "--pair-column")
    flags |= dict.fromkeys(draft.choices, "--choice-columns") | dict.fromkeys(draft.group, "--group-column")
    flags |= dict.fromkeys(filter(None, [draft.candidates]), "--candidates-column")
    for split, table in tables.items():
        for column, flag in flags.items():
            if not has_column(table, column) and not (split == "test" and flag == "--label-column"):
                known = column_names(table.data.schema)
                message = missing_column_message(column, f" in {split}", known)
                if any(len(name.split()) > 4 for name in known):
                    message += " The first line seems to be a row: put a line of column names above it."
                raise UserError(f"{flag}: {message}")
        if len(table) == 0:
            raise UserError(f"--{split}-file: {split} has no rows.")
        for parts in (draft.text_source(name).parts for name in draft.text):
            for column in parts:
                if column != draft.candidates:
                    _check_texts(flags[column], split, table, column, is_optional=len(parts) > 1)


def _check_texts(flag: str, split: str, table: datasets.Dataset, column: str, is_optional: bool) -> None:
    """Raises UserError for a value that is no text, with its row in the file, before the split."""
    is_text = getattr(table.features.get(column), "dtype", None) in ("string", "large_string")
    if is_text and (is_optional or table.data.column(column).null_count == 0):
        return  # creates no Python object per text
    values = column_values(table, column)
    for row, value in enumerate(values, start=1):
        if not (isinstance(value, str) or (value is None and is_optional)):
            missing = sum(each is None for each in values)
            problem = f"{value!r:.200} is not a text. Fill in or delete this row."
            if value is None:
                problem = f"missing text ({missing:,} of {len(table):,} rows). Fill in or delete these rows."
            raise UserError(f"{flag}: column {column!r}, row {row:,} of {split}: {problem}")


def _infer_fill(own: OwnData, draft: TaskSpec, table: datasets.Dataset) -> dict[str, str]:
    """The placeholder by its column: the text column in which most training rows have it."""
    if own.placeholder is None:
        return {}
    rows = {
        column: sum(own.placeholder in str(value) for value in column_values(table, column))
        for column in draft.text_columns
    }
    column = max(rows, key=lambda name: rows[name])
    if not rows[column]:
        raise UserError(f"--placeholder {own.placeholder}: not found in any training row of {', '.join(rows)}.")
    return {column: own.placeholder}


def _infer_labels(own: OwnData, draft: TaskSpec, table: datasets.Dataset) -> InferredLabels:
    if draft.choices:
        return infer_choice_labels(table, draft.label_columns[0], draft.choices)
    if draft.candidates is None:
        return infer_labels(table, draft.label_columns, own.problem_type, own.label_separator)
    replaced = "".join(f", in place of {text!r} in {column!r}" for column, text in draft.fill.items())
    message = f"problem type: answer_selection, of the candidates in {draft.candidates!r}{replaced}"
    return InferredLabels("answer_selection", None, None, [message])


def _has_no_labels(draft: TaskSpec, table: datasets.Dataset) -> bool:
    if not all(has_column(table, column) for column in draft.label_columns):
        return True
    values = [value for column in draft.label_columns for value in column_values(table, column)]
    return all(is_unlabelled(value) or (draft.candidates and value in ([], "[]")) for value in values)


def _splits(own: OwnData, tables: Mapping[str, Any], problem_type: str, messages: list[str]) -> dict[str, str]:
    splits = {split: split for split in tables}
    shares = {
        split: percent
        for split, percent in (("validation", own.validation_percent or VALIDATION_PERCENT), ("test", own.test_percent))
        if percent and split not in tables
    }
    low = 100 - sum(shares.values())
    if shares:
        splits["train"] = f"train[stratified :{low}%]"
    for split, percent in shares.items():
        high = low + percent
        splits[split] = f"train[stratified {low}%:{'' if high == 100 else f'{high}%'}]"
        has_classes = problem_type not in ("regression", "answer_selection")
        how = "each label in its proportion" if has_classes else "at random"
        together = "groups" if own.group_column else "equal texts"
        messages.append(
            f"{split}: {percent}% of the training rows, {how}, the same ones in every run; {together} stay together"
        )
        low = high
    return splits


def _task(draft: TaskSpec, labels: InferredLabels, splits: dict[str, str], is_test_hidden: bool) -> TaskSpec:
    metrics = [*_METRICS[labels.problem_type]]
    if draft.group and labels.problem_type == "single_label_classification":
        metrics.insert(1, "exact_match_by_group")
    order = {split: splits[split] for split in ("train", "validation", "test") if split in splits}
    is_tested = "test" in splits and not is_test_hidden
    facts: dict[str, Any] = dict(
        draft.model_dump(include={"name", "title", "text", "join", "label", "group", "choices", "candidates", "fill"}),
        source=draft.source,
        labels=labels.labels,
        splits=order,
        rows={},
        evaluate=["validation", "test"] if is_tested else ["validation"],
        report=["test"] if is_tested else ["validation"],
        predict=["test"] if is_test_hidden else [],
        metrics=metrics,
        main_metrics=metrics[:2],
    )
    if labels.problem_type == "multi_label_classification":
        facts |= {"problem_type": labels.problem_type, "separator": labels.separator}
    try:
        return TaskSpec(**facts)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"--label-column: {str(fault['msg']).removeprefix('Value error, ')}.") from None


def _refuse_unknown_labels(task: TaskSpec, tables: Mapping[str, datasets.Dataset], inferred: InferredLabels) -> None:
    """Raises UserError for the labels of other files that the training rows do not have.

    Labels of other problem types are checked when they are read.
    """
    if inferred.problem_type != "single_label_classification":
        return
    for split, table in tables.items():
        if split == "train" or split in task.predict:
            continue
        unknown: dict[str, list[int]] = {}
        for row, label in enumerate(inferred.to_names(column_values(table, task.label_columns[0])), start=1):
            if label not in inferred.names and not is_unlabelled(label):
                unknown.setdefault(label, []).append(row)
        if unknown:
            shown = ", ".join(f"{label!r} (row {rows[0]})" for label, rows in list(unknown.items())[:5])
            raise UserError(
                f"--{split}-file: {sum(map(len, unknown.values())):,} rows have labels that no training row has: "
                f"{shown}. Labels of the training rows: {', '.join(inferred.names)}."
            )
