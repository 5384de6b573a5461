"""The predictions for a split as a Parquet file: one line per row, in row order."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.engine.inference import Scores
from harness.facts.prediction_files import TEXTS
from harness.metrics.scoring import predictions_from_scores
from harness.rows.loading import texts_fingerprint
from harness.rows.splits import Split
from harness.system.atomic import atomic_path


def write_predictions(
    path: Path, scores: Scores, labels: Iterable[str] | None, split: Split, threshold: float | None = None
) -> None:
    """Writes columns row, prediction, label (where known), scores and those that identify a row; a file or none.

    Predictions and labels are names for classes, numbers for a regression, and lists of names for a multi-label task,
    which has a threshold. In a selection of answers, the columns question and candidate follow. The file's metadata has
    the fingerprint of the texts.
    """
    predicted = predictions_from_scores(scores, threshold, split.questions)
    gold, names = split.label, list(labels or ())

    def named(values: NDArray[Any]) -> list[Any]:
        if not names:
            return list(values.tolist())
        if threshold is not None:
            return [[names[int(number)] for number in np.flatnonzero(row)] for row in values]
        return [names[number] for number in values]

    lists = None if threshold is None else pa.list_(pa.string())
    columns: dict[str, Any] = {"row": np.arange(len(scores)), "prediction": pa.array(named(predicted), lists)}
    if gold is not None:
        columns["label"] = pa.array(named(gold), lists)
    columns["scores"] = pa.FixedSizeListArray.from_arrays(pa.array(scores.ravel()), scores.shape[1])
    if split.questions is not None:
        columns |= {"question": split.questions, "candidate": split.candidates}
    columns |= {f"id_{column}": pa.array(values) for column, values in split.ids.items()}
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns, metadata={TEXTS: texts_fingerprint(split)}), temporary)
