"""`harness verify`: records that were edited are found and named with the field, and re-runs by others are linked."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.commands import run_harness

from harness.__main__ import main
from harness.commands import verify as verify_command
from harness.commands.leaderboard import read_leaderboard
from harness.commands.verify import main as verify_main
from harness.errors import UserError
from harness.facts.packing import pack_array, unpack_array
from harness.facts.records import RunRecord, read_record, read_records, record_path, write_record
from harness.inspection.verification_report import SCHEMA_VERSION, verify
from harness.metrics.registry import METRICS
from harness.requests.options import parse_options
from harness.run import run
from harness.stats.verification import LEVELS, Rerun, compare_reruns
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.launch import launch_command
from harness.sweeps.reruns import RerunPlan, Topology
from harness.sweeps.scheduler import Command

RUNS = Path(__file__).resolve().parents[2] / "results" / "runs"

Content = dict[str, Any]

NOTHING_SHOWN: Content = {
    "schema_version": SCHEMA_VERSION,
    "is_consistent": False,
    "levels": LEVELS,
    "records": [],
    "unreadable": [],
    "removed": [],
}
"""The output where no record is shown."""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The published runs of rte: two models, three seeds each."""
    shutil.copytree(RUNS / "rte", tmp_path / "runs" / "rte")
    return tmp_path


