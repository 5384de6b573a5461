"""Predictions equal those of transformers, every row once and in order; mistakes are errors that name the flag."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.commands import run_harness

from harness.api import predict
from harness.engine import inference
from harness.facts.tasks import load_task, read_task
from harness.rows import stream
from harness.saved_models import bundles
from harness.saved_models.bundles import read_bundle

TEXTS = [" ".join(f"w{(row * 7 + number) % 40}" for number in range(1 + row * 5 % 11)) for row in range(23)]


@pytest.fixture
def single(make_bundle: Callable[..., Path], make_task: Callable[..., Path]) -> Path:
    return make_bundle(read_task(make_task(labels=["bad", "fair", "good"])))


@pytest.fixture
def pairs(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(load_task("rte"), "pairs")


run_predict = partial(run_harness, "predict")


def test_predictions_equal_those_of_transformers(single: Path) -> None:
    from transformers import pipeline

    plain = pipeline("text-classification", str(single), truncation=True)(TEXTS, top_k=None)
    ours = predict(single, TEXTS, precision="fp32")
    assert ours["row"].tolist() == list(range(23))
    for row, expected in enumerate(plain):
        for each in expected:
            assert ours.loc[row, f"probability_{each['label']}"] == pytest.approx(each["score"], abs=1e-5)
        assert ours.loc[row, "prediction"] == max(expected, key=lambda each: each["score"])["label"]


def test_columns_of_a_table_are_texts_and_pairs(pairs: Path) -> None:
    table = pd.DataFrame({"text": ["w1", "w2 w3"], "pair": ["w3", "w1"]}, index=[7, 9])
    expected = predict(pairs, table["text"].tolist(), table["pair"].tolist())
    pd.testing.assert_frame_equal(predict(pairs, table["text"], table["pair"]), expected)  # type: ignore[arg-type]


def test_label_sets_have_the_probabilities_of_transformers_and_the_threshold_of_the_run(
    make_bundle: Callable[..., Path], make_task: Callable[..., Path]
) -> None:
    from transformers import pipeline

    keys = {"problem_type": "multi_label_classification", "metrics": ["f1_micro"], "main_metrics": "f1_micro"}
    folder = make_bundle(read_task(make_task(labels=["bad", "fair", "good"], **keys)), "sets")
    plain = pipeline("text-classification", str(folder), truncation=True)(TEXTS, top_k=None)
    ours = predict(folder, TEXTS, precision="fp32")
    threshold = read_bundle(folder).record.threshold
    for row, expected in enumerate(plain):
        for each in expected:
            assert ours.loc[row, f"probability_{each['label']}"] == pytest.approx(each["score"], abs=1e-5)
        names = {each["label"] for each in expected if each["score"] >= threshold}
        assert set(ours.loc[row, "prediction"]) == names


def test_long_text_is_truncated_as_in_training(single: Path) -> None:
    long = " ".join(["w1"] * 100)
    assert np.allclose(predict(single, [long])["probability"], predict(single, [long + " w9 w9"])["probability"])


def test_predictions_for_a_file_are_in_its_order_for_any_lengths_and_chunks(
    single: Path, tmp_path: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(tmp_path / "rows.csv", {"id": list(range(23)), "text": TEXTS})
    monkeypatch.setattr(stream.stream_file, "__defaults__", (5,))
    run_predict(
        single, "--file", rows, "--out", tmp_path / "out.parquet", "--device-batch-size", 3, "--precision", "fp32"
    )
    expected = predict(single, TEXTS, precision="fp32")
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["row"].tolist() == list(range(23))
    assert frame["prediction"].tolist() == expected["prediction"].tolist()
    assert np.allclose(frame["probability"], expected["probability"], atol=1e-6)


def test_predictions_for_texts_and_pairs_of_the_command_line_are_printed(
    single: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_predict(single, "--text", "w1", "--text", "w2 w3")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line][::3] == [
        *predict(single, ["w1", "w2 w3"])["prediction"]
    ]
    run_predict(pairs, "--text", "w1", "--pair", "c0s0")
    assert set(capsys.readouterr().out.split()[::2]) == {"entailment", "not_entailment"}


def test_standard_input_has_one_text_per_line_and_output_is_json_lines(
    single: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(TEXTS)))
    run_predict(single)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in rows] == list(range(23))
    assert [row["prediction"] for row in rows] == predict(single, TEXTS)["prediction"].tolist()
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in rows)


def test_columns_are_those_of_the_task_or_of_the_flags(
    pairs: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    write_rows(tmp_path / "own.csv", {"sentence1": ["w1"], "sentence2": ["c0s0"]})
    write_rows(tmp_path / "other.jsonl", {"p": ["w1"], "h": ["c0s0"]})
    run_predict(pairs, "--file", tmp_path / "own.csv", "--out", tmp_path / "a.csv")
    flags = ["--text-column", "p", "--pair-column", "h"]
    run_predict(pairs, "--file", tmp_path / "other.jsonl", *flags, "--out", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_several_columns_are_joined_as_for_training(
    single: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    write_rows(tmp_path / "one.csv", {"text": ["w1\nw2", "w4"]})
    write_rows(tmp_path / "two.csv", {"a": ["w1", ""], "b": ["w2", "w4"]})
    run_predict(single, "--file", tmp_path / "one.csv", "--out", tmp_path / "one_predicted.csv")
    flags = ["--text-column", "a, b"]
    run_predict(single, "--file", tmp_path / "two.csv", *flags, "--out", tmp_path / "two_predicted.csv")
    assert (tmp_path / "one_predicted.csv").read_text() == (tmp_path / "two_predicted.csv").read_text()


def test_regression_predicts_values(make_bundle: Callable[..., Path]) -> None:
    frame = predict(make_bundle(load_task("stsb")), ["w1", "w2"], ["w1", "w3"])
    assert list(frame.columns) == ["row", "prediction"]
    assert frame["prediction"].dtype == np.float64


@pytest.mark.parametrize(
    "args, message",
    [
        (["PAIRS", "--text", "w1"], r"--pair.*sentence1, sentence2.* 1 --text.* 0"),
        (["PAIRS", "--text", "a", "--text", "b", "--pair", "c"], "--pair.* 2 --text.* 1"),
        (["SINGLE", "--text", "w1", "--pair", "w2"], "--pair: the task small"),
        (["SINGLE", "--pair", "w2"], "--text"),
        (["SINGLE", "--file", "none.csv"], "--file none.csv: "),
        (["SINGLE", "--file", "none.csv", "--text", "w1"], "--file and --text"),
        (["SINGLE", "--file", "none.csv", "--pair-column", "b"], "--pair-column b: the task small"),
        (["SINGLE", "--text", "w1", "--text-column", "a"], "--file.*'a'"),
        (["SINGLE", "--file", "none.csv", "--text-column", "a,,b"], "--text-column 'a,,b'"),
        (["SINGLE", "--text", "w1", "--out", "out.docx"], "--out out.docx: .*csv"),
        (["SINGLE", "--text", "w1", "--device-batch-size", "0"], "--device-batch-size 0"),
        (["SINGLE", "--text", "w1", "--precision", "fp16", "--cpu"], "--precision fp16.*bf16.*fp32"),
        (["SINGLE"], "standard input"),
        (["SINGLE", "--text", "a\ud800"], "--text: .*ud800"),
        (["PAIRS", "--text", "a", "--pair", "\udcff"], "--pair: .*udcff"),
        (["SINGLE", "--text", "w1", "--out", "fifo.csv", "--overwrite"], "--out fifo.csv: .*FIFO"),
        (["SINGLE", "--text", "w1", "--out", f"{'a' * 300}.csv"], "--out a+.*too long"),
        (["SINGLE", "--text", "w1", "--out", "/dev/rows.csv"], "--out /dev/rows.csv: .*/dev"),
        (["SINGLE", "--file", "fifo.csv"], "--file fifo.csv: .*FIFO"),
        (["~nosuchuser/model", "--text", "w1"], "MODEL ~nosuchuser/model: "),
        (["a/" * 5000, "--text", "w1"], "MODEL a/.*too long"),
        (["none", "--text", "w1"], "none: .*--save-model none"),
        (["tests", "--text", "w1"], "bundle.json"),
    ],
)
def test_mistake_is_an_error_that_names_the_flag(
    args: list[str],
    message: str,
    single: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tests").mkdir()
    os.mkfifo(tmp_path / "fifo.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    run_predict(*[{"SINGLE": single, "PAIRS": pairs}.get(arg, arg) for arg in args], code=2)
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.glob("out*"))


def test_python_function_refuses_a_value_that_is_no_text(single: Path) -> None:
    from harness.errors import UserError

    with pytest.raises(UserError, match="got None"):
        predict(single, ["w1", None])  # type: ignore[list-item]


def test_batch_that_does_not_fit_is_named_with_its_flag(
    single: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(inference, "infer", run_out)
    run_predict(single, "--text", "w1", "--device-batch-size", 7, "--cpu", code=2)
    error = capsys.readouterr().err
    assert "--device-batch-size 7" in error
    assert "--eval-batch-size" not in error


def change_loaded_model(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, Any], object]) -> None:
    load = bundles.load_model

    def load_and_change(*args: Any) -> Any:
        loaded = load(*args)
        change(*loaded)
        return loaded

    monkeypatch.setattr(bundles, "load_model", load_and_change)


def test_score_that_is_not_finite_is_an_error(
    single: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_loaded_model(monkeypatch, lambda model, _: model.classifier.bias.data.fill_(float("nan")))
    run_predict(single, "--text", "w1", code=2)
    assert "1 of 1 rows" in capsys.readouterr().err


def test_token_without_an_embedding_is_an_error(
    single: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rows of training may have had no such token."""
    change_loaded_model(monkeypatch, lambda _, tokenizer: tokenizer.add_tokens(["unseen"]))
    run_predict(single, "--text", "w1 unseen", code=2)
    assert re.search(r"error: .*bundle: .*token \d+, .* embeddings", capsys.readouterr().err)


