"""A task from the command line alone: what the flags do not say is worked out from the training rows, and said."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from harness.errors import UserError, did_you_mean
from harness.facts.metrics import ProblemType
from harness.facts.sources import Source, ending_of
from harness.facts.tasks import TaskSpec, task_names
from harness.rows.columns import values_of
from harness.rows.files import Files, files_of
from harness.rows.formats import DELIMITERS, likely_delimiter
from harness.rows.label_inference import Answers, answers_of, is_hidden

if TYPE_CHECKING:
    import datasets

VALIDATION_PERCENT = 10
"""Of the training rows, where there are no validation rows."""

_METRICS = {
    "single_label_classification": (
        ["accuracy", "f1_macro", "precision_macro", "recall_macro"],
        ["accuracy", "f1_macro"],
    ),
    "multi_label_classification": (
        ["f1_micro", "f1_macro", "subset_accuracy", "hamming_loss"],
        ["f1_micro", "f1_macro"],
    ),
    "regression": (["pearson", "spearman", "mse", "rmse", "mae"], ["pearson", "spearman"]),
}
"""By kind: all, and those that stand in the leaderboard."""

_OTHER_NAMES = {"validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
"""What data sets of the Hub call their splits."""


@dataclass(frozen=True)
class OwnData:
    """Rows of your own, in place of --task; what is not given is worked out from the training rows, and said."""

    train_file: tuple[str, ...] = ()
    """CSV, TSV, JSON, JSONL, Parquet, Arrow or Excel, compressed or not: paths, a quoted pattern or URLs."""
    validation_file: tuple[str, ...] = ()
    """By default a part of the training rows is taken, each label in its proportion."""
    test_file: tuple[str, ...] = ()
    """Scored at the end, or only predicted where it has no labels."""
    dataset: str | None = None
    """A data set of the Hub instead of files: organisation/name, :config and @commit if need be."""
    text_columns: str | None = None
    """The column of the text; several, as title,body, are joined into one text, one below the other."""
    pair_column: str | None = None
    """The column of the second text of a pair."""
    label_column: str = "label"
    """The column of the label; several, as toxic,insult, are one column of 0 and 1 for each label."""
    label_separator: str | None = None
    """What stands between the labels of a row, where one column has several labels in a text."""
    problem_type: ProblemType | None = None
    """One label a row, any number of them, or a value."""
    name: str | None = None
    """The task's name; by default the training file's, without its ending."""
    validation_percent: int | None = None
    """Of the training rows, where no validation rows are given: 10 by default."""
    test_percent: int | None = None
    """Of the training rows, where no test rows are given: none by default."""
    delimiter: str | None = None
    """What stands between the fields of a CSV."""
    encoding: str | None = None
    """Of a text file that is not UTF-8, such as iso-8859-9 for Turkish."""

    @property
    def is_given(self) -> bool:
        return self != OwnData()

    @property
    def task_name(self) -> str:
        """The name the task has.

        Raises:
            UserError: there is none to be made, or a registered task has it.
        """
        if self.name is not None:
            wish, flag = self.name, f"--name {self.name}"
        elif self.dataset is not None:
            wish, flag = re.sub(r"@.*", "", self.dataset).rsplit("/", 1)[-1].replace(":", "-"), "--dataset"
        else:
            path = re.sub(r"[?#].*", "", self.train_file[0]) if self.train_file else ""
            wish, flag = PurePosixPath(path).name.split(".")[0], "--train-file"
        name = re.sub(r"[^\w.-]+", "-", wish).strip("-.")
        if not name or (self.name is not None and name != wish):
            raise UserError(f"{flag}: give the task a --name of letters, digits, '-', '_' and '.'.")
        if name in task_names():
            raise UserError(f"{flag}: {name!r} is a registered task. Give yours another --name.")
        return name


FLAGS = tuple(f"--{field.name.replace('_', '-')}" for field in fields(OwnData))


class InferredTask(NamedTuple):
    """A task, and how it came about."""

    task: TaskSpec
    told: tuple[str, ...]
    """Sentences for the user."""


def infer_task(own: OwnData) -> InferredTask:
    """The task that the flags and the training rows make. Files are read once, those of the Hub and URLs fetched.

    Raises:
        UserError: a flag is missing or wrong, or the rows cannot be used, with the row where there is one.
    """
    from harness.rows import loading

    _check_flags(own)
    name = own.task_name
    told: list[str] = []
    draft = _draft(own, name)
    if own.dataset is None:
        draft = draft.model_copy(update={"source": _with_delimiter(own, draft, told)})
        files = {split: files_of(name, words) for split, words in draft.source.words.items()}
        _refuse_same_files(files)
        tables = loading.read_tables(draft, Files(files, are_canonical=False, are_named_by_task=True)).by_split
    else:
        tables = loading.read_tables(draft, None).by_split
        told.append(f"data set: {draft.source.hub} at commit {draft.source.revision}")
    _check_columns(own, draft, tables)
    told.insert(0, f"task {name!r}: {', '.join(f'{len(table):,} rows of {split}' for split, table in tables.items())}")
    answers = answers_of(tables["train"], draft.label_columns, own.problem_type, own.label_separator)
    told += answers.told
    hidden = _is_without_labels(tables.get("test"), draft.label_columns, answers)
    if hidden:
        told.append("test: has no labels, so it is predicted and not scored")
    splits = _splits(own, tables, answers.problem_type, told)
    task = _task(draft, answers, splits, hidden)
    _refuse_unknown_labels(task, tables, answers)
    cut = loading.cut(task, tables)
    if empty := [split for split, table in cut.items() if len(table) == 0]:
        raise UserError(
            f"--{empty[0]}-percent: {empty[0]} would be empty, {len(tables['train']):,} rows are too few to share. "
            f"Give --{empty[0]}-file."
        )
    if cut.keys() - tables.keys():
        told.append(f"rows: {', '.join(f'{len(table):,} of {split}' for split, table in cut.items())}")
    return InferredTask(
        task.model_copy(update={"rows": {split: len(table) for split, table in cut.items()}}), tuple(told)
    )


# -- flags -------------------------------------------------------------------------------------------------------------


def _check_flags(own: OwnData) -> None:
    if not own.train_file and own.dataset is None:
        raise UserError("--train-file: name the file of the training rows, or a --dataset of the Hub.")
    if own.dataset is not None and (own.train_file or own.validation_file or own.test_file):
        raise UserError(f"--dataset {own.dataset}: give either a data set of the Hub or files, not both.")
    if own.text_columns is None:
        raise UserError("--text-columns: name the column of the text, or several as title,body.")
    for split, files, percent in (
        ("validation", own.validation_file, own.validation_percent),
        ("test", own.test_file, own.test_percent),
    ):
        if percent is not None and files:
            raise UserError(f"--{split}-percent {percent}: there is a --{split}-file already; leave one out.")
        if percent is not None and not 0 < percent < 100:
            raise UserError(f"--{split}-percent {percent}: give whole percents from 1 to 99.")
    if (own.validation_percent or VALIDATION_PERCENT) + (own.test_percent or 0) >= 100:
        raise UserError("--validation-percent and --test-percent: together they leave no training rows.")


def _draft(own: OwnData, name: str) -> TaskSpec:
    """The task as far as the flags tell it, unchecked: enough to read its rows."""
    text, join = [], {}
    for flag, words in (("--text-columns", own.text_columns), ("--pair-column", own.pair_column)):
        if words is not None:
            columns = _columns(flag, words)
            text.append("+".join(columns))
            if len(columns) > 1:
                join[text[-1]] = columns
    label = _columns("--label-column", own.label_column)
    used = [*(column for name in text for column in join.get(name, (name,))), *label]
    if twice := next((column for column in used if used.count(column) > 1), None):
        raise UserError(f"--text-columns, --pair-column, --label-column: the column {twice!r} is named twice.")
    source, splits = _hub_source(own) if own.dataset else _file_source(own)
    facts: dict[str, Any] = dict(name=name, title=name, source=source, text=tuple(text), join=join, splits=splits)
    facts |= dict(label=label[0] if len(label) == 1 else label, rows={}, metrics=(), main_metrics=())
    return TaskSpec.model_construct(**facts)


def _columns(flag: str, words: str) -> tuple[str, ...]:
    columns = tuple(word.strip() for word in words.split(","))
    if not all(columns):
        raise UserError(f"{flag} {words!r}: a name between the commas is empty.")
    return columns


def _file_source(own: OwnData) -> tuple[Source, dict[str, str]]:
    given = {"train": own.train_file, "validation": own.validation_file, "test": own.test_file}
    files = {split: words if len(words) > 1 else words[0] for split, words in given.items() if words}
    try:
        source = Source(
            files=files,
            delimiter={"tab": "\t", "\\t": "\t"}.get(own.delimiter or "", own.delimiter),
            encoding=own.encoding,
        ).beside(Path.cwd())
    except ValidationError as error:
        fault = error.errors()[0]
        flag = f"--{fault['loc'][0]} {fault['input']!r}" if fault["loc"] else "--train-file or another"
        raise UserError(f"{flag}: {str(fault['msg']).removeprefix('Value error, ')}.") from None
    return source, {split: split for split in files}


def _hub_source(own: OwnData) -> tuple[Source, dict[str, str]]:
    """The data set at the commit that it has now, and its splits under our names."""
    import datasets
    from huggingface_hub import HfApi

    from harness.system.hub import persistently

    found = re.fullmatch(r"([\w.-]+(?:/[\w.-]+)?)(?::([^@]+))?(?:@(.+))?", str(own.dataset))
    if found is None:
        raise UserError(f"--dataset {own.dataset}: write organisation/name, organisation/name:config or ...@commit.")
    hub, config, revision = found.groups()
    if own.delimiter or own.encoding:
        raise UserError("--delimiter and --encoding are for files; a data set of the Hub knows its own.")
    try:
        commit = persistently(hub, lambda: HfApi().dataset_info(hub, revision=revision).sha)
        names = persistently(hub, lambda: datasets.get_dataset_split_names(hub, config, revision=commit))
    except Exception as error:  # the Hub client raises its own, httpx's and datasets' kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"--dataset {own.dataset}: cannot get it from the Hub: {' '.join(lines[:2])}") from None
    if "train" not in names:
        raise UserError(f"--dataset {own.dataset}: it has no split 'train' but {', '.join(names)}. Write a task file.")
    splits = {"train": "train"}
    for split, others in _OTHER_NAMES.items():
        if name := next((name for name in others if name in names), None):
            splits[split] = name
    return Source(hub=hub, config=config, revision=commit), splits


def _with_delimiter(own: OwnData, draft: TaskSpec, told: list[str]) -> Source:
    """The source with the delimiter that its first training file has, unless that is its format's own."""
    first = files_of(draft.name, draft.source.words["train"])[0]
    form = ending_of(first.name).format
    if draft.source.delimiter or form not in (*DELIMITERS, None):
        return draft.source
    sign = likely_delimiter(first.path, first.name, draft.source.encoding, draft.columns)
    if sign == DELIMITERS.get(str(form), sign):
        return draft.source
    told.append(f"delimiter: {sign!r}, by the header")
    return draft.source.model_copy(update={"delimiter": sign})


