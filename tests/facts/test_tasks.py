"""Task files: the registry has the published facts of its tasks, and an error in a file is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.errors import UserError
from harness.facts.recipes import Recipe
from harness.facts.task_files import registered_files
from harness.facts.tasks import (
    TaskSpec,
    all_tasks,
    apply_protocol,
    check_recipe,
    companion_tasks,
    holdout_split,
    load_task,
    read_task,
    task_names,
    task_text,
)

GLUE_REVISION = "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c"

# The published sizes: split by split, in the order of each task's file.
ROWS = {
    "ax": {"test": 1_104},
    "cola": {"train": 8_551, "validation": 1_043, "test": 1_063},
    "imdb": {"train": 25_000, "validation": 12_500, "test": 12_500},
    "mnli": {
        "train": 392_702,
        "validation_matched": 9_815,
        "validation_mismatched": 9_832,
        "test_matched": 9_796,
        "test_mismatched": 9_847,
    },
    "mrpc": {"train": 3_668, "validation": 408, "test": 1_725},
    "qnli": {"train": 104_743, "validation": 5_463, "test": 5_463},
    "qqp": {"train": 363_846, "validation": 40_430, "test": 390_965},
    "rte": {"train": 2_490, "validation": 277, "test": 3_000},
    "sst2": {"train": 67_349, "validation": 872, "test": 1_821},
    "stsb": {"train": 5_749, "validation": 1_500, "test": 1_379},
    "ttc4900": {"train": 2_450, "validation": 1_225, "test": 1_225},
    "copa": {"train": 400, "validation": 100, "test": 500},
    "record": {"train": 100_730, "validation": 10_000, "test": 10_000},
    "multirc": {"train": 27_243, "validation": 4_848, "test": 9_693},
    "wic": {"train": 5_428, "validation": 638, "test": 1_400},
    "wnli": {"train": 635, "validation": 71, "test": 146},
    "wsc": {"train": 554, "validation": 104, "test": 146},
}

# As the Hub's data set numbers them.
LABELS = {
    "ax": ["entailment", "neutral", "contradiction"],
    "cola": ["unacceptable", "acceptable"],
    "mnli": ["entailment", "neutral", "contradiction"],
    "mrpc": ["not_equivalent", "equivalent"],
    "qnli": ["entailment", "not_entailment"],
    "qqp": ["not_duplicate", "duplicate"],
    "rte": ["entailment", "not_entailment"],
    "sst2": ["negative", "positive"],
    "stsb": None,
    "wnli": ["not_entailment", "entailment"],
}

# As the GLUE benchmark reports each task.
MAIN_METRICS = {
    "ax": ("matthews_correlation",),
    "cola": ("matthews_correlation",),
    "mnli": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "qnli": ("accuracy",),
    "qqp": ("f1", "accuracy"),
    "rte": ("accuracy",),
    "sst2": ("accuracy",),
    "stsb": ("pearson", "spearman"),
    "wnli": ("accuracy",),
}

TEXTS = {
    "ax": ("premise", "hypothesis"),
    "cola": ("sentence",),
    "mnli": ("premise", "hypothesis"),
    "mrpc": ("sentence1", "sentence2"),
    "qnli": ("question", "sentence"),
    "qqp": ("question1", "question2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "stsb": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
}

each_task = pytest.mark.parametrize("name", ROWS)
each_glue_task = pytest.mark.parametrize("name", LABELS)

GOOD = """\
title: Mine
source: {file: data.csv}
text: text
label: label
labels: [bad, good]
splits: {train: "all[:50%]", validation: "all[50%:]"}
rows: {train: 2, validation: 2}
metrics: [accuracy]
main_metrics: accuracy
"""


def _file(folder: Path, text: str = GOOD, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _changed(*replacements: tuple[str, str]) -> str:
    text = GOOD
    for old, new in replacements:
        assert old in text, old
        text = text.replace(old, new)
    return text


def _read(folder: Path, *replacements: tuple[str, str]) -> TaskSpec:
    return read_task(_file(folder, _changed(*replacements)))


# -- the registry ------------------------------------------------------------------------------------------------------


def test_registry_holds_the_known_tasks() -> None:
    assert set(ROWS) <= set(task_names())
    assert [task.name for task in all_tasks()] == task_names() == sorted(task_names())


@each_task
def test_name_of_the_file_is_the_name_of_the_task(name: str) -> None:
    assert load_task(name).name == name
    assert "name" not in yaml.safe_load(registered_files()[name].read_text(encoding="utf-8"))


@each_task
def test_row_counts_are_the_published_ones(name: str) -> None:
    assert load_task(name).rows == ROWS[name]


@each_task
def test_every_split_has_a_row_count(name: str) -> None:
    task = load_task(name)
    assert set(task.rows) == set(task.splits)


@each_task
def test_recipe_of_the_task_is_valid(name: str) -> None:
    assert Recipe(**load_task(name).recipe)


@each_task
def test_source_is_pinned(name: str) -> None:
    """By a commit of the Hub, or by the checksum of a file."""
    source = load_task(name).source
    pinned = source.revision if source.hub else source.sha256
    assert pinned is not None
    assert len(pinned) == (40 if source.hub else 64)
    assert set(pinned) <= set("0123456789abcdef")


@each_glue_task
def test_glue_task_comes_from_the_same_commit_of_glue(name: str) -> None:
    source = load_task(name).source
    assert (source.hub, source.config, source.revision) == ("nyu-mll/glue", name, GLUE_REVISION)


@each_glue_task
def test_glue_labels_are_numbered_as_on_the_hub(name: str) -> None:
    labels = load_task(name).labels
    expected = LABELS[name]
    assert labels == (None if expected is None else {label: number for number, label in enumerate(expected)})
    assert (None if labels is None else list(labels)) == expected


@each_glue_task
def test_main_metrics_of_glue_are_those_of_the_benchmark(name: str) -> None:
    assert load_task(name).main_metrics == MAIN_METRICS[name]


@each_glue_task
def test_glue_texts_are_the_columns_of_the_hub(name: str) -> None:
    assert load_task(name).text == TEXTS[name]


@each_glue_task
def test_hidden_glue_tests_are_predicted_and_never_scored(name: str) -> None:
    task = load_task(name)
    tests = {split for split in task.splits if split.startswith("test")}
    assert set(task.predict) == tests
    assert not tests & {*task.evaluate, *task.report, task.select_on}


def test_suite_of_a_task_is_its_folder() -> None:
    assert {task.name for task in all_tasks() if task.suite == "glue"} == set(LABELS)


SUPERGLUE = {"copa": "copa", "multirc": "multirc", "wic": "wic", "wsc": "wsc.fixed"}
"""The configuration of the Hub's data set, by task."""


