"""Inference: every row once, in row order, in float32."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from harness.engine.inference import NotFinite, infer
from harness.engine.tiny_example import generated, tiny_model

SIZES = (1, 7, 16, 17, 31, 32, 33, 100)
"""Numbers of rows: less than a step, whole steps and partial ones."""


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("device_batch_size", [1, 5, 64])
def test_every_row_is_scored_once_in_row_order(rows, device_batch_size):
    model, encoded = tiny_model().eval(), generated(rows)
    scores = infer(Accelerator(cpu=True), model, encoded, device_batch_size)
    assert scores.shape == (rows, 3)
    with torch.inference_mode():
        for row in range(0, rows, 7):
            flat = encoded.tokens["input_ids"][encoded.offsets[row] : encoded.offsets[row + 1]]
            expected = model(input_ids=torch.tensor(flat[None].astype(np.int64))).logits.numpy()
            assert np.allclose(scores[row], expected, atol=1e-6)


def test_bf16_logits_are_scored_in_float32():
    scores = infer(Accelerator(cpu=True), tiny_model().bfloat16(), generated(5), 2)
    assert scores.dtype == np.float32


def test_dropout_is_off_and_the_mode_is_restored():
    model = tiny_model(dropout=0.9).train()
    first = infer(Accelerator(cpu=True), model, generated(9), 4)
    second = infer(Accelerator(cpu=True), model, generated(9), 4)
    assert np.array_equal(first, second)
    assert model.training


def test_score_that_is_not_finite_is_an_error():
    model = tiny_model()
    with torch.no_grad():
        model.classifier.bias[0] = float("nan")
    with pytest.raises(NotFinite, match="4 of 4 rows"):
        infer(Accelerator(cpu=True), model, generated(4), 2)
