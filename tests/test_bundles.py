"""Models that are kept: transformers loads them and answers the same, and nothing of value is ever written over."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from harness.engine import models
from harness.errors import UserError
from harness.facts.records import RunRecord, read_record
from harness.facts.tasks import load_task, read_task
from harness.run import main
from harness.saved_models import bundles


class Kept(NamedTuple):
    """A run that kept its model."""

    folder: Path
    results: Path
    record: RunRecord
    words: list[str]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    """rte in test mode; nobody may change the folder."""
    place = tmp_path_factory.mktemp("kept")
    words = ["--task", "rte", "--test-mode", "--epochs", "1", "--seed", "3", "--results", str(place / "results")]
    words += ["--save-model", str(place / "models" / "rte")]
    run(*words)
    (path,) = (place / "results/test-mode/runs/rte").glob("*.json")
    return Kept(place / "models/rte", place / "results", read_record(path), words)


def run(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code


@pytest.fixture
def copy(kept: Kept, tmp_path: Path) -> Path:
    """Of the folder, to be spoilt."""
    return Path(shutil.copytree(kept.folder, tmp_path / "copy"))


# -- what a run keeps --------------------------------------------------------------------------------------------------


def test_plain_transformers_give_the_logits_of_the_run(kept: Kept) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from harness.engine import test_mode
    from harness.rows import loading

    task = load_task("rte")
    rows = loading.load_splits(task, test_mode.tables(task), "standard", None)["validation"]
    tokenizer = AutoTokenizer.from_pretrained(kept.folder)
    model = AutoModelForSequenceClassification.from_pretrained(kept.folder).eval()
    inputs = tokenizer(rows.text, rows.pair, truncation=True, padding=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] <= kept.record.spec.recipe.max_length
    with torch.inference_mode():
        logits = model(**inputs).logits.numpy()
    table = pd.read_parquet(kept.results / "test-mode/runs/rte" / kept.record.predictions["validation"])
    assert np.allclose(logits, np.stack(table["scores"].tolist()), atol=1e-5)
    assert np.ptp(logits) > 1e-3, "rows differ, or the comparison shows nothing"


def test_plain_pipeline_answers_with_the_labels_of_the_task(kept: Kept) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", str(kept.folder))
    answer = classify({"text": "w1 w2", "text_pair": "c0s0 c0s1"}, top_k=None)
    assert {each["label"] for each in answer} == {"entailment", "not_entailment"}


def test_folder_holds_what_is_told_and_nothing_stays_beside_it(kept: Kept) -> None:
    names = {path.name for path in kept.folder.iterdir()}
    files = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == files | {"task.yaml", "record.json", "README.md", "bundle.json"}
    assert [path.name for path in kept.folder.parent.iterdir()] == ["rte"]
    assert {oct(path.stat().st_mode & 0o777) for path in kept.folder.iterdir()} == {"0o644"}


def test_record_and_task_in_the_folder_are_those_of_the_run(kept: Kept) -> None:
    bundle = bundles.read(kept.folder)
    assert bundle.record == kept.record
    assert bundle.task == load_task("rte")
    assert read_task(kept.folder / "task.yaml").definition == load_task("rte").fingerprint


def test_no_path_of_this_machine_stands_beside_the_weights(kept: Kept) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "task.yaml", "bundle.json"):
        text = (kept.folder / name).read_text(encoding="utf-8")
        assert "/tmp" not in text
        assert str(kept.folder.parent) not in text


def test_keeping_a_model_is_no_part_of_the_runs_name(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    run(*kept.words[:-2])
    assert f"{kept.record.run_id}.json (" in capsys.readouterr().out


def test_kept_model_trains_again_as_the_same_start_whatever_its_record_says(kept: Kept, copy: Path) -> None:
    """What a run adds to the model's own files tells times and places."""
    from harness.rows.files import model_revision

    (copy / "record.json").write_text("{}")
    (copy / "bundle.json").write_text("{}")
    assert model_revision(str(copy), None) == model_revision(str(kept.folder), None)


def test_tokenizer_is_saved_the_same_whatever_it_was_used_for(
    tiny_model: Path, tmp_path: Path, make_task: Callable[..., Path]
) -> None:
    model, tokenizer, _ = models.build(str(tiny_model), "sha256:0", read_task(make_task()), 1)
    saved = []
    for tokens in (7, 9):
        tokenizer(["w1 w2", "w3"], truncation=True, padding=True, max_length=tokens)
        bundles.put_model(tmp_path / "kept", f"run{tokens}", model, tokenizer, model.state_dict(), 32)
        folder = tmp_path / f".kept-run{tokens}"
        saved.append([(folder / name).read_text() for name in ("tokenizer.json", "tokenizer_config.json")])
    assert saved[0] == saved[1]
    assert tokenizer.model_max_length > 32, "still as it was"


