"""A stand-in for the Hub on loopback that serves the requests of the client libraries from a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE_FILE_SUFFIXES = ".safetensors", ".bin", ".parquet"
"""Files that the Hub stores outside git, with their own checksum."""


def new_commit(hub: Path, kind: str, name: str, commit: str = "c0ffee" + "0" * 34) -> Path:
    """Makes an empty folder for the only commit of a repository, `hub`/models|datasets/ORG/NAME/COMMIT."""
    folder = hub / kind / name / commit
    folder.mkdir(parents=True)
    return folder


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serves the repositories that `new_commit` made in `folder`; yields the address of the Hub."""

    class Handler(_Handler):
        root = folder

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *_: Any) -> None:
        """Prints nothing: requests do not belong to the output of a test."""

    def do_GET(self) -> None:
        self._respond()

    def do_HEAD(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def _respond(self, body: str = "") -> None:
        path = unquote(urlsplit(self.path).path)
        if match := re.fullmatch(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/([^/]+)/([^/]+)(?:/(.*))?)?", path):
            kind, name, what, revision, inside = match.groups()
        elif match := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, inside = (match[1] or "models").strip("/"), match[2], match[3], match[4]
            what = "resolve"
        else:
            return self._refuse("EntryNotFound")
        repository = next((self.root / kind / name).glob("*"), None)
        if repository is None:
            return self._refuse("RepoNotFound", 401)  # the Hub's response without a token
        commit = repository.name
        if revision not in (None, "main", commit):
            return self._refuse("RevisionNotFound")
        if what == "resolve":
            return self._file(repository / inside, commit)
        files = sorted(file for file in repository.rglob("*") if file.is_file())
        if what in (None, "revision"):
            siblings = [{"rfilename": file.relative_to(repository).as_posix()} for file in files]
            facts = {"id": name, "sha": commit, "private": False, "gated": False, "disabled": False, "tags": []}
            return self._json({**facts, "downloads": 0, "likes": 0, "siblings": siblings})
        if what == "tree":
            return self._tree(repository, repository / (inside or ""))
        if what == "paths-info":
            paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body).get("paths", [])
            return self._json([_entry(repository, repository / path) for path in paths if (repository / path).exists()])
        return self._refuse("EntryNotFound")

    def _tree(self, repository: Path, folder: Path) -> None:
        if not folder.is_dir():
            return self._refuse("EntryNotFound")
        is_recursive = parse_qs(urlsplit(self.path).query).get("recursive", [""])[0].lower() in ("1", "true")
        inside = folder.rglob("*") if is_recursive else folder.glob("*")
        return self._json([_entry(repository, each) for each in sorted(inside)])

    def _file(self, file: Path, commit: str) -> None:
        if not file.is_file():
            return self._refuse("EntryNotFound", commit=commit)
        content = file.read_bytes()
        total = len(content)
        headers = {"ETag": f'"{_checksum(file)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if file.suffix in LARGE_FILE_SUFFIXES:
            headers |= {"X-Linked-Size": str(total), "X-Linked-ETag": headers["ETag"]}
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if byte_range:
            first, last = int(byte_range[1]), min(int(byte_range[2] or total - 1), total - 1)
            content, headers["Content-Range"] = content[first : last + 1], f"bytes {first}-{last}/{total}"
        return self._send(206 if byte_range else 200, content, headers)

    def _json(self, value: Any) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: str, status: int = 404, commit: str | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": code} | ({"X-Repo-Commit": commit} if commit else {})
        self._send(status, json.dumps({"error": code}).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _entry(repository: Path, path: Path) -> dict[str, Any]:
    name = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40}
    size, checksum = path.stat().st_size, _checksum(path)
    entry: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": checksum[:40]}
    if path.suffix in LARGE_FILE_SUFFIXES:
        entry["lfs"] = {"oid": checksum, "size": size, "pointerSize": 134}
    return entry
