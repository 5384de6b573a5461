"""The `harness` command: the first argument names a command, the rest are for that command."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Sequence

from harness import __version__
from harness.errors import UserError, did_you_mean
from harness.system.exit_codes import exit_code_on_error

COMMANDS = {
    "run": "fine-tune a model on a task, evaluate it, write one record",
    "sweep": "run tasks x models x seeds; finished runs are skipped, interrupted ones resume",
    "status": "show the runs of a results folder that are running, stopped or failed, and how far each is",
    "predict": "predict texts with a saved model",
    "evaluate": "score a saved model on every labelled split and show its errors",
    "submit": "write the zip for the server of GLUE or SuperGLUE from the predictions of one model's runs",
    "tasks": "list tasks by suite, show or check one, pin its data, write a task file",
    "published": "list published rows, show one in full with its sweep",
    "reproduce": "run a published row's recipe and say whether its scores agree, differ or need more seeds",
    "watch": "fine-tune every checkpoint of a pretraining run as it appears, and show the scores over its steps",
    "describe": "show the rows of a task: labels, lengths, duplicates, contradictions",
    "selfcheck": "check that training and evaluation are exact on your devices",
    "leaderboard": "write the leaderboard, compare entries or folders, add records from the Hub, start a repository",
    "publish": "upload a results folder to the Hub as a dataset, or its leaderboard as a Space",
    "verify": "check records for edits and errors: scores, run IDs, data and weights; run some again",
    "plan": "show how many seeds a difference between two models needs, task by task",
    "export": "write records as model-index, .eval_results or Every Eval Ever",
}
"""The purpose of each command. `harness.run` runs the first, `harness.commands.<name>` any other: `main(arguments)`."""

OBJECTS_BETWEEN_COLLECTIONS = 10_000
"""New objects between two garbage collections. Imports leave little garbage; with the default they take 10 % longer."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Passes the arguments after the first to the command that the first names."""
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    atexit.register(gc.freeze)  # at exit, Python would search every object of the libraries for garbage
    name, *args = list(sys.argv[1:] if arguments is None else arguments) or [""]
    with exit_code_on_error(is_output_optional=name in ("run", "sweep", "reproduce", "watch")):
        if name in ("", "-h", "--help"):
            print(usage())
            sys.exit(0 if name else 2)
        if name == "--version":
            print(f"harness {__version__}")
            sys.exit(0)
        if name not in COMMANDS:
            raise UserError(
                f"{name}: unknown command.{did_you_mean(name, COMMANDS)} The commands: {', '.join(COMMANDS)}."
            )
        importlib.import_module("harness.run" if name == "run" else f"harness.commands.{name}").main(args)


def usage() -> str:
    """The text of `harness --help`."""
    commands = "\n".join(f"  harness {name:<12} {purpose}" for name, purpose in COMMANDS.items())
    return f"""usage: harness COMMAND [OPTIONS]

Fine-tune any encoder on GLUE-style tasks and record every number.

{commands}

harness COMMAND --help shows the options of a command, --version the version.
On several devices: accelerate launch harness/run.py --task sst2 ..."""


if __name__ == "__main__":
    main()
