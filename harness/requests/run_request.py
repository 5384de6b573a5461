"""One run as it was requested: its task, identity, data files, options and command."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.engine.progress import ProgressFile
from harness.facts.outcome import task_facts
from harness.facts.recipes import recipe_difference
from harness.facts.records import RunRecord, RunSpec, record_path, write_record
from harness.facts.run_files import checkpoint_folder
from harness.facts.tasks import TaskSpec
from harness.requests.options import RunOptions, default_recipe
from harness.rows.files import Files
from harness.saved_models import bundles

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class RunRequest:
    """A run before it begins, with the files that belong to it."""

    definition: TaskSpec
    """The task as its file defines it; `task` is the same under the recipe's protocol."""
    task: TaskSpec
    spec: RunSpec
    files: Files | None
    options: RunOptions
    command: str

    @property
    def path(self) -> Path:
        """The file of its record."""
        return record_path(self.options.folder, self.task.name, self.spec.run_id)

    @cached_property
    def progress_file(self) -> ProgressFile:
        """The file from which other processes read its progress; the main process writes it."""
        return ProgressFile(self.path, self.spec)

    @property
    def checkpoint_folder(self) -> Path:
        """The folder of its checkpoints while it is unfinished."""
        return checkpoint_folder(self.options.folder, self.task.name, self.spec.run_id)

    def start(self, precision: str) -> Accelerator:
        """The accelerator for this process; every process must call it."""
        from harness.engine import deployment  # importing torch takes seconds: mistakes before it are reported first

        options, trackers = self.options, self.options.folder / "trackers" / self.task.name / self.spec.run_id
        return deployment.start(precision, options.test_mode, options.tracker, trackers, options.deterministic)

    def write(self, parent: bundles.Bundle | None, started: datetime, outcome: dict[str, Any]) -> RunRecord:
        """Writes the record, and before it the rest of the saved model: without that the run is not finished."""
        options, default = self.options, default_recipe(self.task, self.options.model, self.options.test_mode)
        record = RunRecord(
            run_id=self.spec.run_id,
            spec=self.spec,
            recipe_changes=recipe_difference(self.spec.recipe, default),
            task=task_facts(self.task),
            command=self.command,
            started=started,
            finished=datetime.now(UTC),
            parent_group_key=parent and parent.record.spec.group_key(parent.record.parent_group_key),
            **outcome,
        )
        if options.save_model is not None and record.status in ("ok", "collapsed"):
            bundles.finish_bundle(options.save_model, self.definition, record, options.overwrite)
        write_record(record, options.folder, options.overwrite)
        return record
