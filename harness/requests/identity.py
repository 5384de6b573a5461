"""Which run the options ask for: its identity, found before anything is loaded or trained."""

from __future__ import annotations

from dataclasses import replace

from harness.engine import test_mode
from harness.errors import UserError
from harness.facts.records import RunSpec
from harness.facts.tasks import TaskSpec, load_task, under_protocol
from harness.requests.options import RunOptions, default_recipe
from harness.rows.files import Files, data_identity, find_files, model_revision
from harness.rows.own_data import OwnData, infer_task


def resolve_task(options: RunOptions) -> tuple[TaskSpec, tuple[str, ...]]:
    """The task that is named or made of the user's own rows, and what was worked out of these.

    Raises:
        UserError: there is no such task, its file is wrong, or the rows cannot be used.
    """
    if not options.own_data.is_given:
        return load_task(options.task), ()
    found = infer_task(options.own_data)
    return found.task, found.told


def identify(task: TaskSpec, files: Files | None, options: RunOptions) -> RunSpec:
    """The identity of a run of `task`, as `under_protocol` gives it, on `files`.

    Raises:
        UserError: the model is a folder that holds none, a revision is asked of a folder, or the task to start from
            is none that can be trained.
    """
    return RunSpec(
        task=task.name,
        task_version=task.version,
        task_fingerprint=task.fingerprint,
        data=data_identity(task, files),
        model=options.model,
        revision=test_mode.REVISION if options.test_mode else model_revision(options.model, options.revision),
        seed=options.seed,
        recipe=options.recipe,
        test_mode=options.test_mode,
        parent=_parent(task, options),
    )


def parent_task(task: TaskSpec, init_from: str) -> TaskSpec:
    """The task that `init_from` names.

    Raises:
        UserError: there is none of that name, it is not trained itself, or it is `task`.
    """
    try:
        parent = load_task(init_from)
    except UserError as error:
        raise UserError(str(error).replace("--task", "--init-from", 1)) from None
    if parent.predicted_by is not None:
        raise UserError(f"--init-from {init_from}: it is not trained itself; name {parent.predicted_by}, which is.")
    if parent.name == task.name:
        raise UserError(f"--init-from {init_from}: that is the task itself; name another, or leave the flag out.")
    return parent


def _parent(task: TaskSpec, options: RunOptions) -> str | None:
    """The run to start from: that of --parent, or of the same model, revision and seed with the task's own recipe."""
    if options.recipe.init_from is None:
        return None
    parent = parent_task(task, options.recipe.init_from)
    if options.parent is not None:
        return options.parent
    recipe = default_recipe(parent, options.model, options.test_mode)
    if recipe.init_from is not None and parent_task(parent, recipe.init_from).name == task.name:
        raise UserError(f"--init-from {options.recipe.init_from}: that task starts from {task.name} by its own recipe.")
    asked = replace(options, task=options.recipe.init_from, own_data=OwnData(), recipe=recipe)
    parent = under_protocol(parent, recipe.protocol)
    files = None if asked.test_mode else find_files(parent, asked.data)
    return identify(parent, files, asked).run_id
