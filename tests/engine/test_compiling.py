"""torch.compile: the same steps as without it, few lengths, and a message where it fails."""

import functools

import pytest
import torch
from accelerate import Accelerator

from harness.engine import compiling
from harness.engine.compiling import obstacle, padded_length, should_compile
from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Training, training_steps
from harness.facts.recipes import Recipe, plan_steps
from harness.requests import preparation
from harness.requests.options import parse_options

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "mode, steps, device, is_captured, expected",
    [
        ("off", 10**6, GPU, False, False),
        ("on", 1, CPU, False, True),
        ("on", 1, GPU, True, True),
        ("auto", 10**6, GPU, True, True),
        ("auto", 10**4, GPU, False, True),
        ("auto", 10**4, GPU, True, False),
        ("auto", 10**6, CPU, False, False),
        ("auto", 100, GPU, False, False),
    ],
)
def test_auto_compiles_long_runs_on_a_gpu(mode, steps, device, is_captured, expected):
    assert should_compile(mode, steps, device, is_captured) == expected


@pytest.mark.parametrize("optimizer, is_compiled", [("adamw", False), ("sgd", True)])
def test_steps_that_cannot_be_captured_are_compiled_in_shorter_runs(monkeypatch, optimizer, is_compiled):
    monkeypatch.setattr(Accelerator, "device", GPU)
    monkeypatch.setattr(compiling, "obstacle", lambda device: "")
    options = parse_options(["--task", "rte", "--test-mode", "--compile", "auto", "--optimizer", optimizer])
    plan = plan_steps(32 * 10_000, options.recipe.model_copy(update={"epochs": 1, "max_steps": None}), 1)
    assert compiling.MIN_STEPS_TO_COMPILE < plan.total_steps < compiling.MIN_CAPTURED_STEPS_TO_COMPILE
    assert preparation._is_compiled(options, plan, Accelerator(cpu=True)) == is_compiled


def test_lengths_fall_into_few_padded_lengths_that_waste_little():
    widths = {padded_length(tokens) for tokens in range(1, 513)}
    assert len(widths) <= 20
    assert all(tokens <= padded_length(tokens) <= max(tokens + 8, tokens * 1.25) for tokens in range(1, 2000))
    assert all(padded_length(width) == width for width in widths)


def test_obstacle_is_the_first_line_of_the_error(monkeypatch):
    def broken(function):
        raise RuntimeError("No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    assert obstacle(CPU) == "RuntimeError: No working C++ compiler found"


def test_steps_of_a_compiled_model_equal_those_of_an_eager_one(monkeypatch):
    """The graph is traced but run by PyTorch itself, without a compiler."""
    monkeypatch.setattr(compiling.torch, "compile", functools.partial(torch.compile, backend="eager"))
    recipe = Recipe(global_batch_size=8, epochs=1, learning_rate=1e-3, max_length=24)
    plan, encoded = plan_steps(33, recipe, 1), generated(33)
    losses = []
    for is_compiled in (False, True):
        model = tiny_model()
        optimizer = create_optimizer(model, recipe, model.device)
        training = Training(Accelerator(cpu=True), model, optimizer, recipe, plan, encoded, is_compiled)
        steps = list(training_steps(training, seed=1))
        losses.append([step.loss for step in steps])
        assert list(training.weights()) == list(model.state_dict())
        widths = {step.computed_tokens // step.rows for step in steps}
        assert not is_compiled or widths <= {8, 16, 24}
    assert torch.allclose(*map(torch.tensor, losses), rtol=1e-5)
