"""`harness tasks`: the registry at a glance, a task in full, a check of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.commands.tasks import main
from harness.errors import UserError
from harness.facts.recipes import Recipe
from harness.facts.tasks import load_task, task_names


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "400")

    def tell(*words: str) -> str:
        main(words)
        return capsys.readouterr().out

    return tell


def test_table_has_a_line_for_every_task(ask: Callable[..., str]) -> None:
    lines = {line.split()[0]: line for line in ask().splitlines()[2:]}
    assert sorted(lines) == task_names()
    for name, line in lines.items():
        assert load_task(name).title in line
    assert "pair" in lines["rte"]
    assert "2,490" in lines["rte"]
    assert "by mnli" in lines["ax"]
    assert "a value" in lines["stsb"]
    assert "Pearson, Spearman" in lines["stsb"]


def test_names_come_one_a_line(ask: Callable[..., str]) -> None:
    assert ask("--names").splitlines() == task_names()


@pytest.mark.parametrize("name", task_names())
def test_task_is_shown_in_full(ask: Callable[..., str], name: str) -> None:
    text, task = ask(name), load_task(name)
    assert text.startswith(f"{name}: {task.title}")
    for split, rows in task.rows.items():
        assert f"{split} ({rows:,} rows)" in text
    for word in (*(task.labels or ()), *task.text, *task.evaluate, str(task.source.hub or task.source.file)):
        assert word in text
    for field, value in Recipe().model_dump().items():
        assert f"{field} {task.recipe.get(field, value)}" in text


def test_own_task_is_shown_in_full(ask: Callable[..., str], make_task: Callable[..., Path]) -> None:
    assert ask(str(make_task(title="Ours"))).startswith("small: Ours")


def test_several_labels_a_row_are_told(ask: Callable[..., str], make_task: Callable[..., Path]) -> None:
    sets = dict(problem_type="multi_label_classification", metrics=["f1_micro"], main_metrics="f1_micro")
    text = ask(str(make_task(**sets, label="topics", separator=";")))
    assert "topics (any number a row, separated by ';')" in text
    assert "no, yes (any number a row)" in ask(str(make_task(**sets, label=["no", "yes"])))


def test_title_with_brackets_is_shown_as_it_is(ask: Callable[..., str], make_task: Callable[..., Path]) -> None:
    assert ask(str(make_task(title="Reviews [en] [/b]"))).startswith("small: Reviews [en] [/b]")


def test_sound_task_file_is_said_to_be_valid(
    make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    path = make_task()
    main(["--check", str(path)])
    assert capsys.readouterr().out == f"{path}: a valid task, small\n"


def test_faults_of_a_task_file_are_told_with_their_lines(make_task: Callable[..., Path]) -> None:
    path = make_task(metrics=["acuracy"], colour="blue")
    with pytest.raises(UserError) as error:
        main(["--check", str(path)])
    lines = str(error.value).splitlines()
    assert len(lines) >= 1
    assert all(line.startswith(f"{path}:") for line in lines)


def test_file_or_task_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--check .*/none\.yaml: there is no such file"):
        main(["--check", str(tmp_path / "none.yaml")])
    with pytest.raises(UserError, match=r"mnl: task not found\. Did you mean 'mnli'\?"):
        main(["mnl"])
