"""Tables of the measurements in benchmarks/results, for the terminal and for BENCHMARKS.md.

python benchmarks/report.py    # writes the tables of BENCHMARKS.md again
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
from harness.system.atomic import write_atomically

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"

GLUE_EPOCHS = 3
"""Epochs in the estimate for the whole of GLUE, as in the published table of bert-base-cased."""

VARIANT_NAMES = {
    "plain": "(a) plain loop, fp32",
    "plain-mixed": "(b) plain loop",
    "trainer": "(c) Trainer",
    "ours": "(d) the harness",
    "limit": "(e) the limit",
    "limit-stock": "(e') the limit, stock",
}
"""Names of the variants in tables."""


class Table(NamedTuple):
    """A title, the heads of its columns, and its rows; the first column is text, the others are numbers."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Ratio(NamedTuple):
    """The time of one variant divided by that of another, with the spread over rounds."""

    value: float
    """The median of the rounds' ratios; over several tasks, the geometric mean of their medians."""
    lowest: float
    """The lowest round's; over several tasks, rounds are geometric means."""
    highest: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.lowest:.2f}–{self.highest:.2f})"


def time_ratio(slower: Sequence[float], faster: Sequence[float]) -> Ratio:
    """Divides the seconds of two variants round by round."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def mean_time_ratio(slower: Sequence[Sequence[float]], faster: Sequence[Sequence[float]]) -> Ratio:
    """Divides the seconds of two variants, `seconds[task][round]`, and averages over tasks."""
    medians = [time_ratio(a, b).value for a, b in zip(slower, faster, strict=True)]
    by_round = [
        statistics.geometric_mean(a / b for a, b in zip(one, other, strict=True))
        for one, other in zip(zip(*slower, strict=True), zip(*faster, strict=True), strict=True)
    ]
    return Ratio(statistics.geometric_mean(medians), min(by_round), max(by_round))


def throughput_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of throughput.json: the speed of each variant on each task, and its time over the harness's."""
    tasks, variants = values["tasks"], values["settings"]["variants"]

    def median(task: str, variant: str, value: Callable[[Mapping[str, Any]], float]) -> float:
        return statistics.median(map(value, tasks[task]["measured"][variant]))

    speeds = [
        (
            f"{task}, {VARIANT_NAMES[variant]}",
            f"{median(task, variant, lambda epoch: epoch['rows'] / epoch['seconds']):,.0f}",
            f"{median(task, variant, lambda epoch: epoch['tokens'] / epoch['seconds']):,.0f}",
            f"{median(task, variant, lambda epoch: 1 - epoch['tokens'] / epoch['computed_tokens']):.1%}",
            _mib(median(task, variant, lambda epoch: epoch["peak_bytes"])),
        )
        for task in tasks
        for variant in variants
    ]
    tables = [Table("Medians of the rounds", ("task, variant", "rows/s", "tokens/s", "padding", "memory, MiB"), speeds)]
    return [*tables, *_ratio_tables(tasks, variants)]


