"""Published rows: the ones that come with the harness, the line of every fault in a file, and scores in tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.boards import record, table_with

from harness.errors import UserError
from harness.facts.published import load_row, published_rows, read_row, references, row_names, row_text
from harness.facts.recipes import Recipe
from harness.facts.tasks import check_recipe, load_task, task_names
from harness.reports.data_files import render_json
from harness.reports.formulas import formulas
from harness.reports.html import render_html
from harness.reports.markdown import render_markdown
from harness.reports.pair_tests import pair_tests
from harness.reports.standings import build_leaderboard

WHOLE = """\
model: org/base
source: a paper, table 1
setting: 3 epochs
seeds: [1, 2, 3]
aggregate: median
plus_minus_is: standard_deviation
recipe: {epochs: 3, learning_rate: 1e-5}
tasks:
  rte:
    recipe: {epochs: 10, init_from: mnli}
    scores:
      - {metric: accuracy, split: validation, value: 70.5, plus_minus: 1}
  mnli:
conflicts:
  script:
    source: its script
    note: the script has another rate
    recipe: {learning_rate: 2e-5, epochs: 4}
    tasks: {rte: {epochs: 7}}
"""


def _row(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text.replace("  mnli:\n", "  mnli: {}\n"), encoding="utf-8")
    return path


def test_every_key_of_a_file_is_read(tmp_path: Path) -> None:
    row = read_row(_row(tmp_path, WHOLE))
    assert (row.name, row.model, row.seeds_of("rte"), row.aggregate_of("rte")) == (
        "mine",
        "org/base",
        (1, 2, 3),
        "median",
    )
    assert [(score.value, score.plus_minus) for score in row.tasks["rte"].scores] == [(70.5, 1.0)]


def test_narrower_recipes_win(tmp_path: Path) -> None:
    row = read_row(_row(tmp_path, WHOLE))
    assert row.recipe_of("rte") == {"epochs": 10, "learning_rate": 1e-5, "init_from": "mnli"}
    assert row.recipe_of("mnli", "script") == {"epochs": 4, "learning_rate": 2e-5}
    assert row.recipe_of("rte", "script") == {"epochs": 7, "learning_rate": 2e-5, "init_from": "mnli"}
    assert load_row("minilm-l6").recipe_of("cola") is None


def test_a_task_may_have_seeds_and_a_statistic_of_its_own(tmp_path: Path) -> None:
    row = read_row(_row(tmp_path, WHOLE.replace("  mnli:\n", "  mnli: {seeds: 7, aggregate: best}\n")))
    assert [(row.number_of_runs(task), row.aggregate_of(task)) for task in row.tasks] == [(3, "median"), (7, "best")]
    assert load_row("roberta-base").number_of_runs("rte") is None
    assert load_row("roberta-base").aggregate_of("rte") == "mean"


def test_text_of_a_row_is_read_as_the_row(tmp_path: Path) -> None:
    for name, row in {**published_rows(), "mine": read_row(_row(tmp_path, WHOLE))}.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(row_text(row), encoding="utf-8")
        assert read_row(path) == row


@pytest.mark.parametrize(
    "old, new, line, part",
    [
        ("setting: 3 epochs\n", "", 1, "setting"),
        ("setting:", "setings:", 3, "'setting'"),
        ("source: a", "source: [a]\nname: b #", 3, "'name'"),
        ("seeds: [1, 2, 3]", "seeds: [1, 1]", 4, "seeds"),
        ("seeds: [1, 2, 3]", "seeds: 0", 4, "seeds"),
        ("seeds: [1, 2, 3]", "seeds: many", 4, "seeds"),
        ("    scores:", "    seeds: -1\n    scores:", 11, "seeds"),
        ("median", "mode", 5, "'mode'"),
        ("seeds: [1, 2, 3]\naggregate: median", "aggregate: best", 4, "seeds"),
        ("plus_minus_is: standard_deviation\n", "", 11, "plus_minus_is"),
        ("recipe: {epochs: 3,", "recipe: {epoch: 3,", 7, "'epochs'"),
        ("{epochs: 3,", "{epochs: x,", 7, "'x'"),
        ("{epochs: 10, init_from: mnli}", "{epoch: 10}", 10, "'epochs'"),
        ("{epochs: 10, init_from: mnli}", "\n      epochs: 0", 11, "epochs"),
        ("init_from: mnli", "init_from: sst2", 10, "'sst2'"),
        ("value: 70.5", "value: 705", 12, "705"),
        ("value: 70.5", "value: .nan", 12, "value"),
        ("value: 70.5", "worth: 70.5", 12, "'worth'"),
        ("split: validation, ", "", 12, "split"),
        ("metric: accuracy", "metric: acuracy", 12, "'accuracy'"),
        (
            "plus_minus: 1}\n",
            "plus_minus: 1}\n      - {metric: accuracy, split: validation, value: 1}\n",
            13,
            "duplicate",
        ),
        ("plus_minus: 1}", "plus_minus: 1, by_seed: [1, 2]}", 12, "by_seed"),
        ("    note: the script", "    notes: the script", 17, "'note'"),
        ("{learning_rate: 2e-5, epochs: 4}", "{learning_rate: -1}", 18, "learning_rate"),
        ("tasks: {rte: {epochs: 7}}", "tasks: {rta: {epochs: 7}}", 19, "'rte'"),
        ("tasks: {rte: {epochs: 7}}", "tasks: {rte: {epochs: x}}", 19, "'x'"),
        ("source: a paper", "source: {a: 1} #", 2, "source"),
    ],
)
def test_fault_names_its_line(tmp_path: Path, old: str, new: str, line: int, part: str) -> None:
    assert old in WHOLE
    path = _row(tmp_path, WHOLE.replace(old, new, 1))
    with pytest.raises(UserError) as error:
        read_row(path)
    faults = [fault for fault in str(error.value).splitlines() if fault.startswith(f"{path}:{line}: ")]
    assert any(part in fault for fault in faults), str(error.value)


def test_row_is_found_by_name_or_path(tmp_path: Path) -> None:
    assert load_row(str(_row(tmp_path, WHOLE))).model == "org/base"
    assert load_row("roberta-base").model == "FacebookAI/roberta-base"
    with pytest.raises(UserError, match="'roberta-base'"):
        load_row("roberta_base")
    with pytest.raises(UserError, match="file not found"):
        load_row(str(tmp_path / "no.yaml"))


def test_rows_of_the_harness_are_valid_and_many() -> None:
    assert list(published_rows()) == row_names()
    with_recipe = [row for row in published_rows().values() if any(row.recipe_of(task) for task in row.tasks)]
    assert len(with_recipe) >= 25
    for row in with_recipe:
        for task in row.tasks:
            for variant in (None, *row.conflicts):
                check_recipe(load_task(task), Recipe(**(row.recipe_of(task, variant) or {})))
    lora = load_row("roberta-base-lora")
    assert lora.recipe_of("cola", "script") == {**(lora.recipe_of("cola") or {}), "adapter_alpha": 16,
        "weight_decay": 0.1, "global_batch_size": 64}  # fmt: skip


@pytest.mark.parametrize("name", ["roberta-base", "roberta-large", "mpnet-base", "bart-large"])
def test_rows_of_fairseq_have_no_dropout_in_the_head(name: str) -> None:
    assert (load_row(name).recipe_of("rte") or {})["head_dropout"] == 0
    assert (load_row(name).recipe_of("rte") or {})["max_grad_norm"] is None
    assert (load_row(name).recipe_of("stsb") or {})["label_scaling"] == "unit"


def test_task_without_a_recipe_is_shown_in_a_row_whose_other_tasks_have_one() -> None:
    row = load_row("xlnet-large")
    assert [task for task in row.tasks if row.recipe_of(task) is None] == ["qnli"]
    assert row.number_of_runs("rte") == 5


def test_scores_are_fractions_of_the_tasks_alone() -> None:
    scores = references(["cola", "sst2", "stsb"])
    assert {reference.task for reference in scores} == {"cola", "sst2", "stsb"}
    assert all(0 < reference.score < 1 for reference in scores)


def test_every_score_of_every_row_is_there() -> None:
    scores = [score for row in published_rows().values() for task in row.tasks.values() for score in task.scores]
    assert len(references(task_names())) == len(scores) > 100


def test_an_error_is_no_percentage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is added to those that come with the harness, with errors next to percentages."""
    (tmp_path / "own.yaml").write_text(
        "model: a/b\nsource: a paper\nsetting: 3 epochs\ntasks:\n  ratings:\n    scores:\n"
        "      - {metric: rmse, split: validation, value: 0.512}\n"
        "      - {metric: pearson, split: validation, value: 91.2}\n"
        "      - {metric: unstated, split: test, value: 90.5}\n"
    )
    monkeypatch.setattr("harness.facts.published.PUBLISHED_FOLDER", tmp_path)
    published_rows.cache_clear()
    try:
        assert [one.score for one in references(["ratings"])] == [0.512, 0.912, 0.905]
        board = build_leaderboard([record("ratings", 0.6)])
        (line,) = table_with(render_markdown(board), "Source")
        assert line["ratings RMSE"] == "0.512, 91.2 Pearson, 90.5 ? test"
        assert ">0.512<" in render_html(json.loads(render_json(board)), {}, formulas(board), "", pair_tests(board))
    finally:
        published_rows.cache_clear()


def test_setting_of_a_task_replaces_that_of_its_row() -> None:
    (mrpc, _) = [one for one in references(["mrpc"]) if one.model == "google-bert/bert-base-cased"]
    assert (mrpc.metric, mrpc.score, mrpc.setting[:8]) == ("f1", 0.8885, "5 epochs")
