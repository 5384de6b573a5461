"""The table in LaTeX: whole lines, escaped names, and a caption that explains every sign in it."""

from __future__ import annotations

import re

import pytest
from support.boards import BERT, ELECTRA, record, record_with_predictions, sample, scoreless_record, whole_suite

from harness.facts.records import RunRecord
from harness.reports.latex import render_latex
from harness.reports.standings import build_leaderboard


def rendered(records: list[RunRecord]) -> tuple[str, list[list[str]]]:
    """The caption, and the cells of each line, two of titles first."""
    text = render_latex(build_leaderboard(records))
    caption = re.search(r"\\caption\{(.*)\}\n", text)
    body = re.search(r"\\toprule(.*)\\bottomrule", text, re.DOTALL)
    lines = [re.split(r"(?<!\\)&", line) for line in re.split(r"\\\\\n", body[1].replace(r"\midrule", ""))]
    return caption[1], [[cell.strip() for cell in line] for line in lines[:-1]]


def test_every_line_of_a_large_table_has_all_columns() -> None:
    _, lines = rendered(sample())
    text = render_latex(build_leaderboard(sample()))
    columns = re.search(r"\\begin\{tabular\}\{(l+r+)\}", text)[1]
    assert len(lines) > 8
    assert {len(line) for line in lines} == {len(columns)}
    assert lines[0][:2] == ["Model", "Recipe"]
    assert text.index(lines[-1][0]) > text.rindex(r"\midrule"), "the baseline has a rule above it"


def test_names_of_models_are_escaped() -> None:
    _, lines = rendered([record("rte", model="org/my_model_100%#1"), record("rte", model="org/b&c")])
    assert {line[0] for line in lines[2:4]} == {r"my\_model\_100\%\#1", r"b\&c"}


def test_best_score_is_bold_with_its_interval_and_runs() -> None:
    records = [record_with_predictions("qnli", quality, model=f"org/{quality}", seed=seed)
               for quality in (0.6, 0.9) for seed in (1, 2, 3)]  # fmt: skip
    caption, lines = rendered(records)
    best, other = lines[2][-1], lines[3][-1]
    assert re.fullmatch(r"\$\\mathbf\{[\d.]+\}_\{\\pm [\d.]+\}\$ \(3\)", best)
    assert re.fullmatch(r"\$[\d.]+(\^\{b\})?_\{\\pm [\d.]+\}\$ \(3\)", other)
    assert "*" not in caption


def test_score_of_one_run_has_a_star_that_the_caption_explains() -> None:
    caption, lines = rendered([record_with_predictions("qnli", 0.9)])
    assert re.fullmatch(r"\$\\mathbf\{[\d.]+\}\^\{\*\}_\{\\pm [\d.]+\}\$ \(1\)", lines[2][-1])
    assert "$^{*}$ interval for other rows only" in caption


def test_caption_explains_every_mark_and_no_other() -> None:
    caption, lines = rendered(sample())
    marks = {
        mark
        for line in lines
        for cell in line
        for note in re.findall(r"\^\{([^}]*)\}", cell)
        for mark in note.split(",")
    }
    explained = set(re.findall(r"\$\^\{(.)\}\$", caption))
    assert len(marks) > 4
    assert marks == explained


def test_mark_of_a_model_without_a_score_is_at_its_dash() -> None:
    caption, lines = rendered([record("rte"), scoreless_record("diverged", "rte", model=ELECTRA)])
    assert lines[3][-1] == "–$^{d}$"
    assert "$^{d}$ a run diverged" in caption
    assert "see the notes" not in caption


@pytest.mark.parametrize(
    "records, titles",
    [
        (whole_suite(), ["Model", "GLUE", "GLUE-8", "CoLA"]),
        (whole_suite()[:8], ["Model", "GLUE-8", "CoLA"]),
        ([record("rte"), record("rte", model=ELECTRA)], ["Model", "RTE"]),
        ([record("rte"), record("rte", recipe={"epochs": 9})], ["Model", "Recipe", "RTE"]),
    ],
)
def test_only_columns_that_say_something_are_there(records: list[RunRecord], titles: list[str]) -> None:
    assert rendered(records)[1][0][: len(titles)] == titles


def test_models_of_the_same_short_name_keep_their_whole_one() -> None:
    _, lines = rendered([record("rte", model=BERT), record("rte", model="other/bert-base-cased")])
    assert {line[0] for line in lines[2:4]} == {BERT, "other/bert-base-cased"}
