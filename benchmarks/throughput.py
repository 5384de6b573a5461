"""Several ways to train the same model on the same rows, measured in alternation in one process.

python benchmarks/throughput.py                     # steps alone: benchmarks/results/throughput.json
python benchmarks/throughput.py --whole             # from command to record: benchmarks/results/whole.json
python benchmarks/throughput.py --precision fp32    # for a processor without bf16: the same names with _fp32
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: Python put benchmarks/ first on the path; the repository root belongs there
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tyro

from benchmarks import report
from harness.errors import UserError
from harness.system.exit_codes import exit_code_on_error


@dataclass(frozen=True)
class Options:
    """Train the same model on the same rows in several ways, in alternation, and write the cost of each."""

    model: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Name on the Hub, or a folder."""
    revision: str | None = None
    """Branch, tag or commit of the model on the Hub."""
    tasks: tuple[str, ...] = ("cola", "sst2", "mrpc", "rte", "stsb")
    """Registered tasks; only 10,000 rows of a larger one are used."""
    generated: bool = False
    """Use rows of random words with the tasks' lengths, for a --model that `benchmarks/generated.py` wrote."""
    variants: tuple[str, ...] = ("plain", "plain-mixed", "trainer", "ours", "limit", "limit-stock")
    """plain: the loop of run_glue_no_trainer as shipped, fp32; plain-mixed: the same in --precision; trainer:
    transformers.Trainer at its best; ours: the harness; limit: the arithmetic alone, without
    padding, of the model as the harness trains it; limit-stock: the same, of the model as transformers builds it."""
    rounds: int = 3
    """Rounds; in each, every variant trains once on every task, in another order and on other rows."""
    steps: int = 12
    """Steps of a variant on each task in a round."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """The precision of all variants but plain."""
    global_batch_size: int = 32
    """Rows per step."""
    max_length: int = 128
    """Tokens per row; longer rows are truncated."""
    threads: int = os.cpu_count() or 1
    """Threads of torch on a CPU."""
    flags: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """More flags for the harness alone, each as --flags=--compile=on."""
    untimed_epochs: int = 0
    """Epochs of the harness before the timed one, in which a model may be compiled."""
    whole: bool = False
    """Measure whole programs instead, from command to written result: the harness and a script of Trainer."""
    output: Path | None = None
    """The JSON file to write; by default throughput.json or whole.json in benchmarks/results, or with _fp32."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes the JSON file, and prints its tables."""
    with exit_code_on_error():
        options = tyro.cli(
            Options, args=arguments, prog="benchmarks/throughput.py", config=(tyro.conf.FlagCreatePairsOff,)
        )
        if options.whole:
            from benchmarks.whole import measure_programs

            name, values = "whole", measure_programs(options)
        else:
            name, values = "throughput", measure_throughput(options)
        if options.precision == "fp32":
            name += "_fp32"
        report.save(name, values, options.output or report.RESULTS / f"{name}.json")


def measure_throughput(options: Options) -> dict[str, Any]:
    """Returns the values of throughput.json: the cost of each variant in each round.

    Raises:
        UserError: an unknown variant or task, or a model that cannot be loaded.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import datasets
    import torch
    import transformers
    from transformers import AutoTokenizer

    from benchmarks.limit import fastest_limit_batch
    from benchmarks.measuring import capture_output, fresh_state, machine_facts
    from benchmarks.rows import generate_rows, load_rows, sample_rows
    from benchmarks.setting import Measurement, Setting
    from benchmarks.variants import VARIANTS

    if unknown := set(options.variants) - set(VARIANTS):
        raise UserError(f"--variants {' '.join(sorted(unknown))}: unknown variant; variants: {', '.join(VARIANTS)}.")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer = AutoTokenizer.from_pretrained(options.model, revision=options.revision or "main")
    source = generate_rows if options.generated else load_rows
    all_rows = {name: source(name, tokenizer, options.max_length) for name in options.tasks}

    limit_batch_sizes: dict[str, int] = {}

    def setting(name: str, steps: int, seed: int) -> Setting:
        rows = sample_rows(all_rows[name].lengths, steps, options.global_batch_size, seed)
        return Setting(
            rows=all_rows[name].take(rows),
            all_rows=len(all_rows[name].split.text),
            model=options.model,
            revision=options.revision,
            tokenizer=tokenizer,
            global_batch_size=options.global_batch_size,
            max_length=options.max_length,
            precision=options.precision,
            device=device,
            seed=seed,
            limit_batch_size=limit_batch_sizes.get(name),
            untimed_epochs=options.untimed_epochs,
            flags=options.flags,
        )

    def measure(variant: str, setting: Setting) -> Measurement:
        with fresh_state(options.threads, setting.seed):
            return VARIANTS[variant](setting)

    with capture_output():  # the first call of anything pays for imports, threads and kernels
        for variant in options.variants:
            measure(variant, setting(options.tasks[0], 2, seed=0))
        if {"limit", "limit-stock"} & set(options.variants):
            for name in options.tasks:
                with fresh_state(options.threads, seed=0):
                    limit_batch_sizes[name] = fastest_limit_batch(setting(name, 3, seed=0))
    tasks: dict[str, Any] = {
        name: dict(
            rows=len(all_rows[name].split.text),
            tokens=int(all_rows[name].lengths.sum()),
            measured={variant: [] for variant in options.variants},
        )
        for name in options.tasks
    }
    for number, (round_, name) in enumerate(itertools.product(range(1, options.rounds + 1), options.tasks)):
        own_setting = setting(name, options.steps, seed=round_)
        expected_tokens = int(own_setting.rows.lengths.sum())
        for index in np.random.default_rng(number).permutation(len(options.variants)):
            variant = options.variants[index]
            epoch = measure(variant, own_setting)
            assert epoch.rows == len(own_setting.rows.split.text), (variant, epoch)
            assert variant.startswith("limit") or epoch.tokens == expected_tokens, (variant, epoch, expected_tokens)
            values = epoch._asdict()
            del values["losses"]
            tasks[name]["measured"][variant].append(values)
            print(
                f"round {round_} {name:>5} {variant:<12}{epoch.seconds:8.2f} s "
                f"{epoch.rows / epoch.seconds:8.0f} rows/s {1 - epoch.tokens / epoch.computed_tokens:6.1%} padding",
                flush=True,
            )
    settings = {name: value for name, value in vars(options).items() if name not in ("output", "whole", "threads")}
    if Path(options.model).is_dir():
        settings["model"] = Path(options.model).name
    return dict(machine=machine_facts(device, torch.get_num_threads()), settings=settings, tasks=tasks)


if __name__ == "__main__":
    main()
