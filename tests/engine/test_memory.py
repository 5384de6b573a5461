"""Memory: the device batch shrinks until it fits; the global batch stays the same."""

from typing import get_args

import pytest
import torch
from accelerate import Accelerator

from harness.engine.memory import limit_memory, plan_that_fits
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.errors import UserError
from harness.facts.recipes import OptimizerName, Recipe, plan_steps
from harness.system.devices import GPU_MEMORY_SHARE, Slot


def fitted_plan(model, rows, plan):
    optimizer = create_optimizer(model, Recipe(), model.device)
    return plan_that_fits(Accelerator(cpu=True), model, optimizer, generated(rows), plan)


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
    fitted = fitted_plan(model_for(5, error), 100, plan)
    assert (fitted.device_batch_size, fitted.accumulation, fitted.global_batch_size) == (4, 8, 32)
    assert fitted.total_steps == plan.total_steps
    assert capsys.readouterr().out.count("out of memory") == 3


def test_run_that_shares_its_gpu_uses_its_part_of_the_memory(monkeypatch):
    limits = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *limit: limits.append(limit))
    gpu = torch.device("cuda")  # accelerate's device on one GPU has no index, which torch refuses here
    limit_memory(gpu)
    assert limits == [], "it has the GPU alone"
    monkeypatch.setenv(GPU_MEMORY_SHARE, Slot(("0",), 1, 3).environment[GPU_MEMORY_SHARE])
    limit_memory(torch.device("cpu"))
    limit_memory(gpu)
    assert limits == [(0.3,)]


def test_peak_of_a_gpu_counts_from_the_start_of_the_run(monkeypatch):
    devices = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", devices.append)
    for device in (torch.device("cpu"), torch.device("cuda")):
        limit_memory(device)
    assert devices == [torch.device("cuda")]


def test_share_of_memory_that_is_no_number_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setenv(GPU_MEMORY_SHARE, "half")
    with pytest.raises(UserError, match=GPU_MEMORY_SHARE):
        limit_memory(torch.device("cuda", 0))


def test_row_that_does_not_fit_is_an_error():
    plan = plan_steps(10, Recipe(global_batch_size=2), 1)
    with pytest.raises(UserError, match=r"out of memory.*--max-length"):
        fitted_plan(model_for(0, torch.OutOfMemoryError("x")), 10, plan)


def test_other_errors_are_raised():
    plan = plan_steps(10, Recipe(global_batch_size=2), 1)
    with pytest.raises(RuntimeError, match="shapes"):
        fitted_plan(model_for(0, RuntimeError("shapes")), 10, plan)


def test_trial_does_not_change_random_states_gradients_and_weights():
    model, plan = tiny_model(dropout=0.5), plan_steps(20, Recipe(global_batch_size=8), 1)
    before = torch.get_rng_state(), {name: p.clone() for name, p in model.named_parameters()}
    assert fitted_plan(model, 20, plan) == plan
    assert torch.equal(before[0], torch.get_rng_state())
    assert all(torch.equal(before[1][name], p) and p.grad is None for name, p in model.named_parameters())


@pytest.mark.parametrize("optimizer", get_args(OptimizerName))
def test_trial_has_memory_for_the_state_of_the_optimizer(optimizer, monkeypatch):
    """Only trained parameters have a state."""
    recipe = Recipe(global_batch_size=8, optimizer=optimizer)
    model, rows, plan = tiny_model(), generated(20), plan_steps(20, recipe, 1)
    model.get_input_embeddings().weight.requires_grad_(False)
    create, shapes = create_optimizer(model, recipe, model.device), []
    empty = torch.empty
    with monkeypatch.context() as patched:
        patched.setattr(torch, "empty", lambda shape, **options: shapes.append(shape) or empty(shape, **options))
        plan_that_fits(Accelerator(cpu=True), model, create, rows, plan)
    training = Training(Accelerator(cpu=True), model, create, recipe, plan, rows)
    next(training_steps(training, seed=0))
    state = [tensor.shape for each in training.optimizer.state.values() for tensor in each.values()]
    assert sorted(map(tuple, shapes)) == sorted(map(tuple, state))
    assert len(state) > 0
