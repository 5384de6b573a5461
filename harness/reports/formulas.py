"""The text below the leaderboard: how its scores, costs, tests and intervals are computed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from harness.facts.suites import Suite
from harness.reports.standings import Leaderboard
from harness.stats.resampling import FEWEST_RESAMPLES, RESAMPLED_ROWS, RESAMPLES, SEED
from harness.stats.verification import LEVELS

NOT_RANKED = "These runs differ from those in the table in more than the seed; no number mixes the two."

_SCORES = """\
- The recipe column lists differences from the default for model and task; epochs=2 (1: sst2) means 2, but 1 on sst2. A
  task that was run with several recipes has a line for each.
- A number is the {avg} over the runs of all seeds; (n) is their count. Metrics with a maximum of 1 are shown times 100,
  others unscaled. A run's score is the mean of its numbers in the column: F1 and accuracy, Pearson and Spearman,
  matched (m) and mismatched (mm).
- ± is the distance from the score to the farther end of its 95 % interval, for other seeds and other rows of the same
  kind. A model of one or two runs is lent the variance over seeds that the other models of the column have. "rows only"
  means that no model there has two runs: nothing is known about other seeds. Without ±, the records have no predictions
  of these rows, or there is one row, or evaluate computed the metric. The tasks' intervals also give that of an
  average.
- Bold is the best score of a column, at the precision shown, among the cells without [d], [p], [r], [h], [g], [s] and
  [v]. If all cells have one of these marks, it is the best among those with the same marks and training rows.
- ≈ marks the set of the best of the models that can be compared, those with stored predictions of the same rows: in
  95 % of such columns the truly best of them is in it, and those outside are worse. Without ≈, the best of them is in
  no doubt, fewer than two can be compared, or nothing is known about seeds.
{averages}- – is a missing score: no run finished, or the metric is undefined in one. An empty cell was not run.
- The majority-class baseline is the constant prediction with the best score on the labels of the split, which no model
  sees; for a regression, this constant baseline is the mean or the median of the gold labels."""

COSTS = """\
Sums over all runs of the entry, those without a score included: wall clock from start to record, and device-hours,
Σ seconds × processes / 3,600. "Once" is a single seed: Σ over tasks of the mean over the task's runs. Costs are only
comparable between entries with the same tasks, devices and rows. Energy, where runs measured it, is that of whole
devices, by the counters NVML of GPUs and RAPL of processor packages; in brackets the runs that measured it."""

TUNING = """\
The tuning budget of an entry is the points that its grids tried, summed over the grids, and the device-hours of all of
their runs, those of the chosen point included. A grid belongs to an entry that has its model, its chosen values and a
task that it was for; it is read from this folder or from a folder in it. An empty cell means that there is none: values
that were chosen otherwise leave no record."""

CALIBRATION = """\
Of class probabilities on the reported rows, the mean over the runs whose scores are stored (n). ECE is the expected
calibration error times 100, over 15 bins of equal width of the highest probability (Guo et al. 2017); Brier is the mean
of the sum over classes of (probability − truth)², from 0 to 2; log loss is in nats. The temperature that divides the
scores has the lowest log loss on the rows of selection; it is fitted run by run, and only where these rows are not
reported, as under the holdout protocol. It changes no prediction."""

_TASKS = """\
For n runs with scores of {avg} x̄ and standard deviation s, on N rows, all intervals of 95 %:

- score: x̄ and its interval over seeds and rows. With h the distance from x̄ to an end of the interval over rows, that
  end is at t(0.975, ν) √((h/1.96)² + s²/n), ν by Satterthwaite. For n ≤ 2, s² is pooled over the models of the column
  that compete, Σ (n − 1) s² / Σ (n − 1), without those with collapsed, diverged or failed runs if
  there are others.
- over seeds: Student's x̄ ± t(0.975, n − 1) s/√n, the rows held fixed; – for a single run
- over rows, the runs held fixed: the middle 95 % of x̄ over weights of the rows, w/Σw ~ Dirichlet(1, ..., 1). A share of
  correct rows, and any metric of two classes, is a function of the counts of correct and wrong rows, or of the four
  cells of the confusion matrix: pseudo-rows make their shares Dirichlet(counts + ½), the posterior under Jeffreys'
  prior; where all rows are right or wrong, the interval ends at the score. Other metrics have no pseudo-rows; their
  mean over resamples is shifted to x̄. With labels of few rows, the intervals of macro averages are too narrow; a note
  below the table says so.
- seed disagreement: the share of rows, times 100, for which two runs predict different labels or label sets, the mean
  over the n (n − 1)/2 pairs of runs; for a regression, the standard deviation over runs of a row's predicted value, the
  mean over rows. All reported splits together; empty for a single run.
- to best: the difference d to the best score on the same rows, and its interval d ± t(0.975, ν) √(v + s²/n + s'²/n'),
  v the variance of d over shared weights of the rows; not corrected for the other pairs