def whole_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of whole.json: seconds from command to record, and their ratios."""
    tasks, variants = values["tasks"], values["settings"]["variants"]

    def cells(programs: Sequence[Mapping[str, float]]) -> tuple[str, str]:
        seconds = [program["seconds"] for program in programs]
        peak = statistics.median(program["peak_bytes"] for program in programs)
        return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})", _mib(peak)

    rows = [
        (f"{task}, {VARIANT_NAMES[variant]}", f"{facts['rows']:,}", *cells(facts["measured"][variant]))
        for task, facts in tasks.items()
        for variant in variants
    ]
    head = ("task, program", "rows", "seconds", "memory, MiB")
    return [Table("From command to record: one epoch, one evaluation", head, rows), *_ratio_tables(tasks, variants)]


def scaling_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of scaling.json: cost by number of rows, shape of the model, tokens per row, and processes."""
    settings = values["settings"]
    rows = [
        (
            f"{each['rows']:,}",
            f"{each['encode_seconds']:.2f}",
            f"{each['cached_seconds']:.2f}",
            f"{each['batch_seconds']:.2f}",
            f"{each['padding_share']:.1%}",
            _mib(each["peak_bytes"]),
        )
        for each in values["rows"]
    ]

    own_rows = [
        (
            f"{each['rows']:,}",
            f"{each['first_seconds']:.1f}",
            f"{each['cached_seconds']:.1f}",
            _mib(each["peak_bytes"]),
        )
        for each in values["own_rows"]
    ]

    def step_rows(name: str, column: str) -> list[tuple[str, ...]]:
        return [
            (
                str(each[column]),
                f"{each['step_seconds']:.3f}",
                f"{each['tokens_per_second']:,.0f}",
                _mib(each["peak_bytes"]),
            )
            for each in values[name]
        ]

    processes = [
        (
            f"{each['processes']} x {each['threads']}",
            f"{each['rows_per_second']:,.0f}",
            f"{each['rows_per_second'] / values['processes'][0]['rows_per_second']:.2f}",
            _mib(each["peak_bytes"]),
        )
        for each in values["processes"]
    ]
    step_head = ("seconds per step", "tokens/s", "memory, MiB")
    batch = f"steps of {settings['global_batch_size']} rows in {settings['precision']}"
    return [
        Table(
            "Pairs of mnli's lengths: seconds to encode, to read the tokens again, to cut the batches of an epoch",
            ("rows", "encode", "from the cache", "batches", "padding", "memory, MiB"),
            rows,
        ),
        Table(
            "Pairs of one's own in a Parquet file, a tiny model, one step: seconds from command to record",
            ("rows", "first", "tokens from the cache", "memory, MiB"),
            own_rows,
        ),
        Table(
            f"Shapes of BERT, rows of 64 tokens, {batch}", ("shape", *step_head), step_rows("shapes", column="shape")
        ),
        Table(
            f"Tokens per row, {settings['shape']}, {batch}",
            ("tokens", *step_head),
            step_rows("lengths", column="length"),
        ),
        Table(
            f"Processes, {settings['shape']}, rows of mrpc's lengths, {batch}",
            ("processes x threads", "rows/s", "times the first", "memory of all, MiB"),
            processes,
        ),
    ]


def encoding_tables(values: Mapping[str, Any]) -> list[Table]:
    """The table of encoding.json: the median round, and the slowest."""
    settings = values["settings"]

    def row(name: str, rounds: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
        seconds = [each["seconds"] for each in rounds]
        processors = statistics.median(each["processor_seconds"] for each in rounds)
        peak = max(each["peak_bytes"] for each in rounds)
        return name, f"{statistics.median(seconds):.2f} (at most {max(seconds):.2f})", f"{processors:.2f}", _mib(peak)

    one = values["first"][0]
    title = (
        f"{settings['rows']:,} generated pairs of mnli's lengths, {one['tokens'] / settings['rows']:.1f} tokens each, "
        f"tokenizer of {settings['model']}; the file has {_mib(one['file_bytes'])} MiB"
    )
    rows = [row("the first time", values["first"]), row("from the cache", values["cached"])]
    return [Table(title, ("", "seconds", "of processors", "memory, MiB"), rows)]


def sweep_tables(values: Mapping[str, Any]) -> list[Table]:
    """The table of sweep.json: seconds of each run by the way in which it was started."""
    settings, measured = values["settings"], values["measured"]

    def row(name: str) -> tuple[str, ...]:
        seconds = [sweep["seconds"] / settings["runs"] for sweep in measured[name]]
        processors = statistics.median(sweep["processor_seconds"] / settings["runs"] for sweep in measured[name])
        return name, f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})", f"{processors:.1f}"

    title = (
        f"Sweeps of {settings['runs']} runs in test mode ({', '.join(settings['tasks'])}), {settings['max_jobs']} at a "
        "time: seconds divided by the number of runs, median of the sweeps"
    )
    return [Table(title, ("each run", "seconds", "of processors"), [row(name) for name in measured])]


def leaderboard_tables(values: Mapping[str, Any]) -> list[Table]:
    """The table of leaderboard.json: seconds to read the records, to compute the statistics, to write the files."""
    rows = [
        (
            f"{board['models']} models, {board['seeds']} seeds: {board['records']:,} records",
            f"{board['read_seconds']:.1f}",
            f"{board['statistics_seconds']:.1f}",
            f"{board['files_seconds']:.1f}",
            _mib(board["peak_bytes"]),
        )
        for board in values["boards"]
    ]
    head = ("nine tasks", "read", "statistics", "files and plots", "memory, MiB")
    return [Table("Seconds to make a leaderboard", head, rows)]


