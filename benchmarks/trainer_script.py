"""A program that fine-tunes with transformers.Trainer and imports nothing of the harness, for comparison with it.

It does the same as a run of the harness and no more: train, evaluate once, predict the split with hidden labels if
there is one, write the scores and predictions. By default it trains at its best, with rows grouped by length.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro


@dataclass(frozen=True)
class Options:
    """Fine-tune a model on a GLUE task with transformers.Trainer."""

    task: Literal["cola", "mrpc", "rte", "sst2", "stsb"]
    model: str
    output: Path
    """The folder to write, with a subfolder for each seed."""
    data: Path | None = None
    """Read the rows from DIR/<task>/<split>.parquet instead of the Hub."""
    epochs: int = 1
    train_rows: int | None = None
    """Train on a random subset of this size, the same as the harness uses."""
    max_steps: int = -1
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    global_batch_size: int = 32
    max_length: int = 128
    learning_rate: float = 2e-5
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = 0.0
    length_grouping: bool = True
    """Put rows of similar length into the same batch, which is the order of Trainer's predictions, too; otherwise the
    order is random."""
    seeds: tuple[int, ...] = (42,)
    """A run for each seed, one after the other."""


TEXTS = {
    "cola": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "stsb": ("sentence1", "sentence2"),
}


def main(options: Options) -> None:
    """Trains, evaluates, predicts and writes the results of each seed."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    splits = read_splits(options, tokenizer)
    for seed in options.seeds:
        run(options, seed, tokenizer, splits)


def read_splits(options: Options, tokenizer: Any) -> Any:
    """Returns the tokenised rows of each split, with a subset of the training rows if requested."""
    import datasets

    datasets.disable_progress_bars()
    if options.data is None:
        splits = datasets.load_dataset("nyu-mll/glue", options.task)
    else:
        files = {path.stem: str(path) for path in sorted((options.data / options.task).glob("*.parquet"))}
        splits = datasets.load_dataset("parquet", data_files=files)
    if options.train_rows is not None:
        subset = np.random.default_rng(42).permutation(len(splits["train"]))[: options.train_rows]
        splits["train"] = splits["train"].select(np.sort(subset))
    texts, max_length = TEXTS[options.task], options.max_length

    def tokenise(rows: dict[str, Any]) -> Any:
        return tokenizer(*(rows[text] for text in texts), truncation=True, max_length=max_length)

    return splits.map(tokenise, batched=True, remove_columns=[*texts, *({"idx"} & set(splits["train"].column_names))])


def run(options: Options, seed: int, tokenizer: Any, splits: Any) -> None:
    """Trains, evaluates, predicts and writes the results of one seed."""
    import pandas as pd
    import torch
    import transformers
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    began, folder = time.perf_counter(), options.output / f"seed-{seed}"
    transformers.set_seed(seed)
    is_regression = options.task == "stsb"
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=1 if is_regression else 2, dtype=torch.float32
        ),
        args=TrainingArguments(
            output_dir=str(folder / "checkpoints"),
            num_train_epochs=options.epochs,
            max_steps=options.max_steps,
            per_device_train_batch_size=options.global_batch_size,
            per_device_eval_batch_size=64,
            learning_rate=options.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=options.warmup,
            weight_decay=options.weight_decay,
            optim="adamw_torch_fused",
            bf16=options.precision == "bf16",
            fp16=options.precision == "fp16",
            train_sampling_strategy="group_by_length" if options.length_grouping else "random",
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=seed,
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda outcome: compute_scores(options.task, outcome.predictions, outcome.label_ids),
    )
    trainer.train()
    folder.mkdir(parents=True, exist_ok=True)
    scores = trainer.evaluate()
    if "test" in splits:
        logits = trainer.predict(splits["test"].remove_columns("label")).predictions
        pd.DataFrame(logits).to_parquet(folder / "test.parquet")
    scores |= {"steps": trainer.state.global_step, "seconds": time.perf_counter() - began}
    (folder / "scores.json").write_text(json.dumps(scores))


def compute_scores(task: str, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns the task's GLUE metrics."""
    if task == "stsb":
        from scipy.stats import pearsonr, spearmanr

        values = logits[:, 0]
        return {"pearson": float(pearsonr(values, labels)[0]), "spearman": float(spearmanr(values, labels)[0])}
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    predictions = logits.argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "f1": float(f1_score(labels, predictions)),
        "matthews_correlation": float(matthews_corrcoef(labels, predictions)),
    }


if __name__ == "__main__":
    main(tyro.cli(Options))
