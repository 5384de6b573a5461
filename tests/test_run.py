"""One run from command to record: what is kept, what is refused, and what an interruption leaves."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.engine import models
from harness.facts.packing import unpack_hits
from harness.facts.records import read_record
from harness.run import main
from harness.system.locks import hold_lock

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments, code=0):
    """Ends with this exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == code


def records(results, task):
    return [read_record(path) for path in sorted((results / "runs" / task).glob("*.json"))]


def timeless(record):
    """A record without what may differ between two equal runs."""
    facts = record.model_dump(exclude={"started", "finished", "cost", "rows_per_second", "tokens_per_second"})
    facts["history"] = [{**epoch, "seconds": 0} for epoch in facts["history"]]
    return facts | {"peak_bytes": 0, "command": ""}


EPOCHS = 5
"""Of the run below. After two, 6 of 13 seeds still give one class throughout, after three 1 of 13."""


@pytest.fixture(scope="module")
def rte(tmp_path_factory):
    """A short run of rte in test mode and its results folder."""
    results = tmp_path_factory.mktemp("rte")
    run("--task", "rte", "--test-mode", "--results", results, "--epochs", EPOCHS)
    return results / "test-mode"


def test_record_tells_all_there_is_to_tell(rte):
    (record,) = records(rte, "rte")
    assert record.status == "ok"
    assert record.spec.seed == 42
    assert record.spec.recipe.epochs == EPOCHS
    assert record.recipe_changes == {"epochs": EPOCHS}
    assert set(record.metrics["validation"]) == {"loss", "accuracy", "f1"}
    assert [epoch.step for epoch in record.history] == [12, 24, 36, 48, 60]
    assert record.selected_epoch == EPOCHS
    assert record.environment.processes == 1
    assert record.environment.precision == "fp32"
    assert record.environment.device_batch_size * record.environment.accumulation == 32
    assert record.command.startswith("harness/run.py --task rte --test-mode")
    assert 0 <= record.padding_share < 0.5
    assert record.rows_per_second > 0
    assert record.tokens_per_second > record.rows_per_second
    assert record.peak_bytes > 2**20
    assert record.cost.rows == EPOCHS * 384
    assert record.cost.steps == EPOCHS * 12
    assert record.model.head == "new"
    assert record.data.rows == {"train": 384, "validation": 96, "test": 32}
    assert record.finished > record.started
    assert record.started.utcoffset().total_seconds() == 0
    assert len(record.weights_sha256) == 64


def test_predictions_agree_with_the_record_row_by_row(rte):
    (record,) = records(rte, "rte")
    table = pd.read_parquet(rte / "runs" / "rte" / record.predictions["validation"])
    assert table["row"].tolist() == list(range(96))
    hits = unpack_hits(record.hits["validation"], 96)
    assert (table["prediction"] == table["label"]).tolist() == hits.tolist()
    assert hits.mean() == pytest.approx(record.metrics["validation"]["accuracy"])
    names = np.array(["entailment", "not_entailment"])
    assert (names[np.stack(table["scores"]).argmax(1)] == table["prediction"]).all()
    hidden = pd.read_parquet(rte / "runs" / "rte" / record.predictions["test"])
    assert "label" not in hidden.columns
    assert len(hidden) == 32


def test_nothing_but_the_record_and_predictions_stays(rte):
    names = {path.name for path in rte.rglob("*") if path.is_file()}
    (record,) = records(rte, "rte")
    assert names == {f"{record.run_id}.json", *record.predictions.values()}


def test_a_finished_run_is_not_repeated_unless_asked(rte, capsys):
    (before,) = records(rte, "rte")
    run("--task", "rte", "--test-mode", "--results", rte.parent, "--epochs", EPOCHS)
    assert "finished already" in capsys.readouterr().out
    assert records(rte, "rte") == [before]
    run("--task", "rte", "--test-mode", "--results", rte.parent, "--epochs", EPOCHS, "--overwrite")
    (after,) = records(rte, "rte")
    assert after.started > before.started
    assert timeless(after) | {"environment": None} == timeless(before) | {"environment": None}


def test_how_it_is_computed_is_no_other_run_but_what_is_trained_is(rte):
    (before,) = records(rte, "rte")
    arguments = ("--task", "rte", "--test-mode", "--results", rte.parent)
    run(*arguments, "--epochs", EPOCHS, "--device-batch-size", 16, "--eval-batch-size", 7)
    assert records(rte, "rte") == [before]
    run(*arguments, "--epochs", 1)
    run(*arguments, "--epochs", 1, "--seed", 7)
    assert len(records(rte, "rte")) == 3
    for extra in (rte / "runs" / "rte").glob("*.json"):
        if extra.stem != before.run_id:
            extra.unlink()


def test_a_loss_that_is_not_finite_ends_as_diverged_without_a_score(tmp_path, capsys):
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--learning-rate", 1e38, "--warmup", 0, code=1)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.status == "diverged"
    assert "of step" in record.error or "finite score" in record.error
    assert record.metrics == {}
    assert "diverged" in capsys.readouterr().out


