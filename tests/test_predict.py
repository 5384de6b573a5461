"""Predictions: the answers that transformers give, of every row once and in order, or a sentence on what is wrong."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.__main__ import main
from harness.commands.predict import predict
from harness.facts.tasks import load_task, read_task
from harness.rows import stream
from harness.saved_models.bundles import read

TEXTS = [" ".join(f"w{(row * 7 + word) % 40}" for word in range(1 + row * 5 % 11)) for row in range(23)]


@pytest.fixture
def single(make_bundle: Callable[..., Path], make_task: Callable[..., Path]) -> Path:
    return make_bundle(read_task(make_task(labels=["bad", "fair", "good"])))


@pytest.fixture
def pairs(make_bundle: Callable[..., Path]) -> Path:
    return make_bundle(load_task("rte"), "pairs")


def call(*words: Any, code: int = 0) -> None:
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        main(["predict", *map(str, words)])
    assert not code or (ended is not None and ended.value.code == code)


def test_answers_are_those_of_transformers(single: Path) -> None:
    from transformers import pipeline

    plain = pipeline("text-classification", str(single), truncation=True)(TEXTS, top_k=None)
    ours = predict(single, TEXTS, precision="fp32")
    assert ours["row"].tolist() == list(range(23))
    for row, expected in enumerate(plain):
        for each in expected:
            assert ours.loc[row, f"probability_{each['label']}"] == pytest.approx(each["score"], abs=1e-5)
        assert ours.loc[row, "prediction"] == max(expected, key=lambda each: each["score"])["label"]


def test_sets_of_labels_have_the_probabilities_of_transformers_and_the_threshold_of_the_run(
    make_bundle: Callable[..., Path], make_task: Callable[..., Path]
) -> None:
    from transformers import pipeline

    keys = {"kind": "multi_label", "metrics": ["f1_micro"], "main_metrics": "f1_micro"}
    folder = make_bundle(read_task(make_task(labels=["bad", "fair", "good"], **keys)), "sets")
    plain = pipeline("text-classification", str(folder), truncation=True)(TEXTS, top_k=None)
    ours = predict(folder, TEXTS, precision="fp32")
    threshold = read(folder).record.threshold
    for row, expected in enumerate(plain):
        for each in expected:
            assert ours.loc[row, f"probability_{each['label']}"] == pytest.approx(each["score"], abs=1e-5)
        names = {each["label"] for each in expected if each["score"] >= threshold}
        assert set(ours.loc[row, "prediction"]) == names


def test_long_text_is_cut_as_in_training(single: Path) -> None:
    long = " ".join(["w1"] * 100)
    assert np.allclose(predict(single, [long])["probability"], predict(single, [long + " w9 w9"])["probability"])


def test_file_is_answered_in_its_order_whatever_the_lengths_and_chunks(
    single: Path, tmp_path: Path, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = write_rows(tmp_path / "rows.csv", {"id": list(range(23)), "text": TEXTS})
    monkeypatch.setattr(stream.from_file, "__defaults__", (5,))
    call(single, "--file", rows, "--out", tmp_path / "out.parquet", "--device-batch-size", 3, "--precision", "fp32")
    expected = predict(single, TEXTS, precision="fp32")
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert frame["row"].tolist() == list(range(23))
    assert frame["prediction"].tolist() == expected["prediction"].tolist()
    assert np.allclose(frame["probability"], expected["probability"], atol=1e-6)


def test_texts_and_pairs_of_the_command_line_are_shown(
    single: Path, pairs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(single, "--text", "w1", "--text", "w2 w3")
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines() if line][::3] == [
        *predict(single, ["w1", "w2 w3"])["prediction"]
    ]
    call(pairs, "--text", "w1", "--pair", "c0s0")
    assert set(capsys.readouterr().out.split()[::2]) == {"entailment", "not_entailment"}


def test_standard_input_is_a_text_a_line_and_json_lines_come_out(
    single: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(TEXTS)))
    call(single)
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in rows] == list(range(23))
    assert [row["prediction"] for row in rows] == predict(single, TEXTS)["prediction"].tolist()
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in rows)


def test_columns_are_those_of_the_task_or_those_named(
    pairs: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    write_rows(tmp_path / "own.csv", {"sentence1": ["w1"], "sentence2": ["c0s0"]})
    write_rows(tmp_path / "other.jsonl", {"p": ["w1"], "h": ["c0s0"]})
    call(pairs, "--file", tmp_path / "own.csv", "--out", tmp_path / "a.csv")
    named = ["--text-column", "p", "--pair-column", "h"]
    call(pairs, "--file", tmp_path / "other.jsonl", *named, "--out", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_regression_answers_with_values(make_bundle: Callable[..., Path]) -> None:
    frame = predict(make_bundle(load_task("stsb")), ["w1", "w2"], ["w1", "w3"])
    assert list(frame.columns) == ["row", "prediction"]
    assert frame["prediction"].dtype == np.float64


@pytest.mark.parametrize(
    "words, told",
    [
        (["PAIRS", "--text", "w1"], r"the task rte is on pairs, sentence1 and sentence2; there are 1 text\(s\) and 0"),
        (["PAIRS", "--text", "a", "--text", "b", "--pair", "c"], r"there are 2 text\(s\) and 1 second"),
        (["SINGLE", "--text", "w1", "--pair", "w2"], "--pair: the task small is on single texts; leave it out"),
        (["SINGLE", "--pair", "w2"], "there is no text to answer"),
        (["SINGLE", "--file", "none.csv"], "--file none.csv: there is no such file"),
        (["SINGLE", "--file", "none.csv", "--text", "w1"], "a file, not both"),
        (["SINGLE", "--file", "none.csv", "--pair-column", "b"], "--pair-column b: the task small is on single texts"),
        (["SINGLE", "--text", "w1", "--text-column", "a"], "'a' is a column: name the file that has it with --file"),
        (["SINGLE", "--text", "w1", "--out", "out.docx"], "--out out.docx: its name must end in one of .csv"),
        (["SINGLE", "--text", "w1", "--device-batch-size", "0"], "--device-batch-size 0: a batch has at least 1 row"),
        (["SINGLE", "--text", "w1", "--precision", "fp16", "--cpu"], "--precision fp16: CPUs train in bf16 or fp32"),
        (["SINGLE"], "standard input: there is no row in it"),
        (["none", "--text", "w1"], "none: there is no such folder. `harness run --save-model none` would make it"),
        (["tests", "--text", "w1"], "no model of the harness is there: it has no bundle.json"),
    ],
)
def test_mistake_is_told(
    words: list[str],
    told: str,
    single: Path,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "tests").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    call(*[{"SINGLE": single, "PAIRS": pairs}.get(word, word) for word in words], code=2)
    assert re.search(told, capsys.readouterr().err)
    assert not list(tmp_path.glob("out*"))


def test_python_tells_what_is_no_text(single: Path) -> None:
    from harness.errors import UserError

    with pytest.raises(UserError, match="None is not a text"):
        predict(single, ["w1", None])  # type: ignore[list-item]


def test_weights_that_give_no_number_are_told(
    single: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from harness.saved_models import bundles

    load = bundles.load

    def spoilt(bundle: bundles.Bundle) -> Any:
        model, tokenizer = load(bundle)
        with torch.no_grad():
            model.classifier.bias.fill_(float("nan"))
        return model, tokenizer

    monkeypatch.setattr(bundles, "load", spoilt)
    call(single, "--text", "w1", code=2)
    assert "1 of 1 rows have no finite score" in capsys.readouterr().err
