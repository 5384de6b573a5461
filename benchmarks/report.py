"""The measurements of benchmarks/results as tables: in the terminal, and in BENCHMARKS.md between its words.

python benchmarks/report.py    # writes the tables of BENCHMARKS.md anew
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from harness.errors import UserError
from harness.facts.tasks import load_task
from harness.system.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "BENCHMARKS.md"
RESULTS = ROOT / "benchmarks" / "results"

GLUE_EPOCHS = 3
"""Of the estimate for the whole of GLUE, as in the published table of bert-base-cased."""

NAMES = {
    "plain": "(a) plain loop, fp32",
    "plain-mixed": "(b) plain loop",
    "trainer": "(c) Trainer",
    "ours": "(d) the harness",
    "limit": "(e) the limit",
    "limit-stock": "(e') the limit, stock",
}
"""Of the variants, in tables."""


class Table(NamedTuple):
    """A title, the heads of its columns, and its rows; the first column is text, the others are numbers."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Ratio(NamedTuple):
    """How many times as long one variant took as another, and how far the rounds are apart."""

    value: float
    """The median of the rounds' ratios; over several tasks, the geometric mean of their medians."""
    lowest: float
    """Of a round; over several tasks, of the geometric means of the rounds."""
    highest: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.lowest:.2f}–{self.highest:.2f})"


