"""`harness leaderboard --compare`: two entries of the table on the same rows of data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.boards import record, record_with_predictions, scoreless_record

from harness.commands.leaderboard import main
from harness.errors import UserError
from harness.facts.records import RunRecord, write_record
from harness.reports.comparison import compare_entries, find_entry, print_comparison
from harness.reports.markdown import NO_DIRECTION, render_markdown
from harness.reports.standings import Leaderboard, build_leaderboard
from harness.stats.uncertainty import holm

QUALITIES = (("a", 0.9), ("b", 0.5))


def board_of(*records: RunRecord) -> Leaderboard:
    return build_leaderboard(records, resamples=200)


def printed(board: Leaderboard) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    print_comparison(board, *(find_entry(board, name) for name in ("a", "b")), console)
    return console.export_text()


def test_entry_is_found_by_its_label_its_last_part_or_a_prefix() -> None:
    board = board_of(record(model="org/large-model"), record(model="org/base"), record(model="other/small"))
    for name in ("org/large-model", "large-model", "LARGE", "org/l", "large-model (default)"):
        assert find_entry(board, name).model == "org/large-model"


def test_unknown_name_is_refused_with_the_nearest_and_all() -> None:
    board = board_of(record(model="org/large"), record(model="org/base"))
    with pytest.raises(UserError, match=r"--compare 'org/lrage'.* Did you mean 'org/large'\?.*'org/large \(default\)'"):
        find_entry(board, "org/lrage")


def test_name_of_several_entries_is_refused_with_their_full_names() -> None:
    board = board_of(record(), record(recipe={"epochs": 9}))
    with pytest.raises(UserError, match=r"--compare 'bert'.*bert-base-cased \(default\).*bert-base-cased \(epochs=9\)"):
        find_entry(board, "bert")
    assert find_entry(board, "bert-base-cased (epochs=9)").variant == "epochs=9"


def test_verdicts_are_holms_over_the_tasks_that_both_have() -> None:
    qualities = {"qnli": (0.9, 0.5), "rte": (0.7, 0.69), "cola": (0.5, 0.9)}
    records = [
        record_with_predictions(task, quality, model=model, seed=seed)
        for task, pair in qualities.items()
        for model, quality in zip("ab", pair, strict=True)
        for seed in (1, 2)
    ]
    board = board_of(
        *records, record("sst2", model="a"), scoreless_record("diverged", "wnli", model="a"), record("wnli", model="b")
    )
    a, b = (find_entry(board, name) for name in "ab")
    compared = {one.task: one for one in compare_entries(board, a, b)}
    assert {task: one.verdict for task, one in compared.items()} == {
        "cola": "worse",
        "sst2": "not run by both",
        "qnli": "better",
        "rte": "tied",
        "wnli": "no score",
    }
    tested = [one.test for one in compared.values() if one.test]
    assert [one.p_holm for one in tested] == pytest.approx(list(holm(np.array([one.p for one in tested]))))
    reversed_tests = {one.task: one.test for one in compare_entries(board, b, a)}
    assert reversed_tests["qnli"].difference == pytest.approx(-compared["qnli"].test.difference)
    assert reversed_tests["qnli"].p == pytest.approx(compared["qnli"].test.p)


def test_two_single_runs_give_no_verdict() -> None:
    board = board_of(*(record_with_predictions("qnli", quality, model=model) for model, quality in QUALITIES))
    (compared,) = compare_entries(board, find_entry(board, "a"), find_entry(board, "b"))
    assert compared.test.is_over_rows_only
    assert compared.test.p < 0.001
    assert compared.verdict.startswith("unknown")
    assert compared.verdict in printed(board)


def test_less_error_is_better() -> None:
    board = board_of(
        *(
            record_with_predictions("ratings", quality, model=model, seed=s)
            for model, quality in QUALITIES
            for s in (1, 2)
        )
    )
    (compared,) = compare_entries(board, find_entry(board, "a"), find_entry(board, "b"))
    assert compared.test.difference < 0
    assert compared.verdict == "better"


@pytest.mark.parametrize("main_metrics", [["pearson", "rmse"], ["bleu"]])
def test_scores_without_a_better_direction_are_not_compared(main_metrics: list[str]) -> None:
    """The models have predictions of the same rows."""
    metrics = dict.fromkeys(["pearson", *main_metrics], 0.5)
    facts = dict(metrics=list(metrics), main_metrics=main_metrics, labels=None, problem_type="regression")
    runs = [record_with_predictions("stsb", quality, model=model, facts=facts) for model, quality in QUALITIES]
    board = board_of(*(run.model_copy(update={"metrics": {"validation": metrics}}) for run in runs))
    (compared,) = compare_entries(board, find_entry(board, "a"), find_entry(board, "b"))
    assert compared.verdict == NO_DIRECTION
    assert f"No tests: {NO_DIRECTION}." in render_markdown(board)


def test_other_rows_are_not_compared() -> None:
    board = board_of(
        record_with_predictions("qnli", 0.9, model="a"), record_with_predictions("qnli", 0.5, model="b", rows=150)
    )
    (compared,) = compare_entries(board, find_entry(board, "a"), find_entry(board, "b"))
    assert compared.test is None
    assert compared.verdict in printed(board)


def test_command_prints_the_comparison_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, quality in QUALITIES:
        for seed in (1, 2):
            write_record(record_with_predictions("qnli", quality, model=model, seed=seed), tmp_path)
    main(["--results", str(tmp_path), "--compare", "a", "b"])
    out = capsys.readouterr().out
    assert "better" in out
    assert not list(tmp_path.glob("leaderboard.*"))
    with pytest.raises(UserError, match="--compare"):
        main(["--results", str(tmp_path), "--compare", "a", "a"])
