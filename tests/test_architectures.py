"""Architectures of each kind train, are evaluated, saved and loaded, and then predict the same as before."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.architectures import CATALOGUE, HEADER, check
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

TABLE = (Path(__file__).resolve().parents[1] / "docs/architectures.md").read_text(encoding="utf-8")

REPRESENTATIVES = """
    bert deberta-v2 distilbert flaubert fnet funnel modernbert roberta xlnet bart t5
    bloom falcon gpt2 jamba llama mixtral opt qwen2
""".split()
"""Model types of each kind; `make architectures` tries all."""


@pytest.mark.parametrize("model_type", REPRESENTATIVES)
def test_tiny_model_predicts_the_same_after_it_was_saved(model_type: str, tmp_path: Path) -> None:
    outcome = check(model_type, tmp_path)
    assert outcome.fault == ""
    assert outcome.row in TABLE.splitlines(), "the line of docs/architectures.md is stale: run `make architectures`"


def test_documented_table_has_every_model_type_of_the_catalogue_once() -> None:
    assert HEADER in TABLE
    rows = [line.split("`")[1] for line in TABLE.splitlines() if line.startswith("| `")]
    assert rows == list(CATALOGUE)
    assert len(rows) >= 40
    assert set(rows) <= MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.keys()
