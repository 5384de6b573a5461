"""Two and four processes connected by gloo give the same numbers as one, before and after a kill."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


def python_command(processes, *arguments):
    """Returns the command of `python` with these arguments on several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", processes] if processes > 1 else []
    return [sys.executable, *map(str, launcher), *map(str, arguments)]


def start(command):
    """Starts a command with one thread per process and all output in one stream."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "yes", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def kill(process):
    """Sends SIGKILL to the process and its descendants: a launcher's workers have process groups of their own."""
    for member in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def finish(command):
    """Runs a command to its end and returns its output."""
    process = start(command)
    try:
        printed, _ = process.communicate(timeout=400)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    assert process.returncode == 0, printed
    return printed


def record_of(results):
    (path,) = (results / "test-mode" / "runs" / "rte").glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_every_check_of_the_selfcheck_passes(processes):
    printed = finish(python_command(processes, "-m", "harness", "selfcheck", "--cpu"))
    assert f"{processes} process(es)" in printed
    assert printed.count("pass  ") == 9, printed
    assert "FAIL" not in printed


def test_two_processes_score_every_row_once_and_are_in_the_record(tmp_path):
    flags = ["--task", "rte", "--test-mode", "--results", tmp_path, "--epochs", 1, "--save-model", tmp_path / "saved"]
    finish(python_command(2, "harness/run.py", *flags))
    record = record_of(tmp_path)
    assert record["environment"]["processes"] == 2
    assert len(record["environment"]["devices"]) == len(record["cost"]["peak_bytes_per_process"]) == 2
    assert record["data"]["rows"]["validation"] == 96
    assert record["cost"]["rows"] == 384
    assert record["environment"]["device_batch_size"] * record["environment"]["accumulation"] * 2 == 32

    rows = [f"w{row},{' '.join(['c0s0'] * (1 + row % 5))}" for row in range(23)]
    (tmp_path / "rows.csv").write_text("\n".join(["sentence1,sentence2", *rows]))
    args = ["predict", tmp_path / "saved", "--file", tmp_path / "rows.csv", "--device-batch-size", 4, "--out"]
    finish(python_command(2, "-m", "harness", *args, tmp_path / "two.csv"))
    main([str(arg) for arg in (*args, tmp_path / "one.csv", "--cpu")])
    assert (tmp_path / "two.csv").read_text() == (tmp_path / "one.csv").read_text()


def test_killed_run_of_two_resumes_bit_for_bit_on_two_and_with_a_note_on_one(tmp_path):
    flags = ["harness/run.py", "--task", "rte", "--test-mode", "--epochs", 4, "--checkpoint-every", 5]
    finish(python_command(2, *flags, "--results", tmp_path / "uninterrupted"))
    expected = record_of(tmp_path / "uninterrupted")
    for name, command in (("two", python_command(2, *flags)), ("one", [sys.executable, *map(str, flags)])):
        results = tmp_path / name
        process = start(python_command(2, *flags, "--results", results))
        for line in process.stdout:  # until the first epoch's line
            if line.split()[:1] == ["1"]:
                break
        kill(process)
        process.communicate()
        printed = finish([*command, "--results", str(results)])
        assert "after step" in printed
        record = record_of(results)
        if name == "two":
            assert record["weights_sha256"] == expected["weights_sha256"]
            assert record["metrics"] == expected["metrics"]
            assert record["cost"]["tokens"] == expected["cost"]["tokens"]
            assert record["padding_share"] == expected["padding_share"]
            assert record["notes"] == []
        else:
            assert "1 process(es)" in record["notes"][0]
            assert "2 process(es)" in record["notes"][0]
            assert record["environment"]["processes"] == 1
            assert [epoch["step"] for epoch in record["history"]] == [12, 24, 36, 48]


def test_processes_that_accelerate_does_not_connect_are_refused(tmp_path):
    flags = ["--task", "rte", "--results", str(tmp_path), "--test-mode"]
    environment = {k: v for k, v in os.environ.items() if k != "ACCELERATE_USE_CPU"} | {"OMP_NUM_THREADS": "1"}
    code = "import os; os.environ['WORLD_SIZE'] = '2'; from harness.run import main; main()"
    command = [sys.executable, "-c", code, *flags]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "ACCELERATE_USE_CPU=yes torchrun --nproc_per_node 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_companion_task_is_recorded_by_two_processes(tmp_path):
    flags = ["--task", "ax", "--test-mode", "--epochs", 1, "--results", tmp_path]
    finish(python_command(2, "harness/run.py", *flags))
    assert len(list((tmp_path / "test-mode" / "runs" / "ax").glob("*.json"))) == 1
