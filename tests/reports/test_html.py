"""leaderboard.html: self-contained, safe with any name, every number linked; a browser sorts, filters and compares."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from support.boards import record_with_predictions
from support.html_pages import Page, check_self_containment, run_in_browser

from harness.facts.records import RunRecord, write_record
from harness.reports.data_files import render_json
from harness.reports.html import render_html
from harness.reports.pair_tests import pair_tests
from harness.reports.plots import render_plots
from harness.reports.standings import build_leaderboard

EVIL = "evil/</td><script>document.title='owned'</script>\"'&<b>مثال"
FORMULAS = {
    "scores": ["1 < 2", "x̄ ± t s/√n"],
    "costs": ["Σ hours"],
    "tasks": ["McNemar"],
    "published": ["other settings"],
}

Make = Callable[..., RunRecord]


def content_of(*records: RunRecord) -> dict[str, Any]:
    return json.loads(render_json(build_leaderboard(records)))


def page_of(*records: RunRecord, with_plots: bool = False) -> str:
    board = build_leaderboard(records)
    content = json.loads(render_json(board))
    plots = render_plots(content) if with_plots else {}
    return render_html(content, plots, FORMULAS, board.title, pair_tests(board))


@pytest.fixture
def some(make_record: Make) -> list[RunRecord]:
    """Three models, one of them evil; a partial result, a lower-is-better task, a diverged run, a run not ranked."""
    return [
        *(make_record("rte", {"accuracy": value}, seed=seed) for seed, value in ((1, 0.6), (2, 0.8))),
        make_record("cola", {"matthews_correlation": 0.3}),
        make_record("rte", {"accuracy": 0.9}, model=EVIL),
        make_record("stars", {"rmse": 0.4}, facts={"suite": None}),
        make_record("stars", {"rmse": 0.5}, model=EVIL, facts={"suite": None}),
        make_record("rte", {"accuracy": 0.5}, model="c/third", recipe={"epochs": 9}),
        make_record(
            "cola", {"matthews_correlation": 0.1}, model="c/third", recipe={"epochs": 9}, data={"is_partial": True}
        ),
        make_record("wnli").model_copy(update={"status": "diverged", "metrics": {}, "error": "the loss was <nan>"}),
        make_record("rte", {"accuracy": 0.65}, spec={"data": "ab12"}, data={"fingerprint": "others"}),
    ]


def test_page_is_self_contained(some: list[RunRecord]) -> None:
    check_self_containment(page_of(*some, with_plots=True))


def test_ids_are_unique_and_references_resolve(some: list[RunRecord]) -> None:
    text = page_of(*some, with_plots=True)
    ids = [attributes["id"] for _, attributes in Page(text).elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text))
    for group in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text):
        assert "".join(group) in ids
    assert len([svg for svg in Page(text).all("svg") if svg.get("role") == "img"]) == 3


def test_names_are_escaped(some: list[RunRecord]) -> None:
    page = Page(page_of(*some, with_plots=True))
    assert [script.get("id") for script in page.all("script")] == ["pair-tests", None]
    assert page.all("b") == []
    assert EVIL.partition("/")[2] in page.text
    assert not any("evil" in (link.get("href") or "") for link in page.all("a") if "//" in (link.get("href") or ""))


def test_each_number_links_to_its_records(some: list[RunRecord], tmp_path: Path) -> None:
    for record in some:
        write_record(record, tmp_path)
    links = {unquote(link["href"] or "") for link in Page(page_of(*some)).all("a")}
    linked = {link for link in links if link.startswith("runs/") and link != "runs/"}
    assert linked == {path.relative_to(tmp_path).as_posix() for path in (tmp_path / "runs").glob("*/*.json")}


def test_headers_have_scopes_and_buttons(some: list[RunRecord]) -> None:
    page = Page(page_of(*some))
    assert all(head.get("scope") in ("col", "row", "rowgroup") for head in page.all("th"))
    sortable = [head for head in page.all("th") if "data-first" in head]
    assert len(sortable) > 10
    own = {"id", "data-download", "data-columns"}
    buttons = [button for button in page.all("button") if button["type"] != "reset" and not own & button.keys()]
    assert len(buttons) == len(sortable)
    assert all(box.get("aria-label") for box in page.all("input") if box.get("class") == "pick")
    assert all(part.get("aria-label") for part in page.all("div") if part.get("role") == "region")


def test_page_has_numbers_marks_notes_and_formulas(some: list[RunRecord]) -> None:
    text = Page(page_of(*some)).text
    for part in (
        "70.0",
        "30.0",
        "0.400",
        "90.0",
        "partial data",
        "1 < 2",
        "x̄ ± t s/√n",
        "Σ hours",
        "Not ranked",
        "diverged",
    ):
        assert part in text
    assert "10 runs of 3 models on 4 tasks" in text


def test_published_results_follow_the_own_ones_and_start_collapsed(some: list[RunRecord]) -> None:
    content = content_of(*some)
    one = dict(model="x/base", parameters_millions=None, split="validation", setting="3 epochs", source="a <paper>")
    content["references"] = [
        {**one, "task": "rte", "metric": "accuracy", "score": 0.612},
        {**one, "task": "cola", "metric": "unstated", "score": 0.5},
    ]
    page = Page(render_html(content, {}, FORMULAS, "Leaderboard", {"entries": 0, "tests": {}}))
    published = page.text[page.text.index("Show 1 published result") :]
    assert "a <paper>" in published
    assert "settings" in published
    assert published.index("61.2") < published.index("A page for each task")
    assert "50.0 ?" in published
    (body,) = [attributes for attributes in page.all("tbody") if attributes.get("id") == "published"]
    assert "collapsed" in (body["class"] or "").split()
    (toggle,) = [attributes for attributes in page.all("button") if attributes.get("id") == "toggle"]
    assert (toggle["aria-controls"], toggle["aria-expanded"]) == ("published", "false")


def test_page_of_a_failed_run(make_record: Make) -> None:
    lost = make_record().model_copy(update={"status": "failed", "metrics": {}, "data": None, "cost": None})
    text = Page(page_of(lost, with_plots=True)).text
    assert "1 run of 1 model on 1 task" in text
    assert "failed" in text


def test_page_of_many_entries_has_a_layout_of_its_own(make_record: Make) -> None:
    for entries, classes in ((60, None), (61, "large")):
        page = Page(page_of(*(make_record(model=f"m{number}") for number in range(entries)), with_plots=True))
        (board,) = [table for table in page.all("table") if table.get("id") == "board"]
        assert board.get("class") == classes
        assert page.all("figure")
        assert len([box for box in page.all("input") if box.get("class") == "pick"]) == entries


@pytest.mark.parametrize("entries", [2, 61])
def test_a_browser_shows_very_long_names_and_many_seeds_within_their_columns(
    make_record: Make, tmp_path: Path, entries: int
) -> None:
    tasks = ["rte", "name_of_a_task_" * 6, "another-name_of_a_task_" * 4, "e"]
    records = [
        make_record(task, model=f"a/{number}", facts={"suite": None}, seed=seed)
        for number in range(entries)
        for task in tasks
        for seed in range(30 if number == 0 else 1)
    ]
    script = """
