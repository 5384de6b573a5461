"""Data and models of many runs brought into the caches once, before the runs ask for them side by side.

A sweep starts this file as a process of its own, so that torch is gone again when the runs begin.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file, as harness/run.py is
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import json
import subprocess
from collections.abc import Iterable

from harness.errors import UserError
from harness.facts.tasks import companions, load_task
from harness.requests.options import RunOptions
from harness.rows.files import find_files, model_revision


def fetch(runs: Iterable[RunOptions]) -> None:
    """Fetches what the runs need from elsewhere; what cannot be had is told on stderr, and its runs will say so too."""
    data, models = wishes_of(runs)
    if data or models:
        wishes = json.dumps({"data": data, "models": models})
        subprocess.run([sys.executable, __file__], input=wishes, text=True, check=False)


def wishes_of(runs: Iterable[RunOptions]) -> tuple[list[str], list[list[str]]]:
    """The tasks whose rows come from elsewhere, and [name, revision, a task] of the models that do, each once."""
    data: dict[str, None] = {}
    models: dict[tuple[str, str], str] = {}
    for options in runs:
        if options.test_mode:
            continue
        task = load_task(options.task)
        wanted = [options.task, *([task.predicted_by] if task.predicted_by else [])]
        wanted += [companion.name for companion in companions(task.name)]
        data |= {name: None for name in wanted if _is_elsewhere(name, options)}
        if not model_revision(options.model, options.revision).startswith("sha256:"):
            models.setdefault((options.model, options.revision or "main"), task.predicted_by or options.task)
    return list(data), [[*model, task] for model, task in models.items()]


def _is_elsewhere(task: str, options: RunOptions) -> bool:
    try:
        return find_files(load_task(task), options.data) is None
    except UserError:  # a companion's files need not be there
        return False


def main() -> None:
    """Reads the wishes from standard input."""
    from harness.engine import models
    from harness.engine.deployment import hush_libraries
    from harness.rows import loading

    hush_libraries()
    wishes = json.load(sys.stdin)
    for name in wishes["data"]:
        try:
            loading.read_tables(load_task(name), None)
        except UserError as error:
            print(f"cannot be fetched: {error}", file=sys.stderr, flush=True)
    for model, revision, task in wishes["models"]:
        try:
            models.build(model, revision, load_task(task), 0)
        except UserError as error:
            print(f"cannot be fetched: {error}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
