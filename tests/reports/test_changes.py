"""The changes between two results folders: entries, scores and records, as Markdown."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.boards import BERT, ELECTRA, record
from support.commands import run_harness

from harness.facts.records import RunRecord, write_record
from harness.reports import changes
from harness.reports.changes import changes_page
from harness.reports.standings import build_leaderboard


def page(old: Sequence[RunRecord], new: Sequence[RunRecord]) -> str:
    before, after = (build_leaderboard(runs, resamples=100) if runs else None for runs in (old, new))
    return changes_page(before, after, old, new)


def rows(text: str) -> list[list[str]]:
    """The cells of the tables, without their rules."""
    lines = [line for line in text.splitlines() if line.startswith("|") and ":---" not in line]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_entries_are_added_changed_and_removed_with_their_ranks() -> None:
    rte = [record("rte", 0.6, model=BERT, seed=seed) for seed in (1, 2, 3)]
    other = record("rte", 0.7, model=ELECTRA)
    text = page(rte[:2], [*rte, other])
    assert "Entries: 1 added, 1 changed, 0 removed. Records: 2 added, 0 changed, 0 removed." in text
    assert rows(text) == [
        ["Entry", "Recipe", "Change", "Verification"],
        [ELECTRA, "default", "added", "– → reported"],
        [BERT, "default", "changed", "reported"],
        ["Entry", "Score", "Before", "After", "Rank"],
        [ELECTRA, "RTE", "–", "**70.0 (1)**", "– → 1"],
        [BERT, "RTE", "**60.0 (2)**", "60.0 (3)", "1 → 2"],
    ]

    text = page([*rte, other], rte)
    assert "Entries: 0 added, 0 changed, 1 removed. Records: 0 added, 0 changed, 1 removed." in text
    assert f"- rte/{other.run_id}".replace("_", "\\_") in text


def test_another_task_changes_an_entry_although_it_changes_the_name_of_its_recipe() -> None:
    old = [record(task, 0.8, recipe={"epochs": 2}) for task in ("cola", "rte")]
    other = record("rte", 0.7, recipe={"epochs": 9})
    new = record("sst2", 0.9, recipe={"epochs": 1})
    text = page([*old, other], [*old, other, new])
    assert "Entries: 0 added, 1 changed, 0 removed. Records: 1 added" in text
    entry, _, *scores = rows(text)[1:]
    assert entry == [BERT, "epochs=2 → epochs=2 (1: sst2)", "changed", "reported"]
    assert [line[1:4] for line in scores if line[2] != line[3]] == [["SST-2", "–", "**90.0 (1)**"]]


def test_an_entry_has_a_rank_among_those_that_it_competes_with() -> None:
    full = record("rte", 0.6)
    partial = record("rte", 0.9, model=ELECTRA, data={"is_partial": True})
    ranks = {line[0]: line[-1] for line in rows(page([], [full, partial]))[4:]}
    assert ranks == {BERT: "– → 1", ELECTRA: "– → 1"}


def test_tasks_of_two_suites_with_the_same_heading_have_a_line_each() -> None:
    """RTE is a task of GLUE and of SuperGLUE."""
    suites = {"rte": "glue", "superglue_rte": "superglue"}
    both = [record(task, 0.6, facts={"suite": suite}) for task, suite in suites.items()]
    lines = rows(page([], both))[3:]
    assert [line[1] for line in lines] == ["rte", r"superglue\_rte"]


def test_an_edited_record_is_named_although_its_score_is_the_same() -> None:
    run = record("rte", 0.6)
    text = page([run], [run.model_copy(update={"notes": ["edited"]})])
    assert "Entries: 0 added, 0 changed, 0 removed. Records: 0 added, 1 changed, 0 removed." in text
    assert "Records that were changed:" in text
    assert rows(text) == []


def test_everything_is_added_to_an_empty_folder_and_markup_is_text() -> None:
    run = record("rte", 0.6, model="a/[x](http://x)|`b`")
    text = page([], [run])
    assert "Entries: 1 added, 0 changed, 0 removed." in text
    assert rows(text)[1][0] == "a/\\[x\\](http://x)&#124;\\`b\\`"


def test_long_lists_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "MAX_LINES", 2)
    old = [record("rte", 0.6, model=f"a/model-{number}") for number in range(5)]
    text = page(old, [record("rte", 0.6)])
    assert text.count("- and 3 more") == 1
    assert text.count("\nand 4 more") == 2
    assert len(rows(text)) == 6


def test_base_prints_the_changes_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results, base = tmp_path / "results", tmp_path / "base"
    base.mkdir()
    write_record(record("rte", 0.6), results)
    run_harness("leaderboard", "--results", results, "--base", base)
    assert "Entries: 1 added" in capsys.readouterr().out
    shutil.copytree(results, base, dirs_exist_ok=True)
    run_harness("leaderboard", "--results", results, "--base", base)
    assert "Entries: 0 added, 0 changed, 0 removed" in capsys.readouterr().out
    assert [path.name for path in results.iterdir()] == ["runs"]
    for flags in (["--base", base / "nosuch"], ["--base", base, "--task", "rte"]):
        run_harness("leaderboard", "--results", results, *flags, code=2)


def test_records_that_were_all_removed_are_listed_as_any_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, base = tmp_path / "results", tmp_path / "base"
    results.mkdir()
    run = record("rte", 0.6)
    write_record(run, base)
    run_harness("leaderboard", "--results", results, "--base", base)
    shown = capsys.readouterr().out
    assert "Entries: 0 added, 0 changed, 1 removed. Records: 0 added, 0 changed, 1 removed." in shown
    assert f"- rte/{run.run_id}".replace("_", "\\_") in shown
    assert rows(shown)[1] == [BERT, "default", "removed", "reported → –"]
    for other in (tmp_path / "nosuch", tmp_path):  # a folder that is missing, and two without a record
        run_harness("leaderboard", "--results", other, "--base", results, code=2)
