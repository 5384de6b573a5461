"""Metrics against scikit-learn, scipy and values worked out by hand, on ordinary and on degenerate rows."""

from __future__ import annotations

import math
import random
import textwrap
from pathlib import Path
from typing import Any

import datasets
import evaluate
import huggingface_hub
import numpy as np
import pytest
import sklearn.metrics
import torch
from numpy.typing import NDArray
from scipy import stats

from harness.errors import UserError
from harness.facts.metrics import (
    METRICS,
    baseline,
    chosen_threshold,
    mean_loss,
    module,
    predictions_of,
    score,
    title_of,
)

CLASSES = [name for name, metric in METRICS.items() if metric.kind == "classes"]
ANY_CLASSES = [name for name in CLASSES if name != "f1"]
VALUES = [name for name, metric in METRICS.items() if metric.kind == "values"]
SETS = [name for name, metric in METRICS.items() if metric.compares("sets")]
CORRELATIONS = {"pearson", "spearman"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries read their environment when they are imported, which may have been before this file."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    monkeypatch.setattr(evaluate.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)


def _one_hot(predictions: Any, classes: int) -> NDArray[np.float32]:
    """Scores whose highest is at the prediction."""
    return np.eye(classes, dtype=np.float32)[np.asarray(predictions)]


def _column(values: Any) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)[:, None]


def _class_scores(predictions: Any, gold: Any, classes: int, names: list[str]) -> dict[str, float | None]:
    return score(names, _one_hot(predictions, classes), np.asarray(gold)).values


def _value_scores(predictions: Any, gold: Any, names: list[str] = VALUES) -> dict[str, float | None]:
    return score(names, _column(predictions), np.asarray(gold, np.float64)).values


def _sklearn(predictions: NDArray[Any], gold: NDArray[Any]) -> dict[str, float]:
    averaged = {"zero_division": 0.0, "y_true": gold, "y_pred": predictions}
    return {
        "accuracy": sklearn.metrics.accuracy_score(gold, predictions),
        "f1_macro": sklearn.metrics.f1_score(average="macro", **averaged),
        "f1_micro": sklearn.metrics.f1_score(average="micro", **averaged),
        "precision_macro": sklearn.metrics.precision_score(average="macro", **averaged),
        "recall_macro": sklearn.metrics.recall_score(average="macro", **averaged),
        "matthews_correlation": sklearn.metrics.matthews_corrcoef(gold, predictions),
    }


# -- classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 7, 33, 1000])
@pytest.mark.parametrize("classes", [2, 3, 7])
def test_class_metrics_are_those_of_scikit_learn(classes: int, rows: int) -> None:
    generator = np.random.default_rng(100 * classes + rows)
    scores = generator.normal(size=(rows, classes)).astype(np.float32)
    gold = generator.integers(classes, size=rows)
    gold[:2] = 0, 1  # two classes at least, or Matthews is undefined
    expected = _sklearn(scores.argmax(axis=1), gold)
    assert set(expected) == set(ANY_CLASSES)
    assert score(ANY_CLASSES, scores, gold).values == pytest.approx(expected, abs=1e-12)


def test_every_class_metric_by_hand() -> None:
    """Gold 1 1 1 1 0 0, predicted 1 1 1 0 1 0: 3 true and 1 false positive, 1 true and 1 false negative."""
    found = _class_scores([1, 1, 1, 0, 1, 0], [1, 1, 1, 1, 0, 0], 2, CLASSES)
    assert found == pytest.approx(
        {
            "accuracy": 4 / 6,
            "f1": 2 * 3 / (2 * 3 + 1 + 1),
            "f1_macro": (0.75 + 0.5) / 2,
            "f1_micro": 4 / 6,
            "precision_macro": (3 / 4 + 1 / 2) / 2,
            "recall_macro": (3 / 4 + 1 / 2) / 2,
            "matthews_correlation": (3 * 1 - 1 * 1) / math.sqrt(4 * 4 * 2 * 2),
        }
    )


def test_f1_is_that_of_label_one() -> None:
    predictions, gold = [0, 0, 0, 1], [0, 0, 1, 1]
    assert _class_scores(predictions, gold, 2, ["f1"]) == pytest.approx({"f1": 2 / 3})
    assert _class_scores([1 - p for p in predictions], [1 - g for g in gold], 2, ["f1"]) == pytest.approx({"f1": 0.8})


