"""The verification of records: whether a record agrees with itself, and whether somebody else's re-run agrees with it.

A re-run has the same spec, so it has the same run_id; it is in a results folder of its own in `reruns/`.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.facts.outcome import is_collapsed
from harness.facts.packing import unpack_array
from harness.facts.recipes import Recipe
from harness.facts.records import RunRecord, RunSpec, read_records, record_path
from harness.metrics.metric import Metric
from harness.metrics.registry import METRICS
from harness.stats.groups import Group, spread_of
from harness.stats.uncertainty import Interval

Level = Literal["reported", "checked", "verified"]

LEVELS: dict[Level, str] = {
    "reported": "a record alone: its scores cannot be computed again from it, or it contradicts itself",
    "checked": "the scores follow from the stored predictions and gold labels",
    "verified": "checked, and somebody else's re-run agrees: equal in every bit on CPUs, within the interval on a GPU",
}
"""The meaning of each level, the weakest first."""

_TOLERANCE = 1e-9
"""Two metrics of the same rows are equal up to this, the error of floating-point sums."""

_GPU = re.compile(r"NVIDIA|Tesla|GeForce|Quadro|Instinct|Radeon|GPU")
"""A part of the product name of every GPU, and of no processor."""


class Finding(NamedTuple):
    """A field of a record that contradicts another, or a file."""

    field: str
    """Its path, such as `metrics.validation.accuracy`."""
    message: str


class Rerun(NamedTuple):
    """A record of the same spec from another results folder."""

    path: str
    """The file, relative to the results folder."""
    record: RunRecord


Agreement = Literal["equal", "within", "outside", "unknown"]
"""A re-run is equal in every bit; or its score is within the interval, or outside; or there is no interval."""


class RerunOutcome(NamedTuple):
    """A re-run compared with the record of the same spec."""

    path: str
    """The file, relative to the results folder."""
    agreement: Agreement
    score: float | None
    """The main score of the record."""
    rerun_score: float | None
    interval: Interval | None
    """The 95 % interval of the group's score, widened for a single run."""
    changed_rows: dict[str, int]
    """The number of rows with another prediction, by split."""
    differences: list[str]
    """Differences of machine, versions, precision, model and data, as `torch: 2.12.0 -> 2.13.0`."""


class Reruns(NamedTuple):
    """Re-runs by run_id, and a message for each file that is not a readable record."""

    by_run: dict[str, list[Rerun]]
    messages: list[str]


def read_reruns(results: Path) -> Reruns:
    """Reads the records under `results/reruns/<name>`, and those of test mode under `results/reruns/<name>/test-mode`.

    Raises:
        UserError: a folder cannot be read.
    """
    reruns = Reruns(defaultdict(list), [])
    folders = [path for pattern in ("*", "*/test-mode") for path in (results / "reruns").glob(pattern)]
    for folder in sorted(path for path in folders if path.is_dir()):
        records, messages = read_records(folder)
        reruns.messages.extend(messages)
        for record in records:
            path = record_path(folder, record.spec.task, record.run_id).relative_to(results).as_posix()
            reruns.by_run[record.run_id].append(Rerun(path, record))
    return reruns


# -- a record and itself -----------------------------------------------------------------------------------------------


def contradictions(record: RunRecord) -> list[Finding]:
    """The fields of a record that contradict others of it: identity, times, rows, scores and status.

    The constant baseline is left out: the leaderboard computes it from the gold labels.
    """
    return [*_identity(record), *_rows(record), *_scores(record)]


def follows_from_predictions(record: RunRecord) -> bool:
    """True where every main score is the metric of predictions and gold in the record, without a contradiction."""
    task = record.task
    has_predictions = all(split in record.predictions and split in record.gold for split in task.report)
    is_known = all(name in METRICS for name in task.main_metrics)
    return bool(task.report) and has_predictions and is_known and not contradictions(record)


def _identity(record: RunRecord) -> Iterator[Finding]:
    spec = record.spec
    if record.run_id != spec.run_id:
        names = [name for name, candidate in _unedited(record) if candidate.run_id == record.run_id]
        message = f"expected {spec.run_id}, the hash of the spec, got {record.run_id}"
        yield Finding(f"spec.{names[0]}" if names else "run_id", message)
    for name, value in record.recipe_changes.items():
        if (actual := getattr(spec.recipe, name, None)) != value:
            yield Finding(f"recipe_changes.{name}", f"expected {actual!r} as in the spec, got {value!r}")
    if record.finished < record.started:
        yield Finding("finished", f"before the start, {record.started.isoformat()}")


