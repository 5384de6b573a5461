"""The optimizers that a recipe can choose, with the groups of their parameters and the form of their state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from harness.engine.layers import rate_factors
from harness.errors import UserError
from harness.facts.recipes import Recipe

DEFAULT_BETA1 = 0.9

DEFAULT_MOMENTUM = {"sgd": 0.9, "muon": 0.95}

Groups = list[dict[str, Any]]


def create_optimizer(model: PreTrainedModel, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """Returns the recipe's optimizer for the parameters that are trained; AdamW is fused on CPU and CUDA.

    Raises:
        UserError: the recipe has a rate for each layer, and the model's layers are not found, or it has Muon, and no
            hidden matrix is trained.
    """
    groups = _rate_groups(decay_groups(model, recipe), rate_factors(model, recipe))
    rate, momentum = recipe.learning_rate, _momentum(recipe)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, rate, momentum)
    if recipe.optimizer == "adafactor":
        return torch.optim.Adafactor(groups, rate)
    if recipe.optimizer == "bertadam":
        return BertAdam(groups, rate, _betas(recipe), recipe.adam_epsilon)
    if recipe.optimizer in (None, "adamw"):
        return _adamw(groups, recipe, device)
    assert recipe.optimizer == "muon", recipe.optimizer
    hidden = hidden_matrices(model)
    hidden_groups, other_groups = _part(groups, hidden, True), _part(groups, hidden, False)
    if not hidden_groups:
        raise UserError(f"--optimizer muon: {type(model).__name__} has no hidden matrix that is trained. Choose adamw.")
    muon = torch.optim.Muon(hidden_groups, rate, momentum=momentum, adjust_lr_fn="match_rms_adamw")
    return MuonWithAdamW(muon, _adamw(other_groups, recipe, device))


class BertAdam(torch.optim.Optimizer):
    """AdamW without bias correction, as in the code of BERT, ELECTRA and DeBERTa.

    m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; w ← w − η (m / (√v + ε) + λ w). Both moments start at 0. Without a
    correction v is too small for longer than m, so that the first thousand steps are longer than AdamW's: 6.5 times in
    step 10, 3.2 times in step 100, 1.3 times in step 1,000.
    """

    def __init__(self, groups: Groups, rate: float, betas: tuple[float, float], epsilon: float) -> None:
        super().__init__(groups, dict(lr=rate, betas=betas, eps=epsilon))

    @torch.no_grad()
    def step(self, _closure: None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            weights = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {name: torch.zeros_like(weight) for name in ("exp_avg", "exp_avg_sq")}
            gradients = [weight.grad for weight in weights]
            means, squares = ([self.state[w][name] for w in weights] for name in ("exp_avg", "exp_avg_sq"))
            (beta1, beta2), rate = group["betas"], group["lr"]
            torch._foreach_lerp_(means, gradients, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
            scales = torch._foreach_sqrt(squares)
            torch._foreach_add_(scales, group["eps"])
            torch._foreach_mul_(weights, 1 - rate * group["weight_decay"])
            torch._foreach_addcdiv_(weights, means, scales, -rate)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for hidden matrices and AdamW for all other parameters, as one optimizer with one state."""

    def __init__(self, muon: torch.optim.Muon, adamw: torch.optim.AdamW) -> None:
        self.parts = (muon, adamw)
        super().__init__([*muon.param_groups, *adamw.param_groups], {})
        self._share()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what `state_dict` returned, in both parts."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, _closure: None = None) -> None:  # type: ignore[override]
        """Lets both parts take their step."""
        for part in self.parts:
            part.step()

    def _share(self) -> None:
        """Gives both parts the groups and the state of the whole, whose parameters differ."""
        muon, adamw = self.parts
        count = len(muon.param_groups)
        muon.param_groups, adamw.param_groups = self.param_groups[:count], self.param_groups[count:]
        muon.state = adamw.state = self.state


