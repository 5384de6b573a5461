"""Registered data sets in the schemas and file layouts that their documentation gives, on a few generated rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pytest

from harness.errors import UserError
from harness.facts.suites import load_suite
from harness.facts.tasks import all_tasks, load_task
from harness.rows.files import find_files
from harness.rows.loading import data_facts, load_splits, read_tables

NLI = ["entailment", "neutral", "contradiction"]
ROWS = 4


class Layout(NamedTuple):
    """A data set as it is on the Hub: columns of text, names of its classes, and the path of each split's file."""

    texts: list[str]
    labels: list[str] | None
    splits: dict[str, str]
    hidden: Collection[str] = ()
    """Splits without labels."""

    def write(self, folder: Path, config: str | None) -> None:
        """Writes the files, and the card that names them for configurations."""
        for split, name in self.splits.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            numbers = [-1 if split in self.hidden else row % len(self.labels or [0]) for row in range(ROWS)]
            columns = {text: [f"{text} {row}" for row in range(ROWS)] for text in self.texts}
            table = datasets.Dataset.from_dict({**columns, "label": numbers if self.labels else [0.5] * ROWS})
            if path.suffix == ".parquet":
                if self.labels:
                    table = table.cast_column("label", datasets.ClassLabel(names=self.labels))
                table.to_parquet(path)
            else:
                table.to_json(path)
        if config is not None:
            _write_card(folder, config, self.splits)