const excess = selector => [...document.querySelectorAll(selector)].map(one => one.scrollWidth - one.clientWidth);
const parts = [...document.querySelectorAll("ul.tasks li")].map(item => item.getClientRects().length);
const widths = [...document.querySelectorAll("#board thead th")].map(head => head.offsetWidth);
return [Math.max(...excess("ul.tasks li, #board :is(thead th, td), nav, h1")), Math.max(...parts), Math.max(...widths)];
"""
    excess, parts, widest = run_in_browser(page_of(*records), script, tmp_path)
    assert (excess, parts) == (0, 1)
    assert widest < 300


def test_test_mode_is_in_the_title(make_record: Make) -> None:
    assert "no benchmark results" in Page(page_of(make_record(spec={"test_mode": True}))).text


# -- in a browser ------------------------------------------------------------------------------------------------------

HELPERS = """
const board = document.getElementById("board"), one = selector => document.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const isVisible = element => element.checkVisibility();
const heads = () => all("thead th", board).filter(isVisible);
const press = title => heads().find(head => head.textContent.startsWith(title)).querySelector("button").click();
const rows = () => all("tbody:first-of-type tr", board).filter(isVisible);
const names = () => rows().map(row => row.querySelector(".name").textContent.slice(0, 5));
const state = () => ({
    names: names(),
    sorted: all("[aria-sort]", board).map(head => head.textContent.slice(0, 4) + " " + head.getAttribute("aria-sort")),
    heads: heads().map(head => head.querySelector("button").textContent),
    count: document.getElementById("count").textContent,
    masked: all(".masked", board).length,
});
const type = text => {
    one("[name=q]").value = text;
    one("[name=q]").dispatchEvent(new Event("input", { bubbles: true }));
};
const saved = [];
URL.createObjectURL = blob => { saved.push(blob); return "data:,"; };
const download = async kind => { one(`[data-download=${kind}]`).click(); return saved.pop().text(); };
const pause = () => new Promise(resolve => setTimeout(resolve, 300));
"""


def test_a_browser_sorts_and_filters(some: list[RunRecord], tmp_path: Path) -> None:
    script = """
