"""The leaderboard's files: written when their content changes, and removed when they have nothing to show."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path

from harness.facts.records import RunRecord
from harness.facts.suites import Suite, registered_suites
from harness.reports.folder import write_leaderboard
from harness.reports.formulas import formulas
from harness.reports.pages import build_pages
from harness.reports.plots import PLOTS

Make = Callable[..., RunRecord]

FILES = {
    *(f"leaderboard.{ending}" for ending in ("md", "csv", "json", "html")),
    *(f"plots/{name}" for name in PLOTS),
    "leaderboard/rte.html",
} - {"plots/learning_curves.svg"}


def files(folder: Path) -> dict[str, int]:
    """The time of writing, by name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in paths}


def test_only_changed_files_are_written(make_record: Make, tmp_path: Path) -> None:
    write_leaderboard(build_pages([make_record()]), tmp_path)
    before = files(tmp_path)
    assert before.keys() == FILES
    write_leaderboard(build_pages([make_record()]), tmp_path)
    assert files(tmp_path) == before
    write_leaderboard(build_pages([make_record(scores={"accuracy": 0.71})]), tmp_path)
    assert all(files(tmp_path)[name] != before[name] for name in FILES)


def test_plots_without_scores_are_removed(make_record: Make, tmp_path: Path) -> None:
    write_leaderboard(build_pages([make_record()]), tmp_path)
    lost = make_record().model_copy(update={"status": "diverged", "metrics": {}})
    write_leaderboard(build_pages([lost]), tmp_path)
    assert files(tmp_path).keys() == {name for name in FILES if not name.startswith("plots/")}


def test_pages_of_tasks_without_runs_are_removed_but_no_page_of_somebody_else(
    make_record: Make, tmp_path: Path
) -> None:
    write_leaderboard(build_pages([make_record(), make_record("cola")]), tmp_path)
    other = tmp_path / "leaderboard" / "mine.html"
    other.write_text("<p>my own page</p>")
    assert (tmp_path / "leaderboard" / "cola.html").is_file()
    write_leaderboard(build_pages([make_record()]), tmp_path)
    assert {path.name for path in (tmp_path / "leaderboard").iterdir()} == {"rte.html", "mine.html"}


def test_pages_of_a_suite_that_is_no_longer_named_are_removed_but_no_page_of_somebody_else(
    make_record: Make, tmp_path: Path
) -> None:
    shops = Suite(name="shops", folder=tmp_path, title="Shops", tasks={"stars": "Stars"}, averages={"Shops": {}})
    own = make_record("stars")
    own = own.model_copy(update={"task": own.task.model_copy(update={"suite": "shops"})})
    records = [make_record(), own]
    write_leaderboard(build_pages(records, suites={**registered_suites(), "shops": shops}), tmp_path)
    assert {"leaderboard-shops.md", "leaderboard-shops.html", "plots/shops-scores.svg"} <= files(tmp_path).keys()
    (tmp_path / "leaderboard-mine.html").write_text("<p>my own page</p>")
    (tmp_path / "leaderboard-mine.md").write_text("mine")
    write_leaderboard(build_pages(records), tmp_path)
    others = {"leaderboard/stars.html", "leaderboard-mine.html", "leaderboard-mine.md"}
    assert files(tmp_path).keys() == FILES | others


def test_every_formula_is_on_both_pages(make_record: Make, tmp_path: Path) -> None:
    pages = build_pages([make_record()])
    write_leaderboard(pages, tmp_path)
    for ending, read in (("md", str), ("html", unescape)):
        parts = [tmp_path / f"leaderboard.{ending}", *(tmp_path / "leaderboard").glob(f"*.{ending}")]
        text = " ".join(read("".join(path.read_text(encoding="utf-8") for path in parts)).split())
        for section, texts in formulas(pages["leaderboard"]).items():
            assert texts, section
            assert "`" not in "".join(texts), "HTML shows them as they are"
            for formula in texts:
                assert formula in text or (section == "published" and ending == "md"), formula
