"""The leaderboard as files of a results folder: leaderboard.md, .csv, .json, .html and plots."""

from __future__ import annotations

import json
from pathlib import Path

from harness.reports.data_files import render_csv, render_json
from harness.reports.formulas import formulas
from harness.reports.html import render_html
from harness.reports.markdown import render_markdown
from harness.reports.plots import PLOTS, render_plots
from harness.reports.standings import Leaderboard
from harness.system.atomic import write_atomically


def write_leaderboard_files(board: Leaderboard, results: Path) -> None:
    """Writes the files whose content changes, and removes plots that have nothing to show."""
    as_json = render_json(board)
    content = json.loads(as_json)
    plots = render_plots(content)
    texts: dict[str, str | None] = {
        "leaderboard.md": render_markdown(board),
        "leaderboard.csv": render_csv(board),
        "leaderboard.json": as_json,
        "leaderboard.html": render_html(content, plots, formulas(board)),
        **{f"plots/{name}": plots.get(name) for name in PLOTS},
    }
    for name, text in texts.items():
        path = results / name
        if text is None:
            path.unlink(missing_ok=True)
        elif not path.is_file() or path.read_bytes() != text.encode():
            write_atomically(path, text)