def _refuse_same_files(files: Mapping[str, Sequence[Any]]) -> None:
    seen: dict[tuple[str, str | None], str] = {}
    for split, parts in files.items():
        for file in parts:
            if (other := seen.setdefault((file.sha256, file.sheet), split)) != split:
                raise UserError(f"--{split}-file {file.name}: it has the same bytes as a file of {other}.")


# -- rows --------------------------------------------------------------------------------------------------------------


def _check_columns(own: OwnData, draft: TaskSpec, tables: Mapping[str, datasets.Dataset]) -> None:
    flags = dict.fromkeys(draft.text_columns, "--text-columns") | dict.fromkeys(draft.label_columns, "--label-column")
    if own.pair_column:
        flags |= dict.fromkeys(_columns("--pair-column", own.pair_column), "--pair-column")
    for split, table in tables.items():
        for column, flag in flags.items():
            if column not in table.column_names and not (split == "test" and flag == "--label-column"):
                known = table.column_names
                raise UserError(
                    f"{flag}: {split} has no column {column!r}; its columns: {', '.join(known)}."
                    f"{did_you_mean(column, known)}"
                )
        if len(table) == 0:
            raise UserError(f"--{split}-file: {split} has columns and no rows.")


def _is_without_labels(table: datasets.Dataset | None, columns: Sequence[str], answers: Answers) -> bool:
    if table is None:
        return False
    if any(column not in table.column_names for column in columns):
        return True
    return all(is_hidden(value) for column in columns for value in values_of(table, column))


