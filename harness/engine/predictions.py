"""A split's predictions as a Parquet file: one line a row, in row order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.engine.inference import Scores
from harness.facts.metrics import predictions_of


def write_predictions(
    path: Path,
    scores: Scores,
    labels: Sequence[str] | None,
    gold: NDArray[Any] | None,
    threshold: float | None = None,
) -> None:
    """Columns row, prediction, label (where known) and scores; label names for classes, numbers for a regression.

    With the threshold of a multi-label task, prediction and label are lists of names.

    The whole file or nothing: written beside `path`, then renamed.
    """
    predicted = predictions_of(scores.values, threshold)

    def named(values: NDArray[Any]) -> list[Any]:
        if labels is None:
            return list(values.tolist())
        if threshold is not None:
            return [[labels[int(number)] for number in np.flatnonzero(row)] for row in values]
        return [labels[number] for number in values]

    lists = None if threshold is None else pa.list_(pa.string())
    columns: dict[str, Any] = {"row": scores.rows, "prediction": pa.array(named(predicted), lists)}
    if gold is not None:
        columns["label"] = pa.array(named(gold), lists)
    columns["scores"] = pa.FixedSizeListArray.from_arrays(pa.array(scores.values.ravel()), scores.values.shape[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        pq.write_table(pa.table(columns), scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
