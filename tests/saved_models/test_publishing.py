"""Upload to the Hub, here a stand-in on loopback: a private repository, and nothing lost when it fails."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.facts.tasks import read_task

TOKEN = "hf_" + "never" * 6

PROGRAM = """
import sys
from pathlib import Path
from harness.system.exit_codes import exit_code_on_error
from harness.saved_models.publishing import check_sign_in, publish
with exit_code_on_error():
    check_sign_in(sys.argv[2])
    print(publish(Path(sys.argv[1]), sys.argv[2]))
"""


class UploadHandler(BaseHTTPRequestHandler):
    """Handles the requests of an upload: who am I, create a repository, which files are large, one commit."""

    protocol_version = "HTTP/1.1"
    address: str
    created: dict[str, Any]
    files: dict[str, bytes]
    large: dict[str, bytes]
    refused: str | None

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2" and self.headers["Authorization"] == f"Bearer {TOKEN}":
            return self._respond({"name": "me", "type": "user", "orgs": []})
        return self._respond({"error": "Invalid user token"}, 401)

    def do_PUT(self) -> None:
        body = self._body()
        self.large[hashlib.sha256(body).hexdigest()] = body
        return self._respond({})

    def do_POST(self) -> None:
        body, path = self._body(), self.path.split("?")[0]
        if self.refused is not None and path.endswith(self.refused):
            return self._respond({"error": "the disk of the Hub is full"}, 403)
        if path == "/api/repos/create":
            self.created.update(json.loads(body))
            return self._respond({"url": f"{self.address}/me/saved", "id": "me/saved"})
        if path == "/api/validate-yaml":
            return self._respond({"errors": [], "warnings": []})
        if path == "/api/models/me/saved/preupload/main":
            listed = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            files = [{"path": f["path"], "uploadMode": modes[f["path"].endswith("safetensors")]} for f in listed]
            return self._respond({"files": [{**file, "shouldIgnore": False} for file in files]})
        if path == "/me/saved.git/info/lfs/objects/batch":
            upload = {"upload": {"href": f"{self.address}/large"}}
            objects = [{**each, "actions": upload} for each in json.loads(body)["objects"]]
            return self._respond({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")
        if path == "/api/models/me/saved/commit/main":
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                if line["key"] == "lfsFile":
                    self.files[line["value"]["path"]] = self.large[line["value"]["oid"]]
            return self._respond(
                {"commitUrl": f"{self.address}/me/saved/commit/c0ffee", "commitOid": "c0ffee" + "0" * 34}
            )
        return self._respond({"error": f"not found: {path}"}, 404)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _respond(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def hub(refused: str | None = None) -> Iterator[type[UploadHandler]]:
    """Serves a Hub that accepts uploads, except for paths that end with `refused`: these get 403."""
    facts = dict(created={}, files={}, large={}, refused=refused, address="")
    handler = type("Handler", (UploadHandler,), facts)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    handler.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
    with hub() as server:
        done = push(folder, "me/saved", server.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{server.address}/me/saved"
    assert server.created["name"] == "saved"
    assert "private" in (server.created.get("visibility"), *(["private"] if server.created.get("private") else []))
    assert server.files == before == contents(folder)
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN.encode() in content for content in before.values())


def test_failed_upload_names_the_folder_of_the_model(folder: Path) -> None:
    before = contents(folder)
    with hub(refused="/commit/main") as server:
        done = push(folder, "me/saved", server.address)
    assert done.returncode == 2
    assert "--push-to-hub me/saved: " in done.stderr
    assert str(folder) in done.stderr
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
    with hub() as server:
        done = push(folder, repository, server.address, token)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert server.created == {}
