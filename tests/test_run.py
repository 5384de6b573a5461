"""One run from command to record: the contents of the record, refused requests, and interruptions."""

import json
import math
import os
import re
import shutil
import signal
import time

import numpy as np
import pandas as pd
import pytest
from accelerate.tracking import TensorBoardTracker
from support.commands import run, sigterm_at_step

from harness.commands import evaluate
from harness.engine import models
from harness.engine.adaptations import vocabulary
from harness.facts.packing import unpack_array
from harness.facts.records import read_record
from harness.requests import preparation
from harness.rows.splits import Split
from harness.system.locks import hold_lock, lock_path


def records(results, task):
    return [read_record(path) for path in sorted((results / "runs" / task).glob("*.json"))]


def reproducible_fields(record):
    """The record without times, speed, memory, command and environment, in which two equal runs may differ."""
    varying = {"started", "finished", "cost", "energy", "rows_per_second", "tokens_per_second", "peak_bytes", "command"}
    fields = record.model_dump(exclude={*varying, "environment"})
    fields["history"] = [{**epoch, "seconds": 0} for epoch in fields["history"]]
    return fields


EPOCHS, SEED = 3, 0
"""Epochs of the run below, of 12 steps each, and its seed, with which it has learned the rows by then: 42 has not."""
SHORT = ("--epochs", EPOCHS, "--seed", SEED)


@pytest.fixture(scope="module")
def rte(tmp_path_factory):
    """The results folder of a short run of rte in test mode, which no test changes."""
    results = tmp_path_factory.mktemp("rte")
    run("--task", "rte", "--test-mode", "--results", results, *SHORT, "--tracker", "tensorboard")
    return results / "test-mode"


@pytest.fixture
def rte_copy(rte, tmp_path):
    """A copy of that results folder."""
    return shutil.copytree(rte, tmp_path / "copy" / "test-mode")


def test_record_describes_recipe_scores_data_cost_and_environment(rte):
    (record,) = records(rte, "rte")
    assert record.status == "ok"
    assert record.spec.seed == SEED
    assert record.spec.recipe.epochs == EPOCHS
    assert record.recipe_changes == {"epochs": EPOCHS}
    assert set(record.metrics["validation"]) == {"loss", "accuracy", "f1"}
    assert [epoch.step for epoch in record.history] == [12, 24, 36]
    assert record.selected_epoch == EPOCHS
    assert record.environment.processes == 1
    assert record.environment.precision == "fp32"
    assert record.environment.device_batch_size * record.environment.accumulation == 32
    assert record.command.startswith("harness/run.py --task rte --test-mode")
    assert 0 <= record.padding_share < 0.5
    assert record.rows_per_second > 0
    assert record.tokens_per_second > record.rows_per_second
    assert record.peak_bytes > 2**20
    assert record.energy.gpu_joules is None
    assert any("RAPL" in source for source in record.energy.sources)
    assert record.cost.rows == EPOCHS * 384
    assert record.cost.steps == EPOCHS * 12
    assert record.model.head == "new"
    assert record.data.rows == {"train": 384, "validation": 96, "test": 32}
    assert record.finished > record.started
    assert record.started.utcoffset().total_seconds() == 0
    assert len(record.weights_sha256) == 64


def test_predictions_agree_with_the_record_row_by_row(rte):
    (record,) = records(rte, "rte")
    table = pd.read_parquet(rte / "runs" / "rte" / record.prediction_files["validation"])
    assert table["row"].tolist() == list(range(96))
    names = np.array(["entailment", "not_entailment"])
    predictions, gold = (unpack_array(packed["validation"]) for packed in (record.predictions, record.gold))
    assert table["prediction"].tolist() == names[predictions].tolist()
    assert table["label"].tolist() == names[gold].tolist()
    assert (predictions == gold).mean() == pytest.approx(record.metrics["validation"]["accuracy"])
    assert (np.stack(table["scores"]).argmax(1) == predictions).all()
    hidden = pd.read_parquet(rte / "runs" / "rte" / record.prediction_files["test"])
    assert "label" not in hidden.columns
    assert len(hidden) == 32


def test_tensorboard_has_losses_and_metrics(rte):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = [path.parent for path in (rte / "trackers").rglob("harness/events*")]
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    assert {"loss", "learning_rate", "validation/accuracy", "validation/loss"} <= set(accumulator.Tags()["scalars"])
    assert len(accumulator.Scalars("loss")) == EPOCHS * 12


