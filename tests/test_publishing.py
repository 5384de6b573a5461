"""A model on the Hub, here a stand-in on loopback: uploaded when asked, and lost by no failure."""

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
    """What the client asks of the Hub when it uploads: who am I, a repository, which files are large, one commit."""

    protocol_version = "HTTP/1.1"
    address: str
    created: dict[str, Any]
    files: dict[str, bytes]
    large: dict[str, bytes]
    refused: str | None

    def log_message(self, *_: Any) -> None:
        """Says nothing."""

    def do_GET(self) -> None:
        if self.path == "/api/whoami-v2" and self.headers["Authorization"] == f"Bearer {TOKEN}":
            return self._answer({"name": "me", "type": "user", "orgs": []})
        return self._answer({"error": "Invalid user token"}, 401)

    def do_PUT(self) -> None:
        body = self._body()
        self.large[hashlib.sha256(body).hexdigest()] = body
        return self._answer({})

    def do_POST(self) -> None:
        body, path = self._body(), self.path.split("?")[0]
        if self.refused is not None and path.endswith(self.refused):
            return self._answer({"error": "the disk of the Hub is full"}, 403)
        if path == "/api/repos/create":
            self.created.update(json.loads(body))
            return self._answer({"url": f"{self.address}/me/kept", "id": "me/kept"})
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        if path == "/api/models/me/kept/preupload/main":
            asked = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            files = [{"path": f["path"], "uploadMode": modes[f["path"].endswith("safetensors")]} for f in asked]
            return self._answer({"files": [{**file, "shouldIgnore": False} for file in files]})
        if path == "/me/kept.git/info/lfs/objects/batch":
            upload = {"upload": {"href": f"{self.address}/large"}}
            objects = [{**each, "actions": upload} for each in json.loads(body)["objects"]]
            return self._answer({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")
        if path == "/api/models/me/kept/commit/main":
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                if line["key"] == "lfsFile":
                    self.files[line["value"]["path"]] = self.large[line["value"]["oid"]]
            return self._answer(
                {"commitUrl": f"{self.address}/me/kept/commit/c0ffee", "commitOid": "c0ffee" + "0" * 34}
            )
        return self._answer({"error": f"no such place: {path}"}, 404)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def hub(refused: str | None = None) -> Iterator[type[UploadHandler]]:
    """A Hub that takes uploads, or answers 403 where the path ends with `refused`."""
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
    """As a program of its own: the client reads its settings once, when it is imported."""
    ours = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder / "../hf")}
    environment = {**os.environ, **ours, **({"HF_TOKEN": token} if token else {})}
    command = [sys.executable, "-c", PROGRAM, str(folder), repository]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_of_the_folder_arrives_in_a_private_repository(folder: Path) -> None:
    before = contents(folder)
    with hub() as there:
        done = push(folder, "me/kept", there.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{there.address}/me/kept"
    assert there.created["name"] == "kept"
    assert "private" in (there.created.get("visibility"), *(["private"] if there.created.get("private") else []))
    assert there.files == before == contents(folder)
    assert TOKEN not in done.stdout + done.stderr
    assert not any(TOKEN.encode() in content for content in before.values())


def test_failed_upload_says_where_the_model_is(folder: Path) -> None:
    before = contents(folder)
    with hub(refused="/commit/main") as there:
        done = push(folder, "me/kept", there.address)
    assert done.returncode == 2
    assert "--push-to-hub me/kept: the upload failed: " in done.stderr
    assert f"the model is in {folder}" in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(folder) == before


@pytest.mark.parametrize(
    "repository, token, told",
    [
        ("me/kept", None, "nobody is signed in"),
        ("me/kept", "hf_wrong", "cannot sign in to the Hub: "),
        ("me/kept/more", TOKEN, "--push-to-hub me/kept/more: "),
    ],
)
def test_who_cannot_upload_is_told_before_training(folder: Path, repository: str, token: str | None, told: str) -> None:
    with hub() as there:
        done = push(folder, repository, there.address, token)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert there.created == {}