@pytest.mark.parametrize("name", SUPERGLUE)
def test_superglue_task_comes_from_one_commit_and_hides_its_test_labels(name: str) -> None:
    task = load_task(name)
    source = (task.source.hub, task.source.config, task.source.revision)
    assert source == ("aps/super_glue", SUPERGLUE[name], "3de24cf8022e94f4ee4b9d55a6f539891524d646")
    assert (task.suite, task.predict) == ("superglue", ("test",))


def test_regression_has_one_score_and_no_labels() -> None:
    stsb, mnli = load_task("stsb"), load_task("mnli")
    assert (stsb.is_regression, stsb.classes) == (True, 1)
    assert (mnli.is_regression, mnli.classes) == (False, 3)


def test_diagnostic_set_is_predicted_by_mnli_with_its_labels() -> None:
    ax, mnli = load_task("ax"), load_task("mnli")
    assert ax.predicted_by == "mnli"
    assert "train" not in ax.splits
    assert ax.labels == mnli.labels
    assert ax.text == mnli.text


def test_task_predicted_by_another_names_one_of_its_suite() -> None:
    """Companions of a task are only looked for there."""
    predicted = [task for task in all_tasks() if task.predicted_by]
    assert {task.name for task in predicted} == {"ax", "axb", "axg"}
    assert all(load_task(str(task.predicted_by)).suite == task.suite for task in predicted)


def test_companions_are_the_tasks_predicted_by_this_one() -> None:
    assert [task.name for task in companion_tasks("mnli")] == ["ax"]
    assert companion_tasks("ax") == companion_tasks("sst2") == []


def test_mnli_selects_on_matched_and_reports_both() -> None:
    mnli = load_task("mnli")
    assert mnli.select_on == "validation_matched"
    assert mnli.report == ("validation_matched", "validation_mismatched")


def test_mrpc_and_wnli_train_as_long_as_in_the_published_table() -> None:
    """transformers' examples/pytorch/text-classification/README.md: 5 epochs for these two, 3 for others."""
    longer = {task.name for task in all_tasks() if task.suite == "glue" and task.recipe == {"epochs": 5}}
    plain = {task.name for task in all_tasks() if task.suite == "glue" and task.recipe == {}}
    assert (longer, longer | plain) == ({"mrpc", "wnli"}, set(LABELS))


def test_turkish_news_are_cut_50_25_25_after_a_shuffle() -> None:
    task = load_task("ttc4900")
    assert task.labels is not None
    assert set(task.labels) == {"teknoloji", "ekonomi", "saglik", "siyaset", "kultur", "spor", "dunya"}
    assert task.splits == {"train": "all[:50%]", "validation": "all[50%:75%]", "test": "all[75%:]"}
    assert task.source.shuffle is not None
    assert task.report == ("test",)
    assert task.select_on == "validation"


def test_imdb_halves_its_test_split_without_overlap() -> None:
    task = load_task("imdb")
    rows = {name: set(_imdb_rows(expression)) for name, expression in task.splits.items() if name != "train"}
    assert {name: len(numbers) for name, numbers in rows.items()} == {"validation": 12_500, "test": 12_500}
    assert rows["validation"] | rows["test"] == set(range(25_000))


def _imdb_rows(expression: str) -> list[int]:
    rows: list[int] = []
    for part in expression.split("+"):
        start, stop = part.removeprefix("test[").removesuffix("]").split(":")
        rows += range(25_000)[slice(int(start) if start else None, int(stop) if stop else None)]
    assert len(set(rows)) == len(rows)
    return rows


# -- loading a task ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, nearest", [("sst-2", "sst2"), ("MNLI", "mnli"), ("stbs", "stsb"), ("ttc", "ttc4900")])
def test_unknown_task_gets_the_nearest_name_and_all_names(name: str, nearest: str) -> None:
    with pytest.raises(UserError) as caught:
        load_task(name)
    message = str(caught.value)
    assert message.startswith(f"--task {name}: task not found. Did you mean {nearest!r}?")
    assert ", ".join(task_names()) in message


def test_unknown_task_without_a_near_name_gets_all_names() -> None:
    with pytest.raises(UserError) as caught:
        load_task("zzzzzz")
    assert "Did you mean" not in str(caught.value)
    assert ", ".join(task_names()) in str(caught.value)


@pytest.mark.parametrize("file_name", ["mine.yaml", "mine.yml"])
def test_task_of_your_own_is_loaded_by_path(tmp_path: Path, file_name: str) -> None:
    task = load_task(str(_file(tmp_path, name=file_name)))
    assert (task.name, task.title) == ("mine", "Mine")


def test_path_in_the_current_folder_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert load_task("mine.yaml").title == "Mine"
    assert load_task("./mine.yaml").title == "Mine"


@pytest.mark.parametrize("path", ["missing/mine.yaml", "mine.yml", "tasks/sst2"])
def test_path_without_a_file_is_refused(path: str) -> None:
    with pytest.raises(UserError, match=f"^--task {path}: file not found"):
        load_task(path)


def test_source_file_is_relative_to_the_task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tasks of mine"
    folder.mkdir()
    _file(folder)
    monkeypatch.chdir(tmp_path)
    assert load_task("tasks of mine/mine.yaml").source.file == str(folder / "data.csv")


