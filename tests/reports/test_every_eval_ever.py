"""A record in the schema of Every Eval Ever: what the schema demands is there, and nothing is made up."""

from __future__ import annotations

import json
import math
import uuid
from typing import Any

import jsonschema
import pytest
from scipy.stats import binomtest

from harness.reports.every_eval_ever import Submitter, Source, every_eval_ever, place_of, source_of

US = Submitter("Example Lab", "third_party")

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
        schema_version={"const": "0.2.1"},
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
            "name id",
            name=TEXT,
            id=TEXT,
            developer=TEXT,
            inference_engine=an_object("", name=TEXT, version=TEXT),
            additional_details=STRINGS,
        ),
        evaluation_results={
            "type": "array",
            "items": an_object(
                "evaluation_name source_data metric_config score_details",
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
"""What version 0.2.1 of the schema asks of the parts that are written here."""


def results(content: dict[str, Any]) -> dict[str, Any]:
    return {entry["evaluation_name"]: entry for entry in content["evaluation_results"]}


def test_record_meets_the_schema(make_record):
    metrics = {"accuracy": 0.75, "f1": 0.8, "matthews_correlation": -0.1, "rmse": 1.25, "loss": 0.4}
    for run in (
        make_record("mrpc", metrics),
        make_record("mrpc", metrics, model="/models/bert", spec={"revision": "sha256:abc"}),
        make_record("mine", metrics, spec={"data": "ab12"}, data={"source": "files", "revision": None}),
        make_record("far", metrics, data={"source": "https://example.org/a.csv, https://example.org/b.csv"}),
        make_record(environment=None),
    ):
        content = every_eval_ever(run, US)
        jsonschema.validate(content, SCHEMA)
        json.dumps(content, allow_nan=False)


def test_the_schema_of_this_test_refuses_what_is_not_whole(make_record):
    """Or the test above would accept anything."""
    content = every_eval_ever(make_record(), US)
    del content["evaluation_results"][0]["metric_config"]["max_score"]
    with pytest.raises(jsonschema.ValidationError, match="max_score"):
        jsonschema.validate(content, SCHEMA)
    with pytest.raises(jsonschema.ValidationError, match="is not of type 'string'"):
        jsonschema.validate({**content, "evaluation_id": 7}, SCHEMA)


def test_scores_are_those_of_the_record_with_their_direction_and_limits(make_record):
    found = results(every_eval_ever(make_record("stsb", {"pearson": 0.8, "rmse": 1.25}), US))
    assert found.keys() == {"stsb.validation.pearson", "stsb.validation.rmse"}
    pearson, rmse = (found[f"stsb.validation.{name}"] for name in ("pearson", "rmse"))
    assert pearson["score_details"]["score"] == 0.8
    assert pearson["score_details"]["uncertainty"]["num_samples"] == 200
    assert (pearson["metric_config"]["min_score"], pearson["metric_config"]["max_score"]) == (-1.0, 1.0)
    assert pearson["metric_config"]["additional_details"]["is_headline"] == "true"
    assert not pearson["metric_config"]["lower_is_better"]
    assert rmse["metric_config"]["lower_is_better"]
    assert math.isfinite(rmse["metric_config"]["max_score"])
    assert rmse["metric_config"]["max_score"] > 1e300
    assert rmse["metric_config"]["additional_details"]["is_headline"] == "false"


def test_accuracy_has_the_interval_of_its_rows(make_record):
    """Wilson's by scipy, of 150 right of 200."""
    found = results(every_eval_ever(make_record("rte", {"accuracy": 0.75, "f1": 0.8}), US))
    expected = binomtest(150, 200).proportion_ci(0.95, method="wilson")
    interval = found["rte.validation.accuracy"]["score_details"]["uncertainty"]["confidence_interval"]
    assert (interval["lower"], interval["upper"]) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert interval["confidence_level"] == pytest.approx(0.95)
    assert "confidence_interval" not in found["rte.validation.f1"]["score_details"]["uncertainty"]


def test_what_is_undefined_or_unknown_is_left_out(make_record):
    run = make_record("mine", {"accuracy": None, "bleu": 12.0, "loss": 0.3, "f1": 0.5})
    assert list(results(every_eval_ever(run, US))) == ["mine.validation.f1"]


def test_the_same_record_gives_the_same_content(make_record):
    assert every_eval_ever(make_record(), US) == every_eval_ever(make_record(), US)


def test_source_is_the_hub_a_url_or_unknown(make_record):
    assert source_of(make_record("sst2")) == Source("example/glue", "sst2", "r1")
    assert source_of(make_record(data={"source": "stanfordnlp/imdb"})) == Source("stanfordnlp/imdb", None, "r1")
    assert source_of(make_record(data={"source": "imdb"})) == Source("imdb", None, "r1")
    far = source_of(make_record(data={"source": "https://example.org/a.csv", "revision": None}))
    assert far == Source(urls=("https://example.org/a.csv",))
    assert source_of(make_record(data={"source": "files"})) == Source()
    assert source_of(make_record(spec={"data": "ab12"})) == Source()
    assert source_of(make_record(spec={"test_mode": True}, data={"source": "generated"})) == Source()


def test_model_folder_tells_its_name_and_no_path(make_record):
    run = make_record(model="/home/someone/models/tiny/", spec={"revision": "sha256:abc"}, command="harness run")
    content = every_eval_ever(run, US)
    assert content["model_info"]["id"] == content["model_info"]["name"] == "tiny"
    assert "developer" not in content["model_info"]
    assert "someone" not in json.dumps(content)


def test_place_is_by_benchmark_developer_and_model_and_stays_inside(make_record):
    place = place_of(make_record("rte", model="example/bert"))
    assert place.parts[:3] == ("rte", "example", "bert")
    assert uuid.UUID(place.stem).version == 4
    assert place == place_of(make_record("rte", model="example/bert"))
    assert place != place_of(make_record("rte", model="example/bert", seed=2))
    for model, revision in (("../..", "main"), ("a/../../b", "main"), ("/", "sha256:0"), ("x/ü ñ", "main")):
        place = place_of(make_record(model=model, spec={"revision": revision}))
        assert len(place.parts) == 4
        assert ".." not in place.parts
