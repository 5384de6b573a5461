"""ONE run, told in order: what to train on what, rows, model, steps, scores, record; `accelerate launch` runs it."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # Python put harness/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from harness.__main__ import main as command

    command(["run", *sys.argv[1:]])

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.engine.progress import Progress, progress_fields
from harness.errors import UserError, is_of_another_process, is_of_the_outside_world
from harness.facts.outcome import describe_changes, split_fields
from harness.facts.records import RunRecord, prepare_results, read_record
from harness.facts.run_files import discard_checkpoints
from harness.facts.tasks import apply_protocol
from harness.requests.companions import record_companion
from harness.requests.identity import identify, resolve_task
from harness.requests.options import RunOptions, parse_options
from harness.requests.parents import find_parent
from harness.requests.preparation import Prepared, prepare
from harness.requests.run_request import RunRequest
from harness.rows.files import find_files
from harness.saved_models import bundles
from harness.sweeps.failures import is_finished
from harness.system import uploads
from harness.system.exit_codes import exit_code_on_error
from harness.system.locks import hold_lock, lock_path
from harness.system.offline import use_cache_unless_reachable
from harness.system.redaction import redact_command, redact_secrets
from harness.system.signals import Interrupted, StopRequest, catch_stop_signals

if TYPE_CHECKING:
    from accelerate import Accelerator

    from harness.engine.adaptations.adapters import AdapterFiles
    from harness.engine.display import Display
    from harness.engine.inference import Scores
    from harness.engine.training import Step

    Weights = dict[str, Any]
    Parent = bundles.Bundle | None


def main(arguments: Sequence[str]) -> None:
    """Runs the command and exits with 0 if there is a score, 1 if the run diverged, 2 for a mistake of the user."""
    with exit_code_on_error(is_output_optional=True):
        record = run(parse_options(arguments), redact_command(["harness/run.py", *arguments]))

        from accelerate import PartialState

        PartialState().destroy_process_group()
        sys.exit(1 if record.status == "diverged" else 0)


def run(options: RunOptions, command: str | None = None) -> RunRecord:
    """Fine-tunes, evaluates and records one run, or returns its finished record; every process must call it.

    An interrupted run resumes from its newest checkpoint. `command` is the command line that the record shows; by
    default the options.

    Raises:
        UserError: the options ask for something that cannot be done.
        Interrupted: a signal asked the run to stop; it has saved a checkpoint, if the launch can.
    """
    definition, messages = resolve_task(options)
    task = apply_protocol(definition, options.recipe.protocol)
    if task.predicted_by is not None:
        return record_companion(task, options, partial(run, command=command))
    files = None if options.test_mode else find_files(task, options.data)
    spec = identify(task, files, options)
    this = RunRequest(definition, task, spec, files, options, command or redact_secrets(repr(options)))
    prepare_results(options.folder)
    if options.save_model is not None:
        bundles.check_save_folder(options.save_model, this.spec.run_id, options.overwrite)
    if not options.test_mode and (files is not None or task.source.hub is not None):
        messages = (*messages, *filter(None, [use_cache_unless_reachable()]))
    accelerator = this.start("fp32" if options.test_mode else options.precision)
    for message in messages:
        accelerator.print(message)
    with ExitStack() as lock:
        if accelerator.is_main_process:
            lock.enter_context(hold_lock(lock_path(this.path)))
            lock.enter_context(this.progress_file)
        record = _finish(this, accelerator)
        if accelerator.is_main_process:  # only now: the run may have been killed between its record and this
            discard_checkpoints(this.checkpoint_folder)
    if accelerator.is_main_process and options.save_model is not None and record.status != "diverged":
        print(f"saved model: {options.save_model}")
        if options.push_to_hub is not None:
            print(f"on the Hub: {uploads.upload(options.save_model, options.push_to_hub)}")
    return record


def _finish(this: RunRequest, accelerator: Accelerator) -> RunRecord:
    """The finished record of the run, or the one that it has after training."""
    from harness.engine import deployment

    finished = deployment.compute_on_main(accelerator, lambda: _finished_record(this))
    if finished is None:
        return _train_and_record(this, accelerator)
    status = f"{finished.status}{describe_changes(finished.task, this.task)}"
    accelerator.print(f"already finished: {this.path} ({status}); --overwrite runs it again")
    if this.options.save_model is not None:
        bundles.check_saved_model(this.options.save_model, finished)
    return finished


def _finished_record(this: RunRequest) -> RunRecord | None:
    """The record if the run is finished and not to be repeated; raises UserError if it is not readable."""
    if this.options.overwrite or not this.path.exists():
        return None
    try:
        record = read_record(this.path)
    except UserError as error:
        raise UserError(f"{str(error).rstrip('.')}. --overwrite runs it again and replaces the file.") from None
    return record if record.is_finished else None


def _train_and_record(this: RunRequest, accelerator: Accelerator) -> RunRecord:
    """Trains, scores and records the run; one that fails leaves a failed record."""
    from harness.engine import deployment
    from harness.engine.display import summary

    started, parent = datetime.now(UTC), find_parent(this.task, this.spec, this.options)
    if accelerator.is_main_process and this.options.push_to_hub is not None:
        uploads.check_sign_in(this.options.push_to_hub)
    try:
        accelerator, outcome = _train_with_fallback(this, parent, accelerator)
        record = deployment.compute_on_main(accelerator, lambda: this.write(parent, started, outcome))
    except Exception as error:
        if isinstance(error, UserError) or is_of_the_outside_world(error) or is_of_another_process(error):
            raise
        if accelerator.is_main_process and not is_finished(this.path):  # a good record outlives a failure
            this.write(parent, started, dict(status="failed", error=redact_secrets(f"{type(error).__name__}: {error}")))
        raise
    accelerator.print(f"{summary(record)}\n{this.path}")
    deployment.finish_trackers(accelerator)
    return record


def _train_with_fallback(
    this: RunRequest, parent: Parent, accelerator: Accelerator
) -> tuple[Accelerator, dict[str, Any]]:
    """Trains from the newest checkpoint or from the start, and once more in fp32 if mixed precision diverges.

    Returns the accelerator that was used last, and the record's fields about the outcome.
    """
    from harness.engine import checkpoints, deployment

    began, fault = perf_counter(), ""
    checkpoint = deployment.compute_on_main(
        accelerator, lambda: checkpoints.newest_checkpoint(this.checkpoint_folder, print)
    )
    if checkpoint is not None and checkpoints.saved_progress(checkpoint).get("fell_back"):
        accelerator, fault = this.start("fp32"), "an interrupted attempt diverged"
    outcome = _fine_tune(this, parent, accelerator, checkpoint, began, fault)
    if outcome["status"] != "diverged" or accelerator.mixed_precision == "no":
        return accelerator, outcome
    accelerator.print(f"{outcome['error']} in {accelerator.mixed_precision}: starting again in fp32")
    if accelerator.is_main_process:
        discard_checkpoints(this.checkpoint_folder)
    deployment.finish_trackers(accelerator)
    accelerator.free_memory()
    accelerator = this.start("fp32")
    return accelerator, _fine_tune(this, parent, accelerator, None, began, outcome["error"])


class _Selection(NamedTuple):
    """The selected weights so far, and their scores."""

    weights: Weights | None
    """None where the last weights are selected."""
    scores: dict[str, Scores]
    """Scores of these weights on the selection split; empty after a resume."""


def _fine_tune(
    this: RunRequest, parent: Parent, accelerator: Accelerator, checkpoint: Path | None, began: float, fault: str
) -> dict[str, Any]:
    """Trains and scores; returns the fields of the record that say how it went, the same on every process.

    `began` is the value of `perf_counter` at the start; `fault` says why mixed precision was given up, where it was.
    """
    from harness.engine.adaptations import restore, vocabulary
    from harness.engine.display import Display
    from harness.engine.inference import NotFinite
    from harness.engine.memory import explained_out_of_memory
    from harness.engine.training import Diverged

    recipe = this.spec.recipe
    ready = prepare(this, parent, accelerator)
    if this.options.tracker:
        config = {"task": this.task.name, "model": this.spec.model, "seed": this.spec.seed}
        accelerator.init_trackers("harness", config=config | recipe.model_dump(exclude_none=True))
    progress, best = _resume(this, ready, checkpoint)
    for note in ready.notes:
        progress.note(note)
    progress.begin(began, ready.topology, fault, ready.meters)
    display = Display(ready.plan, accelerator.is_main_process, progress.step)
    try:
        with explained_out_of_memory(ready.plan.device_batch_size, ready.environment.eval_batch_size):
            with catch_stop_signals() as stop_request, display:
                best = _train(this, ready, progress, best, display, stop_request)
            if best.weights is not None:
                ready.training.set_weights(best.weights)
            vocabulary.widen(ready.model, recipe, ready.plan, progress.selected.step)  # companions have other tokens
            scores = best.scores | _other_scores(this, ready, best)
    except (Diverged, NotFinite) as error:
        return ready.facts | dict(status="diverged", error=str(error), history=progress.history, notes=progress.notes)
    _save_model(this, ready, restore(ready.model, recipe, ready.plan, progress.selected.step))
    return ready.facts | _outcome_fields(this, ready, progress, scores)


def _resume(this: RunRequest, ready: Prepared, checkpoint: Path | None) -> tuple[Progress, _Selection]:
    """Puts training where the checkpoint left it, or the one before it if it is unusable, or at the start."""
    from harness.engine import checkpoints, deployment

    accelerator = ready.training.accelerator
    skipped: list[Path] = []
    while checkpoint is not None:
        fault = ""
        try:
            saved = checkpoints.load_checkpoint(accelerator, checkpoint)
            progress = Progress.from_json(this.spec.recipe, saved.progress)
            progress.check_plan(ready.plan)
            checkpoints.check_fit(saved, ready.training)
        except UserError as error:
            fault = str(error).rstrip(".")
        if not any(deployment.any_process(accelerator, [bool(fault)])):
            ready.training.set_state(saved.state)
            accelerator.print(f"resuming after step {progress.step:,} of {ready.plan.total_steps:,}")
            return progress, _Selection(saved.best_weights, {})
        accelerator.print(f"{checkpoint.name}: {fault}; skipped, trying the checkpoint before it")
        skipped.append(checkpoint)
        checkpoint = deployment.compute_on_main(
            accelerator, lambda: checkpoints.newest_checkpoint(this.checkpoint_folder, print, skipped)
        )
    return Progress(this.spec.recipe), _Selection(None, {})


def _train(
    this: RunRequest, ready: Prepared, progress: Progress, best: _Selection, display: Display, stop_request: StopRequest
) -> _Selection:
    """Takes the steps that are left, evaluates as planned and saves checkpoints when they are due.

    Raises:
        Diverged: a loss or gradient norm is not finite.
        NotFinite: a score is not finite.
        Interrupted: a signal asked the run to stop; a checkpoint is saved, if the launch can.
    """
    from harness.engine import checkpoints, deployment
    from harness.engine.training import training_steps

    training, accelerator, options = ready.training, ready.training.accelerator, this.options
    total_steps, can_save = ready.plan.total_steps, deployment.can_gather_weights(accelerator)
    schedule = checkpoints.CheckpointSchedule(options.checkpoint_steps, options.checkpoint_seconds, progress.step)
    after = total_steps if progress.is_out_of_patience else progress.step
    for step in training_steps(training, this.spec.seed, after):
        for each in progress.add(step):
            if options.tracker:
                accelerator.log({"loss": each.loss, "learning_rate": each.learning_rate}, step=each.number)
        display.update(step)
        if not step.is_checked:
            continue
        if accelerator.is_main_process:
            this.progress_file.write(progress, total_steps)
        if step.is_evaluated:
            best = _evaluate(this, ready, progress, best, step, display)
        stops, saves = deployment.any_process(accelerator, [stop_request.signal > 0, schedule.is_due(step)])
        if (stops or saves) and can_save:
            summary = progress.summary(this.spec, total_steps).model_dump(mode="json")
            checkpoint = checkpoints.Checkpoint(training.state(), best.weights, progress.to_json(), summary)
            checkpoints.save_checkpoint(accelerator, this.checkpoint_folder, checkpoint)
            schedule.mark_saved(step.number)
        if stops:
            raise Interrupted(stop_request.signal, step.number, can_save)
        if progress.is_out_of_patience:
            break
    return best


def _evaluate(
    this: RunRequest, ready: Prepared, progress: Progress, best: _Selection, step: Step, display: Display
) -> _Selection:
    """Scores the selection split after a step; returns the weights of the step if they are selected, else `best`."""
    evaluator, select_on = ready.evaluator, this.task.select_on
    scores = evaluator.scores(ready.training.model, select_on)
    outcome = evaluator.outcome(select_on, scores, evaluator.threshold(scores))
    display.evaluation(progress.add_evaluation(step, ready.plan.evaluations.epoch_after(step.number), outcome))
    values = {f"{select_on}/{name}": value for name, value in outcome.defined.items()}
    evaluator.accelerator.log(values, step=step.number)
    if not progress.is_last_selected:
        return best
    return _Selection(None if this.spec.recipe.select == "last" else ready.training.weights(), {select_on: scores})


def _other_scores(this: RunRequest, ready: Prepared, best: _Selection) -> dict[str, Scores]:
    """The selected weights' scores for the splits that are reported or predicted, without those known already."""
    scored, model = {*this.task.evaluate, this.task.select_on}, ready.training.model
    names = [name for name in ready.evaluator.encoded if name in scored or (this.options.predict and name != "train")]
    return {name: ready.evaluator.scores(model, name) for name in names if name not in best.scores}


