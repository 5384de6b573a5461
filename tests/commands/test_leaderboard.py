"""`harness leaderboard`: files, terminal, exit codes and errors."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support.boards import record, record_with_predictions, sample

from harness.commands.leaderboard import main, print_leaderboard
from harness.errors import UserError
from harness.facts.records import record_path, write_record
from harness.reports.folder import read_pages, write_leaderboard
from harness.reports.standings import build_leaderboard
from harness.system.exit_codes import exit_code_on_error


def test_terminal_shows_the_table_and_no_markup_of_names() -> None:
    for width in (60, 400):
        console = Console(width=width, record=True, file=io.StringIO())
        print_leaderboard(build_leaderboard([record(model="a/[red]b"), record("rte", status="collapsed")]), console)
        text = console.export_text()
        assert "[red]" in text
        assert "80.0/80.0 (1)" in text
        assert "[c] collapsed" in text


def test_a_narrow_terminal_shows_long_names_in_full_and_once() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    names = [f"sentence-transformers/paraphrase-multilingual-{size}" for size in ("base", "large")]
    print_leaderboard(build_leaderboard([record(model=name) for name in names]), console)
    lines = [line.strip("│").split("│") for line in console.export_text().splitlines() if line.startswith("│")]
    shown = "".join(line[0].strip() for line in lines)
    assert [shown.count(name) for name in names] == [1, 1]


def test_unchanged_files_are_not_written_again(tmp_path: Path) -> None:
    for run in sample():
        write_record(run, tmp_path)
    pages, messages = read_pages(tmp_path)
    assert messages == []
    write_leaderboard(pages, tmp_path)
    paths = [tmp_path / f"leaderboard.{ending}" for ending in ("md", "csv", "json")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths]
    write_leaderboard(pages, tmp_path)
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in paths] == before


def test_corrupt_record_is_named_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(record(), tmp_path)
    corrupt = record_path(tmp_path, "mrpc", "broken")
    corrupt.write_text("{", encoding="utf-8")
    main(["--results", str(tmp_path)])
    error = capsys.readouterr().err
    assert str(corrupt) in error
    assert "1 file(s)" in error
    assert "1 file(s) under runs/" in (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as stopped:
        main(["--results", str(tmp_path), "--strict"])
    assert stopped.value.code == 1


def test_table_of_a_folder_that_cannot_be_written_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(record(model="electra"), tmp_path)
    (tmp_path / "leaderboard").write_text("in place of the folder of task pages")
    with pytest.raises(UserError, match=f"--results {tmp_path}: the pages cannot be written: file exists"):
        main(["--results", str(tmp_path)])
    assert "electra" in capsys.readouterr().out


def test_strict_accepts_readable_records(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_record(record(), tmp_path)
    main(["--results", str(tmp_path), "--strict"])
    assert capsys.readouterr().err == ""


def test_folder_without_records_is_a_user_error(tmp_path: Path) -> None:
    spaced = tmp_path / "no runs"
    with pytest.raises(UserError, match=re.escape(f"harness run --task sst2 --results '{spaced}'")):
        main(["--results", str(spaced)])
    corrupt = record_path(tmp_path, "mrpc", "broken")
    corrupt.parent.mkdir(parents=True)
    corrupt.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(str(corrupt))):
        main(["--results", str(tmp_path)])
    assert not (tmp_path / "leaderboard.md").exists()


def test_import_is_quick() -> None:
    heavy = ("torch", "transformers", "datasets", "evaluate", "pandas", "sklearn")
    script = f"import sys, harness.commands.leaderboard; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_median_over_seeds_is_shown_and_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, accuracy in enumerate((0.5, 0.8, 0.82)):
        write_record(record("rte", accuracy, seed=seed), tmp_path)
    main(["--results", str(tmp_path), "--aggregate", "median"])
    assert "80.0 (median of 3)" in capsys.readouterr().out
    board = json.loads((tmp_path / "leaderboard.json").read_text())
    (result,) = [entry["tasks"]["rte"] for entry in board["entries"]]
    assert (board["aggregate"], result["score"]) == ("median", 0.8)
    assert [figure["value"] for figure in result["figures"] if figure["is_main_metric"]] == [0.8]
    page = (tmp_path / "leaderboard.md").read_text()
    assert "the median over the runs" in page
    assert "the mean over the runs of all seeds" not in page
    main(["--results", str(tmp_path)])
    assert "70.7 (3)" in capsys.readouterr().out


def test_models_within_a_budget_are_listed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, seconds, score in (("a/small", 60, 0.6), ("a/large", 600, 0.8), ("a/poor", 120, 0.5)):
        run = record("rte", score, model=name)
        assert run.cost is not None
        cost = run.cost.model_copy(update={"device_seconds": float(seconds)})
        write_record(run.model_copy(update={"cost": cost}), tmp_path)
    main(["--results", str(tmp_path), "--budget", "5"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[1:3]] == [["small", "60.0", "1"], ["poor", "50.0", "2"]]
    assert [line.rstrip().endswith("yes") for line in lines[1:3]] == [True, False]
    assert not (tmp_path / "leaderboard.md").exists()
    for budget, message in (("0.5", "cheapest needs 1"), ("0", "--budget 0"), ("nan", "--budget nan")):
        with pytest.raises(UserError, match=message):
            main(["--results", str(tmp_path), "--budget", budget])


def test_budget_needs_scores_whose_mean_can_be_taken(tmp_path: Path) -> None:
    """Records of an error have a score and a cost."""
    write_record(record("ratings", 0.5), tmp_path)
    with pytest.raises(UserError, match="more is better"):
        main(["--results", str(tmp_path), "--budget", "5"])


def test_page_of_one_task_is_written_alone_and_one_that_nobody_ran_is_bad_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("rte", "cola"):
        write_record(record_with_predictions(task, 0.7), tmp_path)
    main(["--results", str(tmp_path), "--task", "rte"])
    assert "rte.html" in capsys.readouterr().out
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*") if "runs" not in path.parts]
    assert written == ["leaderboard/rte.html"]
    bad = [(["--task", "rte2"], "'rte'"), (["--task", "qqp"], "cola"), (["--show-texts"], "--task")]
    bad += [(["--task", "rte", "--budget", "5"], "--budget"), (["--compare", "a", "b", "--base", "c"], "--base")]
    bad += [(["--suites", "mine", "--budget", "5"], "--suites: no effect with --budget")]
    for flags, named in bad:
        with pytest.raises(SystemExit) as ended, exit_code_on_error():
            main(["--results", str(tmp_path), *flags])
        assert ended.value.code == 2
        assert named in capsys.readouterr().err
