"""Several ways to train the same model on the same rows for one epoch, each timed over its steps alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from benchmarks.measuring import Watch, keep_freed_memory, silently
from benchmarks.rows import TaskRows
from harness.engine.encoding import Encoded
from harness.errors import UserError
from harness.facts.tasks import TaskSpec

LEARNING_RATE = 2e-5
MAX_GRAD_NORM = 1.0


@dataclass(frozen=True)
class Setting:
    """What all variants share."""

    rows: TaskRows
    all_rows: int
    """Training rows of the task, of which `rows` are those of one round."""
    model: str
    revision: str | None
    tokenizer: Tokenizer
    global_batch_size: int
    max_length: int
    precision: Literal["fp32", "bf16", "fp16"]
    device: torch.device
    seed: int
    limit_batch: int | None = None
    """Rows of a forward pass of `limit`; None for a whole window."""
    untimed_epochs: int = 0
    """Of the harness, before the one that is timed."""
    flags: tuple[str, ...] = ()
    """More flags for the harness alone."""

    @property
    def mixed_precision(self) -> str:
        """As accelerate calls it."""
        return "no" if self.precision == "fp32" else self.precision

    @property
    def pads_to(self) -> int | None:
        """Lengths are multiples of this in mixed precision on a GPU, as the examples have it for its tensor cores."""
        return 8 if self.device.type == "cuda" and self.precision != "fp32" else None


class Measured(NamedTuple):
    """What an epoch took."""

    seconds: float
    steps: int
    rows: int
    tokens: int
    """Real ones."""
    computed_tokens: int
    """Those and their padding."""
    peak_bytes: int
    losses: list[float]
    """Of each step, where the variant knows them."""


def plain(setting: Setting) -> Measured:
    """The loop of transformers' run_glue_no_trainer example as shipped: random batches padded to their longest row
    through a DataLoader, fp32, AdamW that is not fused, no clipping."""
    return _plain_loop(replace(setting, precision="fp32"))


def plain_mixed(setting: Setting) -> Measured:
    """The same loop in the harness's precision."""
    return _plain_loop(setting)


