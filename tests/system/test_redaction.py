"""A command in a record can be typed again, and no secret is in it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.local_hub import new_commit, serve

from harness.system.redaction import redact_command, redact_secrets


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["accelerate", "launch", "harness/run.py", "--task", "sst2", "--learning-rate", "2e-5", "--seed=3"],
        ["--results", "my results/here"],
        ["--model", "it's", '"quoted"', "back\\slash"],
        ["$HOME", "`id`", "$(id)", "!!", "a;b", "a&b", "a|b", "a>b", "*", "?", "[a]", "{a,b}", "~", "#", "(a)"],
        ["line\nbreak", "tab\there", "", " "],
        ["türkçe", "日本語", "é"],
        ["org/name@main", "a=b", "x:y", "1,2", "50%", "+3", "https://example.org/data.csv?raw=1"],
        ["--train-rows", "100", "--max-length", "128", "--no-push"],
        ["https://example.org/data.csv?download=true&id=17&format=csv", "part-?.csv", "what?"],
    ],
)
def test_command_can_be_typed_again(argv: list[str]) -> None:
    assert shlex.split(redact_command(argv)) == argv


def test_command_means_the_same_to_a_shell(tmp_path: Path) -> None:
    """No variable, command or pattern of the shell takes effect."""
    (tmp_path / "file").write_text("")
    argv = ["$HOME", "`echo x`", "$(echo x)", "*", "f*", "~", "a\\b", "it's", 'a "b"', "line\nbreak", "", "a;b", "!x"]
    program = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
    shell = subprocess.run(
        ["sh", "-c", redact_command([*program, *argv])], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(shell.stdout) == argv


def test_ordinary_command_is_not_quoted() -> None:
    argv = ["accelerate", "launch", "harness/run.py", "--task", "sst2", "--model", "org/name", "--warmup=0.1"]
    assert redact_command(argv) == " ".join(argv)


@pytest.mark.parametrize(
    "argv",
    [
        ["--token", "S3CR3T"],
        ["--token=S3CR3T"],
        ["--hf-token", "S3CR3T"],
        ["--hub_token=S3CR3T"],
        ["--HF_TOKEN", "S3CR3T"],
        ["--api-key", "S3CR3T"],
        ["--api_key=S3CR3T"],
        ["--apikey", "S3CR3T"],
        ["--password", "S3CR3T"],
        ["--client-secret=S3CR3T"],
        ["-token", "S3CR3T"],
        ["env", "HF_TOKEN=S3CR3T", "python"],
        ["--token=S3CR3T=with=equals"],
        ["--token", "--S3CR3T"],
        ["--model", "hf_S3CR3Tabcdefgh"],
        ["hf_S3CR3Tabcdefgh"],
        ["--note=hf_S3CR3Tabcdefgh"],
        ["ghp_S3CR3Tabcdefgh"],
        ["github_pat_S3CR3Tabcdefgh"],
        ["sk-S3CR3Tabcdefgh"],
        ["https://user:S3CR3T@example.org/data.csv"],
        ["https://S3CR3T@example.org/data.csv"],
        ["--data=https://user:S3CR3T@example.org"],
        ["https://user:p@S3CR3T@example.org/"],
        ["https://example.org/data.csv?token=S3CR3T"],
        ["https://example.org/data.csv?X-Amz-Date=20260101&X-Amz-Signature=S3CR3T"],
        ["https://example.org/data.csv?sig=S3CR3T&raw=1"],
        ["https://example.org/data.csv?raw=1&Key-Pair-Id=x&Signature=S3CR3T#sha256=00"],
        ["https://example.org/data.csv?sv=2024&se=2026-01-01&sp=r&h=S3CR3T%3D"],
        ["https://example.org/data.csv?S3CR3T"],
        ["--train-file=https://user:S3CR3T@example.org/data.csv?key=S3CR3T"],
        ["https://example.org/?password=S3CR3T"],
    ],
)
def test_secret_is_hidden(argv: list[str]) -> None:
    text = redact_command(argv)
    assert "S3CR3T" not in text
    assert "***" in text


def test_only_the_secret_is_hidden() -> None:
    args = shlex.split(redact_command(["run.py", "--token", "S3CR3T", "--seed", "3", "https://u:S3CR3T@example.org/x"]))
    assert args == ["run.py", "--token", "***", "--seed", "3", "https://***@example.org/x"]


def test_url_without_a_secret_is_kept() -> None:
    url = "https://example.org/user@folder/data.csv"
    assert redact_command([url]) == url


@pytest.mark.parametrize(
    "message, expected",
    [
        ("used hf_S3CR3Tabcdefgh here", "used *** here"),
        ("no answer of http://user:S3CR3T@host:80 here", "no answer of http://***@host:80 here"),
        ("cannot download https://host/a.csv?sig=S3CR3T: 404", "cannot download https://host/a.csv?***: 404"),
        ("exceeded with url: /a.csv?X-Amz-Signature=S3CR3T (Caused by", "exceeded with url: /a.csv?*** (Caused by"),
        ("HF_TOKEN=S3CR3T harness run", "HF_TOKEN=*** harness run"),
        ("header Authorization: Bearer S3CR3T, 401", "header Authorization: Bearer *** 401"),
        ("{'authorization': 'S3CR3T'}", "{'authorization': '***"),
        ("512 tokens: at most 128 tokens; is it right?", "512 tokens: at most 128 tokens; is it right?"),
    ],
)
def test_secret_in_a_message_is_hidden(message: str, expected: str) -> None:
    assert redact_secrets(message) == expected


# -- every command -----------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
from harness.__main__ import main
for args in json.loads(sys.argv[1]):
    try:
        main(args)
    except SystemExit as end:
        print(args[0], "exit code", end.code or 0, flush=True)
    else:
        print(args[0], "exit code", 0, flush=True)
"""


