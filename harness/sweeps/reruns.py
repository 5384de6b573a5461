"""Runs that are done again, planned from their records alone."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from harness.errors import UserError, did_you_mean, first_line
from harness.facts.recipes import plan_steps, recipe_difference
from harness.facts.record_parts import Environment
from harness.facts.records import RunRecord, RunSpec
from harness.facts.tasks import task_names
from harness.metrics.registry import METRICS
from harness.requests.options import parse_options
from harness.rows.own_data import OwnData
from harness.stats.verification import ran_on_gpu
from harness.sweeps.plan import PlannedRun, mark_requested, plan_run, recipe_args
from harness.system.command_line import split_flags

SMALLEST = "smallest"
"""The name, in place of a run_id, of the run that took the fewest seconds."""

_ADVICE = {
    "task_version": "Install the version of the harness that the record names.",
    "task_fingerprint": "Install the version of the harness that the record names, or name the same task file.",
    "data": "Name the folder of the same rows with --data.",
    "revision": "The folder of the model is missing here, or has other files.",
}
"""Advice where a field of the spec has another value here."""


class RerunSettings(NamedTuple):
    """Settings of re-runs that no record has."""

    folder: Path
    """The results folder of the re-runs."""
    data: Path | None
    """The folder of rows for `--data`."""
    trusts_code: bool
    """Code that comes with a model or a metric may run."""


class Topology(NamedTuple):
    """The devices of a run, which decide how sums are rounded."""

    is_test_mode: bool
    gpus: int
    """0: the run was on a CPU."""
    threads: int


class RerunPlan(NamedTuple):
    """The runs of a re-run, the devices that it needs, and the time that it took before."""

    topology: Topology
    runs: list[PlannedRun]
    """The run, after those that it starts from."""
    seconds: float
    """The seconds that they took when they were recorded."""


def topology_of(record: RunRecord, gpus: int) -> Topology:
    """The devices for a re-run of a record with a score: as many GPUs as the run had, or all `gpus` of this machine.

    Raises:
        UserError: the run was on a GPU, and none is visible here.
    """
    environment = record.environment
    assert environment is not None
    if not ran_on_gpu(record):
        return Topology(record.spec.test_mode, 0, environment.threads)
    if not gpus:
        devices = ", ".join(sorted(set(environment.devices)))
        raise UserError(
            f"--rerun {record.run_id}: it ran on {devices}, but no GPU is visible here; on a CPU nothing is verified."
        )
    return Topology(False, min(environment.processes, gpus), environment.threads)


def find_record(run_id: str, records: Mapping[str, RunRecord], messages: Sequence[str]) -> RunRecord:
    """The record of a run; `messages` are about the files that are not readable as records.

    Raises:
        UserError: there is no such record, or it is one of the unreadable files.
    """
    if run_id in records:
        return records[run_id]
    if unreadable := next((message for message in messages if f"/{run_id}.json" in message), None):
        raise UserError(f"--rerun {run_id}: {unreadable}")
    raise UserError(
        f"--rerun {run_id}: run_id not found.{did_you_mean(run_id, records)} `harness verify` without --rerun lists "
        f"all; {SMALLEST} is the run that took the fewest seconds."
    )


def smallest_first(records: Collection[RunRecord], known: Mapping[str, RunRecord]) -> Iterator[RunRecord]:
    """The records with a score that are not the same in `known`, those with the fewest recorded seconds first."""
    candidates = [
        (record.cost.seconds, record.run_id, record)
        for record in records
        if record.cost is not None and has_score(record) and known.get(record.run_id) != record
    ]
    return (record for *_, record in sorted(candidates, key=lambda candidate: candidate[:2]))


def rerun_of(record: RunRecord, records: Mapping[str, RunRecord], settings: RerunSettings, gpus: int) -> RerunPlan:
    """The re-run of a record on a machine with that many GPUs.

    Raises:
        UserError: the run cannot be done again here.
    """
    chain = lineage(record, records, settings.trusts_code)
    topology = topology_of(record, gpus)
    seconds = sum(each.cost.seconds for each in chain if each.cost)
    return RerunPlan(topology, plan_rerun(chain, settings), seconds)


def smallest_rerun(
    records: Mapping[str, RunRecord], known: Mapping[str, RunRecord], settings: RerunSettings, gpus: int
) -> tuple[RerunPlan | None, list[str]]:
    """The re-run of the record that took the fewest seconds among those that are not `known` and can be done again.

    The second value has the reasons why the smaller ones cannot.
    """
    reasons: list[str] = []
    for record in smallest_first(records.values(), known):
        try:
            return rerun_of(record, records, settings, gpus), reasons
        except UserError as error:
            reasons.append(first_line(error))
    return None, reasons


def has_score(record: RunRecord) -> bool:
    """True for a run that did not fail or diverge: there is something to compare with."""
    return record.status in ("ok", "collapsed") and record.environment is not None


def plan_rerun(chain: Sequence[RunRecord], settings: RerunSettings) -> list[PlannedRun]:
    """The run of the first record of a `lineage`, after those that it starts from, which are done again too.

    Raises:
        UserError: the run cannot be done again here; the message names the field of its spec that differs.
    """
    runs: list[PlannedRun] = []
    for each in reversed(chain):
        runs.append(_plan_run(each, settings, runs[-1] if runs else None))
    return mark_requested(runs)


def lineage(record: RunRecord, records: Mapping[str, RunRecord], trusts_code: bool) -> list[RunRecord]:
    """The record, that of the run that it starts from, and so on to the one that starts from a published model.

    Raises:
        UserError: one of them has no score, was edited or needs code that is not trusted, or its parent has no record.
    """
    chain = [record]
    while True:
        record, flag = chain[-1], f"--rerun {chain[-1].run_id}"
        if not has_score(record):
            raise UserError(f"{flag}: {record.status}: expected a run with a score. Name another run.")
        if record.run_id != record.spec.run_id:  # so that no chain of parents is circular
            raise UserError(f"{flag}: edited record: its spec has the run_id {record.spec.run_id}.")
        if record.spec.trust_remote_code and not trusts_code:
            raise UserError(
                f"{flag}: runs code that comes with {record.spec.model}. Read the code of the commit "
                f"{record.spec.revision}, then allow it with --trust-remote-code."
            )
        if (parent := record.spec.parent) is None:
            return chain
        if parent not in records:
            raise UserError(f"{flag}: missing parent run: it starts from {parent}, which has no record here.")
        chain.append(records[parent])


def _plan_run(record: RunRecord, settings: RerunSettings, parent: PlannedRun | None) -> PlannedRun:
    flag = f"--rerun {record.run_id}"
    try:
        args = _args(record, settings)
        run = plan_run(args, parse_options(args), parent)
    except UserError as error:
        raise UserError(f"{flag}: {error}") from None
    except SystemExit:  # of the parser, even with 0 where a value is -h
        raise UserError(f"{flag}: invalid record: `harness run` refuses flags of its spec or its command.") from None
    for name in RunSpec.model_fields:
        if (expected := getattr(record.spec, name)) != (actual := getattr(run.spec, name)):
            advice = f" {_ADVICE[name]}" if name in _ADVICE else ""
            raise UserError(
                f"{flag}: spec.{name}: expected {expected!r} as in the record, got {actual!r} here.{advice}"
            )
    if not settings.trusts_code and (foreign := [name for name in run.task.metrics if name not in METRICS]):
        raise UserError(
            f"{flag}: the metric {foreign[0]!r} is code that `evaluate` loads. Read it, then allow it with "
            "--trust-remote-code."
        )
    return run


def _args(record: RunRecord, settings: RerunSettings) -> list[str]:
    """The arguments of `harness run` that give the record's spec, in its precision and with batches of its size."""
    spec, environment = record.spec, record.environment
    assert environment is not None
    args = _task_args(record, has_data=settings.data is not None)
    if spec.test_mode:
        args += ["--test-mode"]
    else:
        args += ["--model", spec.model]
        args += [] if spec.revision.startswith("sha256:") else ["--revision", spec.revision]
        args += ["--trust-remote-code"] * bool(spec.trust_remote_code)
        args += ["--data", str(settings.data)] if settings.data and spec.data else []
    args += recipe_args(recipe_difference(spec.recipe, parse_options(args).recipe))
    args += ["--parent", spec.parent] if spec.parent else []
    return [*args, "--seed", str(spec.seed), *_environment_args(record, environment), "--results", str(settings.folder)]


def _task_args(record: RunRecord, has_data: bool) -> list[str]:
    """The task's name; for a task that is not registered, the flags of the record's command that describe it."""
    if record.spec.task in task_names():
        return ["--task", record.spec.task]
    try:
        command = shlex.split(record.command)
    except ValueError:
        command = []
    flags = command[next((number for number, arg in enumerate(command) if arg.startswith("--")), len(command)) :]
    names = {"task", *(field.name for field in fields(OwnData)), *(["data"] if not has_data else [])}
    args, _ = split_flags(flags, names)
    return args or ["--task", record.spec.task]


def _environment_args(record: RunRecord, environment: Environment) -> list[str]:
    recipe = record.spec.recipe
    args = ["--precision", environment.precision, "--eval-batch-size", str(environment.eval_batch_size)]
    args += ["--compile", "on"] * environment.is_compiled
    args += ["--deterministic"] * environment.deterministic
    args += ["--cuda-graphs", "auto" if environment.has_step_graphs else "off"]
    if environment.device_batch_size != plan_steps(1, recipe, environment.processes).device_batch_size:
        args += ["--device-batch-size", str(environment.device_batch_size)]
    return args
