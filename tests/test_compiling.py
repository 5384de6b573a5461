"""torch.compile: the same steps as without, few lengths, and a message where nothing can be compiled."""

import functools

import pytest
import torch

from harness.commands.selfcheck import generated, tiny_model
from harness.engine import compiling
from harness.engine.compiling import bucket, is_wanted, obstacle
from harness.engine.training import Training, adamw, training_steps
from harness.facts.recipes import Recipe, plan_steps

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    "asked, steps, device, wanted",
    [
        ("off", 10**6, GPU, False),
        ("on", 1, CPU, True),
        ("on", 1, GPU, True),
        ("auto", 10**6, GPU, True),
        ("auto", 10**6, CPU, False),
        ("auto", 100, GPU, False),
    ],
)
def test_auto_weighs_the_updates(asked, steps, device, wanted):
    assert is_wanted(asked, steps, device) == wanted


def test_lengths_fall_into_few_buckets_that_waste_little():
    widths = {bucket(tokens) for tokens in range(1, 513)}
    assert len(widths) <= 20
    assert all(tokens <= bucket(tokens) <= max(tokens + 8, tokens * 1.25) for tokens in range(1, 2000))
    assert all(bucket(width) == width for width in widths)


def test_what_cannot_be_compiled_is_told_in_a_line(monkeypatch):
    def broken(function):
        raise RuntimeError("No working C++ compiler found\nmore")

    monkeypatch.setattr(torch, "compile", broken)
    assert obstacle(CPU) == "No working C++ compiler found"


def test_updates_of_a_compiled_model_are_those_of_a_plain_one(monkeypatch):
    """Traced and run by PyTorch itself: what a compiler makes of the graph is the compiler's."""
    from accelerate import Accelerator

    monkeypatch.setattr(compiling.torch, "compile", functools.partial(torch.compile, backend="eager"))
    recipe = Recipe(global_batch_size=8, epochs=1, learning_rate=1e-3, max_length=24)
    plan, encoded = plan_steps(33, recipe, 1), generated(33)
    told = []
    for is_compiled in (False, True):
        model = tiny_model()
        optimizer = adamw(model, recipe, model.device)
        training = Training(Accelerator(cpu=True), model, optimizer, recipe, plan, encoded, is_compiled)
        seen = list(training_steps(training, seed=1))
        told.append([step.loss for step in seen])
        assert list(training.weights()) == list(model.state_dict())
        widths = {step.computed_tokens // step.rows for step in seen}
        assert not is_compiled or widths <= {8, 16, 24}
    assert torch.allclose(*map(torch.tensor, told), rtol=1e-5)
