"""The rows that every variant trains on: a task's own, tokenised once, drawn anew for each round."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase as Tokenizer

from benchmarks.generated import split_like
from harness.facts.tasks import TaskSpec, load_task
from harness.rows.loading import Split, load_splits, read_tables

LARGEST_TASK = 10_000
"""Rows taken of a larger task, as `--train-rows` would: reading more would change no figure but the time it takes."""

WINDOWS_SORTED = 50
"""Windows within which rows are sorted by length before a round's are taken: the most that Trainer's sampler takes."""

VALIDATION_ROWS = 8
"""The harness looks at a validation split after each epoch, outside the time that is measured: few rows are enough."""


class TaskRows(NamedTuple):
    """The training rows of a task."""

    task: TaskSpec
    split: Split
    tokenised: datasets.Dataset
    """As the libraries' examples have it: input_ids, token_type_ids, attention_mask, labels; and `row`, its number."""
    vocabulary: NDArray[np.int64]
    """Every token that occurs in the task, other splits included, in rising order."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, int64[N]."""
        return np.fromiter(map(len, self.tokenised["input_ids"]), np.int64)

    def take(self, chosen: NDArray[np.int64]) -> TaskRows:
        """These rows only, in this order."""
        return self._replace(split=self.split.take(chosen), tokenised=self.tokenised.select(chosen).flatten_indices())

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
    splits = load_splits(task, tables, "standard", LARGEST_TASK if total > LARGEST_TASK else None)
    others = [split for name, split in splits.items() if name != "train"]
    return tokenise(task, splits["train"], tokenizer, max_length, others)


def generated(name: str, tokenizer: Tokenizer, max_length: int) -> TaskRows:
    """As many rows of random words, as long as the task's; the tokenizer is that of a generated model."""
    task = load_task(name)
    split = split_like(task, min(task.rows["train"], LARGEST_TASK))
    return tokenise(task, split, tokenizer, max_length)


def tokenise(
    task: TaskSpec, split: Split, tokenizer: Tokenizer, max_length: int, others: Sequence[Split] = ()
) -> TaskRows:
    """The split with its tokens, not padded; `others` are the task's other splits, of which only the tokens count."""

    def tokens_of(part: Split) -> dict[str, Any]:
        texts = [part.text] if part.pair is None else [part.text, part.pair]
        return dict(tokenizer(*texts, truncation=True, max_length=max_length, padding=False))

    columns = tokens_of(split)
    occurring = [columns["input_ids"], *(tokens_of(other)["input_ids"] for other in others)]
    vocabulary = np.unique(np.fromiter(itertools.chain.from_iterable(itertools.chain(*occurring)), np.int64))
    assert split.label is not None, f"{task.name}: training rows need labels"
    columns |= {"labels": split.label.tolist(), "row": list(range(len(split.text)))}
    return TaskRows(task, split, datasets.Dataset.from_dict(columns), vocabulary)


def drawn(lengths: NDArray[np.int64], steps: int, global_batch_size: int, seed: int) -> NDArray[np.int64]:
    """The rows of `steps` steps, whose lengths are spread as those of all rows and lie as close together as in a
    whole epoch: of `WINDOWS_SORTED` windows' rows, drawn at random, sorted by length and cut into windows again, every
    so-many-th window. All rows when there are no more.

    Times depend on lengths first of all. As many rows drawn one by one would lie further apart than those among which
    grouping by length chooses in an epoch, and would need more padding than it does there.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(lengths))
    windows = min(WINDOWS_SORTED, len(lengths) // global_batch_size)
    if steps >= windows:
        return order[: steps * global_batch_size]
    order = order[: windows * global_batch_size]
    cut = order[np.argsort(lengths[order], kind="stable")].reshape(windows, global_batch_size)
    places = ((np.arange(steps) + rng.random()) * windows / steps).astype(np.int64)
    return rng.permutation(cut[places].reshape(-1))


def _columns(task: TaskSpec, split: Split) -> dict[str, list[Any]]:
    """The split in the source's own columns."""
    assert split.label is not None
    names = list(task.labels or {})
    labels = [names[label] for label in split.label] if names else split.label.tolist()
    texts = [split.text] if split.pair is None else [split.text, split.pair]
    return {**dict(zip(task.text, texts, strict=True)), task.label: labels}
