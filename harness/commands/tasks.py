"""`harness tasks`: the registry as a table per suite, one task in full, a check of a task file, and pinned data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from harness.errors import UserError, boundary
from harness.facts.recipes import DEFAULT_MODEL, Recipe
from harness.facts.suites import Suite, load_suite, read_suite, registered_suites
from harness.facts.task_files import SUITE_FILE
from harness.facts.tasks import TaskSpec, load_task, read_task, task_names, task_text
from harness.inspection.terminal_table import DataConsole
from harness.metrics.registry import title_of
from harness.rows.own_data import OwnData
from harness.rows.own_task import infer_task
from harness.rows.pinning import pin_tasks
from harness.system.atomic import write_atomically
from harness.system.command_line import parse_flags
from harness.system.output import LINE_CONTROLS, escape_controls


@dataclass(frozen=True)
class TasksOptions:
    """List the registered tasks by suite, show or check one task, pin its data, or write a task file."""

    task: Annotated[str | None, tyro.conf.Positional] = None
    """A task to show in full, by name or by the path of its YAML file."""
    suite: str | None = None
    """Only the tasks of this suite: a name, or the path of the folder of your own."""
    check: Path | None = None
    """A task file to validate, without its rows; exit code 2 and file:line for each error."""
    names: bool = False
    """Only the names, one per line."""
    new: Path | None = None
    """A task file to write, for your own data; the flags below name the data."""
    pin: tuple[str, ...] | None = None
    """Write the present commit of their Hub datasets into these task files, by name or path; without names into those
    of all registered tasks that are unpinned."""
    own_data: tyro.conf.OmitArgPrefixes[OwnData] = field(default_factory=OwnData)
    """The data for --new; `harness run` takes the same flags."""


def main(arguments: Sequence[str]) -> None:
    """Prints tables, a task or names, or writes a task file or the commit of one.

    Raises:
        UserError: a task, suite or file is not found or invalid, flags exclude each other, or a task file cannot be
            written.
    """
    options = parse_flags(TasksOptions, arguments, "tasks")
    _check_views(options)
    if options.new is not None:
        _write_task(options.new, options.own_data)
    elif options.own_data.is_requested:
        raise UserError("--new: missing. Name the task file to write, such as --new my_task.yaml.")
    elif options.pin is not None:
        for message in pin_tasks(options.pin):
            print(message, flush=True)
    elif options.check is not None:
        if not options.check.is_file():
            is_folder = options.check.is_dir()
            problem = "a folder; --suite shows the tasks of one" if is_folder else "file not found"
            raise UserError(f"--check {options.check}: {problem}.")
        task = read_task(options.check)
        if (options.check.parent / SUITE_FILE).is_file():
            read_suite(options.check.parent)  # which names the files of its folder
        print(f"{options.check}: valid task {task.name}; its rows were not read")
    elif options.task is not None:
        DataConsole().print(_task_table(load_task(options.task)))
    elif options.names:
        print(*(load_suite(options.suite).tasks if options.suite else task_names()), sep="\n")
    else:
        suites = [load_suite(options.suite)] if options.suite else registered_suites().values()
        console = DataConsole()
        for number, suite in enumerate(suites):
            console.print(*[""] * bool(number), _suite_table(suite), sep="\n")


def _check_views(options: TasksOptions) -> None:
    """Raises UserError for two arguments of which only one would have an effect."""
    views: dict[str, object] = {
        "--new": options.new,
        "--pin": options.pin,
        "--check": options.check,
        "TASK": options.task,
        "--suite": options.suite,
        "--names": options.names or None,
    }
    chosen = [name for name, value in views.items() if value is not None]
    if len(chosen) > 1 and chosen != ["--suite", "--names"]:
        raise UserError(f"{', '.join(chosen)}: only one of them has an effect; drop the others.")


def _write_task(path: Path, own: OwnData) -> None:
    """Writes the task file, once its rows can be read as a run reads them."""
    from harness.rows import loading
    from harness.rows.files import find_files

    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"--new {path}: unsupported extension: expected .yaml.")
    if path.exists():
        raise UserError(f"--new {path}: the file exists. Remove it, or name another.")
    if own.name not in (None, path.stem):
        raise UserError(
            f"--new {path}: a task has the name of its file, got --name {own.name}. Drop --name or rename the file."
        )
    task, messages = infer_task(replace(own, name=path.stem))
    loading.load_splits(task, loading.read_tables(task, find_files(task, None)), "standard", None)
    comments = "".join(f"# {escape_controls(' '.join(message.split()))}\n" for message in messages)
    with boundary(f"--new {path}: cannot be written"):
        write_atomically(path, comments + task_text(task, path.absolute().parent))
    print(*messages, f"{path}: harness run --task {path}", sep="\n")


def _suite_table(suite: Suite) -> Table:
    averages = "".join(f"; {name} of {len(tasks)} tasks" for name, tasks in suite.members.items())
    table = Table(title=f"{suite.name}: {suite.title}{averages}", box=None, title_justify="left", pad_edge=False)
    for header in ("task", "title", "input", "labels", "train rows", "main metrics"):
        table.add_column(header, justify="right" if header == "train rows" else "left")
    for task in suite.read_tasks():
        text = "pair" if len(task.text) == 2 else "text"
        labels = f"any of {task.classes}" if task.is_multi_label else str(task.classes)
        rows = f"{task.rows['train']:,}" if "train" in task.rows else ""
        table.add_row(
            task.name,
            task.title,
            "candidates" if task.candidates else "choice" if task.choices else text,
            "a value" if task.labels is None else labels,
            f"by {task.predicted_by}" if task.predicted_by else rows,
            ", ".join(map(title_of, task.main_metrics)),
        )
    return table


def _task_table(task: TaskSpec) -> Table:
    table = Table(title=f"{task.name}: {task.title}", box=None, show_header=False, title_justify="left", pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    source = {
        name: value for name, value in task.source.without_credentials().model_dump().items() if value is not None
    }
    splits = (f"{name} ({task.rows[name]:,} rows)" if name in task.rows else name for name in task.splits)
    label = ", ".join(task.label_columns)
    if task.is_multi_label:
        label += f" (any number per row{f', separated by {task.separator!r}' if task.separator else ''})"
    facts = {
        "suite": task.suite or "none",
        "version": str(task.version),
        "source": ", ".join(f"{name} {value}" for name, value in source.items()),
        "text": ", ".join(task.text),
        **({"choices": ", ".join(task.choices)} if task.choices else {}),
        **({"candidates": task.candidates} if task.candidates else {}),
        "label": label if task.predicted_by is None else f"{label} (predicted by {task.predicted_by} models)",
        "labels": escape_controls(", ".join(task.labels or ["real values"]), LINE_CONTROLS),
        "splits": ", ".join(splits),
        "evaluated": ", ".join(task.evaluate) or "none",
        "reported": ", ".join(task.report) or "none",
        "predicted": ", ".join(task.predict) or "none",
        "metrics": ", ".join(map(title_of, task.metrics)),
        "main metrics": ", ".join(map(title_of, task.main_metrics)),
        "model": task.model or DEFAULT_MODEL,
        "recipe": ", ".join(f"{name} {task.recipe.get(name, value)}" for name, value in Recipe().model_dump().items()),
    }
    for name, value in facts.items():
        table.add_row(name, value)
    return table
