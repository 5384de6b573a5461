"""A stand-in for the Hub on loopback that takes uploads: models and datasets of the name me/saved."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "never" * 6
"""The token that it accepts."""


class UploadHandler(BaseHTTPRequestHandler):
    """Handles the requests of an upload: who am I, create a repository, which files are large, one commit."""

    protocol_version = "HTTP/1.1"
    address: str
    created: dict[str, Any]
    files: dict[str, bytes]
    large: dict[str, bytes]
    refused: str | None
    kind: str

    @property
    def prefix(self) -> str:
        return "" if self.kind == "models" else "datasets/"

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
            return self._respond({"url": f"{self.address}/{self.prefix}me/saved", "id": "me/saved"})
        if path == "/api/validate-yaml":
            return self._respond({"errors": [], "warnings": []})
        if path == f"/api/{self.kind}/me/saved/preupload/main":
            listed = json.loads(body)["files"]
            modes = {True: "lfs", False: "regular"}
            files = [
                {"path": f["path"], "uploadMode": modes[f["path"].endswith(("safetensors", "parquet"))]} for f in listed
            ]
            return self._respond({"files": [{**file, "shouldIgnore": False} for file in files]})
        if path == f"/{self.prefix}me/saved.git/info/lfs/objects/batch":
            upload = {"upload": {"href": f"{self.address}/large"}}
            objects = [{**each, "actions": upload} for each in json.loads(body)["objects"]]
            return self._respond({"transfer": "basic", "objects": objects}, kind="application/vnd.git-lfs+json")
        if path == f"/api/{self.kind}/me/saved/commit/main":
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
def upload_hub(refused: str | None = None, kind: str = "models") -> Iterator[type[UploadHandler]]:
    """Serves a Hub that accepts uploads, except for paths that end with `refused`: these get 403."""
    facts = dict(kind=kind, created={}, files={}, large={}, refused=refused, address="")
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
