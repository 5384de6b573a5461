"""Processes connected by gloo give the same numbers as one, before and after a kill, and with sharded weights (FSDP2).

All are forked from one process, whose start takes as long as most of the tests: so they are in one file.
"""

import hashlib
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from support.commands import run
from support.processes import kill, outcome_of, python_command, start
from support.ranks import run_ranks

from harness.__main__ import main
from harness.engine.test_mode import write_model

FLAGS = ("--test-mode", "--epochs", 4, "--checkpoint-every", 5, "--evaluate-every", 0.25)


def record_path(results, task="mnli"):
    (path,) = (results / "test-mode" / "runs" / task).glob("*.json")
    return path


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """The results folder of a run of ax, which trains mnli, on two processes; the model is in `saved`."""
    results = tmp_path_factory.mktemp("two")
    flags = ["--task", "ax", *FLAGS, "--results", results, "--save-model", results / "saved"]
    run_ranks(2, "harness.run", *flags)
    return results


@pytest.mark.parametrize("processes", [1, 3])
def test_every_check_of_the_selfcheck_passes(processes):
    output = run_ranks(processes, "harness.__main__", "selfcheck", "--cpu")
    assert f"{processes} process(es)" in output
    assert output.count("pass  ") == 9, output
    assert "FAIL" not in output


def test_two_processes_score_every_row_once_and_are_in_the_record(two_processes):
    record = json.loads(record_path(two_processes).read_text())
    assert record["environment"]["processes"] == 2
    assert len(record["environment"]["devices"]) == len(record["cost"]["peak_bytes_per_process"]) == 2
    assert record["data"]["rows"]["validation_matched"] == 96
    assert record["cost"]["rows"] == 4 * 384
    assert record["environment"]["device_batch_size"] * record["environment"]["accumulation"] * 2 == 32


def test_companion_task_is_recorded_by_two_processes(two_processes):
    record = json.loads(record_path(two_processes, "ax").read_text())
    assert record["trained_by"] == record_path(two_processes).stem


def test_two_processes_predict_as_one(two_processes, tmp_path):
    rows = [f"w{row},{' '.join(['c0s0'] * (1 + row % 5))}" for row in range(23)]
    (tmp_path / "rows.csv").write_text("\n".join(["premise,hypothesis", *rows]))
    args = ["predict", two_processes / "saved", "--file", tmp_path / "rows.csv", "--device-batch-size", 4, "--out"]
    run_ranks(2, "harness.__main__", *args, tmp_path / "two.csv")
    main([str(arg) for arg in (*args, tmp_path / "one.csv", "--cpu")])
    assert (tmp_path / "two.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_killed_run_of_two_resumes_bit_for_bit_on_two_and_with_a_note_on_one(two_processes, tmp_path, capsys):
    flags = ["--task", "mnli", *FLAGS, "--results"]
    process = start(python_command(2, "harness/run.py", *flags, tmp_path / "two"))
    for line in process.stdout:
        if line.split()[:1] == ["1"]:  # the line of the first epoch
            break
    kill(process)
    process.communicate()
    shutil.copytree(tmp_path / "two", tmp_path / "one")

    assert "resuming after step" in run_ranks(2, "harness.run", *flags, tmp_path / "two")
    assert outcome_of(record_path(tmp_path / "two")) == outcome_of(record_path(two_processes))

    run(*flags, tmp_path / "one")
    assert "resuming after step" in capsys.readouterr().out
    record = json.loads(record_path(tmp_path / "one").read_text())
    assert "1 process(es)" in record["notes"][0]
    assert "2 process(es)" in record["notes"][0]
    assert record["environment"]["processes"] == 1
    assert [epoch["step"] for epoch in record["history"]] == list(range(3, 49, 3))


def test_two_processes_train_the_adapter_and_the_head_alone(tmp_path):
    pytest.importorskip("peft")
    flags = ["--task", "mnli", "--test-mode", "--max-steps", 14, "--adapter", "lora", "--results", tmp_path]
    run_ranks(2, "harness.run", *flags, "--save-model", tmp_path / "saved")
    facts = json.loads(record_path(tmp_path).read_text())["model"]
    trained = load_file(tmp_path / "saved/adapter/adapter_model.safetensors")
    assert facts["trainable_parameters"] == sum(tensor.numel() for tensor in trained.values())
    write_model(tmp_path)
    before, after = load_file(tmp_path / "model.safetensors"), load_file(tmp_path / "saved/model.safetensors")
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[f"bert.{name}"])}
    targets = [f"encoder.layer.{layer}.attention.self.{part}.weight" for layer in (0, 1) for part in ("query", "value")]
    assert changed == set(targets)


# -- sharded weights ---------------------------------------------------------------------------------------------------

SHARDED_FLAGS = ("--task", "rte", "--test-mode", "--max-steps", 12, "--evaluate-every", 6, "--select", "best")


def test_every_check_of_the_selfcheck_passes_with_sharded_weights():
    output = run_ranks(2, "support.fsdp_on_cpu", "selfcheck", "--cpu")
    assert output.count("pass  ") == 8, output
    assert "FAIL" not in output
    assert "skip  the same for LoRA" in output


def test_run_with_sharded_weights_has_the_record_and_the_saved_model_of_one_with_whole_weights(tmp_path):
    run_ranks(2, "harness.run", *SHARDED_FLAGS, "--results", tmp_path / "whole")
    saved = tmp_path / "saved"
    run_ranks(2, "support.fsdp_on_cpu", "run", *SHARDED_FLAGS, "--results", tmp_path / "sharded", "--save-model", saved)
    whole, sharded = (json.loads(record_path(tmp_path / name, "rte").read_text()) for name in ("whole", "sharded"))
    assert (whole["environment"]["distributed"], sharded["environment"]["distributed"]) == ("MULTI_CPU", "FSDP")
    assert [entry["metrics"] for entry in sharded["history"]] == [entry["metrics"] for entry in whole["history"]]
    assert sharded["predictions"] == whole["predictions"]
    assert sharded["weights_sha256"] == whole["weights_sha256"]
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(saved / "model.safetensors").items()):
        digest.update(name.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    assert digest.hexdigest() == sharded["weights_sha256"]
