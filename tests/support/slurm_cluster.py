"""A Slurm cluster of three nodes on this machine: munge, the controller and a daemon per node, on loopback only."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.processes import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
NODES = ("n1", "n2", "n3")

NODE_WITHOUT_FOLDER = "n3"
"""The node that sees another, empty `hidden_folder`."""


def reason_to_skip() -> str | None:
    """The reason why no cluster can be started here."""
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)}"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


def hidden_folder(config: Path) -> Path:
    """A folder that one node does not see."""
    return config.parent / "hidden"


def can_hide(folder: Path) -> bool:
    """True where a process can have a mount of its own."""
    return subprocess.run([*_without(folder), "true"], capture_output=True, check=False).returncode == 0


def _without(folder: Path) -> list[str]:
    """The beginning of a command that sees an empty folder instead of this one."""
    return ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh"]


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[Path]:
    """Runs the daemons in the block; yields the file for SLURM_CONF."""
    ports = _free_ports(1 + len(NODES))
    config = folder / "slurm.conf"
    config.write_text(_configuration(folder, ports))
    (folder / "key").write_bytes(os.urandom(128))
    (folder / "key").chmod(0o600)
    folder.chmod(0o755)  # munge refuses a folder that others can write
    hidden_folder(config).mkdir()
    with ExitStack() as daemons:
        munge = (
            f"--socket={folder}/munge --key-file={folder}/key --pid-file={folder}/munge.pid --seed-file={folder}/seed"
        )
        _start(daemons, ["munged", "--foreground", "--force", f"--log-file={folder}/munge.log", *munge.split()], folder)
        wait_until(lambda: (folder / "munge").exists())
        _start(daemons, ["slurmctld", "-D", "-f", str(config)], folder)
        for node in NODES:
            (folder / f"spool-{node}").mkdir()
            is_blind = node == NODE_WITHOUT_FOLDER and can_hide(hidden_folder(config))
            prefix = _without(hidden_folder(config)) if is_blind else []
            _start(daemons, [*prefix, "slurmd", "-D", "-N", node, "-f", str(config)], folder)
        wait_until(lambda: _idle_nodes(config) == len(NODES))
        yield config
        subprocess.run(["scancel", "--me"], env={**os.environ, "SLURM_CONF": str(config)}, check=False)
        wait_until(lambda: _idle_nodes(config) == len(NODES), seconds=20)


def _configuration(folder: Path, ports: list[int]) -> str:
    host = socket.gethostname().split(".")[0]
    nodes = f"{NODES[0][0]}[1-{len(NODES)}]"
    lines = [
        "ClusterName=tests",
        f"SlurmctldHost={host}(127.0.0.1)",
        f"SlurmctldPort={ports[0]}",
        f"AuthInfo=socket={folder}/munge",
        "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny",
        "SlurmUser=root",
        "SlurmdUser=root",
        f"StateSaveLocation={folder}/state",
        f"SlurmdSpoolDir={folder}/spool-%n",
        f"SlurmctldPidFile={folder}/slurmctld.pid",
        f"SlurmdPidFile={folder}/slurmd-%n.pid",
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/none",
        "AccountingStorageType=accounting_storage/none",
        "MpiDefault=none",
        "SwitchType=switch/none",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core",
        "SchedulerParameters=sched_interval=1,bf_interval=2",
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        "KillWait=2",
        f"NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[1]}-{ports[-1]}] CPUs=2",
        "PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP",
    ]
    return "\n".join(lines) + "\n"


def _free_ports(number: int) -> list[int]:
    """Consecutive ports that nobody listens on."""
    for first in range(17000 + os.getpid() % 1000 * 10, 32000, 10):
        with ExitStack() as sockets:
            try:
                for port in range(first, first + number):
                    one = sockets.enter_context(socket.socket())
                    one.bind(("127.0.0.1", port))
            except OSError:
                continue
            return list(range(first, first + number))
    raise AssertionError("no free ports")


def _start(daemons: ExitStack, command: list[str], folder: Path) -> None:
    log = daemons.enter_context((folder / f"{command[0]}-{len(list(folder.iterdir()))}.log").open("wb"))
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)

    def end() -> None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()

    daemons.callback(end)


def _idle_nodes(config: Path) -> int:
    listed = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"],
        env={**os.environ, "SLURM_CONF": str(config)},
        capture_output=True,
        text=True,
        check=False,
    )
    return len(set(listed.stdout.split()))
