"""The start of one run: its command, and everything that its supervisor needs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

LOCKED = 75
"""Exit code of a supervisor when another process works on the run, and for nothing else."""

MISTAKE = 2
"""Exit code of a supervisor, and of a run, for a mistake of the user or a failure of the outside world."""

STOPPED = 143
"""Exit code of a supervisor that was asked to stop its run."""

SCRIPT = Path(__file__).parents[1] / "run.py"
"""The script that the launcher starts."""

SUPERVISOR = Path(__file__).with_name("supervisor.py")

TIED = "--tied"
"""The flag of a supervisor that stops its run at the end of its standard input."""

FORK_SERVER = Path(__file__).with_name("fork_server.py")

SUPERVISOR_KILLED = "the supervisor of this run was killed, and the run with it"
"""The message about a run whose supervisor was killed: the last line of its output."""

CONFIG = "LAUNCH_CONFIG"
"""Placeholder in a command for the file of accelerate's configuration, which the supervisor writes on its machine."""

LOG_TAIL_BYTES = 65536
"""Bytes of a log's end that are read."""


class Start(NamedTuple):
    """Everything that a supervisor needs, on this machine or on another that has the results folder."""

    record: Path
    stamp: str
    """`record_stamp` from when the sweep last read the record."""
    log: Path
    args: Sequence[str]
    """The arguments of harness/run.py."""
    command: Sequence[str]
    """The command that starts the run on one machine, with CONFIG as a placeholder for the file with `config`."""
    config: str
    failure: Mapping[str, Any]
    """The failed record of the run as plain values, without its error and times."""

    def to_json(self) -> str:
        """One line for the standard input of a supervisor."""
        return json.dumps(self._replace(record=str(self.record), log=str(self.log))._asdict())  # type: ignore[arg-type]

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Start:
        """The start that `to_json` has written."""
        return Start(**{**values, "record": Path(values["record"]), "log": Path(values["log"])})


def record_stamp(record: Path) -> str:
    """A stamp that changes whenever the record is written. It is compared for equality, never with a clock."""
    try:
        return str(record.stat().st_mtime_ns)
    except OSError:
        return "none"


def sweep_lock_path(record: Path) -> Path:
    """The lock of the sweep that works on a run, held from before its start until all its processes have ended."""
    return record.with_name(f".{record.stem}-sweep.lock")


def launch_command(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
    """The command of one run: accelerate's launcher with this interpreter, and the arguments of harness/run.py."""
    port = ["--main_process_port", "0"] if processes > 1 else []  # a free one: several runs share a machine
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)),
        *("--num_processes", str(processes), "--num_cpu_threads_per_process", str(threads), *port),
        *(str(SCRIPT), *args),
    ]


def launch_config(gpus: int) -> str:
    """A configuration for accelerate that keeps out the settings that `accelerate config` has made for other work."""
    return json.dumps(
        {
            "compute_environment": "LOCAL_MACHINE",
            "distributed_type": "MULTI_GPU" if gpus > 1 else "NO",
            "num_processes": max(1, gpus),
            "num_machines": 1,
            "use_cpu": gpus == 0,
            "mixed_precision": "no",
            "gpu_ids": "all",
            "debug": False,
        }
    )


def launch_environment(gpus: int, threads: int) -> dict[str, str]:
    """The variables that accelerate's launcher sets for a run in one process, with this configuration."""
    affinity = {} if gpus else {"KMP_AFFINITY": "granularity=fine,compact,1,0", "KMP_BLOCKTIME": "1"}
    return affinity | {
        "ACCELERATE_USE_CPU": str(gpus == 0),
        "ACCELERATE_MIXED_PRECISION": "no",
        "ACCELERATE_DYNAMO_BACKEND": "NO",
        "ACCELERATE_DYNAMO_MODE": "default",
        "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
        "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
        "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False",
        "OMP_NUM_THREADS": str(threads),
    }


def log_size(log: Path) -> int:
    """The bytes of a log, 0 where there is none."""
    return log.stat().st_size if log.exists() else 0


def log_tail(log: Path, start: int) -> str:
    """The output of a run in its log, from the byte `start`, at most its last 64 KiB."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
