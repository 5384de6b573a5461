"""The promises of the leaderboard's statistics on simulated boards whose truth is known.

python benchmarks/coverage.py    # benchmarks/results/coverage.json, in a few minutes; --repetitions 2000 for an hour

Five equally good models are drawn again and again, with new rows and new seeds. Of each setting of a metric and a
number of rows it counts how often the 95 % interval of a model contains the true score, how often two models are called
different at 0.05, and how often a model is excluded from the set of the best.

On each row a run of a model has a latent normal value of three parts, shared by all, by the model's runs, and its own;
the shares of their variance are those of real records. Seeds change the run's ability.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks import report
from harness.metrics.classification import LabelCounts
from harness.metrics.registry import METRICS
from harness.metrics.regression import WeightedValues
from harness.stats.resampling import pseudo_rows, resampled
from harness.stats.uncertainty import Sample, best_set, compare, row_intervals, sample_of, total_intervals
from harness.system.exit_codes import exit_code_on_error

RUNS = (5, 5, 3, 3, 3)
"""Runs of each model. The first is examined, the second is its rival, all lend each other their spread over seeds."""
SHARES = (0.7, 0.2, 0.1)
"""Variance of the latent value that all runs share on a row, that a model's runs share, and that is a run's own."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A population of rows, and models that are equally good on it."""

    name: str
    metrics: tuple[str, ...]
    classes: tuple[float, ...]
    """The share of each class among the rows; empty for values."""
    ability: tuple[float, ...]
    """The probability of a correct prediction in each class; for values the correlation."""
    spread: float
    """Standard deviation over seeds of the ability, on the probit scale; for a correlation on Fisher's z scale."""

    def run(self, random: np.random.Generator, gold: NDArray[Any], latent: Floats) -> tuple[NDArray[Any], float]:
        """The predictions of a run with a new seed [N], and its true score."""
        shift = self.spread * random.standard_normal()
        if not self.classes:
            correlation = float(np.tanh(np.arctanh(self.ability[0]) + shift))
            return correlation * gold + np.sqrt(1 - correlation**2) * latent, float(self.true_correlation(correlation))
        correct = ndtri(np.array(self.ability)) + shift
        is_correct = latent < correct[gold]
        others = random.integers(len(self.classes) - 1, size=len(gold))
        return np.where(is_correct, gold, others + (others >= gold)), self.true_score(correct)

    def true_correlation(self, pearson: Any) -> Any:
        """Pearson's correlation, or Spearman's of normal values that have this one of Pearson."""
        return 6 / np.pi * np.arcsin(pearson / 2) if self.metrics == ("spearman",) else pearson

    def true_score(self, correct: Floats) -> float:
        """The mean of the metrics in the population, from the probit of the probability of a correct prediction."""
        from scipy.special import ndtr

        number, right = len(self.classes), ndtr(correct)
        cells = np.diag(self.classes * right)
        cells += (1 - np.eye(number)) * (np.array(self.classes) * (1 - right))[:, None] / max(number - 1, 1)
        gold, predicted, diagonal = cells.sum(axis=1), cells.sum(axis=0), np.diag(cells)
        f1 = 2 * diagonal / (gold + predicted)
        spread = np.sqrt((1 - np.sum(gold**2)) * (1 - np.sum(predicted**2)))
        values = {
            "accuracy": diagonal.sum(),
            "f1": f1[1],
            "f1_macro": f1.mean(),
            "matthews_correlation": (diagonal.sum() - gold @ predicted) / spread,
        }
        return float(np.mean([values[name] for name in self.metrics]))

    @cached_property
    def expected_score(self) -> float:
        """The true score of a model: the mean over seeds."""
        shifts = self.spread * np.random.default_rng(1).standard_normal(20_000)
        if not self.classes:
            return float(np.mean(self.true_correlation(np.tanh(np.arctanh(self.ability[0]) + shifts))))
        return float(np.mean([self.true_score(ndtri(np.array(self.ability)) + shift) for shift in shifts[:4_000]]))


SETTINGS = (
    Setting("accuracy .50", ("accuracy",), (0.5, 0.5), (0.5, 0.5), 0.05),
    Setting("accuracy .90", ("accuracy",), (0.5, 0.5), (0.9, 0.9), 0.057),
    Setting("accuracy .97", ("accuracy",), (0.5, 0.5), (0.97, 0.97), 0.073),
    Setting("accuracy .99", ("accuracy",), (0.5, 0.5), (0.99, 0.99), 0.094),
    Setting("Matthews .62, 69 % positive", ("matthews_correlation",), (0.31, 0.69), (0.7, 0.91), 0.075),
    Setting("Matthews .70, 10 % positive", ("matthews_correlation",), (0.9, 0.1), (0.973, 0.72), 0.11),
    Setting("Matthews .71, 3 % positive", ("matthews_correlation",), (0.97, 0.03), (0.991, 0.72), 0.12),
    Setting("Matthews .97, balanced", ("matthews_correlation",), (0.5, 0.5), (0.9855, 0.9855), 0.07),
    Setting("F1 + accuracy .86", ("f1", "accuracy"), (0.32, 0.68), (0.72, 0.91), 0.055),
    Setting("F1 + accuracy .99", ("f1", "accuracy"), (0.32, 0.68), (0.98, 0.99), 0.07),
    Setting("macro F1, 6 classes of 2-40 %", ("f1_macro",), (0.02, 0.06, 0.1, 0.15, 0.27, 0.4), (0.8,) * 6, 0.05),
    Setting("macro F1, 20 classes of 5 %", ("f1_macro",), (0.05,) * 20, (0.8,) * 20, 0.05),
    Setting("Pearson .90", ("pearson",), (), (0.9,), 0.06),
    Setting("Spearman .89", ("spearman",), (), (0.9,), 0.06),
)


