"""The README of a trained model: its scores, its use, the command that trained it, and metadata for the Hub."""

from __future__ import annotations

import json
import re
from typing import Any

from harness.facts.evaluation_steps import epoch_text
from harness.facts.packing import unpack_array
from harness.facts.records import RunRecord
from harness.facts.suites import registered_suites
from harness.facts.tasks import TaskSpec
from harness.metrics.registry import baseline_name, format_score, title_of
from harness.reports.hub_metadata import model_index
from harness.reports.learning_curve import PLOT, curve_table
from harness.reports.markdown_text import printable_line
from harness.stats.groups import MARKS, group_runs, sort_marks
from harness.stats.resampling import can_resample, pseudo_rows, resampled
from harness.stats.uncertainty import row_intervals, sample_of

_RESAMPLES = 2_000
"""Resamples of a split's rows for an interval; fewer than a leaderboard's, since every saved model waits for them."""

_RECIPE_MARKS = frozenset("rhgs")
"""Marks of the leaderboard that the recipe alone decides; a card repeats them as warnings."""


def model_card(task: TaskSpec, record: RunRecord) -> str:
    """Returns the whole README with its YAML head, without access to the network."""
    from huggingface_hub import ModelCard

    spec = record.spec
    title = "" if task.title == spec.task else f" ({_text(task.title)})"
    short = spec.model.rstrip("/").rsplit("/", 1)[-1]
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", record.command)), default=0))  # none in it ends the block
    parts = [
        f"---\n{_metadata(task, record)}\n---\n",
        f"# {_text(short)} on {_text(task.title)}\n",
        f"{_code(spec.model)}, fine-tuned on the task {_code(spec.task)}{title} with the GLUE fine-tuning "
        f"harness. The run is {_code(record.run_id)}; `record.json` next to this file is its full record, and "
        "`task.yaml` defines the task.\n",
        *(f"> {_text(warning)}\n" for warning in _warnings(record)),
        "## Scores\n",
        _scores(record),
        "## Use\n",
        _use(task, record),
        "## How it was trained\n",
        f"{fence}bash\n{re.sub('^harness/run.py ', 'harness run ', record.command)}\n{fence}\n",
        _recipe(record),
        *_curve(record),
    ]
    return str(ModelCard("\n".join(parts), ignore_metadata_errors=True))


def _metadata(task: TaskSpec, record: RunRecord) -> str:
    from huggingface_hub import ModelCardData

    spec, source = record.spec, task.source
    results = [] if spec.test_mode else model_index([record])
    suite = registered_suites().get(task.suite or "")
    benchmarks = [task.suite] if task.suite and (suite is None or suite.averages) else []
    is_hub_model = not spec.revision.startswith("sha256:") and not spec.test_mode
    data = ModelCardData(
        base_model=spec.model if is_hub_model else None,
        datasets=[source.hub] if source.hub and not spec.test_mode and spec.data is None else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["glue-harness", *benchmarks],
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=record.run_id,
        eval_results=results or None,
    )
    return str(data.to_yaml(line_break="\n"))


def _warnings(record: RunRecord) -> list[str]:
    """The limits of the scores, one sentence each."""
    warnings = []
    if record.spec.test_mode:
        warnings.append(
            "A run in test mode, with generated rows and a tiny model: its scores are no benchmark results."
        )
    if record.data is not None and record.data.is_unpinned:
        commit = f" This run read commit {record.data.revision}." if record.data.revision else ""
        warnings.append(f"The task's data are not pinned: later runs may read other rows.{commit}")
    if record.spec.trust_remote_code:
        warnings.append("The model runs code that comes with it, the .py files in this folder. Read them before use.")
    if record.status == "collapsed":
        warnings.append("The run collapsed: it predicts one class, or one value, for every row.")
    if record.data is not None and record.data.is_partial:
        warnings.append("Trained or scored on partial data: its scores are not comparable with those on the full data.")
    (group,) = group_runs([record])
    warnings += [f"{MARKS[mark][0].upper()}{MARKS[mark][1:]}." for mark in sort_marks(group.marks & _RECIPE_MARKS)]
    for pair, count in (record.data.shared_texts if record.data else {}).items():
        first, second = pair.split(" & ")
        warnings.append(f"{count:,} row(s) of {second} have a text that also occurs in {first}.")
    return warnings


def _scores(record: RunRecord) -> str:
    rows = record.data.rows if record.data else {}
    head = ("split", "rows", "metric", "value", "95 % interval", baseline_name(record.task.problem_type))
    lines = [f"| {' | '.join(head)} |", "|---|---:|---|---:|---:|---:|"]
    for split, values in record.metrics.items():
        for name, value in values.items():
            constant = record.baseline.get(split, {}).get(name)
            cells = (_text(split), f"{rows.get(split, 0):,}", _text(title_of(name)), format_score(value))
            lines.append(
                f"| {' | '.join(cells)} | {_interval(record, split, name, value)} | {format_score(constant)} |"
            )
    notes = [f"- {_text(note)}" for note in record.notes]
    method = (
        f"The interval covers the choice of rows in the split: the middle 95 % over {_RESAMPLES:,} resamples of the "
        "rows. It does not cover the seed, which takes more than one run."
    )
    return "\n".join([*lines, "", method, "", *notes, *([""] if notes else [])])


