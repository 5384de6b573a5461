"""Pages of the leaderboard: one for each suite with an average, the first with all other tasks, with links."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.boards import record, table, whole_suite

from harness.facts.records import RunRecord, write_record
from harness.facts.suites import Average, Suite, registered_suites
from harness.reports.folder import read_pages, write_leaderboard
from harness.reports.markdown import render_markdown
from harness.reports.pages import build_pages, page_links

SHOPS = Suite(
    name="shops",
    title="Shop [reviews]",
    tasks={"stars": "Stars", "mood": "Mood", "probe": "Probe"},
    averages={"Shops": Average(without=("probe",))},
    folder=Path("shops"),
)
SUITES = {**registered_suites(), "shops": SHOPS}


def of_shops(task: str, score: float = 0.6) -> RunRecord:
    return record(task, score, facts={"suite": "shops"})


def test_suite_with_an_average_has_a_page_of_its_own() -> None:
    records = [record("rte"), record("imdb"), *map(of_shops, ("mood", "stars", "probe"))]
    pages = build_pages(records, suites=SUITES)
    assert {name: list(page.tasks) for name, page in pages.items()} == {
        "leaderboard": ["rte", "imdb"],
        "leaderboard-shops": ["stars", "mood", "probe"],
    }
    (line, _) = table(render_markdown(pages["leaderboard-shops"]))
    assert line["Shops"] == "**60.0**"
    assert list(line)[2:] == ["Shops", "Stars accuracy", "Mood accuracy", "Probe accuracy"]


def test_page_of_glue_does_not_depend_on_other_suites() -> None:
    alone = render_markdown(build_pages(whole_suite())["leaderboard"])
    records = [*whole_suite(), of_shops("stars", 0.9)]
    assert render_markdown(build_pages(records, suites=SUITES)["leaderboard"]) == alone


def test_first_page_is_that_of_the_first_suite_with_runs() -> None:
    pages = build_pages([of_shops("stars"), record("imdb")], suites=SUITES)
    assert list(pages) == ["leaderboard"]
    assert list(pages["leaderboard"].tasks) == ["stars", "imdb"]
    assert pages["leaderboard"].title == "Leaderboard: Shop [reviews]"


def test_tasks_of_an_unknown_suite_are_on_the_first_page() -> None:
    pages = build_pages([record("rte"), of_shops("stars")])
    assert {name: list(page.tasks) for name, page in pages.items()} == {"leaderboard": ["rte", "stars"]}


def test_records_of_test_mode_open_no_page_next_to_others() -> None:
    test_mode = record("stars", facts={"suite": "shops"}, spec={"test_mode": True})
    pages = build_pages([record("rte"), test_mode], suites=SUITES)
    assert list(pages) == ["leaderboard"]
    assert any("1 record(s) of test mode" in note for note in pages["leaderboard"].notes)


def test_pages_link_to_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (record("rte"), of_shops("stars")):
        write_record(run, tmp_path)
    write_leaderboard(read_pages(tmp_path, suites=[SHOPS])[0], tmp_path)
    for name in ("leaderboard", "leaderboard-shops"):
        markdown, html = ((tmp_path / f"{name}.{end}").read_text(encoding="utf-8") for end in ("md", "html"))
        assert "[GLUE](leaderboard.md), [Shop \\[reviews\\]](leaderboard-shops.md)" in markdown
        assert f'href="{"leaderboard-shops" if name == "leaderboard" else "leaderboard"}.html"' in html
        assert f'href="{name}.json"' in html
    content = json.loads((tmp_path / "leaderboard-shops.json").read_text(encoding="utf-8"))
    assert [column["task"] for column in content["columns"]] == ["stars"]
    assert (tmp_path / "plots" / "shops-scores.svg").is_file()
    assert 'href="plots/shops-scores.svg"' in (tmp_path / "leaderboard-shops.html").read_text(encoding="utf-8")


def test_single_page_has_no_links() -> None:
    pages = build_pages([record("rte")])
    assert page_links(pages) == {}
    assert "Pages:" not in render_markdown(pages["leaderboard"])


def test_page_without_runs_is_removed(tmp_path: Path) -> None:
    other = next(name for name, suite in registered_suites().items() if suite.averages and name != "glue")
    path = write_record(record("rte"), tmp_path)
    gone = write_record(record("x", facts={"suite": other}), tmp_path)
    write_leaderboard(read_pages(tmp_path)[0], tmp_path)
    assert (tmp_path / f"leaderboard-{other}.html").is_file()
    gone.unlink()
    write_leaderboard(read_pages(tmp_path)[0], tmp_path)
    assert path.is_file()
    assert not list(tmp_path.glob("leaderboard-*"))
    assert not list((tmp_path / "plots").glob(f"{other}-*"))


def test_runs_that_started_from_those_of_another_page_have_their_note() -> None:
    parent = record("mnli", data={"is_partial": True, "rows": {"train": 100}})
    child = record("stars", 0.6, facts={"suite": "shops"}, spec={"parent": parent.run_id})
    page = build_pages([parent, child], suites=SUITES)["leaderboard-shops"]
    assert any("started from MNLI" in note or "started from mnli" in note for note in page.notes)


def test_formula_of_the_averages_names_the_tasks_left_out() -> None:
    assert (
        "- GLUE is the unweighted mean of the nine tasks' scores, GLUE-8 that without WNLI; each needs all its tasks.\n"
        in render_markdown(build_pages([record("rte")])["leaderboard"])
    )
    assert "- Shops is the unweighted mean of the two tasks' scores; it needs all its tasks.\n" in render_markdown(
        build_pages([of_shops("stars")], suites=SUITES)["leaderboard"]
    )
