"""ONE run, told in order: what to train on what, rows, model, updates, scores, record; `accelerate launch` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put harness/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import testmode
from harness.command import ending_with_exit_code
from harness.console import Display, summary
from harness.errors import UserError
from harness.options import RunOptions, default_recipe, parse
from harness.outcome import SplitOutcome, Tally, cost_fields, score_split, split_fields, task_facts
from harness.recipes import changed_from, plan_steps
from harness.records import (
    Environment,
    Epoch,
    RunRecord,
    RunSpec,
    command_line,
    prepare_folder,
    read_record,
    record_path,
    write_record,
)
from harness.sources import Files, data_identity, find_files, model_revision
from harness.tasks import TaskSpec, companions, load_task, under_protocol

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness.data import Split
    from harness.inference import Scores


def main(arguments: Sequence[str] | None = None) -> None:
    """The command. Exit code 0: a score was recorded; 1: the run diverged; 2: a mistake of the user's."""
    with ending_with_exit_code():
        words = sys.argv[1:] if arguments is None else list(arguments)
        record = run(parse(words), command_line(["harness/run.py", *words]))
        sys.exit(1 if record.status == "diverged" else 0)


def run(options: RunOptions, command: str | None = None) -> RunRecord:
    """Fine-tunes, evaluates and records one run, or gives the finished record it finds; on every process.

    `command` is what the record shows as the way to repeat it; by default the options.

    Raises:
        UserError: something that was asked for cannot be done.
    """
    task = under_protocol(load_task(options.task), options.recipe.protocol)
    if task.predicted_by is not None:
        return _run_of_another(task, options, command)
    files = None if options.test_mode else find_files(task, options.data)
    spec = _identify(task, files, options)
    prepare_folder(options.folder)

    from harness import deployment  # torch and its relatives take seconds to import: only now are they needed

    path = record_path(options.folder, task.name, spec.run_id)
    tracking = options.folder / "trackers" / task.name / spec.run_id
    precision = "fp32" if options.test_mode else options.precision
    accelerator = deployment.start(precision, options.test_mode, options.tracker, tracking)
    finished = deployment.by_main(accelerator, lambda: _finished(path, options))
    if finished is not None:
        accelerator.print(f"finished already: {path} ({finished.status}); --overwrite runs it again")
        return finished

    started = datetime.now(UTC)

    def recorded(**told: Any) -> RunRecord:
        record = RunRecord(
            run_id=spec.run_id,
            spec=spec,
            recipe_changes=changed_from(spec.recipe, default_recipe(task, options.model, options.test_mode)),
            task=task_facts(task),
            command=command or repr(options),
            started=started,
            finished=datetime.now(UTC),
            **told,
        )
        if accelerator.is_main_process:
            write_record(record, options.folder, options.overwrite)
        return record

    try:
        record = recorded(**_fine_tune(task, spec, files, options, accelerator))
    except UserError:
        raise
    except Exception as error:
        recorded(status="failed", error=f"{type(error).__name__}: {error}")
        raise
    accelerator.print(f"{summary(record)}\n{path}")
    accelerator.end_training()
    return record


