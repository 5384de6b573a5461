"""The harness from Python: keywords are the flags of the command, and mistakes are UserErrors."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import pytest

from harness import api
from harness.errors import UserError
from harness.facts.records import RunRecord
from harness.requests.options import parse_options

ROOT = Path(__file__).resolve().parents[1]


def test_import_loads_nothing_heavy() -> None:
    program = "import sys, harness.api; print(sorted(set(sys.modules) & {'torch', 'pandas', 'tyro', 'transformers'}))"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout == "[]\n"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Arguments of each call of `harness.run.run`, which runs nothing here."""
    calls: list[Any] = []
    monkeypatch.setattr("harness.run.run", lambda *arguments: calls.append(arguments))
    return calls


def test_keyargs_are_the_flags(calls: list[Any], tmp_path: Path) -> None:
    api.run("mrpc", epochs=2, learning_rate=3e-5, max_grad_norm=None, test_mode=True, overwrite=False, results=tmp_path)
    args = ["--task", "mrpc", "--epochs", "2", "--learning-rate", "3e-05", "--max-grad-norm", "None", "--test-mode"]
    args += ["--results", str(tmp_path)]
    assert calls == [(parse_options(args), " ".join(["harness/run.py", *args]))]


def test_runs_of_several_threads_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they would draw from the same random numbers, and share the state of accelerate."""
    running: list[int] = []
    most = []

    def run(*_: Any) -> None:
        running.append(1)
        time.sleep(0.05)
        most.append(len(running))
        running.pop()

    monkeypatch.setattr("harness.run.run", run)
    threads = [Thread(target=api.run, args=("rte",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def test_flag_that_is_on_by_default_can_be_turned_off(calls: list[Any]) -> None:
    api.run("rte", length_grouping=False)
    api.run("rte", length_grouping=True)
    assert [options.recipe.length_grouping for options, _ in calls] == [False, True]
    assert "--no-length-grouping" in calls[0][1]


def test_switch_that_is_on_by_default_has_a_flag_only_when_it_is_off(calls: list[Any]) -> None:
    api.run("rte", predict=False)
    api.run("rte", predict=True)
    assert [options.predict for options, _ in calls] == [False, True]
    for options, command in calls:
        assert parse_options(command.split()[1:]) == options


def test_list_for_one_path_is_recorded_as_the_path(calls: list[Any], tmp_path: Path) -> None:
    api.run("rte", data=[str(tmp_path)])
    assert calls[0][1].endswith(f"--data {tmp_path}")


def test_one_text_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(UserError, match="texts: expected a list of texts, got the text 'one text'"):
        api.predict("nowhere", "one text")
    with pytest.raises(UserError, match="pairs: expected a list"):
        api.predict("nowhere", ["one text"], "its pair")


def test_table_in_place_of_its_column_is_refused() -> None:
    """Otherwise the names of its columns would be predicted."""
    for table in (pd.DataFrame({"text": ["one", "two"]}), {"text": ["one", "two"]}):
        with pytest.raises(UserError, match=r"expected a list of texts, got a (DataFrame|dict): name one column"):
            api.predict("nowhere", table)
    with pytest.raises(UserError, match="texts: expected a list of texts, got None"):
        api.predict("nowhere", None)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="texts: expected a list of texts, got 5"):
        api.predict("nowhere", 5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="choices: expected a list of texts, got a DataFrame"):
        api.predict("nowhere", ["one"], choices=pd.DataFrame({"choice": ["one"]}))  # type: ignore[arg-type]


def test_folder_of_records_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none: folder not found"):
        api.load_records(tmp_path / "none")


@pytest.mark.parametrize("folder", [None, 5, ["results"], b"results", pd.DataFrame({"text": ["one", "two"]})])
def test_folder_that_is_no_path_is_refused(folder: Any) -> None:
    with pytest.raises(UserError, match=r"results: expected the path of a folder, got "):
        api.load_records(folder)
    with pytest.raises(UserError, match=r"folder: expected the path of a folder, got "):
        api.predict(folder, ["w1"])


def test_empty_path_is_not_the_working_directory(calls: list[Any]) -> None:
    for call in (lambda: api.load_records(""), lambda: api.predict("", ["w1"]), lambda: api.run("rte", results="")):
        with pytest.raises(UserError, match="empty"):
            call()
    assert calls == []


def test_home_and_impossible_paths_are_those_of_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "records").mkdir()
    assert api.load_records("~/records") == []
    for call in (lambda path: api.load_records(path), lambda path: api.predict(path, ["w1"])):
        with pytest.raises(UserError, match="too long"):
            call("x" * 5000)


def test_switch_of_another_type_is_refused() -> None:
    """A text is true in Python, also the text "no"."""
    for switch in ("trust_remote_code", "cpu"):
        with pytest.raises(UserError, match=f"{switch}: expected True or False, got 'no'"):
            api.predict("nowhere", ["w1"], **{switch: "no"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["task", "train_file", "dataset", "data"])
def test_table_in_place_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}: .*got a DataFrame"):
        api.run(**{name: pd.DataFrame({"text": ["one"]}), "text_columns": "text"})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["train_file", "text_columns", "results"])
@pytest.mark.parametrize("values", [pd.Index(["a", "b"]), pd.Series(["a", "b"])], ids=["index", "series"])
def test_column_of_a_table_in_place_of_a_text_is_refused(name: str, values: Any) -> None:
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}"):
        api.run(**{"train_file": "rows.csv", "text_columns": "text", name: values})


def test_own_data_is_told_by_keyargs_too(calls: list[Any]) -> None:
    api.run(train_file=["a.csv", "b.csv"], test_file=None, text_columns=["title", "body"], label_column="stars", seed=1)
    args = ["--train-file", "a.csv", "b.csv", "--text-columns", "title,body", "--label-column", "stars", "--seed", "1"]
    assert calls == [(parse_options(args), " ".join(["harness/run.py", *args]))]
    with pytest.raises(UserError, match="--task"):
        api.run(seed=1)


def test_unknown_flag_or_invalid_value_is_an_error(calls: list[Any]) -> None:
    with pytest.raises(UserError, match=r"epoch.*Did you mean 'epochs'"):
        api.run("rte", epoch=2)
    with pytest.raises(UserError, match=r"--epochs.*two"):
        api.run("rte", epochs="two")
    with pytest.raises(UserError, match="--seed -1"):
        api.run("rte", seed=-1)
    assert calls == []


def test_invalid_record_is_skipped_with_a_warning(tmp_path: Path, make_record: Any) -> None:
    from harness.facts.records import write_record

    record: RunRecord = make_record("rte")
    path = write_record(record, tmp_path)
    path.with_name("broken.json").write_text("{")
    with pytest.warns(UserWarning, match=r"broken\.json"):
        assert api.load_records(str(tmp_path)) == [record]
