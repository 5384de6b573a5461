"""Training: what is not already compared with a plain loop by the self-check."""

import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import nn

from harness.commands.selfcheck import generated, tiny_model
from harness.engine.batches import cut_batch
from harness.engine.training import (
    MOST_OVERFLOWS,
    Diverged,
    Training,
    adamw,
    decay_groups,
    freeze_unused,
    training_steps,
)
from harness.facts.recipes import Recipe, plan_steps


def training(rows=33, recipe=None, model=None, **plan):
    recipe = recipe or Recipe(global_batch_size=8, epochs=2, learning_rate=1e-3)
    model = model or tiny_model()
    accelerator = Accelerator(cpu=True)
    optimizer = adamw(model, recipe, model.device)
    return Training(accelerator, model, optimizer, recipe, plan_steps(rows, recipe, 1, **plan), generated(rows))


def test_updates_are_numbered_and_end_epochs_where_they_should():
    seen = list(training_steps(training(rows=17), seed=0))
    assert [step.number for step in seen] == [1, 2, 3, 4, 5, 6]
    assert [step.epoch for step in seen] == [1, 1, 1, 2, 2, 2]
    assert [step.ends_epoch for step in seen] == [False, False, True] * 2
    assert [sorted(step.rows for step in seen[at : at + 3]) for at in (0, 3)] == [[1, 8, 8]] * 2
    assert seen[-1].ends_epoch
    assert sum(step.tokens for step in seen) == 2 * int(generated(17).lengths.sum())


def test_training_learns_the_rows():
    seen = list(
        training_steps(training(rows=16, recipe=Recipe(global_batch_size=8, epochs=40, learning_rate=3e-3)), seed=0)
    )
    assert seen[-1].loss < 0.5 * seen[0].loss


def test_max_updates_end_training_within_an_epoch():
    seen = list(training_steps(training(recipe=Recipe(global_batch_size=8, max_steps=7)), seed=0))
    assert len(seen) == 7
    assert seen[-1].ends_epoch


def test_nothing_is_left_after_the_last_update():
    assert list(training_steps(training(rows=16), seed=0, after=4)) == []


def test_biases_and_normalisation_layers_do_not_decay():
    model = tiny_model()
    decayed, spared = decay_groups(model, 0.1)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(names[id(p)].endswith("weight") and "LayerNorm" not in names[id(p)] for p in decayed["params"])
    assert all(names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in spared["params"])
    assert len(decayed["params"]) + len(spared["params"]) == len(names)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_normalisation_is_told_by_type_whatever_its_name():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale_things = nn.RMSNorm(4)
            self.project = nn.Linear(4, 4)

    odd = Odd()
    decayed, spared = decay_groups(odd, 0.1)
    assert [p is odd.project.weight for p in decayed["params"]] == [True]
    assert len(spared["params"]) == 2


def test_frozen_parameters_are_not_handed_to_the_optimizer():
    model = tiny_model()
    model.classifier.bias.requires_grad_(False)
    held = [p for group in decay_groups(model, 0.0) for p in group["params"]]
    assert all(p is not model.classifier.bias for p in held)


def test_parameters_the_logits_do_not_need_are_frozen_before_processes_wait_for_them():
    model = tiny_model()
    model.unused = nn.Linear(3, 3)
    freeze_unused(model, cut_batch(generated(3), np.arange(3)).inputs)
    assert not model.unused.weight.requires_grad
    assert model.classifier.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_weights_move(value):
    run = training()
    run.model.classifier.register_forward_hook(lambda module, inputs, output: output * value)
    before = run.weights()
    with pytest.raises(Diverged, match="loss of step 1 is not finite"):
        next(training_steps(run, seed=0))
    assert all(torch.equal(before[name], tensor) for name, tensor in run.weights().items())


def test_a_gradient_that_is_not_finite_stops_before_the_weights_move():
    run = training()
    run.model.classifier.weight.register_hook(lambda gradient: gradient * math.nan)
    before = run.weights()
    with pytest.raises(Diverged, match="gradient norm of step 1"):
        next(training_steps(run, seed=0))
    assert all(torch.equal(before[name], tensor) for name, tensor in run.weights().items())


def deferring(faulty=()):
    """Training that is looked at now and then, as on a GPU, with scores that are no numbers in some of its steps."""
    run = training()
    run.defers_finite_check = True
    taken = [0]

    def spoil(module, inputs, output):
        taken[0] += 1
        return output * math.nan if taken[0] in faulty else output

    run.model.classifier.register_forward_hook(spoil)
    return run


def test_updates_that_nobody_waited_for_come_out_the_same():
    plain, deferred = training(), deferring()
    expected = [(step.loss, step.gradient_norm) for step in training_steps(plain, seed=0)]
    seen = list(training_steps(deferred, seed=0))
    assert [(step.loss, step.gradient_norm) for step in seen] == expected
    assert [step.is_checked for step in seen] == [step.ends_epoch for step in seen]
    assert all(torch.equal(plain.weights()[name], tensor) for name, tensor in deferred.weights().items())


def test_from_a_fault_that_is_found_later_on_the_weights_have_not_moved():
    whole = deferring()
    at_third = None
    for step in training_steps(whole, seed=0):
        at_third = whole.weights() if step.number == 3 else at_third
    run = deferring(faulty=[4])
    with pytest.raises(Diverged, match="loss of step 4 is not finite"):
        list(training_steps(run, seed=0))
    assert all(torch.equal(at_third[name], tensor) for name, tensor in run.weights().items())


def scaled(overflows):
    """Training with a real loss scaler, as in fp16, and gradients that overflow so many times at the start."""
    recipe = Recipe(global_batch_size=8, epochs=2, learning_rate=1e-3, max_grad_norm=None)
    accelerator, model = Accelerator(cpu=True), tiny_model()
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    plan, encoded = plan_steps(17, recipe, 1, 8), generated(17)
    run = Training(accelerator, model, adamw(model, recipe, model.device), recipe, plan, encoded)
    left = [overflows]

    def overflow(gradient):
        left[0] -= 1
        return gradient * math.inf if left[0] >= 0 else gradient

    model.classifier.weight.register_hook(overflow)
    return run


def test_an_overflow_advances_neither_count_nor_schedule_and_loses_no_row():
    plain, skipping = scaled(overflows=0), scaled(overflows=3)
    undisturbed, skipped = list(training_steps(plain, seed=0)), list(training_steps(skipping, seed=0))
    assert skipping.accelerator.scaler.get_scale() == 2.0**13
    assert [(u.number, u.learning_rate, u.rows) for u in skipped] == [
        (u.number, u.learning_rate, u.rows) for u in undisturbed
    ]
    for name, weights in plain.weights().items():
        assert torch.allclose(weights, skipping.weights()[name], atol=1e-6), name


def test_overflow_without_end_is_divergence():
    with pytest.raises(Diverged, match="any loss scale"):
        list(training_steps(scaled(overflows=MOST_OVERFLOWS), seed=0))


def test_best_weights_are_a_copy_that_training_does_not_touch():
    run = training()
    steps = training_steps(run, seed=0)
    next(steps)
    kept = run.weights()
    fingerprint = run.weights_sha256()
    next(steps)
    assert run.weights_sha256() != fingerprint
    run.set_weights(kept)
    assert run.weights_sha256() == fingerprint
