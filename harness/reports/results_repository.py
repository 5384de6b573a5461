"""A results folder as a dataset on the Hub: the files to upload, and the records that are accepted from one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import UserError, first_line
from harness.facts.record_parts import MAX_RECORD_BYTES
from harness.facts.records import RunRecord, read_record_copy, record_path, record_text
from harness.facts.yaml_file import yaml_text
from harness.reports.folder import write_leaderboard_files
from harness.reports.standings import Leaderboard
from harness.system.atomic import write_atomically
from harness.system.hub import call_with_retries

SCORES = "scores.parquet"
"""The table that the Hub shows: a row per run, split and metric."""

MAX_FILES = 100_000
"""Files of a repository that is read."""
MAX_BYTES = 2 * 2**30
"""Size of all its records."""

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


def stage_results(pages: Mapping[str, Leaderboard], records: Sequence[RunRecord], results: Path, folder: Path) -> None:
    """Writes the files to upload into an empty folder: card, scores, records, predictions and leaderboard."""
    for record in records:
        source = record_path(results, record.spec.task, record.run_id)
        target = record_path(folder, record.spec.task, record.run_id)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(record_text(record), encoding="utf-8")
        for name in record.prediction_files.values():
            if (source.parent / name).is_file():
                shutil.copyfile(source.parent / name, target.parent / name)
    write_leaderboard_files(pages, folder)
    _write_scores(records, folder / SCORES)
    page = (folder / "leaderboard.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(_card(page), encoding="utf-8")


def _card(leaderboard: str) -> str:
    metadata = {
        "pretty_name": "Fine-tuning scores of encoders",
        "tags": ["glue-harness", "leaderboard", "benchmark"],
        "configs": [{"config_name": "scores", "data_files": SCORES}],
    }
    return (
        f"---\n{yaml_text(metadata)}---\n\n{leaderboard}\n## Files\n\n"
        "- `runs/<task>/<run_id>.json`: the record of a run, with its recipe, data, environment and predictions.\n"
        f"- `{SCORES}`: every score, a row per run, split and metric.\n"
        "- `leaderboard.html`: the table above as a page that sorts and filters.\n\n"
        "`harness leaderboard --from hf://datasets/THIS/REPOSITORY` adds the records to your own results folder.\n"
    )


def _write_scores(records: Sequence[RunRecord], path: Path) -> None:
    import pandas as pd

    pd.DataFrame(list(_score_rows(records))).to_parquet(path, index=False)


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
    """Adds the records of a repository to a results folder; nothing else of it is downloaded, and no code is run.

    Raises:
        UserError: the address is invalid, the repository cannot be read or is too large, or a record contradicts one of
            the folder.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise UserError(f"--from {address}: expected hf://datasets/ORGANISATION/NAME, or ...@REVISION.")
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
        if isinstance(entry, RepoFile) and entry.path.startswith("runs/") and entry.path.endswith(".json"):
            sizes[entry.path] = entry.size
    if sum(sizes.values()) > MAX_BYTES or max(sizes.values(), default=0) > MAX_RECORD_BYTES:
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
        lambda: snapshot_download(repository, repo_type="dataset", revision=commit, allow_patterns="runs/*.json"),
    )


def _checked_record(path: Path) -> RunRecord:
    """The record of a file whose name and identity belong together.

    Raises:
        UserError: the file is not a record, has another name, or its run ID is not that of its spec.
    """
    record = read_record_copy(path)
    if record.run_id != path.stem or record.spec.task != path.parent.name:
        raise UserError(f"{path}: the record is that of run {record.run_id} of {record.spec.task}. Rename the file.")
    if record.run_id != record.spec.run_id:
        raise UserError(f"{path}: run_id: expected {record.spec.run_id} by its spec, got {record.run_id}.")
    return record
