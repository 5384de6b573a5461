"""Agreement of an answer with the right ones, and metrics of the answer that is selected for each question.

Answers are compared as SQuAD and ReCoRD compare them (Rajpurkar et al. 2016, Zhang et al. 2018): in lower case, without
punctuation, without the articles a, an and the, and with single spaces.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.metric import Floats, metric_over_groups

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=1 << 16)  # right answers and the candidates of a passage are compared many times
def normalize_answer(text: str) -> str:
    """The form in which answers are compared."""
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", text.lower().translate(_PUNCTUATION)).split())


def agreement(answer: str, right_answers: Sequence[str]) -> float:
    """1 for an answer that equals a right one; otherwise its highest F1 of tokens with one of them, below 1."""
    normalized, right = normalize_answer(answer), [normalize_answer(each) for each in right_answers]
    if normalized in right:
        return 1.0
    below_one = math.nextafter(1.0, 0.0)  # the same tokens in another order are no exact match
    return min(below_one, max((_token_f1(normalized.split(), each.split()) for each in right), default=0.0))


def _token_f1(predicted: Sequence[str], right: Sequence[str]) -> float:
    if set(predicted).isdisjoint(right):
        return 0.0
    shared = (Counter(predicted) & Counter(right)).total()
    return 2 * shared / (len(predicted) + len(right))


def select_rows(scores: NDArray[Any], row_groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """scores: [N] -> 1 for the row with the highest score of each group, the first of equals, and 0 for others."""
    order = np.lexsort((-scores, row_groups))  # stable
    is_first = np.append(True, np.diff(row_groups[order]) != 0)
    selected = np.zeros(len(scores), np.int64)
    selected[order[is_first]] = 1
    return selected


def positions_in_groups(row_groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of each row within its group, from 0 in row order, [N]."""
    order = np.argsort(row_groups, kind="stable")
    is_first = np.append(True, np.diff(row_groups[order]) != 0)
    starts = np.flatnonzero(is_first)
    positions = np.empty(len(row_groups), np.int64)
    positions[order] = np.arange(len(row_groups)) - starts[np.cumsum(is_first) - 1]
    return positions


def _agreement_of_selected(predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64]) -> Floats:
    """[G]: the agreement of each group's selected row, 0 where there is none; groups in the order of their numbers."""
    _, numbers = np.unique(row_groups, return_inverse=True)
    return np.asarray(np.bincount(numbers, weights=np.where(predictions > 0, gold, 0.0)))


def _exact_match_of_selected(
    predictions: NDArray[Any], gold: NDArray[Any], row_groups: NDArray[np.int64]
) -> NDArray[np.bool_]:
    return np.asarray(_agreement_of_selected(predictions, gold, row_groups) == 1)


ANSWER_F1 = metric_over_groups("answer F1", "answer_selection", _agreement_of_selected)
"""The mean over questions of the selected answer's highest F1 of tokens with a right one: ReCoRD's F1."""

ANSWER_EXACT_MATCH = metric_over_groups("answer exact match", "answer_selection", _exact_match_of_selected)
"""The share of questions whose selected answer equals a right one: ReCoRD's EM."""
