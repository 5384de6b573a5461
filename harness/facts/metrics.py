"""Numbers about a model's scores: each metric is one short function and one line of `METRICS`.

`score` runs them as `evaluate.Metric` modules held in memory; a name that is not in `METRICS` is asked of
`evaluate.load`. An undefined value is None with a reason, never NaN and never an invented 0.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import evaluate

ProblemType = Literal["single_label_classification", "regression", "multi_label_classification"]
"""transformers' names: labels are class numbers int64[N], real values float64[N], or label sets, 0 or 1, int64[N, C]."""

THRESHOLD = 0.5
"""Probability from which on a label of a set is predicted, where none was chosen."""


class Undefined(ValueError):
    """The metric has no value on these rows; the message says why."""


class Metric(NamedTuple):
    """How a metric is computed and shown."""

    compute: Callable[[NDArray[Any], NDArray[Any]], float]
    """(predictions, gold), both [N] or [N, C] -> value; raises Undefined."""
    problem_type: ProblemType
    """What it compares."""
    title: str
    lower_is_better: bool = False
    lowest: float = 0.0
    highest: float = 1.0
    multi_label_too: bool = False
    """One for classes that compares sets of labels as well."""

    @property
    def sign(self) -> int:
        """1, or -1 where less is better."""
        return -1 if self.lower_is_better else 1

    def accepts(self, problem_type: ProblemType) -> bool:
        """Whether the metric is defined for tasks of this type."""
        is_extended = self.multi_label_too and problem_type == "multi_label_classification"
        return self.problem_type == problem_type or is_extended


class Scored(NamedTuple):
    """Metric values by name, and why those that are None are."""

    values: dict[str, float | None]
    notes: dict[str, str]