def coverage_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of coverage.json: percentages of simulated boards on which an interval or a test is right."""
    names = list(values["results"][0]["shares"])
    groups = {
        "Intervals of 95 % that contain the true score, in %": [name for name in names if "run" in name],
        "Equal models that are called different at 0.05, and best ones outside the set of the best, in %": [
            name for name in names if "run" not in name
        ],
    }
    return [
        Table(
            title,
            ("metric, rows", *columns),
            [
                (f"{one['setting']}, {one['rows']:,}", *(f"{100 * one['shares'][name]:.1f}" for name in columns))
                for one in values["results"]
            ],
        )
        for title, columns in groups.items()
    ]


def quality_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of quality.json: scores by setting, and differences from the first setting on the same seeds.

    A task that a setting was not run on has a dash.
    """
    runs, tasks = values["runs"], list(values["settings"]["tasks"])
    first, *others = runs
    scores = {
        setting: {task: [100 * run["score"] for run in by_task[task]] for task in tasks if task in by_task}
        for setting, by_task in runs.items()
    }
    for by_task in scores.values():
        if len(by_task) == len(tasks):
            by_task["mean of the tasks"] = [statistics.mean(seed) for seed in zip(*by_task.values(), strict=True)]
    means = [
        (task, *(_mean_and_deviation(by_task[task]) if task in by_task else "–" for by_task in scores.values()))
        for task in scores[first]
    ]
    differences = [
        (task, *(_mean_difference(own, scores[other][task]) if task in scores[other] else "–" for other in others))
        for task, own in scores[first].items()
    ]
    seeds = ", ".join(map(str, values["settings"]["seeds"]))
    title = f"Main scores on the validation split, in points: mean and sample standard deviation of seeds {seeds}"
    paired = f"'{first}' minus the other on the same seed, in points: mean, and its 95 % t interval"
    return [Table(title, ("task", *runs), means), Table(paired, ("task", *others), differences)]


def reproduction_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of reproduction.json: the verdicts of each reproduction, scores by seed, and the recipes."""
    settings, reproductions = values["settings"], values["reproductions"]
    recipes = [
        (
            task,
            f"{recipe['train_rows']:,}" if "train_rows" in recipe else "all",
            *(str(recipe[name]) for name in ("epochs", "global_batch_size", "learning_rate", "max_length")),
            str(settings["changed"][task]["global_batch_size"]),
        )
        for task, recipe in settings["recipes"].items()
    ]
    verdicts, scores = [], []
    for title, reproduction in reproductions.items():
        for one in reproduction["verdicts"]:
            name, here = f"{one['task']} {one['metric']}", [run["score"] for run in one["runs"]]
            means = _mean_and_deviation(one["by_seed"]), _mean_and_deviation(here)
            verdicts.append((f"{title}: {name}", *means, *_comparison_cells(one)))
            if reproduction["variant"] is None:
                scores.append((f"{name}, Trainer", *(f"{score:.2f}" for score in one["by_seed"])))
            scores.append((f"{name}, the harness, {title}", *(f"{score:.2f}" for score in here)))
    seeds = ", ".join(map(str, settings["seeds"]))
    title = (
        f"{settings['model']} on the validation split, in points: mean and sample standard deviation of seeds {seeds}; "
        f"margin {settings['margin']:g}"
    )
    columns = ("Trainer", "the harness", *_COMPARISON_HEAD)
    recipe_head = ("task", "training rows", "epochs", "batch size", "learning rate", "tokens", "changed batch size")
    return [
        Table("The recipe of both programs, and the change", recipe_head, recipes),
        Table(title, ("recipe of the harness: score", *columns), verdicts),
        Table("Scores by seed, in points", ("score, program", *map(str, settings["seeds"])), scores),
    ]


def row_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of reproduction_of_row.json: the verdict on each score of a row, and the scores by seed."""
    settings, verdicts, scores = values["settings"], [], []
    for one in values["verdicts"]:
        name, here = f"{one['task']} {one['metric']}", [run["score"] for run in one["runs"]]
        spread = "" if one["plus_minus"] is None else f" ± {one['plus_minus']:.2f}"
        published = f"{one['value']:.2f}{spread} ({one['published_runs'] or 'runs not stated'})"
        mean = "–"
        if one["comparison"] is not None:  # else too few runs, or a metric that the row does not name
            mean = f"{_mean_and_deviation(here)} ({len(here)})"
            scores.append((name, ", ".join(f"{score:.2f}" for score in here)))
        verdicts.append((name, published, mean, *_comparison_cells(one)))
    title = (
        f"{settings['model']} on the validation split, in points: mean and sample standard deviation (runs) of "
        f"{settings['row']} and of the harness; margin {settings['margin']:g}"
    )
    return [
        Table(title, ("score", "the row", "the harness", *_COMPARISON_HEAD), verdicts),
        Table("Scores of the harness by seed", ("score", "seeds 0, 1, 2, ..."), scores),
    ]


