"""The settings of executors, from flags: counts, and a fraction of a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.commands.sweep import read_options
from harness.errors import UserError
from harness.sweeps.executor import ExecutorSettings
from harness.sweeps.file import read_sweep


def settings_of(*args: str) -> ExecutorSettings:
    return read_options(["--tasks", "rte", *args])[1].sweep.executor


@pytest.mark.parametrize("gpus, runs", [("0.25", 4), ("0.5", 2), ("0.3", 3)])
def test_fraction_of_a_gpu_is_a_number_of_runs_that_share_one(gpus: str, runs: int) -> None:
    settings = settings_of("--gpus-per-run", gpus)
    assert (settings.gpus_per_run, settings.runs_per_device) == (None, runs)


@pytest.mark.parametrize("gpus", ["0", "-1", "1.5", "1e-320"])
def test_other_numbers_of_gpus_are_refused(gpus: str) -> None:
    with pytest.raises(UserError, match="--gpus-per-run"):
        settings_of("--gpus-per-run", gpus)


def test_whole_number_of_gpus_stays_one() -> None:
    assert settings_of("--gpus-per-run", "2") == ExecutorSettings(gpus_per_run=2)


@pytest.mark.parametrize("args", [["account="], ["mem=16G", "account="], ["account=a", "account=b"], ["account"]])
def test_empty_and_duplicate_options_of_sbatch_are_refused(args: list[str]) -> None:
    with pytest.raises(UserError, match=r"--slurm.*account"):
        settings_of("--executor", "slurm", "--slurm", *args)


@pytest.mark.parametrize(
    "setting, fault", [("slurm: {account: }", "account: empty"), ("partition: ''", "partition"), ("time: ''", "time")]
)
def test_empty_setting_of_a_file_is_named_with_its_line(setting: str, fault: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"tasks: [rte]\nexecutor:\n  name: slurm\n  {setting}\n")
    with pytest.raises(UserError, match=rf"mine\.yaml:4: .*{fault}"):
        read_sweep(file)
