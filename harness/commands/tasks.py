"""`harness tasks`: the registry as a table, one task in full, or a check of a task file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from harness.errors import UserError
from harness.facts.recipes import DEFAULT_MODEL, Recipe
from harness.facts.tasks import TaskSpec, all_tasks, load_task, read_task, task_text
from harness.metrics.registry import title_of
from harness.rows.own_data import OwnData, infer_task
from harness.system.atomic import write_atomically


@dataclass(frozen=True)
class CatalogueOptions:
    """Show the tasks there are."""

    task: Annotated[str | None, tyro.conf.Positional] = None
    """A task to show in full, by name or by the path of its YAML file."""
    check: Path | None = None
    """A task file to validate; exit code 2 and file:line for each fault."""
    names: bool = False
    """Only the names, one a line."""
    new: Path | None = None
    """A task file to write, for the data of your own that the flags below name."""
    own_data: tyro.conf.OmitArgPrefixes[OwnData] = field(default_factory=OwnData)
    """What `--new` writes a task file for; `harness run` takes the same flags."""


def main(arguments: Sequence[str]) -> None:
    """Prints what was asked for.

    Raises:
        UserError: there is no such task, or its file is wrong.
    """
    options = tyro.cli(
        CatalogueOptions, args=list(arguments), prog="harness tasks", config=(tyro.conf.FlagCreatePairsOff,)
    )
    if options.new is not None:
        _write(options.new, options.own_data)
    elif options.own_data.is_requested:
        raise UserError("--new: name the task file that is to be written, such as --new my_task.yaml.")
    elif options.check is not None:
        if not options.check.is_file():
            raise UserError(f"--check {options.check}: there is no such file.")
        print(f"{options.check}: a valid task, {read_task(options.check).name}")
    elif options.task is not None:
        _show(_in_full(load_task(options.task)))
    elif options.names:
        for task in all_tasks():
            print(task.name)
    else:
        _show(_table(all_tasks()))


def _write(path: Path, own: OwnData) -> None:
    """The task file, after its rows have been read as a run reads them."""
    from harness.rows import loading
    from harness.rows.files import find_files

    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--new {path}: a task file ends in .yaml.")
    if path.exists():
        raise UserError(f"--new {path}: the file is there already. Remove it or name another.")
    if own.name not in (None, path.stem):
        raise UserError(
            f"--new {path}: a task is called as its file is; leave out --name {own.name} or rename the file."
        )
    task, told = infer_task(replace(own, name=path.stem))
    loading.load_splits(task, loading.read_tables(task, find_files(task, None)), "standard", None)
    folder = path.absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    comments = "".join(f"# {' '.join(sentence.split())}\n" for sentence in told)
    write_atomically(path, comments + task_text(task, folder))
    for sentence in told:
        print(sentence)
    print(f"{path}: harness run --task {path}")


def _show(table: Table) -> None:
    console = Console(highlight=False, markup=False)  # a title may have brackets
    with console.capture() as captured:  # printed below: rich ends the program itself when the reader has gone
        console.print(table)
    print(captured.get(), end="")


def _table(tasks: Sequence[TaskSpec]) -> Table:
    table = Table(title="Tasks", box=None, title_justify="left", pad_edge=False)
    for header in ("task", "title", "input", "labels"):
        table.add_column(header)
    table.add_column("train rows", justify="right")
    table.add_column("main_metrics")
    for task in tasks:
        table.add_row(
            task.name,
            task.title,
            "pair" if len(task.text) == 2 else "text",
            "a value"
            if task.labels is None
            else f"any of {task.classes}"
            if task.is_multi_label
            else str(task.classes),
            f"{task.rows['train']:,}" if "train" in task.rows else f"by {task.predicted_by}",
            ", ".join(title_of(name) for name in task.main_metrics),
        )
    return table


def _in_full(task: TaskSpec) -> Table:
    table = Table(title=f"{task.name}: {task.title}", box=None, show_header=False, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    source = {name: value for name, value in task.source.model_dump().items() if value is not None}
    defaults = Recipe().model_dump()
    label = ", ".join(task.label_columns)
    if task.is_multi_label:
        label += f" (any number a row{f', separated by {task.separator!r}' if task.separator else ''})"
    facts = {
        "version": task.version,
        "source": ", ".join(f"{name} {value}" for name, value in source.items()),
        "text": ", ".join(task.text),
        "label": label if task.predicted_by is None else f"{label} (predicted by {task.predicted_by} models)",
        "labels": ", ".join(task.labels) if task.labels else "real values",
        "splits": ", ".join(
            f"{name} ({task.rows[name]:,} rows)" if name in task.rows else name for name in task.splits
        ),
        "evaluated": ", ".join(task.evaluate) or "none",
        "reported": ", ".join(task.report) or "none",
        "predicted": ", ".join(task.predict) or "none",
        "metrics": ", ".join(title_of(name) for name in task.metrics),
        "main_metrics": ", ".join(title_of(name) for name in task.main_metrics),
        "model": task.model or DEFAULT_MODEL,
        "recipe": ", ".join(f"{name} {task.recipe.get(name, value)}" for name, value in defaults.items()),
    }
    for name, value in facts.items():
        table.add_row(name, str(value))
    return table
