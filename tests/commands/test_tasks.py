"""`harness tasks`: the registry as a table, a task in full, a check of a task file, a new task file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.commands.tasks import main
from harness.errors import UserError
from harness.facts.recipes import Recipe
from harness.facts.suites import load_suite, registered_suites
from harness.facts.tasks import load_task, task_names


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`tasks(*args)`: the output of the command on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "1000")

    def run(*args: str) -> str:
        main(args)
        return capsys.readouterr().out

    return run


def test_table_has_a_line_for_every_task(tasks: Callable[..., str]) -> None:
    lines = tasks().splitlines()
    titles = [line for line in lines if re.match(rf"({'|'.join(registered_suites())}): ", line)]
    assert [title.partition(":")[0] for title in titles] == list(registered_suites())
    heads = [line for line in lines if line.startswith("task ")]
    assert len(heads) == len(titles)
    by_name = {line.split()[0]: line for line in lines if line.strip() and line not in (*titles, *heads)}
    assert sorted(by_name) == task_names()
    for name, line in by_name.items():
        assert load_task(name).title in line
    assert re.search(r"pair +2 +2,490", by_name["rte"])
    assert "by mnli" in by_name["ax"]
    assert re.search("a value .*Pearson, Spearman", by_name["stsb"])


def test_names_are_one_per_line(tasks: Callable[..., str]) -> None:
    assert tasks("--names").splitlines() == task_names()


def test_listing_of_a_suite_has_its_tasks_in_their_order(tasks: Callable[..., str]) -> None:
    title, _, *lines = tasks("--suite", "glue").splitlines()
    assert title.startswith("glue: GLUE; GLUE of 9 tasks; GLUE-8 of 8 tasks")
    assert [line.split()[0] for line in lines] == list(load_suite("glue").tasks)
    assert tasks("--suite", "glue", "--names").splitlines() == list(load_suite("glue").tasks)


def test_unknown_suite_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"--suite gleu: .*'glue'"):
        main(["--suite", "gleu"])


@pytest.mark.parametrize("name", task_names())
def test_task_is_shown_in_full(tasks: Callable[..., str], name: str) -> None:
    text, task = tasks(name), load_task(name)
    assert re.search(rf"suite +{task.suite}", text)
    assert text.startswith(f"{name}: {task.title}")
    for split, rows in task.rows.items():
        assert f"{split} ({rows:,} rows)" in text
    for value in (*(task.labels or ()), *task.text, *task.evaluate, str(task.source.hub or task.source.file)):
        assert value in text
    for field, value in Recipe().model_dump().items():
        assert f"{field} {task.recipe.get(field, value)}" in text


def test_label_columns_of_a_multi_label_task_are_shown(
    tasks: Callable[..., str], make_task: Callable[..., Path]
) -> None:
    sets = dict(problem_type="multi_label_classification", metrics=["f1_micro"], main_metrics="f1_micro")
    assert re.search(r"topics \(.*';'\)", tasks(str(make_task(**sets, label="topics", separator=";"))))
    assert re.search(r"no, yes \([^']*\)", tasks(str(make_task(**sets, label=["no", "yes"]))))


def test_brackets_in_a_title_are_no_markup(tasks: Callable[..., str], make_task: Callable[..., Path]) -> None:
    assert tasks(str(make_task(title="Reviews [en] [/b]"))).startswith("small: Reviews [en] [/b]")


def test_check_of_a_valid_file_is_one_line(
    tasks: Callable[..., str], make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    path = make_task()
    (line,) = tasks("--check", str(path)).splitlines()
    assert line.startswith(f"{path}: ")
    assert "valid task small; its rows were not read" in line


def test_check_of_a_file_that_its_suite_does_not_name_is_an_error(make_task: Callable[..., Path]) -> None:
    path, other = make_task(), make_task(name="other")
    suite = path.with_name("suite.yaml")
    suite.write_text("title: Shops\ntasks: [other]\n")
    with pytest.raises(UserError, match=r"suite\.yaml:2: .*'small'"):
        main(["--check", str(path)])
    suite.write_text("title: Shops\ntasks: [other, small]\n")
    main(["--check", str(other)])


def test_errors_of_a_task_file_have_line_numbers(make_task: Callable[..., Path]) -> None:
    path = make_task(metrics=["acuracy"], colour="blue")
    with pytest.raises(UserError) as error:
        main(["--check", str(path)])
    lines = str(error.value).splitlines()
    assert lines
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", line) for line in lines)


def test_unknown_file_or_task_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--check .*/none\.yaml: file not found"):
        main(["--check", str(tmp_path / "none.yaml")])
    with pytest.raises(UserError, match=r"--check .*: a folder.* --suite"):
        main(["--check", str(tmp_path)])
    with pytest.raises(UserError, match=r"mnl: .*'mnli'"):
        main(["mnl"])


def test_new_task_file_in_a_folder_that_cannot_be_written_is_an_error(
    tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    rows = write_rows(tmp_path / "rows.csv", {"text": [f"w{n}" for n in range(60)], "label": ["no", "yes"] * 30})
    with pytest.raises(UserError, match=r"--new .*cannot be written"):
        main(["--new", str(rows / "mine.yaml"), "--train-file", str(rows), "--text-columns", "text"])


def test_new_task_file_of_labels_with_control_characters_is_valid(
    tasks: Callable[..., str], tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    labels = ["no\x1b[2J", "yes"] * 30
    rows = write_rows(tmp_path / "rows.csv", {"text": [f"w{n}" for n in range(60)], "label": labels})
    path = tmp_path / "mine.yaml"
    tasks("--new", str(path), "--train-file", str(rows), "--text-columns", "text")
    assert "\x1b" not in path.read_text()
    assert "mine" in tasks("--check", str(path))


@pytest.mark.parametrize("path", ["~nosuchuser/t.yaml", "a" * 300 + ".yaml", "a" * 5000, "/dev/null/t.yaml"])
def test_impossible_path_of_a_task_is_named(path: str) -> None:
    with pytest.raises(UserError, match=f"--task {path[:80]}"):
        main([path])


@pytest.mark.parametrize(
    "args, flags",
    [
        (["rte", "--names"], "TASK, --names"),
        (["rte", "--suite", "glue"], "TASK, --suite"),
        (["--check", "a.yaml", "--pin", "rte"], "--pin, --check"),
        (["--check", "a.yaml", "--new", "b.yaml", "--train-file", "rows.csv"], "--new, --check"),
    ],
)
def test_flags_of_which_one_would_have_no_effect_are_refused(args: list[str], flags: str) -> None:
    with pytest.raises(UserError, match=f"^{flags}: only one"):
        main(args)