def _unedited(record: RunRecord) -> Iterator[tuple[str, RunSpec]]:
    """Specs that the run_id may have been computed from, each with the one field that was edited since."""
    spec = record.spec
    if match := re.search(r"-seed(\d+)-[0-9a-f]{10}$", record.run_id):
        yield "seed", spec.model_copy(update={"seed": int(match[1])})
    defaults = {name: field.default for name, field in Recipe.model_fields.items()}
    for name, value in [*record.recipe_changes.items(), *defaults.items(), *((name, None) for name in defaults)]:
        yield f"recipe.{name}", spec.model_copy(update={"recipe": spec.recipe.model_copy(update={name: value})})
    for name in ("data", "parent", "trust_remote_code"):
        yield name, spec.model_copy(update={name: None})


def _rows(record: RunRecord) -> Iterator[Finding]:
    data, cost, recipe = record.data, record.cost, record.spec.recipe
    if data is None or not record.metrics:
        return
    for split in record.task.report:
        labels = len(unpack_array(record.gold[split])) if split in record.gold else None
        if labels is not None and data.rows.get(split) != labels:
            message = f"expected {labels:,}, the number of gold labels, got {data.rows.get(split)}"
            yield Finding(f"data.rows.{split}", message)
    if cost and recipe.max_steps is None and recipe.patience is None and record.trained_by is None:
        trained = recipe.epochs * data.rows.get("train", 0)
        if cost.rows < trained:
            message = f"{recipe.epochs} epochs are {trained:,} rows, but cost.rows is {cost.rows:,}"
            yield Finding("data.rows.train", message)
    if recipe.protocol == "holdout" or recipe.train_rows is not None or data.is_partial or record.spec.test_mode:
        return
    for split in ("train", *record.task.report):
        rows, full = data.rows.get(split), data.full_rows.get(split)
        if None not in (rows, full) and rows != full:
            yield Finding(f"data.rows.{split}", f"expected {full:,}, as in full_rows, or is_partial, got {rows:,}")


def _scores(record: RunRecord) -> Iterator[Finding]:
    task = record.task
    collapsed = []
    for split in task.report:
        if split not in record.predictions or split not in record.gold:
            continue
        predictions, gold = unpack_array(record.predictions[split]), unpack_array(record.gold[split])
        if predictions.shape != gold.shape:
            message = f"expected the shape of the gold labels, {gold.shape}, got {predictions.shape}"
            yield Finding(f"predictions.{split}", message)
            continue
        packed = record.row_groups.get(split)
        row_groups = None if packed is None else unpack_array(packed)
        collapsed.append(is_collapsed(predictions, gold, task.problem_type, row_groups))
        for name in (name for name in task.metrics if name in METRICS):
            expected = METRICS[name].of_or_none(predictions, gold, row_groups)
            actual = record.value(split, name)
            if not _are_equal(expected, actual, METRICS[name]):
                message = f"expected {expected} from the predictions, got {actual}"
                yield Finding(f"metrics.{split}.{name}", message)
    if record.status in ("ok", "collapsed") and task.report and len(collapsed) == len(task.report):
        status = "collapsed" if all(collapsed) else "ok"
        if record.status != status:
            yield Finding("status", f"expected {status} from the predictions, got {record.status}")


def _are_equal(one: float | None, other: float | None, metric: Metric) -> bool:
    """True for two values of a metric on the same rows that differ by rounding at most, or are both undefined.

    An error without an upper limit may be small as a whole, so that its rounding error is relative.
    """
    if one is None or other is None:
        return one is other
    absolute = _TOLERANCE if math.isfinite(metric.highest) else 0.0
    return math.isclose(one, other, rel_tol=_TOLERANCE, abs_tol=absolute)


# -- a record and its re-runs ------------------------------------------------------------------------------------------


