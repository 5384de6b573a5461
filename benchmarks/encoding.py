"""What it costs to tokenise a data set of mnli's size, the first time and from the cache, with a real tokenizer.

python benchmarks/encoding.py    # benchmarks/results/encoding.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tyro
from numpy.typing import NDArray

from harness.system.exit_codes import exit_code_on_error

RESULTS = Path(__file__).resolve().parent / "results"

PREMISE, HYPOTHESIS = (19.8, 2.2), (10.0, 5.4)
"""Mean and shape of the gamma distribution that the number of words follows, as in mnli's training rows."""

COMMAS = 0.2
"""Words that a comma follows, as often as makes 40 tokens a row, which are mnli's in the vocabulary of BERT."""


@dataclass(frozen=True)
class Options:
    """Tokenise generated pairs of mnli's lengths in fresh processes, and read them again from the cache."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Whose tokenizer: a name on the Hub, or a folder."""
    rows: int = 393_000
    """Pairs of texts."""
    max_length: int = 128
    """Tokens per row; longer rows are cut."""
    threads: int = os.cpu_count() or 1
    """Of the tokenizer."""
    rounds: int = 3
    """How often each is measured."""
    output: Path = RESULTS / "encoding.json"
    """Where the JSON is written."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with exit_code_on_error():
        options = tyro.cli(Options, args=arguments, prog="benchmarks/encoding.py")
        measured = encoding(options)

        from benchmarks import report
        from benchmarks.measuring import write_json

        write_json(options.output, measured)
        report.show(report.encoding_tables(measured))
        print(options.output)


def encoding(options: Options) -> dict[str, Any]:
    """What each round took: the values of encoding.json."""
    os.environ |= {"RAYON_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
    with TemporaryDirectory() as scratch, get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        folder = Path(scratch)
        fresh.apply(_write_rows, (folder, options))
        first, again = [], []
        for number in range(options.rounds):
            for took in (first, again):
                took.append(fresh.apply(_measure, (folder, folder / f"cache-{number}", options)))
        machine = fresh.apply(_machine, (options.threads,))
    settings = dict(model=options.model, rows=options.rows, max_length=options.max_length)
    return dict(settings=settings, machine=machine, first=first, cached=again)


def _write_rows(folder: Path, options: Options) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    rng = np.random.default_rng(0)
    vocabulary = AutoTokenizer.from_pretrained(options.model).get_vocab()
    words = sorted((word for word in vocabulary if word.isascii() and word.isalpha()), key=vocabulary.__getitem__)
    columns = {
        name: _texts(rng, words, options.rows, *lengths) for name, lengths in (("text", PREMISE), ("pair", HYPOTHESIS))
    }
    pq.write_table(pa.table(columns), folder / "rows.parquet")


def _texts(rng: np.random.Generator, words: Sequence[str], rows: int, mean: float, shape: float) -> list[str]:
    """Sentences of words that are the more frequent the earlier they stand, as in BERT's vocabulary, by Zipf's law."""
    counts = np.maximum(1, rng.gamma(shape, mean / shape, rows).round().astype(np.int64))
    weights = 1 / (np.arange(len(words)) + 2.7)
    drawn: NDArray[np.int64] = rng.choice(len(words), size=counts.sum(), p=weights / weights.sum())
    said = np.array(words, object)[drawn] + np.where(rng.random(len(drawn)) < COMMAS, ",", "").astype(object)
    ends = counts.cumsum()
    return [" ".join(said[end - count : end]) + "." for end, count in zip(ends, counts, strict=True)]


def _measure(folder: Path, cache: Path, options: Options) -> dict[str, float]:
    """Seconds until a process has the rows as tokens, the hash of their texts included, and the most memory it held."""
    import pyarrow.parquet as pq
    import torch
    from transformers import AutoTokenizer

    from harness.engine.provenance import peak_bytes
    from harness.engine.token_cache import encode_splits
    from harness.rows.loading import Split

    table = pq.read_table(folder / "rows.parquet")
    split = Split(table["text"].to_pylist(), table["pair"].to_pylist(), None)
    del table
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    began, used = time.perf_counter(), time.process_time()
    rows = encode_splits({"train": split}, tokenizer, options.max_length, cache, print)["train"]
    return dict(
        seconds=time.perf_counter() - began,
        processor_seconds=time.process_time() - used,
        peak_bytes=peak_bytes(torch.device("cpu")),
        tokens=int(rows.offsets[-1]),
        file_bytes=sum(path.stat().st_size for path in cache.iterdir()),
    )


def _machine(threads: int) -> dict[str, Any]:
    import torch

    from benchmarks.measuring import surroundings

    return surroundings(torch.device("cpu"), threads)


if __name__ == "__main__":
    main()
