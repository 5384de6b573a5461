"""Stands in for launched runs in the tests of sweeps: writes the record that the run would write, without training.

`FOLDER/<task>-<seed>` says what befalls a run, in one word: `die`, `once` (dies the first time), `kill`, `fail`,
`diverge`, or `wait` (until the file is gone, or a signal comes). Each start adds a line to `FOLDER/starts`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def command_in(folder: Path) -> Callable[[Path, int, int, Sequence[str]], list[str]]:
    """What takes the place of `harness.sweeps.launch.launch_words`; the fates of runs lie in `folder`."""
    from datetime import UTC, datetime

    from harness.facts.outcome import task_facts
    from harness.facts.recipes import changed_from
    from harness.facts.records import RunRecord, record_path, record_text
    from harness.facts.tasks import load_task, under_protocol
    from harness.requests.identity import identify
    from harness.requests.options import default_recipe, parse

    def command(config: Path, processes: int, threads: int, words: Sequence[str]) -> list[str]:
        options = parse(words)
        task = under_protocol(load_task(options.task), options.recipe.protocol)
        spec = identify(task, None, options)
        name = f"{task.name}-{options.seed}"
        fate = folder / name
        status = {"fail": "failed", "diverge": "diverged"}.get(fate.read_text() if fate.exists() else "", "ok")
        # the higher the learning rate, the better it looks to selection
        metrics = {split: dict.fromkeys(task.main_metrics, 0.5) for split in task.report}
        metrics[task.select_on] = dict.fromkeys(task.main_metrics, 0.5 + options.recipe.learning_rate)
        record = RunRecord(
            run_id=spec.run_id,
            status=status,  # type: ignore[arg-type]
            error=None if status == "ok" else "as it was told",
            spec=spec,
            recipe_changes=changed_from(spec.recipe, default_recipe(task, options.model, options.test_mode)),
            task=task_facts(task),
            metrics=metrics if status == "ok" else {},
            command=" ".join(words),
            started=datetime.now(UTC),
            finished=datetime.now(UTC),
        )
        written = folder / f"{spec.run_id}.record"
        written.write_text(record_text(record))
        place = record_path(options.folder, task.name, spec.run_id)
        kept = options.save_model or ""
        return [sys.executable, "-I", "-S", *map(str, (__file__, folder, name, threads, written, place, kept))]

    return command


def main(folder: Path, name: str, threads: str, written: Path, place: Path, kept: str) -> None:
    with (folder / "starts").open("a") as file:
        file.write(f"{name} {threads}\n")
    fate = folder / name
    word = fate.read_text() if fate.exists() else ""
    if word == "once":
        fate.unlink()
    if word in ("die", "once"):
        sys.exit(f"token hf_abcdefghijklmnop\nRuntimeError: it broke in {Path.cwd()}/harness/run.py")
    if word == "kill":
        print("so far so good", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    while word == "wait" and fate.exists():
        time.sleep(0.02)
    if kept:
        Path(kept).mkdir(parents=True, exist_ok=True)
        (Path(kept) / "bundle.json").touch()
    os.replace(written, place)
    sys.exit(1 if word in ("fail", "diverge") else 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]), sys.argv[6])