def test_source_files_are_relative_to_the_task_file(tmp_path: Path) -> None:
    source = "{files: {train: rows/a.csv, validation: ../b.jsonl}}"
    files = _read(tmp_path, ("{file: data.csv}", source)).source.files
    assert files == {"train": str(tmp_path / "rows" / "a.csv"), "validation": str(tmp_path.parent / "b.jsonl")}


def test_absolute_path_and_url_stay_as_they_are(tmp_path: Path) -> None:
    source = "{files: {train: /data/a.csv, validation: 'https://example.org/b.csv?raw=1'}}"
    files = _read(tmp_path, ("{file: data.csv}", source)).source.files
    assert files == {"train": "/data/a.csv", "validation": "https://example.org/b.csv?raw=1"}


# -- keys and values ---------------------------------------------------------------------------------------------------


def test_single_name_is_a_list_of_one(tmp_path: Path) -> None:
    task = _read(tmp_path, ("metrics: [accuracy]", "metrics: accuracy"))
    assert (task.text, task.metrics, task.main_metrics) == (("text",), ("accuracy",), ("accuracy",))


@pytest.mark.parametrize("number", ["2e-5", "2E-5", "2.0e-5", "0.00002", "'2e-5'", "+2e-5"])
def test_learning_rate_may_be_written_in_any_way(tmp_path: Path, number: str) -> None:
    """PyYAML alone reads 2e-5 as text."""
    task = read_task(_file(tmp_path, GOOD + f"recipe: {{learning_rate: {number}}}\n"))
    assert Recipe(**task.recipe).learning_rate == 2e-5
    assert type(task.recipe["learning_rate"]) is (str if "'" in number else float)


@pytest.mark.parametrize(
    "written, labels",
    [
        ("[no, yes]", {"no": 0, "yes": 1}),
        ("[off, on]", {"off": 0, "on": 1}),
        ("[n, y]", {"n": 0, "y": 1}),
        ("[No, YES]", {"No": 0, "YES": 1}),
        ("['true', 'false']", {"true": 0, "false": 1}),
        ("{no: 1, yes: 0}", {"no": 1, "yes": 0}),
        ("[2024-01-31, 2024-02-01]", {"2024-01-31": 0, "2024-02-01": 1}),
        ("[010, 011]", {"010": 0, "011": 1}),
        ("['1:30', 1:31]", {"1:30": 0, "1:31": 1}),
        ("{bad: neg, good: pos}", {"bad": "neg", "good": "pos"}),
        ("{bad: -1, good: 1}", {"bad": -1, "good": 1}),
        ("[çok iyi, kötü]", {"çok iyi": 0, "kötü": 1}),
    ],
)
def test_labels_are_read_as_they_are_written(tmp_path: Path, written: str, labels: dict[str, str | int]) -> None:
    """YAML 1.1 would read some as booleans, dates, octal or sexagesimal numbers."""
    task = _read(tmp_path, ("[bad, good]", written))
    assert list((task.labels or {}).items()) == list(labels.items())


def test_number_in_a_list_of_labels_is_its_own_value(tmp_path: Path) -> None:
    """If 1 were class 0 because it comes first, predictions on a file of ones and zeros would be swapped."""
    assert _read(tmp_path, ("[bad, good]", "[1, 0]")).labels == {"1": 1, "0": 0}
    assert _read(tmp_path, ("[bad, good]", "[1, 2, 3]")).labels == {"1": 1, "2": 2, "3": 3}


def test_version_is_one_unless_it_is_given(tmp_path: Path) -> None:
    assert read_task(_file(tmp_path)).version == 1
    assert read_task(_file(tmp_path, GOOD + "version: 3\n")).version == 3


def test_metric_that_only_evaluate_knows_is_allowed(tmp_path: Path) -> None:
    assert _read(tmp_path, ("[accuracy]", "[accuracy, own/metric.py]")).metrics == ("accuracy", "own/metric.py")


# -- invalid files -----------------------------------------------------------------------------------------------------

GOOD_END_WITH_F1_OF_THREE = (
    GOOD[GOOD.index("[bad, good]") :]
    .replace("[bad, good]", "[bad, fair, good]")
    .replace("[accuracy]", "[accuracy, f1]")
)
LABELS_NEED_QUOTES = "put quotes around a label"

