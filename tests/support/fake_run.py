"""A stand-in for launched runs in the tests of sweeps: writes the record that the run would write, without training.

The file `FOLDER/<task>-<seed>` holds the fate of a run: `die`, `kill`, `fail`, `diverge`, `mistake`, `once` (dies the
first time), `diverge-once`, or `wait` (until the file is gone, or a signal comes). Each start adds a line to
`FOLDER/starts`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path


def command_in(folder: Path) -> Callable[[Path, int, int, Sequence[str]], list[str]]:
    """A stand-in for `harness.sweeps.launch.launch_command`; `folder` has the fates of the runs."""
    from support.records import minimal_record

    from harness.facts.outcome import task_facts
    from harness.facts.recipes import recipe_difference
    from harness.facts.records import record_path, record_text
    from harness.facts.tasks import apply_protocol, load_task
    from harness.requests.identity import identify
    from harness.requests.options import default_recipe, parse_options
    from harness.rows.files import find_files

    def command(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
        options = parse_options(args)
        task = apply_protocol(load_task(options.task), options.recipe.protocol)
        spec = identify(task, None if options.test_mode else find_files(task, options.data), options)
        name = f"{task.name}-{options.seed}"
        fate = folder / name
        outcomes = {"fail": "failed", "diverge": "diverged", "diverge-once": "diverged"}
        status = outcomes.get(fate.read_text() if fate.exists() else "", "ok")
        # the higher the learning rate, the better it looks to selection
        metrics = {split: dict.fromkeys(task.main_metrics, 0.5) for split in task.report}
        metrics[task.select_on] = dict.fromkeys(task.main_metrics, 0.5 + options.recipe.learning_rate)
        record = minimal_record(
            status=status,
            error=None if status == "ok" else "as requested",
            spec=spec,
            recipe_changes=recipe_difference(spec.recipe, default_recipe(task, options.model, options.test_mode)),
            task=task_facts(task),
            metrics=metrics if status == "ok" else {},
            command=" ".join(args),
            started=datetime.now(UTC),
            finished=datetime.now(UTC),
        )
        written = folder / f"{spec.run_id}.record"
        written.write_text(record_text(record))
        path = record_path(options.folder, task.name, spec.run_id)
        model_folder = options.save_model or ""
        return [sys.executable, "-I", "-S", *map(str, (__file__, folder, name, threads, written, path, model_folder))]

    return command


def run_here(config: Path, processes: int, threads: int, args: Sequence[str]) -> list[str]:
    """Does a run in this process, which has imported the libraries; the command that it returns has its exit code."""
    from harness.run import main as run

    try:
        run(args)
    except SystemExit as end:
        return [sys.executable, "-I", "-S", "-c", f"raise SystemExit({end.code or 0})"]
    raise AssertionError("a run ends with an exit code")


def main(folder: Path, name: str, threads: str, written: Path, path: Path, model_folder: str) -> None:
    with (folder / "starts").open("a") as file:
        file.write(f"{name} {threads}\n")
    fate = folder / name
    what = fate.read_text() if fate.exists() else ""
    if what in ("once", "diverge-once"):
        fate.unlink()
    if what in ("die", "once"):
        sys.exit(f"token hf_abcdefghijklmnop\nRuntimeError: it broke in {Path.cwd()}/harness/run.py")
    if what == "mistake":
        print("loading\nerror: --tracker nosuch: not installed.\nInstall it.")
        sys.exit(2)
    if what == "kill":
        print("so far so good", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    while what == "wait" and fate.exists():
        time.sleep(0.02)
    if model_folder:
        Path(model_folder).mkdir(parents=True, exist_ok=True)
        (Path(model_folder) / "bundle.json").touch()
    os.replace(written, path)
    sys.exit(1 if what in ("fail", "diverge", "diverge-once") else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]), sys.argv[6])
