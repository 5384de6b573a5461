"""Registered data sets in the schemas and file layouts that their documentation gives, on a few generated rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from harness.errors import UserError
from harness.facts.tasks import load_task
from harness.rows.files import find_files
from harness.rows.loading import data_facts, load_splits, read_tables

NLI = ["entailment", "neutral", "contradiction"]
ROWS = 4


class Layout:
    """A data set as it is on the Hub: columns of text, names of its classes, and the path of each split's file."""

    def __init__(self, texts: list[str], labels: list[str] | None, splits: dict[str, str], **others: Any) -> None:
        self.texts, self.labels, self.splits, self.others = texts, labels, splits, others

    def write(self, folder: Path, config: str | None) -> None:
        """Writes the files, and the card that names them for configurations."""
        for split, name in self.splits.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            is_hidden = split in self.others.get("hidden", ())
            numbers = [-1 if is_hidden else row % len(self.labels or [0]) for row in range(ROWS)]
            columns = {text: [f"{text} {row}" for row in range(ROWS)] for text in self.texts}
            table = datasets.Dataset.from_dict({**columns, "label": numbers if self.labels else [0.5] * ROWS})
            if path.suffix == ".parquet":
                if self.labels:
                    table = table.cast_column("label", datasets.ClassLabel(names=self.labels))
                table.to_parquet(path)
            else:
                table.to_json(path)
        if config is not None:
            files = [{"split": split, "path": name} for split, name in self.splits.items()]
            card = json.dumps({"configs": [{"config_name": config, "data_files": files}]})
            (folder / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")


def _parquet(config: str, *splits: str) -> dict[str, str]:
    return {split: f"{config}/{split}-00000-of-00001.parquet" for split in splits}


USUAL = ("train", "validation", "test")
LAYOUTS = {
    "boolq": Layout(["question", "passage"], ["False", "True"], _parquet("boolq", *USUAL), hidden=("test",)),
    "cb": Layout(
        ["premise", "hypothesis"], ["entailment", "contradiction", "neutral"], _parquet("cb", *USUAL), hidden=("test",)
    ),
    "axb": Layout(["sentence1", "sentence2"], ["entailment", "not_entailment"], _parquet("axb", "test")),
    "axg": Layout(["premise", "hypothesis"], ["entailment", "not_entailment"], _parquet("axg", "test")),
    "anli_r2": Layout(
        ["uid", "premise", "hypothesis", "reason"],
        NLI,
        _parquet("plain_text", *(f"{split}_r{number}" for split in ("train", "dev", "test") for number in (1, 2, 3))),
    ),
    "paws": Layout(["sentence1", "sentence2"], ["0", "1"], _parquet("labeled_final", *USUAL)),
    "hans": Layout(
        ["premise", "hypothesis", "heuristic"],
        ["entailment", "non-entailment"],
        {split: f"plain_text/{split}/0000.parquet" for split in ("train", "validation")},
    ),
    "xnli_tr": Layout(["premise", "hypothesis"], NLI, _parquet("tr", *USUAL)),
    "tweet_sentiment": Layout(["text"], ["negative", "neutral", "positive"], _parquet("sentiment", *USUAL)),
    "trglue_rte": Layout(
        ["sentence1", "sentence2"],
        ["entailment", "not_entailment"],
        {split: f"rte/{split}--00000-of-00001.jsonl" for split in USUAL},
    ),
    "trglue_stsb": Layout(
        ["sentence1", "sentence2"], None, {split: f"stsb/{split}--00000-of-00001.jsonl" for split in USUAL}
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_data_set_of_the_hub_is_read_in_its_own_schema(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, layout = load_task(name), LAYOUTS[name]
    layout.write(tmp_path, task.source.config)
    load, requests = datasets.load_dataset_builder, []

    def from_folder(address: str, config: str | None, revision: str | None) -> datasets.DatasetBuilder:
        requests.append((address, config, revision))
        return load(str(tmp_path), config)

    monkeypatch.setattr(datasets, "load_dataset_builder", from_folder)
    tables = read_tables(task, None)
    splits = load_splits(task, tables, "standard", None)
    assert requests == [(f"hf://datasets/{task.source.hub}", task.source.config, task.source.revision)]
    assert list(splits) == list(task.splits)
    for split, rows in splits.items():
        assert rows.text == [f"{task.text[0]} {row}" for row in range(ROWS)]
        if split in task.predict:
            assert rows.label is None
        elif layout.labels:
            assert rows.label is not None
            assert rows.label.tolist() == [row % len(layout.labels) for row in range(ROWS)]
    assert data_facts(task, tables, splits, is_test_mode=False).is_unpinned == task.source.is_unpinned


def test_files_of_babylm_are_read_from_the_folder_of_the_challenge(
    tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    rows = {"question": ["is it"] * ROWS, "passage": ["it is"] * ROWS, "label": [0, 1, 1, 0], "idx": [0, 1, 2, 3]}
    for split in ("train", "valid"):
        write_rows(tmp_path / f"boolq.{split}.jsonl", rows)
    task = load_task("babylm_boolq")
    with pytest.raises(UserError, match=r"babylm_boolq: .*boolq\.train\.jsonl"):
        find_files(task, None)
    splits = load_splits(task, read_tables(task, find_files(task, tmp_path)), "standard", None)
    assert splits["validation"].label is not None
    assert splits["validation"].label.tolist() == [0, 1, 1, 0]
    assert splits["train"].pair == ["it is"] * ROWS