BAD = {
    "unknown key": (("metrics: [", "metrcs: ["), 8, "unknown key 'metrcs'. Did you mean 'metrics'?"),
    "unknown key near to none": (("title: Mine", "title: Mine\nzzzz: 1"), 2, "unknown key 'zzzz'."),
    "number as a key": (("title: Mine", "title: Mine\n3: x"), 2, "unknown key '3'."),
    "name of the task": (("title: Mine", "title: Mine\nname: x"), 2, "unknown key 'name'"),
    "key twice": (("title: Mine", "title: Mine\ntitle: Yours"), 2, "duplicate key 'title'"),
    "row count twice": (("{train: 2,", "{train: 2, train: 3,"), 7, "duplicate key 'train'"),
    "unknown key of the source": (
        ("{file: data.csv}", "\n  file: data.csv\n  shufle: 42"),
        4,
        "unknown key 'shufle'. Did you mean 'shuffle'?",
    ),
    "unknown hyperparameter": (
        ("title: Mine", "title: Mine\nrecipe: {learning_rte: 2e-5}"),
        2,
        "unknown key 'learning_rte'. Did you mean 'learning_rate'?",
    ),
    "switch for a number": (("title: Mine", "title: Mine\nrecipe: {freeze: true}"), 2, "freeze"),
    "switch for a seed": (
        ("{file: data.csv}", "{file: data.csv, shuffle: true}"),
        2,
        "source.shuffle: expected a number",
    ),
    "switch for a version": (("title: Mine", "title: Mine\nversion: true"), 2, "version: expected a number"),
    "switch for a number of rows": (("{train: 2,", "{train: true,"), 7, "rows.train"),
    "bad hyperparameter": (("title: Mine", "title: Mine\nrecipe: {epochs: 0}"), 2, "epochs"),
    "bad hyperparameter in a line of its own": (
        ("title: Mine", "title: Mine\nrecipe:\n  max_length: 32\n  epochs: 0"),
        4,
        "epochs",
    ),
    "unknown hyperparameter in a line of its own": (
        ("title: Mine", "title: Mine\nrecipe:\n  max_length: 32\n  epoch: 3"),
        4,
        "unknown key 'epoch'",
    ),
    "recipe that is not a mapping": (("title: Mine", "title: Mine\nrecipe: fast"), 2, "recipe: expected keys"),
    "no title": (("title: Mine\n", ""), 1, "missing key 'title'"),
    "no source": (("source: {file: data.csv}\n", ""), 1, "missing key 'source'"),
    "no text": (("text: text\n", ""), 1, "missing key 'text'"),
    "no splits": (('splits: {train: "all[:50%]", validation: "all[50%:]"}\n', ""), 1, "missing key 'splits'"),
    "no metrics": (("metrics: [accuracy]\n", ""), 1, "missing key 'metrics'"),
    "no main_metrics": (("main_metrics: accuracy\n", ""), 1, "missing key 'main_metrics'"),
    "title that is a number": (("title: Mine", "title: 2024"), 1, "title: Input should be a valid string (got 2024)"),
    "source that is a text": (("{file: data.csv}", "data.csv"), 2, "(got 'data.csv')"),
    "empty source": (("{file: data.csv}", "{}"), 2, "source: expected exactly one of hub, file, files"),
    "two sources": (("data.csv", "data.csv, hub: a/b"), 2, "source: expected exactly one of hub, file, files"),
    "no files": (("file: data.csv", "files: {}"), 2, "source: expected exactly one of hub, file, files"),
    "file of no known format": (
        ("data.csv", "data.xls"),
        2,
        "source: 'data.xls': unsupported file format: expected the extension csv, tsv, json",
    ),
    "files of no known format": (
        ("file: data.csv", "files: {train: a.csv, validation: b}"),
        2,
        "'b': unsupported file format",
    ),
    "template without a column": (("label: label", "templates: {text: x}"), 4, "templates: text: 'x' has no"),
    "template with code": (
        ("label: label", 'templates: {text: "{title.upper()!r}"}'),
        4,
        "templates: text: invalid {title",
    ),
    "template of no text": (("label: label", 'templates: {body: "{title}"}'), 4, "templates: 'body' is not in text"),
    "template and join": (
        ("label: label", 'join: {text: [a, b]}\ntemplates: {text: "{title}"}'),
        5,
        "templates: 'text' is also in 'join'",
    ),
    "mark in no text": (("label: label", 'marks: {body: {"*": {start: a, end: b}}}'), 4, "marks: 'body' is not in"),
    "choices of another problem type": (
        ("label: label", "choices: [a, b]\nproblem_type: single_label_classification"),
        4,
        "choices: needs 'problem_type: multiple_choice'",
    ),
    "choices of a pair": (("text: text\nlabel: label", "text: [text, other]\nchoices: [a, b]"), 4, "choices: "),
    "too few labels of choices": (("label: label", "choices: [a, b, c]"), 4, "choices: expected a label for each of 3"),
    "metric of no choice": (
        ("[accuracy]", "[accuracy, f1_macro]\nchoices: [a, b]"),
        8,
        "metrics: 'f1_macro' does not support multiple_choice; supported: accuracy",
    ),
    "candidates of another problem type": (
        ("label: label", "candidates: text\nproblem_type: single_label_classification"),
        4,
        "candidates: needs 'problem_type: answer_selection'",
    ),
    "multiple choice without choices": (
        ("label: label", "problem_type: multiple_choice"),
        4,
        "problem_type: multiple_choice needs 'choices'",
    ),
    "selection without candidates": (
        ("label: label", "problem_type: answer_selection"),
        4,
        "problem_type: answer_selection needs 'candidates'",
    ),
    "candidates in no text": (("label: label", "candidates: names"), 4, "candidates: 'names' is in no text"),
    "candidates with groups": (("label: label", "candidates: text\ngroup: a"), 4, "candidates: they are the rows of a"),
    "filled text that is marked": (
        ("label: label", 'candidates: names\nfill: {text: "@"}\nmarks: {text: {"*": {start: a, end: b}}}'),
        5,
        "fill: 'text' is also in 'marks'",
    ),
    "placeholder without candidates": (("label: label", 'fill: {text: "@"}'), 4, "fill: needs 'candidates'"),
    "placeholder in no text": (("label: label", 'candidates: text\nfill: {body: "@"}'), 5, "fill: 'body' is not in"),
    "empty placeholder": (("label: label", 'candidates: text\nfill: {text: ""}'), 5, "fill: text: expected the text"),
    "metric of another kind of answer": (
        ("[accuracy]", "[accuracy]\ncandidates: text"),
        8,
        "metrics: 'accuracy' does not support answer_selection; supported: answer_f1, answer_exact_match",
    ),
    "metric of evaluate for selected answers": (
        ("[accuracy]\nmain_metrics: accuracy", "[own.py]\ncandidates: text\nmain_metrics: own.py"),
        8,
        "metrics: 'own.py' does not support answer_selection",
    ),
    "two kinds of group": (("label: label", "group: a\ngroup_rows: 2"), 5, "group_rows: not used with 'group'"),
    "group of one row": (("label: label", "group_rows: 1"), 4, "group_rows: "),
    "metric over groups without groups": (("[accuracy]", "[accuracy, exact_match_by_group]"), 8, "metrics: 'exact_"),
    "half a span": (("label: label", 'marks: {text: {"*": {start: a}}}'), 4, "start and end, or first_word and text"),
    "span without columns": (
        ("label: label", 'marks: {text: {"*": {start: null, end: null}}}'),
        4,
        "start and end, or",
    ),
    "two kinds of span": (
        ("label: label", 'marks: {text: {"*": {start: a, text: b}}}'),
        4,
        "start and end, or first_word",
    ),
    "revision of a file": (("data.csv", "data.csv, revision: abc"), 2, "source: config and revision"),
    "checksum of a Hub source": (("file: data.csv", f"hub: a/b, sha256: {'0' * 64}"), 2, "source: sha256 and shuffle"),
    "shuffle by 0 of a Hub source": (("file: data.csv", "hub: a/b, shuffle: 0"), 2, "source: sha256 and shuffle"),
    "invalid checksum": (("data.csv", "data.csv, sha256: abc"), 2, "source.sha256: "),
    "text columns, none": (("text: text", "text: []"), 3, "text: "),
    "text columns, three": (
        ("text: text", "text: [a, b, c]"),
        3,
        "text: expected a text or a pair, got 3 columns: join",
    ),
    "text column that is a number": (("text: text", "text: 3"), 3, "(got 3)"),
    "label twice": (("[bad, good]", "[bad, good, bad]"), 5, "labels: duplicate label"),
    "label twice, as text and number": (("[bad, good]", "[1, '1']"), 5, "labels: duplicate label"),
    "label twice, as keys": (("[bad, good]", "{bad: 0, bad: 1}"), 5, "duplicate key 'bad'"),
    "numbers in quotes as labels": (("[bad, good]", "['1', '2']"), 5, "without quotes"),
    "label value twice": (("[bad, good]", "{bad: 0, good: '0'}"), 5, "labels: duplicate value"),
    "label value that is another's name": (("[bad, good]", "['1', '0']"), 5, "the name of another label"),
    "one label": (("[bad, good]", "[good]"), 5, "labels: a classification needs two labels"),
    "label that is a boolean": (("[bad, good]", "[true, false]"), 5, LABELS_NEED_QUOTES),
    "label that is a fraction": (("[bad, good]", "[0.5, 1.5]"), 5, LABELS_NEED_QUOTES),
    "label that is null": (("[bad, good]", "[null, good]"), 5, LABELS_NEED_QUOTES),
    "label that is a list": (("[bad, good]", "[[bad], good]"), 5, LABELS_NEED_QUOTES),
    "labels as number: name": (("[bad, good]", "{0: bad, 1: good}"), 5, "as in 'negative: 0'"),
    "label without a value": (("[bad, good]", "{bad: , good: 1}"), 5, "the value of 'bad' is None"),
    "labels that are a text": (("[bad, good]", "bad"), 5, "labels: expected a list"),
    "split without a closing bracket": (("all[:50%]", "all[:50%"), 6, "splits: 'train' is 'all[:50%'"),
    "split of words": (("all[50%:]", "all[half:]"), 6, "splits: 'validation' is 'all[half:]'"),
    "part of a sum of splits": (("all[:50%]", "a+b[1]"), 6, "splits: 'train' is 'a+b[1]'"),
    "stratified split of a number": (("all[:50%]", "all[stratified 50]"), 6, "splits: 'train' is"),
    "empty split": (('"all[:50%]"', '""'), 6, "splits: 'train' is ''"),
    "splits that are a list": (
        ('{train: "all[:50%]", validation: "all[50%:]"}', "[train, validation]"),
        6,
        "splits: expected keys and values",
    ),
    "split that leads into another folder": (
        ("splits: {train:", "splits: {/../../victim: all, train:"),
        6,
        "files are named after it",
    ),
    "split with a backslash": (("splits: {train:", "splits: {a\\b: all, train:"), 6, "files are named after it"),
    "split with an ampersand": (("splits: {train:", "splits: {a & b: all, train:"), 6, "files are named after it"),
    "hidden split": (("splits: {train:", "splits: {.train: all, train:"), 6, "files are named after it"),
    "split with a long name": (("splits: {train:", f"splits: {{{'ş' * 51}: all, train:"), 6, "at most 100 bytes"),
    "hidden labels of the training rows": (("main_metrics:", "predict: train\nmain_metrics:"), 9, "predict: 'train'"),
    "hidden labels of an evaluated split": (("rows:", "predict: validation\nrows:"), 7, "predict: 'validation'"),
    "half a character": (("title: Mine", 'title: "a\\ud800b"'), 1, "surrogate"),
    "half a character in a label": (("[bad, good]", '["\\udfff", good]'), 5, "surrogate"),
    "no training rows": (("train:", "trian:"), 6, "splits: missing 'train'"),
    "rows of no split": (("rows: {train", "rows: {trian"), 7, "rows: 'trian' is not in splits"),
    "rows that are a word": (("{train: 2", "{train: many"), 7, "rows.train: "),
    "rows below one": (("{train: 2", "{train: 0"), 7, "rows.train: "),
    "rows that are a fraction": (("{train: 2", "{train: 2.5"), 7, "rows.train: "),
    "classification scored as a regression": (
        ("[accuracy]", "[accuracy, pearson]"),
        8,
        "metrics: 'pearson' does not support single_label_classification; supported: accuracy, f1",
    ),
    "regression scored as a classification": (
        ("labels: [bad, good]\n", ""),
        7,
        "metrics: 'accuracy' does not support regression; supported: pearson",
    ),
    "binary F1 of three labels": ((GOOD[GOOD.index("[bad, good]") :], GOOD_END_WITH_F1_OF_THREE), 8, "metrics: 'f1'"),
    "unknown problem type": (
        ("label: label", "problem_type: multi"),
        4,
        "problem_type: Input should be 'single_label_classification', 'regression'",
    ),
    "regression with labels": (("label: label", "problem_type: regression"), 4, "problem_type: a regression"),
    "classification without labels": (
        ("labels: [bad, good]", "problem_type: multi_label_classification"),
        5,
        "problem_type: multi_label_classification needs labels",
    ),
    "several label columns of one label": (
        ("label: label", "label: [a, b]"),
        4,
        "label: several label columns need 'problem_type: multi_label_classification'",
    ),
    "separator of one label": (
        ("label: label", "separator: ;"),
        4,
        "separator: needs 'problem_type: multi_label_classification'",
    ),
    "separator of several columns": (
        ("label: label", "problem_type: multi_label_classification\nlabel: [a, b]\nseparator: ;"),
        6,
        "separator: ",
    ),
    "columns that are not as many as labels": (
        ("label: label", "problem_type: multi_label_classification\nlabel: [a, b, c]"),
        5,
        "label: expected 2 different columns",
    ),
    "column of two labels": (
        ("label: label", "problem_type: multi_label_classification\nlabel: [a, a]"),
        5,
        "label: expected 2 different columns",
    ),
    "several labels scored as one": (
        ("label: label", "problem_type: multi_label_classification"),
        8,
        "metrics: 'accuracy' does not support multi_label_classification; supported: f1_macro, f1_micro",
    ),
    "one label scored as several": (
        ("[accuracy]", "[accuracy, subset_accuracy]"),
        8,
        "metrics: 'subset_accuracy' does not support single_label_classification",
    ),
    "weights of the classes of a regression": (
        (
            GOOD[GOOD.index("labels:") :],
            "splits: {train: a, validation: b}\nrows: {}\nmetrics: [mse]\nmain_metrics: mse\n"
            "recipe: {class_weights: balanced}\n",
        ),
        9,
        "recipe: class_weights (--class-weights) is 'balanced', but mine is a regression",
    ),
    "threshold of one label": (
        ("main_metrics:", "recipe: {threshold: validation}\nmain_metrics:"),
        9,
        "recipe: threshold (--threshold) is 'validation', but mine is not a multi-label task",
    ),
    "empty metrics": (("[accuracy]", "[]"), 8, "metrics: "),
    "metric twice": (("[accuracy]", "[accuracy, f1, accuracy]"), 8, "metrics: 'accuracy' is a duplicate"),
    "main metric twice": (
        ("[accuracy]\nmain_metrics: accuracy", "[accuracy, f1]\nmain_metrics: [f1, accuracy, f1]"),
        9,
        "main_metrics: 'f1' is a duplicate",
    ),
    "reported split twice": (
        ("main_metrics:", "report: [validation, validation]\nmain_metrics:"),
        9,
        "report: 'validation' is a duplicate",
    ),
    "main metric that is not a metric": (
        ("main_metrics: accuracy", "main_metrics: f1"),
        9,
        "main_metrics: 'f1' is not in metrics (accuracy)",
    ),
    "evaluate of no split": (
        ("main_metrics:", "evaluate: [validation, tset]\nmain_metrics:"),
        9,
        "evaluate: 'tset' is not in splits (train, validation)",
    ),
    "predict of no split": (("main_metrics:", "predict: test\nmain_metrics:"), 9, "predict: 'test' is not in splits"),
    "select on no split": (
        ("main_metrics:", "select_on: test\nmain_metrics:"),
        9,
        "select_on: 'test' is not in splits",
    ),
    "report of a split that is not evaluated": (
        ("main_metrics:", "report: train\nmain_metrics:"),
        9,
        "report: 'train' is not in evaluate (validation)",
    ),
    "version below one": (("title: Mine", "title: Mine\nversion: 0"), 2, "version: "),
    "version that no record holds": (("title: Mine", f"title: Mine\nversion: {2**63}"), 2, "version: "),
    "rows that no record holds": (("rows: {train: 2,", f"rows: {{train: {2**63},"), 7, "rows.train: "),
    "list that is not closed": (("[bad, good]", "[bad, good"), 6, "invalid YAML"),
    "tab": (("text: text", "text:\n\ttext"), 4, "invalid YAML"),
    "second document": (("main_metrics:", "---\nmain_metrics:"), 9, "invalid YAML"),
    "object of Python": (("title: Mine", "title: !!python/name:os.system"), 1, "invalid YAML"),
    "list as a key": (("title: Mine", "title: Mine\n? [a, b]\n: x"), 2, "invalid YAML"),
}


