"""Output of a run: a bar on a terminal only, a table of epochs, and a summary."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
import torch
from support.records import finished_record

from harness.engine.display import Display, summary
from harness.engine.training import Step
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.record_parts import Cost, HistoryEntry
from harness.facts.records import RunRecord

PLAN = plan_steps(64, Recipe(epochs=2), processes=1)

METRICS = {"loss": 0.25, "accuracy": 0.5, "matthews_correlation": None}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def step(number: int, loss: float = 0.5, seconds: float = 0.1) -> Step:
    return Step(
        number=number,
        epoch=1,
        measured=torch.tensor([32 * loss, 1.0]),
        learning_rate=1e-5,
        rows=32,
        tokens=320,
        computed_tokens=400,
        seconds=seconds,
        ends_epoch=False,
        is_evaluated=False,
        is_checked=True,
    )


def evaluation(number: int | float) -> HistoryEntry:
    step = round(1200 * number)
    return HistoryEntry(epoch=number, step=step, train_loss=0.5, learning_rate=1e-5, seconds=61.25, metrics=METRICS)


def record(**fields: Any) -> RunRecord:
    scores = {"loss": 0.5, "matthews_correlation": None, "accuracy": 0.7}
    constant = {"matthews_correlation": 0.0, "accuracy": 0.69}
    finished = finished_record("cola", scores, baseline={"validation": constant}, data={"rows": {"validation": 1043}})
    return finished.model_copy(update={"cost": None, "rows_per_second": None, "peak_bytes": None, **fields})


def test_bar_prints_nothing_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(PLAN, is_main=True) as display:
        display.update(step(1))
    assert capsys.readouterr() == ("", "")


def test_bar_shows_loss_and_speed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    with Display(PLAN, is_main=True) as display:
        display.update(step(1, loss=1.0))
        display.update(step(2, loss=2.0))
        display.bar.refresh()
    assert "2/4" in terminal.getvalue()
    assert "epoch 1, loss 1.1000, learning rate 1.00e-05, 320 rows/s" in terminal.getvalue()


def test_other_processes_show_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with Display(PLAN, is_main=False) as display:
        display.update(step(1))
        display.evaluation(evaluation(1))
    assert terminal.getvalue() == ""
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("first", [1, 3, 0.125])
def test_table_of_evaluations_has_one_header(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A resumed run starts with a later epoch and has a header too."""
    with Display(PLAN, is_main=True) as display:
        display.evaluation(evaluation(first))
        display.evaluation(evaluation(first + 1))
    header, *lines = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "epoch step train loss learning rate loss accuracy Matthews seconds"
    assert [line.split() for line in lines] == [
        [str(number), f"{1200 * number:,.0f}", "0.5000", "1.00e-05", "0.2500", "0.5000", "–", "61.2"]
        for number in (first, first + 1)
    ]
    assert {len(line) for line in lines} == {len(header)}


def test_losses_of_small_and_large_labels_keep_their_digits_and_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(PLAN, is_main=True) as display:
        for number, loss in enumerate((2.1e-10, 225918.9193, 5.02e10), start=1):
            metrics = {"loss": loss, "accuracy": 0.5, "matthews_correlation": None}
            display.evaluation(evaluation(number).model_copy(update={"train_loss": loss, "metrics": metrics}))
    header, *lines = capsys.readouterr().out.splitlines()
    assert [line.split()[i] for line in lines for i in (2, 4)] == [
        *["2.10e-10"] * 2,
        *["225918.9"] * 2,
        *["5.02e+10"] * 2,
    ]
    assert {len(line) for line in lines} == {len(header)}


def test_summary_has_scores_baseline_and_notes() -> None:
    assert summary(record(notes=["validation: matthews_correlation is undefined"])).splitlines() == [
        "cola validation (1,043 rows): loss 0.5000, Matthews –, accuracy 0.7000",
        "  majority-class baseline: Matthews 0.0000",
        "note: validation: matthews_correlation is undefined",
    ]


def test_summary_has_the_errors_of_a_constant_prediction() -> None:
    scores, constant = {"pearson": 0.5, "rmse": 9.0}, {"pearson": None, "rmse": 2.5}
    run = finished_record("stsb", scores, facts={"main_metrics": ["pearson"]}, baseline={"validation": constant})
    assert "  constant baseline: Pearson –, RMSE 2.5000" in summary(run).splitlines()


def test_summary_has_the_status_of_an_unsuccessful_run() -> None:
    assert "status: collapsed" in summary(record(status="collapsed"))
    text = summary(record(status="diverged", error="the loss of step 3 is not finite", metrics={}, data=None))
    assert text == "status: diverged, the loss of step 3 is not finite"


def test_summary_has_time_speed_padding_and_memory() -> None:
    cost = Cost(
        seconds=100,
        setup_seconds=10,
        train_seconds=80,
        evaluate_seconds=10,
        device_seconds=100,
        steps=4,
        rows=128,
        tokens=1280,
        peak_bytes_per_process=[2**30],
    )
    text = summary(record(cost=cost, rows_per_second=1234.5, padding_share=0.125, peak_bytes=2**30))
    assert re.findall(r"[\d,.]+", text.splitlines()[-1]) == ["100.0", ",", "80.0", "1,234", ",", "12", ",", "1,024"]
