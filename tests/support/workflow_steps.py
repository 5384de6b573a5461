"""The `run:` steps of a workflow in bash, whose `harness` is a client of this process: nothing is imported again."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import yaml

_CLIENT = """
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(os.environ["HARNESS_SOCKET"])
connection.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
code, output = json.loads(connection.makefile().read())
print(output, end="")
sys.exit(code)
"""

Main = Callable[[Sequence[str]], None]


class Step(NamedTuple):
    """The outcome of a step."""

    name: str
    code: int
    output: str


def run_blocks(workflow: Path) -> dict[str, str]:
    """The `run:` blocks of a workflow by the names of their steps."""
    jobs: dict[str, Any] = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return {step["name"]: step["run"] for job in jobs.values() for step in job["steps"] if "run" in step}


def run_steps(blocks: Mapping[str, str], folder: Path, scratch: Path, main: Main, **variables: str) -> list[Step]:
    """Runs the blocks in `folder` as a runner does with `shell: bash`, until one fails; `main` is the harness."""
    scratch.mkdir(exist_ok=True)
    client = scratch / "harness"
    client.write_text(f"#!{sys.executable} -IS\n{_CLIENT}")
    client.chmod(0o755)
    path = scratch / "socket"
    environment = {"PATH": f"{scratch}:{os.environ['PATH']}", "HARNESS_SOCKET": str(path), **variables}
    steps = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.settimeout(0.02)
        for name, block in blocks.items():
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", block]
            with (scratch / "output").open("w+") as output:
                process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
                while process.poll() is None:
                    _serve(server, main)
                output.seek(0)
                steps.append(Step(name, process.returncode, output.read()))
            if steps[-1].code:
                break
    path.unlink()
    return steps


def _serve(server: socket.socket, main: Main) -> None:
    """Does one command of a client, if there is one."""
    try:
        connection, _ = server.accept()
    except TimeoutError:
        return
    with connection, connection.makefile("r") as requests, StringIO() as output:
        args = json.loads(requests.readline())
        code = 0
        with redirect_stdout(output), redirect_stderr(output):
            try:
                main(args)
            except SystemExit as stop:
                code = int(stop.code or 0)
        connection.sendall(json.dumps([code, output.getvalue()]).encode())
