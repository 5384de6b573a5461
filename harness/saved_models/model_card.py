"""The README of a trained model: what it is, what it scored, and how to make it again; with metadata for the Hub."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from harness.commands.export import model_index
from harness.facts.metrics import title_of
from harness.facts.packing import unpack_array
from harness.facts.records import RunRecord
from harness.facts.tasks import TaskSpec
from harness.stats.resampling import can_resample, resampled
from harness.stats.uncertainty import percentiles, wilson

_RESAMPLES = 2_000
"""Of the rows of a split, for an interval: a card is written at the end of every run that keeps its model."""


def model_card(task: TaskSpec, record: RunRecord) -> str:
    """The whole README, its YAML head included. Nothing in it is asked of the network."""
    from huggingface_hub import ModelCard

    spec = record.spec
    title = "" if task.title == spec.task else f" ({task.title})"
    parts = [
        f"---\n{_metadata(task, record)}\n---\n",
        f"# {_short(spec.model)} on {task.title}\n",
        f"{_code(spec.model)}, fine-tuned on the task {_code(spec.task)}{title} with the GLUE fine-tuning "
        f"harness. The run is {_code(record.run_id)}; `record.json` beside this file holds all that is known of it, "
        "and `task.yaml` the task.\n",
        *(f"> {warning}\n" for warning in _warnings(record)),
        "## Scores\n",
        _scores(record),
        "## Use\n",
        _use(task, record),
        "## How it was trained\n",
        f"```bash\n{re.sub('^harness/run.py ', 'harness run ', record.command)}\n```\n",
        _recipe(record),
    ]
    return str(ModelCard("\n".join(parts), ignore_metadata_errors=True))


def _metadata(task: TaskSpec, record: RunRecord) -> str:
    from huggingface_hub import ModelCardData

    spec, source = record.spec, task.source
    results = [] if spec.test_mode else model_index([record])
    is_hub_model = not spec.revision.startswith("sha256:") and not spec.test_mode
    data = ModelCardData(
        base_model=spec.model if is_hub_model else None,
        datasets=[source.hub] if source.hub and not spec.test_mode and spec.data is None else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["glue-harness", *([task.suite] if task.suite else [])],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=record.run_id,
        eval_results=results or None,
    )
    return str(data.to_yaml(line_break="\n"))


def _warnings(record: RunRecord) -> list[str]:
    """What a reader of the scores must know."""
    told = []
    if record.spec.test_mode:
        told.append("A run in test mode, on generated rows and with a tiny model: its scores are no benchmark results.")
    if record.status == "collapsed":
        told.append("The run collapsed: one class, or value, was predicted throughout.")
    if record.data is not None and record.data.is_partial:
        told.append("It was trained or scored on partial data: its scores do not compare with those on the full data.")
    shared = record.data.shared_texts if record.data else {}
    told += [_shared(pair, count) for pair, count in shared.items()]
    return told


def _shared(pair: str, rows: int) -> str:
    first, second = pair.split(" & ")
    return f"{rows:,} row{'s' if rows > 1 else ''} of {second} ha{'ve' if rows > 1 else 's'} a text of {first}."


def _scores(record: RunRecord) -> str:
    rows = record.data.rows if record.data else {}
    head = ("split", "rows", "metric", "value", "95 % interval", "best constant answer")
    lines = [f"| {' | '.join(head)} |", "|---|---:|---|---:|---:|---:|"]
    for split, values in record.metrics.items():
        for name, value in values.items():
            constant = record.baseline.get(split, {}).get(name)
            cells = (split, f"{rows.get(split, 0):,}", title_of(name), _shown(value))
            lines.append(f"| {' | '.join(cells)} | {_interval(record, split, name, value)} | {_shown(constant)} |")
    notes = [f"- {note}" for note in record.notes]
    about = (
        "The interval tells how much hangs on which rows the split has: Wilson's of a share of rows, else the "
        f"percentiles of {_RESAMPLES:,} resamples of the rows. What another seed would change, one run cannot tell."
    )
    return "\n".join([*lines, "", about, "", *notes, *([""] if notes else [])])


def _interval(record: RunRecord, split: str, metric: str, value: float | None) -> str:
    """From the answers that the record keeps of its reported splits; a dash where it cannot be computed."""
    if value is None or split not in record.predictions or split not in record.gold or not can_resample([metric]):
        return "–"
    gold, answers = unpack_array(record.gold[split]), unpack_array(record.predictions[split])
    if gold.ndim != 1:
        return "–"
    if metric == "accuracy":
        low, high = wilson(value, len(gold))
    else:
        drawn = resampled([metric], [answers[None]], gold, f"{record.spec.task}.{split}", _RESAMPLES)[0]
        if not np.isfinite(drawn).all():
            return "–"
        low, high = percentiles(drawn)
    return f"{low:.4f} to {high:.4f}"


def _use(task: TaskSpec, record: RunRecord) -> str:
    example = '{"text": "a text", "text_pair": "its pair"}' if len(task.text) == 2 else '"a text"'
    extra = ', function_to_apply="none"' if task.is_regression else ", top_k=None" if task.is_multi_label else ""
    return (
        "```python\n"
        "from transformers import pipeline\n\n"
        'classify = pipeline("text-classification", "PATH OR NAME OF THIS MODEL", truncation=True)\n'
        f"print(classify({example}{extra}))\n"
        "```\n\n"
        f"It reads {record.spec.recipe.max_length} tokens, as in training; longer inputs are cut there. "
        f"{_answers(task, record)}\n"
    )


def _answers(task: TaskSpec, record: RunRecord) -> str:
    if task.labels is None:
        return "It answers with a value."
    names = ", ".join(map(_code, task.labels))
    if record.threshold is None:
        return f"It answers with one of {len(task.labels)} labels: {names}."
    return (
        f"It answers with a probability for each of {len(task.labels)} labels: {names}. A text has those whose "
        f"probability is at least {record.threshold:g}: under this threshold it was scored."
    )


def _recipe(record: RunRecord) -> str:
    facts: dict[str, Any] = {"seed": record.spec.seed, **record.spec.recipe.model_dump(exclude_none=True)}
    if record.selected_epoch is not None:
        facts["epoch of these weights"] = record.selected_epoch
    if (where := record.environment) is not None:
        facts |= {
            "precision": where.precision,
            "devices": f"{where.processes} x {', '.join(sorted(set(where.devices)))}",
        }
        facts |= {name: where.versions[name] for name in ("torch", "transformers") if name in where.versions}
    lines = [f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _short(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1]


def _code(text: str) -> str:
    return f"`{text.replace('`', '')}`"