@pytest.mark.parametrize("what", BAD)
def test_invalid_file_is_refused_with_line_and_reason(tmp_path: Path, what: str) -> None:
    change, line, reason = BAD[what]
    path = _file(tmp_path, _changed(change))
    with pytest.raises(UserError) as caught:
        read_task(path)
    lines = str(caught.value).splitlines()
    assert [text for text in lines if text.startswith(f"{path}:{line}: ") and reason in text]


def test_metric_of_another_problem_type_is_named_with_its_own_line_and_the_nearest_that_fits(tmp_path: Path) -> None:
    sets = ("label: label", "label: label\nproblem_type: multi_label_classification")
    metrics = ("metrics: [accuracy]", "metrics:\n- f1_micro\n- accuracy")
    text = _changed(sets, metrics, ("main_metrics: accuracy", "main_metrics: f1_micro"))
    line = text.splitlines().index("- accuracy") + 1
    with pytest.raises(UserError, match=rf"mine\.yaml:{line}: metrics: 'accuracy' .* Did you mean 'subset_accuracy'"):
        read_task(_file(tmp_path, text))


@pytest.mark.parametrize("text", ["", "just a text", "- a\n- list\n", "# a comment\n", "3"])
def test_file_without_keys_is_refused(tmp_path: Path, text: str) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(UserError) as caught:
        read_task(path)
    assert str(caught.value).startswith(f"{path}:1: expected keys and values")


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"title: \xff\xfe")
    with pytest.raises(UserError) as caught:
        read_task(path)
    assert str(caught.value).startswith(f"{path}: invalid YAML")