const steps = {}, note = step => { steps[step] = state(); };
note("initial");
press("RTE"); note("by rte");
press("RTE"); note("by rte again");
press("stars"); note("by stars, where less is better");
press("Model"); note("by name");
type("THIRD epochs=9"); note("typed");
type("nobody"); note("typed nonsense");
steps.message = document.getElementById("none").hidden;
type("");
press("CoLA"); note("by cola");
one("[name=mark][value=p]").click(); note("without partial data");
one("[name=mark][value=p]").click();
one("[name=column][value=rte]").click(); note("without rte");
const visible = () => all("#published tr[data-label]").filter(isVisible).length;
steps.published = [visible()];
one("#toggle").click(); steps.published.push(visible(), one("#toggle").getAttribute("aria-expanded"));
one("#toggle").click(); steps.published.push(visible());
one("[data-columns=none]").click(); note("without any column");
one("[type=reset]").click(); note("reset");
steps.themes = [1, 2, 3].map(() => { one("#theme").click(); return [document.documentElement.dataset.theme ?? "system",
    getComputedStyle(document.body).backgroundColor]; });
steps.title = document.title;
return steps;
"""
    steps = run_in_browser(page_of(*some, with_plots=True), HELPERS + script, tmp_path)
    assert steps["title"] == "Leaderboard"
    evil, columns = "</td>", ["Model", "CoLA", "RTE", "WNLI", "stars"]
    assert set(steps["initial"]["names"]) == {"bert", evil, "third"}
    assert (steps["initial"]["sorted"], steps["initial"]["heads"]) == ([], columns)
    assert (steps["initial"]["count"], steps["initial"]["masked"]) == ("3 of 3 entries", 0)
    orders = {step: (steps[step]["names"], steps[step]["sorted"]) for step in steps if step.startswith("by ")}
    assert orders["by rte"] == ([evil, "bert", "third"], ["RTEa descending"])
    assert orders["by rte again"] == (["third", "bert", evil], ["RTEa ascending"])
    assert orders["by stars, where less is better"] == (["bert", evil, "third"], ["star ascending"])
    assert orders["by name"][0] == [evil, "bert", "third"]
    assert (steps["typed"]["names"], steps["typed"]["count"]) == (["third"], "1 of 3 entries")
    assert (steps["typed nonsense"]["names"], steps["typed nonsense"]["count"]) == ([], "0 of 3 entries")
    assert steps["message"] is False
    assert orders["by cola"][0] == ["bert", "third", evil]
    assert (steps["without partial data"]["names"][0], steps["without partial data"]["masked"]) == ("bert", 1)
    assert steps["without rte"]["heads"] == ["Model", "CoLA", "WNLI", "stars"]
    assert set(steps["without rte"]["names"]) == {"bert", evil, "third"}
    assert (steps["without any column"]["names"], steps["without any column"]["heads"]) == ([], ["Model"])
    assert steps["reset"] == steps["initial"]
    (light, white), (dark, black), (system, _) = steps["themes"]
    assert (light, dark, system) == ("light", "dark", "system")
    assert white != black
    before, after, expanded, again = steps["published"]
    assert (before, expanded, again) == (0, "true", 0)
    assert after > 0


def test_a_browser_compares_two_entries_downloads_the_view_and_restores_it(tmp_path: Path) -> None:
    models = {"=one": 0.9, "b/onto": 0.6, "c/three": 0.5}
    records = [
        record_with_predictions(task, quality, model=model, seed=seed)
        for task in ("rte", "qnli")
        for model, quality in models.items()
        for seed in (1, 2)
        if (task, model) != ("qnli", "b/onto")
    ]
    board, text = build_leaderboard(records), page_of(*records)
    script = """
