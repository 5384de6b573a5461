"""Optimizers: each is torch's own, resumes bit-for-bit, and leaves the weights unchanged if a loss is not finite."""

import copy
import math
from typing import get_args

import pytest
import torch
from accelerate import Accelerator
from torch import nn

from harness.engine.adaptations import vocabulary
from harness.engine.adaptations.freezing import freeze_lowest
from harness.engine.checkpoints import Checkpoint, check_fit, load_checkpoint, save_checkpoint
from harness.engine.optimizers import (
    BertAdam,
    create_optimizer,
    decay_groups,
    hidden_matrices,
    is_row_wise,
    state_shapes,
)
from harness.engine.tiny_example import generated, tiny_model
from harness.engine.training import Diverged, Training, training_steps
from harness.errors import UserError
from harness.facts.recipes import OptimizerName, Recipe, plan_steps

CPU = torch.device("cpu")
ROWS = generated(33)
OPTIMIZERS = get_args(OptimizerName)

each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


def training(model=None, scaler=None, **values):
    recipe = Recipe(**{"global_batch_size": 8, "epochs": 1, "learning_rate": 1e-2, "weight_decay": 0.1, **values})
    model, accelerator = model or tiny_model(), Accelerator(cpu=True)
    accelerator.scaler = scaler
    optimizer = create_optimizer(model, recipe, CPU)
    return Training(accelerator, model, optimizer, recipe, plan_steps(len(ROWS), recipe, 1), ROWS)


def named(model, parameters):
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)] for parameter in parameters}


# -- parameters --------------------------------------------------------------------------------------------------------


def test_biases_and_normalisation_layers_do_not_decay():
    model = tiny_model()
    decayed, undecayed = decay_groups(model, Recipe(weight_decay=0.1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(names[id(p)].endswith("weight") and "LayerNorm" not in names[id(p)] for p in decayed["params"])
    assert all(names[id(p)].endswith("bias") or "LayerNorm" in names[id(p)] for p in undecayed["params"])
    assert len(decayed["params"]) + len(undecayed["params"]) == len(names)
    assert (decayed["weight_decay"], undecayed["weight_decay"]) == (0.1, 0.0)


def test_every_parameter_decays_if_the_recipe_says_so():
    recipe = Recipe(weight_decay=0.1, weight_decay_on="all", learning_rate=0.5)
    model = tiny_model()
    optimizer = create_optimizer(model, recipe, CPU)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, before[name] * (1 - 0.5 * 0.1)), name


def test_normalisation_layer_is_recognised_by_its_type():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.RMSNorm(4)
            self.project = nn.Linear(4, 4)

    model = Model()
    decayed, undecayed = decay_groups(model, Recipe(weight_decay=0.1))
    assert [p is model.project.weight for p in decayed["params"]] == [True]
    assert len(undecayed["params"]) == 2


@pytest.mark.parametrize("beta1, expected", [(None, 0.9), (0.0, 0.0), (0.8, 0.8)])
def test_first_moment_decays_at_its_rate(beta1, expected):
    run = training(adam_beta1=beta1, max_grad_norm=None)
    gradients = []
    run.model.classifier.bias.register_post_accumulate_grad_hook(lambda bias: gradients.append(bias.grad.clone()))
    steps = training_steps(run, seed=0)
    next(steps), next(steps)
    moment = run.optimizer.state[run.model.classifier.bias]["exp_avg"]
    assert torch.allclose(moment, (1 - expected) * (expected * gradients[0] + gradients[1]), rtol=1e-4)


def test_optimizer_has_no_frozen_parameters():
    model = tiny_model()
    model.classifier.bias.requires_grad_(False)
    optimized = [p for group in decay_groups(model, Recipe()) for p in group["params"]]
    assert all(p is not model.classifier.bias for p in optimized)


def test_muon_trains_hidden_matrices_and_adamw_everything_else():
    model = tiny_model()
    vocabulary.narrow(model, [ROWS])
    muon, adamw = create_optimizer(model, Recipe(optimizer="muon", layer_decay=0.5), CPU).parts
    matrices = named(model, (p for group in muon.param_groups for p in group["params"]))
    others = named(model, (p for group in adamw.param_groups for p in group["params"]))
    assert matrices == {
        name
        for name, parameter in model.named_parameters()
        if name.startswith(("bert.encoder", "bert.pooler")) and parameter.ndim == 2
    }
    assert others == {name for name, _ in model.named_parameters()} - matrices
    assert len(hidden_matrices(model)) == len(matrices)


def test_muon_without_a_hidden_matrix_is_refused():
    model = tiny_model()
    freeze_lowest(model, 2, ROWS)
    model.bert.pooler.requires_grad_(False)
    with pytest.raises(UserError, match="--optimizer muon"):
        create_optimizer(model, Recipe(optimizer="muon"), CPU)


# -- steps -------------------------------------------------------------------------------------------------------------


def reference(model, optimizer):
    """torch's optimizers for the same groups, made by hand."""
    decayed, undecayed = decay_groups(model, Recipe(weight_decay=0.1))
    if optimizer == "sgd":
        return [torch.optim.SGD([decayed, undecayed], momentum=0.9)]
    if optimizer == "adafactor":
        return [torch.optim.Adafactor([decayed, undecayed])]
    if optimizer == "adamw":
        return [torch.optim.AdamW([decayed, undecayed], fused=True)]
    hidden = [p for p in decayed["params"] if id(p) in hidden_matrices(model)]
    rest = [p for p in decayed["params"] if id(p) not in hidden_matrices(model)]
    muon = torch.optim.Muon(hidden, weight_decay=0.1, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW([{"params": rest, "weight_decay": 0.1}, undecayed], fused=True)]


@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "bertadam"])
def test_steps_are_those_of_torch(optimizer):
    run, theirs = training(optimizer=optimizer), tiny_model()
    parts, learning_rates = reference(theirs, optimizer), []
    inner, own = run.optimizer.optimizer, dict(theirs.named_parameters())
    step = inner.step

    def both(*args):  # the gradients of the harness drive the reference, too
        for name, parameter in run.model.named_parameters():
            own[name].grad = None if parameter.grad is None else parameter.grad.clone()
        for part in parts:
            part.grad_scale = getattr(inner, "grad_scale", None)  # clips within the step of a fused optimizer
            for group in part.param_groups:
                group["lr"] = inner.param_groups[-1]["lr"]
            part.step()
        learning_rates.append(inner.param_groups[-1]["lr"])
        return step(*args)

    inner.step = both
    list(training_steps(run, seed=0))
    assert len(set(learning_rates)) == run.plan.total_steps == 5
    for name, parameter in run.model.named_parameters():
        assert torch.equal(parameter, own[name]), name


