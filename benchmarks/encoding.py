"""The cost of tokenising a data set of mnli's size, the first time and from the cache, with a real tokenizer.

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

from benchmarks import report
from harness.system.exit_codes import exit_code_on_error

PREMISE, HYPOTHESIS = (19.8, 2.2), (10.0, 5.4)
"""Mean and shape of the gamma distribution of the number of words, as in mnli's training rows."""

COMMA_SHARE = 0.2
"""Share of words that a comma follows; it makes 40 tokens per row in BERT's vocabulary, as mnli has."""


@dataclass(frozen=True)
class Options:
    """Tokenise generated pairs of mnli's lengths in fresh processes, and read them again from the cache."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """The model that the tokenizer belongs to: a name on the Hub, or a folder."""
    rows: int = 393_000
    """Pairs of texts."""
    max_length: int = 128
    """Tokens per row; longer rows are truncated."""
    threads: int = os.cpu_count() or 1
    """Threads of the tokenizer."""
    rounds: int = 3
    """Measurements of each kind."""
    output: Path = report.RESULTS / "encoding.json"
    """The JSON file to write."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes encoding.json and prints its table."""
    with exit_code_on_error():
        options = tyro.cli(Options, args=arguments, prog="benchmarks/encoding.py")
        report.save("encoding", measure_encoding(options), options.output)


def measure_encoding(options: Options) -> dict[str, Any]:
    """Returns the values of encoding.json: the cost of each round."""
    os.environ |= {"RAYON_NUM_THREADS": str(options.threads), "TOKENIZERS_PARALLELISM": "true"}
    with TemporaryDirectory() as scratch, get_context("spawn").Pool(1, maxtasksperchild=1) as fresh:
        folder = Path(scratch)
        fresh.apply(_write_rows, (folder, options))
        first, cached = [], []
        for number in range(options.rounds):
            for rounds in (first, cached):
                rounds.append(fresh.apply(_encode, (folder, folder / f"cache-{number}", options)))
    import torch

    from benchmarks.measuring import machine_facts

    settings = dict(model=options.model, rows=options.rows, max_length=options.max_length)
    machine = machine_facts(torch.device("cpu"), options.threads)
    return dict(settings=settings, machine=machine, first=first, cached=cached)


def _write_rows(folder: Path, options: Options) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from transformers import AutoTokenizer

    rng = np.random.default_rng(0)
    ids = AutoTokenizer.from_pretrained(options.model).get_vocab()
    vocabulary = sorted((token for token in ids if token.isascii() and token.isalpha()), key=ids.__getitem__)
    columns = {"text": PREMISE, "pair": HYPOTHESIS}
    texts = {name: _texts(rng, vocabulary, options.rows, *lengths) for name, lengths in columns.items()}
    pq.write_table(pa.table(texts), folder / "rows.parquet")


def _texts(rng: np.random.Generator, vocabulary: Sequence[str], rows: int, mean: float, shape: float) -> list[str]:
    """Returns texts whose words follow Zipf's law: frequent words come first in the vocabulary, as in BERT's."""
    counts = np.maximum(1, rng.gamma(shape, mean / shape, rows).round().astype(np.int64))
    weights = 1 / (np.arange(len(vocabulary)) + 2.7)
    drawn: NDArray[np.int64] = rng.choice(len(vocabulary), size=counts.sum(), p=weights / weights.sum())
    tokens = np.array(vocabulary, object)[drawn]
    tokens += np.where(rng.random(len(drawn)) < COMMA_SHARE, ",", "").astype(object)
    ends = counts.cumsum()
    return [" ".join(tokens[end - count : end]) + "." for end, count in zip(ends, counts, strict=True)]


def _encode(folder: Path, cache: Path, options: Options) -> dict[str, float]:
    """Encodes the rows, the hash of their texts included; returns seconds and the peak memory of the process."""
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
    began, processor_began = time.perf_counter(), time.process_time()
    rows = encode_splits({"train": split}, tokenizer, options.max_length, cache, print)["train"]
    return dict(
        seconds=time.perf_counter() - began,
        processor_seconds=time.process_time() - processor_began,
        peak_bytes=peak_bytes(torch.device("cpu")),
        tokens=int(rows.offsets[-1]),
        file_bytes=sum(path.stat().st_size for path in cache.iterdir()),
    )


if __name__ == "__main__":
    main()
