"""A report's tables and pictures as files of a folder, each whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.inspection.prediction_output import harmless
from harness.system.atomic import write_atomically


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raises UserError when the files cannot be written there, or others are there already."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: this is a file; name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--out {folder}: the folder is not empty; --overwrite replaces files in it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror or error}).") from None


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes the files, by name.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        for name, content in files.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror or error}).") from None


def csv_file(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """None is an empty cell; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in (header, *rows):
        writer.writerow([harmless(cell) if isinstance(cell, str) else "" if cell is None else cell for cell in row])
    return file.getvalue().encode()
