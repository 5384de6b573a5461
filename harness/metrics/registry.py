"""The metrics by name, as functions and as `evaluate.Metric` modules; any other name is loaded with `evaluate.load`."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import UserError, did_you_mean
from harness.metrics import answers, classification, regression
from harness.metrics.metric import Metric, ProblemType

if TYPE_CHECKING:
    import evaluate

METRICS: dict[str, Metric] = {
    "accuracy": classification.ACCURACY,
    "f1": classification.F1,
    "f1_macro": classification.F1_MACRO,
    "f1_micro": classification.F1_MICRO,
    "precision_macro": classification.PRECISION_MACRO,
    "recall_macro": classification.RECALL_MACRO,
    "exact_match_by_group": classification.EXACT_MATCH,
    "parity_by_group": classification.PARITY,
    "answer_f1": answers.ANSWER_F1,
    "answer_exact_match": answers.ANSWER_EXACT_MATCH,
    "subset_accuracy": classification.SUBSET_ACCURACY,
    "hamming_loss": classification.HAMMING_LOSS,
    "matthews_correlation": classification.MATTHEWS,
    "pearson": regression.PEARSON,
    "spearman": regression.SPEARMAN,
    "mse": regression.MSE,
    "rmse": regression.RMSE,
    "mae": regression.MAE,
}


def title_of(name: str) -> str:
    """The metric's name in tables."""
    return METRICS[name].title if name in METRICS else name


def baseline_name(problem_type: str) -> str:
    """The name in tables of the constant prediction with the best main score."""
    return "constant baseline" if problem_type == "regression" else "majority-class baseline"


def format_score(value: float | None) -> str:
    """Formats a number: four decimals below 1,000, seven digits below a million; a dash where it is undefined.

    A larger number, or one below 0.001, has three digits and an exponent.
    """
    if value is None:
        return "–"
    size = abs(value)
    if size and not 0.001 <= size < 1e6:
        return f"{value:.2e}"
    return f"{value:.{4 if size < 1000 else 6 - math.floor(math.log10(size))}f}"


def is_fraction(metric: str) -> bool:
    """True for metrics that are shown times 100; a metric of `evaluate` may have any range and is shown unscaled."""
    return metric in METRICS and math.isfinite(METRICS[metric].highest)


def direction_of(names: Sequence[str]) -> int | None:
    """1 where more is better in all of these metrics, -1 where less is; None where they differ or one is unknown."""
    directions = {METRICS[name].direction if name in METRICS else None for name in names}
    return directions.pop() if len(directions) == 1 else None


@functools.cache
def load_metric(name: str, problem_type: ProblemType | None = None) -> evaluate.Metric:
    """The metric as an `evaluate.Metric`: the harness's own in memory, any other through `evaluate.load`.

    `problem_type` selects the labels that one of the harness's own compares, by default the first that it can, and the
    names that the error for an unknown metric lists, by default all.

    Raises:
        UserError: the harness has no such metric and `evaluate` cannot load one.
    """
    import evaluate

    if name not in METRICS:
        try:
            return evaluate.load(name, keep_in_memory=True)
        except Exception as error:  # evaluate raises whatever the Hub client, the importer or the script raises
            known = METRICS if problem_type is None else supported_metrics(problem_type)
            raise UserError(
                f"unknown metric {name!r}: expected one of {', '.join(known)}, or one that evaluate can load, "
                f"but evaluate.load({name!r}) failed with {type(error).__name__}: "
                f"{(str(error).splitlines() or [''])[0].rstrip('.')}.{did_you_mean(name, known)}"
            ) from None
    import datasets

    metric = METRICS[name]
    problem_type = problem_type or metric.problem_types[0]
    feature = datasets.Value("float64" if problem_type in ("regression", "answer_selection") else "int64")
    if problem_type == "multi_label_classification":
        feature = datasets.Sequence(feature)

    class InMemory(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> evaluate.MetricInfo:
            features = datasets.Features(dict.fromkeys(("predictions", "references"), feature))
            if metric.is_over_groups:
                features["row_groups"] = datasets.Value("int64")
            return evaluate.MetricInfo(description=metric.title, citation="", features=features)

        def _compute(
            self, predictions: Sequence[float], references: Sequence[float], row_groups: Sequence[int] | None = None
        ) -> dict[str, float]:
            return {name: metric.of(*map(np.asarray, (predictions, references, row_groups)))}

    return InMemory(keep_in_memory=True, experiment_id=name)


def check_metrics(names: Sequence[str], problem_type: ProblemType) -> None:
    """Checks that every metric can be loaded, before hours are spent.

    The harness's own are known without `evaluate`, whose import would delay the first step.

    Raises:
        UserError: a metric is unknown.
    """
    for name in names:
        if name not in METRICS:
            load_metric(name, problem_type)


def supported_metrics(problem_type: ProblemType) -> list[str]:
    """The names of the harness's own metrics for this problem type."""
    return [name for name, metric in METRICS.items() if problem_type in metric.problem_types]


def check_support(names: Sequence[str], problem_type: ProblemType, classes: int) -> None:
    """Raises ValueError when one of the metrics cannot compare labels of this problem type.

    A name that the harness does not know may be a metric of `evaluate`, except for label sets and selections of
    answers, which those cannot compare.
    """
    supported = supported_metrics(problem_type)
    can_load_others = problem_type not in ("multi_label_classification", "answer_selection")
    for name in names:
        if name not in supported and (name in METRICS or not can_load_others):
            raise ValueError(
                f"metrics: {name!r} does not support {problem_type}; supported: {', '.join(supported)}."
                f"{did_you_mean(name, supported)}"
            )
    if "f1" in names and classes != 2:
        raise ValueError("metrics: 'f1' is the F1 of the second of two labels; for more labels use f1_macro")
