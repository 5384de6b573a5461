"""Connected processes of the harness, forked from a process that has already imported the slow libraries."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import socket
import tempfile
from collections.abc import Mapping
from multiprocessing.forkserver import set_forkserver_preload
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

LIBRARIES = [
    *("torch", "torch.distributed", "transformers", "datasets", "evaluate", "sklearn.metrics", "pandas", "peft"),
    *("transformers.models.bert.modeling_bert", "harness.run", "harness.api", "harness.requests.preparation"),
    *("harness.commands.selfcheck", "harness.commands.predict", "harness.engine.models", "harness.engine.evaluation"),
]
"""Modules that a run or the self-check loads; importing them starts no thread that a fork would lack."""


def run_ranks(processes: int, module: str, *args: Any, timeout: float = 400) -> str:
    """Runs `module.main(args)` on processes connected by gloo, and returns their output; each must exit with 0."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connection = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    environment = {"ACCELERATE_USE_CPU": "yes", "OMP_NUM_THREADS": "1", **(connection if processes > 1 else {})}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        ranks = [
            _start(_main, module, [str(arg) for arg in args], environment | _rank(number, processes), output)
            for number in range(processes)
        ]
        codes = [_wait(rank, timeout) for rank in ranks]
        text = output.read_text(encoding="utf-8")
    assert codes == [0] * processes, text
    return text


def _start(function: Any, *args: Any) -> BaseProcess:
    set_forkserver_preload(LIBRARIES)
    process = multiprocessing.get_context("forkserver").Process(target=function, args=args)
    process.start()
    return process


def _wait(process: BaseProcess, timeout: float) -> int | None:
    process.join(timeout)
    process.kill()  # no effect on one that has ended
    return process.exitcode


def _rank(number: int, processes: int) -> Mapping[str, str]:
    return {"RANK": str(number), "LOCAL_RANK": str(number), "LOCAL_WORLD_SIZE": str(processes)} if processes > 1 else {}


def _write_to(output: Path) -> None:
    file = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)


def _main(module: str, args: list[str], environment: Mapping[str, str], output: Path) -> None:
    _write_to(output)
    os.environ.update(environment)
    importlib.import_module(module).main(args)
