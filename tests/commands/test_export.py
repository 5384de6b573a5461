"""`harness export`: files with the numbers of the records, and errors that name the flag."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCardData, parse_eval_result_entries
from support.commands import run_harness

from harness.commands.export import main
from harness.errors import UserError
from harness.facts.choices import GridChoice, TriedPoint, write_choice
from harness.facts.records import write_record


@pytest.fixture
def write(tmp_path: Path):
    def write_all(*records):
        for record in records:
            write_record(record, tmp_path)
        return tmp_path

    return write_all


def run(*args: object) -> None:
    main([str(arg) for arg in args])


def test_yaml_is_metadata_that_the_hub_reads(make_record, write, capsys):
    results = write(make_record("rte"), make_record("mrpc", {"f1": 0.8, "accuracy": 0.7}))
    run("--results", results, "--format", "model-index", "--name", "my-model")
    text = capsys.readouterr().out
    data = ModelCardData(**yaml.safe_load(text))
    assert data.model_name == "my-model"
    assert {(entry.dataset_config, entry.metric_type, entry.metric_value) for entry in data.eval_results} == {
        ("rte", "accuracy", 0.7),
        ("mrpc", "f1", 0.8),
        ("mrpc", "accuracy", 0.7),
    }
    run("--results", results, "--format", "model-index", "--name", "my-model", "--output", results / "card.yaml")
    assert (results / "card.yaml").read_text(encoding="utf-8") == text


def test_points_that_a_grid_did_not_choose_are_counted_and_left_out(make_record, write, capsys):
    runs = {rate: make_record("rte", seed=1, recipe={"learning_rate": rate}) for rate in (1e-5, 3e-5)}
    runs = {rate: run.model_copy(update={"run_id": run.spec.run_id}) for rate, run in runs.items()}
    results = write(*runs.values())
    points = [
        TriedPoint(values={"learning_rate": rate}, runs={"rte": run.run_id}, scores={"rte": 0.5}, score=0.5)
        for rate, run in runs.items()
    ]
    facts = {"model": runs[1e-5].spec.model, "tasks": ["rte"], "seed": 1, "rule": "best", "selected_on": "other rows"}
    write_choice(GridChoice(**facts, points=points, chosen={"learning_rate": 3e-5}), results)
    run("--results", results, "--format", "model-index")
    output = capsys.readouterr()
    assert output.out.count("type: accuracy") == 1
    assert "1 run(s) left out" in output.err
    run("--results", results, "--format", "model-index", "--recipe", "learning_rate=1e-05")
    assert capsys.readouterr().out.count("type: accuracy") == 1


def test_table_in_latex_has_the_models_and_tasks_that_are_named(make_record, write, capsys):
    models = ("org/first", "org/second", "org/third")
    results = write(*(make_record(task, model=model) for model in models for task in ("rte", "mrpc", "cola")))
    flags = ["--format", "latex", "--model", *models[:2], "--task", "rte", "cola", "--output", results / "table.tex"]
    run("--results", results, *flags)
    text = (results / "table.tex").read_text(encoding="utf-8")
    assert capsys.readouterr().out == f"{results / 'table.tex'}\n"
    assert "Model & CoLA & RTE" in text
    assert [name in text for name in ("first", "second", "third", "MRPC")] == [True, True, False, False]


@pytest.mark.parametrize("form", ["model-index", "eval-results", "latex"])
def test_scores_of_test_mode_are_left_out(form, make_record, write, capsys):
    results = write(make_record("rte", spec={"test_mode": True}))
    with pytest.raises(UserError, match=r"1 run\(s\).*test mode"):
        run("--results", results, "--format", form)
    write(make_record("mrpc"))
    run("--results", results, "--format", form)
    assert not re.search(r"\brte\b", capsys.readouterr().out, re.IGNORECASE)


def test_main_scores_are_entries_of_eval_results(make_record, write, capsys):
    results = write(
        *(make_record("mrpc", {"accuracy": score}, seed=seed) for seed, score in ((1, 0.6), (2, 0.7))),
        make_record("mine", {"accuracy": 0.9}, spec={"data": "ab12"}, data={"source": "files", "revision": None}),
        make_record("rte", spec={"test_mode": True}),
    )
    run("--results", results, "--format", "eval-results")
    entries = parse_eval_result_entries(yaml.safe_load(capsys.readouterr().out))
    (entry,) = [entry for entry in entries if entry.task_id == "mrpc"]
    assert entry.value == pytest.approx(0.65)
    assert "mean of 2 seeds" in entry.notes
    assert {entry.task_id for entry in entries} == {"mrpc"}


@pytest.mark.parametrize(
    "form, output", [("model-index", "folder"), ("model-index", "a" * 300), ("every-eval-ever", "file")]
)
def test_output_that_cannot_be_written_is_an_error_and_leaves_nothing(make_record, write, tmp_path, form, output):
    results = write(make_record("rte"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"--output .*"):
        run("--results", results, "--format", form, "--organization", "Us", "--output", tmp_path / output)
    assert sorted(tmp_path.rglob("*")) == before


def test_one_file_for_each_run_with_a_score(make_record, write, capsys):
    lost = make_record(seed=3).model_copy(update={"status": "diverged", "metrics": {}})
    results = write(make_record(seed=1), make_record(seed=2), make_record("sst2"), lost)
    target = results / "out"
    run("--results", results, "--format", "every-eval-ever", "--organization", "Us", "--output", target)
    files = sorted(target.rglob("*.json"))
    assert [file.parent.relative_to(target).as_posix() for file in files] == [
        "rte/example/bert",
        "rte/example/bert",
        "sst2/example/bert",
    ]
    seeds = {json.loads(file.read_text(encoding="utf-8"))["model_info"]["additional_details"]["seed"] for file in files}
    assert seeds == {"1", "2"}
    printed = capsys.readouterr()
    assert printed.out == f"{target}: 3 file(s)\n"
    assert printed.err.startswith("1 run(s)")


def test_nothing_to_export_is_an_error(make_record, write):
    lost = make_record().model_copy(update={"status": "diverged", "metrics": {}})
    results = write(lost)
    with pytest.raises(UserError, match=r"1 run\(s\)"):
        run("--results", results, "--format", "every-eval-ever", "--organization", "Us", "--output", results / "out")
    assert not (results / "out").exists()


def test_flags_choose_the_runs(make_record, write, capsys):
    results = write(make_record("rte"), make_record("sst2"), make_record("rte", recipe={"epochs": 9}))
    run("--results", results, "--format", "model-index", "--task", "rte", "--recipe", "epochs=9")
    (entry,) = yaml.safe_load(capsys.readouterr().out)["model-index"][0]["results"]
    assert entry["dataset"]["config"] == "rte"
    assert entry["metrics"][0]["name"] == "accuracy"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--format", "model-index"], r"--model.*a/one, b/two"),
        (["--format", "model-index", "--model", "a/on"], r"--model a/on: .*a/one, b/two.*Did you mean 'a/one'\?"),
        (["--format", "model-index", "--task", "rt"], r"--task rt: .*Did you mean 'rte'\?"),
        (["--format", "model-index", "--recipe", "epochs=1"], r"--recipe epochs=1: .*default"),
        (
            ["--format", "model-index", "--model", "b/two", "--task", "rte"],
            r"--model, --recipe, --task",
        ),
        (["--format", "every-eval-ever", "--output", "x"], r"--organization"),
        (["--format", "every-eval-ever", "--organization", "Us"], r"--output"),
        (["--format", "model-index", "--model", "b/two"], r"b/two: .*1 run\(s\)"),
    ],
)
def test_wrong_flags_are_named(flags, message, make_record, write):
    lost = make_record("sst2", model="b/two").model_copy(update={"status": "diverged", "metrics": {}})
    results = write(make_record("rte", model="a/one"), lost)
    with pytest.raises(UserError, match=message):
        run("--results", results, *flags)


@pytest.mark.parametrize("named, present", [(".", "test-mode"), ("runs", ".")])
def test_folder_without_records_is_a_user_error_that_names_the_one_with_runs(named, present, tmp_path):
    (tmp_path / present / "runs").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"--results .*Name {tmp_path / present}$"):
        run("--results", tmp_path / named, "--format", "model-index")


@pytest.mark.parametrize("command", ["export", "leaderboard"])
def test_folder_of_unreadable_records_says_so_before_their_faults(command, tmp_path, capsys):
    (tmp_path / "runs" / "rte").mkdir(parents=True)
    (tmp_path / "runs" / "rte" / "broken.json").write_text("{", encoding="utf-8")
    run_harness(command, "--results", tmp_path, *["--format", "model-index"] * (command == "export"), code=2)
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: --results {tmp_path}: ")
    assert "harness run" not in first
    assert "broken.json: " in second


def test_unreadable_record_is_named(make_record, write, capsys):
    results = write(make_record())
    (results / "runs" / "rte" / "broken.json").write_text("{", encoding="utf-8")
    run("--results", results, "--format", "model-index")
    assert "broken.json: " in capsys.readouterr().err