def test_hidden_splits_are_not_predicted_with_no_predict(rte, tmp_path):
    run("--task", "rte", "--test-mode", "--results", tmp_path, *SHORT, "--no-predict")
    (record,), (full,) = records(tmp_path / "test-mode", "rte"), records(rte, "rte")
    assert full.prediction_files.keys() - record.prediction_files.keys() == {"test"}
    assert record.weights_sha256 == full.weights_sha256
    assert record.metrics == full.metrics


def test_only_record_predictions_and_trackers_remain(rte):
    names = {path.name for path in rte.rglob("*") if path.is_file() and rte / "trackers" not in path.parents}
    (record,) = records(rte, "rte")
    assert names == {f"{record.run_id}.json", *record.prediction_files.values()}


def test_finished_run_names_the_keys_of_its_task_file_that_have_changed(make_task, tiny_model, tmp_path, capsys):
    flags = ("--model", tiny_model, "--max-steps", 1, "--results", tmp_path)
    run("--task", make_task(), *flags)
    run("--task", make_task(metrics=["accuracy", "f1"], main_metrics="f1"), *flags)
    (message,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("already finished")]
    assert "; the task file now has other metrics, main_metrics);" in message
    assert len(records(tmp_path, "small")) == 1


def test_finished_run_is_repeated_only_with_overwrite(rte_copy, capsys):
    flags = ("--task", "rte", "--test-mode", "--results", rte_copy.parent, *SHORT)
    (before,) = records(rte_copy, "rte")
    run(*flags)
    assert "already finished" in capsys.readouterr().out
    assert records(rte_copy, "rte") == [before]
    run(*flags, "--overwrite")
    (after,) = records(rte_copy, "rte")
    assert after.started > before.started
    assert reproducible_fields(after) == reproducible_fields(before)


def test_damaged_record_is_replaced_with_overwrite_even_by_a_failed_one(rte_copy, monkeypatch, capsys):
    flags = ("--task", "rte", "--test-mode", "--results", rte_copy.parent, *SHORT)
    (path,) = (rte_copy / "runs/rte").glob("*.json")
    path.write_text("{")
    run(*flags, code=2)
    assert re.search(rf"error: {re.escape(str(path))}: .*--overwrite", capsys.readouterr().err)
    monkeypatch.setattr(models, "check_length", lambda *_: 1 / 0)
    run(*flags, "--overwrite", code=1)
    assert "division by zero" in capsys.readouterr().err
    (record,) = records(rte_copy, "rte")
    assert record.status == "failed"


def test_batch_sizes_of_the_device_do_not_change_the_identity_but_recipe_and_seed_do(rte_copy):
    before = records(rte_copy, "rte")
    flags = ("--task", "rte", "--test-mode", "--results", rte_copy.parent)
    run(*flags, *SHORT, "--device-batch-size", 16, "--eval-batch-size", 7)
    assert records(rte_copy, "rte") == before
    run(*flags, "--max-steps", 1)
    run(*flags, "--max-steps", 1, "--seed", 7)
    assert len(records(rte_copy, "rte")) == 3


def test_loss_that_is_not_finite_gives_the_status_diverged_and_no_score(tmp_path, capsys):
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--learning-rate", 1e38, "--warmup", 0, code=1)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.status == "diverged"
    assert "not finite" in record.error or "finite score" in record.error
    assert record.metrics == {}
    assert "diverged" in capsys.readouterr().out


def test_one_class_throughout_gives_the_status_collapsed(tmp_path):
    run("--task", "cola", "--test-mode", "--results", tmp_path, "--max-steps", 1, "--learning-rate", 1e-12)
    (record,) = records(tmp_path / "test-mode", "cola")
    assert record.status == "collapsed"
    assert record.metrics["validation"]["matthews_correlation"] == 0


def test_failed_record_is_replaced_by_the_next_run_and_a_finished_one_outlives_a_failure(tmp_path, monkeypatch):
    args = ["--task", "rte", "--test-mode", "--results", str(tmp_path), "--max-steps", "1"]
    with monkeypatch.context() as patched:
        patched.setattr(models, "check_length", lambda *_: 1 / 0)
        run(*args, code=1)
    (failed,) = records(tmp_path / "test-mode", "rte")
    assert failed.status == "failed"
    assert failed.error == "ZeroDivisionError: division by zero"
    run(*args)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.status != "failed"
    assert record.metrics
    with monkeypatch.context() as patched:
        patched.setattr(models, "check_length", lambda *_: 1 / 0)
        run(*args, "--overwrite", code=1)
    assert records(tmp_path / "test-mode", "rte") == [record]