_COMPARISON_HEAD = ("difference, 95 % interval", "agreement within", "verdict")


def _comparison_cells(verdict: Mapping[str, Any]) -> tuple[str, str, str]:
    """The difference with its interval, the least margin and the verdict on a score."""
    facts = verdict["comparison"]
    if facts is None:
        return "–", "–", verdict["verdict"]
    low, high = facts["interval"]
    return f"{facts['difference']:+.2f} ({low:+.2f} to {high:+.2f})", f"{facts['least_margin']:.2f}", verdict["verdict"]


def equality_tables(values: Mapping[str, Any]) -> list[Table]:
    """The table of equality.json: how far the scores of Trainer and the harness differ after the same steps."""
    rows = [
        (
            task,
            str(facts["steps"]),
            f"{facts['scores']:,}",
            f"{facts['range']:.2f}",
            f"{facts['largest_difference']:.1e}",
        )
        for task, facts in values["tasks"].items()
    ]
    settings = values["settings"]
    title = f"{settings['model']} without dropout, {settings['rows']} rows, all in each step: scores of the test split"
    return [Table(title, ("task", "steps", "scores", "range", "largest difference"), rows)]


def gpu_tables(values: Mapping[str, Any]) -> list[Table]:
    """The tables of gpu.json: the cost of steps and evaluation, the whole of GLUE, a profile, other loops."""
    stages, tables = values["stages"], []
    ways = {way: costs for name in ("steps", "precisions", "compiled") for way, costs in stages.get(name, {}).items()}
    if ways:
        widths = list(next(iter(ways.values())))
        for title, field, digits in (
            ("Milliseconds of a step of 32 rows, by tokens per row", "milliseconds", 2),
            ("The same steps in TFLOP/s of matrix products", "teraflops", 0),
        ):
            rows = [(way, *(f"{costs[width][field]:.{digits}f}" for width in widths)) for way, costs in ways.items()]
            tables.append(Table(title, ("steps", *widths), rows))
    if (stage := stages.get("evaluation")) is not None:
        rows = [
            (
                f"{task}, --eval-batch-size {size}",
                f"{cost['rows_per_second']:,.0f}",
                f"{cost['tokens_per_second']:,.0f}",
            )
            for size, costs in stage.items()
            for task, cost in costs.items()
        ]
        tables.append(Table("Evaluation, bf16", ("lengths of", "rows/s", "tokens/s"), rows))
    if (stage := stages.get("glue")) is not None:
        parts = ("training_seconds", "scoring_seconds")
        rows = [
            (task, f"{facts['rows']:,}", f"{facts['steps']:,}", *(f"{facts[part] / 60:.2f}" for part in parts))
            for task, facts in stage.items()
        ]
        sums = [sum(facts[part] for facts in stage.values()) / 60 for part in parts]
        counts = [sum(facts[name] for facts in stage.values()) for name in ("rows", "steps")]
        rows.append(("all", *(f"{count:,}" for count in counts), *(f"{minutes:.2f}" for minutes in sums)))
        title = f"GLUE, {GLUE_EPOCHS} epochs, bf16, from the tables above: {sum(sums):.1f} minutes without start-up"
        tables.append(Table(title, ("task", "training rows", "steps", "training, min", "scoring, min"), rows))
    if (stage := stages.get("profile")) is not None:
        busy = "" if stage["busy_share"] is None else f", the GPU busy {stage['busy_share']:.0%} of the time"
        profile = [(f"`{one['name']}`", f"{one['share']:.1%}", f"{one['calls']:.1f}") for one in stage["operators"]]
        title = f"A step of {stage['width']} tokens ({stage['way']}) by operator, {stage['calls']:,.0f} in all{busy}"
        tables.append(Table(title, ("operator", "own time", "calls per step"), profile))
    if (stage := stages.get("tasks")) is not None:
        tables += throughput_tables(stage)
    return tables


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f}"


def _mean_and_deviation(scores: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(scores):.2f}" if len(scores) > 1 else ""
    return f"{statistics.mean(scores):.2f}{deviation}"


