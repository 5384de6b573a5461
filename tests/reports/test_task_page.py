"""leaderboard/<task>.html: scores, confusions and rows of disagreement from the records, and no text of a row."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from support.boards import page, record, record_with_predictions, table_with
from support.html_pages import Page, check_self_containment, run_in_browser

from harness.facts.packing import pack_array
from harness.facts.records import RunRecord
from harness.reports.data_files import render_json
from harness.reports.standings import build_leaderboard
from harness.reports.task_page import MAX_ENTRIES, MAX_ROWS, render_task_page

EVIL = "x/</td><script>document.title='owned'</script>\"'&<b>"
MODELS = {"a/one": 0.9, EVIL: 0.6}


def page_of(task: str, *records: RunRecord, texts: Any = None) -> str:
    board = build_leaderboard(records)
    return render_task_page(board, json.loads(render_json(board)), task, "leaderboard-x", texts)


def runs(task: str, models: dict[str, float] | None = None, **changes: Any) -> list[RunRecord]:
    models = models or MODELS
    return [record_with_predictions(task, q, model=m, seed=s, **changes) for m, q in models.items() for s in (1, 2)]


@pytest.mark.parametrize("task", ["rte", "ratings", "emotions", "mnli"])
def test_page_of_every_problem_type_is_self_contained_and_escaped(task: str) -> None:
    labels = ["<b>no</b>", "yes", "may be"]
    facts = {"title": "<i>A task</i>"} | ({"labels": None, "problem_type": "regression"} if task == "ratings" else {})
    if task in ("rte", "mnli"):
        facts["labels"] = labels
    text = page_of(task, *runs(task, facts=facts))
    check_self_containment(text)
    shown = Page(text)
    assert shown.all("b") == shown.all("i") == []
    assert "<i>A task</i>" in shown.text
    assert EVIL.partition("/")[2] in shown.text
    assert {link["href"] for link in shown.all("a") if (link["href"] or "").endswith(".html")} == {
        "../leaderboard-x.html"
    }
    records = [link for link in shown.all("a") if (link["href"] or "").startswith("../runs/")]
    assert len(records) == 4
    assert all(head.get("scope") for head in shown.all("th"))
    assert all(part.get("aria-label") for part in shown.all("div") if part.get("role") == "region")
    assert len(shown.all("caption")) + len(shown.all("svg")) == len(MODELS) * (2 if task == "mnli" else 1)
    assert ("<b>no</b>" in shown.text) == (task in ("rte", "mnli"))


def test_every_metric_is_next_to_that_of_the_constant_prediction() -> None:
    for task, name in {"rte": "majority-class baseline", "ratings": "constant baseline"}.items():
        text = page_of(task, *runs(task))
        lines = [line for line in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL) if "<td" in line]
        constant = next(line for line in lines if name in line)
        widths = [int(width or 1) for width in re.findall(r'<td(?: colspan="(\d+)")?', constant)]
        assert sum(widths) == lines[0].count("<td")
        assert float(re.findall(r'<td data-sort="(.*?)"', constant)[0]) > 0


def test_confusions_and_rows_of_disagreement_are_those_of_the_records() -> None:
    gold, one, other = [0, 1, 1, 0, 1], [0, 1, 0, 0, 1], [0, 0, 0, 1, 1]
    packed = {model: pack_array(np.array(predictions)) for model, predictions in (("a", one), ("b", other))}
    records = [
        record("rte", model=model, gold={"validation": pack_array(np.array(gold))}, predictions={"validation": text})
        for model, text in packed.items()
    ]
    text = page_of("rte", *records)
    parts = [re.findall(r">([^<>]+)<", line) for line in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    lines = [[part.strip() for part in line if part.strip()] for line in parts]
    first, second, third, fourth = (line for line in lines if "%" in line[-1])
    assert first == ["no", "2", "100 %", "0", "0 %"]
    assert second == ["yes", "1", "33 %", "2", "67 %"]
    assert third == ["no", "1", "50 %", "1", "50 %"]
    assert fourth == ["yes", "2", "67 %", "1", "33 %"]
    assert lines[-2:] == [["1", "100.0", "yes", "✓ yes", "no"], ["3", "100.0", "no", "✓ no", "yes"]]
    assert "2 rows have different predictions from 2 models." in Page(text).text


def test_small_p_is_no_zero_and_reads_as_on_the_markdown_page() -> None:
    records = [record_with_predictions("rte", q, model=m, seed=s) for m, q in MODELS.items() for s in (1, 2, 3)]
    (line,) = (line for line in table_with(page(records), "over rows") if line["p"])
    assert line["p"] == "<0.001 (<0.001)"
    assert line["p"] in Page(page_of("rte", *records)).text


def test_page_has_no_texts_unless_they_are_of_its_rows() -> None:
    records = runs("rte")
    texts = [(f"text of row {row}", None) for row in range(200)]
    assert "text of row" not in page_of("rte", *records)
    assert "text of row" in page_of("rte", *records, texts={"validation": texts})
    assert "text of row" not in page_of("rte", *records, texts={"validation": texts[1:]})


def test_page_is_bounded() -> None:
    labels = [f"label {number}" for number in range(30)]
    models = {f"m{number}": 0.4 + number / 50 for number in range(MAX_ENTRIES + 2)}
    page = Page(page_of("rte", *runs("rte", models, facts={"labels": [*labels, "l" * 9_999]})))
    assert "l" * 100 not in page.text
    assert "Columns: the first 12 models." in page.text
    heads = [head for head in page.all("th") if head.get("scope") == "row"]
    assert len(heads) < 2 * len(models) + 10 * len(models) + MAX_ROWS + 1


def test_task_without_predictions_says_so() -> None:
    text = Page(page_of("rte", record("rte"))).text
    assert "No record of this task has its predictions." in text
    assert "disagree" not in text[text.index("Errors") :]


def test_a_browser_sorts_the_rows_of_disagreement(tmp_path: Any) -> None:
    script = """
const table = [...document.querySelectorAll("table")].pop();
const rows = () => [...table.tBodies[0].rows].map(row => Number(row.cells[0].textContent));
const before = rows();
table.querySelector("thead button").click();
return [before, rows()];
"""
    before, after = run_in_browser(page_of("rte", *runs("rte")), script, tmp_path)
    assert before != after
    assert after == sorted(before)
