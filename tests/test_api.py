"""The harness from Python: three functions, as they are documented, whatever was imported before."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import api
from harness.errors import UserError
from harness.facts.records import RunRecord
from harness.requests.options import parse
from harness.run import main

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import json, sys
import harness
light = sorted(set(sys.modules) & {"torch", "pandas", "pydantic", "numpy", "tyro"})
before = harness.run
from harness import run, load_records
from harness.commands import predict
import harness.run, harness.commands.predict
from harness.run import main, run as fine_tune
from harness import run as again
import harness.run as module
told = []
for call in (before, run, again, harness.run, module):
    try:
        call("no-such-task")
    except Exception as error:
        told.append(f"{type(error).__name__}: {error}"[:60])
try:
    harness.commands.predict("no-such-folder", ["text"])
except Exception as error:
    told.append(f"{type(error).__name__}: {error}"[:60])
print(json.dumps([light, told, module.main is main, fine_tune is not run, load_records("nowhere")]))
"""


def test_names_are_functions_before_and_after_the_modules_of_their_name_are_imported() -> None:
    answer = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    light, told, same, other, none = json.loads(answer.stdout)
    assert light == [], "import harness loads nothing"
    assert told[:5] == ["UserError: --task no-such-task: there is no task of that name. Known"[:60]] * 5
    assert told[5].startswith("UserError: no-such-folder: there is no such folder")
    assert (same, other, none) == (True, True, [])


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError, match="module 'harness' has no attribute 'train'"):
        _ = harness.train  # type: ignore[attr-defined]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `harness.run.run` was called with; nothing is run."""
    calls: list[Any] = []
    monkeypatch.setattr(sys.modules[main.__module__], "run", lambda *given: calls.append(given))
    return calls


def test_keywords_are_the_flags(asked: list[Any], tmp_path: Path) -> None:
    api.run("mrpc", epochs=2, learning_rate=3e-5, max_grad_norm=None, test_mode=True, overwrite=False, results=tmp_path)
    words = ["--task", "mrpc", "--epochs", "2", "--learning-rate", "3e-05", "--max-grad-norm", "None", "--test-mode"]
    words += ["--results", str(tmp_path)]
    assert asked == [(parse(words), " ".join(["harness/run.py", *words]))]


def test_what_is_on_by_default_can_be_left_on_or_turned_off(asked: list[Any]) -> None:
    api.run("rte", length_grouping=False)
    api.run("rte", length_grouping=True)
    assert [options.recipe.length_grouping for options, _ in asked] == [False, True]
    assert "--no-length-grouping" in asked[0][1]


def test_own_data_is_told_by_keywords_too(asked: list[Any]) -> None:
    api.run(train_file=["a.csv", "b.csv"], test_file=None, text_columns=["title", "body"], label_column="stars", seed=1)
    words = ["--train-file", "a.csv", "b.csv", "--text-columns", "title,body", "--label-column", "stars", "--seed", "1"]
    assert asked == [(parse(words), " ".join(["harness/run.py", *words]))]
    with pytest.raises(UserError, match=r"run\(\): .*--task"):
        api.run(seed=1)


def test_what_is_no_flag_or_value_is_told(asked: list[Any]) -> None:
    with pytest.raises(UserError, match=r"run\(\): epoch: there is no such flag\. Did you mean 'epochs'\?"):
        api.run("rte", epoch=2)
    with pytest.raises(UserError, match=r"run\(\): .*Error parsing --epochs: .*'two'"):
        api.run("rte", epochs="two")
    with pytest.raises(UserError, match="--seed -1"):
        api.run("rte", seed=-1)
    assert asked == []


def test_records_come_with_a_warning_for_what_is_none(tmp_path: Path, make_record: Any) -> None:
    from harness.facts.records import write_record

    record: RunRecord = make_record("rte")
    path = write_record(record, tmp_path)
    path.with_name("broken.json").write_text("{")
    with pytest.warns(UserWarning, match=r"broken\.json: not a readable record"):
        assert api.load_records(str(tmp_path)) == [record]