def ratio_of(slower: Sequence[float], faster: Sequence[float]) -> Ratio:
    """Seconds over seconds, round by round."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def ratio_over_tasks(slower: Sequence[Sequence[float]], faster: Sequence[Sequence[float]]) -> Ratio:
    """The same over tasks: seconds[task][round]."""
    medians = [ratio_of(a, b).value for a, b in zip(slower, faster, strict=True)]
    by_round = [
        statistics.geometric_mean(a / b for a, b in zip(one, other, strict=True))
        for one, other in zip(zip(*slower, strict=True), zip(*faster, strict=True), strict=True)
    ]
    return Ratio(statistics.geometric_mean(medians), min(by_round), max(by_round))


def throughput_tables(values: Mapping[str, Any]) -> list[Table]:
    """What throughput.json says: how fast each variant was on each task, and how fast the harness beside them."""
    tasks, variants = values["tasks"], list(values["settings"]["variants"])

    def median(task: str, variant: str, of: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.median(map(of, tasks[task]["measured"][variant]))

    speeds = [
        (
            f"{task}, {NAMES[variant]}",
            f"{median(task, variant, lambda took: took['rows'] / took['seconds']):,.0f}",
            f"{median(task, variant, lambda took: took['tokens'] / took['seconds']):,.0f}",
            f"{median(task, variant, lambda took: 1 - took['tokens'] / took['computed_tokens']):.1%}",
            f"{median(task, variant, lambda took: took['peak_bytes'] / 2**20):,.0f}",
        )
        for task in tasks
        for variant in variants
    ]
    tables = [Table("Medians of the rounds", ("task, variant", "rows/s", "tokens/s", "padding", "memory, MiB"), speeds)]
    return [*tables, *_ratio_table(tasks, variants)]


def whole_tables(values: Mapping[str, Any]) -> list[Table]:
    """What whole.json says: seconds from command to record, and their ratios."""
    tasks, variants = values["tasks"], list(values["settings"]["variants"])

    def cells(took: Sequence[Mapping[str, float]]) -> tuple[str, str]:
        seconds = [one["seconds"] for one in took]
        peak = statistics.median(one["peak_bytes"] for one in took) / 2**20
        return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})", f"{peak:,.0f}"

    rows = [
        (f"{task}, {NAMES[variant]}", f"{facts['rows']:,}", *cells(facts["measured"][variant]))
        for task, facts in tasks.items()
        for variant in variants
    ]
    head = ("task, program", "rows", "seconds", "memory, MiB")
    return [Table("From command to record: one epoch, one evaluation", head, rows), *_ratio_table(tasks, variants)]


def scaling_tables(values: Mapping[str, Any]) -> list[Table]:
    """What scaling.json says."""
    settings = values["settings"]
    rows = [
        (
            f"{took['rows']:,}",
            f"{took['encode_seconds']:.2f}",
            f"{took['cached_seconds']:.2f}",
            f"{took['windows_seconds']:.2f}",
            f"{took['padding_share']:.1%}",
            f"{took['peak_bytes'] / 2**20:,.0f}",
        )
        for took in values["rows"]
    ]

    def step(took: Mapping[str, Any], name: str) -> tuple[str, ...]:
        seconds, peak = took["update_seconds"], took["peak_bytes"] / 2**20
        return str(took[name]), f"{seconds:.3f}", f"{took['tokens_per_second']:,.0f}", f"{peak:,.0f}"

    of_updates = ("seconds a step", "tokens/s", "memory, MiB")
    first = values["processes"][0]["rows_per_second"] if values["processes"] else 1.0
    processes = [
        (
            f"{took['processes']} x {took['threads']}",
            f"{took['rows_per_second']:,.0f}",
            f"{took['rows_per_second'] / first:.2f}",
            f"{took['peak_bytes'] / 2**20:,.0f}",
        )
        for took in values["processes"]
    ]
    batch = f"steps of {settings['global_batch_size']} rows in {settings['precision']}"
    return [
        Table(
            "Pairs of mnli's lengths: seconds to encode, to read the tokens again, to cut the batches of an epoch",
            ("rows", "encode", "from the cache", "batches", "padding", "memory, MiB"),
            rows,
        ),
        Table(
            f"Shapes of BERT, rows of 64 tokens, {batch}",
            ("shape", *of_updates),
            _each(values["shapes"], "shape", step),
        ),
        Table(
            f"Tokens of a row, {settings['shape']}, {batch}",
            ("tokens", *of_updates),
            _each(values["lengths"], "length", step),
        ),
        Table(
            f"Processes, {settings['shape']}, rows of mrpc's lengths, {batch}",
            ("processes x threads", "rows/s", "times the first", "memory of all, MiB"),
            processes,
        ),
    ]


def encoding_tables(values: Mapping[str, Any]) -> list[Table]:
    """What encoding.json says: the median round, and the slowest."""
    settings = values["settings"]

    def row(name: str, took: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        seconds = [one["seconds"] for one in took]
        used = statistics.median(one["processor_seconds"] for one in took)
        peak = max(one["peak_bytes"] for one in took) / 2**20
        return name, f"{statistics.median(seconds):.2f} (at most {max(seconds):.2f})", f"{used:.2f}", f"{peak:,.0f}"

    one = values["first"][0]
    title = (
        f"{settings['rows']:,} generated pairs of mnli's lengths, {one['tokens'] / settings['rows']:.1f} tokens each, "
        f"tokenizer of {settings['model']}; the file has {one['file_bytes'] / 2**20:,.0f} MiB"
    )
    rows = [row("the first time", values["first"]), row("from the cache", values["cached"])]
    return [Table(title, ("", "seconds", "of processors", "memory, MiB"), rows)]


def leaderboard_tables(values: Mapping[str, Any]) -> list[Table]:
    """What leaderboard.json says."""
    rows = [
        (
            f"{one['models']} models, {one['seeds']} seeds: {one['records']:,} records",
            f"{one['resamples']:,}" + (", to first order" if one["is_to_first_order"] else ""),
            f"{one['read_seconds']:.1f}",
            f"{one['statistics_seconds']:.1f}",
            f"{one['files_seconds']:.1f}",
            f"{one['peak_bytes'] / 2**20:,.0f}",
        )
        for one in values["boards"]
    ]
    head = ("nine tasks", "resamples", "read", "statistics", "files and plots", "memory, MiB")
    return [Table("Seconds to make a leaderboard", head, rows)]


def quality_tables(values: Mapping[str, Any]) -> list[Table]:
    """What quality.json says: the scores of each setting, and how far each is from the first on the same seeds; a task
    that a setting was not tried on has a dash."""
    runs, tasks = values["runs"], list(values["settings"]["tasks"])
    first, *others = runs
    by_task = {
        setting: {task: [100 * run["score"] for run in found[task]] for task in tasks if task in found}
        for setting, found in runs.items()
    }
    for scores in by_task.values():
        if len(scores) == len(tasks):
            scores["mean of the tasks"] = [statistics.mean(seed) for seed in zip(*scores.values(), strict=True)]
    rows = [
        (task, *(_spread(scores[task]) if task in scores else "–" for scores in by_task.values()))
        for task in by_task[first]
    ]
    seeds = ", ".join(map(str, values["settings"]["seeds"]))
    apart = [
        (
            task,
            *(_difference(scores, by_task[other][task]) if task in by_task[other] else "–" for other in others),
        )
        for task, scores in by_task[first].items()
    ]
    title = f"Headline scores on the validation split, in points: mean and sample standard deviation of seeds {seeds}"
    return [
        Table(title, ("task", *runs), rows),
        Table(
            f"'{first}' minus the other on the same seed, in points: mean, and its 95 % t interval",
            ("task", *others),
            apart,
        ),
    ]


def gpu_tables(values: Mapping[str, Any]) -> list[Table]:
    """What gpu.json says."""
    tables = []
    for name, stage in values["stages"].items():
        if "tasks" in stage and name != "glue":
            tables += [table._replace(title=f"{name}: {table.title}") for table in throughput_tables(stage)]
    if (stage := values["stages"].get("profile")) is not None:
        busy = "" if stage["busy_share"] is None else f", the GPU busy {stage['busy_share']:.0%} of the time"
        rows = [(f"`{one['name']}`", f"{one['share']:.1%}", f"{one['calls']:.1f}") for one in stage["operators"]]
        tables.append(Table(f"Where the time of bf16 steps goes{busy}", ("operator", "own time", "calls a step"), rows))
    if (stage := values["stages"].get("glue")) is not None:
        estimates = [
            (
                task,
                load_task(task).rows["train"],
                statistics.median(t["rows"] / t["seconds"] for t in facts["measured"]["ours"]),
            )
            for task, facts in stage["tasks"].items()
        ]
        minutes = [GLUE_EPOCHS * rows / speed / 60 for _, rows, speed in estimates]
        rows = [
            (task, f"{count:,}", f"{speed:,.0f}", f"{spent:.2f}")
            for (task, count, speed), spent in zip(estimates, minutes, strict=True)
        ]
        rows.append(("all", f"{sum(count for _, count, _ in estimates):,}", "", f"{sum(minutes):.2f}"))
        title = f"The steps of GLUE, {GLUE_EPOCHS} epochs, bf16, eager, estimated from the speed on each task"
        tables.append(Table(title, ("task", "training rows", "rows/s", "minutes"), rows))
    return tables


def _each(
    values: Sequence[Mapping[str, Any]], name: str, row_of: Callable[[Mapping[str, Any], str], tuple[str, ...]]
) -> list[tuple[str, ...]]:
    return [row_of(took, name) for took in values]


def _spread(scores: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.2f}{deviation}"


def _difference(first: Sequence[float], other: Sequence[float]) -> str:
    """Of pairs: its mean, and the interval that t has for it."""
    from scipy.stats import t

    apart = [a - b for a, b in zip(first, other, strict=True)]
    mean = statistics.mean(apart)
    if len(apart) < 2:
        return f"{mean:+.2f}"
    half = float(t.ppf(0.975, len(apart) - 1)) * statistics.stdev(apart) / len(apart) ** 0.5
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def _ratio_table(tasks: Mapping[str, Any], variants: Sequence[str]) -> list[Table]:
    """Times over the harness's, when it and others were measured."""
    others = [variant for variant in variants if variant != "ours"]
    if "ours" not in variants or not others:
        return []
    seconds = {
        variant: [[took["seconds"] for took in facts["measured"][variant]] for facts in tasks.values()]
        for variant in variants
    }
    rows = [
        (task, *(str(ratio_of(seconds[other][number], seconds["ours"][number])) for other in others))
        for number, task in enumerate(tasks)
    ]
    rows.append(("geometric mean", *(str(ratio_over_tasks(seconds[other], seconds["ours"])) for other in others)))
    head = ("time over (d)'s", *(NAMES[other] for other in others))
    return [Table("Time over that of the harness, on the same rows: median (lowest to highest round)", head, rows)]


