"""A program that fine-tunes with transformers.Trainer at its best, for comparison with a whole run of the harness.

It does the same as the harness by default and no more: train, evaluate once, predict the splits with hidden labels,
write the scores and predictions.
"""

from __future__ import annotations

import json
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
    """The folder to write."""
    epochs: int = 1
    train_rows: int | None = None
    """Train on a random subset of this size, the same as the harness uses."""
    max_steps: int = -1
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    global_batch_size: int = 32
    max_length: int = 128
    learning_rate: float = 2e-5
    seed: int = 42


TEXTS = {
    "cola": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "rte": ("sentence1", "sentence2"),
    "sst2": ("sentence",),
    "stsb": ("sentence1", "sentence2"),
}


def main(options: Options) -> None:
    """Trains, evaluates, predicts and writes the results."""
    import datasets
    import pandas as pd
    import torch
    import transformers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    transformers.set_seed(options.seed)
    datasets.disable_progress_bars()
    splits = datasets.load_dataset("nyu-mll/glue", options.task)
    if options.train_rows is not None:
        subset = np.random.default_rng(42).permutation(len(splits["train"]))[: options.train_rows]
        splits["train"] = splits["train"].select(np.sort(subset))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    texts, max_length = TEXTS[options.task], options.max_length

    def tokenise(rows: dict[str, Any]) -> Any:
        return tokenizer(*(rows[text] for text in texts), truncation=True, max_length=max_length)

    splits = splits.map(tokenise, batched=True, remove_columns=["idx", *texts])
    is_regression = options.task == "stsb"
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            options.model, num_labels=1 if is_regression else 2, dtype=torch.float32
        ),
        args=TrainingArguments(
            output_dir=str(options.output / "checkpoints"),
            num_train_epochs=options.epochs,
            max_steps=options.max_steps,
            per_device_train_batch_size=options.global_batch_size,
            per_device_eval_batch_size=64,
            learning_rate=options.learning_rate,
            lr_scheduler_type="linear",
            optim="adamw_torch_fused",
            bf16=options.precision == "bf16",
            fp16=options.precision == "fp16",
            train_sampling_strategy="group_by_length",
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=options.seed,
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        processing_class=tokenizer,
        compute_metrics=lambda outcome: compute_scores(options.task, outcome.predictions, outcome.label_ids),
    )
    trainer.train()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "scores.json").write_text(json.dumps(trainer.evaluate()))
    logits = trainer.predict(splits["test"].remove_columns("label")).predictions
    pd.DataFrame(logits).to_parquet(options.output / "test.parquet")


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
