"""A sweep from a file, from flags, or both; every invalid value is reported with its line or flag."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.sweeps.file import grid_values, make_sweep, read_sweep, replace_values, typed

WHOLE = """\
models:
  org/small:
    revision: v2
    recipe: {learning_rate: 1e-4}
    recipe_by_task: {rte: {epochs: 9}}
  org/large:
tasks:
  glue: {recipe: {epochs: 2}}
  mnli: {seeds: [0], recipe: {max_steps: 50}}
seeds: [0, 1, 2]
recipe: {weight_decay: 0.01}
grid: {learning_rate: [1e-5, 3e-5], global_batch_size: [16]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


def test_every_key_of_a_file_is_read(file: Callable[[str], Path]) -> None:
    sweep = read_sweep(file(WHOLE))
    assert list(sweep.tasks) == ["glue", "mnli"]
    assert sweep.tasks["mnli"].seeds == (0,)
    assert sweep.models["org/small"].recipe_by_task == {"rte": {"epochs": 9}}
    assert sweep.models["org/large"].recipe == {}
    assert sweep.seeds == (0, 1, 2)
    assert sweep.grid == {"learning_rate": [1e-5, 3e-5], "global_batch_size": [16]}


def test_command_line_overrides_the_file_but_keeps_its_settings(file: Callable[[str], Path]) -> None:
    sweep = replace_values(read_sweep(file(WHOLE)), {"tasks": ["mnli", "rte"], "models": ["org/small"], "seeds": [7]})
    assert list(sweep.tasks) == ["mnli", "rte"]
    assert sweep.tasks["mnli"].recipe == {"max_steps": 50}
    assert sweep.tasks["mnli"].seeds is None, "the flag's seeds are for all tasks"
    assert list(sweep.models) == ["org/small"]
    assert sweep.models["org/small"].revision == "v2"
    assert sweep.seeds == (7,)


@pytest.mark.parametrize(("value", "sizes"), [("[100, 300, null]", (100, 300, None)), ("50", (50,))])
def test_sizes_of_the_training_data_are_read(file: Callable[[str], Path], value: str, sizes: tuple[int | None]) -> None:
    sweep = read_sweep(file(f"tasks: [rte]\ntrain_rows: {value}\n"))
    assert sweep.train_rows == sizes
    assert replace_values(sweep, {"train_rows": ["7", "None"]}).train_rows == (7, None)


def test_names_may_be_a_list(file: Callable[[str], Path]) -> None:
    sweep = read_sweep(file("tasks: [rte, cola]\nmodels: [a/b]\n"))
    assert (list(sweep.tasks), list(sweep.models), sweep.seeds) == (["rte", "cola"], ["a/b"], (42,))


@pytest.mark.parametrize(
    "text, message",
    [
        ("tasks: [rte]\nmodel: a/b\n", r"mine\.yaml:2: unknown key 'model'\. Did you mean 'models'\?"),
        ("tasks:\n  rte:\n    seed: [1]\n", r"mine\.yaml:3: unknown key 'seed'\. Did you mean 'seeds'\?"),
        ("tasks: [rte]\nmodels:\n  a/b: {recpe: {}}\n", r"mine\.yaml:3: unknown key 'recpe'\. Did you mean 'recipe'\?"),
        ("tasks: [rte, rte]\n", r"mine\.yaml:1: tasks: .*'rte'"),
        ("tasks: []\n", r"mine\.yaml:1: tasks: empty"),
        ("seeds: [1]\n", r"mine\.yaml:1: .*'tasks'"),
        ("tasks: [rte]\nseeds: [0, 1, 0]\n", r"mine\.yaml:2: seeds: .*0"),
        ("tasks: [rte]\nseeds: []\n", r"mine\.yaml:2: seeds: empty"),
        ("tasks: [rte]\nseeds: true\n", r"mine\.yaml:2: seeds\.0: .*valid integer.*True"),
        ("tasks: [rte]\nseeds: [0, false]\n", r"mine\.yaml:2: seeds\.1: .*valid integer.*False"),
        ("tasks: [rte]\nexecutor:\n  max_jobs: true\n", r"mine\.yaml:3: executor\.max_jobs: expected a number"),
        ("tasks: [rte]\nseeds: [-1]\n", r"mine\.yaml:2: seeds: .*-1.* 0 to 4294967295"),
        ("tasks: [rte]\nseeds: [one]\n", r"mine\.yaml:2: seeds\.0: .*valid integer.*'one'"),
        (
            "tasks: [rte]\nrecipe:\n  epoch: 2\n",
            r"mine\.yaml:2: recipe: .*'epoch'\. .*'epochs'",
        ),
        ("tasks: [rte]\nrecipe:\n  epochs: two\n", r"mine\.yaml:2: recipe: epochs is 'two': .*valid integer"),
        ("tasks:\n  rte:\n    recipe: {epochs: 0}\n", r"mine\.yaml:3: tasks\.rte\.recipe: epochs is 0: .*equal to 1"),
        ("tasks: [rte]\ngrid: {epochs: 3}\n", r"mine\.yaml:2: grid: epochs: "),
        ("tasks: [rte]\ngrid: {epochs: []}\n", r"mine\.yaml:2: grid: epochs: "),
        ("tasks: [rte]\ngrid: {epochs: [1, 1]}\n", r"mine\.yaml:2: grid: epochs: .*1"),
        ("tasks: [rte]\ngrid: {epochs: [1, x]}\n", r"mine\.yaml:2: grid: epochs is 'x': "),
        ("tasks: [rte]\ngrid: {lr: [1]}\n", r"mine\.yaml:2: grid: .*'lr'"),
        ("tasks: [rte]\ntrain_rows: [100, 0]\n", r"mine\.yaml:2: train_rows: train_rows is 0: .*equal to 1"),
        ("tasks: [rte]\ntrain_rows: [true]\n", r"mine\.yaml:2: train_rows: train_rows is True: expected a number"),
        ("tasks: [rte]\nrecipe:\n  epochs: true\n", r"mine\.yaml:2: recipe: epochs is True: expected a number"),
        ("tasks: [rte]\ntrain_rows: [100, 100]\n", r"mine\.yaml:2: train_rows: duplicate size 100"),
        ("tasks: [rte]\ntrain_rows: [null, 100, null]\n", r"mine\.yaml:2: train_rows: duplicate size None"),
        ("tasks: [rte]\ngrid: {patience: [null, null]}\n", r"mine\.yaml:2: grid: patience: duplicate value None"),
        ("tasks: [rte]\ntrain_rows: []\n", r"mine\.yaml:2: train_rows: empty"),
        ("tasks: [{rte: {}}]\n", r"mine\.yaml:1: tasks: \{'rte': \{\}\} is not a name"),
        ("tasks: 3\n", r"mine\.yaml:1: tasks: expected a list of names.*got 3"),
        ("tasks: rte\n", r"mine\.yaml:1: tasks: expected a list of names.*got 'rte'"),
        ("tasks:\n  rte: 3\n", r"mine\.yaml:2: tasks\.rte: expected keys and values \(got 3\)$"),
        ("tasks: [rte]\nseeds: 1.5\n", r"mine\.yaml:2: seeds: expected a list \(got 1\.5\)$"),
        ("tasks: [rte]\nrecipe: [1]\n", r"mine\.yaml:2: recipe: expected keys and values$"),
        ("tasks: [rte]\nexecutor: [local]\n", r"mine\.yaml:2: executor: expected keys and values$"),
        ("tasks: [rte]\nmodels: ['']\n", r"mine\.yaml:2: models: empty name"),
        ("tasks: [rte]\nmodels:\n  a/b:\n    revision: ''\n", r"mine\.yaml:4: models\.a/b\.revision: "),
        ("- rte\n", r"mine\.yaml:1: expected keys and values"),
    ],
)
def test_invalid_file_is_an_error_with_its_line(file: Callable[[str], Path], text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_sweep(file(text))


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"tasks": ["rte", "rte"]}, "--tasks: .*'rte'"),
        ({"tasks": ["rte"], "seeds": [3, 3]}, "--seeds: .*3"),
        ({"tasks": ["rte"], "seeds": [2**32]}, "--seeds: .*4294967296"),
        ({"tasks": ["rte"], "models": ["a", "a"]}, "--models: .*'a'"),
        ({"tasks": ["rte"], "grid": {"epochs": ["1", "no"]}}, "--grid: epochs is 'no': .*valid integer"),
        ({"tasks": ["rte"], "train_rows": ["100", "few"]}, "--train-rows: train_rows is 'few': .*valid integer"),
        ({"tasks": ["rte"], "grid": {"rate": ["1"]}}, "--grid: .*'rate'"),
        ({"tasks": ["rte"], "grid": {"epoch": ["1"]}}, r"--grid: .*'epoch'\. Did you mean 'epochs'\?$"),
    ],
)
def test_invalid_flag_is_an_error_with_its_name(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_sweep(flags)


@pytest.mark.parametrize(
    "args, message",
    [
        (["learning_rate"], "--grid learning_rate: .*learning_rate=1e-5,3e-5"),
        (["learning_rate="], "--grid learning_rate=: "),
        (["epochs=1,,2"], "--grid epochs=1,,2: "),
        (["epochs=1", "epochs=2"], "--grid epochs=2: .*epochs"),
    ],
)
def test_invalid_grid_argument_is_an_error(args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        grid_values(args)


def test_command_line_values_have_the_types_of_a_file() -> None:
    assert make_sweep({"tasks": ["rte"], "grid": grid_values(["learning-rate=1e-5,3e-5", "patience=None,2"])}).grid == {
        "learning_rate": [1e-5, 3e-5],
        "patience": [None, 2],
    }
    assert (typed("epochs", "3"), typed("select", "best"), typed("max_grad_norm", "None")) == (3, "best", None)
    assert [typed("evaluate_every", text) for text in ("500", "0.1", "1.0", "None")] == [500, 0.1, None, None]
    with pytest.raises(ValueError, match=r"^evaluate_every is '1\.5': expected a whole number"):
        typed("evaluate_every", "1.5")
