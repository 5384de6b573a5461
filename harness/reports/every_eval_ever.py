"""A record in the schema of Every Eval Ever, version 0.3.0, a common collection of evaluation results.

The schema is every_eval_ever/schemas/eval.schema.json of https://github.com/evaleval/every_eval_ever, commit 805ef1e.
Facts without a field of their own are in its `additional_details`, whose values are strings.
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

from harness.facts.record_parts import DataFacts
from harness.facts.records import RunRecord
from harness.metrics.registry import METRICS, is_fraction, title_of
from harness.stats.uncertainty import CONFIDENCE

SCHEMA_VERSION = "0.3.0"

Relationship = Literal["first_party", "third_party", "collaborative", "other"]
"""The relationship of an organization to the developer of a model."""


class DataSource(NamedTuple):
    """The public source of a run's rows."""

    repository: str | None = None
    """The data set on the Hub."""
    config: str | None = None
    revision: str | None = None
    urls: tuple[str, ...] = ()
    """Addresses of the files, for a source outside the Hub."""


def data_source(run: RunRecord) -> DataSource:
    """The source of the rows; empty for local files and generated rows."""
    if run.data is None or run.spec.data is not None or run.spec.test_mode or run.data.source == "files":
        return DataSource()
    if "://" in run.data.source:
        return DataSource(revision=run.data.revision, urls=tuple(run.data.source.split(", ")))
    owner, _, rest = run.data.source.partition("/")
    name, _, config = rest.partition("/")
    return DataSource("/".join(filter(None, (owner, name))), config or None, run.data.revision)


def every_eval_ever(run: RunRecord, organization: str, relationship: Relationship) -> dict[str, Any]:
    """A result for each metric of each split that was scored, as fractions where the metric ranges to 1.

    `organization` has made the run.

    Metrics of `evaluate` are left out, because the schema requires their direction and range; undefined values are too,
    and splits without a number of rows, which an edited record may lack.
    The same record gives the same content: both timestamps are the end of the run.
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
            "source_organization_name": organization,
            "evaluator_relationship": relationship,
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
                {"deployment_type": "self_deployed", "model_availability": "open_weights" if is_on_hub else "unknown"}
                | {"fine_tuned_on": run.spec.task, "trained_by": run.trained_by, "seed": run.spec.seed}
                | {"revision": run.spec.revision, "recipe": run.spec.recipe.model_dump(exclude_none=True)}
                | (run.model.model_dump() if run.model else {})
                | {"weights_sha256": run.weights_sha256}
            ),
        },
        "evaluation_results": list(_results(run, run.data)) if run.data else [],
    }


def _results(run: RunRecord, data: DataFacts) -> Iterator[dict[str, Any]]:
    for split, values in run.metrics.items():
        rows = data.rows.get(split)
        for name, value in values.items():
            if value is None or name not in METRICS or not rows:
                continue
            title, metric = title_of(name), METRICS[name]
            yield {
                "evaluation_result_id": f"{run.run_id}.{run.spec.task}.{split}.{name}",
                "evaluation_name": f"{run.spec.task}.{split}.{name}",
                "source_data": _source_data(run, data, split),
                "evaluation_timestamp": f"{run.finished.timestamp():.6f}",
                "metric_config": {
                    "evaluation_description": f"{title} on {split} of {run.task.title}",
                    "metric_id": name,
                    "metric_name": title,
                    **({"metric_unit": "proportion"} if is_fraction(name) else {}),
                    "lower_is_better": metric.lower_is_better,
                    "score_type": "continuous",
                    "min_score": metric.lowest,
                    # the schema wants a number, and JSON has no infinity
                    "max_score": min(metric.highest, sys.float_info.max),
                    "additional_details": _strings(
                        {"metric": name, "is_main_metric": name in run.task.main_metrics and split in run.task.report}
                        | {"baseline": run.baseline.get(split, {}).get(name)}
                    ),
                },
                "score_details": {"score": value, "uncertainty": _uncertainty(run, name, value, rows)},
                "generation_config": {
                    "generation_args": {"execution_command": run.command},
                    "additional_details": _strings(
                        run.environment.model_dump(exclude={"versions", "git_commit"}) if run.environment else {}
                    ),
                },
            }


def _uncertainty(run: RunRecord, metric: str, value: float, rows: int) -> dict[str, Any]:
    """The interval over rows, which for accuracy follows from the score where rows are not in groups."""
    if metric != "accuracy" or run.row_groups:
        return {"num_samples": rows}
    from scipy.stats import binomtest

    low, high = binomtest(round(value * rows), rows).proportion_ci(CONFIDENCE, method="wilson")
    about = dict(confidence_level=CONFIDENCE, method="Wilson score interval over the rows of the split")
    return {"confidence_interval": dict(lower=low, upper=high, **about), "num_samples": rows}


def _source_data(run: RunRecord, data: DataFacts, split: str) -> dict[str, Any]:
    source, rows = data_source(run), data.rows[split]
    about = {
        "dataset_name": run.task.title,
        "additional_details": _strings(
            {
                "task": run.spec.task,
                "task_version": run.spec.task_version,
                "task_fingerprint": run.spec.task_fingerprint,
            }
            | {"split": split, "rows": rows, "is_partial": data.is_partial}
            | {"config": source.config, "revision": source.revision, "fingerprint": data.fingerprint}
        ),
    }
    if source.repository:
        return about | dict(source_type="hf_dataset", hf_repo=source.repository, hf_split=split, samples_number=rows)
    return about | (dict(source_type="url", url=list(source.urls)) if source.urls else dict(source_type="other"))


def _strings(facts: Mapping[str, Any]) -> dict[str, str]:
    """The facts that are not None; values other than strings become JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in facts.items()
        if value is not None
    }


def collection_path(run: RunRecord) -> Path:
    """The path in the collection: benchmark/developer/model/UUID.json."""
    name = run.spec.model.rstrip("/")
    developer, _, model = name.rpartition("/") if not run.spec.revision.startswith("sha256:") else ("", "", name)
    folders = (run.spec.task, developer or "unknown", model.rsplit("/", 1)[-1])
    number = uuid.UUID(bytes=hashlib.sha256(run.run_id.encode()).digest()[:16], version=4)
    return Path(*(re.sub(r"[^\w.-]+", "-", folder).strip("-.") or "unknown" for folder in folders)) / f"{number}.json"
