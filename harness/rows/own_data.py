"""The flags of a user's own rows, in place of a task, and their checks before any row is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePosixPath

from harness.errors import UserError
from harness.facts.task_rows import MAX_NAME_BYTES
from harness.facts.tasks import task_names
from harness.metrics.metric import ProblemType

VALIDATION_PERCENT = 10
"""Default share of the training rows that become validation rows."""


@dataclass(frozen=True)
class OwnData:
    """Your own rows, in place of --task. Anything you omit is inferred from the training rows, and printed."""

    train_file: tuple[str, ...] = ()
    """CSV, TSV, JSON, JSONL, Parquet, Arrow or Excel, compressed or not: paths, a quoted pattern or URLs."""
    validation_file: tuple[str, ...] = ()
    """Validation rows; by default a part of the training rows, with each label in its proportion."""
    test_file: tuple[str, ...] = ()
    """Test rows: scored at the end, or only predicted if they have no labels."""
    dataset: str | None = None
    """A dataset of the Hub instead of files: organisation/name, perhaps with :config and @commit."""
    text_columns: str | None = None
    """The text column; several, such as title,body, are joined into one text, one column per line."""
    pair_column: str | None = None
    """The column of the second text of a pair."""
    choice_columns: str | None = None
    """The columns of the candidates, such as a,b,c,d, of which one is right, or one column of lists."""
    candidates_column: str | None = None
    """A column of lists of candidates, of any length; the label column has the list of the right ones."""
    placeholder: str | None = None
    """The text in a text column that a candidate of --candidates-column replaces, such as @placeholder; by default
    candidates are second texts."""
    label_column: str = "label"
    """The label column; several, such as toxic,insult, are columns of 0 and 1, one per label."""
    group_column: str | None = None
    """The column that names the group of a row, such as the question that it answers: groups stay together, and the
    share of groups without an error is measured. Several, such as text,question, are one name."""
    label_separator: str | None = None
    """Separator of the labels in one column of texts with several labels per row."""
    problem_type: ProblemType | None = None
    """One label per row, any number of labels, a value, or the choice or selection of a candidate."""
    name: str | None = None
    """Name of the task; by default that of the training file, without its extension, or of the dataset."""
    validation_percent: int | None = None
    """Percent of the training rows that become validation rows, if there are no others: 10 by default."""
    test_percent: int | None = None
    """Percent of the training rows that become test rows, if there are no others: none by default."""
    delimiter: str | None = None
    """Delimiter of a CSV file; by default inferred from its header."""
    encoding: str | None = None
    """Encoding of a text file that is not UTF-8, such as iso-8859-9 for Turkish."""

    @property
    def is_requested(self) -> bool:
        """True when any of the flags is given."""
        return self != OwnData()

    @property
    def task_name(self) -> str:
        """The name of the task.

        Raises:
            UserError: no rows are named, no valid name can be inferred, or a registered task has it.
        """
        if self.name is not None:
            text, flag = self.name, f"--name {self.name}"
        elif self.dataset is not None:
            text, flag = re.sub(r"@.*", "", self.dataset).rsplit("/", 1)[-1].replace(":", "-"), "--dataset"
        else:
            _check_source(self)
            path = re.sub(r"[?#].*", "", self.train_file[0])
            text, flag = PurePosixPath(path).name.split(".")[0], "--train-file"
        name = re.sub(r"[^\w.-]+", "-", text).strip("-.")
        if not name or (self.name is not None and name != text) or len(name.encode()) > MAX_NAME_BYTES:
            raise UserError(
                f"{flag}: invalid task name: set --name with letters, digits, '-', '_' and '.' only, at most "
                f"{MAX_NAME_BYTES} bytes."
            )
        if name in task_names():
            raise UserError(f"{flag}: {name!r} is already the name of a registered task. Set another --name.")
        return name


OWN_DATA_FLAGS = tuple(f"--{field.name.replace('_', '-')}" for field in fields(OwnData))
"""The flags of `OwnData`."""


def _check_source(own: OwnData) -> None:
    if not own.train_file and own.dataset is None:
        raise UserError("--train-file: missing. Name a file of training rows, or a dataset of the Hub with --dataset.")


def check_own_flags(own: OwnData) -> None:
    """Raises UserError when a flag is missing or invalid, or two of them contradict each other."""
    _check_source(own)
    if own.dataset is not None and (own.train_file or own.validation_file or own.test_file):
        raise UserError(f"--dataset {own.dataset}: a dataset and files both provide rows: drop one.")
    if own.dataset is not None and (own.delimiter or own.encoding):
        raise UserError("--delimiter and --encoding: only supported for files, not with --dataset.")
    kind = own.problem_type
    if kind == "multiple_choice" and own.choice_columns is None:
        raise UserError("--choice-columns: missing. Name the columns of the candidates, as in a,b,c,d.")
    if own.candidates_column is None and (kind == "answer_selection" or own.placeholder is not None):
        raise UserError("--candidates-column: missing. Name the column with the list of candidates of each row.")
    others = {"--group-column": own.group_column, "--label-separator": own.label_separator}
    if own.candidates_column is not None:
        others |= {"--choice-columns": own.choice_columns, "--problem-type": kind}
        _refuse_others(f"--candidates-column {own.candidates_column}", others, "answer_selection")
    elif own.choice_columns is not None:
        others |= {"--pair-column": own.pair_column, "--problem-type": kind}
        _refuse_others(f"--choice-columns {own.choice_columns}", others, "multiple_choice")
    if own.text_columns is None:
        raise UserError("--text-columns: missing. Name the text column, or several columns as title,body.")
    for split, files, percent in (
        ("validation", own.validation_file, own.validation_percent),
        ("test", own.test_file, own.test_percent),
    ):
        if percent is not None and files:
            raise UserError(
                f"--{split}-percent {percent}: --{split}-percent and --{split}-file both provide rows: drop one."
            )
        if percent is not None and not 0 < percent < 100:
            raise UserError(f"--{split}-percent {percent}: expected 1 to 99.")
    if (own.validation_percent or VALIDATION_PERCENT) + (own.test_percent or 0) >= 100:
        raise UserError("--validation-percent and --test-percent: expected a sum below 100, to leave training rows.")


def _refuse_others(flag: str, others: Mapping[str, str | None], problem_type: ProblemType) -> None:
    for other, value in others.items():
        if value not in (None, problem_type):
            raise UserError(f"{other} {value}: not supported with {flag}: drop one.")


def split_columns(flag: str, value: str | None) -> tuple[str, ...]:
    """The columns that a flag names, such as title,body; raises UserError when a name is empty."""
    if value is None:
        return ()
    columns = tuple(column.strip() for column in value.split(","))
    if not all(columns):
        raise UserError(f"{flag} {value!r}: empty column name.")
    return columns