def test_class_that_is_never_predicted_counts_zero() -> None:
    found = _class_scores([0, 0, 1, 1], [0, 0, 1, 2], 3, ["f1_macro", "precision_macro", "recall_macro"])
    assert found == pytest.approx(
        {
            "f1_macro": (1 + 2 / 3 + 0) / 3,
            "precision_macro": (1 + 1 / 2 + 0) / 3,
            "recall_macro": (1 + 1 + 0) / 3,
        }
    )


def test_class_that_does_not_occur_does_not_count() -> None:
    assert _class_scores([0, 1, 0], [0, 1, 0], 7, ["f1_macro", "recall_macro"]) == {
        "f1_macro": 1,
        "recall_macro": 1,
    }


def test_constant_predictions_have_a_matthews_of_zero() -> None:
    scored = score(["matthews_correlation"], _one_hot([1, 1, 1, 1], 2), np.array([0, 1, 1, 0]))
    assert scored.values == {"matthews_correlation": 0.0}
    assert scored.notes == {}


def test_single_gold_class_has_no_matthews() -> None:
    scored = score(["accuracy", "matthews_correlation"], _one_hot([1, 0, 1], 2), np.array([1, 1, 1]))
    assert scored.values == pytest.approx({"accuracy": 2 / 3, "matthews_correlation": None})
    assert scored.notes == {"matthews_correlation": "undefined: all gold labels are the same"}


def test_nothing_positive_anywhere_has_no_f1() -> None:
    scored = score(["f1"], _one_hot([0, 0], 2), np.array([0, 0]))
    assert scored.values == {"f1": None}
    assert scored.notes == {"f1": "undefined: neither a prediction nor a gold label is positive"}


@pytest.mark.parametrize("predictions, gold", [([1, 1], [0, 0]), ([0, 0], [1, 1])])
def test_f1_without_a_hit_is_zero(predictions: list[int], gold: list[int]) -> None:
    assert _class_scores(predictions, gold, 2, ["f1"]) == {"f1": 0.0}


def test_tie_goes_to_the_first_class() -> None:
    assert predictions_of(np.zeros((2, 3), np.float32)).tolist() == [0, 0]


# -- values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [2, 7, 33, 1000])
def test_value_metrics_are_those_of_scipy_and_scikit_learn(rows: int) -> None:
    generator = np.random.default_rng(rows)
    predictions = generator.normal(2.5, 1, size=(rows, 1)).astype(np.float32)
    gold = np.round(generator.uniform(0, 5, size=rows), 1)  # with ties
    gold[:2] = 1.0, 3.2
    exact = predictions[:, 0].astype(np.float64)
    expected = {
        "pearson": stats.pearsonr(exact, gold)[0],
        "spearman": stats.spearmanr(exact, gold)[0],
        "mse": sklearn.metrics.mean_squared_error(gold, exact),
        "rmse": sklearn.metrics.root_mean_squared_error(gold, exact),
        "mae": sklearn.metrics.mean_absolute_error(gold, exact),
    }
    assert set(expected) == set(VALUES)
    assert score(VALUES, predictions, gold).values == pytest.approx(expected, abs=1e-12)


def test_every_value_metric_by_hand() -> None:
    assert _value_scores([1, 2, 3], [1, 3, 2]) == pytest.approx(
        {"pearson": 0.5, "spearman": 0.5, "mse": 2 / 3, "rmse": math.sqrt(2 / 3), "mae": 2 / 3}
    )


def test_correlation_of_opposites_is_minus_one() -> None:
    assert _value_scores([1, 2, 4], [-1, -2, -4], ["pearson", "spearman"]) == pytest.approx(
        {"pearson": -1, "spearman": -1}
    )


def test_spearman_sees_order_only() -> None:
    assert _value_scores([1, 2, 3, 4], [1, 10, 100, 1000], ["spearman"]) == pytest.approx({"spearman": 1})


@pytest.mark.parametrize(
    "predictions, gold, whose",
    [
        ([2.5, 2.5, 2.5], [1, 2, 3], "predictions"),
        ([1, 2, 3], [2.5, 2.5, 2.5], "gold values"),
        ([2.5], [2.5], "predictions"),
    ],
)
def test_correlation_with_a_constant_is_undefined(predictions: list[float], gold: list[float], whose: str) -> None:
    scored = score(VALUES, _column(predictions), np.asarray(gold, np.float64))
    assert {name for name, value in scored.values.items() if value is None} == CORRELATIONS
    assert scored.notes == dict.fromkeys(("pearson", "spearman"), f"undefined: the {whose} are constant")


