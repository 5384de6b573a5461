"""`harness plan`: seeds for a difference, from the published records of this repository."""

import shutil
from pathlib import Path

import pytest
from support.commands import run_harness

RUNS = Path(__file__).resolve().parents[2] / "results" / "runs"


@pytest.fixture
def results(tmp_path):
    """A results folder with the published runs of two tasks: rte has three seeds of two models, qnli one."""
    for task in ("rte", "qnli"):
        shutil.copytree(RUNS / task, tmp_path / "runs" / task)
    return tmp_path


def plan(capsys, *flags):
    """The cells of the table's lines by task."""
    run_harness("plan", *flags)
    lines = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    return {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_seeds_and_device_hours_or_why_no_number_will_do(capsys, results):
    rte = plan(capsys, "--results", results, "--tasks", "rte", "--detect", 10)["RTE"]
    rows, seeds, now, ten, never, needed, hours = rte
    assert (rows, seeds) == ("277", "3")
    assert float(now) > float(ten) > float(never) > 3
    assert int(needed) >= 2
    assert float(hours) > 0
    lines = plan(capsys, "--results", results, "--detect", 3)
    assert lines["RTE"][5] == "none: too few rows"
    assert lines["QNLI"][2:4] == ["?", "?"]
    assert "no model has two seeds" in lines["QNLI"][5]


@pytest.mark.parametrize(
    ("flags", "named"),
    [(["--detect", 0], "--detect 0"), (["--detect", "inf"], "--detect"), (["--tasks", "rtee"], "'rte'")],
)
def test_mistakes_are_named(capsys, results, flags, named):
    run_harness("plan", "--results", results, *flags, code=2)
    assert named in capsys.readouterr().err


def test_folder_without_records_is_an_error(capsys, tmp_path):
    run_harness("plan", "--results", tmp_path, code=2)
