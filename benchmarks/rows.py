"""The rows that every variant trains on: a task's own, tokenised once, sampled again for each round."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase as Tokenizer

from benchmarks.generated import generate_split
from harness.facts.tasks import TaskSpec, load_task
from harness.rows.loading import Split, load_splits, read_tables

LARGEST_TASK = 10_000
"""Rows used of a larger task, as with `--train-rows`: more rows would change no figure but the time to read them."""

STEPS_SORTED_TOGETHER = 50
"""Steps whose rows are sorted by length together before a round is sampled: the most that Trainer's sampler takes."""

VALIDATION_ROWS = 8
"""The harness evaluates on a validation split after each epoch, outside the time that is measured."""


class TaskRows(NamedTuple):
    """The training rows of a task."""

    task: TaskSpec
    split: Split
    tokenised: datasets.Dataset
    """Columns input_ids, token_type_ids, attention_mask and labels, as in the libraries' examples, and the row's number
    as `row`."""
    vocabulary: NDArray[np.int64]
    """Every token that occurs in the task, other splits included, in rising order."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, int64[N]."""
        return np.fromiter(map(len, self.tokenised["input_ids"]), np.int64)

    def take(self, rows: NDArray[np.int64]) -> TaskRows:
        """Returns only the rows with these numbers, in this order."""
        return self._replace(split=self.split.take(rows), tokenised=self.tokenised.select(rows).flatten_indices())

    def write(self, folder: Path) -> None:
        """Writes files for `harness run --data folder`: these rows to train on, a few of them to validate."""
        few = self.split.take(np.arange(min(VALIDATION_ROWS, len(self.split.text))))
        for name in self.task.splits:
            if name not in self.task.predict:
                path = folder / self.task.name / f"{name}.parquet"
                path.parent.mkdir(parents=True, exist_ok=True)
                datasets.Dataset.from_dict(_columns(self.task, self.split if name == "train" else few)).to_parquet(path)


def load_rows(name: str, tokenizer: Tokenizer, max_length: int) -> TaskRows:
    """Reads and tokenises the training rows of a registered task from its source."""
    task = load_task(name)
    tables = read_tables(task, None)
    is_large = len(tables.by_split["train"]) > LARGEST_TASK
    splits = load_splits(task, tables, "standard", LARGEST_TASK if is_large else None)
    others = [split for name, split in splits.items() if name != "train"]
    return tokenise(task, splits["train"], tokenizer, max_length, others)


def generate_rows(name: str, tokenizer: Tokenizer, max_length: int) -> TaskRows:
    """Returns as many rows of random words as the task has, of its lengths, for the tokenizer of a generated model."""
    task = load_task(name)
    return tokenise(task, generate_split(task, min(task.rows["train"], LARGEST_TASK)), tokenizer, max_length)


def tokenise(
    task: TaskSpec, split: Split, tokenizer: Tokenizer, max_length: int, others: Sequence[Split] = ()
) -> TaskRows:
    """Tokenises a split without padding; the tokens of `others`, the task's other splits, only join the vocabulary."""

    def tokens(part: Split) -> dict[str, Any]:
        texts = [part.text] if part.pair is None else [part.text, part.pair]
        return dict(tokenizer(*texts, truncation=True, max_length=max_length, padding=False))

    columns = tokens(split)
    token_lists = [columns["input_ids"], *(tokens(other)["input_ids"] for other in others)]
    vocabulary = np.unique(np.fromiter(itertools.chain.from_iterable(itertools.chain(*token_lists)), np.int64))
    assert split.label is not None, f"{task.name}: training rows need labels"
    columns |= {"labels": split.label.tolist(), "row": list(range(len(split.text)))}
    return TaskRows(task, split, datasets.Dataset.from_dict(columns), vocabulary)


def sample_rows(lengths: NDArray[np.int64], steps: int, global_batch_size: int, seed: int) -> NDArray[np.int64]:
    """Samples the rows of `steps` steps, or all rows when there are no more, as int64[steps * global_batch_size].

    Times depend on lengths first of all, so the sample has the lengths of all rows and as little padding as a whole
    epoch: it draws the rows of `STEPS_SORTED_TOGETHER` steps, sorts them by length, cuts them into steps and takes
    every k-th of these. Rows drawn one by one would differ more in length than those that grouping by length puts
    together in an epoch, and would need more padding.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    sorted_steps = min(STEPS_SORTED_TOGETHER, len(lengths) // global_batch_size)
    if steps >= sorted_steps:
        return order[: steps * global_batch_size]
    order = order[: sorted_steps * global_batch_size]
    rows_by_step = order[np.argsort(lengths[order], kind="stable")].reshape(sorted_steps, global_batch_size)
    numbers = ((np.arange(steps) + rng.random()) * sorted_steps / steps).astype(np.int64)
    return rng.permutation(rows_by_step[numbers].reshape(-1))


def _columns(task: TaskSpec, split: Split) -> dict[str, list[Any]]:
    """The split with the column names and labels of its source."""
    assert split.label is not None
    names = list(task.labels or {})
    labels = [names[label] for label in split.label] if names else split.label.tolist()
    texts = [split.text] if split.pair is None else [split.text, split.pair]
    return {**dict(zip(task.text, texts, strict=True)), task.label: labels}
