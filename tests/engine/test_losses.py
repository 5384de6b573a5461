"""The loss equals torch's own losses on average, and class weights give every class the same total weight."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from harness.engine.losses import balanced_weights, summed_loss

RNG = np.random.default_rng(0)


def test_cross_entropy_over_rows_equals_torchs():
    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    assert summed_loss(logits, labels).item() / 8 == pytest.approx(nn.CrossEntropyLoss()(logits, labels).item())


def test_regression_minimises_the_squared_error():
    logits, labels = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    assert summed_loss(logits, labels).item() == pytest.approx(1.0 + 4.0)


def test_loss_of_label_sets_equals_torchs_binary_cross_entropy_over_all_elements():
    logits, labels = torch.randn(8, 5), torch.from_numpy(RNG.integers(0, 2, (8, 5)).astype(np.int8))
    expected = nn.BCEWithLogitsLoss()(logits, labels.float()).item()
    assert summed_loss(logits, labels).item() / 8 == pytest.approx(expected)


def test_loss_of_bf16_logits_is_computed_in_float32():
    logits = torch.randn(8, 3).bfloat16()
    for labels, plain in (
        (torch.randint(0, 3, (8,)), nn.functional.cross_entropy),
        (torch.randint(0, 2, (8, 3), dtype=torch.int8), nn.functional.binary_cross_entropy_with_logits),
    ):
        target = labels if labels.ndim == 1 else labels.float()
        expected = plain(logits.float(), target, reduction="sum") / (1 if labels.ndim == 1 else 3)
        assert summed_loss(logits, labels).dtype == torch.float32
        assert summed_loss(logits, labels).item() == expected.item()


def test_balanced_weights_equal_scikit_learns():
    labels = RNG.choice(4, size=200, p=[0.7, 0.2, 0.06, 0.04])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    assert balanced_weights(labels).numpy() == pytest.approx(expected, rel=1e-6)
    sets = (RNG.random((200, 3)) < [0.5, 0.1, 0.02]).astype(np.int8)
    expected = np.stack([compute_class_weight("balanced", classes=np.arange(2), y=column) for column in sets.T], axis=1)
    assert balanced_weights(sets).numpy() == pytest.approx(expected, rel=1e-6)


def test_class_without_rows_has_weight_zero_and_does_not_change_the_others():
    assert balanced_weights(np.array([0, 0, 0, 2])).tolist() == pytest.approx([4 / 6, 0, 2])
    assert balanced_weights(np.array([[1, 0], [0, 0]], np.int8)).tolist() == [[1, 1], [1, 0]]


def test_row_weighs_one_on_average():
    labels = RNG.choice(3, size=100, p=[0.8, 0.15, 0.05])
    assert balanced_weights(labels)[labels].mean().item() == pytest.approx(1.0)


def test_weights_multiply_the_loss_of_a_row():
    logits, labels = torch.randn(30, 3), torch.from_numpy(RNG.integers(0, 3, 30))
    weights = balanced_weights(labels.numpy())
    expected = nn.functional.cross_entropy(logits, labels, weight=weights, reduction="sum").item()
    assert summed_loss(logits, labels, weights).item() == pytest.approx(expected)


def test_weights_of_label_sets_differ_for_on_and_off():
    logits, labels = torch.zeros(2, 2), torch.tensor([[1, 0], [0, 0]], dtype=torch.int8)
    weights = torch.tensor([[1.0, 10.0], [100.0, 1000.0]])
    assert summed_loss(logits, labels, weights).item() == pytest.approx(np.log(2) * (100 + 10 + 1 + 10) / 2)


def test_losses_of_batches_add_up_to_that_of_the_step_also_with_weights():
    logits, labels = torch.randn(13, 4), torch.from_numpy(RNG.integers(0, 4, 13))
    weights = balanced_weights(labels.numpy())
    parts = [summed_loss(logits[i : i + 4], labels[i : i + 4], weights) for i in range(0, 13, 4)]
    assert sum(parts).item() == pytest.approx(summed_loss(logits, labels, weights).item(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothed_loss_equals_torchs_and_that_of_the_smoothed_targets(smoothing):
    logits, labels = torch.randn(8, 3), torch.randint(0, 3, (8,))
    targets = (1 - smoothing) * nn.functional.one_hot(labels, 3) + smoothing / 3
    expected = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    assert summed_loss(logits, labels, label_smoothing=smoothing).item() / 8 == pytest.approx(expected.item())
    assert nn.functional.cross_entropy(logits, targets).item() == pytest.approx(expected.item())


def test_class_weights_multiply_the_smoothed_loss_of_a_row():
    logits, labels = torch.randn(30, 3), torch.from_numpy(RNG.integers(0, 3, 30))
    weights = balanced_weights(labels.numpy())
    losses = nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.2)
    expected = (losses * weights[labels]).sum().item()
    assert summed_loss(logits, labels, weights, 0.2).item() == pytest.approx(expected)