def trainer(setting: Setting) -> Measured:
    """transformers.Trainer at its best: mixed precision, rows grouped by length, fused AdamW; nothing logged or saved.

    Its sampler sorts within a quarter of the rows, at most 50 batches. Of the few rows of a round it would sort within
    far fewer than of the whole task, so it is given the number that the whole task would have.
    """
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.trainer_pt_utils import get_length_grouped_indices

    watch, collator = Watch(setting.device), _Collator(setting)
    lengths, batch = setting.rows.lengths.tolist(), setting.global_batch_size

    class Timed(TrainerCallback):
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            watch.start()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            watch.stop()

    class Grouping(torch.utils.data.Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            at_once = max(1, min(setting.all_rows // (4 * batch), 50))
            return iter(get_length_grouped_indices(lengths, batch, mega_batch_mult=at_once))

        def __len__(self) -> int:
            return len(lengths)

    class Grouped(Trainer):
        def _get_train_sampler(self, train_dataset: Any = None) -> torch.utils.data.Sampler[int]:
            sampler = super()._get_train_sampler(train_dataset)
            assert type(sampler).__name__ == "LengthGroupedSampler", "Trainer groups by length in another way now"
            return Grouping()

    with TemporaryDirectory() as folder, silently():
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=batch,
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
    return collator.measured(watch)


def ours(setting: Setting, watch_of: Callable[[torch.device], Watch] = Watch) -> Measured:
    """The harness: `harness run` itself, on these rows, with a clock around its steps."""
    from harness.requests.options import parse_options
    from harness.run import run

    watch = watch_of(setting.device)
    os.environ["HARNESS_CACHE"] = ""  # tokens of a round are of no use to anybody later
    timed = _timed_updates(watch, setting.untimed_epochs)
    with TemporaryDirectory() as scratch, silently() as said, _whole_vocabulary(setting), timed as taken:
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
        words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
        words += ["--revision", setting.revision] if setting.revision else []
        try:
            record = run(parse_options([*words, *setting.flags]))
        except SystemExit:
            raise UserError(f"harness run: {said.getvalue()}") from None
        assert record.status in ("ok", "collapsed"), f"{record.error}\n{said.getvalue()}"
        assert record.environment is not None
        assert record.environment.precision == setting.precision, record.notes
    return Measured(
        seconds=watch.seconds,
        steps=len(taken),
        rows=sum(step.rows for step in taken),
        tokens=sum(step.tokens for step in taken),
        computed_tokens=sum(step.computed_tokens for step in taken),
        peak_bytes=watch.peak_bytes,
        losses=[float(step.loss) for step in taken],
    )


def limit(setting: Setting) -> Measured:
    """What the arithmetic costs: forward, backward, clipping and fused AdamW in a bare loop over prepared batches, on
    the device already, of rows that are exactly equally long, so that there is neither padding nor a mask.

    The model is as the harness trains it. A window's rows are cut from the tokens of the real rows, which are sorted by
    length: as many rows, as many tokens up to rounding.
    """
    return _bare_loop(setting, setting.limit_batch or setting.global_batch_size, is_stock=False)


def limit_stock(setting: Setting) -> Measured:
    """The same with the model as transformers makes it: all of its embeddings, torch's dropout."""
    return _bare_loop(setting, setting.limit_batch or setting.global_batch_size, is_stock=True)


def fastest_limit_batch(setting: Setting) -> int:
    """Rows of a forward pass with which `limit` is fastest: a whole window, or 8 where caches are small."""
    if setting.device.type == "cuda":
        return setting.global_batch_size
    seconds = {size: _bare_loop(setting, size, is_stock=False).seconds for size in (setting.global_batch_size, 8)}
    return min(seconds, key=lambda size: seconds[size])


VARIANTS: dict[str, Callable[[Setting], Measured]] = {
    "plain": plain,
    "plain-mixed": plain_mixed,
    "trainer": trainer,
    "ours": ours,
    "limit": limit,
    "limit-stock": limit_stock,
}


def stock_model(setting: Setting) -> PreTrainedModel:
    """The model with a head for the task, as transformers makes it."""
    task: TaskSpec = setting.rows.task
    torch.manual_seed(setting.seed)
    with silently():
        return AutoModelForSequenceClassification.from_pretrained(
            setting.model,
            **({"revision": setting.revision} if setting.revision else {}),
            num_labels=task.classes,
            problem_type="regression" if task.is_regression else "single_label_classification",
            dtype=torch.float32,
        )


class _Collator:
    """transformers' padding of a batch to its longest row, which also counts what it hands out."""

    def __init__(self, setting: Setting) -> None:
        self.pad = DataCollatorWithPadding(setting.tokenizer, pad_to_multiple_of=setting.pads_to)
        self.drawn: list[int] = []
        self.batches = self.tokens = self.computed_tokens = 0

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        self.drawn += [row.pop("row") for row in rows]
        self.tokens += sum(len(row["input_ids"]) for row in rows)
        batch = self.pad(rows)
        self.computed_tokens += batch["input_ids"].numel()
        self.batches += 1
        return batch

    def measured(self, watch: Watch, losses: list[float] | None = None) -> Measured:
        """What the watch saw of these batches, each row of which was drawn once."""
        assert len(set(self.drawn)) == len(self.drawn), "a row was drawn twice"
        return Measured(
            seconds=watch.seconds,
            steps=self.batches,
            rows=len(self.drawn),
            tokens=self.tokens,
            computed_tokens=self.computed_tokens,
            peak_bytes=watch.peak_bytes,
            losses=losses or [],
        )


def _plain_loop(setting: Setting) -> Measured:
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from transformers import get_scheduler

    watch, collator = Watch(setting.device), _Collator(setting)
    accelerator = Accelerator(cpu=setting.device.type == "cpu", mixed_precision=setting.mixed_precision)
    model: Any = stock_model(setting)
    loader: Any = DataLoader(
        setting.rows.tokenised,  # type: ignore[arg-type]
        shuffle=True,
        batch_size=setting.global_batch_size,
        collate_fn=collator,
    )
    spared = [p for name, p in model.named_parameters() if "bias" in name or "LayerNorm.weight" in name]
    others = [p for name, p in model.named_parameters() if not ("bias" in name or "LayerNorm.weight" in name)]
    groups = [{"params": others, "weight_decay": 0.0}, {"params": spared, "weight_decay": 0.0}]
    optimizer: Any = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule: Any = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=len(loader))
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    model.train()
    losses = []
    watch.start()
    for batch in loader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    watch.stop()
    return collator.measured(watch, [float(loss) for loss in losses])


def _adapt(model: PreTrainedModel, setting: Setting) -> None:
    """Changes the model as the harness does before it trains on one process."""
    from harness.engine.adaptations import adapt
    from harness.engine.adaptations.float32_head import compute_head_in_float32

    compute_head_in_float32(model)
    rows = {"train": _whole_task(setting)}
    adapt(model, rows, setting.device, is_distributed=False, is_compiled=False, has_whole_weights=True)


def _whole_task(setting: Setting) -> Encoded:
    """Stands for all rows of the task, where only the tokens that occur in them count."""
    tokens = setting.rows.vocabulary.astype(np.int32)
    padding = {"input_ids": int(setting.tokenizer.pad_token_id or 0)}
    return Encoded({"input_ids": tokens}, np.array([0, len(tokens)]), padding, None)


@contextmanager
def _whole_vocabulary(setting: Setting) -> Iterator[None]:
    """The harness trains embeddings of tokens that occur: of those in the whole task, not in the rows of a round."""
    from harness.engine.adaptations import vocabulary

    original = vocabulary.narrow
    called = []

    def narrow(model: PreTrainedModel, splits: Iterable[Encoded]) -> bool:
        called.append(True)
        return original(model, [*splits, _whole_task(setting)])

    vocabulary.narrow = narrow
    try:
        yield
    finally:
        vocabulary.narrow = original
    assert called, "the harness narrows the vocabulary in another way now"


@contextmanager
def _timed_updates(watch: Watch, untimed_epochs: int) -> Iterator[list[Any]]:
    """The steps of one epoch that the harness takes in the body; the watch runs from before the first until the last.

    Its own `training_steps` is replaced by one that passes on what it gives: whatever it does is measured as it is.
    """
    from harness.engine import training

    taken: list[Any] = []
    original = training.training_steps

    def timed(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        if untimed_epochs == 0:
            watch.start()
        for step in original(*arguments, **keywords):
            if step.epoch > untimed_epochs:
                taken.append(step)
                if step.ends_epoch:
                    watch.stop()
            yield step
            if step.ends_epoch and step.epoch == untimed_epochs:
                watch.start()

    training.training_steps = timed  # type: ignore[assignment]
    try:
        yield taken
    finally:
        training.training_steps = original


def _bare_loop(setting: Setting, device_batch_size: int, is_stock: bool) -> Measured:
    keep_freed_memory(True)
    watch = Watch(setting.device)
    windows = list(_even_windows(setting, device_batch_size))
    np.random.default_rng(setting.seed).shuffle(windows)  # type: ignore[arg-type]
    model = stock_model(setting)
    if not is_stock:
        _adapt(model, setting)
    model = model.to(setting.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    autocast = torch.autocast(
        setting.device.type,
        torch.float16 if setting.precision == "fp16" else torch.bfloat16,
        enabled=setting.precision != "fp32",
    )
    scaler = torch.amp.GradScaler(setting.device.type, enabled=setting.precision == "fp16")
    loss_of = functional.mse_loss if setting.rows.task.is_regression else functional.cross_entropy
    watch.start()
    for window in windows:
        total = sum(len(labels) for _, labels in window)
        for inputs, labels in window:
            with autocast:
                logits = model(**inputs).logits.float()
            loss = loss_of(logits.squeeze(-1) if logits.shape[1] == 1 else logits, labels, reduction="sum")
            scaler.scale(loss / total).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
    watch.stop()
    tokens = sum(inputs["input_ids"].numel() for window in windows for inputs, _ in window)
    rows = sum(len(labels) for window in windows for _, labels in window)
    return Measured(watch.seconds, len(windows), rows, tokens, tokens, watch.peak_bytes, [])


Prepared = tuple[dict[str, torch.Tensor], torch.Tensor]


def _even_windows(setting: Setting, device_batch_size: int) -> Iterator[list[Prepared]]:
    """The windows of `limit`: each a list of (inputs, labels), rows of a batch equally long."""
    lengths, columns = setting.rows.lengths, setting.rows.tokenised.to_dict()
    order = np.argsort(lengths, kind="stable")
    names = [name for name in ("input_ids", "token_type_ids") if name in columns]
    labels = torch.tensor(columns["labels"])
    labels = labels.float() if labels.is_floating_point() else labels

    def batch(chosen: NDArray[np.int64]) -> Prepared:
        length = max(1, round(float(lengths[chosen].mean())))
        inputs = {}
        for name in names:
            flat = np.concatenate([columns[name][row] for row in chosen])
            even = np.resize(flat, (len(chosen), length)).astype(np.int64)
            inputs[name] = torch.from_numpy(even).to(setting.device)
        return inputs, labels[torch.from_numpy(chosen)].to(setting.device)

    for start in range(0, len(order), setting.global_batch_size):
        window = order[start : start + setting.global_batch_size]
        yield [batch(window[at : at + device_batch_size]) for at in range(0, len(window), device_batch_size)]
