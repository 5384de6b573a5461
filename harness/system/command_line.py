"""The flags of a command as the fields of a dataclass, its paths checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from harness.system.paths import user_path

Options = TypeVar("Options")


def parse_flags(kind: type[Options], arguments: Sequence[str], command: str) -> Options:
    """The options of `harness <command>`.

    Raises:
        UserError: a path is impossible.
        SystemExit: after --help (0), or for an unknown flag or a value of the wrong type (2).
    """
    config = (tyro.conf.FlagCreatePairsOff,)
    parsed: Any = tyro.cli(kind, args=list(arguments), prog=f"harness {command}", config=config)
    paths: dict[str, Path] = {}
    for field in fields(parsed):
        if isinstance(path := getattr(parsed, field.name), Path):
            name = (
                field.name.upper()
                if "Positional" in str(field.type)
                else f"--{field.name.strip('_').replace('_', '-')}"
            )
            paths[field.name] = user_path(name, path)
    options: Options = replace(parsed, **paths)
    return options
