"""`harness leaderboard --init-repository DIR`: a repository of results, with workflows that check and publish them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from harness.errors import UserError, boundary
from harness.system.atomic import write_atomically

_TEMPLATES = Path(__file__).parent / "repository"

_FILES = {
    "README.md": "README.md",
    "check.yml": ".github/workflows/check.yml",
    "comment.yml": ".github/workflows/comment.yml",
    "publish.yml": ".github/workflows/publish.yml",
    "gitignore": ".gitignore",
}
"""The path in the repository of each file of `repository/`."""

_PACKAGE = "glue-harness"


def write_repository(folder: Path) -> list[Path]:
    """Writes the files of a results repository and returns their paths.

    Raises:
        UserError: the folder is not empty, apart from .git, or cannot be written.
    """
    with boundary(f"--init-repository {folder}", advice="Name another folder."):
        if folder.exists() and (others := sorted(path.name for path in folder.iterdir() if path.name != ".git")):
            raise UserError(f"--init-repository {folder}: expected an empty folder, but it has {others[0]}.")
        contents = {target: (_TEMPLATES / name).read_text(encoding="utf-8") for name, target in _FILES.items()}
        contents |= {"requirements.txt": requirements(), "results/.gitkeep": ""}
        for path, text in contents.items():
            write_atomically(folder / path, text)
    return [folder / path for path in contents]


def requirements() -> str:
    """The installed harness and the libraries that it names, each with its version, as a requirements file for pip.

    A harness that pip installed from a commit is named by it; any other by its version.

    Raises:
        UserError: the harness is not installed.
    """
    with boundary("--init-repository", metadata.PackageNotFoundError, advice="Install the harness with pip first."):
        harness = metadata.distribution(_PACKAGE)
    pinned = f"{_PACKAGE}=={harness.version}"
    origin = json.loads(harness.read_text("direct_url.json") or "{}")
    if "vcs_info" in origin:
        pinned = f"{_PACKAGE} @ {origin['vcs_info']['vcs']}+{origin['url']}@{origin['vcs_info']['commit_id']}"
    lines = [f"# Where no index has this version: {_PACKAGE} @ git+https://HOST/OWNER/NAME@COMMIT", pinned]
    lines.append("# The libraries that were installed with it: other versions round differently.")
    # adapters need peft
    needed = (text for text in harness.requires or () if "extra ==" not in text or text.startswith("peft"))
    for name in sorted({re.split(r"[^\w.-]", text)[0] for text in needed}, key=str.lower):
        with suppress(metadata.PackageNotFoundError):
            lines.append(f"{name}=={metadata.version(name).partition('+')[0]}")
    return "\n".join(lines) + "\n"
