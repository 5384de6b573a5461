"""A results repository: its workflows check, comment and publish, tried step by step with a local git repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt
from support.commands import run_harness
from support.workflow_steps import Step, run_blocks, run_steps

from harness.__main__ import main
from harness.commands.verify import main as verify_main
from harness.errors import UserError
from harness.reports.repository_files import requirements, write_repository
from harness.requests.options import parse_options
from harness.run import run

WORKFLOWS = ("check.yml", "comment.yml", "publish.yml")


def git(repository: Path, *args: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(repository), *identity, *args], check=True, capture_output=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two real runs of rte in test mode."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in ("3", "4"):
        flags = ("--seed", seed, "--test-mode", "--max-steps", "3", "--results", str(folder))
        run(parse_options(["--task", "rte", *flags]))
    return folder / "test-mode" / "runs"


@pytest.fixture
def repository(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results repository with a run on its main branch, and the current directory."""
    folder = tmp_path / "repository"
    write_repository(folder)
    git(folder, "init", "-b", "main")
    add_run(folder, runs, 3)
    monkeypatch.chdir(folder)
    return folder


def add_run(repository: Path, runs: Path, seed: int) -> Path:
    """Commits a run and returns the path of its record."""
    (repository / "results" / "runs" / "rte").mkdir(parents=True, exist_ok=True)
    for path in (runs / "rte").glob(f"*-seed{seed}-*"):
        shutil.copy(path, repository / "results" / "runs" / "rte")
    git(repository, "add", ".")
    git(repository, "commit", "-m", f"seed {seed}")
    (record,) = (repository / "results" / "runs" / "rte").glob(f"*-seed{seed}-*.json")
    return record


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def merge(repository: Path) -> None:
    """Merges the branch `pull` into the main one without moving it, as the commit that a pull request is checked on."""
    git(repository, "switch", "--detach", "main")
    git(repository, "merge", "--no-ff", "-m", "merge", "pull")


def here(args: Sequence[str]) -> None:
    """The harness, with re-runs in this process."""

    def command(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
        with redirect_stdout(sys.stderr):
            run(parse_options(args))
        return ["false"]  # never started: the supervisor finds the record finished

    if args[0] == "verify":
        verify_main(args[1:], command)
    else:
        main(args)


def check(repository: Path, tmp_path: Path, last: str = "") -> list[Step]:
    """The steps of the check, up to the one named `last`."""
    blocks = run_blocks(repository / ".github" / "workflows" / "check.yml")
    del blocks["Install"]  # from the network
    names = list(blocks)
    blocks = {name: blocks[name] for name in names[: names.index(last) + 1 if last else None]}
    return run_steps(blocks, repository, tmp_path / "bin", here)


def test_the_check_of_a_pull_request_reports_its_entry_and_runs_it_again(
    repository: Path, runs: Path, tmp_path: Path
) -> None:
    git(repository, "switch", "-c", "pull")
    path = add_run(repository, runs, 4)
    merge(repository)
    steps = check(repository, tmp_path)
    assert [step.code for step in steps] == [0, 0, 0, 0], steps[-1].output
    report = (repository / "report.txt").read_text()
    assert report == "".join(step.output for step in steps[1:])
    assert "Entries: 0 added, 1 changed, 0 removed. Records: 1 added, 0 changed, 0 removed." in report
    assert f"rte/{path.stem}: reruns/runner/test-mode/runs/rte/{path.name}: bit-for-bit equal" in report
    main_run = next(runs.glob("rte/*-seed3-*.json")).stem
    assert main_run not in report, "only the new record is checked"
    assert not (repository / "results" / "leaderboard.md").exists()
    untracked = subprocess.run(["git", "status", "--short"], capture_output=True, text=True, check=True).stdout
    assert untracked == "", "the re-run of a run in test mode is ignored too"


def test_a_tampered_record_fails_the_check_with_its_field(repository: Path, runs: Path, tmp_path: Path) -> None:
    git(repository, "switch", "-c", "pull")
    path = add_run(repository, runs, 4)
    content = json.loads(path.read_text())
    content["metrics"]["validation"]["accuracy"] = 0.987
    path.write_text(json.dumps(content))
    git(repository, "commit", "-am", "better")
    merge(repository)
    steps = check(repository, tmp_path)
    assert [(step.name, step.code) for step in steps[-2:]] == [("Changes", 0), ("Verify", 1)]
    assert f"rte/{path.stem}: metrics.validation.accuracy: " in (repository / "report.txt").read_text()


def test_a_pull_request_that_changes_a_known_record_is_reported(repository: Path, tmp_path: Path) -> None:
    git(repository, "switch", "-c", "pull")
    (path,) = (repository / "results" / "runs" / "rte").glob("*.json")
    edit(path, '"notes": []', '"notes": ["edited"]')
    git(repository, "commit", "-am", "edit")
    merge(repository)
    steps = check(repository, tmp_path, last="Changes")
    assert "Records: 0 added, 1 changed, 0 removed." in steps[-1].output
    assert path.stem.replace("_", "\\_") in steps[-1].output
    assert [step.code for step in steps] == [0, 0]


GH = """#!/bin/bash -e
echo "$*" >> "$CALLS"
case "$1 $2" in
  "run download") test -e "$REPORT" && mkdir report && cp "$REPORT" report/report.txt ;;
  "pr list") echo "$NUMBER" ;;
  "pr comment") cat comment.md > "$CALLS.comment" ;;
esac
"""


def comment(tmp_path: Path, number: str) -> tuple[list[str], Path]:
    """The calls of `gh` by the workflow, and the file of the comment; the report is `report.txt`."""
    repository, scratch = tmp_path / "repository", tmp_path / "bin"
    write_repository(repository)
    scratch.mkdir()
    (scratch / "gh").write_text(GH)
    (scratch / "gh").chmod(0o755)
    calls = tmp_path / "calls"
    blocks = run_blocks(repository / ".github" / "workflows" / "comment.yml")
    variables = {"CALLS": str(calls), "REPORT": str(tmp_path / "report.txt"), "NUMBER": number}
    event = {"RUN_ID": "12", "RUN_URL": "https://example.org/runs/12", "CONCLUSION": "failure", "COMMIT": "c0ffee"}
    steps = run_steps(blocks, repository, scratch, main, **variables, **event)
    assert [step.code for step in steps] == [0, 0], steps[-1].output
    return calls.read_text().splitlines(), Path(f"{calls}.comment")


@pytest.mark.parametrize("number", ["7", ""])
def test_the_comment_shows_the_report_as_code_whatever_is_in_it(tmp_path: Path, number: str) -> None:
    report = "| a\\_b |\n```\n@everybody [x](http://x)\n\n# head\r\r<img src=x>\n\x1b[31m~~~\n$(touch x)`touch x`\n"
    (tmp_path / "report.txt").write_bytes((report + "é" * 20_000).encode())
    calls, posted = comment(tmp_path, number)
    assert not (tmp_path / "repository" / "x").exists()
    assert calls[0] == "run download 12 --name report --dir report"
    if not number:
        assert len(calls) == 2
        assert not posted.exists()
        return
    assert calls[2].startswith("pr comment 7 ")
    kinds = {token.type for token in MarkdownIt("commonmark").parse(posted.read_text(errors="replace"))}
    assert kinds == {"paragraph_open", "inline", "paragraph_close", "code_block"}
    assert len(posted.read_bytes()) < 15_000
    assert "| a_b |" in posted.read_text(errors="replace")


def test_the_comment_of_a_check_without_a_report_says_so(tmp_path: Path) -> None:
    _, posted = comment(tmp_path, "7")
    assert posted.read_text().splitlines()[0] == "Check: failure. [All output](https://example.org/runs/12)"
    assert len(posted.read_text().splitlines()) == 3


def test_the_page_is_built_from_the_records(repository: Path, tmp_path: Path) -> None:
    blocks = run_blocks(repository / ".github" / "workflows" / "publish.yml")
    del blocks["Install"]
    steps = run_steps(blocks, repository, tmp_path / "bin", main)
    assert [step.code for step in steps] == [0]
    assert (repository / "results" / "index.html").read_text().startswith("<!DOCTYPE html>")
    git(repository, "add", ".")
    status = subprocess.run(["git", "status", "--short"], capture_output=True, text=True, check=True).stdout
    assert status == "", "the built files are ignored"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_are_safe_for_pull_requests_from_forks(tmp_path: Path, name: str) -> None:
    write_repository(tmp_path)
    text = (tmp_path / ".github" / "workflows" / name).read_text()
    workflow: dict[Any, Any] = yaml.safe_load(text)
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)
    assert not any("${{" in step.get("run", "") for step in steps), "texts of others would be run by the shell"
    checkouts = [step for step in steps if step.get("uses", "").startswith("actions/checkout@")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)
    assert all("timeout-minutes" in job for job in workflow["jobs"].values())
    triggers = workflow[True]  # YAML reads `on` as a truth value
    permissions = {job: one.get("permissions") for job, one in workflow["jobs"].items()}
    assert "pull_request_target" not in triggers
    if name == "comment.yml":  # it may write: it runs no code of the pull request
        assert workflow["permissions"] == {}
        assert permissions == {"comment": {"actions": "read", "pull-requests": "write"}}
        assert not any("uses" in step or "harness" in step["run"] for step in steps)
    else:
        assert workflow["permissions"] == {"contents": "read"}
        assert "secrets." not in text
        assert permissions.get("check") is permissions.get("build") is None


