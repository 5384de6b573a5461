"""A record in the schema of Every Eval Ever: valid, with the numbers of the record only."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import jsonschema
import numpy as np
import pytest
from scipy.stats import binomtest

from harness.facts.packing import pack_array
from harness.reports.every_eval_ever import DataSource, collection_path, data_source, every_eval_ever

US = ("Example Lab", "third_party")

STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
NUMBER = {"type": "number"}
TEXT = {"type": "string"}


def an_object(required: str, /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": required.split(), "properties": properties}


SOURCE = {
    "hf_dataset": an_object("dataset_name hf_repo", hf_repo=TEXT, hf_split=TEXT, samples_number={"type": "integer"}),
    "url": an_object("dataset_name url", url={"type": "array", "items": TEXT, "minItems": 1}),
    "other": an_object("dataset_name"),
}
SCHEMA = {
    **an_object(
        "schema_version evaluation_id retrieved_timestamp source_metadata model_info eval_library evaluation_results",
        schema_version={"const": "0.3.0"},
        evaluation_id=TEXT,
        evaluation_timestamp=TEXT,
        retrieved_timestamp=TEXT,
        source_metadata=an_object(
            "source_type source_organization_name evaluator_relationship",
            source_type={"enum": ["documentation", "evaluation_run"]},
            evaluator_relationship={"enum": ["first_party", "third_party", "collaborative", "other"]},
        ),
        eval_library=an_object("name version", name=TEXT, version=TEXT, additional_details=STRINGS),
        model_info=an_object(
            "name id additional_details",
            name=TEXT,
            id=TEXT,
            developer=TEXT,
            inference_engine=an_object("", name=TEXT, version=TEXT),
            additional_details={
                **an_object(
                    "deployment_type model_availability",
                    deployment_type={"enum": ["self_deployed", "externally_managed", "unknown"]},
                    model_availability={"enum": ["open_weights", "closed_weights", "unknown"]},
                ),
                **{"additionalProperties": TEXT},
            },
        ),
        evaluation_results={
            "type": "array",
            "items": an_object(
                "evaluation_name source_data metric_config score_details",
                evaluation_result_id=TEXT,
                evaluation_name=TEXT,
                evaluation_timestamp=TEXT,
                source_data={
                    "allOf": [
                        {"properties": {"additional_details": STRINGS, "source_type": {"enum": list(SOURCE)}}},
                        *(
                            {"if": {"properties": {"source_type": {"const": kind}}}, "then": shape}
                            for kind, shape in SOURCE.items()
                        ),
                    ]
                },
                metric_config=an_object(
                    "lower_is_better score_type min_score max_score",
                    evaluation_description=TEXT,
                    metric_id=TEXT,
                    metric_name=TEXT,
                    metric_unit=TEXT,
                    lower_is_better={"type": "boolean"},
                    score_type={"const": "continuous"},
                    min_score=NUMBER,
                    max_score=NUMBER,
                    additional_details=STRINGS,
                ),
                score_details=an_object(
                    "score",
                    score=NUMBER,
                    uncertainty=an_object(
                        "",
                        num_samples={"type": "integer"},
                        confidence_interval=an_object(
                            "lower upper", lower=NUMBER, upper=NUMBER, confidence_level=NUMBER, method=TEXT
                        ),
                    ),
                ),
                generation_config=an_object(
                    "",
                    generation_args={
                        **an_object("", execution_command=TEXT),
                        "additionalProperties": False,
                    },
                    additional_details=STRINGS,
                ),
            ),
        },
    ),
    "additionalProperties": False,
}
"""Version 0.3.0 of the schema, reduced to the parts that are written here."""


def results(content: dict[str, Any]) -> dict[str, Any]:
    return {entry["evaluation_name"]: entry for entry in content["evaluation_results"]}


def test_record_is_valid(make_record):
    metrics = {"accuracy": 0.75, "f1": 0.8, "matthews_correlation": -0.1, "loss": 0.4}
    for run in (
        make_record("mrpc", metrics),
        make_record("mrpc", metrics, model="/models/bert", spec={"revision": "sha256:abc"}),
        make_record("mine", metrics, spec={"data": "ab12"}, data={"source": "files", "revision": None}),
        make_record("far", metrics, data={"source": "https://example.org/a.csv, https://example.org/b.csv"}),
        make_record("stsb", {"pearson": -0.1, "rmse": 1.25, "loss": 0.4}),
        make_record(environment=None),
    ):
        content = every_eval_ever(run, *US)
        jsonschema.validate(content, SCHEMA)
        json.dumps(content, allow_nan=False)


def test_the_schema_of_this_test_refuses_incomplete_records(make_record):
    """Or the test above would accept anything."""
    content = every_eval_ever(make_record(), *US)
    del content["evaluation_results"][0]["metric_config"]["max_score"]
    with pytest.raises(jsonschema.ValidationError, match="max_score"):
        jsonschema.validate(content, SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'string'"):
        jsonschema.validate({**content, "evaluation_id": 7}, SCHEMA)


def test_scores_are_those_of_the_record_with_their_direction_and_limits(make_record):
    results_by_name = results(every_eval_ever(make_record("stsb", {"pearson": 0.8, "rmse": 1.25}), *US))
    assert results_by_name.keys() == {"stsb.validation.pearson", "stsb.validation.rmse"}
    pearson, rmse = (results_by_name[f"stsb.validation.{name}"] for name in ("pearson", "rmse"))
    assert pearson["score_details"]["score"] == 0.8
    assert pearson["score_details"]["uncertainty"]["num_samples"] == 200
    assert (pearson["metric_config"]["min_score"], pearson["metric_config"]["max_score"]) == (-1.0, 1.0)
    assert pearson["metric_config"]["additional_details"]["is_main_metric"] == "true"
    assert not pearson["metric_config"]["lower_is_better"]
    assert rmse["metric_config"]["lower_is_better"]
    assert math.isfinite(rmse["metric_config"]["max_score"])
    assert rmse["metric_config"]["max_score"] > 1e300
    assert rmse["metric_config"]["additional_details"]["is_main_metric"] == "false"


def test_accuracy_has_the_interval_of_its_rows(make_record):
    """Scipy's Wilson interval for 150 of 200 correct rows."""
    results_by_name = results(every_eval_ever(make_record("rte", {"accuracy": 0.75, "f1": 0.8}), *US))
    expected = binomtest(150, 200).proportion_ci(0.95, method="wilson")
    interval = results_by_name["rte.validation.accuracy"]["score_details"]["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert interval["confidence_level"] == pytest.approx(0.95)
    assert "confidence_interval" not in results_by_name["rte.validation.f1"]["score_details"]["uncertainty"]


def test_accuracy_on_groups_of_rows_has_no_interval_over_rows(make_record):
    rows = {name: {"validation": pack_array(np.arange(200) // 2)} for name in ("gold", "row_groups")}
    run = make_record("axg", {"accuracy": 0.7}).model_copy(update=rows)
    (result,) = every_eval_ever(run, *US)["evaluation_results"]
    assert result["score_details"]["uncertainty"] == {"num_samples": 200}


def test_undefined_and_unknown_metrics_are_left_out(make_record):
    run = make_record("mine", {"accuracy": None, "bleu": 12.0, "loss": 0.3, "f1": 0.5})
    assert list(results(every_eval_ever(run, *US))) == ["mine.validation.f1"]


@pytest.mark.parametrize("changes", [{"data": None}, {"rows": {}}, {"rows": {"train": 9, "validation": 0}}])
def test_scores_without_a_number_of_rows_are_left_out(make_record, changes):
    run = make_record("rte", {"accuracy": 0.75})
    data = None if "data" in changes else run.data.model_copy(update=changes)
    content = every_eval_ever(run.model_copy(update={"data": data}), *US)
    jsonschema.validate(content, SCHEMA)
    assert content["evaluation_results"] == []


def test_the_same_record_gives_the_same_content(make_record):
    assert every_eval_ever(make_record(), *US) == every_eval_ever(make_record(), *US)


def test_source_is_the_hub_a_url_or_unknown(make_record):
    assert data_source(make_record("sst2")) == DataSource("example/glue", "sst2", "r1")
    assert data_source(make_record(data={"source": "stanfordnlp/imdb"})) == DataSource("stanfordnlp/imdb", None, "r1")
    assert data_source(make_record(data={"source": "imdb"})) == DataSource("imdb", None, "r1")
    far = data_source(make_record(data={"source": "https://example.org/a.csv", "revision": None}))
    assert far == DataSource(urls=("https://example.org/a.csv",))
    assert data_source(make_record(data={"source": "files"})) == DataSource()
    assert data_source(make_record(spec={"data": "ab12"})) == DataSource()
    assert data_source(make_record(spec={"test_mode": True}, data={"source": "generated"})) == DataSource()


def test_model_folder_has_its_name_and_no_path(make_record):
    run = make_record(model="/home/someone/models/tiny/", spec={"revision": "sha256:abc"}, command="harness run")
    content = every_eval_ever(run, *US)
    assert content["model_info"]["id"] == content["model_info"]["name"] == "tiny"
    assert "developer" not in content["model_info"]
    assert "someone" not in json.dumps(content)


def test_collection_path_has_benchmark_developer_and_model_and_stays_inside(make_record):
    path = collection_path(make_record("rte", model="example/bert"))
    assert path.parts[:3] == ("rte", "example", "bert")
    assert uuid.UUID(path.stem).version == 4
    assert path == collection_path(make_record("rte", model="example/bert"))
    assert path != collection_path(make_record("rte", model="example/bert", seed=2))
    for model, revision in (("../..", "main"), ("a/../../b", "main"), ("/", "sha256:0"), ("x/ü ñ", "main")):
        path = collection_path(make_record(model=model, spec={"revision": revision}))
        assert len(path.parts) == 4
        assert ".." not in path.parts