def _write_card(folder: Path, config: str, splits: dict[str, str]) -> None:
    """Writes the card that names the files of a configuration."""
    files = [{"split": split, "path": path} for split, path in splits.items()]
    card = json.dumps({"configs": [{"config_name": config, "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}\n---\n", encoding="utf-8")


def _parquet(config: str, *splits: str) -> dict[str, str]:
    return {split: f"{config}/{split}-00000-of-00001.parquet" for split in splits}


USUAL = ("train", "validation", "test")
PAIR, RTE = ["sentence1", "sentence2"], ["entailment", "not_entailment"]
TWEETS = {
    "emoji": [
        *"\u2764\u2600\u2728\u2b50\u26a1\u2614\u2615\u26c4\u270a\u270b\u26bd\u26be\u26f5\u26fa\u231a\u231b\u23e9\u23ea\u2705\u274c"
    ],
    "emotion": ["anger", "joy", "optimism", "sadness"],
    "hate": ["non-hate", "hate"],
    "irony": ["non_irony", "irony"],
    "offensive": ["non-offensive", "offensive"],
    "sentiment": ["negative", "neutral", "positive"],
}
"""The names of the classes in each configuration of tweet_eval; those of `emoji` are pictures."""
TRGLUE: dict[str, tuple[list[str], list[str] | None]] = {
    "cola": (["sentence"], ["unacceptable", "acceptable"]),
    "sst2": (["sentence"], ["negative", "positive"]),
    "mrpc": (PAIR, ["not_equivalent", "equivalent"]),
    "stsb": (PAIR, None),
    "qqp": (["question1", "question2"], ["not_duplicate", "duplicate"]),
    "mnli": (["premise", "hypothesis"], NLI),
    "qnli": (["question", "sentence"], RTE),
    "rte": (PAIR, RTE),
}


def _layout(name: str) -> Layout:
    """The layout of the data set of a task."""
    config = load_task(name).source.config or ""
    if name.startswith("anli"):
        splits = (f"{split}_r{number}" for split in ("train", "dev", "test") for number in (1, 2, 3))
        return Layout(["uid", "premise", "hypothesis", "reason"], NLI, _parquet("plain_text", *splits))
    if name.startswith("xnli"):
        return Layout(["premise", "hypothesis"], NLI, _parquet(config, *USUAL))
    if name.startswith("tweet"):
        return Layout(["text"], TWEETS.get(config, ["none", "against", "favor"]), _parquet(config, *USUAL))
    if name.startswith("trglue"):
        texts, labels = TRGLUE[config]
        matched = [f"{split}_{kind}" for split in USUAL[1:] for kind in ("matched", "mismatched")]
        splits = ["train", *matched] if config == "mnli" else USUAL
        hidden = {"test", "test_matched", "test_mismatched"}
        return Layout(texts, labels, {each: f"{config}/{each}--00000-of-00001.jsonl" for each in splits}, hidden=hidden)
    return LAYOUTS[name]


LAYOUTS = {
    "boolq": Layout(["question", "passage"], ["False", "True"], _parquet("boolq", *USUAL), hidden=("test",)),
    "cb": Layout(
        ["premise", "hypothesis"], ["entailment", "contradiction", "neutral"], _parquet("cb", *USUAL), hidden=("test",)
    ),
    "superglue_rte": Layout(["premise", "hypothesis"], RTE, _parquet("rte", *USUAL), hidden=("test",)),
    "axb": Layout(PAIR, RTE, _parquet("axb", "test")),
    "axg": Layout(["premise", "hypothesis"], RTE, _parquet("axg", "test")),
    "paws": Layout(PAIR, ["0", "1"], _parquet("labeled_final", *USUAL)),
    "hans": Layout(
        ["premise", "hypothesis", "heuristic"],
        ["entailment", "non-entailment"],
        {split: f"plain_text/{split}/0000.parquet" for split in ("train", "validation")},
    ),
}

Int, Text = datasets.Value("int32"), datasets.Value("string")
SHAPES: dict[str, tuple[dict[str, Any], dict[str, list[Any]]]] = {
    "copa": (
        {"premise": Text, "choice1": Text, "choice2": Text, "question": Text, "idx": Int}
        | {"label": datasets.ClassLabel(names=["choice1", "choice2"])},
        {"premise": ["It fell."] * 2, "choice1": ["a", "b"], "choice2": ["c", "d"], "question": ["cause", "effect"]}
        | {"idx": [0, 1], "label": [1, 0]},
    ),
    "multirc": (
        {"paragraph": Text, "question": Text, "answer": Text, "idx": {"paragraph": Int, "question": Int, "answer": Int}}
        | {"label": datasets.ClassLabel(names=["False", "True"])},
        {"paragraph": ["It fell."] * 2, "question": ["What?"] * 2, "answer": ["It.", "Not."], "label": [1, 0]}
        | {"idx": [{"paragraph": 0, "question": 0, "answer": row} for row in range(2)]},
    ),
    "record": (
        {"passage": Text, "query": Text, "entities": datasets.Sequence(Text)}
        | {"entity_spans": datasets.Sequence({"text": Text, "start": Int, "end": Int})}
        | {"answers": datasets.Sequence(Text), "idx": {"passage": Int, "query": Int}},
        {"passage": ["Ann met Bob."] * 2, "query": ["@placeholder met Bob", "Ann met @placeholder"]}
        | {"entities": [["Bob", "Ann"]] * 2, "answers": [["Ann"], ["Bob"]]}
        | {"entity_spans": [{"text": ["Ann", "Bob"], "start": [0, 8], "end": [3, 11]}] * 2}
        | {"idx": [{"passage": 0, "query": row} for row in range(2)]},
    ),
    "wic": (
        {"word": Text, "sentence1": Text, "sentence2": Text, "start1": Int, "start2": Int, "end1": Int, "end2": Int}
        | {"idx": Int, "label": datasets.ClassLabel(names=["False", "True"])},
        {"word": ["place"] * 2, "sentence1": ["Its place."] * 2, "sentence2": ["Places fit."] * 2}
        | {"start1": [4] * 2, "end1": [9] * 2, "start2": [0] * 2, "end2": [6] * 2, "idx": [0, 1], "label": [0, 1]},
    ),
    "wsc": (
        {"text": Text, "span1_index": Int, "span2_index": Int, "span1_text": Text, "span2_text": Text}
        | {"idx": Int, "label": datasets.ClassLabel(names=["False", "True"])},
        {"text": ["The cup broke when it fell."] * 2, "span1_index": [0, 0], "span1_text": ["The cup"] * 2}
        | {"span2_index": [4, 4], "span2_text": ["it"] * 2, "idx": [0, 1], "label": [1, 0]},
    ),
}
"""Features of a configuration as the loading script of super_glue declares them, and two rows."""

READ: dict[str, dict[str, Any]] = {
    "copa": {
        "text": [f"It fell. What was the {each} of this?" for each in ("cause", "effect")],
        "choices": [("a", "c"), ("b", "d")],
        "label": [1, 0],
    },
    "multirc": {"text": ["It fell."] * 2, "pair": ["What? It.", "What? Not."], "label": [1, 0], "row_groups": [0, 0]},
    "record": {
        "text": ["Ann met Bob."] * 4,
        "pair": ["Bob met Bob", "Ann met Bob", "Ann met Bob", "Ann met Ann"],
        "label": [0, 1, 1, 0],
        "row_groups": [0, 0, 1, 1],
    },
    "wic": {"text": ["Its * place *."] * 2, "pair": ["* Places * fit."] * 2, "label": [0, 1]},
    "wsc": {"text": ["* The cup * broke when # it # fell."] * 2, "label": [1, 0]},
}
"""The columns of a labelled split of these rows."""

ELSEWHERE = {"imdb", "ttc4900"}
"""Tasks whose splits are parts of large ones, and whose file has a checksum; test_loading.py has such ones."""


def _serve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None, str | None]]:
    """Data sets of the Hub are in this folder; returns the list of what is asked for."""
    load, requests = datasets.load_dataset_builder, []

    def from_folder(address: str, config: str | None, revision: str | None) -> datasets.DatasetBuilder:
        requests.append((address, config, revision))
        return load(str(folder), config)

    monkeypatch.setattr(datasets, "load_dataset_builder", from_folder)
    return requests


PLAIN = [
    task.name
    for task in all_tasks()
    if task.suite in ("superglue", "trglue", "more") and task.name not in ELSEWHERE | SHAPES.keys()
]


@pytest.mark.parametrize("name", PLAIN)
def test_data_set_of_the_hub_is_read_in_its_own_schema(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, layout = load_task(name), _layout(name)
    layout.write(tmp_path, task.source.config)
    requests = _serve(tmp_path, monkeypatch)
    tables = read_tables(task, None)
    splits = load_splits(task, tables, "standard", None)
    assert requests == [(f"hf://datasets/{task.source.hub}", task.source.config, task.source.revision)]
    assert list(splits) == list(task.splits)
    for split, rows in splits.items():
        assert rows.text == [f"{task.text[0]} {row}" for row in range(ROWS)]
        if split in task.predict:
            assert rows.label is None
        elif layout.labels:
            assert rows.label.tolist() == [row % len(layout.labels) for row in range(ROWS)]
    assert data_facts(task, tables, splits, is_test_mode=False).is_unpinned == task.source.is_unpinned


@pytest.mark.parametrize("name", SHAPES)
def test_task_of_another_shape_is_read_in_the_schema_of_its_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, (features, rows) = load_task(name), SHAPES[name]
    config = str(task.source.config)
    paths = _parquet(config, *USUAL)
    for split, path in paths.items():
        hidden: dict[str, Any] = {"answers": [[], []]} if "answers" in rows else {"label": [-1, -1]}
        table = datasets.Dataset.from_dict({**rows, **(hidden if split == "test" else {})}, datasets.Features(features))
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(tmp_path / path)
    _write_card(tmp_path, config, paths)
    _serve(tmp_path, monkeypatch)
    splits = load_splits(task, read_tables(task, None), "standard", None)
    for split in ("train", "validation"):
        read = {key: getattr(splits[split], key) for key in READ[name]}
        assert {key: value if isinstance(value, list) else value.tolist() for key, value in read.items()} == READ[name]
    assert splits["test"].label is None
    assert splits["test"].text == splits["train"].text
    assert list(splits["test"].ids) == ["idx"], "the numbers of the server"


BABYLM = {
    "boolq": ({"question": "is it", "passage": "it is"}, "is it", "it is"),
    "multirc": (
        {"paragraph": "It fell.", "question": "What?", "answer": "It."},
        "Question: What? Answer: It.",
        "It fell.",
    ),
    "rte": ({"sentence1": "a", "sentence2": "b"}, "a", "b"),
    "wsc": (
        {"text": "The cup broke when it fell.", "span1_text": "The cup", "span2_text": "it"},
        'Does "it" refer to "The cup" in this passage?',
        "The cup broke when it fell.",
    ),
    "mrpc": ({"sentence1": "a", "sentence2": "b"}, "a", "b"),
    "qqp": ({"question1": "a", "question2": "b"}, "a", "b"),
    "mnli": ({"premise": "a", "hypothesis": "b"}, "a", "b"),
}
"""A row of each file of the challenge, without its label, and the pair that its evaluation pipeline makes of it."""


@pytest.mark.parametrize("name", load_suite("babylm").tasks)
def test_file_of_babylm_is_read_as_its_pipeline_reads_it(
    name: str, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    task, short = load_task(name), name.removeprefix("babylm_")
    row, text, pair = BABYLM[short]
    for split in ("train", "valid"):
        columns = {**{key: [value] * 2 for key, value in row.items()}, "label": [0, 1], "idx": [0, 1]}
        write_rows(tmp_path / f"{short}.{split}.jsonl", columns)
    splits = load_splits(task, read_tables(task, find_files(task, tmp_path)), "standard", None)
    for each in splits.values():
        assert (each.text, each.pair) == ([text] * 2, [pair] * 2)
        assert each.label.tolist() == [0, 1]


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
    assert splits["validation"].label.tolist() == [0, 1, 1, 0]
    assert splits["train"].pair == ["it is"] * ROWS