@pytest.mark.parametrize("name", ["...yaml", ".yaml", "a\\b.yaml", "a\nb.yaml", "\udcff.yaml", f"{'a' * 101}.yaml"])
def test_task_has_a_name_that_its_files_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="files are named after it"):
        read_task(_file(tmp_path, name=name))


def test_names_of_any_script_are_allowed(tmp_path: Path) -> None:
    path = _file(tmp_path, _changed(("splits: {train:", "splits: {ölçüm-1.a b: all, train:")), name="my görev.v2.yaml")
    assert read_task(path).name == "my görev.v2"


def test_text_of_a_task_has_no_credentials(tmp_path: Path) -> None:
    urls = ("https://me:S3CR3T@host/a.csv?X-Amz-Signature=S3CR3T", "https://host/b.csv?raw=1#sha256=" + "0" * 64)
    task = _read(tmp_path, ("file: data.csv", f"files: {{train: '{urls[0]}', all: ['{urls[1]}']}}"))
    assert task.source.file_references == {"train": urls[:1], "all": urls[1:]}, "for the download"
    copy = read_task(_file(tmp_path, task_text(task), name="copy.yaml"))
    assert copy.source.file_references == {"train": ("https://host/a.csv",), "all": urls[1:]}
    assert copy.fingerprint == task.fingerprint


