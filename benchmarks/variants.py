"""Several ways to train the same model on the same rows for one epoch, each timed over its steps alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import DataCollatorWithPadding, PreTrainedModel

from benchmarks.limit import limit, limit_stock
from benchmarks.measuring import Meter, capture_output
from benchmarks.setting import LEARNING_RATE, MAX_GRAD_NORM, Measurement, Setting, stock_model
from harness.engine.encoding import Encoded
from harness.errors import UserError


def plain(setting: Setting) -> Measurement:
    """Trains with the loop of transformers' run_glue_no_trainer example as shipped.

    Random batches padded to their longest row through a DataLoader, fp32, AdamW that is not fused, no clipping.
    """
    return _plain_loop(replace(setting, precision="fp32"))


def plain_mixed(setting: Setting) -> Measurement:
    """Trains with the same loop in the harness's precision."""
    return _plain_loop(setting)


def trainer(setting: Setting) -> Measurement:
    """Trains with transformers.Trainer at its best: mixed precision, rows grouped by length, fused AdamW, no logging.

    Its sampler sorts within a quarter of the rows, at most 50 batches. A round has few rows, so its sampler would sort
    fewer rows together than in the whole task; here it sorts as many together as in the whole task.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_pt_utils import get_length_grouped_indices

    meter, collator = Meter(setting.device), _Collator(setting)
    lengths, batch_size = setting.rows.lengths.tolist(), setting.global_batch_size

    class Timed(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            meter.start()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            meter.stop()

    class Grouping(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            batches = max(1, min(setting.all_rows // (4 * batch_size), 50))
            return iter(get_length_grouped_indices(lengths, batch_size, mega_batch_mult=batches))

        def __len__(self) -> int:
            return len(lengths)

    class Grouped(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
            sampler = super()._get_train_sampler(train_dataset)
            assert type(sampler).__name__ == "LengthGroupedSampler", "Trainer has another sampler now"
            return Grouping()

    with TemporaryDirectory() as folder, capture_output():
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch_size,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="linear",
            max_grad_norm=MAX_GRAD_NORM,
            optim="adamw_torch_fused",
            bf16=setting.precision == "bf16",
            fp16=setting.precision == "fp16",
            train_sampling_strategy="group_by_length",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=setting.device.type == "cuda",
            use_cpu=setting.device.type == "cpu",
            seed=setting.seed,
        )
        Grouped(
            model=stock_model(setting),
            args=arguments,
            train_dataset=setting.rows.tokenised,
            data_collator=collator,
            processing_class=setting.tokenizer,
            callbacks=[Timed()],
        ).train()
    return collator.measurement(meter)


def ours(setting: Setting, make_meter: Callable[[torch.device], Meter] = Meter) -> Measurement:
    """Trains with `harness run` itself, on these rows, with a meter around its steps."""
    from harness.requests.options import parse_options
    from harness.run import run

    meter = make_meter(setting.device)
    os.environ["HARNESS_CACHE"] = ""  # nothing needs the tokens of a round again
    timed = _timed_steps(meter, setting.untimed_epochs)
    with TemporaryDirectory() as scratch, capture_output() as output, _whole_vocabulary(setting), timed as steps:
        setting.rows.write(Path(scratch) / "data")
        flags = dict(
            task=setting.rows.task.name,
            model=setting.model,
            seed=setting.seed,
            data=f"{scratch}/data",
            results=f"{scratch}/results",
            precision=setting.precision,
            epochs=setting.untimed_epochs + 1,
            global_batch_size=setting.global_batch_size,
            max_length=setting.max_length,
            learning_rate=LEARNING_RATE,
            max_grad_norm=MAX_GRAD_NORM,
            warmup=0,
            weight_decay=0,
        )
        args = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        args += ["--revision", setting.revision] if setting.revision else []
        try:
            record = run(parse_options([*args, *setting.flags]))
        except SystemExit:
            raise UserError(f"harness run: {output.getvalue()}") from None
        assert record.status in ("ok", "collapsed"), f"{record.error}\n{output.getvalue()}"
        assert record.environment is not None
        assert record.environment.precision == setting.precision, record.notes
    return Measurement(
        seconds=meter.seconds,
        steps=len(steps),
        rows=sum(step.rows for step in steps),
        tokens=sum(step.tokens for step in steps),
        computed_tokens=sum(step.computed_tokens for step in steps),
        peak_bytes=meter.peak_bytes,
        losses=[float(step.loss) for step in steps],
    )


VARIANTS: dict[str, Callable[[Setting], Measurement]] = {
    "plain": plain,
    "plain-mixed": plain_mixed,
    "trainer": trainer,
    "ours": ours,
    "limit": limit,
    "limit-stock": limit_stock,
}


class _Collator:
    """transformers' padding of a batch to its longest row, with counts of batches, rows and tokens."""

    def __init__(self, setting: Setting) -> None:
        self.pad = DataCollatorWithPadding(setting.tokenizer, pad_to_multiple_of=setting.pads_to)
        self.rows: list[int] = []
        self.batches = self.tokens = self.computed_tokens = 0

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        self.rows += [row.pop("row") for row in rows]
        self.tokens += sum(len(row["input_ids"]) for row in rows)
        batch = self.pad(rows)
        self.computed_tokens += batch["input_ids"].numel()
        self.batches += 1
        return batch

    def measurement(self, meter: Meter, losses: list[float] | None = None) -> Measurement:
        """Returns the meter's numbers for these batches; each row must have been drawn once."""
        assert len(set(self.rows)) == len(self.rows), "a row was drawn twice"
        return Measurement(
            seconds=meter.seconds,
            steps=self.batches,
            rows=len(self.rows),
            tokens=self.tokens,
            computed_tokens=self.computed_tokens,
            peak_bytes=meter.peak_bytes,
            losses=losses or [],
        )