def test_no_command_writes_or_prints_a_secret(tmp_path: Path) -> None:
    """Users, passwords and signatures in the URL of rows, in the Hub's address and in its token are found nowhere."""
    rows = new_commit(tmp_path / "hub", "datasets", "org/rows") / "rows.csv"
    rows.write_text(
        "text,label\n" + "".join(f"w{row % 7} c{row % 2}s0 w{row % 40},{'ny'[row % 2]}\n" for row in range(80))
    )
    folder = tmp_path / "written"
    folder.mkdir()
    with serve(tmp_path / "hub") as address:
        host = address.removeprefix("http://")
        url = f"http://S3CR3T01:S3CR3T02@{host}/datasets/org/rows/resolve/main/rows.csv"
        url += (
            "?X-Amz-Credential=S3CR3T03&X-Amz-Signature=S3CR3T04&sig=S3CR3T05&token=S3CR3T06&key=S3CR3T07&se=S3CR3T08"
        )
        missing = url.replace("rows.csv", "none.csv")
        own = ["--train-file", url, "--text-columns", "text", "--name", "own"]
        model, results = ["--save-model", "model"], ["--results", "results"]
        (tmp_path / "task.yaml").write_text(
            f"title: Mine\nsource: {{files: {{train: '{url}'}}}}\ntext: text\nlabels: [n, y]\n"
            "splits: {train: 'train[:60]', validation: 'train[60:]'}\nrows: {train: 60, validation: 20}\n"
            "metrics: accuracy\nmain_metrics: accuracy\n"
        )
        commands = {
            ("tasks", "--new", "own.yaml", *own[:4]): 0,
            ("tasks", str(tmp_path / "task.yaml")): 0,
            ("describe", *own): 0,
            ("run", *own, "--test-mode", "--max-steps", "2", *model, *results): 0,
            ("predict", "model", "--text", "w1"): 0,
            ("evaluate", "model", "--out", "evaluation"): 0,
            ("leaderboard", "--results", "results/test-mode"): 0,
            (
                "export",
                "--format",
                "every-eval-ever",
                "--organization",
                "x",
                "--output",
                "eee",
                "--results",
                "results/test-mode",
            ): 2,  # nothing but a run in test mode
            ("run", "--train-file", missing, *own[2:], *results): 2,
            ("run", "--task", str(tmp_path / "task.yaml"), "--model", "org/none", *results): 2,
            ("run", "--task", "rte", "--model", url, *results): 2,
            ("run", *own, "--test-mode", "--save-model", "other", "--push-to-hub", "me/x", *results): 2,
        }
        environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        environment |= {"HF_ENDPOINT": f"http://S3CR3T09:S3CR3T10@{host}", "HF_TOKEN": "hf_S3CR3T11abcdefgh"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(list(commands))],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    codes = re.findall(r"^(\w+) exit code (\d)$", done.stdout, re.MULTILINE)
    assert codes == [(command[0], str(code)) for command, code in commands.items()], done.stdout + done.stderr
    texts = {"stdout": done.stdout, "stderr": done.stderr}
    texts |= {str(path): path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file()}
    assert {"own.yaml", "task.yaml", "README.md", "record.json"} <= {Path(name).name for name in texts}
    leaks = {name: re.findall(".{30}S3CR3T.{30}", text) for name, text in texts.items() if "S3CR3T" in text}
    assert leaks == {}
    assert f"http://{host}/datasets/org/rows/resolve/main/rows.csv" in (folder / "model" / "task.yaml").read_text()
