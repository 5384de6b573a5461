"""ONE run, told in order: what to train on what, rows, model, steps, scores, record; `accelerate launch` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put harness/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from collections.abc import Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness.engine.display import Display, summary
from harness.engine.progress import Progress, cost_fields
from harness.errors import UserError
from harness.facts.outcome import SplitOutcome, score_split, split_fields, task_facts, threshold_of
from harness.facts.recipes import changed_from
from harness.facts.records import (
    RunRecord,
    RunSpec,
    prepare_folder,
    read_record,
    record_path,
    write_record,
)
from harness.facts.tasks import TaskSpec, check_recipe, under_protocol
from harness.requests.companions import run_of_another
from harness.requests.identity import identify, resolve_task
from harness.requests.options import RunOptions, default_recipe, parse
from harness.requests.parents import find_parent
from harness.requests.preparation import prepare
from harness.rows.files import Files, find_files
from harness.saved_models import bundles, publishing
from harness.system.exit_codes import exit_code_on_error
from harness.system.importing import uncollected
from harness.system.locks import hold_lock, lock_of
from harness.system.offline import use_cache_unless_reachable
from harness.system.redaction import command_line
from harness.system.signals import Interrupted, StopRequest, catch_stop_signals

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness.engine.inference import Scores


def main(arguments: Sequence[str] | None = None) -> None:
    """The command. Exit code 0: a score was recorded; 1: the run diverged; 2: a mistake of the user's."""
    with exit_code_on_error():
        words = sys.argv[1:] if arguments is None else list(arguments)
        record = run(parse(words), command_line(["harness/run.py", *words]))

        from accelerate import PartialState

        PartialState().destroy_process_group()
        sys.exit(1 if record.status == "diverged" else 0)