def _save_model(this: RunRequest, ready: Prepared, adapter: AdapterFiles | None) -> None:
    """Writes the weights to the folder of --save-model, if it was given; every process must call it."""
    if (folder := this.options.save_model) is None:
        return
    accelerator = ready.training.accelerator
    weights = accelerator.get_state_dict(ready.training.model)  # on all processes: each may have a part of them
    if accelerator.is_main_process:
        tokenizer, length = ready.tokenizer, this.spec.recipe.max_length
        bundles.stage_model(folder, this.spec.run_id, ready.model, tokenizer, weights, length, adapter)


def _outcome_fields(this: RunRequest, ready: Prepared, progress: Progress, scores: dict[str, Scores]) -> dict[str, Any]:
    """The fields of the record that scores and cost fill; writes the prediction files next to it."""
    from harness.engine import deployment, provenance
    from harness.engine.predictions import write_predictions

    task, evaluator, training, accelerator = this.task, ready.evaluator, ready.training, ready.training.accelerator
    threshold = evaluator.threshold(scores[task.select_on])
    outcomes = {split: evaluator.outcome(split, scores[split], threshold) for split in task.evaluate}
    prediction_files = {split: f"{this.spec.run_id}.{split}.parquet" for split in sorted(scores)}
    if accelerator.is_main_process:
        for split, name in prediction_files.items():
            write_predictions(this.path.with_name(name), scores[split], task.labels, evaluator.splits[split], threshold)
    return dict(
        split_fields(task, outcomes),
        **progress_fields(progress, *provenance.memory_and_energy(accelerator, ready.meters)),
        notes=[*progress.notes, *(note for outcome in outcomes.values() for note in outcome.notes)],
        selected_epoch=progress.selected.epoch,
        threshold=threshold,
        weights_sha256=training.weights_sha256() if deployment.can_gather_weights(accelerator) else None,
        prediction_files=prediction_files,
    )
