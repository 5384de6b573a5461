"""Downloads before a sweep: each data set and model once, none that is local; a failure is reported and not fatal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.requests.options import parse_options
from harness.sweeps.fetch import downloads_of, fetch


def test_every_data_set_and_model_is_downloaded_once() -> None:
    runs = [
        parse_options(["--task", task, "--model", model, "--seed", seed])
        for task in ("rte", "mnli")
        for model in ("org/a", "org/b")
        for seed in ("0", "1")
    ]
    data, models = downloads_of(runs)
    assert data == ["rte", "mnli", "ax"], "ax is predicted by the models of mnli"
    assert models == [("org/a", "main", False, "rte"), ("org/b", "main", False, "rte")]


def test_local_data_and_models_are_not_downloaded(make_task: Callable[..., Path], tiny_model: Path) -> None:
    runs = [
        parse_options(["--task", str(make_task()), "--model", str(tiny_model)]),
        parse_options(["--task", "rte", "--test-mode"]),
    ]
    assert downloads_of(runs) == ([], [])
    fetch(runs)


def test_failed_download_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """Offline, as all tests are."""
    fetch([parse_options(["--task", "rte", "--model", "org/none"])])
    output = capfd.readouterr().err
    assert "nyu-mll/glue" in output
    assert "--model org/none" in output