def run(options: RunOptions, command: str | None = None) -> RunRecord:
    """Fine-tunes, evaluates and records one run, or gives the finished record it finds; on every process.

    An interrupted run goes on from its newest checkpoint. `command` is what the record shows as the way to repeat it;
    by default the options.

    Raises:
        UserError: something that was asked for cannot be done.
        Interrupted: a signal asked the run to stop; it has saved a checkpoint.
    """
    definition, said = resolve_task(options)
    task = under_protocol(definition, options.recipe.protocol)
    if task.predicted_by is not None:
        return run_of_another(task, options, partial(run, command=command))
    check_recipe(task, options.recipe)
    files = None if options.test_mode else find_files(task, options.data)
    spec = identify(task, files, options)
    prepare_folder(options.folder)

    path = record_path(options.folder, task.name, spec.run_id)
    tracking = options.folder / "trackers" / task.name / spec.run_id
    if not options.test_mode and (files is not None or task.source.hub is not None):  # or its address may be another's
        said = (*said, *filter(None, [use_cache_unless_reachable()]))
    with uncollected():
        from harness.engine import (  # torch and its relatives take seconds to import: only now needed
            checkpoints,
            deployment,
        )

        start = partial(deployment.start, on_cpu=options.test_mode, tracker=options.tracker, folder=tracking)
        accelerator = start("fp32" if options.test_mode else options.precision, deterministic=options.deterministic)
    saved = checkpoints.folder_of(options.folder, task.name, spec.run_id)
    for sentence in said:
        accelerator.print(sentence)
    lock = hold_lock(lock_of(path)) if accelerator.is_main_process else nullcontext()
    with lock, catch_stop_signals() as asked:
        finished = deployment.by_main(accelerator, lambda: None if options.overwrite else _finished(path))
        if finished is not None:
            if accelerator.is_main_process:
                checkpoints.discard(saved)  # the run may have been killed between its record and this
            accelerator.print(f"finished already: {path} ({finished.status}); --overwrite runs it again")
            if options.save_model is not None:
                bundles.check_kept(options.save_model, finished)
                _publish(options, accelerator)
            return finished
        parent = find_parent(task, spec, options)
        if accelerator.is_main_process and options.save_model is not None:
            bundles.check_place(options.save_model, spec.run_id, options.overwrite)
        if accelerator.is_main_process and options.push_to_hub is not None:
            publishing.check_sign_in(options.push_to_hub)

        def recorded(**told: Any) -> RunRecord:
            record = RunRecord(
                run_id=spec.run_id,
                spec=spec,
                recipe_changes=changed_from(spec.recipe, default_recipe(task, options.model, options.test_mode)),
                task=task_facts(task),
                command=command or repr(options),
                started=started,
                finished=datetime.now(UTC),
                parent_group_key=parent and parent.record.spec.group_key(parent.record.parent_group_key),
                **told,
            )
            if accelerator.is_main_process:
                if options.save_model is not None and record.status in ("ok", "collapsed"):
                    bundles.finish(options.save_model, definition, record)  # first: without it the run is not finished
                write_record(record, options.folder, options.overwrite)
            return record

        started = datetime.now(UTC)
        try:
            checkpoint = deployment.by_main(accelerator, lambda: checkpoints.newest(saved, print))
            fell_back = checkpoint is not None and checkpoints.progress_of(checkpoint)["fell_back"]
            if fell_back:
                accelerator = start("fp32")
            told = _fine_tune(task, spec, files, parent, options, accelerator, asked, checkpoint)
            if told["status"] == "diverged" and accelerator.mixed_precision != "no":
                accelerator.print(f"{told['error']} in {accelerator.mixed_precision}: starting again in fp32")
                if accelerator.is_main_process:
                    checkpoints.discard(saved)
                accelerator.free_memory()
                accelerator = start("fp32")
                told = _fine_tune(task, spec, files, parent, options, accelerator, asked, None, told["error"])
            record = recorded(**told)
        except (UserError, Interrupted):
            raise
        except Exception as error:
            if _finished(path) is None:  # a good record is not given up for a failure, even with --overwrite
                recorded(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        if accelerator.is_main_process:
            checkpoints.discard(saved)
    accelerator.print(f"{summary(record)}\n{path}")
    for tracker in accelerator.trackers:
        tracker.finish()
    if options.save_model is not None and record.status != "diverged":
        accelerator.print(f"the model: {options.save_model}")
        _publish(options, accelerator)
    return record


def _fine_tune(
    task: TaskSpec,
    spec: RunSpec,
    files: Files | None,
    parent: bundles.Bundle | None,
    options: RunOptions,
    accelerator: Accelerator,
    asked: StopRequest,
    checkpoint: Path | None,
    fell_back: str = "",
) -> dict[str, Any]:
    """The run itself: the fields of its record that tell how it went, the same on every process."""
    with uncollected():
        from harness.engine import checkpoints, deployment, provenance
        from harness.engine.adaptations import restore
        from harness.engine.inference import NotFinite, infer
        from harness.engine.predictions import write_predictions
        from harness.engine.training import Diverged, training_steps

    began, recipe, device_batch_size = perf_counter(), spec.recipe, options.eval_batch_size
    ready = prepare(task, spec, files, parent, options, accelerator)
    splits, encoded, training, plan = ready.splits, ready.encoded, ready.training, ready.plan
    if options.tracker:
        config = {"task": task.name, "model": spec.model, "seed": spec.seed, **recipe.model_dump(exclude_none=True)}
        accelerator.init_trackers("harness", config=config)

    # Where an interrupted run stood
    progress, best_weights = Progress(recipe), None
    if checkpoint is not None:
        state, best_weights, stood = checkpoints.load(accelerator, checkpoint)
        training.set_state(state)
        progress = Progress.from_json(recipe, stood)
        accelerator.print(f"going on after step {progress.step:,} of {plan.total_steps:,}")
    for note in ready.notes:
        progress.note(note)
    progress.go_on(began, ready.topology, fell_back)

    def threshold_on(scores: Scores) -> float | None:
        gold = splits[task.select_on].label
        return deployment.by_main(accelerator, lambda: threshold_of(task, recipe, scores.values, gold))

    def outcome_of(split: str, scores: Scores, threshold: float | None) -> SplitOutcome:
        gold = splits[split].label
        return deployment.by_main(accelerator, lambda: score_split(task, split, scores.values, gold, threshold))

    # Steps, with a look at the validation split after each epoch
    display = Display(plan, accelerator.is_main_process, progress.step)
    scores: dict[str, Scores] = {}
    saved_at, saved_step = perf_counter(), progress.step
    setup_seconds = saved_at - began
    after = plan.total_steps if progress.is_out_of_patience else progress.step
    try:
        for step in training_steps(training, spec.seed, after):
            settled = progress.add(step)
            display.update(step)
            for each in settled if options.tracker else ():
                accelerator.log({"loss": each.loss, "learning_rate": each.learning_rate}, step=each.number)
            if not step.is_checked:
                continue
            if step.ends_epoch:
                looked = infer(accelerator, training.model, encoded[task.select_on], device_batch_size)
                seen = outcome_of(task.select_on, looked, threshold_on(looked))
                display.epoch(progress.close_epoch(step, seen))
                accelerator.log({f"{task.select_on}/{name}": v for name, v in seen.defined.items()}, step=step.number)
                if progress.selected_epoch == step.epoch:
                    scores[task.select_on] = looked
                    best_weights = None if recipe.select == "last" else training.weights()
            is_due = step.number - saved_step >= options.checkpoint_steps
            is_due |= step.ends_epoch or perf_counter() - saved_at > options.checkpoint_seconds
            stops, saves = deployment.any_process(accelerator, [asked.signal > 0, is_due])
            if (stops or saves) and deployment.keeps_whole_weights(accelerator):
                checkpoints.save(
                    accelerator,
                    checkpoints.folder_of(options.folder, task.name, spec.run_id),
                    checkpoints.Checkpoint(training.state(), best_weights, progress.to_json()),
                )
                saved_at, saved_step = perf_counter(), step.number
            if stops:
                raise Interrupted(asked.signal, step.number, deployment.keeps_whole_weights(accelerator))
            if progress.is_out_of_patience:
                break

        # Scores of the selected weights for every other split, hidden labels included
        if best_weights is not None:
            training.set_weights(best_weights)
        for split in encoded:
            if split not in scores and (split != "train" or split in (*task.evaluate, task.select_on)):
                scores[split] = infer(accelerator, training.model, encoded[split], device_batch_size)
    except (Diverged, NotFinite) as fault:
        return ready.facts | dict(status="diverged", error=str(fault), history=progress.history, notes=progress.notes)
    finally:
        display.close()

    restore(ready.model, recipe, plan, progress.history[progress.selected_epoch - 1].step)
    if options.save_model is not None:
        weights = accelerator.get_state_dict(training.model)  # on all processes: each may have a part of them
        if accelerator.is_main_process:
            bundles.put_model(options.save_model, spec.run_id, ready.model, ready.tokenizer, weights, recipe.max_length)

    # What the record tells
    threshold = threshold_on(scores[task.select_on])
    outcomes = {split: outcome_of(split, scores[split], threshold) for split in task.evaluate}
    files_of = {split: f"{spec.run_id}.{split}.parquet" for split in sorted(scores)}
    if accelerator.is_main_process:
        folder = record_path(options.folder, task.name, spec.run_id).parent
        for split, name in files_of.items():
            names = list(task.labels or []) or None
            write_predictions(folder / name, scores[split], names, splits[split].label, threshold)
    return dict(
        ready.facts,
        **split_fields(task, outcomes),
        **cost_fields(progress, provenance.peaks(accelerator), setup_seconds),
        notes=[*progress.notes, *(note for outcome in outcomes.values() for note in outcome.notes)],
        selected_epoch=progress.selected_epoch,
        threshold=threshold,
        weights_sha256=training.weights_sha256() if deployment.keeps_whole_weights(accelerator) else None,
        history=progress.history,
        prediction_files=files_of,
    )


def _publish(options: RunOptions, accelerator: Accelerator) -> None:
    """Uploads the model that was kept, if that was asked for."""
    if accelerator.is_main_process and options.save_model is not None and options.push_to_hub is not None:
        print(f"on the Hub: {publishing.publish(options.save_model, options.push_to_hub)}")


def _finished(path: Path) -> RunRecord | None:
    record = read_record(path) if path.exists() else None
    return record if record is not None and record.is_finished else None


if __name__ == "__main__":
    main()