def test_run_that_lost_another_process_leaves_the_record_to_the_supervisor(tmp_path, monkeypatch, capsys):
    def lose(*_):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:63648")

    monkeypatch.setattr(models, "check_length", lose)
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--max-steps", 1, code=1)
    assert capsys.readouterr().err.count("\n") == 1
    assert records(tmp_path / "test-mode", "rte") == []


def add_hook(monkeypatch, hook):
    """Calls `hook(model)` on every model that is built."""
    build_model = models.build_model

    def build(*args):
        built = build_model(*args)
        hook(built.model)
        return built

    monkeypatch.setattr(models, "build_model", build)


def test_divergence_in_mixed_precision_restarts_once_in_fp32_with_a_note(
    make_task, tiny_model, tmp_path, monkeypatch, capsys
):
    import torch

    def spoil(module, inputs, output):
        if not torch.is_autocast_enabled("cpu"):
            return None
        time.sleep(2)
        return output * math.nan

    tracked = []
    monkeypatch.setattr(TensorBoardTracker, "start", lambda self: tracked.append("start"))
    monkeypatch.setattr(TensorBoardTracker, "finish", lambda self: tracked.append("finish"))
    for name in ("store_init_configuration", "log"):
        monkeypatch.setattr(TensorBoardTracker, name, lambda *_, **__: None)
    add_hook(monkeypatch, lambda model: model.classifier.register_forward_hook(spoil))
    flags = ("--model", tiny_model, "--max-length", 32, "--learning-rate", 1e-3, "--epochs", 1)
    tracker = ("--tracker", "tensorboard")
    run("--task", make_task(), *flags, *tracker, "--precision", "bf16", "--results", tmp_path / "bf16")
    assert tracked == ["start", "finish"] * 2, "MLflow refuses to start before"
    (record,) = records(tmp_path / "bf16", "small")
    assert record.cost.seconds == pytest.approx((record.finished - record.started).total_seconds(), abs=1.5)
    assert "restarted in fp32" in record.energy.sources[-1]
    assert record.environment.precision == "fp32"
    assert "again in fp32" in capsys.readouterr().out
    assert any("fp32" in note and "step 1" in note for note in record.notes)
    run("--task", make_task(), *flags, "--precision", "fp32", "--results", tmp_path / "fp32")
    (expected,) = records(tmp_path / "fp32", "small")
    assert expected.weights_sha256 == record.weights_sha256
    assert expected.notes == []


def test_fp32_after_a_divergence_is_noted_where_no_checkpoint_is_usable(
    make_task, tiny_model, tmp_path, monkeypatch, capsys
):
    import torch

    def spoil(module, inputs, output):
        return output * math.nan if torch.is_autocast_enabled("cpu") else None

    add_hook(monkeypatch, lambda model: model.classifier.register_forward_hook(spoil))
    flags = ("--task", make_task(), "--model", tiny_model, "--max-length", 32, "--learning-rate", 1e-3, "--epochs", 1)
    flags = (*flags, "--precision", "bf16", "--results", tmp_path / "r")
    with sigterm_at_step(1):
        run(*flags, code=143)
    (manifest,) = (tmp_path / "r" / "checkpoints" / "small").glob("*/*/manifest.json")
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "progress": {**facts["progress"], "step": 2}}))
    run(*flags)
    assert "skipped" in capsys.readouterr().out
    (record,) = records(tmp_path / "r", "small")
    assert record.environment.precision == "fp32"
    (note,) = record.notes
    assert "restarted in fp32" in note


def test_batches_that_do_not_fit_into_memory_are_halved_with_one_note(tmp_path, monkeypatch):
    import torch

    def run_out(module, _positional, inputs):
        if module.training and len(inputs["input_ids"]) > 2:
            raise torch.OutOfMemoryError("injected")

    add_hook(monkeypatch, lambda model: model.register_forward_pre_hook(run_out, with_kwargs=True))
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--max-steps", 1, "--device-batch-size", 8)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert record.environment.device_batch_size == 2
    assert record.environment.accumulation == 16
    (note,) = [note for note in record.notes if "out of memory" in note]
    assert "--device-batch-size 8" in note
    assert "used 2" in note


