"""Downloads before a sweep: each data set and model once, none that is local; a failure is reported and not fatal."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from harness.commands.sweep import read_options
from harness.requests.options import parse_options
from harness.sweeps.fetch import downloads_of, fetch
from harness.sweeps.plan import expand


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


def test_files_are_hashed_once_for_all_runs_of_a_sweep(
    make_task: Callable[..., Path], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of gigabytes take seconds."""
    model = shutil.copytree(tiny_model, tmp_path / "model")
    task, hashed, digest = make_task(), Counter[str](), hashlib.file_digest

    def count(file: BinaryIO, name: str) -> Any:
        hashed[file.name] += 1
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    for path in tmp_path.rglob("*"):
        os.utime(path, (1, 1))
    args = ["--tasks", str(task), "--models", str(model), "--seeds", "0", "1"]
    _, request = read_options(args)
    runs = expand(request, lambda task, model: [{"epochs": 1}, {"epochs": 2}])
    downloads_of([run.options for run in runs])
    assert str(model / "config.json") in hashed
    assert set(hashed.values()) == {1}
    (model / "config.json").write_text(f"{(model / 'config.json').read_text()} ")
    assert expand(request)[0].spec.revision != runs[0].spec.revision


def test_failed_download_is_reported(capfd: pytest.CaptureFixture[str]) -> None:
    """Offline, as all tests are."""
    fetch([parse_options(["--task", "rte", "--model", "org/none"])])
    output = capfd.readouterr().err
    assert "nyu-mll/glue" in output
    assert "--model org/none" in output