def test_values_are_compared_in_double_precision() -> None:
    """float32 has no 16,777,217: were the difference taken in it, gold would be rounded to the prediction."""
    assert _value_scores([16_777_216], [16_777_217], ["mse", "mae"]) == {"mse": 1.0, "mae": 1.0}


# -- both ----------------------------------------------------------------------------------------------------


def test_predictions_have_one_dimension_even_for_one_row() -> None:
    assert predictions_of(np.array([[0.25]], np.float32)).tolist() == [0.25]
    assert predictions_of(np.array([[0.25]], np.float32)).dtype == np.float64
    assert predictions_of(np.array([[0.25, 1]], np.float32)).tolist() == [1]
    assert predictions_of(np.array([[0.25, 1]], np.float32)).dtype == np.int64


@pytest.mark.parametrize("right", [True, False])
def test_single_row_is_scored(right: bool) -> None:
    found = _class_scores([1], [1 if right else 0], 2, ["accuracy", "f1", "f1_micro"])
    assert found == {"accuracy": float(right), "f1": float(right), "f1_micro": float(right)}
    assert _value_scores([3.0], [1.0], ["mse", "rmse", "mae"]) == {"mse": 4.0, "rmse": 2.0, "mae": 2.0}


def test_metric_is_none_exactly_when_there_is_a_note_and_never_nan() -> None:
    generator = np.random.default_rng(0)
    seen_undefined = set()
    for rows in [1, 2, 3, 4]:
        for _ in range(8):
            classes = score(CLASSES, _one_hot(generator.integers(2, size=rows), 2), generator.integers(2, size=rows))
            values = score(
                VALUES,
                _column(generator.integers(2, size=rows)),
                generator.integers(2, size=rows).astype(float),
            )
            for scored, names in [(classes, CLASSES), (values, VALUES)]:
                assert list(scored.values) == names
                assert {name for name, value in scored.values.items() if value is None} == set(scored.notes)
                for name, value in scored.values.items():
                    if value is not None:
                        assert METRICS[name].lowest - 1e-9 <= value <= METRICS[name].highest + 1e-9
                seen_undefined |= set(scored.notes)
    assert seen_undefined == {"f1", "matthews_correlation", *CORRELATIONS}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name, columns", [("accuracy", 2), ("mae", 1)])
def test_score_that_is_not_finite_is_never_turned_into_a_metric(name: str, columns: int, bad: float) -> None:
    """argmax takes the position of a NaN for the highest: that would be no prediction of the model."""
    scores = np.ones((3, columns), np.float32)
    scores[1, 0] = bad
    with pytest.raises(AssertionError):
        score([name], scores, np.array([0, 1, 1]))


def test_undefined_rows_do_not_reach_the_next_score() -> None:
    assert _class_scores([0, 0], [0, 0], 2, ["f1"]) == {"f1": None}
    assert _class_scores([1, 0], [1, 0], 2, ["f1"]) == {"f1": 1.0}


def test_scoring_leaves_the_random_streams_alone() -> None:
    """Training goes on after it."""
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    score(["accuracy", "matthews_correlation"], _one_hot([0, 1], 2), np.array([0, 1]))
    after = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert after == before


@pytest.mark.parametrize("gold", [[], [0], [0, 1, 1]])
def test_rows_and_gold_must_agree(gold: list[int]) -> None:
    with pytest.raises(AssertionError):
        score(["accuracy"], _one_hot([0, 1], 2), np.asarray(gold, np.int64))


def test_no_rows_have_no_score() -> None:
    with pytest.raises(AssertionError):
        score(["accuracy"], np.empty((0, 2), np.float32), np.empty(0, np.int64))


# -- metrics as modules of evaluate --------------------------------------------------------------------------


def test_metrics_are_evaluate_metrics_that_combine() -> None:
    both = evaluate.combine([module("accuracy"), module("f1")])
    assert both.compute(predictions=[0, 1, 1, 0], references=[0, 1, 0, 1]) == {"accuracy": 0.5, "f1": 0.5}


def test_metric_is_built_once() -> None:
    assert module("accuracy") is module("accuracy")


