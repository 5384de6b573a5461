"""Preparation: hyperparameters that a launch cannot have are refused before the rows are read."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import UserError
from harness.facts.recipes import Recipe
from harness.requests.preparation import _check_sharding


@pytest.mark.parametrize(
    "name, value",
    [
        ("adapter", "lora"),
        ("freeze", 2),
        ("label_scaling", "unit"),
        ("optimizer", "bertadam"),
        ("optimizer", "muon"),
    ],
)
def test_sharded_weights_exclude_what_needs_them_whole(name: str, value: Any) -> None:
    flag = f"--{name.replace('_', '-')}"
    _check_sharding(Recipe(optimizer="adamw"))
    with pytest.raises(UserError, match=rf"{flag} {value}: .* {flag} None"):
        _check_sharding(Recipe.model_validate({name: value}))