def test_every_error_is_named_once_and_at_once(tmp_path: Path) -> None:
    path = _file(tmp_path, _changed(("title:", "titel:"), ("metrics: [", "metrcs: [")))
    with pytest.raises(UserError) as caught:
        read_task(path)
    assert sorted(str(caught.value).splitlines()) == sorted(
        [
            f"{path}:1: missing key 'title'.",
            f"{path}:1: missing key 'metrics'.",
            f"{path}:1: unknown key 'titel'. Did you mean 'title'?",
            f"{path}:8: unknown key 'metrcs'. Did you mean 'metrics'?",
        ]
    )


def test_messages_hide_the_library(tmp_path: Path) -> None:
    """No pydantic links, class names or union branches in a message."""
    for change, _, _ in BAD.values():
        with pytest.raises(UserError) as caught:
            read_task(_file(tmp_path, _changed(change)))
        message = str(caught.value)
        assert "pydantic" not in message
        assert "TaskSpec" not in message
        assert "function-" not in message
        assert "[key]" not in message


# -- the fingerprint ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "old, new",
    [
        ("[bad, good]", "[good, bad]"),
        ("[bad, good]", "[bad, fair, good]"),
        ("[bad, good]", "{good: 1, bad: 0}"),
        ("all[:50%]", "all[:40%]"),
        ("text: text", "text: title"),
        ("text: text", "text: [text, label]"),
        ("label: label", "label: category"),
        ("data.csv", f"data.csv, sha256: {'0' * 64}"),
        ("data.csv", "data.csv, shuffle: 42"),
        ("main_metrics:", "select_on: train\nmain_metrics:"),
        ("main_metrics:", "evaluate: [train, validation]\nmain_metrics:"),
    ],
)
def test_fingerprint_changes_with_rows_and_labels(tmp_path: Path, old: str, new: str) -> None:
    """Another order of the labels renumbers the classes, and F1 is that of class 1."""
    before = read_task(_file(tmp_path)).fingerprint
    assert _read(tmp_path, (old, new)).fingerprint != before


@pytest.mark.parametrize(
    "keys",
    [
        'templates: {text: "{title}: {body}"}',
        'templates: {text: "{title} - {body}"}',
        'marks: {text: {"*": {start: a, end: b}}}',
        'marks: {text: {"#": {start: a, end: b}}}',
        'marks: {text: {"*": {first_word: a, text: b}}}',
        "group: question",
        "group_rows: 2",
        "choices: [bad, good]",
        "choices: [good, bad]",
        "group: [question, answer]",
    ],
)
def test_fingerprint_changes_with_templates_and_marks(tmp_path: Path, keys: str) -> None:
    fingerprints = {
        read_task(_file(tmp_path)).fingerprint,
        _read(tmp_path, ("label: label", "join: {text: [title, body]}")).fingerprint,
    }
    assert _read(tmp_path, ("label: label", keys)).fingerprint not in fingerprints


def test_fingerprint_changes_with_candidates_and_their_placeholder(tmp_path: Path) -> None:
    keys = ["candidates: text", 'candidates: names\nfill: {text: "@"}', 'candidates: names\nfill: {text: "#"}']
    metrics = (("[accuracy]", "[answer_f1]"), ("main_metrics: accuracy", "main_metrics: answer_f1"))
    tasks = [_read(tmp_path, ("label: label", key), *metrics) for key in keys]
    assert len({task.fingerprint for task in tasks}) == 3
    assert {"names", "label", "text"} == tasks[1].columns


def test_fingerprint_changes_with_the_source(tmp_path: Path) -> None:
    sources = [
        "{hub: a/b}",
        "{hub: a/c}",
        "{hub: a/b, revision: x}",
        "{hub: a/b, revision: y}",
        "{hub: a/b, config: x}",
    ]
    fingerprints = {_read(tmp_path, ("{file: data.csv}", source)).fingerprint for source in sources}
    assert len(fingerprints) == len(sources)


@pytest.mark.parametrize(
    "old, new",
    [
        ("title: Mine", "title: Yours"),
        ("data.csv", "elsewhere/rows.csv"),
        ("[accuracy]", "[accuracy, f1]"),
        ("[bad, good]", "{bad: 0, good: 1}"),
        ("main_metrics:", "select_on: validation\nmain_metrics:"),
        ("main_metrics:", "suite: mine\nmain_metrics:"),
        ("main_metrics:", "id: idx\nmain_metrics:"),
        ("main_metrics:", "model: a/b\nmain_metrics:"),
        ("main_metrics:", "recipe: {epochs: 7}\nmain_metrics:"),
        ("{train: 2, validation: 2}", "{train: 3, validation: 3}"),
    ],
)
def test_fingerprint_keeps_when_no_score_can_change(tmp_path: Path, old: str, new: str) -> None:
    before = read_task(_file(tmp_path)).fingerprint
    assert _read(tmp_path, (old, new)).fingerprint == before