def test_own_task_and_model_are_identified_by_their_files(make_task, tiny_model, tmp_path):
    task = make_task(metrics=["accuracy", "f1_macro"], main_metrics="f1_macro")
    flags = ("--task", task, "--max-length", 32, "--results", tmp_path / "r", "--learning-rate", 1e-3, "--epochs", 2)
    run(*flags, "--model", tiny_model)
    (record,) = records(tmp_path / "r", "small")
    assert record.metrics["validation"]["f1_macro"] is not None
    assert record.spec.data.startswith("sha256:")
    assert record.spec.revision.startswith("sha256:")
    assert record.data.rows == {"train": 16, "validation": 8}
    assert not record.data.is_partial
    run(*flags, "--model", shutil.copytree(tiny_model, tmp_path / "elsewhere" / tiny_model.name))
    assert records(tmp_path / "r", "small") == [record], "the same model in another folder"


def test_holdout_selects_on_one_half_and_reports_the_other(tmp_path):
    flags = ("--epochs", 1, "--protocol", "holdout", "--train-rows", 40)
    run("--task", "stsb", "--test-mode", "--results", tmp_path, *flags)
    (record,) = records(tmp_path / "test-mode", "stsb")
    assert record.task.report == ["validation_holdout"]
    assert record.data.rows["validation"] == record.data.rows["validation_holdout"] == 48
    assert set(record.metrics) == {"validation", "validation_holdout"}
    assert len(unpack_array(record.predictions["validation_holdout"])) == 48
    assert record.data.rows["train"] == 40
    assert record.recipe_changes == {"epochs": 1, "protocol": "holdout", "train_rows": 40}


def test_best_epoch_is_scored_and_patience_ends_the_run(tmp_path):
    run("--task", "imdb", "--test-mode", "--results", tmp_path, "--learning-rate", 3e-2, "--patience", 1, "--seed", 1)
    (record,) = records(tmp_path / "test-mode", "imdb")
    losses = [epoch.metrics["loss"] for epoch in record.history]
    assert record.selected_epoch == 1 + losses.index(min(losses))
    assert record.metrics["validation"]["loss"] == min(losses)
    assert set(record.metrics) == {"train", "validation", "test"}
    assert len(losses) < 8
    assert len(losses) - record.selected_epoch == 1


def test_best_main_score_selects_the_epoch_of_the_best_score(tmp_path):
    args = ("--task", "stsb", "--test-mode", "--results", tmp_path, "--epochs", 4, "--learning-rate", 2e-2)
    run(*args, "--select", "best_main_score")
    (record,) = records(tmp_path / "test-mode", "stsb")
    scores = [(epoch.metrics["pearson"] + epoch.metrics["spearman"]) / 2 for epoch in record.history]
    assert record.selected_epoch == 1 + scores.index(max(scores))
    assert record.metrics["validation"]["pearson"] == record.history[record.selected_epoch - 1].metrics["pearson"]


def test_selection_by_a_metric_takes_the_evaluation_with_its_best_value(tmp_path):
    args = ("--task", "stsb", "--test-mode", "--results", tmp_path, "--epochs", 4, "--learning-rate", 2e-2)
    run(*args, "--select", "mae")
    (record,) = records(tmp_path / "test-mode", "stsb")
    errors = [epoch.metrics["mae"] for epoch in record.history]
    assert record.selected_epoch == 1 + errors.index(min(errors))
    assert record.metrics["validation"]["mae"] == min(errors)
    run(*args, "--select", "accuracy", code=2)


def test_scaled_labels_are_learned_and_the_saved_model_predicts_in_their_unit(tmp_path, capsys):
    flags = ("--results", tmp_path, "--label-scaling", "unit", "--save-model", tmp_path / "model")
    run("--task", "stsb", "--test-mode", *flags)
    (record,) = records(tmp_path / "test-mode", "stsb")
    assert record.metrics["validation"]["rmse"] < 0.5, "it is 1.1 without"
    evaluate.main([str(tmp_path / "model")])
    assert f"RMSE {record.metrics['validation']['rmse']:.4f}" in capsys.readouterr().out