@pytest.mark.parametrize(
    "name, hint",
    [("acuracy", " Did you mean 'accuracy'?"), ("f1macro", " Did you mean 'f1_macro'?"), ("zzz", "")],
)
def test_unknown_metric_is_refused_with_the_nearest_and_all_names(name: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        score([name], _one_hot([0, 1], 2), np.array([0, 1]))
    message = str(caught.value)
    assert message.startswith(f"metric {name!r} is none of ours ({', '.join(METRICS)})")
    assert message.endswith("." + hint)
    assert ".." not in message
    assert "\n" not in message


def _own_metric(folder: Path, body: str) -> str:
    """A metric script, as a user would write one; its path."""
    path = folder / "own_metric.py"
    path.write_text(
        textwrap.dedent(
            f"""
            import datasets
            import evaluate
            import numpy as np

            class OwnMetric(evaluate.Metric):
                def _info(self):
                    columns = {{name: datasets.Value("int64") for name in ("predictions", "references")}}
                    features = datasets.Features(columns)
                    return evaluate.MetricInfo(description="", citation="", features=features)

                def _compute(self, predictions, references):
                    return {body}
            """
        )
    )
    return str(path)


def test_metric_of_your_own_goes_through_evaluate(tmp_path: Path) -> None:
    path = _own_metric(tmp_path, "{'misses': np.sum(np.not_equal(predictions, references)), 'half': 0.5}")
    scored = score([path, "accuracy"], _one_hot([0, 1, 1], 2), np.array([0, 0, 1]))
    assert scored.values == pytest.approx({"misses": 1.0, "half": 0.5, "accuracy": 2 / 3})
    assert {type(value) for value in scored.values.values()} == {float}
    assert scored.notes == {}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_metric_of_your_own_that_is_not_finite_is_undefined(tmp_path: Path, value: str) -> None:
    path = _own_metric(tmp_path, f"{{'odd': float('{value}')}}")
    scored = score([path], _one_hot([0, 1], 2), np.array([0, 1]))
    assert scored.values == {"odd": None}
    assert f"gave {value}" in scored.notes["odd"]


@pytest.mark.parametrize("body", ["{'odd': [1.0, 2.0]}", "{'odd': None}"])
def test_metric_of_your_own_that_gives_no_number_is_named(tmp_path: Path, body: str) -> None:
    path = _own_metric(tmp_path, body)
    with pytest.raises(UserError, match=r"own_metric\.py' of evaluate cannot be used here"):
        score([path], _one_hot([0, 1], 2), np.array([0, 1]))


# -- loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows, classes", [(1, 2), (7, 3), (100, 7)])
def test_mean_loss_of_classes_is_torch_s_cross_entropy(rows: int, classes: int) -> None:
    generator = np.random.default_rng(rows)
    scores = generator.normal(0, 5, size=(rows, classes)).astype(np.float32)
    gold = generator.integers(classes, size=rows)
    expected = torch.nn.functional.cross_entropy(torch.tensor(scores, dtype=torch.float64), torch.tensor(gold))
    assert mean_loss(scores, gold) == pytest.approx(expected.item(), rel=1e-12)


def test_mean_loss_of_values_is_torch_s_squared_error() -> None:
    generator = np.random.default_rng(0)
    scores, gold = generator.normal(size=(50, 1)).astype(np.float32), generator.uniform(0, 5, size=50)
    expected = torch.nn.functional.mse_loss(torch.tensor(scores[:, 0], dtype=torch.float64), torch.tensor(gold))
    assert mean_loss(scores, gold) == pytest.approx(expected.item(), rel=1e-12)


def test_mean_loss_by_hand() -> None:
    assert mean_loss(np.zeros((4, 3), np.float32), np.array([0, 1, 2, 0])) == pytest.approx(math.log(3))
    assert mean_loss(np.array([[math.log(3), 0]], np.float32), np.array([1])) == pytest.approx(math.log(4))
    assert mean_loss(_column([1, 2]), np.array([0.0, 4.0])) == pytest.approx((1 + 4) / 2)


def test_huge_scores_do_not_overflow() -> None:
    scores = np.array([[1e30, -1e30], [3e38, 0]], np.float32)
    assert mean_loss(scores, np.array([0, 0])) == 0.0
    assert mean_loss(scores[:1], np.array([1])) == pytest.approx(2e30)
    assert mean_loss(np.array([[3e38]], np.float32), np.array([0.0])) == pytest.approx(9e76, rel=1e-6)


# -- the best constant answer --------------------------------------------------------------------------------


def test_constant_answer_to_mrpc_is_the_known_68_and_81() -> None:
    """279 of MRPC's 408 validation pairs are paraphrases."""
    gold = np.array([1] * 279 + [0] * 129)
    found = baseline(["accuracy", "f1"], gold, classes=2)
    assert found == pytest.approx({"accuracy": 0.6838, "f1": 0.8122}, abs=5e-5)
    assert found == pytest.approx({"accuracy": 279 / 408, "f1": 2 * 279 / (408 + 279)})


def test_constant_answer_to_wnli_is_the_published_score() -> None:
    """40 of WNLI's 71 validation rows are not entailed."""
    assert baseline(["accuracy"], np.array([0] * 40 + [1] * 31), classes=2) == pytest.approx({"accuracy": 40 / 71})


def test_constant_answer_is_the_best_for_each_metric_of_its_own() -> None:
    """The majority is negative, so accuracy takes 0; F1 of label 1 is only had by always saying 1."""
    gold = np.array([0, 0, 0, 1])
    assert baseline(CLASSES, gold, classes=2) == pytest.approx(
        {
            "accuracy": 3 / 4,
            "f1": 2 * 1 / (4 + 1),
            "f1_macro": (2 * 3 / (4 + 3)) / 2,
            "f1_micro": 3 / 4,
            "precision_macro": (3 / 4) / 2,
            "recall_macro": 1 / 2,
            "matthews_correlation": 0.0,
        }
    )


def test_constant_answer_of_a_regression_is_mean_or_median() -> None:
    """Mean 4 for the squared error, median 2 for the absolute."""
    assert baseline(VALUES, np.array([1.0, 2.0, 9.0]), classes=1) == pytest.approx(
        {
            "pearson": None,
            "spearman": None,
            "mse": (9 + 4 + 25) / 3,
            "rmse": math.sqrt((9 + 4 + 25) / 3),
            "mae": (1 + 0 + 7) / 3,
        }
    )


def test_constant_answer_is_undefined_where_no_answer_is_defined() -> None:
    assert baseline(["matthews_correlation", "accuracy"], np.array([1, 1]), classes=2) == {
        "matthews_correlation": None,
        "accuracy": 1.0,
    }


def test_metric_that_only_evaluate_knows_has_no_constant_answer() -> None:
    assert baseline(["some/path.py", "accuracy"], np.array([0, 1]), classes=2) == {"accuracy": 0.5}


@pytest.mark.parametrize("name", ANY_CLASSES)
def test_no_constant_answer_beats_the_baseline(name: str) -> None:
    gold = np.array([0, 0, 1, 2, 2, 2, 2])
    best = baseline([name], gold, classes=3)[name]
    found = [_class_scores([constant] * len(gold), gold, 3, [name])[name] for constant in range(3)]
    assert best == pytest.approx(max(value for value in found if value is not None))


# -- sets of labels --------------------------------------------------------------------------------------------


def _sets(rows: int, labels: int, share: float = 0.4) -> NDArray[np.int8]:
    return (np.random.default_rng(rows * labels).random((rows, labels)) < share).astype(np.int8)


def _set_scores(predictions: Any, gold: Any, names: list[str]) -> dict[str, float | None]:
    scores = np.where(np.asarray(predictions) > 0, 2.0, -2.0).astype(np.float32)
    return score(names, scores, np.asarray(gold, np.int8), 0.5).values


@pytest.mark.parametrize("rows, labels", [(1, 2), (7, 3), (200, 12)])
def test_metrics_of_sets_are_those_of_scikit_learn(rows: int, labels: int) -> None:
    gold, predictions = _sets(rows, labels), _sets(rows, labels, 0.6)[::-1]
    gold[0], predictions[0] = 1, 1  # each label occurs
    expected = {
        f"{name}_{average}": getattr(sklearn.metrics, f"{name}_score")(
            gold, predictions, average=average, zero_division=0
        )
        for name, average in (("f1", "macro"), ("f1", "micro"), ("precision", "macro"), ("recall", "macro"))
    } | {
        "subset_accuracy": sklearn.metrics.accuracy_score(gold, predictions),
        "hamming_loss": sklearn.metrics.hamming_loss(gold, predictions),
    }
    assert set(SETS) == set(expected)
    assert _set_scores(predictions, gold, SETS) == pytest.approx(expected)


def test_every_metric_of_sets_by_hand() -> None:
    gold = [[1, 0], [1, 1], [0, 0]]
    predictions = [[1, 0], [1, 0], [0, 1]]
    assert _set_scores(predictions, gold, SETS) == pytest.approx(
        {
            "f1_micro": 2 * 2 / (3 + 3),
            "f1_macro": (1 + 0) / 2,
            "precision_macro": (1 + 0) / 2,
            "recall_macro": (1 + 0) / 2,
            "subset_accuracy": 1 / 3,
            "hamming_loss": 2 / 6,
        }
    )


def test_label_that_is_nowhere_does_not_count() -> None:
    """As with classes; a label that is gold and never predicted, or the other way round, counts 0."""
    gold, predictions = [[1, 0, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]]
    assert _set_scores(predictions, gold, ["f1_macro"]) == {"f1_macro": 1.0}
    assert _set_scores([[1, 1, 0], [1, 0, 0]], gold, ["f1_macro"]) == {"f1_macro": 0.5}


def test_no_label_anywhere_has_no_f1_and_a_note() -> None:
    nothing = np.zeros((3, 2), np.int8)
    scored = score(SETS, nothing - np.float32(1), nothing, 0.5)
    assert scored.values["f1_micro"] is None
    assert scored.values["f1_macro"] is None
    assert scored.notes["f1_micro"] == "undefined: no row has a label, and none was predicted"
    assert (scored.values["subset_accuracy"], scored.values["hamming_loss"]) == (1.0, 0.0)


def test_label_is_predicted_from_the_threshold_on() -> None:
    scores = np.array([[0.0, -1e-6, 5.0]], np.float32)
    assert predictions_of(scores, 0.5).tolist() == [[1, 0, 1]]
    assert predictions_of(scores, 0.9).tolist() == [[0, 0, 1]]
    assert predictions_of(scores, 0.05).tolist() == [[1, 1, 1]]


def test_loss_of_sets_is_torchs() -> None:
    gold = _sets(20, 4)
    scores = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32) * 30
    expected = torch.nn.BCEWithLogitsLoss()(torch.tensor(scores).double(), torch.tensor(gold).double()).item()
    assert mean_loss(scores, gold) == pytest.approx(expected)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("share", [0.2, 0.7])