def test_fingerprint_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    first, second = read_task(_file(tmp_path)), read_task(_file(tmp_path / "elsewhere", name="other.yaml"))
    assert first.source.file != second.source.file
    assert first.fingerprint == second.fingerprint


def test_fingerprint_changes_with_the_problem_type_and_the_format_of_the_labels(tmp_path: Path) -> None:
    metrics = ("[accuracy]\nmain_metrics: accuracy", "[f1_micro]\nmain_metrics: f1_micro")
    single = read_task(_file(tmp_path)).fingerprint
    fingerprints = {single}
    formats = ["label: label", "label: label\nseparator: ;", "label: label\nseparator: '|'", "label: [bad, good]"]
    for label in formats:
        changes = ("label: label", f"problem_type: multi_label_classification\n{label}")
        fingerprints.add(_read(tmp_path, changes, metrics).fingerprint)
    assert len(fingerprints) == len(formats) + 1
    explicit = _read(tmp_path, ("label: label", "problem_type: single_label_classification\nlabel: label"))
    assert explicit.fingerprint == single


def test_fingerprints_of_the_registry_differ() -> None:
    assert len({task.fingerprint for task in all_tasks()}) == len(all_tasks())


def test_fingerprint_of_published_records_is_frozen(tmp_path: Path) -> None:
    """Records contain it: when this value changes, no published record matches its task."""
    assert read_task(_file(tmp_path)).fingerprint == "a9dddc853278"


# -- the holdout protocol ----------------------------------------------------------------------------------------------


def test_standard_protocol_changes_nothing() -> None:
    task = load_task("mnli")
    assert apply_protocol(task, "standard") == task


def test_holdout_reports_a_half_that_selection_does_not_use() -> None:
    task = apply_protocol(load_task("mnli"), "holdout")
    assert task.select_on == "validation_matched"
    assert task.report == (holdout_split("validation_matched"), holdout_split("validation_mismatched"))
    assert set(task.report) <= set(task.evaluate)
    assert task.select_on not in task.report


def test_holdout_has_another_fingerprint() -> None:
    task = load_task("rte")
    assert apply_protocol(task, "holdout").fingerprint != task.fingerprint


@pytest.mark.parametrize("name", ["imdb", "ttc4900"])
def test_holdout_of_a_task_that_reports_another_split_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"^--protocol holdout: {name} .*'validation'.*'test'"):
        apply_protocol(load_task(name), "holdout")


def test_recipe_that_the_problem_type_does_not_support_is_refused() -> None:
    balanced = Recipe(class_weights="balanced")
    check_recipe(load_task("rte"), balanced)
    with pytest.raises(UserError, match=r"\(--class-weights\) is 'balanced', but stsb is a regression"):
        check_recipe(load_task("stsb"), balanced)
    with pytest.raises(UserError, match=r"\(--threshold\) is 'validation', but rte is not a multi-label task"):
        check_recipe(load_task("rte"), Recipe(threshold="validation"))
    check_recipe(load_task("stsb"), Recipe(label_scaling="unit"))
    with pytest.raises(UserError, match=r"\(--label-scaling\) is 'unit', but rte is no regression"):
        check_recipe(load_task("rte"), Recipe(label_scaling="unit"))
    check_recipe(load_task("rte"), Recipe(label_smoothing=0.1))
    multi_label = load_task("rte").model_copy(update={"problem_type": "multi_label_classification"})
    for task in (load_task("stsb"), multi_label):
        with pytest.raises(
            UserError, match=rf"\(--label-smoothing\) is 0\.1, but {task.name} is a {task.problem_type}"
        ):
            check_recipe(task, Recipe(label_smoothing=0.1))


def test_selection_by_a_metric_needs_a_task_that_computes_it() -> None:
    check_recipe(load_task("cola"), Recipe(select="accuracy"))
    with pytest.raises(UserError, match=r"\(--select\) is 'pearson', .* cola: expected last, .*, accuracy, f1"):
        check_recipe(load_task("cola"), Recipe(select="pearson"))


@pytest.mark.parametrize("name", ["cola", "copa"])
def test_both_orders_need_a_pair_of_texts(name: str) -> None:
    check_recipe(load_task("mrpc"), Recipe(pair_order="both"))
    with pytest.raises(UserError, match=rf"\(--pair-order\) is 'both', but a row of {name}"):
        check_recipe(load_task(name), Recipe(pair_order="both"))


# -- a task as YAML ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", task_names())
def test_registered_task_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    task = load_task(name)
    path = tmp_path / f"{name}.yaml"
    path.write_text(task_text(task), encoding="utf-8")
    written = read_task(path)
    assert written.model_copy(update={"source": task.source}) == task
    assert written.source.relative_to(None) == task.source.relative_to(None)


def test_labels_that_look_like_other_types_are_read_as_text(tmp_path: Path) -> None:
    labels = [
        "no",
        "2e5",
        "010",
        "1",
        "null",
        "~",
        "2024-01-31",
        "true",
        "1.5",
        "a: b",
        "#x",
        "- y",
        "ığüş",
        " ",
        "'q'",
    ]
    facts = load_task("ttc4900").model_dump() | {"name": "odd", "labels": {label: label for label in labels}}
    task = TaskSpec(**facts)
    path = tmp_path / "odd.yaml"
    path.write_text(task_text(task), encoding="utf-8")
    assert read_task(path).labels == task.labels
    assert read_task(path).fingerprint == task.fingerprint


def test_folder_of_own_files_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    task = load_task("rte")
    source = {"files": {"train": str(tmp_path / "home/a.csv"), "validation": "https://example.org/b.csv"}}
    own = TaskSpec(**task.model_dump() | {"source": source})
    assert "home" not in task_text(own)
    (tmp_path / "rte.yaml").write_text(task_text(own))
    files = {"train": str((tmp_path / "a.csv").resolve()), "validation": "https://example.org/b.csv"}
    assert read_task(tmp_path / "rte.yaml").source.files == files
