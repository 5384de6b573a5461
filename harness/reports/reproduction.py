"""The outcome of a reproduction: a table, reproduction.md, reproduction.json, and one line for a README."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from harness import __version__
from harness.facts.published import UNSTATED, PublishedRow, Score, is_percentage
from harness.metrics.registry import title_of
from harness.reports.cells import decimals_of
from harness.reports.markdown_text import escape_markdown, markdown_table
from harness.stats.equivalence import SEED_COUNTS, Equivalence, Verdict
from harness.stats.reproductions import ScoreVerdict, verdict_of_task
from harness.system.atomic import write_atomically

SCHEMA_VERSION = 1
"""The version of reproduction.json, raised when a key is renamed or changes its meaning."""

HEAD = ("task", "score", "published", "here", "runs", "difference", "verdict")

READINGS_HEAD = ("task", "score", "published", "read as", "here", "difference", "verdict")

STYLES: dict[Verdict, str] = {"agrees": "green", "differs": "red", "cannot tell": "yellow"}

METHOD = """\
The difference is ours less the published value, with its 95 % interval over seeds. *Agrees*: two one-sided tests at
0.05 show that it is smaller than the margin (TOST). *Differs*: they do not, and its interval excludes 0. *Cannot tell*:
neither. Each score is tested by itself: of 20 scores that are equal in truth, one differs by chance."""

READINGS_METHOD = """\
A score that differs is compared again with the same runs, read in another way: their last or best checkpoint, another
metric or split, another statistic. A score whose metric the source does not name is compared as each metric of its
task. No further runs are made. A reading that agrees may be what the source reports without saying so, or may agree by
chance: ask its authors."""


class Reproduction(NamedTuple):
    """The verdicts on a row."""

    row: PublishedRow
    variant: str | None
    model: str
    """The model that was run."""
    margin: float
    is_test_mode: bool
    verdicts: list[ScoreVerdict]
    not_compared: list[tuple[str, Score, str]]
    """Task, score and reason of the scores that no run can be compared with."""

    @property
    def tasks(self) -> dict[str, list[ScoreVerdict]]:
        """The verdicts by task."""
        by_task: dict[str, list[ScoreVerdict]] = {}
        for one in self.verdicts:
            by_task.setdefault(one.task, []).append(one)
        return by_task

    @property
    def counts(self) -> dict[Verdict, list[str]]:
        """The tasks with each verdict."""
        counts: dict[Verdict, list[str]] = {"agrees": [], "differs": [], "cannot tell": []}
        for task, verdicts in self.tasks.items():
            counts[verdict_of_task(verdicts)].append(task)
        return counts


def reproduction_name(row: PublishedRow, variant: str | None) -> str:
    """The name of the folder of a reproduction's files."""
    return f"{row.name}-{variant}" if variant else row.name


def verdict_text(one: ScoreVerdict) -> str:
    """`agrees`, `differs by -1.20 [-1.90, -0.50]`, or `cannot tell` with the reason or the seeds that could."""
    if one.verdict == "agrees":
        return "agrees: the same score with each seed" if one.is_exact else "agrees"
    if one.reason:
        return f"cannot tell: {one.reason}"
    if one.equivalence is None:
        return "differs as each metric"
    if one.verdict == "differs":
        return f"differs by {_difference(one.equivalence, _decimals(one))}"
    if one.equivalence.seeds_to_tell is not None:
        return f"cannot tell: {one.equivalence.seeds_to_tell} seeds could"
    within = points(round(one.equivalence.least_margin, _decimals(one)))
    return f"cannot tell: {SEED_COUNTS[-1]} seeds would be too few; these show agreement within {within}"


def points(number: float) -> str:
    """`1 point`, `2.5 points`."""
    return f"{number:g} point{'' if number == 1 else 's'}"


def _difference(equivalence: Equivalence | None, decimals: int) -> str:
    if equivalence is None:
        return ""
    # `+ 0.0` turns -0.0 into 0.0
    ends = (round(end, decimals) + 0.0 for end in (equivalence.difference, *equivalence.interval))
    difference, low, high = (f"{end:+.{decimals}f}" for end in ends)
    return f"{difference} [{low}, {high}]"


def _decimals(one: ScoreVerdict) -> int:
    """Two decimals of a percentage, and three digits of an error."""
    return 2 if is_percentage(one.score.metric) else decimals_of(one.score.value, 2)


