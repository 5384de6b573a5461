"""The README of a model: metadata for the Hub, scores beside the constant answer, none of generated rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from harness.facts.packing import pack_array
from harness.facts.records import DataFacts, RunRecord
from harness.facts.tasks import TaskSpec, load_task
from harness.saved_models import bundles
from harness.saved_models.model_card import model_card

FACTS: dict[str, Any] = dict(
    source="nyu-mll/glue/rte",
    revision=None,
    fingerprint="0",
    rows={"train": 2490, "validation": 277},
    full_rows={},
    is_partial=False,
    missing=[],
    shared_texts={"train & validation": 3},
)


@pytest.fixture
def of(make_bundle: Callable[..., Path]) -> Callable[..., ModelCard]:
    """The card of an rte model, with changes to its record."""
    task: TaskSpec = load_task("rte")

    def card(**changes: Any) -> ModelCard:
        test_mode = changes.pop("test_mode", False)
        record: RunRecord = bundles.read(make_bundle(task, test_mode=test_mode)).record
        values = {"loss": 0.6, "accuracy": 0.65625, "f1": None}
        facts: dict[str, Any] = dict(
            metrics={"validation": values}, baseline={"validation": {"accuracy": 0.527}}, data=DataFacts(**FACTS)
        )
        return ModelCard(model_card(task, record.model_copy(update={**facts, **changes})))

    return card


def test_hub_can_read_what_it_is_and_what_it_scored(of: Callable[..., ModelCard]) -> None:
    card = of()
    facts = card.data.to_dict()
    assert facts["base_model"] == "example/bert"
    assert facts["datasets"] == ["nyu-mll/glue"]
    assert facts["pipeline_tag"] == "text-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.65625)
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "rte", "validation")


def test_every_score_stands_beside_that_of_a_constant_answer(of: Callable[..., ModelCard]) -> None:
    text = of().text
    assert "| validation | 277 | accuracy | 0.6562 | – | 0.5270 |" in text
    assert "| validation | 277 | F1 | – | – | – |" in text, "undefined is no number"
    assert "harness run --task rte" in text


def test_scores_have_intervals_where_the_record_keeps_the_answers(of: Callable[..., ModelCard]) -> None:
    gold = np.arange(100) % 2
    answers = np.where(np.arange(100) < 80, gold, 1 - gold)
    kept = dict(answers={"validation": pack_array(answers)}, gold={"validation": pack_array(gold)})
    text = of(metrics={"validation": {"loss": 0.5, "accuracy": 0.8, "f1": 0.8}}, **kept).text
    assert "| accuracy | 0.8000 | 0.7112 to 0.8666 | 0.5270 |" in text, "as Wilson's formula gives for 80 of 100"
    low, high = map(float, re.findall(r"F1 \| 0\.8000 \| ([\d.]+) to ([\d.]+) ", text)[0])
    assert 0.65 < low < 0.75 < 0.85 < high < 0.92
    assert "| loss | 0.5000 | – |" in text


def test_scores_of_generated_rows_are_not_given_to_the_hub(of: Callable[..., ModelCard]) -> None:
    card = of(test_mode=True)
    assert card.data.eval_results is None
    assert "> A run in test mode" in card.text


def test_scores_on_partial_data_say_so(of: Callable[..., ModelCard]) -> None:
    card = of(data=DataFacts(**{**FACTS, "is_partial": True}))
    assert "partial data" in str(card.data.eval_results[0].metric_name)
    assert "> It was trained or scored on partial data" in card.text


def test_collapse_is_told(of: Callable[..., ModelCard]) -> None:
    assert "The run collapsed" in of(status="collapsed").text
    assert "The run collapsed" not in of().text


def test_rows_that_splits_share_are_told(of: Callable[..., ModelCard]) -> None:
    assert "> 3 rows of validation have a text of train.\n" in of().text


def test_command_is_one_that_can_be_typed(of: Callable[..., ModelCard]) -> None:
    assert "```bash\nharness run --task rte --seed 3\n```" in of(command="harness/run.py --task rte --seed 3").text
