"""What a run shows: a bar on a terminal only, a table of epochs, and an outcome in words."""

from __future__ import annotations

import io
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from harness.engine.display import Display, shown, summary
from harness.engine.training import Step
from harness.facts.recipes import Recipe, plan_steps
from harness.facts.records import Cost, DataFacts, Epoch, RunRecord, RunSpec, TaskFacts

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
        is_checked=True,
    )


def epoch(number: int) -> Epoch:
    return Epoch(epoch=number, step=1200 * number, train_loss=0.5, learning_rate=1e-5, seconds=61.25, metrics=METRICS)


def record(**told: Any) -> RunRecord:
    facts: dict[str, Any] = dict(
        run_id="tiny-seed1",
        status="ok",
        spec=RunSpec(
            task="cola", task_version=1, task_fingerprint="d", data=None, model="m", revision="main", seed=1, recipe=Recipe()
        ),
        recipe_changes={},
        task=TaskFacts(
            title="CoLA",
            suite="glue",
            labels=["no", "yes"],
            metrics=["matthews_correlation", "accuracy"],
            main_metrics=["matthews_correlation"],
            report=["validation"],
            select_on="validation",
        ),
        data=DataFacts(
            source="files",
            revision=None,
            fingerprint="f",
            rows={"validation": 1043},
            full_rows={},
            is_partial=False,
            missing=[],
            shared_texts={},
        ),
        metrics={"validation": {"loss": 0.5, "matthews_correlation": None, "accuracy": 0.7}},
        baseline={"validation": {"matthews_correlation": 0.0, "accuracy": 0.69}},
        command="harness/run.py",
        started=datetime(2025, 1, 1, tzinfo=UTC),
        finished=datetime(2025, 1, 1, tzinfo=UTC),
    )
    return RunRecord(**{**facts, **told})


def test_bar_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(PLAN, is_main=True)
    display.update(step(1))
    display.close()
    assert capsys.readouterr() == ("", "")


def test_bar_shows_loss_and_speed_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "200")
    display = Display(PLAN, is_main=True)
    display.update(step(1, loss=1.0))
    display.update(step(2, loss=2.0))
    display.bar.refresh()
    display.close()
    assert "2/4" in terminal.getvalue()
    assert "epoch 1, loss 1.1000, learning rate 1.00e-05, 320 rows/s" in terminal.getvalue()


def test_other_processes_show_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    display = Display(PLAN, is_main=False)
    display.update(step(1))
    display.epoch(epoch(1))
    display.close()
    assert terminal.getvalue() == ""
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("first", [1, 3])
def test_epochs_are_a_table_whose_header_comes_once(first: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when an interrupted run goes on with a later epoch."""
    display = Display(PLAN, is_main=True)
    display.epoch(epoch(first))
    display.epoch(epoch(first + 1))
    display.close()
    header, *lines = capsys.readouterr().out.splitlines()
    assert " ".join(header.split()) == "epoch step train loss learning rate loss accuracy Matthews seconds"
    assert [line.split() for line in lines] == [
        [str(number), f"{1200 * number:,}", "0.5000", "1.00e-05", "0.2500", "0.5000", "–", "61.2"]
        for number in (first, first + 1)
    ]
    assert {len(line) for line in lines} == {len(header)}


@pytest.mark.parametrize("value, text", [(0.5, "0.5000"), (-1.0, "-1.0000"), (0.00004, "0.0000"), (None, "–")])
def test_metric_has_four_decimals_or_a_dash(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_summary_names_scores_and_the_best_constant_answer() -> None:
    assert summary(record(notes=["validation: matthews_correlation is undefined"])).splitlines() == [
        "cola validation (1,043 rows): loss 0.5000, Matthews –, accuracy 0.7000",
        "  the best constant answer: Matthews 0.0000",
        "note: validation: matthews_correlation is undefined",
    ]


def test_summary_says_when_a_run_is_no_success() -> None:
    assert "status: collapsed" in summary(record(status="collapsed"))
    told = summary(record(status="diverged", error="the loss of step 3 is not finite", metrics={}, data=None))
    assert told == "status: diverged, the loss of step 3 is not finite"


def test_summary_says_what_the_run_took() -> None:
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
    told = summary(record(cost=cost, rows_per_second=1234.5, padding_share=0.125, peak_bytes=2**30))
    assert told.splitlines()[-1] == "100.0 s in all, 80.0 s of steps at 1,234 rows/s, 12% padding, 1,024 MiB at most"
