"""Memory: the device batch shrinks until it fits, and the global batch never does."""

import pytest
import torch
from accelerate import Accelerator

from harness.commands.selfcheck import generated, tiny_model
from harness.engine.memory import plan_that_fits
from harness.errors import UserError
from harness.facts.recipes import Recipe, plan_steps


def model_for(largest, error):
    model = tiny_model(dropout=0.5)

    def run_out(module, arguments, inputs):
        if len(inputs["input_ids"]) > largest:
            raise error

    model.register_forward_pre_hook(run_out, with_kwargs=True)
    return model


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")])
def test_device_batch_is_halved_until_it_fits(error, capsys):
    plan = plan_steps(100, Recipe(global_batch_size=32), 1)
    found = plan_that_fits(Accelerator(cpu=True), model_for(5, error), generated(100), plan)
    assert (found.device_batch_size, found.accumulation, found.global_batch_size) == (4, 8, 32)
    assert found.total_steps == plan.total_steps
    assert capsys.readouterr().out.count("out of memory") == 3


def test_not_one_row_fits_is_a_clear_error():
    plan = plan_steps(10, Recipe(global_batch_size=2), 1)
    with pytest.raises(UserError, match=r"one row of \d+ tokens does not fit.*--max-length"):
        plan_that_fits(Accelerator(cpu=True), model_for(0, torch.OutOfMemoryError("x")), generated(10), plan)


def test_other_errors_are_not_taken_for_it():
    plan = plan_steps(10, Recipe(global_batch_size=2), 1)
    with pytest.raises(RuntimeError, match="shapes"):
        plan_that_fits(Accelerator(cpu=True), model_for(0, RuntimeError("shapes")), generated(10), plan)


def test_the_trial_leaves_randomness_gradients_and_weights_alone():
    model, plan = tiny_model(dropout=0.5), plan_steps(20, Recipe(global_batch_size=8), 1)
    before = torch.get_rng_state(), {name: p.clone() for name, p in model.named_parameters()}
    assert plan_that_fits(Accelerator(cpu=True), model, generated(20), plan) == plan
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(before[1][name], p) and p.grad is None for name, p in model.named_parameters())
