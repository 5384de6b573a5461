"""`harness leaderboard --budget`: the models whose runs cost at most so much, the best first."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.errors import UserError
from harness.reports.cells import format_metric
from harness.reports.data_files import render_json
from harness.reports.panels import cost_points, panels_of, pareto_front
from harness.reports.standings import Leaderboard


def print_budget(board: Leaderboard, minutes: float, console: Console) -> None:
    """Prints the entries within the budget: device-minutes for one run of each task that they share, and their score.

    Raises:
        UserError: the budget is not above 0, no entry has a cost, or all cost more.
    """
    if not minutes > 0:
        raise UserError(f"--budget {minutes:g}: expected a number of device-minutes above 0.")
    content = json.loads(render_json(board))
    headings, points = cost_points(content, panels_of(content))
    if not points:
        raise UserError(
            "--budget: no record has both a cost and a score whose mean over tasks can be taken: expected a metric "
            "with a maximum of 1 of which more is better, such as accuracy."
        )
    affordable = [point for point in points if 60 * point.hours <= minutes]
    if not affordable:
        least = min(60 * point.hours for point in points)
        raise UserError(f"--budget {minutes:g}: every model costs more; the cheapest needs {least:.3g} device-minutes.")
    front = set(pareto_front(points))
    table = Table("Model", "score", "device-minutes", "devices", "Pareto front", box=None, pad_edge=False)
    for point in affordable:
        cells = (point.name, format_metric(point.score, True), f"{60 * point.hours:.3g}", point.devices)
        table.add_row(*map(Text, cells), Text("yes" if point in front else ""))
    console.print(table)
    tasks = ", ".join(headings)
    console.print(
        Text(f"score: the mean over {tasks}; device-minutes: one run of each of them. Models with all: {len(points)}.")
    )
