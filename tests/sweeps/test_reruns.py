"""A run is planned again from its record alone, or refused with the field of its spec that cannot be had."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.facts.records import RunRecord
from harness.facts.tasks import apply_protocol
from harness.requests.identity import identify, resolve_task
from harness.requests.options import parse_options
from harness.rows.files import find_files
from harness.sweeps.plan import PlannedRun
from harness.sweeps.reruns import RerunSettings, find_record, lineage, plan_rerun, smallest_first, topology_of
from harness.system.redaction import redact_command

Make = Callable[..., RunRecord]


@pytest.fixture
def record_of(make_record: Make) -> Make:
    """`record_of(*args, **environment)`: the record that a run of these arguments leaves, on a CPU."""

    def record(*args: str, cost: float = 60, **environment: Any) -> RunRecord:
        options = parse_options(args)
        definition, _ = resolve_task(options)
        task = apply_protocol(definition, options.recipe.protocol)
        spec = identify(task, None if options.test_mode else find_files(task, options.data), options)
        made = make_record(spec.task)
        assert made.environment is not None
        assert made.cost is not None
        facts = {"devices": ["AMD EPYC"], "precision": "fp32", "device_batch_size": 32, **environment}
        fields = {
            "spec": spec,
            "run_id": spec.run_id,
            "environment": made.environment.model_copy(update=facts),
            "cost": made.cost.model_copy(update={"seconds": cost}),
            "command": redact_command(["harness/run.py", *args]),
        }
        return made.model_copy(update=fields)

    return record


def plan(*records: RunRecord, folder: Path = Path("again"), data: Path | None = None, code: bool = False) -> Any:
    """The planned runs of the first record, with the others in its results folder."""
    return plan_rerun(lineage(records[0], by_id(*records), code), RerunSettings(folder, data, code))


def by_id(*records: RunRecord) -> Mapping[str, RunRecord]:
    return {record.run_id: record for record in records}


@pytest.mark.parametrize(
    "args",
    [
        ("--task", "rte"),
        ("--task", "rte", "--test-mode", "--seed", "3", "--max-steps", "4"),
        ("--task", "sst2", "--model", "google/electra-small-discriminator", "--revision", "v1", "--epochs", "7"),
        ("--task", "cola", "--no-length-grouping", "--max-grad-norm", "None", "--learning-rate", "3.3e-05"),
        ("--task", "stsb", "--protocol", "holdout", "--train-rows", "100", "--adapter", "lora"),
        ("--task", "ax", "--test-mode"),
    ],
)
def test_the_spec_of_a_planned_run_is_that_of_the_record(record_of: Make, args: tuple[str, ...]) -> None:
    if "ax" in args:
        trained = record_of("--task", "mnli", *args[2:])
        own = record_of(*args).spec
        identity = {name: getattr(own, name) for name in ("task", "task_version", "task_fingerprint")}
        spec = trained.spec.model_copy(update=identity)
        record = trained.model_copy(update={"spec": spec, "run_id": spec.run_id, "trained_by": trained.run_id})
    else:
        record = record_of(*args)
    (run,) = plan(record)
    assert run.spec == record.spec
    assert run.options.results == Path("again")


def test_batches_precision_and_kernels_are_those_of_the_record(record_of: Make) -> None:
    args = ("--task", "rte", "--global-batch-size", "32")
    (run,) = plan(record_of(*args, precision="bf16", eval_batch_size=17, device_batch_size=8, deterministic=True))
    options = run.options
    assert (options.precision, options.eval_batch_size, options.device_batch_size) == ("bf16", 17, 8)
    assert (options.deterministic, options.cuda_graphs, options.compile) == (True, "off", "off")
    (run,) = plan(record_of(*args, device_batch_size=32, has_step_graphs=True, is_compiled=True))
    assert run.options.device_batch_size is None
    assert (run.options.cuda_graphs, run.options.compile) == ("auto", "on")


def test_a_parent_run_is_done_again_first(record_of: Make) -> None:
    parent = record_of("--task", "mnli", "--test-mode", "--epochs", "2")
    child = record_of("--task", "rte", "--test-mode", "--init-from", "mnli", "--parent", parent.run_id)
    runs: list[PlannedRun] = plan(child, parent)
    assert [(run.run_id, run.is_requested, run.after) for run in runs] == [
        (parent.run_id, False, None),
        (child.run_id, True, parent.run_id),
    ]
    assert runs[1].parent_group_key == parent.spec.group_key(None)
    with pytest.raises(UserError, match=parent.run_id):
        plan(child)


def test_a_chain_of_parents_may_have_any_length(record_of: Make) -> None:
    records = [record_of("--task", "rte", "--test-mode")]
    for _ in range(1_000):
        spec = records[-1].spec.model_copy(update={"parent": records[-1].run_id})
        records.append(records[-1].model_copy(update={"spec": spec, "run_id": spec.run_id}))
    assert lineage(records[-1], by_id(*records), trusts_code=False) == records[::-1]


def test_files_of_the_user_must_be_the_same(record_of: Make, make_task: Callable[..., Path], tmp_path: Path) -> None:
    task, folder = make_task(), tmp_path / "rows"
    shutil.copytree(tmp_path / "small", folder / "small")
    record = record_of("--task", str(task), "--data", str(folder))
    (run,) = plan(record)
    assert (run.spec, run.options.data) == (record.spec, folder)

    copy = shutil.copytree(folder, tmp_path / "copy")
    train = folder / "small" / "train.csv"
    train.write_text(train.read_text().replace("yes", "no", 1))
    with pytest.raises(UserError, match=r"spec\.data"):
        plan(record)
    (run,) = plan(record, data=copy)
    assert (run.spec, run.options.data) == (record.spec, copy)
    task.unlink()
    with pytest.raises(UserError, match=record.run_id):
        plan(record)
    with pytest.raises(UserError, match="task not found"):
        plan(record.model_copy(update={"command": "'"}))


def test_a_task_from_flags_is_planned_with_the_flags_of_the_command(record_of: Make, tmp_path: Path) -> None:
    rows = tmp_path / "news.csv"
    rows.write_text("text,topic\n" + "".join(f"a{row} b,sport\nc{row} d,music\n" for row in range(20)))
    record = record_of(
        *("--train-file", str(rows), "--text-columns", "text", "--label-column", "topic"),
        *("--epochs", "9", "--tracker", "wandb"),
    )
    (run,) = plan(record)
    assert run.spec == record.spec
    assert run.options.tracker is None
    rows.unlink()
    with pytest.raises(UserError, match=r"news\.csv"):
        plan(record)


def test_a_folder_of_the_model_must_be_the_same(record_of: Make, tmp_path: Path) -> None:
    config = tmp_path / "model" / "config.json"
    config.parent.mkdir()
    config.write_text("{}")
    record = record_of("--task", "rte", "--model", str(config.parent))
    (run,) = plan(record)
    assert run.spec == record.spec
    config.write_text("{ }")
    with pytest.raises(UserError, match=r"spec\.revision"):
        plan(record)


def test_what_cannot_be_done_again_is_refused(record_of: Make) -> None:
    record = record_of("--task", "rte")

    def with_spec(**fields: Any) -> RunRecord:
        spec = record.spec.model_copy(update=fields)
        return record.model_copy(update={"spec": spec, "run_id": spec.run_id})

    for changed, expected in (
        (record.model_copy(update={"status": "diverged"}), "diverged"),
        (record.model_copy(update={"run_id": "other"}), "edited record"),
        (with_spec(task_version=9), r"spec\.task_version"),
        (with_spec(task_fingerprint="f"), r"spec\.task_fingerprint"),
        (with_spec(data="sha256:1"), r"spec\.data"),
        (with_spec(trust_remote_code=True, revision="c" * 40), "--trust-remote-code"),
    ):
        with pytest.raises(UserError, match=expected):
            plan(changed)
    (run,) = plan(with_spec(trust_remote_code=True, revision="c" * 40), code=True)
    assert run.options.trust_remote_code


@pytest.mark.parametrize(
    ("spec", "command"),
    [
        ({"model": "-h"}, "harness/run.py --task rte"),
        ({"revision": "--help"}, "harness/run.py --task rte"),
        ({"task": "unknown"}, "harness/run.py --train-file rows.csv -h"),
        ({"task": "unknown"}, "harness/run.py --task -h"),
    ],
)
def test_a_value_that_reads_as_a_flag_ends_no_check(record_of: Make, spec: dict[str, str], command: str) -> None:
    record = record_of("--task", "rte")
    edited = record.spec.model_copy(update=spec)
    fields = {"spec": edited, "run_id": edited.run_id, "command": command}
    with pytest.raises(UserError, match=f"--rerun {edited.run_id}: invalid record"):
        plan(record.model_copy(update=fields))


def test_code_of_a_metric_needs_trust(record_of: Make, make_task: Callable[..., Path]) -> None:
    record = record_of("--task", str(make_task(metrics=["accuracy", "./metric"])))
    with pytest.raises(UserError, match=r"'\./metric'.*--trust-remote-code"):
        plan(record)
    (run,) = plan(record, code=True)
    assert run.spec == record.spec


def test_an_unknown_or_unreadable_record_is_named(record_of: Make) -> None:
    record = record_of("--task", "rte")
    assert find_record(record.run_id, by_id(record), []) is record
    with pytest.raises(UserError, match=f"'{record.run_id}'"):
        find_record(record.run_id[:-1], by_id(record), [])
    message = "results/runs/rte/old.json: unsupported record: expected schema version 2, got 1"
    with pytest.raises(UserError, match="schema version 2"):
        find_record("old", by_id(record), ["results/runs/rte/older.json: ...", message])


def test_the_smallest_run_has_the_fewest_seconds_and_is_new(record_of: Make) -> None:
    slow, fast, failed = (
        record_of("--task", "rte", "--seed", seed, cost=cost) for seed, cost in (("1", 90), ("2", 30), ("3", 1))
    )
    failed = failed.model_copy(update={"status": "failed"})
    assert list(smallest_first([slow, failed, fast], {})) == [fast, slow]
    assert list(smallest_first([slow, fast], by_id(fast))) == [slow]
    edited = fast.model_copy(update={"notes": ["edited"]})
    assert list(smallest_first([slow, edited], by_id(fast))) == [edited, slow]


def test_a_run_on_a_gpu_needs_one(record_of: Make) -> None:
    on_cpu, on_gpus = (
        record_of("--task", "rte", **environment)
        for environment in ({"threads": 3}, {"devices": ["NVIDIA H100"] * 2, "processes": 2})
    )
    assert topology_of(on_cpu, 0) == topology_of(on_cpu, 8) == (False, 0, 3)
    assert [topology_of(on_gpus, gpus).gpus for gpus in (1, 2, 8)] == [1, 2, 2]
    with pytest.raises(UserError, match="NVIDIA H100"):
        topology_of(on_gpus, 0)
