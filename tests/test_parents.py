"""A run that starts from another: its weights are that one's, its head is new, and the record says whose they are."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.engine.models import build
from harness.errors import UserError
from harness.facts.records import RunRecord, RunSpec, read_record
from harness.facts.tasks import load_task
from harness.requests.identity import identify
from harness.requests.options import parse
from harness.requests.parents import find_parent, model_folder
from harness.run import run

HARDLY = ("--test-mode", "--max-steps", "3", "--seed", "3")


def spec_of(*words: str) -> RunSpec:
    options = parse(["--task", *words, *HARDLY])
    return identify(load_task(options.task), None, options)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord, RunRecord]:
    """A results folder, a run of mnli, and one of rte that starts from it and keeps its model too."""
    results = tmp_path_factory.mktemp("family")
    parent_id = spec_of("mnli").run_id
    kept = model_folder(results / "test-mode", "mnli", parent_id)
    parent = run(parse(["--task", "mnli", *HARDLY, "--results", str(results), "--save-model", str(kept)]))
    words = ["--task", "rte", *HARDLY, "--results", str(results), "--init-from", "mnli", "--parent", parent_id]
    child = run(parse([*words, "--learning-rate", "1e-12", "--save-model", str(results / "child")]))
    return results, parent, child


def test_it_starts_from_the_weights_of_the_other_with_a_new_head(
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
    fresh = build(str(tmp_path), "sha256:0", load_task("rte"), 3).model.state_dict()
    assert not all(torch.allclose(after[name], fresh[name], atol=1e-6) for name in body), "not from the tiny model"


def test_record_names_the_other(family: tuple[Path, RunRecord, RunRecord]) -> None:
    _, parent, child = family
    assert child.spec.parent == parent.run_id
    assert child.parent_group_key == parent.spec.group_key(None)
    assert child.recipe_changes["init_from"] == "mnli"
    assert parent.spec.parent is None


def test_finished_run_is_found_though_the_other_is_gone(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, parent, child = family
    folder = model_folder(results / "test-mode", "mnli", parent.run_id)
    folder.rename(folder.with_name("away"))
    try:
        words = ["--task", "rte", *HARDLY, "--results", str(results), "--init-from", "mnli", "--parent", parent.run_id]
        assert run(parse([*words, "--learning-rate", "1e-12"])).finished == child.finished
    finally:
        folder.with_name("away").rename(folder)


def test_damaged_weights_are_told(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, parent, child = family
    path = model_folder(results / "test-mode", "mnli", parent.run_id) / "model.safetensors"
    whole = path.read_bytes()
    options = parse(["--task", "rte", *HARDLY, "--results", str(results), "--init-from", "mnli"])
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(UserError, match="these are not the weights that the run saved"):
            find_parent(load_task("rte"), child.spec, options)
    finally:
        path.write_bytes(whole)


def test_model_of_another_run_is_told(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, parent, child = family
    folder = model_folder(results / "test-mode", "mnli", parent.run_id)
    other = folder.with_name("tiny-bert-seed3-0123456789")
    folder.rename(other)
    options = parse(["--task", "rte", *HARDLY, "--results", str(results), "--init-from", "mnli"])
    spec = child.spec.model_copy(update={"parent": other.name})
    try:
        with pytest.raises(UserError, match=f"holds the model of another run, {parent.run_id}"):
            find_parent(load_task("rte"), spec, options)
    finally:
        other.rename(folder)


# -- without training --------------------------------------------------------------------------------------------------


def test_without_the_other_the_command_that_makes_it_is_told(tmp_path: Path) -> None:
    words = ["--task", "rte", "--model", "a/b", "--revision", "v1", "--seed", "3", "--results", str(tmp_path)]
    options = parse([*words, "--init-from", "mnli"])
    spec = identify(load_task("rte"), None, options)
    with pytest.raises(UserError, match=r"is not there yet.*`harness sweep`") as told:
        find_parent(load_task("rte"), spec, options)
    command = shlex.split(str(told.value).splitlines()[-1])
    assert command[:2] == ["harness", "run"]
    made = parse(command[2:])
    assert identify(load_task("mnli"), None, made).run_id == spec.parent
    assert made.save_model == model_folder(tmp_path, "mnli", str(spec.parent))


def test_finished_run_whose_weights_were_not_kept_is_to_be_overwritten(tmp_path: Path) -> None:
    options = parse(["--task", "rte", *HARDLY, "--results", str(tmp_path), "--init-from", "mnli"])
    spec = identify(load_task("rte"), None, options)
    record = tmp_path / "test-mode" / "runs" / "mnli" / f"{spec.parent}.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    with pytest.raises(UserError, match=r"its weights were not kept(.|\n)*--overwrite"):
        find_parent(load_task("rte"), spec, options)


def test_run_that_starts_from_none_has_no_parent(tmp_path: Path) -> None:
    options = parse(["--task", "rte", "--results", str(tmp_path)])
    spec = identify(load_task("rte"), None, options)
    assert spec.parent is None
    assert find_parent(load_task("rte"), spec, options) is None


def test_parent_is_the_run_with_the_tasks_own_recipe_unless_it_is_named() -> None:
    own = identify(load_task("mnli"), None, parse(["--task", "mnli", "--test-mode", "--seed", "3"])).run_id
    assert spec_of("rte", "--init-from", "mnli").parent == own
    named = spec_of("rte", "--init-from", "mnli", "--parent", "some-run")
    assert named.parent == "some-run"
    assert named.run_id != spec_of("rte", "--init-from", "mnli").run_id != spec_of("rte").run_id


def test_like_is_equal_for_other_seeds_and_no_other_recipe() -> None:
    first, second = (spec_of("rte", "--init-from", "mnli").model_copy(update={"seed": seed}) for seed in (1, 2))
    assert first.run_id != second.run_id
    assert first.group_key("the same") == second.group_key("the same") != first.group_key("another")
    assert spec_of("rte", "--epochs", "2").group_key(None) != spec_of("rte").group_key(None)


@pytest.mark.parametrize(
    "words, told",
    [
        (["--init-from", "mnlii"], r"--init-from mnlii: there is no task of that name\. Did you mean 'mnli'\?"),
        (["--init-from", "rte"], "--init-from rte: that is the task itself"),
        (["--init-from", "ax"], "--init-from ax: it is not trained itself; name mnli"),
        (["--parent", "some-run"], "--parent some-run: say with --init-from"),
    ],
)
def test_task_that_cannot_be_started_from_is_told(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        spec_of("rte", *words)


def test_tasks_that_start_from_each_other_are_told(make_task: Callable[..., Path]) -> None:
    task = make_task(recipe={"init_from": "rte"})
    options = parse(["--task", "rte", "--init-from", str(task), "--test-mode"])
    with pytest.raises(UserError, match="that task starts from rte by its own recipe"):
        identify(load_task("rte"), None, options)


def test_record_can_be_read_again(family: tuple[Path, RunRecord, RunRecord]) -> None:
    results, _, child = family
    (path,) = (results / "test-mode" / "runs" / "rte").glob("*.json")
    assert read_record(path) == child
