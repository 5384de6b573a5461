"""A results folder as a dataset on the Hub: the files to upload, and the records that are accepted from one."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, first_line
from harness.facts.prediction_files import prediction_path
from harness.facts.record_parts import MAX_RECORD_BYTES
from harness.facts.records import RunRecord, read_record_copy, record_path, record_text
from harness.facts.yaml_file import yaml_text
from harness.reports.folder import write_leaderboard
from harness.reports.standings import Leaderboard
from harness.system.atomic import write_atomically
from harness.system.hub import call_with_retries
from harness.system.uploads import Kind

SCORES = "scores.parquet"
"""The table that the Hub shows: a row per run, split and metric."""

MAX_FILES = 100_000
"""Files of a repository that is read."""
MAX_BYTES = 2 * 2**30
"""Size of all its records and predictions."""
ENDINGS = (".json", ".parquet")
"""Endings of the files that are downloaded: records and predictions."""

_ADDRESS = re.compile(r"hf://datasets/(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_RECORD = re.compile(r"runs/[^/]+/[A-Za-z0-9._-]{1,100}\.json")


class Pull(NamedTuple):
    """The records of a repository."""

    source: str
    """Its address with the commit."""
    new: int
    """Records that were added to the results folder."""
    known: int
    """Records that the folder has already, with the same content."""
    messages: list[str]
    """A message for each file that was not accepted."""


def stage_results(
    pages: Mapping[str, Leaderboard],
    records: Sequence[RunRecord],
    results: Path,
    folder: Path,
    repository: str,
    kind: Kind = "dataset",
) -> None:
    """Writes the files to upload to `repository` into an empty folder.

    They are the card, the scores, records with their predictions, and the leaderboard with the grids and re-runs that
    it links.
    """
    import pandas as pd

    for record in records:
        write_atomically(record_path(folder, record.spec.task, record.run_id), record_text(record))
        _copy_predictions(record, results, folder)
    linked = {search.path for board in pages.values() for search in board.searches}
    linked |= {rerun.path for board in pages.values() for several in board.reruns.values() for rerun in several}
    for name in sorted(linked):
        write_atomically(folder / name, (results / name).read_text(encoding="utf-8"))
    write_leaderboard(pages, folder)
    pd.DataFrame(list(_score_rows(records))).to_parquet(folder / SCORES, index=False)
    page = (folder / "leaderboard.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(_card(page, repository, kind), encoding="utf-8")


def _copy_predictions(record: RunRecord, source: Path, target: Path) -> None:
    """Copies the files of predictions of a record that one results folder has and the other lacks."""
    for split in record.prediction_files:
        path, copy = (prediction_path(record, folder, split) for folder in (source, target))
        if path.is_file() and not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _card(leaderboard: str, repository: str, kind: Kind) -> str:
    """The README of the repository: that of a Space names the page that it shows, that of a dataset its table."""
    is_space = kind == "space"
    metadata = {
        "title" if is_space else "pretty_name": "Fine-tuning scores of encoders",
        "tags": ["glue-harness", "leaderboard", "benchmark"],
        **(
            {"sdk": "static", "app_file": "leaderboard.html"}
            if is_space
            else {"configs": [{"config_name": "scores", "data_files": SCORES}]}
        ),
    }
    lines = [
        "- `runs/<task>/<run_id>.json`: the record of a run, with its recipe, data, environment and predictions.",
        f"- `{SCORES}`: every score, a row per run, split and metric.",
        "- `leaderboard.html`: the table above as a page that sorts, filters and compares.",
        "- `leaderboard/<task>.html`: a task's scores in full, with confused labels.",
    ]
    if not is_space:
        address = f"hf://datasets/{repository}"
        lines += ["", f"`harness leaderboard --from {address}` adds the records to your own results folder."]
    text = "\n".join(lines)
    return f"---\n{yaml_text(metadata)}---\n\n{leaderboard}\n## Files\n\n{text}\n"


def _score_rows(records: Sequence[RunRecord]) -> Iterator[dict[str, Any]]:
    for record in records:
        spec, environment = record.spec, record.environment
        run = {
            "task": spec.task,
            "suite": record.task.suite,
            "model": spec.model,
            "revision": spec.revision,
            "commit": record.model.commit if record.model else None,
            "recipe": json.dumps(record.recipe_changes, sort_keys=True, ensure_ascii=False),
            "seed": spec.seed,
            "status": record.status,
        }
        end = {
            "run_id": record.run_id,
            "precision": environment.precision if environment else None,
            "finished": record.finished,
        }
        for split, values in record.metrics.items():
            for metric, value in values.items():
                yield {**run, "split": split, "metric": metric, "value": value, **end}


def pull_records(address: str, results: Path) -> Pull:
    """Adds the records of a repository and their predictions to a results folder; no code of it is run.

    Raises:
        UserError: the address is invalid, the repository cannot be read or is too large, or a record contradicts one of
            the folder.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        copy = shlex.join(["rsync", "-a", "--ignore-existing", f"{address}/runs/", f"{results}/runs/"])
        advice = f" To add the records of a folder: {copy}" if Path(address).is_dir() else ""
        raise UserError(f"--from {address}: expected hf://datasets/ORGANISATION/NAME, or ...@REVISION.{advice}")
    repository, revision = match["repository"], match["revision"]
    try:
        commit, paths = _listed_records(address, repository, revision)
        folder = Path(_download(repository, commit))
    except UserError:
        raise
    except Exception as error:  # the Hub client raises its own kinds and its transport's
        raise UserError(
            f"--from {address}: cannot be read: {first_line(error)}\nCheck the name and the connection."
        ) from None
    messages: list[str] = []
    accepted: dict[Path, RunRecord] = {}
    for name in paths:
        try:
            record = _checked_record(folder / name)
        except UserError as error:
            messages.append(str(error).replace(f"{folder}/", f"{address}/"))
        else:
            accepted[record_path(results, record.spec.task, record.run_id)] = record
    new = {path: record for path, record in accepted.items() if not path.exists()}
    for path, record in accepted.items():
        if path not in new and read_record_copy(path) != record:
            raise UserError(
                f"--from {address}: {path} is another record of the same run. Remove one of them, or pull into "
                "another folder (--results)."
            )
    for path, record in new.items():
        _copy_predictions(record, folder, results)
        write_atomically(path, record_text(record))
    return Pull(f"hf://datasets/{repository}@{commit}", len(new), len(accepted) - len(new), messages)


