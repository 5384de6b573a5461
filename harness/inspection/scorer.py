"""A saved model on this process's device: the scores and the predictions of rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from harness.errors import UserError
from harness.inspection.prediction_output import PredictedRows, answers_from_scores, rows_from_scores
from harness.rows.splits import Split
from harness.saved_models import bundles

if TYPE_CHECKING:
    import numpy as np
    from accelerate import Accelerator
    from numpy.typing import NDArray
    from transformers import PreTrainedModel
    from transformers import PreTrainedTokenizerBase as Tokenizer


class Scorer(NamedTuple):
    """A saved model on this process's device."""

    bundle: bundles.Bundle
    accelerator: Accelerator
    model: PreTrainedModel
    tokenizer: Tokenizer
    device_batch_size: int

    def scores(self, rows: Split, first: int = 0) -> NDArray[np.float32]:
        """Returns logits or values, float32[N, C] in row order, on every process; all of them must call it together.

        `first` is the number of the first row, from 0, for messages.

        Raises:
            UserError: the model cannot read a token of the rows, a batch does not fit into memory, or a score is not
                finite.
        """
        from harness.engine.encoding import check_ends, encode
        from harness.engine.inference import NotFinite, infer
        from harness.engine.memory import explained_out_of_memory
        from harness.engine.models import check_tokens

        encoded = encode(rows, self.tokenizer, self.bundle.record.spec.recipe.max_length)
        check_tokens(str(self.bundle.folder), self.model, [encoded.tokens["input_ids"]])
        check_ends("rows to predict", encoded, self.tokenizer, self.model, first)
        try:
            with explained_out_of_memory(self.device_batch_size):
                return infer(self.accelerator, self.model, encoded, self.device_batch_size)
        except NotFinite as error:
            raise UserError(f"{self.bundle.folder}: {error}. Try --precision fp32.") from None

    def predict(self, rows: Split, first: int = 0) -> PredictedRows:
        """Predicts rows with the run's threshold, or the answer to each question where they are candidates.

        `first` is the number of the first row, or question; see `scores`.
        """
        task, threshold = self.bundle.task, self.bundle.record.threshold
        if rows.questions is None or rows.candidates is None:
            return rows_from_scores(task, self.scores(rows, first), first, threshold)
        return answers_from_scores(task, self.scores(rows), rows.questions, rows.candidates, first)


def open_model(
    folder: Path,
    precision: str = "auto",
    cpu: bool = False,
    device_batch_size: int = 32,
    trusts_code: bool = False,
) -> Scorer:
    """Loads a saved model for scoring; every process must call it.

    Raises:
        UserError: the folder has no saved model, its code is not trusted, or the device does not support the precision.
    """
    if device_batch_size < 1:
        raise UserError(f"--device-batch-size {device_batch_size}: expected at least 1 row.")
    bundle = bundles.read_bundle(folder)

    from harness.engine import deployment

    accelerator = deployment.start("fp32" if precision == "auto" else precision, cpu, None, Path())
    run = bundle.record.environment
    if precision == "auto" and run is not None and deployment.supports_precision(run.precision, accelerator.device):
        accelerator = deployment.start(run.precision, cpu, None, Path())
    model, tokenizer = bundles.load_model(bundle, trusts_code)
    model = accelerator.prepare_model(model, evaluation_mode=True)
    return Scorer(bundle, accelerator, model, tokenizer, device_batch_size)
