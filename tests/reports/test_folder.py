"""The leaderboard's files: all there, written once, and gone when they have nothing to show any more."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path

from harness.facts.records import RunRecord
from harness.reports.folder import write_files
from harness.reports.markdown import formulas
from harness.reports.plots import PLOTS
from harness.reports.standings import build

Make = Callable[..., RunRecord]

FILES = {*(f"leaderboard.{ending}" for ending in ("md", "csv", "json", "html")), *(f"plots/{name}" for name in PLOTS)}


def files(folder: Path) -> dict[str, int]:
    """By name, when it was written."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in paths}


def test_all_files_are_written_and_those_that_say_the_same_left_alone(make_record: Make, tmp_path: Path) -> None:
    write_files(build([make_record()]), tmp_path)
    before = files(tmp_path)
    assert before.keys() == FILES
    write_files(build([make_record()]), tmp_path)
    assert files(tmp_path) == before
    write_files(build([make_record(scores={"accuracy": 0.71})]), tmp_path)
    assert all(files(tmp_path)[name] != before[name] for name in FILES)


def test_plots_of_scores_that_are_gone_go_too(make_record: Make, tmp_path: Path) -> None:
    write_files(build([make_record()]), tmp_path)
    lost = make_record().model_copy(update={"status": "diverged", "metrics": {}})
    write_files(build([lost]), tmp_path)
    assert files(tmp_path).keys() == {name for name in FILES if not name.startswith("plots/")}


def test_every_sentence_on_the_figures_stands_on_both_pages(make_record: Make, tmp_path: Path) -> None:
    board = build([make_record()])
    write_files(board, tmp_path)
    for ending, read in (("md", str), ("html", unescape)):
        text = " ".join(read((tmp_path / f"leaderboard.{ending}").read_text(encoding="utf-8")).split())
        for section, sentences in formulas(board).items():
            assert sentences, section
            for sentence in sentences:
                assert sentence in text or (section == "published" and ending == "md"), sentence
