"""Several ways to train the same model on the same rows, measured in alternation in one process.

python benchmarks/throughput.py            # steps alone: benchmarks/results/throughput.json
python benchmarks/throughput.py --whole    # from command to record: benchmarks/results/whole.json
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import report
from harness.errors import UserError
from harness.system.exit_codes import exit_code_on_error

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Options:
    """Train the same model on the same rows in several ways, in alternation, and write what each took."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name on the Hub, or a folder."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""
    tasks: tuple[str, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Registered tasks; of one larger than 10,000 rows that many are taken."""
    generated: bool = False
    """Rows of random words, as long as the tasks' own, for a --model that `benchmarks/generated.py` wrote."""
    variants: tuple[str, ...] = ("plain", "plain-mixed", "trainer", "ours", "limit", "limit-stock")
    """plain: the loop of run_glue_no_trainer as shipped, fp32; plain-mixed: the same in --precision; trainer:
    transformers.Trainer at its best; ours: the harness; limit: the arithmetic alone, without
    padding, of the model as the harness trains it; limit-stock: the same, of the model as transformers makes it."""
    rounds: int = 3
    """Each variant trains once a round on every task, in another order each round and on other rows."""
    steps: int = 12
    """Steps a variant takes of each task in a round."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Of all variants but plain."""
    global_batch_size: int = 32
    """Rows of a step."""
    max_length: int = 128
    """Tokens per row; longer rows are cut."""
    threads: int = os.cpu_count() or 1
    """Of torch on a CPU."""
    flags: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """More flags for the harness alone, each as --flags=--compile=on."""
    untimed_epochs: int = 0
    """Epochs of the harness before the one that is timed, in which a model may be compiled."""
    whole: bool = False
    """Measure whole programs instead, from command to written result: the harness and a script of Trainer."""
    output: Path | None = None
    """Where the JSON is written; by default throughput.json or whole.json in benchmarks/results."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/throughput.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        if options.whole:
            from benchmarks.whole import whole

            name, measured = "whole", whole(options)
        else:
            name, measured = "throughput", throughput(options)
        from benchmarks.measuring import write_json

        output = options.output or RESULTS / f"{name}.json"
        write_json(output, measured)
        report.show(report.SECTIONS[name](measured))
        print(output)


def throughput(options: Options) -> dict[str, Any]:
    """What each variant took in each round, and on what: the values of throughput.json.

    Raises:
        UserError: an unknown variant or task, or a model that is not there.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import torch
    import transformers
    from transformers import AutoTokenizer

    from benchmarks import rows as rows_of
    from benchmarks.measuring import on_its_own, silently, surroundings
    from benchmarks.variants import VARIANTS, Measured, Setting, fastest_limit_batch

    if unknown := set(options.variants) - set(VARIANTS):
        raise UserError(f"--variants {' '.join(sorted(unknown))}: there are {', '.join(VARIANTS)}.")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(options.model, revision=options.revision or "main")
    source = rows_of.generated if options.generated else rows_of.of_task
    every = {name: source(name, tokenizer, options.max_length) for name in options.tasks}

    limit_batch: dict[str, int] = {}

    def setting(name: str, steps: int, seed: int) -> Setting:
        chosen = rows_of.drawn(every[name].lengths, steps, options.global_batch_size, seed)
        return Setting(
            rows=every[name].take(chosen),
            all_rows=len(every[name].split.text),
            model=options.model,
            revision=options.revision,
            tokenizer=tokenizer,
            global_batch_size=options.global_batch_size,
            max_length=options.max_length,
            precision=options.precision,
            device=device,
            seed=seed,
            limit_batch=limit_batch.get(name),
            untimed_epochs=options.untimed_epochs,
            flags=options.flags,
        )

    def measure(variant: str, chosen: Setting) -> Measured:
        with on_its_own(options.threads, chosen.seed):
            return VARIANTS[variant](chosen)

    with silently():  # the first call of anything pays for imports, threads and kernels
        for variant in options.variants:
            measure(variant, setting(options.tasks[0], 2, seed=0))
        if {"limit", "limit-stock"} & set(options.variants):
            for name in options.tasks:
                with on_its_own(options.threads, seed=0):
                    limit_batch[name] = fastest_limit_batch(setting(name, 3, seed=0))
    tasks: dict[str, Any] = {
        name: dict(
            rows=len(every[name].split.text),
            tokens=int(every[name].lengths.sum()),
            measured={variant: [] for variant in options.variants},
        )
        for name in options.tasks
    }
    for number, (round_, name) in enumerate(itertools.product(range(1, options.rounds + 1), options.tasks)):
        chosen = setting(name, options.steps, seed=round_)
        expected = int(chosen.rows.lengths.sum())
        for variant in _shuffled(options.variants, number):
            took = measure(variant, chosen)
            assert took.rows == len(chosen.rows.split.text), (variant, took)
            assert variant.startswith("limit") or took.tokens == expected, (variant, took, expected)
            values = took._asdict()
            del values["losses"]
            tasks[name]["measured"][variant].append(values)
            print(
                f"round {round_} {name:>5} {variant:<12}{took.seconds:8.2f} s {took.rows / took.seconds:8.0f} rows/s "
                f"{1 - took.tokens / took.computed_tokens:6.1%} padding",
                flush=True,
            )
    shown = {name: value for name, value in vars(options).items() if name not in ("output", "whole", "threads")}
    if Path(options.model).is_dir():
        shown["model"] = Path(options.model).name
    return dict(machine=surroundings(device, torch.get_num_threads()), settings=shown, tasks=tasks)


def _shuffled(variants: Sequence[str], number: int) -> Iterator[str]:
    """All of them, in another order for each number."""
    yield from (variants[place] for place in np.random.default_rng(number).permutation(len(variants)))


if __name__ == "__main__":
    main()
