"""`harness export`: what a model card shows is what the records say, and mistakes are told in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCardData

from harness.commands.export import main, model_index
from harness.errors import UserError
from harness.facts.records import write_record


@pytest.fixture
def write(tmp_path: Path):
    def write_all(*records):
        for record in records:
            write_record(record, tmp_path)
        return tmp_path

    return write_all


def run(*words: object) -> None:
    main([str(word) for word in words])


def test_a_result_for_each_metric_of_the_task(make_record):
    found = model_index([make_record("mrpc", {"f1": 0.85, "accuracy": 0.77, "loss": 0.5})])
    assert [(entry.metric_type, entry.metric_value, entry.metric_name) for entry in found] == [
        ("f1", 0.85, "F1"),
        ("accuracy", 0.77, "accuracy"),
    ]
    first = found[0]
    assert (first.task_type, first.dataset_type, first.dataset_config) == (
        "text-classification",
        "example/glue",
        "mrpc",
    )
    assert (first.dataset_split, first.dataset_revision, first.dataset_name) == ("validation", "r1", "The mrpc task")
    assert first.verified is None


def test_metrics_have_the_names_of_the_hub(make_record):
    found = model_index([make_record("mine", {"pearson": 0.8, "f1_macro": 0.7, "rmse": 1.2, "bleu": 3.0})])
    assert [(entry.metric_type, entry.metric_args) for entry in found] == [
        ("pearsonr", None),
        ("f1", {"average": "macro"}),
        ("mse", {"squared": False}),
        ("bleu", None),
    ]


def test_seeds_are_averaged_and_counted(make_record):
    found = model_index([make_record(scores={"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))])
    assert [(entry.metric_value, entry.metric_name) for entry in found] == [
        (pytest.approx(0.7), "accuracy (mean of 2 seeds)")
    ]


def test_recipes_are_not_averaged_but_named(make_record):
    found = model_index([make_record(), make_record(recipe={"epochs": 9}, scores={"accuracy": 0.9})])
    assert [(entry.metric_value, entry.metric_name) for entry in found] == [
        (0.7, "accuracy (default)"),
        (0.9, "accuracy (epochs=9)"),
    ]


def test_marks_go_with_the_number(make_record):
    (partial,) = model_index([make_record(data={"is_partial": True})])
    assert partial.metric_name == "accuracy (partial data)"
    (trial,) = model_index([make_record(spec={"test_mode": True}, data={"source": "generated"})])
    assert trial.metric_name == "accuracy (test mode)"
    assert trial.dataset_type == "rte"


def test_what_has_no_score_gives_no_result(make_record):
    assert model_index([]) == []
    lost = make_record().model_copy(update={"status": "diverged", "metrics": {}})
    assert model_index([lost]) == []
    assert model_index([make_record(scores={"accuracy": None})]) == []


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


def test_one_file_of_each_run_that_has_a_score(make_record, write, capsys):
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
    told = capsys.readouterr()
    assert told.out == f"{target}: 3 file(s)\n"
    assert told.err == "1 run(s) left out: in test mode, or without a score.\n"


def test_flags_choose_the_runs(make_record, write, capsys):
    results = write(make_record("rte"), make_record("sst2"), make_record("rte", recipe={"epochs": 9}))
    run("--results", results, "--format", "model-index", "--task", "rte", "--recipe", "epochs=9")
    (entry,) = yaml.safe_load(capsys.readouterr().out)["model-index"][0]["results"]
    assert entry["dataset"]["config"] == "rte"
    assert entry["metrics"][0]["name"] == "accuracy"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--format", "model-index"], r"--model: a model-index is of one model. Name one of: a/one, b/two\."),
        (["--format", "model-index", "--model", "a/on"], r"--model a/on: no record has it. Did you mean 'a/one'\?"),
        (["--format", "model-index", "--task", "rt"], r"--task rt: no record has it. Did you mean 'rte'\?"),
        (["--format", "model-index", "--recipe", "epochs=1"], r"--recipe epochs=1: no record has it.*default"),
        (
            ["--format", "model-index", "--model", "b/two", "--task", "rte"],
            r"No record has this model, recipe and task",
        ),
        (["--format", "every-eval-ever", "--output", "x"], r"--organization is missing"),
        (["--format", "every-eval-ever", "--organization", "Us"], r"--output is missing"),
        (["--format", "model-index", "--model", "b/two"], r"b/two: none of the 1 run\(s\) has a score"),
    ],
)
def test_mistake_is_told(flags, message, make_record, write):
    lost = make_record("sst2", model="b/two").model_copy(update={"status": "diverged", "metrics": {}})
    results = write(make_record("rte", model="a/one"), lost)
    with pytest.raises(UserError, match=message):
        run("--results", results, *flags)


def test_a_folder_without_records_is_told(tmp_path):
    with pytest.raises(UserError, match="there is no record under"):
        run("--results", tmp_path, "--format", "model-index")


def test_a_file_that_is_no_record_is_named(make_record, write, capsys):
    results = write(make_record())
    (results / "runs" / "rte" / "broken.json").write_text("{", encoding="utf-8")
    run("--results", results, "--format", "model-index")
    assert "broken.json: not a readable record" in capsys.readouterr().err