def level_of(group: Group, interval: Interval | None, reruns: Mapping[str, Sequence[Rerun]]) -> Level:
    """The level of a group's score, with its 95 % interval: the weakest of its runs' levels."""
    if not group.scored or not all(map(follows_from_predictions, group.scored)):
        return "reported"
    repeated = [agreeing_reruns(run, reruns.get(run.run_id, ())) for run in group.scored]
    if all(repeated):
        return "verified"
    by_run = [independent_reruns(run, reruns.get(run.run_id, ())) for run in group.scored]
    if interval is None or not all(by_run):
        return "checked"
    every = [rerun.record for one in by_run for rerun in one]
    score = spread_of([group.score_of(run) for run in every], group.aggregate).center
    is_within = score is not None and interval.low <= score <= interval.high
    return "verified" if is_within and all(map(ran_on_gpu, [*every, *group.scored])) else "checked"


def independent_reruns(record: RunRecord, reruns: Sequence[Rerun]) -> list[Rerun]:
    """The re-runs of the same spec whose scores follow from their own predictions; copies do not count."""
    return [
        rerun
        for rerun in reruns
        if rerun.record.spec == record.spec
        and (rerun.record.started, rerun.record.finished) != (record.started, record.finished)
        and follows_from_predictions(rerun.record)
    ]


def agreeing_reruns(record: RunRecord, reruns: Sequence[Rerun]) -> list[Rerun]:
    """The independent re-runs that are equal in every bit: data, weights, predictions and metrics."""
    fields = ("weights_sha256", "predictions", "gold", "metrics", "threshold")
    return [
        rerun
        for rerun in independent_reruns(record, reruns)
        if all(getattr(rerun.record, field) == getattr(record, field) for field in fields)
        and rerun.record.data is not None
        and record.data is not None
        and rerun.record.data.fingerprint == record.data.fingerprint
    ]


def compare_reruns(
    record: RunRecord, reruns: Sequence[Rerun], group: Group | None, interval: Interval | None
) -> list[RerunOutcome]:
    """The outcome of each independent re-run of a run; `interval` is that of the score of its group."""
    equal = [rerun.path for rerun in agreeing_reruns(record, reruns)]
    if group is None or group.score.center is None or interval is None:
        interval = None
    else:  # of one run in place of n: the variance over seeds is n times that of their mean
        center, widening = group.score.center, math.sqrt(len(group.scored))
        interval = Interval(center - widening * (center - interval.low), center + widening * (interval.high - center))
    outcomes = []
    for path, rerun in independent_reruns(record, reruns):
        score, rerun_score = (group.score_of(run) if group else None for run in (record, rerun))
        if path in equal:
            agreement: Agreement = "equal"
        elif interval is None or rerun_score is None:
            agreement = "unknown"
        else:
            agreement = "within" if interval.low <= rerun_score <= interval.high else "outside"
        changed, differences = _changed_rows(record, rerun), list(_differences(record, rerun))
        outcomes.append(RerunOutcome(path, agreement, score, rerun_score, interval, changed, differences))
    return outcomes


def _changed_rows(record: RunRecord, rerun: RunRecord) -> dict[str, int]:
    """The number of rows with another prediction, by split with the same number of rows."""
    changed = {}
    for split in record.predictions.keys() & rerun.predictions.keys():
        one, other = (unpack_array(run.predictions[split]) for run in (record, rerun))
        if one.shape == other.shape:
            changed[split] = int((one != other).reshape(len(one), -1).any(axis=1).sum())
    return dict(sorted(changed.items()))


def _differences(record: RunRecord, rerun: RunRecord) -> Iterator[str]:
    """The differences besides the results: of the environment, the model's commit and the data."""
    one, other = _circumstances(record), _circumstances(rerun)
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            yield f"{name}: {one.get(name)} -> {other.get(name)}"


def _circumstances(record: RunRecord) -> dict[str, Any]:
    environment = record.environment.model_dump(exclude={"git_dirty", "accumulation"}) if record.environment else {}
    versions: dict[str, Any] = environment.pop("versions", {})
    devices = ", ".join(f"{number} x {name}" for name, number in Counter(environment.pop("devices", [])).items())
    commit, fingerprint = record.model and record.model.commit, record.data and record.data.fingerprint
    return versions | environment | {"devices": devices, "model.commit": commit, "data.fingerprint": fingerprint}


def ran_on_gpu(record: RunRecord) -> bool:
    """True when every device of the run was a GPU."""
    devices = record.environment.devices if record.environment else []
    return bool(devices) and all(_GPU.search(name) for name in devices)
