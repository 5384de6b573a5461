"""The predictions for a split as a Parquet file: one line per row, in row order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.engine.inference import Scores
from harness.metrics.scoring import predictions_from_scores
from harness.system.atomic import atomic_path


def write_predictions(
    path: Path, scores: Scores, labels: Sequence[str] | None, gold: NDArray[Any] | None, threshold: float | None = None
) -> None:
    """Writes columns row, prediction, label (where known) and scores, as a whole file or none.

    Predictions and labels are names for classes, numbers for a regression, and lists of names for a multi-label task,
    which has a threshold.
    """
    predicted = predictions_from_scores(scores.values, threshold)

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
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
