"""Options of a run: every hyperparameter has a flag, help shows the defaults, keywords equal flags, mistakes exit 2."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.__main__ import COMMANDS, main
from harness.errors import UserError
from harness.facts.recipes import Recipe, resolve_recipe
from harness.facts.tasks import load_task
from harness.requests import options as options_module
from harness.requests.options import RunOptions, parse_options, resolve_options

RECIPE_FLAGS = {
    "--adapter",
    "--adapter-alpha",
    "--adapter-dropout",
    "--adapter-rank",
    "--adapter-targets",
    "--adam-beta1",
    "--adam-beta2",
    "--adam-epsilon",
    "--class-weights",
    "--epochs",
    "--evaluate-every",
    "--freeze",
    "--global-batch-size",
    "--encoder-dropout",
    "--head-dropout",
    "--init-from",
    "--learning-rate",
    "--max-grad-norm",
    "--max-length",
    "--label-scaling",
    "--label-smoothing",
    "--layer-decay",
    "--layer-decay-offset",
    "--max-steps",
    "--min-learning-rate-ratio",
    "--momentum",
    "--no-length-grouping",
    "--optimizer",
    "--pair-order",
    "--patience",
    "--protocol",
    "--schedule",
    "--schedule-power",
    "--select",
    "--threshold",
    "--train-rows",
    "--warmup",
    "--weight-decay",
    "--weight-decay-on",
}

OWN_DATA_FLAGS = {
    "--dataset",
    "--delimiter",
    "--encoding",
    "--problem-type",
    "--label-column",
    "--candidates-column",
    "--choice-columns",
    "--group-column",
    "--label-separator",
    "--name",
    "--pair-column",
    "--placeholder",
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
        "--cuda-graphs",
        "--data",
        "--deterministic",
        "--device-batch-size",
        "--eval-batch-size",
        "--model",
        "--no-predict",
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
        "--trust-remote-code",
    },
    "sweep": {
        "--detach",
        "--dry-run",
        "--executor",
        "--grid",
        "--gpus-per-run",
        "--grid-halving",
        "--grid-per",
        "--max-jobs",
        "--runs-per-device",
        "--models",
        "--nodes-per-run",
        "--partition",
        "--ray-address",
        "--results",
        "--retry-failed",
        "--seeds",
        "--select-on-reported",
        "--slurm",
        "--tasks",
        "--test-mode",
        "--time",
        "--train-rows",
        "--workers",
    },
    "verify": {"--base", "--data", "--json", "--name", "--rerun", "--trust-remote-code"},
    "plan": {"--aggregate", "--detect", "--results", "--tasks"},
    "status": {"--results", "--watch"},
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
        "--trust-remote-code",
        "--worst",
    },
    "submit": {"--allow-missing", "--model", "--out", "--overwrite", "--results", "--run", "--seed", "--suite"},
    "predict": {
        "--choice",
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
        "--trust-remote-code",
    },
    "describe": OWN_DATA_FLAGS
    | {"--data", "--max-length", "--model", "--out", "--overwrite", "--revision", "--task", "--test-mode"}
    | {"--trust-remote-code"},
    "tasks": OWN_DATA_FLAGS | {"--check", "--names", "--new", "--pin", "--suite"},
    "published": {"--names", "--variant"},
    "reproduce": {
        "--dry-run",
        "--margin",
        "--model",
        "--output",
        "--results",
        "--seeds",
        "--tasks",
        "--test-mode",
        "--variant",
        "--write",
    },
    "selfcheck": {"--cpu"},
    "leaderboard": {
        "--aggregate",
        "--base",
        "--budget",
        "--compare",
        "--from",
        "--init-repository",
        "--results",
        "--show-texts",
        "--strict",
        "--suites",
        "--task",
    },
    "publish": {"--dry-run", "--public", "--results", "--to"},
    "watch": {"--every", "--once", "--output", "--revisions"},
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
"""The whole command line. Scripts depend on it, so that a change of it must show here."""


@pytest.fixture
def help_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns the output of a command for --help, on a terminal with room for one column."""
    monkeypatch.setenv("COLUMNS", "110")

    def print_help(*args: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*args, "--help"])
        assert end.value.code == 0
        return capsys.readouterr().out

    return print_help