def test_weights_of_a_compiled_model_have_their_plain_names(
    tiny_model: Path, tmp_path: Path, make_task: Callable[..., Path]
) -> None:
    from safetensors.torch import load_file

    model, tokenizer, _ = models.build(str(tiny_model), "sha256:0", read_task(make_task()), 1)
    compiled: Any = torch.compile(model)  # compiles at its first pass only
    compiled.bert.encoder.layer[0] = torch.compile(compiled.bert.encoder.layer[0])
    weights = compiled.state_dict()
    assert any("_orig_mod." in name for name in weights)
    bundles.put_model(tmp_path / "kept", "run", compiled, tokenizer, weights, 32)
    plain = models.build(str(tiny_model), "sha256:0", read_task(make_task()), 1).model.state_dict()
    assert set(load_file(tmp_path / ".kept-run" / "model.safetensors")) == set(plain)


def test_disk_that_is_full_at_the_end_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--task", "rte", "--test-mode", "--max-steps", "2", "--results", str(tmp_path / "results")]
    words += ["--save-model", str(tmp_path / "kept")]
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "bundle.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    run(*words, code=2)
    assert "give the same command again: it goes on from the run's last checkpoint" in capsys.readouterr().err
    assert list((tmp_path / "results/test-mode/runs/rte").glob("*.json")) == []
    monkeypatch.undo()
    run(*words)
    assert "going on after step 2 of 2" in capsys.readouterr().out
    (path,) = (tmp_path / "results/test-mode/runs/rte").glob("*.json")
    assert bundles.read(tmp_path / "kept").record == read_record(path)


# -- what is refused before training -----------------------------------------------------------------------------------


def test_finished_run_without_weights_says_how_to_get_them(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*kept.words[:-1], str(tmp_path / "other"), code=2)
    error = capsys.readouterr().err
    assert f"the run {kept.record.run_id} is finished and its weights were not kept" in error
    assert "--overwrite trains again and keeps the model" in error


def test_finished_run_whose_model_is_there_is_content(kept: Kept, capsys: pytest.CaptureFixture[str]) -> None:
    before = (kept.folder / "model.safetensors").stat().st_mtime_ns
    run(*kept.words)
    assert "finished already" in capsys.readouterr().out
    assert (kept.folder / "model.safetensors").stat().st_mtime_ns == before


def test_folder_that_holds_something_else_is_refused_before_training(
    kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    run(*kept.words[:-1], str(tmp_path / "thesis"), "--overwrite", code=2)
    told = capsys.readouterr()
    assert "the folder holds 'chapter.txt' and no model of the harness" in told.err
    assert "global batch" not in told.out
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"


def test_model_of_another_run_is_replaced_only_when_told(kept: Kept, copy: Path) -> None:
    bundles.check_place(copy, kept.record.run_id, overwrite=False)
    with pytest.raises(UserError, match=f"the model of another run is there, {kept.record.run_id}"):
        bundles.check_place(copy, "another", overwrite=False)
    bundles.check_place(copy, "another", overwrite=True)


def test_empty_folder_and_one_that_is_not_there_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bundles.check_place(tmp_path / "empty", "run", overwrite=False)
    bundles.check_place(tmp_path / "not/there", "run", overwrite=False)
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "not/there").exists()


def test_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match=f"--save-model {place}: cannot write there"):
            bundles.check_place(place, "run", overwrite=False)


def test_model_is_replaced_whole_or_not_at_all(
    make_bundle: Callable[..., Path], make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = read_task(make_task())
    folder = make_bundle(task)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "bundle.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"No space left on device.*it goes on from the run's last checkpoint"):
        make_bundle(task)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    monkeypatch.undo()
    make_bundle(read_task(make_task(title="Another title")))
    assert "Another title" in (folder / "README.md").read_text()


# -- what is no bundle -------------------------------------------------------------------------------------------------


def test_folder_without_manifest_is_no_bundle(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        bundles.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"no model of the harness is there: it has no bundle\.json"):
        bundles.read(tiny_model)


def test_bundle_of_a_newer_harness_is_refused(copy: Path) -> None:
    facts = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(facts | {"format": bundles.FORMAT + 1, "harness": "9.9"}))
    with pytest.raises(UserError, match=r"made by a newer harness, 9\.9 \(format 2; this one, .* reads up to 1\)"):
        bundles.read(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "one", "files": {}}', '{"format": 1}'])
def test_damaged_manifest_is_told(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text)
    with pytest.raises(UserError, match=r"bundle\.json: "):
        bundles.read(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "task.yaml", "record.json"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing; the model is not whole"):
        bundles.read(copy)


def test_other_weights_than_the_runs_are_refused(copy: Path) -> None:
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="these are not the weights that the run saved"):
        bundles.load(bundles.read(copy))


def test_configuration_that_cannot_be_loaded_is_told(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(UserError, match="the model cannot be loaded: "):
        bundles.load(bundles.read(copy))