def _listed_records(address: str, repository: str, revision: str | None) -> tuple[str, list[str]]:
    """The commit of the revision, and the paths of its records.

    Raises:
        UserError: there are too many files, or too many bytes.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    hub = HfApi()
    commit = str(call_with_retries(repository, lambda: hub.dataset_info(repository, revision=revision).sha))
    sizes: dict[str, int] = {}  # of every file that the download would bring
    listing = hub.list_repo_tree(repository, recursive=True, revision=commit, repo_type="dataset")
    for number, entry in enumerate(listing):
        if number >= MAX_FILES:
            raise UserError(f"--from {address}: expected at most {MAX_FILES:,} files.")
        if isinstance(entry, RepoFile) and entry.path.startswith("runs/") and entry.path.endswith(ENDINGS):
            sizes[entry.path] = entry.size
    largest = max((size for path, size in sizes.items() if path.endswith(".json")), default=0)
    if sum(sizes.values()) > MAX_BYTES or largest > MAX_RECORD_BYTES:
        raise UserError(
            f"--from {address}: records too large: expected at most {MAX_RECORD_BYTES:,} bytes each and "
            f"{MAX_BYTES:,} bytes in all."
        )
    paths = sorted(path for path in sizes if _RECORD.fullmatch(path))
    if not paths:
        raise UserError(f"--from {address}: no records found under runs/. Is it a results repository?")
    return commit, paths


def _download(repository: str, commit: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    return call_with_retries(
        repository,
        lambda: snapshot_download(
            repository, repo_type="dataset", revision=commit, allow_patterns=[f"runs/*{ending}" for ending in ENDINGS]
        ),
    )


def _checked_record(path: Path) -> RunRecord:
    """The record of a file whose name and identity belong together, and whose predictions are Parquet files.

    Raises:
        UserError: the file is not a record, has another name, or its run ID is not that of its spec.
    """
    record = read_record_copy(path)
    if record.run_id != path.stem or record.spec.task != path.parent.name:
        raise UserError(f"{path}: expected the path runs/{record.spec.task}/{record.run_id}.json for this record.")
    if record.run_id != record.spec.run_id:
        raise UserError(f"{path}: run_id: expected {record.spec.run_id} by its spec, got {record.run_id}.")
    for split in record.prediction_files:
        if prediction_path(record, path.parents[2], split).suffix != ".parquet":
            raise UserError(f"{path}: prediction_files.{split}: expected a .parquet file.")
    return record