def edit(path: Path, change: Callable[[Content], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def flip(packed: str) -> str:
    """Packed class numbers with another class in the first row."""
    values = unpack_array(packed)
    return pack_array(np.concatenate([1 - values[:1], values[1:]]))


def change_gold(content: Content) -> None:
    """Changes a gold label, and every score so that it follows from it."""
    content["gold"]["validation"] = flip(content["gold"]["validation"])
    gold, predictions = (unpack_array(content[name]["validation"]) for name in ("gold", "predictions"))
    for name in content["task"]["metrics"]:
        content["metrics"]["validation"][name] = METRICS[name].value(predictions, gold)


def change_prediction(content: Content) -> None:
    content["predictions"]["validation"] = flip(content["predictions"]["validation"])


EDITS: dict[str, tuple[Callable[[Content], object], str]] = {
    "score": (lambda one: one["metrics"]["validation"].update(accuracy=0.9), "metrics.validation.accuracy"),
    "loss": (lambda one: one["metrics"]["validation"].update(loss=0.1), "metrics.validation.loss"),
    "prediction": (change_prediction, "predictions.validation"),
    "gold": (change_gold, "gold.validation"),
    "spec field": (lambda one: one["spec"]["recipe"].update(learning_rate=2e-5), "spec.recipe.learning_rate"),
    "seed": (lambda one: one["spec"].update(seed=7), "spec.seed"),
    "rows of training": (lambda one: one["data"]["rows"].update(train=5000), "data.rows.train"),
    "rows": (lambda one: one["data"]["rows"].update(validation=300), "data.rows.validation"),
    "main metric": (lambda one: one["task"].update(main_metrics=["f1"]), "task.main_metrics"),
    "status": (lambda one: one.update(status="collapsed"), "status"),
    "recipe shown": (lambda one: one["recipe_changes"].update(epochs=5), "recipe_changes.epochs"),
    "model": (lambda one: one["spec"].update(model="sentence-transformers/other"), "run_id"),
}


def test_published_records_are_checked_and_ten_tampered_copies_are_ten_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("rte", "mrpc"):
        shutil.copytree(RUNS / task, tmp_path / "runs" / task)
    verified, messages = verify(tmp_path)
    assert messages == []
    assert [(one.level, one.findings) for one in verified] == [("checked", [])] * 12

    paths = sorted((tmp_path / "runs").glob("*/*.json"))
    by_edit = dict(zip(("score", "prediction", "gold", "spec field", "seed", "rows"), paths, strict=False))
    expected = {}
    for name, path in by_edit.items():
        change, field = EDITS[name]
        edit(path, change)
        expected[path.stem] = field
    renamed, schema, without_file, first, second = paths[6:11]
    edit(renamed, lambda one: one.update(run_id=one["run_id"][:-1] + "x"))
    renamed = renamed.rename(renamed.with_name(f"{renamed.stem[:-1]}x.json"))
    expected[renamed.stem] = "run_id"
    edit(schema, lambda one: one.update(verified_by="me"))
    without_file.with_name(f"{without_file.stem}.validation.parquet").unlink()
    expected[without_file.stem] = "prediction_files.validation"
    files = [path.with_name(f"{path.stem}.validation.parquet") for path in (first, second)]
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    expected |= {path.stem: "predictions.validation" for path in (first, second)}

    run_harness("verify", tmp_path, "--json", code=1)
    content = json.loads(capsys.readouterr().out)
    assert content["is_consistent"] is False
    fields = {one["run_id"]: [finding["field"] for finding in one["findings"]] for one in content["records"]}
    assert {run_id for run_id, names in fields.items() if names} == expected.keys()
    assert all(field in fields[run_id] for run_id, field in expected.items()), (expected, fields)
    (message,) = content["unreadable"]
    assert str(schema) in message
    assert "verified_by" in message
    levels = {one["run_id"]: one["level"] for one in content["records"]}
    assert {levels[run_id] for run_id in expected} == {"reported"}


def test_every_edit_is_named_with_its_field(results: Path) -> None:
    paths = sorted((results / "runs" / "rte").glob("*.json"))
    originals = {path: path.read_bytes() for path in paths}
    names = list(EDITS)
    for start in range(0, len(names), len(paths)):
        for path, content in originals.items():
            path.write_bytes(content)
        edits = dict(zip(names[start:], paths, strict=False))
        for name, path in edits.items():
            edit(path, EDITS[name][0])
        fields = {one.record.run_id: [finding.field for finding in one.findings] for one in verify(results)[0]}
        for name, path in edits.items():
            assert EDITS[name][1] in fields[path.stem], (name, fields[path.stem])


def test_table_is_printed_and_everything_holds(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_harness("verify", results)
    shown = capsys.readouterr().out
    assert "6 records: 6 consistent, 0 with mismatches; 0 unreadable." in shown
    assert "6 checked: " in shown
    assert "not checked in 6 record(s): weights" in shown


def test_files_of_predictions_that_were_never_published_are_no_mismatch(results: Path) -> None:
    for path in (results / "runs" / "rte").glob("*.parquet"):
        path.unlink()
    verified, _ = verify(results)
    assert [(one.level, one.findings) for one in verified] == [("checked", [])] * 6
    assert all(any(reason.startswith("files of predictions: ") for reason in one.unchecked) for one in verified)


def test_the_base_leaves_out_the_records_that_it_has(results: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("base")
    shutil.copytree(results / "runs", base / "runs")
    first, second, third, *_ = sorted((results / "runs" / "rte").glob("*.json"))
    assert verify(results, base) == ([], [])
    edit(first, lambda one: one.update(notes=["edited"]))
    second.with_name(f"{second.stem}.validation.parquet").unlink()
    write_record(later(read_record(third)), results / "reruns" / "lab")
    assert [one.record.run_id for one in verify(results, base)[0]] == [first.stem, second.stem, third.stem]


def verified_base(results: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, Content]:
    """The exit code and the output of the check of a pull request."""
    capsys.readouterr()
    code = 0
    try:
        main(["verify", str(results), "--base", str(base), "--json"])
    except SystemExit as stop:
        code = int(str(stop.code))
    return code, json.loads(capsys.readouterr().out)


def test_files_that_the_base_has_must_not_be_removed(
    results: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path_factory.mktemp("base")
    path, other, *_ = sorted((results / "runs" / "rte").glob("*.json"))
    write_record(later(read_record(path)), results / "reruns" / "lab")
    (results / "grids").mkdir()
    (results / "grids" / "bert.json").write_text("{}")
    shutil.copytree(results, base, dirs_exist_ok=True)
    (results / "grids" / "bert.json").unlink()
    in_test_mode = base / "reruns" / "lab" / "test-mode" / "runs" / "rte" / "x-seed1.validation.parquet"
    in_test_mode.parent.mkdir(parents=True)
    in_test_mode.touch()
    assert verified_base(results, base, capsys) == (1, {**NOTHING_SHOWN, "removed": ["grids/bert.json"]})
    (base / "grids" / "bert.json").unlink()
    in_test_mode.unlink()
    assert verified_base(results, base, capsys) == (0, {**NOTHING_SHOWN, "is_consistent": True})

    files = sorted(path.parent.glob(f"{path.stem}.*.parquet"))
    for file in files:
        file.unlink()
    code, content = verified_base(results, base, capsys)
    assert (code, content["is_consistent"]) == (1, False)
    assert content["removed"] == [file.relative_to(results).as_posix() for file in files]
    run_harness("verify", results)  # a folder alone may lack them

    shutil.rmtree(results / "reruns")
    other.unlink()
    code, content = verified_base(results, base, capsys)
    names = {name.removeprefix("runs/rte/") for name in content["removed"]}
    assert code == 1
    assert names == {*(file.name for file in files), other.name, f"reruns/lab/runs/rte/{path.name}"}

    shutil.rmtree(results / "runs")
    code, content = verified_base(results, base, capsys)
    files_of_base = sorted(each.relative_to(base).as_posix() for each in base.rglob("*.*") if each.is_file())
    assert (code, content["removed"]) == (1, files_of_base)
    run_harness("verify", results, "--base", base, code=1)
    assert files_of_base[0] in capsys.readouterr().out
    run_harness("verify", results / "nosuch", "--base", base, code=2)


def test_predictions_of_a_record_of_the_base_must_not_be_replaced(
    results: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of rows with hidden labels agree with any record."""
    base = tmp_path_factory.mktemp("base")
    path, other, *_ = sorted((results / "runs" / "rte").glob("*.json"))
    for one in (path, other):
        shutil.copy(one.with_name(f"{one.stem}.validation.parquet"), one.with_name(f"{one.stem}.test.parquet"))
        edit(one, lambda content: content["prediction_files"].update(test=f"{content['run_id']}.test.parquet"))
        edit(one, lambda content: content["data"]["rows"].update(test=content["data"]["rows"]["validation"]))
    shutil.copytree(results, base, dirs_exist_ok=True)
    assert verified_base(results, base, capsys)[0] == 0
    shutil.copy(other.with_name(f"{other.stem}.test.parquet"), path.with_name(f"{path.stem}.test.parquet"))
    code, content = verified_base(results, base, capsys)
    ((run_id, findings),) = [(one["run_id"], one["findings"]) for one in content["records"]]
    assert (code, run_id, [one["field"] for one in findings]) == (1, path.stem, ["prediction_files.test"])
    verify(results)


def test_no_records_is_bad_input_and_an_unreadable_one_does_not_hold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_harness("verify", tmp_path, code=2)
    assert str(tmp_path) in capsys.readouterr().err
    (tmp_path / "test-mode/runs").mkdir(parents=True)
    run_harness("verify", tmp_path, code=2)
    assert str(tmp_path / "test-mode") in capsys.readouterr().err
    path = record_path(tmp_path, "rte", "broken")
    path.parent.mkdir(parents=True)
    path.write_text("{")
    run_harness("verify", tmp_path, code=1)
    assert str(path) in capsys.readouterr().out


def test_a_damaged_grid_is_unreadable(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = results / "grids" / "model-rte-1.json"
    path.parent.mkdir()
    path.write_text("{")
    run_harness("verify", results, code=1)
    shown = capsys.readouterr().out
    assert f"{path}: not a readable grid" in shown
    assert "0 with mismatches; 1 unreadable." in shown


def later(record: RunRecord, **changes: Any) -> RunRecord:
    """The record of another run of the same spec."""
    times = {name: getattr(record, name) + timedelta(days=1) for name in ("started", "finished")}
    return record.model_copy(update={**times, **changes})


def rerun_levels(results: Path, change: Callable[[RunRecord], RunRecord]) -> dict[str, tuple[str, list[str]]]:
    """The level and the re-runs of each record, after a re-run of the first model."""
    for record in read_records(results).records:
        if record.spec.model.endswith("L6-v2"):
            write_record(change(record), results / "reruns" / "another-lab", overwrite=True)
    return {one.record.run_id: (one.level, [rerun.path for rerun in one.reruns]) for one in verify(results)[0]}


def test_equal_rerun_by_somebody_else_verifies_a_row_and_a_copy_does_not(results: Path) -> None:
    copied = rerun_levels(results, lambda record: record)
    assert list(copied.values()) == [("checked", [])] * 6
    levels = rerun_levels(results, later)
    for run_id, (level, reruns) in levels.items():
        is_repeated = "L6-v2" in run_id
        assert level == ("verified" if is_repeated else "checked")
        assert reruns == [f"reruns/another-lab/runs/rte/{run_id}.json"] * is_repeated
    run_harness("leaderboard", "--results", results)
    board = json.loads((results / "leaderboard.json").read_text())
    assert sorted(entry["verification"] for entry in board["entries"]) == ["checked", "verified"]
    runs = [run for entry in board["entries"] for run in entry["tasks"]["rte"]["runs"]]
    assert {run["run_id"]: run["reruns"] for run in runs} == {run_id: reruns for run_id, (_, reruns) in levels.items()}
    page = (results / "leaderboard.html").read_text()
    assert all(f'href="{path}"' in page for _, reruns in levels.values() for path in reruns)


def on_gpu(record: RunRecord) -> RunRecord:
    assert record.environment
    return record.model_copy(
        update={"environment": record.environment.model_copy(update={"devices": ["NVIDIA H100 80GB HBM3"]})}
    )


def with_wrong_rows(wrong: int) -> Callable[[RunRecord], RunRecord]:
    """A change of a record: the re-run of it on a GPU, with that many correct predictions turned into wrong ones."""

    def other(record: RunRecord) -> RunRecord:
        gold = unpack_array(record.gold["validation"])
        predictions = unpack_array(record.predictions["validation"]).copy()
        right = np.flatnonzero(predictions == gold)[:wrong]
        predictions[right] = 1 - predictions[right]
        metrics = {name: METRICS[name].value(predictions, gold) for name in record.task.metrics}
        changed = {"metrics": {"validation": metrics}, "predictions": {"validation": pack_array(predictions)}}
        return on_gpu(later(record, **changed))

    return other


@pytest.mark.parametrize(("wrong", "expected"), [(1, "verified"), (80, "checked")])
def test_rerun_on_a_gpu_verifies_within_the_interval(results: Path, wrong: int, expected: str) -> None:
    other = with_wrong_rows(wrong)
    on_cpu = rerun_levels(results, other)
    assert {level for level, _ in on_cpu.values()} == {"checked"}, "the published runs were on a CPU"
    for record in read_records(results).records:
        write_record(on_gpu(record), results, overwrite=True)
    levels = rerun_levels(results, other)
    assert {level for run_id, (level, _) in levels.items() if "L6-v2" in run_id} == {expected}


def test_rerun_that_contradicts_itself_verifies_nothing(results: Path) -> None:
    def edited(record: RunRecord) -> RunRecord:
        return later(record, metrics={"validation": {**record.metrics["validation"], "f1": 0.99}})

    assert list(rerun_levels(results, edited).values()) == [("checked", [])] * 6
    assert read_record(next((results / "runs" / "rte").glob("*.json"))).metrics["validation"]["f1"] != 0.99


# -- runs again --------------------------------------------------------------------------------------------------------


def code_of(*args: str | Path, command: Command = launch_command) -> int:
    """The exit code of the command."""
    try:
        verify_main([*map(str, args)], command)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize(("wrong", "expected"), [(1, "within"), (80, "outside")])
def test_a_rerun_that_is_not_equal_is_compared_with_the_interval(
    results: Path, capsys: pytest.CaptureFixture[str], wrong: int, expected: str
) -> None:
    rerun_levels(results, with_wrong_rows(wrong))
    capsys.readouterr()
    assert code_of(results, "--json") == (expected == "outside")
    outcomes = [one for record in json.loads(capsys.readouterr().out)["records"] for one in record["reruns"]]
    assert len(outcomes) == 3
    for one in outcomes:
        assert one["agreement"] == expected
        assert one["changed_rows"] == {"validation": wrong}
        assert one["score"] - one["rerun_score"] == pytest.approx(wrong / 277)
        assert one["differences"] == ["devices: 1 x AMD EPYC -> 1 x NVIDIA H100 80GB HBM3"]
        low, high = one["interval"]
        assert (low <= one["rerun_score"] <= high) == (expected == "within")


def test_the_interval_of_one_run_is_wider_than_that_of_the_mean_over_seeds(results: Path) -> None:
    board = read_leaderboard(results)[0]
    record = read_records(results).records[0]
    group = next(group for group in board.levels if record in group.runs)
    interval = board.evidence[group].total
    assert interval is not None
    (outcome,) = compare_reruns(record, [Rerun("a.json", later(record, weights_sha256="other"))], group, interval)
    assert outcome.agreement == "within"
    assert outcome.interval is not None
    width = (outcome.interval.high - outcome.interval.low) / (interval.high - interval.low)
    assert width == pytest.approx(3**0.5)
    (outcome,) = compare_reruns(record, [Rerun("a.json", later(record, weights_sha256="other"))], group, None)
    assert (outcome.agreement, outcome.interval) == ("unknown", None)


def test_a_run_is_done_again_from_its_record_and_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--test-mode", "--max-steps", "3", "--global-batch-size", "16", "--results", str(tmp_path))
    record = run(parse_options(["--task", "rte", "--seed", "3", *flags]))
    results, starts = tmp_path / "test-mode", []
    capsys.readouterr()

    def command(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
        starts.append(threads)
        with redirect_stdout(sys.stderr):
            run(parse_options(args))
        return ["false"]  # never started: the supervisor finds the record finished

    assert code_of(results, "--rerun", "smallest", "--name", "lab", "--json", command=command) == 0
    assert starts == [1]
    (checked,) = json.loads(capsys.readouterr().out)["records"]
    (outcome,) = checked["reruns"]
    assert (checked["level"], outcome["agreement"], outcome["differences"]) == ("verified", "equal", [])
    again = read_record(results / outcome["path"])
    assert outcome["path"] == f"reruns/lab/test-mode/runs/rte/{record.run_id}.json"
    assert (again.spec, again.weights_sha256) == (record.spec, record.weights_sha256)
    assert again.started > record.finished

    assert code_of(results, "--rerun", record.run_id, "--name", "lab", command=command) == 0
    assert len(starts) == 1, "a finished re-run is kept"
    assert "bit-for-bit equal" in capsys.readouterr().out


def test_a_name_with_a_line_break_imitates_no_other_line(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((results / "runs" / "rte").glob("*.json"))
    forged = "validation\n0 records: 0 consistent, 0 with mismatches; 0 unreadable."
    edit(path, lambda content: content["prediction_files"].update({forged: "../secret"}))
    assert code_of(results) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("0 records")] == []
    assert any("validation\\u000a0 records" in line for line in lines)


def test_threads_of_reruns_on_a_cpu_limit_no_rerun_on_a_gpu(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    topologies = [Topology(False, 0, 3), Topology(False, 1, 7), Topology(True, 0, 5)]
    reruns = [RerunPlan(topology, [], 1.0) for topology in topologies]
    limits = {}

    def make_executor(settings: ExecutorSettings, test_mode: bool) -> SimpleNamespace:
        limits[settings.gpus_per_run or 0, test_mode] = os.environ["OMP_NUM_THREADS"]
        return SimpleNamespace(device="", slots=[])

    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    monkeypatch.setattr(verify_command, "_plan_reruns", lambda *_: reruns)
    monkeypatch.setattr(verify_command, "make_executor", make_executor)
    monkeypatch.setattr(verify_command, "plan_jobs", lambda *_, **__: SimpleNamespace(finished=[]))
    monkeypatch.setattr(verify_command, "print_plan", lambda *_: None)
    monkeypatch.setattr(verify_command, "run_jobs", lambda *_, **__: 0)
    code_of(results, "--rerun", "smallest")
    assert limits[1, False] == "9"


def test_nothing_is_run_for_invalid_flags(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = next((results / "runs" / "rte").glob("*.json")).stem
    for flags, expected in (
        (["--rerun", f"{run_id}x"], run_id),
        (["--rerun", run_id, "--name", "../other"], "--name"),
        (["--rerun", "smallest", "--base", str(results / "nosuch")], "--base"),
        (["--name", "lab"], "--rerun"),
    ):
        with pytest.raises(UserError) as error:
            code_of(results, *flags, command=lambda *_: pytest.fail("started"))
        assert expected in str(error.value)
    assert not (results / "reruns").exists()


def test_smallest_leaves_out_the_records_of_the_base(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--rerun", "smallest", "--base", results)
    assert code_of(results, *flags, command=lambda *_: pytest.fail("started")) == 0
    assert "no new record" in capsys.readouterr().out