def test_training_on_both_orders_is_training_on_a_file_that_has_both(make_task, tiny_model, tmp_path):
    tokens = [f"w{number}" for number in range(20)]
    first, second, labels = tokens[:12], [f"{token} w3 w4" for token in tokens[8:]], ["no", "yes"] * 6
    rows = {"text": first, "second": second, "label": labels}
    both = {"text": first + second, "second": second + first, "label": labels * 2}
    keys = dict(text=["text", "second"], evaluate=["train", "validation"])
    flags = ("--model", tiny_model, "--epochs", 2, "--results", tmp_path / "results")
    run("--task", make_task({"train": rows, "validation": rows}, name="pairs", **keys), *flags, "--pair-order", "both")
    run("--task", make_task({"train": both, "validation": rows}, name="doubled", **keys), *flags)
    (record,), (expected,) = records(tmp_path / "results", "pairs"), records(tmp_path / "results", "doubled")
    assert record.weights_sha256 == expected.weights_sha256
    assert record.cost.rows == expected.cost.rows == 48
    assert record.data.rows == {"train": 12, "validation": 12}
    assert record.metrics["train"] == record.metrics["validation"] == expected.metrics["validation"]


def test_recipe_reaches_the_model_and_layers_that_it_lacks_are_a_mistake(tmp_path, capsys):
    args = ("--task", "rte", "--test-mode", "--results", tmp_path, "--max-steps", 2)
    run(*args, "--freeze", 3, code=2)
    assert "--freeze 3" in capsys.readouterr().err
    run(*args)
    for flags in (("--freeze", 1), ("--encoder-dropout", 0.4), ("--head-dropout", 0.7), ("--label-smoothing", 0.5)):
        run(*args, *flags)
    for optimizer in ("adafactor", "sgd", "muon"):
        run(*args, "--optimizer", optimizer, "--weight-decay", 0.1)
    plain, *others = sorted(records(tmp_path / "test-mode", "rte"), key=lambda record: record.started)
    assert len({record.weights_sha256 for record in (plain, *others)}) == 8
    trained = [record.model.trainable_parameters for record in (plain, *others)]
    assert trained[0] == plain.model.parameters > trained[1] > 0
    assert trained[2:] == trained[:1] * 6


def test_adafactor_trains_the_whole_vocabulary(tmp_path, monkeypatch):
    narrow, narrowed = vocabulary.narrow, []
    monkeypatch.setattr(vocabulary, "narrow", lambda *args: narrowed.append(args) or narrow(*args))
    for number, optimizer in enumerate(("adafactor", "sgd")):
        run("--task", "rte", "--test-mode", "--results", tmp_path, "--max-steps", 1, "--optimizer", optimizer)
        assert len(narrowed) == number


@pytest.mark.parametrize("task, optimizer", [("rte", "adafactor"), ("rte", "sgd"), ("rte", "muon"), ("copa", "adamw")])
def test_interrupted_run_of_another_kind_resumes_bit_for_bit(task, optimizer, tmp_path, capsys):
    """With another optimizer, or another shape of rows."""
    flags = ("--task", task, "--test-mode", "--max-steps", 14, "--optimizer", optimizer, "--weight-decay", 0.1)
    with sigterm_at_step(5):
        run(*flags, "--results", tmp_path / "first", code=143)
    run(*flags, "--results", tmp_path / "first")
    assert "resuming after step 5 of 14" in capsys.readouterr().out
    run(*flags, "--results", tmp_path / "second")
    (first,), (second,) = (records(tmp_path / name / "test-mode", task) for name in ("first", "second"))
    assert reproducible_fields(first) == reproducible_fields(second)


def test_ax_is_predicted_by_the_mnli_run(tmp_path, capsys):
    args = ("--task", "ax", "--test-mode", "--results", tmp_path, "--max-steps", 1)
    run(*args)
    (parent,) = records(tmp_path / "test-mode", "mnli")
    (record,) = records(tmp_path / "test-mode", "ax")
    assert record.trained_by == parent.run_id
    assert record.metrics == {}
    assert len(pd.read_parquet(tmp_path / "test-mode" / "runs" / "ax" / record.prediction_files["test"])) == 32
    assert set(parent.metrics) == {"validation_matched", "validation_mismatched"}
    run(*args)
    assert "already finished" in capsys.readouterr().out
    (path,) = (tmp_path / "test-mode/runs/ax").glob("*.json")
    path.write_text("{")
    run(*args)
    assert records(tmp_path / "test-mode", "ax") == [record]


