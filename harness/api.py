"""The harness from Python: fine-tune a model, predict with a saved one, load the records of a folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence, Sized
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.facts.records import RunRecord, read_records
from harness.system.paths import user_path
from harness.system.redaction import redact_command

if TYPE_CHECKING:
    import pandas as pd

_TORCH_LOCK = Lock()
"""Taken by each run and prediction: the threads of a process share torch's random numbers and accelerate's state."""


def run(task: str | None = None, **flags: Any) -> RunRecord:
    """Fine-tunes a model on a task, evaluates it and returns its record; a finished run is not repeated.

    `flags` are those of `harness run`, with underscores: `run("rte", model="google/electra-small-discriminator",
    epochs=5, seed=1, save_model="models/rte")`, or without a task `run(train_file="news.csv", text_columns="text",
    label_column="topic")`. `harness run --help` shows the defaults. Calls from several threads run one after the other.

    Raises:
        UserError: a task, flag or value is invalid, or the run cannot be done.
        Interrupted: a signal asked the run to stop; it has saved a checkpoint, and the same call resumes it.
    """
    from harness.requests.options import resolve_options
    from harness.run import run as fine_tune

    values = {**({} if task is None else {"task": task}), **flags}
    with _TORCH_LOCK:
        return fine_tune(resolve_options(values), _command(values))


def predict(
    folder: str | Path,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    choices: Sequence[Sequence[str]] | None = None,
    precision: str = "auto",
    cpu: bool = False,
    trust_remote_code: bool = False,
) -> pd.DataFrame:
    """Predicts texts with a saved model: columns row, prediction, probability and `probability_<label>` per label.

    A multi-label prediction is a list of labels and has no probability of its own; a regression has no probabilities.
    `folder` is what `save_model` wrote; `pairs` are the second texts of a task on pairs, `choices` the candidates of
    each text in a task of multiple choice, where the prediction is the label of a position. `cpu` computes on the CPU
    even where there is a GPU. `trust_remote_code` runs the code that was saved with a model whose run needed it.

    Raises:
        UserError: the folder has no saved model, an argument has another type, or texts, pairs and choices do not suit
            the task.
    """
    import pandas as pd

    from harness.inspection.prediction_output import prediction_columns
    from harness.inspection.scorer import open_model
    from harness.rows.stream import rows_of_texts
    from harness.saved_models.bundles import read_bundle

    columns: dict[str, Any] = {"texts": texts, "pairs": pairs, "choices": choices}
    for name, values in columns.items():
        problem = ""
        if isinstance(values, str):
            problem = f"the text {values!r:.100}"
        elif isinstance(values, (pd.DataFrame, Mapping)):  # a list of it has the names of its columns
            problem = f"a {type(values).__name__}: name one column of it"
        elif not isinstance(values, Iterable) and (values is not None or name == "texts"):
            problem = f"{values!r:.100}"
        if problem:
            raise UserError(f"{name}: expected a list of texts, got {problem}.")
    for name, switch in (("cpu", cpu), ("trust_remote_code", trust_remote_code)):
        if not isinstance(switch, bool):
            raise UserError(f"{name}: expected True or False, got {switch!r:.100}.")
    folder = _folder("folder", folder)
    task = read_bundle(folder).task
    pairs = [] if pairs is None else list(pairs)  # a column of a table has no truth value
    choices = [] if choices is None else list(choices)
    if others := [each for each in choices if isinstance(each, str) or not isinstance(each, Sized)]:
        raise UserError(f"choices: expected a list of candidates for each text, got {others[0]!r:.100}.")
    if uneven := [each for each in choices if len(each) != task.classes]:
        raise UserError(f"choices: expected {task.classes} candidates of each text, got {len(uneven[0])}.")
    rows = rows_of_texts(task, list(texts), pairs, list(chain.from_iterable(choices)))
    with _TORCH_LOCK:
        scorer = open_model(folder, precision, cpu, trusts_code=trust_remote_code)
        return pd.DataFrame(prediction_columns(scorer.predict(rows)))


def load_records(results: str | Path = "results") -> list[RunRecord]:
    """The records of a results folder, sorted by task and run_id; invalid files are skipped with a warning.

    Raises:
        UserError: the folder is no path, does not exist or cannot be read.
    """
    folder = _folder("results", results)
    if not folder.is_dir():
        raise UserError(f"{results}: folder not found. Name a results folder, which has the folder runs.")
    records, problems = read_records(folder)
    for problem in problems:
        warnings.warn(problem, stacklevel=2)
    return records


def _folder(name: str, value: str | os.PathLike[str]) -> Path:
    """The folder that an argument names, as a command would read it."""
    if not isinstance(value, (str, os.PathLike)) or value == "":
        problem = "an empty text" if isinstance(value, str) else f"{value!r:.100}"
        raise UserError(f"{name}: expected the path of a folder, got {problem}.")
    return user_path(name, Path(value))


def _command(values: Mapping[str, Any]) -> str:
    """The command line that does the same, for the record."""
    from harness.facts.recipes import Recipe
    from harness.requests.options import RunOptions
    from harness.rows.own_data import OwnData

    args = ["harness/run.py"]
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            default = Recipe.model_fields[name].default if name in Recipe.model_fields else getattr(RunOptions, name)
            args += [] if value is default else [f"--{flag}" if value else f"--no-{flag}"]
        elif isinstance(value, (list, tuple)):
            takes_several = getattr(OwnData, name, None) == ()
            args += [f"--{flag}", *(map(str, value) if takes_several else [",".join(map(str, value))])]
        elif value is not None or name in Recipe.model_fields:
            args += [f"--{flag}", str(value)]
    return redact_command(args)
