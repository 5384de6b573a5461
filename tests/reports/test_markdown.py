"""leaderboard.md: its tables, titles and links, and names that break nothing.

After an intended change of the page, `PYTHONPATH=.:tests python tests/reports/test_markdown.py` writes
golden/leaderboard.md again.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support.boards import (
    ELECTRA,
    cell,
    failed_record,
    page,
    record,
    record_with_predictions,
    sample,
    scoreless_record,
    table,
    table_with,
)

from harness.facts.record_parts import Energy
from harness.facts.records import RunRecord, write_record
from harness.facts.suites import Average, Suite
from harness.reports.data_files import render_csv, render_json
from harness.reports.folder import read_pages
from harness.reports.markdown import render_markdown
from harness.reports.standings import build_leaderboard

GOLDEN = Path(__file__).parent / "golden" / "leaderboard.md"


def test_page_equals_the_golden_file() -> None:
    assert render_markdown(build_leaderboard(sample(), unreadable=1, resamples=400)) == GOLDEN.read_text(
        encoding="utf-8"
    )


def test_titles_name_metrics_and_splits() -> None:
    (line, _) = table(
        render_markdown(build_leaderboard([record(task) for task in ("imdb", "mnli", "mrpc", "rte", "ax")]))
    )
    expected = ["MRPC F1/accuracy", "MNLI accuracy m/mm", "RTE accuracy", "ax", "imdb accuracy test"]
    assert list(line) == ["Model", "Recipe", "GLUE", "GLUE-8", *expected]


def test_columns_of_the_average_need_a_task_of_the_suite() -> None:
    assert list(table(render_markdown(build_leaderboard([record("imdb")])))[0]) == [
        "Model",
        "Recipe",
        "imdb accuracy test",
    ]


def test_missing_rows_of_a_task_are_counted() -> None:
    part = record("rte", data={"is_partial": True, "rows": {"train": 2000, "validation": 408}})
    assert "Partial data: train 2,000 of 3,668 rows." in render_markdown(build_leaderboard([part, record("mrpc")]))


@pytest.mark.parametrize(
    "mark, changes",
    [
        ("c", {"status": "collapsed"}),
        ("p", {"data": {"is_partial": True}}),
        ("r", {"recipe": {"train_rows": 100}}),
        (
            "h",
            {
                "recipe": {"protocol": "holdout", "select": "best"},
                "facts": {"report": ["validation_holdout"]},
            },
        ),
        ("s", {"recipe": {"select": "best"}}),
        ("s", {"recipe": {"threshold": "validation"}}),
        ("u", {"data": {"is_unpinned": True}}),
        ("x", {"spec": {"trust_remote_code": True}}),
        ("t", {"spec": {"test_mode": True}}),
    ],
)
def test_marks_follow_the_cell_and_are_explained(mark: str, changes: dict[str, Any]) -> None:
    page = render_markdown(build_leaderboard([record(**changes)]))
    shown = next(value for title, value in table(page)[0].items() if title.startswith("MRPC"))
    assert shown.endswith(f"(1) [{mark}]")
    assert re.findall(r"^- \\\[(.)\\\]", page, flags=re.MULTILINE) == [mark]


def test_runs_on_other_rows_of_an_unpinned_data_set_are_not_averaged() -> None:
    rows = {"is_unpinned": True, "fingerprint": "newer rows"}
    board = build_leaderboard([record(seed=1, data={"is_unpinned": True}), record(seed=2, data=rows)])
    marks = {group.fingerprint: group.marks for group in board.evidence}
    assert sorted(map(sorted, marks.values())) == [["u"], ["u", "v"]]


def test_page_without_marks_has_no_legend() -> None:
    assert "\\[" not in render_markdown(build_leaderboard([record()]))


def test_unbounded_metric_is_not_a_percentage_and_lower_is_better() -> None:
    records = [record("ratings", 0.71239), record("ratings", 0.9, model=ELECTRA)]
    first, second, constant = table(render_markdown(build_leaderboard(records)))
    assert first["ratings RMSE"] == "**0.712** (1)"
    assert second["ratings RMSE"] == "0.900 (1)"
    assert constant["ratings RMSE"] == "1.500"


def test_metric_of_evaluate_is_shown_unscaled_and_not_compared() -> None:
    facts = {"metrics": ["perplexity"], "main_metrics": ["perplexity"]}
    assert cell([record("lm", {"perplexity": 12.3456}, facts=facts)], "lm perplexity") == "12.346 (1)"
    assert "**" not in render_markdown(build_leaderboard([record("lm", {"perplexity": 12.3456}, facts=facts)]))


def test_small_negative_is_shown_without_a_sign() -> None:
    assert cell([record("cola", {"matthews_correlation": -0.0001})], "CoLA Matthews") == "0.0 (1)"


def test_precisions_are_averaged_and_named() -> None:
    other = record(seed=2)
    assert other.environment
    environment = other.environment.model_copy(update={"precision": "fp32", "devices": ["cpu", "cpu"]})
    page = render_markdown(build_leaderboard([record(), other.model_copy(update={"environment": environment})]))
    (line,) = table_with(page, "n")
    assert (line["n"], line["precision"], line["devices"]) == ("2", "bf16, fp32", "1 × NVIDIA H100, 2 × cpu")


def test_test_mode_is_in_the_title() -> None:
    page = render_markdown(build_leaderboard([record(spec={"test_mode": True})]))
    assert re.match(r"# Test mode: .*no benchmark results\n", page)


def test_task_table_shows_every_split_and_metric_side_by_side() -> None:
    accuracies = {"train": 0.99, "validation": 0.93, "test": 0.92}
    metrics = {split: {"loss": 0.25, "accuracy": value} for split, value in accuracies.items()}
    page = render_markdown(build_leaderboard([record("imdb", metrics=metrics)]))
    line, constant = table_with(page, "over rows")
    assert line["accuracy train / validation / test"] == "99.0 / 93.0 / 92.0"
    assert constant["Model"] == "majority-class baseline"
    assert constant["accuracy train / validation / test"].startswith("– / – / ")
    assert line["loss train / validation / test"] == "0.250 / 0.250 / 0.250"
    (line,) = table_with(page, "rows/s")
    assert (line["rows/s"], line["peak MiB"], line["seconds"]) == ("220.0", "1,024", "61.0")


def test_errors_of_a_regression_are_next_to_those_of_the_constant_prediction() -> None:
    page = render_markdown(build_leaderboard([record_with_predictions("ratings", 0.9)]))
    _, constant = table_with(page, "over rows")
    assert constant["Model"] == "constant baseline"
    assert float(constant["RMSE validation"]) > 0


def test_links_lead_to_the_records(tmp_path: Path) -> None:
    runs = [record(), record("a task (1)", seed=2), scoreless_record("diverged", seed=3)]
    for run in runs:
        write_record(run, tmp_path)
    board = read_pages(tmp_path)[0]["leaderboard"]
    page = MarkdownIt("commonmark").enable("table").render(render_markdown(board))
    links = re.findall(r'href="(runs/[^"]+)"', page)
    assert len(links) == 3
    assert all(
        (tmp_path / link.replace("%20", " ").replace("%28", "(").replace("%29", ")")).is_file() for link in links
    )


@pytest.mark.parametrize(
    "name",
    [
        "a|b<script>*x*_y_",
        "`c` [d](http://e)",
        "a\\|b",
        "x\n\n# y\r\n| z |",
        "&lt; ~~s~~ $m$",
        "![i](j)",
        "\u202ereversed",
    ],
)
def test_names_are_escaped(name: str) -> None:
    facts = {"title": name}
    records = [
        record(name, model=name, seed=1, facts=facts),
        failed_record(name, model=name, seed=2, facts=facts),
    ]
    records += [record(name, model=name, seed=3, facts=facts, default={"epochs": 5})]
    html = MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(page(records))
    visible = " ".join("".join(char if char.isprintable() else " " for char in name).split())
    escaped = visible.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    assert f'<td style="text-align:left">{escaped}</td>' in html
    body = html.split("</h1>", 1)[1].replace("<code>harness leaderboard</code>", "")
    assert not re.search(r"<(script|em|code|img|s|del|h1|blockquote)\b", body)
    assert re.findall("<h3>(.*)</h3>", body) == [f"{escaped}: {escaped}"]
    for block in re.findall(r"<table>.*?</table>", html, flags=re.DOTALL):
        columns = block.count("<th")
        columns -= block.count("<thead")
        assert all(line.count("<td") == columns for line in re.findall(r"<tr>.*?</tr>", block, re.DOTALL)[1:])


def test_cost_of_an_entry_is_the_sum_over_its_runs() -> None:
    lost = scoreless_record("failed", "mrpc", seed=3, cost=None)
    records = [record("rte", seed=1), record("rte", seed=2), record("mrpc", seed=1), lost]
    (line,) = table_with(render_markdown(build_leaderboard(records)), "device-hours")
    assert (line["tasks"], line["runs"]) == ("2", "4 (1 unknown)")
    assert line["seconds"] == f"{61 + 62 + 61}"
    assert line["seconds once"] == f"{61.5 + 61:.0f}"
    assert line["device-hours"] == f"{(61 + 62 + 61) / 3600:.2f}"


def test_energy_is_summed_where_runs_measured_it_and_left_out_elsewhere() -> None:
    plain = record("rte", seed=1)
    assert "kJ of GPUs" not in render_markdown(build_leaderboard([plain]))
    energy = Energy(gpu_joules=1500.0, processor_joules=None, sources=["NVML of the GPU", "RAPL: not readable"])
    measured = [record("rte", seed=seed, energy=energy) for seed in (2, 3)]
    (line,) = table_with(render_markdown(build_leaderboard([plain, *measured])), "kJ of GPUs")
    assert (line["kJ of GPUs"], line["kJ of processors"]) == ("3.0 (2 of 3)", "")
    (entry,) = json.loads(render_json(build_leaderboard(measured)))["entries"]
    assert (entry["cost"]["gpu_joules"], entry["cost"]["processor_joules"]) == (3000.0, None)
    assert [run["energy"]["gpu_joules"] for run in entry["tasks"]["rte"]["runs"]] == [1500.0] * 2


def test_published_results_are_a_section_for_tasks_of_the_board() -> None:
    page = render_markdown(build_leaderboard([record("sst2")]))
    lines = table_with(page, "Source")
    assert all(line["SST-2 accuracy"] for line in lines)
    assert len(lines) > 5
    assert page.index("## Published results") < page.index("| Model | Setting")
    assert "CoLA" not in page.split("## Published")[1].split("## Tasks")[0]
    assert "Published" not in render_markdown(build_leaderboard([record("ratings", 0.5)]))
    assert "Published" not in render_markdown(build_leaderboard([record("sst2", spec={"test_mode": True})]))


@pytest.mark.parametrize("render", [render_markdown, render_csv, render_json], ids=lambda render: render.__name__)
def test_order_of_records_does_not_matter(render: Any) -> None:
    records = sample()
    expected = render(build_leaderboard(records, resamples=400))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert render(build_leaderboard(records, resamples=400)) == expected


def test_order_of_keys_in_a_record_does_not_matter() -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return value

    records = sample()
    reversed_records = [RunRecord.model_validate(reversed_keys(run.model_dump(mode="json"))) for run in records]
    for render in (render_markdown, render_csv, render_json):
        assert render(build_leaderboard(reversed_records, resamples=400)) == render(
            build_leaderboard(records, resamples=400)
        )


def test_names_in_the_formulas_are_text(tmp_path: Path) -> None:
    """A foreign record may have any task, and a suite of one's own any average."""
    models = (("a/one", 0.6), ("b/two", 0.9))
    records = [record_with_predictions("<img src=x>", quality, model=model) for model, quality in models]
    text = render_markdown(build_leaderboard(records, resamples=200))
    assert "Tasks: &lt;img src=x&gt;." in text
    assert "<img" not in text
    averages = {"<b>": Average(), "all but one": Average(without=("two",))}
    own = Suite(name="own", title="Own", tasks={"one": "one", "two": "*2*"}, averages=averages, folder=tmp_path)
    text = render_markdown(build_leaderboard([record("one", facts={"suite": "own"})], suites={"own": own}))
    assert "- &lt;b&gt; is the unweighted mean of the two tasks' scores, all but one that without \\*2\\*;" in text


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(render_markdown(build_leaderboard(sample(), unreadable=1, resamples=400)), encoding="utf-8")
