"""Files of rows and models: those that the user or the task names, hashed by content and not by path."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.facts.sources import FILE_FORMATS
from harness.facts.tasks import TaskSpec, load_task, read_task
from harness.rows import files as files_module
from harness.rows.files import ALL_ROWS, Files, collect_files, data_identity, file_hash, find_files, model_revision

Make = Callable[..., Path]
Write = Callable[[Path, Any], Path]

ROWS = {"text": ["one", "two"], "label": ["no", "yes"]}


@pytest.fixture
def task(make_task: Make) -> TaskSpec:
    return read_task(make_task())


def one_file_task(make_task: Make, **source: Any) -> TaskSpec:
    """A task with one file of rows, which is cut into halves."""
    splits = {"train": "all[:50%]", "validation": "all[50%:]"}
    facts = {"source": {"file": "rows.csv", **source}, "splits": splits, "rows": {"train": 1, "validation": 1}}
    return read_task(make_task({}, **facts))


def paths_of(files: Files) -> dict[str, list[Path]]:
    return {split: [file.path for file in parts] for split, parts in files.by_split.items()}


# -- finding files -----------------------------------------------------------------------------------------------------


def test_registered_task_has_no_files_of_its_own() -> None:
    assert find_files(load_task("rte"), None) is None
    assert find_files(load_task("ttc4900"), None) is None


def test_files_of_an_own_task_are_relative_to_its_yaml(task: TaskSpec, tmp_path: Path) -> None:
    files = find_files(task, None)
    assert paths_of(files) == {split: [tmp_path / "small" / f"{split}.csv"] for split in ("train", "validation")}
    assert not files.are_canonical


def test_missing_file_of_a_task_is_named(task: TaskSpec, tmp_path: Path) -> None:
    (tmp_path / "small" / "validation.csv").unlink()
    with pytest.raises(UserError, match=r"task small: file not found: .*small/validation\.csv"):
        find_files(task, None)


@pytest.mark.parametrize("ending", FILE_FORMATS)
def test_folder_has_the_splits_of_the_task_in_any_format(tmp_path: Path, write_rows: Write, ending: str) -> None:
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / "data" / "rte" / f"{split}.{ending}", ROWS)
    files = find_files(load_task("rte"), tmp_path / "data")
    assert {split: [path.name for path in paths] for split, paths in paths_of(files).items()} == {
        split: [f"{split}.{ending}"] for split in ("train", "validation", "test")
    }
    assert files.are_canonical


def test_folder_without_the_split_to_predict_has_the_splits_of_the_task(tmp_path: Path, write_rows: Write) -> None:
    for split in ("train", "validation"):
        write_rows(tmp_path / "rte" / f"{split}.csv", ROWS)
    files = find_files(load_task("rte"), tmp_path)
    assert (set(files.by_split), files.are_canonical) == ({"train", "validation"}, True)


def test_folder_with_the_splits_of_the_source_is_cut_like_the_source(tmp_path: Path, write_rows: Write) -> None:
    for split in ("train", "test", "unsupervised"):
        write_rows(tmp_path / "imdb" / f"{split}.csv", ROWS)
    files = find_files(load_task("imdb"), tmp_path)
    assert (set(files.by_split), files.are_canonical) == ({"train", "test", "unsupervised"}, False)


def test_folder_may_have_the_one_file_of_a_task_or_its_splits(tmp_path: Path, write_rows: Write) -> None:
    task = load_task("ttc4900")
    write_rows(tmp_path / "one" / "ttc4900" / "all.csv", ROWS)
    one = find_files(task, tmp_path / "one")
    for split in task.splits:
        write_rows(tmp_path / "cut" / "ttc4900" / f"{split}.csv", ROWS)
    cut = find_files(task, tmp_path / "cut")
    assert (set(one.by_split), one.are_canonical) == ({ALL_ROWS}, False)
    assert (set(cut.by_split), cut.are_canonical) == (set(task.splits), True)


def test_other_files_in_the_folder_are_not_splits(tmp_path: Path, write_rows: Write) -> None:
    for name in ("train.csv", "validation.csv", "dev.csv"):
        write_rows(tmp_path / "rte" / name, ROWS)
    (tmp_path / "rte" / "README.md").write_text("read me")
    (tmp_path / "rte" / "train.parquet").mkdir()
    files = find_files(load_task("rte"), tmp_path)
    assert set(files.by_split) == {"train", "validation"}


def test_two_formats_of_one_split_are_refused(tmp_path: Path, write_rows: Write) -> None:
    for name in ("train.csv", "train.jsonl", "validation.csv"):
        write_rows(tmp_path / "rte" / name, ROWS)
    with pytest.raises(UserError, match=r"--data: two files of one split, .*rte/train\.csv and .*rte/train\.jsonl"):
        find_files(load_task("rte"), tmp_path)


def test_folder_without_the_folder_of_the_task_is_refused_with_the_expected_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rte/<split>\.<format> .*train, validation, test .*csv, tsv") as caught:
        find_files(load_task("rte"), tmp_path)
    assert str(caught.value).startswith(f"--data {tmp_path}: ")


def test_folder_with_missing_rows_of_a_one_file_task_names_them(tmp_path: Path, write_rows: Write) -> None:
    write_rows(tmp_path / "ttc4900" / "train.csv", ROWS)
    with pytest.raises(UserError, match=r"neither all\.csv nor validation\.csv .*ttc4900"):
        find_files(load_task("ttc4900"), tmp_path)


def test_one_file_is_refused_for_a_task_with_several(tmp_path: Path, write_rows: Write) -> None:
    path = write_rows(tmp_path / "rows.csv", ROWS)
    with pytest.raises(UserError, match=r"--data .*rows\.csv: rte has more than one file\. .*rte/train\.parquet"):
        find_files(load_task("rte"), path)


def test_files_of_an_own_task_may_be_in_another_folder(tmp_path: Path, write_rows: Write, make_task: Make) -> None:
    references = {"train": "rows.csv", "test": "part-*.csv"}
    splits = {"train": "train[:50%]", "validation": "train[50%:]", "test": "test"}
    task = read_task(make_task({}, source={"files": references}, splits=splits, rows={}))
    for name in ("rows", "part-1", "part-2"):
        write_rows(tmp_path / "data" / f"{name}.csv", ROWS)
    files = find_files(task, tmp_path / "data")
    names = {split: [path.name for path in paths] for split, paths in paths_of(files).items()}
    assert names == {"train": ["rows.csv"], "test": ["part-1.csv", "part-2.csv"]}
    assert not files.are_canonical
    with pytest.raises(UserError, match="small has more than one file"):
        find_files(task, tmp_path / "data" / "rows.csv")


def test_one_file_is_accepted_for_a_task_with_one(tmp_path: Path, write_rows: Write, make_task: Make) -> None:
    splits = {"train": "train[:50%]", "validation": "train[50%:]"}
    task = read_task(make_task({}, source={"files": {"train": "rows.csv"}}, splits=splits, rows={}))
    path = write_rows(tmp_path / "other.csv", ROWS)
    files = find_files(task, path)
    assert paths_of(files) == {"train": [path]}


@pytest.mark.parametrize("name", ["a" * 300, "~nosuchuser/rows", "fifo.csv", "loop"])
@pytest.mark.parametrize("task", ["rte", "ttc4900"])
def test_data_that_cannot_be_opened_is_refused(name: str, task: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "loop").symlink_to("loop")
    data = Path(name) if name.startswith("~") else tmp_path / name
    with pytest.raises(UserError, match=r"^--data "):
        find_files(load_task(task), data)


def test_missing_data_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data .*/missing: file or folder not found"):
        find_files(load_task("rte"), tmp_path / "missing")


def test_data_can_be_a_sheet_of_a_workbook(make_task: Make, tmp_path: Path) -> None:
    book = tmp_path / "book.xlsx"
    book.write_bytes(b"any")
    files = find_files(one_file_task(make_task), Path(f"{book}#sheet=two"))
    (file,) = files.by_split[ALL_ROWS]
    assert (file.path, file.sheet) == (book, "two")


def test_folder_of_the_data_flag_has_no_sheet(make_task: Make, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--data {tmp_path}#sheet=two: a folder has no sheets"):
        find_files(one_file_task(make_task), Path(f"{tmp_path}#sheet=two"))


def test_adapter_in_place_of_a_model_is_named(tmp_path: Path) -> None:
    for name, is_named in (("config", False), ("adapter_config", True)):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.json").write_text("{}")
        (tmp_path / name / "config.json").unlink(missing_ok=True)
        with pytest.raises(UserError, match=r"config\.json not found") as error:
            model_revision(str(tmp_path / name), None)
        assert ("adapter" in str(error.value).rpartition("not found")[2]) == is_named


# -- identity ----------------------------------------------------------------------------------------------------------


def test_identity_depends_on_the_contents_and_not_on_the_folder(task: TaskSpec, tmp_path: Path) -> None:
    original = find_files(task, None)
    shutil.copytree(tmp_path, tmp_path / "copy" / "of", ignore=shutil.ignore_patterns("copy"))
    copy = find_files(read_task(tmp_path / "copy" / "of" / "small.yaml"), None)
    assert original.by_split != copy.by_split
    assert data_identity(task, original) == data_identity(task, copy) == original.identity
    assert original.identity.startswith("sha256:")


def test_identity_changes_with_a_byte_of_any_split(task: TaskSpec, tmp_path: Path) -> None:
    files = find_files(task, None)
    identities = {files.identity}
    for path in (path for paths in paths_of(files).values() for path in paths):
        path.write_bytes(path.read_bytes() + b"\n")
        now = find_files(task, None)
        identities.add(now.identity)
    assert len(identities) == 3


def test_identity_changes_when_splits_swap_their_files(tmp_path: Path, write_rows: Write) -> None:
    write_rows(tmp_path / "a.csv", ROWS)
    write_rows(tmp_path / "b.csv", {"text": ["three"], "label": ["no"]})
    first, second = (collect_files("small", [str(tmp_path / name)]) for name in ("a.csv", "b.csv"))
    files = Files({"train": first, "validation": second}, are_canonical=True)
    swapped = files._replace(by_split={"train": second, "validation": first})
    assert files.identity != swapped.identity
    assert files.identity != files._replace(are_canonical=False).identity


def test_pinned_source_has_no_data_identity() -> None:
    assert data_identity(load_task("rte"), None) is None


def test_file_with_the_pinned_checksum_has_no_data_identity(tmp_path: Path, make_task: Make, write_rows: Write) -> None:
    path = write_rows(tmp_path / "other" / "mine.csv", ROWS)
    task = one_file_task(make_task, sha256=file_hash(path))
    files = find_files(task, path)
    assert data_identity(task, files) is None
    path.write_text(path.read_text() + "three,no\n")
    other = find_files(task, path)
    assert (
        data_identity(task, other)
        == Files({ALL_ROWS: collect_files("small", [str(path)])}, are_canonical=False).identity
    )


def test_file_hash_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"abc")
    assert file_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- models ------------------------------------------------------------------------------------------------------------


def test_revision_of_a_hub_model_is_main_by_default() -> None:
    assert model_revision("org/model", None) == "main"
    assert model_revision("org/model", "v1") == "v1"


def test_revision_of_a_folder_depends_on_its_files_and_not_on_its_path(tiny_model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "README.md").write_text("A card affects no score.")
    assert model_revision(str(copy), None) == model_revision(str(tiny_model), None)
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    assert model_revision(str(copy), None) != model_revision(str(tiny_model), None)


def test_tilde_is_the_home_folder(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert model_revision("~/tiny", None) == model_revision(str(tiny_model), None)


@pytest.mark.parametrize("name", ["./missing", "/not/there", "~/missing", "../missing"])
def test_path_of_a_model_must_be_a_folder(name: str) -> None:
    with pytest.raises(UserError, match=f"--model {name}: folder not found"):
        model_revision(name, None)


def test_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--model .*: not a model folder: config\.json"):
        model_revision(str(tmp_path), None)


def test_folder_has_no_revisions(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"--revision v1: .*tiny is a folder"):
        model_revision(str(tiny_model), "v1")


def test_revision_of_a_folder_skips_what_is_no_file(tiny_model: Path, tmp_path: Path) -> None:
    """A pipe would be read for ever."""
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "folder.json").mkdir()
    (copy / "link.bin").symlink_to(tmp_path / "none")
    os.mkfifo(copy / "pipe.json")
    assert model_revision(str(copy), None) == model_revision(str(tiny_model), None)


@pytest.mark.parametrize("name", ["x" * 300, "~no-such-user/model"])
def test_impossible_path_of_a_model_is_a_mistake(name: str) -> None:
    with pytest.raises(UserError, match=f"--model {name}: "):
        model_revision(name, None)


def test_unreadable_weights_of_a_model_are_a_mistake(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    model = shutil.copytree(tiny_model, tmp_path / "model")
    monkeypatch.setattr(files_module, "file_hash", refuse)
    with pytest.raises(UserError, match=f"--model {model}: permission denied"):
        model_revision(str(model), None)
