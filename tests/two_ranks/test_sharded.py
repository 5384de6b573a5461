"""Two processes that share the weights of one model under FSDP2 give the numbers of two that have them whole."""

import hashlib
import json

import torch
from safetensors.torch import load_file
from support.ranks import run_ranks

FLAGS = ("--task", "rte", "--test-mode", "--max-steps", 12, "--evaluate-every", 6, "--select", "best")


def record_in(results):
    (path,) = (results / "test-mode" / "runs" / "rte").glob("*.json")
    return json.loads(path.read_text())


def test_every_check_of_the_selfcheck_passes_with_sharded_weights():
    output = run_ranks(2, "support.fsdp_on_cpu", "selfcheck", "--cpu")
    assert output.count("pass  ") == 8, output
    assert "FAIL" not in output
    assert "skip  the same for LoRA" in output


def test_run_with_sharded_weights_has_the_record_and_the_saved_model_of_one_with_whole_weights(tmp_path):
    run_ranks(2, "harness.run", *FLAGS, "--results", tmp_path / "whole")
    saved = tmp_path / "saved"
    run_ranks(2, "support.fsdp_on_cpu", "run", *FLAGS, "--results", tmp_path / "sharded", "--save-model", saved)
    whole, sharded = record_in(tmp_path / "whole"), record_in(tmp_path / "sharded")
    assert (whole["environment"]["distributed"], sharded["environment"]["distributed"]) == ("MULTI_CPU", "FSDP")
    assert [entry["metrics"] for entry in sharded["history"]] == [entry["metrics"] for entry in whole["history"]]
    assert sharded["predictions"] == whole["predictions"]
    assert sharded["weights_sha256"] == whole["weights_sha256"]
    digest = hashlib.sha256()
    for name, tensor in sorted(load_file(saved / "model.safetensors").items()):
        digest.update(name.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    assert digest.hexdigest() == sharded["weights_sha256"]