def default_in(text: str, flag: str) -> str:
    """Returns the default that the help text shows for a flag."""
    match = re.search(rf"{flag} .*?\(default:\s+(.*?)\)", text, re.DOTALL)
    assert match, f"{flag} is not in {text}"
    return match[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_command_has_these_flags_and_no_others(command: str, help_of: Callable[..., str]) -> None:
    flags = set(re.findall(r"^\W*(?:-h, )?(--[a-z][a-z0-9-]*)", help_of(command), re.MULTILINE))
    assert flags - {"--help"} == FLAGS[command]


def test_every_hyperparameter_has_a_flag() -> None:
    assert {_flag(name) for name in Recipe.model_fields} == RECIPE_FLAGS


def _flag(name: str) -> str:
    """Returns the flag that changes a field from its default."""
    return ("--no-" if Recipe.model_fields[name].default is True else "--") + name.replace("_", "-")


@pytest.mark.parametrize("name", Recipe.model_fields)
def test_every_hyperparameter_reaches_the_recipe(name: str) -> None:
    other: dict[str, Any] = dict(
        init_from="mnli",
        optimizer="sgd",
        momentum=0.5,
        schedule="cosine",
        min_learning_rate_ratio=0.5,
        select="accuracy",
        protocol="holdout",
        pair_order="both",
        adam_beta1=0.5,
        adam_beta2=0.5,
        encoder_dropout=0.5,
        head_dropout=0.5,
        class_weights="balanced",
        weight_decay_on="all",
        label_scaling="unit",
        label_smoothing=0.5,
        threshold="validation",
        adapter="lora",
        adapter_dropout=0.5,
        adapter_targets="query,value",
        layer_decay=0.5,
    )
    is_switch = Recipe.model_fields[name].default is True
    value = False if is_switch else other.get(name, 7)
    needed = {"patience": ["--select", "best"], "layer_decay_offset": ["--layer-decay", "0.9"]}.get(name, [])
    needed += ["--schedule", "polynomial"] if name == "schedule_power" else []
    needed += ["--optimizer", "sgd"] if name == "momentum" else []
    needed += ["--weight-decay", "0.1"] if name == "weight_decay_on" else []
    needed += ["--adapter", "lora"] if name.startswith("adapter_") else []
    recipe = parse_options(["--task", "rte", _flag(name), *([] if is_switch else [str(value)]), *needed]).recipe
    assert getattr(recipe, name) == value


# -- defaults ----------------------------------------------------------------------------------------------


def test_help_shows_the_defaults_of_the_chosen_task(help_of: Callable[..., str]) -> None:
    assert default_in(help_of("run"), "--epochs") == "3"
    text = help_of("run", "--task", "mrpc")
    assert default_in(text, "--epochs") == "5"
    assert default_in(text, "--model") == "distilbert/distilbert-base-uncased"
    assert default_in(help_of("run", "--task=ttc4900"), "--model") == "dbmdz/bert-base-turkish-uncased"


def test_help_shows_the_defaults_of_the_chosen_model(help_of: Callable[..., str]) -> None:
    text = help_of("run", "--task", "rte", "--model", "FacebookAI/roberta-base")
    assert default_in(text, "--model") == "FacebookAI/roberta-base"
    assert default_in(text, "--epochs") == "10"
    assert default_in(text, "--global-batch-size") == "16"
    assert default_in(text, "--warmup") == "0.06"
    assert default_in(text, "--max-grad-norm") == "None"


def test_help_shows_the_defaults_of_test_mode(help_of: Callable[..., str]) -> None:
    text = help_of("run", "--task", "mrpc", "--test-mode")
    assert default_in(text, "--epochs") == "8"
    assert default_in(text, "--model") == "tiny-bert"


def test_help_shows_the_defaults_of_an_own_task(help_of: Callable[..., str], make_task: Callable[..., Path]) -> None:
    text = help_of("run", "--task", str(make_task(recipe={"epochs": 9}, model="org/ours")))
    assert default_in(text, "--epochs") == "9"
    assert default_in(text, "--model") == "org/ours"


@pytest.mark.parametrize("task, model", [("mrpc", None), ("rte", "FacebookAI/roberta-base"), ("cola", "any/other")])
def test_default_recipe_is_that_of_task_and_model(task: str, model: str | None) -> None:
    options = parse_options(["--task", task, *(["--model", model] if model else [])])
    spec = load_task(task)
    assert options.recipe == resolve_recipe(options.model, task, spec.recipe)
    assert (options.task, options.seed, options.precision) == (task, 42, "auto")


def test_companion_task_has_the_recipe_of_the_task_that_predicts_it() -> None:
    model = "answerdotai/ModernBERT-base"
    assert (
        parse_options(["--task", "ax", "--model", model]).recipe
        == parse_options(["--task", "mnli", "--model", model]).recipe
    )


def test_flag_overrides_its_own_field_only() -> None:
    default = parse_options(["--task", "mrpc"]).recipe
    recipe = parse_options(["--task", "mrpc", "--epochs", "1", "--max-grad-norm", "None"]).recipe
    assert recipe == default.model_copy(update={"epochs": 1, "max_grad_norm": None})


def test_flags_may_be_written_with_underscores_and_equals_signs() -> None:
    plain = parse_options(["--task", "rte", "--global-batch-size", "8", "--test-mode"])
    assert parse_options(["--task=rte", "--global_batch_size=8", "--test_mode"]) == plain


def test_order_of_flags_does_not_matter() -> None:
    assert parse_options(["--epochs", "2", "--model", "a/b", "--task", "rte"]) == parse_options(
        ["--task", "rte", "--model", "a/b", "--epochs", "2"]
    )


@pytest.mark.parametrize(
    "args",
    [
        "--task rte --test-mode --epochs 2 --results here --learning-rate 1e-4 --seed 3",
        "--task=mrpc --global_batch_size=8 --max-grad-norm None --save-model there --no-predict --no-length-grouping",
        "--task ax --model microsoft/deberta-v3-base --adapter lora --epochs 4 --evaluate-every 0.25",
        "--train-file a.csv b.csv --text-columns a,b --problem-type regression --device-batch-size None",
        "--dataset a/b:c --text-columns x --model a/b --freeze 1 --evaluate-every 4 --no-length-grouping",
    ],
)
def test_parser_of_the_named_flags_agrees_with_that_of_all(args: str, monkeypatch: pytest.MonkeyPatch) -> None:
    named = parse_options(args.split())
    monkeypatch.setattr(options_module, "_parse_named", lambda *_: None)
    assert parse_options(args.split()) == named


def test_command_without_a_mistake_needs_no_parser_of_all_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds, cli = [], options_module.tyro.cli
    monkeypatch.setattr(options_module.tyro, "cli", lambda kind, **rest: kinds.append(kind) or cli(kind, **rest))
    parse_options(["--task", "rte", "--epochs", "2"])
    assert RunOptions not in kinds
    with pytest.raises(SystemExit):
        parse_options(["--task", "rte", "--epoch", "2"])
    assert kinds[-1] is RunOptions


@pytest.mark.parametrize("name", ["org/model", "models/tiny"])
def test_slash_at_the_end_of_a_model_is_no_part_of_its_name(name: str) -> None:
    """A record with it would be that of another model for `harness submit`, and of another run on the Hub."""
    flags = parse_options(["--task", "rte", "--model", f"{name}/"])
    assert flags == resolve_options({"task": "rte", "model": f"{name}//"})
    assert flags.model == name
    assert parse_options(["--task", "rte", "--model", "/"]).model == "/"
    assert flags == parse_options(["--task", "rte", "--model", f"{name}/."])


def test_test_mode_has_its_own_folder_of_records() -> None:
    assert RunOptions(task="rte", results=Path("here")).folder == Path("here")
    assert RunOptions(task="rte", results=Path("here"), test_mode=True).folder == Path("here/test-mode")


@pytest.mark.parametrize("every, steps, seconds", [("500", 500, float("inf")), ("1.5m", float("inf"), 90)])
def test_checkpoint_interval_is_in_steps_or_minutes(every: str, steps: float, seconds: float) -> None:
    options = parse_options(["--task", "rte", "--checkpoint-every", every])
    assert (options.checkpoint_steps, options.checkpoint_seconds) == (steps, seconds)


# -- keyword arguments -------------------------------------------------------------------------------------------------


def test_keywords_resolve_to_the_same_options_as_flags(tmp_path: Path) -> None:
    args = ["--task", "mrpc", "--epochs", "2", "--learning-rate", "3e-5", "--max-grad-norm", "None", "--test-mode"]
    args += ["--no-length-grouping", "--results", str(tmp_path), "--checkpoint-every", "500", "--seed", "7"]
    values = dict(task="mrpc", epochs=2, learning_rate=3e-5, max_grad_norm=None, test_mode=True, overwrite=False)
    values |= dict(length_grouping=False, results=str(tmp_path), checkpoint_every=500, seed=7)
    assert resolve_options(values) == parse_options(args)
    assert resolve_options({**values, "results": tmp_path}) == parse_options(args)


@pytest.mark.parametrize("model", [None, "FacebookAI/roberta-base"])
def test_omitted_keywords_have_the_defaults_of_task_and_model(model: str | None) -> None:
    named = {"task": "rte"} | ({"model": model} if model else {})
    assert resolve_options(named) == parse_options(
        [arg for name, value in named.items() for arg in (f"--{name}", value)]
    )


def test_keywords_of_own_data_accept_lists() -> None:
    args = [
        "--train-file",
        "a.csv",
        "b.csv",
        "--text-columns",
        "title,body",
        "--label-column",
        "stars",
        "--name",
        "own",
    ]
    values: dict[str, Any] = dict(task=None, text_columns=["title", "body"], label_column="stars", test_file=None)
    values |= dict(train_file=["a.csv", Path("b.csv")], name="own")
    assert resolve_options(values) == parse_options(args)
    assert resolve_options(values | {"train_file": "a.csv"}).own_data.train_file == ("a.csv",)


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(task="rte", epoch=2), "'epoch'.* Did you mean 'epochs'"),
        (dict(task="rte", own_data=None), "'own_data'"),
        (dict(task="rte", epochs="two"), "--epochs.*'two'"),
        (dict(task="rte", seed="x"), "--seed 'x'"),
        (dict(task="rte", seed=-1), "--seed -1"),
        (dict(task="rte", seed=None), "--seed None"),
        (dict(task="rte", precision="int8"), "--precision 'int8'"),
        (dict(task="rte", test_mode="perhaps"), "--test-mode 'perhaps'"),
        (dict(train_file="a.csv", validation_percent="many"), "--validation-percent 'many'"),
        (dict(seed=1), "--task.*--train-file"),
        (dict(task="rte", train_file="a.csv"), "--task rte.*--train-file"),
        (dict(task="rte", test_mode=True, data="here"), "--data here.*--test-mode"),
    ],
)
def test_invalid_keyword_is_an_error_that_names_the_flag(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_options(values)


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "--task STR"),
        (["--test-mode"], "--task STR"),
        (["--task"], "'--task'"),
        (["--task", "rte", "--model"], "'--model'"),
        (["--task", "rte", "--learning-rte", "1"], "--learning-rate"),
        (["--task", "rte", "--bogus"], "--bogus"),
        (["--task", "rte", "--epoch", "2"], "--epochs"),
        (["--task", "rte", "sst2"], "sst2"),
        (["--task", "rte", "--no-overwrite"], "--no-overwrite"),
        (["--task", "rte", "--epochs", "two"], "--epochs.*'two'"),
        (["--task", "rte", "--epochs", "1.5"], "--epochs.*'1.5'"),
        (["--task", "rte", "--seed", "x"], "--seed"),
        (["--task", "rte", "--precision", "int8"], "'int8'.*'--precision'"),
        (["--task", "rte", "--schedule", "step"], "'step'.*'--schedule'"),
    ],
)
def test_unreadable_command_line_exits_with_code_2(
    args: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        parse_options(args)
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("harness run --help") == error.count("--help") == 1, "one box, with the command"


@pytest.mark.parametrize(
    "args, message",
    [
        (["--epochs", "0"], r"--epochs.* 0\b"),
        (["--learning-rate", "nan"], r"--learning-rate.* nan\b"),
        (["--learning-rate", "-1"], r"--learning-rate.* -1\.0"),
        (["--max-length", "3"], r"--max-length.* 3\b"),
        (["--adam-beta2", "1"], r"--adam-beta2.* 1\.0"),
        (["--warmup", "2.5"], r"warmup.* 2\.5"),
        (["--patience", "2"], "patience.*select"),
        (["--seed", "-1"], "--seed -1.*4294967295"),
        (["--seed", str(2**32)], "--seed 4294967296"),
        (["--device-batch-size", "0"], "--device-batch-size 0"),
        (["--eval-batch-size", "-8"], "--eval-batch-size -8"),
        (["--checkpoint-every", "often"], "--checkpoint-every often.*10m.*500"),
        (["--checkpoint-every", "0"], "--checkpoint-every 0"),
        (["--test-mode", "--model", "a/b"], "--model a/b.*--test-mode"),
        (["--test-mode", "--data", "here"], "--data here.*--test-mode"),
        (["--test-mode", "--revision", "v1"], "--revision v1.*--test-mode"),
        (["--test-mode", "--trust-remote-code"], "--trust-remote-code.*--test-mode"),
        (["--test_mode", "--model=a/b"], "--model a/b.*--test-mode"),
        (["--push-to-hub", "me/model"], "--push-to-hub me/model.*--save-model"),
        (["--init-from", "mnli", "--parent", "../../x"], r"--parent \.\./\.\./x"),
        (["--test-mode", "--precision", "fp16"], "--precision fp16.*--test-mode"),
        (["--test-mode", "--precision", "bf16"], "--precision bf16.*--test-mode"),
        (["--checkpoint-every", "9" * 5_000], "--checkpoint-every 9"),
        (["--checkpoint-every", "1٣m"], "--checkpoint-every 1٣m"),
        (["--device-batch-size", "9" * 12], "--device-batch-size 9"),
        (["--eval-batch-size", "9" * 12], "--eval-batch-size 9"),
        (["--results", "r\udcff"], r"'r\\udcff': .*UTF-8"),
        (["--save-model=b\udcff"], r"'--save-model=b\\udcff': .*UTF-8"),
    ],
)
def test_value_out_of_range_is_an_error_that_names_the_flag(args: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_options(["--task", "rte", *args])


def test_path_that_is_not_utf8_is_refused_as_a_keyword_too() -> None:
    for values in ({"results": Path("r\udcff")}, {"train_file": ["a.csv", "c\udcff.csv"], "text_columns": "text"}):
        with pytest.raises(UserError, match="UTF-8"):
            resolve_options({"task": "rte", **values})


@pytest.mark.parametrize("flag", ["--global-batch-size", "--epochs", "--max-steps", "--max-length", "--train-rows"])
def test_number_of_too_many_digits_is_refused(flag: str) -> None:
    with pytest.raises((UserError, SystemExit)):
        parse_options(["--task", "rte", flag, "9" * 30])


def test_test_mode_with_own_data_refuses_a_model() -> None:
    own_data = ["--train-file", "a.csv", "--text-columns", "text"]
    assert parse_options([*own_data, "--test-mode"]).model == "tiny-bert"
    with pytest.raises(UserError, match=r"--model a/b.*--test-mode"):
        parse_options([*own_data, "--test-mode", "--model", "a/b"])


def test_unknown_task_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--task rtf: .*Did you mean 'rte'\?"):
        parse_options(["--task", "rtf"])
    with pytest.raises(UserError, match=r"--task .*/none\.yaml"):
        parse_options(["--task", str(tmp_path / "none.yaml"), "--help"])


def test_value_of_a_switch_is_a_mistake_with_a_message() -> None:
    with pytest.raises(UserError, match="--test-mode: expected no value"):
        parse_options(["--task", "rte", "--test-mode=true"])


def test_file_that_an_unset_variable_should_name_is_not_left_out() -> None:
    with pytest.raises(UserError, match="--validation-file: empty"):
        parse_options(["--train-file", "rows.csv", "--validation-file", "--label-column", "label"])


@pytest.mark.parametrize("name", ["results", "save_model"])
def test_home_folder_is_expanded(name: str) -> None:
    """A shell leaves the `~` of `--results=~/records` as it is."""
    flag = f"--{name.replace('_', '-')}=~/records"
    for options in (parse_options(["--task", "rte", flag]), resolve_options({"task": "rte", name: "~/records"})):
        assert getattr(options, name) == Path.home() / "records"


@pytest.mark.parametrize("flag", ["--results", "--save-model"])
def test_empty_path_is_not_the_working_directory(flag: str) -> None:
    for args in ([flag, ""], [f"{flag}="]):
        with pytest.raises(UserError, match=f"^{flag}: empty"):
            parse_options(["--task", "rte", *args])


@pytest.mark.parametrize("name", ["seed", "device_batch_size"])
def test_switch_in_place_of_a_number_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} True: expected a number"):
        resolve_options({"task": "rte", name: True})


def test_missing_rows_are_named_before_the_name_of_the_task() -> None:
    with pytest.raises(UserError, match=r"^--train-file: missing"):
        parse_options(["--text-columns", "title"])


@pytest.mark.parametrize("name", ["label_separator", "placeholder", "tracker", "data"])
def test_empty_text_is_refused(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    with pytest.raises(UserError, match=f"^{flag}: empty"):
        parse_options(["--task", "rte", flag, ""])
    with pytest.raises(UserError, match=f"^{flag}: empty"):
        resolve_options({"task": "rte", name: ""})
