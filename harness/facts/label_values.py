"""The labels of a task file with their values in the source."""

from __future__ import annotations

from typing import Any


def number_labels(labels: Any) -> Any:
    """Labels with their values in the source: a list numbers its names from 0, as the Hub does; a number is its own
    value."""
    if isinstance(labels, list):
        if others := [name for name in labels if type(name) not in (str, int)]:
            raise ValueError(f"{others[0]!r} is not a text; put quotes around a label such as 'true' or '1.5'")
        if len(set(map(str, labels))) != len(labels):
            raise ValueError("duplicate label")
        labels = {str(name): name if isinstance(name, int) else number for number, name in enumerate(labels)}
    if not isinstance(labels, dict):
        return labels
    if len(labels) < 2:
        raise ValueError("a classification needs two labels or more; remove 'labels' for a regression")
    for name, value in labels.items():
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is not a text; write the name before its value, as in 'negative: 0'")
        if not isinstance(value, (str, int)):
            raise ValueError(f"the value of {name!r} is {value!r}: expected a text or a whole number")
    values = [str(value) for value in labels.values()]
    if len(set(values)) != len(values):
        raise ValueError("duplicate value: two labels have the same one")
    for name, value in zip(labels, values, strict=True):
        if value in labels and value != name:
            raise ValueError(f"{labels[name]!r} is the value of {name!r} and the name of another label")
    return labels
