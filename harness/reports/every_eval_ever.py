"""A record in the schema of Every Eval Ever, version 0.2.1, by which evaluation results are collected in one place.

The schema is eval.schema.json of https://github.com/evaleval/every_eval_ever. All it has no field for stands in its
`additional_details`, whose values are strings.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from harness.facts.metrics import METRICS, title_of
from harness.facts.records import RunRecord
from harness.stats.uncertainty import CONFIDENCE, wilson

SCHEMA_VERSION = "0.2.1"

Relationship = Literal["first_party", "third_party", "collaborative", "other"]


class Evaluator(NamedTuple):
    """Who made the runs."""

    organization: str
    relationship: Relationship
    """To those who made the model that was fine-tuned."""


class Source(NamedTuple):
    """Where the rows of a run can be had."""

    repository: str | None = None
    """A data set on the Hub."""
    config: str | None = None
    revision: str | None = None
    urls: tuple[str, ...] = ()
    """Files, for a source that is not on the Hub."""


def source_of(run: RunRecord) -> Source:
    """Nothing is known of files of one's own, nor of generated rows."""
    if run.data is None or run.spec.data is not None or run.spec.test_mode or run.data.source == "files":
        return Source()
    if "://" in run.data.source:
        return Source(revision=run.data.revision, urls=tuple(run.data.source.split(", ")))
    owner, _, rest = run.data.source.partition("/")
    name, _, config = rest.partition("/")
    return Source("/".join(filter(None, (owner, name))), config or None, run.data.revision)


def every_eval_ever(run: RunRecord, evaluator: Evaluator) -> dict[str, Any]:
    """A result for each metric of each split that was scored, as fractions where the metric ranges to 1.

    Metrics that the harness does not know itself are left out, for the schema wants their direction and limits; an
    undefined one is left out too. The same record gives the same content: both timestamps are that of its end.
    """
    model, versions = run.spec.model.rstrip("/"), run.environment.versions if run.environment else {}
    is_on_hub = not run.spec.revision.startswith("sha256:")
    name = model if is_on_hub else model.rsplit("/", 1)[-1]
    ended = f"{run.finished.timestamp():.6f}"
    developer = {"developer": name.split("/")[0]} if is_on_hub and "/" in name else {}
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{run.spec.task}/{name}/{ended}",
        "evaluation_timestamp": ended,
        "retrieved_timestamp": ended,
        "source_metadata": {
            "source_name": "glue-harness",
            "source_type": "evaluation_run",
            "source_organization_name": evaluator.organization,
            "evaluator_relationship": evaluator.relationship,
        },
        "eval_library": {
            "name": "glue-harness",
            "version": versions.get("harness", "unknown"),
            "additional_details": _strings(
                {"run_id": run.run_id, "status": run.status, "notes": run.notes or None}
                | {"git_commit": run.environment and run.environment.git_commit}
                | {"versions": versions, "record_schema_version": run.schema_version}
            ),
        },
        "model_info": {
            "name": name.rsplit("/", 1)[-1],
            "id": name,
            **developer,
            "inference_engine": {"name": "transformers", "version": versions.get("transformers", "unknown")},
            "additional_details": _strings(
                {"fine_tuned_on": run.spec.task, "trained_by": run.trained_by, "seed": run.spec.seed}
                | {"revision": run.spec.revision, "recipe": run.spec.recipe.model_dump(exclude_none=True)}
                | (run.model.model_dump() if run.model else {})
                | {"weights_sha256": run.weights_sha256}
            ),
        },
        "evaluation_results": list(_results(run)),
    }


def _results(run: RunRecord) -> Iterator[dict[str, Any]]:
    for split, values in run.metrics.items():
        for name, value in values.items():
            if value is None or name not in METRICS:
                continue
            title, metric = title_of(name), METRICS[name]
            yield {
                "evaluation_name": f"{run.spec.task}.{split}.{name}",
                "source_data": _source_data(run, split),
                "evaluation_timestamp": f"{run.finished.timestamp():.6f}",
                "metric_config": {
                    "evaluation_description": f"{title} on {split} of {run.task.title}",
                    "lower_is_better": metric.lower_is_better,
                    "score_type": "continuous",
                    "min_score": metric.lowest,
                    # the schema wants a number, and JSON has no infinity
                    "max_score": min(metric.highest, sys.float_info.max),
                    "additional_details": _strings(
                        {"metric": name, "is_headline": name in run.task.main_metrics and split in run.task.report}
                        | {"best_constant_answer": run.baseline.get(split, {}).get(name)}
                    ),
                },
                "score_details": {"score": value, "uncertainty": _uncertainty(name, value, _rows(run, split))},
                "generation_config": {
                    "generation_args": {"execution_command": run.command},
                    "additional_details": _strings(
                        run.environment.model_dump(exclude={"versions", "git_commit"}) if run.environment else {}
                    ),
                },
            }


def _uncertainty(metric: str, value: float, rows: int) -> dict[str, Any]:
    """Over the rows; of accuracy alone it follows from the score."""
    if metric != "accuracy":
        return {"num_samples": rows}
    low, high = wilson(value, rows)
    about = dict(confidence_level=CONFIDENCE, method="Wilson score interval over the rows of the split")
    return {"confidence_interval": dict(lower=low, upper=high, **about), "num_samples": rows}


def _rows(run: RunRecord, split: str) -> int:
    assert run.data is not None, run.run_id  # it has a score
    return run.data.rows[split]


def _source_data(run: RunRecord, split: str) -> dict[str, Any]:
    source, data = source_of(run), run.data
    assert data is not None, run.run_id
    about = {
        "dataset_name": run.task.title,
        "additional_details": _strings(
            {
                "task": run.spec.task,
                "task_version": run.spec.task_version,
                "task_fingerprint": run.spec.task_fingerprint,
            }
            | {"split": split, "rows": data.rows[split], "is_partial": data.is_partial}
            | {"config": source.config, "revision": source.revision, "fingerprint": data.fingerprint}
        ),
    }
    if source.repository:
        rows = data.rows[split]
        return about | dict(source_type="hf_dataset", hf_repo=source.repository, hf_split=split, samples_number=rows)
    return about | (dict(source_type="url", url=list(source.urls)) if source.urls else dict(source_type="other"))


def _strings(facts: Mapping[str, Any]) -> dict[str, str]:
    """Without those that are None; what is no string becomes JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
        if value is not None
    }


def place_of(run: RunRecord) -> Path:
    """Where the collection keeps it: by benchmark, developer and model, in a file whose name has the form of a UUID."""
    name = run.spec.model.rstrip("/")
    developer, _, model = name.rpartition("/") if not run.spec.revision.startswith("sha256:") else ("", "", name)
    folders = (run.spec.task, developer or "unknown", model.rsplit("/", 1)[-1])
    number = uuid.UUID(bytes=hashlib.sha256(run.run_id.encode()).digest()[:16], version=4)
    return Path(*(re.sub(r"[^\w.-]+", "-", folder).strip("-.") or "unknown" for folder in folders)) / f"{number}.json"
