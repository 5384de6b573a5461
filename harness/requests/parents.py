"""The run that another one starts from: its kept model, or how to make it."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.errors import UserError
from harness.facts.records import RunSpec, record_path
from harness.facts.tasks import TaskSpec
from harness.requests.identity import parent_task
from harness.requests.options import RunOptions
from harness.saved_models.bundles import Bundle, check_weights, is_bundle, read


def model_folder(results: Path, task: str, run_id: str) -> Path:
    """Where the model of a run is kept for others to start from."""
    return results / "models" / task / run_id


def find_parent(task: TaskSpec, spec: RunSpec, options: RunOptions) -> Bundle | None:
    """The kept model that the run of `spec` starts from, its weights checked; None for a run that starts from none.

    Raises:
        UserError: it is not there, with the command that makes it, or it is not whole.
    """
    if spec.parent is None or spec.recipe.init_from is None:
        return None
    parent = parent_task(task, spec.recipe.init_from)
    folder = model_folder(options.folder, parent.name, spec.parent)
    if not is_bundle(folder):
        raise UserError(_not_there(parent.name, spec, options, folder))
    bundle = read(folder)
    if bundle.record.run_id != spec.parent:
        raise UserError(f"{folder}: holds the model of another run, {bundle.record.run_id}. Remove the folder.")
    check_weights(bundle)
    return bundle


def _not_there(parent: str, spec: RunSpec, options: RunOptions, folder: Path) -> str:
    record = record_path(options.folder, parent, str(spec.parent))
    words = ["harness", "run", "--task", str(spec.recipe.init_from), "--seed", str(spec.seed)]
    words += ["--test-mode"] if options.test_mode else ["--model", options.model]
    words += ["--revision", options.revision] if options.revision else []
    words += ["--data", str(options.data)] if options.data else []
    words += ["--results", str(options.results), "--save-model", str(folder)]
    words += ["--overwrite"] if record.exists() else []
    lacks = f"is finished, but its weights were not kept in {folder}" if record.exists() else "is not there yet"
    recipe = " with the flags of that run's recipe" if options.parent else ""
    return (
        f"--init-from {spec.recipe.init_from}: the run to start from, {spec.parent}, {lacks}. `harness sweep` makes it "
        f"by itself; by hand{recipe}:\n{shlex.join(words)}"
    )
