"""The identity of a run, from its options alone: nothing is loaded or trained yet."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.records import RunSpec
from harness.facts.tasks import TaskSpec, apply_protocol, check_recipe, load_task
from harness.requests.options import RunOptions, default_recipe
from harness.rows.files import Files, data_identity, find_files, model_revision
from harness.rows.own_data import OwnData
from harness.rows.own_task import infer_task


def resolve_task(options: RunOptions) -> tuple[TaskSpec, tuple[str, ...]]:
    """Returns the named task, or one inferred from the user's own rows with the messages about it.

    Raises:
        UserError: an unknown task, an invalid task file, or unusable rows.
    """
    return infer_task(options.own_data) if options.own_data.is_requested else (load_task(options.task), ())


def identify(task: TaskSpec, files: Files | None, options: RunOptions) -> RunSpec:
    """Returns the identity of a run of `task`, which `apply_protocol` has prepared, on `files`.

    Raises:
        UserError: the task does not support the recipe, the model's folder is invalid or has a --revision, its trusted
            code is not pinned, or --init-from names an unsuitable task.
    """
    check_recipe(task, options.recipe)
    return _spec(task, files, options, _parent_run_id(task, options))


def _spec(task: TaskSpec, files: Files | None, options: RunOptions, parent: str | None) -> RunSpec:
    revision = test_mode.REVISION
    if not options.test_mode:
        revision = model_revision(options.model, options.revision, options.trust_remote_code)
    return RunSpec(
        task=task.name,
        task_version=task.version,
        task_fingerprint=task.fingerprint,
        data=data_identity(task, files),
        model=options.model,
        revision=revision,
        seed=options.seed,
        recipe=options.recipe,
        test_mode=options.test_mode,
        trust_remote_code=options.trust_remote_code or None,
        parent=parent,
    )


def companion_spec(companion: TaskSpec, spec: RunSpec, files: Files | None) -> RunSpec:
    """Returns the identity of a companion's record: that of the run which predicts its rows, with its own task.

    `files` are the companion's own: their labels count for its run ID, and not for that of the run that predicts them.
    """
    identity: dict[str, Any] = {
        "task": companion.name,
        "task_version": companion.version,
        "task_fingerprint": companion.fingerprint,
    }
    if (companion_data := data_identity(companion, files)) is not None:
        identity["data"] = hashlib.sha256(f"{spec.data} {companion_data}".encode()).hexdigest()
    return spec.model_copy(update=identity)


def parent_task(task: TaskSpec, init_from: str) -> TaskSpec:
    """Returns the task whose model a run of `task` starts from.

    Raises:
        UserError: an unknown task, one that is never trained itself, or `task` itself.
    """
    try:
        parent = load_task(init_from)
    except UserError as error:
        raise UserError(str(error).replace("--task", "--init-from", 1)) from None
    if parent.predicted_by is not None:
        raise UserError(f"--init-from {init_from}: this task is never trained; use --init-from {parent.predicted_by}.")
    if parent.name == task.name:
        raise UserError(
            f"--init-from {init_from}: a task cannot start from itself. Name another task or drop the flag."
        )
    return parent


def _parent_run_id(task: TaskSpec, options: RunOptions) -> str | None:
    """Returns --parent, or the run of the parent task with its own recipe and the same model, revision and seed."""
    first, names = options.recipe.init_from, [task.name]
    ancestors: list[tuple[TaskSpec, RunOptions]] = []
    while (init_from := options.recipe.init_from) is not None:
        parent = parent_task(task, init_from)
        if options.parent is not None:
            return options.parent
        if parent.name in names:
            raise UserError(f"--init-from {first}: circular, because {task.name} starts from {parent.name} by default.")
        recipe = default_recipe(parent, options.model, options.test_mode)
        options = replace(options, task=init_from, own_data=OwnData(), recipe=recipe)
        task = apply_protocol(parent, recipe.protocol)
        names.append(task.name)
        ancestors.append((task, options))
    run_id = None
    for ancestor, own in reversed(ancestors):
        files = None if own.test_mode else find_files(ancestor, own.data)
        run_id = _spec(ancestor, files, own, run_id).run_id
    return run_id
