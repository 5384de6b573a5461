"""`harness selfcheck`: a number that is none fails it. Whole self-checks are in `two_ranks`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from harness.commands import selfcheck


@pytest.mark.parametrize("check", [selfcheck.check_weights_after_sgd, selfcheck.check_steps_match_plain_loop])
def test_weights_that_are_not_numbers_fail(
    check: Callable[[Accelerator], selfcheck.Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    train = selfcheck._train

    def train_and_break(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        model, steps = train(*args, **kwargs)
        with torch.no_grad():
            model.classifier.bias.fill_(math.nan)
        return model, steps

    monkeypatch.setattr(selfcheck, "SIZES", (7,))
    assert check(Accelerator(cpu=True)).passed
    monkeypatch.setattr(selfcheck, "_train", train_and_break)
    assert check(Accelerator(cpu=True)).passed is False
