"""What a sweep fetches beforehand: only what lies elsewhere, each once; and what cannot be had is told, not fatal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.requests.options import parse
from harness.sweeps.fetch import fetch, wishes_of


def test_every_data_set_and_model_is_wished_for_once() -> None:
    runs = [
        parse(["--task", task, "--model", model, "--seed", seed])
        for task in ("rte", "mnli")
        for model in ("org/a", "org/b")
        for seed in ("0", "1")
    ]
    data, models = wishes_of(runs)
    assert data == ["rte", "mnli", "ax"], "ax is predicted by the models of mnli"
    assert models == [["org/a", "main", "rte"], ["org/b", "main", "rte"]]


def test_nothing_is_wished_for_that_lies_here(make_task: Callable[..., Path], tiny_model: Path) -> None:
    runs = [parse(["--task", str(make_task()), "--model", str(tiny_model)]), parse(["--task", "rte", "--test-mode"])]
    assert wishes_of(runs) == ([], [])
    fetch(runs)


def test_what_cannot_be_had_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    """Offline, as all tests are."""
    fetch([parse(["--task", "rte", "--model", "org/none"])])
    told = capfd.readouterr().err
    assert "cannot be fetched: task rte: cannot get nyu-mll/glue" in told
    assert "cannot be fetched: --model org/none: cannot be loaded" in told