def _cells(one: ScoreVerdict) -> list[str]:
    published = f"{one.score.value:g}" + ("" if one.score.plus_minus is None else f" ±{one.score.plus_minus:g}")
    here = "" if one.equivalence is None else f"{one.equivalence.ours:.{_decimals(one)}f}"
    metric = "metric not stated," if one.score.metric == UNSTATED else title_of(one.score.metric)
    name = f"{metric} {one.score.split}"
    difference = _difference(one.equivalence, _decimals(one))
    return [one.task, name, published, here, str(len(one.runs)), difference, verdict_text(one)]


def _reading_cells(outcome: Reproduction) -> Iterator[list[str]]:
    """A line for each reading of a score that differs, or whose metric is not stated."""
    for one in outcome.verdicts:
        task, name, published, *_ = _cells(one)
        for title, equivalence in one.readings:
            decimals = _decimals(one)
            here, difference = f"{equivalence.ours:.{decimals}f}", _difference(equivalence, decimals)
            yield [task, name, published, title, here, difference, equivalence.verdict]


def verdict_table(outcome: Reproduction) -> Table:
    """A line for each score, for a terminal."""
    table = Table(*HEAD, box=None, pad_edge=False, title=_title(outcome), title_justify="left")
    for one in outcome.verdicts:
        *cells, verdict = _cells(one)
        table.add_row(*map(Text, cells), Text(verdict, STYLES[one.verdict]))
    return table


def reading_table(outcome: Reproduction) -> Table | None:
    """A line for each reading of a score that differs, or whose metric is not stated; None where there is none."""
    table = Table(
        *READINGS_HEAD, box=None, pad_edge=False, title="Other readings of the same runs", title_justify="left"
    )
    for *cells, verdict in _reading_cells(outcome):
        table.add_row(*map(Text, cells), Text(verdict, "green" if verdict == "agrees" else ""))
    return table if table.row_count else None


def _title(outcome: Reproduction) -> str:
    variant = f", variant {outcome.variant}" if outcome.variant else ""
    test_mode = "; test mode: a tiny model on generated rows, which says nothing about the row"
    return f"{outcome.row.name}{variant}: {outcome.row.source}{test_mode if outcome.is_test_mode else ''}"


def readme_line(outcome: Reproduction) -> str:
    """One line for the README of a paper: the counts of the verdicts, with their conditions."""
    counts, total = outcome.counts, len(outcome.tasks)
    parts = [f"{len(counts['agrees'])} of {total} tasks agree within {points(outcome.margin)}"]
    names = {"differs": "differ", "cannot tell": "undecided"}
    parts += [
        f"{len(tasks)} {names[verdict]} ({', '.join(tasks)})"
        for verdict, tasks in counts.items()
        if tasks and verdict != "agrees"
    ]
    numbers = sorted({len(one.runs) for one in outcome.verdicts})
    runs = "no runs" if not numbers else f"{numbers[0]} to {numbers[-1]} runs" if numbers[1:] else f"{numbers[0]} runs"
    test_mode = " in test mode" if outcome.is_test_mode else ""
    variant = f", variant {outcome.variant}" if outcome.variant else ""
    return (
        f"**Reproduced{test_mode} with glue-harness {__version__}:** {outcome.row.name}{variant} "
        f"({outcome.row.source}): {', '.join(parts)}; {runs} a task."
    )


def aggregate_text(row: PublishedRow, task: str) -> str:
    """`median of 5 runs`, or what the source leaves out."""
    number, aggregate = row.number_of_runs(task), row.tasks[task].aggregate or row.aggregate
    if number == 1:
        return "one run"
    runs = "a number of runs that is not stated, read as one" if number is None else f"{number} runs"
    return f"{aggregate or 'mean (not stated)'} of {runs}"