def test_no_constant_set_beats_the_baseline(name: str, share: float) -> None:
    gold = _sets(9, 4, share) if share > 0.5 else _sets(9, 4, share) * [[1, 1, 0, 1]]
    every = [np.array(list(f"{number:04b}"), int) for number in range(16)]
    found = [_set_scores(np.tile(constant, (9, 1)), gold, [name])[name] for constant in every]
    best = (min if METRICS[name].lower_is_better else max)(value for value in found if value is not None)
    assert baseline([name], gold, classes=4) == pytest.approx({name: best})


def test_threshold_is_the_best_for_the_headline_and_of_equals_the_nearest_to_a_half() -> None:
    probabilities = np.array([[0.28, 0.1], [0.1, 0.32], [0.04, 0.22]])
    scores = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    gold = np.array([[1, 0], [0, 1], [0, 0]], np.int8)
    assert chosen_threshold(["f1_micro"], scores, gold) == 0.25
    assert chosen_threshold(["hamming_loss"], scores, gold) == 0.25
    certain = np.where(gold > 0, 9.0, -9.0).astype(np.float32)
    assert chosen_threshold(["f1_micro"], certain, gold) == 0.5
    assert chosen_threshold(["f1_micro"], -np.ones((2, 2), np.float32), np.zeros((2, 2), np.int8)) != 0.5


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, title", [("f1_macro", "macro F1"), ("stsb", "stsb"), ("own/metric.py", "own/metric.py")]
)
def test_title_is_ours_or_the_name_itself(name: str, title: str) -> None:
    assert title_of(name) == title


def test_titles_are_told_apart() -> None:
    titles = [title_of(name) for name in METRICS]
    assert len(set(titles)) == len(titles)


def test_errors_are_better_when_lower() -> None:
    assert {name for name, metric in METRICS.items() if metric.lower_is_better} == {
        "mse",
        "rmse",
        "mae",
        "hamming_loss",
    }