def _mean_difference(first: Sequence[float], other: Sequence[float]) -> str:
    """The mean difference of pairs and its interval from Student's t."""
    from scipy.stats import t

    differences = [a - b for a, b in zip(first, other, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.2f}"
    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


def _ratio_tables(tasks: Mapping[str, Any], variants: Sequence[str]) -> list[Table]:
    """One table of times over the harness's, or none unless the harness and another variant were measured."""
    others = [variant for variant in variants if variant != "ours"]
    if "ours" not in variants or not others:
        return []
    seconds = {
        variant: [[epoch["seconds"] for epoch in facts["measured"][variant]] for facts in tasks.values()]
        for variant in variants
    }
    rows = [
        (task, *(str(time_ratio(seconds[other][number], seconds["ours"][number])) for other in others))
        for number, task in enumerate(tasks)
    ]
    rows.append(("geometric mean", *(str(mean_time_ratio(seconds[other], seconds["ours"])) for other in others)))
    head = ("time over (d)'s", *(VARIANT_NAMES[other] for other in others))
    return [Table("Time over that of the harness, on the same rows: median (lowest to highest round)", head, rows)]


SECTIONS: dict[str, Callable[[Mapping[str, Any]], list[Table]]] = {
    "throughput": throughput_tables,
    "throughput_fp32": throughput_tables,
    "whole": whole_tables,
    "whole_fp32": whole_tables,
    "encoding": encoding_tables,
    "scaling": scaling_tables,
    "sweep": sweep_tables,
    "quality": quality_tables,
    "leaderboard": leaderboard_tables,
    "coverage": coverage_tables,
    "reproduction": reproduction_tables,
    "reproduction_of_row": row_tables,
    "reproduction_of_row_mrpc": row_tables,
    "equality": equality_tables,
    "gpu": gpu_tables,
}
"""The function that makes the tables of each JSON file, by its name without the ending."""


def save(name: str, values: Mapping[str, Any], output: Path) -> None:
    """Writes the values of a section as JSON and prints their tables."""
    write_json(output, values)
    show(SECTIONS[name](values))
    print(output)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes the values as a JSON file, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def show(tables: Sequence[Table]) -> None:
    """Prints the tables."""
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(width=None if sys.stdout.isatty() else 120)
    for table in tables:
        printed = RichTable(title=table.title, title_justify="left")
        for number, title in enumerate(table.head):
            printed.add_column(title, justify="right" if number else "left", no_wrap=not number)
        for row in table.rows:
            printed.add_row(*row)
        console.print(printed)


def fill_page(text: str, results: Path) -> str:
    """Returns the page with new tables in each section, between `<!-- name -->` and `<!-- end -->`.

    Raises:
        UserError: a section has the name of no measurement.
    """

    def section(match: re.Match[str]) -> str:
        name = match[1]
        if name not in SECTIONS:
            raise UserError(f"BENCHMARKS.md: unknown section {name!r}; sections: {', '.join(SECTIONS)}.")
        path = results / f"{name}.json"
        if path.exists():
            values = json.loads(path.read_text(encoding="utf-8"))
            body = "\n\n".join([_machine_line(values["machine"]), *map(_markdown, SECTIONS[name](values))])
        else:
            body = "Not measured yet."
        return f"<!-- {name} -->\n\n{body}\n\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", section, text, flags=re.DOTALL)


def _markdown(table: Table) -> str:
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.head)} |"]
    lines.append("|".join(["", "---", *["---:"] * (len(table.head) - 1), ""]))
    lines += [f"| {' | '.join(row)} |" for row in table.rows]
    return "\n".join(lines)


def _machine_line(machine: Mapping[str, Any]) -> str:
    """A line with device, libraries, commit and date of the measurement, and the vector instructions where known."""
    commit = f"commit {machine['commit'][:10]}" if machine["commit"] else "an unknown commit"
    changed = " with uncommitted changes" if machine["uncommitted_changes"] else ""
    libraries = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "transformers", "accelerate"))
    instructions = f" with {machine['instructions']}" if "instructions" in machine else ""
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    hardware = f"{machine['cores']} cores, {threads}, {machine['memory_gib']} GiB"
    return f"{machine['device']}{instructions}, {hardware}; {libraries}; {commit}{changed}, {machine['date']}."


def main() -> None:
    """Writes the tables of BENCHMARKS.md."""
    page = ROOT / "BENCHMARKS.md"
    write_atomically(page, fill_page(page.read_text(encoding="utf-8"), RESULTS))
    print(page.name)


if __name__ == "__main__":
    main()
