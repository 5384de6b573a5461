"""A run that starts from another: it has the parent's weights and a new head, and its record names the parent."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.engine.models import build_model
from harness.errors import UserError
from harness.facts.records import RunRecord, RunSpec, read_record
from harness.facts.tasks import load_task
from harness.requests.identity import identify
from harness.requests.options import parse_options
from harness.requests.parents import find_parent, model_folder
from harness.run import run

SHORT = ("--test-mode", "--max-steps", "3", "--seed", "3")


def spec_of(*args: str) -> RunSpec:
    options = parse_options(["--task", *args, *SHORT])
    return identify(load_task(options.task), None, options)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, RunRecord]:
    """A results folder, a run of mnli, and a run of rte that starts from it and saves its model too."""
    results = tmp_path_factory.mktemp("family")
    parent_id = spec_of("mnli").run_id
    folder = model_folder(results / "test-mode", "mnli", parent_id)
    parent = run(parse_options(["--task", "mnli", *SHORT, "--results", str(results), "--save-model", str(folder)]))
    args = ["--task", "rte", *SHORT, "--results", str(results), "--init-from", "mnli", "--parent", parent_id]
    child = run(parse_options([*args, "--learning-rate", "1e-12", "--save-model", str(results / "child")]))
    return results, parent, child


def test_run_starts_from_the_parents_weights_with_a_new_head(
    family: tuple[Path, RunRecord, RunRecord], tmp_path: Path
) -> None:
    results, parent, child = family
    before = load_file(model_folder(results / "test-mode", "mnli", parent.run_id) / "model.safetensors")
    after = load_file(results / "child" / "model.safetensors")
    body = [name for name in after if not name.startswith("classifier")]
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in body)
    assert after["classifier.weight"].shape != before["classifier.weight"].shape
    assert child.model is not None
    assert child.model.head == "new"
    from harness.engine.test_mode import write_model

    write_model(tmp_path)
    fresh = build_model(str(tmp_path), "sha256:0", load_task("rte"), 3).model.state_dict()
    assert not all(torch.allclose(after[name], fresh[name], atol=1e-6) for name in body), "not from the tiny model"


def test_record_names_the_parent(family: tuple[Path, RunRecord, RunRecord]) -> None:
    _, parent, child = family
    assert child.spec.parent == parent.run_id
    assert child.parent_group_key == parent.spec.group_key(None)
    assert child.recipe_changes["init_from"] == "mnli"
    assert parent.spec.parent is None


def test_finished_run_is_found_without_its_parent(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, parent, child = family
    folder = model_folder(results / "test-mode", "mnli", parent.run_id)
    folder.rename(folder.with_name("away"))
    try:
        args = ["--task", "rte", *SHORT, "--results", str(results), "--init-from", "mnli", "--parent", parent.run_id]
        assert run(parse_options([*args, "--learning-rate", "1e-12"])).finished == child.finished
    finally:
        folder.with_name("away").rename(folder)


def test_damaged_weights_of_the_parent_are_an_error(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, parent, child = family
    path = model_folder(results / "test-mode", "mnli", parent.run_id) / "model.safetensors"
    content = path.read_bytes()
    options = parse_options(["--task", "rte", *SHORT, "--results", str(results), "--init-from", "mnli"])
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UserError, match="invalid checksum"):
            find_parent(load_task("rte"), child.spec, options)
    finally:
        path.write_bytes(content)


def test_model_of_another_run_is_an_error(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, parent, child = family
    folder = model_folder(results / "test-mode", "mnli", parent.run_id)
    other = folder.with_name("tiny-bert-seed3-0123456789")
    folder.rename(other)
    options = parse_options(["--task", "rte", *SHORT, "--results", str(results), "--init-from", "mnli"])
    spec = child.spec.model_copy(update={"parent": other.name})
    try:
        with pytest.raises(UserError, match=f"{other}: .*{parent.run_id}"):
            find_parent(load_task("rte"), spec, options)
    finally:
        other.rename(folder)


# -- without training --------------------------------------------------------------------------------------------------


def test_missing_parent_is_an_error_with_the_command_that_trains_it(tmp_path: Path) -> None:
    args = ["--task", "rte", "--model", "a/b", "--revision", "v1", "--seed", "3", "--results", str(tmp_path)]
    options = parse_options([*args, "--init-from", "mnli"])
    spec = identify(load_task("rte"), None, options)
    with pytest.raises(UserError, match="`harness sweep`") as error:
        find_parent(load_task("rte"), spec, options)
    command = shlex.split(str(error.value).splitlines()[-1])
    assert command[:2] == ["harness", "run"]
    parent = parse_options(command[2:])
    assert identify(load_task("mnli"), None, parent).run_id == spec.parent
    assert parent.save_model == model_folder(tmp_path, "mnli", str(spec.parent))


def test_finished_parent_without_saved_weights_needs_overwrite(tmp_path: Path) -> None:
    options = parse_options(["--task", "rte", *SHORT, "--results", str(tmp_path), "--init-from", "mnli"])
    spec = identify(load_task("rte"), None, options)
    record = tmp_path / "test-mode" / "runs" / "mnli" / f"{spec.parent}.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    with pytest.raises(UserError, match=r"\n.*--overwrite"):
        find_parent(load_task("rte"), spec, options)


def test_run_without_init_from_has_no_parent(tmp_path: Path) -> None:
    options = parse_options(["--task", "rte", "--results", str(tmp_path)])
    spec = identify(load_task("rte"), None, options)
    assert spec.parent is None
    assert find_parent(load_task("rte"), spec, options) is None


def test_parent_is_the_run_with_the_tasks_own_recipe_by_default() -> None:
    own = identify(load_task("mnli"), None, parse_options(["--task", "mnli", "--test-mode", "--seed", "3"])).run_id
    assert spec_of("rte", "--init-from", "mnli").parent == own
    named = spec_of("rte", "--init-from", "mnli", "--parent", "some-run")
    assert named.parent == "some-run"
    assert named.run_id != spec_of("rte", "--init-from", "mnli").run_id != spec_of("rte").run_id


def test_group_key_is_shared_by_seeds_only() -> None:
    first, second = (spec_of("rte", "--init-from", "mnli").model_copy(update={"seed": seed}) for seed in (1, 2))
    assert first.run_id != second.run_id
    assert first.group_key("the same") == second.group_key("the same") != first.group_key("another")
    assert spec_of("rte", "--epochs", "2").group_key(None) != spec_of("rte").group_key(None)


@pytest.mark.parametrize(
    "args, message",
    [
        (["--init-from", "mnlii"], r"--init-from mnlii: task not found\. Did you mean 'mnli'\?"),
        (["--init-from", "rte"], "--init-from rte: "),
        (["--init-from", "ax"], "--init-from ax: .*--init-from mnli"),
        (["--parent", "some-run"], "--parent some-run: --init-from"),
    ],
)
def test_unsuitable_parent_task_is_an_error(args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        spec_of("rte", *args)


def test_circular_parents_are_an_error(make_task: Callable[..., Path]) -> None:
    task = make_task(recipe={"init_from": "rte"})
    options = parse_options(["--task", "rte", "--init-from", str(task), "--test-mode"])
    with pytest.raises(UserError, match=r"--init-from .*circular.* rte"):
        identify(load_task("rte"), None, options)


def test_a_circle_of_three_parents_is_an_error(make_task: Callable[..., Path], tmp_path: Path) -> None:
    for name, parent in (("a", "b"), ("b", "c"), ("c", "a")):
        make_task(name=name, recipe={"init_from": str(tmp_path / f"{parent}.yaml")})
    options = parse_options(["--task", "rte", "--init-from", str(tmp_path / "a.yaml"), "--test-mode"])
    with pytest.raises(UserError, match=r"--init-from .*circular.* c .* a by default"):
        identify(load_task("rte"), None, options)


def test_record_is_read_as_it_was_written(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, _, child = family
    (path,) = (results / "test-mode" / "runs" / "rte").glob("*.json")
    assert read_record(path) == child