def hidden_matrices(model: PreTrainedModel) -> set[int]:
    """Returns the `id` of each matrix of the encoder but embeddings, normalisation layers and biases."""
    return {
        id(parameter)
        for module in model.base_model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 2 and not name.endswith("bias")
        if not any(kind in type(module).__name__.lower() for kind in ("embedding", "norm"))
    }


def decay_groups(model: nn.Module, recipe: Recipe) -> Groups:
    """Returns two groups of parameters: those that always decay, then biases and normalisation layers.

    A normalisation layer is recognised by its type; its name differs between models (transformers #16908).
    """
    biases_and_norms = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("bias") or "norm" in type(module).__name__.lower()
    }
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    their_decay = recipe.weight_decay if recipe.weight_decay_on == "all" else 0.0
    return [
        {"params": [p for p in trained if id(p) not in biases_and_norms], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if id(p) in biases_and_norms], "weight_decay": their_decay},
    ]


def is_row_wise(recipe: Recipe) -> bool:
    """Tells whether a row of a matrix changes in the same way whichever other rows the matrix has."""
    return recipe.optimizer != "adafactor"  # it scales each update by means over the whole matrix


def decay_factor(recipe: Recipe, rates: Iterable[float]) -> float:
    """Returns the factor of an embedding after a step of each rate, in which it had no gradient and only decayed."""
    if recipe.optimizer != "sgd":
        return math.prod(1 - rate * recipe.weight_decay for rate in rates)
    weight, velocity, momentum = 1.0, 0.0, _momentum(recipe)
    for rate in rates:  # the decay of SGD is part of its gradient
        velocity = momentum * velocity + recipe.weight_decay * weight
        weight -= rate * velocity
    return weight


def state_shapes(optimizer: torch.optim.Optimizer) -> list[dict[str, tuple[int, ...]]]:
    """Returns the shapes of the state that each parameter has after its first step, in the order of the groups."""
    return [_state_shapes(group, parameter.shape) for group in optimizer.param_groups for parameter in group["params"]]


def _state_shapes(group: dict[str, Any], shape: torch.Size) -> dict[str, tuple[int, ...]]:
    if "betas" in group:
        moments: dict[str, tuple[int, ...]] = {"exp_avg": shape, "exp_avg_sq": shape}
        return {"step": (), **moments} if "amsgrad" in group else moments  # BertAdam counts no steps
    if "momentum" in group:  # Muon keeps its buffer without a momentum, too
        return {"momentum_buffer": shape} if group["momentum"] or "ns_steps" in group else {}
    if len(shape) < 2:
        return {"step": (), "variance": shape}
    return {"step": (), "row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}


def _adamw(groups: Groups, recipe: Recipe, device: torch.device) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        groups,
        lr=recipe.learning_rate,
        betas=_betas(recipe),
        eps=recipe.adam_epsilon,
        fused=device.type in ("cpu", "cuda"),
    )


def _betas(recipe: Recipe) -> tuple[float, float]:
    return DEFAULT_BETA1 if recipe.adam_beta1 is None else recipe.adam_beta1, recipe.adam_beta2


def _momentum(recipe: Recipe) -> float:
    return DEFAULT_MOMENTUM.get(recipe.optimizer or "", 0.0) if recipe.momentum is None else recipe.momentum


def _part(groups: Groups, chosen: set[int], is_chosen: bool) -> Groups:
    """Returns the groups with only the chosen parameters, or only the others; none of them is empty."""
    parts = [{**group, "params": [p for p in group["params"] if (id(p) in chosen) == is_chosen]} for group in groups]
    return [part for part in parts if part["params"]]


def _rate_groups(groups: Groups, factors: dict[int, float]) -> Groups:
    """Returns the groups split by the factor of the learning rate; the same groups without factors."""
    if not factors:
        return groups
    split = []
    for group in groups:
        by_factor: dict[float, list[nn.Parameter]] = {}
        for parameter in group["params"]:
            by_factor.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        split += [{**group, "params": params, "rate_factor": factor} for factor, params in by_factor.items()]
    return split