def test_bertadam_is_adamw_without_bias_correction():
    """torch's AdamW divides by 1 - beta1^t and sqrt(1 - beta2^t); rate, epsilon and decay make up for both here."""
    torch.manual_seed(0)
    weights = [torch.randn(4, 3), torch.randn(3), torch.randn(2)]
    own, theirs = ([weight.clone().requires_grad_() for weight in weights] for _ in range(2))
    groups = ({"params": parameters, "weight_decay": 0.1} for parameters in (own, theirs))
    bertadam = BertAdam([next(groups)], 1e-2, (0.8, 0.99), 1e-3)
    adamw = torch.optim.AdamW([next(groups)], betas=(0.8, 0.99))
    for step in range(1, 31):
        rate, mean, scale = 1e-2 / step, 1 - 0.8**step, math.sqrt(1 - 0.99**step)
        bertadam.param_groups[0]["lr"] = rate
        adamw.param_groups[0].update(lr=rate * mean / scale, eps=1e-3 / scale, weight_decay=0.1 * scale / mean)
        for first, second in zip(own[:2], theirs[:2], strict=True):  # the third has no gradient
            first.grad = torch.randn_like(first)
            second.grad = first.grad.clone()
        bertadam.step()
        adamw.step()
    for first, second, start in zip(own, theirs, weights, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
        assert torch.equal(first, start) == (start is weights[2])


@pytest.mark.parametrize(
    "optimizer, rate, epochs",
    [("adamw", 3e-3, 12), ("bertadam", 1e-3, 12), ("adafactor", 0.1, 12), ("sgd", 0.1, 16), ("muon", 0.02, 12)],
)
def test_training_learns_the_rows(optimizer, rate, epochs):
    run = training(optimizer=optimizer, learning_rate=rate, epochs=epochs, weight_decay=0.0)
    steps = list(training_steps(run, seed=0))
    assert steps[-1].loss < 0.5 * steps[0].loss


@each_optimizer
@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_training_resumes_bit_for_bit_from_a_checkpoint_on_disk(optimizer, layer_decay, tmp_path):
    straight = training(tiny_model(dropout=0.5), optimizer=optimizer, layer_decay=layer_decay)
    for step in training_steps(straight, seed=1):
        if step.number == 2:
            checkpoint = Checkpoint(straight.state(), None, {"step": 2})
            save_checkpoint(straight.accelerator, tmp_path, checkpoint)
    resumed = training(tiny_model(dropout=0.5), optimizer=optimizer, layer_decay=layer_decay)
    saved = load_checkpoint(resumed.accelerator, tmp_path / "step-00000002")
    check_fit(saved, resumed)
    resumed.set_state(saved.state)
    for _ in training_steps(resumed, seed=1, after=2):
        pass
    assert resumed.weights_sha256() == straight.weights_sha256()


FORGERIES = {
    "no state": lambda state: state["state"].clear(),
    "a state of another shape": lambda state: state["state"][0].update(
        {name: torch.zeros(9) for name in state["state"][0]}
    ),
    "another group": lambda state: state["param_groups"][0].update(params=[0]),
    "the state of another optimizer": lambda state: state["state"][0].update(variance=torch.zeros(1), exp_avg_sq=None),
}


@each_optimizer
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES.keys())
def test_checkpoint_with_another_state_is_refused(optimizer, forge):
    run = training(optimizer=optimizer)
    next(training_steps(run, seed=0))
    saved = Checkpoint(copy.deepcopy(run.state()), None, {"step": 1})
    check_fit(saved, run)
    forge(saved.state.optimizer)
    with pytest.raises(UserError):
        check_fit(saved, run)


