"""`harness leaderboard --compare`: two rows of the table on the same rows of data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from reports.test_leaderboard import answered, lost, record

from harness.commands.leaderboard import main
from harness.errors import UserError
from harness.facts.packing import unpack_array
from harness.facts.records import RunRecord, write_record
from harness.reports.comparison import compare_rows, print_comparison, row_named
from harness.reports.standings import Leaderboard, build
from harness.stats.uncertainty import holm, mcnemar


def board_of(*records: RunRecord) -> Leaderboard:
    return build(records, resamples=200)


def shown(board: Leaderboard) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    print_comparison(board, *(row_named(board, name) for name in ("a", "b")), console)
    return console.export_text()


def test_row_is_found_by_its_name_its_last_part_or_a_beginning() -> None:
    board = board_of(record(model="org/large-model"), record(model="org/base"), record(model="other/small"))
    for name in ("org/large-model", "large-model", "LARGE", "org/l", "large-model (default)"):
        assert row_named(board, name).model == "org/large-model"


def test_unknown_name_gives_the_near_one_and_all() -> None:
    board = board_of(record(model="org/large"), record(model="org/base"))
    with pytest.raises(UserError, match=r"'org/lrage'.* Did you mean 'org/large'\? There are 'org/"):
        row_named(board, "org/lrage")


def test_name_of_several_rows_is_refused_with_their_full_names() -> None:
    board = board_of(record(), record(recipe={"epochs": 9}))
    with pytest.raises(UserError, match=r"2 rows are called so: .*bert-base-cased \(epochs=9\)"):
        row_named(board, "bert")
    assert row_named(board, "bert-base-cased (epochs=9)").variant == "epochs=9"


def test_verdicts_are_holms_over_the_tasks_that_both_have() -> None:
    qualities = {"qnli": (0.9, 0.5), "rte": (0.7, 0.69), "cola": (0.5, 0.9)}
    records = [
        answered(task, quality, model=model, seed=seed)
        for task, pair in qualities.items()
        for model, quality in zip("ab", pair, strict=True)
        for seed in (1, 2)
    ]
    board = board_of(
        *records, record("sst2", model="a"), lost("diverged", "wnli", model="a"), record("wnli", model="b")
    )
    a, b = (row_named(board, name) for name in "ab")
    found = {one.task: one for one in compare_rows(board, a, b)}
    assert {task: one.verdict for task, one in found.items()} == {
        "cola": "worse",
        "sst2": "not run by both",
        "qnli": "better",
        "rte": "tied",
        "wnli": "no score",
    }
    tested = [one.versus for one in found.values() if one.versus]
    assert [one.p_holm for one in tested] == pytest.approx(list(holm(np.array([one.p for one in tested]))))
    turned = {one.task: one.versus for one in compare_rows(board, b, a)}
    assert turned["qnli"].difference == pytest.approx(-found["qnli"].versus.difference)
    assert turned["qnli"].p == pytest.approx(found["qnli"].versus.p)


def test_two_single_runs_are_compared_by_mcnemar() -> None:
    a, b = answered("qnli", 0.8, model="a"), answered("qnli", 0.74, model="b")
    hits = [unpack_array(run.answers["validation"]) == unpack_array(run.gold["validation"]) for run in (a, b)]
    only = np.array([(hits[0] & ~hits[1]).sum()]), np.array([(hits[1] & ~hits[0]).sum()])
    board = board_of(a, b)
    (found,) = compare_rows(board, row_named(board, "a"), row_named(board, "b"))
    assert found.versus.p == pytest.approx(mcnemar(*only)[0])
    assert "(exact)" in shown(board)


def test_less_error_is_better() -> None:
    board = board_of(answered("ratings", 0.9, model="a"), answered("ratings", 0.5, model="b"))
    (found,) = compare_rows(board, row_named(board, "a"), row_named(board, "b"))
    assert found.versus.difference < 0
    assert found.verdict == "better"


def test_other_rows_are_not_compared() -> None:
    board = board_of(answered("qnli", 0.9, model="a"), answered("qnli", 0.5, model="b", rows=150))
    (found,) = compare_rows(board, row_named(board, "a"), row_named(board, "b"))
    assert found.versus is None
    assert "not on the same rows" in shown(board)


def test_command_prints_the_comparison_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, quality in (("a", 0.9), ("b", 0.5)):
        write_record(answered("qnli", quality, model=model), tmp_path)
    main(["--results", str(tmp_path), "--compare", "a", "b"])
    out = capsys.readouterr().out
    assert "better" in out
    assert "Holm: corrected for the 1 tasks compared" in out
    assert not list(tmp_path.glob("leaderboard.*"))
    with pytest.raises(UserError, match="the same row"):
        main(["--results", str(tmp_path), "--compare", "a", "a"])
