"""The flags of a command as the fields of a dataclass, its paths checked."""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import fields, is_dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import tyro

from harness.errors import UserError
from harness.system.exit_codes import is_first_process
from harness.system.paths import user_path

Options = TypeVar("Options")

_LIST = re.compile(r"(Annotated\[)?tuple\[\w+, \.\.\.\](, .*\])?")
"""The type of a flag that takes any number of values, of which none is its default."""


def parse_flags(kind: type[Options], arguments: Sequence[str], command: str) -> Options:
    """The options of `harness <command>`.

    Raises:
        UserError: a path is impossible, a value is empty, or a flag is repeated.
        SystemExit: after --help (0), or for an unknown flag or a value of the wrong type (2).
    """
    check_flags(kind, arguments)
    parsed: Any = parse_arguments(kind, arguments, command)
    paths: dict[str, Path] = {}
    for field in fields(parsed):
        if isinstance(path := getattr(parsed, field.name), Path):
            flag = f"--{field.name.strip('_').replace('_', '-')}"
            name = field.name.upper() if "Positional" in str(field.type) else flag
            paths[field.name] = user_path(name, path)
    options: Options = replace(parsed, **paths)
    return options


def parse_arguments(
    kind: Any, arguments: Sequence[str], command: str, default: Any = tyro.MISSING_NONPROP, is_silent: bool = False
) -> Any:
    """The options of `harness <command>`, unchecked; of several processes, the first prints help and errors.

    `is_silent`: no process prints them. A switch has a flag only for its other position than the default.
    """
    prints = is_first_process() and not is_silent
    with nullcontext() if prints else redirect_stderr(io.StringIO()):  # tyro prints a wrong value in any case
        return tyro.cli(
            kind,
            args=list(arguments),
            default=default,
            prog=f"harness {command}",
            config=(tyro.conf.FlagCreatePairsOff,),
            console_outputs=prints,
        )


def check_flags(kind: Any, arguments: Sequence[str]) -> None:
    """Raises UserError for a repeated flag, and for one whose value is missing or empty, such as an unset variable.

    Otherwise only the last value would count, a list would be its default, and a path the working directory.
    """
    groups = [kind, *(field.default_factory for field in fields(kind) if is_dataclass(field.default_factory))]
    types = {field.name.strip("_"): str(field.type) for group in groups for field in fields(group)}
    lists = {name for name, text in types.items() if _LIST.fullmatch(text)}
    repeatable = {name for name, text in types.items() if "UseAppendAction" in text}
    switches = {name for name, text in types.items() if text == "bool"}
    refuse_repeated(arguments, repeatable)
    flag = ""
    for arg, following in pairwise([*arguments, "--"]):
        is_empty = not arg
        if arg.startswith("--"):
            flag, equals, value = arg.partition("=")
            is_empty = not value if equals else flag_name(flag) in lists and following.startswith("--")
            flag = "" if flag_name(flag) in switches and not equals else flag  # what follows is no value of it
        if is_empty and flag_name(flag) not in repeatable:  # a text to predict may be empty
            raise UserError(
                f"{flag or 'argument'}: empty, perhaps an unset variable. Give it a value, or drop it for the default."
            )


def refuse_repeated(arguments: Sequence[str], repeatable: Collection[str] = ()) -> None:
    """Raises UserError for a flag that is given twice, of which only the last would count."""
    names: set[str] = set()
    for arg in arguments:
        name = flag_name(arg.partition("=")[0])
        if not arg.startswith("--") or arg == "--" or name in repeatable:
            continue
        if name in names:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"{flag}: duplicate flag: give it once; a flag for a list takes all its values at once.")
        names.add(name)


def split_flags(arguments: Sequence[str], own: Collection[str]) -> tuple[list[str], list[str]]:
    """The arguments of a command's own flags, and those that it passes on to another command.

    Args:
        arguments: flags, each before its values; values in front of the first flag are the command's own.
        own: names of the command's own flags, with underscores and without dashes.
    """
    for_own: list[str] = []
    passed: list[str] = []
    current = for_own
    for arg in arguments:
        if arg.startswith("--"):
            current = for_own if flag_name(arg) in own else passed
        current.append(arg)
    return for_own, passed


def flag_name(arg: str) -> str:
    """The name of a flag with underscores: `max_jobs` for `--max-jobs=2`."""
    return arg.partition("=")[0].removeprefix("--").replace("-", "_")
