"""`harness published`: the list, the names, and a row in full with its sweep."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from harness.commands.published import main, runnable
from harness.errors import UserError
from harness.facts.published import load_row, row_names


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`published(*args)`: the output of the command on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "400")

    def run(*args: str) -> str:
        main(args)
        return capsys.readouterr().out

    return run


def test_list_says_what_can_be_run(published: Callable[..., str]) -> None:
    lines = {line.split()[0]: line for line in published().splitlines() if line}
    assert lines.keys() >= set(row_names())
    assert " yes " in lines["roberta-base-lora"]
    assert "63.4±1.2" in lines["roberta-base-lora"]
    assert " yes " in lines["modernbert-large"]
    assert "mrpc 91.7?" in lines["modernbert-large"]
    assert "no: " in lines["neobert-4096"]
    assert published("--names").split() == row_names()


def test_row_has_reasons_and_its_sweep(published: Callable[..., str]) -> None:
    text = published("modernbert-base")
    assert text.count("metric not stated") == 3
    assert "cannot be run" not in text
    sweep = yaml.safe_load(text.split("The sweep file of this row:\n")[1])
    assert sweep["tasks"] == ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
    recipes = sweep["models"]["answerdotai/ModernBERT-base"]["recipe_by_task"]
    assert recipes["rte"] == {"learning_rate": 5e-5, "weight_decay": 0.2, "epochs": 3, "init_from": "mnli"}
    text = published("bert-base-glue-server")
    assert "mnli test_matched accuracy: 84.3; cannot be run: the labels" in text
    assert "The sweep file" not in text


def test_row_of_which_a_part_can_be_run() -> None:
    row = load_row("roberta-base")
    task = row.tasks["cola"]
    other = task.model_copy(update={"scores": (task.scores[0].model_copy(update={"split": "test"}),)})
    tasks = {"cola": task, "sst2": row.tasks["sst2"], "rte": other}
    assert runnable(row.model_copy(update={"tasks": tasks})) == "2 of 3 tasks"


def test_sweep_of_a_variant(published: Callable[..., str]) -> None:
    text = published("deberta-v3-small", "--variant", "earlier")
    sweep = yaml.safe_load(text.split("variant earlier:\n")[1])
    assert sweep["models"]["microsoft/deberta-v3-small"]["recipe"]["epochs"] == 2


def test_unknown_row_and_variant(published: Callable[..., str]) -> None:
    with pytest.raises(UserError, match="'roberta-base'"):
        published("roberta-bas")
    with pytest.raises(UserError, match="--variant"):
        published("roberta-base-lora", "--variant", "no")


@pytest.mark.parametrize("args", [["--variant", "script"], ["roberta-base-lora", "--names"]])
def test_flag_without_an_effect_is_refused(args: list[str]) -> None:
    with pytest.raises(UserError, match=r"--variant|--names"):
        main(args)