def show(tables: Sequence[Table]) -> None:
    """Prints the tables."""
    from rich.console import Console
    from rich.table import Table as Shown

    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        shown = Shown(title=table.title, title_justify="left")
        for number, title in enumerate(table.head):
            shown.add_column(title, justify="right" if number else "left", no_wrap=not number)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)


def markdown(table: Table) -> str:
    """The table as Markdown, its title above it."""
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.head)} |"]
    lines.append("|".join(["", "---", *["---:"] * (len(table.head) - 1), ""]))
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines)


def machine_line(values: Mapping[str, Any]) -> str:
    """On what, when and with what it was measured, in a sentence."""
    machine = values["machine"]
    commit = f"commit {machine['commit'][:10]}" if machine["commit"] else "an unknown commit"
    changed = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    libraries = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "accelerate"))
    return (
        f"{machine['device']}, {machine['cores']} cores, {machine['threads']} threads, {machine['memory_gib']} GiB; "
        f"{libraries}; {commit}{changed}, {machine['date']}."
    )


SECTIONS: dict[str, Callable[[Mapping[str, Any]], list[Table]]] = {
    "throughput": throughput_tables,
    "whole": whole_tables,
    "encoding": encoding_tables,
    "scaling": scaling_tables,
    "quality": quality_tables,
    "leaderboard": leaderboard_tables,
    "gpu": gpu_tables,
}
"""By the name of the JSON file: what its tables are."""


def page(text: str, results: Path) -> str:
    """The page with the tables of each section written anew: they stand between `<!-- name -->` and `<!-- end -->`.

    Raises:
        UserError: a section names no measurement there is.
    """

    def section(match: re.Match[str]) -> str:
        name = match[1]
        if name not in SECTIONS:
            raise UserError(f"BENCHMARKS.md: there is no section {name!r}; there are {', '.join(SECTIONS)}.")
        path = results / f"{name}.json"
        if path.exists():
            values = json.loads(path.read_text(encoding="utf-8"))
            body = "\n\n".join([machine_line(values), *map(markdown, SECTIONS[name](values))])
        else:
            body = "Not measured yet."
        return f"<!-- {name} -->\n\n{body}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", section, text, flags=re.DOTALL)


def main() -> None:
    """The command."""
    write_atomically(PAGE, page(PAGE.read_text(encoding="utf-8"), RESULTS))
    print(PAGE.name)


if __name__ == "__main__":
    main()