def test_question_gets_a_probability_for_each_candidate(
    make_bundle: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The softmax of what transformers' pipeline says about each candidate as the second text of a pair."""
    from transformers import pipeline

    folder = make_bundle(load_task("copa"), "choices")
    texts, choices = ["w1 w2", "w3"], [["w4 c0s0", "c1s0"], ["w5", "w6 w7 w8"]]
    ours = predict(folder, texts, choices=choices, precision="fp32")
    score = pipeline("text-classification", str(folder), truncation=True, function_to_apply="none")
    for row, (text, candidates) in enumerate(zip(texts, choices, strict=True)):
        scores = np.array([score({"text": text, "text_pair": candidate})["score"] for candidate in candidates])
        assert ours.loc[row, "probability_choice1"] == pytest.approx(1 / (1 + np.exp(scores[1] - scores[0])), abs=1e-6)
        assert ours.loc[row, "prediction"] == ["choice1", "choice2"][scores.argmax()]

    (tmp_path / "rows.csv").write_text("premise,question,choice1,choice2\nw1,cause,w2,w3\n")
    flags = ["--text", "w1 What was the cause of this?", "--choice", "w2", "--choice", "w3"]
    run_predict(folder, "--cpu", "--file", tmp_path / "rows.csv")
    (line,) = capsys.readouterr().out.splitlines()
    run_predict(folder, "--cpu", *flags)
    shown = dict(each.split() for each in capsys.readouterr().out.splitlines())
    assert {name: round(value, 4) for name, value in json.loads(line)["probabilities"].items()} == {
        name: float(value) for name, value in shown.items()
    }
    for wrong in (flags[:-2], ["--text", "w1"], ["--text", "w1", "--text", "w2", *flags[2:]]):
        run_predict(folder, *wrong, code=2)
        assert re.search("--choice: .*expected [24] --choice", capsys.readouterr().err)


def test_answer_to_a_question_of_a_file_is_its_most_probable_candidate(
    make_bundle: Callable[..., Path],
    tmp_path: Path,
    write_rows: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the probability that the candidate has as a text of its own; chunks keep questions whole."""
    folder = make_bundle(load_task("record"), "answers")
    entities = [["w1", "c0s0 w2"], ["w3"], ["w4", "w5 c1s1", "w6"]]
    columns = {"passage": ["w7", "w8", "w9"], "query": ["w1 @ w2", "@", "w3 @"], "entities": entities}
    columns["query"] = [query.replace("@", "@placeholder") for query in columns["query"]]
    monkeypatch.setattr(stream.stream_file, "__defaults__", (2,))
    run_predict(folder, "--cpu", "--file", write_rows(tmp_path / "rows.jsonl", columns))
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["row"] for line in lines] == [0, 1, 2]
    for row, line in enumerate(lines):
        filled = [columns["query"][row].replace("@placeholder", each) for each in entities[row]]
        alone = predict(folder, [columns["passage"][row]] * len(filled), filled)["probability_right"]
        assert line["prediction"] == entities[row][alone.argmax()]
        assert line["probabilities"]["right"] == pytest.approx(alone.max(), abs=1e-5)
    out = tmp_path / "out.csv"
    run_predict(folder, "--cpu", "--file", tmp_path / "rows.jsonl", "--out", out)
    assert pd.read_csv(out)["prediction"].tolist() == [line["prediction"] for line in lines]

    write_rows(tmp_path / "bad.jsonl", {**columns, "entities": [["w1"], [], ["w2"]]})
    for file, flags, message in (
        ("bad.jsonl", [], r"bad\.jsonl: row 2: expected a list of 1"),
        ("rows.jsonl", ["--pair-column", "query"], "--pair-column: the task record"),
    ):
        run_predict(folder, "--file", tmp_path / file, *flags, code=2)
        assert re.search(message, capsys.readouterr().err)
