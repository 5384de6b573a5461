"""Upload to the Hub, here a stand-in on loopback: a private repository, and nothing lost when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.upload_hub import TOKEN, upload_hub

from harness.facts.tasks import read_task

PROGRAM = """
import sys
from pathlib import Path
from harness.system.exit_codes import exit_code_on_error
from harness.system.uploads import check_sign_in, upload
with exit_code_on_error():
    check_sign_in(sys.argv[2])
    print(upload(Path(sys.argv[1]), sys.argv[2], "A model"))
"""


@pytest.fixture
def folder(make_bundle: Callable[..., Path], make_task: Callable[..., Path]) -> Path:
    return make_bundle(read_task(make_task()))


def push(folder: Path, repository: str, address: str, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
    """Uploads in a process of its own: the client reads its settings once, when it is imported."""
    settings = {
        "HF_ENDPOINT": address,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(folder / "../hf"),
    }
    environment = {**os.environ, **settings, **({"HF_TOKEN": token} if token else {})}
    command = [sys.executable, "-c", PROGRAM, str(folder), repository]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_whole_folder_is_uploaded_to_a_private_repository(folder: Path) -> None:
    before = contents(folder)
    with upload_hub() as server:
        done = push(folder, "me/saved", server.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{server.address}/me/saved"
    assert server.created["name"] == "saved"
    assert "private" in (server.created.get("visibility"), *(["private"] if server.created.get("private") else []))
    assert server.files == before == contents(folder)
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN.encode() in content for content in before.values())


def test_failed_upload_leaves_the_folder_as_it_was(folder: Path) -> None:
    before = contents(folder)
    with upload_hub(refused="/commit/main") as server:
        done = push(folder, "me/saved", server.address)
    assert done.returncode == 2
    assert "--push-to-hub me/saved: " in done.stderr
    assert "the disk of the Hub is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(
    "repository, token, message",
    [
        ("me/saved", None, "hf auth login"),
        ("me/saved", "hf_wrong", "--push-to-hub me/saved: "),
        ("me/saved/more", TOKEN, "--push-to-hub me/saved/more: "),
    ],
)
def test_missing_or_invalid_token_is_an_error_before_training(
    folder: Path, repository: str, token: str | None, message: str
) -> None:
    with upload_hub() as server:
        done = push(folder, repository, server.address, token)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert server.created == {}
