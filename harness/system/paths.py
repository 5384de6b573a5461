"""A path that the user gives: expanded, and checked before it is used."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path

from harness.errors import UserError, boundary

MAX_SHOWN = 120
"""Characters of a path that a message repeats."""


def user_path(name: str, path: str | Path, folder: Path = Path()) -> Path:
    """The path with `~` expanded, in `folder` where it is relative; it need not exist. `name` is its flag or key.

    Raises:
        UserError: an unknown ~user, a null byte, a name that is too long, a loop of symlinks or a folder without
            permission; or a FIFO, socket or device, at which a program would wait without end.
    """
    text = str(path)
    shown = f"{name} {text if len(text) <= MAX_SHOWN else f'{text[:MAX_SHOWN]}...'}".replace("\0", "\\0").lstrip()
    with boundary(shown, ValueError, RuntimeError, advice="Name another path."):
        expanded = folder / Path(path).expanduser()
        with suppress(FileNotFoundError, NotADirectoryError):
            mode = expanded.stat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise UserError(f"{shown}: expected a regular file or a folder, got a FIFO, socket or device.")
    return expanded