def test_the_installed_versions_are_pinned() -> None:
    lines = [line for line in requirements().splitlines() if not line.startswith("#")]
    assert lines[0].startswith("glue-harness==")
    assert {re.split("==", line)[0] for line in lines} >= {"torch", "transformers", "numpy", "peft"}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    assert len(set(lines)) == len(lines)


def test_only_an_empty_folder_becomes_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / ".git").mkdir()
    write_repository(tmp_path)
    with pytest.raises(UserError, match=re.escape(str(tmp_path))):
        write_repository(tmp_path)
    for args in ([tmp_path], [tmp_path / "new", "--strict"], [tmp_path / "README.md" / "new"]):
        run_harness("leaderboard", "--init-repository", *args, code=2)
    assert not (tmp_path / "new").exists()
    capsys.readouterr()
    run_harness("leaderboard", "--init-repository", tmp_path / "new")
    written = [line for line in capsys.readouterr().out.splitlines() if line.startswith(str(tmp_path))]
    assert all(Path(line).is_file() for line in written)
    assert len(written) == 7


def test_a_task_of_any_name_is_committed_and_the_leftovers_of_runs_are_not(repository: Path) -> None:
    leftovers = ("checkpoints", "logs", "models", "trackers")
    folders = ("runs", "grid/runs", "reruns/lab/runs")
    tasks = [f"results/{folder}/{name}/x-seed1.json" for folder in folders for name in (*leftovers, "test-mode")]
    runs = ("", "grid/", "reruns/lab/")
    others = [f"results/{folder}{name}/rte/x-seed1.json" for folder in runs for name in leftovers]
    others += [f"results/{folder}test-mode/{name}/rte/x-seed1.json" for folder in runs for name in ("logs", "runs")]
    others += ["results/runs/rte/.x-seed1.lock", "results/leaderboard.md"]
    done = subprocess.run(["git", "check-ignore", *tasks, *others], capture_output=True, text=True)
    assert done.stdout.splitlines() == others