@each_optimizer
def test_count_of_steps_must_be_that_of_the_progress(optimizer):
    run = training(optimizer=optimizer)
    next(training_steps(run, seed=0))
    saved = Checkpoint(copy.deepcopy(run.state()), None, {"step": 2})
    if optimizer in ("sgd", "bertadam"):
        check_fit(saved, run)  # their state counts no steps
    else:
        with pytest.raises(UserError, match="1 steps"):
            check_fit(saved, run)


@each_optimizer
@pytest.mark.parametrize("momentum", [None, 0.0])
def test_shapes_of_the_state_are_those_after_a_step(optimizer, momentum):
    run = training(optimizer=optimizer, momentum=momentum if optimizer in ("sgd", "muon") else None)
    next(training_steps(run, seed=0))
    parameters = [parameter for group in run.optimizer.param_groups for parameter in group["params"]]
    state = [{name: tuple(t.shape) for name, t in run.optimizer.state.get(p, {}).items()} for p in parameters]
    assert state == [{name: tuple(shape) for name, shape in each.items()} for each in state_shapes(run.optimizer)]


@each_optimizer
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_leaves_the_weights_unchanged(optimizer, value):
    run = training(optimizer=optimizer)
    run.defers_finite_check = run._is_fused()  # as on a GPU
    steps = training_steps(run, seed=0)
    next(steps)
    before = run.weights()
    run.model.classifier.register_forward_hook(lambda module, inputs, output: output * value)
    with pytest.raises(Diverged, match="step 2"):
        list(steps)
    assert all(torch.equal(before[name], tensor) for name, tensor in run.weights().items())
    assert run.defers_finite_check == (optimizer == "adamw")


@each_optimizer
def test_overflow_of_fp16_is_repeated_and_counts_no_step(optimizer):
    values = dict(optimizer=optimizer, max_grad_norm=None)
    plain, skipping = (training(scaler=torch.amp.GradScaler("cpu"), **values) for _ in range(2))
    remaining = [2]

    def overflow(gradient):
        remaining[0] -= 1
        return gradient * math.inf if remaining[0] >= 0 else gradient

    skipping.model.classifier.weight.register_hook(overflow)
    undisturbed, skipped = (list(training_steps(run, seed=0)) for run in (plain, skipping))
    assert [step.number for step in undisturbed] == [1, 2, 3, 4, 5]
    assert [(step.number, step.learning_rate, step.rows) for step in skipped] == [
        (step.number, step.learning_rate, step.rows) for step in undisturbed
    ]
    assert skipping.accelerator.scaler.get_scale() == plain.accelerator.scaler.get_scale() / 4 == 2.0**14
    for name, weights in plain.weights().items():
        assert torch.allclose(weights, skipping.weights()[name], atol=1e-6), name


def test_adafactor_is_the_one_that_needs_whole_matrices():
    assert [name for name in OPTIMIZERS if not is_row_wise(Recipe(optimizer=name))] == ["adafactor"]