def test_run_resumes_bit_for_bit_although_a_companion_got_or_lost_rows(tmp_path, monkeypatch, capsys):
    flags = ("--task", "superglue_rte", "--test-mode", "--max-steps", 4)
    monkeypatch.setattr(preparation, "companion_splits", lambda _: {})
    with sigterm_at_step(2):
        run(*flags, "--results", tmp_path / "first", code=143)
    texts = [f"c{number}s0" for number in range(2, 6)]
    monkeypatch.setattr(preparation, "companion_splits", lambda _: {"axb.test": Split(texts, texts, None)})
    run(*flags, "--results", tmp_path / "first")
    assert "resuming after step 2 of 4" in capsys.readouterr().out
    monkeypatch.setattr(preparation, "companion_splits", lambda _: {})
    run(*flags, "--results", tmp_path / "second")
    (first,), (second,) = (records(tmp_path / name / "test-mode", "superglue_rte") for name in ("first", "second"))
    assert len(pd.read_parquet(tmp_path / "first/test-mode/runs/superglue_rte" / first.prediction_files["axb.test"]))
    ours, theirs = (reproducible_fields(record) for record in (first, second))
    for fields in (ours, theirs):
        del fields["prediction_files"], fields["data"]
    assert ours == theirs


def test_checkpoints_left_by_a_kill_after_the_record_are_removed(rte_copy):
    (record,) = records(rte_copy, "rte")
    checkpoint = rte_copy / "checkpoints" / "rte" / record.run_id / "step-00000001"
    checkpoint.mkdir(parents=True)
    run("--task", "rte", "--test-mode", "--results", rte_copy.parent, *SHORT)
    assert not (rte_copy / "checkpoints").exists()


def test_run_in_progress_is_refused(rte_copy, capsys):
    (path,) = (rte_copy / "runs" / "rte").glob("*.json")
    with hold_lock(lock_path(path)):
        run("--task", "rte", "--test-mode", "--results", rte_copy.parent, *SHORT, "--overwrite", code=2)
    assert "already in progress" in capsys.readouterr().err


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_before_the_first_step_stops_at_once_and_leaves_nothing(tmp_path, monkeypatch, capsys, number, code):
    monkeypatch.setattr(models, "check_length", lambda *_: (os.kill(os.getpid(), number), time.sleep(60)))
    run("--task", "rte", "--test-mode", "--results", tmp_path, code=code)
    assert capsys.readouterr().err.count("\n") == 1
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("is_forged", [False, True])
def test_sigterm_saves_a_checkpoint_and_the_same_command_resumes_bit_for_bit(rte, tmp_path, capsys, is_forged):
    """From the checkpoint before it when its progress was edited."""
    flags = ("--task", "rte", "--test-mode", "--results", tmp_path, *SHORT)

    def check_progress():
        assert len(list(tmp_path.rglob(".*.progress"))) == 1

    with sigterm_at_step(20, before=check_progress):
        run(*flags, code=143)
    assert "SIGTERM after step 20" in capsys.readouterr().err
    assert records(tmp_path / "test-mode", "rte") == []
    (manifest,) = (tmp_path / "test-mode" / "checkpoints" / "rte").glob("*/*-00000020/manifest.json")
    facts = json.loads(manifest.read_text())
    assert facts["progress"]["step"] == 20
    assert (facts["summary"]["step"], facts["summary"]["total_steps"]) == (20, 36)
    assert list(tmp_path.rglob(".*.progress")) == []
    if is_forged:
        manifest.write_text(json.dumps({**facts, "progress": {**facts["progress"], "step": 21}}))
    run(*flags)
    output = capsys.readouterr().out
    assert f"after step {12 if is_forged else 20} of 36" in output
    assert ("step-00000020: optimizer: 20 steps" in output) == is_forged
    (record,), (expected,) = records(tmp_path / "test-mode", "rte"), records(rte, "rte")
    assert reproducible_fields(record) == reproducible_fields(expected)
    assert (record.cost.steps, record.cost.tokens) == (expected.cost.steps, expected.cost.tokens)


@pytest.mark.parametrize("in_training", [True, False])
def test_batches_that_do_not_fit_after_the_trial_are_named_with_their_flags(tmp_path, monkeypatch, capsys, in_training):
    import torch

    def run_out(module, _positional, inputs):
        if module.training == in_training and len(inputs["input_ids"]) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")

    add_hook(monkeypatch, lambda model: model.register_forward_pre_hook(run_out, with_kwargs=True))
    flags = ("--task", "rte", "--test-mode", "--results", tmp_path, "--epochs", 1)
    run(*flags, code=2)
    error = capsys.readouterr().err
    assert "--device-batch-size" in error
    assert "--eval-batch-size" in error
    assert records(tmp_path / "test-mode", "rte") == []
    run(*flags, "--device-batch-size", 16, "--eval-batch-size", 20)


