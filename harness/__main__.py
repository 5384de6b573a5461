"""The `harness` command: one word says what to do, the rest is for the one who does it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from harness import __version__
from harness.errors import UserError, did_you_mean
from harness.system.exit_codes import exit_code_on_error

COMMANDS = {
    "run": ("harness.run", "fine-tune a model on a task, evaluate it, write one record"),
    "sweep": ("harness.commands.sweep", "run tasks x models x seeds side by side, and go on where it was stopped"),
    "predict": ("harness.commands.predict", "answer texts with a model that a run kept"),
    "evaluate": ("harness.commands.evaluate", "score a kept model on every labelled split, and show where it is wrong"),
    "submit": ("harness.commands.submit", "make the GLUE server's zip from the predictions of one model's runs"),
    "tasks": ("harness.commands.tasks", "the tasks there are, one in full, or a check of a task file"),
    "describe": (
        "harness.commands.describe",
        "what a task's rows are like: labels, lengths, duplicates, contradictions",
    ),
    "selfcheck": ("harness.commands.selfcheck", "check on these devices that training and evaluation are exact"),
    "leaderboard": ("harness.commands.leaderboard", "turn the records of a folder into its leaderboard"),
    "export": ("harness.commands.export", "write records in the formats of others: model-index, Every Eval Ever"),
}
"""By name: the module whose `main(arguments)` does it, and what it does."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Hands the arguments after the first to the command that the first names."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with exit_code_on_error():
        if not words or words[0] in ("-h", "--help"):
            print(usage())
            sys.exit(0 if words else 2)
        if words[0] == "--version":
            print(f"harness {__version__}")
            sys.exit(0)
        if words[0] not in COMMANDS:
            raise UserError(
                f"{words[0]}: there is no such command.{did_you_mean(words[0], COMMANDS)} Known: {', '.join(COMMANDS)}."
            )
        importlib.import_module(COMMANDS[words[0]][0]).main(words[1:])


def usage() -> str:
    """What `harness --help` prints."""
    lines = [f"  harness {name:<12} {purpose}" for name, (_, purpose) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: harness COMMAND [OPTIONS]",
            "",
            "Fine-tune any encoder on GLUE-style tasks, and keep the numbers.",
            "",
            *lines,
            "",
            "harness COMMAND --help shows a command's options; --version says which harness this is.",
            "On several devices: accelerate launch harness/run.py --task sst2 ...",
        ]
    )


if __name__ == "__main__":
    main()
