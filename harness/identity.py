"""Which run the options ask for: its identity, found before anything is loaded or trained."""

from __future__ import annotations

from harness import testmode
from harness.options import RunOptions
from harness.own_data import worked_out
from harness.records import RunSpec
from harness.sources import Files, data_identity, model_revision
from harness.tasks import TaskSpec, load_task


def asked_task(options: RunOptions) -> tuple[TaskSpec, tuple[str, ...]]:
    """The task that is named or made of the user's own rows, and what was worked out of these.

    Raises:
        UserError: there is no such task, its file is wrong, or the rows cannot be used.
    """
    if not options.own_data.is_given:
        return load_task(options.task), ()
    found = worked_out(options.own_data)
    return found.task, found.told


def identify(task: TaskSpec, files: Files | None, options: RunOptions) -> RunSpec:
    """The identity of a run of `task`, as `under_protocol` gives it, on `files`.

    Raises:
        UserError: the model is a folder that holds none, or a revision is asked of a folder.
    """
    return RunSpec(
        task=task.name,
        task_version=task.version,
        definition=task.definition,
        data=data_identity(task, files),
        model=options.model,
        revision=testmode.REVISION if options.test_mode else model_revision(options.model, options.revision),
        seed=options.seed,
        recipe=options.recipe,
        test_mode=options.test_mode,
    )
