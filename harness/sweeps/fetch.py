"""Downloads the data and models of many runs into the caches, once, before the runs start.

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
from harness.facts.tasks import companion_tasks, load_task, neighbour, trained_task
from harness.requests.options import RunOptions
from harness.rows.files import find_files, model_revision
from harness.system.exit_codes import exit_code_on_error
from harness.system.redaction import redact_secrets


def fetch(runs: Iterable[RunOptions]) -> None:
    """Downloads data and models of the runs; a failure is printed to stderr, and the runs will report it too."""
    data, models = downloads_of(runs)
    if data or models:
        downloads = json.dumps({"data": data, "models": models})
        subprocess.run([sys.executable, __file__], input=downloads, text=True, check=False)


def downloads_of(runs: Iterable[RunOptions]) -> tuple[list[str], list[tuple[str, str, bool, str]]]:
    """The tasks whose rows are downloaded, and (name, revision, trusts code, a task) of each model, each once."""
    data: dict[str, None] = {}
    models: dict[tuple[str, str, bool], str] = {}
    for options in {(run.task, run.model, run.revision, run.data): run for run in runs if not run.test_mode}.values():
        trained = trained_task(options.task)
        names = [options.task, trained, *(neighbour(trained, task.name) for task in companion_tasks(trained))]
        data |= {name: None for name in names if _is_downloaded(name, options)}
        revision = model_revision(options.model, options.revision, options.trust_remote_code)
        if not revision.startswith("sha256:"):
            model = options.model, revision, options.trust_remote_code
            models.setdefault(model, trained)
    return list(data), [(*model, task) for model, task in models.items()]


def _is_downloaded(task: str, options: RunOptions) -> bool:
    try:
        return find_files(load_task(task), options.data) is None
    except UserError:  # a companion's files need not be there
        return False


def main() -> None:
    """Downloads what the JSON on standard input names."""
    from harness.engine import models
    from harness.engine.deployment import silence_libraries
    from harness.rows import loading

    silence_libraries()
    downloads = json.load(sys.stdin)
    for name in downloads["data"]:
        try:
            loading.read_tables(load_task(name), None)
        except UserError as error:
            print(f"download failed: {redact_secrets(str(error))}", file=sys.stderr, flush=True)
    for model, revision, trusts_code, task in downloads["models"]:
        try:
            models.build_model(model, revision, load_task(task), 0, trusts_code)
        except UserError as error:
            print(f"download failed: {redact_secrets(str(error))}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    with exit_code_on_error():
        main()
