"""The text below the leaderboard: how its scores, costs, tests and intervals are computed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.reports.standings import Leaderboard, task_title
from harness.stats.resampling import SEED

NOT_RANKED = "These runs differ from those in the table in more than the seed; no number mixes the two."

_SCORES = """\
- The recipe column lists differences from the default for model and task; epochs=2 (1: sst2) means 2, but 1 on sst2. A
  task that was run with several recipes has a line for each.
- A number is the mean over the runs of all seeds; (n) is their count. Metrics with a maximum of 1 are shown times 100,
  others unscaled. A run's score is the mean of its numbers in the column: F1 and accuracy, Pearson and Spearman,
  matched (m) and mismatched (mm).
- ± is half the width of the score's 95 % interval over seeds and rows, t(0.975, ν) √(v + s²/n): v is the variance over
  samples of the split's rows, s the standard deviation of the runs' scores. For a single run the interval is over rows
  only: the effect of another seed is unknown. Without ±, the records have no predictions of these rows, or evaluate
  computed the metric.
- Bold is the best score of a column, at the precision shown, among the cells without [c], [p], [r], [h], [g] and [v].
  If all cells have one of these marks, it is the best among those with the same marks.
- ≈ is a tie: the best score of a column, and those not significantly worse by the paired test below the task's table,
  Holm-corrected for all pairs of the column. A column without ≈ has no tests, or all others are worse.
- GLUE is the unweighted mean of the nine tasks' scores, GLUE-8 that without WNLI; each needs all its tasks.
- – is a missing score: no run finished, or the metric is undefined in one. An empty cell was not run.
- The majority-class baseline is the best constant prediction for each metric; for a regression, this constant baseline
  is the mean or the median of the gold labels."""

COSTS = """\
Sums over all runs of the entry, those without a score included: wall clock from start to record, and device-hours,
Σ seconds × processes / 3,600. "Once" is a single seed: Σ over tasks of the mean over the task's runs. Costs are only
comparable between entries with the same tasks, devices and rows."""

TASKS = """\
For n runs with scores of mean x̄ and standard deviation s, on N rows, all intervals of 95 %:

- score: x̄ and its interval over seeds and rows, x̄ ± t(0.975, ν) √(v + s²/n), ν by Satterthwaite, v the variance of x̄
  over resamples of the rows, or of Wilson's interval; for a single run the same as over rows
- over seeds: Student's x̄ ± t(0.975, n − 1) s/√n; – for a single run
- over rows, the runs held fixed: for one split's accuracy p, Wilson's (p + z²/2N ± z √(p (1 − p)/N + z²/4N²)) /
  (1 + z²/N), z = 1.96; otherwise the middle 95 % of x̄ over resamples
- to best: the difference d to the best score on the same rows, and its interval d ± t(0.975, ν) √(v + s²/n + s'²/n'),
  v the variance of d over shared resamples of the rows
- p: the test of no difference, t = d / √(v + s²/n + s'²/n'); for two single runs' accuracy McNemar's exact test
  2 P(B ≤ min(b, c)), B binomial(b + c, ½), b and c the rows that only one of them predicts correctly. First Holm's,
  corrected for all pairs in the table, max over smaller p of (m − rank + 1) p; in brackets uncorrected. Two single runs
  are compared over rows only; against several runs, a single run is assumed to vary over seeds as they do.
- metrics: the mean over the runs, ± their sample standard deviation √(Σ (x − x̄)² / (n − 1))"""

PUBLISHED = """\
Other settings, other code, and often the best of several runs: these numbers are for orientation, and no run is
compared with them. ? is a metric that the source does not name."""


def formulas(board: Leaderboard) -> dict[str, list[str]]:
    """The sections scores, costs, tasks and published as plain sentences."""
    sections = {"scores": score_formulas(board), "costs": COSTS, "tasks": TASKS, "published": PUBLISHED}
    return {
        name: [" ".join(part.split()) for part in re.split(r"(?:^|\n+)- ", text) if part]
        for name, text in sections.items()
    }


def score_formulas(board: Leaderboard) -> str:
    """Formulas of the main table, as a Markdown list."""
    return "\n".join([_SCORES, *_resampling_formulas(board)])


def _resampling_formulas(board: Leaderboard) -> Iterator[str]:
    if board.ranks:
        tasks = ", ".join(task_title(name) for name in board.ranked_tasks)
        yield (
            "- The mean rank is over the entries that are compared in all of the tasks below; 1 is the best, equal"
            "\n  scores share a rank. In brackets the middle 95 % over resamples of the rows, the scores of n runs with"
            f"\n  errors t(n − 1) s/√n. Tasks: {tasks}."
        )
    if any(evidence.rows for evidence in board.evidence.values()):
        yield (
            f"- Resamples: {board.resampling.number:,} times N of a split's N rows with replacement, the same for all"
            f"\n  models; NumPy's default generator, seeded with {SEED} and the CRC-32 of task.split."
        )
    if board.resampling.is_to_first_order:
        yield (
            "- With this many records, scores of resamples are computed to first order, from the influence of each row"
            "\n  (infinitesimal jackknife)."
        )
