"""The command line of a run: every hyperparameter has a flag, help shows what holds, and a mistake ends with code 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import COMMANDS, main
from harness.errors import UserError
from harness.facts.recipes import Recipe, resolve
from harness.facts.tasks import load_task
from harness.requests.options import RunOptions, parse

RECIPE_FLAGS = {
    "--adam-beta2",
    "--adam-epsilon",
    "--class-weights",
    "--epochs",
    "--global-batch-size",
    "--init-from",
    "--learning-rate",
    "--max-grad-norm",
    "--max-length",
    "--max-steps",
    "--no-length-grouping",
    "--patience",
    "--protocol",
    "--schedule",
    "--select",
    "--threshold",
    "--train-rows",
    "--warmup",
    "--weight-decay",
}

OWN_DATA_FLAGS = {
    "--dataset",
    "--delimiter",
    "--encoding",
    "--problem-type",
    "--label-column",
    "--label-separator",
    "--name",
    "--pair-column",
    "--test-file",
    "--test-percent",
    "--text-columns",
    "--train-file",
    "--validation-file",
    "--validation-percent",
}

FLAGS = {
    "run": RECIPE_FLAGS
    | OWN_DATA_FLAGS
    | {
        "--checkpoint-every",
        "--compile",
        "--data",
        "--deterministic",
        "--device-batch-size",
        "--eval-batch-size",
        "--model",
        "--overwrite",
        "--parent",
        "--precision",
        "--push-to-hub",
        "--results",
        "--revision",
        "--save-model",
        "--seed",
        "--task",
        "--test-mode",
        "--tracker",
    },
    "sweep": {
        "--devices-per-run",
        "--dry-run",
        "--grid",
        "--grid-per",
        "--jobs",
        "--models",
        "--results",
        "--retry-failed",
        "--seeds",
        "--select-on-reported",
        "--tasks",
        "--test-mode",
    },
    "evaluate": {
        "--cpu",
        "--data",
        "--device-batch-size",
        "--gold",
        "--only",
        "--out",
        "--overwrite",
        "--precision",
        "--split",
        "--task",
        "--worst",
    },
    "submit": {"--allow-missing", "--model", "--out", "--overwrite", "--results", "--run", "--seed"},
    "predict": {
        "--cpu",
        "--delimiter",
        "--device-batch-size",
        "--encoding",
        "--file",
        "--out",
        "--overwrite",
        "--pair",
        "--pair-column",
        "--precision",
        "--text",
        "--text-column",
    },
    "describe": OWN_DATA_FLAGS
    | {"--data", "--max-length", "--model", "--out", "--overwrite", "--revision", "--task", "--test-mode"},
    "tasks": OWN_DATA_FLAGS | {"--check", "--names", "--new"},
    "selfcheck": {"--cpu"},
    "leaderboard": {"--results", "--strict", "--compare"},
    "export": {
        "--format",
        "--model",
        "--name",
        "--organization",
        "--output",
        "--recipe",
        "--relationship",
        "--results",
        "--task",
    },
}
"""The whole command line. A change of it is a change for everybody who has it in a script: it must show here."""


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What a command prints for --help, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")

    def ask(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*words, "--help"])
        assert end.value.code == 0
        return capsys.readouterr().out

    return ask


def shown(text: str, flag: str) -> str:
    """What the help says of a flag, up to the next."""
    found = re.search(rf"{flag} .*?\(default:\s+(.*?)\)", text, re.DOTALL)
    assert found, f"{flag} is not in {text}"
    return found[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_these_flags_and_no_others(command: str, help_of: Callable[..., str]) -> None:
    flags = set(re.findall(r"^\W*(?:-h, )?(--[a-z][a-z0-9-]*)", help_of(command), re.MULTILINE))
    assert flags - {"--help"} == FLAGS[command]


def test_every_hyperparameter_has_a_flag() -> None:
    assert {_flag(name) for name in Recipe.model_fields} == RECIPE_FLAGS


def _flag(name: str) -> str:
    """What is on by default is switched off."""
    return ("--no-" if Recipe.model_fields[name].default is True else "--") + name.replace("_", "-")


@pytest.mark.parametrize("name", Recipe.model_fields)
def test_every_hyperparameter_reaches_the_recipe(name: str) -> None:
    other: dict[str, Any] = dict(
        init_from="mnli",
        schedule="cosine",
        select="best",
        protocol="holdout",
        adam_beta2=0.5,
        class_weights="balanced",
        threshold="validation",
    )
    is_switch = Recipe.model_fields[name].default is True
    value = False if is_switch else other.get(name, 7)
    select = ["--select", "best"] if name == "patience" else []
    recipe = parse(["--task", "rte", _flag(name), *([] if is_switch else [str(value)]), *select]).recipe
    assert getattr(recipe, name) == value


# -- the values that hold ----------------------------------------------------------------------------------------------


def test_help_shows_the_values_of_the_chosen_task(help_of: Callable[..., str]) -> None:
    assert shown(help_of("run"), "--epochs") == "3"
    text = help_of("run", "--task", "mrpc")
    assert shown(text, "--epochs") == "5"
    assert shown(text, "--model") == "distilbert/distilbert-base-uncased"
    assert shown(help_of("run", "--task=ttc4900"), "--model") == "dbmdz/bert-base-turkish-uncased"


def test_help_shows_the_values_of_the_chosen_model(help_of: Callable[..., str]) -> None:
    text = help_of("run", "--task", "rte", "--model", "FacebookAI/roberta-base")
    assert shown(text, "--model") == "FacebookAI/roberta-base"
    assert shown(text, "--epochs") == "10"
    assert shown(text, "--global-batch-size") == "16"
    assert shown(text, "--warmup") == "0.06"
    assert shown(text, "--max-grad-norm") == "None"


def test_help_shows_the_values_of_test_mode(help_of: Callable[..., str]) -> None:
    text = help_of("run", "--task", "mrpc", "--test-mode")
    assert shown(text, "--epochs") == "8"
    assert shown(text, "--model") == "tiny-bert"


def test_help_shows_the_values_of_an_own_task(help_of: Callable[..., str], make_task: Callable[..., Path]) -> None:
    text = help_of("run", "--task", str(make_task(recipe={"epochs": 9}, model="org/ours")))
    assert shown(text, "--epochs") == "9"
    assert shown(text, "--model") == "org/ours"


@pytest.mark.parametrize("task, model", [("mrpc", None), ("rte", "FacebookAI/roberta-base"), ("cola", "any/other")])
def test_recipe_is_resolved_when_nothing_is_given(task: str, model: str | None) -> None:
    options = parse(["--task", task, *(["--model", model] if model else [])])
    spec = load_task(task)
    assert options.recipe == resolve(options.model, task, spec.recipe)
    assert (options.task, options.seed, options.precision) == (task, 42, "auto")


def test_task_that_another_predicts_has_the_recipe_of_that_one() -> None:
    model = "answerdotai/ModernBERT-base"
    assert parse(["--task", "ax", "--model", model]).recipe == parse(["--task", "mnli", "--model", model]).recipe


def test_what_is_given_wins_and_changes_nothing_else() -> None:
    default = parse(["--task", "mrpc"]).recipe
    given = parse(["--task", "mrpc", "--epochs", "1", "--max-grad-norm", "None"]).recipe
    assert given == default.model_copy(update={"epochs": 1, "max_grad_norm": None})


def test_flags_may_be_written_with_underscores_and_equals_signs() -> None:
    plain = parse(["--task", "rte", "--global-batch-size", "8", "--test-mode"])
    assert parse(["--task=rte", "--global_batch_size=8", "--test_mode"]) == plain


def test_order_of_flags_does_not_matter() -> None:
    assert parse(["--epochs", "2", "--model", "a/b", "--task", "rte"]) == parse(
        ["--task", "rte", "--model", "a/b", "--epochs", "2"]
    )


def test_records_of_test_mode_lie_apart() -> None:
    assert RunOptions(task="rte", results=Path("here")).folder == Path("here")
    assert RunOptions(task="rte", results=Path("here"), test_mode=True).folder == Path("here/test-mode")


@pytest.mark.parametrize("every, steps, seconds", [("500", 500, float("inf")), ("1.5m", float("inf"), 90)])
def test_checkpoints_are_counted_in_updates_or_minutes(every: str, steps: float, seconds: float) -> None:
    options = parse(["--task", "rte", "--checkpoint-every", every])
    assert (options.checkpoint_steps, options.checkpoint_seconds) == (steps, seconds)


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, told",
    [
        ([], "--task STR"),
        (["--test-mode"], "--task STR"),
        (["--task"], "Missing value for argument '--task'"),
        (["--task", "rte", "--model"], "Missing value for argument '--model'"),
        (["--task", "rte", "--learning-rte", "1"], "--learning-rate"),
        (["--task", "rte", "--bogus"], "--bogus"),
        (["--task", "rte", "--epoch", "2"], "--epochs"),
        (["--task", "rte", "sst2"], "sst2"),
        (["--task", "rte", "--no-overwrite"], "--no-overwrite"),
        (["--task", "rte", "--epochs", "two"], "Error parsing --epochs: .*'two'"),
        (["--task", "rte", "--epochs", "1.5"], "Error parsing --epochs: .*'1.5'"),
        (["--task", "rte", "--seed", "x"], "Error parsing --seed"),
        (["--task", "rte", "--precision", "int8"], "invalid choice 'int8' for argument '--precision'"),
        (["--task", "rte", "--schedule", "step"], "invalid choice 'step' for argument '--schedule'"),
    ],
)
def test_command_line_that_cannot_be_read_ends_with_code_2(
    words: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        parse(words)
    assert end.value.code == 2
    assert re.search(told, capsys.readouterr().err)


@pytest.mark.parametrize(
    "words, told",
    [
        (["--epochs", "0"], r"epochs \(--epochs\) is 0: .* greater than or equal to 1"),
        (["--learning-rate", "nan"], r"\(--learning-rate\) is nan: .* finite"),
        (["--learning-rate", "-1"], r"\(--learning-rate\) is -1.0: .* greater than 0"),
        (["--max-length", "3"], r"\(--max-length\) is 3"),
        (["--adam-beta2", "1"], r"\(--adam-beta2\) is 1.0: .* less than 1"),
        (["--warmup", "2.5"], "warmup is 2.5: from 1 on it counts steps, a whole number"),
        (["--patience", "2"], "patience needs select best"),
        (["--seed", "-1"], "--seed -1: seeds go from 0 to 4294967295"),
        (["--seed", str(2**32)], "--seed 4294967296: seeds go from 0"),
        (["--device-batch-size", "0"], "--device-batch-size 0: a batch has at least 1 row"),
        (["--eval-batch-size", "-8"], "--eval-batch-size -8: a batch has at least 1 row"),
        (["--checkpoint-every", "often"], "--checkpoint-every often: give minutes as 10m or steps as 500"),
        (["--checkpoint-every", "0"], "--checkpoint-every 0: give minutes"),
        (["--test-mode", "--model", "a/b"], "--model: test mode brings its own model and rows; leave out --model or"),
        (["--test-mode", "--data", "here"], "--data: test mode brings its own"),
        (["--test-mode", "--revision", "v1"], "--revision: test mode brings its own"),
        (["--push-to-hub", "me/model"], "--push-to-hub me/model: name the folder to upload with --save-model"),
        (["--test_mode", "--model=a/b"], "--model: test mode brings its own"),
    ],
)
def test_value_out_of_range_is_named_with_its_flag(words: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(["--task", "rte", *words])


def test_unknown_task_is_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--task rtf: there is no task of that name\. Did you mean 'rte'\?"):
        parse(["--task", "rtf"])
    with pytest.raises(UserError, match=r"--task .*/none\.yaml: there is no such file"):
        parse(["--task", str(tmp_path / "none.yaml"), "--help"])
