"""Files of data and models: found where the user or the task says, and hashed by what is in them, not where."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.facts.sources import FILE_FORMATS
from harness.facts.tasks import TaskSpec, load_task, read_task
from harness.rows.files import ALL_ROWS, Files, data_identity, file_hash, files_of, find_files, model_revision

Make = Callable[..., Path]
Write = Callable[[Path, Any], Path]

ROWS = {"text": ["one", "two"], "label": ["no", "yes"]}


@pytest.fixture
def task(make_task: Make) -> TaskSpec:
    return read_task(make_task())


def one_file_task(make_task: Make, **source: Any) -> TaskSpec:
    """A task whose rows lie in one file, which is cut into halves."""
    splits = {"train": "all[:50%]", "validation": "all[50%:]"}
    facts = {"source": {"file": "rows.csv", **source}, "splits": splits, "rows": {"train": 1, "validation": 1}}
    return read_task(make_task({}, **facts))


def paths_of(files: Files) -> dict[str, list[Path]]:
    return {split: [file.path for file in parts] for split, parts in files.by_split.items()}


# -- where they lie ----------------------------------------------------------------------------------------------------


def test_registered_task_has_no_files_of_its_own() -> None:
    assert find_files(load_task("rte"), None) is None
    assert find_files(load_task("ttc4900"), None) is None


def test_own_task_names_its_files_beside_itself(task: TaskSpec, tmp_path: Path) -> None:
    found = find_files(task, None)
    assert found is not None
    assert paths_of(found) == {split: [tmp_path / "small" / f"{split}.csv"] for split in ("train", "validation")}
    assert (found.are_canonical, found.are_named_by_task) == (False, True)


def test_file_that_the_task_names_and_that_is_not_there_is_named(task: TaskSpec, tmp_path: Path) -> None:
    (tmp_path / "small" / "validation.csv").unlink()
    with pytest.raises(UserError, match=r"task small: its source file .*small/validation.csv does not exist"):
        find_files(task, None)


@pytest.mark.parametrize("ending", FILE_FORMATS)
def test_folder_holds_the_tasks_own_splits_in_any_format(tmp_path: Path, write_rows: Write, ending: str) -> None:
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / "given" / "rte" / f"{split}.{ending}", ROWS)
    found = find_files(load_task("rte"), tmp_path / "given")
    assert found is not None
    assert {split: [path.name for path in paths] for split, paths in paths_of(found).items()} == {
        split: [f"{split}.{ending}"] for split in ("train", "validation", "test")
    }
    assert (found.are_canonical, found.are_named_by_task) == (True, False)


def test_folder_without_the_split_to_predict_is_the_tasks_own_still(tmp_path: Path, write_rows: Write) -> None:
    for split in ("train", "validation"):
        write_rows(tmp_path / "rte" / f"{split}.csv", ROWS)
    found = find_files(load_task("rte"), tmp_path)
    assert found is not None
    assert (set(found.by_split), found.are_canonical) == ({"train", "validation"}, True)


def test_folder_with_the_sources_splits_is_cut_as_the_source_is(tmp_path: Path, write_rows: Write) -> None:
    for split in ("train", "test", "unsupervised"):
        write_rows(tmp_path / "imdb" / f"{split}.csv", ROWS)
    found = find_files(load_task("imdb"), tmp_path)
    assert found is not None
    assert (set(found.by_split), found.are_canonical) == ({"train", "test", "unsupervised"}, False)


def test_folder_may_hold_the_one_file_of_a_task_or_its_splits(tmp_path: Path, write_rows: Write) -> None:
    task = load_task("ttc4900")
    write_rows(tmp_path / "one" / "ttc4900" / "all.csv", ROWS)
    one = find_files(task, tmp_path / "one")
    for split in task.splits:
        write_rows(tmp_path / "cut" / "ttc4900" / f"{split}.csv", ROWS)
    cut = find_files(task, tmp_path / "cut")
    assert one is not None
    assert (set(one.by_split), one.are_canonical) == ({ALL_ROWS}, False)
    assert cut is not None
    assert (set(cut.by_split), cut.are_canonical) == (set(task.splits), True)


def test_other_files_in_the_folder_are_no_splits(tmp_path: Path, write_rows: Write) -> None:
    for name in ("train.csv", "validation.csv", "dev.csv"):
        write_rows(tmp_path / "rte" / name, ROWS)
    (tmp_path / "rte" / "README.md").write_text("read me")
    (tmp_path / "rte" / "train.parquet").mkdir()
    found = find_files(load_task("rte"), tmp_path)
    assert found is not None
    assert set(found.by_split) == {"train", "validation"}


def test_two_formats_of_one_split_are_refused(tmp_path: Path, write_rows: Write) -> None:
    for name in ("train.csv", "train.jsonl", "validation.csv"):
        write_rows(tmp_path / "rte" / name, ROWS)
    with pytest.raises(UserError, match=r"rte/train\.csv and .*rte/train\.jsonl are both there: keep one"):
        find_files(load_task("rte"), tmp_path)


def test_folder_without_the_tasks_folder_is_told_what_should_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no rte/<split>\.<format> in it, .*train, validation, test .*csv, tsv"
    ) as told:
        find_files(load_task("rte"), tmp_path)
    assert str(tmp_path) in str(told.value)


def test_folder_that_lacks_rows_of_a_task_in_one_file_says_which(tmp_path: Path, write_rows: Write) -> None:
    write_rows(tmp_path / "ttc4900" / "train.csv", ROWS)
    with pytest.raises(UserError, match=r"ttc4900 has neither all\.csv nor validation\.csv"):
        find_files(load_task("ttc4900"), tmp_path)


def test_one_file_is_no_data_for_a_task_of_several(tmp_path: Path, write_rows: Write) -> None:
    path = write_rows(tmp_path / "rows.csv", ROWS)
    with pytest.raises(
        UserError, match=r"rte is not made from one file\. Give the folder that holds rte/train\.parquet"
    ):
        find_files(load_task("rte"), path)


def test_own_files_are_found_in_another_folder_by_their_names(
    tmp_path: Path, write_rows: Write, make_task: Make
) -> None:
    files = {"train": "rows.csv", "test": "part-*.csv"}
    splits = {"train": "train[:50%]", "validation": "train[50%:]", "test": "test"}
    task = read_task(make_task({}, source={"files": files}, splits=splits, rows={}))
    for name in ("rows", "part-1", "part-2"):
        write_rows(tmp_path / "given" / f"{name}.csv", ROWS)
    found = find_files(task, tmp_path / "given")
    assert found is not None
    named = {split: [path.name for path in paths] for split, paths in paths_of(found).items()}
    assert named == {"train": ["rows.csv"], "test": ["part-1.csv", "part-2.csv"]}
    assert not found.are_canonical
    with pytest.raises(UserError, match="small is not made from one file"):
        find_files(task, tmp_path / "given" / "rows.csv")


def test_one_file_is_data_for_a_task_whose_splits_are_cut_from_one(
    tmp_path: Path, write_rows: Write, make_task: Make
) -> None:
    splits = {"train": "train[:50%]", "validation": "train[50%:]"}
    task = read_task(make_task({}, source={"files": {"train": "rows.csv"}}, splits=splits, rows={}))
    path = write_rows(tmp_path / "elsewhere.csv", ROWS)
    found = find_files(task, path)
    assert found is not None
    assert paths_of(found) == {"train": [path]}


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data .*/nowhere: there is no such file or folder"):
        find_files(load_task("rte"), tmp_path / "nowhere")


# -- what they are -----------------------------------------------------------------------------------------------------


def test_identity_is_that_of_the_contents_wherever_they_lie(task: TaskSpec, tmp_path: Path) -> None:
    here = find_files(task, None)
    shutil.copytree(tmp_path, tmp_path / "copy" / "of", ignore=shutil.ignore_patterns("copy"))
    there = find_files(read_task(tmp_path / "copy" / "of" / "small.yaml"), None)
    assert here is not None
    assert there is not None
    assert here.by_split != there.by_split
    assert data_identity(task, here) == data_identity(task, there) == here.identity
    assert here.identity.startswith("sha256:")


def test_identity_changes_with_a_byte_of_any_split(task: TaskSpec, tmp_path: Path) -> None:
    files = find_files(task, None)
    assert files is not None
    seen = {files.identity}
    for path in (path for paths in paths_of(files).values() for path in paths):
        path.write_bytes(path.read_bytes() + b"\n")
        now = find_files(task, None)
        assert now is not None
        seen.add(now.identity)
    assert len(seen) == 3


def test_identity_changes_when_splits_swap_their_files(tmp_path: Path, write_rows: Write) -> None:
    write_rows(tmp_path / "a.csv", ROWS)
    write_rows(tmp_path / "b.csv", {"text": ["three"], "label": ["no"]})
    first, second = (files_of("small", [str(tmp_path / name)]) for name in ("a.csv", "b.csv"))
    asked = Files({"train": first, "validation": second}, are_canonical=True, are_named_by_task=False)
    swapped = asked._replace(by_split={"train": second, "validation": first})
    assert asked.identity != swapped.identity
    assert asked.identity != asked._replace(are_canonical=False).identity


def test_the_tasks_pinned_source_has_no_identity_of_its_own() -> None:
    assert data_identity(load_task("rte"), None) is None


def test_given_file_with_the_pinned_checksum_is_the_tasks_own(
    tmp_path: Path, make_task: Make, write_rows: Write
) -> None:
    path = write_rows(tmp_path / "elsewhere" / "mine.csv", ROWS)
    task = one_file_task(make_task, sha256=file_hash(path))
    files = find_files(task, path)
    assert data_identity(task, files) is None
    path.write_text(path.read_text() + "three,no\n")
    other = find_files(task, path)
    assert other is not None
    assert data_identity(task, other) == Files({ALL_ROWS: files_of("small", [str(path)])}, False, False).identity


def test_file_hash_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(b"abc")
    assert file_hash(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- models ------------------------------------------------------------------------------------------------------------


def test_model_of_the_hub_is_at_main_unless_told_otherwise() -> None:
    assert model_revision("org/model", None) == "main"
    assert model_revision("org/model", "v1") == "v1"


def test_folders_revision_is_that_of_its_files_wherever_it_lies(tiny_model: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "README.md").write_text("A card changes no number.")
    assert model_revision(str(copy), None) == model_revision(str(tiny_model), None)
    config = copy / "config.json"
    config.write_text(config.read_text() + "\n")
    assert model_revision(str(copy), None) != model_revision(str(tiny_model), None)


def test_folder_under_the_home_folder_is_found(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert model_revision("~/tiny", None) == model_revision(str(tiny_model), None)


@pytest.mark.parametrize("name", ["./nowhere", "/no/where", "~/nowhere", "../nowhere"])
def test_name_that_can_only_be_a_folder_must_be_one(name: str) -> None:
    with pytest.raises(UserError, match=f"--model {name}: there is no such folder"):
        model_revision(name, None)


def test_folder_without_a_configuration_holds_no_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no config\.json, so it holds no model"):
        model_revision(str(tmp_path), None)


def test_folder_has_no_revisions(tiny_model: Path) -> None:
    with pytest.raises(UserError, match=r"--revision v1: .*tiny is a folder; revisions belong to models of the Hub"):
        model_revision(str(tiny_model), "v1")