const comparison = () => all("#comparison tbody tr").map(line => [...line.cells].map(cell => cell.innerText));
const steps = {};
for (const pick of all(".pick")) pick.click();  // the third takes the place of the first
steps.ticked = all(".pick").map(pick => pick.checked);
press("QNLI"); press("QNLI");
one("[name=column][value=Rank]")?.click();
type("ON");
steps.comparison = comparison();
steps.csv = await download("csv");
steps.json = JSON.parse(await download("json"));
await pause();
steps.hash = location.hash;
steps.state = state();
return steps;
"""
    steps = run_in_browser(text, HELPERS + script, tmp_path)
    assert steps["ticked"] == [False, True, True]
    second, third = board.entries[1:]
    (test,) = pair_tests(board)["tests"]["rte"][1]
    by_task = {line[0]: line[1:] for line in steps["comparison"]}
    assert by_task["RTE"][2:6] == test[:4]
    assert by_task["RTE"][6] == {1: "better", -1: "worse", 0: "tied"}[test[4]]
    assert board.cells[second, "rte"].text in by_task["RTE"][0]
    assert board.cells[third, "rte"].text in by_task["RTE"][1]
    assert by_task["QNLI"][2:] == ["not run by both"]

    assert steps["state"]["names"] == ["=one", "onto"]  # qnli ascending, without a score last
    lines = list(csv.DictReader(io.StringIO(steps["csv"])))
    assert [line["model"] for line in lines] == ["'=one", "b/onto"]  # no formula for a spreadsheet
    result = board.groups[board.entries[0], "qnli"]
    assert float(lines[0]["qnli"]) == result.score.center
    assert lines[1]["qnli"] == ""
    shown = steps["json"]["rows"]
    assert [row["model"] for row in shown] == ["=one", "b/onto"]
    assert shown[0]["columns"]["qnli"]["value"] == result.score.center
    assert shown[0]["columns"]["qnli"]["low"] == pytest.approx(board.evidence[result].total.low, abs=1e-6)
    assert "Rank" not in {*shown[0]["columns"], *lines[0]}

    script = (
        "return { comparison: all('#comparison tbody tr').map(line => [...line.cells].map(cell => cell.innerText)), "
    )
    restored = run_in_browser(text, HELPERS + script + "state: state() };", tmp_path, fragment=steps["hash"])
    assert restored == {"comparison": steps["comparison"], "state": steps["state"]}


def test_the_policy_of_the_page_allows_its_own_script(some: list[RunRecord]) -> None:
    text = page_of(*some)
    (digest,) = re.findall(r"script-src 'sha256-([^']+)'", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() == digest