- ≈: model i is in the set of the best unless the largest (x̄_j − x̄_i) / √(v + s²/n_i + s²/n_j) over j is above the 95 %
  quantile that it has when all models are equal (Hsu's multiple comparisons with the best, s² pooled)
- p: the test of no difference, t = d / √(v + s²/n + s'²/n'). First Holm's, corrected for all pairs in the table, max
  over smaller p of (m − rank + 1) p; in brackets uncorrected. Where nothing is known about seeds, p is about these runs
  on other rows.
- resolution, below a table: the smallest true difference of two models that has p < 0.05, uncorrected, with a
  probability of 80 %: (t(0.975, ν) + t(0.8, ν)) √(v + 2 s²/n), ν by Satterthwaite, for n seeds of each model; the
  minimum detectable effect (Bloom 1995). v is the median over the pairs of models, s² pooled, and the present n the
  median over the models.
- metrics: the {avg} over the runs, ± their sample standard deviation √(Σ (x − x̄)² / (n − 1))"""

_MEDIANS = """\
- medians: c_n s² takes the place of s²/n, with c_n the variance of the median of n standard normal values (0.449 for 3,
  0.287 for 5). Intervals, tests and ≈ take the scores over seeds as normal; where runs fail or collapse, s² is large,
  and so are the intervals, although the median is not moved."""

PUBLISHED = """\
Other settings, other code, and often the best of several runs: these numbers are for orientation, and no run here is
compared with them; to compare, run harness reproduce. ? is a metric that the source does not name."""


def formulas(board: Leaderboard) -> dict[str, list[str]]:
    """The sections of the pages as plain sentences, tuning and calibration where the pages have them."""
    sections = {"scores": score_formulas(board), "costs": COSTS, "tasks": task_formulas(board), "published": PUBLISHED}
    sections |= {"tuning": TUNING} if board.tuning else {}
    sections |= {"calibration": CALIBRATION} if board.calibrations else {}
    return {
        name: [" ".join(part.split()) for part in re.split(r"(?:^|\n+)- ", text) if part]
        for name, text in sections.items()
    }


def score_formulas(board: Leaderboard, escape: Callable[[str], str] = str) -> str:
    """Formulas of the main table, as a Markdown list; `escape` is applied to the names of averages and tasks."""
    scores = _SCORES.format(avg=board.aggregate, averages=_average_formula(board.suite, escape))
    return "\n".join([scores, *_resampling_formulas(board, escape)])


_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def _average_formula(suite: Suite | None, escape: Callable[[str], str]) -> str:
    """A line about the averages; each is described by the tasks that it lacks of the first's, and by its others."""
    if suite is None:
        return ""
    (first, tasks), *others = suite.members.items()
    number = _NUMBERS[len(tasks)] if len(tasks) < len(_NUMBERS) else str(len(tasks))
    parts = [f"{escape(first)} is the unweighted mean of the {number} tasks' scores"]
    for name, members in others:
        left_out = [escape(suite.tasks[task]) for task in tasks if task not in members]
        additional = [escape(suite.tasks[task]) for task in members if task not in tasks]
        changes = {"without": left_out, "with": additional}
        differences = [f"{change} {' and '.join(headings)}" for change, headings in changes.items() if headings]
        parts.append(f"{escape(name)} that {' and '.join(differences)}" if differences else f"{escape(name)} the same")
    return f"- {', '.join(parts)}; {'each' if others else 'it'} needs all its tasks.\n"


def task_formulas(board: Leaderboard) -> str:
    """Formulas of the tasks' tables, as a Markdown list."""
    text = _TASKS.format(avg=board.aggregate)
    return f"{text}\n{_MEDIANS}" if board.aggregate == "median" else text


def _resampling_formulas(board: Leaderboard, escape: Callable[[str], str]) -> Iterator[str]:
    if board.ranks:
        tasks = ", ".join(escape(board.headings[name]) for name in board.ranked_tasks)
        yield (
            "- The mean rank is over the entries that are compared in all of the tasks below; 1 is the best, equal"
            "\n  scores share a rank. In brackets, the means of 1 + the number of significantly better models, and of"
            f"\n  the number of models that are not significantly worse, by Holm's p. Tasks: {tasks}."
        )
    if board.has_levels:
        yield "- Verification is the weakest level of an entry's scores.\n  " + "\n  ".join(
            f"{level}: {meaning}{';' if level != 'verified' else '.'}" for level, meaning in LEVELS.items()
        )
    if any(evidence.rows for evidence in board.evidence.values()):
        yield (
            f"- Resamples: {RESAMPLES:,} sets of weights of a split's N rows, {RESAMPLED_ROWS:,} / N above "
            f"{RESAMPLED_ROWS // RESAMPLES:,} rows, and {FEWEST_RESAMPLES:,}\n  at least, the same for all models; "
            f"NumPy's default generator, seeded with {SEED} and the CRC-32 of task.split."
        )
