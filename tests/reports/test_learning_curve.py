"""The learning curve of a run: every evaluation in the plot, some of many in the table, the selected one marked."""

from __future__ import annotations

import re
from collections.abc import Callable

from harness.facts.record_parts import HistoryEntry
from harness.facts.records import RunRecord
from harness.reports.learning_curve import curve_plot, curve_table

Make = Callable[..., RunRecord]


def record_with(make_record: Make, evaluations: int, selected: int, title: str = "accuracy") -> RunRecord:
    """A run with an evaluation every quarter of an epoch of 8 steps; the second metric is undefined at the first."""
    history = [
        HistoryEntry(
            epoch=number // 4 if number % 4 == 0 else number / 4,
            step=2 * number,
            train_loss=1 / number,
            learning_rate=1e-5,
            seconds=1,
            metrics={"loss": 0.5 / number, title: 0.25, "f1": None if number == 1 else 0.125},
        )
        for number in range(1, evaluations + 1)
    ]
    facts = dict(metrics=[title, "f1"], main_metrics=[title, "f1"])
    return make_record("rte", facts=facts, history=history, selected_epoch=history[selected - 1].epoch)


def test_table_has_losses_and_main_metrics_with_the_selected_in_bold(make_record: Make) -> None:
    lines = curve_table(record_with(make_record, evaluations=3, selected=2)).splitlines()
    assert lines[0] == "| epoch | step | training loss | loss | accuracy | F1 |"
    assert lines[2:] == [
        "| 0.25 | 2 | 1.0000 | 0.5000 | 0.2500 | – |",
        "| **0.5** | **4** | **0.5000** | **0.2500** | **0.2500** | **0.1250** |",
        "| 0.75 | 6 | 0.3333 | 0.1667 | 0.2500 | 0.1250 |",
    ]


def test_table_of_a_long_history_has_some_lines_with_the_selected_and_the_last(make_record: Make) -> None:
    lines = curve_table(record_with(make_record, evaluations=400, selected=33)).splitlines()[2:]
    steps = [int(re.findall(r"\d[\d,]*", line.split("|")[2])[0].replace(",", "")) for line in lines]
    assert steps == sorted({*range(40, 801, 40), 66})
    assert [step for step, line in zip(steps, lines, strict=True) if "**" in line] == [66]


def test_plot_names_the_curves_and_the_selected_weights(make_record: Make) -> None:
    plot = curve_plot(record_with(make_record, evaluations=5, selected=2, title="a $metric$"))
    assert plot is not None
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", plot)
    assert {"training loss", "validation loss", "a $metric$", "F1", "these weights", "epochs"} <= set(texts)
    assert plot == curve_plot(record_with(make_record, evaluations=5, selected=2, title="a $metric$"))
    assert plot != curve_plot(record_with(make_record, evaluations=5, selected=3, title="a $metric$"))


def test_single_evaluation_has_no_plot(make_record: Make) -> None:
    assert curve_plot(record_with(make_record, evaluations=1, selected=1)) is None
