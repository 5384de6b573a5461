"""Pictures of an evaluation: every format, any label, the same bytes whatever the reader's own settings are."""

from __future__ import annotations

import re

import matplotlib
import numpy as np
import pytest

from harness.inspection import evaluation_plots as plots
from harness.inspection.pictures import FORMATS

COUNTS = np.array([[5, 1, 0], [2, 3, 0], [0, 0, 0]])


def test_every_count_and_label_stands_in_the_matrix() -> None:
    drawn = plots.confusion_matrix(["a$b$", "ışık & <b>", "never"], COUNTS, "A task with $signs$, test")
    shown = set(re.findall(r">([^<>]+)</text>", drawn["svg"].decode()))
    assert {"a$b$", "ışık &amp; &lt;b&gt;", "never", "A task with $signs$, test"} <= shown
    assert {"5", "1", "2", "3", "0"} <= shown
    assert drawn["png"].startswith(b"\x89PNG")


def test_matrix_of_many_classes_has_no_numbers() -> None:
    labels = [f"class {number}" for number in range(30)]
    text = plots.confusion_matrix(labels, np.eye(30, dtype=np.int64), "Many")["svg"].decode()
    assert set(labels) <= set(re.findall(r">([^<>]+)</text>", text))
    assert not re.findall(r">1</text>", text)


@pytest.mark.parametrize("rows", [1, 2, 500])
def test_values_are_drawn_however_few_they_are(rows: int) -> None:
    gold = np.linspace(0, 5, rows)
    for drawn in (plots.scatter(gold, gold + 0.5, "Values"), plots.histogram(np.full(rows, 0.5), "Errors")):
        assert set(drawn) == set(FORMATS)
        assert all(drawn.values())


def test_own_settings_change_no_byte() -> None:
    first = plots.confusion_matrix(["a", "b", "c"], COUNTS, "Title")
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "red"}):
        assert plots.confusion_matrix(["a", "b", "c"], COUNTS, "Title") == first
