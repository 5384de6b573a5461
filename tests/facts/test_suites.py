"""Suites: folders of task files whose suite.yaml gives order, headings and averages, and names each fault's line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.facts import task_files
from harness.facts.suites import Suite, expand_suites, load_suite, read_suite, registered_suites
from harness.facts.task_files import registered_files
from harness.facts.tasks import load_task, read_task

GOOD = """\
title: Shops
tasks: {stars: Stars, mood: Mood}
averages:
  Shops: {}
  Stars only: {without: mood}
"""
TASK = """\
title: A task
source: {file: rows.csv}
text: text
labels: [bad, good]
splits: {train: "all[:50%]", validation: "all[50%:]"}
metrics: [accuracy]
main_metrics: accuracy
"""

Write = Callable[..., Path]


@pytest.fixture
def shops(tmp_path: Path) -> Write:
    """`shops(suite, names)`: the folder of a suite with these task files."""

    def write(suite: str | None = GOOD, names: tuple[str, ...] = ("stars", "mood"), name: str = "shops") -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for task in names:
            (folder / f"{task}.yaml").write_text(TASK, encoding="utf-8")
        if suite is not None:
            (folder / "suite.yaml").write_text(suite, encoding="utf-8")
        return folder

    return write


# -- the registry ------------------------------------------------------------------------------------------------------


def test_every_folder_of_the_registry_is_a_valid_suite_of_all_its_tasks() -> None:
    suites = registered_suites()
    first, *others = suites
    assert first == "glue"
    assert others == sorted(others)
    for name, suite in suites.items():
        assert suite.tasks.keys() == task_files.task_files(suite.folder).keys()
        assert {task.suite for task in suite.read_tasks()} == {name}


def test_names_of_tasks_are_unique_over_all_suites() -> None:
    names = [name for suite in registered_suites().values() for name in suite.tasks]
    assert sorted(names) == list(registered_files())


def test_averages_of_glue_are_over_nine_tasks_and_over_eight() -> None:
    glue = load_suite("glue")
    nine = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")
    assert glue.members == {"GLUE": nine, "GLUE-8": nine[:-1]}
    assert glue.tasks["sst2"] == "SST-2"


def test_tasks_of_an_average_have_a_reported_split() -> None:
    for suite in registered_suites().values():
        for task in {task for members in suite.members.values() for task in members}:
            assert load_task(task).report


def test_same_name_in_two_suites_is_an_error_with_both_files(shops: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = shops(name="a"), shops(name="b")
    monkeypatch.setattr(task_files, "TASKS_FOLDER", first.parent)
    with pytest.raises(UserError) as caught:
        registered_files()
    assert str(first / "mood.yaml") in str(caught.value)
    assert str(second / "mood.yaml") in str(caught.value)


def test_suite_stands_for_its_tasks_among_those_at_hand() -> None:
    assert expand_suites(["glue"], ["imdb", "rte", "cola"]) == ("cola", "rte")
    assert expand_suites(["rte", "glue", "imdb"], ["imdb", "rte", "cola"]) == ("rte", "cola", "imdb")
    assert expand_suites(["trglue", "gleu"], ["rte"]) == ("trglue", "gleu"), "unchanged, for the caller's message"


# -- a suite of one's own ----------------------------------------------------------------------------------------------


def test_suite_of_your_own_is_loaded_by_its_folder(shops: Write) -> None:
    folder = shops()
    suite = load_suite(f"{folder}/")
    assert (suite.name, suite.title, suite.tasks) == ("shops", "Shops", {"stars": "Stars", "mood": "Mood"})
    assert suite.members == {"Shops": ("stars", "mood"), "Stars only": ("stars",)}
    assert [task.suite for task in suite.read_tasks()] == ["shops", "shops"]


def test_list_of_tasks_has_their_names_as_headings(shops: Write) -> None:
    suite = read_suite(shops("title: Shops\ntasks: [mood, stars]\n"))
    assert suite.tasks == {"mood": "mood", "stars": "stars"}
    assert suite.averages == {}


def test_folder_without_a_suite_file_is_no_suite(shops: Write) -> None:
    with pytest.raises(UserError, match=r"shops: suite\.yaml not found"):
        load_suite(f"{shops(None)}/")


def test_suite_key_is_the_folder_alone(shops: Write) -> None:
    path = shops() / "stars.yaml"
    path.write_text(f"{TASK}suite: other\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"stars\.yaml:8: .*'suite'"):
        read_task(path)


@pytest.mark.parametrize("name, near", [("gleu", "glue"), ("mroe", "more")])
def test_unknown_suite_gets_the_nearest_name(name: str, near: str) -> None:
    with pytest.raises(UserError, match=rf"--suite {name}: .*Did you mean '{near}'\?"):
        load_suite(name)


def test_folder_that_does_not_exist_is_named() -> None:
    with pytest.raises(UserError, match=r"--suite \./none: folder not found"):
        load_suite("./none")


def test_name_of_a_registered_suite_or_task_is_refused(shops: Write) -> None:
    with pytest.raises(UserError, match="duplicate suite 'glue'"):
        load_suite(str(shops(name="glue")))
    with pytest.raises(UserError, match=r"duplicate task 'rte': .*glue/rte\.yaml and .*shops/rte\.yaml"):
        load_suite(str(shops("title: Shops\ntasks: [rte]\n", ("rte",))))


def test_registered_suite_by_its_path_is_itself() -> None:
    assert load_suite(str(registered_suites()["glue"].folder)) == registered_suites()["glue"]


BAD = {
    "unknown task": (("mood: Mood", "moot: Moot"), 2, "'moot'.*Did you mean 'mood'"),
    "unknown task in a list": (("{stars: Stars, mood: Mood}", "\n  - stars\n  - moot"), 4, "'moot'"),
    "task that is not listed": ((", mood: Mood", ""), 2, "'mood' is missing"),
    "duplicate task": (("{stars: Stars, mood: Mood}", "[stars, mood, stars]"), 2, "duplicate task 'stars'"),
    "task that is a list": (("{stars: Stars, mood: Mood}", "[[stars], mood]"), 2, "tasks: .*\\['stars'\\]"),
    "no title": (("title: Shops\n", ""), 1, "missing key 'title'"),
    "no tasks": (("{stars: Stars, mood: Mood}", "[]"), 2, "tasks"),
    "unknown key": (("averages:", "average:"), 3, "'average'.*'averages'"),
    "unknown key of an average": (("without", "witout"), 5, "'witout'.*'without'"),
    "weights": (("{without: mood}", "{weights: {stars: 2}}"), 5, "'weights'"),
    "unknown task left out": (("without: mood", "without: moot"), 5, "'moot'.*'mood'"),
    "average of nothing": (("without: mood", "without: [mood, stars]"), 5, "Stars only"),
    "its own name": (("title: Shops", "name: shops\ntitle: Shops"), 1, "'name'"),
    "its folder": (("title: Shops", "title: Shops\nfolder: x"), 2, "'folder'"),
}


@pytest.mark.parametrize("change, line, message", BAD.values(), ids=BAD)
def test_fault_of_a_suite_file_has_its_line(shops: Write, change: tuple[str, str], line: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        read_suite(shops(GOOD.replace(*change)))
    assert re.search(rf"suite\.yaml:{line}: .*{message}", str(caught.value)), caught.value
    assert Suite.__name__ not in str(caught.value)


def test_faults_are_in_the_same_order_every_time(shops: Write) -> None:
    names = tuple("hgfedcba")
    with pytest.raises(UserError) as error:
        read_suite(shops(names=("stars", "mood", *names)))
    assert re.findall("tasks: '(.)' is missing", str(error.value)) == sorted(names)
