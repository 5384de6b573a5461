"""Code that comes with a model runs only if it is trusted, and only the code of the pinned commit or folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy.special import softmax
from support.fake_run import run_here
from support.own_code import CLASSES, write_own_model

from harness.__main__ import main
from harness.api import predict, run
from harness.commands.sweep import main as run_sweep
from harness.engine.model_code import own_references
from harness.engine.models import build_model, load_tokenizer
from harness.errors import UserError
from harness.facts.records import RunRecord, read_record
from harness.facts.tasks import load_task
from harness.rows.files import model_revision

RTE = load_task("rte")
TRUST = "--trust-remote-code"


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


@pytest.fixture
def own_model(tiny_model: Path, tmp_path: Path, marker: Path) -> Path:
    return write_own_model(tmp_path / "own", tiny_model, marker)


def harness(*args: Any) -> int:
    """Runs a command and returns its exit code."""
    try:
        main([str(arg) for arg in args])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


# -- without permission ------------------------------------------------------------------------------------------------


def test_code_does_not_run_without_the_flag(
    own_model: Path, marker: Path, make_task: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make_task()
    for args in (("run", "--task", task, "--results", tmp_path / "r"), ("describe", "--task", task)):
        assert harness(*args, "--model", own_model) == 2
        assert TRUST in capsys.readouterr().err
    assert not marker.exists()
    assert harness("describe", "--task", task, "--model", own_model, TRUST) == 0
    assert marker.exists()


@pytest.mark.parametrize("command", ["run", "describe"])
@pytest.mark.parametrize("revision", [(), ("--revision", "v1.0"), ("--revision", "c0ffee0"), ("--revision", "C" * 40)])
def test_code_of_the_hub_needs_a_commit(
    command: str, revision: tuple[str, ...], make_task: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert harness(command, "--task", make_task(), "--model", "org/own", TRUST, *revision) == 2
    message = capsys.readouterr().err
    assert "--revision" in message
    assert f"git ls-remote https://huggingface.co/org/own {(revision or ('', 'main'))[1]}" in message


@pytest.mark.parametrize("command", ["run", "describe"])
def test_code_is_never_trusted_in_test_mode(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert harness(command, "--task", "rte", "--test-mode", TRUST) == 2
    assert f"{TRUST}: " in capsys.readouterr().err


# -- identity ----------------------------------------------------------------------------------------------------------


def test_hash_of_a_folder_has_its_code_only_if_it_is_trusted(own_model: Path) -> None:
    before = [model_revision(str(own_model), None, trusts_code) for trusts_code in (False, True)]
    (own_model / "sizes_own.py").write_text("SCALE = 3.0\n")
    after = [model_revision(str(own_model), None, trusts_code) for trusts_code in (False, True)]
    assert before[0] == after[0]
    assert len({*before, *after}) == 3


# -- loading -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["encoder", "model", ""])
def test_encoder_of_own_code_is_told_from_its_head(tiny_model: Path, tmp_path: Path, marker: Path, prefix: str) -> None:
    """Also where its base_model_prefix names no submodule: the weights of the checkpoint are kept."""
    folder = write_own_model(tmp_path / "own", tiny_model, marker, prefix)
    built = build_model(str(folder), model_revision(str(folder), None, True), RTE, 1, trusts_code=True)
    assert built.facts.architecture == "OwnClassifier"
    assert built.facts.head == "new"
    weights = built.model.state_dict()
    for name, tensor in load_file(folder / "model.safetensors").items():
        assert torch.equal(weights[name], tensor)
    assert marker.exists()


def test_no_value_of_a_model_with_own_code_is_uninitialised_memory(own_model: Path, tmp_path: Path) -> None:
    """Its `_init_weights` names neither biases nor the buffer; torch fills uninitialised memory with NaN here."""
    torch.use_deterministic_algorithms(True)
    try:
        models = [
            build_model(str(own_model), model_revision(str(own_model), None, True), RTE, seed, trusts_code=True).model
            for seed in (1, 1, 2)
        ]
    finally:
        torch.use_deterministic_algorithms(False)
    first, second, other = (model.classifier.bias for model in models)
    assert torch.isfinite(first).all()
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert models[0].encoder.scale == 2.0


def test_missing_weights_of_own_code_are_an_error(tiny_model: Path, tmp_path: Path, marker: Path) -> None:
    folder = write_own_model(tmp_path / "own", tiny_model, marker, "model")
    shutil.copy(tiny_model / "model.safetensors", folder)
    with pytest.raises(UserError, match=r"3 weights of the encoder are missing"):
        build_model(str(folder), "sha256:0", RTE, 1, trusts_code=True)


@pytest.mark.parametrize("classes", [{}, {"AutoModel": "modeling_own.OwnModel"}])
def test_code_without_a_classifier_is_an_error(
    tiny_model: Path, tmp_path: Path, marker: Path, classes: dict[str, str]
) -> None:
    classes = {"AutoConfig": CLASSES["AutoConfig"], **classes}
    folder = write_own_model(tmp_path / "own", tiny_model, marker, classes=classes)
    with pytest.raises(UserError, match=r"cannot classify sequences.*\n.*AutoModelForSequenceClassification"):
        build_model(str(folder), "sha256:0", RTE, 1, trusts_code=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("input_ids, attention_mask=None, labels=None, **kwargs", "tokens, mask", "input_ids"),
        ("SequenceClassifierOutput(logits=logits)", "(logits,)", "logits"),
        ("SequenceClassifierOutput(logits=logits)", "SequenceClassifierOutput(logits=None)", "logits"),
        ("config.hidden_size, config.num_labels)", "config.hidden_size, 3)", r"\(2, 2\).*\(2, 3\)"),
        (
            "mask = attention_mask",
            "raise ValueError('boom')\n        mask = attention_mask",
            r"boom \(modeling_own\.py, line \d+\)",
        ),
        ("logits=logits", "logits=logits.detach()", "gradient"),
        ("mask = attention_mask", "raise SystemExit(0)\n        mask = attention_mask", "SystemExit"),
    ],
    ids=["arguments", "tuple", "no logits", "three logits", "error", "detached", "exit"],
)
def test_code_that_cannot_score_rows_is_an_error_before_training(
    own_model: Path, make_task: Callable[..., Path], tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = own_model / "modeling_own.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=f"own: .*OwnClassifier.*{message}"):
        run(str(make_task()), model=own_model, trust_remote_code=True, results=tmp_path / "r")


@pytest.mark.parametrize(
    "file, new, fault",
    [
        ("modeling_own.py", "x = = 3", r"SyntaxError: .*\(modeling_own\.py, line 2\)"),
        ("sizes_own.py", "x = = 3", r"SyntaxError: .*\(sizes_own\.py, line 2\)"),
        ("modeling_own.py", "import nosuchpackage", r"nosuchpackage.*\(modeling_own\.py\)"),
        ("modeling_own.py", "from torch import nosuchname", r"nosuchname.*\(modeling_own\.py, line 2\)"),
        ("sizes_own.py", "x = 1 / 0", r"ZeroDivisionError: .*\(sizes_own\.py, line 2\)"),
    ],
)
def test_code_that_cannot_be_imported_is_an_error_with_its_line(
    own_model: Path, file: str, new: str, fault: str
) -> None:
    path = own_model / file
    path.write_text(f"\n{new}\n{path.read_text()}")
    with pytest.raises(UserError, match=f"own: .*{fault}"):
        build_model(str(own_model), "sha256:0", RTE, 1, trusts_code=True)


def test_code_that_ends_the_process_is_an_error(own_model: Path) -> None:
    path = own_model / "modeling_own.py"
    path.write_text(f"{path.read_text()}\nraise SystemExit(0)\n")
    with pytest.raises(UserError, match="SystemExit"):
        build_model(str(own_model), "sha256:0", RTE, 1, trusts_code=True)


def test_code_in_another_repository_is_an_error(tiny_model: Path, tmp_path: Path, marker: Path) -> None:
    classes = CLASSES | {"AutoModelForSequenceClassification": "org/other--modeling_own.OwnClassifier"}
    folder = write_own_model(tmp_path / "own", tiny_model, marker, classes=classes)
    for load in (build_model, load_tokenizer):
        args: tuple[Any, ...] = (RTE, 1) if load is build_model else ()
        with pytest.raises(UserError, match="org/other"):
            load(str(folder), "sha256:0", *args, trusts_code=True)
    assert not marker.exists()


def test_model_without_code_needs_no_flag(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=TRUST):
        build_model(str(tiny_model), "sha256:0", RTE, 1, trusts_code=True)


# -- a run, its saved model, and a run from it -------------------------------------------------------------------------


@pytest.fixture
def saved(own_model: Path, make_task: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path, RunRecord]:
    """The task, the saved model and the record of a run with code of its own."""
    task, folder = make_task(), tmp_path / "saved"
    args = ("--task", task, "--model", own_model, TRUST, "--results", tmp_path / "results", "--save-model", folder)
    assert harness("run", *args) == 0
    return task, folder, read_record(next((tmp_path / "results/runs/small").glob("*.json")))


def test_saved_model_has_its_code_and_predicts_the_same(
    saved: tuple[Path, Path, RunRecord], tmp_path: Path, marker: Path, own_model: Path
) -> None:
    _, folder, record = saved
    assert record.spec.trust_remote_code is True
    assert {path.name for path in folder.glob("*.py")} == {
        *("configuration_own.py", "modeling_own.py", "sizes_own.py", "tokenization_own.py")
    }
    auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
    assert auto_map == {key: name for key, name in CLASSES.items() if key != "AutoModelForMaskedLM"}
    assert "trust_remote_code=True" in (folder / "README.md").read_text()
    shutil.rmtree(own_model)
    table = pd.read_parquet(tmp_path / "results/runs/small" / record.prediction_files["validation"])
    rows = pd.read_csv(tmp_path / "small/validation.csv")
    predictions = predict(folder, rows["text"].tolist(), trust_remote_code=True)
    logits = np.stack(table["scores"].tolist())
    expected = softmax(logits.astype(np.float64), axis=1)[:, 1]
    assert np.allclose(predictions["probability_yes"], expected, atol=1e-5)
    assert np.ptp(logits) > 1e-2, "logits of different rows differ"
    assert harness("evaluate", folder, TRUST, "--data", tmp_path, "--cpu") == 0


def test_model_whose_code_lists_tied_weights_is_saved(
    own_model: Path, make_task: Callable[..., Path], tmp_path: Path
) -> None:
    """Code for transformers 4 has a list of names; transformers 5 expects a mapping when it saves the model."""
    path = own_model / "modeling_own.py"
    line = "    config_class = OwnConfig\n"
    path.write_text(path.read_text().replace(line, f"{line}    _tied_weights_keys = ['decoder.weight']\n"))
    run(
        str(make_task()), model=own_model, trust_remote_code=True, results=tmp_path / "r", save_model=tmp_path / "saved"
    )
    assert (tmp_path / "saved/model.safetensors").is_file()


def test_saved_code_does_not_run_without_the_flag(
    saved: tuple[Path, Path, RunRecord], tmp_path: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder, _ = saved
    marker.unlink()
    for args in (("predict", folder, "--text", "w1"), ("evaluate", folder, "--data", tmp_path)):
        assert harness(*args) == 2
        message = capsys.readouterr().err
        assert TRUST in message
        assert "modeling_own.py" in message
    assert not marker.exists()


@pytest.mark.parametrize("name", ["sizes_own.py", "added.py"])
def test_edited_or_added_code_of_a_saved_model_does_not_run(
    saved: tuple[Path, Path, RunRecord], marker: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, folder, _ = saved
    marker.unlink()
    (folder / name).write_text("SCALE = 3.0\n")
    assert harness("predict", folder, "--text", "w1", TRUST) == 2
    assert name in capsys.readouterr().err
    assert not marker.exists()


def test_run_from_a_saved_model_needs_and_uses_its_code(
    own_model: Path, make_task: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = make_task(name="first"), make_task(name="second")
    args = ("run", "--task", second, "--model", own_model, "--init-from", first, "--results", tmp_path / "results")
    assert harness(*args, TRUST) == 2
    assert f" {TRUST} " in capsys.readouterr().err.splitlines()[-1], "the command that trains the parent"
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text(
        f"tasks: {{'{second}': {{recipe: {{init_from: '{first}'}}}}}}\n"
        f"models: {{'{own_model}': {{trust_remote_code: true}}}}\n"
    )
    with pytest.raises(SystemExit) as end:
        run_sweep([str(sweep), "--results", str(tmp_path / "results")], run_here)
    assert end.value.code == 0
    (record,) = (tmp_path / "results/runs/second").glob("*.json")
    assert read_record(record).spec.trust_remote_code is True
    assert harness(*args, TRUST) == 0, "the run of the sweep"
    assert "already finished" in capsys.readouterr().out


def test_adapter_of_own_code_is_loaded_on_the_base_model_of_the_run(
    own_model: Path, make_task: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "saved"
    adapter = ("--adapter", "lora", "--adapter-targets", "dense", "--save-model", folder)
    task = make_task()
    assert harness("run", "--task", task, "--model", own_model, TRUST, "--results", tmp_path / "r", *adapter) == 0
    whole = predict(folder, ["w1", "w2 c0s1"], trust_remote_code=True)
    adapted = predict(folder / "adapter", ["w1", "w2 c0s1"], trust_remote_code=True)
    assert np.allclose(whole["probability"], adapted["probability"], atol=1e-5)
    (own_model / "sizes_own.py").write_text("SCALE = 3.0\n")
    capsys.readouterr()
    assert harness("predict", folder / "adapter", "--text", "w1", TRUST) == 2
    assert "checksum" in capsys.readouterr().err


def test_references_of_a_saved_model_name_its_own_files(tmp_path: Path) -> None:
    (tmp_path / "code.py").touch()
    auto_map = {
        "AutoModel": "org/x--code.Model",
        "AutoConfig": "code.Config",
        "AutoTokenizer": [None, "org/x--code.T"],
        "AutoProcessor": "gone.P",
    }
    own = {"AutoModel": "code.Model", "AutoConfig": "code.Config", "AutoTokenizer": [None, "code.T"]}
    assert own_references(auto_map, tmp_path) == own
