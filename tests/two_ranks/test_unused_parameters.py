"""Two processes train every parameter that one process trains, also those that some rows or all of them do not use."""

import pytest
import torch
from safetensors.torch import load_file
from support.experts import experts_model
from support.ranks import run_ranks


def weights(folder):
    return load_file(folder / "run" / "step-00000008" / "weights.safetensors")


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_experts_are_trained_as_by_one_process_which_resumes_from_the_checkpoint(processes, tmp_path):
    run_ranks(processes, "support.experts", tmp_path / "several" / "run", 4, "sgd")
    run_ranks(1, "support.experts", tmp_path / "several" / "run", 8, "sgd")
    run_ranks(1, "support.experts", tmp_path / "one" / "run", 8, "sgd")
    several, one = weights(tmp_path / "several"), weights(tmp_path / "one")
    assert several.keys() == one.keys()
    assert all(torch.allclose(several[name], one[name], atol=1e-6) for name in one)
    before = experts_model().state_dict()
    changed = [not torch.equal(one[name], before[name]) for name in one if name.startswith("classifier")]
    assert changed == [True] * 4 + [False] * 2