def _splits(own: OwnData, tables: Mapping[str, Any], problem_type: ProblemType, told: list[str]) -> dict[str, str]:
    splits = {split: split for split in tables}
    shares = {
        split: percent
        for split, percent in (
            ("validation", own.validation_percent or VALIDATION_PERCENT),
            ("test", own.test_percent),
        )
        if percent and split not in tables
    }
    low = 100 - sum(shares.values())
    if shares:
        splits["train"] = f"train[stratified :{low}%]"
    for split, percent in shares.items():
        high = low + percent
        splits[split] = f"train[stratified {low}%:{'' if high == 100 else f'{high}%'}]"
        by = "drawn by chance" if problem_type == "regression" else "each label in its proportion"
        told.append(f"{split}: {percent}% of the training rows, {by}, always the same ones; equal texts stay together")
        low = high
    return splits


def _task(draft: TaskSpec, answers: Answers, splits: dict[str, str], hidden: bool) -> TaskSpec:
    metrics, main_metrics = _METRICS[answers.problem_type]
    order = {split: splits[split] for split in ("train", "validation", "test") if split in splits}
    is_tested = "test" in splits and not hidden
    facts: dict[str, Any] = dict(
        draft.model_dump(include={"name", "title", "text", "join", "label"}),
        source=draft.source,
        labels=answers.labels,
        splits=order,
        rows={},
        evaluate=["validation", "test"] if is_tested else ["validation"],
        report=["test"] if is_tested else ["validation"],
        predict=["test"] if hidden else [],
        metrics=metrics,
        main_metrics=main_metrics,
    )
    if answers.problem_type == "multi_label_classification":
        facts |= {"problem_type": answers.problem_type, "separator": answers.separator}
    try:
        return TaskSpec(**facts)
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(f"--label-column: {str(fault['msg']).removeprefix('Value error, ')}.") from None


def _refuse_unknown_labels(task: TaskSpec, tables: Mapping[str, datasets.Dataset], answers: Answers) -> None:
    """Labels of other files that the training rows do not have, all at once; the rest is told when they are read."""
    if answers.problem_type != "single_label_classification":
        return
    for split, table in tables.items():
        if split == "train" or split in task.predict:
            continue
        unknown: dict[str, list[int]] = {}
        for row, value in enumerate(answers.names(values_of(table, task.label_columns[0])), start=1):
            if value not in answers.known and not is_hidden(value):
                unknown.setdefault(value, []).append(row)
        if unknown:
            shown = ", ".join(f"{name!r} (row {rows[0]})" for name, rows in list(unknown.items())[:5])
            raise UserError(
                f"--{split}-file: {sum(map(len, unknown.values())):,} rows have labels that no training row has: "
                f"{shown}. The labels of train: {', '.join(answers.known)}."
            )