def _interval(record: RunRecord, split: str, metric: str, value: float | None) -> str:
    """Returns `low to high` from the predictions in the record, or a dash where they are missing or do not suffice."""
    if value is None or split not in record.predictions or split not in record.gold or not can_resample([metric]):
        return "–"
    gold, predictions = unpack_array(record.gold[split]), unpack_array(record.predictions[split])
    row_groups = unpack_array(record.row_groups[split]) if split in record.row_groups else None
    drawn = resampled([metric], predictions[None], gold, f"{record.spec.task}.{split}", _RESAMPLES, row_groups)
    is_smoothed = len(pseudo_rows([metric], predictions, gold, row_groups)[1]) > 0
    (low,), (high,) = row_intervals(sample_of([[value]], drawn, len(gold), is_smoothed, [0], [True]))
    return f"{format_score(low)} to {format_score(high)}"


def _use(task: TaskSpec, record: RunRecord) -> str:
    is_pair = len(task.text) == 2 or task.choices
    example = '{"text": "a text", "text_pair": "its pair"}' if is_pair else '"a text"'
    extra = ", top_k=None" if task.is_multi_label else ""
    if task.is_regression or task.choices:
        extra = ', function_to_apply="none"'
    loading = ", trust_remote_code=True" if record.spec.trust_remote_code else ""
    return (
        "```python\n"
        "from transformers import pipeline\n\n"
        'classify = pipeline("text-classification", "PATH OR NAME OF THIS MODEL", truncation=True'
        f"{loading})\n"
        f"print(classify({example}{extra}))\n"
        "```\n\n"
        f"It reads {record.spec.recipe.max_length} tokens, as in training, and truncates longer inputs. "
        f"{_composition(task)}{_output(task, record)}\n{_adapter_use(task, record)}"
    )


def _composition(task: TaskSpec) -> str:
    columns = [part for name in task.text if not (source := task.text_source(name)).is_column for part in source.parts]
    names = ", ".join(map(_code, columns))
    return f"Compose each text from the columns {names}, as `task.yaml` says. " if columns else ""


def _adapter_use(task: TaskSpec, record: RunRecord) -> str:
    """The code with which peft loads the adapter alone; empty without an adapter on the weights of a named model."""
    spec = record.spec
    if spec.recipe.adapter in (None, "bitfit") or spec.parent is not None or spec.test_mode:
        return ""
    commit = record.model.commit if record.model else None
    revision = f", revision={json.dumps(commit)}" if commit else ""
    code = ", trust_remote_code=True" if spec.trust_remote_code else ""
    return (
        "\nThe folder `adapter` has the adapter alone:\n\n"
        "```python\n"
        "from peft import PeftModel\n"
        "from transformers import AutoModelForSequenceClassification\n\n"
        f"base = AutoModelForSequenceClassification.from_pretrained({json.dumps(spec.model)}, "
        f"num_labels={1 if task.choices else task.classes}{revision}{code})\n"
        'model = PeftModel.from_pretrained(base, "PATH OR NAME OF THIS MODEL", subfolder="adapter")\n'
        "```\n"
    )


def _output(task: TaskSpec, record: RunRecord) -> str:
    if task.labels is None:
        return "It predicts a value."
    if task.choices:
        return (
            f"It gives a score to a text with one of its {task.classes} candidates as the pair; the candidate with the "
            "highest score is the answer."
        )
    names = ", ".join(map(_code, task.labels))
    if task.selects_answers:
        return (
            f"It says of a text with one candidate whether this is the answer ({names}). The most probable candidate "
            "of a question is its answer; `harness predict --file` finds it."
        )
    if record.threshold is None:
        return f"It predicts one of {len(task.labels)} labels: {names}."
    return (
        f"It predicts a probability for each of {len(task.labels)} labels: {names}. A text gets the labels whose "
        f"probability is at least {record.threshold:g}, the threshold of the scores above."
    )


def _recipe(record: RunRecord) -> str:
    recipe = record.spec.recipe
    ignored = set() if recipe.max_steps is None else {"epochs"}  # the steps decide, and the epochs were not trained
    facts: dict[str, Any] = {"seed": record.spec.seed, **recipe.model_dump(exclude_none=True, exclude=ignored)}
    if record.spec.recipe.adapter is not None and record.model is not None:
        counts = (record.model.trainable_parameters, record.model.parameters)
        facts["trained parameters"] = " of ".join(f"{count:,}" for count in counts if count is not None)
    if record.selected_epoch is not None:
        facts["epoch of these weights"] = epoch_text(record.selected_epoch)
    if (where := record.environment) is not None:
        facts |= {
            "precision": where.precision,
            "devices": f"{where.processes} x {', '.join(sorted(set(where.devices)))}",
        }
        facts |= {name: where.versions[name] for name in ("torch", "transformers") if name in where.versions}
    lines = [f"| {name.replace('_', ' ')} | {_text(str(value))} |" for name, value in facts.items()]
    return "\n".join(["| | |", "|---|---|", *lines, ""])


def _curve(record: RunRecord) -> list[str]:
    """Returns the section about the history, with the plot that is next to the card; none for a single evaluation."""
    if len(record.history) < 2:
        return []
    return [
        "## Learning curve\n",
        f"{len(record.history):,} evaluations on {_code(record.task.select_on)}, the scored weights in bold; "
        "`history` in `record.json` has all of them. The training loss is the mean since the evaluation before.\n",
        f"![Loss and main metrics by epoch]({PLOT})\n",
        curve_table(record),
    ]


def _text(text: str) -> str:
    """Markdown that shows exactly this text, on one line: no markup, no HTML and no end of a cell."""
    return re.sub(r"[\\`*_\[\]<>&|~$#]", r"\\\g<0>", printable_line(text))


def _code(text: str) -> str:
    return f"`{printable_line(text).replace('`', '')}`"