def test_evaluations_within_epochs_change_neither_weights_nor_scores(rte, tmp_path):
    flags = ("--task", "rte", "--test-mode", "--results", tmp_path, *SHORT)
    run(*flags, "--evaluate-every", 0.25)
    (record,), (expected,) = records(tmp_path / "test-mode", "rte"), records(rte, "rte")
    assert record.run_id != expected.run_id
    assert record.recipe_changes == {**expected.recipe_changes, "evaluate_every": 0.25}
    assert record.weights_sha256 == expected.weights_sha256
    assert (record.metrics, record.predictions) == (expected.metrics, expected.predictions)
    assert [evaluation.step for evaluation in record.history] == list(range(3, 37, 3))
    assert [evaluation.epoch for evaluation in record.history][:5] == [0.25, 0.5, 0.75, 1, 1.25]
    ends = [(evaluation.step, evaluation.metrics) for evaluation in record.history[3::4]]
    assert ends == [(evaluation.step, evaluation.metrics) for evaluation in expected.history]
    losses = [evaluation.train_loss for evaluation in record.history]
    means = [sum(losses[first : first + 4]) / 4 for first in range(0, 12, 4)]  # of intervals with equal rows
    assert means == pytest.approx([evaluation.train_loss for evaluation in expected.history])


def test_patience_and_selection_count_evaluations_within_epochs(tmp_path):
    flags = ("--learning-rate", 3e-2, "--patience", 2, "--seed", 1, "--evaluate-every", 4)
    run("--task", "imdb", "--test-mode", "--results", tmp_path, *flags)
    (record,) = records(tmp_path / "test-mode", "imdb")
    losses = [evaluation.metrics["loss"] for evaluation in record.history]
    best = losses.index(min(losses))
    assert [evaluation.step for evaluation in record.history] == list(range(4, 4 * len(losses) + 1, 4))
    assert len(losses) - (best + 1) == 2
    assert record.cost.steps == 4 * len(losses) < 96
    assert record.selected_epoch == record.history[best].epoch
    assert record.metrics["validation"]["loss"] == min(losses)


EVALUATED_WITHIN = ("--task", "rte", "--test-mode", "--epochs", 3, "--evaluate-every", 0.31, "--select", "best")
"""Flags of a run with evaluations after steps 4, 7 and 11 of each 12, and after the last."""


@pytest.fixture(scope="module")
def evaluated_within(tmp_path_factory):
    """The record of that run, uninterrupted."""
    results = tmp_path_factory.mktemp("within")
    run(*EVALUATED_WITHIN, "--results", results)
    (record,) = records(results / "test-mode", "rte")
    return record


@pytest.mark.parametrize("stop", [18, 19])
def test_run_stopped_between_or_at_evaluations_within_an_epoch_resumes_bit_for_bit(
    evaluated_within, tmp_path, capsys, stop
):
    flags = (*EVALUATED_WITHIN, "--results", tmp_path)
    with sigterm_at_step(stop):
        run(*flags, code=143)
    capsys.readouterr()
    run(*flags)
    assert f"after step {stop} of 36" in capsys.readouterr().out
    (record,) = records(tmp_path / "test-mode", "rte")
    assert [evaluation.step for evaluation in evaluated_within.history] == [4, 7, 11, 16, 19, 23, 28, 31, 35, 36]
    assert reproducible_fields(record) == reproducible_fields(evaluated_within)


def test_run_that_is_too_short_for_the_distance_of_its_evaluations_has_a_note(tmp_path):
    run("--task", "rte", "--test-mode", "--results", tmp_path, "--epochs", 1, "--evaluate-every", 500)
    (record,) = records(tmp_path / "test-mode", "rte")
    assert [evaluation.step for evaluation in record.history] == [12]
    assert any("--evaluate-every" in note for note in record.notes)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "2.0", "0.0", "abc"])
def test_invalid_distance_of_evaluations_ends_with_exit_code_2(tmp_path, capsys, value):
    run("--task", "rte", "--test-mode", "--results", tmp_path, f"--evaluate-every={value}", code=2)
    assert "evaluate-every" in capsys.readouterr().err
