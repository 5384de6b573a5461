"""What a notebook needs, as three functions: a run, what a kept model says of texts, and the records of a folder."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError, did_you_mean
from harness.facts.records import RunRecord, read_records
from harness.system.redaction import command_line

if TYPE_CHECKING:
    import pandas as pd


def run(task: str | None = None, **flags: Any) -> RunRecord:
    """Fine-tunes a model on a task, evaluates it, and gives the record that it wrote, or the finished one it found.

    `flags` are those of `harness run`, with underscores: `run("rte", model="google/electra-small-discriminator",
    epochs=5, seed=1, save_model="models/rte")`, or without a task `run(train_file="news.csv", text_columns="text",
    label_column="topic")`. What is left out has the value that `harness run --help` shows.

    Raises:
        UserError: there is no such task or flag, a value is out of range, or something cannot be done.
        Interrupted: a signal asked the run to stop; it has saved a checkpoint, and the same call goes on from there.
    """
    from harness.facts.recipes import Recipe
    from harness.requests.options import RunOptions
    from harness.rows.own_data import OwnData
    from harness.run import run as fine_tune

    known = {*RunOptions.__dataclass_fields__, *Recipe.model_fields, *OwnData.__dataclass_fields__}
    known -= {"task", "recipe", "own_data"}
    if unknown := sorted(set(flags) - known):
        raise UserError(f"run(): {unknown[0]}: there is no such flag.{did_you_mean(unknown[0], known)}")
    given = {**({} if task is None else {"task": task}), **flags}
    words = [word for name, value in given.items() for word in _words(name, value)]
    return fine_tune(_parsed(words), command_line(["harness/run.py", *words]))


def predict(
    folder: str | Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    precision: str = "auto",
    cpu: bool = False,
) -> pd.DataFrame:
    """One line for each text: row, prediction, and for labels its probability and that of each, `probability_<label>`.

    In a multi-label task the prediction is a list of names, which has no probability of its own.

    `folder` is what `save_model` wrote; `pairs` are the second texts of a task on pairs. `precision` is as in `harness
    predict`; `cpu` computes there even where there is a GPU.

    Raises:
        UserError: the folder holds no such model, or texts and pairs do not fit it.
    """
    from harness.commands.predict import predict as reply

    return reply(folder, texts, pairs, precision=precision, cpu=cpu)


def load_records(results: str | Path = "results") -> list[RunRecord]:
    """The records of a results folder, sorted by task and run_id; a file that is none is warned of and left out."""
    records, problems = read_records(Path(results))
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return records


def _words(name: str, value: Any) -> list[str]:
    """A keyword as the command line has it: a bare flag sets what is otherwise off, `--no-...` what is otherwise on."""
    from harness.facts.recipes import Recipe
    from harness.rows.own_data import OwnData

    flag = name.replace("_", "-")
    if isinstance(value, bool):
        is_on = name in Recipe.model_fields and Recipe.model_fields[name].default is True
        return [] if value is is_on else [f"--no-{flag}" if is_on else f"--{flag}"]
    values = value if isinstance(value, (list, tuple)) else [value]
    if (own := OwnData.__dataclass_fields__.get(name)) is not None:
        if value is None:
            return []
        values = values if own.default == () else [",".join(map(str, values))]
    return [f"--{flag}", *map(str, values)]


def _parsed(words: Sequence[str]) -> Any:
    """The options; a mistake that would end the command is a UserError here."""
    from harness.requests.options import parse

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            return parse(words)
    except SystemExit:
        lines = [line.strip("│╭╮╰╯─ ") for line in told.getvalue().splitlines()]
        raise UserError("run(): " + " ".join(line for line in lines if line)) from None
