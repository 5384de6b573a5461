"""The file or folder that --out names: checked before the work, then written completely or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import UserError, boundary
from harness.system.atomic import check_writable, write_atomically


def check_output_file(path: Path, formats: Sequence[str], overwrite: bool) -> None:
    """Makes the file's folder.

    Raises:
        UserError: the file has another extension or exists, or its folder cannot be written.
    """
    if path.suffix.lstrip(".").lower() not in formats:
        raise UserError(f"--out {path}: unsupported extension: expected .{', .'.join(formats)}.")
    if path.is_dir():
        raise UserError(f"--out {path}: this is a folder. Name a file.")
    if path.exists() and not overwrite:
        raise UserError(f"--out {path}: the file exists. Replace it with --overwrite.")
    if path.resolve().parent == Path("/dev"):
        raise UserError(f"--out {path}: /dev is a folder of devices. Name a file in another folder.")
    with boundary(f"--out {path}: cannot be written"):
        check_writable(path.parent)


def check_output_folder(folder: Path, overwrite: bool) -> None:
    """Makes the folder.

    Raises:
        UserError: it is a file, has files already, or cannot be made.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: this is a file. Name a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--out {folder}: the folder is not empty. Replace files in it with --overwrite.")
    with boundary(f"--out {folder}: cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)


def write_output_files(folder: Path, texts: Mapping[str, str], pictures: Mapping[str, Mapping[str, bytes]]) -> None:
    """Writes texts by file name, and pictures by name and format.

    Raises:
        UserError: the folder cannot be written; no new file is left in it.
    """
    images = {f"{name}.{form}": image for name, picture in pictures.items() for form, image in picture.items()}
    contents: dict[Path, str | bytes] = {folder / name: text for name, text in texts.items()}
    contents |= {folder / name: image for name, image in images.items()}
    new = [path for path in contents if not path.exists()]
    with boundary(f"--out {folder}: cannot be written"):
        try:
            for path, content in contents.items():
                write_atomically(path, content)
        except BaseException:
            for path in new:
                path.unlink(missing_ok=True)
            raise
