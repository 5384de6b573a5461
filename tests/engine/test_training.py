"""Training: properties that the self-check does not compare with a plain loop."""

import math
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from harness.engine.optimizers import create_optimizer
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import MAX_OVERFLOWS, Diverged, Training, training_steps
from harness.facts.recipes import Recipe, plan_steps


def training(rows=33, recipe=None, scaler=None, **plan):
    recipe = recipe or Recipe(global_batch_size=8, epochs=2, learning_rate=1e-3)
    accelerator, model = Accelerator(cpu=True), tiny_model()
    accelerator.scaler = scaler
    optimizer = create_optimizer(model, recipe, model.device)
    return Training(accelerator, model, optimizer, recipe, plan_steps(rows, recipe, 1, **plan), generated(rows))


def test_steps_are_numbered_and_the_last_of_an_epoch_ends_it():
    steps = list(training_steps(training(rows=17), seed=0))
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.epoch for step in steps] == [1, 1, 1, 2, 2, 2]
    assert [step.ends_epoch for step in steps] == [False, False, True] * 2
    assert [sorted(step.rows for step in steps[first : first + 3]) for first in (0, 3)] == [[1, 8, 8]] * 2
    assert steps[-1].ends_epoch
    assert sum(step.tokens for step in steps) == 2 * int(generated(17).lengths.sum())


@pytest.mark.parametrize("limit, expected", [(0.5, 0.5), (None, 0.0)])
def test_deepspeed_gets_the_batch_and_the_limit_of_the_gradient_from_the_run(monkeypatch, limit, expected):
    plugin = SimpleNamespace(enable_msamp=False, deepspeed_config={"gradient_clipping": 1.0})
    monkeypatch.setattr(AcceleratorState, "deepspeed_plugin", plugin)
    training(recipe=Recipe(global_batch_size=8, max_grad_norm=limit), device_batch_size=4)
    sizes = {"train_micro_batch_size_per_gpu": 4, "train_batch_size": 4}
    assert plugin.deepspeed_config == {**sizes, "gradient_clipping": expected}


@pytest.mark.parametrize("limit", [0.01, 1e6])
def test_clipping_within_the_update_equals_clipping_before_it(limit):
    """A large epsilon makes the updates of AdamW depend on the scale of the gradients."""
    recipe = Recipe(global_batch_size=8, epochs=2, learning_rate=1.0, adam_epsilon=1.0, max_grad_norm=limit)
    within, before = training(recipe=recipe), training(recipe=recipe)
    assert within.clips_in_update
    before.clips_in_update = False
    start = within.weights()
    for own, expected in zip(training_steps(within, seed=0), training_steps(before, seed=0), strict=True):
        assert 0.01 < own.gradient_norm < 1e6
        assert own.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-5)
    for name, weights in before.weights().items():
        torch.testing.assert_close(within.weights()[name] - start[name], weights - start[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "changes, fused", [({}, True), ({"optimizer": "sgd"}, False), ({"optimizer": "bertadam"}, False)]
)
def test_only_a_fused_optimizer_clips_within_its_update(changes, fused):
    assert training(recipe=Recipe(global_batch_size=8, learning_rate=1e-3, **changes)).clips_in_update == fused
    unlimited = Recipe(global_batch_size=8, learning_rate=1e-3, max_grad_norm=None, **changes)
    assert not training(recipe=unlimited).clips_in_update


def test_max_steps_ends_training_within_an_epoch():
    steps = list(training_steps(training(recipe=Recipe(global_batch_size=8, max_steps=7)), seed=0))
    assert len(steps) == 7
    assert steps[-1].ends_epoch


def test_no_step_follows_the_last():
    assert list(training_steps(training(rows=16), seed=0, after=4)) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_raises_and_leaves_the_weights_unchanged(value):
    run = training()
    run.model.classifier.register_forward_hook(lambda module, inputs, output: output * value)
    before = run.weights()
    with pytest.raises(Diverged, match="loss of step 1"):
        next(training_steps(run, seed=0))
    assert all(torch.equal(before[name], tensor) for name, tensor in run.weights().items())


def test_gradient_that_is_not_finite_raises_and_leaves_the_weights_unchanged():
    run = training()
    run.model.classifier.weight.register_hook(lambda gradient: gradient * math.nan)
    before = run.weights()
    with pytest.raises(Diverged, match="gradient norm of step 1"):
        next(training_steps(run, seed=0))
    assert all(torch.equal(before[name], tensor) for name, tensor in run.weights().items())


def deferred_training(faulty=(), recipe=None):
    """Returns training with deferred checks, as on a GPU, and scores that are not finite in the `faulty` batches."""
    run = training(recipe=recipe)
    run.defers_finite_check = True
    batches = [0]

    def damage(module, inputs, output):
        batches[0] += 1
        return output * math.nan if batches[0] in faulty else output

    run.model.classifier.register_forward_hook(damage)
    return run


def test_steps_with_deferred_checks_are_the_same():
    plain, deferred = training(), deferred_training()
    expected = [(step.loss, step.gradient_norm) for step in training_steps(plain, seed=0)]
    steps = list(training_steps(deferred, seed=0))
    assert [(step.loss, step.gradient_norm) for step in steps] == expected
    assert [step.is_checked for step in steps] == [step.ends_epoch for step in steps]
    assert all(torch.equal(plain.weights()[name], tensor) for name, tensor in deferred.weights().items())


def test_step_before_an_evaluation_is_checked():
    recipe = Recipe(global_batch_size=8, epochs=2, evaluate_every=0.4)
    steps = list(training_steps(deferred_training(recipe=recipe), seed=0))
    assert [step.number for step in steps if step.is_evaluated] == [2, 4, 7, 9, 10]
    assert [step.number for step in steps if step.is_checked] == [2, 4, 5, 7, 9, 10]


def test_weights_do_not_change_after_a_fault_that_is_found_later():
    whole = deferred_training()
    third_weights = None
    for step in training_steps(whole, seed=0):
        third_weights = whole.weights() if step.number == 3 else third_weights
    run = deferred_training(faulty=[4])
    with pytest.raises(Diverged, match="loss of step 4"):
        list(training_steps(run, seed=0))
    assert all(torch.equal(third_weights[name], tensor) for name, tensor in run.weights().items())


def test_endless_overflow_is_divergence():
    recipe = Recipe(global_batch_size=8, epochs=2, learning_rate=1e-3, max_grad_norm=None)
    run = training(17, recipe, torch.amp.GradScaler("cpu"))
    remaining = [MAX_OVERFLOWS]

    def overflow(gradient):
        remaining[0] -= 1
        return gradient * math.inf if remaining[0] >= 0 else gradient

    run.model.classifier.weight.register_hook(overflow)
    with pytest.raises(Diverged, match="any loss scale"):
        list(training_steps(run, seed=0))


def test_weights_are_a_copy_that_training_does_not_change():
    run = training()
    steps = training_steps(run, seed=0)
    next(steps)
    weights = run.weights()
    fingerprint = run.weights_sha256()
    next(steps)
    assert run.weights_sha256() != fingerprint
    run.set_weights(weights)
    assert run.weights_sha256() == fingerprint
