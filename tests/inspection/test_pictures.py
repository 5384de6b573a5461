"""Pictures of an evaluation: every format, any label, the same bytes whatever the reader's own settings are."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest

from harness.inspection.pictures import (
    FORMATS,
    confusion_matrix,
    error_histogram,
    label_bars,
    scatter,
    stacked_label_bars,
    value_histograms,
)

COUNTS = np.array([[5, 1, 0], [2, 3, 0], [0, 0, 0]])


def texts_in(picture: dict[str, bytes]) -> set[str]:
    return set(re.findall(r">([^<>]+)</text>", picture["svg"].decode()))


def test_matrix_has_every_count_and_label() -> None:
    picture = confusion_matrix(["a$b$", "ışık & <b>", "never"], COUNTS, "A task with $signs$, test")
    texts = texts_in(picture)
    assert {"a$b$", "ışık &amp; &lt;b&gt;", "never", "A task with $signs$, test"} <= texts
    assert {"5", "1", "2", "3", "0"} <= texts
    assert picture["png"].startswith(b"\x89PNG")


def test_matrix_of_many_classes_has_no_numbers() -> None:
    labels = [f"class {number}" for number in range(30)]
    texts = texts_in(confusion_matrix(labels, np.eye(30, dtype=np.int64), "Many"))
    assert set(labels) <= texts
    assert "1" not in texts


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_any_number_of_values_is_drawn(rows: int) -> None:
    gold = np.linspace(0, 5, rows)
    for picture in (
        scatter(gold, gold + 0.5, "Values"),
        error_histogram(np.full(rows, 0.5), "Errors"),
    ):
        assert set(picture) == set(FORMATS)
        assert all(picture.values())


def test_bars_have_every_label_and_outcome() -> None:
    rows = {"correct": np.array([3, 0]), "missed": np.array([1, 0]), "added": np.array([0, 2])}
    assert {"x", "$y$", "correct", "missed", "added"} <= texts_in(stacked_label_bars(["x", "$y$"], rows, "Bars"))


def test_own_settings_change_no_byte() -> None:
    first = confusion_matrix(["a", "b", "c"], COUNTS, "Title")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert confusion_matrix(["a", "b", "c"], COUNTS, "Title") == first


def test_split_with_dollars_is_no_formula() -> None:
    """A formula of matplotlib that cannot be parsed is an error."""
    split = "a$^$b"
    bars = label_bars({split: {"x": 1, "y": 2}}, {split: 3}, "Bars")
    histogram = value_histograms({split: np.arange(5.0)}, "Values")
    assert f"{split} (3 rows)" in texts_in(bars)
    assert f"{split} (5 rows)" in texts_in(histogram)