def assumptions(outcome: Reproduction) -> list[str]:
    """The readings of the published scores that the source leaves open, collapsed runs, and the notes of the row."""
    row = outcome.row
    lines = [
        f"Published scores: {text}." for text in dict.fromkeys(aggregate_text(row, task) for task in outcome.tasks)
    ]
    if row.plus_minus_is == "unstated":
        lines.append("± is not explained by the source; it is read as the standard deviation over seeds.")
    if any(one.score.plus_minus is None for one in outcome.verdicts):
        lines.append("A score without ± is taken to vary over seeds as the runs here do.")
    if outcome.variant:
        lines.append(f"Variant {outcome.variant}: {row.conflicts[outcome.variant].note}")
    if outcome.model != row.model:
        lines.append(f"The runs are of {outcome.model}, taken to be a copy of {row.model}.")
    lines += [
        f"Another recipe for the scores that differ: --variant {name}. {variant.note}"
        for name, variant in row.conflicts.items()
        if any(
            row.recipe_of(task, name) not in (row.recipe_of(task), row.recipe_of(task, outcome.variant))
            for task in outcome.counts["differs"]
        )
    ]
    lines += [
        f"{task}: {len(verdicts[0].collapsed)} of {len(verdicts[0].runs)} runs here predicted one class throughout."
        for task, verdicts in outcome.tasks.items()
        if verdicts[0].collapsed
    ]
    return [*lines, *row.notes, *(note for task in outcome.tasks for note in row.tasks[task].notes)]


def render_reproduction_markdown(outcome: Reproduction) -> str:
    """reproduction.md."""
    body = [list(map(escape_markdown, _cells(one))) for one in outcome.verdicts]
    parts = [
        f"# Reproduction of {escape_markdown(_title(outcome))}",
        readme_line(outcome),
        markdown_table(HEAD, body, left=2),
        f"Margin: {points(outcome.margin)}. {METHOD}",
        "\n".join(f"- {escape_markdown(line)}" for line in assumptions(outcome)),
    ]
    if readings := [list(map(escape_markdown, cells)) for cells in _reading_cells(outcome)]:
        parts += [
            "## Other readings of the same runs",
            READINGS_METHOD,
            markdown_table(READINGS_HEAD, readings, left=4),
        ]
    if outcome.not_compared:
        lines = [
            [task, f"{score.metric} {score.split}", f"{score.value:g}", reason]
            for task, score, reason in outcome.not_compared
        ]
        escaped = [list(map(escape_markdown, line)) for line in lines]
        parts += ["## Not compared", markdown_table(["task", "score", "published", "reason"], escaped, left=2)]
    return "\n\n".join(parts) + "\n"


def render_reproduction_json(outcome: Reproduction) -> str:
    """reproduction.json: all content of reproduction.md, unrounded, for programs."""
    row = outcome.row
    content = {
        "schema_version": SCHEMA_VERSION,
        "row": row.model_dump(mode="json", include={"name", "model", "revision", "source", "setting", "plus_minus_is"}),
        "variant": outcome.variant,
        "model": outcome.model,
        "margin": outcome.margin,
        "is_test_mode": outcome.is_test_mode,
        "tasks": {task: verdict_of_task(verdicts) for task, verdicts in outcome.tasks.items()},
        "scores": [_score(row, one) for one in outcome.verdicts],
        "not_compared": [
            {"task": task, **score.model_dump(mode="json"), "reason": reason}
            for task, score, reason in outcome.not_compared
        ],
        "assumptions": assumptions(outcome),
        "readme_line": readme_line(outcome),
        "harness": __version__,
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _score(row: PublishedRow, one: ScoreVerdict) -> dict[str, Any]:
    facts = one.equivalence
    return {
        "task": one.task,
        **one.score.model_dump(mode="json"),
        "aggregate": row.aggregate_of(one.task),
        "published_runs": row.number_of_runs(one.task),
        "verdict": one.verdict,
        "is_exact": one.is_exact,
        "reason": one.reason or None,
        "comparison": facts and _comparison(facts),
        "other_readings": [{"read_as": title, **_comparison(other)} for title, other in one.readings],
        "runs": [
            {"run_id": run_id, "seed": seed, "score": score, "is_collapsed": seed in one.collapsed}
            for (run_id, score), seed in zip(one.runs.items(), one.seeds, strict=True)
        ],
    }


def _comparison(equivalence: Equivalence) -> dict[str, Any]:
    return {**equivalence._asdict(), "interval": list(equivalence.interval)}


def write_reproduction(outcome: Reproduction, folder: Path) -> list[Path]:
    """Writes reproduction.md and reproduction.json."""
    texts = {
        "reproduction.md": render_reproduction_markdown(outcome),
        "reproduction.json": render_reproduction_json(outcome),
    }
    for name, text in texts.items():
        write_atomically(folder / name, text)
    return [folder / name for name in texts]
