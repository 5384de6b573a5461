"""The run that another run starts from: its saved model, or the command that trains it."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.errors import UserError
from harness.facts.records import RunSpec, record_path
from harness.facts.run_files import model_folder
from harness.facts.tasks import TaskSpec
from harness.requests.identity import parent_task
from harness.requests.options import RunOptions
from harness.saved_models.bundles import Bundle, check_weights, is_bundle, read_bundle


def find_parent(task: TaskSpec, spec: RunSpec, options: RunOptions) -> Bundle | None:
    """Returns the saved model that the run of `spec` starts from, its weights checked; None without --init-from.

    Raises:
        UserError: the model is missing (with the command that trains it), incomplete, or another run's.
    """
    if spec.parent is None or spec.recipe.init_from is None:
        return None
    parent = parent_task(task, spec.recipe.init_from)
    folder = model_folder(options.folder, parent.name, spec.parent)
    if not is_bundle(folder):
        raise UserError(_missing_parent(parent.name, spec, options, folder))
    bundle = read_bundle(folder)
    if bundle.record.run_id != spec.parent:
        raise UserError(f"{folder}: the model of another run, {bundle.record.run_id}. Remove the folder.")
    check_weights(bundle)
    return bundle


def _missing_parent(parent: str, spec: RunSpec, options: RunOptions, folder: Path) -> str:
    is_finished = record_path(options.folder, parent, str(spec.parent)).exists()
    args = ["harness", "run", "--task", str(spec.recipe.init_from), "--seed", str(spec.seed)]
    args += ["--test-mode"] if options.test_mode else ["--model", options.model]
    args += ["--revision", options.revision] if options.revision else []
    args += ["--trust-remote-code"] if options.trust_remote_code else []
    args += ["--data", str(options.data)] if options.data else []
    args += ["--results", str(options.results), "--save-model", str(folder)]
    args += ["--overwrite"] if is_finished else []
    reason = f"is finished, but its weights are not saved in {folder}" if is_finished else "is missing"
    recipe = " (add the flags of that run's recipe)" if options.parent else ""
    return (
        f"--init-from {spec.recipe.init_from}: the parent run {spec.parent} {reason}. `harness sweep` trains it "
        f"automatically; to train it yourself{recipe}:\n{shlex.join(args)}"
    )
