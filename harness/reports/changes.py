"""`harness leaderboard --base DIR`: what a results folder adds to another, removes and changes, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.facts.records import RunRecord
from harness.reports.cells import NO_SCORE, Cell
from harness.reports.markdown_text import escape_markdown, markdown_table
from harness.reports.standings import Leaderboard
from harness.stats.entries import Entry
from harness.stats.groups import sort_marks
from harness.stats.verification import Level

MAX_LINES = 100
"""Lines of each table and list."""


class _Line(NamedTuple):
    """An entry in one of the two leaderboards."""

    label: str
    variant: str
    runs: frozenset[str]
    """The run_ids of its records."""
    level: Level | None
    cells: dict[str, Cell]
    """Cells by the headings of averages and tasks."""
    ranks: dict[str, int]
    """Ranks of the cells that are compared, 1 for the best."""


_ABSENT = _Line("", "", frozenset(), None, {}, {})
"""The line of an entry that a leaderboard lacks."""

_Key = tuple[str, str, str]
"""Model, revision and variant: the label may change with the other entries."""


def changes_page(
    before: Leaderboard | None, after: Leaderboard | None, old: Sequence[RunRecord], new: Sequence[RunRecord]
) -> str:
    """The entries, scores and records that differ from those `before`; None is a folder without records.

    Intervals alone make no difference: they depend on the other entries, too.
    """
    lines_before, lines_after = (_lines(board) if board else {} for board in (before, after))
    lines_before = _under_new_keys(lines_before, lines_after)
    added = [key for key in lines_after if key not in lines_before]
    removed = [key for key in lines_before if key not in lines_after]
    changed = [
        key for key, line in lines_after.items() if key in lines_before and _shown(line) != _shown(lines_before[key])
    ]
    records = _record_changes(old, new)
    counts = ", ".join(f"{len(names)} {change}" for change, names in records.items())
    parts = [
        "## Changes of the leaderboard",
        f"Entries: {len(added)} added, {len(changed)} changed, {len(removed)} removed. Records: {counts}.",
        *(_run_list(f"Records that were {change}:", records[change]) for change in ("changed", "removed")),
    ]
    if keys := [*added, *changed, *removed]:
        pairs = [(lines_before.get(key, _ABSENT), lines_after.get(key, _ABSENT)) for key in keys]
        entries = [_entry_line(*pair) for pair in pairs]
        scores = [line for pair in pairs for line in _score_lines(*pair)]
        parts.append(_table(["Entry", "Recipe", "Change", "Verification"], entries))
        parts.append(_table(["Entry", "Score", "Before", "After", "Rank"], scores))
    return "\n\n".join(filter(None, parts)) + "\n"


def _lines(board: Leaderboard) -> dict[_Key, _Line]:
    cells = {entry: _cells(board, entry) for entry in board.entries}
    return {
        (entry.model, entry.revision, entry.variant): _Line(
            entry.label,
            entry.variant,
            frozenset(run.run_id for group in board.groups_of(entry) for run in group.runs),
            board.level(entry),
            own,
            {name: rank for name, cell in own.items() if (rank := _rank(cell, name, cells.values()))},
        )
        for entry, own in cells.items()
    }


def _under_new_keys(before: Mapping[_Key, _Line], after: Mapping[_Key, _Line]) -> dict[_Key, _Line]:
    """The earlier lines, each by the key of the later line that shares most runs with it.

    The key of an entry changes when it gets a task with another recipe.
    """
    lines: dict[_Key, _Line] = {}
    for key, line in before.items():
        shared = {other: len(line.runs & after[other].runs) for other in after if other not in before}
        new = max(shared, key=lambda other: shared[other], default=key)
        is_renamed = key not in after and new not in lines and shared.get(new, 0) > 0
        lines[new if is_renamed else key] = line
    return lines


def _cells(board: Leaderboard, entry: Entry) -> dict[str, Cell]:
    averages = {name: board.averages[entry, name] for name in board.average_names}
    tasks = {board.headings[task]: board.cells[entry, task] for task in board.tasks if (entry, task) in board.cells}
    return {name: cell for name, cell in (averages | tasks).items() if cell.text != NO_SCORE}


def _rank(cell: Cell, name: str, entries: Iterable[Mapping[str, Cell]]) -> int | None:
    """1 + the number of better cells among those of the column that the cell competes with."""
    if cell.comparable is None:
        return None
    rivals = [cells[name] for cells in entries if name in cells and cells[name].pool == cell.pool]
    return 1 + sum(rival.comparable is not None and rival.comparable > cell.comparable for rival in rivals)


def _shown(line: _Line) -> Any:
    """The parts of a line that depend on its own runs alone: the last word of a spread is their number."""
    cells = line.cells.items()
    return line.level, {name: (cell.text, cell.spread.split()[-1:], sort_marks(cell.marks)) for name, cell in cells}


def _record_changes(old: Sequence[RunRecord], new: Sequence[RunRecord]) -> Mapping[str, list[str]]:
    """`task/run_id` of the records that were added, changed and removed."""
    before, after = ({f"{one.spec.task}/{one.run_id}": one for one in records} for records in (old, new))
    return {
        "added": [name for name in after if name not in before],
        "changed": [name for name, record in after.items() if name in before and before[name] != record],
        "removed": [name for name in before if name not in after],
    }


def _run_list(title: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    rest = [f"- and {len(names) - MAX_LINES:,} more"] if len(names) > MAX_LINES else []
    return "\n".join([title, "", *(f"- {escape_markdown(name)}" for name in names[:MAX_LINES]), *rest])


def _entry_line(before: _Line, after: _Line) -> list[str]:
    change = "added" if before is _ABSENT else "removed" if after is _ABSENT else "changed"
    levels = [line.level or NO_SCORE for line in (before, after)]
    variants = [escape_markdown(line.variant) for line in (before, after) if line is not _ABSENT]
    return [_label(before, after), _arrow(variants[0], variants[-1]), change, _arrow(*levels)]


def _score_lines(before: _Line, after: _Line) -> Iterator[list[str]]:
    for name in dict.fromkeys([*after.cells, *before.cells]):
        cells = [_cell_text(line.cells.get(name, Cell(NO_SCORE))) for line in (before, after)]
        ranks = [str(line.ranks.get(name, NO_SCORE)) for line in (before, after)]
        yield [_label(before, after), escape_markdown(name), *cells, _arrow(*ranks)]


def _label(before: _Line, after: _Line) -> str:
    return escape_markdown((before if after is _ABSENT else after).label)


def _cell_text(cell: Cell) -> str:
    text = escape_markdown(f"{cell.text}{cell._replace(is_tied=False).suffix}")
    return f"**{text}**" if cell.is_best else text


def _arrow(before: str, after: str) -> str:
    return after if before == after else f"{before} → {after}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose columns are also aligned as plain text."""
    shown = [head, *lines[:MAX_LINES]]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    head, *body = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in shown)
    rest = f"\n\nand {len(lines) - MAX_LINES:,} more" if len(lines) > MAX_LINES else ""
    return markdown_table(head, body, left=2) + rest