def _plain_loop(setting: Setting) -> Measurement:
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from transformers import get_scheduler

    meter, collator = Meter(setting.device), _Collator(setting)
    accelerator = Accelerator(cpu=setting.device.type == "cpu", mixed_precision=setting.mixed_precision)
    model: Any = stock_model(setting)
    loader: Any = DataLoader(
        setting.rows.tokenised,  # type: ignore[arg-type]
        shuffle=True,
        batch_size=setting.global_batch_size,
        collate_fn=collator,
    )
    undecayed = [p for name, p in model.named_parameters() if "bias" in name or "LayerNorm.weight" in name]
    decayed = [p for name, p in model.named_parameters() if not ("bias" in name or "LayerNorm.weight" in name)]
    groups = [{"params": decayed, "weight_decay": 0.0}, {"params": undecayed, "weight_decay": 0.0}]  # as the example
    optimizer: Any = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule: Any = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=len(loader))
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    model.train()
    losses = []
    meter.start()
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    meter.stop()
    return collator.measurement(meter, [float(loss) for loss in losses])


@contextmanager
def _whole_vocabulary(setting: Setting) -> Iterator[None]:
    """Makes the harness train the embeddings of all tokens of the task, not only of those in the rows of a round."""
    from harness.engine.adaptations import vocabulary

    original = vocabulary.narrow
    calls = 0

    def narrow(model: PreTrainedModel, splits: Iterable[Encoded]) -> bool:
        nonlocal calls
        calls += 1
        return original(model, [*splits, setting.encoded_vocabulary])

    vocabulary.narrow = narrow
    try:
        yield
    finally:
        vocabulary.narrow = original
    assert calls, "the harness does not call vocabulary.narrow any more"


@contextmanager
def _timed_steps(meter: Meter, untimed_epochs: int) -> Iterator[list[Any]]:
    """Runs the meter from before the first step of the timed epoch until after its last; yields the list of its steps.

    Wraps `training_steps` of the harness in a generator that passes its steps on, so all it does is measured.
    """
    from harness.engine import training

    timed_steps: list[Any] = []
    original = training.training_steps

    def training_steps(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        if untimed_epochs == 0:
            meter.start()
        for step in original(*arguments, **keywords):
            if step.epoch > untimed_epochs:
                timed_steps.append(step)
                if step.ends_epoch:
                    meter.stop()
            yield step
            if step.ends_epoch and step.epoch == untimed_epochs:
                meter.start()

    training.training_steps = training_steps  # type: ignore[assignment]
    try:
        yield timed_steps
    finally:
        training.training_steps = original
