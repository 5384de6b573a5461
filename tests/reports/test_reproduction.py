"""The files of a reproduction: their numbers, and texts that break nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from harness.facts.published import PublishedRow, PublishedTask, Score, Variant
from harness.facts.records import RunRecord
from harness.reports.reproduction import (
    Reproduction,
    reading_table,
    readme_line,
    render_reproduction_json,
    render_reproduction_markdown,
    verdict_table,
    verdict_text,
    write_reproduction,
)
from harness.stats.reproductions import verdicts_of


@pytest.fixture
def outcome(make_record: Callable[..., RunRecord]) -> Reproduction:
    def task(value: float) -> PublishedTask:
        return PublishedTask(scores=(Score(metric="accuracy", split="validation", value=value),), recipe={})

    row = PublishedRow(
        name="own",
        model="example/bert",
        source="a | b",
        setting="3 epochs",
        tasks={"rte": task(70.2), "qnli": task(80.0), "sst2": task(70.2), "cola": task(50.0)},
        conflicts={
            "script": Variant(source="c", note="another *rate*", recipe={"learning_rate": 1e-4}),
            "rte-only": Variant(source="c", note="another start", tasks={"rte": {"init_from": "qnli"}}),
        },
        notes=("a note",),
    )
    runs = [make_record(seed=seed, scores={"accuracy": 0.70 + seed / 1000}) for seed in range(5)]
    compared = {name: row.tasks[name].scores for name in ("rte", "qnli", "sst2")}
    records = {"rte": runs, "qnli": runs, "sst2": [None, *runs[1:]]}
    excluded = [("cola", row.tasks["cola"].scores[0], "another metric")]
    return Reproduction(row, "script", "my/copy", 1.0, False, verdicts_of(row, compared, records, 1.0), excluded)


def test_a_small_error_is_shown_with_its_digits(make_record: Callable[..., RunRecord]) -> None:
    score = Score(metric="mse", split="validation", value=0.000214)
    row = PublishedRow(
        name="own",
        model="example/bert",
        source="a",
        setting="3 epochs",
        tasks={"ratings": PublishedTask(scores=(score,), recipe={})},
    )
    runs = [make_record("ratings", seed=seed, scores={"mse": 0.0003 + seed / 1e6}) for seed in range(3)]
    (one,) = verdicts_of(row, {"ratings": (score,)}, {"ratings": runs}, 1e-5)
    assert verdict_text(one) == "differs by +0.000087 [+0.000082, +0.000092]"
    shown = render_reproduction_markdown(Reproduction(row, None, "example/bert", 1e-5, False, [one], []))
    assert "| 0.000214 | 0.000301 | 3 | +0.000087 " in shown


def test_json_has_all_numbers(outcome: Reproduction) -> None:
    content = json.loads(render_reproduction_json(outcome))
    assert content["tasks"] == {"rte": "agrees", "qnli": "differs", "sst2": "cannot tell"}
    rte, qnli, sst2 = content["scores"]
    assert rte["comparison"]["difference"] == pytest.approx(0.0, abs=1e-9)
    low, high = qnli["comparison"]["interval"]
    assert qnli["comparison"]["difference"] == pytest.approx(-9.8)
    assert low < -9.8 < high < 0
    assert [run["seed"] for run in rte["runs"]] == [0, 1, 2, 3, 4]
    assert (sst2["reason"], rte["reason"]) == ("1 of 5 runs not finished", None)
    assert [one["read_as"] for one in qnli["other_readings"]] == ["best of 5 runs"]
    assert qnli["other_readings"][0]["difference"] == pytest.approx(-9.6)
    assert rte["other_readings"] == sst2["other_readings"] == []
    assert [(one["task"], one["reason"]) for one in content["not_compared"]] == [("cola", "another metric")]


def test_pages_and_line_name_every_verdict(outcome: Reproduction, tmp_path: Path) -> None:
    markdown, _ = write_reproduction(outcome, tmp_path / "new")
    page = markdown.read_text(encoding="utf-8")
    assert page == render_reproduction_markdown(outcome)
    assert "a &#124; b" in page
    assert "another \\*rate\\*" in page
    assert "differs by -9.80" in page
    assert "my/copy" in page
    assert "1 of 3 tasks agree within 1 point, 1 differ (qnli), 1 undecided (sst2)" in readme_line(outcome)
    console = Console(width=200, record=True, file=(tmp_path / "out").open("w"))
    console.print(verdict_table(outcome))
    assert console.export_text().count("cannot tell") == 1


def test_a_score_that_differs_has_its_other_readings_and_recipes(outcome: Reproduction) -> None:
    page = render_reproduction_markdown(outcome)
    (line,) = [line for line in page.splitlines() if "best of 5 runs" in line]
    assert line.startswith("| qnli | accuracy validation | 80 | best of 5 runs | 70.40 | -9.60 ")
    assert line.endswith("| differs |")
    assert "--variant" not in page  # it is the variant that was run
    table = reading_table(outcome)
    assert table is not None
    assert table.row_count == 1
    main = outcome._replace(variant=None)
    page = render_reproduction_markdown(main)
    assert "Another recipe for the scores that differ: --variant script" in page
    assert "rte-only" not in page  # the score of rte agrees
    agreeing = main._replace(verdicts=[one for one in outcome.verdicts if one.verdict == "agrees"])
    assert reading_table(agreeing) is None
    page = render_reproduction_markdown(agreeing)
    assert "Other readings" not in page
    assert "--variant" not in page
