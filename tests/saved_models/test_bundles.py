"""Saved models: transformers loads them and predicts the same, and nothing of value is overwritten."""

from __future__ import annotations

import io
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
from support.commands import run

from harness.engine import models
from harness.errors import UserError
from harness.facts.records import RunRecord, read_record
from harness.facts.tasks import load_task, read_task
from harness.rows.files import file_hash
from harness.saved_models import bundles


class SavedRun(NamedTuple):
    """A run that saved its model."""

    folder: Path
    results: Path
    record: RunRecord
    args: list[str]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> SavedRun:
    """A run of rte in test mode; tests must not change the folder."""
    root = tmp_path_factory.mktemp("saved")
    args = ["--task", "rte", "--test-mode", "--epochs", "1", "--seed", "3", "--evaluate-every", "0.5"]
    args += ["--results", str(root / "results"), "--save-model", str(root / "models" / "rte")]
    run(*args)
    (path,) = (root / "results/test-mode/runs/rte").glob("*.json")
    return SavedRun(root / "models/rte", root / "results", read_record(path), args)


@pytest.fixture
def copy(saved: SavedRun, tmp_path: Path) -> Path:
    """A copy of the folder that a test may damage."""
    return Path(shutil.copytree(saved.folder, tmp_path / "copy"))


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the write of a manifest fail as on a full disk, until `monkeypatch.undo()`."""
    replace = os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == "bundle.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


# -- contents of the folder --------------------------------------------------------------------------------------------


def test_plain_transformers_gives_the_logits_of_the_run(saved: SavedRun) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from harness.engine import test_mode
    from harness.rows import loading

    task = load_task("rte")
    rows = loading.load_splits(task, test_mode.tables(task), "standard", None)["validation"]
    tokenizer = AutoTokenizer.from_pretrained(saved.folder)
    model = AutoModelForSequenceClassification.from_pretrained(saved.folder).eval()
    inputs = tokenizer(rows.text, rows.pair, truncation=True, padding=True, return_tensors="pt")
    assert inputs["input_ids"].shape[1] <= saved.record.spec.recipe.max_length
    with torch.inference_mode():
        logits = model(**inputs).logits.numpy()
    table = pd.read_parquet(saved.results / "test-mode/runs/rte" / saved.record.prediction_files["validation"])
    assert np.allclose(logits, np.stack(table["scores"].tolist()), atol=1e-5)
    assert np.ptp(logits) > 1e-3, "logits of different rows differ"


def test_plain_pipeline_predicts_the_labels_of_the_task(saved: SavedRun) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", str(saved.folder))
    scores = classify({"text": "w1 w2", "text_pair": "c0s0 c0s1"}, top_k=None)
    assert {each["label"] for each in scores} == {"entailment", "not_entailment"}


def test_folder_holds_these_files_and_nothing_is_left_next_to_it(saved: SavedRun) -> None:
    names = {path.name for path in saved.folder.iterdir()}
    files = {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert names == files | {"task.yaml", "record.json", "README.md", "learning-curve.svg", "bundle.json"}
    assert [path.name for path in saved.folder.parent.iterdir()] == ["rte"]
    assert {oct(path.stat().st_mode & 0o777) for path in saved.folder.iterdir()} == {"0o644"}


def test_record_and_task_in_the_folder_are_those_of_the_run(saved: SavedRun) -> None:
    bundle = bundles.read_bundle(saved.folder)
    assert bundle.record == saved.record
    assert bundle.task == load_task("rte")
    assert read_task(saved.folder / "task.yaml").fingerprint == load_task("rte").fingerprint


def test_no_file_of_the_model_contains_a_path_of_this_machine(saved: SavedRun) -> None:
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json", "task.yaml", "bundle.json"):
        text = (saved.folder / name).read_text(encoding="utf-8")
        assert "/tmp" not in text
        assert str(saved.folder.parent) not in text


def test_saving_the_model_does_not_change_the_run_id(saved: SavedRun, capsys: pytest.CaptureFixture[str]) -> None:
    run(*saved.args[:-2])
    assert f"{saved.record.run_id}.json (" in capsys.readouterr().out


def test_revision_of_a_saved_model_ignores_its_record_and_manifest(saved: SavedRun, copy: Path) -> None:
    """These files hold times and paths, which do not matter to a run that starts from the model."""
    from harness.rows.files import model_revision

    (copy / "record.json").write_text("{}")
    (copy / "bundle.json").write_text("{}")
    assert model_revision(str(copy), None) == model_revision(str(saved.folder), None)


def test_saved_tokenizer_does_not_depend_on_its_last_call(
    tiny_model: Path, tmp_path: Path, make_task: Callable[..., Path]
) -> None:
    model, tokenizer, *_ = models.build_model(str(tiny_model), "sha256:0", read_task(make_task()), 1)
    contents = []
    for tokens in (7, 9):
        tokenizer(["w1 w2", "w3"], truncation=True, padding=True, max_length=tokens)
        bundles.stage_model(tmp_path / "saved", f"run{tokens}", model, tokenizer, model.state_dict(), 32)
        folder = tmp_path / f".saved-run{tokens}"
        contents.append([(folder / name).read_text() for name in ("tokenizer.json", "tokenizer_config.json")])
    assert contents[0] == contents[1]
    assert json.loads(contents[0][1])["model_max_length"] == 32, "a pipeline truncates to the tokens of training"
    assert tokenizer.model_max_length > 32, "unchanged"


def test_saved_tokenizer_does_not_depend_on_the_locale(
    tiny_model: Path, tmp_path: Path, make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer, *_ = models.build_model(str(tiny_model), "sha256:0", read_task(make_task()), 1)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<türkçe>"]})
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "ascii")
    bundles.stage_model(tmp_path / "saved", "run", model, tokenizer, model.state_dict(), 32)
    assert "<türkçe>" in (tmp_path / ".saved-run" / "tokenizer_config.json").read_text(encoding="utf-8")


def test_weights_of_a_compiled_model_have_their_plain_names(
    tiny_model: Path, tmp_path: Path, make_task: Callable[..., Path]
) -> None:
    from safetensors.torch import load_file

    model, tokenizer, *_ = models.build_model(str(tiny_model), "sha256:0", read_task(make_task()), 1)
    compiled: Any = torch.compile(model)  # compiles at its first pass only
    compiled.bert.encoder.layer[0] = torch.compile(compiled.bert.encoder.layer[0])
    weights = compiled.state_dict()
    assert any("_orig_mod." in name for name in weights)
    bundles.stage_model(tmp_path / "saved", "run", compiled, tokenizer, weights, 32)
    plain = models.build_model(str(tiny_model), "sha256:0", read_task(make_task()), 1).model.state_dict()
    assert set(load_file(tmp_path / ".saved-run" / "model.safetensors")) == set(plain)


def test_full_disk_at_the_end_loses_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--task", "rte", "--test-mode", "--max-steps", "2", "--results", str(tmp_path / "results")]
    args += ["--save-model", str(tmp_path / "saved")]
    fill_disk(monkeypatch)
    run(*args, code=2)
    error = capsys.readouterr().err
    assert "--save-model" in error
    assert "no space left on device" in error
    assert list((tmp_path / "results/test-mode/runs/rte").glob("*.json")) == []
    monkeypatch.undo()
    run(*args)
    assert "after step 2 of 2" in capsys.readouterr().out
    (path,) = (tmp_path / "results/test-mode/runs/rte").glob("*.json")
    assert bundles.read_bundle(tmp_path / "saved").record == read_record(path)


def test_tokenizer_that_fills_the_disk_is_no_fault_of_the_harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_bundle: Callable[..., Path], make_task: Callable[..., Path]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr("transformers.PreTrainedTokenizerFast.save_pretrained", full)
    with pytest.raises(UserError, match=r"^--save-model: .*no space left on device"):
        make_bundle(read_task(make_task()))


# -- refused before training ---------------------------------------------------------------------------------------


def test_finished_run_without_saved_weights_needs_overwrite(
    saved: SavedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*saved.args[:-1], str(tmp_path / "other"), code=2)
    error = capsys.readouterr().err
    assert "--save-model" in error
    assert saved.record.run_id in error
    assert "--overwrite" in error


def test_finished_run_with_its_saved_model_is_not_run_again(
    saved: SavedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (saved.folder / "model.safetensors").stat().st_mtime_ns
    run(*saved.args)
    assert "--overwrite" in capsys.readouterr().out
    assert (saved.folder / "model.safetensors").stat().st_mtime_ns == before


def test_folder_with_other_files_is_refused_before_training(
    saved: SavedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    run(*saved.args[:-1], str(tmp_path / "thesis"), "--overwrite", code=2)
    printed = capsys.readouterr()
    assert "'chapter.txt'" in printed.err
    assert "global batch" not in printed.out
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"


def test_model_of_another_run_is_replaced_only_with_overwrite(saved: SavedRun, copy: Path) -> None:
    bundles.check_save_folder(copy, saved.record.run_id, overwrite=False)
    with pytest.raises(UserError, match=f"{saved.record.run_id}.*--overwrite"):
        bundles.check_save_folder(copy, "another", overwrite=False)
    bundles.check_save_folder(copy, "another", overwrite=True)


@pytest.mark.parametrize("name", ["notes.txt", ".git", "README.md", "learning-curve.svg"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_file_of_the_user_is_never_removed(saved: SavedRun, copy: Path, name: str, overwrite: bool) -> None:
    assert bundles.check_save_folder(copy, saved.record.run_id, overwrite)
    if name == ".git":
        (copy / name).mkdir()
    else:
        (copy / name).write_text("My own words.")
    with pytest.raises(UserError, match=f"--save-model {copy}: '{name}'"):
        bundles.check_save_folder(copy, saved.record.run_id, overwrite)


def test_model_that_another_run_saved_meanwhile_is_kept(
    make_bundle: Callable[..., Path], make_task: Callable[..., Path], tmp_path: Path
) -> None:
    """Both runs were told at their start that the folder is free."""
    task = read_task(make_task())
    folder = make_bundle(task)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    record = bundles.read_bundle(folder).record
    scratch, manifest = tmp_path / f".{folder.name}-later-seed2", shutil.ignore_patterns("bundle.json")
    shutil.copytree(folder, scratch, ignore=manifest)
    later = record.model_copy(update={"run_id": "later-seed2"})
    with pytest.raises(UserError, match=f"{record.run_id}.*--overwrite"):
        bundles.finish_bundle(folder, task, later)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not scratch.exists()
    shutil.copytree(folder, scratch, ignore=manifest)
    bundles.finish_bundle(folder, task, later, overwrite=True)
    assert bundles.read_bundle(folder).record.run_id == "later-seed2"


def test_leftover_of_a_killed_replacement_does_not_block_the_folder(
    make_bundle: Callable[..., Path], make_task: Callable[..., Path], tmp_path: Path
) -> None:
    task = read_task(make_task())
    folder = make_bundle(task)
    shutil.copytree(folder, tmp_path / f".{folder.name}-earlier")
    make_bundle(task)
    assert bundles.read_bundle(folder).task.title == task.title


def test_empty_or_new_folder_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    bundles.check_save_folder(tmp_path / "empty", "run", overwrite=False)
    bundles.check_save_folder(tmp_path / "not/there", "run", overwrite=False)
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "not/there").exists()


def test_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UserError, match=f"--save-model {folder}: "):
            bundles.check_save_folder(folder, "run", overwrite=False)


def test_model_is_replaced_completely_or_not_at_all(
    make_bundle: Callable[..., Path], make_task: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = read_task(make_task())
    folder = make_bundle(task)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fill_disk(monkeypatch)
    with pytest.raises(UserError, match="no space left on device"):
        make_bundle(task)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []
    monkeypatch.undo()
    make_bundle(read_task(make_task(title="Another title")))
    assert "Another title" in (folder / "README.md").read_text()


# -- invalid bundles --------------------------------------------------------------------------------------------------


def test_missing_folder_that_may_be_a_name_on_the_hub_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="hf download me/rte --local-dir"):
        bundles.read_bundle(Path("me/rte"))
    (tmp_path / "me").mkdir()
    for folder in ("me/rte", "./rte", str(tmp_path / "me/rte"), "rte", "a/b/c"):
        with pytest.raises(UserError, match="folder not found") as error:
            bundles.read_bundle(Path(folder))
        assert "hf download" not in str(error.value)


def test_folder_without_manifest_is_no_bundle(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: .*--save-model"):
        bundles.read_bundle(tmp_path / "none")
    with pytest.raises(UserError, match=r"bundle\.json"):
        bundles.read_bundle(tiny_model)


def test_bundle_of_a_newer_harness_is_refused(copy: Path) -> None:
    facts = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps(facts | {"format": bundles.FORMAT + 1, "harness": "9.9"}))
    with pytest.raises(UserError, match=r"format 2.*9\.9.* up to 1"):
        bundles.read_bundle(copy)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "one", "files": {}}', '{"format": 1}'])
def test_damaged_manifest_is_an_error(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text)
    with pytest.raises(UserError, match=r"bundle\.json: "):
        bundles.read_bundle(copy)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "task.yaml", "record.json"])
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        bundles.read_bundle(copy)


def test_other_weights_than_the_runs_are_refused(copy: Path) -> None:
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: invalid checksum"):
        bundles.load_model(bundles.read_bundle(copy))


def forge(folder: Path, name: str, text: str) -> None:
    """Replaces a file of a saved model, and its hash in the manifest."""
    (folder / name).write_text(text)
    manifest = json.loads((folder / "bundle.json").read_text())
    manifest["files"][name] = file_hash(folder / name)
    (folder / "bundle.json").write_text(json.dumps(manifest))


def test_unloadable_configuration_is_an_error(copy: Path) -> None:
    forge(copy, "config.json", '{"model_type": "nonesuch"}')
    with pytest.raises(UserError, match=f"{copy}: .*nonesuch"):
        bundles.load_model(bundles.read_bundle(copy))


@pytest.mark.parametrize("name", ["config.json", "task.yaml", "record.json", "tokenizer.json", "tokenizer_config.json"])
def test_edited_file_is_named(copy: Path, name: str) -> None:
    (copy / name).write_text((copy / name).read_text() + "\n")
    with pytest.raises(UserError, match=f"{copy / name}: invalid checksum"):
        bundles.read_bundle(copy)


def test_model_card_may_be_edited_and_its_plot_removed(copy: Path) -> None:
    (copy / "README.md").write_text("My own words.")
    (copy / "learning-curve.svg").unlink()
    bundles.read_bundle(copy)


def test_code_that_comes_with_a_saved_model_is_never_run(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts on standard input would be the answer to the question whether to run it."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    (copy / "own.py").write_text(f"open({str(copy / 'marker')!r}, 'w').close()")
    config = json.loads((copy / "config.json").read_text())
    classes = {"AutoConfig": "own.Own", "AutoModelForSequenceClassification": "own.Own"}
    forge(copy, "config.json", json.dumps({**config, "model_type": "own", "auto_map": classes}))
    with pytest.raises(UserError, match=f"{copy}: .*code of its own"):
        bundles.load_model(bundles.read_bundle(copy))
    assert not (copy / "marker").exists()


@pytest.mark.parametrize("folder", ["x" * 300, "loop/model"])
def test_impossible_path_is_a_mistake(tmp_path: Path, folder: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=f"{folder}: "):
        bundles.read_bundle(tmp_path / folder)
    with pytest.raises(UserError, match="--save-model "):
        bundles.check_save_folder(tmp_path / folder, "run", overwrite=False)