def test_one_class_throughout_is_marked_as_collapsed(tmp_path):
    run("--task", "cola", "--test-mode", "--results", tmp_path, "--max-steps", 1, "--learning-rate", 1e-12)
    (record,) = records(tmp_path / "test-mode", "cola")
    assert record.status == "collapsed"
    assert record.metrics["validation"]["matthews_correlation"] == 0


def test_an_error_of_ours_leaves_a_failed_record_that_the_next_run_replaces(tmp_path, monkeypatch):
    arguments = ["--task", "rte", "--test-mode", "--results", str(tmp_path), "--epochs", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(models, "check_length", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(arguments)
    (failed,) = records(tmp_path / "test-mode", "rte")
    assert failed.status == "failed"
    assert failed.error == "ZeroDivisionError: division by zero"
    run(*arguments)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.status != "failed"
    assert record.metrics
    with monkeypatch.context() as patched:
        patched.setattr(models, "check_length", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main([*arguments, "--overwrite"])
    assert records(tmp_path / "test-mode", "rte") == [record]


@pytest.fixture
def faulty_in_bf16(monkeypatch):
    """Every model that is built answers with NaN under autocast."""
    build = models.build_model

    def built(*arguments):
        import torch

        bundle = build(*arguments)

        def spoil(module, inputs, output):
            return output * math.nan if torch.is_autocast_enabled("cpu") else None

        bundle.model.classifier.register_forward_hook(spoil)
        return bundle

    monkeypatch.setattr(models, "build", built)


@pytest.mark.usefixtures("faulty_in_bf16")
def test_mixed_precision_that_diverges_falls_back_to_fp32_once_and_says_so(make_task, tiny_model, tmp_path, capsys):
    common = ("--model", tiny_model, "--max-length", 32, "--learning-rate", 1e-3, "--epochs", 1)
    run("--task", make_task(), *common, "--precision", "bf16", "--results", tmp_path / "fell")
    (record,) = records(tmp_path / "fell", "small")
    assert record.environment.precision == "fp32"
    assert "starting again in fp32" in capsys.readouterr().out
    assert any("fp32" in note and "step 1" in note for note in record.notes)
    run("--task", make_task(), *common, "--precision", "fp32", "--results", tmp_path / "straight")
    (straight,) = records(tmp_path / "straight", "small")
    assert straight.weights_sha256 == record.weights_sha256
    assert straight.notes == []


def test_own_task_on_files_trains_and_says_what_data_it_had(make_task, tiny_model, tmp_path):
    task = make_task(metrics=["accuracy", "f1_macro"], main_metrics="f1_macro")
    common = ("--task", task, "--model", tiny_model, "--max-length", 32, "--results", tmp_path / "r")
    run(*common, "--learning-rate", 1e-3, "--epochs", 2)
    (record,) = records(tmp_path / "r", "small")
    assert record.metrics["validation"]["f1_macro"] is not None
    assert record.spec.data.startswith("sha256:")
    assert record.spec.revision.startswith("sha256:")
    assert record.data.rows == {"train": 16, "validation": 8}
    assert not record.data.is_partial


def test_a_model_folder_elsewhere_is_the_same_model(make_task, tiny_model, tmp_path):
    import shutil

    twin = tmp_path / "elsewhere" / tiny_model.name
    shutil.copytree(tiny_model, twin)
    common = ("--task", make_task(), "--max-length", 32, "--epochs", 1, "--results", tmp_path / "r")
    run(*common, "--model", tiny_model)
    run(*common, "--model", twin)
    assert len(records(tmp_path / "r", "small")) == 1


def test_holdout_selects_on_one_half_and_reports_the_other(tmp_path):
    run("--task", "stsb", "--test-mode", "--results", tmp_path, "--epochs", 1, "--protocol", "holdout")
    (record,) = records(tmp_path / "test-mode", "stsb")
    assert record.task.report == ["validation_holdout"]
    assert record.data.rows["validation"] == record.data.rows["validation_holdout"] == 48
    assert set(record.metrics) == {"validation", "validation_holdout"}
    assert record.recipe_changes == {"epochs": 1, "protocol": "holdout"}
    assert len(record.squared_errors["validation_holdout"]) == 48


def test_best_epoch_is_scored_and_patience_ends_the_run(tmp_path):
    run("--task", "imdb", "--test-mode", "--results", tmp_path, "--learning-rate", 3e-2, "--patience", 1, "--seed", 1)
    (record,) = records(tmp_path / "test-mode", "imdb")
    losses = [epoch.metrics["loss"] for epoch in record.history]
    assert record.selected_epoch == 1 + losses.index(min(losses))
    assert record.metrics["validation"]["loss"] == min(losses)
    assert set(record.metrics) == {"train", "validation", "test"}
    assert len(losses) < 8
    assert len(losses) - record.selected_epoch == 1


def test_best_headline_scores_the_epoch_of_the_best_score(tmp_path):
    arguments = ("--task", "stsb", "--test-mode", "--results", tmp_path, "--epochs", 4, "--learning-rate", 2e-2)
    run(*arguments, "--select", "best_main_score")
    (record,) = records(tmp_path / "test-mode", "stsb")
    scores = [(epoch.metrics["pearson"] + epoch.metrics["spearman"]) / 2 for epoch in record.history]
    assert record.selected_epoch == 1 + scores.index(max(scores))
    assert record.metrics["validation"]["pearson"] == record.history[record.selected_epoch - 1].metrics["pearson"]


def test_rows_that_do_not_fit_are_noted_once_and_change_no_identity(tmp_path, monkeypatch, capsys):
    build = models.build_model

    def built(*arguments):
        import torch

        bundle = build(*arguments)

        def run_out(module, _positional, inputs):
            if module.training and len(inputs["input_ids"]) > 2:
                raise torch.OutOfMemoryError("injected")

        bundle.model.register_forward_pre_hook(run_out, with_kwargs=True)
        return bundle

    monkeypatch.setattr(models, "build", built)
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--epochs", 1, "--device-batch-size", 8)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.environment.device_batch_size == 2
    assert record.environment.accumulation == 16
    assert [note for note in record.notes if "memory" in note] == [
        "8 rows at once ran out of memory: batches of 2, the same global batch"
    ]


def test_checkpoints_left_by_a_kill_after_the_record_go_with_the_next_start(rte):
    (record,) = records(rte, "rte")
    left = rte / "checkpoints" / "rte" / record.run_id / "step-00000001"
    left.mkdir(parents=True)
    run("--task", "rte", "--test-mode", "--results", rte.parent, "--epochs", EPOCHS)
    assert not (rte / "checkpoints").exists()


def test_train_rows_are_fewer_and_named(tmp_path):
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--epochs", 1, "--train-rows", 40)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.data.rows["train"] == 40
    assert record.recipe_changes["train_rows"] == 40


def test_ax_is_predicted_by_the_mnli_run(tmp_path, capsys):
    run("--task", "ax", "--test-mode", "--results", tmp_path, "--epochs", 1)
    (parent,) = records(tmp_path / "test-mode", "mnli")
    (record,) = records(tmp_path / "test-mode", "ax")
    assert record.trained_by == parent.run_id
    assert record.metrics == {}
    predictions = tmp_path / "test-mode" / "runs" / "ax" / record.predictions["test"]
    assert len(pd.read_parquet(predictions)) == 32
    assert set(parent.metrics) == {"validation_matched", "validation_mismatched"}
    run("--task", "ax", "--test-mode", "--results", tmp_path, "--epochs", 1)
    assert "finished already" in capsys.readouterr().out


def test_tensorboard_sees_losses_and_metrics(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run("--task", "rte", "--test-mode", "--results", tmp_path, "--epochs", 1, "--tracker", "tensorboard")
    (events,) = [path.parent for path in (tmp_path / "test-mode" / "trackers").rglob("harness/events*")]
    seen = EventAccumulator(str(events))
    seen.Reload()
    tags = seen.Tags()["scalars"]
    assert {"loss", "learning_rate", "validation/accuracy", "validation/loss"} <= set(tags)
    assert len(seen.Scalars("loss")) == 12


def test_a_run_that_is_going_on_is_left_alone(rte, capsys):
    (record,) = records(rte, "rte")
    with hold_lock(rte / "runs" / "rte" / f".{record.run_id}.lock"):
        run("--task", "rte", "--test-mode", "--results", rte.parent, "--epochs", EPOCHS, "--overwrite", code=2)
    assert "already in progress" in capsys.readouterr().err


def test_length_beyond_the_model_is_refused_before_anything_is_written(make_task, tiny_model, tmp_path, capsys):
    run("--task", make_task(), "--model", tiny_model, "--results", tmp_path / "r", "--max-length", 65, code=2)
    assert "--max-length 65: this model reads 64 tokens at most" in capsys.readouterr().err
    assert not list((tmp_path / "r").rglob("*.*"))


def test_sigterm_saves_a_checkpoint_and_the_same_command_goes_on(tmp_path):
    command = [sys.executable, "harness/run.py", "--task", "rte", "--test-mode", "--results", str(tmp_path)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*command, "--epochs", "400"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "epoch" not in process.stdout.readline():  # the table begins: training is under way
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    printed = process.communicate()
    assert process.returncode == 143, printed
    assert "stopped by SIGTERM after step" in printed[1]
    assert time.monotonic() - asked < 60
    (manifest,) = sorted((tmp_path / "test-mode" / "checkpoints" / "rte").glob("*/*/manifest.json"))[-1:]
    step = json.loads(manifest.read_text())["progress"]["step"]
    assert not list((tmp_path / "test-mode" / "runs").rglob("*.json"))
    process = subprocess.Popen(
        [*command, "--epochs", "400"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = [process.stdout.readline() for _ in range(3)]
    process.kill()
    process.communicate()
    assert f"going on after step {step:,} of 4,800" in "".join(lines)
