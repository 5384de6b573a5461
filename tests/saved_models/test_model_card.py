"""The README of a saved model: metadata for the Hub, scores next to a baseline, none from generated rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard
from scipy import stats
from support.records import finished_record

from harness.facts.outcome import task_facts
from harness.facts.packing import pack_array
from harness.facts.record_parts import DataFacts, HistoryEntry
from harness.facts.records import RunRecord
from harness.facts.tasks import TaskSpec, load_task, read_task
from harness.saved_models import bundles
from harness.saved_models.model_card import model_card

FACTS: dict[str, Any] = dict(
    source="nyu-mll/glue/rte",
    revision=None,
    fingerprint="0",
    rows={"train": 2490, "validation": 277},
    full_rows={},
    is_partial=False,
    missing_splits=[],
    shared_texts={"train & validation": 3},
)


@pytest.fixture
def card_with(make_bundle: Callable[..., Path]) -> Callable[..., ModelCard]:
    """Returns the card of an rte model with changes to its record."""
    rte: TaskSpec = load_task("rte")

    def card(**changes: Any) -> ModelCard:
        test_mode = changes.pop("test_mode", False)
        task = rte.model_copy(update={name: changes.pop(name) for name in ("title", "labels") if name in changes})
        record: RunRecord = bundles.read_bundle(make_bundle(task, test_mode=test_mode)).record
        values = {"loss": 0.6, "accuracy": 0.65625, "f1": None}
        facts: dict[str, Any] = dict(
            metrics={"validation": values}, baseline={"validation": {"accuracy": 0.527}}, data=DataFacts(**FACTS)
        )
        return ModelCard(model_card(task, record.model_copy(update={**facts, **changes})))

    return card


def test_metadata_has_base_model_data_set_and_scores(card_with: Callable[..., ModelCard]) -> None:
    card = card_with()
    facts = card.data.to_dict()
    assert facts["base_model"] == "example/bert"
    assert facts["datasets"] == ["nyu-mll/glue"]
    assert facts["pipeline_tag"] == "text-classification"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.65625)
    assert (result.dataset_type, result.dataset_config, result.dataset_split) == ("nyu-mll/glue", "rte", "validation")


def test_every_score_has_its_baseline(card_with: Callable[..., ModelCard]) -> None:
    text = card_with().text
    assert "| validation | 277 | accuracy | 0.6562 | – | 0.5270 |" in text
    assert "| validation | 277 | F1 | – | – | – |" in text, "undefined"


def test_scores_have_intervals_when_the_record_has_the_predictions(card_with: Callable[..., ModelCard]) -> None:
    gold = np.arange(100) % 2
    predictions = np.where(np.arange(100) < 80, gold, 1 - gold)
    packed, other = pack_array(predictions), pack_array(gold)  # another split comes first, predicted without an error
    arrays = dict(predictions={"test": other, "validation": packed}, gold={"test": other, "validation": other})
    text = card_with(metrics={"validation": {"loss": 0.5, "accuracy": 0.8, "f1": 0.8}}, **arrays).text
    low, high = map(float, re.findall(r"accuracy \| 0\.8000 \| ([\d.]+) to ([\d.]+) \| 0\.5270 ", text)[0])
    assert (low, high) == pytest.approx(tuple(stats.beta(80.5, 20.5).ppf([0.025, 0.975])), abs=0.01)
    low, high = map(float, re.findall(r"F1 \| 0\.8000 \| ([\d.]+) to ([\d.]+) ", text)[0])
    assert 0.65 < low < 0.75 < 0.85 < high < 0.92
    assert "| loss | 0.5000 | – |" in text


def test_learning_curve_is_a_table_and_a_plot_for_more_than_one_evaluation(card_with: Callable[..., ModelCard]) -> None:
    entry = dict(learning_rate=1e-5, seconds=1.0, metrics={"loss": 0.5, "accuracy": 0.75})
    history = [HistoryEntry(epoch=number / 4, step=number, train_loss=0.25, **entry) for number in (1, 2)]
    text = card_with(history=history, selected_epoch=0.25).text
    assert "![Loss and main metrics by epoch](learning-curve.svg)" in text
    assert "| **0.25** | **1** | **0.2500** | **0.5000** | **0.7500** |\n| 0.5 | 2 |" in text
    assert "| epoch of these weights | 0.25 |" in text
    assert "learning-curve.svg" not in card_with(history=history[:1], selected_epoch=0.25).text


def test_use_depends_on_the_problem_type() -> None:
    record, rte = finished_record("rte").model_copy(update={"threshold": 0.35}), load_task("rte")
    topics = rte.model_copy(update={"problem_type": "multi_label_classification"})
    cards = [model_card(task, record) for task in (load_task("stsb"), topics, rte)]
    assert ['function_to_apply="none"' in card for card in cards] == [True, False, False]
    assert ["top_k=None" in card for card in cards] == [False, True, False]
    assert "at least 0.35," in cards[1]


def test_use_of_an_adapter_names_its_folder_and_base_model() -> None:
    records = [finished_record("rte", recipe={"adapter": adapter}) for adapter in ("lora", "bitfit", None)]
    texts = [model_card(load_task("rte"), record) for record in records]
    assert ['subfolder="adapter"' in text for text in texts] == [True, False, False]
    assert 'from_pretrained("example/bert", num_labels=2, revision="c0ffee")' in texts[0]


def test_text_of_several_columns_is_explained(make_task: Callable[..., Path]) -> None:
    joined = {"text": "whole", "join": {"whole": ["text", "label"]}}
    for keys, is_explained in ((joined, True), ({}, False)):
        card = model_card(read_task(make_task(**keys)), finished_record("rte"))
        assert bool(re.search("`text`, `label`.*`task.yaml`", card)) == is_explained


def test_scores_of_generated_rows_are_not_in_the_metadata(card_with: Callable[..., ModelCard]) -> None:
    card = card_with(test_mode=True)
    assert card.data.eval_results is None
    assert "test mode" in card.text


def test_partial_data_is_a_warning(card_with: Callable[..., ModelCard]) -> None:
    card = card_with(data=DataFacts(**{**FACTS, "is_partial": True}))
    assert "partial data" in str(card.data.eval_results[0].metric_name)
    assert re.search("^> .*partial data", card.text, re.MULTILINE)


def test_a_run_of_steps_has_no_number_of_epochs() -> None:
    rte = load_task("rte")
    assert "| epochs | 3 |" in model_card(rte, finished_record("rte"))
    text = model_card(rte, finished_record("rte", recipe={"max_steps": 70}))
    assert "| max steps | 70 |" in text
    assert "| epochs |" not in text


@pytest.mark.parametrize(
    "changes, warning",
    [
        ({"train_rows": 100}, "reduced number of rows"),
        ({"select": "best"}, "selected on the split that is reported"),
        ({"protocol": "tuned_on_reported"}, "selected on the reported split"),
        ({"protocol": "holdout"}, "holdout"),
    ],
)
def test_limits_of_the_recipe_are_warnings(changes: dict[str, Any], warning: str) -> None:
    rte = load_task("rte")
    assert re.search(f"(?im)^> .*{warning}", model_card(rte, finished_record("rte", recipe=changes)))
    assert not re.search(f"(?im)^> .*{warning}", model_card(rte, finished_record("rte")))


def test_unpinned_data_are_a_warning(card_with: Callable[..., ModelCard]) -> None:
    card = card_with(data=DataFacts(**{**FACTS, "revision": "c0ffee", "is_unpinned": True}))
    assert re.search("^> .*not pinned.*c0ffee", card.text, re.MULTILINE)


def test_collection_without_an_average_is_no_tag(card_with: Callable[..., ModelCard]) -> None:
    assert card_with().data.tags == ["glue-harness", "glue"]
    imdb = load_task("imdb")
    record = finished_record("imdb", facts=task_facts(imdb).model_dump())
    assert ModelCard(model_card(imdb, record)).data.tags == ["glue-harness"]


def test_collapse_is_a_warning(card_with: Callable[..., ModelCard]) -> None:
    assert "collapsed:" in card_with(status="collapsed").text
    assert "collapsed:" not in card_with().text


def test_rows_that_splits_share_are_a_warning(card_with: Callable[..., ModelCard]) -> None:
    assert re.search("^> 3 .*validation.*train", card_with().text, re.MULTILINE)


def test_command_starts_with_harness_run(card_with: Callable[..., ModelCard]) -> None:
    assert (
        "```bash\nharness run --task rte --seed 3\n```" in card_with(command="harness/run.py --task rte --seed 3").text
    )


def test_texts_of_users_are_no_markup(card_with: Callable[..., ModelCard]) -> None:
    """Neither Markdown nor HTML, nor the end of a code block, nor a line of its own."""
    evil = "x\n# H\n<img src=y onerror=z>[l](javascript:a) `b` | c"
    text = card_with(
        title=evil, labels={evil: 0, "good": 1}, command="harness run --name '\n```\n# H\n````\n'", notes=[evil]
    ).text
    outside = re.sub(r"(`{3,}).*?\n\1\n|`[^`\n]*`", "", text, flags=re.DOTALL)
    assert not re.search(r"^ *# H", outside, re.MULTILINE)
    assert not re.search(r"(?<!\\)[<\[|]", re.sub(r"^\|.*\|$", "", outside, flags=re.MULTILINE))
    assert "`````bash" in text
