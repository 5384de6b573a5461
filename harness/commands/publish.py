"""`harness publish`: uploads a results folder to the Hub, as a dataset or as a static Space."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.errors import UserError
from harness.reports.folder import read_pages
from harness.reports.results_repository import stage_results
from harness.system.command_line import parse_flags
from harness.system.uploads import Kind, check_repository_name, check_sign_in, upload


@dataclass(frozen=True)
class PublishOptions:
    """Upload a results folder to the Hub as a dataset: records, predictions, a table of all scores, the leaderboard.

    `harness leaderboard --from hf://datasets/NAME` reads it back.
    """

    to: str
    """The dataset's name, as in organisation/name, or spaces/organisation/name for a static Space whose page is the
    leaderboard. A new one is private."""
    results: Path = Path("results")
    """The folder with runs/."""
    public: bool = False
    """A new dataset or Space is public; an existing one stays as it is."""
    dry_run: bool = False
    """List the files with their sizes, and upload nothing."""


def main(arguments: Sequence[str]) -> None:
    """Uploads the folder as one commit and prints its address.

    Raises:
        UserError: the name is invalid, there are no records, or only those of test mode, or the upload failed.
    """
    options = parse_flags(PublishOptions, arguments, "publish")
    match = re.fullmatch(r"(?:hf://)?(?:(dataset|space)s/)?((?!(?:dataset|space|model)s/)[\w.-]+/[\w.-]+)", options.to)
    if match is None:
        raise UserError(
            f"--to {options.to}: expected the name of a dataset on the Hub, organisation/name, or of a Space, "
            "spaces/organisation/name."
        )
    kind: Kind = "space" if match[1] == "space" else "dataset"
    repository = match[2]
    check_repository_name(repository, "--to")
    pages, messages = read_pages(options.results)
    for message in messages:
        print(f"left out: {message}", file=sys.stderr)
    if all(board.is_test_mode for board in pages.values()):
        raise UserError(f"--results {options.results}: all runs are in test mode, which has no benchmark results.")
    runs = (run for board in pages.values() for group in board.evidence for run in group.runs)
    records = [run for run in runs if not run.spec.test_mode]
    if not options.dry_run:
        check_sign_in(repository, "--to")
    with TemporaryDirectory(prefix="harness-publish-") as folder:
        stage_results(pages, records, options.results, Path(folder), repository, kind)
        paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        size = sum(path.stat().st_size for path in paths)
        print(f"{len(records)} records, {len(paths)} files, {size / 2**20:.1f} MiB")
        if options.dry_run:
            for path in paths:
                print(f"{path.stat().st_size:>12,} {path.relative_to(folder)}")
            return
        address = upload(Path(folder), repository, f"{len(records)} runs", kind, not options.public, "--to")
    print(f"on the Hub: {address}")
