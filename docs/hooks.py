"""Pages that are made from the code: the command reference, and the documents of the repository's root."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import tyro

from harness.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
INCLUDED = {
    "architecture.md": "ARCHITECTURE.md",
    "benchmarks.md": "BENCHMARKS.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages whose text is a document of the root; links between those documents become links between the pages."""


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fills the page in; MkDocs calls this for every page."""
    name = page.file.src_uri
    if name in INCLUDED:
        text = (ROOT / INCLUDED[name]).read_text(encoding="utf-8")
        for target, document in INCLUDED.items():
            text = text.replace(f"]({document}", f"]({target}")
        return text.replace("](README.md", "](index.md")
    if name == "cli.md":
        return markdown + "\n".join(map(_command, COMMANDS))
    return markdown


def options_of(command: str) -> type:
    """The dataclass of a command's options."""
    module = importlib.import_module("harness.requests.options" if command == "run" else f"harness.commands.{command}")
    (options,) = [
        value
        for name, value in vars(module).items()
        if name.endswith("Options") and dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    ]
    return options


def _command(name: str) -> str:
    """A section on one command: its description and a table of its options."""
    parser = tyro.extras.get_parser(options_of(name), prog=f"harness {name}", config=(tyro.conf.FlagCreatePairsOff,))
    rows = [row for action in parser._actions if (row := _row(action)) is not None]
    lines = [f"## harness {name}", "", _escaped(_plain(parser.description or f"{COMMANDS[name]}.")), ""]
    return "\n".join([*lines, "| option | default | meaning |", "|---|---|---|", *rows, ""])


def _row(action: argparse.Action) -> str | None:
    if "--help" in action.option_strings:
        return None
    flag = action.option_strings[0] if action.option_strings else str(action.metavar or action.dest)
    text = _plain(str(action.help or ""))
    default = re.search(r"\((?:default|optional|required)[^()]*(?:\([^()]*\))?[^()]*\)\s*$", text)
    meaning = text[: default.start()].strip() if default else text
    value = re.sub(r"^\((?:default: )?|\)$", "", default.group()) if default else ""
    value = "" if value in ("None", "False", "optional") or flag.startswith("--no-") else value
    metavar = (
        ""
        if not action.option_strings or action.nargs == 0
        else f" {_plain(str(action.metavar or '')).replace('{None}|', '')}"
    )
    shown = f"`{flag}{metavar}`".replace("|", "\\|")
    return f"| {shown} | {f'`{value}`' if value else ''} | {_escaped(meaning)} |"


def _escaped(text: str) -> str:
    """The text for a table cell; a `<name>` outside code would be taken for HTML."""
    parts = text.replace("|", "\\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(parts))


def _plain(text: str) -> str:
    """The text on one line, without colours."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())