def _accuracy(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    return float(np.mean(predictions == gold))


def _f1_binary(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    """F1 of label 1, as GLUE reports it for mrpc and qqp."""
    if not (np.any(predictions == 1) or np.any(gold == 1)):
        raise Undefined("neither a prediction nor a gold label is positive")
    from sklearn.metrics import f1_score

    return float(f1_score(gold, predictions, pos_label=1, average="binary", zero_division=0.0))


def _averaged(name: str, average: str) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """A scikit-learn score averaged over the classes in gold or predictions; one that is never predicted counts 0.

    Of sets, the same over the labels that are on anywhere in gold or predictions: a label that is nowhere has no score.
    """

    def compute(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
        from sklearn import metrics

        labels = None
        if gold.ndim == 2:
            labels = np.flatnonzero((gold > 0).any(axis=0) | (predictions > 0).any(axis=0))
            if len(labels) == 0:
                raise Undefined("no row has a label, and none was predicted")
        return float(getattr(metrics, name)(gold, predictions, labels=labels, average=average, zero_division=0.0))

    return compute


def _subset_accuracy(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    """The share of rows whose labels are all right and none too many."""
    return float(np.mean((predictions == gold).all(axis=1)))


def _hamming_loss(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    """The share of wrong answers among all rows times labels."""
    return float(np.mean(predictions != gold))


def _matthews(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    """Matthews correlation; 0 when every prediction is the same class, the limit that scikit-learn takes too."""
    if len(np.unique(gold)) < 2:
        raise Undefined("all gold labels are the same")
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(gold, predictions))


def _correlation(name: str) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    def compute(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
        for values, whose in ((predictions, "predictions"), (gold, "gold values")):
            if len(values) < 2 or np.ptp(values) == 0:
                raise Undefined(f"the {whose} are constant")
        from scipy import stats

        value = float(getattr(stats, name)(predictions, gold).statistic)
        if not math.isfinite(value):
            raise Undefined("the predictions are constant within rounding")
        return value

    return compute


def _mse(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    return float(np.mean((predictions - gold) ** 2))


def _rmse(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    return math.sqrt(_mse(predictions, gold))


def _mae(predictions: NDArray[Any], gold: NDArray[Any]) -> float:
    return float(np.mean(np.abs(predictions - gold)))


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy, "single_label_classification", "accuracy"),
    "f1": Metric(_f1_binary, "single_label_classification", "F1"),
    "f1_macro": Metric(_averaged("f1_score", "macro"), "single_label_classification", "macro F1", multi_label_too=True),
    "f1_micro": Metric(_averaged("f1_score", "micro"), "single_label_classification", "micro F1", multi_label_too=True),
    "precision_macro": Metric(
        _averaged("precision_score", "macro"), "single_label_classification", "macro precision", multi_label_too=True
    ),
    "recall_macro": Metric(
        _averaged("recall_score", "macro"), "single_label_classification", "macro recall", multi_label_too=True
    ),
    "subset_accuracy": Metric(_subset_accuracy, "multi_label_classification", "subset accuracy"),
    "hamming_loss": Metric(_hamming_loss, "multi_label_classification", "Hamming loss", lower_is_better=True),
    "matthews_correlation": Metric(_matthews, "single_label_classification", "Matthews", lowest=-1.0),
    "pearson": Metric(_correlation("pearsonr"), "regression", "Pearson", lowest=-1.0),
    "spearman": Metric(_correlation("spearmanr"), "regression", "Spearman", lowest=-1.0),
    "mse": Metric(_mse, "regression", "MSE", lower_is_better=True, highest=math.inf),
    "rmse": Metric(_rmse, "regression", "RMSE", lower_is_better=True, highest=math.inf),
    "mae": Metric(_mae, "regression", "MAE", lower_is_better=True, highest=math.inf),
}


def title_of(name: str) -> str:
    """How a metric is called in tables."""
    return METRICS[name].title if name in METRICS else name


@functools.cache
def module(name: str, problem_type: ProblemType | None = None) -> evaluate.Metric:
    """The metric as an `evaluate.Metric`: ours in memory, without any Hub; any other name through `evaluate.load`.

    `kind` says what one of ours shall compare; by default what it is for.

    Raises:
        UserError: the name is neither ours nor one that `evaluate` can load.
    """
    import evaluate

    if name not in METRICS:
        try:
            return evaluate.load(name, keep_in_memory=True)
        except Exception as error:  # evaluate raises whatever the Hub client, the importer or the script raises
            raise UserError(
                f"metric {name!r} is none of ours ({', '.join(METRICS)}) and evaluate.load({name!r}) failed: "
                f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}."
                + did_you_mean(name, METRICS)
            ) from None
    import datasets

    problem_type = problem_type or METRICS[name].problem_type
    feature = datasets.Value("float64" if problem_type == "regression" else "int64")
    if problem_type == "multi_label_classification":
        feature = datasets.Sequence(feature)

    class InMemory(evaluate.Metric):  # type: ignore[misc]
        def _info(self) -> evaluate.MetricInfo:
            features = dict.fromkeys(("predictions", "references"), feature)
            return evaluate.MetricInfo(
                description=METRICS[name].title, citation="", features=datasets.Features(features)
            )

        def _compute(self, predictions: Sequence[float], references: Sequence[float]) -> dict[str, float]:
            return {name: METRICS[name].compute(np.asarray(predictions), np.asarray(references))}

    return InMemory(keep_in_memory=True, experiment_id=name)


def check_metrics(names: Sequence[str]) -> None:
    """Raises UserError when one of them is unknown, before hours are spent.

    Ours are known without `evaluate`, whose import would keep the first step waiting.
    """
    for name in names:
        if name not in METRICS:
            module(name)


def predictions_of(scores: NDArray[np.float32], threshold: float | None = None) -> NDArray[Any]:
    """scores: float32[N, C] -> the class with the highest score, int64[N]; for C = 1 the value itself, float64[N].

    With a threshold, sets of labels, int64[N, C]: 1 where the sigmoid of a score is at least that probability.
    """
    if threshold is not None:
        return (scores >= np.float32(math.log(threshold / (1 - threshold)))).astype(np.int64)
    if scores.shape[1] == 1:
        return scores[:, 0].astype(np.float64)
    return np.asarray(scores.argmax(axis=1), np.int64)


def score(
    names: Sequence[str], scores: NDArray[np.float32], gold: NDArray[Any], threshold: float | None = None
) -> Scored:
    """Every named metric of scores: float32[N, C], all finite, against gold [N] (class numbers; values when C = 1).

    Gold sets of labels, [N, C], need a threshold. A metric of `evaluate` that answers with several numbers contributes
    each under its own name.

    Raises:
        UserError: a metric is unknown or does not accept this kind of label.
    """
    assert len(scores) == len(gold) > 0, (len(scores), len(gold))
    assert np.isfinite(scores).all()  # argmax takes the position of a NaN for a prediction
    predictions = predictions_of(scores, threshold)
    assert predictions.shape == gold.shape, (predictions.shape, gold.shape)
    values: dict[str, float | None] = {}
    notes: dict[str, str] = {}
    for name in names:
        try:
            answer = module(name, None if threshold is None else "multi_label_classification").compute(
                predictions=predictions, references=gold
            )
            numbers = {key: float(value) for key, value in answer.items()}
        except Undefined as reason:
            values[name], notes[name] = None, f"undefined: {reason}"
            continue
        except (ValueError, TypeError) as error:
            if name in METRICS:
                raise
            raise UserError(f"metric {name!r} of evaluate cannot be used here: {error}") from None
        for key, value in numbers.items():
            values[key] = value if math.isfinite(value) else None
            if values[key] is None:
                notes[key] = f"undefined: evaluate's {name} gave {value}"
    return Scored(values, notes)


def chosen_threshold(names: Sequence[str], scores: NDArray[np.float32], gold: NDArray[Any]) -> float:
    """The threshold, of 0.05, 0.1, ... 0.95, under which the named metrics have the best mean; of equals the nearest to
    0.5. Where less is better a metric counts negated; a threshold with an undefined one is not chosen if any other is.
    """

    def rank(threshold: float) -> tuple[float, float]:
        predictions = predictions_of(scores, threshold)
        try:
            values = [METRICS[name].compute(predictions, gold) * METRICS[name].sign for name in names]
        except Undefined:
            values = [-math.inf]
        return sum(values), -abs(threshold - THRESHOLD)

    return max((number / 20 for number in range(1, 20)), key=rank)


def mean_loss(scores: NDArray[np.float32], gold: NDArray[Any]) -> float:
    """Over all rows what training minimises: mean cross-entropy in nats, or mean squared error for C = 1.

    Of sets of labels, the mean over rows and labels of the binary cross-entropy. Class weights do not count.
    """
    exact = scores.astype(np.float64)
    if gold.ndim == 2:
        return float(np.mean(np.logaddexp(0.0, exact) - exact * gold))
    if exact.shape[1] == 1:
        return float(np.mean((exact[:, 0] - gold) ** 2))
    highest = exact.max(axis=1)
    log_sum = highest + np.log(np.exp(exact - highest[:, None]).sum(axis=1))
    return float(np.mean(log_sum - exact[np.arange(len(gold)), gold]))


def baseline(names: Sequence[str], gold: NDArray[Any], classes: int) -> dict[str, float | None]:
    """What the best constant answer scores: for each of our metrics, the best over all constants, None if undefined.

    The constants tried are every class, or for values (classes = 1) the mean and the median of gold, which minimise
    squared and absolute error. For sets of labels: the most frequent set, and those of the k most frequent labels for
    every k, among which is the best of each other metric here. Metrics that only `evaluate` knows have no baseline.
    """
    constants: Iterable[Any] = range(classes) if classes > 1 else (float(np.mean(gold)), float(np.median(gold)))
    if gold.ndim == 2:
        constants = _constant_sets(gold)
    best: dict[str, float | None] = {}
    for name in names:
        if name not in METRICS:
            continue
        metric, found = METRICS[name], []
        for constant in constants:
            try:
                found.append(metric.compute(np.full(gold.shape, constant), gold))
            except Undefined:
                continue
        best[name] = (min if metric.lower_is_better else max)(found) if found else None
    return best


def _constant_sets(gold: NDArray[Any]) -> list[NDArray[Any]]:
    sets, counts = np.unique(gold, axis=0, return_counts=True)
    order = np.argsort(-gold.sum(axis=0, dtype=np.int64), kind="stable")
    rank = np.argsort(order)
    return [sets[counts.argmax()], *((rank < k).astype(gold.dtype) for k in range(gold.shape[1] + 1))]