@dataclass(frozen=True)
class Options:
    """Simulate boards of five equally good models, and count how often the leaderboard's statistics are right."""

    repetitions: int = 300
    """Boards of each setting and number of rows."""
    rows: tuple[int, ...] = (71, 277, 1043)
    """Numbers of rows: those of WNLI, RTE and CoLA."""
    resamples: int = 1_000
    """Resamples of the rows of each board; the leaderboard takes 10,000."""
    processes: int = os.cpu_count() or 1
    """Settings that are simulated at once, each on one thread."""
    settings: tuple[str, ...] = ()
    """Only settings whose name starts with one of these."""
    output: Path = report.RESULTS / "coverage.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulates every setting and prints the tables."""
    with exit_code_on_error():
        options = tyro.cli(Options, args=arguments, prog="benchmarks/coverage.py")
        os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        names = [one.name for one in SETTINGS if one.name.startswith(options.settings or "")]
        cases = [(name, rows, options.repetitions, options.resamples) for rows in options.rows for name in names]
        with get_context("spawn").Pool(options.processes) as pool:
            counted = pool.starmap(simulate, cases, chunksize=1)
        results = [dict(setting=name, rows=rows, shares=shares) for name, rows, shares in counted]
        settings = dict(repetitions=options.repetitions, resamples=options.resamples)
        import torch

        from benchmarks.measuring import machine_facts

        machine = machine_facts(torch.device("cpu"), 1)
        report.save("coverage", dict(machine=machine, settings=settings, results=results), options.output)


def simulate(name: str, rows: int, repetitions: int, resamples: int) -> tuple[str, int, dict[str, float]]:
    """The setting's name, the number of rows, and the share of boards on which each statement is true."""
    setting = next(one for one in SETTINGS if one.name == name)
    totals: dict[str, list[bool]] = defaultdict(list)
    for repetition in range(repetitions):
        random = np.random.default_rng([repetition, rows, sum(name.encode())])
        for statement, is_true in statements(setting, random, rows, resamples).items():
            totals[statement].append(is_true)
    return name, rows, {statement: round(float(np.mean(true)), 4) for statement, true in totals.items()}


def statements(setting: Setting, random: np.random.Generator, rows: int, resamples: int) -> dict[str, bool]:
    """The statements about one simulated board; none where a metric is undefined."""
    runs, true_scores, gold = board(setting, random, rows)
    table = (LabelCounts if setting.classes else WeightedValues)(np.concatenate(runs), gold)
    table.weigh(np.ones((1, rows)))
    values = np.mean([METRICS[name].on_resamples(table)[0] for name in setting.metrics], axis=0)
    if np.isnan(values).any():
        return {}
    scores = np.split(values, np.cumsum(RUNS)[:-1])
    purpose = str(random.integers(2**31))
    drawn = np.split(resampled(setting.metrics, np.concatenate(runs), gold, purpose, resamples), np.cumsum(RUNS)[:-1])
    is_smoothed = len(pseudo_rows(setting.metrics, runs[0], gold)[1]) > 0

    def sample(*numbers: int) -> Sample:
        """The first runs of each model; the fewer numbers, the fewer models."""
        of_runs, means = [], []
        for number, of_model, on_resamples in zip(numbers, scores, drawn, strict=False):
            of_runs.append(of_model[:number])
            means.append(on_resamples[:number].mean(axis=0))
        return sample_of(of_runs, np.array(means), rows, is_smoothed, [0] * len(numbers), [True] * len(numbers))

    def covers(ends: Callable[[Sample], Any], drawn: Sample, truth: float) -> bool:
        low, high = (float(one[0]) for one in ends(drawn))
        return low <= truth <= high

    truth = setting.expected_score
    result = {
        "1 run, this run": covers(row_intervals, sample(1), true_scores[0]),
        "1 run, lent": covers(total_intervals, sample(1, 3, 3, 3, 3), truth),
        "2 runs, lent": covers(total_intervals, sample(2, 3, 3, 3, 3), truth),
        **{f"{n} runs": covers(total_intervals, sample(n), truth) for n in (3, 5)},
    }
    for first, second in ((1, 1), (1, 3), (1, 5), (2, 2), (3, 3), (5, 5)):
        test = compare(sample(first, second, 3, 3, 3), np.array([0]), np.array([1]))
        result[f"{first} against {second}"] = bool(test.p[0] < 0.05)
    for n in (1, 3):
        every = sample(n, 3, 3, 3, 3)
        members = best_set(every, 1, random)
        result[f"excluded with {n}"] = members is not None and not members[0]
    return result


def board(
    setting: Setting, random: np.random.Generator, rows: int
) -> tuple[list[NDArray[Any]], list[float], NDArray[Any]]:
    """The predictions [runs, N] of each model, the true scores of the first model's runs, and gold labels [N]."""
    common, of_model, own = np.sqrt(SHARES)
    gold = random.standard_normal(rows)
    if setting.classes:
        gold = random.choice(len(setting.classes), rows, p=setting.classes)
    shared = random.standard_normal(rows)
    every, truths = [], []
    for number in RUNS:
        latent = common * shared + of_model * random.standard_normal(rows)
        runs = [setting.run(random, gold, latent + own * random.standard_normal(rows)) for _ in range(number)]
        every.append(np.stack([predictions for predictions, _ in runs]))
        truths.append([true_score for _, true_score in runs])
    return every, truths[0], gold


if __name__ == "__main__":
    main()