def _fine_tune(
    task: TaskSpec, spec: RunSpec, files: Files | None, options: RunOptions, accelerator: Accelerator
) -> dict[str, Any]:
    """The run itself: the fields of its record that tell how it went, the same on every process."""
    from accelerate.utils import set_seed

    from harness import batches, data, deployment, models, provenance
    from harness.inference import NotFinite, infer
    from harness.predictions import write_predictions
    from harness.training import Diverged, Training, updates

    began, recipe, device_batch = perf_counter(), spec.recipe, options.eval_device_batch

    # Rows and model
    with accelerator.local_main_process_first(), TemporaryDirectory() as scratch:
        if spec.test_mode:
            testmode.write_model(Path(scratch))
        tables = testmode.tables(task) if spec.test_mode else data.read_tables(task, files)
        splits = data.load_splits(task, tables, recipe.protocol, recipe.train_rows)
        splits |= _companion_splits(task, options)
        place = scratch if spec.test_mode else spec.model
        model, tokenizer, model_facts = models.build(place, spec.revision, task, spec.seed)
        models.check_length(model, recipe.max_length)
        encoded = {name: batches.encode(split, tokenizer, recipe.max_length) for name, split in splits.items()}
    largest = deployment.largest_device_batch(accelerator.device)
    plan = plan_steps(len(encoded["train"]), recipe, accelerator.num_processes, options.device_batch, largest)
    precision = deployment.precision_of(accelerator)
    where = deployment.whereabouts(accelerator)
    accelerator.print(f"{task.name}, {spec.model}, seed {spec.seed}, {precision} on {where}\n{plan}")
    training = Training(accelerator, model, recipe, plan, encoded["train"])
    set_seed(spec.seed, device_specific=True)  # processes must not draw the same dropout
    if options.tracker:
        config = {"task": task.name, "model": spec.model, "seed": spec.seed, **recipe.model_dump(exclude_none=True)}
        accelerator.init_trackers("harness", config=config)

    facts: dict[str, Any] = dict(
        data=data.describe(task, tables, splits, spec.test_mode),
        model=model_facts,
        environment=Environment(
            precision=precision,
            device_batch=plan.device_batch,
            accumulation=plan.accumulation,
            eval_device_batch=device_batch,
            **provenance.surroundings(accelerator),
        ),
    )

    def outcome_of(split: str, scores: Scores) -> SplitOutcome:
        return deployment.by_main(accelerator, lambda: score_split(task, split, scores.values, splits[split].label))

    # Updates, with a look at the validation split after each epoch
    tally, display = Tally(), Display(plan, accelerator.is_main_process)
    history: list[Epoch] = []
    scores: dict[str, Scores] = {}
    selected, lowest_loss, best_weights = 0, math.inf, None
    setup_seconds = perf_counter() - began
    try:
        for update in updates(training, spec.seed):
            tally.add(update)
            display.update(update)
            accelerator.log({"loss": update.loss, "learning_rate": update.learning_rate}, step=update.number)
            if not update.ends_epoch:
                continue
            looked = infer(accelerator, training.model, encoded[task.select_on], device_batch)
            seen = outcome_of(task.select_on, looked)
            history.append(tally.close_epoch(update, seen.values))
            display.epoch(history[-1])
            accelerator.log({f"{task.select_on}/{name}": v for name, v in seen.defined.items()}, step=update.number)
            if recipe.select == "last" or seen.loss < lowest_loss:
                selected, lowest_loss, scores[task.select_on] = update.epoch, seen.loss, looked
                best_weights = training.weights() if recipe.select == "best" else None
            elif recipe.patience and update.epoch - selected >= recipe.patience:
                break

        # Scores of the selected weights for every other split, hidden labels included
        if best_weights is not None and selected < update.epoch:
            training.set_weights(best_weights)
        wanted = [split for split in encoded if split != "train" or split in task.evaluate]
        for split in (split for split in wanted if split not in scores):
            scores[split] = infer(accelerator, training.model, encoded[split], device_batch)
    except (Diverged, NotFinite) as fault:
        return dict(facts, status="diverged", error=str(fault), history=history)
    finally:
        display.close()
    outcomes = {split: outcome_of(split, scores[split]) for split in task.evaluate}
    if accelerator.is_main_process:
        folder = record_path(options.folder, task.name, spec.run_id).parent
        for split, file in _prediction_files(spec, scores).items():
            write_predictions(folder / file, scores[split], list(task.labels or []) or None, splits[split].label)
    return dict(
        facts,
        **split_fields(task, outcomes),
        **cost_fields(tally, provenance.used(accelerator, tally), perf_counter() - began, setup_seconds),
        notes=[note for outcome in outcomes.values() for note in outcome.notes],
        selected_epoch=selected,
        history=history,
        predictions=_prediction_files(spec, scores),
    )


def _identify(task: TaskSpec, files: Files | None, options: RunOptions) -> RunSpec:
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


def _finished(path: Path, options: RunOptions) -> RunRecord | None:
    record = None if options.overwrite or not path.exists() else read_record(path)
    return record if record is not None and record.is_finished else None


def _prediction_files(spec: RunSpec, scores: dict[str, Scores]) -> dict[str, str]:
    return {split: f"{spec.run_id}.{split}.parquet" for split in sorted(scores)}


def _companion_splits(task: TaskSpec, options: RunOptions) -> dict[str, Split]:
    """Rows of the tasks that models of this one predict, by `<task>.<split>`; those that cannot be had are left out."""
    from harness import data

    found: dict[str, Split] = {}
    for companion in companions(task.name):
        try:
            files = None if options.test_mode else find_files(companion, options.data)
            tables = testmode.tables(companion) if options.test_mode else data.read_tables(companion, files)
            rows = data.load_splits(companion, tables, "standard", None)
        except UserError:
            continue
        found |= {f"{companion.name}.{split}": rows[split] for split in companion.predict}
    return found


def _run_of_another(task: TaskSpec, options: RunOptions, command: str | None) -> RunRecord:
    """The record of a task that is predicted by models of another: that other's run, done if it is not there yet."""
    from accelerate import PartialState

    parent = run(replace(options, task=str(task.predicted_by)), command)
    mine = {split: f"{task.name}.{split}" for split in task.predict}
    if lacking := [split for split in mine.values() if split not in parent.predictions]:
        raise UserError(
            f"--task {task.name}: the {task.predicted_by} run {parent.run_id} has no predictions for {lacking[0]}, "
            "whose rows it could not get. Provide them and run again with --overwrite."
        )
    spec = parent.spec.model_copy(
        update={"task": task.name, "task_version": task.version, "definition": task.definition}
    )
    record = parent.model_copy(
        update=dict(
            run_id=spec.run_id,
            spec=spec,
            task=task_facts(task),
            metrics={},
            baseline={},
            hits={},
            squared_errors={},
            notes=[],
            predictions={s: f"../{task.predicted_by}/{parent.predictions[name]}" for s, name in mine.items()},
            trained_by=parent.run_id,
        )
    )
    path = record_path(options.folder, task.name, spec.run_id)
    if PartialState().is_main_process and (options.overwrite or not path.exists()):
        write_record(record, options.folder, options.overwrite)
    PartialState().wait_for_everyone()
    return record


if __name__ == "__main__":
    main()
