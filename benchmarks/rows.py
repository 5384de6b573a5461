"""The rows that every variant trains on: a task's own, tokenised once, drawn anew for each round."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase as Tokenizer

from harness.data import Split, load_splits, read_tables
from harness.recipes import Recipe
from harness.tasks import TaskSpec, load_task

LARGEST_TASK = 10_000
"""Rows taken of a larger task, as `--train-rows` would: reading more would change no figure but the time it takes."""

VALIDATION_ROWS = 8
"""The harness looks at a validation split after each epoch, outside the time that is measured: few rows are enough."""


class TaskRows(NamedTuple):
    """The training rows of a task."""

    task: TaskSpec
    split: Split
    tokenised: datasets.Dataset
    """As the libraries' examples have it: input_ids, token_type_ids, attention_mask, labels; and `row`, its number."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, int64[N]."""
        return np.fromiter(map(len, self.tokenised["input_ids"]), np.int64)

    def take(self, chosen: NDArray[np.int64]) -> TaskRows:
        """These rows only, in this order."""
        return TaskRows(self.task, self.split.take(chosen), self.tokenised.select(chosen).flatten_indices())

    def write(self, folder: Path) -> None:
        """Files that `harness run --data folder` reads: these rows to train on, a few of them to validate."""
        few = self.split.take(np.arange(min(VALIDATION_ROWS, len(self.split.text))))
        for name in self.task.splits:
            if name not in self.task.predict:
                path = folder / self.task.name / f"{name}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                datasets.Dataset.from_dict(_columns(self.task, self.split if name == "train" else few)).to_parquet(path)


def of_task(name: str, tokenizer: Tokenizer, max_length: int) -> TaskRows:
    """The training rows of a registered task, from where the task says they are."""
    task = load_task(name)
    tables = read_tables(task, None)
    total = len(tables.by_split["train"])
    split = load_splits(task, tables, "standard", LARGEST_TASK if total > LARGEST_TASK else None)["train"]
    return tokenise(task, split, tokenizer, max_length)


def tokenise(task: TaskSpec, split: Split, tokenizer: Tokenizer, max_length: int) -> TaskRows:
    """The split with its tokens, not padded."""
    texts = [split.text] if split.pair is None else [split.text, split.pair]
    columns = dict(tokenizer(*texts, truncation=True, max_length=max_length, padding=False))
    assert split.label is not None, f"{task.name}: training rows need labels"
    columns |= {"labels": split.label.tolist(), "row": list(range(len(split.text)))}
    return TaskRows(task, split, datasets.Dataset.from_dict(columns))


def drawn(lengths: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """`count` rows whose lengths are spread as those of all rows: one at random from each of `count` equal layers of
    the rows in order of length. All rows when there are no more.

    Times depend on lengths first of all; plain random rows of a few hundred would have another mean in each round.
    """
    rng = np.random.default_rng(seed)
    if count >= len(lengths):
        return rng.permutation(len(lengths))
    order = np.lexsort((rng.random(len(lengths)), lengths))
    edges = np.linspace(0, len(lengths), count + 1).astype(np.int64)
    return rng.permutation(order[rng.integers(edges[:-1], edges[1:])])


def recipe_of(task: TaskSpec, global_batch: int, max_length: int) -> Recipe:
    """One epoch of what the published table of bert-base-cased trains with."""
    return Recipe(global_batch=global_batch, epochs=1, max_length=max_length)


def _columns(task: TaskSpec, split: Split) -> dict[str, list[Any]]:
    """The split in the source's own columns."""
    assert split.label is not None
    names = list(task.labels or {})
    labels = [names[label] for label in split.label] if names else split.label.tolist()
    texts = [split.text] if split.pair is None else [split.text, split.pair]
    return {**dict(zip(task.text, texts, strict=True)), task.label: labels}
